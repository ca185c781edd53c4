"""Chain transactions that survive crashes: what is sent is written first, and one purpose is served once.

A row holds nonce, raw bytes and every hash sent. A new nonce is used only when the one before is mined, so a key's
transactions never wait for each other in a node. States: new -> sent -> mined -> final, or failed; a reorganisation
moves mined back to sent. One process at a time works with a key: a file lock, which the kernel lets go of when the
process dies.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from verifier.errors import EscrowError, UndecidedError
from verifier.payment.keys import Key, Transaction
from verifier.statement.scalars import Address, Bytes32

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from verifier.payment.chain import Chain, Mined

_METADATA = sa.MetaData()
_ROWS = sa.Table(
    "chain_transactions",
    _METADATA,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("purpose", sa.String(200), nullable=False),
    sa.Column("chain_id", sa.Integer, nullable=False),
    sa.Column("sender", sa.String(42), nullable=False),
    sa.Column("nonce", sa.Integer, nullable=False),
    sa.Column("state", sa.String(8), nullable=False),
    sa.Column("receiver", sa.String(42)),
    sa.Column("call", sa.LargeBinary, nullable=False),
    sa.Column("gas", sa.Integer, nullable=False),
    sa.Column("max_fee", sa.String(78), nullable=False),
    sa.Column("tip", sa.String(78), nullable=False),
    sa.Column("raw", sa.LargeBinary, nullable=False),
    sa.Column("hashes", sa.Text, nullable=False),
    sa.Column("block_number", sa.Integer),
    sa.Column("error", sa.String(60)),
)
# At most one row that is not a failure for a purpose, and one for a nonce: the database refuses what a bug would send.
sa.Index(
    "one_per_purpose",
    _ROWS.c.chain_id,
    _ROWS.c.sender,
    _ROWS.c.purpose,
    unique=True,
    sqlite_where=_ROWS.c.state != "failed",
)
sa.Index(
    "one_per_nonce",
    _ROWS.c.chain_id,
    _ROWS.c.sender,
    _ROWS.c.nonce,
    unique=True,
    sqlite_where=sa.or_(_ROWS.c.state != "failed", _ROWS.c.block_number.is_not(None)),
)
_OPEN = ("new", "sent")
_BUMP_NUMERATOR, _BUMP_DENOMINATOR = 5, 4


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Seconds until a fee is raised, how often, the dearest max fee per gas in wei, and the depth that is final."""

    patience_s: float = 20.0
    raises: int = 3
    max_fee: int = 500 * 10**9
    confirmations: int = 12


@dataclass(frozen=True, kw_only=True)
class Call:
    """What is to be sent: `to` None creates a contract. With `gas` None the node estimates, and a fourth is added."""

    to: Address | None
    data: bytes
    gas: int | None = None


