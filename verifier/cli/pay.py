"""`opgate pay`: the payer's commands. `buy` does all steps; each step is also a command of its own, safe to repeat."""

from __future__ import annotations

import json
import time
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.console import Console

from verifier.cli.pay_options import (
    AsJson,
    CircuitName,
    Circuits,
    Confirmations,
    Finalized,
    Home,
    InputFile,
    JobName,
    KeyFile,
    Margin,
    MaxFee,
    PolicyFile,
    ProviderUrl,
    Rpc,
    SecondRpc,
    Seconds,
)
from verifier.cli.policy import load_policy
from verifier.cli.verify import EXIT_OF, print_verdict
from verifier.cli.waiting import wait_for_bundle, wait_until_closed
from verifier.errors import (
    EXIT_DONE,
    EXIT_REFUSED,
    EXIT_UNDECIDED,
    EscrowError,
    GateError,
    OpgateError,
    UsageError,
)
from verifier.files import read_regular, write_atomic
from verifier.payer.history import describe, history
from verifier.payer.inputs import read_input
from verifier.payer.provider import Provider
from verifier.payer.setup import PayerSettings, dev_rpc, held_circuit, open_payer
from verifier.payment.gate import Limits
from verifier.statement import canonical
from verifier.statement.terms import SignedTerms
from verifier.verify import check_terms

if TYPE_CHECKING:
    from collections.abc import Iterator

    from verifier.circuit import Circuit
    from verifier.payer.purchase import Payer
    from verifier.payment.ledger import PayerJob
    from verifier.statement.terms import Quote
    from verifier.statement.verdict import Verdict

app = typer.Typer(add_completion=False, no_args_is_help=True, help="Buy a proved inference, step by step or at once.")

_HOME = Path(".opgate")


class Context:
    """The settings of one call, shared by all commands."""

    def __init__(self, settings: PayerSettings, limits: Limits) -> None:
        """Take the settings; nothing is opened."""
        self.settings = settings
        self.limits = limits
        self.console = Console(highlight=False)

    @contextmanager
    def payer(self) -> Iterator[Payer]:
        """Open the payer for one command; the first moment at which a chain is needed."""
        rpc_url = self.settings.rpc_url or dev_rpc(self.settings.home)
        with open_payer(self.settings._replace(rpc_url=rpc_url), self.limits) as payer:
            yield payer


@app.callback()
def pay(
    context: typer.Context,
    home: Home = _HOME,
    rpc_url: Rpc = "",
    policy: PolicyFile = None,
    key: KeyFile = None,
    circuits: Circuits = None,
    margin: Margin = 5,
    confirmations: Confirmations = 0,
    second_rpc_url: SecondRpc = "",
    max_fee: MaxFee = 0,
    *,
    finalized: Finalized = False,
) -> None:
    """Buy a proved inference, step by step or at once."""
    folder = home / "payer"
    settings = PayerSettings(
        home=home,
        rpc_url=rpc_url,
        policy=policy or folder / "policy.toml",
        keyfile=key or folder / "keys" / "payer",
        circuits=circuits or folder / "circuits",
        second_rpc_url=second_rpc_url,
        max_fee=max_fee,
        finalized=finalized,
    )
    context.obj = Context(settings, Limits(margin_s=margin, confirmations=confirmations))


@app.command()
def quote(context: typer.Context, provider: ProviderUrl, circuit: CircuitName, *, as_json: AsJson = False) -> None:
    """Ask a provider for a price, and check its signature and escrow."""
    shared: Context = context.obj
    held = held_circuit(shared.settings, circuit)
    with shared.payer() as payer, Provider(provider) as remote:
        signed = payer.quote(remote, held, now=_now())
    if as_json:
        typer.echo(json.dumps(canonical.to_builtins(signed)))
        return
    offer = signed.quote
    _warn_of_one_key(offer)
    shared.console.print(f"{offer.amount} wei to {offer.payee}, by {offer.provider}")
    shared.console.print(f"good until {offer.valid_until}, deadline {offer.min_seconds} s away or more")


