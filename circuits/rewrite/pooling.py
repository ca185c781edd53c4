"""Pools whose padding ezkl counts as zeros: AveragePool without counting it, MaxPool over negative values.

The padding is made explicit: zeros and a correction by the number of true values for averages; for the largest value a
copy of the edge, which lies in every window that reaches beyond it, so that it changes no result.
"""

from __future__ import annotations

import itertools
import math
from typing import Any, NamedTuple

import numpy as np
import onnx
from onnx import TensorProto, helper

from circuits.rewrite.attributes import set_attribute
from circuits.rewrite.editing import Editor, Shape, attributes, is_plain

MAX_PADDING = 64


class Window(NamedTuple):
    """What a pool looks at, axis by axis behind batch and channels."""

    shape: Shape
    kernel: Shape
    strides: Shape
    begins: Shape
    ends: Shape
    """Ends reach as far as the last window does, so that rounding up becomes padding."""


def pad_pools(editor: Editor) -> list[str]:
    """Give pools with padding explicit padding; those without are left alone."""
    told: dict[str, int] = {}

    def change(node: onnx.NodeProto) -> list[onnx.NodeProto] | None:
        if not is_plain(node, "AveragePool", "MaxPool") or (len(node.output) > 1 and node.output[1]):
            return None
        window = window_of(editor, node)
        if window is None or not any((*window.begins, *window.ends)):
            return None
        if max(*window.begins, *window.ends) > MAX_PADDING:
            return None
        new = (_average if node.op_type == "AveragePool" else _largest)(editor, node, window)
        if new is not None:
            told[node.op_type] = told.get(node.op_type, 0) + 1
        return new

    editor.each(change)
    return [f"padding of {name} made explicit" for name in sorted(told)]


def window_of(editor: Editor, node: onnx.NodeProto) -> Window | None:
    """The window of a pool without dilations; None where its input's shape or its attributes are not whole."""
    shape = editor.shapes.get(node.input[0])
    found = attributes(node)
    if shape is None or "kernel_shape" not in found or any(int(each) != 1 for each in found.get("dilations", [])):
        return None
    kernel = tuple(int(each) for each in found["kernel_shape"])
    axes = len(kernel)
    strides = tuple(int(each) for each in found.get("strides", [1] * axes))
    pads = tuple(int(each) for each in found.get("pads", [0] * (2 * axes)))
    if len(shape) != axes + 2 or len(strides) != axes or len(pads) != 2 * axes or min(*strides, *kernel) < 1:
        return None
    begins, ends = pads[:axes], list(pads[axes:])
    if min(pads) < 0 or any(pad >= width for pad, width in zip(pads, kernel * 2, strict=True)):
        return None
    if int(found.get("ceil_mode", 0)):
        for axis, (size, width, stride) in enumerate(zip(shape[2:], kernel, strides, strict=True)):
            steps = math.ceil((size + begins[axis] + ends[axis] - width) / stride) + 1
            if (steps - 1) * stride >= size + begins[axis]:
                steps -= 1
            ends[axis] = max(ends[axis], (steps - 1) * stride + width - size - begins[axis])
    return Window(shape, kernel, strides, begins, tuple(ends))


def _bare(node: onnx.NodeProto, source: str, target: str, window: Window) -> onnx.NodeProto:
    bare = onnx.NodeProto()
    bare.CopyFrom(node)
    bare.input[0], bare.output[0] = source, target
    set_attribute(bare, "pads", [0] * (2 * len(window.kernel)))
    if "ceil_mode" in attributes(bare):
        set_attribute(bare, "ceil_mode", 0)
    return bare


def _average(editor: Editor, node: onnx.NodeProto, window: Window) -> list[onnx.NodeProto] | None:
    found = attributes(node)
    if int(found.get("count_include_pad", 0)):
        if int(found.get("ceil_mode", 0)):
            return None
        return [
            *_padded(editor, node, window, padded := editor.name("padded")),
            _bare(node, padded, node.output[0], window),
        ]
    counts = np.ones((), np.float64)
    for axis, (size, width, stride) in enumerate(zip(window.shape[2:], window.kernel, window.strides, strict=True)):
        begin, end = window.begins[axis], window.ends[axis]
        starts = range(0, size + begin + end - width + 1, stride)
        valid = [min(start + width, begin + size) - max(start, begin) for start in starts]
        if min(valid, default=0) < 1:
            return None
        counts = np.multiply.outer(counts, np.array(valid, np.float64))
    share = math.prod(window.kernel) / counts
    padded, average = editor.name("padded"), editor.name("average")
    kind = _kind(editor, node)
    return [
        *_padded(editor, node, window, padded),
        _bare(node, padded, average, window),
        helper.make_node("Mul", [average, editor.constant(share[None, None], "share", kind)], [node.output[0]]),
    ]


def _kind(editor: Editor, node: onnx.NodeProto) -> Any:
    """The numpy type of what a node reads."""
    return helper.tensor_dtype_to_np_dtype(editor.types.get(node.input[0]) or TensorProto.FLOAT)


def _padded(editor: Editor, node: onnx.NodeProto, window: Window, target: str) -> list[onnx.NodeProto]:
    pads = [0, 0, *window.begins, 0, 0, *window.ends]
    if editor.opset < 11:
        return [helper.make_node("Pad", [node.input[0]], [target], mode="constant", pads=pads, value=0.0)]
    kind = _kind(editor, node)
    names = [node.input[0], editor.constant(pads, "pads", np.int64), editor.constant(0.0, "zero", kind)]
    return [helper.make_node("Pad", names, [target], mode="constant")]


def _largest(editor: Editor, node: onnx.NodeProto, window: Window) -> list[onnx.NodeProto]:
    nodes: list[onnx.NodeProto] = []
    source = node.input[0]
    for axis, (begin, end) in enumerate(zip(window.begins, window.ends, strict=True)):
        if not begin and not end:
            continue
        size = window.shape[axis + 2]
        edges = {}
        for side, start in (("first", 0), ("last", size - 1)):
            edges[side] = editor.name(side)
            nodes.append(slice_of(editor, source, edges[side], axis + 2, start, start + 1))
        joined = editor.name("edged")
        parts = [*itertools.repeat(edges["first"], begin), source, *itertools.repeat(edges["last"], end)]
        nodes.append(helper.make_node("Concat", parts, [joined], axis=axis + 2))
        source = joined
    return [*nodes, _bare(node, source, node.output[0], window)]


def slice_of(  # noqa: PLR0913, PLR0917 - a slice is that many numbers
    editor: Editor, source: str, target: str, axis: int, start: int, end: int
) -> onnx.NodeProto:
    """A Slice along one axis, in the form of the opset."""
    if editor.opset < 10:
        return helper.make_node("Slice", [source], [target], axes=[axis], starts=[start], ends=[end])
    names = [editor.constant([each], "bound", np.int64) for each in (start, end, axis)]
    return helper.make_node("Slice", [source, *names], [target])