class Outbox:
    """The transactions of one key on one chain, in one SQLite file that other keys may share."""

    def __init__(self, path: Path, chain: Chain, key: Key, *, limits: Limits | None = None) -> None:
        """Open the file, making it with mode 0600 where it is missing."""
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        self._chain, self._key, self._limits = chain, key, limits or Limits()
        self._lock_path = path.with_name(f"{path.name}.{key.address}.lock")
        self._engine = sa.create_engine(f"sqlite:///{path}", connect_args={"timeout": 30}, poolclass=sa.NullPool)
        sa.event.listen(self._engine, "connect", _be_durable)
        # Two processes that begin one file at once would each find no table, and SQLite refuses to wait for its mode.
        with _locked(path.with_name(f"{path.name}.lock")):
            _METADATA.create_all(self._engine)

    @property
    def sender(self) -> Address:
        """The key's address."""
        return self._key.address

    def close(self) -> None:
        """Close the file."""
        self._engine.dispose()

    def send(self, purpose: str, call: Call) -> Mined:
        """Have a call mined once for this purpose, whatever was killed before; where it stands in the chain.

        A second send for the same purpose returns the first one's place, after a failed one it tries anew. Before
        anything is written the call is tried without a transaction, so that a refusal costs nothing.

        Raises:
            EscrowError: E-<reason> where the contract refuses, E-funds, E-fee-cap, E-chain-id; nothing is under way.
            UndecidedError: E-rpc-…, E-tx-pending: the row stays, and the next send or `resume` goes on with it.
        """
        with _locked(self._lock_path):
            self._resume()
            row = self._find(purpose)
            if row is not None:
                mined = self._standing(row)
                if mined is not None:
                    return mined
                return self._push(row)
            return self._push(self._write(purpose, call))

    def resume(self) -> None:
        """Finish what was under way: send the same bytes again, wait, move rows on or back; for start and sweepers."""
        with _locked(self._lock_path):
            self._resume()

    def history(self) -> list[dict[str, Any]]:
        """Every row of this key: purpose, nonce, state, hashes, block_number, error."""
        columns = ("purpose", "nonce", "state", "hashes", "block_number", "error")
        with self._engine.connect() as connection:
            rows = connection.execute(self._mine().order_by(_ROWS.c.id)).mappings().all()
        return [{name: json.loads(row[name]) if name == "hashes" else row[name] for name in columns} for row in rows]

    # --- rows

    def _mine(self) -> sa.Select[Any]:
        return sa.select(_ROWS).where(
            _ROWS.c.sender == str(self._key.address), _ROWS.c.chain_id == self._chain.chain_id
        )

    def _find(self, purpose: str) -> dict[str, Any] | None:
        query = self._mine().where(_ROWS.c.purpose == purpose, _ROWS.c.state != "failed")
        with self._engine.connect() as connection:
            row = connection.execute(query).mappings().first()
        return None if row is None else dict(row)

    def _set(self, row: dict[str, Any], **values: Any) -> None:
        with self._engine.begin() as connection:
            connection.execute(_ROWS.update().where(_ROWS.c.id == row["id"]).values(**values))
        row.update(values)

    def _write(self, purpose: str, call: Call) -> dict[str, Any]:
        """A new row, synced, with the signed bytes; nothing has left yet."""
        sender = self._key.address
        if call.gas is None:
            gas = self._chain.estimate(call.to, call.data, sender=sender) * 5 // 4 + 10_000
        else:
            gas = call.gas
            if call.to is not None:
                self._chain.call(call.to, call.data, sender=sender, gas=gas)
        row: dict[str, Any] = {
            "purpose": purpose,
            "chain_id": self._chain.chain_id,
            "sender": str(sender),
            "nonce": self._chain.nonce(sender, "pending"),
            "state": "new",
            "receiver": None if call.to is None else str(call.to),
            "call": call.data,
            "gas": gas,
            "hashes": "[]",
            "block_number": None,
            "error": None,
        }
        row |= self._signed(row, *self._fees())
        try:
            with self._engine.begin() as connection:
                row["id"] = connection.execute(_ROWS.insert().values(**row).returning(_ROWS.c.id)).scalar_one()
        except sa.exc.IntegrityError as error:
            raise UndecidedError(
                "E-rpc-nonce",
                "the node's count of our transactions is behind what we sent",
                where=f"nonce {row['nonce']} of {sender}",
                do="Wait, or ask another node. A chain that was begun anew needs a new outbox.",
            ) from error
        return row

    def _fees(self) -> tuple[int, int]:
        """Max fee and tip: the chain's, under our cap; E-fee-cap where the cap does not reach the present price."""
        max_fee, tip = self._chain.fees()
        needed = (max_fee - tip) // 2 + tip
        if needed > self._limits.max_fee:
            raise EscrowError(
                "E-fee-cap",
                "gas is dearer than the cap",
                where="max fee per gas",
                expected=f"at most {self._limits.max_fee} wei",
                found=f"{needed} wei",
                do="Wait, or raise the cap.",
            )
        return min(max_fee, self._limits.max_fee), tip

    def _signed(self, row: dict[str, Any], max_fee: int, tip: int) -> dict[str, Any]:
        """The columns of a row that change when it is signed with these fees; earlier hashes stay."""
        raw, transaction_hash = self._key.sign_transaction(
            Transaction(
                chain_id=row["chain_id"],
                nonce=row["nonce"],
                to=Address.from_json(row["receiver"]) if row["receiver"] else None,
                data=row["call"],
                gas=row["gas"],
                max_fee_per_gas=max_fee,
                max_priority_fee_per_gas=tip,
            )
        )
        hashes = json.dumps([*json.loads(row["hashes"]), str(transaction_hash)])
        return {"raw": raw, "hashes": hashes, "max_fee": str(max_fee), "tip": str(tip)}

    # --- the way of one row

    def _resume(self) -> None:
        query = self._mine().order_by(_ROWS.c.nonce)
        with self._engine.connect() as connection:
            rows = [dict(row) for row in connection.execute(query.where(_ROWS.c.state == "mined")).mappings()]
        for row in rows:
            self._standing(row)
        with self._engine.connect() as connection:
            rows = [dict(row) for row in connection.execute(query.where(_ROWS.c.state.in_(_OPEN))).mappings()]
        for row in rows:
            # A refusal is the row's own end, kept in it; only what is undecided stops what comes after.
            with contextlib.suppress(EscrowError):
                self._push(row)

    def _standing(self, row: dict[str, Any]) -> Mined | None:
        """Where a row's transaction is mined; None, and the row is sent again, where a reorganisation took it away."""
        mined = self._chain.wait_mined(_hashes(row), seconds=0)
        if mined is None:
            self._set(row, state="sent", block_number=None)
        elif row["state"] == "mined":
            depth = self._chain.head().number - mined.block_number
            self._set(
                row,
                state="final" if depth >= self._limits.confirmations else "mined",
                block_number=mined.block_number,
            )
        return mined

    def _push(self, row: dict[str, Any]) -> Mined:
        """Send a row's bytes until one of its hashes is mined, raising the fee where that takes too long."""
        raises = 0
        while True:
            dear_enough = self._hand_over(row)
            mined = self._chain.wait_mined(_hashes(row), seconds=self._limits.patience_s if dear_enough else 0)
            if mined is not None:
                return self._conclude(row, mined)
            if raises >= self._limits.raises or not self._raise_fee(row):
                raise UndecidedError(
                    "E-tx-pending",
                    "the transaction is sent and not mined yet",
                    where=_hashes(row)[-1].to_json(),
                    do="Try again later: it is not sent twice.",
                )
            raises += 1

    def _hand_over(self, row: dict[str, Any]) -> bool:
        """Give the bytes to the node; False where it wants a higher fee."""
        try:
            self._chain.send_raw(row["raw"])
        except EscrowError as error:
            if error.code == "E-underpriced":
                return False
            if error.code == "E-nonce-low":
                self._nonce_used(row)
            elif error.code != "E-already-known":
                self._set(row, state="failed", error=error.code)
                raise
        if row["state"] == "new":
            self._set(row, state="sent")
        return True

    def _nonce_used(self, row: dict[str, Any]) -> None:
        """The nonce is used: by one of our own hashes, or the row has failed."""
        if self._chain.wait_mined(_hashes(row), seconds=self._limits.patience_s) is None:
            self._set(row, state="failed", error="E-nonce-taken")
            raise EscrowError(
                "E-nonce-taken",
                "another program sent a transaction with this key",
                where=f"nonce {row['nonce']} of {row['sender']}",
                do="Use a key in one place only; then try again.",
            )

    def _raise_fee(self, row: dict[str, Any]) -> bool:
        """Sign the same nonce with a quarter more, written before it is sent; False where the cap forbids it."""
        max_fee, tip = (-(-int(row[name]) * _BUMP_NUMERATOR // _BUMP_DENOMINATOR) for name in ("max_fee", "tip"))
        present, _ = self._chain.fees()
        max_fee = max(max_fee, present)
        if max_fee > self._limits.max_fee:
            return False
        self._set(row, **self._signed(row, max_fee, max(tip, 1)))
        return True

    def _conclude(self, row: dict[str, Any], mined: Mined) -> Mined:
        if mined.succeeded:
            self._set(row, state="mined", block_number=mined.block_number)
            return mined
        refusal = self._reason(row)
        self._set(row, state="failed", block_number=mined.block_number, error=refusal.code)
        raise refusal

    def _reason(self, row: dict[str, Any]) -> EscrowError:
        """Why a mined transaction failed: the call is made again, since receipts do not say."""
        if row["receiver"]:
            try:
                receiver = Address.from_json(row["receiver"])
                self._chain.call(receiver, row["call"], sender=self._key.address, gas=row["gas"])
            except EscrowError as error:
                return error
        return EscrowError("E-reverted", "the transaction was mined and failed", where=_hashes(row)[-1].to_json())


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold a file's lock, waiting for whoever has it."""
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _hashes(row: dict[str, Any]) -> tuple[Bytes32, ...]:
    """Every hash sent for a row, the newest last."""
    return tuple(Bytes32.from_json(text) for text in json.loads(row["hashes"]))


def _be_durable(connection: Any, _record: object) -> None:
    """A committed row survives a crash of the machine too."""
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
