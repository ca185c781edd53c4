"""What the machine draws: jobs and how they begin, the token's tricks, and what its model knows of a job."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

from hypothesis import strategies as st

NONE, FUNDED, RELEASED, RECLAIMED, DECLINED, CANCELLED = range(6)
HONEST = "accept"
KINDS = [HONEST] * 20 + ["reject", "two", "31-bytes", "64-bytes", "33-bytes", "nothing", "reverts-with-1", "burns-gas"]
"""Of verifiers; one that never says 1 in 32 bytes pays nobody."""
TRICKS = [""] * 18
TRICKS += ["no-move", "says-false", "fee", "fee-on-top", "gift", "paused", "blacklist", "silent"]
CERTAIN = {"", "silent", "reenter"}
"""Tricks under which what is right has to succeed all the same."""
CHEATS = [
    "no-move",
    "no-move-silent",
    "says-false",
    "false-but-moves",
    "fee",
    "fee-on-top",
    "gift",
    "blacklist",
    "paused",
]
AMOUNTS = [1, 3, 10**18]
PARTIES = ["payer", "provider", "payee", "stranger"]
PEOPLE = st.sampled_from(PARTIES)
SHOWN = b"\x1a" * 32
AT = st.integers(0, 9)
"""Which job: mostly one of those from whose state the call may lead somewhere, see `pick`."""


@dataclass
class Job:
    """What the model knows of a job: its terms, where it stands, and which words were given on it."""

    terms: dict[str, Any]
    kind: str
    wallet: bool
    state: int = NONE
    nonce: int = 0
    code_kept: bool = True


class NewJob(NamedTuple):
    """How a job begins: seconds to fund and then to prove, and whether it is funded at once."""

    kind: str
    amount: int
    fund_in: int
    prove_in: int
    wallet: bool
    funded: str


FUNDINGS = ["by allowance", "by a permit", "by Permit2", "after false words", "not yet", "not yet"]
NEW = st.builds(
    NewJob,
    kind=st.sampled_from(KINDS),
    amount=st.sampled_from(AMOUNTS),
    fund_in=st.integers(5, 40),
    prove_in=st.integers(1, 40),
    wallet=st.booleans(),
    funded=st.sampled_from(FUNDINGS),
)
