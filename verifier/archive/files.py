"""The few file operations of an archive: writes that survive a power cut, and reads that a hostile folder cannot abuse.

Every change to the disk that an archive makes goes through this module, so that a test can cut it off at each one.
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path

import verifier.files
from verifier.errors import AuditError, VerifierError

_FOLDER_MODE = 0o700
_FILE_MODE = 0o600


def write_durably(target: Path, content: bytes, *, root: Path, staging: Path) -> None:
    """Put a whole file at `target`, replacing what was there, and return only when a power cut cannot undo it.

    The bytes are written and synced under another name in `staging`, on the same file system, renamed, and every folder
    from the target up to `root` is synced: an earlier crash may have left a folder whose own entry never reached the
    disk.

    Raises:
        AuditError: A-write, with what the system said.
    """
    try:
        _make_folders(target.parent, root)
        temporary = staging / secrets.token_hex(8)
        _write_new(temporary, content)
        os.replace(temporary, target)  # noqa: PTH105 - the test that cuts writes off replaces `os` in this module
        sync_up(target.parent, root)
    except OSError as error:
        raise _write_error(target, error) from error


def create_durably(target: Path, content: bytes) -> None:
    """Put a whole new file at `target`, or leave the one that another process put there first.

    Raises:
        AuditError: A-write.
    """
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(8)}")
    try:
        _write_new(temporary, content)
        try:
            os.link(temporary, target)
        except FileExistsError:
            pass
        finally:
            os.unlink(temporary)  # noqa: PTH108 - see write_durably
        _sync_folder(target.parent)
    except OSError as error:
        raise _write_error(target, error) from error


def make_folder(folder: Path) -> None:
    """Make a folder that only its owner can enter, with its parents; A-write where the system refuses."""
    try:
        folder.mkdir(mode=_FOLDER_MODE, parents=True, exist_ok=True)
    except OSError as error:
        raise _write_error(folder, error) from error


def remove_folder(folder: Path) -> None:
    """Remove a folder of plain files, if it is there. Not synced: what is removed so is no longer needed."""
    try:
        for name in os.listdir(folder):  # noqa: PTH208 - see write_durably
            os.unlink(folder / name)  # noqa: PTH108 - see write_durably
        os.rmdir(folder)  # noqa: PTH106 - see write_durably
    except FileNotFoundError:
        return
    except OSError as error:
        raise _write_error(folder, error) from error


def clear_folder(folder: Path) -> None:
    """Remove the plain files of a folder, which stays."""
    try:
        for name in os.listdir(folder):  # noqa: PTH208 - see write_durably
            os.unlink(folder / name)  # noqa: PTH108 - see write_durably
    except OSError as error:
        raise _write_error(folder, error) from error


def sync_up(folder: Path, root: Path) -> None:
    """Sync the entries of a folder and of each one above it, up to `root`."""
    while True:
        _sync_folder(folder)
        if folder == root:
            return
        folder = folder.parent


def read_regular(path: Path, *, limit: int) -> bytes:
    """The bytes of a regular file of at most `limit` bytes; no link is followed, no pipe waited for.

    Raises:
        AuditError: A-file-missing, A-file-size, or A-file-unreadable for a link, a folder, a pipe or a refusal.
    """
    try:
        return verifier.files.read_regular(path, limit=limit)
    except (VerifierError, OSError) as error:
        if isinstance(error, VerifierError) and error.code == "V0-size":
            raise AuditError(
                "A-file-size", "the file is too large", where=str(path), expected=error.expected, found=error.found
            ) from error
        if not os.path.lexists(path):
            raise AuditError("A-file-missing", "the file is not there", where=str(path)) from error
        found = (error.found or error.message) if isinstance(error, VerifierError) else str(error)
        raise AuditError("A-file-unreadable", "the file cannot be read", where=str(path), found=found) from error


def _make_folders(folder: Path, root: Path) -> None:
    missing = []
    while folder != root and not folder.is_dir():
        missing.append(folder)
        folder = folder.parent
    for each in reversed(missing):
        os.mkdir(each, _FOLDER_MODE)  # noqa: PTH102 - see write_durably


def _write_new(path: Path, content: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, _FILE_MODE)
    try:
        rest = memoryview(content)
        while rest:
            rest = rest[os.write(descriptor, rest) :]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write_error(path: Path, error: OSError) -> AuditError:
    return AuditError(
        "A-write",
        "the archive cannot be written",
        where=str(path),
        found=error.strerror or str(error),
        do="Nothing was published. Mend the disk or its rights, then repeat the command.",
    )
