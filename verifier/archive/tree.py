"""Reads the tiles and entry bundles of one tree size from an archive's folder. It writes nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from verifier.archive import files, merkle, tiles
from verifier.archive.note import Checkpoint
from verifier.errors import AuditError


class StoredTree:
    """The tree that a checkpoint is about.

    The tiles of a published size never change; where a partial one was tidied away, the full one begins with it.
    """

    def __init__(self, folder: Path, size: int) -> None:
        """Only remember the folder of the archive and the number of entries."""
        self.folder = folder
        self.size = size
        self.subtree: merkle.Subtree = tiles.subtree_of(self.hashes)

    def hashes(self, level: int, index: int) -> list[bytes]:
        """The hashes of one tile at this size; A-tile or A-file-… where it cannot be had."""
        wanted = tiles.width_at(level, index, self.size)
        if wanted == 0:
            return []

        def path(width: int) -> str:
            return tiles.tile_path(level, index, width)

        raw, width, where = self._read(path, wanted, tiles.MAX_TILE_BYTES)
        return tiles.split_hashes(raw, width=width, where=where)[:wanted]

    def bundle(self, index: int) -> list[bytes]:
        """The entries of one bundle at this size, not hashed; A-bundle or A-file-… where it cannot be had."""
        wanted = tiles.width_at(0, index, self.size)
        if wanted == 0:
            return []

        def path(width: int) -> str:
            return tiles.entries_path(index, width)

        raw, width, where = self._read(path, wanted, tiles.MAX_BUNDLE_BYTES)
        entries = tiles.split_entries(raw, where=where)
        if len(entries) != width:
            raise AuditError(
                "A-bundle",
                "the bundle has another number of entries",
                where=where,
                expected=str(width),
                found=str(len(entries)),
            )
        return entries[:wanted]

    def verified_bundle(self, index: int) -> list[bytes]:
        """The entries of one bundle, each equal to its hash in the level 0 tile.

        Raises:
            AuditError: A-entry-altered for the first that is not.
        """
        entries = self.bundle(index)
        for at, (entry, expected) in enumerate(zip(entries, self.hashes(0, index), strict=True)):
            if merkle.leaf_hash(entry) != expected:
                raise AuditError(
                    "A-entry-altered",
                    f"entry {index * tiles.WIDTH + at} is not the one that was logged",
                    where=str(self.folder / tiles.entries_path(index)),
                    expected="0x" + expected.hex(),
                    do="Audit the archive and restore it from another copy.",
                )
        return entries

    def bundle_indices(self) -> Iterator[int]:
        """The index of every bundle of this size."""
        return iter(range(-(-self.size // tiles.WIDTH)))

    def check_root(self, checkpoint: Checkpoint) -> None:
        """Compare the root that follows from the right edge's tiles with the checkpoint's; A-root where it differs."""
        found = self.subtree(0, self.size)
        if found != checkpoint.root:
            raise AuditError(
                "A-root",
                "the tiles do not hash to the signed root",
                where=str(self.folder),
                expected="0x" + checkpoint.root.hex(),
                found="0x" + found.hex(),
                do="Audit the archive and restore it from another copy; nothing is signed over damage.",
            )

    def _read(self, path: Callable[[int], str], wanted: int, limit: int) -> tuple[bytes, int, str]:
        """Bytes, width and name of the file of the wanted width, or of the full one that begins with it."""
        try:
            return files.read_regular(self.folder / path(wanted), limit=limit), wanted, path(wanted)
        except AuditError as error:
            full = self.folder / path(tiles.WIDTH)
            if error.code != "A-file-missing" or wanted == tiles.WIDTH or not full.exists():
                raise
        return files.read_regular(full, limit=limit), tiles.WIDTH, path(tiles.WIDTH)
