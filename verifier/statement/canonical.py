"""Canonical JSON (RFC 8785) in and out: the one encoding that digests and signatures are made over.

Reading is strict: a size cap, a depth cap, no floats, no equal keys, no big numbers, no lone surrogates, and the bytes
must be the canonical encoding of what was read. Writing goes through the same types: `decode(T, encode(x)) == x`.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any, NoReturn, TypeVar

import msgspec
import rfc8785

from verifier.errors import VerifierError
from verifier.statement.scalars import Bytes32, Scalar

MAX_BYTES = 4 << 20
MAX_DEPTH = 16
_MAX_NUMBER_DIGITS = 16
_MAX_NUMBER = 2**53 - 1
_ONE_KIND = bytes.maketrans(b"{}", b"[]")
_NO_BRACKETS = bytes(byte for byte in range(256) if byte not in b"[]{}")

T = TypeVar("T", bound=msgspec.Struct)


def parse(raw: bytes, *, where: str, limit: int = MAX_BYTES) -> Any:
    """The JSON value of canonical bytes; V0-size, V0-json or V0-canonical where they are not that."""
    if len(raw) > limit:
        found = f"{len(raw)} bytes"
        raise VerifierError(
            "V0-size", "the JSON is too large", where=where, expected=f"at most {limit} bytes", found=found
        )
    _check_depth(raw, where)
    try:
        value = json.loads(
            raw.decode("utf-8"),
            parse_float=_refuse_number,
            parse_constant=_refuse_number,
            parse_int=_small_int,
            object_pairs_hook=_unique,
        )
        again = raw if _is_plainly_canonical(raw, value) else rfc8785.dumps(value)
    except (ValueError, RecursionError, UnicodeError, rfc8785.CanonicalizationError) as error:
        raise VerifierError("V0-json", "the JSON cannot be read", where=where, found=str(error)[:200]) from error
    if again != raw:
        raise VerifierError(
            "V0-canonical",
            "the JSON is not in its one canonical form",
            where=where,
            expected="RFC 8785: keys sorted, no white space, shortest escapes",
            found=f"first difference at byte {_first_difference(raw, again)}",
        )
    return value


def load_foreign(raw: bytes, *, where: str) -> Any:
    """The value of JSON that others wrote in whatever form; V0-depth, V0-json. Nothing is signed or hashed over it.

    The nesting is bounded first: libraries raise Python's recursion limit, and deep JSON then ends the process.
    """
    _check_depth(raw, where)
    try:
        return json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise VerifierError("V0-json", "this is no JSON", where=where, found=str(error)[:200]) from error


def decode(kind: type[T], raw: bytes, *, where: str, limit: int = MAX_BYTES, complete: bool = True) -> T:
    """The struct of canonical bytes; V0-schema where fields are missing, unknown, null, of another type or range.

    Complete, the bytes are those that encoding the struct gives: msgspec also takes a struct without its tag, and one
    without a field that has a default, which is right for what people write, such as a policy.
    """
    value = parse(raw, where=where, limit=limit)
    if b"null" in raw and _has_null(value):
        raise VerifierError(
            "V0-schema", "null is no value", where=where, expected="a field that is absent is left out", found="null"
        )
    decoded = from_builtins(kind, value, where=where)
    if complete and to_builtins(decoded) != value:  # of which raw is the one encoding
        raise VerifierError(
            "V0-schema", f"this is no whole {kind.__name__}", where=where, expected="each field, and its schema"
        )
    return decoded


def from_builtins(kind: type[T], value: object, *, where: str) -> T:
    """The struct of parsed JSON; V0-schema where it does not fit."""
    try:
        return msgspec.convert(value, kind, dec_hook=_scalar_from_json)
    except (msgspec.ValidationError, ValueError, TypeError, OverflowError, RecursionError) as error:
        found = str(error)[:300]
        raise VerifierError("V0-schema", f"this is no {kind.__name__}", where=where, found=found) from error


def to_builtins(value: object) -> Any:
    """A struct as JSON objects, arrays, strings, numbers; a field that is None is left out."""
    if isinstance(value, Scalar):
        return value.to_json()
    if isinstance(value, msgspec.Struct):
        names = zip(value.__struct_fields__, value.__struct_encode_fields__, strict=True)
        fields = [(name, getattr(value, field)) for field, name in names]
        tag = value.__struct_config__.tag
        head = {str(value.__struct_config__.tag_field): tag} if tag is not None else {}
        return head | {name: to_builtins(item) for name, item in fields if item is not None}
    if isinstance(value, dict):
        return {str(key): to_builtins(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_builtins(item) for item in value]
    return value


def encode(value: object) -> bytes:
    """The canonical bytes of a struct or of plain JSON."""
    return rfc8785.dumps(to_builtins(value))


def sha256(raw: bytes) -> Bytes32:
    """The digest that names files, manifests and records."""
    return Bytes32(hashlib.sha256(raw).digest())


def digest(value: object) -> Bytes32:
    """sha256 of the canonical bytes."""
    return sha256(encode(value))


def _scalar_from_json(kind: type, value: object) -> object:
    from_json = getattr(kind, "from_json", None)
    if from_json is None:
        raise TypeError(f"no JSON form for {kind.__name__}")
    return from_json(value)


def _refuse_number(text: str) -> NoReturn:
    raise ValueError(f"numbers with a fraction or exponent are not allowed: {text[:20]}")


def _small_int(text: str) -> int:
    if len(text) > _MAX_NUMBER_DIGITS + 1 or abs(int(text)) > _MAX_NUMBER:
        raise ValueError("a number beyond 2^53: such values are decimal strings")
    return int(text)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("an object has the same key twice")
    return result


def _is_plainly_canonical(raw: bytes, value: object) -> bool:
    """Whether the C library writes these ASCII bytes for that value: then RFC 8785 does too, only ten times slower.

    Without fractions the two differ in the order of keys beyond ASCII alone; escapes of such letters are not kept.
    """
    return raw.isascii() and raw == json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode(
        "utf-8", "surrogatepass"
    )


def _has_null(value: object) -> bool:
    """A field that is null and one that is left out decode to the same struct: one of the two must be refused."""
    if isinstance(value, dict):
        return any(map(_has_null, value.values()))
    return any(map(_has_null, value)) if isinstance(value, list) else value is None


def _check_depth(raw: bytes, where: str) -> None:
    """Bound the nesting before any parser sees the bytes; brackets inside strings do not count.

    Each step is one pass of the C library, since a node's reply may have 32 MB: escapes go, then strings, then all that
    is no bracket, then one level of matched pairs after another. Up to its first error a parser reads the bytes as
    these passes do, so it never goes deeper than what is counted here: twice MAX_DEPTH where pairs are missing.
    """
    if raw.count(b"[") + raw.count(b"{") <= MAX_DEPTH:
        return
    outside = b"".join(raw.replace(b"\\\\", b"").replace(b'\\"', b"").split(b'"')[::2])
    brackets = outside.translate(_ONE_KIND, _NO_BRACKETS)
    for _ in range(MAX_DEPTH):
        before, brackets = len(brackets), brackets.replace(b"[]", b"")
        if len(brackets) == before:
            break
    if b"[]" in brackets or brackets.count(b"[") > MAX_DEPTH:
        expected = f"at most {MAX_DEPTH} levels"
        raise VerifierError("V0-depth", "the JSON is nested too deeply", where=where, expected=expected)


def _first_difference(left: bytes, right: bytes) -> int:
    shorter = min(len(left), len(right))
    return next((i for i in range(shorter) if left[i] != right[i]), shorter)
