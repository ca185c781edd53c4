"""A real node that loses, reorders and takes back: the payee has the amount exactly once, or the payer has it back.

One anvil for the module; each test begins from the same snapshot and with outboxes of its own.
"""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.chain.conftest import AMOUNT, Node, anvil_node, free_port, start_anvil
from verifier.errors import EscrowError, OpgateError, UndecidedError
from verifier.payment.abi import encode_call
from verifier.payment.chain import Chain
from verifier.payment.escrow import TERMS_TYPE, Escrow, deploy_code, encode_terms
from verifier.payment.keys import Transaction, create_key
from verifier.payment.outbox import Call, Limits, Outbox
from verifier.payment.states import JobState
from verifier.statement.scalars import WalletSignature
from verifier.statement.terms import JobTerms, SignedRelease
from workers.dev.rpc import ask

QUICK = Limits(patience_s=0.4, raises=1)


@pytest.fixture(scope="module")
def anvil(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    yield from anvil_node(tmp_path_factory.mktemp("anvil-hostile"))


@pytest.fixture
def fresh(anvil: Node, tmp_path: Path) -> Iterator[Node]:
    """The node at its beginning; new outboxes, since the old ones remember transactions that are no more."""
    state = ask(anvil.port, "evm_snapshot")
    yield replace(anvil, folder=tmp_path, outboxes={})
    ask(anvil.port, "evm_setAutomine", True)
    ask(anvil.port, "evm_revert", state)


@dataclass
class Sending(threading.Thread):
    """A call in a thread of its own; `result` or `error` is there when it has ended."""

    work: Callable[[], object]
    result: object = None
    error: OpgateError | None = None

    def __post_init__(self) -> None:
        threading.Thread.__init__(self, daemon=True)
        self.start()

    __hash__ = threading.Thread.__hash__

    def run(self) -> None:
        try:
            self.result = self.work()
        except OpgateError as error:
            self.error = error

    def ended(self) -> Sending:
        self.join(60)
        assert not self.is_alive()
        return self


def client(node: Node, role: str, file: str = "outbox.sqlite", limits: Limits = QUICK) -> Escrow:
    outbox = Outbox(node.folder / file, node.chain, node.keys[role], limits=limits)
    return Escrow(node.chain, node.escrow, node.token, outbox)


def funded(node: Node, **options: int) -> JobTerms:
    terms = node.terms(**options)
    node.fund(terms)
    return terms


def paid(node: Node, terms: JobTerms) -> int:
    return node.chain.token_balance(node.token, terms.payee)


def pooled(node: Node) -> dict[str, Any]:
    """The node's pending transactions by sender and nonce."""
    content: dict[str, Any] = ask(node.port, "txpool_content")["pending"]
    return content


def until(done: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not done():
        assert time.monotonic() < end, "it never came to this"
        time.sleep(0.02)


@pytest.mark.parametrize("how", ["evm_revert", "anvil_reorg"])
def test_a_reorganised_release_is_sent_again_and_pays_once(fresh: Node, how: str) -> None:
    """The trap: mined, noted, answered to the caller, and then no more in the chain."""
    node, terms = fresh, funded(fresh)
    before, provider = paid(node, terms), client(node, "provider")
    ask(node.port, "evm_mine")
    state = ask(node.port, "evm_snapshot")
    first = provider.release(terms, node.signed_release(terms))
    assert first is not None
    assert paid(node, terms) == before + AMOUNT
    if how == "evm_revert":
        ask(node.port, "evm_revert", state)
    else:
        ask(node.port, "anvil_reorg", 1, [])
    assert paid(node, terms) == before
    assert provider.state(node.job_id(terms)) is JobState.FUNDED
    outbox = Outbox(node.folder / "outbox.sqlite", node.chain, node.keys["provider"], limits=QUICK)
    outbox.resume()
    assert paid(node, terms) == before + AMOUNT
    assert provider.release(terms, node.signed_release(terms)) is None
    (row,) = outbox.history()
    assert (row["state"], row["hashes"]) == ("mined", [str(first.transaction_hash)])
    assert paid(node, terms) == before + AMOUNT


def test_a_new_transaction_after_a_reorganisation_is_not_stuck_behind_a_gap(fresh: Node) -> None:
    """The trap: the nonce that a reorganisation freed, before the next one, which then waits for ever."""
    node = fresh
    jobs = [funded(node), funded(node)]
    before, provider = paid(node, jobs[0]), client(node, "provider")
    state = ask(node.port, "evm_snapshot")
    provider.release(jobs[0], node.signed_release(jobs[0]))
    ask(node.port, "evm_revert", state)
    assert provider.release(jobs[1], node.signed_release(jobs[1])) is not None
    assert paid(node, jobs[0]) == before + 2 * AMOUNT


def test_the_chains_finalized_tag_makes_final(fresh: Node) -> None:
    """The trap: a count of blocks that means nothing on this chain; its own tag is asked where that is set."""
    node, terms = fresh, funded(fresh)
    provider = client(node, "provider", limits=Limits(patience_s=2, confirmations=None))
    mined = provider.release(terms, node.signed_release(terms))
    assert mined is not None
    outbox = Outbox(node.folder / "outbox.sqlite", node.chain, node.keys["provider"], limits=Limits(confirmations=None))
    for blocks, state in (("0x1", "mined"), ("0x60", "final")):
        ask(node.port, "anvil_mine", blocks)
        outbox.resume()
        assert [row["state"] for row in outbox.history()] == [state]
    assert node.chain.head("finalized").number >= mined.block_number


def test_what_the_mempool_drops_is_sent_again(fresh: Node) -> None:
    node, terms = fresh, funded(fresh)
    before, provider = paid(node, terms), client(node, "provider", limits=Limits(patience_s=0.4, raises=9))
    ask(node.port, "evm_setAutomine", False)
    sending = Sending(lambda: provider.release(terms, node.signed_release(terms)))
    sender = str(node.keys["provider"].address)
    until(lambda: len(pooled(node)) == 1)
    (dropped,) = ask(node.port, "txpool_content")["pending"].popitem()[1].values()
    ask(node.port, "anvil_dropTransaction", dropped["hash"])
    until(lambda: any(sender == who.lower() for who in pooled(node)))
    ask(node.port, "evm_mine")
    assert sending.ended().error is None
    assert paid(node, terms) == before + AMOUNT


def test_a_replacement_keeps_the_nonce_and_pays_once(fresh: Node) -> None:
    """The trap: gas became dearer than what was signed, and a second nonce would pay twice."""
    node, terms = fresh, funded(fresh)
    before, provider = paid(node, terms), client(node, "provider", limits=Limits(patience_s=0.4, raises=20))
    nonce = node.chain.nonce(node.keys["provider"].address)
    ask(node.port, "evm_setAutomine", False)
    sending = Sending(lambda: provider.release(terms, node.signed_release(terms)))
    until(lambda: len(pooled(node)) == 1)
    ask(node.port, "anvil_setNextBlockBaseFeePerGas", hex(4 * node.chain.head().base_fee + 10**10))
    ask(node.port, "evm_mine")
    assert provider.state(node.job_id(terms)) is JobState.FUNDED, "too cheap for this block"
    end = time.monotonic() + 20
    while sending.is_alive() and time.monotonic() < end:
        ask(node.port, "evm_mine")
        time.sleep(0.2)
    assert sending.ended().error is None
    outbox = Outbox(node.folder / "outbox.sqlite", node.chain, node.keys["provider"], limits=QUICK)
    (row,) = outbox.history()
    assert row["nonce"] == nonce
    assert len(row["hashes"]) > 1
    assert node.chain.nonce(node.keys["provider"].address) == nonce + 1
    assert paid(node, terms) == before + AMOUNT


def test_the_cap_on_fees_is_never_passed(fresh: Node) -> None:
    """The trap: each raise is a quarter, and a node's advice on the tip may be anything."""
    node, terms = fresh, funded(fresh)
    cap = 3 * node.chain.head().base_fee + 2 * 10**9
    limits = Limits(patience_s=0.1, raises=12, max_fee=cap, max_tip=10**9)
    provider = client(node, "provider", limits=limits)
    ask(node.port, "evm_setAutomine", False)
    with pytest.raises(UndecidedError, match=r"^E-tx-pending"):
        provider.release(terms, node.signed_release(terms))
    ((transaction,),) = (list(of.values()) for of in pooled(node).values())
    assert int(transaction["maxFeePerGas"], 16) <= cap
    assert int(transaction["maxPriorityFeePerGas"], 16) <= cap


def test_many_closings_are_in_flight_together(fresh: Node) -> None:
    """Six jobs with one deadline are closed in one block: none waits for another's block."""
    node = fresh
    jobs = [funded(node) for _ in range(6)]
    before, provider = paid(node, jobs[0]), client(node, "provider", limits=Limits(patience_s=10))
    ask(node.port, "evm_setAutomine", False)
    sendings = [Sending(lambda terms=terms: provider.release(terms, node.signed_release(terms))) for terms in jobs]  # type: ignore[misc]  # the loop's value is bound
    until(lambda: sum(map(len, pooled(node).values())) == len(jobs))
    ask(node.port, "evm_mine")
    blocks = {sending.ended().result.block_number for sending in sendings}  # type: ignore[attr-defined]  # Mined
    assert len(blocks) == 1
    assert paid(node, jobs[0]) == before + len(jobs) * AMOUNT


@pytest.mark.parametrize("one_key", [False, True], ids=["two_keys", "one_key_in_two_homes"])
def test_two_submitters_race_and_one_payment_is_made(fresh: Node, one_key: bool) -> None:
    """The trap: both transactions are in one block, and the second one's revert looks like a failure."""
    node, terms = fresh, funded(fresh)
    before = paid(node, terms)
    patient = Limits(patience_s=5)
    first = client(node, "provider", limits=patient)
    second = client(node, "provider" if one_key else "stranger", "other.sqlite", limits=patient)
    ask(node.port, "evm_setAutomine", False)
    racers = [Sending(lambda: first.release(terms, node.signed_release(terms)))]
    until(lambda: len(pooled(node)) == 1)
    racers.append(Sending(lambda: second.release_by_proof(terms, node.calldata(terms))))
    until(lambda: sum(map(len, pooled(node).values())) == 2)
    ask(node.port, "evm_mine")
    assert [racer.ended().error for racer in racers] == [None, None]
    assert paid(node, terms) == before + AMOUNT
    assert node.chain.token_balance(node.token, node.escrow) == 0


@pytest.mark.parametrize("offset", [-1, 0, 1])
def test_at_the_deadline_exactly_one_side_gets_the_money(fresh: Node, offset: int) -> None:
    """A release holds in blocks before the deadline, a reclaim from it on: no instant admits both, and none neither."""
    node, terms = fresh, funded(fresh, deadline_in=600)
    payee, payer = paid(node, terms), node.chain.token_balance(node.token, terms.payer)
    provider, stranger = client(node, "provider"), client(node, "stranger")

    def mine_at(moment: int, act: Callable[[], object]) -> str:
        """Simulated while it is early, mined at this second."""
        ask(node.port, "evm_setAutomine", False)
        sending = Sending(act)
        until(lambda: bool(pooled(node)) or not sending.is_alive())
        if sending.is_alive():
            ask(node.port, "evm_setNextBlockTimestamp", moment)
            ask(node.port, "evm_mine")
        sending.ended()
        ask(node.port, "evm_setAutomine", True)
        return sending.error.code if sending.error else ""

    code = mine_at(terms.deadline + offset, lambda: provider.release(terms, node.signed_release(terms)))
    assert code == ("" if offset < 0 else "E-late")
    with pytest.raises(EscrowError, match=r"^E-state:") if offset < 0 else nullcontext():
        stranger.reclaim(terms)
    gained = (paid(node, terms) - payee, node.chain.token_balance(node.token, terms.payer) - payer)
    assert gained == ((AMOUNT, 0) if offset < 0 else (0, AMOUNT))
    assert node.chain.token_balance(node.token, node.escrow) == 0


@pytest.mark.parametrize("offset", [-1, 0, 1])
def test_a_reclaim_holds_from_the_deadline_on(fresh: Node, offset: int) -> None:
    """Sent without asking first, as one who hopes to be early would."""
    node, terms, key = fresh, funded(fresh, deadline_in=600), fresh.keys["stranger"]
    with pytest.raises(EscrowError, match=r"^E-early:"):
        client(node, "stranger").reclaim(terms)
    before = node.chain.token_balance(node.token, terms.payer)
    transaction = Transaction(
        chain_id=31337,
        nonce=node.chain.nonce(key.address),
        to=node.escrow,
        data=encode_call(f"reclaim({TERMS_TYPE})", encode_terms(terms)),
        gas=200_000,
        max_fee_per_gas=10**12,
        max_priority_fee_per_gas=1,
    )
    ask(node.port, "evm_setAutomine", False)
    transaction_hash = node.chain.send_raw(key.sign_transaction(transaction)[0])
    ask(node.port, "evm_setNextBlockTimestamp", terms.deadline + offset)
    ask(node.port, "evm_mine")
    mined = node.chain.mined(transaction_hash)
    assert mined is not None
    assert mined.succeeded == (offset >= 0)
    assert node.chain.token_balance(node.token, terms.payer) == before + (AMOUNT if offset >= 0 else 0)


def _restartable(folder: Path, port: int, *options: str) -> subprocess.Popen[bytes]:
    return start_anvil(port, "--state", str(folder / "state.json"), "--state-interval", "1", *options)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    process.wait(20)


def test_a_node_that_restarts_in_mid_send_and_then_as_another_chain(tmp_path: Path) -> None:
    """The traps: a pool that died with its node; a node that comes back under the same URL as another chain."""
    port = free_port()
    process = _restartable(tmp_path, port, "--no-mining")
    key, receiver = create_key(tmp_path / "key"), create_key(tmp_path / "receiver").address
    ask(port, "anvil_setBalance", str(key.address), hex(10**20))
    try:
        with Chain(f"http://127.0.0.1:{port}", chain_id=31337) as chain:
            outbox = Outbox(tmp_path / "outbox.sqlite", chain, key, limits=Limits(patience_s=0.4, raises=40))
            sending = Sending(lambda: outbox.send("pay", Call(to=receiver, data=b"", gas=21_000)))
            until(lambda: bool(ask(port, "txpool_content")["pending"]))
            _end(process)
            sending.ended()
            assert isinstance(sending.error, UndecidedError), "silent is not refused"
            process = _restartable(tmp_path, port, "--no-mining")
            assert not ask(port, "txpool_content")["pending"]
            sending = Sending(lambda: outbox.send("pay", Call(to=receiver, data=b"", gas=21_000)))
            until(lambda: bool(ask(port, "txpool_content")["pending"]))
            ask(port, "evm_mine")
            assert sending.ended().error is None
            assert chain.nonce(key.address) == 1
            (row,) = outbox.history()
            assert (row["state"], row["nonce"]) == ("mined", 0)
            _end(process)
            process = start_anvil(port, "--chain-id", "8453")
            ask(port, "anvil_setBalance", str(key.address), hex(10**20))
            with pytest.raises(EscrowError, match=r"^E-chain-id:"):
                chain.check_alive()
            with pytest.raises(OpgateError, match=r"^E-(chain-id|rpc-nonce|refused)"):
                outbox.send("again", Call(to=receiver, data=b"", gas=21_000))
            assert not ask(port, "txpool_content")["pending"]
            with Chain(f"http://127.0.0.1:{port}", chain_id=8453) as other:
                assert other.nonce(key.address) == 0
    finally:
        process.kill()
        process.wait()


WALLET = bytes.fromhex("60643560001a605a14631626ba7e60e01b0260005260206000f3")
"""A contract whose isValidSignature takes every signature that begins with 0x5a, and says 0 to any other."""


def test_a_wallet_contract_pays_by_what_its_contract_takes(fresh: Node) -> None:
    """ERC-1271 on a real node: what `wallet_signed` says before is what the escrow says after."""
    node = fresh
    mined = deploy_code(node.outbox("owner"), WALLET, name="wallet")
    assert mined.contract is not None
    wallet, stranger = mined.contract, client(node, "stranger", limits=Limits(patience_s=5))
    stranger_outbox = Outbox(node.folder / "outbox.sqlite", node.chain, node.keys["payer"])
    gift = encode_call("transfer(address,uint256)", wallet, AMOUNT)
    stranger_outbox.send("gift", Call(to=node.token, data=gift))
    ask(node.port, "anvil_impersonateAccount", str(wallet))
    ask(node.port, "anvil_setBalance", str(wallet), hex(10**18))
    approval = encode_call("approve(address,uint256)", node.escrow, AMOUNT)
    ask(node.port, "eth_sendTransaction", {"from": str(wallet), "to": str(node.token), "data": "0x" + approval.hex()})
    terms = msgspec.structs.replace(node.terms(), payer=wallet)
    job_id, before = node.job_id(terms), paid(node, terms)
    good, bad = WalletSignature(b"\x5a" * 300), WalletSignature(b"\x5b" * 300)
    assert stranger.fund(terms, acceptance=node.acceptance(terms), payer_signature=bytes(good)) is not None
    release = node.signed_release(terms).release
    digest = release.digest(stranger.domain)
    assert stranger.wallet_signed(wallet, digest, good)
    assert not stranger.wallet_signed(wallet, digest, bad)
    assert not stranger.wallet_signed(node.keys["payer"].address, digest, good), "an account without code says nothing"
    assert not stranger.wallet_signed(node.token, digest, good), "another contract"
    with pytest.raises(EscrowError, match=r"^E-payer-signature:"):
        stranger.release(terms, SignedRelease(release=release, signature=bad))
    assert stranger.release(terms, SignedRelease(release=release, signature=good)) is not None
    assert stranger.state(job_id) is JobState.RELEASED
    assert paid(node, terms) == before + AMOUNT


def test_a_transfer_call_needs_no_escrow(fresh: Node) -> None:
    """The outbox itself knows no contract: a refusal of the token's is its own reason, and leaves no row."""
    outbox = Outbox(fresh.folder / "plain.sqlite", fresh.chain, fresh.keys["stranger"], limits=QUICK)
    too_much = encode_call("transfer(address,uint256)", fresh.keys["payer"].address, 10**40)
    with pytest.raises(EscrowError, match=r"^E-balance:"):
        outbox.send("too much", Call(to=fresh.token, data=too_much))
    assert outbox.history() == []
