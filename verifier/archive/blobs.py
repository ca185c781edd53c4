"""Files named by the SHA-256 of their bytes: what the entries of an archive refer to.

A blob is hashed each time it is read, so damage never travels on. Nothing here knows what a blob means.
"""

from __future__ import annotations

from pathlib import Path

from verifier.archive import files
from verifier.errors import AuditError
from verifier.statement.canonical import sha256
from verifier.statement.scalars import Bytes32

MAX_BLOB = 16 << 20
"""Bytes in one blob: four times the largest bundle that is read."""


class BlobStore:
    """The folder ``blobs`` of an archive: each at ``blobs/<first two hex digits>/<0x and 64 hex digits>``."""

    def __init__(self, root: Path, *, staging: Path) -> None:
        """Only remember where: `root` is the archive's folder, `staging` one in it for files being written."""
        self._root = root
        self._staging = staging

    def path(self, digest: Bytes32) -> Path:
        """Where the blob of a digest is or would be."""
        return self._root / "blobs" / digest.hex()[:2] / str(digest)

    def put(self, content: bytes) -> Bytes32:
        """Store bytes durably and give their digest; bytes that are there already are only synced.

        A damaged file under the same name is replaced: these bytes are shown by their own hash to be the right ones.
        The caller holds the archive's lock.

        Raises:
            AuditError: A-blob-size or A-write.
        """
        if len(content) > MAX_BLOB:
            raise AuditError(
                "A-blob-size",
                "the blob is too large",
                expected=f"at most {MAX_BLOB} bytes",
                found=f"{len(content)} bytes",
            )
        digest = sha256(content)
        if self.holds(digest):
            files.sync_up(self.path(digest).parent, self._root)
        else:
            files.write_durably(self.path(digest), content, root=self._root, staging=self._staging)
        return digest

    def get(self, digest: Bytes32) -> bytes:
        """The bytes of a blob, hashed again.

        Raises:
            AuditError: A-blob-missing where there is none, A-blob-damaged where the bytes have another hash or
                cannot be read.
        """
        where = self.path(digest)
        try:
            content = files.read_regular(where, limit=MAX_BLOB)
        except AuditError as error:
            if error.code == "A-file-missing":
                raise AuditError(
                    "A-blob-missing", "the blob is not there", where=str(where), expected=str(digest)
                ) from error
            raise AuditError(
                "A-blob-damaged", "the blob cannot be read", where=str(where), found=error.found
            ) from error
        found = sha256(content)
        if found != digest:
            raise AuditError(
                "A-blob-damaged",
                "the blob's bytes are not those that were archived",
                where=str(where),
                expected=str(digest),
                found=str(found),
                do="Fetch the blob from another copy of the archive: its name says whether it is the right one.",
            )
        return content

    def holds(self, digest: Bytes32) -> bool:
        """Whether the blob is there with the right bytes."""
        try:
            self.get(digest)
        except AuditError:
            return False
        return True
