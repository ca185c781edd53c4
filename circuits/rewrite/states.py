"""The last state of an LSTM, read from its sequence where both are read.

ezkl computes either output of an LSTM right, and both wrong where a graph reads both of them. GRU and RNN are right.
"""

from __future__ import annotations

import onnx
from onnx import helper

from circuits.rewrite.editing import Editor, Nodes, attributes, is_plain, text

_SEQUENCE_LENGTHS = 4
_LAST_STATE = 1


def read_last_states(editor: Editor) -> list[str]:
    """Read Y_h as the last step of Y. Left alone: layers with lengths of their own, backwards, or batch first."""
    readers = editor.readers()

    def change(node: onnx.NodeProto) -> Nodes | None:
        if not is_plain(node, "LSTM") or len(node.output) <= _LAST_STATE:
            return None
        found, shape = attributes(node), editor.shapes.get(node.input[0])
        has_lengths = len(node.input) > _SEQUENCE_LENGTHS and bool(node.input[_SEQUENCE_LENGTHS])
        if has_lengths or int(found.get("layout", 0)) or text(found.get("direction"), "forward") != "forward":
            return None
        sequence, state = node.output[0], node.output[_LAST_STATE]
        if shape is None or not all(name and readers.get(name) for name in (sequence, state)):
            return None
        new = onnx.NodeProto()
        new.CopyFrom(node)
        new.output[_LAST_STATE] = ""
        while not new.output[-1]:
            del new.output[-1]
        last = editor.constant(shape[0] - 1, "last", "int64")
        return [new, helper.make_node("Gather", [sequence, last], [state], axis=0)]

    return ["last state read from the sequence"] if editor.each(change) else []
