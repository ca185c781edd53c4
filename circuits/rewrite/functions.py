"""Operators that ONNX itself defines by others, and ezkl does not know: their definition is written into the graph.

Functions that a model brings along (PyTorch's exporter writes such) are inlined too.
"""

from __future__ import annotations

import onnx
from onnx import inliner

_UNKNOWN_TO_EZKL = frozenset(
    {"Celu", "Gelu", "GroupNormalization", "MeanVarianceNormalization", "Mish", "Shrink", "Swish"}
)


def inline_functions(proto: onnx.ModelProto) -> list[str]:
    """Inline a model's own functions and the definitions of operators that ezkl does not know, in place."""
    changes = []
    if proto.functions:
        proto.CopyFrom(inliner.inline_local_functions(proto, convert_version=False))
        changes.append("the model's own functions inlined")
    used = {node.op_type for node in proto.graph.node if node.domain in {"", "ai.onnx"}} & _UNKNOWN_TO_EZKL
    if used:
        _tell_types(proto)
        for node in proto.graph.node:
            if node.op_type in used:
                _write_defaults(node, proto)
        inlined = inliner.inline_selected_functions(
            proto, [("", name) for name in sorted(used)], exclude=False, inline_schema_functions=True
        )
        del inlined.graph.value_info[:]
        left = {node.op_type for node in inlined.graph.node if node.domain in {"", "ai.onnx"}}
        proto.CopyFrom(inlined)
        changes.extend(f"{name} by its definition in ONNX" for name in sorted(used - left))
    return changes


def _write_defaults(node: onnx.NodeProto, proto: onnx.ModelProto) -> None:
    """Write out a node's default attributes: a definition that refers to one left out would be inlined without it."""
    version = next((each.version for each in proto.opset_import if each.domain in {"", "ai.onnx"}), 1)
    schema = onnx.defs.get_schema(node.op_type, version)
    there = {each.name for each in node.attribute}
    for name, attribute in sorted(schema.attributes.items()):
        if name not in there and attribute.default_value.type != onnx.AttributeProto.UNDEFINED:
            node.attribute.append(attribute.default_value)


def _tell_types(proto: onnx.ModelProto) -> None:
    """Write every tensor's type beside it: the inliner chooses a definition by them, and looks at no initializer."""
    inferred = onnx.shape_inference.infer_shapes(proto)
    proto.graph.value_info.extend(
        onnx.helper.make_tensor_value_info(each.name, each.data_type, list(each.dims))
        for each in proto.graph.initializer
    )
    known = {each.name for each in proto.graph.value_info}
    proto.graph.value_info.extend(each for each in inferred.graph.value_info if each.name not in known)
