"""The EVM's call encoding of our values: selectors and arguments. The only place beside `escrow` that knows eth_abi."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from eth_abi.abi import encode

from verifier.errors import EscrowError
from verifier.keccak import keccak256
from verifier.statement.scalars import Address

if TYPE_CHECKING:
    from collections.abc import Sequence


def encode_call(signature: str, *arguments: object) -> bytes:
    """The calldata of a function by its signature: selector and ABI-encoded arguments; E-abi where they do not fit."""
    kinds = signature[signature.index("(") + 1 : -1]
    return keccak256(signature.encode())[:4] + encode_arguments(_split(kinds), arguments)


def encode_arguments(kinds: Sequence[str], arguments: Sequence[object]) -> bytes:
    """ABI-encoded arguments; E-abi where one does not fit its type."""
    try:
        return bytes(encode(kinds, [_plain(argument) for argument in arguments]))
    except Exception as error:
        # eth_abi raises classes of three families for values that do not fit; all of them are our caller's mistake.
        raise EscrowError(
            "E-abi", "an argument does not fit its type", where=",".join(kinds), found=str(error)[:200]
        ) from error


def _plain(value: Any) -> Any:
    """Our scalars as what eth_abi takes: it wants addresses as text and refuses subclasses of bytes in some places."""
    if isinstance(value, Address):
        return str(value)
    if isinstance(value, bytes):
        return bytes(value)
    if isinstance(value, bool) or not isinstance(value, int):
        return tuple(_plain(item) for item in value) if isinstance(value, (tuple, list)) else value
    return int(value)


def _split(kinds: str) -> list[str]:
    """The types of a parameter list, at its top level."""
    parts, depth, start = [], 0, 0
    for place, letter in enumerate(kinds):
        depth += (letter == "(") - (letter == ")")
        if letter == "," and depth == 0:
            parts.append(kinds[start:place])
            start = place + 1
    return [*parts, kinds[start:]] if kinds else []
