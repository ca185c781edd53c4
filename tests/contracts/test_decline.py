"""decline: the provider gives a funded job back, and the payer is refunded at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.contracts.conftest import World

AMOUNT = 3 * 10**18


def test_the_whole_amount_goes_to_the_payer(world: World) -> None:
    terms = world.funded()
    sent = world.send("decline", terms, by=world.provider)
    assert sent.reason is None
    assert world.state(terms) == 4
    assert world.balance(world.payer) == 1000 * AMOUNT
    assert world.balance(world.escrow.address) == 0
    assert ("Declined", {"job_id": world.job_id(terms)}) in sent.events


@pytest.mark.parametrize("caller", ["payer", "payee", "stranger", "owner"])
def test_only_the_provider_declines(world: World, caller: str) -> None:
    terms = world.funded()
    assert world.send("decline", terms, by=world.keys[caller].address).reason == "not-provider"


def test_only_a_funded_job_is_declined_and_only_once(world: World) -> None:
    terms = world.terms()
    assert world.send("decline", terms, by=world.provider).reason == "state"
    world.funded()
    world.funded(salt=b"\x02" * 32)
    assert world.send("decline", terms, by=world.provider).reason is None
    assert world.send("decline", terms, by=world.provider).reason == "state"
    assert world.send("release_by_proof", terms, world.call(terms)).reason == "state"
    world.at(terms["deadline"])
    assert world.send("reclaim", terms).reason == "state"
    assert world.balance(world.escrow.address) == AMOUNT


def test_a_released_job_is_not_declined(world: World) -> None:
    terms = world.funded()
    assert world.send("release_by_proof", terms, world.call(terms)).reason is None
    assert world.send("decline", terms, by=world.provider).reason == "state"


def test_declining_after_the_deadline_refunds_too(world: World) -> None:
    """It is the same money to the same payer as a reclaim."""
    terms = world.funded()
    world.at(terms["deadline"] + 5)
    assert world.send("decline", terms, by=world.provider).reason is None
    assert world.balance(world.payer) == 1000 * AMOUNT
