"""What Alembic runs: the upgrade on the connection, and in the transaction, that the caller opened."""

from __future__ import annotations

from alembic import context

from millrace.governance.state import METADATA

_attributes = context.config.attributes
context.configure(
    connection=_attributes["connection"],
    target_metadata=METADATA,
    version_table=_attributes["version_table"],
    transactional_ddl=True,
)
with context.begin_transaction():
    context.run_migrations()
