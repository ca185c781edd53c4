"""What became of a job, archived with the evidence of the chain: settled, reclaimed, declined or cancelled."""

from __future__ import annotations

from typing import TYPE_CHECKING

from verifier.payment.closing import bundle_from_chain
from verifier.payment.evidence import fetch_evidence
from verifier.payment.gate import judged_by
from verifier.payment.states import JobState
from verifier.statement import canonical
from verifier.statement.evidence import EntryKind, LogEntry
from verifier.statement.scalars import Timestamp
from verifier.verify import verify

if TYPE_CHECKING:
    from verifier.chain_evidence import EventName
    from verifier.payer.purchase import Payer
    from verifier.payment.ledger import PayerJob
    from verifier.statement.evidence import ChainEvidence

_ENDS: dict[JobState, tuple[EntryKind, EventName, str]] = {
    JobState.RELEASED: ("settled", "Released", "signature"),
    JobState.RECLAIMED: ("reclaimed", "Reclaimed", "reclaim"),
    JobState.DECLINED: ("declined", "Declined", "decline"),
    JobState.CANCELLED: ("cancelled", "Cancelled", "cancel"),
}


def settle(payer: Payer, job: PayerJob, *, now: int) -> None:
    """Archive how the chain closed a job, once. A close by proof gives the payer the bundle, from the chain itself.

    Where the chain still holds the money, or was asked before, nothing happens. Should a crash come between the archive
    and the ledger, the entry is written a second time, which an audit takes.
    """
    if job.closed_by is not None:
        return
    ending = _ENDS.get(payer.state(job))
    if ending is None:
        return
    kind, event, closed_by = ending
    closing = _evidence(payer, job, event)
    if closing is None:
        return
    blobs: dict[str, bytes] = {"terms": canonical.encode(job.terms), "evidence": canonical.encode(closing)}
    funding = _evidence(payer, job, "Funded")
    if funding is not None:
        blobs["evidence.funded"] = canonical.encode(funding)
    if kind == "settled":
        if payer.escrow.closed_by_proof(job.job_id):
            closed_by = "proof"
            blobs |= _shown_by_proof(payer, job, closing)
        elif job.bundle is not None:
            blobs |= _kept(payer, job)
    digests = {role: canonical.sha256(blob) for role, blob in blobs.items()} | judged_by(job)
    entry = LogEntry(kind=kind, job_id=job.job_id, recorded_at=Timestamp(now), digests=digests)
    payer.archive.append(entry, blobs.values())
    payer.ledger.set_closed(job.job_id, closed_by)


def _evidence(payer: Payer, job: PayerJob, event: EventName) -> ChainEvidence | None:
    found = payer.escrow.events((event,), job_id=job.job_id)
    return fetch_evidence(payer.chain, found[-1].transaction_hash) if found else None


def _shown_by_proof(payer: Payer, job: PayerJob, closing: ChainEvidence) -> dict[str, bytes]:
    circuit, acceptance = payer.circuit_of(job), job.terms.acceptance
    if acceptance is None:
        return {}
    bundle = bundle_from_chain(
        closing,
        domain=job.terms.domain,
        terms=job.terms.terms,
        manifest=circuit.manifest,
        acceptance=acceptance,
    )
    verdict = verify(bundle, circuit, payer.policy_of(job))
    return {"bundle": canonical.encode(bundle), "verdict": canonical.encode(verdict)}


def _kept(payer: Payer, job: PayerJob) -> dict[str, bytes]:
    bundle = payer.kept_bundle(job)
    if bundle is None:
        return {}
    verdict = verify(bundle, payer.circuit_of(job), payer.policy_of(job))
    return {"bundle": canonical.encode(bundle), "verdict": canonical.encode(verdict)}
