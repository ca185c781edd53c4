"""One job from its request to a bundle that was verified before it leaves: witness, proof, signature, both verifiers.

A wrong witness proves "successfully" in ezkl; here its bundle meets the circuit's pinned code and ezkl's verifier
first, and does not leave unless both accept.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from circuits.ezkl_runner import Limits
from circuits.registry import CircuitFolder
from prover.prove import ENGINE, Proved, ProvingFiles, ezkl_accepts, prove
from prover.witness import Tensors, make_witness
from verifier.circuit import Circuit
from verifier.errors import CircuitError
from verifier.instances import claimed_words, committed_words, words_of
from verifier.keccak import keccak256
from verifier.payment.keys import Signer
from verifier.policy import Policy
from verifier.statement import canonical
from verifier.statement.bundle import ProofBundle, delivery_message
from verifier.statement.eip712 import Domain
from verifier.statement.manifest import CircuitManifest
from verifier.statement.scalars import FieldElement, Signature
from verifier.statement.terms import JobTerms, input_commitment
from verifier.statement.verdict import Opinion
from verifier.verify import verify


class Job(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a provider accepted: terms in their domain, the payer's integers, its own Acceptance."""

    domain: Domain
    terms: JobTerms
    inputs: Tensors
    acceptance: Signature


def make_bundle(  # noqa: PLR0913, PLR0917 - a job, and all that doing it needs
    job: Job, folder: CircuitFolder, files: ProvingFiles, key: Signer, work: Path, limits: Limits
) -> ProofBundle:
    """Do a job: witness, proof, Delivery, and the bundle, which the EVM code and ezkl both accepted.

    Args:
        job: the accepted job.
        folder: the circuit's public files.
        files: its private ones.
        key: the provider's, which signs the Delivery.
        work: a private folder for witness and proof.
        limits: of each ezkl child.

    Raises:
        CircuitError: C-job where the job is not this circuit's, input's or provider's; those of `make_witness` and
            `prove`; C-bundle where a verifier refuses: nothing leaves then.
    """
    circuit = folder.circuit()
    _check_job(job, circuit, key)
    job_id = job.terms.job_id(job.domain)
    witness_file = work / "witness.json"
    witness = make_witness(folder, files.compiled, job.inputs, job_id, witness_file, limits)
    proved = prove(folder, files, witness_file, work, limits)
    bundle = sign_bundle(job, witness.outputs, proved, key, circuit.manifest)
    check_bundle(bundle, circuit, folder, work, limits)
    return bundle


def sign_bundle(job: Job, outputs: Tensors, proved: Proved, key: Signer, manifest: CircuitManifest) -> ProofBundle:
    """The bundle of a claim and a proof, with the provider's Delivery over exactly these bytes. Nothing is verified.

    Of hashed inputs it carries the hash alone: neither the values nor the blind.
    """
    job_id = job.terms.job_id(job.domain)
    committed, hashed = committed_words(job.inputs, manifest), manifest.visibility == "hashed"
    words = words_of(job_id, committed, outputs, hashed=hashed)
    delivery = delivery_message(job_id, job.terms.circuit_id, keccak256(words), proved.proof, proved.receipt)
    return ProofBundle(
        origin="delivered",
        domain=job.domain,
        terms=job.terms,
        circuit_id=job.terms.circuit_id,
        inputs=None if hashed else job.inputs,
        input_hash=FieldElement(int.from_bytes(committed)) if hashed else None,
        outputs=outputs,
        proof=proved.proof,
        acceptance=job.acceptance,
        delivery=key.sign_digest(delivery.digest(job.domain)),
        receipt=proved.receipt,
    )


def check_bundle(bundle: ProofBundle, circuit: Circuit, folder: CircuitFolder, work: Path, limits: Limits) -> None:
    """Verify a bundle of ours as a payer would, steps 1 to 8, with ezkl's opinion; raise unless it is VALID.

    Raises:
        CircuitError: C-bundle with the verdict's code.
    """
    raw = claimed_words(bundle)
    words = tuple(FieldElement(int.from_bytes(raw[i : i + 32])) for i in range(0, len(raw), 32))
    accepts = ezkl_accepts(folder, bundle.proof, words, work, limits)
    opinion = Opinion(engine=ENGINE, bundle_sha256=canonical.digest(bundle), accepts=accepts)
    verdict = verify(bundle, circuit, Policy.of_provider(bundle.domain, bundle.terms), (opinion,))
    if verdict.outcome != "VALID" or not accepts:
        raise CircuitError(
            "C-bundle",
            "our own bundle does not verify: it does not leave",
            where=f"job {bundle.job_id}",
            expected="VALID, and ezkl agrees",
            found=f"{verdict.outcome} {verdict.code or ''} {verdict.message or ''}; ezkl accepts: {accepts}",
            do="Is the proving key the manifest's? Get the circuit again from its owner.",
        )


def _check_job(job: Job, circuit: Circuit, key: Signer) -> None:
    compared = (
        ("circuit", circuit.circuit_id, job.terms.circuit_id),
        ("provider", job.terms.provider, key.address),
        (
            "input commitment",
            job.terms.input_commitment,
            input_commitment(committed_words(job.inputs, circuit.manifest)),
        ),
    )
    for name, expected, found in compared:
        if expected != found:
            raise CircuitError("C-job", f"the job's {name} is another one", expected=str(expected), found=str(found))
