"""Checks, without any network, that a transaction was mined and what it logged: raw bytes against one block header.

What it shows: the transaction and its receipt stand at one index of the block that the header describes. What it does
not: that the header's hash is a block of the chain. Whoever gave that hash is trusted for it: `ChainEvidence.source`
names them. Compare `Checked.block_hash` with a source of your own. Refusals are VerifierError V3-evidence-…

Sources: Yellow Paper 4.3 and appendix D, EIP-2718, EIP-2930, EIP-1559, EIP-4844, EIP-7702.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, NoReturn

import rlp  # type: ignore[import-untyped]  # it has no types
from rlp.exceptions import RLPException  # type: ignore[import-untyped]  # it has no types
from trie.exceptions import BadTrieProof, InvalidNibbles, InvalidNode, MissingTrieNode, ValidationError
from trie.hexary import HexaryTrie

from verifier.errors import VerifierError
from verifier.keccak import keccak256
from verifier.statement.eip712 import Domain
from verifier.statement.evidence import ChainEvidence
from verifier.statement.scalars import Address, Bytes32

EventName = Literal["Funded", "Released", "Reclaimed", "Declined", "Cancelled", "InstancesShown"]

_RULE = "(address,bytes32,uint256,uint256,uint256,uint256,uint256,uint256)"
_TERMS = f"(address,address,address,address,uint256,bytes32,{_RULE},bytes32,uint256,uint256,bytes32)"
SIGNATURES: dict[EventName, str] = {
    "Funded": f"Funded(bytes32,address,address,{_TERMS})",
    "Released": "Released(bytes32,address,bytes32)",
    "Reclaimed": "Reclaimed(bytes32,address)",
    "Declined": "Declined(bytes32)",
    "Cancelled": "Cancelled(bytes32)",
    "InstancesShown": "InstancesShown(bytes32,bytes)",
}
TOPICS: dict[EventName, Bytes32] = {name: keccak256(text.encode()) for name, text in SIGNATURES.items()}
"""First topic of each of the escrow's events; each event's second topic is the job_id."""

_MAX_HEADER = 8_192
_MAX_NODES = 64
_MIN_HEADER_FIELDS, _MAX_HEADER_FIELDS = 15, 40
_LEGACY_FIELDS = 9
_MAX_OPEN = 16
"""Lists open at once in what a chain encodes; an access list, the deepest there is, has four."""
_MAX_ITEMS = 16_384
"""Items in all: some hundred logs, or thousands of storage keys; decoding them takes a tenth of a second."""
_LIST = 0xC0
# Where chain id, receiver, calldata stand in a typed transaction, and its number of fields.
_TYPED = {1: (0, 4, 6, 11), 2: (0, 5, 7, 12), 3: (0, 5, 7, 14), 4: (0, 5, 7, 13)}
_FOREIGN = (
    RLPException,
    BadTrieProof,
    InvalidNode,
    InvalidNibbles,
    MissingTrieNode,
    ValidationError,
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    RecursionError,
    AssertionError,
)


@dataclass(frozen=True)
class Log:
    """One event of a receipt."""

    address: Address
    topics: tuple[Bytes32, ...]
    data: bytes


@dataclass(frozen=True)
class Checked:
    """A successful transaction that stands in the block with this hash, and what it logged."""

    chain_id: int
    transaction_hash: Bytes32
    transaction_to: Address | None
    transaction_input: bytes
    block_hash: Bytes32
    block_number: int
    timestamp: int
    logs: tuple[Log, ...]

    def events(self, name: EventName, domain: Domain, job_id: Bytes32) -> tuple[Log, ...]:
        """The escrow's events of this name about this job; none where the domain is of another chain."""
        if self.chain_id != domain.chain_id:
            return ()
        head = (TOPICS[name], job_id)
        return tuple(log for log in self.logs if log.address == domain.verifying_contract and log.topics[:2] == head)


