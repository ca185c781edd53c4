"""The provider's commands: serve, sweep, worker, and provider migrate, deploy, jobs, decline, health."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from verifier.errors import ServiceError, UsageError
from verifier.statement import canonical
from verifier.statement.scalars import Bytes32
from workers import jobs
from workers.config import QUEUE, Settings

if TYPE_CHECKING:
    from workers.jobs import Job

Home = Annotated[Path | None, typer.Option("--home", help="State folder; default OPGATE_HOME, else .opgate.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object for machines.")]

serve_app = typer.Typer(add_completion=False)
sweep_app = typer.Typer(add_completion=False)
worker_app = typer.Typer(add_completion=False)
provider_app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    help="See and steer a provider's jobs. Settings come from OPGATE_… variables; see opgate serve --help.",
)


@serve_app.command("serve")
def _serve(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 lets the system choose.")] = 8440,
    home: Home = None,
    *,
    with_sweeper: Annotated[
        bool,
        typer.Option("--sweeper/--no-sweeper", help="Also sweep in this process; else run: opgate provider sweep."),
    ] = True,
    port_file: Annotated[Path | None, typer.Option(help="Write the URL here once the service listens.")] = None,
) -> None:
    """Run the provider's HTTP service: quotes, inputs, acceptances, jobs, bundles, releases.

    It needs OPGATE_RPC_URL, OPGATE_BROKER_URL, OPGATE_ESCROW, OPGATE_TOKEN, OPGATE_PAYEE, a price (OPGATE_PRICE in wei,
    or OPGATE_PRICES as JSON by circuit_id), a key file (OPGATE_KEYFILE, default HOME/provider/keys/provider) and
    circuits in HOME/provider/circuits. OPGATE_JOB_SECONDS is the one time limit; all others follow from it.
    """
    from workers.wiring import NEEDED, make_service, make_sweeper, open_escrow  # noqa: PLC0415 - --help must be quick
    from workers.workshop import open_workshop  # noqa: PLC0415 - as above

    settings = _ready(home, require=NEEDED)
    with open_escrow(settings) as escrow:
        workshop = open_workshop(settings)
        service = make_service(settings, workshop, escrow)
        good, refused = service.catalogue.offers()
        for offer in good:
            typer.echo(f"sells {offer.circuit.circuit_id} for {offer.amount} wei", err=True)
        for error in refused:
            typer.echo(f"does not sell: {error}", err=True)
        stop = threading.Event()
        thread = threading.Thread(target=make_sweeper(settings, workshop, escrow).run, args=(stop,), name="sweeper")
        if with_sweeper:
            thread.start()
        try:
            _listen(service, host, port, port_file)
        finally:
            stop.set()
            if with_sweeper:
                thread.join()


@sweep_app.command("sweep")
@provider_app.command("sweep")
def _sweep(home: Home = None) -> None:
    """Run the sweeper in a process of its own: enqueue, retry, close by proof, decline. Stop it with Ctrl-C.

    Several may run; one works and the others stand by. It needs the same settings as opgate serve.
    """
    from workers.wiring import NEEDED, make_sweeper, open_escrow  # noqa: PLC0415 - --help must be quick
    from workers.workshop import open_workshop  # noqa: PLC0415 - as above

    settings = _ready(home, require=NEEDED)
    with open_escrow(settings) as escrow:
        escrow.check()
        make_sweeper(settings, open_workshop(settings), escrow).run(threading.Event())


@worker_app.command("worker")
def _worker(
    home: Home = None, *, log_level: Annotated[str, typer.Option(help="Celery's log level.")] = "WARNING"
) -> None:
    """Run a Celery worker that proves, one job at a time; start one for each device.

    It needs OPGATE_BROKER_URL, and the database, circuits and key of the provider.
    """
    settings = _ready(home, require=("broker_url",))
    if settings.key_is_missing:
        raise ServiceError("W-config-key", "the provider's key is missing", where=str(settings.key_path))
    words = ["-m", "celery", "-A", "workers.celery_main", "worker", "--pool=prefork", "--concurrency=1"]
    words += ["--queues", QUEUE, "--without-gossip", "--without-mingle", f"--loglevel={log_level}"]
    environment = os.environ | {"OPGATE_HOME": str(settings.home.absolute())}
    sys.stdout.flush()
    os.execve(sys.executable, [sys.executable, *words], environment)  # noqa: S606 - no shell is what is wanted


@provider_app.command("migrate")
def _migrate(home: Home = None, *, as_json: AsJson = False) -> None:
    """Bring the database's tables up to date; serve and worker do it too when they start."""
    from workers.database import migrate, open_database  # noqa: PLC0415 - --help must be quick

    settings = _settings(home)
    revision = migrate(open_database(settings.database))
    _print({"revision": revision}, f"the database is at revision {revision}", as_json=as_json)


