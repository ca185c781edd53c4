"""`opgate circuit check`: prints a report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.console import Console

_COLOURS = {"faithful": "green", "rewritten": "green", "raise-scale": "yellow", "refused": "red"}


def check_command(
    model: Annotated[Path, typer.Argument(help="The ONNX file.")],
    data: Annotated[
        Path | None,
        typer.Option(help="Samples: EZKL's input.json, .npz or .csv; without them inputs from -4 to 4 are drawn."),
    ] = None,
    *,
    scale: Annotated[
        int | None, typer.Option(min=1, max=18, help="Judge at this one scale instead of those that a build tries.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object for machines.")] = False,
) -> None:
    """Say within a minute whether a model becomes a circuit that computes it, and if not, why and what to do.

    The circuit is run beside the model on the samples, on random and on extreme inputs; nothing is built. The model is
    read in a confined process. Exit 0: faithful, or faithful after the rewrites named. Exit 1: it needs a higher scale
    than builds try, or it is refused: the node, the reason and advice are named.
    """
    from circuits.check.preflight import check  # noqa: PLC0415 - numpy only where a model is checked

    console = Console(stderr=True)
    if as_json:
        report = check(model, data, scale=scale)
        fields = msgspec.to_builtins(report) | {
            "domain": {span.name: [span.least, span.greatest] for span in report.domain}
        }
        typer.echo(json.dumps(fields))
    else:
        with console.status(f"checking {model.name}, at most a minute"):
            report = check(model, data, scale=scale)
        shown = Console(highlight=False, soft_wrap=True)
        shown.print(f"[bold {_COLOURS[report.verdict]}]{report.verdict}[/]  in {report.seconds} s")
        lines = [
            ("operator", f"{report.operator} ({report.node})" if report.node else report.operator),
            ("reason", report.reason),
            ("advice", report.advice),
            (
                "largest error",
                f"{report.max_error} on {report.samples} inputs at scale {report.scale}" if report.max_error else "",
            ),
            ("compared with", report.compared_with if report.is_yes else ""),
            *(("rewrite", change) for change in report.rewrites),
            *(("takes", f"{span.name} from {span.least} to {span.greatest}") for span in report.domain),
        ]
        for title, words in lines:
            if words:
                shown.print(f"{title:<14} {words}", markup=False)
    raise typer.Exit(0 if report.is_yes else 1)
