"""Keccak-256 as the EVM computes it; no struct, encoding or signature is known here."""

from __future__ import annotations

from Crypto.Hash import keccak

from verifier.statement.scalars import Bytes32


def keccak256(message: bytes) -> Bytes32:
    """The Keccak-256 digest of the message: the EVM's KECCAK256, padded as before SHA-3 (Yellow Paper, 4.1).

    It differs from `hashlib.sha3_256`, whose padding NIST changed (FIPS 202, appendix A).
    """
    return Bytes32(keccak.new(digest_bits=256, data=message).digest())
