"""The graph for hashed inputs: one flat input ``[x || blind]``, of which x is sliced off inside.

Ezkl hashes whole classes of tensors, so the job's words would be hidden too: they also leave as the last output. Only
`circuits.parsing` calls this, where a stranger's graph may be touched.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from circuits.model import JOB_INPUT, Tensor
from verifier.statement.manifest import BLIND_WORDS, JOB_LIMBS

PREFIX = "opgate_"
"""Of every name that is added to a graph."""
JOB_OUTPUT = "opgate_job_shown"
_SLICE_BY_INPUTS = 10
"""From this opset on Slice takes its bounds as inputs, before as attributes."""


def add_blind(proto: onnx.ModelProto, tensor: Tensor) -> bytes:
    """The bytes of a graph with one input and the job input, changed in place to take ``[x || blind]``."""
    graph = proto.graph
    old = graph.input[0]
    element = old.type.tensor_type.elem_type
    joined = helper.make_tensor_value_info(f"{PREFIX}input", element, [tensor.size + BLIND_WORDS])
    job = graph.input[1]
    del graph.input[:]
    graph.input.extend([joined, job])
    body = list(graph.node)
    del graph.node[:]
    graph.node.extend(
        [
            *_slice(proto, graph, joined.name, f"{PREFIX}flat", tensor.size),
            helper.make_node("Reshape", [f"{PREFIX}flat", f"{PREFIX}shape"], [old.name]),
            *body,
            helper.make_node("Identity", [JOB_INPUT], [JOB_OUTPUT]),
        ]
    )
    graph.initializer.append(numpy_helper.from_array(np.array(tensor.shape, np.int64), f"{PREFIX}shape"))
    graph.output.append(helper.make_tensor_value_info(JOB_OUTPUT, TensorProto.INT64, [1, JOB_LIMBS]))
    return bytes(proto.SerializeToString(deterministic=True))


def taken_names(proto: onnx.ModelProto) -> list[str]:
    """Names of the model that begin as ours do, which `add_blind` could meet."""
    graph = proto.graph
    names = {name for node in graph.node for name in (*node.input, *node.output)}
    names.update(each.name for each in (*graph.initializer, *graph.output))
    return sorted(name for name in names if name.startswith(PREFIX) and name != JOB_INPUT)


def _slice(proto: onnx.ModelProto, graph: onnx.GraphProto, source: str, target: str, size: int) -> list[onnx.NodeProto]:
    opset = next((each.version for each in proto.opset_import if each.domain in {"", "ai.onnx"}), 1)
    if opset < _SLICE_BY_INPUTS:
        return [helper.make_node("Slice", [source], [target], axes=[0], starts=[0], ends=[size])]
    names = []
    for name, value in (("start", 0), ("end", size), ("axis", 0)):
        names.append(f"{PREFIX}{name}")
        graph.initializer.append(numpy_helper.from_array(np.array([value], np.int64), names[-1]))
    return [helper.make_node("Slice", [source, *names], [target])]
