"""The circuit manifest: what a circuit is, in exactly what a rebuild reproduces; its sha256 is the circuit_id.

No cost, no fidelity, no machine, no wheel hash stands here: those are records about a circuit (`certificates`).
"""

from __future__ import annotations

import math
from typing import Literal

import msgspec

from verifier.statement import canonical
from verifier.statement.scalars import Bytes32, Count, Text, Uint256

JOB_LIMBS = 11
"""Words of the job id in the instances: 256 bits in 24-bit limbs."""
JOB_LIMB_BITS = 24
BLIND_WORDS = 6
"""Random integers in [0, 2^24) after a hashed input, 144 bits: without them a likely input could be guessed."""
MAX_AXES = 8
MAX_INSTANCES = 1024
MAX_PROOF_BYTES = 4096
"""The escrow's static bounds; larger inputs are hashed."""
MAX_CODE_BYTES = 24_576
"""EIP-170: no chain holds a contract with longer code."""

Dtype = Literal[
    "float16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "bool"
]
Visibility = Literal["public", "hashed"]


class TensorSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One input or output: real value = integer / 2^scale; its words are instances[offset : offset + length].

    A hashed input shows one word, its Poseidon hash, whatever its shape.
    """

    name: Text
    shape: tuple[Count, ...]
    dtype: Dtype
    scale: Count
    offset: Count
    length: Count

    def __post_init__(self) -> None:
        """A bound on the axes, so that their product cannot be made to take minutes."""
        if len(self.shape) > MAX_AXES:
            raise ValueError(f"a tensor has at most {MAX_AXES} axes")

    @property
    def size(self) -> int:
        """The number of values of the tensor."""
        return math.prod(self.shape)


class SrsDigest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The structured reference string: its size and the sha256 of its file, and of its k = 1 part."""

    logrows: Count
    sha256: Bytes32
    sha256_k1: Bytes32


class SolcSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The compiler settings that decide the verifier's bytes."""

    version: Text
    evm_version: Text
    optimizer_runs: Count
    via_ir: bool
    append_cbor: bool


class EvmVerifier(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The circuit's verifier contract: how it is compiled, on which EVM revision it is run, its hash and its gas.

    `code_hash` is keccak256 of the runtime code; `gas` is what one verification uses in the execution alone.
    """

    solc: SolcSettings
    revision: Text
    code_hash: Bytes32
    gas: Count


class CircuitManifest(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="schema", tag="opgate/circuit/1"
):
    """A circuit. `onnx_sha256` is the owner's model as given, before the job input is added to its graph.

    `inputs` are the model's own, in graph order, without the job input; `value_bound` is the largest magnitude that a
    value in the circuit may have.
    """

    ezkl_version: Text
    onnx_sha256: Bytes32
    run_args_sha256: Bytes32
    settings_sha256: Bytes32
    vk_sha256: Bytes32
    srs: SrsDigest
    visibility: Visibility
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    n_instances: Count
    proof_len: Count
    value_bound: Uint256
    evm: EvmVerifier

    def __post_init__(self) -> None:
        """The layout must tile the instances exactly, or an offset could point a claim at other words."""
        if not self.inputs or not self.outputs:
            raise ValueError("a circuit has at least one input and one output")
        expected = 0
        for spec in self.inputs:
            expected = _place(spec, expected, 1 if self.visibility == "hashed" else spec.size)
        if self.visibility == "public":
            expected += JOB_LIMBS
        elif len(self.inputs) != 1:
            raise ValueError("a circuit with hashed inputs has one input tensor")
        else:
            expected += 1
        for spec in self.outputs:
            expected = _place(spec, expected, spec.size)
        if self.visibility == "hashed":
            expected += JOB_LIMBS
        if expected != self.n_instances:
            raise ValueError(f"n_instances is {self.n_instances}, the tensors give {expected}")
        if self.proof_len == 0 or self.proof_len % 32:
            raise ValueError("proof_len is a positive multiple of 32")
        if self.value_bound < 2**JOB_LIMB_BITS:
            raise ValueError("value_bound is too small for the job limbs")

    @property
    def circuit_id(self) -> Bytes32:
        """The sha256 of the manifest's canonical bytes."""
        return canonical.digest(self)

    @property
    def wire_sizes(self) -> tuple[int, ...]:
        """The number of integers of each input tensor as it crosses the wire: a hashed one ends with its blind."""
        blind = BLIND_WORDS if self.visibility == "hashed" else 0
        return tuple(spec.size + blind for spec in self.inputs)

    @property
    def input_len(self) -> int:
        """Words that the input commitment covers, from word 0."""
        return 1 if self.visibility == "hashed" else sum(spec.size for spec in self.inputs)

    @property
    def job_offset(self) -> int:
        """The word at which the job id's limbs begin."""
        return self.n_instances - JOB_LIMBS if self.visibility == "hashed" else self.input_len


def _place(spec: TensorSpec, expected: int, length: int) -> int:
    if spec.size < 1:
        raise ValueError(f"tensor {spec.name} is empty")
    if (spec.offset, spec.length) != (expected, length):
        raise ValueError(f"tensor {spec.name} stands at {spec.offset}+{spec.length}, expected {expected}+{length}")
    return expected + length
