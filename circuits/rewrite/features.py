"""Operators of ai.onnx.ml that prepare features: OneHotEncoder and Imputer, by comparisons.

Semantics: the operators' specification in onnx, and onnxruntime's kernels where it is silent. What is finite here rests
on the payer's inputs: NaN and infinities among them are refused before a circuit sees one.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from circuits.rewrite.decisions import unequal
from circuits.rewrite.editing import MAX_FOLDED, ML_DOMAIN, Editor, Nodes, attributes, is_plain

_AXES_AS_INPUT = 13
"""The operator set since which Unsqueeze takes its axes as an input."""
_WHERE = 9
"""The operator set since which there is a Where."""
_MOVES = (
    "Concat",
    "Flatten",
    "Gather",
    "Identity",
    "Reshape",
    "Slice",
    "Split",
    "Squeeze",
    "Transpose",
    "Unsqueeze",
)


def one_hot_encoder(editor: Editor, node: onnx.NodeProto) -> Nodes | None:
    """One where a value does not differ from the category.

    A value that is no category gives zeros. With ``zeros=0`` the model fails there and has no output that the circuit
    could contradict. Strings and repeated categories are left alone, and so are floats, which onnxruntime cuts off.
    """
    found = attributes(node)
    categories = [int(each) for each in found.get("cats_int64s", [])]
    shape = editor.shapes.get(node.input[0])
    if not categories or found.get("cats_strings") or len(set(categories)) < len(categories):
        return None
    if not shape or editor.types.get(node.input[0]) != TensorProto.INT64:
        return None
    if math.prod(shape) * len(categories) > MAX_FOLDED:
        return None
    column, cold = editor.name("column"), editor.name("cold")
    row = editor.constant(np.reshape(categories, (1,) * len(shape) + (-1,)), "categories", np.int64)
    differing, other = unequal(editor, column, row)
    return [
        _unsqueeze(editor, node.input[0], column, len(shape)),
        *differing,
        helper.make_node("Cast", [other], [cold], to=TensorProto.FLOAT),
        helper.make_node("Sub", [editor.constant(1.0, "one", np.float32), cold], [node.output[0]]),
    ]


def _unsqueeze(editor: Editor, source: str, target: str, axis: int) -> onnx.NodeProto:
    if editor.opset < _AXES_AS_INPUT:
        return helper.make_node("Unsqueeze", [source], [target], axes=[axis])
    return helper.make_node("Unsqueeze", [source, editor.constant([axis], "axes", np.int64)], [target])


def imputer(editor: Editor, node: onnx.NodeProto) -> Nodes | None:
    """Nothing, where NaN or an infinity is replaced in values that the payer gave; a Where for another value.

    Behind arithmetic it is left alone: a logarithm or a division may give the very NaN that it replaces, and a circuit
    has some number there.
    """
    found = attributes(node)
    replaced = float(found.get("replaced_value_float", 0.0))
    is_float = editor.types.get(node.input[0]) == TensorProto.FLOAT
    if not is_float or found.get("imputed_value_int64s") or not _is_given(editor, node.input[0]):
        return None
    if not math.isfinite(replaced):
        return [helper.make_node("Identity", [node.input[0]], [node.output[0]])]
    values = _imputed(editor, node, found)
    if values is None or editor.opset < _WHERE:
        return None
    differing, other = unequal(editor, node.input[0], editor.constant(replaced, "replaced", np.float32))
    return [
        *differing,
        helper.make_node("Where", [other, node.input[0], values], [node.output[0]]),
    ]


def _imputed(editor: Editor, node: onnx.NodeProto, found: dict[str, Any]) -> str | None:
    """What stands for the replaced value: of each column, or one for all."""
    values = np.asarray(found.get("imputed_value_floats", []), np.float32)
    shape = editor.shapes.get(node.input[0])
    if shape is None or len(shape) != 2 or values.size not in {1, shape[1]} or not np.isfinite(values).all():
        return None
    return editor.constant(values.reshape(1, -1), "imputed", np.float32)


def _is_given(editor: Editor, name: str) -> bool:
    """Whether a tensor's values are the payer's and finite constants, only moved."""
    inputs = {each.name for each in editor.graph.input}

    def judge(at: str, maker: onnx.NodeProto | None) -> bool | None:
        if at in editor.constants:
            return bool(np.isfinite(editor.constants[at]).all())
        return True if at in inputs else None if maker is not None and _is_move(maker) else False

    return editor.all_behind(name, judge)


def _is_move(node: onnx.NodeProto) -> bool:
    is_extractor = node.domain == ML_DOMAIN and node.op_type in {"ArrayFeatureExtractor", "FeatureVectorizer"}
    return is_plain(node, *_MOVES) or is_extractor
