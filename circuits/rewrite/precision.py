"""Models in double or half precision as the same in single precision, the only one whose layers ezkl reads.

What a model says of its inputs stays: an input in another precision is cast where it comes in. Outputs are declared
single. Weights are rounded to 24 bits, which a circuit's scales round far more.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

_OTHER = frozenset({TensorProto.DOUBLE, TensorProto.FLOAT16})


def to_single(proto: onnx.ModelProto) -> list[str]:
    """Make the main graph single, in place.

    Left alone: a graph with inner graphs or functions, with operators of ai.onnx.ml (their attributes have types too),
    and one with a weight that single precision has no finite value for.
    """
    if proto.functions or not _concerns(proto.graph) or not all(map(_is_simple, proto.graph.node)):
        return []
    stored = {each.name: numpy_helper.to_array(each) for each in proto.graph.initializer if each.data_type in _OTHER}
    values = [numpy_helper.to_array(each.t) for node in proto.graph.node for each in node.attribute if _is_other(each)]
    if not all(_fits(array) for array in (*stored.values(), *values)):
        return []
    for each in proto.graph.initializer:
        if each.name in stored:
            each.CopyFrom(numpy_helper.from_array(_single(stored[each.name]), each.name))
    for node in proto.graph.node:
        _retype(node)
    _cast_inputs(proto.graph)
    for info in proto.graph.output:
        if info.type.tensor_type.elem_type in _OTHER:
            info.type.tensor_type.elem_type = TensorProto.FLOAT
    del proto.graph.value_info[:]
    return ["computed in single precision"]


def _concerns(graph: onnx.GraphProto) -> bool:
    """Whether anything of the graph is in another precision."""
    return (
        any(each.data_type in _OTHER for each in graph.initializer)
        or any(each.type.tensor_type.elem_type in _OTHER for each in (*graph.input, *graph.output))
        or any(
            _is_other(each) or (each.name in {"to", "dtype"} and each.i in _OTHER)
            for node in graph.node
            for each in node.attribute
        )
    )


def _is_simple(node: onnx.NodeProto) -> bool:
    return node.domain in {"", "ai.onnx"} and not any(each.graphs or each.HasField("g") for each in node.attribute)


def _is_other(attribute: onnx.AttributeProto) -> bool:
    return attribute.type == onnx.AttributeProto.TENSOR and attribute.t.data_type in _OTHER


def _single(array: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):
        return array.astype(np.float32)


def _fits(array: np.ndarray) -> bool:
    return bool(np.array_equal(np.isfinite(_single(array)), np.isfinite(array)))


def _retype(node: onnx.NodeProto) -> None:
    for each in node.attribute:
        if _is_other(each):
            each.t.CopyFrom(numpy_helper.from_array(_single(numpy_helper.to_array(each.t)), each.t.name))
        elif each.name in {"to", "dtype"} and each.i in _OTHER:
            each.i = TensorProto.FLOAT


def _cast_inputs(graph: onnx.GraphProto) -> None:
    """Read a cast of each input of another precision instead of it."""
    taken = {name for node in graph.node for name in (*node.input, *node.output)}
    taken |= {each.name for each in (*graph.input, *graph.initializer)}
    casts: list[onnx.NodeProto] = []
    for info in graph.input:
        if info.type.tensor_type.elem_type not in _OTHER:
            continue
        name = f"rw_single_{len(casts)}"
        while name in taken:
            name += "_"
        for node in graph.node:
            for index, read in enumerate(node.input):
                if read == info.name:
                    node.input[index] = name
        casts.append(helper.make_node("Cast", [info.name], [name], to=TensorProto.FLOAT))
    for node in reversed(casts):
        graph.node.insert(0, node)
