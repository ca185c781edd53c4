"""The provider's rows: quotes, inputs, jobs, bundles and the outbox of messages, each change in one transaction.

What may happen to a job is decided in `workers.jobs`; here it is only made durable, one row lock at a time. A message
for the broker is a row first and leaves after the commit, so a job is never only in a message.
"""

from __future__ import annotations

import functools
import uuid
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple, ParamSpec, TypeVar

from sqlalchemy import Engine, Row, delete, func, insert, or_, select, update
from sqlalchemy.exc import IntegrityError, SQLAlchemyError

from verifier.errors import ServiceError
from verifier.statement import canonical
from verifier.statement.scalars import Bytes32, Signature
from verifier.statement.terms import SignedQuote, SignedRelease, SignedTerms
from workers.database import database_error, open_database
from workers.jobs import CLOSED, OPEN, Job, JobState, enqueue
from workers.schema import bundles, inputs, jobs, leases, marks, outbox, quotes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sqlalchemy import Connection


P = ParamSpec("P")
R = TypeVar("R")


class Message(NamedTuple):
    """One message that the broker is owed."""

    message_id: str
    job_id: Bytes32


class StoredBundle(NamedTuple):
    """The job's one bundle, as the bytes that were verified."""

    sha256: Bytes32
    body: bytes


class _ClashError(ServiceError):
    """Another transaction inserted the same key first; whoever tries again sees its row."""


def _again_after_clash(method: Callable[P, R]) -> Callable[P, R]:
    """Run a transaction once more where another process inserted the same key in the middle of it."""

    @functools.wraps(method)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return method(*args, **kwargs)
        except _ClashError:
            return method(*args, **kwargs)

    return wrapped