@app.command()
def check(
    context: typer.Context,
    terms: Annotated[Path | None, typer.Argument(exists=True, help="Terms to judge, instead of drafting some.")] = None,
    provider: Annotated[str, typer.Option("--provider", envvar="OPGATE_PROVIDER_URL", help="The provider.")] = "",
    circuit: Annotated[str, typer.Option("--circuit", help="The circuit's id, or its beginning.")] = "",
    input_file: Annotated[Path | None, typer.Option("--input", exists=True, help="Numbers to run.")] = None,
    seconds: Seconds = 0,
    policy: Annotated[Path | None, typer.Option(help="As before the word `check`.")] = None,
    circuits: Annotated[Path | None, typer.Option(help="As before the word `check`.")] = None,
    *,
    as_json: AsJson = False,
) -> None:
    """Draft terms for a quote and an input and judge them by the policy; prints the job's id. Nothing is signed yet.

    With a file of terms, judge those and keep nothing; no chain and no key is needed. Exit as `opgate verify`.
    """
    shared: Context = context.obj
    before = shared.settings
    shared.settings = before._replace(policy=policy or before.policy, circuits=circuits or before.circuits)
    if terms is not None:
        _judge_terms(shared, terms, as_json=as_json)
        return
    if not provider or not circuit or input_file is None:
        raise UsageError("U-check", "name --provider, --circuit and --input, or a file of terms")
    held = held_circuit(shared.settings, circuit)
    with shared.payer() as payer, Provider(provider) as remote:
        job = _draft(payer, remote, held, input_file, seconds)
    _say(shared, as_json, {"job_id": str(job.job_id), "amount": str(job.terms.terms.amount)}, f"job {job.job_id}")


@app.command()
def upload(context: typer.Context, job: JobName, *, as_json: AsJson = False) -> None:
    """Give the provider the job's input."""
    with _job(context, job) as (shared, payer, found), Provider(found.provider_url) as remote:
        payer.upload(remote, found)
        _say(shared, as_json, {"job_id": str(found.job_id)}, "the provider has the input")


@app.command()
def accept(context: typer.Context, job: JobName, *, as_json: AsJson = False) -> None:
    """Get the provider's Acceptance: it has the input, ran the witness, and takes the job."""
    with _job(context, job) as (shared, payer, found), Provider(found.provider_url) as remote:
        accepted = payer.accept(remote, found)
        _say(shared, as_json, {"acceptance": str(accepted.terms.acceptance)}, "the provider accepted the job")


@app.command()
def fund(context: typer.Context, job: JobName, *, as_json: AsJson = False) -> None:
    """Sign the terms and lock the money in the escrow."""
    with _job(context, job) as (shared, payer, found):
        payer.fund(found)
        amount = found.terms.terms.amount
        _say(shared, as_json, {"funded_wei": str(amount)}, f"{amount} wei are locked for the job")


@app.command()
def wait(context: typer.Context, job: JobName, *, as_json: AsJson = False) -> None:
    """Wait until the provider has a bundle, or says that it will have none."""
    with _job(context, job) as (shared, payer, found), Provider(found.provider_url) as remote:
        state = wait_for_bundle(shared.console, payer, remote, found, quiet=as_json)
        _say(shared, as_json, {"state": state}, f"the provider says: {state}")


@app.command()
def fetch(
    context: typer.Context,
    job: JobName,
    out: Annotated[Path | None, typer.Option(help="Write the bundle's bytes here too.")] = None,
    *,
    as_json: AsJson = False,
) -> None:
    """Get the provider's bundle and verify it; a valid one is kept. Exit as opgate verify."""
    with _job(context, job) as (shared, payer, found), Provider(found.provider_url) as remote:
        raw = remote.bundle(found.job_id)
        if out is not None:
            _write(out, raw)
        _show_verdict(shared, payer.judge(found, raw), found, as_json=as_json)


