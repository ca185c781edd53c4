"""The dev chain itself: py-evm over one SQLite file, one block for each transaction, mined at once.

It knows transactions, blocks, calls and time, nothing of JSON or HTTP. Every block is one synced SQLite commit, so that
a process killed at any instant leaves a whole chain behind. Not safe for concurrent use: the server holds a lock.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from eth.chains.base import Chain
from eth.constants import BLANK_ROOT_HASH, GENESIS_GAS_LIMIT, POST_MERGE_DIFFICULTY, POST_MERGE_NONCE, ZERO_ADDRESS
from eth.db.atomic import AtomicDB
from eth.db.backends.base import BaseDB
from eth.exceptions import CanonicalHeadNotFound, HeaderNotFound, Revert, TransactionNotFound, VMError
from eth.vm.spoof import SpoofTransaction
from eth_utils.exceptions import ValidationError
from rlp.exceptions import RLPException  # type: ignore[import-untyped]  # it has no types

from workers.dev.bn254 import DevVM
from workers.dev.rpc import DEV_CHAIN_ID

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


GAS_LIMIT = 60_000_000
"""Of a block, like Ethereum's and below Base's."""
TRANSACTION_GAS_LIMIT = 16_777_216
"""Of one transaction (EIP-7825): what later revisions will refuse is refused here too."""
FUNDS = 10_000 * 10**18
"""Wei of ETH that each account named at the start of a chain holds."""
_CLOCK = b"opgate:clock-offset"


class RpcError(Exception):
    """A refusal in JSON-RPC's words: code, message and, for a revert, the bytes that the contract returned."""

    def __init__(self, code: int, message: str, revert: bytes | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.revert = revert


class SqliteDB(BaseDB):
    """A key-value store for py-evm in one SQLite file, with whole transactions."""

    def __init__(self, path: Path) -> None:
        self._sql = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        self._sql.execute("PRAGMA journal_mode=WAL")
        self._sql.execute("PRAGMA synchronous=FULL")
        # A second server on the same file would fork the chain: the first one keeps the file to itself.
        self._sql.execute("PRAGMA locking_mode=EXCLUSIVE")
        self._sql.execute("CREATE TABLE IF NOT EXISTS kv (k BLOB PRIMARY KEY, v BLOB NOT NULL) WITHOUT ROWID")

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """All writes inside are there afterwards, or none is."""
        self._sql.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._sql.execute("ROLLBACK")
            raise
        self._sql.execute("COMMIT")

    def __getitem__(self, key: bytes) -> bytes:
        row = self._sql.execute("SELECT v FROM kv WHERE k = ?", (key,)).fetchone()
        if row is None:
            raise KeyError(key)
        return bytes(row[0])

    def __setitem__(self, key: bytes, value: bytes) -> None:
        self._sql.execute("INSERT OR REPLACE INTO kv VALUES (?, ?)", (key, value))

    def __delitem__(self, key: bytes) -> None:
        self._sql.execute("DELETE FROM kv WHERE k = ?", (key,))

    def _exists(self, key: bytes) -> bool:
        return self._sql.execute("SELECT 1 FROM kv WHERE k = ?", (key,)).fetchone() is not None

    def close(self) -> None:
        """Close the file; later use fails."""
        self._sql.close()


@dataclass(frozen=True)
class Mined:
    """A transaction where it stands: `receipts` are all of its block's, `index` is its own."""

    block: Any
    receipts: tuple[Any, ...]
    index: int


@dataclass(frozen=True)
class CallRequest:
    """What `eth_call` and `eth_estimateGas` are asked: no signature, no nonce, no price."""

    sender: bytes
    to: bytes
    data: bytes
    value: int
    gas: int | None


class DevLedger:
    """A chain with the id 31337 that mines each transaction in a block of its own.

    Time: a block, and every call, has the later of the clock (plus what `advance_clock` added) and the block before, so
    an idle chain is never late. Chain ids are checked, which py-evm does not do.
    """

    def __init__(self, path: Path, *, funded: tuple[bytes, ...] = (), chain_id: int = DEV_CHAIN_ID) -> None:
        """Open the chain in the file, or begin one where each of `funded` (20 bytes each) holds 10,000 ETH."""
        self.chain_id = chain_id
        self._db = SqliteDB(path)
        # py-evm's own annotations cover half of it: what comes from it is Any here.
        self._class: Any = type("DevChain", (Chain,), {"chain_id": chain_id, "vm_configuration": ((0, DevVM),)})
        self._chain = self._open(funded)

    def _open(self, funded: tuple[bytes, ...] = ()) -> Any:
        chain = self._class(AtomicDB(self._db))
        try:
            chain.get_canonical_head()
        except CanonicalHeadNotFound:
            genesis = {
                "coinbase": ZERO_ADDRESS,
                "difficulty": POST_MERGE_DIFFICULTY,
                "nonce": POST_MERGE_NONCE,
                "extra_data": b"opgate dev",
                "gas_limit": max(GAS_LIMIT, GENESIS_GAS_LIMIT),
                "timestamp": int(time.time()),
                "transaction_root": BLANK_ROOT_HASH,
                "receipt_root": BLANK_ROOT_HASH,
            }
            accounts = {who: {"balance": FUNDS, "nonce": 0, "code": b"", "storage": {}} for who in funded}
            with self._db.transaction():
                self._class.from_genesis(AtomicDB(self._db), genesis, accounts)
            chain = self._class(AtomicDB(self._db))
        return chain

    def close(self) -> None:
        """Let go of the file."""
        self._db.close()

    # --- time

    def now(self) -> int:
        """The time (Unix seconds) that a block mined now has."""
        return max(int(time.time()) + self._offset(), int(self.head().timestamp))

    def advance_clock(self, seconds: int) -> int:
        """Move the chain's clock forward for good; the offset in all, in seconds. Only tests of deadlines need it."""
        if seconds < 0:
            raise RpcError(-32602, "time moves forward only")
        total = self._offset() + seconds
        with self._db.transaction():
            self._db[_CLOCK] = str(total).encode()
        return total

    def _offset(self) -> int:
        return int(self._db[_CLOCK]) if _CLOCK in self._db else 0

    # --- blocks

    def head(self) -> Any:
        """The header of the last block."""
        return self._chain.get_canonical_head()

    def header(self, number: int) -> Any:
        """The header at a height, None beyond the head."""
        if not 0 <= number <= self.head().block_number:
            return None
        return self._chain.get_canonical_block_header_by_number(number)

    def block(self, number: int) -> Any:
        """The block at a height, None beyond the head."""
        return None if self.header(number) is None else self._chain.get_canonical_block_by_number(number)

    def number_of(self, block_hash: bytes) -> int | None:
        """The height of the block with a hash, None if this chain has none."""
        try:
            return int(self._chain.chaindb.get_block_header_by_hash(block_hash).block_number)
        except (HeaderNotFound, ValidationError):
            return None

    def receipts(self, block: Any) -> tuple[Any, ...]:
        """The receipts of a block, in the order of its transactions."""
        return tuple(block.get_receipts(self._chain.chaindb))

    def find(self, transaction_hash: bytes) -> Mined | None:
        """Where a transaction stands, None if this chain never mined it."""
        try:
            number, index = self._chain.chaindb.get_transaction_index(transaction_hash)
        except TransactionNotFound:
            return None
        block = self._chain.get_canonical_block_by_number(number)
        return Mined(block=block, receipts=self.receipts(block), index=index)

    # --- state

    def state(self, number: int | None = None) -> Any:
        """py-evm's state after a block (None: the head), in the context of a block mined now for the head."""
        head = self.head()
        if number is None or number == head.block_number:
            return self._chain.get_vm(self._next_header()).state
        header = self.header(number)
        if header is None:
            raise RpcError(-32000, "header not found")
        return self._chain.get_vm(header).state

    def _next_header(self) -> Any:
        head = self.head()
        vm = self._chain.get_vm_class(head)
        header = vm.create_header_from_parent(
            head, timestamp=self.now(), gas_limit=head.gas_limit, coinbase=ZERO_ADDRESS
        )
        return header.copy(mix_hash=os.urandom(32))

    # --- transactions

    def send(self, raw: bytes) -> bytes:
        """Mine a signed transaction in its own block; its hash. A transaction that reverts is mined too, with status 0.

        Raises:
            RpcError: it cannot be decoded, is for another chain, its nonce is used or too high, it cannot be paid for.
        """
        transaction = self._decode(raw)
        if self.find(transaction.hash) is not None:
            raise RpcError(-32000, "already known")
        self._check(transaction)
        try:
            with self._db.transaction():
                self._mine(transaction)
        except ValidationError as error:
            raise RpcError(-32000, f"invalid transaction: {error}") from error
        finally:
            # py-evm keeps caches beside the database; after a rollback they would be wrong.
            self._chain = self._open()
        return bytes(transaction.hash)

    def _decode(self, raw: bytes) -> Any:
        builder = self._chain.get_vm_class(self.head()).get_transaction_builder()
        try:
            transaction: Any = builder.decode(raw)
            transaction.validate()
            _ = transaction.sender
        except (RLPException, ValidationError, VMError, ValueError, TypeError, IndexError) as error:
            raise RpcError(-32000, f"transaction cannot be decoded: {str(error)[:120]}") from error
        except Exception as error:
            # eth_keys raises classes of its own for signatures that recover nothing; all are the sender's fault.
            if type(error).__module__.split(".")[0] not in ("eth_keys", "eth"):
                raise
            raise RpcError(-32000, f"transaction cannot be decoded: {str(error)[:120]}") from error
        if transaction.encode() != raw:
            raise RpcError(-32000, "transaction is not in its one encoding")
        return transaction

    def _check(self, transaction: Any) -> None:
        """The refusals that a client acts on, in geth's words."""
        if transaction.chain_id != self.chain_id:
            raise RpcError(-32000, f"invalid chain id for signer: have {transaction.chain_id} want {self.chain_id}")
        state = self.state()
        nonce = state.get_nonce(transaction.sender)
        if transaction.nonce < nonce:
            raise RpcError(-32000, f"nonce too low: next nonce {nonce}, tx nonce {transaction.nonce}")
        if transaction.nonce > nonce:
            raise RpcError(-32000, f"nonce too high: next nonce {nonce}, tx nonce {transaction.nonce}")
        if transaction.gas > TRANSACTION_GAS_LIMIT:
            raise RpcError(-32000, f"transaction gas limit too high: {transaction.gas}, cap {TRANSACTION_GAS_LIMIT}")
        price = getattr(transaction, "max_fee_per_gas", None)
        cost = transaction.gas * (transaction.gas_price if price is None else price) + transaction.value
        if state.get_balance(transaction.sender) < cost:
            raise RpcError(-32000, f"insufficient funds for gas * price + value: want {cost}")

    def _mine(self, transaction: Any) -> None:
        header = self._next_header()
        vm = self._chain.get_vm(header)
        vm.block_preprocessing(vm.get_block())
        header, receipts, _ = vm.apply_all_transactions([transaction], header)
        block = vm.set_block_transactions_and_withdrawals(vm.get_block(), header, [transaction], receipts)
        block = vm.block_postprocessing(block)
        self._chain.persist_block(vm.mine_block(block).block)

    # --- calls

    def call(self, request: CallRequest, number: int | None = None) -> bytes:
        """What a call returns, with the state after a block.

        Raises:
            RpcError: code 3 with the revert's bytes, or -32000 for any other failure.
        """
        return bytes(self._run(request, number, request.gas or TRANSACTION_GAS_LIMIT).output)

    def estimate(self, request: CallRequest) -> int:
        """A gas limit that the call succeeds with: what it used, times 64/63 and a tenth, tried once more."""
        computation = self._run(request, None, TRANSACTION_GAS_LIMIT)
        used: int = TRANSACTION_GAS_LIMIT - computation.get_gas_remaining()
        gas: int = min(used * 64 // 63 * 11 // 10 + 1_000, TRANSACTION_GAS_LIMIT)
        while gas < TRANSACTION_GAS_LIMIT:
            with contextlib.suppress(RpcError):
                self._run(request, None, gas)
                break
            gas = min(2 * gas, TRANSACTION_GAS_LIMIT)
        return gas

    def _run(self, request: CallRequest, number: int | None, gas: int) -> Any:
        header = self._next_header() if number is None else self.header(number)
        if header is None:
            raise RpcError(-32000, "header not found")
        vm = self._chain.get_vm(header.copy(base_fee_per_gas=0))
        unsigned = vm.get_transaction_builder().new_unsigned_dynamic_fee_transaction(
            chain_id=self.chain_id,
            nonce=vm.state.get_nonce(request.sender),
            max_priority_fee_per_gas=0,
            max_fee_per_gas=0,
            gas=min(gas, TRANSACTION_GAS_LIMIT),
            to=request.to,
            value=request.value,
            data=request.data,
            access_list=(),
        )
        try:
            computation: Any = vm.state.apply_transaction(SpoofTransaction(unsigned, from_=request.sender))
        except ValidationError as error:
            raise RpcError(-32000, f"invalid call: {error}"[:200]) from error
        if computation.is_error:
            cause = computation.error
            if isinstance(cause, Revert):
                raise RpcError(3, "execution reverted", bytes(cause.args[0]) if cause.args else b"")
            raise RpcError(-32000, f"{type(cause).__name__}: {cause}"[:200])
        return computation
