"""The JSON-RPC methods of the dev chain: geth's names and shapes over `DevLedger`.

Headers, receipts and transactions are returned whole, so that a client can rebuild the block hash and the receipts trie
from them. There are no unlocked accounts: only signed transactions move anything.
"""

from __future__ import annotations

import contextlib
import os
import re
from typing import TYPE_CHECKING, Any

import rlp  # type: ignore[import-untyped]  # it has no types
from eth_abi.abi import decode
from eth_abi.exceptions import DecodingError

from verifier.keccak import keccak256
from workers.dev.ledger import CallRequest, DevLedger, Mined, RpcError

if TYPE_CHECKING:
    from collections.abc import Callable

_HEX = re.compile(r"0x([0-9a-fA-F]{2})*\Z")
_QUANTITY = re.compile(r"0x[0-9a-fA-F]{1,64}\Z")
_ERROR_STRING = bytes.fromhex("08c379a0")
_TIP = 1_000_000_000
_MAX_LOG_BLOCKS = 100_000
_TAGS = ("latest", "pending", "safe", "finalized")


class Methods:
    """Answers requests to one ledger; `answer` takes a method's name and its parameters."""

    def __init__(self, ledger: DevLedger, version: str) -> None:
        self._ledger = ledger
        self._version = version
        self._table: dict[str, Callable[..., Any]] = {
            "web3_clientVersion": lambda: f"{self._version}/{os.getpid()}",
            "eth_chainId": lambda: hex(ledger.chain_id),
            "net_version": lambda: str(ledger.chain_id),
            "net_listening": lambda: True,
            "eth_syncing": lambda: False,
            "eth_accounts": list,
            "eth_blockNumber": lambda: hex(ledger.head().block_number),
            "eth_gasPrice": lambda: hex(self._base_fee() + _TIP),
            "eth_maxPriorityFeePerGas": lambda: hex(_TIP),
            "eth_getBalance": lambda who, at="latest": hex(self._state(at).get_balance(_address(who))),
            "eth_getTransactionCount": lambda who, at="latest": hex(self._state(at).get_nonce(_address(who))),
            "eth_getCode": lambda who, at="latest": _hex(self._state(at).get_code(_address(who))),
            "eth_getStorageAt": self._storage,
            "eth_call": lambda request, at="latest": _hex(ledger.call(_request(request), self._number(at))),
            "eth_estimateGas": lambda request, _="latest": hex(ledger.estimate(_request(request))),
            "eth_sendRawTransaction": lambda raw: _hex(ledger.send(_bytes(raw))),
            "eth_getTransactionByHash": self._transaction,
            "eth_getTransactionReceipt": self._receipt,
            "eth_getBlockByNumber": lambda at, full=False: self._block(self._height(at), full=full),
            "eth_getBlockByHash": self._block_by_hash,
            "eth_getBlockReceipts": self._block_receipts,
            "eth_getLogs": self._logs,
            "debug_getRawHeader": lambda at: _hex(rlp.encode(self._known(at).header)),
            "debug_getRawReceipts": lambda at: [_hex(r.encode()) for r in ledger.receipts(self._known(at))],
            "debug_getRawTransaction": self._raw_transaction,
            "evm_increaseTime": lambda seconds: ledger.advance_clock(_quantity(seconds)),
        }

    def answer(self, method: str, parameters: list[Any]) -> Any:
        """The result of a method.

        Raises:
            RpcError: with geth's code; a revert carries the reason in its message.
        """
        run = self._table.get(method)
        if run is None:
            raise RpcError(-32601, f"the method {method[:60]} does not exist here")
        try:
            return run(*parameters)
        except TypeError as error:
            raise RpcError(-32602, f"invalid parameters: {str(error)[:120]}") from error
        except RpcError as error:
            if error.revert is not None:
                error.message = revert_message(error.revert)
            raise

    # --- where

    def _number(self, at: object) -> int | None:
        """The height of a block parameter; None for the head."""
        if isinstance(at, dict) and "blockHash" in at:
            block = self._find_block(_bytes(at["blockHash"]))
            if block is None:
                raise RpcError(-32000, "header not found")
            return int(block.number)
        if at in _TAGS or at is None:
            return None
        return 0 if at == "earliest" else _quantity(at)

    def _height(self, at: object) -> int:
        number = self._number(at)
        return int(self._ledger.head().block_number) if number is None else number

    def _state(self, at: object) -> Any:
        return self._ledger.state(self._number(at))

    def _known(self, at: object) -> Any:
        block = (
            self._find_block(_bytes(at))
            if isinstance(at, str) and len(at) == 66
            else self._ledger.block(self._height(at))
        )
        if block is None:
            raise RpcError(-32000, "block not found")
        return block

    def _find_block(self, block_hash: bytes) -> Any:
        number = self._ledger.number_of(block_hash)
        return None if number is None else self._ledger.block(number)

    def _base_fee(self) -> int:
        return int(self._ledger.head().base_fee_per_gas)

    # --- what

    def _storage(self, who: object, slot: object, at: object = "latest") -> str:
        return _hex(self._state(at).get_storage(_address(who), _quantity(slot)).to_bytes(32))

    def _block(self, number: int, *, full: bool) -> dict[str, Any] | None:
        block = self._ledger.block(number)
        if block is None:
            return None
        header = block.header
        transactions = [
            _transaction(block, index) if full else _hex(item.hash) for index, item in enumerate(block.transactions)
        ]
        return {
            "hash": _hex(header.hash),
            "parentHash": _hex(header.parent_hash),
            "sha3Uncles": _hex(header.uncles_hash),
            "miner": _hex(header.coinbase),
            "stateRoot": _hex(header.state_root),
            "transactionsRoot": _hex(header.transaction_root),
            "receiptsRoot": _hex(header.receipt_root),
            "logsBloom": _hex(header.bloom.to_bytes(256)),
            "difficulty": hex(header.difficulty),
            "number": hex(header.block_number),
            "gasLimit": hex(header.gas_limit),
            "gasUsed": hex(header.gas_used),
            "timestamp": hex(header.timestamp),
            "extraData": _hex(header.extra_data),
            "mixHash": _hex(header.mix_hash),
            "nonce": _hex(header.nonce),
            "baseFeePerGas": hex(header.base_fee_per_gas),
            "withdrawalsRoot": _hex(header.withdrawals_root),
            "blobGasUsed": hex(header.blob_gas_used),
            "excessBlobGas": hex(header.excess_blob_gas),
            "parentBeaconBlockRoot": _hex(header.parent_beacon_block_root),
            "requestsHash": _hex(header.requests_hash),
            "size": hex(len(rlp.encode(header)) + sum(len(item.encode()) for item in block.transactions)),
            "totalDifficulty": "0x0",
            "transactions": transactions,
            "uncles": [],
            "withdrawals": [],
        }

    def _block_by_hash(self, block_hash: object, full: bool = False) -> dict[str, Any] | None:
        number = self._ledger.number_of(_bytes(block_hash))
        return None if number is None else self._block(number, full=full)

    def _find(self, transaction_hash: object) -> Mined | None:
        return self._ledger.find(_bytes(transaction_hash))

    def _transaction(self, transaction_hash: object) -> dict[str, Any] | None:
        mined = self._find(transaction_hash)
        return None if mined is None else _transaction(mined.block, mined.index)

    def _raw_transaction(self, transaction_hash: object) -> str:
        mined = self._find(transaction_hash)
        return "0x" if mined is None else _hex(mined.block.transactions[mined.index].encode())

    def _receipt(self, transaction_hash: object) -> dict[str, Any] | None:
        mined = self._find(transaction_hash)
        return None if mined is None else _receipt(mined)

    def _block_receipts(self, at: object) -> list[dict[str, Any]]:
        block = self._known(at)
        receipts = self._ledger.receipts(block)
        return [_receipt(Mined(block, receipts, index)) for index in range(len(receipts))]

    def _logs(self, query: object) -> list[dict[str, Any]]:
        if not isinstance(query, dict):
            raise RpcError(-32602, "a filter is an object")
        if "blockHash" in query:
            first = last = int(self._known(query["blockHash"]).number)
        else:
            first = self._height(query.get("fromBlock", "latest"))
            last = min(self._height(query.get("toBlock", "latest")), int(self._ledger.head().block_number))
        if last - first > _MAX_LOG_BLOCKS:
            raise RpcError(-32005, f"at most {_MAX_LOG_BLOCKS} blocks in one query")
        addresses, topics = _alternatives(query.get("address")), [_alternatives(t) for t in query.get("topics") or []]
        found = []
        for number in range(first, last + 1):
            header = self._ledger.header(number)
            if header is None or header.bloom == 0:
                continue
            for receipt in self._block_receipts(hex(number)):
                found += [log for log in receipt["logs"] if _matches(log, addresses, topics)]
        return found