@app.command()
def verify(
    context: typer.Context,
    job: JobName,
    bundle: Annotated[Path, typer.Option(exists=True, help="The bundle, wherever it came from.")],
    *,
    as_json: AsJson = False,
) -> None:
    """Verify a bundle file for this job; a valid one is kept and can then be released. Exit as opgate verify."""
    with _job(context, job) as (shared, payer, found):
        raw = read_regular(bundle, limit=canonical.MAX_BYTES)
        _show_verdict(shared, payer.judge(found, raw), found, as_json=as_json)


@app.command()
def release(
    context: typer.Context,
    job: JobName,
    submit: Annotated[bool, typer.Option(help="Send it to the chain too, instead of only to the provider.")] = False,
    *,
    as_json: AsJson = False,
) -> None:
    """Let the gate sign the release for the verified bundle, and hand it to the provider."""
    with _job(context, job) as (shared, payer, found):
        signed = payer.release(found, now=_now())
        if submit:
            payer.escrow.release(found.terms.terms, signed)
        else:
            with Provider(found.provider_url) as remote:
                remote.release(signed)
        _say(shared, as_json, canonical.to_builtins(signed), "released")


@app.command()
def status(
    context: typer.Context,
    job: Annotated[str, typer.Argument(metavar="[JOB]", help="The job's id, or its beginning; all jobs without.")] = "",
    *,
    as_json: AsJson = False,
) -> None:
    """Say where a job stands: one line for its funding and its close, with block, transaction, gas and cost.

    Where the chain has closed it, archive how, with the chain's evidence and the proof that it shows. Without JOB this
    is done for every job, which suits a timer: so the archive of a payer who looks at nothing else is complete too.
    """
    if not job:
        _settle_all(context, as_json=as_json)
        return
    with _job(context, job) as (shared, payer, found):
        settled = payer.settle(found, now=_now())
        known = describe(payer, settled)
        lines = [f"{name:<12} {value}" for name, value in known.items() if not isinstance(value, list)]
        lines += [step.line() for step in history(payer, settled)]
        _say(shared, as_json, known, "\n".join(lines))


@app.command()
def reclaim(context: typer.Context, job: JobName, *, as_json: AsJson = False) -> None:
    """Take the money back, from the deadline on. Where the job was closed otherwise, archive how, and say so."""
    with _job(context, job) as (shared, payer, found):
        settled = payer.settle(found, now=_now())
        if settled.closed_by not in (None, "reclaim"):
            raise EscrowError(
                "E-state",
                "there is nothing to take back: the job was closed otherwise, and how is archived now",
                where=str(found.job_id),
                expected="FUNDED",
                found=f"closed by {settled.closed_by}",
                do=f"opgate pay status {found.job_id}",
            )
        payer.reclaim(found)
        _say(shared, as_json, describe(payer, payer.settle(found, now=_now())), "the money is back")


@app.command()
def cancel(context: typer.Context, job: JobName, *, as_json: AsJson = False) -> None:
    """Make the job's terms void before anybody funds them."""
    with _job(context, job) as (shared, payer, found):
        payer.cancel(found)
        _say(shared, as_json, describe(payer, payer.settle(found, now=_now())), "the terms are void")


@app.command()
def jobs(context: typer.Context, *, as_json: AsJson = False) -> None:
    """List the jobs of this payer, the newest first."""
    shared: Context = context.obj
    with shared.payer() as payer:
        rows = [
            {"job_id": str(job.job_id), "state": _state_name(payer, job), "closed_by": job.closed_by}
            for job in payer.ledger.jobs()
        ]
    lines = "\n".join(f"{row['job_id']}  {row['state']:<10} {row['closed_by'] or ''}" for row in rows)
    _say(shared, as_json, {"jobs": rows}, lines or "no jobs yet")


