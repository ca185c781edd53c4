"""A compiled circuit against the model in floating point: on held-out samples, on extremes, on an acceptance set.

Integers that the circuit computed are compared with floats that onnxruntime computed; constraints are mocked where the
range ends. A circuit that is not the model, or that some input in the samples' range would make unprovable, is refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from circuits import ezkl_runner, fidelity
from circuits.ezkl_runner import Failure, Limits, Outcome, Witness
from circuits.fidelity import Fidelity, Floats
from circuits.graph import sample_input
from circuits.samples import Sample
from circuits.tuner.data_sets import DataSets
from verifier.errors import CircuitError
from verifier.statement.certificates import Acceptance
from verifier.statement.manifest import CircuitManifest
from verifier.statement.scalars import Count
from verifier.tensors import quantise

_LIMITS = Limits(wall_seconds=600)


class Compared(NamedTuple):
    """What held-out samples showed, the acceptance set's part of the certificate, and every witness that was made."""

    held_out: Fidelity
    acceptance: Acceptance | None
    witnesses: tuple[Witness, ...]


def compare(manifest: CircuitManifest, compiled: Path, floats: Floats, sets: DataSets) -> Compared:
    """Held-out samples by error and argmax, then random and extreme inputs by error alone: those have near ties.

    Raises:
        CircuitError: C-unfaithful, C-domain, C-quantise.
    """
    scales = [int(spec.scale) for spec in manifest.outputs]
    every = (*sets.held_out, *sets.extremes, *sets.random)
    witnesses = witnesses_of(manifest, compiled, every)
    count = len(sets.held_out)
    found = fidelity.compare(witnesses[:count], [floats.run(sample) for sample in sets.held_out], scales)
    fidelity.check_faithful(found, where="held-out samples")
    if every[count:]:
        rest = fidelity.compare(witnesses[count:], [floats.run(sample) for sample in every[count:]], scales)
        fidelity.check_faithful(rest, where="random and extreme inputs", ranked=False)
    accepted = accept(manifest, compiled, floats, sets.acceptance) if sets.acceptance else None
    return Compared(found, accepted, tuple(witnesses))


def accept(manifest: CircuitManifest, compiled: Path, floats: Floats, samples: Sequence[Sample]) -> Acceptance:
    """The float model against the circuit on a set that the search never saw: against quantisation backdoors.

    A model may be made so that it behaves in floats and misbehaves once quantised; who chooses this set sees that, as
    far as the set goes. Nothing is refused here: the policy says how much is too much.
    """
    scales = [int(spec.scale) for spec in manifest.outputs]
    witnesses = witnesses_of(manifest, compiled, samples)
    found = fidelity.compare(witnesses, [floats.run(sample) for sample in samples], scales)
    max_error, _, agreement = fidelity.measures(found)
    return Acceptance(
        samples_sha256=fidelity.samples_sha256(samples),
        samples=Count(found.samples),
        max_error=max_error,
        agreement=agreement,
    )


def witnesses_of(manifest: CircuitManifest, compiled: Path, samples: Sequence[Sample]) -> list[Witness]:
    """The witness of each sample, whose integers are those that a payer would send; C-domain, C-quantise."""
    witness = compiled.with_name("compare.witness")
    written = [sample_input(sample, manifest.visibility) for sample in samples]
    outcomes = ezkl_runner.run([ezkl_runner.gen_witness(each, compiled, witness) for each in written], _LIMITS)
    if isinstance(outcomes[-1], Failure):
        raise CircuitError(
            "C-domain",
            "the circuit does not take an input within the range of the samples",
            where=f"input {len(outcomes) - 1} of {len(samples)}",
            found=ezkl_runner.cause(outcomes[-1]),
            do="Give samples that show the largest values, or scale the model's inputs.",
        )
    witnesses = [ezkl_runner.read_witness(outcome) for outcome in outcomes if isinstance(outcome, Outcome)]
    _check_quantisation(manifest, samples, witnesses)
    return witnesses


def _check_quantisation(manifest: CircuitManifest, samples: Sequence[Sample], witnesses: Sequence[Witness]) -> None:
    """What ezkl made of the floats must be what a payer will send, or every job would be refused."""
    for sample, witness in zip(samples, witnesses, strict=True):
        for spec, array, found in zip(manifest.inputs, sample, witness.inputs[:-1], strict=True):
            wanted = quantise(array.reshape(-1).tolist(), scale=int(spec.scale), dtype=spec.dtype)
            if wanted != found[: spec.size]:
                raise CircuitError(
                    "C-quantise", "ezkl quantises an input differently from a payer", where=str(spec.name)
                )


def mock(manifest: CircuitManifest, compiled: Path, sets: DataSets) -> None:
    """Check each constraint at the extremes and on a sample; C-unsatisfiable."""
    witness = compiled.with_name("mock.witness")
    operations = []
    for sample in (*sets.corners, sets.held_out[0]):
        written = sample_input(sample, manifest.visibility)
        operations.append(ezkl_runner.gen_witness(written, compiled, witness))
        operations.append(ezkl_runner.mock(witness, compiled))
    outcomes = ezkl_runner.run(operations, _LIMITS)
    if isinstance(outcomes[-1], Failure):
        raise CircuitError(
            "C-unsatisfiable",
            "the circuit has inputs within the samples' range that it runs on but cannot prove",
            where=f"extreme input {len(outcomes) // 2}",
            found=ezkl_runner.cause(outcomes[-1]),
            do="Leave out the operator that fails there (a division, a root, a logarithm) or narrow the inputs' range.",
        )
