"""Convolutions without windows over padding alone: those give the bias, whatever the input.

They are computed once and copied around the rest, activations included: a product, a rescale and an activation are 3 to
90 rows each. To cut windows that reach into the padding does not pay: each part of the kernel is a layer of its own to
ezkl, whose weights are assigned anew (16,700 rows for 14,800 on a 5 x 5 kernel over 8 x 8 values).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import onnx
from onnx import helper

from circuits.rewrite.attributes import set_attribute
from circuits.rewrite.editing import Editor, Nodes, attributes, is_plain

LEAST_OPSET = 10
MAX_OUTPUTS = 4096
"""Along one axis: padding is a number in the file, of any size."""
_TABLES = ("Elu", "HardSigmoid", "Selu", "Sigmoid", "Softplus", "Tanh")
"""Behind a look-up the border has the scale of the rest; a plain layer's outputs are finer than its constants."""
_ELEMENTWISE = ("Clip", "Elu", "HardSigmoid", "LeakyRelu", "Relu", "Selu", "Sigmoid", "Softplus", "Tanh")


class _Axis(NamedTuple):
    """One spatial axis; an output reaches from `o * stride - begin` on by steps of `dilation`."""

    size: int
    kernel: int
    stride: int
    begin: int
    dilation: int
    outputs: int

    def taps(self, output: int) -> tuple[int, int]:
        """The first tap that meets a value, and the one behind the last."""
        at = output * self.stride - self.begin
        first = max(0, math.ceil(-at / self.dilation))
        return first, min(self.kernel, (self.size - 1 - at) // self.dilation + 1)


def spare_padding(editor: Editor) -> list[str]:
    """Compute windows over padding alone once; what was changed, in words."""
    count = 0
    while editor.opset >= LEAST_OPSET and any(_without_empty(editor, node) for node in editor.graph.node):
        count += 1
    return [f"windows over padding alone computed once ({count} nodes)"] if count else []


def _axes(editor: Editor, node: onnx.NodeProto) -> list[_Axis] | None:
    """The spatial axes of a convolution with constant weights; None where anything is unusual."""
    if not is_plain(node, "Conv") or any(name not in editor.constants for name in node.input[1:]):
        return None
    shape, result = (editor.shapes.get(name) for name in (node.input[0], node.output[0]))
    found = attributes(node)
    weights = editor.constants[node.input[1]]
    axes = weights.ndim - 2
    pads = [int(each) for each in found.get("pads", [0] * (2 * axes))]
    strides, dilations = ([int(each) for each in found.get(name, [1] * axes)] for name in ("strides", "dilations"))
    if shape is None or result is None or found.get("auto_pad", b"NOTSET") != b"NOTSET" or min(pads, default=0) < 0:
        return None
    if len(shape) != axes + 2 or shape[0] != 1 or len(pads) != 2 * axes or {len(strides), len(dilations)} != {axes}:
        return None
    numbers = zip(shape[2:], weights.shape[2:], strides, pads, dilations, result[2:], strict=False)
    return [_Axis(*each) for each in numbers]


def _without_empty(editor: Editor, node: onnx.NodeProto) -> bool:
    """Compute the outputs whose windows hold nothing once for each channel, and put them around the others."""
    axes = _axes(editor, node)
    if axes is None or any(axis.outputs > MAX_OUTPUTS for axis in axes):
        return False
    kept = [_met(axis) for axis in axes]
    if all(len(each) in {0, axis.outputs} for each, axis in zip(kept, axes, strict=True)):
        return False
    begins = [axis.begin - each.start * axis.stride for axis, each in zip(axes, kept, strict=True)]
    chain = _activations(editor, node.output[0])
    if not all(kept) or min(begins) < 0 or not any(is_plain(each, *_TABLES) for each in chain):
        return False
    ends = [
        max(0, (len(each) - 1) * axis.stride + (axis.kernel - 1) * axis.dilation + 1 - axis.size - begin)
        for axis, each, begin in zip(axes, kept, begins, strict=True)
    ]
    weights = editor.constants[node.input[1]]
    channels = weights.shape[0]
    bias = editor.constants[node.input[2]] if len(node.input) > 2 else np.zeros(channels, weights.dtype)
    core, around = editor.name("core"), editor.constant(bias.reshape(1, -1, *[1] * len(axes)), "around", weights.dtype)
    conv = onnx.NodeProto()
    conv.CopyFrom(node)
    conv.output[0] = core
    set_attribute(conv, "pads", [*begins, *ends])
    nodes = [conv]
    for each in chain:
        twins = [_twin(editor, each, source) for source in (core, around)]
        nodes += twins
        core, around = (twin.output[0] for twin in twins)
    nodes += _joined(editor, core, around, channels, list(zip(axes, kept, strict=True)))
    final = chain[-1].output[0] if chain else node.output[0]
    nodes.append(helper.make_node("Identity", [nodes[-1].output[0]], [final]))
    gone = {name for each in (node, *chain) for name in each.output}
    before = [each for each in editor.graph.node if not gone & set(each.output)]
    at = next(index for index, each in enumerate(editor.graph.node) if node.output[0] in each.output)
    editor.put([*before[:at], *nodes, *before[at:]])
    editor.refresh()
    return True


def _met(axis: _Axis) -> range:
    """The outputs from the first to the last whose window meets a value."""
    met = [output for output in range(axis.outputs) if axis.taps(output)[0] < axis.taps(output)[1]]
    return range(met[0], met[-1] + 1) if met else range(0)


def _twin(editor: Editor, node: onnx.NodeProto, source: str) -> onnx.NodeProto:
    """The same node on another tensor."""
    made = onnx.NodeProto()
    made.CopyFrom(node)
    made.input[0], made.output[0] = source, editor.name("activated")
    made.name = f"{node.name}.{made.output[0]}" if node.name else ""
    return made


def _joined(editor: Editor, core: str, around: str, channels: int, sides: list[tuple[_Axis, range]]) -> Nodes:
    """Copies of the border's values put around the core, axis by axis."""
    nodes: Nodes = []
    size = [1, channels, *(len(met) for _, met in sides)]

    def filled(axis: int, width: int) -> list[str]:
        if not width:
            return []
        shape = editor.constant([*size[:axis], width, *size[axis + 1 :]], "shape", np.int64)
        name = editor.name("block")
        nodes.append(helper.make_node("Expand", [around, shape], [name]))
        return [name]

    for place, (axis, met) in enumerate(sides, start=2):
        parts = [*filled(place, met.start), core, *filled(place, axis.outputs - met.stop)]
        core, size[place] = editor.name("bordered"), axis.outputs
        nodes.append(helper.make_node("Concat", parts, [core], axis=place))
    return nodes


def _activations(editor: Editor, tensor: str) -> list[onnx.NodeProto]:
    """The elementwise nodes in a row that alone read a tensor."""
    chain: Nodes = []
    readers = editor.readers()
    while readers.get(tensor) == 1 and tensor not in editor.outputs:
        reader = next((each for each in editor.graph.node if tensor in each.input), None)
        if reader is None or not is_plain(reader, *_ELEMENTWISE) or reader.input[0] != tensor:
            break
        if any(name not in editor.constants for name in reader.input[1:] if name):
            break
        chain.append(reader)
        tensor = reader.output[0]
    return chain