class Store:
    """The database of one provider; any number of processes may use it at once.

    Every method is one transaction. All raise ServiceError: W-database where the database fails.
    """

    def __init__(self, engine: Engine) -> None:
        """Use `open` for a URL; the tables are there already (`workers.database.migrate`)."""
        self._engine = engine

    @classmethod
    def open(cls, url: str) -> Store:
        """The store of a URL."""
        return cls(open_database(url))

    def close(self) -> None:
        """Give the connections back."""
        self._engine.dispose()

    # Quotes

    def quotes(self, circuit_id: Bytes32, *, good_at: int) -> list[SignedQuote]:
        """The provider's quotes for a circuit that are good at a time, the longest first."""
        query = select(quotes.c.body).where(quotes.c.circuit_id == str(circuit_id), quotes.c.valid_until >= good_at)
        with self._transaction() as connection:
            bodies = connection.execute(query.order_by(quotes.c.valid_until.desc())).scalars().all()
        return [canonical.decode(SignedQuote, body, where="stored quote") for body in bodies]

    def add_quote(self, signed: SignedQuote, *, now: int) -> None:
        """Keep a quote, and forget those that are over."""
        row = {
            "digest": str(signed.quote.digest(signed.domain)),
            "circuit_id": str(signed.quote.circuit_id),
            "valid_until": int(signed.quote.valid_until),
            "body": canonical.encode(signed),
        }
        with self._transaction() as connection:
            connection.execute(delete(quotes).where(quotes.c.valid_until < now))
            connection.execute(insert(quotes).values(row))

    # Inputs

    @_again_after_clash
    def put_input(  # noqa: PLR0913 - by keyword, and each is a column or a cap
        self, commitment: Bytes32, circuit_id: Bytes32, body: bytes, *, now: int, expires_at: int, cap: int
    ) -> None:
        """Keep an uploaded input until a time, or longer where a job takes it up; the same again only extends it.

        Raises:
            ServiceError: W-inputs-full where `cap` inputs without a job are there already.
        """
        key = (inputs.c.commitment == str(commitment)) & (inputs.c.circuit_id == str(circuit_id))
        pending = select(func.count()).where(inputs.c.in_job == 0)
        with self._transaction() as connection:
            connection.execute(delete(inputs).where(inputs.c.expires_at < now))
            known = connection.execute(select(inputs.c.expires_at).where(key).with_for_update()).scalar_one_or_none()
            if known is not None:
                connection.execute(update(inputs).where(key).values(expires_at=max(known, expires_at)))
                return
            if connection.execute(pending).scalar_one() >= cap:
                raise ServiceError(
                    "W-inputs-full",
                    "too many inputs wait for a job",
                    expected=f"at most {cap}",
                    do="Try again in some minutes",
                )
            connection.execute(
                insert(inputs).values(
                    commitment=str(commitment),
                    circuit_id=str(circuit_id),
                    body=body,
                    expires_at=expires_at,
                    in_job=0,
                )
            )

    def input(self, commitment: Bytes32, circuit_id: Bytes32) -> bytes | None:
        """An uploaded input's bytes, if they are still there."""
        key = (inputs.c.commitment == str(commitment)) & (inputs.c.circuit_id == str(circuit_id))
        with self._transaction() as connection:
            return connection.execute(select(inputs.c.body).where(key)).scalar_one_or_none()

    # Jobs

    @_again_after_clash
    def accept(self, job: Job, *, keep_input_until: int, cap: int, open_since: int) -> Job:
        """Add an accepted job and keep its input; the job that is there already where it was accepted before.

        Raises:
            ServiceError: W-jobs-full where `cap` jobs are open whose deadline is not before `open_since`
                (older ones bind nobody any more), W-input-missing where the input is gone.
        """
        key = (inputs.c.commitment == str(job.terms.input_commitment)) & (
            inputs.c.circuit_id == str(job.terms.circuit_id)
        )
        open_jobs = select(func.count()).where(
            jobs.c.state.in_([state.value for state in OPEN]), jobs.c.deadline >= open_since
        )
        with self._transaction() as connection:
            known = self._job(connection, job.job_id)
            if known is not None:
                return known
            if connection.execute(open_jobs).scalar_one() >= cap:
                raise ServiceError(
                    "W-jobs-full", "the provider has as many jobs as it takes", do="Try again later, or elsewhere"
                )
            until = connection.execute(select(inputs.c.expires_at).where(key).with_for_update()).scalar_one_or_none()
            if until is None:
                raise ServiceError(
                    "W-input-missing",
                    "the input of these terms is not here",
                    where=str(job.terms.input_commitment),
                    do="Upload it first: PUT /v1/inputs/{commitment}",
                )
            connection.execute(update(inputs).where(key).values(expires_at=max(until, keep_input_until), in_job=1))
            connection.execute(insert(jobs).values(_job_row(job)))
            return job

    def job(self, job_id: Bytes32) -> Job | None:
        """A job, if it was ever accepted."""
        with self._transaction() as connection:
            return self._job(connection, job_id)

    def change(self, job_id: Bytes32, rule: Callable[[Job], Job]) -> Job:
        """Apply a rule of `workers.jobs` to a job under its row's lock; what the rule refuses changes nothing.

        Raises:
            ServiceError: W-job-unknown, and what the rule raises.
        """
        with self._transaction() as connection:
            return self._change(connection, job_id, rule)

    def record_bundle(self, job_id: Bytes32, rule: Callable[[Job], Job], bundle: StoredBundle) -> Job:
        """Make a VALID bundle the job's one bundle and apply the rule, both or neither.

        Raises:
            ServiceError: W-bundle-exists where the job has one or another job has this one, W-job-unknown, and what the
                rule raises.
        """
        try:
            with self._transaction() as connection:
                changed = self._change(connection, job_id, rule)
                connection.execute(
                    insert(bundles).values(job_id=str(job_id), sha256=str(bundle.sha256), body=bundle.body)
                )
                return changed
        except _ClashError as error:
            raise ServiceError(
                "W-bundle-exists", "the job has its bundle already", where=f"job {job_id}", expected="one bundle a job"
            ) from error

    def bundle(self, job_id: Bytes32) -> StoredBundle | None:
        """The job's bundle, once it is proved."""
        query = select(bundles.c.sha256, bundles.c.body).where(bundles.c.job_id == str(job_id))
        with self._transaction() as connection:
            row = connection.execute(query).one_or_none()
        return None if row is None else StoredBundle(Bytes32.from_json(row.sha256), row.body)

    def watched(self, *, now: int, recheck: int) -> list[Job]:
        """The jobs that a sweep looks at: open ones until `recheck` after the deadline, and those closed lately."""
        open_now = jobs.c.state.in_([state.value for state in OPEN]) & (jobs.c.deadline >= now - recheck)
        closed = jobs.c.state.in_([state.value for state in CLOSED]) & (jobs.c.changed_at >= now - recheck)
        with self._transaction() as connection:
            rows = connection.execute(select(jobs).where(or_(open_now, closed)).order_by(jobs.c.deadline)).all()
        return [_job(row) for row in rows]

    def list_jobs(self, *, limit: int, state: JobState | None = None) -> list[Job]:
        """Jobs, the latest changed first."""
        query = select(jobs).order_by(jobs.c.changed_at.desc(), jobs.c.job_id).limit(limit)
        with self._transaction() as connection:
            rows = connection.execute(query if state is None else query.where(jobs.c.state == state.value)).all()
        return [_job(row) for row in rows]

    def counts(self) -> dict[JobState, int]:
        """How many jobs are in each state."""
        query = select(jobs.c.state, func.count().label("number")).group_by(jobs.c.state)
        with self._transaction() as connection:
            return {JobState(row.state): row.number for row in connection.execute(query)}

    def unpaid(self, *, now: int) -> int:
        """How many jobs were proved and are past their deadline without having been paid."""
        query = select(func.count()).where(jobs.c.state == JobState.PROVED.value, jobs.c.deadline <= now)
        with self._transaction() as connection:
            return connection.execute(query).scalar_one()

    # Messages

    def enqueue(self, job_id: Bytes32, *, now: int) -> Job:
        """Put the job in the queue: its state and the message that the broker is owed, in one transaction."""
        with self._transaction() as connection:
            changed = self._change(connection, job_id, lambda job: enqueue(job, now=now))
            connection.execute(
                insert(outbox).values(message_id=str(uuid.uuid4()), job_id=str(job_id), created_at=now, sent_at=None)
            )
            return changed

    def unsent(self, *, limit: int = 100) -> list[Message]:
        """The messages that were not sent yet, the oldest first."""
        query = select(outbox.c.message_id, outbox.c.job_id).where(outbox.c.sent_at.is_(None))
        with self._transaction() as connection:
            rows = connection.execute(query.order_by(outbox.c.created_at).limit(limit)).all()
        return [Message(row.message_id, Bytes32.from_json(row.job_id)) for row in rows]

    def mark_sent(self, message_id: str, *, now: int) -> None:
        """The broker has the message. A crash before this sends it twice, which is harmless."""
        with self._transaction() as connection:
            connection.execute(update(outbox).where(outbox.c.message_id == message_id).values(sent_at=now))

    def forget_sent(self, *, before: int) -> None:
        """Drop old messages that were sent."""
        with self._transaction() as connection:
            connection.execute(delete(outbox).where(outbox.c.sent_at < before))

    # Roles and marks

    @_again_after_clash
    def hold_role(self, name: str, owner: str, *, now: int, until: int) -> bool:
        """Take or keep a role that one process at a time has; False where another holds it."""
        with self._transaction() as connection:
            row = connection.execute(select(leases).where(leases.c.name == name).with_for_update()).one_or_none()
            if row is None:
                connection.execute(insert(leases).values(name=name, owner=owner, until=until))
                return True
            if row.owner != owner and row.until >= now:
                return False
            connection.execute(update(leases).where(leases.c.name == name).values(owner=owner, until=until))
            return True

    @_again_after_clash
    def mark(self, name: str, *, now: int) -> None:
        """Note that something happened now."""
        with self._transaction() as connection:
            if connection.execute(update(marks).where(marks.c.name == name).values(at=now)).rowcount == 0:
                connection.execute(insert(marks).values(name=name, at=now))

    def marked(self, name: str) -> int | None:
        """When something happened last, if ever."""
        with self._transaction() as connection:
            return connection.execute(select(marks.c.at).where(marks.c.name == name)).scalar_one_or_none()

    @contextmanager
    def _transaction(self) -> Iterator[Connection]:
        try:
            with self._engine.begin() as connection:
                yield connection
        except IntegrityError as error:
            raise _ClashError("W-database", "another process added the same row first") from error
        except SQLAlchemyError as error:
            raise database_error(error) from error

    def _job(self, connection: Connection, job_id: Bytes32) -> Job | None:
        row = connection.execute(select(jobs).where(jobs.c.job_id == str(job_id)).with_for_update()).one_or_none()
        return None if row is None else _job(row)

    def _change(self, connection: Connection, job_id: Bytes32, rule: Callable[[Job], Job]) -> Job:
        job = self._job(connection, job_id)
        if job is None:
            raise ServiceError("W-job-unknown", "no such job was accepted here", where=f"job {job_id}")
        changed = rule(job)
        if changed != job:
            connection.execute(update(jobs).where(jobs.c.job_id == str(job_id)).values(_job_row(changed)))
        return changed


def _job_row(job: Job) -> dict[str, Any]:
    return {
        "job_id": str(job.job_id),
        "terms": canonical.encode(SignedTerms(domain=job.domain, terms=job.terms)),
        "acceptance": bytes(job.acceptance),
        "deadline": int(job.terms.deadline),
        "state": job.state.value,
        "changed_at": job.changed_at,
        "attempts": job.attempts,
        "fence": job.fence,
        "owner": job.owner,
        "lease_until": job.lease_until,
        "failure": job.failure,
        "release": _release_bytes(job.release),
    }


def _release_bytes(release: SignedRelease | None) -> bytes | None:
    return None if release is None else canonical.encode(release)


def _job(row: Row[Any]) -> Job:
    signed = canonical.decode(SignedTerms, row.terms, where="stored terms")
    return Job(
        job_id=Bytes32.from_json(row.job_id),
        domain=signed.domain,
        terms=signed.terms,
        acceptance=Signature(row.acceptance),
        state=JobState(row.state),
        changed_at=row.changed_at,
        attempts=row.attempts,
        fence=row.fence,
        owner=row.owner,
        lease_until=row.lease_until,
        failure=row.failure,
        release=None if row.release is None else canonical.decode(SignedRelease, row.release, where="stored release"),
    )