def check_evidence(evidence: ChainEvidence) -> Checked:
    """Check that the transaction and the receipt stand in the block of the header, and that it succeeded.

    `receipt_proof` holds the nodes of the receipts trie from its root to the receipt, then those of the transactions
    trie from its root to the transaction: exactly these, in this order.

    Raises:
        VerifierError: V3-evidence-header, -proof, -transaction, -receipt, -chain, -status.
    """
    header = _header(bytes(evidence.header))
    key = rlp.encode(evidence.index)
    nodes = tuple(bytes(node) for node in evidence.receipt_proof)
    if not 0 < len(nodes) <= _MAX_NODES:
        _no("proof", "the trie proof has no nodes, or too many", expected=f"1 to {_MAX_NODES}", found=str(len(nodes)))
    receipt, used = _look_up(header[5], key, nodes, "receipt")
    transaction, rest = _look_up(header[4], key, nodes[used:], "transaction")
    if used + rest != len(nodes):
        _no("proof", "the trie proof has nodes that prove nothing", expected=str(used + rest), found=str(len(nodes)))
    if receipt != evidence.receipt:
        _no("receipt", "the receipt is not the one in the block", expected="the block's receipt", found="other bytes")
    if transaction != evidence.transaction:
        _no("transaction", "the transaction is not the one in the block", expected="the block's", found="other bytes")
    chain_id, to, call = _transaction(transaction)
    if chain_id != evidence.chain_id:
        _no("chain", "the transaction is of another chain", expected=str(evidence.chain_id), found=str(chain_id))
    if (transaction[0] if transaction[0] < _LIST else 0) != (receipt[0] if receipt[0] < _LIST else 0):
        _no("receipt", "receipt and transaction are of different types", expected="one type", found="two")
    return Checked(
        chain_id=chain_id,
        transaction_hash=keccak256(transaction),
        transaction_to=to,
        transaction_input=call,
        block_hash=keccak256(bytes(evidence.header)),
        block_number=int.from_bytes(header[8]),
        timestamp=int.from_bytes(header[11]),
        logs=_logs(receipt),
    )


def check_released(evidence: ChainEvidence, domain: Domain, job_id: Bytes32, instances_hash: Bytes32) -> Checked:
    """Check that the transaction made the domain's escrow release this job for exactly these instances.

    Raises:
        VerifierError: V3-evidence-released where it did not, and everything that `check_evidence` raises.
    """
    checked = check_evidence(evidence)
    if not any(log.data == instances_hash for log in checked.events("Released", domain, job_id)):
        _no(
            "released",
            "the transaction did not release this job for these instances",
            expected=f"Released by {domain.verifying_contract} on chain {domain.chain_id} for job {job_id}",
            found=f"{len(checked.logs)} other events on chain {checked.chain_id}",
        )
    return checked


def check_event(evidence: ChainEvidence, name: EventName, domain: Domain, job_id: Bytes32) -> Checked:
    """Check that the transaction made the domain's escrow log this event about this job; V3-evidence-event if not."""
    checked = check_evidence(evidence)
    if not checked.events(name, domain, job_id):
        _no(
            "event",
            f"the transaction logged no {name} of this job",
            expected=f"{name} by {domain.verifying_contract} on chain {domain.chain_id} for job {job_id}",
            found=f"{len(checked.logs)} other events on chain {checked.chain_id}",
        )
    return checked


class _Recorder(dict[bytes, bytes]):
    """The proof's nodes by hash; it remembers in which order they were first read."""

    def __init__(self, nodes: tuple[bytes, ...]) -> None:
        super().__init__((keccak256(node), node) for node in nodes)
        self.read: list[bytes] = []

    def __getitem__(self, key: bytes) -> bytes:
        node = super().__getitem__(key)
        if not _is_modest(node):
            raise ValueError("a node that no trie has")
        if node not in self.read:
            self.read.append(node)
        return node


def _look_up(root: bytes, key: bytes, nodes: tuple[bytes, ...], what: str) -> tuple[bytes, int]:
    """The value at a key under a root, and how many nodes from the front it took."""
    recorder = _Recorder(nodes)
    try:
        value = HexaryTrie(recorder, root)[key]
    except _FOREIGN as error:
        raise VerifierError(
            f"V3-evidence-{what}",
            f"the {what} is not shown to be in the block",
            where="receipt_proof",
            found=f"{type(error).__name__}",
        ) from error
    if not value or not isinstance(value, bytes):  # a leaf may hold a list, which is no receipt and no transaction
        _no(what, f"the block has no {what} at this index", expected="bytes", found=type(value).__name__)
    if recorder.read != list(nodes[: len(recorder.read)]):
        _no("proof", "the trie proof is not in its one order", expected="from the root down", found="another order")
    return bytes(value), len(recorder.read)


