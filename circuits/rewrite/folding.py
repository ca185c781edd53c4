"""Constant folding and what it leaves behind: constants computed, shapes known, Identity, Dropout and dead nodes gone.

Only operators whose result is the same bits on every machine are computed here (moves of data, integers, IEEE
arithmetic): the circuit's identity hangs on these bytes, and whoever rebuilds it must find them again.
"""

from __future__ import annotations

import math

import numpy as np
import onnx
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from circuits.rewrite.editing import MAX_FOLDED, Array, Editor, attributes, is_plain

EXACT = frozenset(
    {
        "Abs",
        "Add",
        "And",
        "Cast",
        "Ceil",
        "Concat",
        "ConstantOfShape",
        "DequantizeLinear",
        "Div",
        "Equal",
        "Expand",
        "Flatten",
        "Floor",
        "Gather",
        "GatherElements",
        "GatherND",
        "Greater",
        "GreaterOrEqual",
        "Identity",
        "Less",
        "LessOrEqual",
        "Max",
        "Min",
        "Mod",
        "Mul",
        "Neg",
        "Not",
        "Or",
        "Range",
        "Reciprocal",
        "Reshape",
        "ScatterElements",
        "ScatterND",
        "Shape",
        "Sign",
        "Size",
        "Slice",
        "Split",
        "Sqrt",
        "Squeeze",
        "Sub",
        "Tile",
        "Transpose",
        "Trilu",
        "Unsqueeze",
        "Where",
        "Xor",
    }
)
_ROUNDS = 64


def fold(editor: Editor) -> list[str]:
    """Compute what no input changes, until nothing is left to compute."""
    folded = 0
    for _ in range(_ROUNDS):
        turn = editor.each(lambda node: _folded(editor, node))
        if not turn:
            break
        folded += turn
    gone = _bypass(editor)
    dead = editor.prune()
    changes = []
    if folded:
        changes.append(f"constants computed ({folded} nodes)")
    if gone:
        changes.append(f"nodes that change nothing removed ({gone})")
    if dead > 0:
        changes.append("nodes that no output needs removed")
    return changes


def _folded(  # noqa: PLR0911 - each return is a node that is left alone
    editor: Editor, node: onnx.NodeProto
) -> list[onnx.NodeProto] | None:
    if is_plain(node, "Constant"):
        value = editor.constants.get(node.output[0])
        if value is None:
            return None
        editor.graph.initializer.append(numpy_helper.from_array(np.asarray(value), node.output[0]))
        return []
    if (
        not (is_plain(node, *EXACT) or _is_whole_sum(editor, node))
        or not node.output
        or any(name in editor.outputs for name in node.output)
    ):
        return None
    if is_plain(node, "Shape", "Size") and node.input[0] in editor.shapes:
        return _store(editor, node, [_shape_value(editor, node)])
    if not all(name in editor.constants for name in node.input if name):
        return None
    given = {name: editor.constants[name] for name in node.input if name}
    if not _is_bounded(node, given):
        return None
    try:
        with np.errstate(all="ignore"):
            runner = ReferenceEvaluator(node, opsets={"": editor.opset})
            results = runner.run(None, given)
    except Exception:  # noqa: BLE001 - a node that cannot be computed stays as it is; the checks judge the whole graph
        return None
    arrays = [np.asarray(each) for each in results]
    if any(each.size > MAX_FOLDED or each.dtype == object for each in arrays):
        return None
    return _store(editor, node, arrays)


def _is_whole_sum(editor: Editor, node: onnx.NodeProto) -> bool:
    """A sum of integers, which is the same in any order."""
    return is_plain(node, "ReduceSum") and np.issubdtype(
        editor.constants.get(node.input[0], np.empty(0)).dtype, np.integer
    )


def _store(editor: Editor, node: onnx.NodeProto, values: list[Array]) -> list[onnx.NodeProto] | None:
    names = [name for name in node.output if name]
    if len(names) > len(values):
        return None
    for name, value in zip(node.output, values, strict=False):
        if name:
            editor.graph.initializer.append(
                numpy_helper.from_array(np.ascontiguousarray(value).reshape(value.shape), name)
            )
            editor.constants[name] = value
    return []


def _shape_value(editor: Editor, node: onnx.NodeProto) -> Array:
    shape = editor.shapes[node.input[0]]
    if node.op_type == "Size":
        return np.array(math.prod(shape), np.int64)
    found = attributes(node)
    start, end = int(found.get("start", 0)), found.get("end")
    return np.array(shape[start : None if end is None else int(end)], np.int64)


def _is_bounded(node: onnx.NodeProto, given: dict[str, Array]) -> bool:
    """Whether the result has at most MAX_FOLDED values, known before it is made."""
    arrays = [given[name] for name in node.input if name]
    largest = max((each.size for each in arrays), default=1)
    if largest > MAX_FOLDED:
        return False
    try:
        match node.op_type:
            case "ConstantOfShape":
                size = math.prod(int(each) for each in arrays[0].reshape(-1))
            case "Expand":
                size = math.prod(
                    np.broadcast_shapes(arrays[0].shape, tuple(int(each) for each in arrays[1].reshape(-1)))
                )
            case "Tile":
                size = arrays[0].size * math.prod(int(each) for each in arrays[1].reshape(-1))
            case "Range":
                start, limit, step = (float(each.reshape(-1)[0]) for each in arrays)
                size = int(max(0.0, (limit - start) / step)) + 1
            case "Gather" | "GatherElements" | "GatherND":
                size = arrays[0].size * max(1, arrays[1].size)
            case "Concat" | "Reshape" | "Slice" | "Split" | "Transpose":
                size = sum(each.size for each in arrays)
            case _:
                size = math.prod(np.broadcast_shapes(*(each.shape for each in arrays))) if arrays else 1
    except (ValueError, ZeroDivisionError, OverflowError, IndexError):
        return node.op_type in {"Unsqueeze", "Squeeze", "Where", "ScatterElements", "ScatterND", "DequantizeLinear"}
    return 0 <= size <= MAX_FOLDED


def _bypass(editor: Editor) -> int:  # noqa: C901 - three idle operators, each with its own condition
    """Remove nodes that give out what they take in: Identity, Dropout at inference, a Cast to the same type."""
    names: dict[str, str] = {}
    outputs = editor.outputs
    inner = editor.inner_names()

    def is_idle(node: onnx.NodeProto) -> bool:
        if is_plain(node, "Identity"):
            return True
        if is_plain(node, "Dropout"):
            training = editor.constants.get(node.input[2]) if len(node.input) > 2 and node.input[2] else np.array(False)
            masked = len(node.output) > 1 and node.output[1]
            return not masked and training is not None and not bool(np.any(training))
        if is_plain(node, "Cast"):
            before = editor.types.get(node.input[0], 0)
            return before != 0 and before == attributes(node).get("to")
        return False

    def change(node: onnx.NodeProto) -> list[onnx.NodeProto] | None:
        if not node.input or node.output[0] in inner or not is_idle(node):
            return None
        if node.output[0] in outputs:
            if node.op_type == "Identity" and node.input[0] not in editor.constants:
                return None
            return [helper.make_node("Identity", [node.input[0]], [node.output[0]], name=node.name)]
        names[node.output[0]] = node.input[0]
        return []

    kept: list[onnx.NodeProto] = []
    gone = 0
    for node in list(editor.graph.node):
        new = change(node)
        if new is None:
            kept.append(node)
        else:
            gone += not new
            kept.extend(new)
    if gone:
        editor.put(kept)
        editor.rename(names)
        editor.refresh()
    return gone
