"""The test token behaves as OPG does where this project looks: ERC-20 and EIP-2612."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.contracts.conftest import World

AMOUNT = 3 * 10**18
BIG = 2**256 - 1
ZERO = "0x" + "00" * 20
ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141


def test_name_and_supply(world: World) -> None:
    token = world.token
    assert (token.name(), token.symbol(), token.decimals()) == ("OpenGradient", "OPG", 18)
    assert token.totalSupply() == 10**27
    assert token.balanceOf(world.owner) + token.balanceOf(world.payer) == 10**27


def send(world: World, verb: str, *arguments: Any, by: str) -> str | None:
    return world.send(verb, *arguments, to=world.token, by=by).reason


def test_transfers(world: World) -> None:
    sent = world.send("transfer", world.payee, AMOUNT, to=world.token, by=world.payer)
    moved = {"sender": world.payer.lower(), "receiver": world.payee.lower(), "value": AMOUNT}
    assert ("Transfer", moved) in sent.events
    assert world.balance(world.payee) == AMOUNT
    assert send(world, "transfer", world.payee, 1, by=world.stranger) == "balance"
    assert send(world, "transfer", ZERO, 1, by=world.payer) == "zero-address"
    assert send(world, "transfer", world.payer, 1000 * AMOUNT - AMOUNT, by=world.payer) is None
    assert world.balance(world.payer) == 999 * AMOUNT


def test_allowances(world: World) -> None:
    assert send(world, "approve", world.stranger, 10, by=world.payer) is None
    assert send(world, "transferFrom", world.payer, world.payee, 11, by=world.stranger) == "allowance"
    assert send(world, "transferFrom", world.payer, world.payee, 4, by=world.stranger) is None
    assert world.token.allowance(world.payer, world.stranger) == 6
    assert send(world, "approve", world.stranger, BIG, by=world.payer) is None
    assert send(world, "transferFrom", world.payer, world.payee, 4, by=world.stranger) is None
    assert world.token.allowance(world.payer, world.stranger) == BIG
    assert send(world, "approve", ZERO, 1, by=world.payer) == "zero-address"


def permit(world: World, signed: tuple[int, int, bytes, bytes], owner: str, amount: int = AMOUNT) -> str | None:
    return send(world, "permit", owner, world.escrow.address, amount, *signed, by=world.stranger)


def test_a_permit_holds_once(world: World) -> None:
    signed = world.permit()
    assert permit(world, signed, world.payer) is None
    assert world.token.allowance(world.payer, world.escrow.address) == AMOUNT
    assert world.token.nonces(world.payer) == 1
    assert permit(world, signed, world.payer) == "permit-signature"


@pytest.mark.parametrize("late", [0, 1])
def test_a_permit_ends(world: World, late: int) -> None:
    signed = world.permit()
    world.at(signed[0] + late)
    assert permit(world, signed, world.payer) == ("permit-expired" if late else None)


def test_a_permit_is_the_owners(world: World) -> None:
    deadline, v, r, s = world.permit()
    assert permit(world, (deadline, v, r, s), world.stranger) == "permit-signature"
    assert permit(world, (deadline, v, r, s), world.payer, amount=AMOUNT + 1) == "permit-signature"
    assert permit(world, (deadline, 29, r, s), ZERO) == "permit-signature"
    twin = (ORDER - int.from_bytes(s, "big")).to_bytes(32, "big")
    assert permit(world, (deadline, 55 - v, r, twin), world.payer) == "permit-signature"
