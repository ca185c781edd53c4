"""EIP-712: the digests that payers and providers sign, computed from our own structs and nothing else.

A struct's type string is derived from its fields, in their order: Address -> address, Bytes32 -> bytes32,
Uint256, Count and Timestamp -> uint256, Text -> string, a struct -> its name, a tuple of structs -> its name and [].
Values are valid by construction (`scalars`), so nothing is truncated or padded wrongly. Equal to the escrow's digests
and to eth-account's (tests). Source: EIP-712, "Definition of hashStruct".
"""

from __future__ import annotations

import functools
import typing

import msgspec

from verifier.keccak import keccak256
from verifier.statement.scalars import Address, Bytes32, Count, Text, Timestamp, Uint256

_WORDS: dict[type, str] = {
    Address: "address",
    Bytes32: "bytes32",
    Uint256: "uint256",
    Count: "uint256",
    Timestamp: "uint256",
    Text: "string",
}


class Domain(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where a signature holds: one escrow contract on one chain (EIP-712 domain, without salt)."""

    name: Text
    version: Text
    chain_id: Count
    verifying_contract: Address

    def separator(self) -> Bytes32:
        """The domain separator, equal to the escrow's DOMAIN_SEPARATOR()."""
        return _separator(self)


def escrow_domain(chain_id: int, escrow: Address) -> Domain:
    """The domain of an opgate escrow: name "opgate", version "1"."""
    return Domain(name=Text("opgate"), version=Text("1"), chain_id=Count(chain_id), verifying_contract=escrow)


def signing_digest(domain_separator: Bytes32, message: msgspec.Struct) -> Bytes32:
    """The 32 bytes that are signed for a message under a domain."""
    return keccak256(b"\x19\x01" + domain_separator + hash_struct(message))


def hash_struct(message: msgspec.Struct) -> Bytes32:
    """keccak256(typeHash || encoded fields), nested structs by their own hash."""
    fields = _fields(type(message))
    return keccak256(_type_hash(type(message)) + b"".join(_word(kind, getattr(message, name)) for name, kind in fields))


@functools.lru_cache(maxsize=64)
def _separator(domain: Domain) -> Bytes32:
    kind = keccak256(b"EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)")
    return keccak256(
        kind
        + _word(Text, domain.name)
        + _word(Text, domain.version)
        + _word(Count, domain.chain_id)
        + _word(Address, domain.verifying_contract)
    )


@functools.cache
def _type_hash(kind: type[msgspec.Struct]) -> Bytes32:
    return keccak256(encode_type(kind).encode())


@functools.cache
def encode_type(kind: type[msgspec.Struct]) -> str:
    """The type string: the struct's own, then those it refers to, sorted by name."""
    members: dict[str, str] = {}

    def visit(struct: type[msgspec.Struct]) -> None:
        fields = _fields(struct)
        members[struct.__name__] = f"{struct.__name__}({','.join(f'{_name(kind)} {name}' for name, kind in fields)})"
        for _, field in fields:
            inner = _element(field) or field
            if isinstance(inner, type) and issubclass(inner, msgspec.Struct) and inner.__name__ not in members:
                visit(inner)

    visit(kind)
    own = members.pop(kind.__name__)
    return own + "".join(members[name] for name in sorted(members))


@functools.cache
def _fields(kind: type[msgspec.Struct]) -> tuple[tuple[str, typing.Any], ...]:
    hints = typing.get_type_hints(kind)
    return tuple((name, hints[name]) for name in kind.__struct_fields__)


@functools.cache
def _element(kind: typing.Any) -> type[msgspec.Struct] | None:
    return typing.get_args(kind)[0] if typing.get_origin(kind) is tuple else None


def _name(kind: typing.Any) -> str:
    inner = _element(kind)
    return f"{inner.__name__}[]" if inner else _WORDS.get(kind) or kind.__name__


def _word(kind: typing.Any, value: typing.Any) -> bytes:
    if _element(kind):
        return keccak256(b"".join(hash_struct(item) for item in value))
    if isinstance(value, msgspec.Struct):
        return hash_struct(value)
    word = _WORDS[kind]
    if word == "string":
        return keccak256(str(value).encode())
    if word == "uint256":
        return int(value).to_bytes(32)
    return bytes(value).rjust(32, b"\0") if word == "address" else bytes(value)
