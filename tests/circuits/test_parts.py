"""The small parts of a build: run arguments, settings, samples, fidelity, cost, SRS and solc."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from circuits import ezkl_runner, fidelity, solidity, srs
from circuits.build import Built
from circuits.ezkl_runner import Limits, Outcome, Witness
from circuits.model import Tensor
from circuits.parsing import parse_model
from circuits.run_arguments import RunArguments, read_run_arguments
from circuits.samples import ezkl_input, read_samples
from circuits.settings import canonical_settings, generate, read_settings
from circuits.tuner.cost import layout
from verifier.errors import CircuitError
from verifier.statement import canonical
from verifier.statement.scalars import TensorInt

INPUTS = (Tensor("x", (1, 3), "float32"),)


@pytest.mark.parametrize(
    "changes",
    [
        {"decomp_base": 1},
        {"decomp_base": 1 << 40},
        {"decomp_legs": 0},
        {"decomp_base": 2, "decomp_legs": 8},
        {"logrows": 30},
        {"num_inner_cols": 9},
        {"lookup_min": 5, "lookup_max": 5},
        {"lookup_max": 1 << 40},
        {"input_scale": 40},
        {"scale_rebase_multiplier": 0},
        {"visibility": "private"},
        {"disable_freivalds": False},
    ],
)
def test_no_knob_leaves_its_bounds(tiny: Built, changes: dict[str, object]) -> None:
    """Trap: gen_settings accepts a base of 1 or 2^40, and setup never returns."""
    raw = canonical.encode(canonical.to_builtins(tiny.run_args) | changes)
    with pytest.raises(CircuitError) as caught:
        read_run_arguments(raw)
    assert caught.value.code == "C-run-args"


def test_every_visibility_is_set(tiny: Built) -> None:
    """Trap: ezkl's defaults changed between versions; `private` params give one key for any weights."""
    arguments = tiny.run_args.to_ezkl()
    visibilities = {name: value for name, value in arguments.items() if name.endswith("visibility")}
    assert visibilities == {
        "input_visibility": "public",
        "output_visibility": "public",
        "param_visibility": "fixed",
    }
    assert arguments["disable_freivalds"] is True
    assert arguments["ignore_range_check_inputs_outputs"] is False
    written = read_settings(tiny.folder.settings.read_bytes()).run_args
    for name in ("decomp_base", "decomp_legs", "logrows", "input_scale", "disable_freivalds", "num_inner_cols"):
        assert written[name] == arguments[name]


def test_run_arguments_read_back(tiny: Built) -> None:
    assert read_run_arguments(canonical.encode(tiny.run_args)) == tiny.run_args
    assert isinstance(msgspec.structs.replace(tiny.run_args, logrows=10), RunArguments)


def test_settings_in_another_order_are_the_same(tiny: Built) -> None:
    """Trap: the order of two arrays differs from run to run and changes the verifying key."""
    raw = tiny.folder.settings.read_bytes()
    value = json.loads(raw)
    assert value["timestamp"] == 0
    value["timestamp"] = 12345
    value["required_range_checks"].reverse()
    assert canonical_settings(json.dumps(dict(reversed(value.items()))).encode()) == raw
    for bad in (b"", b"[]", b"{}", b"[" * 100_000):
        with pytest.raises(CircuitError):
            canonical_settings(bad)


def test_samples_are_read_from_three_formats(tmp_path: Path) -> None:
    table = np.arange(12, dtype=np.float32).reshape(4, 3) / 8
    (tmp_path / "one.json").write_text(json.dumps({"input_data": [table[0].tolist()]}))
    (tmp_path / "flat.json").write_text(json.dumps({"input_data": [table.reshape(-1).tolist()]}))
    (tmp_path / "many.json").write_text(json.dumps([{"input_data": [row.tolist()]} for row in table]))
    np.savez(tmp_path / "named.npz", x=table)
    np.savez(tmp_path / "other.npz", anything=table)
    rows = "\n".join(",".join(str(value) for value in row) for row in table)
    (tmp_path / "plain.csv").write_text(rows)
    (tmp_path / "titled.csv").write_text("a,b,c\n" + rows + "\n")
    assert np.array_equal(read_samples(tmp_path / "one.json", INPUTS)[0][0], table[:1])
    for name in ("flat.json", "many.json", "named.npz", "other.npz", "plain.csv", "titled.csv"):
        samples = read_samples(tmp_path / name, INPUTS)
        assert len(samples) == 4
        assert np.array_equal(np.concatenate([sample[0] for sample in samples]), table)
        assert samples[0][0].dtype == np.float32
    assert json.loads(ezkl_input((table[:1],), (1,) * 11))["input_data"][1] == [1] * 11


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.json", b"{"),
        ("b.json", b'{"input_data": [[1, 2]]}'),
        ("c.json", b'{"input_data": [[1, 2, 3], [4]]}'),
        ("d.json", b'{"input_data": [[1, 2, NaN]]}'),
        ("e.json", b'{"input_data": [["a", "b", "c"]]}'),
        ("f.json", b'{"input_data": [[1, 2, 1e39]]}'),
        ("g.json", b'{"input_data": [[]]}'),
        ("h.json", b"[" * 200_000),
        ("i.csv", b"1,2\n3,4\n"),
        ("j.csv", b"1,2,x\n"),
        ("k.npz", b"PK\x05\x06"),
        ("l.txt", b"1,2,3"),
    ],
)
def test_other_samples_are_refused(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CircuitError) as caught:
        read_samples(tmp_path / name, INPUTS)
    assert caught.value.code == "C-samples"


