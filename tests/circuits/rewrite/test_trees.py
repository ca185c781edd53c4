"""Trees: which leaf is reached, exporters' ways to write one, and ensembles that are left alone."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from circuits.float_model import FloatModel
from circuits.parsing import parse_model
from circuits.rewrite.decisions import Split, reached, tree_of
from circuits.rewrite.editing import Editor
from tests.circuits.rewrite.test_economies import CHOSEN, node, run
from tests.circuits.rewrite.test_rewrites import graph_of
from verifier.errors import CircuitError

SPLITS = st.deferred(lambda: st.none() | st.tuples(st.integers(0, 6), SPLITS, SPLITS))


def numbered(shape: Any, path: dict[int, bool], paths: list[dict[int, bool]]) -> Split | int:
    """A tree of that shape in which no way tests twice; its leaves' paths in the order of their numbers."""
    if shape is None or shape[0] in path:
        paths.append(path)
        return len(paths) - 1
    test, truth, falsehood = shape
    first = numbered(truth, path | {test: True}, paths)
    return Split(test, first, numbered(falsehood, path | {test: False}, paths))


@given(st.lists(SPLITS, min_size=1, max_size=3), st.integers(0, 2**32 - 1))
def test_exactly_the_leaf_of_each_tree_is_reached(shapes: list[Any], seed: int) -> None:
    paths: list[dict[int, bool]] = []
    trees = [tree for shape in shapes if isinstance(tree := numbered(shape, {}, paths), Split)]
    alone = [number for number, path in enumerate(paths) if not path]
    if not trees:
        return
    proto = onnx.load_model_from_string(graph_of([node("Identity", ["x"], "z"), node("Identity", ["z"])], [1, 7]))
    editor = Editor(proto)
    nodes, name = reached(editor, "x", trees, len(paths))
    editor.put([*editor.graph.node, *nodes, node("Identity", [name], "leaves")])
    proto.graph.output.append(helper.make_tensor_value_info("leaves", TensorProto.FLOAT, None))
    decided = np.random.default_rng(seed).integers(0, 2, 7)
    result = FloatModel(proto.SerializeToString(), parse_model(graph_of([node("Neg", ["x"])], [1, 7])).inputs)
    leaves = result.run((decided[None].astype(np.float32),))[1][0]
    for number, path in enumerate(paths):
        if number not in alone:
            assert leaves[number] == all(bool(decided[test]) is outcome for test, outcome in path.items())


@given(SPLITS)
def test_a_tree_is_known_by_its_paths(shape: Any) -> None:
    paths: list[dict[int, bool]] = []
    tree = numbered(shape, {}, paths)
    found = tree_of(paths)
    for number, path in enumerate(paths):
        at = found
        while isinstance(at, Split):
            at = at.truth if path.get(at.test, True) else at.falsehood
        assert at == number
    if isinstance(tree, Split):
        assert tree_of(paths[1:]) is None, "a leaf is missing"
        assert tree_of([*paths, paths[0]]) is None, "two leaves of one path"


TESTS = [(2, 0.5), (0, -0.25), (2, 0.5), (1, 1.5)]


PATHS = [{0: True, 1: True}, {0: True, 1: False}, {0: False, 3: True}, {0: False, 3: False}]


def exported(
    paths: list[dict[int, bool]],
    thresholds: Sequence[float] = tuple(t for _, t in TESTS),
    kind: int = TensorProto.FLOAT,
) -> bytes:
    """A classifier's tree as sk2torch exports it: the index of the leaf, its votes, the largest vote's label."""
    must, path = np.zeros((4, len(paths)), np.int64), np.zeros((4, len(paths)), np.int64)
    for leaf, way in enumerate(paths):
        for test, outcome in way.items():
            path[test, leaf], must[test, leaf] = 1, int(outcome)
    votes = np.random.default_rng(5).permuted(np.arange(3 * len(paths)).reshape(-1, 1, 3), axis=2).astype(np.float32)
    nodes = [
        node("Gather", ["x", "features"], "f", axis=1),
        node("Less", ["thresholds", "f"], "t"),
        node("Cast", ["t"], "d", to=kind),
        node("MatMul", ["d", "must"], "held"),
        node("ReduceSum", ["columns"], "count", axes=[1], keepdims=0),
        node("Cast", ["held"], "whole", to=TensorProto.INT64),
        node("Equal", ["whole", "count"], "all_true"),
        node("MatMul", ["d", "path"], "met"),
        node("Equal", ["held", "met"], "none_false"),
        node("And", ["all_true", "none_false"], "is_leaf"),
        node("Cast", ["is_leaf"], "number", to=TensorProto.INT32),
        node("ArgMax", ["number"], "leaf", axis=-1, keepdims=0),
        node("Gather", ["votes", "leaf"], "voted", axis=0),
        node("Gather", ["voted", "zero"], "scores", axis=1),
        node("ArgMax", ["scores"], "label", axis=1, keepdims=0),
        node("Cast", ["label"], "y", to=TensorProto.FLOAT),
    ]
    stored = {
        "features": np.array([feature for feature, _ in TESTS]),
        "thresholds": np.array(thresholds, np.float32),
        "must": must.astype(helper.tensor_dtype_to_np_dtype(kind)),
        "path": path.astype(helper.tensor_dtype_to_np_dtype(kind)),
        "columns": must.T.copy(),
        "votes": votes,
        "zero": np.array(0),
    }
    return graph_of(nodes, [1, 3], 11, **stored)


