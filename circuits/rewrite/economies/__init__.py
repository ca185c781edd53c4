"""Rewrites that only save rows: ezkl computes the graph right as it stands, and more cheaply in these forms.

They come after the passes of `circuits.rewrite`, and EZKL's own calibration, the yardstick, is given the graph without.
"""

from __future__ import annotations

import onnx

from circuits.model import CHEAPER
from circuits.rewrite.economies.absolute import by_absolute_values
from circuits.rewrite.economies.borders import spare_padding
from circuits.rewrite.economies.comparisons import share_comparisons
from circuits.rewrite.economies.leaves import tabulate_leaves
from circuits.rewrite.editing import Editor
from circuits.rewrite.folding import fold

ECONOMIES = (share_comparisons, tabulate_leaves, spare_padding, by_absolute_values)


def economise(proto: onnx.ModelProto) -> list[str]:
    """Apply `ECONOMIES` to a rewritten model, in place; what was changed, in words, in order."""
    editor = Editor(proto)
    changes = [change for each in ECONOMIES for change in each(editor)]
    fold(editor)
    return [f"{CHEAPER}{change}" for change in changes]
