"""Inner tensors of a graph as its outputs, so that the first node that goes wrong can be found. Runs in the child."""

from __future__ import annotations

from collections.abc import Sequence

import onnx
from onnx import TensorProto, helper

from circuits.model import JOB_INPUT
from circuits.rewrite.editing import Editor
from verifier.statement.manifest import JOB_LIMBS


def cut_graph(raw: bytes, tensors: Sequence[str]) -> tuple[bytes, bytes]:
    """The graph with these tensors as outputs and nothing that they do not need: without and with the job input."""
    proto = onnx.load_model_from_string(raw)
    editor = Editor(proto)
    made = []
    for name in tensors:
        element = editor.types.get(name) or TensorProto.FLOAT
        made.append(helper.make_tensor_value_info(name, element, editor.shapes.get(name)))
    del proto.graph.output[:]
    proto.graph.output.extend(made)
    editor.prune()
    bare = proto.SerializeToString(deterministic=True)
    proto.graph.input.append(helper.make_tensor_value_info(JOB_INPUT, TensorProto.INT64, [1, JOB_LIMBS]))
    return bare, proto.SerializeToString(deterministic=True)
