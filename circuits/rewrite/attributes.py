"""Attributes that ONNX lets a model leave out, written out: ezkl reads some of them as if they had to be there."""

from __future__ import annotations

import onnx
from onnx import helper

from circuits.rewrite.editing import Editor, Shape, attributes, is_plain, text

_WINDOWED = ("Conv", "ConvTranspose", "MaxPool", "AveragePool", "LpPool")


def write_defaults(editor: Editor) -> list[str]:
    """Strides, dilations, pads, group and kernel shape of convolutions and pools; `auto_pad` as numbers."""
    written: set[str] = set()
    padded: set[str] = set()
    for node in editor.graph.node:
        if not is_plain(node, *_WINDOWED):
            continue
        shape = editor.shapes.get(node.input[0])
        kernel = _kernel(editor, node)
        if shape is None or kernel is None or len(kernel) != len(shape) - 2:
            continue
        found = attributes(node)
        axes = len(kernel)
        wanted: dict[str, object] = {"kernel_shape": list(kernel), "strides": [1] * axes}
        if node.op_type in {"Conv", "ConvTranspose"}:
            wanted |= {"group": 1}
        if node.op_type in {"Conv", "ConvTranspose"} or (node.op_type == "MaxPool" and editor.opset >= 10):
            wanted |= {"dilations": [1] * axes}
        if node.op_type == "ConvTranspose" and "output_shape" not in found:
            wanted |= {"output_padding": [0] * axes}
        automatic = text(found.get("auto_pad"), "NOTSET")
        if automatic in {"NOTSET", "VALID"} and not (node.op_type == "ConvTranspose" and "output_shape" in found):
            wanted |= {"pads": [0] * (2 * axes)}
        missing = {name: value for name, value in wanted.items() if name not in found}
        if missing:
            node.attribute.extend(helper.make_attribute(name, value) for name, value in sorted(missing.items()))
            written.add(node.op_type)
        if automatic != "NOTSET" and node.op_type != "ConvTranspose":
            _set_pads(node, shape, kernel, automatic)
            padded.add(node.op_type)
    changes = [f"default attributes of {name} written out" for name in sorted(written)]
    return changes + [f"auto_pad of {name} written out as pads" for name in sorted(padded)]


def set_attribute(node: onnx.NodeProto, name: str, value: object) -> None:
    """Set an attribute, in place of an older value."""
    kept = [each for each in node.attribute if each.name != name]
    copies = []
    for each in kept:
        copy = onnx.AttributeProto()
        copy.CopyFrom(each)
        copies.append(copy)
    del node.attribute[:]
    node.attribute.extend([*copies, helper.make_attribute(name, value)])


def drop_attribute(node: onnx.NodeProto, name: str) -> None:
    """Remove an attribute."""
    set_attribute(node, name, 0)
    del node.attribute[-1]


def _kernel(editor: Editor, node: onnx.NodeProto) -> Shape | None:
    found = attributes(node)
    if "kernel_shape" in found:
        return tuple(int(each) for each in found["kernel_shape"])
    weights = editor.shapes.get(node.input[1]) if len(node.input) > 1 else None
    return weights[2:] if weights is not None else None


def _set_pads(node: onnx.NodeProto, shape: Shape, kernel: Shape, automatic: str) -> None:
    found = attributes(node)
    strides = [int(each) for each in found["strides"]]
    dilations = [int(each) for each in found.get("dilations", [1] * len(kernel))]
    begins, ends = [], []
    for size, width, stride, dilation in zip(shape[2:], kernel, strides, dilations, strict=True):
        if automatic == "VALID":
            total = 0
        else:
            steps = -(-size // stride)
            total = max(0, (steps - 1) * stride + (width - 1) * dilation + 1 - size)
        small = total // 2
        begins.append(total - small if automatic == "SAME_LOWER" else small)
        ends.append(small if automatic == "SAME_LOWER" else total - small)
    drop_attribute(node, "auto_pad")
    set_attribute(node, "pads", begins + ends)
