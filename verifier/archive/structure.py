"""Is an archive whole? Re-hashes every entry, tile and blob against the signed checkpoint, and names all the damage.

It writes nothing, needs no secret and no network, and does not stop at the first damage. Whether the archived bundles
verify is `audit`'s.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from verifier.archive import bundles, files, merkle, tiles
from verifier.archive.blobs import BlobStore
from verifier.archive.findings import Finding
from verifier.archive.log import CHECKPOINT, KEY_FILE, read_key
from verifier.archive.note import MAX_NOTE_BYTES, Checkpoint, VerifierKey, open_checkpoint
from verifier.archive.tree import StoredTree
from verifier.errors import AuditError, OpgateError, VerifierError
from verifier.statement import canonical
from verifier.statement.evidence import LogEntry
from verifier.statement.scalars import Bytes32

_MAX_NAMED = 5
"""Entries that a message lists by number."""


@dataclass(slots=True)
class Structure:
    """What `check_structure` saw.

    Attributes:
        key: that the checkpoint was checked against, None where none could be read.
        checkpoint: the head; it counts only where no finding is about it.
        entries: index and entry of all that could be read, damaged neighbours or not.
        findings: the damage, in the order in which it was met.
        notes: what was not checked, or is worth knowing and no damage.
    """

    key: VerifierKey | None = None
    checkpoint: Checkpoint | None = None
    entries: list[tuple[int, LogEntry]] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def add(self, code: str, message: str, *, kind: str, entry: int | None = None, digest: bytes | None = None) -> None:
        """Note damage."""
        name = None if digest is None else Bytes32(digest)
        self.findings.append(Finding(code=code, entry=entry, kind=kind, digest=name, message=message))


def check_structure(folder: Path, verifier_key: VerifierKey | None = None, *, seen: bytes | None = None) -> Structure:
    """Check an archive's checkpoint, tiles, entries and blobs against each other.

    Args:
        folder: the archive.
        verifier_key: the log's key as somebody trusted told it. Without one the key in the folder is taken, which shows
            that the archive is as its keeper signed it, not who the keeper is.
        seen: a checkpoint file of this archive that the auditor kept. Only with one can it be seen that whoever holds
            the signing key cut the log back and signed it anew.

    Raises:
        AuditError: A-none where there is no archive at all.
    """
    folder = folder.absolute()
    if not any((folder / name).exists() for name in (CHECKPOINT, KEY_FILE, "tile", "blobs")):
        raise AuditError(
            "A-none", "there is no archive in this folder", where=str(folder), do="Name the archive's folder."
        )
    found = Structure()
    _check_head(folder, verifier_key, found)
    stored = _stored_bundles(folder)
    size = found.checkpoint.size if found.checkpoint is not None else max(stored.values(), default=0)
    leaves = _check_log(StoredTree(folder, size), stored, found)
    _check_seen(leaves, seen, found)
    _check_blobs(folder, found)
    return found


def _check_head(folder: Path, verifier_key: VerifierKey | None, found: Structure) -> None:
    """The key and the checkpoint; where the signature does not hold, the rest is still checked against what it says."""
    stored_key = None
    try:
        stored_key = read_key(folder)
    except AuditError as error:
        found.findings.append(Finding.of(error, kind="key"))
    found.key = verifier_key or stored_key
    if verifier_key is None:
        found.notes.append("no key was given: the archive's own was taken, which does not show who keeps the archive")
    elif stored_key is not None and stored_key != verifier_key:
        found.add("A-key-other", f"the archive carries another key than the one given: {stored_key}", kind="key")
    try:
        raw = files.read_regular(folder / CHECKPOINT, limit=MAX_NOTE_BYTES)
        if found.key is not None:
            found.checkpoint = open_checkpoint(raw, found.key)
            return
    except AuditError as error:
        found.findings.append(Finding.of(error, kind="checkpoint"))
        if error.code.startswith("A-file"):
            found.notes.append("there is no checkpoint: entries were counted from the files")
            return
    try:
        found.checkpoint = Checkpoint.parse(raw.decode().rpartition("\n\n")[0] + "\n")
    except (UnicodeDecodeError, AuditError):
        found.notes.append("the checkpoint cannot be read: entries were counted from the files")


def _stored_bundles(folder: Path) -> dict[int, int]:
    """Each bundle with a file among the entries or the tiles of level 0, and the size of the log by its widest file.

    The work of a check is bounded by the files that are there, whatever size a checkpoint claims.
    """
    found: dict[int, int] = {}
    for level in ("entries", "0"):
        base = folder / "tile" / level
        for parent, _, names in os.walk(base):
            for name in names:
                parsed = tiles.parse_path((Path(parent) / name).relative_to(base).as_posix())
                if parsed is not None:
                    index, width = parsed
                    found[index] = max(found.get(index, 0), index * tiles.WIDTH + width)
    return found


def _check_log(tree: StoredTree, stored: dict[int, int], found: Structure) -> list[bytes] | None:
    """The leaf hashes of the whole log, or None where some cannot be known; entries and damage go into `found`."""
    count = -(-tree.size // tiles.WIDTH)
    present = [bundles.read_bundle(tree, index) for index in sorted(stored) if index < count]
    if any(size > tree.size for size in stored.values()):
        found.notes.append("there are files beyond the checkpoint: an append that did not finish")
    absent = list(_gaps([bundle.index for bundle in present], count))
    for first, last in absent:
        begin, end = first * tiles.WIDTH, min(tree.size, last * tiles.WIDTH)
        message = f"entries {begin} to {end - 1} were removed: neither their bundles nor their tiles are there"
        found.add("A-entry-missing", message, kind="entry", entry=begin)
    bundles.settle(tree, present, None if absent or found.checkpoint is None else found.checkpoint.root)
    for bundle in present:
        findings, entries = bundles.report(tree, bundle)
        found.findings += findings
        for at, raw in entries:
            _read_entry(at, raw, found)
    if absent or any(bundle.truth is None for bundle in present):
        return None
    leaves = [leaf for bundle in present for leaf in bundle.truth or ()]
    _check_above(tree, leaves, found)
    return leaves


def _gaps(indices: list[int], count: int) -> Iterator[tuple[int, int]]:
    """The ranges [first, last) of bundle indices below `count` that are not among the sorted `indices`."""
    expected = 0
    for index in [*indices, count]:
        if index > expected:
            yield expected, index
        expected = index + 1


def _check_above(tree: StoredTree, leaves: list[bytes], found: Structure) -> None:
    """The root and the tiles of level 1 and up, which follow from the leaf hashes."""
    checkpoint = found.checkpoint
    if checkpoint is not None and merkle.root(leaves) != checkpoint.root:
        message = (
            f"the {checkpoint.size} entries do not hash to the checkpoint's root: entries and tiles agree,"
            " so both were altered, or the checkpoint was"
        )
        found.add("A-root", message, kind="checkpoint", digest=checkpoint.root)
    hashes, level = leaves, 0
    while len(hashes) >= tiles.WIDTH:
        whole = range(0, len(hashes) - tiles.WIDTH + 1, tiles.WIDTH)
        hashes, level = [merkle.root(hashes[at : at + tiles.WIDTH]) for at in whole], level + 1
        for index in range(-(-len(hashes) // tiles.WIDTH)):
            entry = index << (tiles.HEIGHT * (level + 1))
            try:
                stored = tree.hashes(level, index)
            except AuditError as error:
                found.findings.append(Finding.of(error, kind="tile", entry=entry))
                continue
            if stored != hashes[index * tiles.WIDTH : (index + 1) * tiles.WIDTH]:
                path = tiles.tile_path(level, index, len(stored))
                found.add("A-tile-damaged", f"{path} does not follow from the entries", kind="tile", entry=entry)


def _read_entry(at: int, raw: bytes, found: Structure) -> None:
    try:
        found.entries.append((at, canonical.decode(LogEntry, raw, where=f"entry {at}", limit=tiles.MAX_ENTRY)))
    except VerifierError as error:
        message = f"entry {at} is no log entry of this version: {error}"
        found.add("A-entry-form", message, kind="entry", entry=at, digest=merkle.leaf_hash(raw))


def _check_seen(leaves: list[bytes] | None, seen: bytes | None, found: Structure) -> None:
    """The checkpoint that the auditor kept: the log must begin with all that it covered."""
    if seen is None:
        found.notes.append("no earlier checkpoint was given: a log that was cut back and signed anew would not be seen")
        return
    if found.key is None:
        found.notes.append("the earlier checkpoint was not compared: there is no key to check it with")
        return
    try:
        earlier = open_checkpoint(seen, found.key)
    except AuditError as error:
        found.findings.append(Finding.of(error, kind="earlier checkpoint"))
        return
    size = found.checkpoint.size if found.checkpoint is not None else None
    if size is not None and earlier.size > size:
        message = (
            f"the log was cut back: it had {earlier.size} entries and has {size}, entry {size} is the first one gone"
        )
        found.add("A-cut-back", message, kind="checkpoint", entry=size, digest=earlier.root)
    elif leaves is None:
        found.notes.append("the earlier checkpoint was not compared: the log is too damaged")
    elif merkle.root(leaves[: earlier.size]) != earlier.root:
        message = f"the first {earlier.size} entries are not those that the earlier checkpoint covered"
        found.add("A-rewritten", message, kind="checkpoint", digest=earlier.root)


def _check_blobs(folder: Path, found: Structure) -> None:
    """Every blob that an entry names, each hashed once; a finding names the first entry and lists the others."""
    store = BlobStore(folder, staging=folder)
    named: dict[Bytes32, list[tuple[int, str]]] = {}
    for at, entry in found.entries:
        for role, digest in sorted(entry.digests.items()):
            named.setdefault(digest, []).append((at, role))
    for digest, uses in named.items():
        try:
            store.get(digest)
        except OpgateError as error:
            first, role = uses[0]
            numbers = sorted({at for at, _ in uses})
            more = f" and {len(numbers) - _MAX_NAMED} more" if len(numbers) > _MAX_NAMED else ""
            listed = ", ".join(str(at) for at in numbers[:_MAX_NAMED]) + more
            what = "is missing" if error.code == "A-blob-missing" else "is damaged"
            message = f"the {role} {digest} of entry {listed} {what}"
            found.add(error.code, message, kind=role, entry=first, digest=digest)
