"""Does this code compute that model? Which records, by keys that the policy names, say so about a circuit."""

from __future__ import annotations

from typing import TYPE_CHECKING

from verifier.evm import signed_by
from verifier.statement.certificates import (
    Acceptance,
    CircuitAttestation,
    CompileRecord,
    FidelityCertificate,
    RebuildRecord,
    record_digest,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from verifier.circuit import Circuit
    from verifier.policy import Policy
    from verifier.statement.certificates import Record
    from verifier.statement.scalars import Address
    from verifier.statement.verdict import Assurance

ORDER: tuple[Assurance, ...] = ("unattested", "attested", "compiled", "rebuilt")
"""From the weakest to the strongest."""


def assurance_of(circuit: Circuit, policy: Policy) -> Assurance:
    """The strongest assurance that a record signed by one of the policy's keys gives.

    A rebuild or a compilation counts when signed by `records.keys`, an attestation when signed by `records.owners`, and
    each only where it names this circuit, this code and this ONNX file or verifying key.
    """
    found: set[Assurance] = {"unattested"}
    for record in _trusted(circuit, policy.records.keys):
        if isinstance(record, RebuildRecord) and record.code_hash == circuit.manifest.evm.code_hash:
            if record.onnx_sha256 == circuit.manifest.onnx_sha256:
                found.add("rebuilt")
        elif isinstance(record, CompileRecord) and (record.code_hash, record.vk_sha256) == (
            circuit.manifest.evm.code_hash,
            circuit.manifest.vk_sha256,
        ):
            found.add("compiled")
    if any(_attests(record, circuit) for record in _trusted(circuit, policy.records.owners)):
        found.add("attested")
    return max(found, key=ORDER.index)


def attesting_owners(circuit: Circuit, owners: tuple[Address, ...]) -> frozenset[Address]:
    """Those of the owners whose signed attestation names this circuit and this code."""
    return frozenset(
        signer for signer in owners if any(_attests(record, circuit) for record in _trusted(circuit, (signer,)))
    )


def fidelity_certificates(circuit: Circuit, policy: Policy) -> tuple[FidelityCertificate, ...]:
    """The fidelity certificates of this circuit that are signed by one of the policy's owners."""
    records = _trusted(circuit, policy.records.owners)
    return tuple(record for record in records if isinstance(record, FidelityCertificate))


def acceptances(circuit: Circuit, policy: Policy) -> tuple[Acceptance, ...]:
    """The acceptance sets in fidelity certificates of this circuit by the policy's owners or its record keys."""
    records = _trusted(circuit, (*policy.records.keys, *policy.records.owners))
    found = [record.acceptance for record in records if isinstance(record, FidelityCertificate)]
    return tuple(each for each in found if each is not None)


def stated_models(circuit: Circuit, policy: Policy) -> tuple[tuple[Address, str], ...]:
    """Owner and model of each attestation by one of the policy's owners that names this circuit and this code."""
    return tuple(
        (owner, str(record.model))
        for owner in policy.records.owners
        for record in _trusted(circuit, (owner,))
        if isinstance(record, CircuitAttestation) and _attests(record, circuit)
    )


def _attests(record: Record, circuit: Circuit) -> bool:
    return isinstance(record, CircuitAttestation) and record.code_hash == circuit.manifest.evm.code_hash


def _trusted(circuit: Circuit, signers: tuple[Address, ...]) -> Iterator[Record]:
    circuit_id = circuit.circuit_id
    for signed in circuit.records:
        if signed.record.circuit_id != circuit_id or signed.signer not in signers:
            continue
        if signed_by(signed.signer, record_digest(signed.record), signed.signature):
            yield signed.record
