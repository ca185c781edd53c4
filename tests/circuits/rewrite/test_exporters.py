"""What exporters write and ezkl does not take: other precisions, attention masks, both outputs of a recurrent layer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from circuits.check.preflight import check
from circuits.float_model import FloatModel
from circuits.model import Model
from circuits.parsing import parse_model
from circuits.rewrite.masks import MASKED
from circuits.samples import Array

LEAST = float(np.finfo(np.float32).min)
STEPS, WIDTH, HIDDEN = 3, 2, 2
GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}


def made(
    nodes: list[onnx.NodeProto],
    shape: list[int],
    outputs: list[str],
    *,
    dtype: int = TensorProto.FLOAT,
    **stored: Array,
) -> bytes:
    graph = helper.make_graph(
        nodes,
        "model",
        [helper.make_tensor_value_info("x", dtype, shape)],
        [helper.make_tensor_value_info(name, dtype, None) for name in outputs],
        [numpy_helper.from_array(array, name) for name, array in stored.items()],
    )
    sets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    model = helper.make_model(graph, opset_imports=sets, ir_version=8)
    return bytes(model.SerializeToString(deterministic=True))


def drawn(*shape: int, seed: int = 0) -> Array:
    return np.asarray(np.random.default_rng(seed).normal(size=shape))


def both(model: Model, sample: Array) -> tuple[tuple[Array, ...], tuple[Array, ...]]:
    """Outputs of the graph that is proved and of the owner's."""
    return (
        FloatModel(model.rewritten, model.inputs).run((sample,)),
        FloatModel(model.static, model.inputs).run((sample,)),
    )


@pytest.mark.parametrize("dtype", [np.float64, np.float16])
def test_another_precision_is_computed_in_single(dtype: Any, tmp_path: Path) -> None:
    """The input keeps its type; a constant inside, a Cast and the weights do not."""
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    nodes = [
        helper.make_node("Gemm", ["x", "w"], ["a"]),
        helper.make_node("Constant", [], ["half"], value=numpy_helper.from_array(np.array(0.5, dtype))),
        helper.make_node("Mul", ["a", "half"], ["b"]),
        helper.make_node("Cast", ["b"], ["c"], to=kind),
        helper.make_node("Relu", ["c"], ["y"]),
    ]
    source = made(nodes, [1, 4], ["y"], dtype=kind, w=drawn(4, 3).astype(dtype))
    model = parse_model(source)
    assert "computed in single precision" in model.rewrites
    assert model.inputs[0].dtype == np.dtype(dtype).name
    proto = onnx.load_model_from_string(model.rewritten)
    assert {each.data_type for each in proto.graph.initializer} <= {TensorProto.FLOAT, TensorProto.INT64}
    for seed in range(4):
        mine, theirs = both(model, drawn(1, 4, seed=seed).astype(dtype))
        assert np.allclose(mine[0], theirs[0], rtol=5e-3, atol=5e-3)
    path = tmp_path / "model.onnx"
    path.write_bytes(source)
    assert check(path).verdict == "rewritten"


@pytest.mark.parametrize("kind", [TensorProto.INT32, TensorProto.INT64])
def test_a_cast_to_integers_cuts_fractions_off(kind: int, tmp_path: Path) -> None:
    """Trap: ezkl rounds them; ONNX cuts them off, towards zero."""
    nodes = [
        helper.make_node("Cast", ["x"], ["i"], to=kind),
        helper.make_node("Cast", ["i"], ["y"], to=TensorProto.FLOAT),
    ]
    source = made(nodes, [1, 6], ["y"])
    model = parse_model(source)
    assert "Cast to integers cuts fractions off" in model.rewrites
    mine, theirs = both(model, np.array([[-2.7, -1.0, -0.5, 0.5, 1.7, 3.0]], np.float32))
    assert np.array_equal(mine[0], theirs[0])
    path = tmp_path / "model.onnx"
    path.write_bytes(source)
    assert check(path).verdict == "rewritten"


def test_a_cast_of_what_is_whole_stays() -> None:
    """Sums of decisions, as trees are written; a product with a half is none."""
    for weight, is_whole in ((2.0, True), (0.5, False)):
        nodes = [
            helper.make_node("Greater", ["x", "zero"], ["decided"]),
            helper.make_node("Cast", ["decided"], ["a"], to=TensorProto.FLOAT),
            helper.make_node("MatMul", ["a", "w"], ["b"]),
            helper.make_node("Cast", ["b"], ["i"], to=TensorProto.INT64),
            helper.make_node("Cast", ["i"], ["y"], to=TensorProto.FLOAT),
        ]
        stored = {"zero": np.zeros(1, np.float32), "w": np.full((3, 1), weight, np.float32)}
        told = parse_model(made(nodes, [1, 3], ["y"], **stored)).rewrites
        assert ("Cast to integers cuts fractions off" in told) is not is_whole


