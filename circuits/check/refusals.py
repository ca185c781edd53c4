"""The report of a check that a CircuitError ended, with advice; an overrun is told from a busy machine."""

from __future__ import annotations

import resource
import time

from circuits.check.report import Report
from verifier.errors import CircuitError

BUSY_SHARE = 0.5
"""A child that had less than this share of the seconds on a core waited for one: its model need not be too large."""
_ADVICE = {
    "C-onnx-name": "Rename the tensor.",
    "C-onnx-dtype": "Export with tensors of numbers as inputs and outputs: scikit-learn's options={'zipmap': False}.",
    "C-onnx-size": "Check a smaller model: a proof of this one would not fit any machine.",
    "C-onnxruntime": "Make onnxruntime run the model first: its reason is given.",
    "C-samples": "Give samples of the model's own inputs, in graph order.",
    "C-memory": "Make the model or its inputs smaller.",
    "C-died": "Export the model again; onnx.checker.check_model(model, full_check=True) may say more.",
    "C-onnx": "Export the model again: this file is cut off or no ONNX at all.",
}


class Spent:
    """Seconds since it was made: by the clock, and of CPU by this process and the children that ended since."""

    def __init__(self) -> None:
        """Start counting."""
        self._wall, self._cpu = time.monotonic(), _cpu_seconds()

    def wall(self) -> float:
        """Seconds by the clock."""
        return time.monotonic() - self._wall

    def cpu(self) -> float:
        """Seconds on a core."""
        return _cpu_seconds() - self._cpu


def refused(error: CircuitError, spent: Spent, rewrites: tuple[str, ...]) -> Report:
    """The report, with the rewrites that were known by then."""
    advice = error.do or _ADVICE.get(error.code, "Export the model again in one file with fixed shapes.")
    found = f" ({error.found})" if error.found else ""
    if error.code == "C-wall":
        wall, cpu = spent.wall(), spent.cpu()
        found = f" ({cpu:.0f} CPU seconds were used in {wall:.0f} s)"
        if cpu < BUSY_SHARE * wall:
            advice = "This machine is busy: try again when it is not."
    return Report(
        verdict="refused",
        node=error.where if error.code.startswith("C-onnx") else "",
        code=error.code,
        reason=f"{error.message}{found}",
        advice=advice,
        rewrites=rewrites,
    )


def _cpu_seconds() -> float:
    used = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(each.ru_utime + each.ru_stime for each in used)
