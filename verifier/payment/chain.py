"""A typed view of one EVM chain through one node: blocks, code, tokens, logs, raw transactions. It signs nothing.

Everything that a node answers is checked for shape here; what it means is not proved (evidence is). Reads may lie, and
a caller that moves money compares code hashes and keeps margins.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import msgspec
from eth_abi.abi import encode

from verifier.errors import EscrowError, UndecidedError
from verifier.keccak import keccak256
from verifier.payment.rpc import JsonRpc, mapping, octets, quantity
from verifier.statement.eip712 import Domain, signing_digest
from verifier.statement.scalars import Address, Bytes32, Count, Text, Timestamp, Uint256

if TYPE_CHECKING:
    from collections.abc import Sequence

ZERO = Address(bytes(20))
_POLL_SECONDS = 0.1
_MAX_POLL_SECONDS = 2.0
_LOG_SPAN = 5_000


@dataclass(frozen=True)
class Head:
    """A block: `timestamp` in Unix seconds, `base_fee` in wei."""

    number: int
    hash: Bytes32
    timestamp: int
    base_fee: int


@dataclass(frozen=True)
class Mined:
    """A transaction in a block. `fee` is what it cost its sender in wei, without an L2's data fee."""

    transaction_hash: Bytes32
    block_number: int
    block_hash: Bytes32
    succeeded: bool
    gas_used: int
    fee: int
    contract: Address | None


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
    """One chain. With `chain_id` given, the node must be of that chain before anything is asked of it."""

    def __init__(self, rpc_url: str, *, chain_id: int | None = None, timeout: float = 30.0) -> None:
        """Take the node's URL; nothing is asked yet. `timeout` in seconds, for one request."""
        self.rpc = JsonRpc(rpc_url, timeout=timeout)
        self._expected = chain_id
        self._chain_id: int | None = None

    def close(self) -> None:
        """Close the connections."""
        self.rpc.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def chain_id(self) -> int:
        """The node's chain id, asked once; E-chain-id where it is not the expected one."""
        if self._chain_id is None:
            found = quantity(self.rpc.call("eth_chainId"), where="chain id")
            if self._expected is not None and found != self._expected:
                raise EscrowError(
                    "E-chain-id",
                    "the node is of another chain",
                    where=self.rpc.source,
                    expected=str(self._expected),
                    found=str(found),
                )
            self._chain_id = found
        return self._chain_id

    # --- blocks

    def head(self, tag: str = "latest") -> Head:
        """The newest block, or the newest that is ``safe`` or ``finalized``."""
        _ = self.chain_id
        block = mapping(self.rpc.call("eth_getBlockByNumber", tag, False), where="head")
        return Head(
            number=quantity(block.get("number"), where="head.number"),
            hash=Bytes32(octets(block.get("hash"), where="head.hash", size=32)),
            timestamp=quantity(block.get("timestamp"), where="head.timestamp"),
            base_fee=quantity(block.get("baseFeePerGas", "0x0"), where="head.baseFeePerGas"),
        )

    def block_time(self) -> int:
        """Unix seconds of the newest block. The next block of an idle chain is later: compare with the clock."""
        return self.head().timestamp

    # --- accounts

    def balance(self, who: Address) -> int:
        """Wei of the chain's own coin."""
        return quantity(self._at(who, "eth_getBalance"), where="balance")

    def nonce(self, who: Address, tag: str = "latest") -> int:
        """The count of transactions mined for an account, or sent with ``pending``."""
        return quantity(self._at(who, "eth_getTransactionCount", tag), where="nonce")

    def code(self, who: Address) -> bytes:
        """The code at an address, empty where there is none."""
        return octets(self._at(who, "eth_getCode"), where="code")

    def code_hash(self, who: Address) -> Bytes32 | None:
        """keccak256 of the code; None where there is none (the EVM's own hash of no code would look like one)."""
        code = self.code(who)
        return keccak256(code) if code else None

    def _at(self, who: Address, method: str, tag: str = "latest") -> Any:
        _ = self.chain_id
        return self.rpc.call(method, str(who), tag)

    # --- calls

    def call(self, to: Address, data: bytes, *, sender: Address = ZERO, gas: int | None = None) -> bytes:
        """What a call returns now. E-<reason> where it reverts."""
        return octets(self.rpc.call("eth_call", self._request(to, data, sender, gas), "latest"), where="eth_call")

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
        """Hand a signed transaction to the node; its hash, computed here."""
        _ = self.chain_id
        octets(self.rpc.call("eth_sendRawTransaction", "0x" + raw.hex()), where="transaction hash", size=32)
        return keccak256(raw)

    def mined(self, transaction_hash: Bytes32) -> Mined | None:
        """Where a transaction stands, None while it is in no block that the node knows."""
        found = self.rpc.call("eth_getTransactionReceipt", str(transaction_hash))
        if found is None:
            return None
        receipt = mapping(found, where="receipt")
        gas_used = quantity(receipt.get("gasUsed"), where="receipt.gasUsed")
        contract = receipt.get("contractAddress")
        return Mined(
            transaction_hash=transaction_hash,
            block_number=quantity(receipt.get("blockNumber"), where="receipt.blockNumber"),
            block_hash=Bytes32(octets(receipt.get("blockHash"), where="receipt.blockHash", size=32)),
            succeeded=quantity(receipt.get("status"), where="receipt.status") == 1,
            gas_used=gas_used,
            fee=gas_used * quantity(receipt.get("effectiveGasPrice", "0x0"), where="receipt.effectiveGasPrice"),
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


def encode_call(signature: str, *arguments: object) -> bytes:
    """The calldata of a function by its signature: selector and ABI-encoded arguments; E-abi where they do not fit."""
    kinds = signature[signature.index("(") + 1 : -1]
    return keccak256(signature.encode())[:4] + encode_arguments(_split(kinds), arguments)


def encode_arguments(kinds: Sequence[str], arguments: Sequence[object]) -> bytes:
    """ABI-encoded arguments; E-abi where one does not fit its type."""
    try:
        return bytes(encode(kinds, [_plain(argument) for argument in arguments]))
    except Exception as error:
        # eth_abi raises classes of three families for values that do not fit; all of them are our caller's mistake.
        raise EscrowError(
            "E-abi", "an argument does not fit its type", where=",".join(kinds), found=str(error)[:200]
        ) from error


def _plain(value: Any) -> Any:
    """Our scalars as what eth_abi takes: it wants addresses as text and refuses subclasses of bytes in some places."""
    if isinstance(value, Address):
        return str(value)
    if isinstance(value, bytes):
        return bytes(value)
    if isinstance(value, bool) or not isinstance(value, int):
        return tuple(_plain(item) for item in value) if isinstance(value, (tuple, list)) else value
    return int(value)


def _split(kinds: str) -> list[str]:
    """The types of a parameter list, at its top level."""
    parts, depth, start = [], 0, 0
    for place, letter in enumerate(kinds):
        depth += (letter == "(") - (letter == ")")
        if letter == "," and depth == 0:
            parts.append(kinds[start:place])
            start = place + 1
    return [*parts, kinds[start:]] if kinds else []


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
