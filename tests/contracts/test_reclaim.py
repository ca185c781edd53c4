"""reclaim: from the deadline on the money goes back to the payer, whoever calls and whatever else fails."""

from __future__ import annotations

from typing import TYPE_CHECKING

import boa
import pytest

if TYPE_CHECKING:
    from tests.contracts.conftest import World

AMOUNT = 3 * 10**18


@pytest.mark.parametrize("caller", ["payer", "provider", "payee", "stranger"])
def test_anyone_calls_and_the_payer_is_paid(world: World, caller: str) -> None:
    terms = world.funded()
    world.at(terms["deadline"])
    by = world.keys[caller].address
    sent = world.send("reclaim", terms, by=by)
    assert sent.reason is None
    assert world.state(terms) == 3
    assert world.balance(world.payer) == 1000 * AMOUNT
    assert world.balance(world.escrow.address) == 0
    assert ("Reclaimed", {"job_id": world.job_id(terms), "by": by.lower()}) in sent.events


@pytest.mark.parametrize(
    ("offset", "reclaimed", "released"), [(-1, "early", None), (0, None, "late"), (1, None, "late")]
)
def test_no_instant_admits_a_release_and_a_reclaim(
    world: World, offset: int, reclaimed: str | None, released: str | None
) -> None:
    terms = world.funded()
    call = world.call(terms)
    world.at(terms["deadline"] + offset)
    with boa.env.anchor():
        assert world.send("reclaim", terms).reason == reclaimed
    assert world.send("release_by_proof", terms, call).reason == released


def test_once_and_only_what_was_funded(world: World) -> None:
    terms, other = world.funded(), world.funded(salt=b"\x02" * 32)
    world.at(terms["deadline"])
    never = world.terms(salt=b"\x03" * 32, deadline=world.now - 1)
    assert world.send("reclaim", never).reason == "state"
    assert world.send("reclaim", terms).reason is None
    for changed in (terms, terms | {"payer": world.stranger}, other | {"amount": 2 * AMOUNT}):
        assert world.send("reclaim", changed).reason == "state"
    assert world.balance(world.escrow.address) == AMOUNT


def test_the_other_ways_are_shut_afterwards(world: World) -> None:
    terms = world.funded()
    world.funded(salt=b"\x02" * 32)
    call, signature = world.call(terms), world.release_sig(terms, bytes(32))
    world.at(terms["deadline"])
    assert world.send("reclaim", terms).reason is None
    world.at(terms["deadline"] - 1)  # a reorganisation may move time back
    assert world.send("release", terms, bytes(32), signature).reason == "state"
    assert world.send("release_by_proof", terms, call).reason == "state"
    assert world.send("decline", terms, by=world.provider).reason == "state"


def test_it_needs_no_verifier_and_no_provider(world: World) -> None:
    terms = world.funded(verifier="burns-gas")
    boa.env.set_code(terms["rule"]["verifier"], b"")
    world.at(terms["deadline"])
    assert world.send("reclaim", terms, gas=200_000).reason is None


@pytest.mark.parametrize(
    ("trick", "reason"),
    [
        ("fee", None),
        ("gift", None),
        ("silent", None),
        ("no-move", "refund"),
        ("no-move-silent", "refund"),
        ("says-false", "refund"),
        ("false-but-moves", "refund"),
        ("fee-on-top", "refund"),
        ("paused", "paused"),
        ("blacklist", "blacklisted"),
    ],
)
def test_only_this_side_is_compared(hostile: World, trick: str, reason: str | None) -> None:
    """A token that begins to charge the receiver must not keep the payer's money here; other tricks can be retried."""
    terms = hostile.funded()
    hostile.funded(salt=b"\x02" * 32)
    hostile.token.misbehave(trick, hostile.payer, b"")
    hostile.at(terms["deadline"])
    assert hostile.send("reclaim", terms).reason == reason
    assert hostile.state(terms) == (3 if reason is None else 1)
    hostile.token.misbehave("", hostile.payer, b"")
    assert hostile.send("reclaim", terms).reason == (None if reason else "state")
    assert hostile.balance(hostile.escrow.address) == AMOUNT


def test_a_refund_cannot_be_entered_again(hostile: World) -> None:
    terms, other = hostile.funded(), hostile.funded(salt=b"\x02" * 32)
    hostile.at(terms["deadline"])
    for again in (terms, other):
        with boa.env.anchor():
            hostile.token.misbehave("reenter", hostile.escrow.address, hostile.payload("reclaim", again))
            assert hostile.send("reclaim", terms).reason is None
            assert hostile.token.tried() == 1
            assert not hostile.token.reentered()
            assert hostile.balance(hostile.payer) == 999 * AMOUNT
