"""From the transaction that closed a job by proof to the bundle that it shows, and from events to how a job was closed.

A payer who was silent, or an auditor with chain access, gets the claim and the proof out of the calldata of
`release_by_proof`. Pure: the transaction comes as ChainEvidence, whoever fetched it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from verifier.chain_evidence import check_evidence
from verifier.errors import VerifierError
from verifier.instances import SELECTOR
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
            no verifier call of this circuit's shape.
    """
    call = _verifier_call(check_evidence(evidence).transaction_input)
    proof_len = int.from_bytes(call[68:100])
    start = _HEAD + proof_len + 32
    words = call[start:]
    if proof_len != manifest.proof_len or len(words) != 32 * manifest.n_instances:
        raise VerifierError(
            "V3-calldata",
            "the transaction's call has another shape than the circuit",
            expected=f"{manifest.proof_len} bytes and {manifest.n_instances} instances",
            found=f"{proof_len} bytes and {len(words) // 32} instances",
        )
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


def _verifier_call(transaction_input: bytes) -> bytes:
    """The last argument of release_by_proof: the verifier's calldata, found by its length word and its selector.

    The escrow takes one dynamic argument, after terms and its offset, so the bytes end the calldata.
    """
    index = transaction_input.rfind(SELECTOR + (64).to_bytes(32))
    if index < 36:
        raise VerifierError("V3-calldata", "the transaction holds no verifier call", expected="release_by_proof")
    size = int.from_bytes(transaction_input[index - 32 : index])
    call = transaction_input[index : index + size]
    if len(call) != size or size < _HEAD + 32:
        raise VerifierError(
            "V3-calldata", "the verifier call is cut off", expected=f"{size} bytes", found=f"{len(call)}"
        )
    return call


def _values(words: bytes, spec: TensorSpec) -> tuple[TensorInt, ...]:
    return from_words(words[32 * spec.offset : 32 * (spec.offset + spec.length)])
