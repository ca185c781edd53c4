"""`opgate circuit srs`: bring in the ceremony's files, and see what is here. Nothing is ever downloaded."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from circuits.cli.options import HOME, AsJson, Home, print_json
from verifier.srs import srs_kind

srs_app = typer.Typer(add_completion=False, no_args_is_help=True, help="Import and list structured reference strings.")


@srs_app.command("import")
def import_command(
    file: Annotated[Path, typer.Argument(exists=True, help="The file: 2^k * 128 + 260 bytes of points.")],
    *,
    development: Annotated[
        bool, typer.Option("--development", help="Take a file that is not the ceremony's: for development chains only.")
    ] = False,
    home: Home = HOME,
    as_json: AsJson = False,
) -> None:
    """Copy an SRS into the home if its sha256 is the one that the installed ezkl publishes for its size.

    Builds use the ceremony's file from then on; its k = 1 part is what verifiers embed. A larger file serves smaller
    circuits too, at some seconds a proof. Get the files elsewhere: nothing is downloaded.
    """
    from circuits import srs, srs_table  # noqa: PLC0415 - the EVM only where points are checked

    path, digest = srs.import_srs(file, home / "srs", srs_table.published(), development=development)
    kind = srs_kind(digest)
    if as_json:
        print_json(
            {
                "file": str(path),
                "kind": kind,
                "logrows": int(digest.logrows),
                "sha256": str(digest.sha256),
                "sha256_k1": str(digest.sha256_k1),
            }
        )
        return
    console = Console(highlight=False, soft_wrap=True)
    colour = "green" if kind == "ceremony" else "yellow"
    console.print(f"[{colour}]{kind}[/], k={digest.logrows}, sha256 {digest.sha256}")
    console.print(f"its k = 1 part: {digest.sha256_k1}")
    if kind != "ceremony":
        console.print("[yellow]whoever made it can forge proofs: accepted only on a policy's dev_chains[/]")
    console.print(f"kept in {path}", markup=False)


@srs_app.command("list")
def list_command(*, home: Home = HOME, as_json: AsJson = False) -> None:
    """List the SRS of the home: which are the ceremony's, and which were made here for development."""
    from circuits import srs  # noqa: PLC0415 - see above

    found = []
    for path in sorted((home / "srs").glob("*.srs")):
        digest = srs.srs_digest(path)
        found.append(
            {"file": str(path), "logrows": int(digest.logrows), "kind": srs_kind(digest), "sha256": str(digest.sha256)}
        )
    if as_json:
        print_json({"srs": found})
        return
    console = Console(highlight=False, soft_wrap=True)
    if not found:
        console.print("none: builds make development SRS; import the ceremony's: opgate circuit srs import FILE")
    for each in found:
        console.print(f"k={each['logrows']:<3} {each['kind']:<12} {each['sha256']}  {each['file']}", markup=False)
