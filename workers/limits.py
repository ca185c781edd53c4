"""Every time limit of the provider's service, derived from one number, so that no two can contradict each other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from verifier.errors import ServiceError

MIN_JOB_SECONDS = 10
MAX_JOB_SECONDS = 86_400


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Seconds, all derived from `job`, the hard limit T of one attempt at one job; and the attempt cap.

    Attributes:
        job: T, after which the worker's process is killed.
        soft: 0.9 T, when the task is told to stop.
        child: 0.8 T, when the task ends the prover process itself, so that the two above are never needed.
        lease: how long a claim holds without a sign of life; a dead worker's job is free again after it.
        heartbeat: how often a working task renews its lease: three may be missed before the lease lapses.
        sweep: pause between two passes of the sweeper.
        role: how long a sweeper that died keeps its role; below the margin, or a deadline could pass meanwhile.
        requeue: how long a queued job may wait while the broker is empty before its message counts as lost.
        visibility: the broker hands a message out again after this; above T, or long jobs would run twice.
        margin: how long before the deadline the provider stops waiting for a signature and closes by proof.
        recheck: how long a closed job is still watched, in case a reorganisation of the chain undoes the closing.
        attempts: how often a job is tried before it is declined.
    """

    job: int
    soft: int
    child: int
    lease: int
    heartbeat: float
    sweep: float
    role: int
    requeue: int
    visibility: int
    margin: int
    recheck: int
    attempts: int

    @classmethod
    def derive(cls, job: int, *, attempts: int = 3) -> Self:
        """The limits that follow from T seconds; W-config-job-seconds or W-config-attempts where out of range."""
        if not MIN_JOB_SECONDS <= job <= MAX_JOB_SECONDS:
            raise ServiceError(
                "W-config-job-seconds",
                "the hard limit of a job is out of range",
                where="OPGATE_JOB_SECONDS",
                expected=f"{MIN_JOB_SECONDS} to {MAX_JOB_SECONDS}",
                found=str(job),
            )
        if not 1 <= attempts <= 10:
            raise ServiceError(
                "W-config-attempts",
                "the attempt cap is out of range",
                where="OPGATE_ATTEMPTS",
                expected="1 to 10",
                found=str(attempts),
            )
        lease = max(4, min(job // 6, 60))
        sweep = max(0.5, min(job / 30, 5.0))
        return cls(
            job=job,
            soft=job * 9 // 10,
            child=job * 8 // 10,
            lease=lease,
            heartbeat=lease / 4,
            sweep=sweep,
            role=max(5, int(4 * sweep)),
            requeue=max(2, job // 20),
            visibility=2 * job + 60,
            margin=max(8, min(job // 4, 300)),
            recheck=max(60, job),
            attempts=attempts,
        )

    @property
    def work_seconds(self) -> int:
        """The least time between the last moment of funding and the deadline: one attempt, and the margin."""
        return self.job + self.margin

    @property
    def min_seconds(self) -> int:
        """The least time to the deadline that a quote asks for: as long again, so that there is time for funding."""
        return 2 * self.work_seconds
