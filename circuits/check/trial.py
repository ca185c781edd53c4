"""A graph in ezkl without keys: settings, and outputs on samples at some scale. Nothing is set up or proved."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from circuits import ezkl_runner
from circuits.check.causes import Node
from circuits.check.differential import dequantised
from circuits.ezkl_runner import Failure, Limits, Outcome, Witness
from circuits.ezkl_session import Session
from circuits.model import Tensor
from circuits.run_arguments import ezkl_arguments
from circuits.samples import Array, Sample, ezkl_input
from circuits.settings import Settings, read_settings
from verifier.errors import CircuitError

_LOGROWS = 17
_LOOKUP = 1 << 30
BITS = (32, 44, 64, 96)
"""Bounds of values, from narrow to wide: a circuit has the narrowest that its samples allow."""
SHARE_OF_TIME = 0.15
"""Of the seconds left, what one comparison may take."""
LEAST_SAMPLES = 4


class Graph(NamedTuple):
    """A graph with the job input, as ezkl takes it; `outputs` counts its outputs."""

    path: Path
    inputs: tuple[Tensor, ...]
    nodes: tuple[Node, ...]
    outputs: int


class Refusal(NamedTuple):
    """What ezkl would not do, at which scale; `failure` is None where its process ended without an answer."""

    words: str
    failure: Failure | None
    scale: int = 13
    multiplier: int = 10


class Trial:
    """Trials of one graph in one session."""

    def __init__(self, graph: Graph, folder: Path, session: Session, left: Callable[[], float]) -> None:
        """`left` gives the seconds left, or raises C-wall."""
        self.graph = graph
        self.folder = folder
        self.left = left
        self._session = session
        self._settings = folder / "trial.json"
        self.compiled = folder / "trial.compiled"
        self._witness = folder / "trial.witness"
        self.refusal: Refusal | None = None
        """The last refusal of an input."""
        self.refusals = 0
        self.bits = BITS[-1]

    def ask(self, operation: dict[str, object]) -> Outcome | Failure | CircuitError:
        """One operation; a child that died is an answer too, and what is left of the time is looked at first."""
        left = self.left()
        try:
            return self._session.ask(operation, left)
        except CircuitError as error:
            if error.code == "C-wall":
                raise
            return error

    def settings(self, scale: int, multiplier: int, graph: Path | None = None, **knobs: object) -> Settings | Refusal:
        """Ezkl's settings of a graph, by default this one; with a bound that holds everything unless told otherwise."""
        arguments = ezkl_arguments(
            **{
                "input_scale": scale,
                "param_scale": scale,
                "scale_rebase_multiplier": multiplier,
                "lookup_range": [-_LOOKUP, _LOOKUP],
                "logrows": _LOGROWS,
                "num_inner_cols": 1,
                "decomp_base": math.isqrt((1 << self.bits) - 1) + 1,
                "decomp_legs": 2,
            }
            | knobs
        )
        path = graph or self.graph.path
        answer = self.ask(ezkl_runner.gen_settings(path, self._settings, arguments))
        if isinstance(answer, Outcome):
            answer = self.ask(ezkl_runner.compile_model(path, self._settings, self.compiled))
        if isinstance(answer, Failure):
            return Refusal(answer.error, answer, scale, multiplier)
        if isinstance(answer, CircuitError):
            return Refusal(f"{answer.message} ({answer.found[:200]})", None, scale, multiplier)
        return read_settings(self._settings.read_bytes())

    def witness(self, sample: Sample) -> Witness | Refusal:
        """The circuit that was compiled last, run on one sample."""
        answer = self.ask(ezkl_runner.gen_witness(ezkl_input(sample), self.compiled, self._witness))
        if isinstance(answer, Outcome):
            return ezkl_runner.read_witness(answer)
        if isinstance(answer, Failure):
            return Refusal(answer.error, answer)
        return Refusal(f"{answer.message} ({answer.found[:200]})", None)

    def mock(self) -> Refusal | None:
        """Check every constraint on the last witness; None where all hold."""
        answer = self.ask(ezkl_runner.mock(self._witness, self.compiled))
        if isinstance(answer, Outcome):
            return None
        if isinstance(answer, Failure):
            return Refusal(answer.error, answer)
        return Refusal(answer.message, None)

    def outputs(
        self, samples: Sequence[Sample], scale: int, multiplier: int, graph: Path | None = None, required: int = 0
    ) -> tuple[list[tuple[Array, ...] | None], list[int]] | Refusal:
        """The outputs on each sample and the outputs' scales; None where the circuit does not take a sample.

        Of a slow circuit only some samples are run, the kinds in turn; the others are None too, and `refusals` counts
        those that were refused. It ends at a refusal of one of the first `required` samples.
        """
        settings = self.settings(scale, multiplier, graph)
        if isinstance(settings, Refusal):
            return settings
        scales = list(settings.model_output_scales)
        made: list[tuple[Array, ...] | None] = [None] * len(samples)
        self.refusal, self.refusals = None, 0
        self._refused: set[int] = set()
        until = time.monotonic() + SHARE_OF_TIME * self.left()
        for turn, index in enumerate(_spread(len(samples))):
            if turn >= LEAST_SAMPLES and time.monotonic() > until:
                break
            witness = self.witness(samples[index])
            if isinstance(witness, Refusal):
                self.refusal = witness._replace(scale=scale, multiplier=multiplier)
                self.refusals += 1
                self._refused.add(index)
                if index < required or self.refusals == turn + 1 == LEAST_SAMPLES * 2:
                    break
                continue
            made[index] = dequantised(witness, scales)
        return made, scales

    def ran_or_left(self, index: int) -> bool:
        """Whether the last `outputs` did not see a sample refused."""
        return index not in self._refused

    def explained(self, refusal: Refusal) -> Failure:
        """The same refusal with ezkl's log at DEBUG, which names the operator that the exception hides."""
        failure = refusal.failure or Failure(refusal.words, ())
        arguments = ezkl_arguments(
            input_scale=refusal.scale,
            param_scale=refusal.scale,
            scale_rebase_multiplier=refusal.multiplier,
            lookup_range=[-_LOOKUP, _LOOKUP],
            logrows=_LOGROWS,
            num_inner_cols=1,
            decomp_base=math.isqrt((1 << self.bits) - 1) + 1,
            decomp_legs=2,
        )
        operations = [
            ezkl_runner.gen_settings(self.graph.path, self._settings, arguments),
            ezkl_runner.compile_model(self.graph.path, self._settings, self.compiled),
        ]
        try:
            outcomes = ezkl_runner.run(operations, Limits(wall_seconds=min(15.0, self.left())), debug=True)
        except CircuitError:
            return failure
        return outcomes[-1] if outcomes and isinstance(outcomes[-1], Failure) else failure


def _spread(count: int) -> list[int]:
    """All indices, far ones first: given, random and extreme samples stand one after another."""
    step = max(1, count // LEAST_SAMPLES)
    first = [*range(0, count, step), count - 1]
    return [*dict.fromkeys([*first, *range(count)])]
