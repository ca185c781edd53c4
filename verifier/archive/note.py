"""Signed notes with Ed25519 and the checkpoints of a log, after C2SP signed-note and tlog-checkpoint.

A text counts only after `open_note` has verified a signature by the key that the reader holds; there is no way here
to get at
the text of a note without a key. Key strings are those of Go's sumdb/note, so that other tools read them. No files
here.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from dataclasses import dataclass
from typing import Self

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from verifier.archive import merkle
from verifier.errors import AuditError

MAX_NOTE_BYTES = 128 << 10
"""Room for 16 signatures of post-quantum length, which signed-note asks every reader to accept."""
MAX_SIGNATURES = 100
MAX_SIZE = 2**63 - 1
"""Largest tree size that is read; a log of this project never comes near."""

_ED25519 = b"\x01"
_KEY_SIZE = 32
_ID_SIZE = 4
_DASH = "\u2014 "
_PRIVATE = "PRIVATE+KEY+"


@dataclass(frozen=True, slots=True)
class VerifierKey:
    """A log's name and Ed25519 public key; in text ``<name>+<key id in hex>+<base64 of 0x01 and the key>``."""

    name: str
    public: bytes

    def __post_init__(self) -> None:
        """Refuse a name that could not be told apart in a signature line, and a key of another length."""
        if not _is_name(self.name):
            raise _bad_key(
                "the key's name is empty or holds a space, a control character or a plus",
                "a name such as example.com/log",
            )
        if len(self.public) != _KEY_SIZE:
            raise _bad_key("an Ed25519 key has another length", f"{_KEY_SIZE} bytes")

    @classmethod
    def parse(cls, text: str) -> Self:
        """The key of its text form.

        Raises:
            AuditError: A-key where the form, the algorithm, the base64 or the key id is wrong.
        """
        name, _, rest = text.partition("+")
        identifier, _, encoded = rest.partition("+")
        return cls._checked(name, identifier, _public_bytes(encoded))

    @classmethod
    def _checked(cls, name: str, identifier: str, public: bytes) -> Self:
        key = cls(name, public)
        if identifier != key.key_id.hex():
            raise _bad_key("the key id is not that of the name and key", key.key_id.hex())
        return key

    @property
    def key_id(self) -> bytes:
        """The first 4 bytes of SHA-256(name || newline || 0x01 || public key)."""
        return hashlib.sha256(self.name.encode() + b"\n" + _ED25519 + self.public).digest()[:_ID_SIZE]

    def __str__(self) -> str:
        encoded = base64.b64encode(_ED25519 + self.public).decode()
        return f"{self.name}+{self.key_id.hex()}+{encoded}"

    def verify(self, text: bytes, signature: bytes) -> None:
        """Check an Ed25519 signature (RFC 8032) over a note's text; A-signature where it does not hold."""
        try:
            Ed25519PublicKey.from_public_bytes(self.public).verify(signature, text)
        except (InvalidSignature, ValueError) as error:
            raise AuditError(
                "A-signature",
                "the signature does not hold",
                expected=f"a signature by {self}",
                do="The note was altered, or another key signed it.",
            ) from error


@dataclass(frozen=True, slots=True, repr=False)
class SigningKey:
    """The private half, which signs checkpoints; its text form is a secret and `repr` shows none of it."""

    verifier_key: VerifierKey
    _seed: bytes

    @classmethod
    def generate(cls, name: str) -> Self:
        """A new key from the system's randomness."""
        return cls.from_seed(name, Ed25519PrivateKey.generate().private_bytes_raw())

    @classmethod
    def from_seed(cls, name: str, seed: bytes) -> Self:
        """The key of a 32-byte seed (RFC 8032)."""
        if len(seed) != _KEY_SIZE:
            raise _bad_key("an Ed25519 seed has another length", f"{_KEY_SIZE} bytes")
        return cls(VerifierKey(name, Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw()), seed)

    @classmethod
    def parse(cls, text: str) -> Self:
        """The key of ``PRIVATE+KEY+<name>+<key id>+<base64 of 0x01 and the seed>``; A-key where it is none."""
        if not text.startswith(_PRIVATE):
            raise _bad_key("this is no private key of a note", f"{_PRIVATE}name+id+key")
        name, _, rest = text.removeprefix(_PRIVATE).partition("+")
        identifier, _, encoded = rest.partition("+")
        key = cls.from_seed(name, _public_bytes(encoded))
        if identifier != key.verifier_key.key_id.hex():
            raise _bad_key("the key id is not that of the name and key", key.verifier_key.key_id.hex())
        return key

    def export(self) -> str:
        """The secret text form, for a file that only its owner can read."""
        encoded = base64.b64encode(_ED25519 + self._seed).decode()
        return f"{_PRIVATE}{self.verifier_key.name}+{self.verifier_key.key_id.hex()}+{encoded}"

    def sign(self, text: str) -> bytes:
        """The signed note of a text.

        Raises:
            AuditError: A-note where the text does not end in a newline or holds another control character.
        """
        _check_characters(text)
        if not text.endswith("\n"):
            raise _malformed("the text of a note ends in a newline")
        raw = text.encode()
        signature = Ed25519PrivateKey.from_private_bytes(self._seed).sign(raw)
        encoded = base64.b64encode(self.verifier_key.key_id + signature).decode()
        return raw + f"\n{_DASH}{self.verifier_key.name} {encoded}\n".encode()

    def __repr__(self) -> str:
        return f"SigningKey({self.verifier_key.name!r})"


