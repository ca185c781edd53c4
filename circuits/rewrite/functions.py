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
        inlined = inliner.inline_selected_functions(
            proto, [("", name) for name in sorted(used)], exclude=False, inline_schema_functions=True
        )
        left = {node.op_type for node in inlined.graph.node if node.domain in {"", "ai.onnx"}}
        proto.CopyFrom(inlined)
        changes.extend(f"{name} by its definition in ONNX" for name in sorted(used - left))
    return changes
