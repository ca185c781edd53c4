"""The bound on nesting before any parser sees the bytes: equal to a walk byte by byte, and never passed by a parser."""

from __future__ import annotations

import json

import pytest
import rfc8785
from hypothesis import given, settings
from hypothesis import strategies as st

from verifier.errors import VerifierError
from verifier.statement import canonical

_KEYS = st.text(alphabet='[{"\\', max_size=4)
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(alphabet='[]{}"\\ax'),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(alphabet='[{"\\', max_size=4), inner, max_size=4)
    ),
    max_leaves=60,
)


def walked_depth(raw: bytes) -> int:
    """How deep brackets outside strings go, byte by byte: the slow and plain way."""
    depth = deepest = 0
    inside = escaped = False
    for byte in raw:
        if inside:
            inside, escaped = (escaped or byte != ord('"')), (byte == ord("\\") and not escaped)
        elif byte == ord('"'):
            inside = True
        elif byte in b"[{":
            depth += 1
            deepest = max(deepest, depth)
        elif byte in b"]}":
            depth -= 1
    return deepest


def refused_for_depth(raw: bytes) -> bool:
    try:
        canonical.load_foreign(raw, where="test")
    except VerifierError as error:
        return error.code == "V0-depth"
    return False


@settings(max_examples=200, deadline=None)
@given(value=_JSON, wrap=st.integers(0, 20), kinds=st.lists(st.booleans(), min_size=20, max_size=20))
def test_well_formed_json_is_refused_exactly_where_a_walk_finds_it_too_deep(
    value: object, wrap: int, kinds: list[bool]
) -> None:
    for kind in kinds[:wrap]:
        value = [value, "]}"] if kind else {'\\"[': value}
    raw = json.dumps(value).encode()
    assert refused_for_depth(raw) == (walked_depth(raw) > canonical.MAX_DEPTH)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200) | st.lists(st.sampled_from([b"[", b"{", b"]", b"}", b'"', b"\\", b"1,"])).map(b"".join))
def test_what_passes_never_takes_a_parser_deep(raw: bytes) -> None:
    """The trap: bytes that are no JSON hide brackets from the bound and not from the parser."""
    if refused_for_depth(raw):
        return
    try:
        json.loads(raw)
    except json.JSONDecodeError as error:
        # positions count characters, of which an ASCII reading has as many as bytes
        raw = raw[: error.pos + 1] if raw.isascii() else b""
    except UnicodeDecodeError:
        raw = b""
    assert walked_depth(raw) <= 2 * canonical.MAX_DEPTH


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (b"[" * 100_000, "V0-depth"),
        (b'{"a":' * 17 + b"1" + b"}" * 17, "V0-depth"),
        (b"[" * 17 + b"]" * 17, "V0-depth"),
        (b"]" * 100_000 + b"[" * 10, "V0-json"),
        (b'"' + b"[" * 100_000, "V0-json"),
        (b'["\\"' + b"[" * 100_000 + b'"', "V0-json"),
        (b'["' + b"\\\\" * 1000 + b'",' + b"[" * 100_000, "V0-depth"),
        (b'["\\', "V0-json"),
    ],
)
def test_hostile_bytes_have_their_code(raw: bytes, code: str) -> None:
    with pytest.raises(VerifierError) as caught:
        canonical.load_foreign(raw, where="test")
    assert caught.value.code == code


def test_sixteen_levels_are_taken_and_strings_do_not_count() -> None:
    raw = b"[" * 16 + b'"' + b"[{" * 50_000 + b'\\\\\\""' + b"]" * 16
    assert isinstance(canonical.load_foreign(raw, where="test"), list)


_ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53) - 1, 2**53 + 1) | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=4),
    max_leaves=20,
)


@settings(deadline=None)
@given(_ANY_JSON, st.booleans(), st.booleans())
def test_what_the_c_library_takes_for_canonical_rfc_8785_does_too(value: object, plain: bool, spaced: bool) -> None:
    separators = (", ", ": ") if spaced else (",", ":")
    raw = json.dumps(value, ensure_ascii=plain, sort_keys=True, separators=separators).encode("utf-8", "surrogatepass")
    again = json.loads(raw.decode("utf-8", "surrogatepass"))
    try:
        canonical_bytes = rfc8785.dumps(again)
    except rfc8785.CanonicalizationError:
        canonical_bytes = b""  # a lone surrogate has no such form
    try:
        found = canonical.parse(raw, where="drawn") == again
    except VerifierError:
        found = False
    assert found == (canonical_bytes == raw)
