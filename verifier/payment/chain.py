"""A typed view of one EVM chain through one node or two: blocks, code, tokens, logs, raw transactions. No key is here.

Everything that a node answers is checked for shape here; what it means is not proved (evidence is). Where a second node
is given, both must say the same of everything that money moves by. A node may also be stuck, or stand for another chain
than before: `check_alive` refuses those.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import msgspec

from verifier.errors import EscrowError, UndecidedError
from verifier.keccak import keccak256
from verifier.payment.abi import encode_call
from verifier.payment.nodes import LAG_S, Nodes
from verifier.payment.rpc import mapping, octets, quantity
from verifier.statement.eip712 import Domain, signing_digest
from verifier.statement.scalars import Address, Bytes32, Count, Text, Timestamp, Uint256

if TYPE_CHECKING:
    from collections.abc import Sequence

ZERO = Address(bytes(20))
_POLL_SECONDS = 0.1
_MAX_POLL_SECONDS = 2.0
_LOG_SPAN = 5_000
MAX_HEAD_AGE_S = 180
"""How old the newest block may be where blocks come by themselves: some 15 slots of Ethereum, 90 blocks of Base."""
MAX_HEAD_LEAD_S = 3_600
"""How far ahead of this machine's clock it may be."""
ON_DEMAND_CHAINS = frozenset({1337, 31337})
"""Development chains, whose blocks come only with transactions: an old head says nothing there."""


@dataclass(frozen=True)
class Head:
    """A block: `timestamp` in Unix seconds, `base_fee` in wei."""

    number: int
    hash: Bytes32
    timestamp: int
    base_fee: int


@dataclass(frozen=True)
class Mined:
    """A transaction in a block. `fee` is what it cost its sender in wei, with an OP-stack chain's fee for its data."""

    transaction_hash: Bytes32
    block_number: int
    block_hash: Bytes32
    succeeded: bool
    gas_used: int
    fee: int
    contract: Address | None
    gas_price: int = 0


@dataclass(frozen=True)
class ChainLog:
    """One event, and where it stands."""

    address: Address
    topics: tuple[Bytes32, ...]
    data: bytes
    block_number: int
    block_hash: Bytes32
    transaction_hash: Bytes32


class Permit(msgspec.Struct, frozen=True, kw_only=True):
    """EIP-2612: what an owner signs so that a spender may take an amount."""

    owner: Address
    spender: Address
    value: Uint256
    nonce: Uint256
    deadline: Timestamp


