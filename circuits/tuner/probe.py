"""What a search asks of ezkl about one choice of scales: fidelity on samples, the least bound, the rows of a layout.

Fidelity depends only on the scales and the multiplier; rows, columns, base and legs leave outputs alone to the last
digit. So it is looked at on a circuit that is never set up: only witnesses are made with it. Answers are cached.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from circuits import ezkl_runner, fidelity
from circuits.ezkl_runner import Failure, Outcome, Witness
from circuits.ezkl_session import Session
from circuits.fidelity import Fidelity
from circuits.graph import circuit_graph, sample_input
from circuits.model import Model
from circuits.run_arguments import RunArguments, ezkl_arguments
from circuits.samples import Array, Sample
from circuits.settings import Settings, canonical_settings, read_settings
from circuits.tuner.search_cache import SearchCache
from verifier.errors import CircuitError
from verifier.statement import canonical
from verifier.statement.manifest import JOB_LIMB_BITS, Visibility

MAX_BITS = 96
"""No circuit of ours has a larger bound: 8 legs of 2^20 are not reached by any model that proves in an hour."""
HEADROOM_BITS = 2
LEAST_BITS = JOB_LIMB_BITS + 1
_CACHE = "2"
"""Of the answers' form: a cache of another one is not read."""
_PROBE_LOGROWS = 17
_PROBE_LOOKUP = 1 << 30


class Scales(NamedTuple):
    """The knobs that decide fidelity."""

    inputs: int
    params: int
    multiplier: int

    def __str__(self) -> str:
        """As people write it."""
        scale = f"{self.inputs}" if self.inputs == self.params else f"{self.inputs}/{self.params}"
        return f"scale {scale} x{self.multiplier}"


class Look(NamedTuple):
    """What a circuit of some scales computes on samples, and the range that its lookups saw; None without lookups.

    `elsewhere` is the largest error on extreme and random inputs, where they were run.
    """

    fidelity: Fidelity
    elsewhere: float
    lookup: tuple[int, int] | None


