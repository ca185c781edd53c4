"""What inputs a circuit takes and can prove: its constraints at the extremes, and how far beyond the samples it goes.

A witness that is made is no proof: the constraints are checked (`mock`) at the ends of the range. Inputs that
gen_witness refuses are looked for by widening the range, then inside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from circuits.check.report import Span
from circuits.check.trial import Refusal, Trial
from circuits.model import Tensor
from circuits.ranges import Range, corner, typed
from circuits.run_arguments import RESERVED_ROWS, table_range
from circuits.samples import Sample
from circuits.tuner.cost import BLINDING_ROWS
from verifier.errors import CircuitError

MAX_WIDENING = 10
"""The range is doubled at most this often: beyond a thousand times the samples nobody asks."""
INSIDE = 12
LEAST_MOCKED = 3
RESERVE_SECONDS = 20.0
"""With less than this left the range is not widened: what the samples span is stated."""
_LEGS = (3, 5, 8)
"""Digits of a value: the fewest with which samples run; corners that need more are not taken."""
_TRIED = 16
_LOGROWS = range(11, 18)
_MAX_BLOCKS = 10


class Prober(Protocol):
    """A compiled circuit that takes inputs, or does not."""

    def left(self) -> float:
        """Seconds left for widening; none below zero."""

    def takes(self, sample: Sample) -> bool:
        """Whether the circuit runs on an input, and its look-ups stay inside their table: else a proof never ends."""

    def is_provable(self, sample: Sample) -> bool:
        """Whether it takes the input and every constraint holds."""


class _TrialProber:
    """The circuit that a check compiled last."""

    def __init__(self, trial: Trial, lookup: tuple[int, int]) -> None:
        self._trial, self._lookup = trial, lookup

    def left(self) -> float:
        return self._trial.left() - RESERVE_SECONDS

    def takes(self, sample: Sample) -> bool:
        witness = self._trial.witness(sample)
        if isinstance(witness, Refusal):
            return False
        return self._lookup[0] <= witness.min_lookup and witness.max_lookup <= self._lookup[1]

    def is_provable(self, sample: Sample) -> bool:
        return self.takes(sample) and self._trial.mock() is None


def widened(prober: Prober, inputs: Sequence[Tensor], ranges: Sequence[Range]) -> int:
    """How often the range of inputs can be doubled about its middle, so that the circuit still takes all of it.

    Its corners are run, then inputs inside it, and the constraints are checked at both ends; integers are not widened.
    0 where that was not shown, or there was no time to.
    """
    if not all(tensor.dtype.startswith("float") for tensor in inputs):
        return 0
    best = 0
    for step in range(1, MAX_WIDENING + 1):
        if prober.left() < 0 or not all(prober.takes(corner(inputs, ranges, each, step)) for each in range(4)):
            break
        best = step
    while best and prober.left() > 0 and _fails_at_ends_or_inside(prober, inputs, ranges, best):
        best -= 1
    return best if prober.left() > 0 else 0


def search_domain(
    trial: Trial, samples: Sequence[Sample], given: int, scale: int, multiplier: int
) -> tuple[tuple[Span, ...], int, Refusal | None]:
    """The range that was shown to be provable, and how many inputs inside it the circuit does not even run on.

    The first `given` samples are the owner's: the circuit is as narrow as they allow, since a bound wider than needed
    lets witnesses through that no proof fits.

    Those cost nobody anything: a provider runs the witness before it accepts. A Refusal is given where the circuit runs
    on an input and its constraints do not hold, since a provider would then lose the work.

    Raises:
        CircuitError: C-wall where there is no time to check the constraints: without that there is no yes.
    """
    inputs = trial.graph.inputs
    columns = zip(*samples, strict=True)
    ranges = [Range.of_samples(tensor, column) for tensor, column in zip(inputs, columns, strict=True)]
    extremes = [corner(inputs, ranges, pattern, 0) for pattern in range(4)]
    ends, untaken, lookup, refusal = _compile(trial, extremes, samples, given or len(samples), scale, multiplier)
    if refusal is not None:
        return (), 0, refusal
    for turn, sample in enumerate((*ends[:2], samples[0], *ends[2:])):
        if turn >= LEAST_MOCKED and trial.left() < RESERVE_SECONDS:
            break
        refusal = _provable(trial, sample)
        if refusal is not None:
            return (), 0, refusal
    best = 0 if untaken else widened(_TrialProber(trial, lookup), inputs, ranges)
    return _spans(inputs, ranges, best), untaken, None


def _fails_at_ends_or_inside(prober: Prober, inputs: Sequence[Tensor], ranges: Sequence[Range], step: int) -> bool:
    generator = np.random.default_rng(step)
    for turn in range(INSIDE):
        share = generator.uniform(0.05, 1.0) if turn % 2 else 1.0
        if not prober.takes(_drawn(inputs, ranges, step, generator, share)):
            return True
    return not all(prober.is_provable(corner(inputs, ranges, pattern, step)) for pattern in (0, 1))


def _compile(  # noqa: C901, PLR0913, PLR0917 - a search for a size, in one place
    trial: Trial, extremes: Sequence[Sample], samples: Sequence[Sample], given: int, scale: int, multiplier: int
) -> tuple[list[Sample], int, tuple[int, int], Refusal | None]:
    """Compile a circuit of the size that a build would take, with tables for what was seen and half as much again.

    Gives the extremes that it runs on, how many of all inputs it does not run on, and the range of its look-ups.
    """
    probe = trial.settings(scale, multiplier)
    if isinstance(probe, Refusal):
        return [], 0, (0, 0), probe
    low, high = 0, 0
    ends: list[Sample] = []
    running: list[Sample] = []
    for index, sample in enumerate([*extremes, *samples]):
        witness = trial.witness(sample)
        if isinstance(witness, Refusal):
            continue
        if index < len(extremes):
            ends.append(sample)
        elif len(running) < min(given, _TRIED):
            running.append(sample)
        low, high = min(low, witness.min_lookup), max(high, witness.max_lookup)
    lookup = table_range((low, high))
    for logrows in _LOGROWS:
        rows = 2**logrows - BLINDING_ROWS
        is_wide = probe.total_assignments > rows * _MAX_BLOCKS or probe.instances > rows
        if is_wide or (probe.required_lookups and lookup[1] - lookup[0] > 4 * rows):
            continue
        for legs in _LEGS:
            made = trial.settings(
                scale,
                multiplier,
                logrows=logrows,
                lookup_range=list(lookup),
                decomp_base=2**logrows - RESERVED_ROWS,
                decomp_legs=legs,
            )
            if isinstance(made, Refusal):
                return [], 0, lookup, made
            if all(_runs(trial, sample) is None for sample in running):
                break
        kept = [sample for sample in ends if _runs(trial, sample) is None]
        holes = sum(_runs(trial, sample) is not None for sample in samples[given : given + _TRIED])
        return kept, len(extremes) - len(kept) + holes, lookup, None
    raise CircuitError(
        "C-unsatisfiable",
        "the constraints cannot be checked: the circuit needs more rows or larger tables than a proof could have",
        expected=f"at most 2^{_LOGROWS[-1]} rows",
        found=f"{probe.total_assignments} cells, look-ups from {lookup[0]} to {lookup[1]}",
        do="Make the model smaller, or scale its inputs so that look-ups see smaller values.",
    )


def _runs(trial: Trial, sample: Sample) -> Refusal | None:
    witness = trial.witness(sample)
    return witness if isinstance(witness, Refusal) else None


def _provable(trial: Trial, sample: Sample) -> Refusal | None:
    return _runs(trial, sample) or trial.mock()


def _drawn(
    inputs: Sequence[Tensor],
    ranges: Sequence[Range],
    step: int,
    generator: np.random.Generator,
    share: float,
) -> Sample:
    made = []
    for tensor, span in zip(inputs, ranges, strict=True):
        low, high = span.doubled(step)
        middle, half = (low + high) / 2, (high - low) / 2 * share
        made.append(typed(generator.uniform(middle - half, middle + half), tensor))
    return tuple(made)


def _spans(inputs: Sequence[Tensor], ranges: Sequence[Range], step: int) -> tuple[Span, ...]:
    made: list[Span] = []
    for tensor, span in zip(inputs, ranges, strict=True):
        low, high = span.doubled(step)
        names = [f"{tensor.name}[{column}]" for column in range(span.columns)] or [tensor.name]
        made.extend(
            Span(name=name, least=f"{low[index]:.6g}", greatest=f"{high[index]:.6g}")
            for index, name in enumerate(names)
        )
    return tuple(made)
