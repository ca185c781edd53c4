"""Watches every open job and does the next thing with it: enqueue, retry, close, decline. The broker may lose anything.

One process at a time sweeps, by a role in the database; a second one stands by. What to do is decided by
`workers.jobs.next_step`; here it is done, and each thing may be done twice without harm: the escrow is the only
exactly-once.
"""

from __future__ import annotations

import os
import socket
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import structlog

from verifier.bundles import parse_bundle
from verifier.errors import OpgateError, ServiceError
from verifier.instances import calldata, claimed_words
from verifier.payment.states import JobState as ChainState
from workers import jobs
from workers.jobs import Job, Step

if TYPE_CHECKING:
    from collections.abc import Callable
    from threading import Event

    from verifier.statement.evidence import ChainEvidence
    from workers.limits import Limits
    from workers.ports import Broker, EscrowClient
    from workers.records import Ending, ProviderArchive
    from workers.store import Store

log = structlog.get_logger("opgate.sweeper")

ROLE = "sweeper"
SWEPT = "sweep"
CANARY = "canary"
CANARY_SENT = "canary_sent"
_ENDINGS: dict[ChainState, Ending] = {
    ChainState.RELEASED: "settled",
    ChainState.RECLAIMED: "reclaimed",
    ChainState.DECLINED: "declined",
    ChainState.CANCELLED: "cancelled",
}


def process_name() -> str:
    """Who holds a role or a lease: machine and process."""
    return f"{socket.gethostname()}:{os.getpid()}"


