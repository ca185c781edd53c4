"""One entry bundle against its tile: which hashes are right, which entries are gone or altered, what is left of them.

Three places hold the hashes of the entries: the bundle (by hashing), the tile of level 0, and the root above both.
Older partial files, which stay until a tile is full, name an entry that was taken out of bundle and tile alike.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from itertools import islice, product
from pathlib import Path

from verifier.archive import files, merkle, tiles
from verifier.archive.findings import Finding
from verifier.archive.tree import StoredTree
from verifier.errors import AuditError
from verifier.statement.scalars import Bytes32

_MAX_TRIES = 64
"""Combinations of doubtful bundles that are tried against the root: six damaged bundles at once."""


@dataclass(slots=True)
class BundleCheck:
    """What the files say of the entries in one bundle.

    Attributes:
        index: of the bundle.
        width: entries that it has in the tree under check.
        entries: as the bundle's file has them, in whatever number, or None where it cannot be split.
        tile: leaf hashes as the tile's file has them, likewise.
        older: leaf hashes at the start of the bundle by the widest older partial file; empty where nothing is in doubt.
        older_entries: the entries of the widest older bundle, likewise.
        errors: what was wrong with the files themselves.
        truth: the right leaf hashes, once `settle` knows them.
    """

    index: int
    width: int
    entries: list[bytes] | None = None
    tile: list[bytes] | None = None
    older: list[bytes] = field(default_factory=list)
    older_entries: list[bytes] = field(default_factory=list)
    errors: list[Finding] = field(default_factory=list)
    truth: list[bytes] | None = None
    hashed: list[bytes] = field(default_factory=list)

    @property
    def start(self) -> int:
        """Index of the bundle's first entry."""
        return self.index * tiles.WIDTH

    def sound(self) -> list[list[bytes]]:
        """The hashes by tile and by bundle that have the right number, each once."""
        return _distinct([each for each in (self.tile or [], self.hashed) if len(each) == self.width])

    def candidates(self) -> list[list[bytes]]:
        """`sound`, and what older files followed by the rest of the newer ones would give; only the root tells."""
        known = set(self.older)
        grown = [
            self.older + [value for value in each if value not in known] for each in (self.tile or [], self.hashed)
        ]
        return _distinct(self.sound() + [each for each in grown if len(each) == self.width])


def read_bundle(tree: StoredTree, index: int) -> BundleCheck:
    """All that the files say of one bundle; nothing is decided yet."""
    bundle = BundleCheck(index, tiles.width_at(0, index, tree.size))
    try:
        bundle.entries = tree.bundle(index)
    except AuditError as error:
        bundle.errors.append(Finding.of(error, kind="entry", entry=bundle.start))
        bundle.entries = _loose_entries(tree.folder / tiles.entries_path(index, bundle.width))
    try:
        bundle.tile = tree.hashes(0, index)
    except AuditError as error:
        bundle.errors.append(Finding.of(error, kind="tile", entry=bundle.start))
        bundle.tile = _loose_hashes(tree.folder / tiles.tile_path(0, index, bundle.width))
    bundle.hashed = [merkle.leaf_hash(entry) for entry in bundle.entries or ()]
    if bundle.errors or bundle.hashed != bundle.tile:
        bundle.older_entries = _older_entries(tree.folder, index, bundle.width)
        bundle.older = _older_hashes(tree.folder, index, bundle.width)
        if not bundle.older:
            bundle.older = [merkle.leaf_hash(entry) for entry in bundle.older_entries]
    return bundle


def settle(tree: StoredTree, bundles: list[BundleCheck], root: bytes | None) -> None:
    """Find the leaf hashes of each bundle that lead to the signed root, and where none do, take the tile's word.

    `root` is None where bundles are missing or no checkpoint can be read: then the hash of level 1 is all that tells.
    """
    choices = []
    for bundle in bundles:
        candidates = bundle.candidates()
        above = _hash_above(tree, bundle.index) if len(candidates) != 1 else None
        choices.append([each for each in candidates if merkle.root(each) == above] or candidates)
    if root is not None:
        # The root over the roots of bundles is that over their leaves: each but the last is a perfect subtree.
        roots = [[merkle.root(each) for each in choice] for choice in choices]
        for picks in islice(product(*(range(len(choice)) for choice in choices)), _MAX_TRIES):
            if merkle.root([roots[at][pick] for at, pick in enumerate(picks)]) == root:
                for bundle, choice, pick in zip(bundles, choices, picks, strict=True):
                    bundle.truth = choice[pick]
                return
    for bundle, choice in zip(bundles, choices, strict=True):
        sound = bundle.sound()
        bundle.truth = next((each for each in choice if each in sound), None)


def report(tree: StoredTree, bundle: BundleCheck) -> tuple[list[Finding], list[tuple[int, bytes]]]:
    """The damage in one bundle, and its entries by index as far as they are there, from older files where need be."""
    findings = list(bundle.errors)
    rescued = {merkle.leaf_hash(entry): entry for entry in bundle.older_entries}
    present = dict(zip(bundle.hashed, bundle.entries or (), strict=True))
    expected = bundle.truth if bundle.truth is not None else bundle.older
    gone = set(expected) - set(present if bundle.entries is not None else rescued)
    for at, value in enumerate(expected, bundle.start):
        if value in gone:
            findings.append(_gone(bundle, at, value, in_older=value in rescued))
    if bundle.truth is None:
        return findings, list(enumerate(bundle.entries or bundle.older_entries, bundle.start))
    findings += _misplaced(bundle, gone)
    if bundle.tile is not None and len(bundle.tile) == bundle.width and bundle.tile != bundle.truth:
        findings.append(_altered_tile(bundle, bundle.tile, tiles.tile_path(0, bundle.index, bundle.width)))
    for path, hashes in _partials(tree.folder, bundle):
        if hashes != bundle.truth[: len(hashes)]:
            findings.append(_altered_tile(bundle, hashes, path))
    pool = rescued | present
    entries = [(at, pool[value]) for at, value in enumerate(bundle.truth, bundle.start) if value in pool]
    return findings, entries


