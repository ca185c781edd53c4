"""fund_many: many jobs by allowances and signatures; what would fail alone is skipped and blocks no other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import boa
import pytest

if TYPE_CHECKING:
    from tests.contracts.conftest import World

AMOUNT = 3 * 10**18
Job = tuple[dict[str, Any], bytes, bytes]


def job(world: World, salt: int, **changes: Any) -> Job:
    terms = world.terms(salt=salt.to_bytes(32), **changes)
    return terms, world.acceptance(terms), world.consent(terms)


def test_every_good_item_is_funded(world: World) -> None:
    jobs = [job(world, salt) for salt in range(5)]
    sent = world.fund_many(jobs)
    assert sent.reason is None
    assert sent.done == [True] * 5
    assert [world.state(terms) for terms, _, _ in jobs] == [1] * 5
    assert world.balance(world.escrow.address) == 5 * AMOUNT
    funded = [event for name, event in sent.events if name == "Funded"]
    assert [event["job_id"] for event in funded] == [world.job_id(terms) for terms, _, _ in jobs]


def test_one_bad_item_of_every_kind_blocks_no_other(world: World) -> None:
    """One result an item, and for each that was skipped the very reason that it would have had alone."""
    good = [job(world, salt) for salt in range(3)]
    terms, acceptance, consent = job(world, 10)
    foreign = world.terms(payer=world.stranger, salt=b"\x0b" * 32)
    bad: list[tuple[Job, str]] = [
        (good[0], "state"),
        (job(world, 11, amount=0), "amount"),
        (job(world, 12, fund_by=world.now), "fund-by"),
        (job(world, 13, rule={"proof_len": 65}), "proof-len"),
        (job(world, 14, amount=2000 * AMOUNT), "allowance"),
        ((terms, bytes(65), consent), "acceptance"),
        ((terms, acceptance, world.consent(terms, by="stranger")), "payer-signature"),
        ((terms, acceptance, b""), "payer-signature"),
        ((terms, acceptance, bytes(2049)), ""),
        ((foreign, world.acceptance(foreign), world.consent(foreign, by="stranger")), "allowance"),
    ]
    jobs = [good[0], *(entry for entry, _ in bad[:5]), good[1], *(entry for entry, _ in bad[5:]), good[2]]
    sent = world.fund_many(jobs)
    assert sent.reason is None
    assert sent.done == [entry in good and at != 1 for at, entry in enumerate(jobs)]
    assert sent.skipped == [(world.job_id(entry[0]), reason) for entry, reason in bad]
    assert world.balance(world.escrow.address) == 3 * AMOUNT
    assert [world.state(entry[0]) for entry, _ in bad[1:]] == [0] * 9


def test_the_caller_is_no_signature_in_a_batch(world: World) -> None:
    terms, acceptance, _ = job(world, 1)
    sent = world.fund_many([(terms, acceptance, b"")], by=world.payer)
    assert sent.skipped == [(world.job_id(terms), "payer-signature")]


def test_signatures_of_other_items_do_not_hold(world: World) -> None:
    first, second = job(world, 1), job(world, 2)
    swapped = [(first[0], second[1], second[2]), (second[0], first[1], first[2])]
    assert [reason for _, reason in world.fund_many(swapped).skipped] == ["acceptance", "acceptance"]


@pytest.mark.parametrize("more", [b"", b"\x00", bytes(65)])
def test_the_signatures_are_exactly_those_of_the_items(world: World, more: bytes) -> None:
    """A batch whose own encoding is wrong is nobody's item: all of it reverts."""
    jobs = [job(world, salt) for salt in range(2)]
    items = [(tuple(_plain(jobs[at][0])), 65) for at in range(2)]
    signatures = b"".join(accepted + consent for _, accepted, consent in jobs)
    sent = world.send("fund_many", items, signatures + more if more else signatures[:-1])
    assert sent.reason == ("signatures" if more else "")
    assert [world.state(terms) for terms, _, _ in jobs] == [0, 0]
    items[1] = (items[1][0], 2**256 - 1)
    assert world.send("fund_many", items, signatures).reason == ""