def test_pickled_arrays_are_not_loaded(tmp_path: Path) -> None:
    """Trap: a pickle in an .npz runs code when it is read."""
    np.savez(tmp_path / "samples.npz", x=np.array([[object(), 1, 2]], dtype=object))
    with pytest.raises(CircuitError) as caught:
        read_samples(tmp_path / "samples.npz", INPUTS)
    assert caught.value.code == "C-samples"


def witness_of(*outputs: int) -> Witness:
    return Witness((), (), (tuple(TensorInt(value) for value in outputs),), 0, 0, 0.0)


def test_fidelity_counts_error_and_argmax() -> None:
    floats = [(np.array([[0.0, 1.0]]),), (np.array([[2.0, 0.0]]),)]
    found = fidelity.compare([witness_of(0, 4), witness_of(8, 1)], floats, [2])
    assert (found.samples, found.max_error, found.agreement, found.span) == (2, 0.25, 1.0, 2.0)
    with pytest.raises(CircuitError) as caught:
        fidelity.check_faithful(found, where="here")
    assert caught.value.code == "C-unfaithful"
    swapped = fidelity.compare([witness_of(4, 0), witness_of(0, 8)], floats, [2])
    assert swapped.agreement == 0.0


def test_ranks_between_near_equal_outputs_of_the_model_are_ties() -> None:
    """Trap: a tree ensemble gives equal scores, and which of two equal numbers is first is nobody's statement."""
    near, far = [(np.array([[0.0, 1.0, 1.00005]]),)], [(np.array([[0.0, 1.0, 1.001]]),)]
    tied = fidelity.compare([witness_of(0, 5, 4)], near, [2])
    assert (tied.agreement, tied.ties, tied.ranked) == (0.0, 1, 1.0)
    changed = fidelity.compare([witness_of(0, 5, 4)], far, [2])
    assert (changed.agreement, changed.ties, changed.ranked) == (0.0, 0, 0.0)
    right = fidelity.compare([witness_of(0, 4, 5)], far, [2])
    assert (right.agreement, right.ties, right.ranked) == (1.0, 0, 1.0)


def test_a_circuit_with_other_outputs_is_refused() -> None:
    """Trap: a reshape that ezkl does otherwise gives more or fewer values."""
    with pytest.raises(CircuitError) as caught:
        fidelity.compare([witness_of(0, 4, 4)], [(np.array([[0.0, 1.0]]),)], [2])
    assert caught.value.code == "C-shape"


def test_constant_outputs_show_nothing() -> None:
    """Trap: a constant output passes at any scale."""
    same = [(np.array([1.0, 0.0]),)] * 3
    with pytest.raises(CircuitError) as caught:
        fidelity.check_not_constant(same)
    assert caught.value.code == "C-constant"
    fidelity.check_not_constant([*same, (np.array([1.0, 0.5]),)])


def test_the_certificate_never_promises_more_than_was_measured(tiny: Built) -> None:
    certificate = tiny.certificate
    assert certificate.samples == 4
    assert certificate.acceptance is not None
    assert certificate.acceptance.samples == 2
    assert certificate.acceptance.samples_sha256 != certificate.samples_sha256
    assert float(certificate.mean_error) <= float(certificate.max_error)
    domain = certificate.domain[0]
    assert domain.least < 0 < domain.greatest
    assert certificate.rewrites == ("input opgate_job added",)


