"""Which samples a build tunes on, which it is scored on, and the extreme and random inputs in their range.

What the search sees and what the certificate is about never overlap, unless there is only one sample.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from circuits.model import Tensor
from circuits.ranges import Range, corner
from circuits.samples import Sample

MAX_TUNING_SAMPLES = 48
MAX_HELD_OUT_SAMPLES = 192
MAX_ACCEPTANCE_SAMPLES = 64
RANDOM_SAMPLES = 8
CORNERS = 4
FEWEST_FOR_ACCEPTANCE = 6
"""Below this many samples there is none to spare for an acceptance set."""


class DataSets(NamedTuple):
    """Samples for tuning; held-out ones to score; a third set for acceptance; extreme and random inputs.

    `corners` are the extremes with those on which the model itself does not run: a circuit has to prove them too, since
    they lie in the range that its certificate states.
    """

    tuning: tuple[Sample, ...]
    held_out: tuple[Sample, ...]
    acceptance: tuple[Sample, ...]
    extremes: tuple[Sample, ...]
    random: tuple[Sample, ...]
    corners: tuple[Sample, ...]

    @property
    def drawn(self) -> int:
        """How many inputs were drawn here; they stand last in `every`."""
        return len(self.extremes) + len(self.random)

    @property
    def every(self) -> tuple[Sample, ...]:
        """All that a build compares, set after set."""
        return (*self.tuning, *self.held_out, *self.acceptance, *self.extremes, *self.random)


def split(samples: tuple[Sample, ...], inputs: tuple[Tensor, ...]) -> DataSets:
    """Every second sample is for tuning: scales, bits and ranges come from those alone.

    Of the others one in three is for acceptance. One sample alone has to do for both, and then nothing is held out.
    The extreme and random inputs are tuned on too. Extremes are of the range of a whole tensor, which is what a
    certificate states; of the random ones every second is drawn column by column, as samples look.
    """
    others = samples[1::2] or samples
    acceptance = others[2::3] if len(samples) >= FEWEST_FOR_ACCEPTANCE else ()
    held_out = tuple(sample for index, sample in enumerate(others) if not acceptance or index % 3 != 2)
    columns = list(zip(inputs, zip(*samples[::2], strict=True), strict=True))
    whole = [Range.of_tensor(tensor, np.stack(column).min(), np.stack(column).max()) for tensor, column in columns]
    alike = [Range.of_samples(tensor, column) for tensor, column in columns]
    corners = tuple(corner(inputs, whole, pattern, 0) for pattern in range(CORNERS))
    chosen = np.random.default_rng(0)
    drawn = tuple(
        tuple(
            span.shaped(chosen.uniform(span.low, span.high), tensor)
            for tensor, span in zip(inputs, alike if turn % 2 else whole, strict=True)
        )
        for turn in range(RANDOM_SAMPLES)
    )
    return DataSets(
        samples[::2][:MAX_TUNING_SAMPLES],
        held_out[:MAX_HELD_OUT_SAMPLES],
        acceptance[:MAX_ACCEPTANCE_SAMPLES],
        corners,
        drawn,
        corners,
    )


def answered(sets: DataSets, is_known: Callable[[Sample], bool]) -> DataSets:
    """The sets without the inputs drawn here on which the model does not run: there is nothing to compare there."""
    extremes, random = (tuple(filter(is_known, each)) for each in (sets.extremes, sets.random))
    return sets._replace(extremes=extremes, random=random)