@provider_app.command("deploy")
def _deploy(
    circuit: Annotated[str, typer.Argument(help="circuit_id")], home: Home = None, *, as_json: AsJson = False
) -> None:
    """Put a circuit's verifier contract on the escrow's chain, once; the provider's key pays about 3 M gas."""
    from verifier.circuit import find_circuit  # noqa: PLC0415 - --help must be quick
    from workers.wiring import open_escrow  # noqa: PLC0415 - as above

    settings = _settings(home, require=("rpc_url", "escrow", "token"))
    found = find_circuit(settings.circuits, _id(circuit))
    with open_escrow(settings) as escrow:
        address = escrow.deploy_verifier(found)
    value = {"circuit_id": found.circuit_id, "verifier": address, "code_hash": found.code_hash}
    _print(value, f"the verifier of {found.circuit_id} stands at {address}", as_json=as_json)


@provider_app.command("jobs")
def _jobs(
    home: Home = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many, the latest changed first.")] = 20,
    state: Annotated[jobs.JobState | None, typer.Option(help="Only jobs in this state.")] = None,
    *,
    as_json: AsJson = False,
) -> None:
    """List jobs, the latest changed first."""
    found = _store(home).list_jobs(limit=limit, state=state)
    lines = [
        f"{job.job_id}  {job.state.value:20}  attempt {job.attempts}  {job.failure or ''}".rstrip() for job in found
    ]
    _print({"jobs": [_row(job) for job in found]}, "\n".join(lines) or "no jobs", as_json=as_json)


@provider_app.command("decline")
def _decline(job: Annotated[str, typer.Argument(help="job_id")], home: Home = None, *, as_json: AsJson = False) -> None:
    """Give a job up that is not proved yet; the sweeper then pays the money back on the chain at once."""
    from workers.workshop import now  # noqa: PLC0415 - --help must be quick

    changed = _store(home).change(_id(job), lambda row: jobs.give_up(row, "W-declined", now=now()))
    _print(_row(changed), f"{changed.job_id} is given up; the sweeper declines it", as_json=as_json)


@provider_app.command("health")
def _health(home: Home = None, *, as_json: AsJson = False) -> None:
    """Say what is wrong, in words; exit code 1 where anything is."""
    from workers.app import CeleryBroker, make_app  # noqa: PLC0415 - --help must be quick
    from workers.health import examine  # noqa: PLC0415 - as above
    from workers.wiring import NEEDED, open_escrow  # noqa: PLC0415 - as above
    from workers.workshop import now  # noqa: PLC0415 - as above

    settings = _settings(home, require=NEEDED)
    with open_escrow(settings) as escrow:
        found = examine(
            store=_store(home),
            broker=CeleryBroker(make_app(settings)),
            escrow=escrow,
            limits=settings.limits,
            now=now(),
        )
    _print(found.to_json(), "\n".join(found.wrong) or "all is well", as_json=as_json)
    if not found.ok:
        raise typer.Exit(1)


def _listen(service: Any, host: str, port: int, port_file: Path | None) -> None:
    """Serve until a signal; the socket is bound here, so that the URL is known before the first request."""
    import socket  # noqa: PLC0415 - as in the commands

    import uvicorn  # noqa: PLC0415 - as in the commands

    from verifier.files import write_atomic  # noqa: PLC0415 - as in the commands
    from workers.api import make_api  # noqa: PLC0415 - as in the commands

    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with contextlib.closing(socket.socket(family, socket.SOCK_STREAM)) as bound:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            bound.bind((host, port))
        except OSError as error:
            raise ServiceError(
                "W-listen", "the address is not free", where=f"{host}:{port}", found=str(error)
            ) from error
        shown = f"[{host}]" if family is socket.AF_INET6 else host
        url = f"http://{shown}:{bound.getsockname()[1]}"
        config = uvicorn.Config(
            make_api(service), log_level="warning", access_log=False, limit_concurrency=100, timeout_keep_alive=10
        )
        bound.listen(128)
        typer.echo(f"opgate serves at {url}", err=True)
        if port_file is not None:
            write_atomic(port_file, url.encode())
        uvicorn.Server(config).run(sockets=[bound])


def _settings(home: Path | None, *, require: tuple[str, ...] = ()) -> Settings:
    settings = Settings.load(home=home, require=require)
    settings.prepare_folders()
    return settings


def _ready(home: Path | None, *, require: tuple[str, ...]) -> Settings:
    """The settings, with the folders made and the database up to date."""
    from workers.database import migrate, open_database  # noqa: PLC0415 - --help must be quick

    settings = _settings(home, require=require)
    engine = open_database(settings.database)
    migrate(engine)
    engine.dispose()
    return settings


def _store(home: Path | None) -> Any:
    from workers.database import check_current, open_database  # noqa: PLC0415 - --help must be quick
    from workers.store import Store  # noqa: PLC0415 - as above

    engine = open_database(_settings(home).database)
    check_current(engine)
    return Store(engine)


def _id(text: str) -> Bytes32:
    try:
        return Bytes32.from_json(text)
    except ValueError as error:
        raise UsageError(
            "U-id", "this is no id", expected="0x and 64 lower-case hex digits", found=text[:80]
        ) from error


def _row(job: Job) -> dict[str, Any]:
    from workers.service import describe  # noqa: PLC0415 - --help must be quick

    return describe(job)


def _print(value: object, text: str, *, as_json: bool) -> None:
    typer.echo(json.dumps(canonical.to_builtins(value)) if as_json else text)
