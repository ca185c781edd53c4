"""The same world on anvil, a real node: transactions with intrinsic gas, cold accounts and refunds, as on a chain."""

from __future__ import annotations

import subprocess
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from tests.chain.conftest import free_port, start_anvil
from tests.contracts.conftest import AMOUNT, NOW, Sent, World, revert_reason
from tests.contracts.zoo import permit2
from verifier.payment import artifacts
from workers.dev.rpc import ask

if TYPE_CHECKING:
    from collections.abc import Iterator

    from eth_account.signers.local import LocalAccount

BASE = 8453
"""Base's chain id: Permit2 and OPG live there."""
GAS = 16_000_000
PAYEE_HOLDS = 10**18
RESERVE = "0x" + "7e" * 20


class Contract:
    """A contract as `World` knows it: where it stands and what it can be asked."""

    def __init__(self, address: str, abi: list[dict[str, Any]]) -> None:
        self.address, self.abi = address, abi


class AnvilWorld(World):
    """`World` whose calls are transactions on anvil; every block is one second after the last."""

    def __init__(self, port: int, parties: dict[str, LocalAccount], *, escrow_code: bytes | None = None) -> None:
        self.port = port
        self.last: dict[str, Any] = {}
        ask(port, "anvil_setBlockTimestampInterval", 1)
        ask(port, "anvil_autoImpersonateAccount", True)
        for account in parties.values():
            ask(port, "anvil_setBalance", account.address, hex(10**22))
        owner = parties["owner"].address
        made = [self._deploy(owner, bytes(artifacts.load("opg_test_token").bytecode))]
        creation = bytes(artifacts.load("escrow").bytecode) if escrow_code is None else escrow_code
        made.append(self._deploy(owner, creation + bytes(12) + bytes.fromhex(made[0][2:])))
        token, escrow = (
            Contract(address, artifacts.load(name).abi)
            for address, name in zip(made, ("opg_test_token", "escrow"), strict=True)
        )
        super().__init__(escrow, token, parties)
        self.set_code(permit2.ADDRESS, permit2.runtime(self.chain_id))
        for account, amount in ((self.payer, 1000 * AMOUNT), (self.payee, PAYEE_HOLDS)):
            assert self.send("transfer", account, amount, to=token, by=owner).reason is None
        assert self.send("approve", escrow.address, 500 * AMOUNT, to=token, by=self.payer).reason is None

    # --- the chain

    @property
    def chain_id(self) -> int:
        return int(ask(self.port, "eth_chainId"), 16)

    @property
    def now(self) -> int:
        return int(ask(self.port, "eth_getBlockByNumber", "latest", False)["timestamp"], 16)

    def at(self, timestamp: int) -> None:
        ask(self.port, "evm_setNextBlockTimestamp", timestamp)

    def code_at(self, address: str) -> bytes:
        return bytes.fromhex(ask(self.port, "eth_getCode", address, "latest")[2:])

    def set_code(self, address: str, code: bytes) -> None:
        ask(self.port, "anvil_setCode", address, "0x" + code.hex())

    def set_storage(self, address: str, slot: int, value: int) -> None:
        ask(self.port, "anvil_setStorageAt", address, f"0x{slot:064x}", f"0x{value:064x}")

    def read(self, contract: Any, view: str, *arguments: Any) -> Any:
        call = {"to": contract.address, "data": "0x" + self.payload(view, *arguments, to=contract).hex()}
        return self.decoded(contract, view, bytes.fromhex(ask(self.port, "eth_call", call, "latest")[2:]))

    @contextmanager
    def anchor(self) -> Iterator[None]:
        """What happens inside is undone."""
        kept = ask(self.port, "evm_snapshot")
        try:
            yield
        finally:
            assert ask(self.port, "evm_revert", kept)

    # --- calls

    def send_raw(self, contract: Any, payload: bytes, by: str | None = None, gas: int = GAS) -> Sent:
        """Send a transaction; its gas is what the receipt says, so with the intrinsic gas and the refunds."""
        call = {
            "from": by or self.stranger,
            "to": contract if isinstance(contract, str) else contract.address,
            "data": "0x" + payload.hex(),
            "gas": hex(min(gas, GAS)),
            "gasPrice": hex(10**10),
        }
        receipt = self.last = self._mined(call)
        used = int(receipt["gasUsed"], 16)
        if receipt["status"] != "0x1":
            output = self._output(receipt["transactionHash"])
            return Sent(revert_reason(output), [], used, output)
        logs = [
            ([int(topic, 16) for topic in log["topics"]], bytes.fromhex(log["data"][2:])) for log in receipt["logs"]
        ]
        events = [self.event(tuple(topics), body) for topics, body in logs]
        return Sent(None, [event for event in events if event is not None], used)

    def _output(self, transaction: str) -> bytes:
        """What a mined transaction reverted with, which its receipt does not say: the trace in its own block does."""
        trace = ask(self.port, "debug_traceTransaction", transaction, {"tracer": "callTracer"})
        return bytes.fromhex(trace.get("output", "0x")[2:])

    def _mined(self, call: dict[str, Any]) -> dict[str, Any]:
        return self.receipt(ask(self.port, "eth_sendTransaction", call))

    def receipt(self, digest: str) -> dict[str, Any]:
        """anvil takes a transaction before it mines it, so its receipt may take a while."""
        until = time.monotonic() + 20
        while (receipt := ask(self.port, "eth_getTransactionReceipt", digest)) is None:
            assert time.monotonic() < until, "anvil mined nothing"
            time.sleep(0.002)
        found: dict[str, Any] = receipt
        return found

    def _deploy(self, by: str, code: bytes) -> str:
        call = {"from": by, "data": "0x" + code.hex(), "gas": hex(GAS), "gasPrice": hex(10**10)}
        receipt = self._mined(call)
        assert receipt["status"] == "0x1"
        return str(receipt["contractAddress"])


@contextmanager
def anvil(chain_id: int = BASE, timestamp: int = NOW, *more: str) -> Iterator[int]:
    """The port of a fresh anvil under Prague's rules, whose clock starts at a fixed time; `more` are options of it."""
    port = free_port()
    options = ("--chain-id", str(chain_id), "--timestamp", str(timestamp), "--hardfork", "prague", "--order", "fifo")
    process = start_anvil(port, *options, "--gas-limit", "60000000", *more)
    try:
        yield port
    finally:
        process.kill()
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.terminate()
