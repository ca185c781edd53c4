"""The outbox: one purpose is mined once, whatever is killed, lost, raced or reorganised."""

from __future__ import annotations

import secrets
import signal
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.chain.conftest import Node, free_port, start_anvil
from tests.chain.outbox_child import Payment, finish, start
from verifier.errors import EscrowError, UndecidedError
from verifier.payment.abi import encode_call
from verifier.payment.chain import Chain
from verifier.payment.keys import Key, Transaction, create_key
from verifier.payment.outbox import Call, Limits, Outbox
from verifier.statement.scalars import Address
from workers.dev.rpc import ask

_PAID = 1000


def _payment_of(node: Node, folder: Path, receiver: Address, **options: Any) -> Payment:
    return Payment(
        folder=folder,
        url=node.chain.rpc.source,
        keyfile=node.folder / "payer.key",
        token=node.token,
        receiver=receiver,
        amount=_PAID,
        **options,
    )


def test_killed_at_every_question_it_pays_once(dev_node: Node, tmp_path: Path) -> None:
    """The traps: killed after sending and before noting it; killed after signing; killed while it waits."""
    clean = _payment_of(dev_node, tmp_path / "clean", _somebody())
    assert finish(start(clean)) == 0
    questions = int(clean.answer.read_text().split()[1])
    assert questions >= 5
    for fatal in range(1, questions + 1):
        receiver, folder = _somebody(), tmp_path / str(fatal)
        payment = _payment_of(dev_node, folder, receiver)
        for when in ("before", "after"):
            deadly = _payment_of(dev_node, folder, receiver, fatal=fatal, when=when)
            assert finish(start(deadly)) in (-signal.SIGKILL, 0)
        assert finish(start(payment)) == 0, f"killed at question {fatal}"
        assert dev_node.chain.token_balance(dev_node.token, receiver) == _PAID, f"killed at question {fatal}"
    first = payment.answer.read_text().split()[0]
    assert finish(start(payment)) == 0
    assert payment.answer.read_text().split()[0] == first, "the same purpose, the same transaction"
    assert dev_node.chain.token_balance(dev_node.token, receiver) == _PAID


def test_two_processes_with_one_key_do_not_collide(dev_node: Node, tmp_path: Path) -> None:
    """The trap: both ask for the next nonce at the same moment."""
    receiver = _somebody()
    racers = [start(_payment_of(dev_node, tmp_path, receiver, purpose=purpose)) for purpose in ("a", "b", "a", "c")]
    assert [finish(racer) for racer in racers] == [0] * 4
    assert dev_node.chain.token_balance(dev_node.token, receiver) == 3 * _PAID
    with sqlite3.connect(tmp_path / "outbox.sqlite") as file:
        rows = file.execute("SELECT nonce, state FROM chain_transactions ORDER BY nonce").fetchall()
    file.close()
    assert len(rows) == 3
    assert [nonce - rows[0][0] for nonce, _ in rows] == [0, 1, 2]
    assert {state for _, state in rows} <= {"mined", "final"}


def test_a_refusal_costs_nothing_and_leaves_no_row(dev_node: Node, tmp_path: Path) -> None:
    key = dev_node.keys["provider"]
    outbox = Outbox(tmp_path / "outbox.sqlite", dev_node.chain, key)
    call = Call(to=dev_node.token, data=encode_call("transfer(address,uint256)", key.address, 10**30))
    before = dev_node.chain.balance(key.address)
    for given in (call, Call(to=call.to, data=call.data, gas=100_000)):
        with pytest.raises(EscrowError, match=r"^E-balance:"):
            outbox.send("too much", given)
    cheap = Outbox(tmp_path / "cheap.sqlite", dev_node.chain, key, limits=Limits(max_fee=1))
    with pytest.raises(EscrowError, match=r"^E-fee-cap:"):
        cheap.send("fee", Call(to=key.address, data=b""))
    assert (outbox.history(), cheap.history()) == ([], [])
    assert dev_node.chain.balance(key.address) == before
    outbox.close()


