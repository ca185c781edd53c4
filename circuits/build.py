"""From an ONNX file and samples to a circuit in a store: tuned, compiled, compared with the model, proved, certified.

A circuit that is not the model, that some input in the samples' range would make unprovable, or whose verifier no chain
would hold is refused before it is published.
"""

from __future__ import annotations

import os
import platform
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from circuits import compile as compiling
from circuits import ezkl_runner, fidelity, registry, srs, tune
from circuits.compile import Compiled
from circuits.cost import Layout
from circuits.ezkl_runner import Failure, Limits, Outcome, Witness
from circuits.fidelity import Fidelity
from circuits.float_model import FloatModel
from circuits.graph import sample_input
from circuits.model import Model, Tensor, read_model
from circuits.registry import CircuitFolder
from circuits.run_arguments import RunArguments
from circuits.samples import Array, Sample, read_samples
from verifier.errors import CircuitError
from verifier.statement.certificates import Cost, CostRecord, FidelityCertificate
from verifier.statement.manifest import MAX_CODE_BYTES, Visibility
from verifier.statement.scalars import Count, Measure, Text
from verifier.tensors import quantise

MAX_TUNING_SAMPLES = 48
MAX_HELD_OUT_SAMPLES = 192
RANDOM_SAMPLES = 8
MAX_ATTEMPTS = 6

Progress = Callable[[str], None]


class Built(NamedTuple):
    """A circuit in its store, and what was measured on the way. The records are not signed yet."""

    folder: CircuitFolder
    compiled: Compiled
    run_args: RunArguments
    certificate: FidelityCertificate
    cost: CostRecord


class _Sets(NamedTuple):
    """Samples for tuning and held-out ones, extreme and random inputs within the samples' range."""

    tuning: tuple[Sample, ...]
    held_out: tuple[Sample, ...]
    extremes: tuple[Sample, ...]
    random: tuple[Sample, ...]


def build(  # noqa: PLR0913 - two places to read, two to write, each by keyword
    onnx: Path,
    samples_file: Path,
    *,
    store: Path,
    srs_store: Path,
    inputs: Visibility = "public",
    is_open: bool = True,
    limits: Limits | None = None,
    progress: Progress = lambda _: None,
) -> Built:
    """Build a circuit and put it into a store.

    Args:
        onnx: the model.
        samples_file: EZKL's input.json, .npz or .csv.
        store: the folder of circuits.
        srs_store: where development SRS are kept.
        inputs: whether a proof shows the inputs, or their hash with a blind.
        is_open: whether the ONNX file may be public.
        limits: of each ezkl child.
        progress: told each step, in words.

    Raises:
        CircuitError: C-… with the step that refused and what to do.
    """
    model = read_model(registry.read_onnx(onnx, limit=1 << 28))
    bounds = limits or Limits(threads=os.cpu_count() or 1)
    sets = _split(read_samples(samples_file, model.inputs), model.inputs)
    floats = FloatModel(model)
    wanted = [floats.run(sample) for sample in sets.tuning]
    fidelity.check_not_constant(wanted)
    with tempfile.TemporaryDirectory(prefix="opgate-build-") as name:
        folder = Path(name)
        progress(f"scales and bits on {len(sets.tuning)} samples")
        scales = tune.choose_scales(model, sets.tuning, (*sets.extremes, *sets.random), wanted, folder, inputs)
        compiled, candidate, srs_file = _compile(model, scales, inputs, srs_store, folder, bounds, progress)
        progress(f"comparing with onnxruntime on {len(sets.held_out)} samples, random and extreme inputs")
        found, witnesses = _compare(compiled, floats, sets)
        progress("mock at the extremes")
        _mock(compiled, sets)
        progress("proving one sample and verifying it in the EVM and by ezkl")
        proved = _prove_one(compiled, sets.held_out[0], srs_file, bounds)
        cost = _cost(compiled, candidate.layout, proved)
        onto = registry.publish(store, compiled, candidate.run_args, model.source, srs_file, is_open=is_open)
    sizes = [tensor.size for tensor in model.inputs]
    seen = [tuple(tensor[:size] for tensor, size in zip(witness.inputs, sizes, strict=False)) for witness in witnesses]
    certificate = fidelity.certify(
        circuit_id=compiled.manifest.circuit_id,
        fidelity=found,
        samples=sets.held_out,
        domain=fidelity.value_ranges([spec.name for spec in compiled.manifest.inputs], seen),
        outputs=fidelity.value_ranges(
            [spec.name for spec in compiled.manifest.outputs], [witness.outputs for witness in witnesses]
        ),
        headroom_bits=max(0, int(compiled.manifest.value_bound).bit_length() - 1 - scales.bits),
        rewrites=model.rewrites,
    )
    return Built(onto, compiled, candidate.run_args, certificate, cost)


