"""What became of a job, archived with the evidence of the chain: settled, reclaimed, declined or cancelled."""

from __future__ import annotations

from typing import TYPE_CHECKING

from verifier.chain_evidence import check_event
from verifier.errors import UndecidedError, VerifierError
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

    Where the chain still holds the money, has closed it with fewer blocks on top than the payer's limits ask for, or
    was asked before, nothing happens. A close that a reorganisation took away is forgotten, and one that it moved to
    another block is archived anew: an audit takes several entries, and the last one is the chain's. Should a crash come
    between archive and ledger, the entry is written a second time.

    Raises:
        UndecidedError: E-rpc-evidence where the node names a transaction that did not do it; nothing is archived.
    """
    payer.escrow.look_again()
    ending = _ENDS.get(payer.state(job))
    if ending is None:
        if job.closed_by is not None:
            payer.ledger.set_closed(job.job_id, None)
        return
    kind, event, closed_by = ending
    found = payer.escrow.events((event,), job_id=job.job_id)
    if not found or (job.closed_by is not None and job.closed_in in (None, found[-1].block_hash)):
        return
    if payer.chain.head().number - found[-1].block_number < payer.limits.confirmations:
        return
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
        else:
            blobs |= _kept(payer, job)
    digests = {role: canonical.sha256(blob) for role, blob in blobs.items()} | judged_by(job)
    entry = LogEntry(kind=kind, job_id=job.job_id, recorded_at=Timestamp(now), digests=digests)
    payer.archive.append(entry, blobs.values())
    if job.bundle is None and "bundle" in digests:
        payer.ledger.set_bundle(job.job_id, digests["bundle"])
    payer.ledger.set_closed(job.job_id, closed_by, found[-1].block_hash)


def _evidence(payer: Payer, job: PayerJob, event: EventName) -> ChainEvidence | None:
    found = payer.escrow.events((event,), job_id=job.job_id)
    if not found:
        return None
    evidence = fetch_evidence(payer.chain, found[-1].transaction_hash)
    try:
        check_event(evidence, event, job.terms.domain, job.job_id)
    except VerifierError as error:
        # what is archived stays for ever: an entry with the evidence of something else would look like damage
        raise UndecidedError(
            "E-rpc-evidence",
            f"the node names a transaction that logged no {event} of this job",
            where=str(found[-1].transaction_hash),
            found=error.code,
            do="Ask another node",
        ) from error
    return evidence


def _shown_by_proof(payer: Payer, job: PayerJob, closing: ChainEvidence) -> dict[str, bytes]:
    """The bundle that the closing transaction shows; the kept one where it went through a contract that hides the call.

    Anyone may close by proof, in whatever way: it must not keep the payer from archiving that the job was closed.
    """
    circuit, acceptance = payer.circuit_of(job), job.terms.acceptance
    if acceptance is None:
        return _kept(payer, job)
    try:
        bundle = bundle_from_chain(
            closing,
            domain=job.terms.domain,
            terms=job.terms.terms,
            manifest=circuit.manifest,
            acceptance=acceptance,
        )
    except VerifierError:
        return _kept(payer, job)
    verdict = verify(bundle, circuit, payer.policy_of(job))
    if verdict.outcome != "VALID":
        return _kept(payer, job)
    return {"bundle": canonical.encode(bundle), "verdict": canonical.encode(verdict)}


def _kept(payer: Payer, job: PayerJob) -> dict[str, bytes]:
    bundle = payer.kept_bundle(job)
    if bundle is None:
        return {}
    verdict = verify(bundle, payer.circuit_of(job), payer.policy_of(job))
    return {"bundle": canonical.encode(bundle), "verdict": canonical.encode(verdict)}
