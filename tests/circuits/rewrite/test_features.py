"""Operators of ai.onnx.ml that choose or prepare features: the same answers as onnxruntime's, or left alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from circuits.float_model import FloatModel
from circuits.model import Model
from circuits.parsing import parse_model
from circuits.samples import Array
from tests.circuits.rewrite.test_economies import node
from tests.circuits.rewrite.test_rewrites import graph_of
from tests.circuits.rewrite.test_trees import ensemble


def prepared(
    nodes: list[onnx.NodeProto], shape: Sequence[int], kind: int = TensorProto.FLOAT, opset: int = 13, **stored: Array
) -> Model:
    """A graph with operators of ai.onnx.ml, read and rewritten."""
    proto = onnx.load_model_from_string(graph_of(nodes, [*shape], opset, **stored))
    proto.opset_import.append(helper.make_opsetid("ai.onnx.ml", 1))
    proto.graph.input[0].type.tensor_type.elem_type = kind
    return parse_model(proto.SerializeToString())


def ml_node(operator: str, inputs: list[str], output: str = "y", **fields: Any) -> onnx.NodeProto:
    return helper.make_node(operator, inputs, [output], domain="ai.onnx.ml", **fields)


def left(model: Model) -> set[str]:
    """The operators of ai.onnx.ml that are still there."""
    return {each.op_type for each in onnx.load_model_from_string(model.rewritten).graph.node if each.domain}


def assert_same(model: Model, samples: list[Array]) -> None:
    assert not left(model)
    mine, theirs = (FloatModel(graph, model.inputs) for graph in (model.rewritten, model.static))
    for sample in samples:
        found, wanted = mine.run((sample,))[-1], theirs.run((sample,))[-1]
        assert found.shape == wanted.shape
        assert np.array_equal(found, wanted), sample


@pytest.mark.parametrize("indices", [np.array(1), np.array([1]), np.array([[2, 0]])], ids=["scalar", "list", "matrix"])
@pytest.mark.parametrize("shape", [[3], [1, 3], [1, 2, 3]], ids=str)
def test_columns_are_chosen_whatever_shape_their_indices_have(indices: Array, shape: list[int]) -> None:
    """Trap: a vector gives a row."""
    nodes = [ml_node("ArrayFeatureExtractor", ["x", "i"], "chosen"), node("Neg", ["chosen"])]
    model = prepared(nodes, shape, i=indices)
    assert_same(model, [np.arange(np.prod(shape), dtype=np.float32).reshape(shape) - 1.5])


def test_a_column_is_chosen_of_what_a_tree_gives() -> None:
    """LightGBM's random forest: the votes of one class, by a scalar index, divided by the number of trees.

    Trap: onnx infers no shape of an ensemble of the first operator set; it is known once the ensemble is rewritten.
    """
    proto = onnx.load_model_from_string(ensemble("TreeEnsembleClassifier"))
    proto.opset_import[1].version = 1
    proto.graph.node[0].output[1] = "votes"
    stored = {"one": np.array(1), "trees": np.array(2, np.float32)}
    proto.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in stored.items())
    proto.graph.node.append(ml_node("ArrayFeatureExtractor", ["votes", "one"], "second"))
    proto.graph.node.append(node("Div", ["second", "trees"], "mean"))
    proto.graph.node.append(node("Concat", ["mean", "mean"], axis=1))
    assert_same(
        parse_model(proto.SerializeToString()), [np.array([[value, 0]], np.float32) for value in (-1e30, 0, 1e30)]
    )


EDGES = [0, 1, -1, 3, 7, 2**31, 2**53 + 1, 2**63 - 1, -(2**63)]


@pytest.mark.parametrize("shape", [[1], [1, 1], [1, 3], [1, 2, 2]], ids=str)
def test_categories_are_encoded_in_their_order_and_others_as_zeros(shape: list[int]) -> None:
    model = prepared([ml_node("OneHotEncoder", ["x"], cats_int64s=[7, -1, 0, 2**53])], shape, TensorProto.INT64)
    samples = [np.roll(np.resize(EDGES, len(EDGES)), -at)[: np.prod(shape)].reshape(shape) for at in range(len(EDGES))]
    assert_same(model, samples)


@pytest.mark.parametrize("opset", [11, 13])
def test_where_the_model_fails_on_an_unknown_category_the_circuit_has_zeros(opset: int) -> None:
    nodes = [ml_node("OneHotEncoder", ["x"], cats_int64s=[2, 5], zeros=0)]
    model = prepared(nodes, [1, 1], TensorProto.INT64, opset)
    assert_same(model, [np.array([[value]]) for value in (2, 5)])
    assert not FloatModel(model.rewritten, model.inputs).run((np.array([[3]]),))[-1].any()


ODD_ENCODERS: dict[str, tuple[int, dict[str, Any]]] = {
    "a category twice: the last place counts": (TensorProto.INT64, {"cats_int64s": [3, 1, 3]}),
    "floats: cut off to integers": (TensorProto.FLOAT, {"cats_int64s": [3, 1]}),
}


@pytest.mark.parametrize("name", ODD_ENCODERS)
def test_an_encoder_that_equal_does_not_say_is_left_alone(name: str) -> None:
    kind, fields = ODD_ENCODERS[name]
    assert left(prepared([ml_node("OneHotEncoder", ["x"], **fields)], [1, 2], kind)) == {"OneHotEncoder"}


REPLACED = np.array([-1, np.nextafter(np.float32(-1), np.float32(0)), 0, -0.0, 3.4e38, 1e-45], np.float32)


@pytest.mark.parametrize("replaced", [math.nan, math.inf, -math.inf, -1.0, 0.0, 3.4e38], ids=str)
@pytest.mark.parametrize("values", [[9.0], [9.0, 8.0, -7.5]], ids=["one for all", "one of each column"])
@pytest.mark.parametrize("opset", [9, 13])
def test_what_a_payer_can_give_is_imputed(replaced: float, values: list[float], opset: int) -> None:
    """A payer gives finite values only, so that NaN and infinities are never there to be replaced."""
    nodes = [
        ml_node("ArrayFeatureExtractor", ["x", "i"], "chosen"),
        node("Concat", ["chosen", "k"], "both", axis=1),
        ml_node("Imputer", ["both"], imputed_value_floats=values, replaced_value_float=replaced),
    ]
    model = prepared(nodes, [1, 3], opset=opset, i=np.array([2, 0]), k=np.array([[-1]], np.float32))
    assert_same(model, [np.roll(REPLACED, -at)[None, :3] for at in range(len(REPLACED))])


ODD_IMPUTERS: dict[str, tuple[list[onnx.NodeProto], dict[str, Any]]] = {
    "a logarithm before it": ([node("Log", ["x"], "z")], {"replaced_value_float": math.nan}),
    "a quotient before it": ([node("Div", ["x", "x"], "z")], {"replaced_value_float": math.nan}),
    "a constant that is replaced": ([node("Concat", ["x", "k"], "z", axis=1)], {"replaced_value_float": math.nan}),
    "an infinite value": ([node("Identity", ["x"], "z")], {"imputed_value_floats": [math.inf]}),
}


@pytest.mark.parametrize("name", ODD_IMPUTERS)
def test_an_imputer_of_what_arithmetic_may_give_is_left_alone(name: str) -> None:
    """Trap: onnxruntime replaces the NaN that a logarithm gives; a circuit has some number there and would keep it."""
    before, fields = ODD_IMPUTERS[name]
    nodes = [*before, ml_node("Imputer", ["z"], **({"imputed_value_floats": [2.0]} | fields))]
    assert left(prepared(nodes, [1, 2], k=np.array([[np.nan]], np.float32))) == {"Imputer"}
