"""The search: fidelity first, then cost; stopped at any time it keeps the best, and goes on from its cache."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from circuits import ezkl_runner
from circuits.ezkl_runner import Failure, Limits, Outcome
from circuits.ezkl_session import Session
from circuits.fidelity import Fidelity
from circuits.float_model import FloatModel
from circuits.model import Model, Tensor
from circuits.parsing import parse_model
from circuits.run_arguments import RESERVED_ROWS, RunArguments
from circuits.settings import Settings, read_settings
from circuits.tuner import data_sets
from circuits.tuner.cost import Machine, layout
from circuits.tuner.probe import Look, Probes, Scales
from circuits.tuner.search import Goal, Search
from circuits.tuner.search_cache import SearchCache
from tests.circuits.conftest import ModelBytes
from verifier.errors import CircuitError
from verifier.statement.manifest import JOB_LIMB_BITS, MAX_CODE_BYTES, MAX_PROOF_BYTES


def settings_of(inner: int, base: int, legs: int, *, rows: int = 400, instances: int = 17) -> Settings:
    """Settings as gen_settings gives them for a small model without lookups."""
    return msgspec.convert(
        {
            "run_args": {"num_inner_cols": inner, "lookup_range": [-4, 4]},
            "num_rows": rows * legs,
            "total_assignments": rows * legs,
            "total_const_size": 3,
            "total_dynamic_col_size": 0,
            "num_dynamic_lookups": 0,
            "num_shuffles": 0,
            "total_shuffle_col_size": 0,
            "model_instance_shapes": [[1, instances]],
            "model_output_scales": [0],
            "model_input_scales": [0, 0],
            "required_lookups": [],
            "module_sizes": {"poseidon": [0, [0]]},
            "required_range_checks": [[-1, 1], [0, base - 1]],
            "input_types": ["F32", "Int"],
            "version": "23.0.5",
        },
        Settings,
    )


class FakeProbes:
    """Answers as ezkl would for a model whose error halves with each bit of scale."""

    count, cached = 8, 0
    broken: tuple[int, ...] = ()

    def __init__(self, *, rows: int = 400, instances: int = 17, stop_at: int = 1 << 30, lookup: Any = None) -> None:
        self.rows_, self.instances, self.stop_at, self.lookup = rows, instances, stop_at, lookup
        self.asked: list[tuple[Scales, int]] = []
        self.mocked: list[RunArguments] = []

    def look(self, scales: Scales, count: int) -> Look:
        self.asked.append((scales, count))
        if len(self.asked) == self.stop_at:
            raise KeyboardInterrupt
        error = 2.0 ** -min(scales.inputs, scales.params) * (1.0 if count < self.count else 1.1)
        return Look(Fidelity(count, error, error / 2, 1.0, 1.0, 0), error, self.lookup)

    def bits(self, scales: Scales) -> int:
        return max(JOB_LIMB_BITS + 1, scales.inputs + scales.params + 4)

    def unprovable(self, run_args: RunArguments) -> str | None:
        self.mocked.append(run_args)
        return "Equality constraint not satisfied" if run_args.scale_rebase_multiplier in self.broken else None

    def rows(self, _: Scales, inner: int, base: int, legs: int) -> Settings:
        return settings_of(inner, base, legs, rows=self.rows_, instances=self.instances)


def search(probes: FakeProbes, **changes: Any) -> Search:
    asked = {
        "visibility": "public",
        "goal": Goal(error=0.01, agreement=1.0),
        "target": "closable",
        "max_seconds": 60.0,
    } | changes
    machine = asked.pop("machine", Machine())
    return Search(probes, machine, **asked)  # type: ignore[arg-type] # FakeProbes stands for Probes


def test_the_least_scales_that_are_faithful_on_all_samples_win() -> None:
    """Trap: a scale that is right on the few samples of the bisection and wrong on the rest."""
    probes = FakeProbes()
    found = search(probes).run()
    best = found.candidates[0]
    assert found.stopped == ""
    assert best.run_args.input_scale == best.run_args.param_scale == 7  # 2^-7 * 1.1 < 0.01 < 2^-6
    assert best.fidelity.samples == probes.count
    assert all(each.run_args.value_bound >= 1 << each.bits - 1 for each in found.candidates)
    seconds = [each.seconds(Machine()) for each in found.candidates]
    assert min(seconds) + 0.05 >= seconds[0]
    assert seconds[-8:] == sorted(seconds[-8:])


def test_among_layouts_that_are_as_fast_the_least_gas_wins() -> None:
    """Trap: three hundredths of a second saved for 110,000 gas more in each close by proof."""
    machine = Machine(seconds_a_term=(0.2, 0.2))
    found = search(FakeProbes(), machine=machine).run().candidates
    seconds, gas = [each.seconds(machine) for each in found], [each.layout.gas for each in found]
    alike = [cost for spent, cost in zip(seconds, gas, strict=True) if spent <= min(seconds) + 0.05]
    assert gas[0] == min(alike) < max(alike)
    assert min(seconds) < seconds[0] <= min(seconds) + 0.05
    assert gas[: len(alike)] == sorted(alike)
    assert seconds[len(alike) :] == sorted(seconds[len(alike) :])


def test_no_base_needs_a_second_table_column() -> None:
    """Trap: a base above 2^k - 8 gets a second column at twice the price."""
    for each in search(FakeProbes()).run().candidates:
        assert each.run_args.decomp_base <= 2**each.run_args.logrows - RESERVED_ROWS


def test_an_interrupt_keeps_the_best_so_far() -> None:
    """Trap: Ctrl-C after minutes of search must not throw away what was found."""
    found = search(FakeProbes(stop_at=12)).run()
    assert found.stopped == "interrupted"
    assert found.candidates
    with pytest.raises(KeyboardInterrupt):
        search(FakeProbes(stop_at=2)).run()


@pytest.mark.parametrize("at", ["rows", "unprovable"])
def test_an_interrupt_among_the_first_layouts_keeps_those_that_are_there(at: str, monkeypatch: Any) -> None:
    """Trap: the layouts of the first scales take half of the time, and none of them was best before they were done."""
    probes = FakeProbes()
    true, calls = getattr(probes, at), []

    def interrupted(*asked: Any) -> Any:
        calls.append(asked)
        if len(calls) == (5 if at == "rows" else 1):
            raise KeyboardInterrupt
        return true(*asked)

    monkeypatch.setattr(probes, at, interrupted)
    found = search(probes).run()
    assert found.stopped == "interrupted"
    assert found.candidates


def test_the_time_ends_the_search_with_the_best_so_far() -> None:
    ticks: Iterator[float] = iter(range(100_000))
    found = search(FakeProbes(), max_seconds=60.0, clock=lambda: float(next(ticks))).run()
    assert found.stopped == "out of time"
    assert found.candidates
    with pytest.raises(CircuitError) as caught:
        search(FakeProbes(), max_seconds=1.0, clock=lambda: float(next(ticks))).run()
    assert "--max-seconds" in caught.value.do


def test_progress_says_how_much_is_left_and_the_best_so_far() -> None:
    told: list[str] = []
    search(FakeProbes(), progress=told.append).run()
    assert all(" s left: scale " in each for each in told)
    assert "best k" in told[-1]


def test_only_off_chain_circuits_may_have_large_verifiers() -> None:
    """Trap: the cheapest proof has a verifier that no chain holds."""
    wide = {"rows": 30_000}
    closable = search(FakeProbes(**wide)).run().candidates
    offchain = search(FakeProbes(**wide), target="offchain").run().candidates
    assert max(each.layout.code_bytes for each in closable) <= MAX_CODE_BYTES * 1.1
    assert max(each.layout.proof_bytes for each in closable) <= MAX_PROOF_BYTES + 64, (
        "none of which no try can end well"
    )
    assert max(each.layout.code_bytes for each in offchain) > MAX_CODE_BYTES * 1.1
    assert offchain[0].seconds(Machine()) <= closable[0].seconds(Machine())
    with pytest.raises(CircuitError) as caught:
        search(FakeProbes(instances=1100)).run()
    assert caught.value.code == "C-closable"
    assert search(FakeProbes(instances=1100), target="offchain").run().candidates


def test_what_does_not_fit_the_machine_is_refused_with_the_number() -> None:
    """Trap: a proof that is killed for memory after minutes, and takes the worker with it."""
    with pytest.raises(CircuitError) as caught:
        search(FakeProbes(), machine=Machine(memory_bytes=32 << 20)).run()
    assert caught.value.code == "C-machine"
    assert "GB predicted" in caught.value.found


def test_a_goal_that_no_scale_meets_is_refused() -> None:
    """Trap: an operator that is computed differently is as wrong at any scale."""
    with pytest.raises(CircuitError) as caught:
        search(FakeProbes(), goal=Goal(error=1e-9, agreement=1.0)).run()
    assert caught.value.code == "C-unfaithful"
    assert "error 3.36e-05" in caught.value.found
    with pytest.raises(CircuitError):
        search(FakeProbes(), goal=Goal(error=1.0, agreement=1.0, elsewhere=1e-9)).run()


def test_scales_at_which_no_proof_holds_are_left_for_lower_ones() -> None:
    """Trap: at scale 13 x10 a LayerNormalization outgrows ezkl's integers: its witness is made, no proof holds."""
    probes = FakeProbes()
    probes.broken = (10,)
    found = search(probes).run()
    assert {each.run_args.scale_rebase_multiplier for each in found.candidates} == {3}
    probes.broken = (10, 3, 2, 1)
    with pytest.raises(CircuitError) as caught:
        search(probes).run()
    assert caught.value.code == "C-unsatisfiable"
    assert "Equality" in caught.value.found


