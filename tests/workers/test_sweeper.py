"""The sweeper against a simulated escrow: paid by signature, by proof, late, declined, reorganised, broker lost."""

from __future__ import annotations

import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from msgspec.structs import replace as with_fields

from prover.run import Request
from tests.workers.shop import stub
from verifier.archive.log import Archive
from verifier.errors import ServiceError
from verifier.payment.states import JobState as ChainState
from verifier.statement import canonical
from verifier.statement.scalars import Count
from workers import jobs
from workers.health import examine
from workers.jobs import JobState, Step
from workers.prover_process import run_prover
from workers.workshop import keep_valid

if TYPE_CHECKING:
    from tests.simulators.escrow import SimulatedEscrow
    from tests.workers.shop import Shop
    from verifier.statement.terms import JobTerms, SignedRelease
    from workers.jobs import Job


def work(shop: Shop, job: Job, *words: str) -> str:

    shop.broker.waiting.clear()
    return shop.workshop(*stub(*words)).attempt(job.job_id, owner="w")


def kinds(shop: Shop, job: Job) -> list[str]:
    archive = Archive.open(shop.settings.archive_folder)
    return [entry.kind for _, entry in archive.entries() if entry.job_id == job.job_id]


def test_a_funded_job_is_proved_and_closed_by_the_payers_release(shop: Shop) -> None:
    job = shop.accepted()
    assert shop.sweeper().sweep()[Step.WAIT] == 1
    shop.escrow.fund(job.terms)
    shop.sweeper().sweep()
    shop.sweeper().sweep()
    assert [message.job_id for message in shop.broker.waiting] == [job.job_id]
    assert work(shop, job) == "proved"
    shop.store.change(job.job_id, lambda row: jobs.promise(row, shop.release(job)))
    shop.sweeper().sweep()
    shop.sweeper().sweep()
    assert shop.escrow.calls == ["fund", "release"]
    assert shop.now(job).state is JobState.CLOSED_BY_SIGNATURE
    assert kinds(shop, job) == ["intent", "settled"]


def test_a_silent_payer_is_closed_by_proof_at_the_margin(shop: Shop) -> None:
    job = shop.queued(deadline_in=200)
    assert work(shop, job) == "proved"
    shop.pass_time(200 - shop.settings.limits.margin - 1)
    shop.sweeper().sweep()
    assert shop.escrow.calls == ["fund"]
    shop.pass_time(1)
    shop.sweeper().sweep()
    shop.sweeper().sweep()
    assert shop.escrow.state(job.job_id) is ChainState.RELEASED
    assert shop.now(job).state is JobState.CLOSED_BY_PROOF


def test_a_release_that_somebody_else_submitted_is_success(shop: Shop) -> None:
    job = shop.queued()
    work(shop, job)
    release = shop.release(job)
    shop.store.change(job.job_id, lambda row: jobs.promise(row, release))
    shop.escrow.release(job.terms, release)
    shop.sweeper().sweep()
    assert shop.escrow.calls == ["fund", "release"]
    assert shop.now(job).state is JobState.CLOSED_BY_SIGNATURE


def test_a_job_that_always_fails_is_refunded_at_once(shop: Shop) -> None:
    """The trap: the payer's money stays locked until the deadline, for a job that nobody works on any more."""
    job = shop.queued()
    for _ in range(shop.settings.limits.attempts):
        assert work(shop, job, "--fail") == "W-prover-refused"
        shop.sweeper().sweep()
    assert shop.escrow.calls == ["fund", "decline"]
    shop.sweeper().sweep()
    assert shop.now(job).state is JobState.DECLINED
    assert shop.now(job).attempts == shop.settings.limits.attempts
    assert kinds(shop, job) == ["declined"]


def test_a_prover_that_dies_or_lies_is_a_failed_attempt(shop: Shop) -> None:
    job = shop.queued()
    assert work(shop, job, "--die") == "W-prover-died"
    shop.sweeper().sweep()
    assert work(shop, job, "--wrong") == "V3-delivery"
    assert shop.store.bundle(job.job_id) is None
    shop.sweeper().sweep()
    assert work(shop, job) == "proved"


