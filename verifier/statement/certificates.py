"""What people sign about a circuit: fidelity, cost, rebuild, attestation. Each names the circuit_id.

A record is worth what its signer is worth to the reader: the policy names whose. The signature is EIP-712 over
{schema, circuit_id, sha256 of the record's canonical bytes} in a domain without chain and contract, since a circuit
belongs to no chain.
"""

from __future__ import annotations

import msgspec

from verifier.keccak import keccak256
from verifier.statement import canonical
from verifier.statement.eip712 import signing_digest
from verifier.statement.scalars import Address, Bytes32, Count, Measure, Signature, TensorInt, Text, Timestamp

RECORD_DOMAIN = keccak256(
    keccak256(b"EIP712Domain(string name,string version)") + keccak256(b"opgate records") + keccak256(b"1")
)
"""Domain separator of records: name "opgate records", version "1"."""


class ValueRange(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The least and the greatest quantised value of a tensor, both included."""

    name: Text
    least: TensorInt
    greatest: TensorInt


class Acceptance(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Float model against circuit on a set that the search never saw: a test against quantisation backdoors."""

    samples_sha256: Bytes32
    samples: Count
    max_error: Measure
    agreement: Measure


class FidelityCertificate(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="schema", tag="opgate/fidelity/1"
):
    """How close the circuit's outputs are to the model's, on the samples whose digest is given, and on nothing else.

    Errors are absolute, in the output's own unit; `agreement` is the share of samples with equal argmax, 0 to 1;
    `domain` is the range of inputs that the circuit was shown to take; `headroom_bits` is how far the largest value
    seen stays below the bound; `rewrites` names each change made to the graph.
    """

    circuit_id: Bytes32
    samples_sha256: Bytes32
    samples: Count
    max_error: Measure
    mean_error: Measure
    agreement: Measure
    domain: tuple[ValueRange, ...]
    outputs: tuple[ValueRange, ...]
    headroom_bits: Count
    rewrites: tuple[Text, ...]
    acceptance: Acceptance | None = None


class Cost(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a proof costs; seconds of wall time, bytes, gas of the verification alone."""

    prove_seconds: Measure
    memory_bytes: Count
    pk_bytes: Count
    gas: Count
    code_bytes: Count


class CostRecord(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="schema", tag="opgate/cost/1"
):
    """What was predicted from the settings and what one proof cost on one machine."""

    circuit_id: Bytes32
    machine: Text
    predicted: Cost
    measured: Cost


class RebuildRecord(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="schema", tag="opgate/rebuild/1"
):
    """The signer rebuilt the whole manifest and the code, byte for byte, from the ONNX file, run arguments and SRS."""

    circuit_id: Bytes32
    onnx_sha256: Bytes32
    code_hash: Bytes32
    ezkl_version: Text
    machine: Text
    rebuilt_at: Timestamp


class CompileRecord(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="schema", tag="opgate/compile/1"
):
    """The signer made the same code from vk, settings and the k = 1 SRS; the model behind the vk is not shown."""

    circuit_id: Bytes32
    vk_sha256: Bytes32
    code_hash: Bytes32
    compiled_at: Timestamp


class CircuitAttestation(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    tag_field="schema",
    tag="opgate/attestation/1",
):
    """The owner's word that this code is their model. Whoever made the code could produce any output."""

    circuit_id: Bytes32
    model: Text
    code_hash: Bytes32
    attested_at: Timestamp


Record = FidelityCertificate | CostRecord | RebuildRecord | CompileRecord | CircuitAttestation


class CircuitRecord(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The EIP-712 message under a record's signature."""

    schema: Text
    circuit_id: Bytes32
    record_sha256: Bytes32


class SignedRecord(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A record, who says it, and the signature; the signature is not checked by decoding."""

    record: Record
    signer: Address
    signature: Signature


def record_digest(record: Record) -> Bytes32:
    """What the signer of a record signs."""
    schema = Text(str(record.__struct_config__.tag))
    message = CircuitRecord(schema=schema, circuit_id=record.circuit_id, record_sha256=canonical.digest(record))
    return signing_digest(RECORD_DOMAIN, message)
