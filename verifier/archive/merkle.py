"""The Merkle tree of RFC 6962 over SHA-256: hashes, roots, inclusion and consistency proofs and their verification.

Pure functions over bytes. No file, no signature and no entry format may live here. Verification raises `AuditError` and
never returns a flag.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

from verifier.errors import AuditError

HASH_SIZE = 32
"""Bytes in a SHA-256 digest; every node of the tree is that long."""

EMPTY_ROOT = hashlib.sha256(b"").digest()
"""Root of the tree without leaves (RFC 6962, section 2.1)."""

Subtree = Callable[[int, int], bytes]
"""Gives the Merkle tree hash of the leaves [start, stop) of one tree."""


def leaf_hash(entry: bytes) -> bytes:
    """SHA-256(0x00 || entry), RFC 6962 section 2.1: the prefix keeps a leaf from passing for an inner node."""
    return hashlib.sha256(b"\x00" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """SHA-256(0x01 || left || right), RFC 6962 section 2.1."""
    return hashlib.sha256(b"\x01" + left + right).digest()


def root(leaf_hashes: Sequence[bytes]) -> bytes:
    """The Merkle tree hash over leaf hashes, in any number; that of no leaves is `EMPTY_ROOT`.

    Level by level with an odd last node carried up: the same tree as RFC 6962's split at the largest power of two.
    """
    if not leaf_hashes:
        return EMPTY_ROOT
    level = list(leaf_hashes)
    while len(level) > 1:
        paired = [node_hash(level[at], level[at + 1]) for at in range(0, len(level) - 1, 2)]
        level = paired + level[len(paired) * 2 :]
    return level[0]


def split(size: int) -> int:
    """The largest power of two smaller than `size`; RFC 6962 calls it k. `size` is at least 2."""
    return 1 << ((size - 1).bit_length() - 1)


def inclusion_proof(subtree: Subtree, *, index: int, size: int) -> list[bytes]:
    """The audit path of the leaf `index` in the tree of `size` leaves, lowest node first (RFC 6962, section 2.1.1).

    Args:
        subtree: gives the hash of leaves [start, stop) of that tree.
        index: of the leaf, from 0.
        size: leaves in the tree.

    Raises:
        AuditError: A-proof-range where the index lies outside the tree.
    """
    if not 0 <= index < size:
        raise _out_of_range("no leaf has this index", f"0 <= index < {size}", str(index))
    path: list[bytes] = []
    start, stop = 0, size
    while stop - start > 1:
        middle = start + split(stop - start)
        if index < middle:
            path.append(subtree(middle, stop))
            stop = middle
        else:
            path.append(subtree(start, middle))
            start = middle
    return path[::-1]


def consistency_proof(subtree: Subtree, *, first: int, second: int) -> list[bytes]:
    """The proof that the tree of `first` leaves is a prefix of that of `second` (RFC 6962, section 2.1.2).

    Raises:
        AuditError: A-proof-range unless 0 < first <= second. From the empty tree there is nothing to prove.
    """
    if not 0 < first <= second:
        raise _out_of_range("there is no consistency proof between these sizes", f"0 < first <= {second}", str(first))
    path: list[bytes] = []
    start, stop = 0, second
    left_edge = True
    while first != stop:
        middle = start + split(stop - start)
        if first <= middle:
            path.append(subtree(middle, stop))
            stop = middle
        else:
            path.append(subtree(start, middle))
            start = middle
            left_edge = False
    if not left_edge:
        path.append(subtree(start, stop))
    return path[::-1]


def verify_inclusion(*, leaf: bytes, index: int, size: int, proof: Sequence[bytes], expected_root: bytes) -> None:
    """Check that a leaf hash stands at `index` in the tree of `size` leaves and this root (RFC 9162, section 2.1.3.2).

    It checks the lengths of all hashes and the exact length of the proof. It does not check who signed the root.

    Raises:
        AuditError: A-inclusion.
    """
    _check_hashes("A-inclusion", (leaf, expected_root, *proof))
    if not 0 <= index < size:
        raise AuditError(
            "A-inclusion", "the leaf lies outside the tree", expected=f"0 <= index < {size}", found=str(index)
        )
    fn, sn, computed = index, size - 1, leaf
    for sibling in proof:
        if sn == 0:
            raise _wrong_length("A-inclusion", len(proof))
        if fn & 1 or fn == sn:
            computed = node_hash(sibling, computed)
            fn, sn = _skip_carried(fn, sn)
        else:
            computed = node_hash(computed, sibling)
        fn, sn = fn >> 1, sn >> 1
    if sn != 0:
        raise _wrong_length("A-inclusion", len(proof))
    if computed != expected_root:
        raise _wrong_root("A-inclusion", expected_root, computed)


def verify_consistency(
    *, first: int, second: int, first_root: bytes, second_root: bytes, proof: Sequence[bytes]
) -> None:
    """Check that the tree of `first` leaves is a prefix of the tree of `second` leaves (RFC 9162, section 2.1.4.2).

    Raises:
        AuditError: A-consistency. An empty first tree is refused: it says nothing.
    """
    if not 0 < first <= second:
        raise AuditError(
            "A-consistency", "the sizes are out of order", expected=f"0 < first <= {second}", found=str(first)
        )
    if first == second:
        if proof:
            raise _wrong_length("A-consistency", len(proof))
        if first_root != second_root:
            raise _wrong_root("A-consistency", first_root, second_root)
        return
    _check_hashes("A-consistency", (first_root, second_root, *proof))
    if not proof:
        raise _wrong_length("A-consistency", 0)
    # A first tree that is a perfect subtree of the second is left out of the proof: its root is known.
    path = [first_root, *proof] if first & (first - 1) == 0 else list(proof)
    old, new = _roots_of_consistency(first, second, path)
    if old != first_root:
        raise _wrong_root("A-consistency", first_root, old)
    if new != second_root:
        raise _wrong_root("A-consistency", second_root, new)


def _roots_of_consistency(first: int, second: int, path: Sequence[bytes]) -> tuple[bytes, bytes]:
    """The roots of both trees that a path leads to; A-consistency where it is too long or too short."""
    fn, sn = first - 1, second - 1
    while fn & 1:
        fn, sn = fn >> 1, sn >> 1
    old = new = path[0]
    for sibling in path[1:]:
        if sn == 0:
            raise _wrong_length("A-consistency", len(path))
        if fn & 1 or fn == sn:
            old, new = node_hash(sibling, old), node_hash(sibling, new)
            fn, sn = _skip_carried(fn, sn)
        else:
            new = node_hash(new, sibling)
        fn, sn = fn >> 1, sn >> 1
    if sn != 0:
        raise _wrong_length("A-consistency", len(path))
    return old, new


def _skip_carried(fn: int, sn: int) -> tuple[int, int]:
    """Climb the levels at which the right edge's node has no sibling and is carried up unchanged."""
    while fn and not fn & 1:
        fn, sn = fn >> 1, sn >> 1
    return fn, sn


def _check_hashes(code: str, hashes: Sequence[bytes]) -> None:
    for value in hashes:
        if len(value) != HASH_SIZE:
            raise AuditError(
                code, "a hash has the wrong length", expected=f"{HASH_SIZE} bytes", found=f"{len(value)} bytes"
            )


def _wrong_length(code: str, length: int) -> AuditError:
    return AuditError(code, "the proof does not have the length that its sizes ask for", found=f"{length} hashes")


def _wrong_root(code: str, expected: bytes, found: bytes) -> AuditError:
    return AuditError(
        code,
        "the proof does not lead to the root",
        expected="0x" + expected.hex(),
        found="0x" + found.hex(),
        do="The tree was altered, or the proof belongs to another one.",
    )


def _out_of_range(message: str, expected: str, found: str) -> AuditError:
    return AuditError("A-proof-range", message, expected=expected, found=found)
