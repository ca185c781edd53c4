"""A bound on the nesting of JSON before a parser sees it.

Python's parser recurses in C up to the recursion limit, which some libraries raise so far that deep nesting ends the
process. Brackets inside strings count too: the files read here have none.
"""

from __future__ import annotations

import numpy as np

MAX_DEPTH = 32


def check_nesting(raw: bytes) -> None:
    """ValueError where brackets and braces are ever open more than 32 deep."""
    symbols = np.frombuffer(raw, np.uint8)
    opened = np.isin(symbols, np.frombuffer(b"[{", np.uint8))
    closed = np.isin(symbols, np.frombuffer(b"]}", np.uint8))
    depth = np.cumsum(opened, dtype=np.int64) - np.cumsum(closed, dtype=np.int64)
    if depth.size and int(depth.max()) > MAX_DEPTH:
        raise ValueError(f"JSON nested more than {MAX_DEPTH} deep")