def revert_message(returned: bytes) -> str:
    """Geth's message for a revert: the reason of Error(string) where there is one."""
    if returned[:4] == _ERROR_STRING:
        with contextlib.suppress(DecodingError, UnicodeDecodeError):
            return f"execution reverted: {decode(['string'], returned[4:])[0]}"
    return "execution reverted"


def _transaction(block: Any, index: int) -> dict[str, Any]:
    item = block.transactions[index]
    kind = getattr(item, "type_id", None) or 0
    dynamic = hasattr(item, "max_fee_per_gas")
    base = int(block.header.base_fee_per_gas)
    price = min(item.max_fee_per_gas, base + item.max_priority_fee_per_gas) if dynamic else item.gas_price
    v, r, s = (item.y_parity if kind else item.v), item.r, item.s
    fees = (
        {"maxFeePerGas": hex(item.max_fee_per_gas), "maxPriorityFeePerGas": hex(item.max_priority_fee_per_gas)}
        if dynamic
        else {}
    )
    access = [
        {"address": _hex(who), "storageKeys": [_hex(k.to_bytes(32)) for k in keys]} for who, keys in item.access_list
    ]
    return fees | {
        "hash": _hex(item.hash),
        "type": hex(kind),
        "chainId": hex(item.chain_id),
        "from": _hex(item.sender),
        "to": _hex(item.to) if item.to else None,
        "nonce": hex(item.nonce),
        "gas": hex(item.gas),
        "gasPrice": hex(price),
        "value": hex(item.value),
        "input": _hex(item.data),
        "accessList": access,
        "v": hex(v),
        "yParity": hex(v & 1 if kind else (v + 1) & 1),
        "r": hex(r),
        "s": hex(s),
        "blockHash": _hex(block.hash),
        "blockNumber": hex(block.number),
        "transactionIndex": hex(index),
    }


