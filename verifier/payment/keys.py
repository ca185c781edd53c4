"""Private keys of payers, providers and owners, wherever they are kept; what is here is never shown.

The only module that imports eth_account. `load_key` takes a file (0x and 64 hex digits, or an encrypted keystore in
eth_account's format, both for their owner's eyes only), ``env:NAME``, ``command:PROGRAM …`` or a signer's URL. A key is
never an argument: arguments stand in the list of processes and in a shell's history.
"""

from __future__ import annotations

import contextlib
import getpass
import json
import os
import re
import secrets
import stat
import sys
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import rlp  # type: ignore[import-untyped]  # it has no types
from eth_account import Account
from eth_typing import Hash32

from verifier.errors import EscrowError
from verifier.keccak import keccak256
from verifier.statement.scalars import SECP256K1_ORDER, Address, Bytes32, Signature

if TYPE_CHECKING:
    from eth_account.signers.local import LocalAccount

_FORMAT = re.compile(rb"0x[0-9a-f]{64}\n?\Z")
_SECRET = re.compile(r"(?:0x)?[0-9a-fA-F]{64}\Z")
_URL = re.compile(r"(https?):/+(.+)", re.DOTALL)
_MAX_FILE = 1 << 14
PASSWORD_VARIABLE = "OPGATE_KEY_PASSWORD_FILE"  # noqa: S105 - the name of a variable
"""Names the file with a keystore's password, which only its owner may read; without it the terminal is asked."""


@dataclass(frozen=True, kw_only=True)
class Transaction:
    """An unsigned EIP-1559 transaction, every field given; `to` None creates a contract. Fees and value in wei."""

    chain_id: int
    nonce: int
    to: Address | None
    data: bytes
    value: int = 0
    gas: int
    max_fee_per_gas: int
    max_priority_fee_per_gas: int

    def payload(self) -> list[Any]:
        """The fields that are signed, in the order of EIP-1559; no access list."""
        return [
            self.chain_id,
            self.nonce,
            self.max_priority_fee_per_gas,
            self.max_fee_per_gas,
            self.gas,
            bytes(self.to or b""),
            self.value,
            self.data,
            [],
        ]

    def to_json(self) -> dict[str, str | int | None]:
        """For a signer that shows or limits what it signs."""
        return {
            "chain_id": self.chain_id,
            "nonce": self.nonce,
            "to": None if self.to is None else str(self.to),
            "value": str(self.value),
            "data": "0x" + self.data.hex(),
            "gas": self.gas,
            "max_fee_per_gas": str(self.max_fee_per_gas),
            "max_priority_fee_per_gas": str(self.max_priority_fee_per_gas),
        }


class Signer(ABC):
    """One secp256k1 key, here or elsewhere."""

    address: Address

    @abstractmethod
    def sign_digest(self, digest: Bytes32) -> Signature:
        """Sign 32 bytes as they are: r || s || v with low s and v 27 or 28."""

    def sign_transaction(self, transaction: Transaction) -> tuple[bytes, Bytes32]:
        """The raw bytes and the hash of the signed transaction (EIP-1559, type 2).

        Raises:
            EscrowError: E-key-transaction where a field is out of range.
        """
        payload = transaction.payload()
        numbers = [item for item in payload if not isinstance(item, (bytes, list))]
        if not all(isinstance(item, int) and 0 <= item < 1 << 256 for item in numbers):
            raise EscrowError("E-key-transaction", "a field of the transaction is no number that fits")
        try:
            digest = keccak256(b"\x02" + bytes(rlp.encode(payload)))
        except (rlp.exceptions.RLPException, TypeError, ValueError) as error:
            raise EscrowError(
                "E-key-transaction", "this transaction cannot be signed", found=str(error)[:200]
            ) from error
        signature = self._sign_transaction_digest(digest, transaction)
        r, s = int.from_bytes(signature[:32]), int.from_bytes(signature[32:64])
        raw = b"\x02" + bytes(rlp.encode([*payload, signature[64] - 27, r, s]))
        return raw, keccak256(raw)

    def _sign_transaction_digest(self, digest: Bytes32, transaction: Transaction) -> Signature:  # noqa: ARG002 - signers elsewhere are told
        return self.sign_digest(digest)


class Key(Signer):
    """One secp256k1 key in this process. `repr`, `str` and pickling never show the secret."""

    __slots__ = ("_account", "address")

    def __init__(self, secret: bytes) -> None:
        """Take the 32 secret bytes; E-key-format where they are no key of the curve."""
        if len(secret) != 32 or not 0 < int.from_bytes(secret) < SECP256K1_ORDER:
            raise EscrowError(
                "E-key-format", "this is no secp256k1 key", expected="32 bytes, between 0 and the curve's order"
            )
        self._account: LocalAccount = Account.from_key(secret)
        self.address = Address(bytes.fromhex(self._account.address[2:]))

    def __repr__(self) -> str:
        return f"Key(address={self.address})"

    def __reduce__(self) -> str:
        raise TypeError("a key is not pickled: load it from its file")

    def sign_digest(self, digest: Bytes32) -> Signature:
        """Sign 32 bytes as they are: r || s || v with low s and v 27 or 28.

        It does not know what the digest stands for: only digests that this installation computed may come here.
        """
        if len(digest) != 32:
            raise EscrowError("E-key-digest", "only 32-byte digests are signed", found=f"{len(digest)} bytes")
        return Signature(bytes(self._account.unsafe_sign_hash(Hash32(bytes(digest))).signature))


