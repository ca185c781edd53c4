"""Fetches the evidence that a transaction was mined: raw bytes and trie proofs, rebuilt from what any node answers.

Nothing that a node says is taken: the header must hash to the block's hash, and the tries that we build from all of the
block's transactions and receipts must have the header's roots. The pure check is `verifier.chain_evidence`.
All nodes that the chain was given must have the block in their chain; that it stays there is a question of depth.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import rlp  # type: ignore[import-untyped]  # it has no types
from trie.hexary import HexaryTrie

from verifier.chain_evidence import check_evidence
from verifier.errors import OpgateError, UndecidedError
from verifier.keccak import keccak256
from verifier.payment.rpc import mapping, octets, quantity
from verifier.statement.evidence import ChainEvidence
from verifier.statement.scalars import Bytes32, Count, HexBytes, Text

if TYPE_CHECKING:
    from verifier.payment.chain import Chain

_WHERE = "block"
_DEPOSIT = 0x7E
_MAX_TRANSACTIONS = 20_000
# The header's fields in their order; numbers are marked, optional ones came with later revisions.
_HEADER = (
    ("parentHash", False),
    ("sha3Uncles", False),
    ("miner", False),
    ("stateRoot", False),
    ("transactionsRoot", False),
    ("receiptsRoot", False),
    ("logsBloom", False),
    ("difficulty", True),
    ("number", True),
    ("gasLimit", True),
    ("gasUsed", True),
    ("timestamp", True),
    ("extraData", False),
    ("mixHash", False),
    ("nonce", False),
)
_LATER = (
    ("baseFeePerGas", True),
    ("withdrawalsRoot", False),
    ("blobGasUsed", True),
    ("excessBlobGas", True),
    ("parentBeaconBlockRoot", False),
    ("requestsHash", False),
)


def fetch_evidence(chain: Chain, transaction_hash: Bytes32) -> ChainEvidence:
    """The evidence for a mined, successful transaction; it has passed `check_evidence`.

    Raises:
        UndecidedError: E-not-mined where the node does not know it in a block, E-rpc-evidence where what it says of the
            block does not hold together, and E-rpc-… of `JsonRpc`.
        VerifierError: V3-evidence-status where the transaction failed.
    """
    receipt = chain.rpc.call("eth_getTransactionReceipt", str(transaction_hash))
    if receipt is None:
        raise UndecidedError("E-not-mined", "the node knows no such mined transaction", where=str(transaction_hash))
    receipt = mapping(receipt, where="receipt")
    index = quantity(receipt.get("transactionIndex"), where="receipt.transactionIndex")
    block_hash = octets(receipt.get("blockHash"), where="receipt.blockHash", size=32)
    block = mapping(chain.rpc.call("eth_getBlockByHash", "0x" + block_hash.hex(), True), where=_WHERE)
    header = encode_header(block)
    if keccak256(header) != block_hash:
        raise _inconsistent("the header does not hash to the block's hash")
    listed = block.get("transactions")
    if not isinstance(listed, list) or not index < len(listed) <= _MAX_TRANSACTIONS:
        raise _inconsistent("the block does not list the transaction")
    transactions = [encode_transaction(mapping(item, where="transaction")) for item in listed]
    receipts = [encode_receipt(item) for item in _receipts(chain, block_hash, listed)]
    proof = (
        *_prove(receipts, index, octets(block.get("receiptsRoot"), where="receiptsRoot"), "receipts"),
        *_prove(transactions, index, octets(block.get("transactionsRoot"), where="transactionsRoot"), "transactions"),
    )
    evidence = ChainEvidence(
        chain_id=Count(chain.chain_id),
        transaction=HexBytes(transactions[index]),
        receipt=HexBytes(receipts[index]),
        receipt_proof=tuple(HexBytes(node) for node in proof),
        index=Count(index),
        header=HexBytes(header),
        source=Text(chain.rpc.source),
    )
    checked = check_evidence(evidence)
    if checked.transaction_hash != transaction_hash:
        raise _inconsistent("the block holds another transaction at this index")
    if not chain.is_canonical(checked.block_number, checked.block_hash):
        raise _inconsistent("the chain has another block at this height: a reorganisation took this one away")
    return evidence


def encode_header(block: dict[str, Any]) -> bytes:
    """The RLP of a block's header from its JSON."""
    later = [(name, number) for name, number in _LATER if block.get(name) is not None]
    return bytes(rlp.encode([_field(block, name, number=number) for name, number in (*_HEADER, *later)]))