def test_an_empty_batch_does_nothing_and_more_than_64_are_refused(world: World) -> None:
    assert world.fund_many([]).done == []
    assert world.fund_many([job(world, 1)] * 65).reason == ""


def test_a_wallet_contract_in_a_batch(world: World, wallet: Any) -> None:
    """Its call has a cap of gas, so one that burns all it gets costs the others nothing but that."""
    mine, others = world.terms(payer=wallet.address), job(world, 1)
    wallet.approve_digest(world.job_id(mine), b"long" * 200)
    sent = world.fund_many([(mine, world.acceptance(mine), b"long" * 200), others])
    assert sent.done == [True, True]
    wallet.misbehave("burns-gas")
    again = world.terms(payer=wallet.address, salt=b"\x02" * 32)
    sent = world.fund_many([(again, world.acceptance(again), b"x"), job(world, 3)], gas=2_000_000)
    assert sent.done == [False, True]
    assert sent.skipped == [(world.job_id(again), "payer-signature")]


def test_too_little_gas_for_a_wallet_is_said(world: World, wallet: Any) -> None:
    mine = world.terms(payer=wallet.address)
    sent = world.fund_many([(mine, world.acceptance(mine), b"x")], gas=400_000)
    assert sent.skipped == [(world.job_id(mine), "gas")]


@pytest.mark.parametrize("trick", ["fee", "gift", "fee-on-top", "no-move", "says-false", "false-but-moves"])
def test_what_a_bad_token_moved_is_undone_with_its_item(hostile: World, trick: str) -> None:
    """Not only this contract's state: a transfer that was not exact is taken back as well."""
    hostile.token.misbehave(trick, hostile.payer, b"")
    before = hostile.balance(hostile.payer)
    sent = hostile.fund_many([job(hostile, 1), job(hostile, 2)])
    assert [reason for _, reason in sent.skipped] == ["pull", "pull"]
    assert hostile.balance(hostile.payer) == before
    assert hostile.balance(hostile.escrow.address) == 0


def test_a_token_refuses_one_payer_only(hostile: World) -> None:
    hostile.send("transfer", hostile.stranger, 10 * AMOUNT, to=hostile.token, by=hostile.payer)
    hostile.send("approve", hostile.escrow.address, 10 * AMOUNT, to=hostile.token, by=hostile.stranger)
    other = hostile.terms(payer=hostile.stranger)
    hostile.token.misbehave("blacklist", hostile.stranger, b"")
    consent = hostile.consent(other, by="stranger")
    sent = hostile.fund_many([(other, hostile.acceptance(other), consent), job(hostile, 2)])
    assert sent.done == [False, True]
    assert sent.skipped == [(hostile.job_id(other), "blacklisted")]


def test_the_inner_call_is_the_batchs_alone(world: World) -> None:
    terms, acceptance, consent = job(world, 1)
    for by in (world.payer, world.provider, world.stranger, str(world.token.address)):
        assert world.send("fund_item", terms, acceptance, consent, by=by).reason == "not-batch"
    assert world.state(terms) == 0


def test_a_batch_cannot_be_entered_again(hostile: World) -> None:
    """From inside an item's transfer: neither the locked verbs nor the inner calls, which are not locked."""
    terms, other = job(hostile, 1), job(hostile, 2)
    attempts = [
        hostile.payload("fund", *other),
        hostile.payload("fund_item", *other),
        hostile.payload("fund_many", [(tuple(_plain(other[0])), 65)], other[1] + other[2]),
        hostile.payload("release_item", terms[0], bytes(32), hostile.release_sig(terms[0], bytes(32)), hostile.payee),
    ]
    for attempt in attempts:
        with boa.env.anchor():
            hostile.token.misbehave("reenter", hostile.escrow.address, attempt)
            assert hostile.fund_many([terms]).done == [True]
            assert hostile.token.tried() == 1
            assert not hostile.token.reentered()
            assert (hostile.state(terms[0]), hostile.state(other[0])) == (1, 0)


def _plain(terms: dict[str, Any]) -> list[Any]:
    return [tuple(value.values()) if isinstance(value, dict) else value for value in terms.values()]
