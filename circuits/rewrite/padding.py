"""Pad in the modes that ezkl lacks, and LpNormalization: written by operators that it has."""

from __future__ import annotations

import math

import numpy as np
import onnx
from onnx import TensorProto, helper

from circuits.rewrite.editing import Array, Editor, Shape, attributes, is_plain, text

MAX_PADDED = 1 << 20


def rewrite_padding(editor: Editor) -> list[str]:
    """Pads by reflection, by the edge, around the end or with a value, and the division by a norm."""
    told: list[str] = []

    def change(node: onnx.NodeProto) -> list[onnx.NodeProto] | None:
        if is_plain(node, "LpNormalization"):
            new = _divided(editor, node)
            words = "LpNormalization as the division by the norm"
        elif is_plain(node, "Pad"):
            new = _padded(editor, node)
            words = "Pad by copies of what is there or by a constant"
        else:
            return None
        if new is not None and words not in told:
            told.append(words)
        return new

    editor.each(change)
    return told


def _divided(editor: Editor, node: onnx.NodeProto) -> list[onnx.NodeProto] | None:
    found = attributes(node)
    shape = editor.shapes.get(node.input[0])
    if shape is None or int(found.get("p", 2)) not in {1, 2}:
        return None
    operator, norm = f"ReduceL{int(found.get('p', 2))}", editor.name("norm")
    axis = int(found.get("axis", -1)) % len(shape)
    if editor.opset < 18:
        reduced = helper.make_node(operator, [node.input[0]], [norm], axes=[axis], keepdims=1)
    else:
        axes = editor.constant([axis], "axes", np.int64)
        reduced = helper.make_node(operator, [node.input[0], axes], [norm], keepdims=1)
    return [reduced, helper.make_node("Div", [node.input[0], norm], [node.output[0]])]


def _pads(editor: Editor, node: onnx.NodeProto, shape: Shape) -> tuple[list[int], list[int], float] | None:
    """Begins, ends and the value; None where they are not constants."""
    found = attributes(node)
    value = float(found.get("value", 0.0))
    if "pads" in found:
        pads = [int(each) for each in found["pads"]]
    else:
        stored = editor.constants.get(node.input[1]) if len(node.input) > 1 else None
        if stored is None or (len(node.input) > 3 and node.input[3]):
            return None
        pads = [int(each) for each in stored.reshape(-1)]
        if len(node.input) > 2 and node.input[2]:
            filler = editor.constants.get(node.input[2])
            if filler is None:
                return None
            value = float(filler.reshape(-1)[0])
    rank = len(shape)
    if len(pads) != 2 * rank or min(pads, default=0) < 0:
        return None
    return pads[:rank], pads[rank:], value


def _padded(editor: Editor, node: onnx.NodeProto) -> list[onnx.NodeProto] | None:
    shape = editor.shapes.get(node.input[0])
    mode = text(attributes(node).get("mode"), "constant")
    pads = _pads(editor, node, shape) if shape is not None else None
    if shape is None or pads is None or editor.types.get(node.input[0]) != TensorProto.FLOAT:
        return None
    begins, ends, value = pads
    grown = [size + begin + end for size, begin, end in zip(shape, begins, ends, strict=True)]
    if math.prod(grown) > MAX_PADDED:
        return None
    if mode == "constant":
        return _with_value(editor, node, begins, ends, value, grown) if value and math.isfinite(value) else None
    nodes: list[onnx.NodeProto] = []
    source = node.input[0]
    for axis, (size, begin, end) in enumerate(zip(shape, begins, ends, strict=True)):
        if not begin and not end:
            continue
        indices = _indices(mode, size, begin, end)
        if indices is None:
            return None
        target = editor.name("padded")
        nodes.append(helper.make_node("Gather", [source, editor.constant(indices, "places")], [target], axis=axis))
        source = target
    return [*nodes, helper.make_node("Identity", [source], [node.output[0]])]


def _indices(mode: str, size: int, begin: int, end: int) -> Array | None:
    """Where each place of the padded axis comes from."""
    places = np.arange(-begin, size + end, dtype=np.int64)
    if mode == "edge":
        return np.clip(places, 0, size - 1)
    if mode == "wrap":
        return places % size
    if mode == "reflect" and size > 1:
        period = 2 * (size - 1)
        folded = np.abs(places) % period
        return np.where(folded >= size, period - folded, folded)
    return None


def _with_value(  # noqa: PLR0913, PLR0917 - a padding is that many numbers
    editor: Editor, node: onnx.NodeProto, begins: list[int], ends: list[int], value: float, grown: list[int]
) -> list[onnx.NodeProto]:
    """Padding with zeros, and the value added where they are."""
    frame = np.full(grown, value, np.float32)
    inside = tuple(slice(begin, total - end) for begin, end, total in zip(begins, ends, grown, strict=True))
    frame[inside] = 0
    zeros = editor.name("zeros")
    if editor.opset < 11:
        padded = helper.make_node("Pad", [node.input[0]], [zeros], mode="constant", pads=[*begins, *ends], value=0.0)
    else:
        pads = editor.constant([*begins, *ends], "pads", np.int64)
        zero = editor.constant(0.0, "zero", np.float32)
        padded = helper.make_node("Pad", [node.input[0], pads, zero], [zeros], mode="constant")
    return [padded, helper.make_node("Add", [zeros, editor.constant(frame, "frame")], [node.output[0]])]
