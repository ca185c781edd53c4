"""Which inputs a finished circuit was shown to take: the domain of its certificate, beyond the samples where it can be.

The search is that of a check (`circuits.check.domain`), here on the very circuit that will be sold. Outside of it
nothing is said: a provider runs the witness of each job before it accepts.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from circuits import ezkl_runner
from circuits.check.domain import widened
from circuits.ezkl_runner import Failure, Limits, Outcome, Witness
from circuits.ezkl_session import Session
from circuits.graph import sample_input
from circuits.model import Tensor
from circuits.ranges import Range, corner
from circuits.run_arguments import RunArguments
from circuits.samples import Sample
from circuits.tuner.data_sets import DataSets
from verifier.errors import CircuitError

SECONDS = 20.0
"""A larger circuit, whose witnesses take seconds, is certified for less than it would take."""


def admitted(
    compiled: Path, run_args: RunArguments, inputs: Sequence[Tensor], sets: DataSets, limits: Limits
) -> tuple[Witness, ...]:
    """Witnesses at the two ends of the widest range of inputs that the circuit was shown to take.

    The range is that of the samples of the search, which its corners span, doubled as often as all corners and inputs
    inside run, with look-ups inside their table, and the constraints hold at the ends. None where that is never.
    """
    ends = zip(inputs, sets.corners[0], sets.corners[1], strict=True)
    ranges = [Range.of_tensor(tensor, low.min(), high.max()) for tensor, low, high in ends]
    with Session(limits) as session:
        prober = _Prober(compiled, run_args, session, time.monotonic() + SECONDS)
        steps = widened(prober, inputs, ranges)
        made = [prober.witness(corner(inputs, ranges, pattern, steps)) for pattern in (0, 1)] if steps else []
    return tuple(each for each in made if each is not None)


class _Prober:
    """A compiled circuit in a session; a child that died is an input that is not taken."""

    def __init__(self, compiled: Path, run_args: RunArguments, session: Session, deadline: float) -> None:
        self._compiled, self._run_args, self._session, self._deadline = compiled, run_args, session, deadline
        self._witness = compiled.with_name("domain.witness")

    def left(self) -> float:
        return self._deadline - time.monotonic()

    def witness(self, sample: Sample) -> Witness | None:
        written = sample_input(sample, self._run_args.visibility)
        answer = self._ask(ezkl_runner.gen_witness(written, self._compiled, self._witness))
        return ezkl_runner.read_witness(answer) if isinstance(answer, Outcome) else None

    def takes(self, sample: Sample) -> bool:
        witness = self.witness(sample)
        if witness is None:
            return False
        return self._run_args.lookup_min <= witness.min_lookup and witness.max_lookup <= self._run_args.lookup_max

    def is_provable(self, sample: Sample) -> bool:
        return self.takes(sample) and isinstance(self._ask(ezkl_runner.mock(self._witness, self._compiled)), Outcome)

    def _ask(self, operation: dict[str, object]) -> Outcome | Failure | None:
        try:
            return self._session.ask(operation)
        except CircuitError:
            return None
