"""The proof bundle: what a verifier needs for one job, beside the circuit and policy that it holds itself."""

from __future__ import annotations

from typing import Literal

import msgspec

from verifier.keccak import keccak256
from verifier.statement import canonical
from verifier.statement.eip712 import Domain
from verifier.statement.evidence import ChainEvidence
from verifier.statement.scalars import Bytes32, Count, FieldElement, HexBytes, Measure, Signature, TensorInt, Text
from verifier.statement.terms import Delivery, JobTerms


class ProofBytes(HexBytes):
    """A proof as the EVM verifier takes it; at most 64 KiB."""

    MAX_SIZE = 1 << 16


class Receipt(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the provider says of its work. Nothing of it is verified."""

    engine: Text
    device: Text
    prove_seconds: Measure
    peak_memory_bytes: Count


class ProofBundle(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="schema", tag="opgate/bundle/1"
):
    """One job's claim and proof.

    `inputs` and `outputs` hold one tuple of integers a tensor, row-major, in the manifest's order. A circuit with
    hashed inputs has `input_hash` instead of `inputs`. Origin `delivered` carries the provider's Delivery signature and
    its receipt; origin `chain` carries the evidence of the closing transaction instead.
    """

    origin: Literal["delivered", "chain"]
    domain: Domain
    terms: JobTerms
    circuit_id: Bytes32
    outputs: tuple[tuple[TensorInt, ...], ...]
    proof: ProofBytes
    acceptance: Signature
    inputs: tuple[tuple[TensorInt, ...], ...] | None = None
    input_hash: FieldElement | None = None
    delivery: Signature | None = None
    receipt: Receipt | None = None
    evidence: ChainEvidence | None = None

    def __post_init__(self) -> None:
        """One shape per origin and per visibility, so that no field can be there without meaning."""
        if (self.inputs is None) == (self.input_hash is None):
            raise ValueError("a bundle has either inputs or input_hash")
        delivered = self.delivery is not None and self.receipt is not None and self.evidence is None
        chain = self.delivery is None and self.receipt is None and self.evidence is not None
        if not (delivered if self.origin == "delivered" else chain):
            raise ValueError("delivered: delivery and receipt; chain: evidence only")

    @property
    def job_id(self) -> Bytes32:
        """The digest of the terms in the bundle's domain."""
        return self.terms.job_id(self.domain)

    def delivery_message(self, instances_hash: Bytes32) -> Delivery:
        """What the provider signs for this bundle; a bundle from the chain has none (ValueError)."""
        if self.receipt is None:
            raise ValueError("a bundle from the chain carries no receipt to sign")
        return delivery_message(self.job_id, self.circuit_id, instances_hash, self.proof, self.receipt)


def delivery_message(
    job_id: Bytes32, circuit_id: Bytes32, instances_hash: Bytes32, proof: bytes, receipt: Receipt
) -> Delivery:
    """The Delivery over a proof and a receipt: proof_hash is keccak256, receipt_hash the sha256 of canonical bytes."""
    return Delivery(
        job_id=job_id,
        circuit_id=circuit_id,
        instances_hash=instances_hash,
        proof_hash=keccak256(proof),
        receipt_hash=canonical.digest(receipt),
    )