def _compile(  # noqa: PLR0913, PLR0917 - the inside of build
    model: Model,
    scales: tune.Scales,
    inputs: Visibility,
    srs_store: Path,
    folder: Path,
    limits: Limits,
    progress: Progress,
) -> tuple[Compiled, tune.Candidate, Path]:
    """The first candidate, cheapest first, whose true code and proof a chain and the escrow would take."""
    refusal: CircuitError | None = None
    for turn, candidate in enumerate(tune.candidates(model, scales, folder, inputs)):
        if turn == MAX_ATTEMPTS:
            break
        knobs = candidate.run_args
        progress(
            f"keys and code at k={knobs.logrows}, scale {knobs.input_scale}, "
            f"base {knobs.decomp_base}^{knobs.decomp_legs}"
        )
        work = folder / f"candidate-{turn}"
        work.mkdir(mode=0o700)
        srs_file = srs.development_srs(srs_store, knobs.logrows)
        keys = compiling.make_keys(model, knobs, srs_file, work, limits)
        if len(keys.code) > MAX_CODE_BYTES:
            refusal = CircuitError(
                "C-closable",
                "no chain would hold the verifier of the cheapest layouts",
                expected=f"at most {MAX_CODE_BYTES} bytes",
                found=f"{len(keys.code)} bytes",
                do="Make the model smaller.",
            )
            continue
        try:
            return compiling.finish(model, knobs, srs_file, keys, limits), candidate, srs_file
        except CircuitError as error:
            if error.code != "C-closable":
                raise
            refusal = error
    raise refusal or CircuitError("C-closable", "there is no layout to try")


def _split(samples: tuple[Sample, ...], inputs: tuple[Tensor, ...]) -> _Sets:
    """Every second sample is held out: scales, bits and ranges come from the others alone.

    One sample alone has to do for both, and then nothing is held out. The extreme and random inputs are tuned on too.
    """
    held_out = samples[1::2] or samples
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
    return _Sets(samples[::2][:MAX_TUNING_SAMPLES], held_out[:MAX_HELD_OUT_SAMPLES], extremes, drawn)


def _compare(compiled: Compiled, floats: FloatModel, sets: _Sets) -> tuple[Fidelity, list[Witness]]:
    """Held-out samples by error and argmax, then random and extreme inputs by error alone: those have near ties."""
    scales = [int(spec.scale) for spec in compiled.manifest.outputs]
    every = (*sets.held_out, *sets.extremes, *sets.random)
    witnesses = _witnesses(compiled, every)
    count = len(sets.held_out)
    found = fidelity.compare(witnesses[:count], [floats.run(sample) for sample in sets.held_out], scales)
    fidelity.check_faithful(found, where="held-out samples")
    rest = fidelity.compare(witnesses[count:], [floats.run(sample) for sample in every[count:]], scales)
    fidelity.check_faithful(rest, where="random and extreme inputs", ranked=False)
    _check_quantisation(compiled, every, witnesses)
    return found, witnesses


def _check_quantisation(compiled: Compiled, samples: Sequence[Sample], witnesses: Sequence[Witness]) -> None:
    """What ezkl made of the floats must be what a payer will send, or every job would be refused."""
    for sample, witness in zip(samples, witnesses, strict=True):
        for spec, array, found in zip(compiled.manifest.inputs, sample, witness.inputs[:-1], strict=True):
            wanted = quantise(array.reshape(-1).tolist(), scale=int(spec.scale), dtype=spec.dtype)
            if wanted != found[: spec.size]:
                raise CircuitError(
                    "C-quantise", "ezkl quantises an input differently from a payer", where=str(spec.name)
                )


