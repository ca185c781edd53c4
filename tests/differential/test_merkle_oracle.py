"""The fast Merkle code against a slow, literal transcription of RFC 6962, section 2.1, for every small tree."""

from __future__ import annotations

import hashlib

import pytest

from verifier.archive import merkle, tiles
from verifier.errors import AuditError

SIZES = [*range(1, 34), 63, 64, 65, 255, 256, 257, 300, 512, 513, 600]


def k_of(n: int) -> int:
    """The largest power of two smaller than n, found by doubling."""
    k = 1
    while k * 2 < n:
        k *= 2
    return k


def mth(entries: list[bytes]) -> bytes:
    """MTH(D[n]) of section 2.1."""
    if not entries:
        return hashlib.sha256(b"").digest()
    if len(entries) == 1:
        return hashlib.sha256(b"\x00" + entries[0]).digest()
    k = k_of(len(entries))
    return hashlib.sha256(b"\x01" + mth(entries[:k]) + mth(entries[k:])).digest()


def path(m: int, entries: list[bytes]) -> list[bytes]:
    """PATH(m, D[n]) of section 2.1.1."""
    if len(entries) == 1:
        return []
    k = k_of(len(entries))
    if m < k:
        return [*path(m, entries[:k]), mth(entries[k:])]
    return [*path(m - k, entries[k:]), mth(entries[:k])]


def subproof(m: int, entries: list[bytes], *, complete: bool) -> list[bytes]:
    """SUBPROOF(m, D[n], b) of section 2.1.2."""
    if m == len(entries):
        return [] if complete else [mth(entries)]
    k = k_of(len(entries))
    if m <= k:
        return [*subproof(m, entries[:k], complete=complete), mth(entries[k:])]
    return [*subproof(m - k, entries[k:], complete=False), mth(entries[:k])]


def entries_of(size: int) -> list[bytes]:
    return [b"entry %d" % at for at in range(size)]


def stored_tiles(entries: list[bytes]) -> dict[tuple[int, int], list[bytes]]:
    """Every tile as tlog-tiles defines it: hash i of tile n at level l is MTH of 256**l entries."""
    result: dict[tuple[int, int], list[bytes]] = {}
    for level, index, width in tiles.tiles_of(len(entries)):
        span = 256**level
        starts = [(index * 256 + i) * span for i in range(width)]
        result[level, index] = [mth(entries[start : start + span]) for start in starts]
    return result


@pytest.mark.parametrize("size", [0, *SIZES])
def test_root(size: int) -> None:
    entries = entries_of(size)
    assert merkle.root([merkle.leaf_hash(entry) for entry in entries]) == mth(entries)


@pytest.mark.parametrize("size", SIZES)
def test_proofs_from_tiles_are_the_rfc_s_and_verify(size: int) -> None:
    """Trap: a ragged right edge, where a level has an odd node and a tile is partial or missing."""
    entries = entries_of(size)
    stored = stored_tiles(entries)
    subtree = tiles.subtree_of(lambda level, index: stored[level, index])
    root = mth(entries)
    assert subtree(0, size) == root
    for index in {0, 1, size // 3, size // 2, size - 2, size - 1} & set(range(size)):
        proof = merkle.inclusion_proof(subtree, index=index, size=size)
        assert proof == path(index, entries)
        leaf = merkle.leaf_hash(entries[index])
        merkle.verify_inclusion(leaf=leaf, index=index, size=size, proof=proof, expected_root=root)
    for first in {1, 2, size // 3, size // 2, size - 1, size} & set(range(1, size + 1)):
        proof = merkle.consistency_proof(subtree, first=first, second=size)
        assert proof == subproof(first, entries, complete=True)
        old = mth(entries[:first])
        merkle.verify_consistency(first=first, second=size, first_root=old, second_root=root, proof=proof)


@pytest.mark.parametrize("size", range(1, 14))
def test_no_other_claim_verifies(size: int) -> None:
    """Every proof of a small tree is refused for every other index, size, leaf and root, and at every other length."""
    entries = entries_of(size)
    root = mth(entries)
    for index in range(size):
        proof = path(index, entries)
        leaf = merkle.leaf_hash(entries[index])
        claims = [(leaf, other, size, proof, root) for other in range(-1, size + 2) if other != index]
        # Another size may ask for the same path from this leaf; then only the root tells, and it does.
        claims += [(leaf, index, other, proof, mth(entries_of(other))) for other in range(1, 16) if other != size]
        claims += [(bytes(32), index, size, proof, root), (leaf, index, size, proof, bytes(32))]
        claims += [(leaf, index, size, [*proof, root], root), (leaf, index, size, [bytes(32), *proof], root)]
        claims += [(leaf, index, size, proof[1:], root)] if proof else []
        for some_leaf, some_index, some_size, some_proof, some_root in claims:
            with pytest.raises(AuditError, match="A-inclusion"):
                merkle.verify_inclusion(
                    leaf=some_leaf, index=some_index, size=some_size, proof=some_proof, expected_root=some_root
                )
