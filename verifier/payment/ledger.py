"""The payer's jobs in a database: one row a job, and at most one release a job, for ever. No chain, no network, no key.

SQLite by default. The row says what a job was judged by (digests of blobs in the payer's archive), so that the gate can
judge it again; a column is written once and later writes of another value are refused.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import msgspec
import sqlalchemy as sa

from verifier.errors import GateError, VerifierError
from verifier.policy import Amounts
from verifier.statement import canonical
from verifier.statement.scalars import Bytes32
from verifier.statement.terms import SignedRelease, SignedTerms

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from sqlalchemy.engine import Connection

    from verifier.statement.terms import JobTerms

DAY_S = 86_400
_NO_CAPS = Amounts()
_REFUNDED = ("reclaim", "decline", "cancel")

_METADATA = sa.MetaData()
_JOBS = sa.Table(
    "payer_jobs",
    _METADATA,
    sa.Column("job_id", sa.String(66), primary_key=True),
    sa.Column("created_at", sa.Integer, nullable=False),
    sa.Column("provider_url", sa.String(2048), nullable=False),
    sa.Column("terms", sa.LargeBinary, nullable=False),
    sa.Column("inputs", sa.LargeBinary, nullable=False),
    sa.Column("evidence", sa.LargeBinary, nullable=False),
    sa.Column("bundle", sa.String(66)),
    sa.Column("closed_by", sa.String(16)),
    sa.Column("closed_in", sa.String(66)),
)
_RELEASES = sa.Table(
    "payer_releases",
    _METADATA,
    sa.Column("job_id", sa.String(66), sa.ForeignKey("payer_jobs.job_id"), primary_key=True),
    sa.Column("reserved_at", sa.Integer, nullable=False),
    sa.Column("instances_hash", sa.String(66), nullable=False),
    sa.Column("amount", sa.String(78), nullable=False),
    sa.Column("signed", sa.LargeBinary),
)


class Evidence(msgspec.Struct, frozen=True, kw_only=True):
    """What a job was judged by before money moved, as digests of blobs in the payer's archive."""

    policy: Bytes32
    manifest: Bytes32
    code: Bytes32
    records: tuple[Bytes32, ...]
    terms_verdict: Bytes32


class PayerJob(msgspec.Struct, frozen=True, kw_only=True):
    """A job as its payer knows it. `terms` carries whichever signatures there are by now.

    `closed_by` says how the chain closed it, `closed_in` is the hash of the block that did, both as archived.
    """

    job_id: Bytes32
    created_at: int
    provider_url: str
    terms: SignedTerms
    inputs: bytes
    evidence: Evidence
    bundle: Bytes32 | None = None
    closed_by: str | None = None
    closed_in: Bytes32 | None = None