@pytest.mark.parametrize("kind", [TensorProto.FLOAT, TensorProto.INT8], ids=["float", "int8"])
def test_the_index_of_a_leaf_goes_with_all_that_follows_from_it(kind: int) -> None:
    """Decisions are int8 in the graphs that sk2torch writes, which onnxruntime does not even take."""
    model = parse_model(exported(PATHS, kind=kind))
    operators = [each.op_type for each in onnx.load_model_from_string(model.rewritten).graph.node]
    assert not {"ArgMax", "Equal", "And"} & set(operators)
    assert any("equal comparisons made once (4 as 3)" in each for each in model.rewrites)
    for _ in range(50):
        sample = CHOSEN.normal(0, 1, (1, 3)).astype(np.float32)
        assert np.array_equal(run(model, model.rewritten, sample), run(model, model.static, sample))


@pytest.mark.parametrize(
    "paths",
    [
        [{0: True, 1: True}, {0: True, 1: False}, {0: False, 3: True}, {1: False, 3: False}],
        [{0: True, 1: True}, {0: True, 1: False}, {0: False, 3: True}, {0: False, 3: True}],
        [{0: True, 1: True}, {0: True, 1: False}, {0: False, 3: True}],
    ],
    ids=["another test", "twice the same", "a way without a leaf"],
)
def test_what_is_no_tree_keeps_its_argmax(paths: list[dict[int, bool]]) -> None:
    """Where two leaves or none may be reached, ArgMax still gives one: only ezkl's own argmax says which."""
    operators = {
        each.op_type for each in onnx.load_model_from_string(parse_model(exported(paths)).rewritten).graph.node
    }
    assert "ArgMax" in operators


@pytest.mark.parametrize("change", ["held against itself", "through a boolean"])
def test_what_only_looks_like_a_tree_keeps_its_argmax(change: str) -> None:
    """The same matrices and the same nodes, but the two comparisons say something else."""
    proto = onnx.load_model_from_string(exported(PATHS))
    made = {each.output[0]: each for each in proto.graph.node}
    if change == "held against itself":
        made["all_true"].input[:] = ["whole", "whole"]
        made["none_false"].input[:] = ["count", "met"]
        made["met"].input[1] = "path_of_whole"
        made["held"].input[1] = "must_of_whole"
        made["d"].attribute[0].i = TensorProto.INT64
        for name in ("must", "path"):
            array = numpy_helper.to_array(next(each for each in proto.graph.initializer if each.name == name))
            proto.graph.initializer.append(numpy_helper.from_array(array.astype(np.int64), f"{name}_of_whole"))
    else:
        made["d"].attribute[0].i = TensorProto.BOOL
        proto.graph.node.insert(3, node("Cast", ["d"], "number_of_d", to=TensorProto.FLOAT))
        made["held"].input[0] = made["met"].input[0] = "number_of_d"
        proto.graph.node.insert(6, node("Cast", ["held"], "some", to=TensorProto.BOOL))
        made["whole"].input[0] = "some"
    model = parse_model(proto.SerializeToString())
    assert "ArgMax" in {each.op_type for each in onnx.load_model_from_string(model.rewritten).graph.node}


def test_casts_in_a_circle_end() -> None:
    nodes = [
        node("Cast", ["a"], "b", to=TensorProto.INT64),
        node("Cast", ["b"], "a", to=TensorProto.FLOAT),
        node("Less", ["a", "k"], "l"),
        node("Cast", ["l"], to=TensorProto.FLOAT),
    ]
    with contextlib.suppress(CircuitError):
        parse_model(graph_of(nodes, [1, 4], 13, k=np.ones((1, 4), np.float32)))


def test_a_comparison_with_nan_is_nobodys_equal() -> None:
    model = parse_model(exported(PATHS, (float("nan"), 0.0, float("nan"), 1.5)))
    assert not any("comparisons" in each for each in model.rewrites)


