"""What the database keeps: one bundle a job, messages before they leave, caps, and the same tables as the code says."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext

from tests.workers.shop import COMMITMENT, make_shop, toy_manifest
from verifier.errors import ServiceError
from verifier.statement import canonical
from verifier.statement.scalars import Bytes32
from workers import jobs
from workers.database import check_current, migrate, open_database
from workers.jobs import JobState
from workers.schema import metadata
from workers.store import Store, StoredBundle

if TYPE_CHECKING:
    from pathlib import Path

    from tests.workers.shop import Shop
    from workers.jobs import Job


def test_the_migrations_make_the_tables_that_the_code_uses(tmp_path: Path) -> None:
    engine = open_database(f"sqlite:///{tmp_path / 'x.sqlite'}")
    migrate(engine)
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
    engine.dispose()


def test_many_processes_may_migrate_at_once(tmp_path: Path) -> None:
    """The trap: serve and worker start together, and both make the tables."""
    url = f"sqlite:///{tmp_path / 'x.sqlite'}"
    found: list[str] = []

    def start() -> None:
        engine = open_database(url)
        found.append(migrate(engine))
        engine.dispose()

    threads = [threading.Thread(target=start) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == ["0001"] * 4


def test_a_database_without_tables_is_refused_with_the_command(tmp_path: Path) -> None:
    engine = open_database(f"sqlite:///{tmp_path / 'x.sqlite'}")
    with pytest.raises(ServiceError, match="opgate provider migrate"):
        check_current(engine)
    engine.dispose()


def test_a_job_comes_back_as_it_was(shop: Shop) -> None:
    job = shop.accepted()
    assert shop.store.job(job.job_id) == job
    assert shop.store.accept(job, keep_input_until=0, cap=0, open_since=0) == job


def _stored(raw: bytes) -> StoredBundle:
    return StoredBundle(canonical.sha256(raw), raw)


def _claim(shop: Shop, job: Job) -> Job:
    return shop.store.change(job.job_id, lambda row: jobs.claim(row, "w", now=shop.time, limits=shop.settings.limits))


def test_the_first_bundle_wins_and_a_second_changes_nothing(shop: Shop) -> None:
    job = _claim(shop, shop.queued())
    first, second = shop.bundle(job), shop.bundle(job, output=8)
    shop.store.record_bundle(job.job_id, lambda row: jobs.prove(row, job.fence, now=1), _stored(first))
    with pytest.raises(ServiceError, match="W-job-fenced"):
        shop.store.record_bundle(job.job_id, lambda row: jobs.prove(row, job.fence, now=1), _stored(second))
    with pytest.raises(ServiceError, match="W-bundle-exists"):
        shop.store.record_bundle(job.job_id, lambda row: row, _stored(second))
    stored = shop.store.bundle(job.job_id)
    assert stored is not None
    assert stored.body == first
    assert shop.now(job).state is JobState.PROVED


def test_one_bundle_serves_one_job(shop: Shop) -> None:
    """The trap: the same proof paid again and again."""
    one, other = _claim(shop, shop.queued()), _claim(shop, shop.queued())
    raw = shop.bundle(one)
    shop.store.record_bundle(one.job_id, lambda row: jobs.prove(row, one.fence, now=1), _stored(raw))
    with pytest.raises(ServiceError, match="W-bundle-exists"):
        shop.store.record_bundle(other.job_id, lambda row: jobs.prove(row, other.fence, now=1), _stored(raw))
    assert shop.now(other).state is JobState.RUNNING


def test_of_many_claims_at_once_one_wins(shop: Shop) -> None:
    job = shop.queued()
    won: list[int] = []
    refused: list[str] = []

    def claim(name: str) -> None:
        store = Store.open(shop.settings.database)
        try:
            rule = lambda row: jobs.claim(row, name, now=shop.time, limits=shop.settings.limits)  # noqa: E731 - one use
            won.append(store.change(job.job_id, rule).fence)
        except ServiceError as error:
            refused.append(error.code)
        finally:
            store.close()

    threads = [threading.Thread(target=claim, args=(f"w{number}",)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert refused == ["W-job-busy"] * 7


def test_a_message_is_owed_from_the_same_moment_as_the_state(shop: Shop) -> None:
    job = shop.accepted()
    shop.store.change(job.job_id, lambda row: jobs.fund(row, now=1))
    shop.store.enqueue(job.job_id, now=2)
    (message,) = shop.store.unsent()
    assert message.job_id == job.job_id
    assert shop.now(job).state is JobState.QUEUED
    shop.store.mark_sent(message.message_id, now=3)
    assert shop.store.unsent() == []


def test_uploads_without_a_job_are_capped_and_forgotten(shop: Shop) -> None:
    """The trap: uploads are unpaid, so a stranger could fill the disk."""
    circuit = toy_manifest().circuit_id

    def put(number: int, at: int) -> None:
        shop.store.put_input(Bytes32(bytes([number]) * 32), circuit, b"x", now=at, expires_at=at + 10, cap=2)

    put(1, 100)
    put(2, 100)
    put(2, 100)
    with pytest.raises(ServiceError, match="W-inputs-full"):
        put(3, 100)
    put(3, 111)
    assert shop.store.input(Bytes32(b"\x01" * 32), circuit) is None


def test_an_input_of_a_job_outlives_its_upload(shop: Shop) -> None:
    job = shop.accepted(deadline_in=5000)
    shop.store.put_input(Bytes32(b"\x01" * 32), job.circuit_id, b"x", now=shop.time + 4000, expires_at=0, cap=1)
    assert shop.store.input(COMMITMENT, job.circuit_id) is not None


def test_open_jobs_are_capped(shop: Shop) -> None:
    job = shop.accepted()
    other = shop.accepted()
    assert other.job_id != job.job_id
    terms = shop.terms()
    third = jobs.Job(
        job_id=terms.job_id(job.domain),
        domain=job.domain,
        terms=terms,
        acceptance=job.acceptance,
        state=JobState.ACCEPTED,
        changed_at=1,
    )
    with pytest.raises(ServiceError, match="W-jobs-full"):
        shop.store.accept(third, keep_input_until=0, cap=2, open_since=0)
    # jobs that nobody can close any more must not fill the provider for ever
    late = int(max(job.terms.deadline, other.terms.deadline)) + 1
    assert shop.store.accept(third, keep_input_until=0, cap=2, open_since=late).job_id == third.job_id


def test_a_role_has_one_holder_until_it_lapses(shop: Shop) -> None:
    assert shop.store.hold_role("x", "a", now=10, until=20)
    assert not shop.store.hold_role("x", "b", now=20, until=30)
    assert shop.store.hold_role("x", "a", now=20, until=30)
    assert shop.store.hold_role("x", "b", now=31, until=40)


def test_a_database_that_fails_is_one_error_of_ours(tmp_path: Path) -> None:
    shop = make_shop(tmp_path / "other")
    shop.store.close()
    broken = Store.open(f"sqlite:///{tmp_path / 'none' / 'x.sqlite'}")
    with pytest.raises(ServiceError, match="W-database"):
        broken.counts()
