"""A machine's constants: fitted on what was measured, judged on what was left out, kept in a file."""

from __future__ import annotations

from pathlib import Path

import pytest

from circuits.ezkl_runner import Limits
from circuits.ezkl_session import Session
from circuits.float_model import FloatModel
from circuits.parsing import parse_model
from circuits.tuner import bench
from circuits.tuner.bench import Case, Measured
from circuits.tuner.cost import Layout, Machine, physical_memory, read_machine, write_machine
from circuits.tuner.probe import Probes
from circuits.tuner.search_cache import SearchCache
from verifier.errors import CircuitError


def shape(logrows: int, lookups: int, degree: int = 5) -> Layout:
    return Layout(
        logrows=logrows,
        advice=3,
        lookups=lookups,
        permuted=5,
        fixed=6 + lookups,
        degree=degree,
        rotations=2,
        instances=27,
        hashed=degree == 6,
    )


SHAPES = (shape(9, 2), shape(11, 2), shape(12, 3), shape(11, 2, 6), shape(12, 4), shape(13, 2), shape(14, 2))


def test_a_fit_finds_a_machine_again() -> None:
    """A machine twice as slow in all, and one that is slow in the commitments alone."""
    for factors in ((2.0, 2.0), (1.0, 3.0)):
        true = Machine(seconds_a_term=factors, base_bytes=50 << 20, memory_a_byte=1.2)
        measured = [Measured(each, true.seconds(each), true.memory_of(each)) for each in SHAPES]
        fitted = bench.fit("it", measured)
        for each in SHAPES:
            assert fitted.seconds(each) == pytest.approx(true.seconds(each), rel=0.15)
            assert 0.99 <= fitted.memory_of(each) / true.memory_of(each) <= 1.25
        assert fitted.memory_bytes == physical_memory()


def test_memory_is_fitted_to_the_worst_that_was_seen() -> None:
    """Trap: a prediction that is right on the average sends half of the proofs into the kernel's killer."""
    true = Machine()
    measured = [
        Measured(each, true.seconds(each), true.memory_of(each) * (100 + 20 * (index % 2)) // 100)
        for index, each in enumerate(SHAPES)
    ]
    fitted = bench.fit("it", measured)
    assert all(fitted.memory_of(each.shape) >= each.peak_bytes - 1 for each in measured)


def test_constants_are_kept_and_damage_is_said(tmp_path: Path) -> None:
    path = tmp_path / "home" / "machine.json"
    assert read_machine(path) == Machine()
    machine = Machine(name="mine", seconds_a_term=(1.5, 2.0), memory_bytes=1 << 30)
    write_machine(path, machine)
    assert read_machine(path) == machine
    path.write_text('{"name": 3}')
    with pytest.raises(CircuitError) as caught:
        read_machine(path)
    assert caught.value.code == "C-machine-file"
    assert "opgate circuit bench" in caught.value.do


@pytest.mark.parametrize("case", [Case("Relu", "public", 9, 1), Case("Sigmoid", "public", 9, 2)])
def test_the_circuits_that_are_timed_can_be_proved(case: Case, tmp_path: Path) -> None:
    """Trap: a look-up outside its table has a witness, and proving it hangs; at a small k it shows."""
    model = parse_model(bench._model(case.activation))
    floats = FloatModel(model.static, model.inputs)
    with Session(Limits()) as session:
        probes = Probes(
            model,
            "public",
            samples=[bench.SAMPLE],
            extremes=[],
            floats=[floats.run(bench.SAMPLE)],
            folder=tmp_path,
            session=session,
            cache=SearchCache(),
        )
        assert probes.unprovable(bench.run_arguments(case)) is None


def test_a_bench_that_proved_too_little_fits_nothing(srs_store: Path) -> None:
    """One tiny circuit is really proved."""
    told: list[str] = []
    with pytest.raises(CircuitError) as caught:
        bench.bench(srs_store, name="it", cases=(Case("Relu", "public", 9, 1),), progress=told.append)
    assert caught.value.code == "C-bench"
    assert told[0].startswith("circuit 1 of 1 (Relu, public, k=9")
