"""Rewrites of a model's graph into one that ezkl computes as ONNX defines it: small passes in a fixed order.

A rewritten graph gives the owner's outputs; `check` and the tests compare each with onnxruntime on the owner's graph.
The bytes that come out depend on nothing but the bytes that go in and onnx's version: a rebuild runs the same passes.
What only saves rows is in `economies` and comes after.
"""

from __future__ import annotations

import onnx

from circuits.rewrite.attributes import write_defaults
from circuits.rewrite.casts import cut_fractions
from circuits.rewrite.editing import Editor
from circuits.rewrite.folding import fold
from circuits.rewrite.functions import inline_functions
from circuits.rewrite.masks import bound_masks
from circuits.rewrite.ml import rewrite_ml
from circuits.rewrite.normalisation import fold_batch_norm
from circuits.rewrite.opset import convert_opset
from circuits.rewrite.padding import rewrite_padding
from circuits.rewrite.pooling import pad_pools
from circuits.rewrite.precision import to_single
from circuits.rewrite.semantics import rewrite_semantics
from circuits.rewrite.states import read_last_states
from circuits.rewrite.trees import rewrite_trees

PASSES = (
    fold,
    rewrite_ml,
    rewrite_trees,
    rewrite_ml,  # what stands behind a tree has a shape only now
    write_defaults,
    fold_batch_norm,
    pad_pools,
    rewrite_padding,
    rewrite_semantics,
    cut_fractions,
    read_last_states,
    bound_masks,
    fold,
)
DEFAULT_OPSET = 13
"""For a model that has operators of ai.onnx.ml only and names no other set: XGBoost's exporter writes such."""


def rewrite(proto: onnx.ModelProto) -> list[str]:
    """Apply `PASSES` to a model with static input shapes, in place; what was changed, in words, in order."""
    if all(each.domain not in {"", "ai.onnx"} for each in proto.opset_import):
        proto.opset_import.append(onnx.helper.make_opsetid("", DEFAULT_OPSET))
    changes = [*inline_functions(proto), *to_single(proto), *convert_opset(proto)]
    editor = Editor(proto)
    for each in PASSES:
        changes.extend(change for change in each(editor) if change not in changes)
    used = {node.domain for node in proto.graph.node}
    kept = [each for each in proto.opset_import if each.domain in used or each.domain in {"", "ai.onnx"}]
    if len(kept) != len(proto.opset_import):
        copies = [onnx.helper.make_opsetid(each.domain, each.version) for each in kept]
        del proto.opset_import[:]
        proto.opset_import.extend(copies)
    return changes
