"""fund_with_permit2: one signature of the payer, shown by its wallet with all terms, is consent and transfer at once.

The Permit2 here is the real bytecode (zoo/permit2.py). Its errors are passed on as they are, by selector.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import boa
import pytest
from Crypto.Hash import keccak

from tests.contracts.conftest import digest
from tests.contracts.zoo import permit2

if TYPE_CHECKING:
    from tests.contracts.conftest import Sent, World

AMOUNT = 3 * 10**18


def error(signature: str) -> bytes:
    return keccak.new(digest_bits=256, data=signature.encode()).digest()[:4]


INVALID_SIGNER = error("InvalidSigner()")
INVALID_NONCE = error("InvalidNonce()")
INVALID_CONTRACT = error("InvalidContractSignature()")


def fund(world: World, terms: dict[str, Any], signature: bytes, by: str | None = None, nonce: int = 0) -> Sent:
    return world.send("fund_with_permit2", terms, world.acceptance(terms), nonce, signature, by=by)


def test_permit2_is_the_real_one(base: World) -> None:
    """The trap: the runtime that npm and Uniswap's tests carry has a wrong domain on chain 31337."""
    assert base.code_at(permit2.ADDRESS) == permit2.runtime(8453)
    answer = boa.env.raw_call(boa.util.abi.Address(permit2.ADDRESS), data=bytes.fromhex("3644e515")).output
    assert answer == permit2.domain_separator(8453)


@pytest.mark.parametrize("by", ["payer", "stranger"])
def test_one_signature_funds_for_the_payer_and_relayed(base: World, by: str) -> None:
    terms = base.terms()
    sent = fund(base, terms, base.permit2(terms), by=base.keys[by].address)
    assert sent.reason is None
    assert base.state(terms) == 1
    assert base.balance(base.escrow.address) == AMOUNT
    assert "Funded" in [name for name, _ in sent.events]
    assert fund(base, terms, base.permit2(terms, nonce=1), nonce=1).reason == "state"


@pytest.mark.parametrize("field", ["payee", "provider", "amount", "circuit_id", "input_commitment", "deadline", "salt"])
def test_the_witness_is_every_field_of_the_terms(base: World, field: str) -> None:
    """Whoever relays brings other terms under the same permit: Permit2 recovers another signer."""
    terms = base.terms()
    other: dict[type, Any] = {str: base.stranger, int: terms["deadline"] + 9, bytes: b"\x77" * 32}
    changed = terms | {field: AMOUNT - 1 if field == "amount" else other[type(terms[field])]}
    acceptance = base.acceptance(changed, by="stranger" if field == "provider" else "provider")
    sent = base.send("fund_with_permit2", changed, acceptance, 0, base.permit2(terms))
    assert sent.output == INVALID_SIGNER
    assert base.state(changed) == 0


def test_the_rule_is_under_the_witness(base: World) -> None:
    terms = base.terms()
    changed = base.terms(rule={"gas_cap": 700_001})
    assert fund(base, changed, base.permit2(terms)).output == INVALID_SIGNER


@pytest.mark.parametrize(
    "changes",
    [
        {"spender": "0x" + "e5" * 20},
        {"permitted": {"token": "0x" + "e5" * 20, "amount": AMOUNT}},
        {"permitted": {"token": None, "amount": AMOUNT + 1}},
        {"deadline": 1},
        {"nonce": 1},
        {"domain": {"chainId": 1}},
        {"domain": {"verifyingContract": "0x" + "e5" * 20}},
        {"by": "stranger"},
    ],
    ids=str,
)
def test_a_permit_for_something_else_is_none(base: World, changes: dict[str, Any]) -> None:
    terms = base.terms()
    if changes.get("permitted", {}).get("token", "") is None:
        changes = {"permitted": {**changes["permitted"], "token": str(base.token.address)}}
    assert fund(base, terms, base.permit2(terms, **changes)).output == INVALID_SIGNER
    assert base.state(terms) == 0


def test_consent_to_the_terms_alone_moves_nothing_by_permit2(base: World) -> None:
    terms = base.terms()
    for signature in (base.consent(terms), base.acceptance(terms, by="payer")):
        assert fund(base, terms, signature).output == INVALID_SIGNER


def test_a_nonce_is_used_once(base: World) -> None:
    """In any order, as Permit2's are; the payer can also use one up to take its word back."""
    terms, other = base.terms(), base.terms(salt=b"\x02" * 32)
    assert fund(base, terms, base.permit2(terms, nonce=7), nonce=7).reason is None
    assert fund(base, other, base.permit2(other, nonce=7), nonce=7).output == INVALID_NONCE
    assert fund(base, other, base.permit2(other, nonce=3), nonce=3).reason is None