@app.command()
def buy(
    context: typer.Context,
    provider: ProviderUrl,
    circuit: CircuitName,
    input_file: InputFile,
    seconds: Seconds = 0,
    stop_after: Annotated[
        Literal["accept", "fund", "verify"] | None, typer.Option(help="Leave the rest for later.")
    ] = None,
    *,
    as_json: AsJson = False,
) -> None:
    """Buy one proved inference: quote, check, upload, accept, fund, wait, fetch, verify, release.

    Exit 0 paid for a valid proof, 1 refused, 3 undecided. After a refusal the money comes back: opgate pay reclaim.
    """
    shared: Context = context.obj
    clock: dict[str, float] = {}
    held = held_circuit(shared.settings, circuit)
    with shared.payer() as payer, Provider(provider) as remote, _steps(shared, quiet=as_json) as step:
        with step(clock, "check", "quote checked, terms judged by the policy"):
            job = _draft(payer, remote, held, input_file, seconds)
        with step(clock, "upload", "input uploaded"):
            payer.upload(remote, job)
        with step(clock, "accept", "accepted by the provider"):
            job = payer.accept(remote, job)
        if stop_after == "accept":
            _say(shared, as_json, describe(payer, job), f"job {job.job_id} is accepted, not funded")
            return
        with step(clock, "fund", f"{job.terms.terms.amount} wei locked in the escrow"):
            job = payer.fund(job)
        if stop_after == "fund":
            _say(shared, as_json, describe(payer, job) | {"seconds": _rounded(clock)}, f"job {job.job_id} is funded")
            return
        with step(clock, "prove", "proved by the provider"):
            wait_for_bundle(shared.console, payer, remote, job, quiet=True)
        with step(clock, "verify", "bundle fetched and verified here"):
            verdict = payer.fetch(remote, job)
        if verdict.outcome != "VALID":
            _show_verdict(shared, verdict, job, as_json=as_json)
        job = payer.ledger.job(job.job_id)
        if stop_after == "verify":
            _say(shared, as_json, describe(payer, job) | {"seconds": _rounded(clock)}, f"job {job.job_id} is proved")
            return
        with step(clock, "release", "release signed by the gate, closed on the chain"):
            remote.release(payer.release(job, now=_now()))
            wait_until_closed(payer, job)
        job = payer.settle(job, now=_now())
        history = describe(payer, job)
    if as_json:
        typer.echo(json.dumps(history | {"seconds": _rounded(clock)}))
        return
    shared.console.print(f"job {job.job_id} closed by {job.closed_by}, {history['paid_wei']} wei, {history['gas']} gas")
    for name, values in history["outputs"]:
        shared.console.print(f"output {name}: {', '.join(f'{value:.4g}' for value in values)}", markup=False)


def _settle_all(context: typer.Context, *, as_json: bool) -> None:
    """Settle every job; one that cannot be settled now is named, and does not keep the others from it."""
    shared: Context = context.obj
    rows, failed = [], None
    with shared.payer() as payer:
        for job in payer.ledger.jobs():
            row: dict[str, Any] = {"job_id": str(job.job_id)}
            try:
                settled = payer.settle(job, now=_now())
                steps = history(payer, settled)
                row |= {"state": payer.state(job).name, "closed_by": settled.closed_by}
                row |= {"history": [step.to_json() for step in steps]}
                text = "\n".join([f"{job.job_id}  {row['state']}", *(f"  {step.line()}" for step in steps)])
            except OpgateError as error:
                failed = error if error.code != "E-other-escrow" else failed
                row |= {"error": error.to_json()}
                text = f"{job.job_id}  {error}"
            rows.append(row)
            if not as_json:
                shared.console.print(text, markup=False, soft_wrap=True)
    if as_json:
        typer.echo(json.dumps({"jobs": rows}))
    if failed is not None:
        raise typer.Exit(failed.exit_code)


def _state_name(payer: Payer, job: PayerJob) -> str:
    """The state for a list, in which a job of another escrow must not hide the others."""
    try:
        return payer.state(job).name
    except EscrowError as error:
        if error.code != "E-other-escrow":
            raise
        return "ELSEWHERE"


