"""The rules of a job, every state against every event; no database, no clock."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from typing import TYPE_CHECKING

import pytest

from tests.workers.shop import make_shop
from verifier.errors import ServiceError
from verifier.payment.states import JobState as ChainState
from workers import jobs
from workers.jobs import CLOSED, OPEN, Job, JobState, Step, next_step
from workers.limits import Limits

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.workers.shop import Shop

LIMITS = Limits.derive(40)
S, C = JobState, ChainState


@pytest.fixture(scope="module")
def one_shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    made = make_shop(tmp_path_factory.mktemp("rules") / "home")
    yield made
    made.store.close()


@pytest.fixture(scope="module")
def job(one_shop: Shop) -> Job:
    return one_shop.accepted(deadline_in=500)


ALLOWED: dict[str, tuple[Callable[[Job], Job], set[JobState]]] = {
    "fund": (lambda job: jobs.fund(job, now=1), {S.ACCEPTED, S.EXPIRED}),
    "unfund": (lambda job: jobs.unfund(job, now=1), {S.FUNDED, S.QUEUED}),
    "expire": (lambda job: jobs.expire(job, now=1), {S.ACCEPTED, S.FAILED}),
    "enqueue": (lambda job: jobs.enqueue(job, now=1), {S.FUNDED, S.QUEUED}),
    "claim": (lambda job: jobs.claim(job, "w", now=1, limits=LIMITS), {S.FUNDED, S.QUEUED, S.RUNNING}),
    "renew": (lambda job: jobs.renew(job, job.fence, now=1, limits=LIMITS), {S.RUNNING}),
    "prove": (lambda job: jobs.prove(job, job.fence, now=1), {S.RUNNING}),
    "deliver": (lambda job: jobs.deliver(job, now=1), {S.FUNDED, S.QUEUED, S.RUNNING}),
    "fail": (lambda job: jobs.fail(job, job.fence, "X", now=1, limits=LIMITS), {S.RUNNING}),
    "lapse": (lambda job: jobs.lapse(job, now=1, limits=LIMITS), {S.RUNNING}),
    "give_up": (lambda job: jobs.give_up(job, "X", now=1), {S.ACCEPTED, S.FUNDED, S.QUEUED, S.RUNNING}),
    "reopen": (lambda job: jobs.reopen(job, proved=True, now=1), set(CLOSED) - {S.EXPIRED}),
    "settle": (lambda job: jobs.settle(job, C.RELEASED, by_proof=True, now=1), set(JobState)),
}


@pytest.mark.parametrize(("event", "state"), list(product(ALLOWED, JobState)))
def test_each_event_moves_only_the_states_that_it_starts_from(job: Job, event: str, state: JobState) -> None:
    rule, allowed = ALLOWED[event]
    before = replace(job, state=state)
    if state in allowed:
        assert rule(before).fence >= before.fence
    else:
        with pytest.raises(ServiceError) as refused:
            rule(before)
        assert refused.value.code in {"W-job-state", "W-job-fenced"}


def test_states_are_open_or_closed() -> None:
    assert not OPEN & CLOSED
    assert set(JobState) == OPEN | CLOSED


def test_a_stale_token_writes_nothing(job: Job) -> None:
    """The trap: a worker sleeps through its lease, another takes the job, the first wakes up with a bundle."""
    first = jobs.claim(replace(job, state=S.QUEUED), "first", now=100, limits=LIMITS)
    second = jobs.claim(first, "second", now=100 + LIMITS.lease + 1, limits=LIMITS)
    for rule in (
        lambda: jobs.prove(second, first.fence, now=200),
        lambda: jobs.fail(second, first.fence, "X", now=200, limits=LIMITS),
        lambda: jobs.renew(second, first.fence, now=200, limits=LIMITS),
    ):
        with pytest.raises(ServiceError, match="W-job-fenced"):
            rule()
    assert jobs.prove(second, second.fence, now=200).state is S.PROVED


def test_a_live_lease_is_not_taken_over(job: Job) -> None:
    held = jobs.claim(replace(job, state=S.QUEUED), "first", now=100, limits=LIMITS)
    with pytest.raises(ServiceError, match="W-job-busy"):
        jobs.claim(held, "second", now=100 + LIMITS.lease, limits=LIMITS)
    with pytest.raises(ServiceError, match="W-job-busy"):
        jobs.lapse(held, now=100 + LIMITS.lease, limits=LIMITS)


def test_attempts_end_at_the_cap(job: Job) -> None:
    """The trap: Celery counts no attempts, so a job that kills its worker would come back for ever."""
    current = replace(job, state=S.QUEUED)
    for attempt in range(LIMITS.attempts):
        current = jobs.claim(current, "w", now=100, limits=LIMITS)
        current = jobs.fail(current, current.fence, "C-x", now=100, limits=LIMITS)
        assert current.state is (S.FAILED if attempt == LIMITS.attempts - 1 else S.FUNDED)
    with pytest.raises(ServiceError, match="W-job-state"):
        jobs.claim(current, "w", now=100, limits=LIMITS)


def test_no_attempt_begins_within_the_margin(job: Job) -> None:
    with pytest.raises(ServiceError, match="W-job-late"):
        jobs.claim(replace(job, state=S.QUEUED), "w", now=job.terms.deadline - LIMITS.margin, limits=LIMITS)


def test_what_was_given_up_is_not_worked_on_when_it_is_funded_late(job: Job) -> None:
    given_up = jobs.expire(jobs.give_up(job, "W-declined", now=1), now=2)
    assert jobs.fund(given_up, now=3).state is S.FAILED


def step(job: Job, state: JobState, chain: ChainState, at: int = 0, **changes: object) -> Step:
    empty = bool(changes.pop("queue_empty", False))
    changed = replace(job, state=state, **changes)  # type: ignore[arg-type]  # fields of Job by name
    return next_step(changed, chain, now=at or job.changed_at, limits=LIMITS, queue_empty=empty)


@pytest.mark.parametrize(
    ("state", "chain"), list(product(JobState, [C.RELEASED, C.RECLAIMED, C.DECLINED, C.CANCELLED]))
)
def test_the_chain_is_right_about_every_ending(job: Job, state: JobState, chain: ChainState) -> None:
    """Whatever the row says, it is settled to what the escrow says, and then left alone."""
    found = step(job, state, chain)
    if found is Step.SETTLE:
        settled = jobs.settle(replace(job, state=state), chain, by_proof=False, now=1)
        assert step(job, settled.state, chain) is Step.WAIT
    else:
        assert state in CLOSED


@pytest.mark.parametrize("state", sorted(set(CLOSED) - {S.EXPIRED}))
def test_a_reorganisation_opens_a_closed_job(job: Job, state: JobState) -> None:
    assert step(job, state, C.FUNDED) is Step.REOPEN


def test_nothing_is_worked_on_before_it_is_funded(job: Job) -> None:
    for state in JobState:
        assert step(job, state, C.NONE) in {Step.WAIT, Step.UNFUND}
    late = job.terms.fund_by + LIMITS.margin + 1
    assert step(job, S.ACCEPTED, C.NONE, late) is Step.EXPIRE
    assert step(job, S.EXPIRED, C.FUNDED) is Step.FUND


def test_a_proved_job_is_closed_by_proof_even_where_a_release_was_promised(job: Job, one_shop: Shop) -> None:
    """The trap: a promised signature that is submitted and never mined would leave the provider unpaid."""
    release = one_shop.release(job)
    last = job.terms.deadline - LIMITS.margin
    assert step(job, S.PROVED, C.FUNDED, last - 1) is Step.WAIT
    assert step(job, S.PROVED, C.FUNDED, last - 1, release=release) is Step.RELEASE
    assert step(job, S.PROVED, C.FUNDED, last, release=release) is Step.PROVE
    assert step(job, S.PROVED, C.FUNDED, last) is Step.PROVE
    assert step(job, S.PROVED, C.FUNDED, int(job.terms.deadline)) is Step.WAIT


def test_an_unproved_job_is_given_up_at_the_margin_and_declined(job: Job) -> None:
    last = job.terms.deadline - LIMITS.margin
    assert step(job, S.FUNDED, C.FUNDED, last) is Step.GIVE_UP
    assert step(job, S.QUEUED, C.FUNDED, last) is Step.GIVE_UP
    assert step(job, S.RUNNING, C.FUNDED, last + LIMITS.margin // 2 + 1) is Step.GIVE_UP
    assert step(job, S.FAILED, C.FUNDED, last) is Step.DECLINE


def test_a_lost_message_is_sent_again_and_a_waiting_one_is_not(job: Job) -> None:
    soon = job.changed_at + LIMITS.requeue
    assert step(job, S.QUEUED, C.FUNDED, soon, queue_empty=True) is Step.ENQUEUE
    assert step(job, S.QUEUED, C.FUNDED, soon, queue_empty=False) is Step.WAIT
    assert step(job, S.QUEUED, C.FUNDED, job.changed_at + LIMITS.job, queue_empty=False) is Step.ENQUEUE


def test_limits_are_in_their_order() -> None:
    """The trap: a visibility timeout below the hard limit makes Redis hand a running job to a second worker."""
    for seconds in (10, 20, 60, 300, 3600, 86_400):
        limits = Limits.derive(seconds)
        assert limits.heartbeat * 3 < limits.lease <= limits.child < limits.soft < limits.job < limits.visibility
        assert limits.sweep * 3 < limits.role < limits.margin
        assert limits.min_seconds - limits.min_seconds // 2 >= limits.work_seconds
    for wrong in (9, 86_401):
        with pytest.raises(ServiceError, match="W-config-job-seconds"):
            Limits.derive(wrong)
