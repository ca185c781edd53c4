"""Trees that ask for equality, as LightGBM writes categorical features: the same answers as onnxruntime's."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import onnx
import pytest

from circuits.float_model import FloatModel
from circuits.parsing import parse_model
from circuits.samples import Array
from tests.circuits.rewrite.test_trees import ensemble

EDGES = [0, -0.0, 1, 2, 3, 5, 31, 32, 33, 64, -1, 2.5, 0.99999994, 1.0000001, 1e-45, 2**31, 2**63, 3.4e38, -3.4e38]
PAIRS = np.array([*itertools.product(EDGES, repeat=2)], np.float32)


def asked_in_a_row(
    categories: list[float], last: str = "LEAF", threshold: float = 0.0, *, is_shared: bool = True
) -> bytes:
    """A node for each category, with one leaf for all or one each, then another node or a leaf."""
    count = len(categories)
    yes = [count + 3] * count if is_shared else [count + 3 + index for index in range(count)]
    leaves = 1 if is_shared else count
    total = count + 3 + leaves
    rest = [0] * (total - count - 1)
    is_leaf = last == "LEAF"
    fields: dict[str, Any] = {
        "nodes_treeids": [0] * total,
        "nodes_nodeids": list(range(total)),
        "nodes_modes": ["BRANCH_EQ"] * count + [last] + ["LEAF"] * len(rest),
        "nodes_featureids": [0] * count + [1] + rest,
        "nodes_values": [*categories, threshold, *rest],
        "nodes_truenodeids": [*yes, 0 if is_leaf else count + 1, *rest],
        "nodes_falsenodeids": [*range(1, count + 1), 0 if is_leaf else count + 2, *rest],
    }
    voting = list(range(count + (0 if is_leaf else 1), total))
    fields |= {"target_treeids": [0] * len(voting), "target_nodeids": voting, "target_ids": [0] * len(voting)}
    fields["target_weights"] = [float(2**index) for index in range(len(voting))]
    return ensemble("TreeEnsembleRegressor", **fields)


def assert_same(source: bytes, rows: Array = PAIRS) -> None:
    model = parse_model(source)
    assert not any(each.domain for each in onnx.load_model_from_string(model.rewritten).graph.node)
    mine, theirs = (FloatModel(graph, model.inputs) for graph in (model.rewritten, model.static))
    seen = set()
    for row in rows:
        found, wanted = mine.run((row[None],))[-1], theirs.run((row[None],))[-1]
        assert np.array_equal(found, wanted), row
        seen.add(float(found.reshape(-1)[0]))
    assert len(seen) > 1


@pytest.mark.parametrize("is_shared", [True, False], ids=["one leaf for all", "a leaf for each"])
@pytest.mark.parametrize("last", ["LEAF", "BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE", "BRANCH_GT", "BRANCH_EQ"])
@pytest.mark.parametrize("categories", [[2], [1, 3, 32], [0, 33, 64], [-1, 2.5, 5], [3, 3]], ids=str)
def test_a_set_of_categories(categories: list[float], last: str, *, is_shared: bool) -> None:
    """Trap: onnxruntime makes one question of a row of them, for whole numbers from 1 to 32."""
    rows = PAIRS if last != "LEAF" else PAIRS[:: len(EDGES)]
    assert_same(asked_in_a_row(categories, last, 1.0, is_shared=is_shared), rows[::3] if len(rows) > 50 else rows)


def test_equality_and_an_order_with_one_threshold_are_two_questions() -> None:
    fields = {
        "nodes_treeids": [0] * 5,
        "nodes_nodeids": list(range(5)),
        "nodes_modes": ["BRANCH_LEQ", "BRANCH_EQ", "LEAF", "LEAF", "LEAF"],
        "nodes_featureids": [0] * 5,
        "nodes_values": [2.0, 2.0, 0.0, 0.0, 0.0],
        "nodes_truenodeids": [1, 2, 0, 0, 0],
        "nodes_falsenodeids": [4, 3, 0, 0, 0],
        "target_treeids": [0] * 3,
        "target_nodeids": [2, 3, 4],
        "target_ids": [0] * 3,
        "target_weights": [1.0, 2.0, 4.0],
    }
    assert_same(ensemble("TreeEnsembleRegressor", **fields), PAIRS[:: len(EDGES)])


def test_two_orders_beside_equality_are_left_alone() -> None:
    proto = onnx.load_model_from_string(asked_in_a_row([1, 2], "BRANCH_LEQ", 1.0))
    modes = next(each for each in proto.graph.node[0].attribute if each.name == "nodes_modes")
    for other in (b"BRANCH_LT", b"BRANCH_NEQ"):
        modes.strings[0] = other
        graph = onnx.load_model_from_string(parse_model(proto.SerializeToString()).rewritten).graph
        assert [each.op_type for each in graph.node] == ["TreeEnsembleRegressor"]