class Probes:
    """Probes of one model: the samples and their true outputs stay, the scales change."""

    def __init__(  # noqa: PLR0913 - what is compared with what, and by whom
        self,
        model: Model,
        visibility: Visibility,
        *,
        samples: Sequence[Sample],
        extremes: Sequence[Sample],
        floats: Sequence[tuple[Array, ...]],
        folder: Path,
        session: Session,
        cache: SearchCache,
    ) -> None:
        """`floats` are the model's own outputs for `samples`, then for `extremes`, of which no argmax is compared."""
        self.graph = folder / "search.onnx"
        self.graph.write_bytes(circuit_graph(model, visibility))
        self._outputs = len(model.output_names)
        self._visibility: Visibility = visibility
        self._inputs = [sample_input(sample, visibility) for sample in (*samples, *extremes)]
        self._floats, self._count = list(floats), len(samples)
        self._folder, self._session, self._cache = folder, session, cache

    @property
    def cached(self) -> int:
        """How many answers came from the cache."""
        return self._cache.hits

    @property
    def count(self) -> int:
        """The number of samples that are compared."""
        return self._count

    def look(self, scales: Scales, count: int) -> Look | None:
        """The first `count` samples; None where the circuit does not take one of them at these scales.

        Extremes are run where all samples are.

        Raises:
            CircuitError: C-shape, C-not-finite; C-ezkl where ezkl refuses the model at these scales.
        """
        key = ("look", *scales, count)
        kept = self._cache.get(key)
        if kept is None:
            kept = self._cache.put(key, self._look(scales, count))
        if not kept:
            return None
        return Look(Fidelity(*kept[:-2]), float(kept[-2]), tuple(kept[-1]) if kept[-1] else None)

    def _look(self, scales: Scales, count: int) -> list[Any]:
        settings = self._compile(scales, MAX_BITS)
        inputs = self._inputs if count >= self.count else self._inputs[:count]
        witnesses = self._witnesses(inputs)
        if isinstance(witnesses, Failure):
            return []
        output_scales = settings.model_output_scales[: self._outputs]
        found = fidelity.compare(witnesses[:count], self._floats[:count], output_scales)
        elsewhere = 0.0
        if len(witnesses) > count:
            elsewhere = fidelity.compare(witnesses[count:], self._floats[count:], output_scales).max_error
        seen = [each for each in witnesses if (each.min_lookup, each.max_lookup) != (0, 0)]
        span = [min(each.min_lookup for each in seen), max(each.max_lookup for each in seen)] if seen else [-1, 1]
        return [*found, elsewhere, span if settings.required_lookups else None]

    def bits(self, scales: Scales) -> int:
        """The least n such that a bound of 2^n holds every sample and extreme, with headroom; at least the job limbs'.

        Raises:
            CircuitError: C-bits where no bound does.
        """
        key = ("bits", *scales)
        kept = self._cache.get(key)
        return int(kept if kept is not None else self._cache.put(key, self._bisect(scales)))

    def _bisect(self, scales: Scales) -> int:
        low, high = LEAST_BITS - HEADROOM_BITS, MAX_BITS
        if not self._fails(scales, low):
            return LEAST_BITS
        failure = self._fails(scales, high)
        if failure:
            raise CircuitError(
                "C-bits",
                "the circuit runs on some sample with no bound at all",
                expected=f"values below 2^{MAX_BITS}",
                found=ezkl_runner.cause(failure),
                do="Look whether the model divides by zero or takes a logarithm there; scale the inputs.",
            )
        while high - low > 1:
            middle = min((low + high) // 2, low + 8)  # most circuits need few bits more than the least
            if self._fails(scales, middle):
                low = middle
            else:
                high = middle
        return high + HEADROOM_BITS

    def _fails(self, scales: Scales, bits: int) -> Failure | None:
        self._compile(scales, bits)
        witnesses = self._witnesses(self._inputs)
        return witnesses if isinstance(witnesses, Failure) else None

    def unprovable(self, run_args: RunArguments) -> str | None:
        """Why no proof of these inputs holds, though the circuit runs on them; None where every constraint does.

        The first sample and the inputs' two ends: scales that outgrow ezkl's integers show in each of them, a division
        at its pole in the ends. The finished circuit is mocked on more.
        """
        key = ("unprovable", str(run_args.sha256))
        kept = self._cache.get(key)
        if kept is None:
            kept = self._cache.put(key, self._mock(run_args))
        return str(kept) or None

    def _mock(self, run_args: RunArguments) -> str:
        compiled, witness = self._folder / "search.compiled", self._folder / "search.witness"
        self._session.require(ezkl_runner.gen_settings(self.graph, self._settings, run_args.to_ezkl()))
        self._session.require(ezkl_runner.compile_model(self.graph, self._settings, compiled))
        for written in (self._inputs[0], *self._inputs[self.count :][:2]):
            for operation in (
                ezkl_runner.gen_witness(written, compiled, witness),
                ezkl_runner.mock(witness, compiled),
            ):
                answer = self._session.ask(operation)
                if isinstance(answer, Failure):
                    return ezkl_runner.cause(answer)
        return ""

    def rows(self, scales: Scales, inner: int, base: int, legs: int) -> Settings:
        """The settings of a layout: its rows do not depend on k, nor on the lookup range."""
        key = ("rows", *scales, inner, base, legs)
        kept = self._cache.get(key)
        if kept is None:
            arguments = self._arguments(scales, base=base, legs=legs, inner=inner)
            self._session.require(ezkl_runner.gen_settings(self.graph, self._settings, arguments))
            kept = self._cache.put(key, canonical_settings(self._settings.read_bytes()).decode())
        return read_settings(str(kept).encode())

    @property
    def _settings(self) -> Path:
        return self._folder / "search.json"

    def _compile(self, scales: Scales, bits: int) -> Settings:
        base = math.isqrt((1 << bits) - 1) + 1
        arguments = self._arguments(scales, base=base, legs=2, inner=1)
        compiled = self._folder / "search.compiled"
        self._session.require(ezkl_runner.gen_settings(self.graph, self._settings, arguments))
        self._session.require(ezkl_runner.compile_model(self.graph, self._settings, compiled))
        return read_settings(self._settings.read_bytes())

    def _witnesses(self, inputs: Sequence[str]) -> list[Witness] | Failure:
        """All witnesses, or the first refusal; the input that was refused last is tried first the next time."""
        made: dict[int, Witness] = {}
        compiled, witness = self._folder / "search.compiled", self._folder / "search.witness"
        order = sorted(range(len(inputs)), key=lambda index: index != self._hardest)
        for index in order:
            answer = self._session.ask(ezkl_runner.gen_witness(inputs[index], compiled, witness))
            if not isinstance(answer, Outcome):
                self._hardest = index
                return answer
            made[index] = ezkl_runner.read_witness(answer)
        return [made[index] for index in range(len(inputs))]

    _hardest = 0

    def _arguments(self, scales: Scales, *, base: int, legs: int, inner: int) -> dict[str, object]:
        return ezkl_arguments(
            input_visibility=self._visibility,
            input_scale=scales.inputs,
            param_scale=scales.params,
            scale_rebase_multiplier=scales.multiplier,
            lookup_range=[-_PROBE_LOOKUP, _PROBE_LOOKUP],
            logrows=_PROBE_LOGROWS,
            num_inner_cols=inner,
            decomp_base=base,
            decomp_legs=legs,
        )


def cache_key(model: Model, visibility: Visibility, samples: Sequence[Sample], ezkl_version: str) -> str:
    """What a search's answers depend on: other bytes, samples or another ezkl start another cache."""
    parts = [_CACHE, model.with_job.hex(), visibility, str(fidelity.samples_sha256(samples)), ezkl_version]
    return canonical.sha256("\n".join(parts).encode()).hex()