def test_nobody_else_can_use_the_permit(base: World) -> None:
    """A front-runner with the signature from the pool can only do what the payer wanted: the spender is the escrow."""
    terms = base.terms()
    signature = base.permit2(terms)
    assert fund(base, terms, signature, by=base.provider).reason is None
    assert base.state(terms) == 1


def test_the_checks_of_funding_are_the_same(base: World) -> None:
    zero = base.terms(amount=0)
    assert fund(base, zero, base.permit2(zero)).reason == "amount"
    late = base.terms(fund_by=base.now)
    assert fund(base, late, base.permit2(late)).reason == "fund-by"
    terms = base.terms()
    assert base.send("fund_with_permit2", terms, b"", 0, base.permit2(terms)).reason == "acceptance"
    cancelled = base.terms(salt=b"\x03" * 32)
    assert base.send("cancel", cancelled, by=base.payer).reason is None
    assert fund(base, cancelled, base.permit2(cancelled)).reason == "state"


def test_a_payer_without_an_allowance_for_permit2(base: World) -> None:
    assert base.send("approve", permit2.ADDRESS, 0, to=base.token, by=base.payer).reason is None
    terms = base.terms()
    assert fund(base, terms, base.permit2(terms)).reason == "TRANSFER_FROM_FAILED"
    assert base.state(terms) == 0


def test_a_chain_without_permit2(base: World) -> None:
    base.set_code(permit2.ADDRESS, b"")
    terms = base.terms()
    assert fund(base, terms, base.permit2(terms)).reason == "no-permit2"


class TestWallets:
    def test_a_wallet_contract_pays_by_permit2(self, base: World, wallet: Any) -> None:
        terms = base.terms(payer=wallet.address)
        approve = base.payload("approve", permit2.ADDRESS, AMOUNT, to=base.token)
        wallet.call(base.token.address, approve)
        assert fund(base, terms, b"yes").output == INVALID_CONTRACT
        wallet.approve_digest(digest(base.typed_permit2(terms)), b"yes")
        assert fund(base, terms, b"yes").reason is None
        assert base.state(terms) == 1

    def test_an_account_that_delegates_pays_by_what_its_wallet_says(self, base: World, wallet: Any) -> None:
        """EIP-7702: Permit2 asks the code, not the key, once there is code; our own signatures still take the key."""
        terms = base.terms()
        base.set_code(base.payer, bytes.fromhex("ef0100") + bytes.fromhex(wallet.address[2:]))
        assert fund(base, terms, base.permit2(terms)).output == INVALID_CONTRACT
        approve = base.payload("approve_digest", digest(base.typed_permit2(terms)), b"yes", to=wallet)
        wallet.call(base.payer, approve)
        assert fund(base, terms, b"yes").reason is None


@pytest.mark.parametrize("trick", ["no-move", "fee", "fee-on-top", "gift"])
def test_only_the_exact_amount_funds(hostile: World, trick: str) -> None:
    boa.env.evm.patch.chain_id = 8453
    hostile.set_code(permit2.ADDRESS, permit2.runtime(8453))
    assert hostile.send("approve", permit2.ADDRESS, AMOUNT, to=hostile.token, by=hostile.payer).reason is None
    hostile.token.misbehave(trick, hostile.payer, b"")
    terms = hostile.terms()
    assert fund(hostile, terms, hostile.permit2(terms)).reason == "pull"
    assert hostile.state(terms) == 0


def test_the_permit_call_cannot_be_entered_again(hostile: World) -> None:
    boa.env.evm.patch.chain_id = 8453
    hostile.set_code(permit2.ADDRESS, permit2.runtime(8453))
    assert hostile.send("approve", permit2.ADDRESS, AMOUNT, to=hostile.token, by=hostile.payer).reason is None
    terms, other = hostile.terms(), hostile.terms(salt=b"\x02" * 32)
    attempt = hostile.payload("fund", other, hostile.acceptance(other), hostile.consent(other))
    hostile.token.misbehave("reenter", hostile.escrow.address, attempt)
    assert fund(hostile, terms, hostile.permit2(terms)).reason is None
    assert hostile.token.tried() == 1
    assert not hostile.token.reentered()
    assert (hostile.state(terms), hostile.state(other)) == (1, 0)
