"""`opgate audit`: re-check a whole archive, offline and without a key."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from verifier.archive.audit import audit
from verifier.archive.files import read_regular
from verifier.archive.note import MAX_NOTE_BYTES, VerifierKey
from verifier.archive.report import AuditReport
from verifier.cli.policy import load_policy
from verifier.errors import EXIT_DONE, EXIT_REFUSED, EXIT_UNDECIDED, AuditError, UsageError
from verifier.statement.scalars import printable

app = typer.Typer(add_completion=False)


@app.command()
def audit_command(
    archive: Annotated[Path, typer.Argument(exists=True, file_okay=False, help="The archive's folder.")],
    key: Annotated[
        str | None,
        typer.Option(
            help="The archive's public key, name+id+key, from somebody you trust. Without: the archive's own."
        ),
    ] = None,
    policy: Annotated[
        Path | None, typer.Option(exists=True, help="Your own policy: every bundle is verified under it as well.")
    ] = None,
    checkpoint: Annotated[
        Path | None,
        typer.Option(exists=True, help="A checkpoint of this archive that you kept: shows that nothing was cut off."),
    ] = None,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object for machines.")] = False,
) -> None:
    """Re-check an archive: every entry, every blob, every signature, and every proof by the circuit's pinned EVM code.

    Needs no network, no key and no ezkl, and writes nothing. Damage is collected, each piece named by entry and digest.
    Exit 0 clean, 1 damage, 2 usage, 3 something could not be decided here.
    """
    report = audit(
        archive,
        key=None if key is None else _key(key),
        policy=None if policy is None else load_policy(policy),
        seen=None if checkpoint is None else read_regular(checkpoint, limit=MAX_NOTE_BYTES),
    )
    if as_json:
        typer.echo(json.dumps(report.to_json()))
    else:
        _print(Console(highlight=False), report)
    raise typer.Exit(EXIT_REFUSED if report.findings else EXIT_UNDECIDED if report.undecided else EXIT_DONE)


def _key(text: str) -> VerifierKey:
    try:
        return VerifierKey.parse(text.strip())
    except AuditError as error:
        raise UsageError(
            "U-key", "--key is no public key of a log", expected="name+id+base64", found=error.message
        ) from error


def _print(console: Console, report: AuditReport) -> None:
    checkpoint, entries = report.structure.checkpoint, report.structure.entries
    kinds = Counter(entry.kind for _, entry in entries)
    listed = ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))
    lines = [
        f"log        {checkpoint.origin}, root 0x{checkpoint.root.hex()}" if checkpoint else "log        no checkpoint",
        f"key        {report.structure.key}",
        f"entries    {report.entries}" + (f": {listed}" if listed else ""),
        f"bundles    {report.verified} verified again, VALID",
        f"endings    {report.evidenced} shown by chain evidence",
        *(
            f"block      {block.number} of chain {block.chain_id}: {block.block_hash}, on the word of {block.source}"
            for block in report.sorted_blocks()
        ),
        *(f"note       {note}" for note in report.notes),
    ]
    for line in lines:
        console.print(printable(line), markup=False, soft_wrap=True)
    for title, style, found in (("undecided", "yellow", report.undecided), ("damage", "red", report.findings)):
        for finding in found:
            line = printable(f"{title:<10} {finding.code}  {finding.message}")
            console.print(line, style=style, markup=False, soft_wrap=True)
    if report.clean:
        console.print("[bold green]CLEAN[/]")
    elif report.findings:
        console.print(f"[bold red]DAMAGED[/]  {len(report.findings)} findings")
    else:
        console.print("[bold yellow]UNDECIDED[/]  nothing is damaged as far as could be decided here")
