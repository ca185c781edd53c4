"""Operators that ezkl computes differently from ONNX for some attributes or constants, written in others that it has.

Negative constant indices, constant exponents, CumSum backwards or without its own element, OneHot of other values than
0 and 1, Max with several constants, recurrent layers that run backwards. Each is exact on real numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from circuits.rewrite.editing import Editor, Nodes, attributes, is_plain, text

_STATES = {"LSTM": 2, "GRU": 1, "RNN": 1}
MAX_CUMSUM = 1024
MAX_TILES = 256


def rewrite_semantics(editor: Editor) -> list[str]:
    """Apply each of the rewrites; what was rewritten, in words."""
    told: dict[str, int] = {}

    def change(node: onnx.NodeProto) -> Nodes | None:
        made = _OPERATORS.get(node.op_type) if is_plain(node, node.op_type) else None
        new = made[0](editor, node) if made is not None else None
        if new is not None and made is not None:
            told[made[1]] = told.get(made[1], 0) + 1
        return new

    editor.each(change)
    return sorted(told)


def _indices(editor: Editor, node: onnx.NodeProto) -> Nodes | None:
    """Constant indices from the end as indices from the start, which are the same elements."""
    indices = editor.constants.get(node.input[1])
    shape = editor.shapes.get(node.input[0])
    if indices is None or shape is None or not indices.size or int(indices.min()) >= 0:
        return None
    axis = int(attributes(node).get("axis", 0))
    if node.op_type in {"GatherND", "ScatterND"}:
        batch = int(attributes(node).get("batch_dims", 0))
        sizes = np.array(shape[batch : batch + indices.shape[-1]], np.int64)
    else:
        sizes = np.array(shape[axis], np.int64)
    new = onnx.NodeProto()
    new.CopyFrom(node)
    new.input[1] = editor.constant(np.where(indices < 0, indices + sizes, indices), "indices", indices.dtype)
    return [new]


def _power(editor: Editor, node: onnx.NodeProto) -> Nodes | None:
    exponent = editor.constants.get(node.input[1])
    if exponent is None or exponent.size != 1 or editor.types.get(node.input[0]) != TensorProto.FLOAT:
        return None
    base, shape = editor.shapes.get(node.input[0]), exponent.shape
    if base is None or len(shape) > len(base):
        return None
    value = float(exponent.reshape(-1)[0])
    source, target = node.input[0], node.output[0]
    if value == 1:
        return [helper.make_node("Identity", [source], [target])]
    if value == 0.5:
        return [helper.make_node("Sqrt", [source], [target])]
    if value not in {-2, -1, 2, 3, 4}:
        return None
    nodes: Nodes = []
    last = source
    for step in range(int(abs(value)) - 1):
        is_last = value > 0 and step == abs(value) - 2
        product = target if is_last else editor.name("power")
        nodes.append(helper.make_node("Mul", [last, source], [product]))
        last = product
    if value < 0:
        nodes.append(helper.make_node("Reciprocal", [last], [target]))
    return nodes


def _maximum(editor: Editor, node: onnx.NodeProto) -> Nodes | None:
    """Of a tensor and several constants: ezkl takes one constant only, or two tensors."""
    fixed = [name for name in node.input if name in editor.constants]
    free = [name for name in node.input if name not in editor.constants]
    if len(fixed) != 1 or len(free) != 1 or editor.constants[fixed[0]].size < 2:
        return None
    if editor.constants[fixed[0]].dtype != np.float32:
        return None
    above, kept = editor.name("above"), editor.name("kept")
    return [
        helper.make_node("Sub", [free[0], fixed[0]], [above]),
        helper.make_node("Relu", [above], [kept]),
        helper.make_node("Add", [kept, fixed[0]], [node.output[0]]),
    ]


def _cumsum(editor: Editor, node: onnx.NodeProto) -> Nodes | None:
    """A product with a triangle of ones along the axis."""
    found = attributes(node)
    shape, axis = editor.shapes.get(node.input[0]), editor.constants.get(node.input[1])
    is_exclusive, is_reverse = bool(found.get("exclusive", 0)), bool(found.get("reverse", 0))
    if shape is None or axis is None or not (is_exclusive or is_reverse):
        return None
    if editor.types.get(node.input[0]) != TensorProto.FLOAT:
        return None
    along = int(axis.reshape(-1)[0]) % len(shape)
    size = shape[along]
    if not 0 < size <= MAX_CUMSUM:
        return None
    triangle = np.triu(np.ones((size, size)), int(is_exclusive))
    ones = editor.constant(triangle.T if is_reverse else triangle, "triangle", np.float32)
    order = [*(each for each in range(len(shape)) if each != along), along]
    if along == len(shape) - 1:
        return [helper.make_node("MatMul", [node.input[0], ones], [node.output[0]])]
    moved, summed = editor.name("moved"), editor.name("summed")
    back = [order.index(each) for each in range(len(shape))]
    return [
        helper.make_node("Transpose", [node.input[0]], [moved], perm=order),
        helper.make_node("MatMul", [moved, ones], [summed]),
        helper.make_node("Transpose", [summed], [node.output[0]], perm=back),
    ]


def _one_hot(editor: Editor, node: onnx.NodeProto) -> Nodes | None:
    values = editor.constants.get(node.input[2])
    if values is None or values.size != 2 or values.dtype != np.float32 or values.reshape(-1).tolist() == [0, 1]:
        return None
    off, on = (float(each) for each in values.reshape(-1))
    new = onnx.NodeProto()
    new.CopyFrom(node)
    hot, scaled = editor.name("hot"), editor.name("scaled")
    new.input[2], new.output[0] = editor.constant([0.0, 1.0], "values", np.float32), hot
    return [
        new,
        helper.make_node("Mul", [hot, editor.constant(on - off, "span", np.float32)], [scaled]),
        helper.make_node("Add", [scaled, editor.constant(off, "off", np.float32)], [node.output[0]]),
    ]


def _recurrent(  # noqa: C901, PLR0912 - seven optional inputs and two directions, in the order of the operator
    editor: Editor, node: onnx.NodeProto
) -> Nodes | None:
    """A layer that runs backwards as one that runs forwards on the reversed sequence; both ways as two layers."""
    found = attributes(node)
    direction = text(found.get("direction"), "forward")
    shape = editor.shapes.get(node.input[0])
    is_plain_layout = not int(found.get("layout", 0)) and not (len(node.input) > 4 and node.input[4])
    if direction not in {"reverse", "bidirectional"} or shape is None or not is_plain_layout:
        return None
    ways = 2 if direction == "bidirectional" else 1
    names = [*node.input, "", "", "", "", ""][:8]
    stored = [editor.constants.get(name) for name in names[1:4]]
    if any(name and each is None for name, each in zip(names[1:4], stored, strict=True)) or names[7]:
        return None
    activations = [text(each) for each in found.get("activations", [])]
    backward = editor.constant(list(range(shape[0] - 1, -1, -1)), "backward", np.int64)
    nodes: Nodes = []
    results: list[list[str]] = []
    for way in range(ways):
        is_backward = direction == "reverse" or way == 1
        source = node.input[0]
        if is_backward:
            source = editor.name("reversed")
            nodes.append(helper.make_node("Gather", [node.input[0], backward], [source], axis=0))
        inputs = [source]
        inputs += [
            editor.constant(each[way : way + 1], "weights", each.dtype) if each is not None else "" for each in stored
        ]
        inputs.append("")
        for name in names[5:7]:
            part = editor.name("state") if name else ""
            if name:
                chosen = editor.constant([way], "way", np.int64)
                nodes.append(helper.make_node("Gather", [name, chosen], [part], axis=0))
            inputs.append(part)
        while inputs and not inputs[-1]:
            inputs.pop()
        wanted = [bool(each) for each in (*node.output, "", "", "")][: 1 + _STATES[node.op_type]]
        outputs = [editor.name("state") if is_wanted else "" for is_wanted in wanted]
        name = f"{node.name}_backward" if is_backward else node.name
        layer = helper.make_node(node.op_type, inputs, list(outputs), name=name)
        share = len(activations) // ways
        for each in node.attribute:
            if each.name == "activations":
                layer.attribute.append(
                    helper.make_attribute("activations", activations[way * share : (way + 1) * share])
                )
            elif each.name != "direction":
                layer.attribute.append(each)
        nodes.append(layer)
        if is_backward and outputs[0]:
            forward = editor.name("forward")
            nodes.append(helper.make_node("Gather", [outputs[0], backward], [forward], axis=0))
            outputs[0] = forward
        results.append(outputs)
    for index, target in enumerate(node.output):
        if target:
            parts = [each[index] for each in results]
            nodes.append(
                helper.make_node("Concat", parts, [target], axis=0 if index else 1)
                if ways == 2
                else helper.make_node("Identity", parts, [target])
            )
    return nodes


def _reshape(editor: Editor, node: onnx.NodeProto) -> Nodes | None:
    """The shape that comes out instead of 0 for "as before" and -1 for "the rest"."""
    wanted, shape = editor.constants.get(node.input[1]), editor.shapes.get(node.output[0])
    if wanted is None or shape is None or not wanted.size or (wanted.min() > 0) or not all(shape):
        return None
    if editor.shapes.get(node.input[0]) == shape:
        # tract stumbles over a Reshape to the shape that is there
        return [helper.make_node("Identity", [node.input[0]], [node.output[0]], name=node.name)]
    new = onnx.NodeProto()
    new.CopyFrom(node)
    new.input[1] = editor.constant(shape, "shape", np.int64)
    kept = [each for each in new.attribute if each.name != "allowzero"]
    del new.attribute[:]
    new.attribute.extend(kept)
    return [new]


def _tile(editor: Editor, node: onnx.NodeProto) -> Nodes | None:
    """Copies side by side, axis by axis."""
    repeats = editor.constants.get(node.input[1])
    if repeats is None or repeats.ndim != 1 or not 1 <= int(repeats.min()) <= int(repeats.max()) <= MAX_TILES:
        return None
    nodes: Nodes = []
    source = node.input[0]
    for axis, count in enumerate(int(each) for each in repeats):
        if count > 1:
            target = editor.name("tiled")
            nodes.append(helper.make_node("Concat", [source] * count, [target], axis=axis))
            source = target
    return [*nodes, helper.make_node("Identity", [source], [node.output[0]])]


_Rewrite = tuple[Callable[[Editor, onnx.NodeProto], Nodes | None], str]
_NEGATIVE: Any = "negative constant indices counted from the start"
_OPERATORS: dict[str, _Rewrite] = {
    "Max": (_maximum, "the larger of a tensor and constants as Relu"),
    "CumSum": (_cumsum, "CumSum as a product with a triangle of ones"),
    "GRU": (_recurrent, "backward GRU as a forward one on the reversed sequence"),
    "Gather": (_indices, _NEGATIVE),
    "GatherElements": (_indices, _NEGATIVE),
    "GatherND": (_indices, _NEGATIVE),
    "LSTM": (_recurrent, "backward LSTM as a forward one on the reversed sequence"),
    "OneHot": (_one_hot, "OneHot of 0 and 1, then scaled"),
    "Pow": (_power, "constant powers as products"),
    "Reshape": (_reshape, "shapes of Reshape written out"),
    "RNN": (_recurrent, "backward RNN as a forward one on the reversed sequence"),
    "ScatterElements": (_indices, _NEGATIVE),
    "ScatterND": (_indices, _NEGATIVE),
    "Tile": (_tile, "Tile as Concat"),
}
