"""What reads a model of another person: the confined child alone, where a circuit is built, rebuilt or compared too."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from circuits import parsing
from circuits.acceptance import accept
from circuits.build import Built, build
from circuits.check import reading
from circuits.check.confined import Bounds
from circuits.check.reading import outputs_of, read_model, read_with_samples
from circuits.float_model import FloatModel
from circuits.parsing import parse_model
from circuits.rebuild import rebuild
from tests.circuits.conftest import ModelBytes
from verifier.errors import CircuitError


def test_who_builds_rebuilds_or_proves_loads_no_parser() -> None:
    """Trap: onnx and onnxruntime parse in C++; a file of a stranger must not meet them in a process that matters."""
    loaded = (
        "import sys; import circuits.build, circuits.rebuild, circuits.acceptance, circuits.compile_check;"
        "import prover.infer, prover.run;"
        "print([name for name in ('onnx', 'onnxruntime', 'google.protobuf') if name in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", loaded], capture_output=True, check=True, text=True).stdout == "[]\n"


def test_a_rebuild_and_an_acceptance_parse_nothing_themselves(
    tiny: Built, srs_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def parsed(source: bytes) -> None:
        raise AssertionError("parsed in the process that matters")

    monkeypatch.setattr(parsing, "parse_model", parsed)
    assert rebuild(tiny.folder, srs_stores=(srs_store,), now=1).circuit_id == tiny.compiled.manifest.circuit_id
    np.savez(tmp_path / "mine.npz", x=np.random.default_rng(3).uniform(-2, 2, (4, 3)).astype(np.float32))
    assert accept(tiny.folder, tmp_path / "mine.npz").samples == 4


def test_the_child_reads_what_the_parser_reads(linear_model: ModelBytes, tmp_path: Path) -> None:
    source = linear_model(batch="N")
    rows = np.random.default_rng(3).uniform(-2, 2, (9, 3)).astype(np.float32)
    np.savez(tmp_path / "rows.npz", x=rows)
    read = read_with_samples(source, tmp_path / "rows.npz", split=False)
    assert read.model == parse_model(source)
    assert np.array_equal(np.concatenate([sample[0] for sample in read.samples]), rows)
    floats = FloatModel(read.model.static, read.model.inputs)
    for sample in read.samples:
        assert np.array_equal(read.truth.run(sample)[0], floats.run(sample)[0])
    assert outputs_of(read.model, read.samples[:1]).engine == read.truth.engine == "onnxruntime"


def endless() -> bytes:
    """A model that parses at once and counts to 2^62."""
    one = helper.make_tensor_value_info("v", TensorProto.FLOAT, [1, 3])
    body = helper.make_graph(
        [helper.make_node("Identity", ["c"], ["d"]), helper.make_node("Add", ["v", "v"], ["w"])],
        "body",
        [helper.make_tensor_value_info("i", TensorProto.INT64, []), helper.make_tensor_value_info("c", 9, []), one],
        [helper.make_tensor_value_info("d", 9, []), helper.make_tensor_value_info("w", TensorProto.FLOAT, [1, 3])],
    )
    graph = helper.make_graph(
        [helper.make_node("Loop", ["n", "yes", "x"], ["y"], body=body)],
        "loop",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 3])],
        [helper.make_tensor("n", TensorProto.INT64, [], [1 << 62]), helper.make_tensor("yes", 9, [], [True])],
    )
    model: onnx.ModelProto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    return bytes(model.SerializeToString())


def test_a_hostile_model_costs_a_build_its_child_only(
    srs_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "model.onnx").write_bytes(endless())
    np.savez(tmp_path / "rows.npz", x=np.ones((2, 3), np.float32))
    monkeypatch.setattr(reading, "BOUNDS", Bounds(wall_seconds=8.0))
    with pytest.raises(CircuitError) as caught:
        build(tmp_path / "model.onnx", tmp_path / "rows.npz", store=tmp_path / "circuits", srs_store=srs_store)
    assert caught.value.code == "C-wall"
    assert not (tmp_path / "circuits").exists()


@pytest.mark.parametrize("source", [b"", b"\xff" * 99, b"\x08\x07:\x00"], ids=["empty", "noise", "no graph"])
def test_the_childs_refusal_is_ours(source: bytes) -> None:
    with pytest.raises(CircuitError) as caught:
        read_model(source)
    assert caught.value.code.startswith("C-onnx")
    assert type(caught.value) is CircuitError
