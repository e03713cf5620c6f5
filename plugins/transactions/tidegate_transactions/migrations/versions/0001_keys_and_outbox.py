"""Idempotency keys and the outbox."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "tidegate_keys",
        sa.Column("user", sa.String(255), nullable=False),
        sa.Column("method", sa.String(64), nullable=False),
        sa.Column("key", sa.String(64), nullable=False),
        sa.Column("request", sa.LargeBinary(16), nullable=False),
        sa.Column("reply", sa.LargeBinary),
        sa.Column("expires", sa.Float, nullable=False),
        sa.PrimaryKeyConstraint("user", "method", "key"),
    )
    op.create_index("tidegate_keys_expires", "tidegate_keys", ["expires"])
    op.create_table(
        "tidegate_outbox",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), primary_key=True, autoincrement=True),
        sa.Column("topic", sa.String(64), nullable=False),
        sa.Column("fields", sa.Text, nullable=False),
        sa.Column("at", sa.Float, nullable=False),
        sa.Column("owner", sa.String(32), nullable=False),
        sqlite_autoincrement=True,
    )


def downgrade() -> None:
    op.drop_table("tidegate_outbox")
    op.drop_table("tidegate_keys")