def test_what_was_never_the_best_is_mocked_before_it_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trap: what costs least gas, or stands beside the best, need not hold because the best does."""
    first = search(FakeProbes()).run().candidates[0]
    other = first._replace(run_args=msgspec.structs.replace(first.run_args, scale_rebase_multiplier=2))
    probes = FakeProbes()
    probes.broken = (10,)
    asked = search(probes)
    monkeypatch.setattr(asked, "_search", lambda: asked._keep([first, other]))
    assert asked.run().candidates == (other,)
    probes.broken = (10, 2)
    again = search(probes)
    monkeypatch.setattr(again, "_search", lambda: again._keep([first, other]))
    with pytest.raises(CircuitError) as caught:
        again.run()
    assert caught.value.code == "C-unsatisfiable"


def test_what_comes_first_was_mocked_and_each_choice_of_scales_once() -> None:
    """Trap: what costs least gas was never the fastest, so nobody had asked whether it holds; a mock takes seconds."""
    probes = FakeProbes(lookup=(-300, 500))
    first = search(probes, machine=Machine(seconds_a_term=(0.2, 0.2))).run().candidates[0].run_args
    mocked = [(each.input_scale, each.param_scale, each.scale_rebase_multiplier) for each in probes.mocked]
    assert (first.input_scale, first.param_scale, first.scale_rebase_multiplier) in mocked
    assert len(set(mocked)) == len(mocked)


def test_a_search_that_ran_out_of_time_says_so_and_not_what_it_had_refused_on_the_way() -> None:
    """Trap: after a first choice that no chain would hold, the end of the time read as if all had been tried."""
    ticks: Iterator[float] = iter(range(100_000))
    probes = FakeProbes(rows=3_000_000)
    with pytest.raises(CircuitError) as caught:
        search(probes, max_seconds=60.0, clock=lambda: float(next(ticks))).run()
    assert caught.value.code == "C-unfaithful"
    assert "--max-seconds" in caught.value.do
    assert "chain" in caught.value.found


def test_lookups_get_the_lowest_multiplier_first_and_a_margin() -> None:
    probes = FakeProbes(lookup=(-100, 300))
    best = search(probes).run().candidates[0]
    assert probes.asked[1][0].multiplier == 1
    assert (best.run_args.lookup_min, best.run_args.lookup_max) == (-300, 500)


@pytest.fixture(scope="module")
def parts(linear_model: ModelBytes) -> tuple[Model, data_sets.DataSets]:
    model = parse_model(linear_model())
    values = np.random.default_rng(5).uniform(-2, 2, (12, 1, 3)).astype(np.float32)
    return model, data_sets.split(tuple((each,) for each in values), model.inputs)


def real_search(parts: tuple[Model, data_sets.DataSets], folder: Path, session: Session, cache: SearchCache) -> Search:
    model, sets = parts
    extremes = (*sets.extremes, *sets.random)
    floats = FloatModel(model.static, model.inputs)
    probes = Probes(
        model,
        "public",
        samples=sets.tuning,
        extremes=extremes,
        floats=[floats.run(sample) for sample in (*sets.tuning, *extremes)],
        folder=folder,
        session=session,
        cache=cache,
    )
    return search(probes)  # type: ignore[arg-type] # the real one


def test_a_search_goes_on_from_its_cache(parts: tuple[Model, data_sets.DataSets], tmp_path: Path) -> None:
    """Trap: a half-written last line, as a kill leaves it, must not spoil the rest nor the next answer."""
    path = tmp_path / "search.jsonl"
    with Session(Limits()) as session:
        first = real_search(parts, tmp_path, session, SearchCache(path)).run()
        whole = path.read_bytes()
        path.write_bytes(whole[: len(whole) * 2 // 3])
        again = real_search(parts, tmp_path, session, SearchCache(path)).run()
    assert again.cached > first.cached
    assert [each.run_args for each in again.candidates] == [each.run_args for each in first.candidates]

    class Silent(Session):
        def ask(self, operation: dict[str, Any]) -> Outcome | Failure:
            raise AssertionError(operation)

    third = real_search(parts, tmp_path, Silent(Limits()), SearchCache(path)).run()
    assert [each.run_args for each in third.candidates] == [each.run_args for each in first.candidates]
    for line in path.read_text().splitlines()[-3:]:
        json.loads(line)


def test_a_session_outlives_a_refusal_a_death_and_a_hang(tmp_path: Path) -> None:
    """Traps: a panic must not end the search; a hang or an abort must not be taken for the next answer."""
    poseidon = {"name": "poseidon_hash", "message": [ezkl_runner.to_hex(1)]}
    with Session(Limits(wall_seconds=1.5)) as session:
        first = session.require(poseidon).value
        assert isinstance(session.ask({"name": "no such"}), Failure)
        assert session.require(poseidon).value == first
        with pytest.raises(CircuitError) as caught:
            session.ask({"name": "gen_srs", "srs": str(tmp_path / "k"), "logrows": 21})
        assert caught.value.code == "C-wall"
    with Session(Limits(wall_seconds=30)) as session:
        assert session.require(poseidon).value == first
        child = session._child
        assert child is not None
        child.kill()
        with pytest.raises(CircuitError) as caught:
            session.ask(poseidon)
        assert caught.value.code == "C-died"
        assert session.require(poseidon).value == first
    assert session._child is None


def test_samples_are_split_without_overlap() -> None:
    """Trap: scoring on what the search saw."""
    samples = tuple((np.full((1, 2), index, np.float32),) for index in range(12))
    sets = data_sets.split(samples, (Tensor("x", (1, 2), "float32"),))
    seen = [{float(sample[0][0, 0]) for sample in each} for each in (sets.tuning, sets.held_out, sets.acceptance)]
    assert [len(each) for each in seen] == [6, 4, 2]
    assert len(set.union(*seen)) == 12
    alone = data_sets.split(samples[:1], (Tensor("x", (1, 2), "float32"),))
    assert alone.tuning == alone.held_out == samples[:1]
    assert alone.acceptance == ()


def test_memory_and_seconds_follow_the_machine(tiny: Any) -> None:
    shape = layout(read_settings(tiny.folder.settings.read_bytes()), tiny.run_args.logrows)
    assert shape is not None
    slow = Machine(seconds_a_term=(2.0, 2.0), memory_a_byte=2.0, memory_bytes=8 << 30)
    assert slow.seconds(shape) == pytest.approx(2 * Machine().seconds(shape))
    assert slow.memory_of(shape) > Machine().memory_of(shape)
    assert slow.available_bytes == 7 << 30
    assert math.isclose(sum(shape.terms), Machine().seconds(shape))
