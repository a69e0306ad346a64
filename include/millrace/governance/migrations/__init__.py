"""Alembic's scripts for the state database; run by `millrace.governance.migration.migrate`."""
