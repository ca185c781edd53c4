"""cancel: the payer takes back terms that it signed, before anyone funded them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.contracts.conftest import World

AMOUNT = 3 * 10**18


def test_cancelled_terms_cannot_be_funded(world: World) -> None:
    """The signed terms are out of the payer's hands; the cancelled state is what stops them."""
    terms = world.terms()
    consent = world.consent(terms)
    sent = world.send("cancel", terms, by=world.payer)
    assert sent.reason is None
    assert world.state(terms) == 5
    assert ("Cancelled", {"job_id": world.job_id(terms)}) in sent.events
    assert world.fund(terms, by=world.stranger, payer_sig=consent).reason == "state"
    assert world.fund(terms).reason == "state"


@pytest.mark.parametrize("caller", ["provider", "payee", "stranger", "owner"])
def test_only_the_payer_cancels(world: World, caller: str) -> None:
    """Else a provider's rival could stop every job."""
    terms = world.terms()
    assert world.send("cancel", terms, by=world.keys[caller].address).reason == "not-payer"
    assert world.fund(terms).reason is None


def test_a_funded_job_is_not_cancelled(world: World) -> None:
    """The provider works on it."""
    terms = world.funded()
    assert world.send("cancel", terms, by=world.payer).reason == "state"
    assert world.state(terms) == 1


def test_cancelling_twice_and_closing_a_cancelled_job(world: World) -> None:
    world.funded(salt=b"\x02" * 32)
    terms = world.terms()
    assert world.send("cancel", terms, by=world.payer).reason is None
    assert world.send("cancel", terms, by=world.payer).reason == "state"
    assert world.send("release", terms, bytes(32), world.release_sig(terms, bytes(32))).reason == "state"
    assert world.send("release_by_proof", terms, world.call(terms)).reason == "state"
    assert world.send("decline", terms, by=world.provider).reason == "state"
    world.at(terms["deadline"])
    assert world.send("reclaim", terms).reason == "state"
    assert world.balance(world.escrow.address) == AMOUNT


def test_a_wallet_contract_cancels(world: World, wallet: Any) -> None:
    terms = world.terms(payer=wallet.address)
    wallet.call(world.escrow.address, world.payload("cancel", terms))
    assert world.state(terms) == 5