def _warn_of_one_key(quote: Quote) -> None:
    """A payee that is the hot signer loses all that it earned with the machine that it stands on."""
    if quote.payee == quote.provider:
        typer.echo("warning: the provider's hot key is the payee too: who enters its machine gets its money", err=True)


def _draft(payer: Payer, remote: Provider, circuit: Circuit, input_file: Path, seconds: int) -> PayerJob:
    now = _now()
    signed = payer.quote(remote, circuit, now=now)
    _warn_of_one_key(signed.quote)
    tensors = read_input(input_file, circuit.manifest)
    wanted = seconds or int(signed.quote.min_seconds)
    draft = payer.draft(signed, circuit, tensors, seconds=wanted, now=now)
    return payer.check(draft, circuit, remote.url, now=now)


def _judge_terms(shared: Context, path: Path, *, as_json: bool) -> None:
    signed = canonical.decode(SignedTerms, read_regular(path, limit=canonical.MAX_BYTES), where=str(path))
    circuit = held_circuit(shared.settings, str(signed.terms.circuit_id))
    verdict = check_terms(signed.terms, signed.domain, circuit, load_policy(shared.settings.policy))
    text = f"{verdict.outcome} {verdict.code or ''} {verdict.message or ''}"
    _say(shared, as_json, canonical.to_builtins(verdict), text)
    raise typer.Exit(EXIT_OF[verdict.outcome])


def _show_verdict(shared: Context, verdict: Verdict, job: PayerJob, *, as_json: bool) -> None:
    """Print a verdict about the job's bundle and exit by it; a bundle that is valid for another job is refused."""
    if as_json:
        typer.echo(json.dumps(canonical.to_builtins(verdict)))
    else:
        print_verdict(shared.console, verdict)
    if verdict.outcome == "VALID" and verdict.job_id != job.job_id:
        raise GateError("G4-other-job", "the bundle is valid, but for another job", expected=str(job.job_id))
    raise typer.Exit({"VALID": EXIT_DONE, "INVALID": EXIT_REFUSED}.get(verdict.outcome, EXIT_UNDECIDED))


def _write(path: Path, raw: bytes) -> None:
    """Write whole or not at all, never through a link; UsageError where the file system refuses."""
    try:
        write_atomic(path, raw)
    except OSError as error:
        raise UsageError("U-out", "the file cannot be written", where=str(path), found=str(error)[:200]) from error


@contextmanager
def _job(context: typer.Context, name: str) -> Iterator[tuple[Context, Payer, PayerJob]]:
    """Open the payer and find one of its jobs by the beginning of its id."""
    shared: Context = context.obj
    with shared.payer() as payer:
        fitting = [job for job in payer.ledger.jobs() if str(job.job_id).startswith(name)]
        if len(fitting) != 1:
            raise UsageError(
                "U-job",
                "no such job" if not fitting else "more than one job begins so",
                found=name,
                do="List them with: opgate pay jobs",
            )
        yield shared, payer, fitting[0]


@contextmanager
def _steps(shared: Context, *, quiet: bool) -> Iterator[Any]:
    """Times each step of a purchase and says when it is done."""

    @contextmanager
    def step(clock: dict[str, float], name: str, done: str) -> Iterator[None]:
        started = time.monotonic()
        with nullcontext() if quiet else shared.console.status(name):
            yield
        clock[name] = time.monotonic() - started
        if not quiet:
            shared.console.print(f"[green]✓[/] {name:<8} {done} ({clock[name]:.1f} s)")

    yield step


def _say(shared: Context, as_json: bool, value: Any, text: str) -> None:
    if as_json:
        typer.echo(json.dumps(value))
    else:
        shared.console.print(text, markup=False, soft_wrap=True)


def _rounded(clock: dict[str, float]) -> dict[str, float]:
    return {name: round(value, 2) for name, value in clock.items()}


def _now() -> int:
    return int(time.time())
