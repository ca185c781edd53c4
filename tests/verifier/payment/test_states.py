"""The pure states: every pair of state and verb, and the seconds around both limits."""

from __future__ import annotations

import itertools

import pytest

from verifier.errors import EscrowError
from verifier.payment.states import JobState, Verb, advance

FUND_BY, DEADLINE = 100, 200
ALLOWED = {
    (JobState.NONE, Verb.FUND): JobState.FUNDED,
    (JobState.NONE, Verb.CANCEL): JobState.CANCELLED,
    (JobState.FUNDED, Verb.RELEASE): JobState.RELEASED,
    (JobState.FUNDED, Verb.RECLAIM): JobState.RECLAIMED,
    (JobState.FUNDED, Verb.DECLINE): JobState.DECLINED,
}


def at(state: JobState, verb: Verb, timestamp: int) -> JobState:
    return advance(state, verb, timestamp=timestamp, fund_by=FUND_BY, deadline=DEADLINE)


@pytest.mark.parametrize(("state", "verb"), list(itertools.product(JobState, Verb)))
def test_only_five_moves_exist(state: JobState, verb: Verb) -> None:
    timestamp = DEADLINE if verb is Verb.RECLAIM else FUND_BY - 1
    expected = ALLOWED.get((state, verb))
    if expected is not None:
        assert at(state, verb, timestamp) is expected
        return
    with pytest.raises(EscrowError) as refusal:
        at(state, verb, timestamp)
    assert refusal.value.code == "E-state"
    assert refusal.value.found == state.name


@pytest.mark.parametrize(
    ("state", "verb", "timestamp", "code"),
    [
        (JobState.NONE, Verb.FUND, FUND_BY - 1, None),
        (JobState.NONE, Verb.FUND, FUND_BY, "E-fund-by"),
        (JobState.NONE, Verb.FUND, FUND_BY + 1, "E-fund-by"),
        (JobState.NONE, Verb.CANCEL, DEADLINE + 1, None),
        (JobState.FUNDED, Verb.RELEASE, DEADLINE - 1, None),
        (JobState.FUNDED, Verb.RELEASE, DEADLINE, "E-late"),
        (JobState.FUNDED, Verb.RELEASE, DEADLINE + 1, "E-late"),
        (JobState.FUNDED, Verb.RECLAIM, DEADLINE - 1, "E-early"),
        (JobState.FUNDED, Verb.RECLAIM, DEADLINE, None),
        (JobState.FUNDED, Verb.DECLINE, DEADLINE + 1, None),
    ],
)
def test_the_limits_to_the_second(state: JobState, verb: Verb, timestamp: int, code: str | None) -> None:
    if code is None:
        assert at(state, verb, timestamp) is ALLOWED[state, verb]
        return
    with pytest.raises(EscrowError) as refusal:
        at(state, verb, timestamp)
    assert refusal.value.code == code


def test_final_states_have_no_way_out() -> None:
    """Derived from the moves, not from the property's own list."""
    starts = {state for state, _ in ALLOWED}
    assert [state for state in JobState if state.is_final] == [state for state in JobState if state not in starts]
