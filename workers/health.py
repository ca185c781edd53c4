"""Whether the provider works, told in words: a canary came back lately, sweeps happen, nothing is stuck or unpaid."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from verifier.errors import OpgateError
from workers.jobs import JobState
from workers.sweeper import CANARY, SWEPT

if TYPE_CHECKING:
    from collections.abc import Callable

    from workers.limits import Limits
    from workers.ports import Broker, EscrowClient
    from workers.store import Store


T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Health:
    """What was found; `wrong` holds one sentence a problem and is empty where all is well."""

    wrong: tuple[str, ...]
    queue_depth: int | None
    canary_seconds: int | None
    jobs: dict[str, int]

    @property
    def ok(self) -> bool:
        """True where nothing is wrong."""
        return not self.wrong

    def to_json(self) -> dict[str, Any]:
        """As an object for machines."""
        return {
            "ok": self.ok,
            "wrong": list(self.wrong),
            "queue_depth": self.queue_depth,
            "canary_seconds": self.canary_seconds,
            "jobs": self.jobs,
        }


def examine(*, store: Store, broker: Broker, escrow: EscrowClient, limits: Limits, now: int) -> Health:
    """Look at database, broker, chain, worker and sweeper; a part that fails is a sentence, not an exception.

    A worker counts as alive where it took a canary or a job within twice the longest time that it may be busy: it can
    stay alive and stop consuming after the broker was away, so being a process is not enough.
    """
    wrong: list[str] = []
    try:
        canary, swept = store.marked(CANARY), store.marked(SWEPT)
        counts, unpaid = store.counts(), store.unpaid(now=now)
    except OpgateError as error:
        return Health(wrong=(f"database: {error}",), queue_depth=None, canary_seconds=None, jobs={})
    depth = _ask(wrong, "broker", broker.depth)
    _ask(wrong, "chain", escrow.check)
    if canary is None:
        wrong.append("worker: none has taken a canary yet; start one with: opgate worker")
    elif now - canary > 2 * limits.job and not counts.get(JobState.RUNNING):
        wrong.append(f"worker: no canary came back for {now - canary} s; restart it")
    if swept is None or now - swept > limits.margin:
        wrong.append(
            "sweeper: it did not run lately, so nothing is closed; look at opgate serve or opgate provider sweep"
        )
    if counts.get(JobState.FAILED):
        wrong.append(f"jobs: {counts[JobState.FAILED]} failed and wait for their refund")
    if unpaid:
        wrong.append(f"jobs: {unpaid} were proved and not paid before their deadline")
    return Health(
        wrong=tuple(wrong),
        queue_depth=depth,
        canary_seconds=None if canary is None else now - canary,
        jobs={state.value: number for state, number in counts.items()},
    )


def _ask(wrong: list[str], part: str, question: Callable[[], T]) -> T | None:
    try:
        return question()
    except OpgateError as error:
        wrong.append(f"{part}: {error}")
        return None
