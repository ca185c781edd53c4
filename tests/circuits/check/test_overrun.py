"""A check that ran out of time says whose fault it was, and keeps what it knew."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import pytest

from circuits.check.preflight import check
from circuits.check.refusals import Spent, refused
from circuits.ezkl_session import Session
from verifier.errors import CircuitError

ModelBytes = Callable[..., bytes]
OVERRUN = CircuitError("C-wall", "ezkl did not end in time and was killed", do="Make the circuit smaller.")


class Counted(Spent):
    """Seconds that a test chooses."""

    def __init__(self, cpu: float) -> None:
        super().__init__()
        self._used = cpu

    def wall(self) -> float:
        return 55.0

    def cpu(self) -> float:
        return self._used


def test_a_busy_machine_is_told_from_a_large_model() -> None:
    """Trap: a child that got 8 of 55 seconds on a core is told to be smaller."""
    waited, worked = (refused(OVERRUN, Counted(cpu), ()) for cpu in (8.0, 50.0))
    assert "busy" in waited.advice
    assert "8 CPU seconds" in waited.reason
    assert worked.advice == OVERRUN.do
    assert "50 CPU seconds" in worked.reason


def test_an_overrun_keeps_the_rewrites(
    tmp_path: Path, linear_model: ModelBytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Trap: what was found before the time ran out is lost."""

    def overrun(*_: Any) -> NoReturn:
        raise OVERRUN

    monkeypatch.setattr(Session, "ask", overrun)
    monkeypatch.setattr(Spent, "cpu", lambda _: 0.0)
    path = tmp_path / "model.onnx"
    path.write_bytes(linear_model())
    report = check(path)
    assert report.code == "C-wall"
    assert report.rewrites == ("input opgate_job added",)
    assert "busy" in report.advice
