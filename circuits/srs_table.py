"""The published digests of the public ceremony's files, as the installed ezkl carries them, against our own table.

The wheel is read as bytes and never imported. Nothing is downloaded: whoever imports a file got it elsewhere.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

from verifier.errors import CircuitError
from verifier.srs import CEREMONY, CEREMONY_K1

SIZES = 26
_DIGITS = 64


def published() -> dict[int, str]:
    """The sha256 of each size from k = 1 on, read from the wheel; our own table must say the same.

    Raises:
        CircuitError: C-srs-table where ezkl is not installed, carries no table or another one than ours.
    """
    spec = importlib.util.find_spec("ezkl")
    roots = [Path(each) for each in (spec.submodule_search_locations or ())] if spec is not None else []
    libraries = [path for root in roots for path in sorted(root.glob("ezkl*.so"))]
    if not libraries:
        raise CircuitError("C-srs-table", "ezkl is not installed", do="Run: pip install 'opgate[circuits]'")
    raw = libraries[0].read_bytes()
    start = raw.find(CEREMONY_K1.encode())
    table = raw[start : start + SIZES * _DIGITS].decode("ascii", "replace") if start >= 0 else ""
    found = {index + 1: table[index * _DIGITS : (index + 1) * _DIGITS] for index in range(SIZES)}
    if found != CEREMONY:
        wrong = [size for size in CEREMONY if found.get(size) != CEREMONY[size]]
        raise CircuitError(
            "C-srs-table",
            "the installed ezkl carries another table of the ceremony's files",
            where=str(libraries[0].name),
            expected=f"the table of ezkl 23.0.5 for k = {wrong[0]}",
            found=found.get(wrong[0], "")[:_DIGITS],
            do="Install the pinned ezkl; compare the digests with its project's site.",
        )
    return found
