"""Attention masks: minus infinity before a Softmax as a number that a circuit can hold.

A masked score gets the weight exp(-infinity) = 0. No integer stands for it, and -1e9 would ask for a table of look-ups
as long. The weight of a score that is MASKED below the others is 1e-14, which neither single precision nor any scale
of ours keeps beside one. Where scores lie further apart than that, the check, which compares with the owner's graph
at extreme inputs too, refuses the model.
"""

from __future__ import annotations

import numpy as np
import onnx

from circuits.rewrite.editing import Editor, Nodes, is_plain

MASKED = -32.0
_NEVER_A_SCORE = -1e4
"""Exporters write -inf, the least float, -1e9 or -1e4."""


def bound_masks(editor: Editor) -> list[str]:
    """Bound the constants that are chosen (Where) or added (Add) where every reader is a Softmax."""
    producers = editor.producers()
    softened = {node.input[0] for node in editor.graph.node if is_plain(node, "Softmax")}
    others = {name for node in editor.graph.node if not is_plain(node, "Softmax") for name in node.input}
    only = (softened - others - editor.outputs) & producers.keys()

    def change(node: onnx.NodeProto) -> Nodes | None:
        if not is_plain(node, "Where", "Add") or node.output[0] not in only:
            return None
        new = onnx.NodeProto()
        new.CopyFrom(node)
        bounded = False
        for index, name in enumerate(node.input):
            value = editor.constants.get(name)
            if value is None or value.dtype != np.float32 or not value.size or not value.min() <= _NEVER_A_SCORE:
                continue
            new.input[index] = editor.constant(np.where(value <= _NEVER_A_SCORE, MASKED, value), "mask", np.float32)
            bounded = True
        return [new] if bounded else None

    return [f"masks before Softmax as {MASKED:.0f}"] if editor.each(change) else []
