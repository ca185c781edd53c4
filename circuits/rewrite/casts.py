"""Casts of floats to integers: ONNX cuts the fraction off, ezkl rounds.

Positive and negative parts are cut off apart. Where the floats are whole anyway, as sums of decisions are, the cast
stays as it is.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper

from circuits.rewrite.editing import Editor, Nodes, attributes, is_plain

_INTEGERS = frozenset({TensorProto.INT8, TensorProto.INT16, TensorProto.INT32, TensorProto.INT64})
_MAKE_WHOLE = ("Floor", "Ceil", "Round")
_KEEP_WHOLE = (
    "Abs",
    "Add",
    "Concat",
    "Flatten",
    "Gather",
    "Identity",
    "MatMul",
    "Max",
    "Min",
    "Mul",
    "Neg",
    "ReduceSum",
    "Relu",
    "Reshape",
    "Slice",
    "Squeeze",
    "Sub",
    "Transpose",
    "Unsqueeze",
)


def cut_fractions(editor: Editor) -> list[str]:
    """Write each cast of floats that may have a fraction as one of floats without."""

    def change(node: onnx.NodeProto) -> Nodes | None:
        if not is_plain(node, "Cast") or int(attributes(node)["to"]) not in _INTEGERS:
            return None
        if editor.types.get(node.input[0]) != TensorProto.FLOAT or _is_whole(editor, node.input[0]):
            return None
        negative, cut = editor.name("negative"), editor.name("cut")
        nodes: Nodes = [helper.make_node("Neg", [node.input[0]], [negative])]
        parts = []
        for source in (node.input[0], negative):
            part, whole = editor.name("part"), editor.name("whole")
            nodes += [helper.make_node("Relu", [source], [part]), helper.make_node("Floor", [part], [whole])]
            parts.append(whole)
        new = onnx.NodeProto()
        new.CopyFrom(node)
        new.input[0] = cut
        return [*nodes, helper.make_node("Sub", parts, [cut]), new]

    return ["Cast to integers cuts fractions off"] if editor.each(change) else []


def _is_whole(editor: Editor, name: str) -> bool:
    """Whether a tensor holds whole numbers whatever the input, as far as the operators tell."""

    def judge(at: str, maker: onnx.NodeProto | None) -> bool | None:
        if at in editor.constants:
            array = editor.constants[at]
            return array.dtype.kind != "f" or np.array_equal(array, np.rint(array))
        if editor.types.get(at, TensorProto.FLOAT) != TensorProto.FLOAT:
            return True
        if maker is None or not is_plain(maker, "Cast", *_MAKE_WHOLE, *_KEEP_WHOLE):
            return False
        return True if is_plain(maker, *_MAKE_WHOLE) else None

    return editor.all_behind(name, judge)
