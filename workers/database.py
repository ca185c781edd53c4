"""Opens the provider's database, SQLite or PostgreSQL, and brings its tables up to date under a lock."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, create_engine, event, text
from sqlalchemy.exc import SQLAlchemyError

from verifier.errors import ServiceError

if TYPE_CHECKING:
    from sqlalchemy import Connection

BUSY_SECONDS = 30
"""How long a writer waits for another one; each holds the lock for milliseconds."""
_MIGRATION_LOCK = 0x6F706761  # "opga": PostgreSQL's advisory locks have numbers only


def open_database(url: str) -> Engine:
    """An engine whose transactions are serial where money needs them to be.

    SQLite: WAL, full sync, a busy timeout, and every transaction immediate, so that none fails halfway by another's
    write. PostgreSQL: rows are locked by the queries themselves.
    """
    if url.startswith("sqlite"):
        engine = create_engine(url, connect_args={"timeout": BUSY_SECONDS}, pool_pre_ping=True)
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_immediate)
        return engine
    return create_engine(url, pool_pre_ping=True, pool_size=5, connect_args={"connect_timeout": 10})


def migrate(engine: Engine) -> str:
    """Run the missing migrations; of several processes that start at once one runs them and the others wait.

    Returns:
        The revision that the database is at.

    Raises:
        ServiceError: W-database where it cannot be reached or changed, W-database-newer where a newer opgate made it.
    """
    try:
        with engine.begin() as connection:
            if connection.dialect.name == "postgresql":
                connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _MIGRATION_LOCK})
            _refuse_newer(connection)
            command.upgrade(_config(connection), "head")
            return _current(connection) or ""
    except SQLAlchemyError as error:
        raise database_error(error) from error


def check_current(engine: Engine) -> None:
    """W-database-old where migrations are missing, W-database-newer where this opgate is older than the database."""
    try:
        with engine.connect() as connection:
            _refuse_newer(connection)
            current = _current(connection)
    except SQLAlchemyError as error:
        raise database_error(error) from error
    head = _script().get_current_head()
    if current != head:
        raise ServiceError(
            "W-database-old",
            "the database is not up to date",
            expected=f"revision {head}",
            found=f"revision {current}",
            do="Run: opgate provider migrate",
        )


def database_error(error: SQLAlchemyError) -> ServiceError:
    """The refusal that stands for a failure of the database; it shows no statement and no values."""
    cause = getattr(error, "orig", None) or error
    return ServiceError(
        "W-database",
        "the database does not do what it should",
        found=f"{type(cause).__name__}: {str(cause).splitlines()[0][:200] if str(cause) else ''}",
        do="Look at OPGATE_DATABASE_URL, the server and the disk; nothing was changed halfway",
    )


def _config(connection: Connection) -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).with_name("migrations")))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    return config


def _script() -> ScriptDirectory:
    return ScriptDirectory(str(Path(__file__).with_name("migrations")))


def _current(connection: Connection) -> str | None:
    return MigrationContext.configure(connection).get_current_revision()


def _refuse_newer(connection: Connection) -> None:
    current = _current(connection)
    if current is not None and current not in {step.revision for step in _script().walk_revisions()}:
        raise ServiceError(
            "W-database-newer", "a newer opgate made this database", found=f"revision {current}", do="Upgrade opgate"
        )


def _prepare_sqlite(connection: Any, _record: object) -> None:
    connection.isolation_level = None  # the driver would begin transactions by itself, late and deferred
    cursor = connection.cursor()
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin_immediate(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")