def test_categories_behind_a_cast_are_told_apart(tmp_path: Path) -> None:
    """Trap: ezkl's Equal of integers that came from floats gives 2^-scale for 1, and all of them lie at a jump."""
    nodes = [
        helper.make_node("Cast", ["x"], ["i"], to=TensorProto.INT64),
        helper.make_node("OneHotEncoder", ["i"], ["hot"], domain="ai.onnx.ml", cats_int64s=[0, 1, 2], zeros=1),
        helper.make_node("Reshape", ["hot", "flat"], ["row"]),
        helper.make_node("MatMul", ["row", "w"], ["y"]),
    ]
    stored = {"flat": np.array([1, 3], np.int64), "w": np.array([[0.3], [2.0], [-1.5]], np.float32)}
    (tmp_path / "model.onnx").write_bytes(made(nodes, [1, 1], ["y"], **stored))
    np.savez(tmp_path / "samples.npz", x=np.array([[0], [1], [2], [1], [0], [2]], np.float32))
    report = check(tmp_path / "model.onnx", tmp_path / "samples.npz")
    assert report.verdict == "rewritten"
    assert float(report.max_error) < 0.01


def test_a_weight_beyond_single_precision_is_not_made_infinite() -> None:
    source = made(
        [helper.make_node("Mul", ["x", "w"], ["y"])], [1, 2], ["y"], dtype=TensorProto.DOUBLE, w=np.array([1e300])
    )
    assert "computed in single precision" not in parse_model(source).rewrites


def test_a_single_model_is_not_told_to_be_made_single() -> None:
    source = made([helper.make_node("Relu", ["x"], ["y"])], [1, 2], ["y"])
    assert "computed in single precision" not in parse_model(source).rewrites


def attention(value: float, *, by: str, others: bool = False) -> bytes:
    """Scores, of which those above the diagonal are masked, and the rows of their weights."""
    above = np.triu(np.ones((4, 4)), 1).astype(bool)
    mask = np.where(above, np.float32(value), np.float32(0))
    choose = helper.make_node("Where", ["above", "never", "x"], ["masked"])
    add = helper.make_node("Add", ["x", "mask"], ["masked"])
    nodes = [choose if by == "Where" else add, helper.make_node("Softmax", ["masked"], ["y"], axis=-1)]
    stored: dict[str, Array] = {"mask": mask}
    if by == "Where":
        stored = {"above": above, "never": np.array(value, np.float32)}
    outputs = ["y", "masked"] if others else ["y"]
    return made(nodes, [1, 4, 4], outputs, **stored)


@pytest.mark.parametrize("by", ["Where", "Add"])
@pytest.mark.parametrize("value", [-np.inf, LEAST, -1e9, -1e4])
def test_a_mask_before_softmax_is_a_number_that_a_circuit_holds(by: str, value: float) -> None:
    """Trap: no integer stands for minus infinity, and ezkl says "bit truncation"."""
    model = parse_model(attention(value, by=by))
    assert any("masks" in each for each in model.rewrites)
    proto = onnx.load_model_from_string(model.rewritten)
    stored = [numpy_helper.to_array(each) for each in proto.graph.initializer]
    assert min(float(each.min()) for each in stored if each.dtype == np.float32) == MASKED
    for seed in range(4):
        mine, theirs = both(model, drawn(1, 4, 4, seed=seed).astype(np.float32) * 2)
        assert np.allclose(mine[0], theirs[0], atol=1e-9)
        assert np.isfinite(mine[0]).all()


def test_a_mask_that_is_read_as_a_number_too_stays_as_it_is() -> None:
    """And so does an ordinary bias before a Softmax."""
    for model in (attention(-1e9, by="Where", others=True), attention(-100.0, by="Add")):
        assert not any("masks" in each for each in parse_model(model).rewrites)


def test_a_masked_model_is_taken(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(attention(-np.inf, by="Where"))
    assert check(path).verdict == "rewritten"


def recurrent(kind: str, *, backwards: bool = False) -> bytes:
    """A layer whose sequence and last state are both the model's outputs."""
    gates = GATES[kind]
    attributes: dict[str, Any] = {"hidden_size": HIDDEN} | ({"direction": "reverse"} if backwards else {})
    return made(
        [helper.make_node(kind, ["x", "w", "r"], ["sequence", "state"], **attributes)],
        [STEPS, 1, WIDTH],
        ["sequence", "state"],
        w=drawn(1, gates * HIDDEN, WIDTH, seed=1).astype(np.float32),
        r=drawn(1, gates * HIDDEN, HIDDEN, seed=2).astype(np.float32),
    )


@pytest.mark.parametrize("backwards", [False, True])
def test_a_last_state_that_is_read_beside_the_sequence_comes_from_it(backwards: bool) -> None:
    model = parse_model(recurrent("LSTM", backwards=backwards))
    assert "last state read from the sequence" in model.rewrites
    proto = onnx.load_model_from_string(model.rewritten)
    (layer,) = (node for node in proto.graph.node if node.op_type == "LSTM")
    assert len([name for name in layer.output if name]) == 1
    for seed in range(4):
        for mine, theirs in zip(*both(model, drawn(STEPS, 1, WIDTH, seed=seed).astype(np.float32)), strict=True):
            assert np.allclose(mine, theirs, atol=1e-6)


@pytest.mark.parametrize(("kind", "verdict"), [("LSTM", "rewritten"), ("GRU", "faithful"), ("RNN", "faithful")])
def test_a_layer_with_both_outputs_is_taken(kind: str, verdict: str, tmp_path: Path) -> None:
    """Trap: ezkl computes either output of an LSTM right, and both wrong where both are read."""
    path = tmp_path / "model.onnx"
    path.write_bytes(recurrent(kind))
    assert check(path).verdict == verdict
