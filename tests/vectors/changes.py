"""The smallest changes: one bit of a digest or a proof, one more in a tensor."""

from __future__ import annotations

from verifier.statement.bundle import ProofBytes
from verifier.statement.scalars import Bytes32, TensorInt

Tensors = tuple[tuple[TensorInt, ...], ...]


def flipped(digest: Bytes32) -> Bytes32:
    """The digest with its last bit changed."""
    return Bytes32(digest[:-1] + bytes([digest[-1] ^ 1]))


def flip(proof: ProofBytes, index: int, bit: int = 0) -> ProofBytes:
    """The proof with one bit of one byte changed."""
    return ProofBytes(proof[:index] + bytes([proof[index] ^ 1 << bit]) + proof[index + 1 :])


def with_value(tensors: Tensors, tensor: int, index: int, *values: int) -> Tensors:
    """The tensors with other values in place of one; none drops it."""
    row = tensors[tensor]
    changed = (*row[:index], *map(TensorInt, values), *row[index + 1 :])
    return (*tensors[:tensor], changed, *tensors[tensor + 1 :])


def bump(tensors: Tensors, index: int, tensor: int = 0) -> Tensors:
    """The tensors with one value larger by one."""
    return with_value(tensors, tensor, index, tensors[tensor][index] + 1)
