"""The layouts that a choice of scales may get: inner columns, digits and k, with what each gives in columns.

`gen_settings` gives the rows, which depend on columns and digits alone; the rest is arithmetic (`cost.layout`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Literal

from circuits.run_arguments import MAX_LOOKUP, RESERVED_ROWS, RunArguments, table_range
from circuits.settings import Settings
from circuits.tuner.cost import Layout, layout
from circuits.tuner.probe import Scales
from verifier.statement.manifest import MAX_CODE_BYTES, MAX_INSTANCES, MAX_PROOF_BYTES, Visibility

Target = Literal["closable", "offchain"]

LOGROWS = range(7, 20)
LEGS = range(1, 9)
INNER_COLUMNS = (1, 2, 3)
"""From 4 on the extended domain doubles."""
_LEAST_BASE = 2
_GREATEST_BASE = 1 << 20
_MARGINS = (2, 4, 8)
"""A lookup's table reaches beyond what was seen by one of these parts of it: the widest, unless columns are saved."""
_TOLERANCE = 1.1
"""A layout is tried when its predicted code is at most this much too large: the true code decides."""
_PROOF_SPARE = 64
"""Bytes that a proof was predicted too long at the most (docs/tuner.md): beyond them no try can end well."""

Rows = Callable[[Scales, int, int, int], Settings]
"""The settings of some scales with so many inner columns, of a base with so many digits."""


def layouts(  # noqa: PLR0913 - a choice of scales, and what bounds its layouts
    scales: Scales, bits: int, lookup: tuple[int, int] | None, *, rows: Rows, visibility: Visibility, target: Target
) -> Iterator[tuple[RunArguments, Layout]]:
    """Each layout whose bound holds `bits` and whose lookups hold the range that was seen.

    For `closable` those alone whose code, proof and instances a chain and the escrow may take, as predicted.
    """
    for inner in INNER_COLUMNS:
        for legs in LEGS:
            base = _base(bits, legs)
            if base > _GREATEST_BASE:
                continue
            settings = rows(scales, inner, base, legs)
            for logrows in LOGROWS:
                if base > 2**logrows - RESERVED_ROWS:
                    continue
                tried: set[Layout] = set()
                for margin in _MARGINS if lookup else _MARGINS[:1]:
                    low, high = _table(lookup, margin)
                    shape = layout(settings, logrows, (low, high))
                    if shape is None or shape in tried or not (target == "offchain" or _may_be_checked(shape)):
                        continue
                    tried.add(shape)
                    yield (
                        RunArguments(
                            visibility=visibility,
                            input_scale=scales.inputs,
                            param_scale=scales.params,
                            scale_rebase_multiplier=scales.multiplier,
                            lookup_min=low,
                            lookup_max=high,
                            logrows=logrows,
                            num_inner_cols=inner,
                            decomp_base=base,
                            decomp_legs=legs,
                        ),
                        shape,
                    )


def _base(bits: int, legs: int) -> int:
    """The least base of which so many digits hold the bits."""
    base = max(_LEAST_BASE, math.ceil(2 ** (bits / legs)))
    while base**legs < 1 << bits:
        base += 1
    return base


def _may_be_checked(shape: Layout) -> bool:
    return (
        shape.code_bytes <= MAX_CODE_BYTES * _TOLERANCE
        and shape.proof_bytes <= MAX_PROOF_BYTES + _PROOF_SPARE
        and shape.instances <= MAX_INSTANCES
    )


def _table(seen: tuple[int, int] | None, part: int) -> tuple[int, int]:
    """The range of a table, within the bounds of run arguments; without look-ups there is none, and any will do."""
    low, high = table_range(seen or (0, 0), part)
    return max(low, -MAX_LOOKUP), min(high, MAX_LOOKUP)
