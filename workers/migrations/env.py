"""What alembic runs: the migrations on the connection, and inside the transaction and lock, that the caller holds."""

from __future__ import annotations

from alembic import context

from workers.schema import metadata

connection = context.config.attributes["connection"]
context.configure(connection=connection, target_metadata=metadata, transactional_ddl=True)
context.run_migrations()
