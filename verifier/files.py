"""Reading and writing files that decide about money: regular files only, capped, written whole or not at all."""

from __future__ import annotations

import os
import secrets
import stat
from pathlib import Path

from verifier.errors import VerifierError


def read_regular(path: Path, *, limit: int) -> bytes:
    """The bytes of a regular file of at most `limit` bytes; never follows a link, never blocks on a FIFO.

    Raises:
        VerifierError: V0-file where it cannot be read or is no regular file, V0-size where it is larger.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError) as error:
        found = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise VerifierError("V0-file", "the file cannot be opened", where=str(path), found=found) from error
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):  # before fdopen, which raises for a folder and leaves it open
        os.close(descriptor)
        raise VerifierError("V0-file", "this is no regular file", where=str(path), expected="a regular file")
    with os.fdopen(descriptor, "rb") as stream:
        content = stream.read(min(status.st_size, limit) + 1)  # not a buffer of `limit` bytes for each small file
        if len(content) > status.st_size:  # it grew, or is of a file system that tells no sizes
            content += stream.read(limit + 1 - len(content))
    if len(content) > limit:
        found = f"{max(status.st_size, len(content))} bytes"
        raise VerifierError(
            "V0-size", "the file is too large", where=str(path), expected=f"at most {limit} bytes", found=found
        )
    return content


def write_atomic(path: Path, content: bytes, *, mode: int = 0o644) -> None:
    """Write a file so that after a crash it is there whole or not at all.

    Raises:
        OSError: where the file system refuses.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(descriptor)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