def _witnesses(compiled: Compiled, samples: Sequence[Sample]) -> list[Witness]:
    files = compiled.keys.files
    operations = [
        ezkl_runner.gen_witness(
            sample_input(sample, compiled.manifest.visibility), files.compiled, files.folder / "compare.witness"
        )
        for sample in samples
    ]
    outcomes = ezkl_runner.run(operations, Limits(wall_seconds=600))
    if isinstance(outcomes[-1], Failure):
        raise CircuitError(
            "C-domain",
            "the circuit does not take an input within the range of the samples",
            where=f"input {len(outcomes) - 1} of {len(samples)}",
            found=ezkl_runner.cause(outcomes[-1]),
            do="Give samples that show the largest values, or scale the model's inputs.",
        )
    return [ezkl_runner.read_witness(outcome) for outcome in outcomes if isinstance(outcome, Outcome)]


def _mock(compiled: Compiled, sets: _Sets) -> None:
    files = compiled.keys.files
    witness = files.folder / "mock.witness"
    operations = []
    for sample in (*sets.extremes, sets.held_out[0]):
        written = sample_input(sample, compiled.manifest.visibility)
        operations.append(ezkl_runner.gen_witness(written, files.compiled, witness))
        operations.append(ezkl_runner.mock(witness, files.compiled))
    outcomes = ezkl_runner.run(operations, Limits(wall_seconds=600))
    if isinstance(outcomes[-1], Failure):
        raise CircuitError(
            "C-unsatisfiable",
            "the circuit has inputs within the samples' range that it runs on but cannot prove",
            where=f"extreme input {len(outcomes) // 2}",
            found=ezkl_runner.cause(outcomes[-1]),
            do="Leave the operator out (log, softmax), or narrow the range of the samples.",
        )


def _prove_one(compiled: Compiled, sample: Sample, srs_file: Path, limits: Limits) -> Outcome:
    """Prove a real sample; the code, with the manifest's own gas, and ezkl.verify must both accept it."""
    files = compiled.keys.files
    witness, proof = files.folder / "one.witness", files.folder / "one.proof"
    written = sample_input(sample, compiled.manifest.visibility)
    made = ezkl_runner.require([ezkl_runner.gen_witness(written, files.compiled, witness)])[0]
    done = ezkl_runner.prove(
        witness=witness, compiled=files.compiled, pk=files.pk, srs=srs_file, proof=proof, limits=limits
    )
    gas = compiling.measure_gas(compiled.keys.code, compiling.read_proof(proof), ezkl_runner.read_witness(made))
    if gas != compiled.manifest.evm.gas:
        raise CircuitError(
            "C-gas", "two proofs cost different gas", expected=str(compiled.manifest.evm.gas), found=str(gas)
        )
    ezkl_runner.verify(proof=proof, settings=files.settings, vk=files.vk, srs=files.srs_k1, limits=limits)
    return done


def _cost(compiled: Compiled, layout: Layout, proved: Outcome) -> CostRecord:
    return CostRecord(
        circuit_id=compiled.manifest.circuit_id,
        machine=machine(),
        predicted=Cost(
            prove_seconds=Measure.of(layout.prove_seconds, 3),
            memory_bytes=Count(layout.memory_bytes),
            pk_bytes=Count(layout.pk_bytes),
            gas=Count(layout.gas),
            code_bytes=Count(layout.code_bytes),
        ),
        measured=Cost(
            prove_seconds=Measure.of(proved.seconds, 3),
            memory_bytes=Count(proved.peak_bytes),
            pk_bytes=Count(compiled.keys.files.pk.stat().st_size),
            gas=compiled.manifest.evm.gas,
            code_bytes=Count(len(compiled.keys.code)),
        ),
    )


def machine() -> Text:
    """The kind of machine in words: system, architecture and cores; no name of it."""
    return Text(f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores")
