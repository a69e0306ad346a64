"""What was brought to the online stores."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision: str | None = "0001"
branch_labels: str | None = None
depends_on: str | None = None


def upgrade() -> None:
    """To this revision."""
    op.create_table(
        "materialization",
        sa.Column("store", sa.String(64), nullable=False),
        sa.Column("view", sa.String(64), nullable=False),
        sa.Column("domain", sa.String(64), nullable=False),
        sa.Column("complete", sa.Boolean, nullable=False),
        sa.Column("high_water_mark", sa.String(27), nullable=False),
        sa.Column("newest_event", sa.String(27), nullable=False),
        sa.Column("layout", sa.String(64), nullable=False),
        sa.Column("partitions", sa.Text, nullable=False),
        sa.Column("rows", sa.BigInteger, nullable=False),
        sa.Column("recorded_at", sa.String(27), nullable=False),
        sa.PrimaryKeyConstraint("store", "view"),
    )


def downgrade() -> None:
    """Back to the revision before: the next materialization writes every view anew."""
    op.drop_table("materialization")
