"""Operators of ai.onnx.ml that choose or prepare features: the same answers as onnxruntime's, or left alone."""

from __future__ import annotations

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


def prepared(nodes: list[onnx.NodeProto], shape: list[int], kind: int = TensorProto.FLOAT, **stored: Array) -> Model:
    """A graph with operators of ai.onnx.ml, read and rewritten."""
    proto = onnx.load_model_from_string(graph_of(nodes, shape, 13, **stored))
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
