"""Which samples a build tunes on, which it is scored on, and the extreme and random inputs in their range.

What the search sees and what the certificate is about never overlap, unless there is only one sample.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from circuits.model import Tensor
from circuits.samples import Array, Sample

MAX_TUNING_SAMPLES = 48
MAX_HELD_OUT_SAMPLES = 192
MAX_ACCEPTANCE_SAMPLES = 64
RANDOM_SAMPLES = 8
FEWEST_FOR_ACCEPTANCE = 6
"""Below this many samples there is none to spare for an acceptance set."""


class DataSets(NamedTuple):
    """Samples for tuning; held-out ones to score; a third set for acceptance; extreme and random inputs."""

    tuning: tuple[Sample, ...]
    held_out: tuple[Sample, ...]
    acceptance: tuple[Sample, ...]
    extremes: tuple[Sample, ...]
    random: tuple[Sample, ...]

    @property
    def every(self) -> tuple[Sample, ...]:
        """All that a build compares, set after set."""
        return (*self.tuning, *self.held_out, *self.acceptance, *self.extremes, *self.random)


def split(samples: tuple[Sample, ...], inputs: tuple[Tensor, ...]) -> DataSets:
    """Every second sample is for tuning: scales, bits and ranges come from those alone.

    Of the others one in three is for acceptance. One sample alone has to do for both, and then nothing is held out.
    The extreme and random inputs are tuned on too.
    """
    others = samples[1::2] or samples
    acceptance = others[2::3] if len(samples) >= FEWEST_FOR_ACCEPTANCE else ()
    held_out = tuple(sample for index, sample in enumerate(others) if not acceptance or index % 3 != 2)
    ranges = [(np.stack(column).min(), np.stack(column).max()) for column in zip(*samples[::2], strict=True)]
    chosen = np.random.default_rng(0)

    def filled(pattern: Callable[[int], bool]) -> Sample:
        return tuple(
            np.array([high if pattern(i) else low for i in range(tensor.size)], tensor.dtype).reshape(tensor.shape)
            for tensor, (low, high) in zip(inputs, ranges, strict=True)
        )

    def between(tensor: Tensor, low: float, high: float) -> Array:
        drawn = chosen.uniform(float(low), float(high), tensor.size)
        return (
            (drawn if tensor.dtype.startswith("float") else np.rint(drawn)).astype(tensor.dtype).reshape(tensor.shape)
        )

    extremes = (
        filled(lambda _: False),
        filled(lambda _: True),
        filled(lambda i: i % 2 == 0),
        filled(lambda i: i % 2 == 1),
    )
    drawn = tuple(
        tuple(between(tensor, *span) for tensor, span in zip(inputs, ranges, strict=True))
        for _ in range(RANDOM_SAMPLES)
    )
    return DataSets(
        samples[::2][:MAX_TUNING_SAMPLES],
        held_out[:MAX_HELD_OUT_SAMPLES],
        acceptance[:MAX_ACCEPTANCE_SAMPLES],
        extremes,
        drawn,
    )
