"""Signed notes, keys and checkpoints: Go's published example byte for byte, and each way to bend one."""

from __future__ import annotations

import base64

import pytest

from verifier.archive import merkle
from verifier.archive.note import (
    Checkpoint,
    SigningKey,
    VerifierKey,
    open_checkpoint,
    open_note,
    sign_checkpoint,
)
from verifier.errors import AuditError

# The example in the documentation of golang.org/x/mod/sumdb/note (BSD-3-Clause), which defines the format of the keys.
PETER_SECRET = "PRIVATE+KEY+PeterNeumann+c74f20a3+AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz"
PETER = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
PETER_LINE = (
    "— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n"
)
ENOCH_LINE = (
    "— EnochRoot rwz+eBzmZa0SO3NbfRGzPCpDckykFXSdeX+MNtCOXm2/5n2tiOHp+vAF1aGrQ5ovTG01oOTGwnWLox33WWd1RvMc+QQ=\n"
)
TEXT = "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n"


def test_go_example_is_signed_and_opened_byte_for_byte() -> None:
    key = SigningKey.parse(PETER_SECRET)
    assert str(key.verifier_key) == PETER
    assert key.export() == PETER_SECRET
    assert key.sign(TEXT).decode() == f"{TEXT}\n{PETER_LINE}"
    assert open_note(f"{TEXT}\n{PETER_LINE}".encode(), VerifierKey.parse(PETER)) == TEXT


def test_signatures_of_unknown_keys_are_passed_over() -> None:
    assert open_note(f"{TEXT}\n{ENOCH_LINE}{PETER_LINE}".encode(), VerifierKey.parse(PETER)) == TEXT


def test_a_key_of_the_same_name_and_another_id_is_unknown() -> None:
    other = SigningKey.generate("PeterNeumann")
    with pytest.raises(AuditError, match="A-unsigned"):
        open_note(f"{TEXT}\n{PETER_LINE}".encode(), other.verifier_key)


@pytest.mark.parametrize(
    ("note", "code"),
    [
        (TEXT, "A-note"),
        (f"{TEXT}\n", "A-note"),
        (f"{TEXT}\n{PETER_LINE[:-1]}", "A-note"),
        (f"{TEXT}{PETER_LINE}", "A-note"),
        (f"\x01{TEXT}\n{PETER_LINE}", "A-note"),
        (f"{TEXT}\n{PETER_LINE}Unexpected line.\n", "A-note"),
        (f"{TEXT}\n— Bad Name {PETER_LINE.split(' ')[2]}", "A-note"),
        (f"{TEXT}\n{PETER_LINE * 101}", "A-note"),
        (f"{TEXT}\n{PETER_LINE.replace('nAM=', 'nAN=')}", "A-note"),
        (f"{TEXT}\n— PeterNeumann x08gow==\n", "A-note"),
        (f"{TEXT}\n{PETER_LINE[:60]}ABCD{PETER_LINE[60:]}", "A-signature"),
        (f"{TEXT.upper()}\n{PETER_LINE}", "A-signature"),
        (f"{TEXT}more\n\n{PETER_LINE}", "A-signature"),
        (f"{TEXT}\n{ENOCH_LINE}", "A-unsigned"),
        (f"{TEXT}\n{'x' * (128 << 10)}\n{PETER_LINE}", "A-note"),
    ],
)
def test_a_bent_note_is_refused(note: str, code: str) -> None:
    with pytest.raises(AuditError, match=code):
        open_note(note.encode(), VerifierKey.parse(PETER))


def test_bytes_that_are_not_utf8_are_refused() -> None:
    with pytest.raises(AuditError, match="A-note"):
        open_note(b"\xff" + f"{TEXT}\n{PETER_LINE}".encode(), VerifierKey.parse(PETER))


def test_one_bad_signature_of_the_key_rejects_the_note_beside_a_good_one() -> None:
    bad = PETER_LINE[:60] + "ABCD" + PETER_LINE[60:]
    with pytest.raises(AuditError, match="A-signature"):
        open_note(f"{TEXT}\n{PETER_LINE}{bad}".encode(), VerifierKey.parse(PETER))


