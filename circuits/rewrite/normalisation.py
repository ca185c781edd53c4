"""BatchNormalization at inference, folded into the layer before it, or as one multiplication and one addition."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper

from circuits.rewrite.editing import Array, Editor, attributes, is_plain


def fold_batch_norm(editor: Editor) -> list[str]:
    """Fold each BatchNormalization whose statistics are constants."""
    folded = 0
    while _fold_one(editor):
        folded += 1

    def change(node: onnx.NodeProto) -> list[onnx.NodeProto] | None:
        factors = _factors(editor, node)
        shape = editor.shapes.get(node.input[0]) if node.input else None
        if factors is None or shape is None:
            return None
        scale, shift = (each.reshape(-1, *[1] * (len(shape) - 2)) for each in factors)
        scaled = editor.name("scaled")
        return [
            helper.make_node("Mul", [node.input[0], editor.constant(scale, "scale", np.float32)], [scaled]),
            helper.make_node("Add", [scaled, editor.constant(shift, "shift", np.float32)], [node.output[0]]),
        ]

    apart = editor.each(change)
    changes = []
    if folded:
        changes.append(f"BatchNormalization folded into the layer before it ({folded})")
    if apart:
        changes.append(f"BatchNormalization as Mul and Add ({apart})")
    return changes


def _factors(editor: Editor, node: onnx.NodeProto) -> tuple[Array, Array] | None:
    """Scale and shift of a node in double precision; None where it is no such node or its statistics vary."""
    if not is_plain(node, "BatchNormalization") or any(node.output[1:]) or len(node.input) != 5:
        return None
    found = attributes(node)
    stored = [editor.constants.get(name) for name in node.input[1:]]
    if any(each is None for each in stored) or int(found.get("training_mode", 0)):
        return None
    gamma, beta, mean, variance = (np.asarray(each, np.float64) for each in stored)
    scale = gamma / np.sqrt(variance + float(found.get("epsilon", 1e-5)))
    shift = beta - mean * scale
    return (scale, shift) if np.isfinite(scale).all() and np.isfinite(shift).all() else None


def _fold_one(editor: Editor) -> bool:
    producers, readers = editor.producers(), editor.readers()
    for node in editor.graph.node:
        factors = _factors(editor, node)
        layer = producers.get(node.input[0]) if factors is not None else None
        if factors is None or layer is None or readers.get(node.input[0]) != 1:
            continue
        if not is_plain(layer, "Conv", "ConvTranspose", "Gemm") or len(layer.input) < 2:
            continue
        weights = editor.constants.get(layer.input[1])
        bias = editor.constants.get(layer.input[2]) if len(layer.input) > 2 and layer.input[2] else np.zeros(1)
        if weights is None or bias is None or weights.dtype != np.float32:
            continue
        new = _folded(layer, weights.astype(np.float64), np.asarray(bias, np.float64), factors)
        if new is None:
            continue
        made = [
            helper.make_node(
                layer.op_type,
                [
                    layer.input[0],
                    editor.constant(new[0], "weights", np.float32),
                    editor.constant(new[1], "bias", np.float32),
                ],
                [node.output[0]],
                name=layer.name,
            )
        ]
        made[0].attribute.extend(layer.attribute)
        removed, target = layer.output[0], node.output[0]
        editor.each(
            lambda each, removed=removed, target=target, made=made: (  # type: ignore[misc] # bound for this turn
                made if target in each.output else [] if removed in each.output else None
            )
        )
        return True
    return False


def _folded(
    layer: onnx.NodeProto, weights: Array, bias: Array, factors: tuple[Array, Array]
) -> tuple[Array, Array] | None:
    scale, shift = factors
    found = attributes(layer)
    if layer.op_type == "Gemm":
        if float(found.get("alpha", 1.0)) != 1.0 or float(found.get("beta", 1.0)) != 1.0:
            return None
        columns = scale[:, None] if int(found.get("transB", 0)) else scale[None, :]
        return weights * columns, bias.reshape(-1) * scale + shift
    channels = scale.reshape(-1, *[1] * (weights.ndim - 1))
    if layer.op_type == "ConvTranspose":
        if int(found.get("group", 1)) != 1:
            return None
        channels = scale.reshape(1, -1, *[1] * (weights.ndim - 2))
    return weights * channels, bias.reshape(-1) * scale + shift
