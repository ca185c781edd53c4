"""Old operator sets: converted where ezkl misreads the old form of an operator.

ezkl 23 takes sets 7 to 28 as they are, but a few operators only in their newer form. Of some fifty operators tried in
sets 7 to 12 those named here are refused as they stand and taken once onnx's own converter has written them anew.
"""

from __future__ import annotations

import onnx
from onnx import version_converter

TARGET = 13
"""The first set in which all of them have the form that ezkl reads."""
_NEWER = {"Hardmax": 13, "LogSoftmax": 13, "Resize": 13, "Softmax": 13, "TopK": 10, "Upsample": 10}
"""The set since which ezkl reads it: softmax flattened its input before, k was an attribute, Upsample became Resize."""


def convert_opset(proto: onnx.ModelProto) -> list[str]:
    """Convert the model to the target set, in place, where one of those operators is in it; else change nothing.

    A model that the converter refuses stays as it is, and ezkl says what it does not take.
    """
    opset = next((each.version for each in proto.opset_import if each.domain in {"", "ai.onnx"}), TARGET)
    old = sorted({node.op_type for node in proto.graph.node if opset < _NEWER.get(node.op_type, 0) and not node.domain})
    if not old:
        return []
    try:
        converted = version_converter.convert_version(proto, TARGET)
    except Exception:  # noqa: BLE001 - it raises what its C++ raises; nothing was changed then
        return []
    proto.CopyFrom(converted)
    return [f"{name} of opset {opset} in the form of opset {TARGET}" for name in old]
