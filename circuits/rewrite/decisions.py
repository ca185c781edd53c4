"""Decisions: whether two tensors differ, and which leaf of a decision tree is reached.

The leaf is found by products along the paths, two rows of a circuit for each split:

``reached(true child) = reached(split) d`` and ``reached(false child) = reached(split) - reached(true child)``, level by
level for all trees at once, in integers: ezkl gives those the scale 0, so that nothing is rescaled. Exactly one leaf of
each tree is 1, the others are 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import onnx
from onnx import TensorProto, helper

from circuits.rewrite.editing import Editor


class Split(NamedTuple):
    """A node that tests; where the test's column is 1, `truth` comes next, else `falsehood`. A leaf is its number."""

    test: int
    truth: Split | int
    falsehood: Split | int


def unequal(editor: Editor, left: str, right: str) -> tuple[list[onnx.NodeProto], str]:
    """The nodes that tell where two tensors differ: above or below.

    ezkl's Equal gives 2^-scale for 1 where what it compares came from floats; its Greater and Less are exact.
    """
    above, below, other = (editor.name(each) for each in ("above", "below", "other"))
    return [
        helper.make_node("Greater", [left, right], [above]),
        helper.make_node("Less", [left, right], [below]),
        helper.make_node("Or", [above, below], [other]),
    ], other


def reached(editor: Editor, decided: str, trees: Sequence[Split], leaves: int) -> tuple[list[onnx.NodeProto], str]:
    """The nodes from a tensor of decisions, of shape (1, tests) and boolean or 0 and 1, to one of shape (1, leaves).

    Each number below `leaves` is that of exactly one leaf. The result is of type float.
    """
    nodes: list[onnx.NodeProto] = []

    def put(operator: str, *inputs: str, **fields: Any) -> str:
        name = editor.name(operator.lower())
        nodes.append(helper.make_node(operator, list(inputs), [name], **fields))
        return name

    def chosen(tensor: str, columns: Sequence[int]) -> str:
        return put("Gather", tensor, editor.constant(columns, "columns", np.int64), axis=1)

    decisions = put("Cast", decided, to=TensorProto.INT64)
    level, parents = list(trees), editor.constant([[1]], "root", np.int64)
    levels: list[str] = []
    places = [0] * leaves
    passed = 0
    while level:
        size = len(level)
        tested = chosen(decisions, [split.test for split in level])
        # a root is always reached: its true child is the decision itself
        true = put("Mul", parents, tested) if levels else tested
        both = put("Concat", true, put("Sub", parents, true), axis=1)
        levels.append(both)
        columns: list[int] = []
        below: list[Split] = []
        for index, split in enumerate(level):
            for column, child in ((index, split.truth), (size + index, split.falsehood)):
                if isinstance(child, Split):
                    columns.append(column)
                    below.append(child)
                else:
                    places[child] = passed + column
        passed += 2 * size
        if below:
            parents = chosen(both, columns)
        level = below
    joined = put("Concat", *levels, axis=1) if len(levels) > 1 else levels[0]
    return nodes, put("Cast", chosen(joined, places), to=TensorProto.FLOAT)


def tree_of(paths: Sequence[dict[int, bool]], numbers: Sequence[int] | None = None) -> Split | int | None:
    """The tree whose leaves are reached where these tests come out so; None where the paths are those of no tree.

    A path names only tests of its own way, so that some test stands in all of them: the root's.
    """
    left = list(range(len(paths))) if numbers is None else list(numbers)
    if len(left) == 1 and not paths[left[0]]:
        return left[0]
    if len(left) < 2:
        return None
    common = set.intersection(*(set(paths[each]) for each in left))
    if not common:
        return None
    test = min(common)
    shorter = [{key: value for key, value in path.items() if key != test} for path in paths]
    children = [tree_of(shorter, [each for each in left if paths[each][test] is outcome]) for outcome in (True, False)]
    if children[0] is None or children[1] is None:
        return None
    return Split(test, children[0], children[1])
