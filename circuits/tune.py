"""Chooses run arguments by the quick rule: fidelity first, then the cheapest layout whose code fits a chain.

Fidelity depends only on the scales and the multiplier; rows, columns, base and legs leave outputs alone to the last
digit. So the scales are settled on a probe circuit of any size, then the layout is arithmetic on its settings.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from circuits import ezkl_runner, fidelity
from circuits.cost import Layout, layout
from circuits.ezkl_runner import Failure, Limits, Outcome, Witness
from circuits.fidelity import Fidelity
from circuits.graph import circuit_graph, sample_input
from circuits.model import Model
from circuits.run_arguments import RESERVED_ROWS, RunArguments, ezkl_arguments
from circuits.samples import Array, Sample
from circuits.settings import Settings, read_settings
from verifier.errors import CircuitError
from verifier.statement.manifest import JOB_LIMB_BITS, MAX_CODE_BYTES, MAX_INSTANCES, MAX_PROOF_BYTES, Visibility

HEADROOM_BITS = 2
MAX_BITS = 96
LOGROWS = range(9, 17)
LEGS = range(1, 9)
_PLAIN_SCALES = (13,)
_LOOKUP_SCALES = (7, 10, 12)
_PLAIN_MULTIPLIER, _LOOKUP_MULTIPLIER = 10, 1
_PROBE_LOGROWS = 17
_PROBE_LOOKUP = 1 << 30
_LOOKUP_MARGIN = 4
_TOLERANCE = 1.1
"""A candidate is tried when its predicted code is at most this much too large: the true code decides."""


class Scales(NamedTuple):
    """The knobs that decide fidelity, what the probe showed with them, and the least bound that holds every sample."""

    scale: int
    multiplier: int
    bits: int
    lookup: tuple[int, int] | None
    fidelity: Fidelity


class Candidate(NamedTuple):
    """Run arguments and the layout predicted for them."""

    run_args: RunArguments
    layout: Layout


def choose_scales(  # noqa: PLR0913, PLR0917 - samples and extremes in, with what they are compared to
    model: Model,
    samples: Sequence[Sample],
    extremes: Sequence[Sample],
    floats: Sequence[tuple[Array, ...]],
    folder: Path,
    visibility: Visibility = "public",
) -> Scales:
    """The first scale of the quick rule at which the circuit is faithful on the samples, with bits and lookup range.

    Args:
        model: the model.
        samples: what fidelity is measured on.
        extremes: further inputs that the bound and the lookup range must hold.
        floats: the model's own outputs for `samples`.
        folder: a private folder for probe files.
        visibility: of the inputs.

    Raises:
        CircuitError: C-ezkl where ezkl does not take the model, C-bits where no bound holds the samples, C-unfaithful,
            C-closable where the circuit has more instances than the escrow takes.
    """
    probe = _Probe(model, folder, (*samples, *extremes), visibility)
    first = probe.settings(_PLAIN_SCALES[0], _PLAIN_MULTIPLIER, MAX_BITS)
    if first.instances > MAX_INSTANCES:
        raise CircuitError(
            "C-closable",
            "the escrow could not take a proof of this circuit: it has too many public values",
            expected=f"at most {MAX_INSTANCES} values of inputs, outputs and job id",
            found=str(first.instances),
            do="Give the model smaller inputs or outputs.",
        )
    lookups = bool(first.required_lookups)
    multiplier = _LOOKUP_MULTIPLIER if lookups else _PLAIN_MULTIPLIER
    refusal: CircuitError | None = None
    for scale in _LOOKUP_SCALES if lookups else _PLAIN_SCALES:
        bits, witnesses = probe.bisect(scale, multiplier)
        scales = probe.settings(scale, multiplier, bits).model_output_scales[: len(model.output_names)]
        found = fidelity.compare(witnesses[: len(samples)], floats, scales)
        try:
            fidelity.check_faithful(found, where=f"scale {scale}, the samples given")
        except CircuitError as error:
            refusal = error
            continue
        seen = [witness for witness in witnesses if (witness.min_lookup, witness.max_lookup) != (0, 0)]
        span = (min(w.min_lookup for w in seen), max(w.max_lookup for w in seen)) if seen else (-1, 1)
        return Scales(scale, multiplier, bits, span if lookups else None, found)
    raise refusal or CircuitError("C-unfaithful", "no scale of the quick rule was tried")


def candidates(model: Model, scales: Scales, folder: Path, visibility: Visibility = "public") -> Iterator[Candidate]:
    """Run arguments that hold the samples with headroom, from the cheapest predicted proof on.

    Only those whose proof and code could fit an escrow and a chain by prediction; the true code decides.
    """
    bits = max(scales.bits + HEADROOM_BITS, JOB_LIMB_BITS + 1)
    path = folder / "job.onnx"
    path.write_bytes(circuit_graph(model, visibility))
    found = []
    for legs in LEGS:
        base = max(2, math.ceil(2 ** (bits / legs)))
        fitting = [logrows for logrows in LOGROWS if base <= 2**logrows - RESERVED_ROWS]
        if not fitting:
            continue
        settings = _settings(path, folder, _arguments(scales, fitting[0], base, legs, visibility))
        for logrows in fitting:
            shape = layout(settings, logrows)
            if shape is not None and _may_fit(shape):
                found.append(Candidate(_arguments(scales, logrows, base, legs, visibility), shape))
    if not found:
        raise CircuitError(
            "C-closable",
            "no layout of this model gives a verifier that a chain would hold",
            expected=f"code below {MAX_CODE_BYTES} bytes at k up to {LOGROWS[-1]}",
            do="Make the model smaller, or drop softmax and argmax: prove logits.",
        )
    yield from sorted(found, key=lambda candidate: candidate.layout.prove_seconds)


def _may_fit(shape: Layout) -> bool:
    return shape.code_bytes <= MAX_CODE_BYTES * _TOLERANCE and shape.proof_bytes <= MAX_PROOF_BYTES * _TOLERANCE


def _arguments(scales: Scales, logrows: int, base: int, legs: int, visibility: Visibility) -> RunArguments:
    low, high = scales.lookup or (-_LOOKUP_MARGIN, _LOOKUP_MARGIN)
    margin = max(_LOOKUP_MARGIN, (high - low) // 2) if scales.lookup else 0
    return RunArguments(
        visibility=visibility,
        input_scale=scales.scale,
        param_scale=scales.scale,
        scale_rebase_multiplier=scales.multiplier,
        lookup_min=low - margin,
        lookup_max=high + margin,
        logrows=logrows,
        num_inner_cols=1,
        decomp_base=base,
        decomp_legs=legs,
    )


def _settings(model: Path, folder: Path, run_args: RunArguments) -> Settings:
    path = folder / "candidate.json"
    ezkl_runner.require([ezkl_runner.gen_settings(model, path, run_args.to_ezkl())])
    return read_settings(path.read_bytes())


class _Probe:
    """A circuit that is never set up: only witnesses are made with it, so two legs of a huge base are cheap."""

    def __init__(self, model: Model, folder: Path, samples: Sequence[Sample], visibility: Visibility) -> None:
        self._model = folder / "probe.onnx"
        self._model.write_bytes(circuit_graph(model, visibility))
        self._folder = folder
        self._visibility: Visibility = visibility
        self._inputs = [sample_input(sample, visibility) for sample in samples]

    def settings(self, scale: int, multiplier: int, bits: int) -> Settings:
        path = self._folder / "probe.json"
        ezkl_runner.require([ezkl_runner.gen_settings(self._model, path, self._arguments(scale, multiplier, bits))])
        return read_settings(path.read_bytes())

    def bisect(self, scale: int, multiplier: int) -> tuple[int, list[Witness]]:
        """The least bits whose bound 2^bits holds every sample, and the witnesses at that bound."""
        low, high = 1, MAX_BITS
        best = self._witnesses(scale, multiplier, high)
        if isinstance(best, Failure):
            raise CircuitError(
                "C-bits",
                "the circuit runs on some sample with no bound at all",
                expected=f"values below 2^{MAX_BITS}",
                found=ezkl_runner.cause(best),
                do="Look whether the model divides by zero or takes a logarithm there; scale the inputs.",
            )
        while high - low > 1:
            middle = (low + high) // 2
            tried = self._witnesses(scale, multiplier, middle)
            if isinstance(tried, Failure):
                low = middle
            else:
                high, best = middle, tried
        return high, best

    def _witnesses(self, scale: int, multiplier: int, bits: int) -> list[Witness] | Failure:
        settings, compiled, witness = (self._folder / f"probe.{each}" for each in ("json", "compiled", "witness"))
        head = [
            ezkl_runner.gen_settings(self._model, settings, self._arguments(scale, multiplier, bits)),
            ezkl_runner.compile_model(self._model, settings, compiled),
        ]
        inputs = [ezkl_runner.gen_witness(sample, compiled, witness) for sample in self._inputs]
        outcomes = ezkl_runner.run([*head, *inputs], Limits(wall_seconds=300))
        if isinstance(outcomes[-1], Failure):
            if len(outcomes) <= len(head):
                raise CircuitError("C-ezkl", "ezkl refuses the model", found=ezkl_runner.cause(outcomes[-1]))
            return outcomes[-1]
        return [ezkl_runner.read_witness(each) for each in outcomes[len(head) :] if isinstance(each, Outcome)]

    def _arguments(self, scale: int, multiplier: int, bits: int) -> dict[str, object]:
        return ezkl_arguments(
            input_visibility=self._visibility,
            input_scale=scale,
            param_scale=scale,
            scale_rebase_multiplier=multiplier,
            lookup_range=[-_PROBE_LOOKUP, _PROBE_LOOKUP],
            logrows=_PROBE_LOGROWS,
            num_inner_cols=1,
            decomp_base=math.isqrt((1 << bits) - 1) + 1,
            decomp_legs=2,
        )