def test_a_prover_that_never_ends_is_killed(shop: Shop) -> None:

    folder = shop.settings.provider_home / "work" / "x"
    with pytest.raises(ServiceError, match="W-prover-wall"):
        run_prover(
            {},
            folder,
            wall_seconds=0.3,
            beat=lambda: None,
            beat_seconds=9,
            command=(sys.executable, "-c", "import time; time.sleep(99)"),
        )
    assert not folder.exists()


def test_the_request_is_the_provers_contract(shop: Shop) -> None:
    """The toy prover reads the same file as the real one: the real one's own type must take it."""

    job = shop.queued()
    kept = shop.settings.home / "request.json"
    copy = ("/bin/sh", "-c", f'cp "$0" {kept}')
    shop.workshop(*copy).attempt(job.job_id, owner="w")
    request = canonical.decode(Request, kept.read_bytes(), where="request")
    assert request.terms == job.terms
    assert Path(request.circuit_dir, "manifest.json").exists()
    assert Path(request.private_dir).name == "private"


def test_a_lost_message_is_sent_again(shop: Shop) -> None:
    """The trap: Redis evicts or loses the list, and the job waits for ever."""
    job = shop.queued()
    shop.broker.waiting.clear()
    shop.pass_time(shop.settings.limits.requeue)
    shop.sweeper().sweep()
    assert [message.job_id for message in shop.broker.waiting] == [job.job_id]


def test_a_silent_broker_holds_up_no_closing(shop: Shop) -> None:
    job = shop.queued(deadline_in=200)
    work(shop, job)
    waiting = shop.accepted()
    shop.escrow.fund(waiting.terms)
    shop.broker.down = True
    shop.pass_time(200 - shop.settings.limits.margin)
    for _ in range(3):
        shop.sweeper().sweep()
    assert shop.now(job).state is JobState.CLOSED_BY_PROOF
    shop.broker.down = False
    shop.sweeper().sweep()
    assert shop.broker.sent >= 1


