"""Chain transactions that survive crashes: what is sent is written first, and one purpose is served once.

A row holds nonce, raw bytes and every hash sent. Several rows may be in flight, in the order of their nonces; a row
keeps its nonce for ever, and only the lowest one's fee is raised, since the others wait for it. States: new -> sent ->
mined -> final, or failed; a reorganisation moves mined back to sent, and the same bytes are sent again. One process at
a time writes and hands over, by a file lock that the kernel lets go of when the process dies; nobody holds it while
waiting.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from verifier.errors import EscrowError, UndecidedError
from verifier.payment.keys import Signer, Transaction
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
    sa.Column("sent_at", sa.Float, nullable=False, server_default="0"),
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
_GLANCE_S, _PAUSE_S = 1.0, 0.1


@dataclass(frozen=True, kw_only=True)
class Limits:
    """How a transaction is pushed, and when it is final.

    Attributes:
        patience_s: seconds until a fee is raised and what a node forgot is sent again.
        raises: how often that may happen while one call of `send` waits; a later call goes on.
        max_fee: the dearest max fee per gas, in wei.
        max_tip: the dearest tip per gas, in wei: what a node advises is a stranger's word.
        confirmations: the depth that is final; None takes the chain's ``finalized`` tag.
        in_flight: how many transactions may wait in a node, which forgets what is far from the first one.
    """

    patience_s: float = 20.0
    raises: int = 3
    max_fee: int = 500 * 10**9
    max_tip: int = 50 * 10**9
    confirmations: int | None = 12
    in_flight: int = 16


@dataclass(frozen=True, kw_only=True)
class Call:
    """What is to be sent: `to` None creates a contract. With `gas` None the node estimates, and a fourth is added."""

    to: Address | None
    data: bytes
    gas: int | None = None


class Outbox:
    """The transactions of one key on one chain, in one SQLite file that other keys may share."""

    def __init__(self, path: Path, chain: Chain, key: Signer, *, limits: Limits | None = None) -> None:
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
            self._add_new_columns()

    @property
    def sender(self) -> Address:
        """The key's address."""
        return self._key.address

    @property
    def chain_id(self) -> int:
        """The chain that this outbox sends to."""
        return self._chain.chain_id

    def close(self) -> None:
        """Close the file."""
        self._engine.dispose()

    def send(self, purpose: str, call: Call) -> Mined:
        """Have a call mined once for this purpose, whatever was killed before; where it stands in the chain.

        A second send for the same purpose returns the first one's place, after a failed one it tries anew. Before
        anything is written the call is tried without a transaction, so that a refusal costs nothing. Sends of several
        threads or processes are in flight together.

        Raises:
            EscrowError: E-<reason> where the contract refuses, E-funds, E-fee-cap, E-chain-id; nothing is under way.
            UndecidedError: E-rpc-…, E-tx-pending: the row stays, and the next send or `resume` goes on with it.
        """
        with self._locked():
            self._push_late()
            self._finish()
            row = self._find(purpose)
            if row is None:
                row = self._write(purpose, call)
                self._hand_over(row)
            else:
                mined = self._standing(row)
                if mined is not None and row["state"] in ("mined", "final"):
                    return mined
                if mined is None:
                    self._hand_over(row)
        return self._wait(row)

    def resume(self) -> None:
        """Look at everything that is not final: move rows on or back, send again what was lost; wait for nothing new.

        For start and for sweepers. A row that fails here has its error in it and stops no other one.

        Raises:
            UndecidedError: E-rpc-…; E-tx-pending where something is still in flight after the patience of one wait.
        """
        with self._locked():
            self._look_again()
            waiting = self._open_rows()
        for row in waiting:
            # A refusal is the row's own end, kept in it; only what is undecided stops what comes after.
            with contextlib.suppress(EscrowError):
                self._wait(row)

    def look_again(self) -> None:
        """As `resume`, and wait for nothing: what a reorganisation or a node took away is sent again."""
        with self._locked():
            self._look_again()

    def history(self) -> list[dict[str, Any]]:
        """Every row of this key: purpose, nonce, state, hashes, block_number, error."""
        columns = ("purpose", "nonce", "state", "hashes", "block_number", "error")
        with self._engine.connect() as connection:
            rows = connection.execute(self._mine().order_by(_ROWS.c.id)).mappings().all()
        return [{name: json.loads(row[name]) if name == "hashes" else row[name] for name in columns} for row in rows]

    # --- rows

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        with _locked(self._lock_path):
            yield

    def _add_new_columns(self) -> None:
        """Files of earlier versions lack columns; SQLite adds them in place."""
        with self._engine.begin() as connection:
            known = {row[1] for row in connection.exec_driver_sql("PRAGMA table_info(chain_transactions)")}
            if "sent_at" not in known:
                connection.exec_driver_sql("ALTER TABLE chain_transactions ADD COLUMN sent_at FLOAT NOT NULL DEFAULT 0")

    def _select(self, *conditions: sa.ColumnElement[bool]) -> list[dict[str, Any]]:
        """Rows of this key in the order of their nonces."""
        query = self._mine().where(*conditions).order_by(_ROWS.c.nonce, _ROWS.c.id)
        with self._engine.connect() as connection:
            return [dict(row) for row in connection.execute(query).mappings()]

    def _open_rows(self) -> list[dict[str, Any]]:
        return self._select(_ROWS.c.state.in_(_OPEN))

    def _reload(self, row: dict[str, Any]) -> dict[str, Any]:
        return self._select(_ROWS.c.id == row["id"])[0]

    def _mine(self) -> sa.Select[Any]:
        return sa.select(_ROWS).where(
            _ROWS.c.sender == str(self._key.address), _ROWS.c.chain_id == self._chain.chain_id
        )

    def _find(self, purpose: str) -> dict[str, Any] | None:
        rows = self._select(_ROWS.c.purpose == purpose, _ROWS.c.state != "failed")
        return rows[0] if rows else None

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
            "nonce": self._next_nonce(),
            "state": "new",
            "receiver": None if call.to is None else str(call.to),
            "call": call.data,
            "gas": gas,
            "hashes": "[]",
            "block_number": None,
            "error": None,
            "sent_at": 0.0,
        }
        row |= self._signed(row, *self._fees())
        try:
            with self._engine.begin() as connection:
                row["id"] = connection.execute(_ROWS.insert().values(**row).returning(_ROWS.c.id)).scalar_one()
        except sa.exc.IntegrityError as error:
            raise self._behind(row["nonce"]) from error
        return row

    def _next_nonce(self) -> int:
        """The first nonce that neither we nor, by the nodes, anybody else with this key has used.

        Raises:
            UndecidedError: E-rpc-nonce where the nodes know less of this key than is final; E-tx-pending where too much
                is in flight.
        """
        sender = self._key.address
        mined = self._chain.nonce(sender)
        if any(row["nonce"] >= mined for row in self._select(_ROWS.c.block_number.is_not(None))):
            # a reorganisation took something away: its nonce must be filled again before a later one can be mined
            self._look_again()
        ours = self._select(sa.or_(_ROWS.c.state != "failed", _ROWS.c.block_number.is_not(None)))
        for row in ours:
            if row["state"] == "final" and row["nonce"] >= mined:
                raise self._behind(row["nonce"])
        nonce = max([self._chain.nonce(sender, "pending"), *(int(row["nonce"]) + 1 for row in ours)])
        if nonce - mined >= self._limits.in_flight:
            raise UndecidedError(
                "E-tx-pending",
                "too many transactions wait already",
                where=str(sender),
                expected=f"fewer than {self._limits.in_flight}",
                found=str(nonce - mined),
                do="Try again later.",
            )
        return nonce

    def _behind(self, nonce: int) -> UndecidedError:
        return UndecidedError(
            "E-rpc-nonce",
            "the node's count of our transactions is behind what we sent",
            where=f"nonce {nonce} of {self._key.address}",
            do="Wait, or ask another node. A chain that was begun anew needs a new outbox.",
        )

    def _fees(self) -> tuple[int, int]:
        """Max fee and tip: the chain's, under our cap; E-fee-cap where the cap does not reach the present price."""
        max_fee, advised = self._chain.fees()
        tip = min(advised, self._limits.max_tip, self._limits.max_fee)
        max_fee -= advised - tip
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

    def _look_again(self) -> None:
        """Every row that is not final, by what the chain says now. The lock is held."""
        mined = self._chain.nonce(self._key.address)
        for row in self._select(_ROWS.c.state == "mined"):
            self._standing(row)
        for row in self._select(_ROWS.c.state == "failed", _ROWS.c.block_number.is_not(None), _ROWS.c.nonce >= mined):
            # it was mined and failed, and a reorganisation took it away: it fills its nonce again, or nothing later can
            with contextlib.suppress(EscrowError):
                self._chain.send_raw(row["raw"])
        for row in self._open_rows():
            with contextlib.suppress(EscrowError):
                if self._standing(row) is None:
                    self._hand_over(row)

    def _finish(self) -> None:
        """Look once more at the rows that are deep enough to be final: most sends have none. The lock is held."""
        mined = self._select(_ROWS.c.state == "mined")
        if mined and self._limits.confirmations is not None:
            last = self._chain.head().number - self._limits.confirmations
            mined = [row for row in mined if row["block_number"] <= last]
        for row in mined:
            self._standing(row)

    def _push_late(self) -> None:
        """Send again what a crash or a node may have lost, in the order of the nonces. The lock is held.

        The first one that waits is what the others wait for: its fee is raised, once in a patience for all who wait.
        """
        for place, row in enumerate(self._open_rows()):
            if row["state"] == "sent" and time.time() - row["sent_at"] < self._limits.patience_s:
                continue
            with contextlib.suppress(EscrowError):
                if self._standing(row) is None:
                    if place == 0 and row["state"] == "sent":
                        self._raise_fee(row)
                    self._hand_over(row)

    def _standing(self, row: dict[str, Any]) -> Mined | None:
        """Where a row's transaction is mined, noted in the row; None where it is in no block, or in none any more."""
        mined = self._mined(row)
        if mined is None:
            if row["state"] in ("mined", "final"):
                self._set(row, state="sent", block_number=None)
        elif row["state"] in _OPEN:
            self._conclude(row, mined)
        elif row["state"] == "mined":
            self._set(row, state="final" if self._is_final(mined) else "mined", block_number=mined.block_number)
        return mined

    def _mined(self, row: dict[str, Any]) -> Mined | None:
        """Where one of a row's hashes is mined, in a block that all nodes have in their chain."""
        mined = self._chain.wait_mined(_hashes(row), seconds=0)
        return mined if mined is not None and self._chain.is_canonical(mined.block_number, mined.block_hash) else None

    def _is_final(self, mined: Mined) -> bool:
        if self._limits.confirmations is not None:
            return self._chain.head().number - mined.block_number >= self._limits.confirmations
        with contextlib.suppress(UndecidedError):
            return self._chain.head("finalized").number >= mined.block_number
        return False

    def _wait(self, row: dict[str, Any]) -> Mined:
        """Wait until one of a row's hashes is mined, raising fees where that takes too long; no lock is held."""
        until = time.monotonic() + self._limits.patience_s * (self._limits.raises + 1)
        while True:
            row = self._reload(row)
            if row["state"] == "failed":
                raise EscrowError(
                    row["error"] or "E-reverted", "the transaction failed", where=_hashes(row)[-1].to_json()
                )
            mined = self._chain.wait_mined(_hashes(row), seconds=min(_GLANCE_S, self._limits.patience_s))
            with self._locked():
                if mined is not None:
                    row = self._reload(row)
                    found = self._standing(row)
                    if found is not None:
                        return found
                    time.sleep(_PAUSE_S)
                if time.monotonic() >= until:
                    raise UndecidedError(
                        "E-tx-pending",
                        "the transaction is sent and not mined yet",
                        where=_hashes(row)[-1].to_json(),
                        do="Try again later: it is not sent twice.",
                    )
                self._push_late()

    def _hand_over(self, row: dict[str, Any]) -> None:
        """Give the bytes to the nodes and note when; one that is too cheap is raised at the next look.

        Raises:
            EscrowError: the node refuses for good, and the row has failed, unless later nonces wait for it.
        """
        sent_at = time.time()
        try:
            self._chain.send_raw(row["raw"])
        except EscrowError as error:
            if error.code == "E-underpriced":
                sent_at = 0.0
            elif error.code == "E-nonce-low":
                self._nonce_used(row)
            elif error.code not in ("E-already-known", "E-nonce-high"):
                if not any(later["nonce"] > row["nonce"] for later in self._open_rows()):
                    self._set(row, state="failed", error=error.code)
                raise
        if row["state"] in _OPEN:
            self._set(row, state="sent", sent_at=sent_at)

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

    def _raise_fee(self, row: dict[str, Any]) -> None:
        """Sign the same nonce with a quarter more, written before it is sent; nothing where the cap forbids it."""
        old_fee, old_tip = int(row["max_fee"]), int(row["tip"])
        present, _ = self._chain.fees()
        wanted = max(-(-old_fee * _BUMP_NUMERATOR // _BUMP_DENOMINATOR), present)
        max_fee = min(wanted, self._limits.max_fee)
        tip = min(max(-(-old_tip * _BUMP_NUMERATOR // _BUMP_DENOMINATOR), 1), max_fee)
        # nodes replace a transaction only by one that is dearer by a tenth
        if 10 * max_fee >= 11 * old_fee and 10 * tip >= 11 * old_tip:
            self._set(row, **self._signed(row, max_fee, tip))

    def _conclude(self, row: dict[str, Any], mined: Mined) -> None:
        if mined.succeeded:
            self._set(row, state="mined", block_number=mined.block_number, error=None)
            return
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
