"""Moves a power of two into the weights of the layer before: that costs no row, where a product would.

ezkl keeps a scale with each tensor, so that a product by a half is exact but makes the scale grow, and a later rescale
costs some thirty rows a value. Weights that are halved lose a bit at a given scale; a search of scales sees that.
"""

from __future__ import annotations

import numpy as np
import onnx

from circuits.rewrite.editing import Editor, is_plain

_HOMOGENEOUS = (
    *("Abs", "AveragePool", "Flatten", "GlobalAveragePool", "Identity", "LeakyRelu", "MaxPool", "ReduceMax"),
    *("ReduceMean", "ReduceMin", "ReduceSum", "Relu", "Reshape", "Slice", "Squeeze", "Transpose", "Unsqueeze"),
)
"""Operators f with f(c x) = c f(x) for c > 0."""
_MAX_STEPS = 64
LEAST_WEIGHT = 2.0**-6
"""Of a layer the largest weight: at the scales that ezkl takes, smaller ones keep too few bits."""


def scale_before(editor: Editor, tensor: str, factor: float) -> bool:
    """Multiply the weights and biases that a tensor comes from by a power of two; False where nothing was done.

    The tensor, and each one on the way up to the weights, must have no other reader.
    """
    producers, readers = editor.producers(), editor.readers()
    edits: list[tuple[onnx.NodeProto, int]] = []
    for _ in range(_MAX_STEPS):
        node = producers.get(tensor)
        if node is None or readers.get(tensor) != 1:
            return False
        fixed = [index for index, name in enumerate(node.input) if name in editor.constants]
        free = [index for index, name in enumerate(node.input) if name and name not in editor.constants]
        if is_plain(node, *_HOMOGENEOUS) and free == [0]:
            tensor = node.input[0]
        elif is_plain(node, "Add", "Sub") and len(free) == 1 and len(fixed) == 1:
            edits.append((node, fixed[0]))
            tensor = node.input[free[0]]
        elif is_plain(node, "MatMul") and len(free) == 1:
            return _apply(editor, [(node, fixed[0]), *edits], factor)
        elif is_plain(node, "Conv", "ConvTranspose", "Gemm") and free == [0]:
            return _apply(editor, [*((node, index) for index in fixed), *edits], factor)
        else:
            return False
    return False


def _apply(editor: Editor, edits: list[tuple[onnx.NodeProto, int]], factor: float) -> bool:
    """The layer's weights come first."""
    node, index = edits[0]
    if np.abs(editor.constants[node.input[index]]).max(initial=0) * factor < LEAST_WEIGHT:
        return False
    scaled = []
    for node, index in edits:
        values = editor.constants[node.input[index]]
        made = values * values.dtype.type(factor)
        if not np.array_equal(made / made.dtype.type(factor), values):  # it went below the type's least number
            return False
        scaled.append(made)
    for (node, index), made in zip(edits, scaled, strict=True):
        node.input[index] = editor.constant(made, "scaled")
    return True
