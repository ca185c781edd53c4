"""The escrow's verbs on real nodes: each closes once, refusals carry their reason, repeats are success."""

from __future__ import annotations

import time

import pytest

from tests.chain.conftest import AMOUNT, Node
from verifier.errors import EscrowError, UndecidedError
from verifier.payment.chain import Chain
from verifier.payment.escrow import Escrow
from verifier.payment.keys import Transaction
from verifier.payment.states import JobState
from verifier.statement.scalars import Address, Bytes32, Timestamp
from workers.dev.rpc import ask


def _refused(code: str) -> pytest.RaisesExc[EscrowError]:
    return pytest.raises(EscrowError, match=rf"^{code}:")


def test_the_escrow_is_the_known_one(node: Node) -> None:
    """The trap: an address that somebody names, with look-alike code."""
    node.client("payer").check()
    with _refused("E-escrow-code"):
        Escrow(node.chain, node.token, node.token).check()
    with _refused("E-escrow-code"):
        Escrow(node.chain, Address(b"\x77" * 20), node.token).check()


def test_release_by_signature_pays_the_payee_once(node: Node) -> None:
    terms = node.terms()
    node.fund(terms)
    provider, job_id = node.client("provider"), node.job_id(terms)
    assert provider.state(job_id) is JobState.FUNDED
    funding = provider.funding(node.escrow, job_id)
    assert funding.state is JobState.FUNDED
    before = node.chain.token_balance(node.token, terms.payee)
    mined = provider.release(terms, node.signed_release(terms))
    assert mined is not None
    assert mined.gas_used < 120_000
    assert node.chain.token_balance(node.token, terms.payee) == before + AMOUNT
    assert provider.release(terms, node.signed_release(terms)) is None, "already released is success"
    assert node.client("stranger").release_by_proof(terms, node.calldata(terms)) is None
    assert node.chain.token_balance(node.token, terms.payee) == before + AMOUNT
    names = [event.name for event in provider.events(job_id=job_id)]
    assert names == ["Funded", "Released"]
    assert provider.events(("Funded",), job_id=job_id)[0].terms == terms
    assert not provider.closed_by_proof(job_id)


def test_release_by_proof_shows_the_instances(node: Node) -> None:
    terms = node.terms()
    node.fund(terms)
    provider, job_id, call = node.client("provider"), node.job_id(terms), node.calldata(terms)
    assert provider.verifier_accepts(node.verifier, call, gas_cap=100_000)
    for wrong in (call + b"\0", call[:-1], call[:-33] + bytes([call[-33] ^ 1]) + call[-32:]):
        with pytest.raises(EscrowError, match=r"^E-(call-length|job-limbs):"):
            provider.release_by_proof(terms, wrong)
    assert provider.release_by_proof(terms, call) is not None
    assert provider.closed_by_proof(job_id)
    closing = provider.closing(job_id)
    assert closing is not None
    assert closing.name == "Released"


def test_decline_and_cancel(node: Node) -> None:
    terms, unfunded = node.terms(), node.terms()
    node.fund(terms)
    with _refused("E-not-provider"):
        node.client("stranger").decline(terms)
    before = node.chain.token_balance(node.token, terms.payer)
    node.client("provider").decline(terms)
    assert node.chain.token_balance(node.token, terms.payer) == before + AMOUNT
    assert node.client("provider").decline(terms) is None
    node.client("payer").cancel(unfunded)
    node.client("payer").approve(unfunded.amount)
    with _refused("E-state"):
        node.client("payer").fund(unfunded, acceptance=node.acceptance(unfunded))