def _receipt(mined: Mined) -> dict[str, Any]:
    block, index = mined.block, mined.index
    item, receipt = block.transactions[index], mined.receipts[index]
    before = mined.receipts[index - 1].gas_used if index else 0
    first_log = sum(len(earlier.logs) for earlier in mined.receipts[:index])
    shown = _transaction(block, index)
    place = {name: shown[name] for name in ("blockHash", "blockNumber", "transactionIndex")} | {
        "transactionHash": shown["hash"]
    }
    created = None if item.to else _hex(keccak256(rlp.encode([item.sender, item.nonce]))[12:])
    return place | {
        "type": shown["type"],
        "status": hex(receipt.state_root[-1] if receipt.state_root else 0),
        "from": shown["from"],
        "to": shown["to"],
        "contractAddress": created,
        "cumulativeGasUsed": hex(receipt.gas_used),
        "gasUsed": hex(receipt.gas_used - before),
        "effectiveGasPrice": shown["gasPrice"],
        "logs": [_log(log, first_log + n) | place for n, log in enumerate(receipt.logs)],
        "logsBloom": _hex(receipt.bloom.to_bytes(256)),
    }


def _log(log: Any, position: int) -> dict[str, Any]:
    return {
        "address": _hex(log.address),
        "topics": [_hex(topic.to_bytes(32)) for topic in log.topics],
        "data": _hex(log.data),
        "logIndex": hex(position),
        "removed": False,
    }


def _alternatives(wanted: object) -> frozenset[bytes] | None:
    """The values that a filter's place admits; None admits all."""
    if wanted is None:
        return None
    return frozenset(_bytes(item) for item in (wanted if isinstance(wanted, list) else [wanted]))


def _matches(log: dict[str, Any], addresses: frozenset[bytes] | None, topics: list[frozenset[bytes] | None]) -> bool:
    if addresses is not None and _bytes(log["address"]) not in addresses:
        return False
    if len(topics) > len(log["topics"]):
        return False
    pairs = zip(topics, log["topics"], strict=False)
    return all(admitted is None or _bytes(topic) in admitted for admitted, topic in pairs)


def _request(request: object) -> CallRequest:
    if not isinstance(request, dict):
        raise RpcError(-32602, "a call is an object")
    data = request.get("input", request.get("data"))
    return CallRequest(
        sender=_address(request.get("from") or "0x" + "00" * 20),
        to=_address(request["to"]) if request.get("to") else b"",
        data=_bytes(data) if data else b"",
        value=_quantity(request.get("value") or 0),
        gas=_quantity(request["gas"]) if request.get("gas") else None,
    )


def _hex(value: bytes) -> str:
    return "0x" + bytes(value).hex()


def _bytes(value: object) -> bytes:
    if not isinstance(value, str) or not _HEX.match(value):
        raise RpcError(-32602, "bytes are 0x and an even number of hex digits")
    return bytes.fromhex(value[2:])


def _address(value: object) -> bytes:
    address = _bytes(value)
    if len(address) != 20:
        raise RpcError(-32602, "an address has 20 bytes")
    return address


def _quantity(value: object) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    if isinstance(value, str) and _QUANTITY.match(value):
        return int(value, 16)
    raise RpcError(-32602, "a quantity is 0x and hex digits")
