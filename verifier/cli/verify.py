"""`opgate verify` and `opgate explain`: bundle files against the circuits and the policy that the reader holds."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from verifier.bulk import Task
from verifier.bundles import read_bundle
from verifier.circuit_store import CircuitStore, is_url
from verifier.cli.many import verify_many
from verifier.cli.policy import load_policy
from verifier.errors import EXIT_DONE, EXIT_REFUSED, EXIT_UNDECIDED, UsageError
from verifier.explanation import UNVERIFIED, Explanation, Tensor, explain
from verifier.judge import Judge
from verifier.statement import canonical
from verifier.verify import verify

if TYPE_CHECKING:
    from verifier.policy import Policy
    from verifier.statement.verdict import Verdict

EXIT_OF = {"VALID": EXIT_DONE, "INVALID": EXIT_REFUSED, "UNDECIDED": EXIT_UNDECIDED}
_SHOWN_VALUES = 32

app = typer.Typer(add_completion=False)
explain_app = typer.Typer(add_completion=False)

Circuits = Annotated[
    str,
    typer.Option(
        metavar="DIR|URL",
        help="Where the circuits are: <circuit_id>/{manifest.json, verifier.bin, records/}, in a folder or on a server",
    ),
]
PolicyFile = Annotated[Path, typer.Option(help="Your policy, a TOML file (or the canonical JSON of an archive).")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for machines: one object a line.")]
Home = Annotated[Path, typer.Option(envvar="OPGATE_HOME", help="Where alarms are kept: HOME/alarms.")]


@app.command()
def verify_command(
    bundles: Annotated[
        Path, typer.Argument(exists=True, metavar="BUNDLE|DIR|ARCHIVE", help="A bundle, or many of them.")
    ],
    circuits: Circuits,
    policy: PolicyFile,
    jobs: Annotated[int | None, typer.Option(help="Processes for many bundles. Without: one for each core.")] = None,
    second_opinion: Annotated[
        list[str] | None,
        typer.Option(metavar="ENGINE", help="Ask another verifier too, for example ezkl. May be given more than once."),
    ] = None,
    home: Home = Path(".opgate"),
    *,
    as_json: AsJson = False,
) -> None:
    """Verify a bundle: does this proof show that this circuit gave these outputs for this job?

    Runs the circuit's pinned EVM code in this process. Needs no network, no key and no ezkl. Of a folder every *.json
    is verified, of an archive every entry's bundle, by several processes; the last line counts them.
    A second opinion that disagrees makes the verdict UNDECIDED, and both inputs are kept below HOME/alarms.
    Exit 0 VALID (all of them), 1 INVALID (at least one), 2 usage, 3 UNDECIDED.
    """
    engines = tuple(dict.fromkeys(second_opinion or ()))
    held = load_policy(policy)
    if not is_url(circuits) and not Path(circuits).is_dir():
        raise UsageError(
            "U-circuits", "--circuits is no folder and no URL", where=circuits, expected="DIR or https://…"
        )
    if bundles.is_dir():
        task = Task(circuits, canonical.encode(held).decode(), str(home / "alarms"), engines)
        raise typer.Exit(verify_many(bundles, task, jobs=jobs or len(os.sched_getaffinity(0)), as_json=as_json))
    with Judge(circuits, held, second_opinion=engines, alarms=home / "alarms") as judge:
        judgement = judge.judge(bundles)
    if as_json:
        alarm = {"alarm": str(judgement.alarm)} if judgement.alarm is not None else {}
        typer.echo(json.dumps(canonical.to_builtins(judgement.verdict) | alarm))
    else:
        print_verdict(Console(), judgement.verdict)
        if judgement.alarm is not None:
            Console().print(f"ALARM      both inputs are kept in {judgement.alarm}", style="bold red", markup=False)
    raise typer.Exit(EXIT_OF[judgement.verdict.outcome])


def verdict_of(path: Path, circuits: Path, policy: Policy) -> Verdict:
    """Read and verify one file: step 0 and then steps 1 to 8; bytes that cannot be read give a verdict too."""
    with Judge(circuits, policy) as judge:
        return judge.judge(path).verdict


@explain_app.command()
def explain_command(
    bundle: Annotated[Path, typer.Argument(exists=True, help="The bundle, a canonical JSON file.")],
    circuits: Annotated[
        str | None,
        typer.Option(metavar="DIR|URL", help="Your circuits, to give inputs and outputs in the model's units."),
    ] = None,
    policy: Annotated[Path | None, typer.Option(help="Your policy; with it the bundle is verified too.")] = None,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object for machines.")] = False,
) -> None:
    """Say in words who promised what to whom, what the output means, what is shown and what is not.

    Without --circuits numbers are the circuit's integers; without --policy nothing is verified. Exit as
    `opgate verify`, and 0 where nothing was verified.
    """
    unverified_bundle = read_bundle(bundle)
    held = load_policy(policy) if policy is not None else None
    circuit = verdict = None
    if circuits is not None:
        with CircuitStore(circuits) as store:
            circuit = store.find(unverified_bundle.circuit_id)
        verdict = verify(unverified_bundle, circuit, held) if held is not None else None
    told = explain(unverified_bundle, circuit, held)
    if as_json:
        typer.echo(json.dumps(_explained(told, verdict)))
    else:
        _print_explained(Console(highlight=False), told, verdict)
    raise typer.Exit(EXIT_OF[verdict.outcome] if verdict is not None else EXIT_DONE)


def print_verdict(console: Console, verdict: Verdict) -> None:
    """A verdict for people: the outcome, what it rests on, what is shown and what is not."""
    colour = {"VALID": "green", "INVALID": "red", "UNDECIDED": "yellow"}[verdict.outcome]
    console.print(f"[bold {colour}]{verdict.outcome}[/]" + (f"  {verdict.code}" if verdict.code else ""))
    if verdict.message:
        console.print(verdict.message, style=colour, markup=False)
    if verdict.job_id:
        console.print(f"job        {verdict.job_id}", highlight=False)
    if verdict.checked:
        console.print(f"circuit    {verdict.checked.circuit_id}  ({verdict.assurance})", highlight=False)
        console.print(f"policy     {verdict.checked.policy_sha256}", highlight=False)
    for title, lines in (("shown", verdict.shown), ("not shown", verdict.not_shown)):
        for line in lines:
            console.print(f"{title:<10} {line}", highlight=False, markup=False)


def _print_explained(console: Console, told: Explanation, verdict: Verdict | None) -> None:
    for label, sentence in told.facts:
        console.print(f"{label:<10} {sentence}", markup=False, soft_wrap=True)
    if told.hidden_input is not None:
        console.print(
            f"input      hidden; its blinded Poseidon hash is {told.hidden_input}", markup=False, soft_wrap=True
        )
    for word, tensors in (("input", told.inputs), ("output", told.outputs)):
        for tensor in tensors:
            console.print(f"{word:<10} {_sentence(tensor)}", markup=False, soft_wrap=True)
    console.print()
    if verdict is not None:
        print_verdict(console, verdict)
        return
    console.print("Nothing of this was verified: give --circuits and --policy to verify it.")
    for line in UNVERIFIED:
        console.print(f"not shown  {line}", markup=False)


def _sentence(tensor: Tensor) -> str:
    shape = "x".join(map(str, tensor.shape)) if tensor.shape is not None else str(len(tensor.values))
    scale = f", in steps of 1/{2**tensor.scale}" if tensor.scale else ""
    more = f", and {len(tensor.values) - _SHOWN_VALUES} more" if len(tensor.values) > _SHOWN_VALUES else ""
    return f"{tensor.name} ({shape} {tensor.kind}{scale}): {', '.join(tensor.values[:_SHOWN_VALUES])}{more}"


def _explained(told: Explanation, verdict: Verdict | None) -> dict[str, Any]:
    """The explanation for machines: every value, and the verdict where there is one."""
    return {
        "facts": [{"about": label, "says": sentence} for label, sentence in told.facts],
        "inputs": [tensor._asdict() for tensor in told.inputs],
        "outputs": [tensor._asdict() for tensor in told.outputs],
        "hidden_input": told.hidden_input,
        "verdict": canonical.to_builtins(verdict) if verdict is not None else None,
        "not_shown": list(verdict.not_shown) if verdict is not None else list(UNVERIFIED),
    }
