"""release_many: many jobs by their payers' signatures; what would fail alone is skipped and blocks no other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import boa
import pytest

if TYPE_CHECKING:
    from tests.contracts.conftest import World

AMOUNT = 3 * 10**18
SHOWN = b"\x1a" * 32
Job = tuple[dict[str, Any], bytes, bytes]


def job(world: World, salt: int, *, by: str = "payer", **changes: Any) -> Job:
    terms = world.funded(salt=salt.to_bytes(32), **changes)
    return terms, SHOWN, world.release_sig(terms, SHOWN, by=by)


def test_every_good_item_is_released(world: World) -> None:
    jobs = [job(world, salt) for salt in range(5)]
    sent = world.release_many(jobs)
    assert sent.done == [True] * 5
    assert [world.state(terms) for terms, _, _ in jobs] == [2] * 5
    assert world.balance(world.payee) == 5 * AMOUNT
    released = [event for name, event in sent.events if name == "Released"]
    assert [event["job_id"] for event in released] == [world.job_id(terms) for terms, _, _ in jobs]
    assert {event["by"] for event in released} == {world.stranger.lower()}, "the caller, not the contract itself"


def test_one_bad_item_of_every_kind_blocks_no_other(world: World) -> None:
    good = [job(world, salt) for salt in range(3)]
    terms, _, signature = job(world, 10)
    unfunded = world.terms(salt=b"\x0b" * 32)
    late = world.terms(salt=b"\x0c" * 32, fund_by=world.now + 1, deadline=world.now + 2)
    assert world.fund(late).reason is None
    world.at(world.now + 2)
    bad: list[tuple[Job, str]] = [
        (good[0], "state"),
        ((unfunded, SHOWN, world.release_sig(unfunded, SHOWN)), "state"),
        ((late, SHOWN, world.release_sig(late, SHOWN)), "late"),
        ((terms, SHOWN, world.release_sig(terms, SHOWN, by="provider")), "payer-signature"),
        ((terms, b"\x1b" * 32, signature), "payer-signature"),
        ((terms, SHOWN, b""), "payer-signature"),
        ((terms, SHOWN, bytes(2049)), ""),
    ]
    jobs = [good[0], *(entry for entry, _ in bad), good[1], good[2]]
    sent = world.release_many(jobs)
    assert sent.done == [True, *[False] * 7, True, True]
    assert sent.skipped == [(world.job_id(entry[0]), reason) for entry, reason in bad]
    assert world.balance(world.payee) == 3 * AMOUNT
    assert (world.state(terms), world.state(late), world.state(unfunded)) == (1, 1, 0)


def test_the_same_item_twice_pays_once(world: World) -> None:
    entry = job(world, 1)
    world.funded(salt=b"\x02" * 32)
    sent = world.release_many([entry, entry])
    assert sent.done == [True, False]
    assert world.balance(world.payee) == AMOUNT


@pytest.mark.parametrize("more", [b"", b"\x00"])
def test_the_signatures_are_exactly_those_of_the_items(world: World, more: bytes) -> None:
    terms, shown, signature = job(world, 1)
    item = (tuple(tuple(v.values()) if isinstance(v, dict) else v for v in terms.values()), shown, 65)
    sent = world.send("release_many", [item], signature + more if more else signature[:-1])
    assert sent.reason == ("signatures" if more else "")
    assert world.state(terms) == 1


def test_an_empty_batch_does_nothing_and_more_than_64_are_refused(world: World) -> None:
    assert world.release_many([]).done == []
    assert world.release_many([job(world, 1)] * 65).reason == ""


def test_wallet_contracts_good_and_burning(world: World, wallet: Any) -> None:
    terms = world.terms(payer=wallet.address)
    wallet.approve_digest(world.job_id(terms), b"terms")
    assert world.fund(terms, by=world.stranger, payer_sig=b"terms").reason is None
    digest = world.escrow_digest("Release", {"job_id": world.job_id(terms), "instances_hash": SHOWN})
    wallet.approve_digest(digest, b"long" * 100)
    entry = (terms, SHOWN, b"long" * 100)
    with boa.env.anchor():
        wallet.misbehave("burns-gas")
        sent = world.release_many([entry, job(world, 1)], gas=2_000_000)
        assert sent.done == [False, True]
        assert sent.skipped == [(world.job_id(terms), "payer-signature")]
    assert world.release_many([entry, job(world, 1)]).done == [True, True]


@pytest.mark.parametrize("trick", ["fee", "gift", "fee-on-top", "no-move", "says-false", "false-but-moves"])
def test_what_a_bad_token_moved_is_undone_with_its_item(hostile: World, trick: str) -> None:
    jobs = [job(hostile, 1), job(hostile, 2)]
    hostile.token.misbehave(trick, hostile.payee, b"")
    sent = hostile.release_many(jobs)
    assert [reason for _, reason in sent.skipped] == ["push", "push"]
    assert hostile.balance(hostile.escrow.address) == 2 * AMOUNT
    assert hostile.balance(hostile.payee) == 0
    hostile.token.misbehave("", hostile.payee, b"")
    assert hostile.release_many(jobs).done == [True, True]


def test_a_blacklisted_payee_blocks_no_other(hostile: World) -> None:
    jobs = [job(hostile, 1), job(hostile, 2, payee=hostile.owner)]
    hostile.token.misbehave("blacklist", hostile.payee, b"")
    sent = hostile.release_many(jobs)
    assert sent.done == [False, True]
    assert sent.skipped == [(hostile.job_id(jobs[0][0]), "blacklisted")]


def test_the_inner_call_is_the_batchs_alone(world: World) -> None:
    terms, shown, signature = job(world, 1)
    for by in (world.payer, world.provider, world.stranger, str(world.token.address)):
        assert world.send("release_item", terms, shown, signature, by, by=by).reason == "not-batch"
    assert world.state(terms) == 1


def test_a_batch_cannot_be_entered_again(hostile: World) -> None:
    first, other = job(hostile, 1), job(hostile, 2)
    item = (tuple(tuple(v.values()) if isinstance(v, dict) else v for v in other[0].values()), SHOWN, 65)
    attempts = [
        hostile.payload("release", *other),
        hostile.payload("release_item", *other, hostile.payee),
        hostile.payload("release_many", [item], other[2]),
        hostile.payload("release_by_proof", other[0], hostile.call(other[0])),
    ]
    for attempt in attempts:
        with boa.env.anchor():
            hostile.token.misbehave("reenter", hostile.escrow.address, attempt)
            assert hostile.release_many([first]).done == [True]
            assert hostile.token.tried() == 1
            assert not hostile.token.reentered()
            assert hostile.state(other[0]) == 1
