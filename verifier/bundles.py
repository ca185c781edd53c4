"""Step 0: from bytes or a file to an unverified bundle. Nothing that comes from here is true yet."""

from __future__ import annotations

from typing import TYPE_CHECKING

from verifier.files import read_regular
from verifier.statement import canonical
from verifier.statement.bundle import ProofBundle

if TYPE_CHECKING:
    from pathlib import Path

MAX_BUNDLE_BYTES = 4 << 20


def parse_bundle(raw: bytes, *, where: str = "bundle") -> ProofBundle:
    """The unverified bundle of bytes; VerifierError V0-… where they are not its one canonical form."""
    return canonical.decode(ProofBundle, raw, where=where, limit=MAX_BUNDLE_BYTES)


def read_bundle(path: Path) -> ProofBundle:
    """The unverified bundle of a regular file; VerifierError V0-… for anything else."""
    return parse_bundle(read_regular(path, limit=MAX_BUNDLE_BYTES), where=str(path))
