"""What `opgate circuit check` says: each verdict once, hostile files, causes that ezkl hides, and the JSON."""

from __future__ import annotations

import io
import json
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from typer.testing import CliRunner

from circuits.check import confined
from circuits.check.causes import Node, find_cause
from circuits.check.confined import Bounds
from circuits.check.differential import compare, is_close, is_rounding
from circuits.check.gate import require_yes
from circuits.check.preflight import check
from circuits.cli import app
from circuits.ezkl_runner import Failure
from tests.circuits.check.fuzz_check import one
from verifier.errors import CircuitError

ModelBytes = Callable[..., bytes]


def written(folder: Path, nodes: list[onnx.NodeProto], columns: int = 4, **stored: np.ndarray) -> Path:
    graph = helper.make_graph(
        nodes,
        "model",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, columns])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(array, name) for name, array in stored.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    path = folder / "model.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def test_a_model_that_ezkl_computes_is_faithful(tmp_path: Path, linear_model: ModelBytes) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(linear_model())
    report = check(path)
    assert report.verdict == "faithful"
    assert float(report.max_error) < 0.01
    (span,) = report.domain
    assert float(span.least) <= -4
    assert float(span.greatest) >= 4


def test_a_silently_wrong_operator_is_found_behind_others_and_named(tmp_path: Path) -> None:
    """Trap: ezkl takes QuantizeLinear, proves and verifies, and the answer is another one; Relu and Gemm are right."""
    nodes = [
        helper.make_node("Gemm", ["x", "w"], ["a"], name="first"),
        helper.make_node("QuantizeLinear", ["a", "s", "z"], ["q"], name="culprit"),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["b"], name="after"),
        helper.make_node("Add", ["b", "b"], ["y"], name="last"),
    ]
    stored = {
        "w": np.random.default_rng(0).uniform(-1, 1, (4, 4)).astype(np.float32),
        "s": np.float32(0.05),
        "z": np.array(3, np.uint8),
    }
    report = check(written(tmp_path, nodes, **stored))
    assert report.verdict == "refused"
    assert report.code == "C-unfaithful"
    assert (report.node, report.operator) in {("culprit", "QuantizeLinear"), ("after", "DequantizeLinear")}
    assert report.advice


def test_a_constant_that_a_scale_loses_asks_for_a_higher_scale(tmp_path: Path) -> None:
    """Trap: at scale 7 a division by 255 is half off, since 1/255 rounds to 1/128."""
    path = written(tmp_path, [helper.make_node("Mul", ["x", "c"], ["y"])], c=np.float32(1 / 255))
    np.savez(tmp_path / "pixels.npz", x=np.random.default_rng(0).uniform(0, 255, (8, 4)).astype(np.float32))
    report = check(path, tmp_path / "pixels.npz", scale=7)
    assert report.verdict == "raise-scale"
    assert report.scale is not None
    assert report.scale > 7


def test_an_operator_that_ezkl_lacks_is_named_with_its_node(tmp_path: Path) -> None:
    """Trap: the exception says `General synthesis error` or less; the log says which."""
    nodes = [
        helper.make_node("Relu", ["x"], ["r"], name="fine"),
        helper.make_node("ReverseSequence", ["r", "l"], ["y"], name="the_culprit", batch_axis=0, time_axis=1),
    ]
    report = check(written(tmp_path, nodes, l=np.array([3])))
    assert (report.verdict, report.code) == ("refused", "C-ezkl")
    assert (report.node, report.operator) == ("the_culprit", "ReverseSequence")
    assert "Leave it out" in report.advice
    np.savez(tmp_path / "samples.npz", x=np.random.default_rng(0).uniform(-1, 1, (6, 4)).astype(np.float32))
    with pytest.raises(CircuitError) as caught:
        require_yes(tmp_path / "model.onnx", tmp_path / "samples.npz")
    assert caught.value.code == "C-ezkl"
    assert "the_culprit" in caught.value.where