@pytest.mark.parametrize("text", [PETER, PETER_SECRET])
def test_every_cut_and_every_changed_byte_of_a_key_is_refused(text: str) -> None:
    kind: type[VerifierKey | SigningKey] = SigningKey if text == PETER_SECRET else VerifierKey
    cuts = {text[start:stop] for start in range(len(text)) for stop in range(start, len(text) + 1)} - {text}
    changed = {text[:at] + chr(ord(text[at]) + 1) + text[at + 1 :] for at in range(len(text))}
    for bent in cuts | changed:
        with pytest.raises(AuditError, match="A-key"):
            kind.parse(bent)


@pytest.mark.parametrize(
    "text",
    [
        "PeterNeumann+cc469956+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TWBADKEY==",
        "PeterNeumann+173116ae+ZRpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
        PETER.replace("c74f20a3", "C74F20A3"),
        PETER + "\n",
        PETER + "+",
        "",
    ],
)
def test_another_algorithm_length_or_spelling_of_a_key_is_refused(text: str) -> None:
    with pytest.raises(AuditError, match="A-key"):
        VerifierKey.parse(text)


@pytest.mark.parametrize("name", ["", "two words", "a+b", "tab\tname", "line\nname", "no\u00a0break", "\ud800"])
def test_a_name_that_would_break_a_signature_line_is_refused(name: str) -> None:
    with pytest.raises(AuditError, match="A-key"):
        SigningKey.generate(name)


def test_repr_does_not_show_the_secret() -> None:
    key = SigningKey.parse(PETER_SECRET)
    assert "AYEK" not in f"{key!r} {key} {[key]}"


@pytest.mark.parametrize("text", ["abc", "", "a\tb\n", "\ud800\n"])
def test_a_text_that_could_not_be_opened_is_not_signed(text: str) -> None:
    with pytest.raises(AuditError, match="A-note"):
        SigningKey.parse(PETER_SECRET).sign(text)


def checkpoint_text(origin: str = "PeterNeumann", size: str = "5", root: str = "") -> str:
    return f"{origin}\n{size}\n{root or base64.b64encode(bytes(32)).decode()}\n"


def test_checkpoint_round_trip() -> None:
    key = SigningKey.parse(PETER_SECRET)
    checkpoint = Checkpoint("PeterNeumann", 20852163, bytes(range(32)))
    signed = sign_checkpoint(checkpoint, key)
    assert signed.startswith(
        b"PeterNeumann\n20852163\nAAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n\n\xe2\x80\x94 PeterNeumann "
    )
    assert open_checkpoint(signed, key.verifier_key) == checkpoint


def test_empty_tree_has_its_own_root() -> None:
    empty = Checkpoint("PeterNeumann", 0, merkle.EMPTY_ROOT)
    assert Checkpoint.parse(empty.to_text()) == empty


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (checkpoint_text(size="05"), "A-checkpoint"),
        (checkpoint_text(size="-5"), "A-checkpoint"),
        (checkpoint_text(size="+5"), "A-checkpoint"),
        (checkpoint_text(size="5 "), "A-checkpoint"),
        (checkpoint_text(size="\u0665"), "A-checkpoint"),
        (checkpoint_text(size="²"), "A-checkpoint"),
        (checkpoint_text(size=""), "A-checkpoint"),
        (checkpoint_text(size="9" * 5000), "A-checkpoint"),
        (checkpoint_text(size=str(2**63)), "A-checkpoint"),
        (checkpoint_text(size="0"), "A-checkpoint"),
        (checkpoint_text(root="AAAA"), "A-checkpoint"),
        (checkpoint_text(root=base64.b64encode(bytes(33)).decode()), "A-checkpoint"),
        (checkpoint_text(root="A" * 42 + "B="), "A-checkpoint"),
        (checkpoint_text() + "extension\n", "A-checkpoint"),
        (checkpoint_text(origin=""), "A-checkpoint"),
        ("PeterNeumann\n5\n", "A-checkpoint"),
        (checkpoint_text(origin="another.log"), "A-origin"),
    ],
)
def test_a_bent_checkpoint_is_refused_though_it_is_signed(text: str, code: str) -> None:
    key = SigningKey.parse(PETER_SECRET)
    with pytest.raises(AuditError, match=code):
        open_checkpoint(key.sign(text), key.verifier_key)