class Chain:
    """One chain. With `chain_id` given, the nodes must be of that chain before anything is asked of them."""

    def __init__(  # noqa: PLR0913 - one address and how much it is trusted, each by keyword
        self,
        rpc_url: str,
        *,
        chain_id: int | None = None,
        timeout: float = 30.0,
        second_url: str | None = None,
        quorum: int = 2,
        lag_s: float = LAG_S,
        max_head_age_s: int = MAX_HEAD_AGE_S,
    ) -> None:
        """Take the nodes' URLs; nothing is asked yet.

        Args:
            rpc_url: the node.
            chain_id: the chain that is meant; None takes the node's word, once.
            timeout: seconds for one request.
            second_url: another's node, which must agree to whatever money moves by.
            quorum: how many of them must answer (`Nodes`).
            lag_s: seconds that one node may be behind the other.
            max_head_age_s: seconds since the newest block after which a node counts as stuck; not on
                `ON_DEMAND_CHAINS`.
        """
        self.rpc = Nodes(rpc_url, second_url, timeout=timeout, quorum=quorum, lag_s=lag_s)
        self._expected = chain_id
        self._chain_id: int | None = None
        self._max_head_age_s = max_head_age_s

    def close(self) -> None:
        """Close the connections."""
        self.rpc.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def chain_id(self) -> int:
        """The nodes' chain id, asked once; E-chain-id where it is not the expected one."""
        if self._chain_id is None:
            self._chain_id = self._ask_chain_id(self._expected)
        return self._chain_id

    def check_alive(self) -> Head:
        """The newest block, of nodes that are of the chain still, agree on its past and are not stuck.

        Raises:
            EscrowError: E-chain-id where a node now stands for another chain.
            UndecidedError: E-rpc-stale where the newest block is too old, E-rpc-time where it is far in the future,
                E-rpc-disagree where two nodes are on different branches, E-rpc-….
        """
        if self.chain_id not in ON_DEMAND_CHAINS:
            self.rpc.leave_out(
                lambda block: time.time() - _head(block).timestamp > self._max_head_age_s,
                "eth_getBlockByNumber",
                "latest",
                False,
            )
        self._ask_chain_id(self.chain_id)
        head = self.head()
        if self.chain_id not in ON_DEMAND_CHAINS:
            age = int(time.time()) - head.timestamp
            if age > self._max_head_age_s:
                raise UndecidedError(
                    "E-rpc-stale",
                    "the node's newest block is old: it is stuck, or cut off from the chain",
                    where=self.rpc.source,
                    expected=f"at most {self._max_head_age_s} s old",
                    found=f"block {head.number}, {age} s old",
                    do="Name another node. If the chain itself stands still, wait.",
                )
            if -age > MAX_HEAD_LEAD_S:
                raise UndecidedError(
                    "E-rpc-time",
                    "the chain's time is far ahead of this machine's",
                    where=self.rpc.source,
                    expected=f"at most {MAX_HEAD_LEAD_S} s",
                    found=f"{-age} s",
                    do="Set this machine's clock, or ask another node",
                )
        return head

    def _ask_chain_id(self, expected: int | None) -> int:
        found = {quantity(answer, where="chain id") for answer in self.rpc.each("eth_chainId")}
        wrong = found - {expected} if expected is not None or len(found) > 1 else set()
        if wrong:
            raise EscrowError(
                "E-chain-id",
                "the node is of another chain",
                where=self.rpc.source,
                expected=str(expected) if expected is not None else "one chain",
                found=", ".join(map(str, sorted(wrong - {None}))),
            )
        return found.pop()

    # --- blocks

    def head(self, tag: str = "latest") -> Head:
        """The newest block, or the newest that is ``safe`` or ``finalized``; of two nodes, the newest that both know.

        Raises:
            UndecidedError: E-rpc-disagree where the other node has another block there; E-rpc-….
        """
        _ = self.chain_id
        heads = [_head(answer) for answer in self.rpc.each("eth_getBlockByNumber", tag, False)]
        head = min(heads, key=lambda one: one.number)
        if len(heads) > 1:
            return _head(self.rpc.agree("eth_getBlockByNumber", hex(head.number), False))
        return head

    def is_canonical(self, number: int, block_hash: Bytes32) -> bool:
        """Whether the block at a height is this one, by all nodes: a transaction in another block is not mined."""
        block = self._both("eth_getBlockByNumber", hex(number), False)
        return block is not None and _head(block).hash == block_hash

    def block_time(self) -> int:
        """Unix seconds of the newest block. The next block of an idle chain is later: compare with the clock."""
        return self.head().timestamp

    # --- accounts

    def balance(self, who: Address) -> int:
        """Wei of the chain's own coin."""
        return quantity(self._at(who, "eth_getBalance"), where="balance")

    def nonce(self, who: Address, tag: str = "latest") -> int:
        """The count of transactions mined for an account, or sent with ``pending``; by the node that knows of more."""
        _ = self.chain_id
        answers = self.rpc.each("eth_getTransactionCount", str(who), tag)
        return max(quantity(answer, where="nonce") for answer in answers)

    def code(self, who: Address) -> bytes:
        """The code at an address, empty where there is none."""
        return octets(self._at(who, "eth_getCode"), where="code")

    def code_hash(self, who: Address) -> Bytes32 | None:
        """keccak256 of the code; None where there is none (the EVM's own hash of no code would look like one)."""
        code = self.code(who)
        return keccak256(code) if code else None

    def _at(self, who: Address, method: str, tag: str = "latest") -> Any:
        return self._both(method, str(who), tag)

    def _both(self, method: str, *parameters: object) -> Any:
        """What all nodes say."""
        _ = self.chain_id
        return self.rpc.agree(method, *parameters)

    # --- calls

    def call(self, to: Address, data: bytes, *, sender: Address = ZERO, gas: int | None = None) -> bytes:
        """What a call returns now. E-<reason> where it reverts."""
        return octets(self._both("eth_call", self._request(to, data, sender, gas), "latest"), where="eth_call")

    def estimate(self, to: Address | None, data: bytes, *, sender: Address) -> int:
        """The gas that a transaction needs, as the node estimates it. E-<reason> where it would revert."""
        return quantity(
            self.rpc.call("eth_estimateGas", self._request(to, data, sender, None)), where="eth_estimateGas"
        )

    def _request(self, to: Address | None, data: bytes, sender: Address, gas: int | None) -> dict[str, str]:
        _ = self.chain_id
        request = {"from": str(sender), "data": "0x" + data.hex()}
        request |= {"to": str(to)} if to else {}
        return request | ({"gas": hex(gas)} if gas else {})

    def word(self, to: Address, signature: str, *arguments: object) -> int:
        """The one word that a view function returns, by its signature such as ``balanceOf(address)``."""
        found = self.call(to, encode_call(signature, *arguments))
        if len(found) != 32:
            raise UndecidedError(
                "E-rpc-reply",
                "the contract answers no single word",
                where=f"{signature} at {to}",
                expected="32 bytes",
                found=f"{len(found)} bytes",
                do="Check the address and the chain.",
            )
        return int.from_bytes(found)

    # --- the token

    def token_balance(self, token: Address, who: Address) -> int:
        """Smallest units (wei) of a token."""
        return self.word(token, "balanceOf(address)", who)

    def allowance(self, token: Address, owner: Address, spender: Address) -> int:
        """How much a spender may take."""
        return self.word(token, "allowance(address,address)", owner, spender)

    def permit_digest(self, token: Address, *, owner: Address, spender: Address, value: int, deadline: int) -> Bytes32:
        """What an owner signs for an EIP-2612 permit of OPG, with the token's present nonce.

        The domain is computed here and compared with the token's, so that a lying node cannot have another one signed.

        Raises:
            EscrowError: E-permit-domain where the token has another domain than OPG's.
        """
        name, version = Text("OpenGradient"), Text("1")
        domain = Domain(name=name, version=version, chain_id=Count(self.chain_id), verifying_contract=token)
        separator = domain.separator()
        found = self.word(token, "DOMAIN_SEPARATOR()")
        if found != int.from_bytes(separator):
            raise EscrowError(
                "E-permit-domain",
                "the token's permits have another domain than OPG's",
                where=str(token),
                do="Approve instead.",
            )
        nonce = self.word(token, "nonces(address)", owner)
        return signing_digest(
            separator,
            Permit(
                owner=owner, spender=spender, value=Uint256(value), nonce=Uint256(nonce), deadline=Timestamp(deadline)
            ),
        )

    # --- transactions

    def fees(self) -> tuple[int, int]:
        """Max fee and tip per gas in wei: twice the base fee and the node's tip, good for some blocks."""
        tip = quantity(self.rpc.call("eth_maxPriorityFeePerGas"), where="tip")
        return 2 * self.head().base_fee + tip, tip

    def send_raw(self, raw: bytes) -> Bytes32:
        """Hand a signed transaction to every node; its hash, computed here."""
        _ = self.chain_id
        octets(self.rpc.offer("eth_sendRawTransaction", "0x" + raw.hex()), where="transaction hash", size=32)
        return keccak256(raw)

    def mined(self, transaction_hash: Bytes32) -> Mined | None:
        """Where a transaction stands, None while it is in no block that a node knows.

        One node's word: `is_canonical` says whether all of them have that block.
        """
        _ = self.chain_id
        known = [one for one in self.rpc.each("eth_getTransactionReceipt", str(transaction_hash)) if one is not None]
        if not known:
            return None
        receipt = mapping(known[0], where="receipt")
        gas_used = quantity(receipt.get("gasUsed"), where="receipt.gasUsed")
        gas_price = quantity(receipt.get("effectiveGasPrice", "0x0"), where="receipt.effectiveGasPrice")
        data_fee = quantity(receipt.get("l1Fee") or "0x0", where="receipt.l1Fee")
        contract = receipt.get("contractAddress")
        return Mined(
            transaction_hash=transaction_hash,
            block_number=quantity(receipt.get("blockNumber"), where="receipt.blockNumber"),
            block_hash=Bytes32(octets(receipt.get("blockHash"), where="receipt.blockHash", size=32)),
            succeeded=quantity(receipt.get("status"), where="receipt.status") == 1,
            gas_used=gas_used,
            fee=gas_used * gas_price + data_fee,
            gas_price=gas_price,
            contract=Address(octets(contract, where="receipt.contractAddress", size=20)) if contract else None,
        )

    def wait_mined(self, hashes: Sequence[Bytes32], *, seconds: float) -> Mined | None:
        """The first of several transactions with one nonce that is mined, None if none is within the time."""
        until, pause = time.monotonic() + seconds, _POLL_SECONDS
        while True:
            for transaction_hash in hashes:
                mined = self.mined(transaction_hash)
                if mined is not None:
                    return mined
            if time.monotonic() >= until:
                return None
            time.sleep(pause)
            pause = min(2 * pause, _MAX_POLL_SECONDS)

    # --- logs

    def logs(
        self, address: Address, topics: Sequence[Sequence[Bytes32] | None], *, first: int, last: int
    ) -> tuple[ChainLog, ...]:
        """The events of a contract in blocks first to last, both included; asked for 5,000 blocks at a time."""
        _ = self.chain_id
        wanted = [None if group is None else [str(topic) for topic in group] for group in topics]
        found: list[ChainLog] = []
        for start in range(first, last + 1, _LOG_SPAN):
            end = min(start + _LOG_SPAN - 1, last)
            query = {"address": str(address), "topics": wanted, "fromBlock": hex(start), "toBlock": hex(end)}
            answer = self.rpc.call("eth_getLogs", query)
            if not isinstance(answer, list):
                raise UndecidedError("E-rpc-reply", "the node's reply is no list of logs", where=self.rpc.source)
            found += [_log(item) for item in answer if not (isinstance(item, dict) and item.get("removed"))]
        return tuple(log for log in found if log.address == address and first <= log.block_number <= last)


def _head(block: object) -> Head:
    fields = mapping(block, where="head")
    return Head(
        number=quantity(fields.get("number"), where="head.number"),
        hash=Bytes32(octets(fields.get("hash"), where="head.hash", size=32)),
        timestamp=quantity(fields.get("timestamp"), where="head.timestamp"),
        base_fee=quantity(fields.get("baseFeePerGas", "0x0"), where="head.baseFeePerGas"),
    )


def _log(item: object) -> ChainLog:
    log = mapping(item, where="log")
    topics = log.get("topics")
    if not isinstance(topics, list):
        raise UndecidedError("E-rpc-reply", "the node's log has no topics", where="log")
    return ChainLog(
        address=Address(octets(log.get("address"), where="log.address", size=20)),
        topics=tuple(Bytes32(octets(topic, where="log.topics", size=32)) for topic in topics),
        data=octets(log.get("data"), where="log.data"),
        block_number=quantity(log.get("blockNumber"), where="log.blockNumber"),
        block_hash=Bytes32(octets(log.get("blockHash"), where="log.blockHash", size=32)),
        transaction_hash=Bytes32(octets(log.get("transactionHash"), where="log.transactionHash", size=32)),
    )
