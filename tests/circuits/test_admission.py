"""The domain that a certificate states: searched beyond the samples, on the circuit itself, and never too wide."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from circuits import ezkl_runner
from circuits.build import Built
from circuits.check.domain import MAX_WIDENING, widened
from circuits.ezkl_runner import Outcome
from circuits.graph import TRIAL_JOB, raw_input
from circuits.model import Tensor
from circuits.ranges import Range
from circuits.samples import Sample
from verifier.statement.scalars import FIELD_MODULUS, FieldElement

INPUTS = (Tensor("x", (1, 4), "float32"),)
UNIT = [Range.of_tensor(INPUTS[0], -1.0, 1.0)]


class FakeCircuit:
    """A circuit that takes what a rule says, and can prove what another one says."""

    def __init__(
        self,
        takes: Callable[[Sample], bool] = lambda _: True,
        proves: Callable[[Sample], bool] = lambda _: True,
        seconds: float = 1.0,
    ) -> None:
        self._takes, self._proves, self._seconds = takes, proves, seconds

    def left(self) -> float:
        return self._seconds

    def takes(self, sample: Sample) -> bool:
        return self._takes(sample)

    def is_provable(self, sample: Sample) -> bool:
        return self._takes(sample) and self._proves(sample)


@pytest.mark.parametrize(
    ("circuit", "steps"),
    [
        (FakeCircuit(), MAX_WIDENING),
        (FakeCircuit(lambda sample: float(np.abs(sample[0]).max()) < 5), 2),
        (FakeCircuit(lambda sample: float(np.abs(sample[0]).max()) < 2), 0),
        # runs everywhere, but beyond 9 no constraint holds: a provider would lose the work
        (FakeCircuit(proves=lambda sample: float(np.abs(sample[0]).max()) < 9), 3),
        # all corners are taken, a slab inside the widest range is not
        (FakeCircuit(lambda sample: not 20 < float(np.abs(sample[0]).mean()) < 60), 4),
        (FakeCircuit(seconds=-1.0), 0),
    ],
)
def test_a_range_is_widened_as_far_as_all_of_it_is_taken(circuit: FakeCircuit, steps: int) -> None:
    assert widened(circuit, INPUTS, UNIT) == steps


def test_integers_are_not_widened() -> None:
    """Trap: they may be indices."""
    indices = Tensor("i", (1, 4), "int64")
    assert widened(FakeCircuit(), (indices,), [Range.of_tensor(indices, 0, 3)]) == 0


def test_a_certificate_states_more_than_the_samples_showed_and_all_of_it_can_be_proved(
    tiny: Built, tmp_path: Path
) -> None:
    (span,) = tiny.certificate.domain
    scale = int(tiny.compiled.manifest.inputs[0].scale)
    assert int(span.least) < -2 << scale
    assert int(span.greatest) > 2 << scale
    for value in (int(span.least), int(span.greatest)):
        tensors = [[FieldElement(value % FIELD_MODULUS)] * 3, [FieldElement(limb) for limb in TRIAL_JOB]]
        witness, compiled = tmp_path / "witness", tiny.folder.compiled
        asked = [ezkl_runner.gen_witness(raw_input(tensors), compiled, witness), ezkl_runner.mock(witness, compiled)]
        assert all(isinstance(answer, Outcome) for answer in ezkl_runner.run(asked))


def test_a_domain_keeps_look_ups_inside_their_table(looking_up: Built, tmp_path: Path) -> None:
    """Trap: an input below the table has a witness, and its proof never returns."""
    (span,), run_args = looking_up.certificate.domain, looking_up.run_args
    for value in (int(span.least), int(span.greatest)):
        tensors = [[FieldElement(value % FIELD_MODULUS)] * 3, [FieldElement(limb) for limb in TRIAL_JOB]]
        asked = [ezkl_runner.gen_witness(raw_input(tensors), looking_up.folder.compiled, tmp_path / "witness")]
        witness = ezkl_runner.read_witness(ezkl_runner.require(asked)[0])
        assert run_args.lookup_min <= witness.min_lookup <= witness.max_lookup <= run_args.lookup_max
