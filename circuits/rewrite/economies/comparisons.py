"""Each test of an ensemble once: its trees ask the same of the same feature, and a comparison is 22 rows or more."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import onnx
from onnx import helper

from circuits.rewrite.editing import Array, Editor, attributes, is_plain

_COMPARISONS = ("Less", "LessOrEqual", "Greater", "GreaterOrEqual")


_MAX_CASTS = 4


class _Test(NamedTuple):
    node: onnx.NodeProto
    columns: Array
    thresholds: Array


class _Key(NamedTuple):
    """What tests must share to be decided together."""

    operator: str
    is_left: bool
    source: str
    casts: tuple[int, ...]
    dtype: str


def share_comparisons(editor: Editor) -> list[str]:
    """Decide the tests of all nodes that compare columns of one tensor with constants in one node, each test once."""
    groups: dict[_Key, list[_Test]] = {}
    producers = editor.producers()
    for node in editor.graph.node:
        found = _test_of(editor, producers, node)
        if found is not None:
            groups.setdefault(found[0], []).append(found[1])
    before = after = 0
    for key, tests in groups.items():
        asked = [pair for test in tests for pair in zip(test.columns.tolist(), test.thresholds.tolist(), strict=True)]
        each = sorted(set(asked))
        if len(each) < len(asked):
            _share(editor, key, tests, each)
            before, after = before + len(asked), after + len(each)
    if not before:
        return []
    editor.prune()
    return [f"equal comparisons made once ({before} as {after})"]


def _test_of(editor: Editor, producers: dict[str, onnx.NodeProto], node: onnx.NodeProto) -> tuple[_Key, _Test] | None:
    if not is_plain(node, *_COMPARISONS):
        return None
    is_left = node.input[0] in editor.constants
    thresholds = editor.constants.get(node.input[0 if is_left else 1])
    if thresholds is None or thresholds.dtype.kind != "f" or np.isnan(thresholds).any():
        return None
    casts: list[int] = []
    made = producers.get(node.input[1 if is_left else 0])
    while made is not None and is_plain(made, "Cast") and len(casts) < _MAX_CASTS:
        casts.append(int(attributes(made)["to"]))
        made = producers.get(made.input[0])
    if made is None or not is_plain(made, "Gather") or int(attributes(made).get("axis", 0)) not in {1, -1}:
        return None
    source, columns = made.input[0], editor.constants.get(made.input[1])
    shape, decided = editor.shapes.get(source), editor.shapes.get(node.output[0])
    if shape is None or len(shape) != 2 or shape[0] != 1 or source in editor.constants:
        return None
    if columns is None or columns.ndim != 1 or decided != (1, columns.size) or thresholds.size != columns.size:
        return None
    key = _Key(node.op_type, is_left, source, tuple(reversed(casts)), str(thresholds.dtype))
    return key, _Test(node, columns % shape[1], thresholds.reshape(-1))


def _share(editor: Editor, key: _Key, tests: list[_Test], each: list[tuple[int, float]]) -> None:
    """Put the shared comparison before the first node that it serves."""
    place = {pair: index for index, pair in enumerate(each)}
    columns = editor.constant([column for column, _ in each], "columns", np.int64)
    thresholds = editor.constant([[threshold for _, threshold in each]], "thresholds", np.dtype(key.dtype))
    tested, decided = editor.name("tested"), editor.name("decided")
    nodes = [helper.make_node("Gather", [key.source, columns], [tested], axis=1)]
    for to in key.casts:
        cast = editor.name("cast")
        nodes.append(helper.make_node("Cast", [tested], [cast], to=to))
        tested = cast
    sides = [thresholds, tested] if key.is_left else [tested, thresholds]
    nodes.append(helper.make_node(key.operator, sides, [decided]))
    picked = {}
    for test in tests:
        pairs = zip(test.columns.tolist(), test.thresholds.tolist(), strict=True)
        own = editor.constant([place[pair] for pair in pairs], "columns", np.int64)
        name = test.node.output[0]
        picked[name] = helper.make_node("Gather", [decided, own], [name], name=test.node.name, axis=1)
    kept: list[onnx.NodeProto] = []
    for node in editor.graph.node:
        own_name = node.output[0] if node.output else ""
        if own_name in picked:
            kept += [*nodes, picked[own_name]]
            nodes = []
        else:
            kept.append(node)
    editor.put(kept)
    editor.refresh()