def _header(raw: bytes) -> list[bytes]:
    fields: list[bytes] = _decode(raw, "header", limit=_MAX_HEADER)
    if not _MIN_HEADER_FIELDS <= len(fields) <= _MAX_HEADER_FIELDS or not all(type(item) is bytes for item in fields):
        _no("header", "this is no block header", expected="15 or more byte strings", found=f"{len(fields)} fields")
    if len(fields[4]) != 32 or len(fields[5]) != 32 or len(fields[8]) > 8 or len(fields[11]) > 8:
        _no(
            "header",
            "the header's fields have other lengths",
            expected="roots of 32 bytes, 64-bit numbers",
            found="others",
        )
    return fields


def _transaction(raw: bytes) -> tuple[int, Address | None, bytes]:
    """Chain id, receiver (None: a creation) and calldata."""
    if raw[0] >= _LIST:
        fields = _decode(raw, "transaction")
        places = (6, 3, 5, _LEGACY_FIELDS)
    elif raw[0] in _TYPED:
        fields = _decode(raw[1:], "transaction")
        places = _TYPED[raw[0]]
    else:
        _no("transaction", "the transaction's type is unknown", expected="legacy or 1 to 4", found=str(raw[0]))
    chain_at, to_at, call_at, count = places
    if len(fields) != count or any(type(fields[place]) is not bytes for place in places[:3]):
        _no("transaction", "the transaction has other fields", expected=f"{count} fields", found=str(len(fields)))
    chain_id = int.from_bytes(fields[chain_at])
    if raw[0] >= _LIST:
        # EIP-155: v = 35 or 36 + 2 x chain id; a transaction without it holds on every chain.
        chain_id = (chain_id - 35) // 2 if chain_id > 36 else 0
    if len(fields[to_at]) not in (0, 20):
        _no("transaction", "the receiver is no address", expected="0 or 20 bytes", found=str(len(fields[to_at])))
    return chain_id, Address(fields[to_at]) if fields[to_at] else None, fields[call_at]


def _logs(raw: bytes) -> tuple[Log, ...]:
    """The logs of a receipt that says success."""
    fields = _decode(raw if raw[0] >= _LIST else raw[1:], "receipt")
    if len(fields) != 4 or type(fields[3]) is not list:
        _no("receipt", "this is no receipt", expected="status, gas, bloom, logs", found=f"{len(fields)} fields")
    if fields[0] != b"\x01":
        _no("status", "the transaction failed", expected="status 1", found="status 0")
    try:
        return tuple(
            Log(Address(address), tuple(Bytes32(topic) for topic in topics), bytes(data))
            for address, topics, data in fields[3]
        )
    except (ValueError, TypeError) as error:
        raise VerifierError(
            "V3-evidence-receipt", "the receipt's logs are malformed", where="receipt", found=str(error)[:100]
        ) from error


def _decode(raw: bytes, what: str, *, limit: int = 1 << 21) -> Any:
    """A list in its one RLP encoding."""
    if len(raw) > limit:
        _no(what, f"the {what} is too large", expected=f"at most {limit} bytes", found=f"{len(raw)} bytes")
    if not _is_modest(raw):
        _no(what, f"the {what} is nested too deeply or has too many items", expected=f"{_MAX_OPEN} lists", found="more")
    try:
        fields = rlp.decode(raw)
        again = rlp.encode(fields)
    except _FOREIGN as error:
        raise VerifierError(
            f"V3-evidence-{what}", f"the {what} is no RLP", where=what, found=str(error)[:100]
        ) from error
    if type(fields) is not list or again != raw:
        _no(what, f"the {what} is no list in its one RLP encoding", expected="a list", found=type(fields).__name__)
    return fields


def _is_modest(raw: bytes) -> bool:
    """Whether RLP opens few lists at once and holds few items, counted before any decoder sees the bytes.

    Decoders call themselves for each list. Libraries raise Python's recursion limit, and deep RLP would then end the
    process, and get another verdict there than where nobody raised it. Up to its first error a decoder reads the bytes
    as this does.
    """
    ends: list[int] = []
    at = items = 0
    while at < len(raw):
        while ends and at >= ends[-1]:
            ends.pop()
        first, size = raw[at], 0
        if first >= 0x80:
            short = first - (_LIST if first >= _LIST else 0x80)
            count = max(short - 55, 0)
            size = int.from_bytes(raw[at + 1 : at + 1 + count]) if count else short
            at += count
        at += 1
        if first >= _LIST:
            ends.append(at + size)
        else:
            at += size
        items += 1
        if len(ends) > _MAX_OPEN or items > _MAX_ITEMS:
            return False
    return True


def _no(word: str, message: str, *, expected: str, found: str) -> NoReturn:
    raise VerifierError(f"V3-evidence-{word}", message, where="evidence", expected=expected, found=found)
