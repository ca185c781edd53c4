"""A payer that is an account with a key and, by a real EIP-7702 transaction on anvil, a wallet's code as well."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from eth_account import Account

from tests.contracts.anvil import AnvilWorld, Contract, anvil
from tests.contracts.conftest import AMOUNT, BIG, digest
from tests.contracts.zoo import permit2
from workers.dev.rpc import ask

if TYPE_CHECKING:
    from collections.abc import Iterator

    from eth_account.signers.local import LocalAccount

FUNDED, RELEASED, RECLAIMED = 1, 2, 3
SHOWN = b"\x1a" * 32
NOBODY = "0x" + "00" * 20


class Delegated(AnvilWorld):
    """The payer's account runs the wallet's code; `wallet` calls that code at the payer's own address."""

    def __init__(self, port: int, parties: dict[str, LocalAccount], wallet: tuple[bytes, list[dict[str, Any]]]) -> None:
        super().__init__(port, parties)
        self.delegate = self._deploy(self.owner, wallet[0])
        self.wallet = Contract(self.payer, wallet[1])
        assert self.send("approve", permit2.ADDRESS, BIG, to=self.token, by=self.payer).reason is None

    def nonce(self, address: str) -> int:
        return int(ask(self.port, "eth_getTransactionCount", address, "latest"), 16)

    def authorize(self, delegate: str) -> None:
        """A transaction of type 4, sent and paid by a stranger, with the payer's signed authorization."""
        payer, stranger = self.keys["payer"], self.keys["stranger"]
        authorization = payer.sign_authorization(
            {"chainId": self.chain_id, "address": delegate, "nonce": self.nonce(self.payer)}
        )
        transaction = {
            "chainId": self.chain_id,
            "nonce": self.nonce(self.stranger),
            "to": self.payer,
            "value": 0,
            "data": b"",
            "gas": 200_000,
            "maxFeePerGas": 10**11,
            "maxPriorityFeePerGas": 10**9,
            "authorizationList": [authorization],
        }
        signed = Account.sign_transaction(transaction, stranger.key)
        sent = ask(self.port, "eth_sendRawTransaction", "0x" + bytes(signed.raw_transaction).hex())
        assert self.receipt(sent)["type"] == "0x4"

    def says(self, asked: bytes) -> bytes:
        """The wallet's word on a digest, kept in the payer's own storage."""
        assert self.send("approve_digest", asked, b"wallet", to=self.wallet, by=self.payer).reason is None
        return b"wallet"

    def release_digest(self, terms: dict[str, Any]) -> bytes:
        return self.escrow_digest("Release", {"job_id": self.job_id(terms), "instances_hash": SHOWN})


@pytest.fixture(scope="module")
def delegated(
    parties: dict[str, LocalAccount], zoo: dict[str, tuple[bytes, list[dict[str, Any]]]]
) -> Iterator[Delegated]:
    with anvil() as port:
        world = Delegated(port, parties, zoo["wallet"])
        world.authorize(world.delegate)
        assert world.code_at(world.payer) == bytes.fromhex("ef0100" + world.delegate[2:])
        yield world


@pytest.fixture
def world(delegated: Delegated) -> Iterator[Delegated]:
    with delegated.anchor():
        yield delegated


def fund(world: Delegated, terms: dict[str, Any], word: bytes) -> str | None:
    """By a stranger, so that the payer's word has to hold."""
    return world.send("fund", terms, world.acceptance(terms), word, by=world.stranger).reason


def release(world: Delegated, terms: dict[str, Any], word: bytes) -> str | None:
    return world.send("release", terms, SHOWN, word, by=world.stranger).reason


@pytest.mark.enable_socket
def test_its_key_signs_for_it_and_so_does_its_code(world: Delegated) -> None:
    """Two jobs, both relayed: one by signatures of the key, one by what the code approved."""
    paid = world.balance(world.payee)
    by_key, by_code = world.terms(), world.terms(salt=b"\x01" * 32)
    assert fund(world, by_key, world.consent(by_key)) is None
    assert fund(world, by_code, b"wallet") == "payer-signature", "not before the code approved it"
    assert fund(world, by_code, world.says(world.job_id(by_code))) is None
    assert release(world, by_key, world.release_sig(by_key, SHOWN)) is None
    assert release(world, by_code, b"wallet") == "payer-signature"
    assert release(world, by_code, world.says(world.release_digest(by_code))) is None
    assert [world.state(terms) for terms in (by_key, by_code)] == [RELEASED, RELEASED]
    assert world.balance(world.payee) == paid + 2 * AMOUNT
    assert world.balance(world.escrow.address) == 0


@pytest.mark.enable_socket
def test_another_accounts_signature_is_neither(world: Delegated) -> None:
    terms = world.terms()
    assert fund(world, terms, world.consent(terms, by="stranger")) == "payer-signature"
    assert fund(world, terms, world.consent(terms)) is None
    assert release(world, terms, world.release_sig(terms, SHOWN, by="stranger")) == "payer-signature"
    assert world.state(terms) == FUNDED


@pytest.mark.enable_socket
def test_it_gets_its_money_back_from_the_deadline_on(world: Delegated) -> None:
    held, terms = world.balance(world.payer), world.terms()
    assert fund(world, terms, world.consent(terms)) is None
    assert world.balance(world.payer) == held - AMOUNT
    assert world.send("reclaim", terms).reason == "early"
    world.at(terms["deadline"])
    assert world.send("reclaim", terms, by=world.stranger).reason is None
    assert (world.state(terms), world.balance(world.payer)) == (RECLAIMED, held)


@pytest.mark.enable_socket
def test_permit2_asks_its_code_and_not_its_key(world: Delegated) -> None:
    """So a wallet that delegates has to let its code approve; our own signatures take the key all the same."""
    terms = world.terms()
    by_key = world.permit2(terms, nonce=1)
    accepted = world.acceptance(terms)
    assert world.send("fund_with_permit2", terms, accepted, 1, by_key).reason is not None
    by_code = world.says(digest(world.typed_permit2(terms, nonce=1)))
    assert world.send("fund_with_permit2", terms, accepted, 1, by_code).reason is None
    assert world.state(terms) == FUNDED


@pytest.mark.enable_socket
def test_what_it_signed_holds_when_the_delegation_ends(world: Delegated) -> None:
    """The trap: money that only code could release, and the code is gone."""
    terms = world.terms()
    assert fund(world, terms, world.says(world.job_id(terms))) is None
    approved = world.says(world.release_digest(terms))
    world.authorize(NOBODY)
    assert world.code_at(world.payer) == b""
    assert release(world, terms, approved) == "payer-signature"
    assert release(world, terms, world.release_sig(terms, SHOWN)) is None


@pytest.mark.enable_socket
def test_its_address_is_no_verifier(world: Delegated) -> None:
    """Its code hash is that of a pointer, which the account may turn elsewhere."""
    terms = world.terms(rule={"verifier": world.payer})
    assert fund(world, terms, world.consent(terms)) == "delegated"
