"""The archive: an append-only log of entries under a signed checkpoint, with the blobs that the entries name.

A folder of ``checkpoint``, ``tile/…`` (C2SP tlog-tiles), ``blobs/…``, ``vkey`` (the public key), ``lock`` and
``tmp``. The
checkpoint is written last and everything it covers is synced before, so that a crash between any two file operations
leaves either the old archive or the new one. What an entry means, and whether its bundle verifies, is `audit`'s.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from verifier.archive import files, merkle, tiles
from verifier.archive.blobs import BlobStore
from verifier.archive.note import MAX_NOTE_BYTES, Checkpoint, SigningKey, VerifierKey, open_checkpoint, sign_checkpoint
from verifier.archive.tree import StoredTree
from verifier.errors import AuditError
from verifier.statement import canonical
from verifier.statement.evidence import LogEntry
from verifier.statement.scalars import Bytes32

CHECKPOINT = "checkpoint"
KEY_FILE = "vkey"
_STAGING = "tmp"
_LOCK = "lock"
_MAX_KEY_BYTES = 1024
_LOCK_PAUSE = 0.02
LOCK_PATIENCE = 30.0
"""Seconds that a writer waits for another: an append takes milliseconds, so a longer wait means a stuck process."""


class Archive:
    """One party's archive. Many processes may read it at any time; writers take turns by a lock on ``lock``.

    Nothing of the log is kept in memory between calls: each reads the checkpoint and verifies its signature.
    """

    def __init__(
        self, folder: Path, key: VerifierKey, signing_key: SigningKey | None, *, patience: float = LOCK_PATIENCE
    ) -> None:
        """Use `create` or `open`."""
        self.folder = folder
        self.key = key
        self._signing_key = signing_key
        self._patience = patience
        self._newest: Checkpoint | None = None
        self._blobs = BlobStore(folder, staging=folder / _STAGING)

    @classmethod
    def create(cls, folder: Path, signing_key: SigningKey) -> Self:
        """Make an empty archive whose log is named as the key is, and open it for writing.

        A creation that a crash cut off is finished. An archive that is there, or one that lost its checkpoint, is
        left alone.

        Raises:
            AuditError: A-exists, A-write or A-locked.
        """
        folder = folder.absolute()
        files.make_folder(folder)
        archive = cls(folder, signing_key.verifier_key, signing_key)
        with archive._locked():
            if (folder / CHECKPOINT).exists() or (folder / "tile").exists():
                raise AuditError(
                    "A-exists",
                    "there is an archive here already",
                    where=str(folder),
                    do="Open it, or choose another folder. If its checkpoint is gone, restore that from a copy.",
                )
            archive._write(KEY_FILE, f"{archive.key}\n".encode())
            archive._publish(Checkpoint(archive.key.name, 0, merkle.EMPTY_ROOT))
            files.sync_up(folder, folder.parent)
        return archive

    @classmethod
    def open(cls, folder: Path, signing_key: SigningKey | None = None, *, patience: float = LOCK_PATIENCE) -> Self:
        """Open an archive: for reading without a key, for writing with the key that signs it.

        It checks the checkpoint's signature by the key in the folder, not who holds that key. `patience` is how many
        seconds a writer waits for another.

        Raises:
            AuditError: A-none where there is no archive, A-key-other where the signing key is another archive's, and
                what `open_checkpoint` raises.
        """
        folder = folder.absolute()
        if not (folder / CHECKPOINT).exists() and not (folder / KEY_FILE).exists():
            raise AuditError(
                "A-none", "there is no archive in this folder", where=str(folder), do="Name the archive's folder."
            )
        key = read_key(folder)
        if signing_key is not None and signing_key.verifier_key != key:
            raise AuditError(
                "A-key-other",
                "this key does not sign this archive",
                where=str(folder),
                expected=str(key),
                found=str(signing_key),
            )
        archive = cls(folder, key, signing_key, patience=patience)
        archive.checkpoint()
        return archive

    @classmethod
    def open_or_create(cls, folder: Path, signing_key: SigningKey) -> Self:
        """`open` where a checkpoint or a tile is, else `create`."""
        if (folder / CHECKPOINT).exists() or (folder / "tile").exists():
            return cls.open(folder, signing_key)
        return cls.create(folder, signing_key)

    def append(self, entry: LogEntry, blobs: Iterable[bytes] = ()) -> int:
        """Store the blobs, then log the entry, and return its index once both are synced and under a signed checkpoint.

        Every digest of the entry must name one of these blobs or one that is there already; each is hashed again first.
        After a crash in here the entry is either in the log or not: a caller that repeats it may log it twice, which
        is harmless.

        Raises:
            AuditError: A-read-only, A-locked, A-blob-…, A-entry-size, A-write; A-root, A-tile or A-entry-altered
                where the
                log is damaged, and A-rollback where it is shorter than it was: nothing is signed over damage.
        """
        raw = canonical.encode(entry)
        with self._locked():
            for blob in blobs:
                self._blobs.put(blob)
            for digest in entry.digests.values():
                self._blobs.get(digest)
            return self._append(raw)

    def store(self, blob: bytes) -> Bytes32:
        """Store a blob durably without an entry, as a bundle that is not decided yet, and give its digest.

        Raises:
            AuditError: A-read-only, A-locked, A-blob-size, A-write.
        """
        with self._locked():
            return self._blobs.put(blob)

    def checkpoint(self) -> Checkpoint:
        """The log's head, its signature by the archive's key verified.

        Raises:
            AuditError: as `open_checkpoint`; A-rollback where this process has seen a longer log here.
        """
        checkpoint = open_checkpoint(self.signed_checkpoint(), self.key)
        seen = self._newest
        if seen is not None and (checkpoint.size < seen.size or (checkpoint.size == seen.size and checkpoint != seen)):
            raise AuditError(
                "A-rollback",
                "the archive went back to an older or another state while it was in use",
                where=str(self.folder),
                expected=f"at least {seen.size} entries",
                found=f"{checkpoint.size} entries",
                do="Restore the newest copy; two histories must never be signed.",
            )
        self._newest = checkpoint
        return checkpoint

    def signed_checkpoint(self) -> bytes:
        """The checkpoint file's bytes: what an auditor keeps, to see later that nothing was removed."""
        return files.read_regular(self.folder / CHECKPOINT, limit=MAX_NOTE_BYTES)

    def entries(self) -> Iterator[tuple[int, LogEntry]]:
        """Index and entry of all that is under the checkpoint, in order; each has its hash under the signed root.

        Raises:
            AuditError: A-root, A-tile, A-bundle or A-entry-altered at damage. `check_structure` names all of it
                instead.
        """
        checkpoint = self.checkpoint()
        tree = StoredTree(self.folder, checkpoint.size)
        leaves = [leaf for index in tree.bundle_indices() for leaf in tree.hashes(0, index)]
        if merkle.root(leaves) != checkpoint.root:
            tree.check_root(checkpoint)
            raise AuditError("A-root", "the tiles of level 0 do not hash to the signed root", where=str(self.folder))
        for index in tree.bundle_indices():
            for at, raw in enumerate(tree.verified_bundle(index), index * tiles.WIDTH):
                yield at, canonical.decode(LogEntry, raw, where=f"entry {at}", limit=tiles.MAX_ENTRY)

    def entry(self, index: int) -> LogEntry:
        """One entry, shown by its inclusion proof to be under the signed checkpoint.

        Raises:
            AuditError: A-proof-range for an index beyond the log, A-inclusion, A-tile or A-bundle at damage.
        """
        checkpoint = self.checkpoint()
        tree = StoredTree(self.folder, checkpoint.size)
        proof = merkle.inclusion_proof(tree.subtree, index=index, size=checkpoint.size)
        raw = tree.bundle(index // tiles.WIDTH)[index % tiles.WIDTH]
        merkle.verify_inclusion(
            leaf=merkle.leaf_hash(raw), index=index, size=checkpoint.size, proof=proof, expected_root=checkpoint.root
        )
        return canonical.decode(LogEntry, raw, where=f"entry {index}", limit=tiles.MAX_ENTRY)

    def check_extends(self, older: Checkpoint) -> None:
        """Check that the log still begins with all that an older checkpoint of it covered.

        Raises:
            AuditError: A-consistency, A-origin for a checkpoint of another log, A-tile at damage.
        """
        newest = self.checkpoint()
        if older.origin != newest.origin:
            raise AuditError(
                "A-origin", "the older checkpoint is of another log", expected=newest.origin, found=older.origin
            )
        if older.size == 0:
            return
        tree = StoredTree(self.folder, newest.size)
        known = older.size <= newest.size
        merkle.verify_consistency(
            first=older.size,
            second=newest.size,
            first_root=older.root,
            second_root=newest.root,
            proof=merkle.consistency_proof(tree.subtree, first=older.size, second=newest.size) if known else (),
        )

    def blob(self, digest: Bytes32) -> bytes:
        """The bytes of a blob, hashed again; A-blob-missing or A-blob-damaged."""
        return self._blobs.get(digest)

    def _append(self, raw: bytes) -> int:
        """Write bundle, tiles and checkpoint, in this order; the lock is held."""
        checkpoint = self.checkpoint()
        size = checkpoint.size
        tree = StoredTree(self.folder, size)
        tree.check_root(checkpoint)
        self._tidy(size)
        # A bundle or tile beyond the checkpoint is what a crash left of an entry: the same names are written over here.
        bundle, offset = divmod(size, tiles.WIDTH)
        logged = tree.verified_bundle(bundle)
        self._write(tiles.entries_path(bundle, offset + 1), tiles.join_entries([*logged, raw]))
        grown: dict[tuple[int, int], list[bytes]] = {}
        level, value = 0, merkle.leaf_hash(raw)
        while True:
            index = (size >> (tiles.HEIGHT * level)) // tiles.WIDTH
            hashes = grown[level, index] = [*tree.hashes(level, index), value]
            self._write(tiles.tile_path(level, index, len(hashes)), b"".join(hashes))
            if len(hashes) < tiles.WIDTH:
                break
            level, value = level + 1, merkle.root(hashes)
        # Tiles left of the new leaf are the same in both trees; those on its path were just computed.
        subtree = tiles.subtree_of(lambda level, index: grown.get((level, index)) or tree.hashes(level, index))
        self._publish(Checkpoint(checkpoint.origin, size + 1, subtree(0, size + 1)))
        return size

    def _publish(self, checkpoint: Checkpoint) -> None:
        if self._signing_key is None:
            raise self._read_only()
        self._write(CHECKPOINT, sign_checkpoint(checkpoint, self._signing_key))
        self._newest = checkpoint

    def _write(self, name: str, content: bytes) -> None:
        files.write_durably(self.folder / name, content, root=self.folder, staging=self.folder / _STAGING)

    def _tidy(self, size: int) -> None:
        """Remove the partial tiles and bundles that a published full one has replaced, as tlog-tiles allows."""
        level = 0
        while full := (size >> (tiles.HEIGHT * level)) // tiles.WIDTH:
            files.remove_folder(self.folder / tiles.partial_folder(tiles.tile_path(level, full - 1)))
            if level == 0:
                files.remove_folder(self.folder / tiles.partial_folder(tiles.entries_path(full - 1)))
            level += 1

    def _read_only(self) -> AuditError:
        return AuditError(
            "A-read-only",
            "the archive is open for reading only",
            where=str(self.folder),
            do="Open it with its signing key.",
        )

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Hold the archive's one writer's lock; what an interrupted writer left unfinished is cleared away."""
        if self._signing_key is None:
            raise self._read_only()
        try:
            # flock and not lockf: it excludes the threads of one process from each other too.
            descriptor = os.open(self.folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise AuditError(
                "A-write", "the archive cannot be locked", where=str(self.folder), found=str(error)
            ) from error
        try:
            give_up = time.monotonic() + self._patience
            while not _try_lock(descriptor):
                if time.monotonic() >= give_up:
                    raise AuditError(
                        "A-locked",
                        "another process is writing to the archive",
                        where=str(self.folder / _LOCK),
                        expected=f"the lock within {self._patience:g} s",
                        do="Repeat the command; if it stays so, look for the process that holds the file open.",
                    )
                time.sleep(_LOCK_PAUSE)
            files.make_folder(self.folder / _STAGING)
            files.clear_folder(self.folder / _STAGING)
            yield
        finally:
            os.close(descriptor)


def read_key(folder: Path) -> VerifierKey:
    """The public key that an archive carries, which says nothing of its holder; A-key or A-file-… at damage."""
    raw = files.read_regular(folder / KEY_FILE, limit=_MAX_KEY_BYTES)
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        raise AuditError("A-key", "the key file is not UTF-8", where=str(folder / KEY_FILE)) from error
    return VerifierKey.parse(text.removesuffix("\n"))


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