def encode_transaction(item: dict[str, Any]) -> bytes:
    """The consensus encoding of a transaction from its JSON: legacy, types 1 to 4, and Optimism's deposits."""
    kind = quantity(item.get("type", "0x0"), where="transaction.type")

    def number(name: str) -> bytes:
        return _field(item, name, number=True)

    to = octets(item["to"], where="transaction.to", size=20) if item.get("to") else b""
    call = octets(item.get("input", item.get("data")), where="transaction.input")
    if kind == _DEPOSIT:
        system = b"\x01" if item.get("isSystemTx") else b""
        mint = number("mint") if item.get("mint") else b""
        head = [_field(item, "sourceHash"), _field(item, "from"), to, mint]
        return bytes([kind]) + bytes(rlp.encode([*head, number("value"), number("gas"), system, call]))
    core = [number("gas"), to, number("value"), call]
    if kind == 0:
        signature = [number("v"), number("r"), number("s")]
        return bytes(rlp.encode([number("nonce"), number("gasPrice"), *core, *signature]))
    access = [
        [
            octets(entry.get("address"), where="accessList", size=20),
            [octets(key, where="accessList", size=32) for key in _items(entry.get("storageKeys"), "storageKeys")],
        ]
        for entry in (mapping(entry, where="accessList") for entry in _items(item.get("accessList"), "accessList"))
    ]
    parity = number("yParity") if "yParity" in item else number("v")
    fees = [number("gasPrice")] if kind == 1 else [number("maxPriorityFeePerGas"), number("maxFeePerGas")]
    body = [number("chainId"), number("nonce"), *fees, *core, access]
    if kind == 3:
        body += [
            number("maxFeePerBlobGas"),
            [octets(h, where="blob") for h in _items(item.get("blobVersionedHashes"), "blob")],
        ]
    if kind == 4:
        entries = _items(item.get("authorizationList"), "authorizationList")
        body.append([_authorization(mapping(entry, where="authorizationList")) for entry in entries])
    return bytes([kind]) + bytes(rlp.encode([*body, parity, number("r"), number("s")]))


def encode_receipt(item: dict[str, Any]) -> bytes:
    """The consensus encoding of a receipt from its JSON."""
    kind = quantity(item.get("type", "0x0"), where="receipt.type")
    logs = [
        [
            octets(log.get("address"), where="log", size=20),
            [octets(topic, where="log", size=32) for topic in _items(log.get("topics"), "topics")],
            octets(log.get("data"), where="log"),
        ]
        for log in (mapping(entry, where="log") for entry in _items(item.get("logs"), "logs"))
    ]
    fields: list[Any] = [
        _field(item, "status", number=True),
        _field(item, "cumulativeGasUsed", number=True),
        _field(item, "logsBloom"),
        logs,
    ]
    if kind == _DEPOSIT:
        fields += [
            _field(item, name, number=True) for name in ("depositNonce", "depositReceiptVersion") if name in item
        ]
    return (bytes([kind]) if kind else b"") + bytes(rlp.encode(fields))


def _receipts(chain: Chain, block_hash: bytes, listed: list[Any]) -> list[dict[str, Any]]:
    """All receipts of a block, one by one where the node cannot give them at once."""
    try:
        receipts = chain.rpc.call("eth_getBlockReceipts", "0x" + block_hash.hex())
    except OpgateError as error:
        if error.code != "E-rpc-method":
            raise
        receipts = [chain.rpc.call("eth_getTransactionReceipt", item.get("hash")) for item in listed]
    if not isinstance(receipts, list) or len(receipts) != len(listed):
        raise _inconsistent("the block has not as many receipts as transactions")
    return [mapping(item, where="receipt") for item in receipts]


def _prove(values: list[bytes], index: int, root: bytes, what: str) -> tuple[bytes, ...]:
    """The nodes from the root of the trie of all values to the one at the index; the root must be the header's."""
    trie = HexaryTrie({})
    for position, value in enumerate(values):
        trie[rlp.encode(position)] = value
    if trie.root_hash != root:
        raise _inconsistent(f"the {what} do not hash to the header's root")
    path = trie.get_proof(rlp.encode(index))  # type: ignore[no-untyped-call]  # the library leaves it untyped
    nodes = [bytes(rlp.encode(node)) for node in path]
    # A node below 32 bytes stands inside its parent and is no node of its own; the root always is one.
    return (nodes[0], *(node for node in nodes[1:] if len(node) >= 32))


def _authorization(entry: dict[str, Any]) -> list[bytes]:
    parity = _field(entry, "yParity" if "yParity" in entry else "v", number=True)
    head = [_field(entry, "chainId", number=True), _field(entry, "address"), _field(entry, "nonce", number=True)]
    return [*head, parity, _field(entry, "r", number=True), _field(entry, "s", number=True)]


def _items(value: object, where: str) -> list[Any]:
    """A JSON list, none for null."""
    if value is None:
        return []
    if isinstance(value, list):
        return value
    raise UndecidedError("E-rpc-reply", "the node's reply is no list", where=where, found=str(value)[:80])


def _field(item: dict[str, Any], name: str, *, number: bool = False) -> bytes:
    """One field as RLP has it: bytes as they are, numbers without leading zeros."""
    if not number:
        return octets(item.get(name), where=name)
    value = quantity(item.get(name), where=name)
    return value.to_bytes((value.bit_length() + 7) // 8)


def _inconsistent(message: str) -> UndecidedError:
    return UndecidedError("E-rpc-evidence", message, where=_WHERE, do="Ask another node: this one is wrong or too old.")
