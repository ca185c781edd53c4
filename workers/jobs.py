"""What may happen to a job, as pure functions of the job, the time and the chain's word. No IO, no clock, no database.

A job moves accepted -> funded -> queued -> running -> proved -> closed. The chain is always right: whatever the row
says, a closed escrow closes it, and a reorganisation opens it again. A worker writes only under the fencing token that
its claim gave it; each later claim, delivery or refusal raises the token, so a worker thought dead writes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING, NoReturn

from verifier.errors import ServiceError
from verifier.payment.states import JobState as ChainState

if TYPE_CHECKING:
    from verifier.statement.eip712 import Domain
    from verifier.statement.scalars import Bytes32, Signature
    from verifier.statement.terms import JobTerms, SignedRelease
    from workers.limits import Limits


class JobState(StrEnum):
    """Where a job stands for the provider."""

    ACCEPTED = "accepted"
    FUNDED = "funded"
    QUEUED = "queued"
    RUNNING = "running"
    PROVED = "proved"
    FAILED = "failed"
    EXPIRED = "expired"
    DECLINED = "declined"
    CLOSED_BY_SIGNATURE = "closed_by_signature"
    CLOSED_BY_PROOF = "closed_by_proof"
    CLOSED_BY_RECLAIM = "closed_by_reclaim"
    CLOSED_BY_CANCEL = "closed_by_cancel"


OPEN = frozenset(
    {JobState.ACCEPTED, JobState.FUNDED, JobState.QUEUED, JobState.RUNNING, JobState.PROVED, JobState.FAILED}
)
"""States in which the provider still owes something: work, a closing, or the money back."""
CLOSED = frozenset(JobState) - OPEN
PAID = frozenset({JobState.CLOSED_BY_SIGNATURE, JobState.CLOSED_BY_PROOF})
_UNPROVED = frozenset({JobState.FUNDED, JobState.QUEUED, JobState.RUNNING})
_ENDINGS = {
    ChainState.RECLAIMED: JobState.CLOSED_BY_RECLAIM,
    ChainState.DECLINED: JobState.DECLINED,
    ChainState.CANCELLED: JobState.CLOSED_BY_CANCEL,
}


@dataclass(frozen=True, kw_only=True)
class Job:
    """One row of the job table. Times are Unix seconds; `fence` only ever grows."""

    job_id: Bytes32
    domain: Domain
    terms: JobTerms
    acceptance: Signature
    state: JobState
    changed_at: int
    attempts: int = 0
    fence: int = 0
    owner: str | None = None
    lease_until: int = 0
    failure: str | None = None
    release: SignedRelease | None = None

    @property
    def circuit_id(self) -> Bytes32:
        """The circuit that the job runs."""
        return self.terms.circuit_id


class Step(StrEnum):
    """What the sweeper does next with a job."""

    WAIT = "wait"
    FUND = "fund"
    UNFUND = "unfund"
    EXPIRE = "expire"
    ENQUEUE = "enqueue"
    LAPSE = "lapse"
    GIVE_UP = "give_up"
    RELEASE = "release"
    PROVE = "prove"
    DECLINE = "decline"
    SETTLE = "settle"
    REOPEN = "reopen"


def next_step(  # noqa: PLR0911, C901 - one table of cases, read from top to bottom
    job: Job, chain: ChainState, *, now: int, limits: Limits, queue_empty: bool
) -> Step:
    """The one thing to do with a job, given what the escrow says of it.

    `now` is the chain's time where it is ahead of ours. A job is closed by proof from deadline - margin on, whether or
    not a signature was promised; what is not proved by then is given up: a late proof gives the output for nothing.
    """
    if chain not in (ChainState.NONE, ChainState.FUNDED):
        agrees = job.state in PAID if chain is ChainState.RELEASED else job.state is _ENDINGS[chain]
        return Step.WAIT if agrees else Step.SETTLE
    if chain is ChainState.NONE:
        if job.state in (JobState.FUNDED, JobState.QUEUED):
            return Step.UNFUND
        over = now > job.terms.fund_by + limits.margin
        return Step.EXPIRE if over and job.state in (JobState.ACCEPTED, JobState.FAILED) else Step.WAIT
    late = now >= job.terms.deadline - limits.margin
    match job.state:
        case JobState.ACCEPTED | JobState.EXPIRED:
            return Step.FUND
        case JobState.FUNDED:
            return Step.GIVE_UP if late else Step.ENQUEUE
        case JobState.QUEUED:
            lost = queue_empty and now >= job.changed_at + limits.requeue
            return Step.GIVE_UP if late else Step.ENQUEUE if lost or now >= job.changed_at + limits.job else Step.WAIT
        case JobState.RUNNING:
            if now >= job.terms.deadline - limits.margin // 2:
                return Step.GIVE_UP
            return Step.LAPSE if now > job.lease_until else Step.WAIT
        case JobState.PROVED:
            if now >= job.terms.deadline:
                return Step.WAIT
            return Step.PROVE if late else Step.RELEASE if job.release else Step.WAIT
        case JobState.FAILED:
            return Step.DECLINE if now < job.terms.deadline else Step.WAIT
        case _:
            return Step.REOPEN


def fund(job: Job, *, now: int) -> Job:
    """The escrow holds the money. What was given up before is not taken up again."""
    _require(job, JobState.ACCEPTED, JobState.EXPIRED)
    given_up = job.state is JobState.EXPIRED and job.failure is not None
    return replace(job, state=JobState.FAILED if given_up else JobState.FUNDED, changed_at=now)


def unfund(job: Job, *, now: int) -> Job:
    """The chain was reorganised and no longer knows the funding."""
    _require(job, JobState.FUNDED, JobState.QUEUED)
    return replace(job, state=JobState.ACCEPTED, changed_at=now)


def expire(job: Job, *, now: int) -> Job:
    """Nobody funded the job in time."""
    _require(job, JobState.ACCEPTED, JobState.FAILED)
    return replace(job, state=JobState.EXPIRED, changed_at=now)


def enqueue(job: Job, *, now: int) -> Job:
    """A message is about to leave for the broker."""
    _require(job, JobState.FUNDED, JobState.QUEUED)
    return replace(job, state=JobState.QUEUED, changed_at=now)


def claim(job: Job, owner: str, *, now: int, limits: Limits) -> Job:
    """A worker takes the job; its fencing token is the new `fence`.

    Raises:
        ServiceError: W-job-busy where another's lease holds, W-job-state where there is nothing to do, W-job-attempts
            where the cap is reached, W-job-late where the deadline is too near to begin.
    """
    if job.state is JobState.RUNNING and now <= job.lease_until:
        _refuse("W-job-busy", job, f"held by {job.owner} until {job.lease_until}")
    _require(job, JobState.FUNDED, JobState.QUEUED, JobState.RUNNING)
    if job.attempts >= limits.attempts:
        _refuse("W-job-attempts", job, f"{job.attempts} attempts")
    if now >= job.terms.deadline - limits.margin:
        _refuse("W-job-late", job, f"deadline {job.terms.deadline}")
    return replace(
        job,
        state=JobState.RUNNING,
        owner=owner,
        fence=job.fence + 1,
        attempts=job.attempts + 1,
        lease_until=now + limits.lease,
        changed_at=now,
    )


def renew(job: Job, fence: int, *, now: int, limits: Limits) -> Job:
    """The worker is alive; W-job-fenced where the job is no longer its."""
    _held(job, fence)
    return replace(job, lease_until=now + limits.lease)


def prove(job: Job, fence: int, *, now: int) -> Job:
    """The worker's bundle was found VALID; W-job-fenced where the job is no longer its."""
    _held(job, fence)
    return _proved(job, now)


