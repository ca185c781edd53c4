"""What is said of bytes that are not canonical JSON, word for word, and the last values that are taken."""

from __future__ import annotations

import msgspec
import pytest

from verifier.errors import VerifierError
from verifier.statement import canonical
from verifier.statement.scalars import Text

FORM = "expected RFC 8785: keys sorted, no white space, shortest escapes; found first difference at byte"
FRACTION = "the JSON cannot be read (where here; found numbers with a fraction or exponent are not allowed"
BIG = "the JSON cannot be read (where here; found a number beyond 2^53: such values are decimal strings)"


class Named(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="schema", tag="test/named"):
    """The smallest struct of ours."""

    name: Text


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b'{"b":1,"a":2}', f"V0-canonical: the JSON is not in its one canonical form (where here; {FORM} 2)"),
        (b'{"a":1}\n', f"V0-canonical: the JSON is not in its one canonical form (where here; {FORM} 7)"),
        (b'{"a":1 }', f"V0-canonical: the JSON is not in its one canonical form (where here; {FORM} 6)"),
        (b"[9007199254740992]", f"V0-json: {BIG}"),
        (b"[-9007199254740992]", f"V0-json: {BIG}"),
        (b"[" + b"1" * 5000 + b"]", f"V0-json: {BIG}"),
        (
            b"[1.2345678901234567890123]",
            f"V0-json: {FRACTION}: 1.234567890123456789)",
        ),
        (b"[" * 16 + b"[]", "V0-json: the JSON cannot be read (where here; found Expecting ',' delimiter: line 1 "),
        (b"[" * 17 + b"]" * 17, "V0-depth: the JSON is nested too deeply (where here; expected at most 16 levels)"),
    ],
)
def test_what_is_said_of_bytes_that_are_not_canonical(raw: bytes, said: str) -> None:
    with pytest.raises(VerifierError) as refused:
        canonical.parse(raw, where="here")
    assert str(refused.value).startswith(said)


@pytest.mark.parametrize(
    "raw",
    [b"[9007199254740991]", b"[-9007199254740991]", b"[" * 16 + b"]" * 16, b'"null"', '["\u00e9"]'.encode(), b"[0]"],
)
def test_the_last_values_that_are_taken(raw: bytes) -> None:
    assert canonical.encode(canonical.parse(raw, where="here", limit=len(raw))) == raw


def test_a_text_that_says_null_is_a_text() -> None:
    """The trap: what looks for the word null in the bytes, which is quick, and no further."""
    raw = b'{"name":"null","schema":"test/named"}'
    assert canonical.decode(Named, raw, where="here").name == "null"
    with pytest.raises(VerifierError) as refused:
        canonical.decode(Named, b'{"name":null,"schema":"test/named"}', where="here")
    assert str(refused.value) == (
        "V0-schema: null is no value (where here; expected a field that is absent is left out; found null)"
    )


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b"{", "V0-json: this is no JSON (where here; found Expecting property name enclosed in double quotes: line 1"),
        (b"[" * 17 + b"]" * 17, "V0-depth: the JSON is nested too deeply (where here; expected at most 16 levels)"),
    ],
)
def test_what_is_said_of_foreign_bytes_that_are_no_json(raw: bytes, said: str) -> None:
    with pytest.raises(VerifierError) as refused:
        canonical.load_foreign(raw, where="here")
    assert str(refused.value).startswith(said)