def test_fund_with_permit_by_a_stranger(node: Node) -> None:
    """The permit is OPG's; a wrong Acceptance or payer signature funds nothing."""
    terms, stranger = node.terms(), node.client("stranger")
    payer, deadline = node.keys["payer"], int(time.time()) + 3600
    job_id = node.job_id(terms)
    digest = node.chain.permit_digest(
        node.token, owner=payer.address, spender=node.escrow, value=terms.amount, deadline=deadline
    )
    permit, acceptance = payer.sign_digest(digest), node.acceptance(terms)
    signature = bytes(payer.sign_digest(job_id))

    def fund(*, accepted: object = acceptance, signed: bytes = signature) -> object:
        assert isinstance(accepted, type(acceptance))
        return stranger.fund_with_permit(
            terms, acceptance=accepted, permit_deadline=deadline, permit=permit, payer_signature=signed
        )

    with _refused("E-payer-signature"):
        fund(signed=b"")
    with _refused("E-acceptance"):
        fund(accepted=payer.sign_digest(job_id))
    assert fund() is not None
    assert stranger.state(job_id) is JobState.FUNDED
    with _refused("E-permit-domain"):
        node.chain.permit_digest(node.escrow, owner=payer.address, spender=node.escrow, value=1, deadline=deadline)


def test_a_late_release_on_an_idle_chain_is_refused(node: Node) -> None:
    """The trap: a chain whose next block has the time of the last one would pay after the deadline."""
    terms = node.terms(deadline_in=10)
    node.fund(terms)
    with _refused("E-early"):
        node.client("stranger").reclaim(terms)
    while time.time() < terms.deadline:
        time.sleep(0.2)
    with _refused("E-late"):
        node.client("provider").release(terms, node.signed_release(terms))
    with _refused("E-late"):
        node.client("provider").release_by_proof(terms, node.calldata(terms))
    before = node.chain.token_balance(node.token, terms.payer)
    assert node.client("stranger").reclaim(terms) is not None
    assert node.chain.token_balance(node.token, terms.payer) == before + AMOUNT


def test_transactions_of_another_chain_are_refused(node: Node) -> None:
    """The traps: py-evm takes a transaction of any chain; a node that is not of the chain that we mean."""
    key = node.keys["stranger"]
    foreign = Transaction(
        chain_id=8453,
        nonce=node.chain.nonce(key.address),
        to=key.address,
        data=b"",
        gas=21_000,
        max_fee_per_gas=10**12,
        max_priority_fee_per_gas=1,
    )
    with pytest.raises(EscrowError):
        node.chain.send_raw(key.sign_transaction(foreign)[0])
    with Chain(node.chain.rpc.source, chain_id=8453) as other, _refused("E-chain-id"):
        other.head()


def test_an_unreachable_or_foreign_node_is_undecided(node: Node) -> None:
    with Chain("http://127.0.0.1:9", timeout=2) as nobody, pytest.raises(UndecidedError, match=r"^E-rpc-unreachable"):
        nobody.head()
    with pytest.raises(UndecidedError, match=r"^E-rpc-method"):
        node.chain.rpc.call("opgate_no_such_method")
    with _refused("E-rpc-url"):
        Chain("file:///etc/passwd")


def test_a_reverting_transaction_is_mined_with_status_0(dev_node: Node) -> None:
    """The trap: a dev chain that refuses what a real node mines hides what a lost race costs."""
    key, terms = dev_node.keys["stranger"], dev_node.terms()
    raw, transaction_hash = key.sign_transaction(
        Transaction(
            chain_id=31337,
            nonce=dev_node.chain.nonce(key.address),
            to=dev_node.escrow,
            data=bytes.fromhex("ffffffff"),
            gas=60_000,
            max_fee_per_gas=10**12,
            max_priority_fee_per_gas=1,
        )
    )
    dev_node.chain.send_raw(raw)
    mined = dev_node.chain.mined(transaction_hash)
    assert mined is not None
    assert not mined.succeeded
    with _refused("E-already-known"):
        dev_node.chain.send_raw(raw)
    assert dev_node.client("payer").state(dev_node.job_id(terms)) is JobState.NONE


def test_the_clock_can_only_go_forward(dev_node: Node) -> None:
    before = dev_node.chain.block_time()
    ask(dev_node.port, "evm_increaseTime", 0)
    terms = dev_node.terms()
    dev_node.fund(terms)
    assert dev_node.chain.block_time() >= before
    assert Timestamp(dev_node.chain.block_time()) <= int(time.time()) + 1
    assert dev_node.chain.mined(Bytes32(b"\x01" * 32)) is None