def load_key(source: Path | str) -> Signer:
    """The key of a file, ``env:NAME``, ``command:PROGRAM …`` or ``https://…``.

    Raises:
        EscrowError: E-key-missing, E-key-permissions (group or others may read the file, it is a link, or another
            user's), E-key-format, E-key-password, E-key-secret (the secret itself was given), E-signer-….
        UndecidedError: E-signer-silent.
    """
    text = str(source)
    if _SECRET.match(text):
        raise EscrowError(
            "E-key-secret",
            "a key was given where a key's place is asked for: it stands in the list of processes now",
            do="Count it as known to others. Write a new one into a file of mode 0600, and name that file.",
        )
    if text.startswith("env:"):
        return Key(_secret(os.environ.get(text[4:], "").strip().encode(), where=f"variable {text[4:]}"))
    url = _URL.match(text)
    if text.startswith("command:") or url:
        from verifier.payment.signers import command_signer, url_signer  # noqa: PLC0415 - httpx only where it is used

        # a path in between may have made one slash of two
        return url_signer(f"{url[1]}://{url[2]}") if url else command_signer(text.removeprefix("command:"))
    path = Path(source)
    content = _read_private(path)
    if content.lstrip().startswith(b"{"):
        return Key(_unlocked(content, path))
    return Key(_secret(content, where=str(path)))


def _secret(content: bytes, *, where: str) -> bytes:
    """The 32 bytes of 0x and 64 hex digits; E-key-format, which shows nothing of what was there."""
    if not _FORMAT.match(content):
        raise EscrowError("E-key-format", "this holds no key", where=where, expected="0x and 64 lower-case hex digits")
    return bytes.fromhex(content[2:66].decode())


def _unlocked(content: bytes, path: Path) -> bytes:
    """The secret of a keystore; E-key-format, E-key-password."""
    named = os.environ.get(PASSWORD_VARIABLE)
    if named:
        password = _read_private(Path(named)).decode(errors="replace").rstrip("\r\n")
    elif sys.stdin.isatty():
        password = getpass.getpass(f"Password of {path.name}: ")
    else:
        raise EscrowError(
            "E-key-password",
            "the keystore is encrypted, and there is nobody to ask for its password",
            where=str(path),
            do=f"Set {PASSWORD_VARIABLE} to a file of mode 0600 that holds it.",
        )
    try:
        return bytes(Account.decrypt(json.loads(content), password))
    except (ValueError, KeyError, TypeError, AttributeError, NotImplementedError, RecursionError) as error:
        wrong = "MAC mismatch" in str(error)
        code, message = (
            ("E-key-password", "the password does not open the keystore")
            if wrong
            else ("E-key-format", "this is no keystore that eth_account reads")
        )
        raise EscrowError(code, message, where=str(path)) from None


def _read_private(path: Path) -> bytes:
    """The bytes of a file that only its owner can read; E-key-missing, E-key-permissions."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise EscrowError(
            "E-key-missing", "the key file is not there", where=str(path), do="Create it first."
        ) from error
    except OSError as error:
        raise EscrowError(
            "E-key-permissions", "the key file cannot be opened", where=str(path), found=str(error)
        ) from error
    try:
        status = os.fstat(handle)
        mode = stat.S_IMODE(status.st_mode)
        if not stat.S_ISREG(status.st_mode) or mode & 0o077 or status.st_uid != os.geteuid():
            raise EscrowError(
                "E-key-permissions",
                "the key file is not its owner's alone",
                where=str(path),
                expected=f"a regular file of user {os.geteuid()}, mode 0600",
                found=f"user {status.st_uid}, mode {mode:04o}",
                do=f"Run: chmod 600 {path}",
            )
        content = os.read(handle, _MAX_FILE)
    finally:
        os.close(handle)
    return content


def create_key(path: Path, *, password: str | None = None) -> Key:
    """Make a new random key, write it with mode 0600, synced; E-key-exists where the path is taken.

    The file appears whole or not at all, and never replaces another. With a password it is an encrypted keystore.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    secret = (secrets.randbelow(SECP256K1_ORDER - 1) + 1).to_bytes(32)
    plain = b"0x" + secret.hex().encode() + b"\n"
    content = plain if password is None else json.dumps(Account.encrypt(secret, password)).encode()
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        try:
            os.write(handle, content)
            os.fsync(handle)
        finally:
            os.close(handle)
        os.link(draft, path)
    except FileExistsError as error:
        raise EscrowError("E-key-exists", "a key is not overwritten", where=str(path)) from error
    finally:
        with contextlib.suppress(FileNotFoundError):
            draft.unlink()
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
    return Key(secret)
