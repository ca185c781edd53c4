"""``opgate dev``: one machine's network, in the foreground; ``opgate dev status`` and ``opgate dev stop``."""

from __future__ import annotations

import signal
import threading
from pathlib import Path
from typing import Annotated

import typer

from verifier.errors import EXIT_REFUSED
from verifier.statement import canonical
from workers.dev.network import Network, read_network
from workers.dev.supervisor import Supervisor, running, stop

app = typer.Typer(
    help="One machine's network: Redis and a dev chain with OPG test token and escrow.",
    invoke_without_command=True,
    no_args_is_help=False,
)

Home = Annotated[Path, typer.Option("--home", envvar="OPGATE_HOME", help="Folder of all state.")]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object instead of lines for people.")]
_DEFAULT_HOME = Path(".opgate")


@app.callback()
def dev(
    context: typer.Context,
    home: Home = _DEFAULT_HOME,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port of the chain; 0: last time's, or any.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Start the network and keep it running until SIGINT or SIGTERM; all state survives, whatever is killed."""
    if context.invoked_subcommand is not None:
        return
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    supervisor = Supervisor(home)
    try:
        _show(supervisor.open(rpc_port=port), as_json=as_json)
        supervisor.watch(ended)
    finally:
        supervisor.close()


@app.command("status")
def status(home: Home = _DEFAULT_HOME, as_json: AsJson = False) -> None:
    """Say whether the network runs, and where; exit 1 if any part of it does not."""
    network, parts = read_network(home / "dev"), running(home)
    if as_json:
        typer.echo(canonical.encode({"running": parts, "network": canonical.to_builtins(network)}))
    else:
        for name, runs in parts.items():
            typer.echo(f"{name:<12}{'runs' if runs else 'does not run'}")
        if network is not None:
            _show(network, as_json=False)
    if not all(parts.values()):
        raise typer.Exit(EXIT_REFUSED)


@app.command("stop")
def stop_network(home: Home = _DEFAULT_HOME) -> None:
    """End the network, or what a killed one left running; its state stays."""
    stop(home)


def _show(network: Network, *, as_json: bool) -> None:
    if as_json:
        typer.echo(canonical.encode(network))
        return
    rows = {"chain": f"{network.rpc} (id {network.chain_id})", "redis": network.redis}
    rows |= {"token": str(network.token), "escrow": str(network.escrow)}
    rows |= {name: str(address) for name, address in network.addresses.items()}
    for name, value in rows.items():
        typer.echo(f"{name:<12}{value}")