def test_the_prediction_is_near_the_circuit(tiny: Built) -> None:
    """Sizes are exact arithmetic, so they must be near; seconds are the machine's and are not compared."""
    predicted, measured = tiny.cost.predicted, tiny.cost.measured
    assert int(predicted.gas) == pytest.approx(int(measured.gas), rel=0.05)
    assert int(predicted.code_bytes) == pytest.approx(int(measured.code_bytes), rel=0.05)
    assert int(predicted.pk_bytes) == pytest.approx(int(measured.pk_bytes), rel=0.05)
    assert 0.85 * int(measured.memory_bytes) <= int(predicted.memory_bytes) <= 1.4 * int(measured.memory_bytes)
    shape = layout(read_settings(tiny.folder.settings.read_bytes()), tiny.run_args.logrows)
    assert shape is not None
    assert shape.proof_bytes == int(tiny.folder.manifest().proof_len)


def test_a_relative_store_works_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The default home is relative, and the ezkl child runs in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    assert srs.development_srs(Path("relative"), 1).is_file()


def test_the_k1_part_is_the_same_ceremonys(srs_store: Path, tmp_path: Path) -> None:
    """Trap: verify with k = 1 of another ceremony refuses honest proofs; an all-zero SRS accepts forged ones."""
    smallest = srs.development_srs(tmp_path / "srs", 1)
    assert srs.derive_k1(smallest) == smallest.read_bytes()
    assert len(srs.derive_k1(next(iter(srs_store.glob("kzg*.srs"))))) == 516
    zero = tmp_path / "zero"
    zero.write_bytes((1).to_bytes(4, "little") + bytes(512))
    mixed = tmp_path / "mixed"
    other = next(iter(srs_store.glob("kzg*.srs"))).read_bytes()
    mixed.write_bytes(smallest.read_bytes()[:-128] + other[-128:])
    short = tmp_path / "short"
    short.write_bytes(smallest.read_bytes()[:-1])
    for bad in (zero, mixed, short):
        with pytest.raises(CircuitError) as caught:
            srs.derive_k1(bad)
        assert caught.value.code == "C-srs"


def test_a_development_ceremony_is_kept(tmp_path: Path) -> None:
    """Trap: gen_srs makes another one at each call, under which nothing verifies any more."""
    first = srs.development_srs(tmp_path / "srs", 2).read_bytes()
    assert srs.development_srs(tmp_path / "srs", 2).read_bytes() == first
    with pytest.raises(CircuitError):
        srs.development_srs(tmp_path / "srs", 27)


SOURCE = """
// SPDX-License-Identifier: MIT
pragma solidity ^0.8.0;
contract Named {{ function f(uint256 a) public pure returns (uint256) {{ return a + 1; }} }} // {comment}
"""


def test_code_does_not_depend_on_file_name_or_comment(tmp_path: Path) -> None:
    """Trap: without appendCBOR false the hash depends on the file's name."""
    codes = set()
    for name in ("a.sol", "another_name.sol"):
        (tmp_path / name).write_text(SOURCE.format(comment=name))
        codes.add(solidity.compile_runtime(tmp_path / name))
    assert len(codes) == 1


def test_solidity_that_does_not_compile_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "bad.sol").write_text("contract {")
    with pytest.raises(CircuitError) as caught:
        solidity.compile_runtime(tmp_path / "bad.sol")
    assert caught.value.code == "C-solidity"


def test_another_solc_or_none_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trap: other versions give other code."""
    monkeypatch.setenv("OPGATE_NODE_MODULES", str(tmp_path))
    with pytest.raises(CircuitError) as caught:
        solidity.find_solc()
    assert "npm install" in caught.value.do
    (tmp_path / "solc").mkdir()
    (tmp_path / "solc" / "package.json").write_text('{"version": "0.8.21"}')
    with pytest.raises(CircuitError) as caught:
        solidity.find_solc()
    assert (caught.value.code, caught.value.found) == ("C-solc", "0.8.21")


def test_node_is_found_beside_python_when_it_is_not_on_path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert solidity.find_node().name == "node"


def test_settings_are_made_by_one_thread(tiny: Built, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trap: with two threads ezkl counted other rows in 3 of 25 runs of a convolutional model."""
    asked = []
    require = ezkl_runner.require

    def record(operations: list[dict[str, Any]], limits: Limits) -> list[Outcome]:
        asked.append(limits.threads)
        return require(operations, limits)

    monkeypatch.setattr(ezkl_runner, "require", record)
    model = tmp_path / "model.onnx"
    model.write_bytes(parse_model(tiny.folder.model.read_bytes()).with_job)
    made = generate(model, tiny.run_args, tmp_path, Limits(threads=2))
    assert asked == [1, 1]
    assert made == tiny.folder.settings.read_bytes()
