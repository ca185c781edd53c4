"""fund_with_permit: the same lock with an EIP-2612 permit, which anyone may have used before."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import boa
import pytest

if TYPE_CHECKING:
    from tests.contracts.conftest import World

AMOUNT = 3 * 10**18


@pytest.fixture(autouse=True)
def _no_allowance(world: World) -> None:
    assert world.send("approve", world.escrow.address, 0, to=world.token, by=world.payer).reason is None


def fund(
    world: World, terms: dict[str, Any], permit: tuple[int, int, bytes, bytes], by: str, consent: bytes = b""
) -> Any:
    return world.send("fund_with_permit", terms, world.acceptance(terms), consent, *permit, by=by)


def test_permit_and_lock_in_one_transaction(world: World) -> None:
    terms = world.terms()
    sent = fund(world, terms, world.permit(), by=world.payer)
    assert sent.reason is None
    assert world.state(terms) == 1
    assert world.balance(world.escrow.address) == AMOUNT
    assert world.token.allowance(world.payer, world.escrow.address) == 0
    assert "Funded" in [name for name, _ in sent.events]


def test_a_payer_without_ether_is_relayed(world: World) -> None:
    terms = world.terms()
    assert fund(world, terms, world.permit(), by=world.stranger, consent=world.consent(terms)).reason is None


def test_a_permit_is_no_consent_to_terms(world: World) -> None:
    """Whoever sees the permit in the pool brings terms of its own: the payer did not sign those."""
    terms = world.terms(payee=world.stranger)
    assert fund(world, terms, world.permit(), by=world.stranger).reason == "payer-signature"
    other = world.consent(world.terms())
    assert fund(world, terms, world.permit(), by=world.stranger, consent=other).reason == "payer-signature"


def test_a_permit_used_by_a_front_runner_still_funds(world: World) -> None:
    terms = world.terms()
    deadline, v, r, s = permit = world.permit()
    arguments = (world.payer, world.escrow.address, AMOUNT, deadline, v, r, s)
    assert world.send("permit", *arguments, to=world.token, by=world.stranger).reason is None
    assert fund(world, terms, permit, by=world.payer).reason is None


@pytest.mark.parametrize(
    "change",
    [
        {"spender": "0x" + "e5" * 20},
        {"value": AMOUNT - 1},
        {"value": AMOUNT + 1},
        {"nonce": 1},
        {"deadline": 1},
    ],
    ids=str,
)
def test_a_permit_for_something_else_is_none(world: World, change: dict[str, Any]) -> None:
    terms = world.terms()
    assert fund(world, terms, world.permit(**change), by=world.payer).reason == "permit"
    assert world.state(terms) == 0


def test_a_strangers_permit_is_none(world: World) -> None:
    terms = world.terms()
    assert fund(world, terms, world.permit(by="stranger", owner=world.payer), by=world.payer).reason == "permit"


def test_a_bad_permit_does_not_matter_where_the_allowance_suffices(world: World) -> None:
    terms = world.terms()
    world.send("approve", world.escrow.address, AMOUNT, to=world.token, by=world.payer)
    assert fund(world, terms, (0, 27, bytes(32), bytes(32)), by=world.payer).reason is None
    assert world.fund(world.terms(salt=b"\x02" * 32)).reason == "allowance"


def test_the_checks_of_funding_are_the_same(world: World) -> None:
    assert fund(world, world.terms(amount=0), world.permit(), by=world.payer).reason == "amount"
    late = world.terms(fund_by=world.now)
    assert fund(world, late, world.permit(), by=world.payer).reason == "fund-by"
    terms = world.terms()
    sent = world.send("fund_with_permit", terms, b"", b"", *world.permit(), by=world.payer)
    assert sent.reason == "acceptance"
    assert fund(world, terms, world.permit(), by=world.payer).reason is None
    assert fund(world, terms, world.permit(), by=world.payer).reason == "state"


def test_the_permit_call_cannot_be_entered_again(hostile: World) -> None:
    terms, other = hostile.terms(), hostile.terms(salt=b"\x02" * 32)
    attempt = hostile.payload("fund", other, hostile.acceptance(other), hostile.consent(other))
    hostile.token.misbehave("reenter", hostile.escrow.address, attempt)
    sent = hostile.send(
        "fund_with_permit", terms, hostile.acceptance(terms), b"", 0, 27, bytes(32), bytes(32), by=hostile.payer
    )
    assert sent.reason is None
    assert hostile.token.tried() == 2
    assert not hostile.token.reentered()
    assert (hostile.state(terms), hostile.state(other)) == (1, 0)


def test_a_token_without_permits_is_funded_by_allowance(hostile: World) -> None:
    """Its fallback may even answer: only what moves counts."""
    terms = hostile.terms()
    address, code = hostile.token.address, boa.env.get_code(hostile.token.address)
    selector = bytes.fromhex("d505accf")
    assert code.count(selector) == 1
    boa.env.set_code(address, code.replace(selector, b"\xd5\x05\xac\xce"))
    sent = hostile.send(
        "fund_with_permit", terms, hostile.acceptance(terms), b"", 0, 27, bytes(32), bytes(32), by=hostile.payer
    )
    assert sent.reason is None
