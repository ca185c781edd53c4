"""Searches run arguments: fidelity first, then the cheapest proof that a chain can check.

For each multiplier the least scales that meet the goal, then the least bound, then every layout of columns, base and
legs by prediction from its settings. It can be stopped at any time and keeps the best; it goes on from its cache.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

from circuits.fidelity import Fidelity
from circuits.run_arguments import RunArguments
from circuits.settings import Settings
from circuits.tuner.cost import Layout, Machine
from circuits.tuner.layouts import Target, layouts
from circuits.tuner.probe import Look, Probes, Scales
from verifier.errors import CircuitError
from verifier.statement.manifest import MAX_CODE_BYTES, MAX_INSTANCES, Visibility

GREATEST_SCALE = 15
FEW = 4
"""Samples on which scales are bisected; those that are found are then confirmed on all."""
_PLAIN_MULTIPLIERS = (10, 3, 2, 1)
_LOOKUP_MULTIPLIERS = (1, 2, 3, 10)
"""Rescaling costs rows, so a high multiplier wins; a lookup's table doubles with each bit, so there a low one does."""
_FIRST_SCALE = {False: 13, True: 7}
_BETTER = 0.97
"""Another choice of scales must be predicted to be at least this much cheaper to be worth another set of keys."""
_ALIKE = 0.05
"""Seconds that are no reason to choose: a tenth of what a child takes to start. Gas is paid for each close by proof."""

Progress = Callable[[str], None]


class Goal(NamedTuple):
    """What a circuit's outputs must be on the samples: an absolute error and a share of equal argmax, ties apart.

    `elsewhere` is the largest error on extreme and random inputs in the samples' range.
    """

    error: float
    agreement: float
    elsewhere: float = math.inf

    def met_by(self, found: Fidelity, elsewhere: float = 0.0) -> bool:
        """Whether a measurement meets it."""
        return found.max_error <= self.error and found.ranked >= self.agreement and elsewhere <= self.elsewhere


class Candidate(NamedTuple):
    """Run arguments, what they showed on the samples of the search, and what a proof is predicted to cost."""

    run_args: RunArguments
    fidelity: Fidelity
    bits: int
    layout: Layout

    def seconds(self, machine: Machine) -> float:
        """Predicted seconds of a proof."""
        return machine.seconds(self.layout)


class Found(NamedTuple):
    """Candidates by predicted seconds, how the search went, and why it ended."""

    candidates: tuple[Candidate, ...]
    probes: int
    cached: int
    seconds: float
    stopped: Literal["", "interrupted", "out of time"]


class _OutOfTime(Exception):  # noqa: N818 - it is no error: the search keeps what it has
    """The search's own end."""


