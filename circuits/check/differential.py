"""The circuit's outputs beside the model's: errors, and whether they go away as the scale grows.

No operator list is trusted. Rounding shrinks with the scale, a wrong operator's error does not: that is how one is told
from the other. Near a jump of the model itself (a tree's threshold, an argmax) a tiny change of the input changes the
output; there an output counts as right when the model gives it for some input within the rounding of the one asked,
and none that lies between two such.
Outputs that hardly move where the model's do are none of its outputs, whatever jumps there are.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from circuits.ezkl_runner import Witness
from circuits.fidelity import MAX_SHARE
from circuits.samples import Array, Sample

FLOOR_SHARE = 0.002
"""An error that stays above this share of an output's span at a high scale is not rounding."""
FLOOR_STEPS = 64
"""Or, for outputs that hardly move, this many steps of the high scale."""
MAX_JUMPS = 0.2
"""At most this share of samples may lie at a jump of the model."""
LEAST_MOVEMENT = 0.5
"""Over all samples the circuit's outputs go at least this share of the way that the model's go."""


class Comparison(NamedTuple):
    """`error` is the largest there is; `excess` the largest share of an output's span, jumps apart."""

    error: float
    excess: float
    steps: float
    jumps: int
    samples: int
    worst: int
    output: int


def dequantised(witness: Witness, scales: Sequence[int]) -> tuple[Array, ...]:
    """The circuit's outputs in the model's unit, flat."""
    return tuple(
        np.array([int(value) / 2.0**scale for value in tensor], np.float64)
        for tensor, scale in zip(witness.outputs, scales, strict=False)
    )


def compare(
    found: Sequence[Sequence[Array]],
    truth: Sequence[Sequence[Array]],
    scales: Sequence[int],
    neighbours: Sequence[Sequence[Sequence[Array]]] = (),
) -> Comparison:
    """Compare outputs, sample by sample and output by output.

    Args:
        found: for each sample the circuit's outputs, dequantised.
        truth: for each sample the model's.
        scales: the scale of each output.
        neighbours: for each sample the model's outputs at inputs next to it; empty to allow for no jumps.
    """
    spans = [_span([sample[index] for sample in truth]) for index in range(len(scales))]
    largest, excess, steps, jumps, worst, output = 0.0, 0.0, 0.0, 0, 0, 0
    for number, (got, wanted) in enumerate(zip(found, truth, strict=True)):
        jumped = False
        for index, (mine, theirs) in enumerate(zip(got, wanted, strict=True)):
            gap = np.abs(mine - theirs.reshape(-1))
            largest = max(largest, float(gap.max(initial=0.0)))
            if neighbours:
                near = [each[index].reshape(-1) for each in neighbours[number]]
                allowed = _apart(mine, [theirs.reshape(-1), *near], MAX_SHARE * spans[index])
                jumped |= bool((gap - allowed).max(initial=0.0) > MAX_SHARE * spans[index])
                gap = allowed
            here = float(gap.max(initial=0.0))
            if here / spans[index] > excess:
                excess, worst, output = here / spans[index], number, index
                steps = here * 2.0 ** scales[index]
        jumps += jumped
    for index in range(len(scales)):
        went, asked = (_reach([sample[index] for sample in side]) for side in (found, truth))
        if went < LEAST_MOVEMENT * asked and 1 - went / asked > excess:
            excess, worst, output = 1 - went / asked, 0, index
            steps = (asked - went) * 2.0 ** scales[index]
    return Comparison(largest, excess, steps, jumps, len(found), worst, output)


def _apart(mine: Array, answers: Sequence[Array], smooth: float) -> Array:
    """How far each value is from the nearest answer; 0 between two answers so near that no jump lies there.

    Between the two sides of a jump there is no answer: a circuit that gives neither of them is wrong.
    """
    ordered = np.sort(np.stack(answers), axis=0)
    distance = np.abs(ordered - mine).min(axis=0)
    steps = np.diff(ordered, axis=0) <= smooth
    inside = (ordered[:-1] <= mine) & (mine <= ordered[1:]) & steps
    return np.where(inside.any(axis=0), 0.0, distance)


def is_close(comparison: Comparison) -> bool:
    """Within the tolerance of a build, and not by calling everything a jump."""
    return comparison.excess <= MAX_SHARE and comparison.jumps <= max(1, MAX_JUMPS * comparison.samples)


def is_rounding(low: Comparison, high: Comparison, bits: int) -> bool:
    """Whether what is left at a scale so many bits higher can be rounding: small, or much less than before."""
    if high.excess <= FLOOR_SHARE or high.steps <= FLOOR_STEPS:
        return True
    return high.excess <= MAX_SHARE and high.excess <= low.excess / 2 ** (bits / 2)


def _span(outputs: Sequence[Array]) -> float:
    return _reach(outputs) or max((float(np.abs(each).max(initial=0.0)) for each in outputs), default=0.0) or 1.0


def _reach(outputs: Sequence[Array]) -> float:
    """From the least to the largest value; 0 where there is none."""
    values = np.concatenate([each.reshape(-1) for each in outputs]) if outputs else np.zeros(0)
    return float(np.ptp(values)) if values.size else 0.0


def all_finite(outputs: Sequence[Sequence[Array]]) -> int | None:
    """The first sample with an output that is not finite; None where there is none."""
    for number, sample in enumerate(outputs):
        if not all(np.isfinite(each).all() for each in sample):
            return number
    return None


def is_constant(outputs: Sequence[Sequence[Array]]) -> bool:
    """Whether every sample gives the same outputs, so that they show nothing."""
    return all(
        np.array_equal(mine, first) for sample in outputs for mine, first in zip(sample, outputs[0], strict=True)
    )


def nearby(sample: Sample, scale: int, turns: int, generator: np.random.Generator) -> list[Sample]:
    """Inputs within one and a half steps of the input's rounding; integers stay as they are."""
    step = 1.5 * 2.0**-scale

    def moved(array: Array, turn: int) -> Array:
        if array.dtype.kind != "f":
            return array
        if turn < 2:
            return (array + (step if turn else -step)).astype(array.dtype)
        return (array + generator.uniform(-step, step, array.shape)).astype(array.dtype)

    return [tuple(moved(array, turn) for array in sample) for turn in range(turns)]