def test_closings_at_one_deadline_are_under_way_together(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """The trap: each waits for its block before the next is sent, and the last ones come after the deadline."""
    closing = [shop.queued() for _ in range(4)]
    for job in closing:
        shop.service().deliver(job.job_id, shop.bundle(job))
        shop.service().release(job.job_id, canonical.encode(shop.release(job)))
    together = threading.Barrier(len(closing))
    release = type(shop.escrow).release

    def at_once(escrow: SimulatedEscrow, terms: JobTerms, signed: SignedRelease) -> None:
        together.wait(timeout=30)
        release(escrow, terms, signed)

    monkeypatch.setattr(type(shop.escrow), "release", at_once)
    done = shop.sweeper(at_once=len(closing)).sweep()
    assert done[Step.RELEASE] == done[Step.SETTLE] == len(closing)
    assert {shop.now(job).state for job in closing} == {JobState.CLOSED_BY_SIGNATURE}


def test_a_chain_that_fails_one_verb_is_asked_again(shop: Shop) -> None:
    job = shop.queued(deadline_in=200)
    work(shop, job)
    shop.pass_time(200 - shop.settings.limits.margin)
    shop.escrow.down = True
    shop.sweeper().sweep()
    assert shop.now(job).state is JobState.PROVED
    shop.escrow.down = False
    shop.sweeper().sweep()
    assert shop.escrow.state(job.job_id) is ChainState.RELEASED


def test_a_dead_workers_job_is_free_again_after_its_lease(shop: Shop) -> None:
    job = shop.queued()
    limits = shop.settings.limits
    shop.broker.waiting.clear()
    shop.store.change(job.job_id, lambda row: jobs.claim(row, "dead", now=shop.time, limits=limits))
    shop.pass_time(limits.lease + 1)
    shop.sweeper().sweep()
    assert shop.now(job).failure == "W-worker-lost"
    shop.sweeper().sweep()
    assert work(shop, job) == "proved"
    assert shop.now(job).attempts == 2


def test_duplicates_do_nothing(shop: Shop) -> None:
    job = shop.queued()
    assert work(shop, job) == "proved"
    first = shop.store.bundle(job.job_id)
    assert work(shop, job) == "W-job-state"
    assert shop.store.bundle(job.job_id) == first
    assert kinds(shop, job) == ["intent"]


def test_a_reorganisation_is_followed_both_ways(shop: Shop) -> None:
    job = shop.queued(deadline_in=200)
    shop.escrow.states.clear()
    shop.sweeper().sweep()
    assert shop.now(job).state is JobState.ACCEPTED
    shop.escrow.fund(job.terms)
    shop.sweeper().sweep()
    shop.sweeper().sweep()
    work(shop, job)
    shop.escrow.release(job.terms, shop.release(job))
    shop.sweeper().sweep()
    assert shop.now(job).state is JobState.CLOSED_BY_SIGNATURE
    shop.escrow.states[job.job_id] = ChainState.FUNDED
    shop.sweeper().sweep()
    assert shop.now(job).state is JobState.PROVED


def test_an_unfunded_job_expires_and_costs_nothing(shop: Shop) -> None:
    job = shop.accepted()
    shop.pass_time(61 + shop.settings.limits.margin)
    shop.sweeper().sweep()
    assert shop.now(job).state is JobState.EXPIRED
    assert shop.escrow.calls == []


def test_one_sweeper_at_a_time(shop: Shop) -> None:
    shop.accepted()
    assert shop.sweeper("a").sweep()
    assert not shop.sweeper("b").sweep()
    shop.pass_time(shop.settings.limits.margin + 1)
    assert shop.sweeper("b").sweep()


def test_a_bundle_for_another_job_is_kept_by_none(shop: Shop) -> None:

    one, other = shop.queued(), shop.queued()
    with pytest.raises(ServiceError, match="W-bundle-job"):
        keep_valid(shop.workshop(), one, shop.bundle(other), rule=lambda row: row)


def test_health_says_what_is_wrong_in_words(shop: Shop) -> None:
    def words() -> str:
        found = examine(
            store=shop.store, broker=shop.broker, escrow=shop.escrow, limits=shop.settings.limits, now=shop.time
        )
        return "; ".join(found.wrong)

    assert "none has taken a canary" in words()
    assert "sweeper" in words()
    shop.store.mark("canary", now=shop.time)
    shop.sweeper().sweep()
    assert words() == ""
    shop.pass_time(2 * shop.settings.limits.job + 1)
    assert "no canary came back" in words()
    shop.broker.down = shop.escrow.down = True
    assert "W-broker" in words()
    assert "E-rpc-unreachable" in words()


def test_an_ending_waits_for_its_evidence_until_the_deadline(shop: Shop) -> None:
    """The trap: a node that is silent for a moment would leave the archive without what an audit needs."""
    job = shop.queued(deadline_in=200)
    work(shop, job)
    shop.escrow.release(job.terms, shop.release(job))
    shop.escrow.down = True
    shop.sweeper().sweep()
    assert shop.now(job).state is JobState.PROVED
    shop.pass_time(200)
    shop.sweeper().sweep()
    assert shop.now(job).state is JobState.CLOSED_BY_SIGNATURE
    assert kinds(shop, job) == ["intent", "settled"]


def test_a_job_of_another_escrow_is_named_and_holds_up_no_other(shop: Shop) -> None:
    """A provider set to another escrow would otherwise ask there, hear NONE, and never close what it proved."""
    mine = shop.queued()
    sweeper = shop.sweeper()
    foreign = replace(mine, domain=with_fields(mine.domain, chain_id=Count(1)))
    with pytest.raises(ServiceError, match="W-job-escrow"):
        sweeper._advance(foreign, queue_empty=True)
    assert sweeper._advance(shop.now(mine), queue_empty=False) == [Step.WAIT]
