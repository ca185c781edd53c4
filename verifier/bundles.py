"""Step 0: from bytes or a file to an unverified bundle. Nothing that comes from here is true yet."""

from __future__ import annotations

from typing import TYPE_CHECKING

from verifier.errors import VerifierError
from verifier.files import read_regular
from verifier.statement import canonical
from verifier.statement.bundle import ProofBundle

if TYPE_CHECKING:
    from pathlib import Path

MAX_BUNDLE_BYTES = 4 << 20
MAX_BUNDLE_COMMAS = 1 << 14
"""Twice the words of the largest calldata (step 7). A million values in 4 MiB would take a quarter of a minute."""


def parse_bundle(raw: bytes, *, where: str = "bundle") -> ProofBundle:
    """The unverified bundle of bytes; VerifierError V0-… where they are not its one canonical form."""
    commas = raw.count(b",")
    if commas > MAX_BUNDLE_COMMAS:
        expected, found = f"at most {MAX_BUNDLE_COMMAS} commas", f"{commas}"
        raise VerifierError("V0-size", "the bundle has too many values", where=where, expected=expected, found=found)
    return canonical.decode(ProofBundle, raw, where=where, limit=MAX_BUNDLE_BYTES)


def read_bundle(path: Path) -> ProofBundle:
    """The unverified bundle of a regular file; VerifierError V0-… for anything else."""
    return parse_bundle(read_regular(path, limit=MAX_BUNDLE_BYTES), where=str(path))
