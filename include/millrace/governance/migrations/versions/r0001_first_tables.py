"""Ledger and its head, releases, monitor results."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision: str | None = None
branch_labels: str | None = None
depends_on: str | None = None
_SEQUENCE = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """To this revision."""
    op.create_table(
        "ledger",
        sa.Column("seq", _SEQUENCE, primary_key=True, autoincrement=False),
        sa.Column("recorded_at", sa.String(27), nullable=False),
        sa.Column("effective_at", sa.String(27), nullable=False),
        sa.Column("kind", sa.String(64), nullable=False),
        sa.Column("use_case", sa.String(64), nullable=False),
        sa.Column("subject", sa.Text, nullable=False),
        sa.Column("actor", sa.Text, nullable=False),
        sa.Column("payload", sa.Text, nullable=False),
        sa.Column("key", sa.Text, nullable=False),
        sa.Column("previous", sa.String(64), nullable=False),
        sa.Column("hash", sa.String(64), nullable=False),
        sa.UniqueConstraint("use_case", "kind", "key", name="ledger_once"),
    )
    op.create_index("ledger_effective", "ledger", ["use_case", "effective_at", "seq"])
    head = op.create_table(
        "ledger_head",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("seq", _SEQUENCE, nullable=False),
        sa.Column("hash", sa.String(64), nullable=False),
    )
    op.bulk_insert(head, [{"id": 1, "seq": 0, "hash": "0" * 64}])
    op.create_table(
        "release",
        sa.Column("use_case", sa.String(64), nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("package", sa.String(64), nullable=False),
        sa.Column("candidate", sa.Text, nullable=False),
        sa.Column("trainer", sa.Text, nullable=False),
        sa.Column("trained_through", sa.Text, nullable=False),
        sa.Column("holdout", sa.Text, nullable=False),
        sa.Column("effective_at", sa.String(27), nullable=False),
        sa.Column("evidence", sa.String(64), nullable=False),
        sa.Column("policy", sa.String(64), nullable=False),
        sa.Column("feature_service", sa.Text, nullable=False),
        sa.Column("threshold", sa.Double, nullable=False),
        sa.Column("reference", sa.String(64), nullable=False),
        sa.Column("registry_version", sa.Integer, nullable=False),
        sa.Column("replaces", sa.Integer, nullable=False),
        sa.Column("ledger_seq", _SEQUENCE, sa.ForeignKey("ledger.seq"), nullable=False),
        sa.PrimaryKeyConstraint("use_case", "version"),
        sa.UniqueConstraint("use_case", "package", "evidence", "effective_at", name="release_once"),
    )
    op.create_table(
        "monitor_result",
        sa.Column("use_case", sa.String(64), nullable=False),
        sa.Column("partition", sa.String(32), nullable=False),
        sa.Column("kind", sa.String(64), nullable=False),
        sa.Column("payload", sa.Text, nullable=False),
        sa.Column("recorded_at", sa.String(27), nullable=False),
        sa.PrimaryKeyConstraint("use_case", "partition", "kind"),
    )


def downgrade() -> None:
    """Back to an empty database: what was decided is lost."""
    for table in ("monitor_result", "release", "ledger_head", "ledger"):
        op.drop_table(table)