@dataclass(frozen=True, kw_only=True)
class Sweeper:
    """Everything a sweep needs; `clock` gives Unix seconds."""

    store: Store
    escrow: EscrowClient
    broker: Broker
    archive: ProviderArchive
    limits: Limits
    clock: Callable[[], int]
    owner: str = field(default_factory=process_name)
    at_once: int = 1

    def run(self, stop: Event) -> None:
        """Sweep until told to stop. A failure is logged and the next sweep tries again."""
        while not stop.is_set():
            try:
                self.sweep()
            except OpgateError as error:
                log.warning("sweep failed", code=error.code, error=str(error)[:500])
            except Exception:  # the loop that pays must outlive a bug in one pass
                log.exception("sweep failed", code="W-sweep-internal")
            stop.wait(self.limits.sweep)

    def sweep(self) -> Counter[Step]:
        """One pass over all open jobs, the nearest deadline first; empty where another process has the role.

        A job whose step fails is logged and left for the next pass, and does not hold up the others.
        """
        now = self.clock()
        done: Counter[Step] = Counter()
        if not self.store.hold_role(ROLE, self.owner, now=now, until=now + self.limits.role):
            return done
        empty = self._queue_empty()
        watched = self.store.watched(now=now, recheck=self.limits.recheck)
        with ThreadPoolExecutor(self.at_once, thread_name_prefix=ROLE) as pool:
            for steps in pool.map(lambda job: self._try_to_advance(job, queue_empty=empty), watched):
                done.update(steps)
        self._send_owed()
        self._send_canary()
        self.store.forget_sent(before=now - self.limits.recheck)
        self.store.mark(SWEPT, now=self.clock())
        return done

    def _try_to_advance(self, job: Job, *, queue_empty: bool) -> list[Step]:
        try:
            return self._advance(job, queue_empty=queue_empty)
        except OpgateError as error:
            log.warning("step failed", job_id=str(job.job_id), code=error.code, error=str(error)[:500])
            return []

    def _advance(self, job: Job, *, queue_empty: bool) -> list[Step]:
        """Steps until there is nothing more to do; one that comes twice waits for the next pass."""
        if job.domain != self.escrow.domain:
            raise ServiceError(
                "W-job-escrow",
                "the job is at another escrow than this provider is set to",
                expected=str(job.domain.verifying_contract),
                found=str(self.escrow.domain.verifying_contract),
                do="Set OPGATE_ESCROW and OPGATE_RPC_URL back until it is closed",
            )
        done: list[Step] = []
        while True:
            chain = self.escrow.state(job.job_id)
            now = max(self.clock(), self.escrow.now())
            step = jobs.next_step(job, chain, now=now, limits=self.limits, queue_empty=queue_empty)
            if step is Step.WAIT or step in done:
                return done or [Step.WAIT]
            log.info("step", job_id=str(job.job_id), state=job.state.value, chain=chain.name, step=step.value)
            self._do(step, job, chain, now)
            done.append(step)
            job = self.store.job(job.job_id) or job

    def _do(self, step: Step, job: Job, chain: ChainState, now: int) -> None:  # noqa: C901, PLR0912 - one case a step
        change, job_id, limits = self.store.change, job.job_id, self.limits
        match step:
            case Step.WAIT:
                pass
            case Step.FUND:
                change(job_id, lambda row: jobs.fund(row, now=now))
            case Step.UNFUND:
                change(job_id, lambda row: jobs.unfund(row, now=now))
            case Step.EXPIRE:
                change(job_id, lambda row: jobs.expire(row, now=now))
            case Step.ENQUEUE:
                self.store.enqueue(job_id, now=now)
            case Step.LAPSE:
                change(job_id, lambda row: jobs.lapse(row, now=now, limits=limits))
            case Step.GIVE_UP:
                change(job_id, lambda row: jobs.give_up(row, "W-job-late", now=now))
            case Step.RELEASE:
                if job.release is not None:
                    self.escrow.release(job.terms, job.release)
            case Step.PROVE:
                self.escrow.release_by_proof(job.terms, self._calldata(job))
            case Step.DECLINE:
                self.escrow.decline(job.terms)
            case Step.SETTLE:
                self._settle(job, chain, now)
            case Step.REOPEN:
                proved = self.store.bundle(job_id) is not None
                change(job_id, lambda row: jobs.reopen(row, proved=proved, now=now))

    def _settle(self, job: Job, chain: ChainState, now: int) -> None:
        """The ending is archived first: after a crash in between it is archived twice, never not at all."""
        by_proof = chain is ChainState.RELEASED and self.escrow.closed_by_proof(job.job_id)
        bundle = self.store.bundle(job.job_id)
        self.archive.keep_ending(
            job,
            _ENDINGS[chain],
            bundle=None if bundle is None else bundle.body,
            evidence=self._evidence(job, now),
            now=now,
        )
        self.store.change(job.job_id, lambda row: jobs.settle(row, chain, by_proof=by_proof, now=now))

    def _evidence(self, job: Job, now: int) -> dict[str, ChainEvidence]:
        """Evidence that cannot be had is asked for again until the deadline; then the ending is archived without."""
        try:
            return self.escrow.evidence(job.job_id)
        except OpgateError as error:
            if now < job.terms.deadline:
                raise
            log.warning("no evidence", job_id=str(job.job_id), code=error.code)
            return {}

    def _calldata(self, job: Job) -> bytes:
        stored = self.store.bundle(job.job_id)
        if stored is None:
            raise ServiceError("W-bundle-missing", "a proved job has no bundle", where=f"job {job.job_id}")
        bundle = parse_bundle(stored.body, where="stored bundle")
        return calldata(bundle.proof, claimed_words(bundle))

    def _queue_empty(self) -> bool:
        try:
            return self.broker.depth() == 0
        except ServiceError as error:
            log.warning("broker silent", code=error.code, error=str(error)[:300])
            return False

    def _send_owed(self) -> None:
        for message in self.store.unsent():
            try:
                self.broker.send(message)
            except ServiceError as error:
                log.warning("message kept", message_id=message.message_id, code=error.code)
                return
            self.store.mark_sent(message.message_id, now=self.clock())

    def _send_canary(self) -> None:
        """Ask for a sign of life every quarter of T, each dropped by the broker before the next one is due."""
        now, pause = self.clock(), max(5, self.limits.job // 4)
        if now - (self.store.marked(CANARY_SENT) or 0) < pause:
            return
        try:
            self.broker.send_canary(expires=pause)
        except ServiceError as error:
            log.warning("no canary", code=error.code)
            return
        self.store.mark(CANARY_SENT, now=now)
