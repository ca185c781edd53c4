"""From the transaction that closed a job by proof to the bundle that it shows, and from events to how a job was closed.

A payer who was silent, or an auditor with chain access, gets the claim and the proof out of the calldata of
`release_by_proof`. Pure: the transaction comes as ChainEvidence, whoever fetched it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from verifier.chain_evidence import check_evidence
from verifier.errors import VerifierError
from verifier.instances import SELECTOR
from verifier.keccak import keccak256
from verifier.statement.bundle import ProofBundle, ProofBytes
from verifier.statement.scalars import FieldElement
from verifier.tensors import from_words

if TYPE_CHECKING:
    from verifier.statement.eip712 import Domain
    from verifier.statement.evidence import ChainEvidence
    from verifier.statement.manifest import CircuitManifest, TensorSpec
    from verifier.statement.scalars import Signature, TensorInt
    from verifier.statement.terms import JobTerms

_HEAD = 4 + 3 * 32


def bundle_from_chain(
    evidence: ChainEvidence, *, domain: Domain, terms: JobTerms, manifest: CircuitManifest, acceptance: Signature
) -> ProofBundle:
    """The bundle of origin ``chain`` that a closing transaction shows. It is unverified: run `verify` on it.

    Raises:
        VerifierError: V3-evidence-… where the evidence does not hold together, V3-calldata where the transaction holds
            no verifier call of this circuit's shape with the instances that it released; V5-word-range.
    """
    checked = check_evidence(evidence)
    released = {log.data for log in checked.events("Released", domain, terms.job_id(domain))}
    call = _verifier_call(checked.transaction_input, manifest, released)
    proof_len = int(manifest.proof_len)
    words = call[_HEAD + proof_len + 32 :]
    hashed = manifest.visibility == "hashed"
    return ProofBundle(
        origin="chain",
        domain=domain,
        terms=terms,
        circuit_id=manifest.circuit_id,
        inputs=None if hashed else tuple(_values(words, spec) for spec in manifest.inputs),
        input_hash=FieldElement(int.from_bytes(words[:32])) if hashed else None,
        outputs=tuple(_values(words, spec) for spec in manifest.outputs),
        proof=ProofBytes(call[_HEAD : _HEAD + proof_len]),
        acceptance=acceptance,
        evidence=evidence,
    )


def _verifier_call(transaction_input: bytes, manifest: CircuitManifest, released: set[bytes]) -> bytes:
    """The verifier's calldata inside a transaction's: of the circuit's shape, its instances those that were released.

    Whoever closed the job may have done it through a contract of theirs, with bytes around the call that look like
    another one: only the hash that the escrow logged tells which it is.
    """
    head = SELECTOR + (64).to_bytes(32) + (96 + manifest.proof_len).to_bytes(32) + manifest.proof_len.to_bytes(32)
    count = int(manifest.n_instances)
    size = _HEAD + int(manifest.proof_len) + 32 + 32 * count
    index = transaction_input.find(head)
    while index >= 0:
        call = transaction_input[index : index + size]
        if len(call) == size and keccak256(call[size - 32 * count :]) in released:
            return call
        index = transaction_input.find(head, index + 1)
    raise VerifierError(
        "V3-calldata",
        "the transaction shows no verifier call for what was released",
        expected=f"{manifest.proof_len} bytes of proof and {count} instances",
        found=f"{len(transaction_input)} bytes of calldata, and {len(released)} releases of this job",
    )


def _values(words: bytes, spec: TensorSpec) -> tuple[TensorInt, ...]:
    return from_words(words[32 * spec.offset : 32 * (spec.offset + spec.length)])
