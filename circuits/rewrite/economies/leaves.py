"""A tree that an exporter wrote as matrix products and an index of the leaf: the index goes, and what follows from it.

sk2torch and others write ``leaf = argmax(d T == count and d T == d P)``: the tests that must hold do, and those that
must not do not. ezkl pays for that argmax and for each look-up with shuffles and dynamic tables. Where the two matrices
are proved to be those of a tree, exactly one leaf is reached; all that depends on its number alone is tabulated, one
row for each leaf, and picked by a product.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import onnx
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

from circuits.rewrite.decisions import Split, reached, tree_of
from circuits.rewrite.editing import Array, Editor, attributes, is_plain
from circuits.rewrite.folding import EXACT

MAX_LEAVES = 256
MAX_TABLE = 1 << 16
MAX_MATRIX = 1 << 16
_MAX_STEPS = 16
_GROWING = {"ConstantOfShape", "Expand", "Range", "Split", "Tile"}
"""Operators that make much of little, or several tensors of one."""
_TABULATED = (EXACT - _GROWING) | {"ArgMax", "ArgMin", "ReduceSum", "ReduceMax", "ReduceMin"}
"""Operators that give the same bits on every machine; a sum does on the few values that a leaf has."""


_KEEP_INTEGERS = frozenset(
    {TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.INT8, TensorProto.INT32, TensorProto.INT64}
)
_MOST_TESTS = 127
"""Sums of so many decisions fit the narrowest of these types."""


class _Leaf(NamedTuple):
    decided: str
    tree: Split
    leaves: int


def tabulate_leaves(editor: Editor) -> list[str]:
    """Replace indices of leaves and what depends on them alone; what was replaced, in words."""
    found = {node.output[0]: leaf for node in editor.graph.node if (leaf := _leaf_of(editor, node)) is not None}
    made = sum(_tabulate(editor, index, leaf) for index, leaf in found.items())
    if made:
        editor.prune()
    return [f"index of a tree's leaf as products and a table ({made} trees)"] if made else []


def _leaf_of(editor: Editor, node: onnx.NodeProto) -> _Leaf | None:
    """The tree of an ArgMax over ``(d T == count) and (d T == d P)`` of shape (1, leaves)."""
    shape = editor.shapes.get(node.input[0]) if node.input else None
    if not is_plain(node, "ArgMax") or shape is None or len(shape) != 2 or shape[0] != 1 or shape[1] > MAX_LEAVES:
        return None
    if int(attributes(node).get("axis", 0)) not in {1, -1} or node.output[0] in editor.outputs:
        return None
    found = _conditions(editor, node.input[0])
    if found is None:
        return None
    must, path, counts, decided = found
    is_small = must.size <= MAX_MATRIX and must.shape[:1] <= (_MOST_TESTS,)
    fits = (
        is_small
        and must.shape == path.shape == (must.shape[0], shape[1])
        and editor.types.get(decided) == TensorProto.BOOL
    )
    tree = _tree(must, path, counts) if fits and editor.shapes.get(decided) == (1, must.shape[0]) else None
    return None if tree is None else _Leaf(decided, tree, shape[1])


def _conditions(editor: Editor, reached_leaf: str) -> tuple[Array, Array, Array, str] | None:
    """T, P and count, and the tensor that d is made of."""
    producers = editor.producers()

    def source(name: str) -> onnx.NodeProto | None:
        """The node that makes a tensor, before any change of its type that keeps small integers as they are."""
        made = producers.get(name)
        for _ in range(_MAX_STEPS):
            if made is None or not is_plain(made, "Cast") or attributes(made)["to"] not in _KEEP_INTEGERS:
                break
            made = producers.get(made.input[0])
        return made

    both = source(reached_leaf)
    equals = [each for name in both.input if (each := source(name))] if both and is_plain(both, "And") else []
    if len(equals) != 2 or not all(is_plain(each, "Equal") for each in equals):
        return None
    is_counted = [any(name in editor.constants for name in each.input) for each in equals]
    if sum(is_counted) != 1:
        return None
    counted, compared = equals if is_counted[0] else reversed(equals)
    counts = next(editor.constants[name].reshape(-1) for name in counted.input if name in editor.constants)
    holding = [each for name in counted.input if (each := source(name)) and is_plain(each, "MatMul")]
    sides = [each for name in compared.input if (each := source(name)) and is_plain(each, "MatMul")]
    # what must hold is counted, and compared with all tests of the path
    others = [each for each in sides if each not in holding]
    if (len(holding), len(sides), len(others)) != (1, 2, 1):
        return None
    must, path = (editor.constants.get(each.input[1]) for each in (holding[0], others[0]))
    first, second = (source(each.input[0]) for each in (holding[0], others[0]))
    if must is None or path is None or first is None or first != second:
        return None
    return must, path, counts, first.output[0]


def _tree(must: Array, path: Array, counts: Array) -> Split | None:
    if not set(np.unique(np.concatenate([must, path])).tolist()) <= {0, 1} or np.any(must > path):
        return None
    if not np.array_equal(counts, must.sum(axis=0)):
        return None
    ways = [
        {int(test): bool(must[test, leaf]) for test in np.flatnonzero(path[:, leaf])} for leaf in range(path.shape[1])
    ]
    tree = tree_of(ways)
    return tree if isinstance(tree, Split) else None


def _tabulate(editor: Editor, index: str, leaf: _Leaf) -> int:
    """Replace every tensor on the border of what the index alone decides; 1 where that was done."""
    inside: list[onnx.NodeProto] = []
    names = {index}
    for node in editor.graph.node:
        is_decided = all(name in names or name in editor.constants for name in node.input if name)
        if is_decided and any(name in names for name in node.input) and is_plain(node, *_TABULATED):
            inside.append(node)
            names.update(name for name in node.output if name)
    within = {node.output[0] for node in inside}
    read = {name for node in editor.graph.node if node.output[0] not in within for name in node.input}
    border = [name for name in names if name in read | editor.outputs]
    if index in border or not border or any(name not in editor.shapes for name in border):
        return 0
    tables = _tables(editor, index, leaf.leaves, inside, border)
    if tables is None:
        return 0
    nodes, picked = reached(editor, leaf.decided, [leaf.tree], leaf.leaves)
    for name in sorted(border):
        product, shaped = editor.name("product"), editor.name("shaped")
        shape = editor.constant(editor.shapes[name], "shape", np.int64)
        nodes += [
            helper.make_node("MatMul", [picked, editor.constant(tables[name], "table", np.float32)], [product]),
            helper.make_node("Reshape", [product, shape], [shaped]),
            helper.make_node("Cast", [shaped], [name], to=editor.types[name]),
        ]
    kept = [node for node in editor.graph.node if not set(node.output) & set(border)]
    at = next(place for place, node in enumerate(kept) if index in node.output)
    editor.put([*kept[:at], *nodes, *kept[at:]])
    editor.refresh()
    return 1


def _tables(
    editor: Editor, index: str, leaves: int, inside: list[onnx.NodeProto], border: list[str]
) -> dict[str, Array] | None:
    """Each border tensor for each leaf, flat; None where one holds no numbers, or integers beyond a float32."""
    size = sum(int(np.prod(editor.shapes[name])) for name in border) * leaves
    shape = editor.shapes.get(index)
    if size > MAX_TABLE or shape is None or int(np.prod(shape)) != 1:
        return None
    used = sorted({name for node in inside for name in node.input if name in editor.constants})
    if any(each.dtype.kind == "f" and not np.isfinite(each).all() for each in map(editor.constants.__getitem__, used)):
        return None
    graph = helper.make_graph(
        inside,
        "leaf",
        [helper.make_tensor_value_info(index, TensorProto.INT64, shape)],
        [helper.make_tensor_value_info(name, editor.types[name], editor.shapes[name]) for name in border],
        [onnx.numpy_helper.from_array(editor.constants[name], name) for name in used],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", editor.opset)])
    try:
        runner = ReferenceEvaluator(model)
        rows: list[Any] = [runner.run(None, {index: np.full(shape, leaf, np.int64)}) for leaf in range(leaves)]
    except Exception:  # noqa: BLE001 - a node that cannot be computed: the graph stays as it is
        return None
    tables: dict[str, Array] = {}
    for column, name in enumerate(border):
        table = np.stack([np.asarray(row[column]).reshape(-1) for row in rows])
        with np.errstate(over="ignore"):
            narrow = table.astype(np.float32) if table.dtype.kind in "biuf" else np.array(np.nan)
        is_whole = table.dtype.kind == "f" or (np.abs(narrow).max() < 2**24 and np.array_equal(table, narrow))
        if not np.isfinite(narrow).all() or not is_whole:
            return None
        tables[name] = table
    return tables