def open_note(raw: bytes, key: VerifierKey) -> str:
    """The text of a note that carries a good signature by `key`.

    Signatures by other keys (witnesses, an older key) are ignored, as signed-note asks; one by `key` that does not hold
    rejects the note.

    Raises:
        AuditError: A-note for bytes that are no note, A-signature for a bad signature, A-unsigned where `key` did
            not sign.
    """
    if len(raw) > MAX_NOTE_BYTES:
        raise _malformed("the note is too large", expected=f"at most {MAX_NOTE_BYTES} bytes", found=f"{len(raw)} bytes")
    try:
        note = raw.decode()
    except UnicodeDecodeError as error:
        raise _malformed("the note is not UTF-8") from error
    _check_characters(note)
    body, separator, signatures = note.rpartition("\n\n")
    if not separator or not signatures.endswith("\n"):
        raise _malformed("no blank line parts the text from signature lines")
    lines = signatures.removesuffix("\n").split("\n")
    if len(lines) > MAX_SIGNATURES:
        raise _malformed(
            "the note has too many signatures", expected=f"at most {MAX_SIGNATURES}", found=str(len(lines))
        )
    text = body + "\n"
    # Every line is parsed before any is believed, so that junk behind a good signature is not overlooked.
    known = [
        sig for name, identifier, sig in map(_signature_line, lines) if (name, identifier) == (key.name, key.key_id)
    ]
    for signature in known:
        key.verify(text.encode(), signature)
    if not known:
        raise AuditError(
            "A-unsigned",
            "the note is not signed by this key",
            expected=str(key),
            do="Ask the log's keeper which key signs it.",
        )
    return text


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A log's head: its origin, the number of its entries and the root over them."""

    origin: str
    size: int
    root: bytes

    @classmethod
    def parse(cls, text: str) -> Self:
        """The checkpoint of a note's text.

        Extension lines are refused: they are opaque, and this project writes none.

        Raises:
            AuditError: A-checkpoint.
        """
        lines = text.split("\n")
        if len(lines) != 4 or lines[-1] or not lines[0]:
            raise _bad_checkpoint("the text is not an origin, a size and a root hash", f"{len(lines) - 1} lines")
        origin, size, encoded, _ = lines
        if not size.isascii() or not size.isdigit() or len(size) > len(str(MAX_SIZE)) or str(int(size)) != size:
            raise _bad_checkpoint("the size is no decimal number without leading zeros", size[:30])
        if int(size) > MAX_SIZE:
            raise _bad_checkpoint("the size is beyond 2^63", size)
        root = _strict_base64(encoded)
        if root is None or len(root) != merkle.HASH_SIZE:
            raise _bad_checkpoint("the root hash is not the base64 of 32 bytes", encoded[:60])
        if size == "0" and root != merkle.EMPTY_ROOT:
            raise _bad_checkpoint("the root of an empty tree is another", encoded)
        return cls(origin, int(size), root)

    def to_text(self) -> str:
        """The three lines that are signed."""
        return f"{self.origin}\n{self.size}\n{base64.b64encode(self.root).decode()}\n"


def sign_checkpoint(checkpoint: Checkpoint, key: SigningKey) -> bytes:
    """The signed note of a checkpoint."""
    return key.sign(checkpoint.to_text())


def open_checkpoint(raw: bytes, key: VerifierKey) -> Checkpoint:
    """The checkpoint of a note that `key` signed, for the log that the key names.

    It does not check that the checkpoint is the newest: an older one is signed as well.

    Raises:
        AuditError: as `open_note` and `Checkpoint.parse`; A-origin where the origin is not the key's name.
    """
    checkpoint = Checkpoint.parse(open_note(raw, key))
    if checkpoint.origin != key.name:
        raise AuditError("A-origin", "the checkpoint is of another log", expected=key.name, found=checkpoint.origin)
    return checkpoint


def _signature_line(line: str) -> tuple[str, bytes, bytes]:
    """Name, key id and signature of one signature line."""
    if not line.startswith(_DASH):
        raise _malformed("a signature line does not start with an em dash", found=line[:60])
    name, _, encoded = line.removeprefix(_DASH).partition(" ")
    signature = _strict_base64(encoded)
    if not _is_name(name) or signature is None or len(signature) <= _ID_SIZE:
        raise _malformed("a signature line is not a name and the base64 of a key id and a signature", found=line[:60])
    return name, signature[:_ID_SIZE], signature[_ID_SIZE:]


def _is_name(name: str) -> bool:
    return bool(name) and "+" not in name and not any(char.isspace() or char < " " for char in name) and _is_utf8(name)


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _check_characters(text: str) -> None:
    if any(char < " " and char != "\n" for char in text) or not _is_utf8(text):
        raise _malformed("the note holds a control character")


def _strict_base64(text: str) -> bytes | None:
    """The bytes of standard base64 in its one encoding, or None."""
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None
    return raw if base64.b64encode(raw).decode() == text else None


def _public_bytes(encoded: str) -> bytes:
    """The 32 bytes of an Ed25519 key or seed behind its algorithm byte."""
    raw = _strict_base64(encoded)
    if raw is None or raw[:1] != _ED25519 or len(raw) != 1 + _KEY_SIZE:
        raise _bad_key("the key is not the base64 of 0x01 and 32 bytes", "an Ed25519 key")
    return raw[1:]


def _bad_key(message: str, expected: str) -> AuditError:
    return AuditError("A-key", message, expected=expected)


def _malformed(message: str, *, expected: str = "", found: str = "") -> AuditError:
    return AuditError("A-note", message, expected=expected, found=found)


def _bad_checkpoint(message: str, found: str) -> AuditError:
    return AuditError("A-checkpoint", message, expected="origin, size and base64 root hash, a line each", found=found)