def zip_bomb() -> bytes:
    """A few hundred kilobytes that unpack to more than samples may have: zeros."""
    written_to = io.BytesIO()
    with zipfile.ZipFile(written_to, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("x.npy", "w") as member:
        for _ in range(17):
            member.write(bytes(1 << 24))
    return written_to.getvalue()


def test_hostile_files_get_an_answer(tmp_path: Path, linear_model: ModelBytes) -> None:
    """Traps: a loop in the graph, weights elsewhere, a bomb, a cut file, 100 MB of it; each is refused in time."""
    loop = onnx.load_model_from_string(linear_model())
    loop.graph.node[0].input[0] = loop.graph.node[0].output[0]
    outside = onnx.load_model_from_string(linear_model())
    outside.graph.initializer[0].data_location = TensorProto.EXTERNAL
    outside.graph.initializer[0].external_data.add(key="location", value="bomb.zip")
    hostile = {
        "loop": loop.SerializeToString(),
        "outside": outside.SerializeToString(),
        "cut": linear_model()[:-9],
        "empty": b"",
        "large": bytes(100 << 20),
    }
    for name, raw in hostile.items():
        path = tmp_path / f"{name}.onnx"
        path.write_bytes(raw)
        started = time.monotonic()
        report = check(path)
        assert report.verdict == "refused", name
        assert report.code.startswith("C-"), (name, report)
        assert report.code != "C-check", (name, report)
        assert report.advice, name
        assert time.monotonic() - started < 60
    good, bomb = tmp_path / "good.onnx", tmp_path / "bomb.npz"
    good.write_bytes(linear_model())
    bomb.write_bytes(zip_bomb())
    assert check(good, bomb).code == "C-samples"
    assert check(tmp_path / "missing.onnx").code == "C-onnx-file"


def test_a_child_that_overruns_or_swells_is_ended(tmp_path: Path) -> None:
    """Trap: a hang or a swap storm of this process."""
    nodes = [
        helper.make_node("Expand", ["x", "shape"], ["wide"]),
        helper.make_node("ReduceSum", ["wide"], ["y"], keepdims=1),
    ]
    path = written(tmp_path, nodes, columns=1, shape=np.array([1 << 16, 1 << 16]))
    bounds = Bounds(wall_seconds=20, memory_bytes=2 << 30)
    with pytest.raises(CircuitError) as caught:
        confined.run("prepare", tmp_path, bounds, model=str(path), samples="", limit=4)
    assert caught.value.code in {"C-memory", "C-onnxruntime", "C-died", "C-wall"}


def test_causes_are_read_out_of_the_log() -> None:
    nodes = [Node("", "Conv", ("x",), ("a",)), Node("n7", "Mish", ("a",), ("y",))]
    unknown = Failure('RuntimeError: [tract] Translating node #2 "n7" Unimplemented(Mish) ToTypedTranslator', ())
    assert find_cause(unknown, nodes)[:2] == ("n7", "Mish")
    hidden = Failure("RuntimeError: General synthesis error", ("fine", "Unknown op: Conv"))
    assert find_cause(hidden, nodes)[:2] == ("a", "Conv")
    symbol = Failure('RuntimeError: Undetermined symbol in expression: "N"', ())
    assert "fixed shapes" in find_cause(symbol, nodes).advice


def test_rounding_and_a_wrong_operator_are_told_apart() -> None:
    """An error that stays while the scale grows is not rounding, however small its share is."""
    truth = [(np.array([0.0, 1000.0]),)]
    at = {scale: [(np.array([2.0**-scale, 1000.0]),)] for scale in (7, 11)}
    low, high = (compare(found, truth, [scale]) for scale, found in at.items())
    assert is_close(low)
    assert is_rounding(low, high, 4)
    off = [(np.array([3.0, 1000.0]),)]
    low, high = compare(off, truth, [7]), compare(off, truth, [11])
    assert is_close(low)
    assert not is_rounding(low, high, 4)


def test_a_jump_of_the_model_is_no_error() -> None:
    """Trap: a tree next to its threshold; but a model that jumps everywhere shows nothing."""
    truth = [(np.array([0.0]),), (np.array([1.0]),), (np.array([0.0]),)]
    found = [(np.array([1.0]),), (np.array([1.0]),), (np.array([0.0]),)]
    assert not is_close(compare(found, truth, [13]))
    around = [[(np.array([0.0]),), (np.array([1.0]),)], [(np.array([1.0]),)], [(np.array([0.0]),)]]
    assert is_close(compare(found, truth, [13], around))
    many = compare([found[0]] * 8, [truth[0]] * 8, [13], [around[0]] * 8)
    assert not is_close(many)


def test_between_the_sides_of_a_jump_is_no_answer_of_the_model() -> None:
    """Trap: whole numbers before a Cast all lie at a jump, and a circuit that knew neither category passed."""
    truth = [(np.array([float(number)]),) for number in range(8)]
    between = [(np.array([0.4]),), *truth[1:]]
    around = [[(np.array([0.0]),), (np.array([1.0]),)], *([each] for each in truth[1:])]
    assert not is_close(compare(between, truth, [13], around))
    steep = [[(np.array([share]),) for share in np.linspace(0.0, 1.0, 30)], *around[1:]]
    assert is_close(compare(between, truth, [13], steep))


def test_outputs_that_hardly_move_are_not_the_models() -> None:
    """Trap: ezkl's Equal of floats gives 2^-13 for 1, and inputs that are equal all lie at a jump of the model."""
    truth = [(np.array([float(number == 0)]),) for number in range(8)]
    found = [(each[0] * 2.0**-13,) for each in truth]
    around = [[(np.array([0.0]),), (np.array([1.0]),)], *([each] for each in truth[1:])]
    assert not is_close(compare(found, truth, [13], around))
    assert is_close(compare(truth, truth, [13], around))


def test_the_command_answers_in_json_and_by_its_exit_code(tmp_path: Path, linear_model: ModelBytes) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(linear_model()[:40])
    result = CliRunner().invoke(app, ["check", str(path), "--json"])
    answer = json.loads(result.stdout)
    assert result.exit_code == 1
    assert {"verdict", "node", "operator", "reason", "advice", "rewrites", "max_error", "domain"} <= set(answer)
    assert answer["verdict"] == "refused"


def test_a_few_broken_models_are_survived(tmp_path: Path) -> None:
    """The short form of fuzz_check."""
    started, seed = time.monotonic(), 1000
    while time.monotonic() - started < 12:
        one(seed, tmp_path)
        seed += 1