class Search:
    """One search; `run` may be interrupted (SIGINT) and then gives what it has."""

    def __init__(  # noqa: PLR0913 - a goal, a target and their bounds, each by keyword
        self,
        probes: Probes,
        machine: Machine,
        *,
        visibility: Visibility,
        goal: Goal,
        target: Target,
        max_seconds: float,
        progress: Progress = lambda _: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Ask nothing yet."""
        self._probes, self._machine, self._visibility = probes, machine, visibility
        self._goal, self._target = goal, target
        self._progress, self._clock = progress, clock
        self._begun = clock()
        self._deadline = self._begun + max_seconds
        self._asked, self._planned = 0, 1
        self._candidates: dict[bytes, Candidate] = {}
        self._best: Candidate | None = None
        self._refusal: CircuitError | None = None
        self._mocked: dict[Scales, bool] = {}

    def run(self) -> Found:
        """Search to the end, to the time's end or to an interrupt.

        Raises:
            CircuitError: C-unfaithful where no scales meet the goal, C-closable where no chain could check the circuit,
                C-machine where no layout fits this machine's memory; C-bits and C-ezkl from ezkl.
            KeyboardInterrupt: where nothing was found before the interrupt.
        """
        stopped: Literal["", "interrupted", "out of time"] = ""
        try:
            self._search()
        except _OutOfTime:
            stopped = "out of time"
        except KeyboardInterrupt:
            if self._best is None:
                raise
            stopped = "interrupted"
        ordered = self._ordered()
        while ordered and not stopped and not self._holds(ordered[0]):
            wrong = _scales_of(ordered[0].run_args)
            ordered = tuple(each for each in ordered if _scales_of(each.run_args) != wrong)
        if not ordered:
            if not stopped and self._refusal is not None:
                raise self._refusal
            raise CircuitError(
                "C-unfaithful",
                "nothing was found in the time given",
                where=f"{self._asked} probes",
                found=self._refusal.message if self._refusal else "",
                do="Give the search more time: --max-seconds.",
            )
        return Found(ordered, self._asked, self._probes.cached, self._clock() - self._begun, stopped)

    def _search(self) -> None:
        first = self._look(Scales(GREATEST_SCALE - 3, GREATEST_SCALE - 3, 1), FEW)
        lookups = first is not None and first.lookup is not None
        multipliers = _LOOKUP_MULTIPLIERS if lookups else _PLAIN_MULTIPLIERS
        self._planned = 8 * len(multipliers) + 8
        tried: list[tuple[Scales, Look]] = []
        for turn, multiplier in enumerate(multipliers):
            try:
                found = self._least(multiplier, lookups=lookups)
            except CircuitError as error:
                self._refusal = error
                continue
            self._planned = self._asked + 8 * (len(multipliers) - 1 - turn) + 8
            if found is None:
                continue
            if not self._may_be_cheaper(found[0], tried, lookups=lookups) or self._lay_out(*found):
                tried.append(found)
        if not tried:
            raise self._refusal or self._unfaithful(lookups=lookups)
        self._narrow(tried)

    def _least(self, multiplier: int, *, lookups: bool) -> tuple[Scales, Look] | None:
        """The least common scale that meets the goal with a multiplier: bisected on few samples, confirmed on all.

        None where the greatest scale does not meet it. The quick rule's scale is asked first.
        """
        low, high = 0, GREATEST_SCALE + 1
        middle = _FIRST_SCALE[lookups]
        while high - low > 1:
            look = self._look(Scales(middle, middle, multiplier), FEW)
            if look is not None and self._goal.met_by(look.fidelity):
                high = middle
            else:
                low = middle
            middle = (low + high) // 2
        for scale in range(high, GREATEST_SCALE + 1):
            scales = Scales(scale, scale, multiplier)
            look = self._look(scales, self._probes.count)
            if look is not None and self._goal.met_by(look.fidelity, look.elsewhere):
                return scales, look
        return None

    def _may_be_cheaper(self, scales: Scales, tried: Sequence[tuple[Scales, Look]], *, lookups: bool) -> bool:
        """A lower multiplier rescales more often; without lookups that pays only where it needs fewer bits."""
        return lookups or all(self._probes.bits(scales) < self._probes.bits(other) for other, _ in tried)

    def _narrow(self, tried: Sequence[tuple[Scales, Look]]) -> None:
        """Lower the scale of the inputs or of the weights alone, from the best choice on, as long as the goal holds."""
        best = self._best
        if best is None:
            return
        start = next(
            scales
            for scales, _ in tried
            if (scales.inputs, scales.multiplier) == (best.run_args.input_scale, best.run_args.scale_rebase_multiplier)
        )
        for change in (Scales(0, -1, 0), Scales(-1, 0, 0)):
            scales = start
            while True:
                scales = Scales(scales.inputs + change.inputs, scales.params + change.params, scales.multiplier)
                if min(scales.inputs, scales.params) < 0:
                    break
                look = self._look(scales, self._probes.count)
                if look is None or not self._goal.met_by(look.fidelity, look.elsewhere):
                    break
                before = self._best
                if not self._lay_out(scales, look) or self._best is before:
                    break  # cheaper in bits, but not in rows: the next one would not be either

    def _look(self, scales: Scales, count: int) -> Look | None:
        if self._clock() > self._deadline:
            raise _OutOfTime
        self._asked += 1
        self._tell(str(scales))
        return self._probes.look(scales, min(count, self._probes.count))

    def _lay_out(self, scales: Scales, look: Look) -> bool:
        """All layouts of these scales that could be checked and fit the machine; the cheapest is the new best.

        False where they would be better and no proof at these scales holds.
        """
        bits = self._probes.bits(scales)
        least_memory = None
        fresh: list[Candidate] = []
        try:
            for run_args, shape in layouts(
                scales, bits, look.lookup, rows=self._rows, visibility=self._visibility, target=self._target
            ):
                memory = self._machine.memory_of(shape)
                if memory > self._machine.available_bytes:
                    least_memory = min(memory, least_memory or memory)
                    continue
                fresh.append(Candidate(run_args, look.fidelity, bits, shape))
            if not fresh:
                self._refusal = self._refusal or self._refused(least_memory)
                return True
            cheapest = min(fresh, key=self._cost)
            holds = not self._is_better(cheapest) or self._holds(cheapest)
        except (_OutOfTime, KeyboardInterrupt):
            self._keep(fresh)  # what is compiled of them in the end is mocked there
            raise
        if holds:
            self._keep(fresh)
        return holds

    def _holds(self, candidate: Candidate) -> bool:
        """Whether proofs at these scales hold: constraints are the same in each layout, so one of them is mocked."""
        scales = _scales_of(candidate.run_args)
        if scales not in self._mocked:
            why = self._probes.unprovable(candidate.run_args)
            if why is not None:
                self._refusal = _unsatisfiable(scales, why)
            self._mocked[scales] = why is None
        return self._mocked[scales]

    def _is_better(self, candidate: Candidate) -> bool:
        return self._best is None or candidate.seconds(self._machine) < _BETTER * self._best.seconds(self._machine)

    def _keep(self, fresh: Sequence[Candidate]) -> None:
        self._candidates |= {bytes(each.run_args.sha256): each for each in fresh}
        cheapest = min(fresh, key=self._cost, default=None)
        if cheapest is not None and self._is_better(cheapest):
            self._best = cheapest

    def _rows(self, scales: Scales, inner: int, base: int, legs: int) -> Settings:
        if self._clock() > self._deadline:
            raise _OutOfTime
        return self._probes.rows(scales, inner, base, legs)

    def _ordered(self) -> tuple[Candidate, ...]:
        """By cost; among those that take as long as the first one, the verifier that costs least gas comes first."""
        if not self._candidates:
            return ()
        ordered = sorted(self._candidates.values(), key=self._cost)
        alike = [each for each in ordered if each.seconds(self._machine) <= ordered[0].seconds(self._machine) + _ALIKE]
        return (*sorted(alike, key=lambda each: each.layout.gas), *ordered[len(alike) :])

    def _cost(self, candidate: Candidate) -> tuple[float, int]:
        """Seconds, then the key: of layouts that cost the same the smaller key is read faster."""
        return candidate.seconds(self._machine), candidate.layout.pk_bytes

    def _tell(self, doing: str) -> None:
        spent = self._clock() - self._begun
        left = min(self._deadline - self._clock(), spent / self._asked * max(0, self._planned - self._asked))
        best = ""
        if self._best is not None:
            best = f"; best {describe(self._best.run_args)}: {self._best.seconds(self._machine):.2f} s predicted"
        self._progress(
            f"search {self._asked} of about {max(self._planned, self._asked)}, {left:.0f} s left: {doing}{best}"
        )

    def _unfaithful(self, *, lookups: bool) -> CircuitError:
        multiplier = (_LOOKUP_MULTIPLIERS if lookups else _PLAIN_MULTIPLIERS)[0]
        look = self._look(Scales(GREATEST_SCALE, GREATEST_SCALE, multiplier), self._probes.count)
        found = "the circuit takes none of the samples"
        if look is not None:
            found = f"error {look.fidelity.max_error:.3g}, equal argmax {look.fidelity.ranked:.1%}"
        return CircuitError(
            "C-unfaithful",
            "no scale makes the circuit as faithful as asked: some operator is computed differently",
            where=f"scales up to {GREATEST_SCALE}, {self._probes.count} samples",
            expected=f"error at most {self._goal.error:.3g}, equal argmax {self._goal.agreement:.1%}",
            found=found,
            do="See which node differs: opgate circuit check MODEL --data D. Or ask for less: --fidelity.",
        )

    def _refused(self, least_memory: int | None) -> CircuitError:
        if least_memory is not None:
            return CircuitError(
                "C-machine",
                "no layout of this model can be proved in this machine's memory",
                expected=f"at most {self._machine.available_bytes / 1e9:.1f} GB",
                found=f"{least_memory / 1e9:.1f} GB predicted for the smallest",
                do="Use a larger machine, make the model smaller, or lower --fidelity.",
            )
        return CircuitError(
            "C-closable",
            "no layout of this model gives a verifier that a chain would hold",
            expected=f"code below {MAX_CODE_BYTES} bytes, at most {MAX_INSTANCES} values of inputs, outputs and job id",
            do="Make the model smaller, prove logits instead of softmax and argmax, hash its inputs, "
            "ask for less (--fidelity), or build with --target offchain: such circuits cannot be sold.",
        )


def _scales_of(run_args: RunArguments) -> Scales:
    return Scales(run_args.input_scale, run_args.param_scale, run_args.scale_rebase_multiplier)


def _unsatisfiable(scales: Scales, why: str) -> CircuitError:
    return CircuitError(
        "C-unsatisfiable",
        "the circuit runs on inputs within the samples' range that it cannot prove",
        where=str(scales),
        found=why[:300],
        do="Leave out the operator that fails there (a division, a root, a logarithm), or narrow the samples' range.",
    )


def describe(run_args: RunArguments) -> str:
    """The knobs in one short line: ``k11 c1 913^6 s13 x10``."""
    scale = (
        f"{run_args.input_scale}"
        if run_args.input_scale == run_args.param_scale
        else f"{run_args.input_scale}/{run_args.param_scale}"
    )
    return (
        f"k{run_args.logrows} c{run_args.num_inner_cols} {run_args.decomp_base}^{run_args.decomp_legs} "
        f"s{scale} x{run_args.scale_rebase_multiplier}"
    )