def test_a_foreign_use_of_the_nonce_is_named(dev_node: Node, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The trap: another wallet with the same key takes the nonce between our count and our sending."""
    key = dev_node.keys["provider"]
    outbox = Outbox(tmp_path / "outbox.sqlite", dev_node.chain, key, limits=Limits(patience_s=0.2))
    real = dev_node.chain.send_raw

    def overtaken(raw: bytes) -> object:
        monkeypatch.undo()
        real(_payment(dev_node.chain, key))
        return real(raw)

    monkeypatch.setattr(dev_node.chain, "send_raw", overtaken)
    call = Call(to=_somebody(), data=b"")
    with pytest.raises(EscrowError, match=r"^E-nonce-taken:"):
        outbox.send("pay", call)
    assert outbox.send("pay", call).succeeded
    assert [row["state"] for row in outbox.history()] == ["failed", "mined"]
    outbox.close()


@pytest.fixture
def slow_anvil(tmp_path: Path) -> Iterator[tuple[int, Chain, Key]]:
    """An anvil that mines only when it is told to."""
    port = free_port()
    process = start_anvil(port, "--no-mining")
    key = create_key(tmp_path / "key")
    ask(port, "anvil_setBalance", str(key.address), hex(10**20))
    with Chain(f"http://127.0.0.1:{port}", chain_id=31337) as chain:
        yield port, chain, key
    process.kill()
    process.wait()


def test_a_stuck_transaction_is_replaced_and_a_lost_one_sent_again(
    slow_anvil: tuple[int, Chain, Key], tmp_path: Path
) -> None:
    """The traps: a second nonce while the first waits; a node that forgot its pool; the price that rose."""
    port, chain, key = slow_anvil
    outbox = Outbox(tmp_path / "outbox.sqlite", chain, key, limits=Limits(patience_s=0.3, raises=2))
    receiver = _somebody()
    plain = Call(to=receiver, data=b"", gas=21_000)
    with pytest.raises(UndecidedError, match=r"^E-tx-pending"):
        outbox.send("pay", plain)
    with pytest.raises(UndecidedError, match=r"^E-tx-pending"):
        outbox.send("pay", plain)
    (row,) = outbox.history()
    assert row["nonce"] == 0, "no new nonce before the old one is mined or replaced"
    assert len(row["hashes"]) >= 3
    ask(port, "anvil_dropAllTransactions")
    with pytest.raises(UndecidedError, match=r"^E-tx-pending"):
        outbox.resume()
    ask(port, "evm_mine")
    outbox.resume()
    assert [entry["state"] for entry in outbox.history()] == ["mined"]
    assert chain.nonce(key.address) == 1
    outbox.close()


def test_a_reorganisation_sends_the_same_bytes_again(slow_anvil: tuple[int, Chain, Key], tmp_path: Path) -> None:
    """The trap: a payment that was mined, noted, and then taken back by the chain."""
    port, chain, key = slow_anvil
    ask(port, "evm_setAutomine", True)
    outbox = Outbox(tmp_path / "outbox.sqlite", chain, key, limits=Limits(patience_s=5, confirmations=3))
    state = ask(port, "evm_snapshot")
    first = outbox.send("pay", Call(to=_somebody(), data=b"", gas=21_000))
    ask(port, "evm_revert", state)
    assert chain.mined(first.transaction_hash) is None
    again = outbox.send("pay", Call(to=_somebody(), data=b"", gas=21_000))
    assert again.transaction_hash == first.transaction_hash
    assert chain.nonce(key.address) == 1
    ask(port, "anvil_mine", "0x4")
    outbox.resume()
    assert [row["state"] for row in outbox.history()] == ["final"]
    outbox.close()


def _somebody() -> Address:
    return Address(secrets.token_bytes(20))


def _payment(chain: Chain, key: Key) -> bytes:
    transaction = Transaction(
        chain_id=chain.chain_id,
        nonce=chain.nonce(key.address),
        to=key.address,
        data=b"",
        gas=21_000,
        max_fee_per_gas=10**12,
        max_priority_fee_per_gas=1,
    )
    return key.sign_transaction(transaction)[0]