class Ledger:
    """The payer's rows. Every write is one transaction; two processes cannot both reserve a release."""

    def __init__(self, path: Path) -> None:
        """Open the database file, or make it with mode 0600; GateError G-ledger where it cannot be."""
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        except OSError as error:
            raise GateError("G-ledger", "the payer's database cannot be opened", found=str(error)[:200]) from error
        self._engine = sa.create_engine(f"sqlite:///{path}", connect_args={"timeout": 30})
        sa.event.listen(self._engine, "connect", _durable)
        sa.event.listen(self._engine, "begin", _immediate)
        with self._begin() as connection:
            _METADATA.create_all(connection)
            # files of earlier versions lack the column; SQLite adds it in place
            known = {row[1] for row in connection.exec_driver_sql("pragma table_info(payer_jobs)")}
            if "closed_in" not in known:
                connection.exec_driver_sql("alter table payer_jobs add column closed_in varchar(66)")

    def close(self) -> None:
        """Let go of the file."""
        self._engine.dispose()

    def add(self, job: PayerJob) -> None:
        """Write a new job; the same job again is no error, another under its id is (G-job-differs)."""
        row = {
            "job_id": str(job.job_id),
            "created_at": job.created_at,
            "provider_url": job.provider_url,
            "terms": canonical.encode(job.terms),
            "inputs": job.inputs,
            "evidence": canonical.encode(job.evidence),
        }
        with self._begin() as connection:
            known = self._find(connection, job.job_id)
            if known is None:
                connection.execute(_JOBS.insert().values(row))
            elif known.terms.terms != job.terms.terms or known.inputs != job.inputs:
                raise GateError("G-job-differs", "another job has this id", where=str(job.job_id))

    def job(self, job_id: Bytes32) -> PayerJob:
        """The job of an id; GateError G-job-unknown where there is none."""
        with self._begin() as connection:
            return self._known(connection, job_id)

    def jobs(self) -> list[PayerJob]:
        """Every job, the newest first."""
        with self._begin() as connection:
            rows = connection.execute(_JOBS.select().order_by(_JOBS.c.created_at.desc())).mappings()
            return [_job(dict(row)) for row in rows]

    def sign_terms(self, job_id: Bytes32, terms: SignedTerms, *, caps: Amounts = _NO_CAPS) -> PayerJob:
        """Keep the signatures of the terms; one that is there stays, and the terms themselves never change.

        The payer's signature lets anyone lock the money, and what is locked is paid by a proof whatever the gate says
        later: so the caps are kept here, in the transaction that writes the signature. Jobs drafted within a day before
        this one count unless their money came back.

        Raises:
            GateError: G-job-unknown; G-job-differs for other terms or another domain; G6-per-job, G6-per-provider,
                G6-per-day where the amounts are above the cap.
        """
        with self._begin() as connection:
            job = self._known(connection, job_id)
            known = job.terms
            if (known.terms, known.domain) != (terms.terms, terms.domain):
                raise GateError("G-job-differs", "these are the terms of another job", where=str(job_id))
            merged = SignedTerms(
                domain=known.domain,
                terms=known.terms,
                payer_signature=known.payer_signature or terms.payer_signature,
                acceptance=known.acceptance or terms.acceptance,
            )
            if known.payer_signature is None and merged.payer_signature is not None:
                _keep_caps(caps, known.terms, _signed_since(connection, job.created_at - DAY_S))
            statement = _JOBS.update().where(_JOBS.c.job_id == str(job_id))
            connection.execute(statement.values(terms=canonical.encode(merged)))
            return self._known(connection, job_id)

    def set_bundle(self, job_id: Bytes32, bundle: Bytes32) -> None:
        """Keep the digest of the bundle that verified; a later one takes its place only before a release."""
        taken = sa.exists().where(_RELEASES.c.job_id == _JOBS.c.job_id)
        with self._begin() as connection:
            statement = _JOBS.update().where(_JOBS.c.job_id == str(job_id), sa.or_(_JOBS.c.bundle.is_(None), ~taken))
            connection.execute(statement.values(bundle=str(bundle)))

    def set_closed(self, job_id: Bytes32, closed_by: str | None, closed_in: Bytes32 | None = None) -> None:
        """Keep how the chain closed the job, and in which block; None where a reorganisation opened it again."""
        values = {"closed_by": closed_by, "closed_in": None if closed_in is None else str(closed_in)}
        with self._begin() as connection:
            connection.execute(_JOBS.update().where(_JOBS.c.job_id == str(job_id)).values(values))

    def reserve_release(
        self, job_id: Bytes32, instances_hash: Bytes32, *, now: int, caps: Amounts = _NO_CAPS
    ) -> SignedRelease | None:
        """Take the one release that a job has, for these instances; give the signed one where it was signed before.

        The day's sums are read in the transaction that adds to them: two processes cannot both be their last part.

        Raises:
            GateError: G-job-unknown; G6-per-job, G6-per-provider, G6-per-day where the job's amount and all releases of
                the last day are above the cap; G-signed where the job's release was taken for other instances.
        """
        with self._begin() as connection:
            row = connection.execute(_RELEASES.select().where(_RELEASES.c.job_id == str(job_id))).mappings().first()
            if row is None:
                terms = self._known(connection, job_id).terms.terms
                _keep_caps(caps, terms, _released_since(connection, now - DAY_S))
                connection.execute(
                    _RELEASES.insert().values(
                        job_id=str(job_id),
                        reserved_at=now,
                        instances_hash=str(instances_hash),
                        amount=str(terms.amount),
                    )
                )
                return None
            if row["instances_hash"] != str(instances_hash):
                raise GateError(
                    "G-signed",
                    "a release of this job was taken for other instances",
                    where=str(job_id),
                    expected=row["instances_hash"],
                    found=str(instances_hash),
                )
            signed = row["signed"]
            return canonical.decode(SignedRelease, signed, where="ledger") if signed else None

    def keep_caps(self, job_id: Bytes32, *, now: int, caps: Amounts) -> None:
        """Refuse as `reserve_release` would, and reserve nothing; a release that was reserved before is within them."""
        with self._begin() as connection:
            reserved = connection.execute(_RELEASES.select().where(_RELEASES.c.job_id == str(job_id))).first()
            if reserved is None:
                terms = self._known(connection, job_id).terms.terms
                _keep_caps(caps, terms, _released_since(connection, now - DAY_S))

    def store_release(self, job_id: Bytes32, release: SignedRelease) -> SignedRelease:
        """Keep the signature of a reserved release and give the one that is kept: the first, whoever signed it.

        Raises:
            GateError: G-signed where the release was not reserved for these instances.
        """
        with self._begin() as connection:
            mine = (_RELEASES.c.job_id == str(job_id)) & (
                _RELEASES.c.instances_hash == str(release.release.instances_hash)
            )
            first = _RELEASES.update().where(mine, _RELEASES.c.signed.is_(None))
            connection.execute(first.values(signed=canonical.encode(release)))
            kept = connection.execute(sa.select(_RELEASES.c.signed).where(mine)).scalar_one_or_none()
        if kept is None:
            raise GateError("G-signed", "no release was reserved for these instances", where=str(job_id))
        return canonical.decode(SignedRelease, kept, where="ledger")

    def _known(self, connection: Connection, job_id: Bytes32) -> PayerJob:
        found = self._find(connection, job_id)
        if found is None:
            raise GateError(
                "G-job-unknown", "this payer knows no such job", where=str(job_id), do="List them with: opgate pay jobs"
            )
        return found

    def _find(self, connection: Connection, job_id: Bytes32) -> PayerJob | None:
        row = connection.execute(_JOBS.select().where(_JOBS.c.job_id == str(job_id))).mappings().first()
        return _job(dict(row)) if row else None

    @contextmanager
    def _begin(self) -> Iterator[Connection]:
        try:
            with self._engine.begin() as connection:
                yield connection
        except sa.exc.SQLAlchemyError as error:
            raise GateError("G-ledger", "the payer's database refuses", found=str(error)[:200]) from error


