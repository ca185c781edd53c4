"""The keys of the vectors: public on purpose, so that anyone can make the same signatures."""

from __future__ import annotations

from verifier.keccak import keccak256
from verifier.payment.keys import Key


def vector_key(role: str) -> Key:
    """The key of a role: its secret is the hash of its name."""
    return Key(keccak256(f"opgate test vectors: {role}".encode()))


OWNER, PROVIDER, PAYER, PAYEE, AUDITOR, STRANGER = (
    vector_key(role) for role in ("owner", "provider", "payer", "payee", "auditor", "stranger")
)
