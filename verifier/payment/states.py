"""The states of a job in the escrow and the moves between them, as a pure function of state, verb and time.

It mirrors `escrow.vy`, which alone decides; clients ask here before they spend gas. No chain, signature or proof is
known here: that a move is allowed says nothing about who may make it or with which evidence.
"""

from __future__ import annotations

import enum

from verifier.errors import EscrowError


class JobState(enum.IntEnum):
    """What ``state(job_id)`` answers; the numbers are the contract's and never change."""

    NONE = 0
    FUNDED = 1
    RELEASED = 2
    RECLAIMED = 3
    DECLINED = 4
    CANCELLED = 5

    @property
    def is_final(self) -> bool:
        """True where no verb leads out of this state."""
        return self not in {JobState.NONE, JobState.FUNDED}


class Verb(enum.Enum):
    """The moves; both ways to fund and both ways to release are one move each."""

    FUND = "fund"
    CANCEL = "cancel"
    RELEASE = "release"
    RECLAIM = "reclaim"
    DECLINE = "decline"


_MOVES = {
    Verb.FUND: (JobState.NONE, JobState.FUNDED),
    Verb.CANCEL: (JobState.NONE, JobState.CANCELLED),
    Verb.RELEASE: (JobState.FUNDED, JobState.RELEASED),
    Verb.RECLAIM: (JobState.FUNDED, JobState.RECLAIMED),
    Verb.DECLINE: (JobState.FUNDED, JobState.DECLINED),
}


def advance(state: JobState, verb: Verb, *, timestamp: int, fund_by: int, deadline: int) -> JobState:
    """The state after a verb in a block of this time; the reasons are the contract's.

    Args:
        state: before the call.
        verb: what is called.
        timestamp: of the block that includes the call, in Unix seconds.
        fund_by: of the terms: funding needs timestamp < fund_by.
        deadline: of the terms: a release needs timestamp < deadline, a reclaim timestamp >= deadline.

    Raises:
        EscrowError: E-state where the verb does not start from this state, E-fund-by, E-late or E-early where the
            time is wrong for it.
    """
    start, end = _MOVES[verb]
    if state is not start:
        raise EscrowError(
            "E-state",
            f"a job that is {state.name} has no {verb.value}",
            where="state",
            expected=start.name,
            found=state.name,
        )
    late = timestamp >= deadline
    if verb is Verb.FUND and timestamp >= fund_by:
        raise _untimely("E-fund-by", "the time to fund is over", f"before {fund_by}", timestamp)
    if verb is Verb.RELEASE and late:
        raise _untimely("E-late", "the deadline is reached: nothing is released", f"before {deadline}", timestamp)
    if verb is Verb.RECLAIM and not late:
        raise _untimely("E-early", "the deadline is not reached", f"{deadline} or later", timestamp)
    return end


def _untimely(code: str, message: str, expected: str, timestamp: int) -> EscrowError:
    return EscrowError(code, message, where="block time", expected=expected, found=str(timestamp))
