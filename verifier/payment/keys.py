"""Private keys of payers, providers and owners: read from files that only their owner may read, never shown.

The only module that imports eth_account. A key file holds 0x, 64 lower-case hex digits and at most a newline.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING

from eth_account import Account
from eth_typing import Hash32

from verifier.errors import EscrowError
from verifier.statement.scalars import SECP256K1_ORDER, Address, Bytes32, Signature

if TYPE_CHECKING:
    from pathlib import Path

    from eth_account.signers.local import LocalAccount

_FORMAT = re.compile(rb"0x[0-9a-f]{64}\n?\Z")
_MAX_FILE = 128


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


class Key:
    """One secp256k1 key. `repr`, `str` and pickling never show the secret."""

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

    def sign_transaction(self, transaction: Transaction) -> tuple[bytes, Bytes32]:
        """The raw bytes and the hash of the signed transaction (EIP-1559, type 2)."""
        try:
            signed = self._account.sign_transaction(
                {
                    "type": 2,
                    "chainId": transaction.chain_id,
                    "nonce": transaction.nonce,
                    "to": bytes(transaction.to or b""),
                    "data": transaction.data,
                    "value": transaction.value,
                    "gas": transaction.gas,
                    "maxFeePerGas": transaction.max_fee_per_gas,
                    "maxPriorityFeePerGas": transaction.max_priority_fee_per_gas,
                }
            )
        except (TypeError, ValueError) as error:
            raise EscrowError(
                "E-key-transaction", "this transaction cannot be signed", found=str(error)[:200]
            ) from error
        return bytes(signed.raw_transaction), Bytes32(bytes(signed.hash))


def load_key(path: Path) -> Key:
    """The key in a file that only its owner can read.

    Raises:
        EscrowError: E-key-missing, E-key-permissions (group or others may read it, it is a link, or another user's),
            E-key-format.
    """
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
    if not _FORMAT.match(content):
        raise EscrowError(
            "E-key-format", "the key file holds no key", where=str(path), expected="0x and 64 lower-case hex digits"
        )
    return Key(bytes.fromhex(content[2:66].decode()))


def create_key(path: Path) -> Key:
    """Make a new random key, write it with mode 0600, synced; E-key-exists where the path is taken.

    The file appears whole or not at all, and never replaces another.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    secret = (secrets.randbelow(SECP256K1_ORDER - 1) + 1).to_bytes(32)
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        try:
            os.write(handle, b"0x" + secret.hex().encode() + b"\n")
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
