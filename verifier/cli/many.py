"""`opgate verify` for a folder or an archive: progress, a line a bundle, and a summary."""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from verifier.bulk import Tally, bundle_files, verify_all
from verifier.errors import EXIT_DONE, EXIT_REFUSED, EXIT_UNDECIDED, UsageError
from verifier.statement import canonical
from verifier.statement.scalars import printable

if TYPE_CHECKING:
    from pathlib import Path

    from verifier.bulk import Judged, Task


def verify_many(folder: Path, task: Task, *, jobs: int, as_json: bool) -> int:
    """Verify every bundle of a folder or archive; gives the exit code.

    One line a bundle that is not VALID (with --json: one for each), then the summary. A bar with the time left goes to
    the terminal, where there is one.

    Raises:
        UsageError: U-bundles where there is none: nothing verified must not look like all verified.
    """
    total = sum(1 for _ in bundle_files(folder))
    if total == 0:
        raise UsageError(
            "U-bundles", "there is no bundle to verify", where=str(folder), expected="*.json files, or an archive"
        )
    outcomes: Counter[str] = Counter()
    codes: Counter[str] = Counter()
    alarms: list[str] = []
    tally, started, console = Tally(), time.monotonic(), Console(highlight=False)
    with _bar() as progress:
        bar = progress.add_task("verifying", total=total)
        for judged in verify_all(task, bundle_files(folder), jobs=jobs, tally=tally):
            verdict = judged.verdict
            outcomes[verdict.outcome] += 1
            if verdict.code is not None:
                codes[str(verdict.code)] += 1
            if judged.alarm is not None:
                alarms.append(judged.alarm)
            if as_json:
                typer.echo(json.dumps(_line(judged)))
            elif verdict.outcome != "VALID":
                console.print(_words(judged), markup=False, soft_wrap=True)
            progress.update(bar, advance=1)
    seconds = time.monotonic() - started
    summary = {
        "bundles": sum(outcomes.values()),
        "outcomes": {name: outcomes[name] for name in ("VALID", "INVALID", "UNDECIDED")},
        "codes": dict(sorted(codes.items())),
        "alarms": alarms,
        "processes": jobs,
        "restarts": tally.restarts,
        "retried": tally.retried,
        "seconds": f"{seconds:.3f}",
    }
    if as_json:
        typer.echo(json.dumps({"summary": summary}))
    else:
        _print_summary(console, summary, seconds)
    return EXIT_REFUSED if outcomes["INVALID"] else EXIT_UNDECIDED if outcomes["UNDECIDED"] else EXIT_DONE


def _bar() -> Progress:
    console = Console(stderr=True)
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not sys.stderr.isatty(),
        redirect_stdout=False,
    )


def _line(judged: Judged) -> dict[str, Any]:
    alarm = {"alarm": judged.alarm} if judged.alarm is not None else {}
    return {"bundle": judged.name, **canonical.to_builtins(judged.verdict), **alarm}


def _words(judged: Judged) -> str:
    text = f"{judged.verdict.outcome:<10} {judged.name}  {judged.verdict.message or ''}"
    if judged.alarm is not None:
        text += f"  ALARM: both inputs are kept in {judged.alarm}"
    # names of files come from somebody else
    return printable(text)


def _print_summary(console: Console, summary: dict[str, Any], seconds: float) -> None:
    outcomes, count = summary["outcomes"], summary["bundles"]
    style = "red" if outcomes["INVALID"] else "yellow" if outcomes["UNDECIDED"] else "green"
    listed = ", ".join(f"{number} {name}" for name, number in outcomes.items() if number)
    console.print(f"[bold {style}]{count} bundles[/]: {listed}")
    for code, number in summary["codes"].items():
        console.print(f"{code:<24} {number}")
    rate = f"{count / seconds:.1f} a second" if seconds > 0 else ""
    console.print(f"{seconds:.1f} s with {summary['processes']} processes, {rate}")
    if summary["restarts"]:
        console.print(
            f"{summary['restarts']} processes ended and were replaced, {summary['retried']} bundles tried again"
        )
    if summary["alarms"]:
        console.print(
            f"ALARM      {len(summary['alarms'])} disagreements, kept in {summary['alarms'][0]} and beside it"
        )
