"""The same world on revm (pyrevm), many times as fast as titanoboa, for the machine, which makes thousands of calls."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

import pyrevm
from eth_account import Account

from tests.contracts.conftest import AMOUNT, BIG, NOW, Sent, World, digest, revert_reason
from tests.contracts.zoo import permit2

if TYPE_CHECKING:
    from eth_account.messages import SignableMessage
    from eth_account.signers.local import LocalAccount

CHAIN = 8453
GAS = 16_000_000
Built = tuple[bytes, list[dict[str, Any]]]


class Contract:
    """A contract as `World` knows it: where it stands and what it can be asked."""

    def __init__(self, address: str, abi: list[dict[str, Any]]) -> None:
        self.address, self.abi = address, abi


class RevmWorld(World):
    """A fresh chain with a token, an escrow for it, Permit2, and a payer that is a wallet contract."""

    def __init__(
        self,
        parties: dict[str, LocalAccount],
        *,
        token: Built,
        escrow: Built,
        wallet: Built,
        chain_id: int = CHAIN,
    ) -> None:
        self.timestamp, self._chain_id = NOW, chain_id
        self.codes: dict[str, bytes] = {}
        self.evm = pyrevm.EVM(pyrevm.Env(cfg=pyrevm.CfgEnv(chain_id=chain_id)), gas_limit=2**60, spec_id="PRAGUE")
        self.at(NOW)
        owner = parties["owner"].address
        self.wallet = Contract(self.evm.deploy(owner, wallet[0]), wallet[1])
        made = Contract(self.evm.deploy(owner, token[0]), token[1])
        creation = escrow[0] + bytes(12) + bytes.fromhex(made.address[2:])
        super().__init__(Contract(self.evm.deploy(owner, creation), escrow[1]), made, parties)
        self.set_code(permit2.ADDRESS, permit2.runtime(chain_id))
        for holder in (self.payer, self.wallet.address):
            assert self.send("transfer", holder, 1000 * AMOUNT, to=made, by=owner).reason is None
            for spender in (self.escrow.address, permit2.ADDRESS):
                assert self.send("approve", spender, BIG, to=made, by=holder).reason is None

    @property
    def chain_id(self) -> int:
        return self._chain_id

    @property
    def now(self) -> int:
        return self.timestamp

    def at(self, timestamp: int) -> None:
        self.timestamp = timestamp
        self.evm.set_block_env(pyrevm.BlockEnv(timestamp=timestamp, number=1, prevrandao=bytes(32)))

    def code_at(self, address: str) -> bytes:
        # What pyrevm gives is padded, so that its hash is another one.
        return self.codes[address]

    def set_code(self, address: str, code: bytes) -> None:
        self.codes[address] = code
        self.evm.insert_account_info(address, pyrevm.AccountInfo(code=code))

    def set_storage(self, address: str, slot: int, value: int) -> None:
        self.evm.insert_account_storage(address, slot, value)

    def read(self, contract: Any, view: str, *arguments: Any) -> Any:
        answer = self._call(contract, self.payload(view, *arguments, to=contract), self.stranger, GAS)
        return self.decoded(contract, view, answer)

    def send_raw(self, contract: Any, payload: bytes, by: str | None = None, gas: int = GAS) -> Sent:
        if by == self.wallet.address:  # no account with code may send (EIP-3607): somebody makes the wallet call
            return self.send("call", contract.address, payload, to=self.wallet, gas=gas)
        try:
            output = self._call(contract, payload, by or self.stranger, min(gas, GAS))
        except RuntimeError as error:
            said = str(error)
            raw = bytes.fromhex(said.rpartition("0x")[2].rstrip(" })")) if "output: 0x" in said else b""
            return Sent(revert_reason(raw), [], 0, raw)
        result = self.evm.result
        logs = [(tuple(int.from_bytes(topic) for topic in log.data[0]), bytes(log.data[1])) for log in result.logs]
        known = [event for event in (self.event(topics, body) for topics, body in logs) if event is not None]
        return Sent(None, known, int(result.gas_used), output)

    def signature(self, by: str, message: SignableMessage) -> bytes:
        return _signature(self.keys[by], digest(message))

    def _call(self, contract: Any, payload: bytes, by: str, gas: int) -> bytes:
        self.evm.reset_transient_storage()
        return bytes(self.evm.message_call(by, contract.address, calldata=payload, gas=gas))


@lru_cache(maxsize=100_000)
def _signature(key: LocalAccount, hashed: bytes) -> bytes:
    return bytes(Account.unsafe_sign_hash(hashed, key.key).signature)
