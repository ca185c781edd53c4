"""The check that stands before a build: the same preflight, the same rewrites, one path."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from circuits.check.preflight import check
from circuits.check.report import Report
from verifier.errors import CircuitError

BUILD_SECONDS = 240.0
"""A build may take its time: a larger model is looked at longer than by `opgate circuit check`."""


def require_yes(model: Path, samples: Path, progress: Callable[[str], None] = lambda _: None) -> Report:
    """Check a model before it is built.

    A scale above those that check tries is no obstacle, since a build searches for the scale.

    Raises:
        CircuitError: the report's code, with node, operator, reason and advice, where the model is refused.
    """
    progress("checking the model beside its circuit")
    report = check(model, samples, wall=BUILD_SECONDS)
    if report.verdict != "refused":
        return report
    where = f"{report.operator} ({report.node})" if report.node else report.operator or str(model)
    raise CircuitError(
        report.code or "C-check",
        "this model does not become a circuit that computes it",
        where=where,
        found=report.reason,
        do=report.advice,
    )