def _gone(bundle: BundleCheck, at: int, value: bytes, *, in_older: bool) -> Finding:
    """An entry whose hash is under the root and whose bytes are not in the bundle."""
    replaced = bundle.entries is not None and len(bundle.entries) == bundle.width
    code, what = ("A-entry-altered", "was altered") if replaced else ("A-entry-missing", "was removed")
    tail = "; an older file still has it" if in_older else ""
    return Finding(
        code=code,
        entry=at,
        kind="entry",
        digest=Bytes32(value),
        message=f"entry {at} {what} from the entry bundle{tail}",
    )


def _misplaced(bundle: BundleCheck, gone: set[bytes]) -> list[Finding]:
    """Entries that nobody logged here, and an order that is not the logged one."""
    truth = bundle.truth or []
    known = set(truth)
    added = [value for value in bundle.hashed if value not in known]
    findings = []
    if len(added) > len(gone):
        message = (
            f"the bundle that starts at entry {bundle.start} holds {len(added) - len(gone)} that were never logged"
        )
        findings.append(
            Finding(code="A-entry-added", entry=bundle.start, kind="entry", digest=Bytes32(added[-1]), message=message)
        )
    if not gone and not added and bundle.entries is not None and bundle.hashed != truth:
        at = bundle.start + _first_difference(bundle.hashed, truth)
        message = f"the bundle's entries are not in the logged order from entry {at} on"
        findings.append(Finding(code="A-entry-order", entry=at, kind="entry", digest=None, message=message))
    return findings


def _altered_tile(bundle: BundleCheck, hashes: list[bytes], path: str) -> Finding:
    offset = _first_difference(hashes, bundle.truth or [])
    at = bundle.start + offset
    return Finding(
        code="A-tile-damaged",
        entry=at,
        kind="tile",
        digest=Bytes32(hashes[offset]),
        message=f"{path} and the log disagree from entry {at} on: one of them was altered",
    )


def _hash_above(tree: StoredTree, index: int) -> bytes | None:
    """What level 1 says of a full bundle; None where it is partial or that tile cannot be had."""
    try:
        hashes = tree.hashes(1, index // tiles.WIDTH)
    except AuditError:
        return None
    offset = index % tiles.WIDTH
    return hashes[offset] if offset < len(hashes) else None


def _partials(folder: Path, bundle: BundleCheck) -> list[tuple[str, list[bytes]]]:
    """Name and hashes of each older partial tile of this bundle that can be read."""
    found = []
    for width in _widths(folder / tiles.partial_folder(tiles.tile_path(0, bundle.index)), bundle.width):
        path = tiles.tile_path(0, bundle.index, width)
        hashes = _loose_hashes(folder / path)
        if hashes is not None and 0 < len(hashes) <= bundle.width:
            found.append((path, hashes))
    return found


def _older_hashes(folder: Path, index: int, width: int) -> list[bytes]:
    """The leaf hashes of the widest older partial tile that is as long as its name says."""
    for narrower in reversed(_widths(folder / tiles.partial_folder(tiles.tile_path(0, index)), width)):
        hashes = _loose_hashes(folder / tiles.tile_path(0, index, narrower))
        if hashes is not None and len(hashes) == narrower:
            return hashes
    return []


def _older_entries(folder: Path, index: int, width: int) -> list[bytes]:
    """The entries of the widest older partial bundle that can be split."""
    for narrower in reversed(_widths(folder / tiles.partial_folder(tiles.entries_path(index)), width)):
        entries = _loose_entries(folder / tiles.entries_path(index, narrower))
        if entries is not None:
            return entries
    return []


def _widths(folder: Path, below: int) -> list[int]:
    """The widths of the partial files in a folder that are narrower than `below`, in order."""
    try:
        names = os.listdir(folder)  # noqa: PTH208 - only the names are wanted
    except OSError:
        return []
    return sorted(
        int(name) for name in names if name.isascii() and name.isdigit() and len(name) <= 3 and 0 < int(name) < below
    )


def _loose_entries(path: Path) -> list[bytes] | None:
    """The entries of a file in whatever number, or None."""
    try:
        return tiles.split_entries(files.read_regular(path, limit=tiles.MAX_BUNDLE_BYTES), where=str(path))
    except AuditError:
        return None


def _loose_hashes(path: Path) -> list[bytes] | None:
    """The hashes of a file in whatever number, or None."""
    try:
        raw = files.read_regular(path, limit=tiles.MAX_TILE_BYTES)
        return tiles.split_hashes(raw, width=len(raw) // merkle.HASH_SIZE, where=str(path))
    except AuditError:
        return None


def _first_difference(left: list[bytes], right: list[bytes]) -> int:
    shorter = min(len(left), len(right))
    return next((at for at in range(shorter) if left[at] != right[at]), shorter)


def _distinct(lists: list[list[bytes]]) -> list[list[bytes]]:
    return [each for at, each in enumerate(lists) if each not in lists[:at]]
