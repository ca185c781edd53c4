"""The first node that ezkl refuses or computes differently, found by cutting the graph at ever nearer places.

The cut after node k gives out each tensor made before it and read after it: what was wrong before shows in one of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from circuits.check import confined
from circuits.check.causes import Node
from circuits.check.confined import Bounds
from circuits.check.differential import FLOOR_SHARE, FLOOR_STEPS
from circuits.check.trial import Refusal, Trial
from circuits.samples import Sample
from verifier.errors import CircuitError

_SAMPLES = 8
_MAX_FRONTIER = 48


class _Truth(Protocol):
    def truth(self, graph: str, samples: tuple[Sample, ...]) -> tuple[Sample, ...]: ...


class Bisection:
    """A search in one graph."""

    def __init__(self, checking: _Truth, trial: Trial, folder: Path) -> None:
        """`checking` runs cut graphs in floating point."""
        self._checking, self._trial, self._folder = checking, trial, folder
        self._nodes = trial.graph.nodes

    def first_refused(self, scale: int, multiplier: int) -> Node | None:
        """The first node with which ezkl refuses the graph; None where it cannot be said."""
        return self._search(lambda index: self._is_refused(index, scale, multiplier))

    def first_wrong(self, samples: tuple[Sample, ...], scale: int, multiplier: int) -> Node | None:
        """The first node whose outputs differ from the float model's; None where it cannot be said."""
        few = samples[:: max(1, len(samples) // _SAMPLES)] + samples[-2:]
        return self._search(lambda index: self._is_wrong(index, few, scale, multiplier))

    def _search(self, is_bad: Callable[[int], bool]) -> Node | None:
        low, high = -1, len(self._nodes) - 1
        try:
            while high - low > 1:
                middle = (low + high) // 2
                if is_bad(middle):
                    high = middle
                else:
                    low = middle
        except CircuitError:
            return None  # out of time, or a cut that cannot be run: the verdict stands without a name
        return self._nodes[high] if self._nodes else None

    def _frontier(self, index: int) -> list[str]:
        made = {name for node in self._nodes[: index + 1] for name in node.outputs if name}
        later = {name for node in self._nodes[index + 1 :] for name in node.inputs}
        own = [name for name in self._nodes[index].outputs if name]
        rest = sorted((made & later) - set(own))
        return [*own, *rest][:_MAX_FRONTIER]

    def _cut(self, tensors: Sequence[str]) -> None:
        bounds = Bounds(wall_seconds=min(15.0, self._trial.left()))
        confined.run("cut", self._folder, bounds, tensors=list(tensors), name="cut")

    def _is_refused(self, index: int, scale: int, multiplier: int) -> bool:
        self._cut(self._frontier(index))
        return isinstance(self._trial.settings(scale, multiplier, self._folder / "cut-job.onnx"), Refusal)

    def _is_wrong(self, index: int, samples: tuple[Sample, ...], scale: int, multiplier: int) -> bool:
        self._cut(self._frontier(index))
        wanted = self._checking.truth("cut", samples)
        ran = self._trial.outputs(samples, scale, multiplier, self._folder / "cut-job.onnx")
        if isinstance(ran, Refusal):
            return False  # a tensor that cannot be an output says nothing about its value
        outputs, scales = ran
        for found, truth in zip(outputs, wanted, strict=True):
            if found is None:
                continue
            for mine, theirs, step in zip(found, truth, scales, strict=False):
                flat = theirs.reshape(-1)
                if mine.size != flat.size:
                    return True
                if not np.isfinite(flat).all():
                    continue
                allowed = max(FLOOR_SHARE * float(np.ptp(flat)), FLOOR_STEPS * 2.0**-step if step else 0.5)
                if float(np.abs(mine - flat).max(initial=0.0)) > allowed:
                    return True
        return False
