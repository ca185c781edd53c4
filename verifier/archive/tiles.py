"""Names and bytes of hash tiles and entry bundles, as C2SP tlog-tiles lays them out (c2sp.org/tlog-tiles).

Pure: paths are relative POSIX names, contents are bytes. Reading and writing files is done elsewhere.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence

from verifier.archive import merkle
from verifier.errors import AuditError

HEIGHT = 8
"""Levels of the tree in one tile."""
WIDTH = 1 << HEIGHT
"""Hashes in a full tile, entries in a full bundle."""
MAX_ENTRY = 0xFFFF
"""Bytes in one entry: a bundle prefixes each with its length as a big-endian uint16."""
MAX_TILE_BYTES = WIDTH * merkle.HASH_SIZE
MAX_BUNDLE_BYTES = WIDTH * (MAX_ENTRY + 2)

_NAME = re.compile(r"(?P<index>(?:x[0-9]{3}/){0,6}[0-9]{3})(?:\.p/(?P<width>[1-9][0-9]{0,2}))?\Z")

TileSource = Callable[[int, int], Sequence[bytes]]
"""Gives the hashes of the tile at (level, index), in the tree that is being read."""


def tile_path(level: int, index: int, width: int = WIDTH) -> str:
    """``tile/<L>/<N>`` of a full tile, ``tile/<L>/<N>.p/<W>`` of a partial one."""
    return f"tile/{level}/{_index_path(index)}{_suffix(width)}"


def entries_path(index: int, width: int = WIDTH) -> str:
    """``tile/entries/<N>`` of a full bundle, ``tile/entries/<N>.p/<W>`` of a partial one."""
    return f"tile/entries/{_index_path(index)}{_suffix(width)}"


def partial_folder(path: str) -> str:
    """The folder that holds the partial versions of a full tile or bundle."""
    return path + ".p"


def width_at(level: int, index: int, size: int) -> int:
    """How many hashes the tile at (level, index) has in a tree of `size` leaves: 0 where it has none, at most 256."""
    return max(0, min(WIDTH, (size >> (HEIGHT * level)) - index * WIDTH))


def tiles_of(size: int) -> Iterator[tuple[int, int, int]]:
    """Every tile of a tree of `size` leaves as (level, index, width), level 0 first."""
    level = 0
    while count := size >> (HEIGHT * level):
        for index in range(-(-count // WIDTH)):
            yield level, index, width_at(level, index, size)
        level += 1


def join_entries(entries: Iterable[bytes]) -> bytes:
    """The bytes of an entry bundle.

    Raises:
        AuditError: A-entry-size for an entry beyond 65,535 bytes.
    """
    parts: list[bytes] = []
    for entry in entries:
        if len(entry) > MAX_ENTRY:
            raise AuditError(
                "A-entry-size",
                "the entry is too long for a bundle",
                expected=f"at most {MAX_ENTRY} bytes",
                found=str(len(entry)),
            )
        parts += [len(entry).to_bytes(2), entry]
    return b"".join(parts)


def split_entries(raw: bytes, *, where: str) -> list[bytes]:
    """The entries of a bundle, in order.

    Raises:
        AuditError: A-bundle where a length runs past the end or there are more than 256 entries.
    """
    entries: list[bytes] = []
    at = 0
    while at < len(raw):
        length = int.from_bytes(raw[at : at + 2])
        stop = at + 2 + length
        if at + 2 > len(raw) or stop > len(raw) or len(entries) == WIDTH:
            raise AuditError(
                "A-bundle",
                "the entry bundle cannot be split into entries",
                where=where,
                expected=f"at most {WIDTH} entries, each behind its length in two bytes",
                found=f"entry {len(entries)} runs past the end or the limit",
            )
        entries.append(raw[at + 2 : stop])
        at = stop
    return entries


def split_hashes(raw: bytes, *, width: int, where: str) -> list[bytes]:
    """The hashes of a tile.

    Raises:
        AuditError: A-tile where the bytes are not `width` hashes of 32 bytes.
    """
    if len(raw) != width * merkle.HASH_SIZE:
        raise AuditError(
            "A-tile",
            "the tile does not have the length that the tree's size asks for",
            where=where,
            expected=f"{width} hashes of {merkle.HASH_SIZE} bytes",
            found=f"{len(raw)} bytes",
        )
    return [raw[at : at + merkle.HASH_SIZE] for at in range(0, len(raw), merkle.HASH_SIZE)]


def subtree_of(tile: TileSource) -> merkle.Subtree:
    """Subtree hashes computed from tiles: a perfect subtree takes one tile, a ragged one the tiles of its edge.

    Only ranges that RFC 6962's recursion visits are meant: they start at a multiple of the power of two that covers
    them.
    """

    def perfect(height: int, index: int) -> bytes:
        level, rest = divmod(height, HEIGHT)
        first = index << rest
        hashes = tile(level, first // WIDTH)
        return merkle.root(hashes[first % WIDTH : first % WIDTH + (1 << rest)])

    def subtree(start: int, stop: int) -> bytes:
        size = stop - start
        if size == 0:
            return merkle.EMPTY_ROOT
        height = size.bit_length() - 1
        if size == 1 << height:
            return perfect(height, start >> height)
        middle = start + merkle.split(size)
        return merkle.node_hash(subtree(start, middle), subtree(middle, stop))

    return subtree


def parse_path(path: str) -> tuple[int, int] | None:
    """Index and width of ``<N>`` or ``<N>.p/<W>``, relative to its level's folder; None for any other name."""
    match = _NAME.match(path)
    if match is None:
        return None
    index = int(match["index"].replace("x", "").replace("/", ""))
    width = int(match["width"] or WIDTH)
    return (index, width) if path == _index_path(index) + _suffix(width) else None


def _index_path(index: int) -> str:
    """Zero-padded groups of three digits, all but the last behind an x: 1234067 is ``x001/x234/067``."""
    groups = f"{index:,}".split(",")
    padded = [group.zfill(3) for group in groups]
    return "/".join([*(f"x{group}" for group in padded[:-1]), padded[-1]])


def _suffix(width: int) -> str:
    return "" if width == WIDTH else f".p/{width}"
