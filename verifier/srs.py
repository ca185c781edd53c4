"""Which structured reference strings are the public ceremony's, by the sha256 of their files.

A development SRS was made by somebody who can forge with it: money on a real chain never hangs on one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from verifier.statement.manifest import SrsDigest
    from verifier.statement.verdict import SrsKind

CEREMONY_K1 = "cafb2aa72c200ddc4e28aacabb8066e829207e2484b8d17059a566232f8a297b"
"""The k = 1 part of the perpetual powers of tau as EZKL uses it: it holds all that a verifier embeds."""

CEREMONY = {
    10: "9705d450e5dfd06adb673705f7bc34418ec86339203198beceb2ae7f1ffefedb",
    12: "28b151069f41abc121baa6d2eaa8f9e4c4d8326ddbefee2bd9c0776b80ac6fad",
    15: "90807800a1c3b248a452e1732c45ee5099f38b737356f5542c0584ec9c3ebb45",
    16: "2a1a494630e71bc026dd5c0eab4c1b9a5dbc656228c1f0d48f5dbd3909b161d3",
    17: "41509f380362a8d14401c5ae92073154922fe23e45459ce6f696f58607655db7",
    20: "54ef75911da76d7a6b7ea341998aaf66cb06c679c53e0a88a4fe070dd3add963",
}
"""sha256 of the ceremony's files by logrows, as ezkl 23.0.5 has them; other sizes count as development."""


def srs_kind(srs: SrsDigest) -> SrsKind:
    """``ceremony`` where both digests are the published ones, else ``development``."""
    full = CEREMONY.get(int(srs.logrows))
    ceremony = full is not None and (srs.sha256.hex(), srs.sha256_k1.hex()) == (full, CEREMONY_K1)
    return "ceremony" if ceremony else "development"
