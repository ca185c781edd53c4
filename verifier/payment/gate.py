"""The payer's gate: from a job and the digest of an archived bundle to the one signature that pays, or to none.

G1 the job is known, and its release was not taken for other instances
G2 the bundle's bytes are read again from the archive
G3 verify runs here, under the policy, manifest, code and records that the job was judged by before it was funded
G4 the verdict is VALID and is about this job
G5 the chain says: known escrow code, FUNDED, final enough for the amount, and the deadline is beyond the margin
G6 the amount keeps the policy's caps per job, per provider and per day; again, and at once, where it is reserved
G7 everything that the verdict rests on is archived, synced and under a signed checkpoint
G8 the release is reserved, once for ever, then signed

A Verdict that somebody hands over moves nothing: there is no way in for one. Nothing here sends a transaction.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

from verifier.bundles import parse_bundle
from verifier.circuit import Circuit
from verifier.errors import GateError, UndecidedError
from verifier.instances import claimed_words
from verifier.keccak import keccak256
from verifier.payment.states import JobState
from verifier.policy import Policy
from verifier.statement import canonical
from verifier.statement.evidence import LogEntry
from verifier.statement.scalars import Timestamp
from verifier.statement.terms import Release, SignedRelease
from verifier.verify import verify

if TYPE_CHECKING:
    from verifier.archive.log import Archive
    from verifier.payment.ledger import Ledger, PayerJob
    from verifier.statement.bundle import ProofBundle
    from verifier.statement.scalars import Address, Bytes32, Signature
    from verifier.statement.verdict import Verdict


class Funding(NamedTuple):
    """What the chain says of a job: its state, the time of its newest block, and how deep the funding lies."""

    state: JobState
    chain_time: int
    confirmations: int


class EscrowView(Protocol):
    """The questions that the gate asks a chain. An answer that cannot be had is an UndecidedError."""

    def funding(self, escrow: Address, job_id: Bytes32) -> Funding:
        """The job's state now; EscrowError E-escrow-code where the code at the address is not the known escrow's."""


class Signer(Protocol):
    """The payer's key, wherever it is kept."""

    def sign_digest(self, digest: Bytes32) -> Signature:
        """Sign 32 bytes."""


class Limits(NamedTuple):
    """What the gate leaves as room: seconds before the deadline, and blocks on top of the funding."""

    margin_s: int = 5
    confirmations: int = 0


class Gate:
    """The only place where a payer's Release is signed."""

    def __init__(self, *, ledger: Ledger, archive: Archive, escrow: EscrowView, signer: Signer, limits: Limits) -> None:
        """Take the parts."""
        self._ledger = ledger
        self._archive = archive
        self._escrow = escrow
        self._signer = signer
        self._limits = limits

    def release(self, job_id: Bytes32, bundle_sha256: Bytes32, *, now: int) -> SignedRelease:
        """Sign the release of a job for an archived bundle, or say why not. The same call again gives the same bytes.

        Args:
            job_id: a job of the ledger.
            bundle_sha256: the digest of a blob in the archive.
            now: Unix seconds of this machine; the later of it and the chain's time is held against the deadline.

        Raises:
            GateError: G1-… to G8-…; nothing was signed.
            UndecidedError: the verdict or the chain could not be had; nothing was signed.
        """
        job = self._ledger.job(job_id)
        raw = self._archive.blob(bundle_sha256)
        unverified_bundle = parse_bundle(raw, where=str(bundle_sha256))
        verdict = self._judge(job, unverified_bundle)
        policy = self._policy(job)
        self._ask_chain(job, policy, now)
        self._ledger.keep_caps(job.job_id, now=now, caps=policy.amounts)
        self._archive_all(job, raw, verdict, now)
        return self._sign(job, unverified_bundle, policy, now)

    def _judge(self, job: PayerJob, unverified_bundle: ProofBundle) -> Verdict:
        evidence = job.evidence
        circuit = Circuit.from_bytes(
            self._archive.blob(evidence.manifest),
            self._archive.blob(evidence.code),
            tuple(self._archive.blob(record) for record in evidence.records),
        )
        verdict = verify(unverified_bundle, circuit, self._policy(job))
        if verdict.outcome == "UNDECIDED":
            raise UndecidedError(str(verdict.code), "the bundle could not be judged", found=str(verdict.message))
        if verdict.outcome != "VALID":
            raise GateError(
                str(verdict.code), "the bundle is not valid, so nothing is signed for it", found=str(verdict.message)
            )
        if verdict.job_id != job.job_id:
            raise GateError(
                "G4-other-job",
                "the bundle is valid, but for another job",
                expected=str(job.job_id),
                found=str(verdict.job_id),
            )
        return verdict

    def _ask_chain(self, job: PayerJob, policy: Policy, now: int) -> None:
        terms = job.terms.terms
        funding = self._escrow.funding(job.terms.domain.verifying_contract, job.job_id)
        if funding.state is not JobState.FUNDED:
            raise GateError(
                "G5-state", "the escrow holds no money for this job", expected="FUNDED", found=funding.state.name
            )
        depth = max(self._limits.confirmations, policy.amounts.blocks_for(int(terms.amount)))
        if funding.confirmations < depth:
            raise GateError(
                "G5-final",
                "the funding is not deep enough in the chain yet",
                expected=f"{depth} blocks",
                found=f"{funding.confirmations} blocks",
                do="Try again later",
            )
        latest = max(now, funding.chain_time)
        if latest + self._limits.margin_s >= terms.deadline:
            raise GateError(
                "G5-late",
                "a release would be too late",
                expected=f"before {terms.deadline - self._limits.margin_s}",
                found=str(latest),
                do="After the deadline: opgate pay reclaim",
            )

    def _archive_all(self, job: PayerJob, raw: bytes, verdict: Verdict, now: int) -> None:
        if job.terms.payer_signature is None or job.terms.acceptance is None:
            raise GateError(
                "G7-terms",
                "the ledger lacks a signature of the terms, so the evidence would be incomplete",
                where=str(job.job_id),
                expected="the payer's signature and the provider's Acceptance",
                do="The provider can close the job by its proof, without this signature",
            )
        blobs = {"bundle": raw, "verdict": canonical.encode(verdict), "terms": canonical.encode(job.terms)}
        digests = {role: canonical.sha256(blob) for role, blob in blobs.items()} | judged_by(job)
        entry = LogEntry(kind="intent", job_id=job.job_id, recorded_at=Timestamp(now), digests=digests)
        self._archive.append(entry, blobs.values())

    def _sign(self, job: PayerJob, bundle: ProofBundle, policy: Policy, now: int) -> SignedRelease:
        release = Release(job_id=job.job_id, instances_hash=keccak256(claimed_words(bundle)))
        known = self._ledger.reserve_release(job.job_id, release.instances_hash, now=now, caps=policy.amounts)
        if known is not None:
            return known
        signed = SignedRelease(release=release, signature=self._signer.sign_digest(release.digest(job.terms.domain)))
        return self._ledger.store_release(job.job_id, signed)

    def _policy(self, job: PayerJob) -> Policy:
        return canonical.decode(Policy, self._archive.blob(job.evidence.policy), where="archived policy")


def judged_by(job: PayerJob) -> dict[str, Bytes32]:
    """The roles and digests of what a job was judged by, as a log entry names them."""
    evidence = job.evidence
    records = {f"record.{index}": record for index, record in enumerate(evidence.records)}
    return records | {
        "policy": evidence.policy,
        "manifest": evidence.manifest,
        "code": evidence.code,
        "terms_verdict": evidence.terms_verdict,
    }
