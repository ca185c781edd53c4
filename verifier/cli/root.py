"""The command `opgate`: finds the sub-commands of the installed packages, and turns every failure into an exit code.

Sub-commands are entry points of the group `opgate.commands`, each with the extra that it needs. Nothing of one is
imported before it is called; what cannot run here is not listed, and says what to install when it is named.
Exit codes: 0 done or valid, 1 refused or invalid, 2 usage, 3 undecided or an internal error, 130 interrupted.
"""

from __future__ import annotations

import json
import os
import re
import sys
import traceback
from importlib import metadata
from typing import TYPE_CHECKING, Any

import typer
from typer._click import exceptions as click_errors
from typer.core import TyperCommand, TyperGroup

from verifier.errors import EXIT_DONE, EXIT_INTERRUPTED, EXIT_UNDECIDED, EXIT_USAGE, OpgateError, UsageError
from verifier.statement.scalars import printable
from verifier.version import __version__

if TYPE_CHECKING:
    from collections.abc import Sequence

GROUP = "opgate.commands"
DISTRIBUTION = "opgate"

_ABOUT = {
    "audit": "Re-check a whole archive, offline: every proof, every signature, nothing removed.",
    "circuit": "Build, rebuild, show and export circuits of ONNX models.",
    "demo": "The whole story on this machine in two minutes: jobs paid, attacks not paid, audit.",
    "dev": "Run one machine's network: Redis, a dev chain, OPG test token and escrow.",
    "doctor": "Say what is installed, what is missing, and the one command that mends it.",
    "escrow": "Deploy an escrow, or compare the one on a chain with what opgate ships.",
    "explain": "Say in words what a bundle claims, what it shows and what it does not.",
    "pay": "Buy a proved inference: quote, check, upload, accept, fund, fetch, verify, release.",
    "policy": "Check a policy file and say in words what it accepts.",
    "provider": "See and steer a provider's jobs.",
    "serve": "Run the provider's HTTP service.",
    "sweep": "Run the provider's sweeper in a process of its own.",
    "verify": "Verify a proof bundle against circuit and policy.",
    "worker": "Run a Celery worker that proves.",
}


def installed_commands() -> dict[str, metadata.EntryPoint]:
    """Every sub-command that an installed package brings, by its name."""
    return {point.name: point for point in metadata.entry_points(group=GROUP)}


def missing_extra(point: metadata.EntryPoint) -> str | None:
    """The extra of a sub-command that is not installed in full, or None where it can run."""
    for extra in point.extras:
        wanted = [line for line in metadata.requires(DISTRIBUTION) or () if f"extra == '{extra}'" in line]
        for line in wanted:
            name = re.match(r"[A-Za-z0-9._-]+", line)
            try:
                metadata.version(name.group() if name else line)
            except metadata.PackageNotFoundError:
                return extra
    return None


class _Lazy(TyperGroup):
    """A group whose members are looked up among the entry points when they are named."""

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002 - typer's signature
        """The commands that can run here."""
        return sorted(name for name, point in installed_commands().items() if missing_extra(point) is None)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ARG002 - typer's signature
        """A command as a listing shows it: its name and one line, nothing imported."""
        known = cmd_name in installed_commands()
        return TyperCommand(cmd_name, help=_ABOUT.get(cmd_name, "")) if known else None

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """The command that the words name, imported now."""
        point = installed_commands().get(args[0])
        if point is None:
            return super().resolve_command(ctx, args)
        cmd_name, extra = point.name, missing_extra(point)
        if extra is not None:
            raise UsageError(
                "U-extra",
                f"opgate {cmd_name} is not installed",
                expected=f"the extra [{extra}]",
                do=f"pip install 'opgate[{extra}]'",
            )
        command = typer.main.get_command(point.load())
        command.name = cmd_name
        return cmd_name, command, args[1:]


def _version(*, wanted: bool) -> None:
    if wanted:
        typer.echo(f"opgate {__version__}")
        raise typer.Exit


app = typer.Typer(
    cls=_Lazy,
    name="opgate",
    help="Pay for AI inference in OPG only when it is proved.",
    epilog="Exit codes: 0 done or valid, 1 refused or invalid, 2 usage, 3 undecided, 130 interrupted.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.callback()
def root(
    *, version: bool = typer.Option(False, "--version", help="Print the version.", callback=_version, is_eager=True)
) -> None:
    """Pay for AI inference in OPG only when it is proved."""


def run(arguments: Sequence[str]) -> int:
    """Run one command line and give its exit code; prints, never raises."""
    command = typer.main.get_command(app)
    try:
        result = command.main(args=list(arguments), prog_name="opgate", standalone_mode=False)
    except OpgateError as error:
        _tell(error, as_json="--json" in arguments)
        return error.exit_code
    except click_errors.ClickException as error:
        error.show()
        return EXIT_USAGE
    except (typer.Abort, KeyboardInterrupt):
        print("interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED
    except typer.Exit as error:
        return int(error.exit_code)
    except SystemExit:
        raise
    except BaseException as error:  # noqa: BLE001 - no traceback, of a Rust panic neither, must look like INVALID
        if os.environ.get("OPGATE_TRACEBACK"):
            traceback.print_exc()
        inner = OpgateError(
            "U-internal",
            f"internal error: {type(error).__name__}: {error}"[:300],
            do="Nothing was decided. Set OPGATE_TRACEBACK=1 and report what it prints",
        )
        _tell(inner, as_json="--json" in arguments)
        return EXIT_UNDECIDED
    return result if isinstance(result, int) and not isinstance(result, bool) else EXIT_DONE


def _tell(error: OpgateError, *, as_json: bool) -> None:
    if as_json:
        print(json.dumps({"error": error.to_json()}))
    else:
        # parts of an error come from outside, and control characters could write over what was printed before
        print(printable(f"opgate: {error}"), file=sys.stderr)


def main() -> None:
    """The entry point of the console script."""
    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