def deliver(job: Job, *, now: int) -> Job:
    """A VALID bundle came by another way than a claim; whoever works on the job is fenced off."""
    _require(job, *_UNPROVED)
    return _proved(job, now)


def fail(job: Job, fence: int, code: str, *, now: int, limits: Limits) -> Job:
    """The attempt failed: try again, or give up at the cap; W-job-fenced where the job is no longer the caller's."""
    _held(job, fence)
    return _failed(job, code, now, limits)


def lapse(job: Job, *, now: int, limits: Limits) -> Job:
    """The worker gave no sign of life for the length of its lease: the attempt counts as failed."""
    _require(job, JobState.RUNNING)
    if now <= job.lease_until:
        _refuse("W-job-busy", job, f"held by {job.owner} until {job.lease_until}")
    return _failed(job, "W-worker-lost", now, limits)


def give_up(job: Job, code: str, *, now: int) -> Job:
    """The provider will not do the job; the sweeper then declines it, so that the payer has the money back at once."""
    _require(job, JobState.ACCEPTED, *_UNPROVED)
    return replace(_free(job), state=JobState.FAILED, failure=code, changed_at=now)


def promise(job: Job, release: SignedRelease) -> Job:
    """The payer's release came in. The first one is kept; its signature is judged by the caller and by the escrow."""
    _require(job, JobState.PROVED)
    return job if job.release is not None else replace(job, release=release)


def settle(job: Job, chain: ChainState, *, by_proof: bool, now: int) -> Job:
    """The escrow closed the job, by whomever: its word is final whatever we thought."""
    if chain in (ChainState.NONE, ChainState.FUNDED):
        _refuse("W-job-state", job, f"the escrow says {chain.name}")
    if chain is ChainState.RELEASED:
        state = JobState.CLOSED_BY_PROOF if by_proof else JobState.CLOSED_BY_SIGNATURE
    else:
        state = _ENDINGS[chain]
    return replace(_free(job), state=state, changed_at=now)


def reopen(job: Job, *, proved: bool, now: int) -> Job:
    """A reorganisation undid the closing: back to where the work stands."""
    _require(job, *(CLOSED - {JobState.EXPIRED}))
    unproved = JobState.FAILED if job.failure else JobState.FUNDED
    state = JobState.PROVED if proved else unproved
    return replace(job, state=state, changed_at=now)


def _proved(job: Job, now: int) -> Job:
    return replace(_free(job), state=JobState.PROVED, failure=None, changed_at=now)


def _failed(job: Job, code: str, now: int, limits: Limits) -> Job:
    state = JobState.FAILED if job.attempts >= limits.attempts else JobState.FUNDED
    return replace(_free(job), state=state, failure=code, changed_at=now)


def _free(job: Job) -> Job:
    """The job without a holder: the fence rises, so that the old holder's next write is refused."""
    return replace(job, owner=None, lease_until=0, fence=job.fence + 1)


def _held(job: Job, fence: int) -> None:
    if job.state is not JobState.RUNNING or job.fence != fence:
        _refuse("W-job-fenced", job, f"{job.state}, token {job.fence}", expected=f"running under token {fence}")


def _require(job: Job, *states: JobState) -> None:
    if job.state not in states:
        _refuse("W-job-state", job, job.state, expected=" or ".join(sorted(states)))


_MESSAGES = {
    "W-job-busy": "another worker holds the job",
    "W-job-state": "the job is not in a state for this",
    "W-job-attempts": "the job was tried often enough",
    "W-job-late": "the deadline is too near",
    "W-job-fenced": "the job is no longer this worker's",
}


def _refuse(code: str, job: Job, found: str, *, expected: str = "") -> NoReturn:
    raise ServiceError(code, _MESSAGES[code], where=f"job {job.job_id}", expected=expected, found=found)
