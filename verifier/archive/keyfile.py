"""The file that holds an archive's signing key: made once, readable by its owner only."""

from __future__ import annotations

from pathlib import Path

from verifier.archive import files
from verifier.archive.note import SigningKey
from verifier.errors import AuditError

_MAX_BYTES = 1024
_OTHERS = 0o077


def load_signing_key(path: Path) -> SigningKey:
    """The key of a file.

    Raises:
        AuditError: A-key for another content, A-key-rights where others than its owner may read it, A-file-… where
            it is no file.
    """
    raw = files.read_regular(path, limit=_MAX_BYTES)
    if path.stat().st_mode & _OTHERS:
        raise AuditError(
            "A-key-rights",
            "others can read the signing key",
            where=str(path),
            expected="mode 0600",
            do=f"chmod 600 {path}",
        )
    try:
        return SigningKey.parse(raw.decode().removesuffix("\n"))
    except UnicodeDecodeError as error:
        raise AuditError("A-key", "the key file is not UTF-8", where=str(path)) from error


def load_or_create_signing_key(path: Path, name: str) -> SigningKey:
    """The key of the file, or a new one of this name where there is no file; it is synced before it is used.

    Of two processes that create it at once both get the key that won.

    Raises:
        AuditError: as `load_signing_key`; A-write where the file cannot be made.
    """
    if not path.exists():
        files.make_folder(path.parent)
        files.create_durably(path, (SigningKey.generate(name).export() + "\n").encode())
    return load_signing_key(path)