def ensemble(kind: str, **changes: Any) -> bytes:
    """One split with two leaves; two features, and two outputs of a classifier: label and scores."""
    fields: dict[str, Any] = {
        "nodes_treeids": [0, 0, 0],
        "nodes_nodeids": [0, 1, 2],
        "nodes_modes": ["BRANCH_LEQ", "LEAF", "LEAF"],
        "nodes_featureids": [0, 0, 0],
        "nodes_values": [0.1, 0.0, 0.0],
        "nodes_truenodeids": [1, 0, 0],
        "nodes_falsenodeids": [2, 0, 0],
    }
    side = "class" if kind == "TreeEnsembleClassifier" else "target"
    fields |= {f"{side}_{name}": each for name, each in (("treeids", [0, 0]), ("nodeids", [1, 2]), ("ids", [0, 0]))}
    fields[f"{side}_weights"] = [0.7, 0.8]
    fields |= {"classlabels_int64s": [0, 1]} if side == "class" else {"n_targets": 1}
    names = ["label", "y"] if side == "class" else ["y"]
    made = helper.make_node(kind, ["x"], names, domain="ai.onnx.ml", **(fields | changes))
    proto = onnx.load_model_from_string(graph_of([made], [1, 2], 13))
    proto.opset_import.append(helper.make_opsetid("ai.onnx.ml", 3))
    return bytes(proto.SerializeToString())


ODD: dict[str, tuple[str, dict[str, Any]]] = {
    "one class that is the second": ("Classifier", {"class_ids": [1, 1]}),
    "a leaf that votes for one of two": ("Classifier", {"class_ids": [0, 1]}),
    "one label": ("Classifier", {"classlabels_int64s": [5]}),
    "two base values": (
        "Classifier",
        {
            "class_ids": [0, 1, 0, 1],
            "class_nodeids": [1, 1, 2, 2],
            "class_treeids": [0] * 4,
            "class_weights": [0.7, 0.3, 0.2, 0.8],
            "base_values": [0.25, -0.5],
        },
    ),
    "a target without a vote": ("Regressor", {"n_targets": 2, "target_ids": [0, 1], "base_values": [10.0, 20.0]}),
    "two weights of one leaf": (
        "Regressor",
        {
            "target_treeids": [0] * 3,
            "target_nodeids": [1, 1, 2],
            "target_ids": [0] * 3,
            "target_weights": [1.0, 5.0, 2.0],
        },
    ),
    "an infinite leaf": ("Regressor", {"target_weights": [float("inf"), 2.0]}),
    "a threshold that is no number": ("Regressor", {"nodes_values": [float("nan"), 0.0, 0.0]}),
    "a feature from behind": ("Regressor", {"nodes_featureids": [-1, 0, 0]}),
    "values as a tensor": ("Regressor", {"base_values_as_tensor": numpy_helper.from_array(np.array([5], np.float32))}),
    "trees interleaved": (
        "Regressor",
        {
            "nodes_treeids": [0, 1, 0, 1, 0, 1],
            "nodes_nodeids": [0, 0, 1, 1, 2, 2],
            "nodes_modes": ["BRANCH_LEQ"] * 2 + ["LEAF"] * 4,
            "nodes_featureids": [0] * 6,
            "nodes_values": [0.1, 0.2, 0.0, 0.0, 0.0, 0.0],
            "nodes_truenodeids": [1, 1, 0, 0, 0, 0],
            "nodes_falsenodeids": [2, 2, 0, 0, 0, 0],
        },
    ),
}


@pytest.mark.parametrize("name", ODD)
def test_an_ensemble_that_onnxruntime_reads_in_its_own_way_is_left_alone(name: str) -> None:
    """Found by attack: each gave other numbers than onnxruntime once it was rewritten. ezkl refuses the operator."""
    kind, changes = ODD[name]
    graph = onnx.load_model_from_string(parse_model(ensemble(f"TreeEnsemble{kind}", **changes)).rewritten).graph
    assert [each.op_type for each in graph.node] == [f"TreeEnsemble{kind}"]


@pytest.mark.parametrize("transform", ["NONE", "LOGISTIC"])
@pytest.mark.parametrize("weights", [[0.7, 0.8], [-0.7, 0.8]], ids=["positive", "mixed"])
def test_two_classes_of_which_one_is_voted_for(transform: str, weights: list[float]) -> None:
    """Trap: with positive votes only, the other class is the complement, but a logistic one all the same."""
    model = parse_model(ensemble("TreeEnsembleClassifier", class_weights=weights, post_transform=transform))
    assert not any(each.domain for each in onnx.load_model_from_string(model.rewritten).graph.node)
    for value in (-1.0, 1.0):
        sample = np.array([[value, 0]], np.float32)
        mine, theirs = (FloatModel(each, model.inputs).run((sample,))[-1] for each in (model.rewritten, model.static))
        assert np.allclose(mine, theirs, atol=1e-6)


def test_a_table_with_nan_inside_is_not_made() -> None:
    proto = onnx.load_model_from_string(exported(PATHS))
    votes = next(each for each in proto.graph.initializer if each.name == "votes")
    array = numpy_helper.to_array(votes).copy()
    array[0, 0, 1] = np.nan
    votes.CopyFrom(numpy_helper.from_array(array, "votes"))
    graph = onnx.load_model_from_string(parse_model(proto.SerializeToString()).rewritten).graph
    assert "ArgMax" in {each.op_type for each in graph.node}