def _released_since(connection: Connection, moment: int) -> list[JobTerms]:
    """The terms of all jobs whose release was reserved since a moment."""
    joined = _JOBS.join(_RELEASES, _RELEASES.c.job_id == _JOBS.c.job_id)
    rows = connection.execute(sa.select(_JOBS).select_from(joined).where(_RELEASES.c.reserved_at >= moment)).mappings()
    return [_job(dict(row)).terms.terms for row in rows]


def _signed_since(connection: Connection, moment: int) -> list[JobTerms]:
    """The terms of all jobs drafted since a moment and signed by the payer, but those that gave the money back."""
    open_or_paid = sa.or_(_JOBS.c.closed_by.is_(None), _JOBS.c.closed_by.not_in(_REFUNDED))
    rows = connection.execute(_JOBS.select().where(_JOBS.c.created_at >= moment, open_or_paid)).mappings()
    signed = (_job(dict(row)).terms for row in rows)
    return [terms.terms for terms in signed if terms.payer_signature is not None]


def _keep_caps(caps: Amounts, terms: JobTerms, of_the_day: list[JobTerms]) -> None:
    """Refuse terms that are above a cap, alone or with those of the last day."""
    own = int(terms.amount)
    with_provider = own + sum(int(other.amount) for other in of_the_day if other.provider == terms.provider)
    every = own + sum(int(other.amount) for other in of_the_day)
    if caps.per_job is not None and own > caps.per_job:
        raise _above("G6-per-job", "above the cap per job", caps.per_job, own)
    if caps.per_provider is not None and with_provider > caps.per_provider:
        raise _above("G6-per-provider", "above the cap for one provider in a day", caps.per_provider, with_provider)
    if caps.per_day is not None and every > caps.per_day:
        raise _above("G6-per-day", "above the cap per day", caps.per_day, every)


def _above(code: str, message: str, cap: int, spent: int) -> GateError:
    return GateError(code, message, where="policy [amounts]", expected=f"at most {cap} wei", found=f"{spent} wei")


def _job(row: dict[str, Any]) -> PayerJob:
    try:
        return PayerJob(
            job_id=Bytes32.from_json(row["job_id"]),
            created_at=row["created_at"],
            provider_url=row["provider_url"],
            terms=canonical.decode(SignedTerms, row["terms"], where="ledger"),
            inputs=row["inputs"],
            evidence=canonical.from_builtins(
                Evidence, canonical.parse(row["evidence"], where="ledger"), where="ledger"
            ),
            bundle=Bytes32.from_json(row["bundle"]) if row["bundle"] else None,
            closed_by=row["closed_by"],
            closed_in=Bytes32.from_json(row["closed_in"]) if row["closed_in"] else None,
        )
    except (VerifierError, ValueError, TypeError) as error:
        raise GateError(
            "G-ledger-row", "a job in the payer's database is damaged", where=str(row["job_id"]), found=str(error)[:200]
        ) from error


def _durable(connection: Any, _record: object) -> None:
    connection.isolation_level = None  # the driver would begin late, and reads of a check would not be in its lock
    connection.execute("pragma journal_mode=wal")
    connection.execute("pragma synchronous=full")
    connection.execute("pragma foreign_keys=on")


def _immediate(connection: Connection) -> None:
    connection.exec_driver_sql("begin immediate")
