"""Options that several commands share, and how they tell their steps."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from circuits import registry
from circuits.registry import CircuitFolder
from verifier.circuit_store import is_url

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object for machines.")]
Home = Annotated[Path, typer.Option(envvar="OPGATE_HOME", help="Where opgate keeps its state.")]
Where = Annotated[
    Path | None, typer.Option("--circuits", help="The folder of circuits; by default owner/circuits of the home.")
]
Named = Annotated[
    str,
    typer.Argument(metavar="CIRCUIT", help="A circuit_id, its beginning, the path of its folder, or URL/circuit_id."),
]
KeyFile = Annotated[Path | None, typer.Option(help="The key that signs; without it nothing is signed.")]
Threads = Annotated[int | None, typer.Option(min=1, max=256, help="Threads of ezkl; by default one a core.")]

HOME = Path(".opgate")


def store_of(home: Path) -> Path:
    """The folder of the owner's circuits."""
    return home / "owner" / "circuits"


def machine_file(home: Path) -> Path:
    """Where this machine's constants are kept."""
    return home / "machine.json"


def located(named: str, circuits: Path | None, home: Path) -> CircuitFolder:
    """The circuit that a person names; one of a server is fetched into the home first.

    Raises:
        CircuitError: C-missing, C-ambiguous.
        UndecidedError: V1-circuit-… where a server does not have it.
    """
    if is_url(named):
        return registry.fetch(named, home / "cache" / "circuits")
    return registry.find(circuits or store_of(home), named)


def print_json(value: dict[str, Any]) -> None:
    """One JSON object on stdout."""
    typer.echo(json.dumps(value))


@contextmanager
def steps(*, as_json: bool) -> Iterator[Callable[[str], None]]:
    """Tell each step with the seconds since the start, on stderr, so that stdout stays clean.

    The steps of a search change one line; only the last of them stays.
    """
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    begun = time.monotonic()
    if as_json:
        yield lambda _: None
        return
    with console.status("reading") as status:

        def tell(step: str) -> None:
            if not step.startswith("search "):
                console.print(f"[dim]{time.monotonic() - begun:6.1f} s[/]  {step}")
            status.update(step)

        yield tell
