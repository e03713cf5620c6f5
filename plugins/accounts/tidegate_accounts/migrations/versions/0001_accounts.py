"""Accounts and their sessions."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "accounts_user",
        sa.Column("id", sa.String(36), primary_key=True),
        sa.Column("name", sa.String(128), nullable=False),
        sa.Column("key", sa.String(255), nullable=False),
        sa.Column("looks", sa.String(255), nullable=False),
        sa.Column("display", sa.String(256), nullable=False, server_default=""),
        sa.Column("about", sa.Text, nullable=False, server_default=""),
        sa.Column("role", sa.String(16), nullable=False),
        sa.Column("password", sa.Text),
        sa.Column("certificate", sa.String(255)),
        sa.Column("suspended", sa.Boolean, nullable=False, server_default=sa.false()),
        sa.Column("until", sa.Float),
        sa.Column("reason", sa.Text, nullable=False, server_default=""),
        sa.Column("created", sa.Float, nullable=False),
        sa.UniqueConstraint("key", name="accounts_user_key"),
        sa.UniqueConstraint("looks", name="accounts_user_looks"),
        sa.UniqueConstraint("certificate", name="accounts_user_certificate"),
        sa.CheckConstraint("role IN ('user', 'moderator', 'admin')", name="accounts_user_role"),
    )
    op.create_table(
        "accounts_session",
        sa.Column("id", sa.String(36), primary_key=True),
        sa.Column("user", sa.String(36), sa.ForeignKey("accounts_user.id", ondelete="CASCADE"), nullable=False),
        sa.Column("digest", sa.LargeBinary(32), nullable=False),
        sa.Column("kind", sa.String(8), nullable=False),
        sa.Column("label", sa.String(128), nullable=False, server_default=""),
        sa.Column("scopes", sa.String(64)),
        sa.Column("created", sa.Float, nullable=False),
        sa.Column("used", sa.Float, nullable=False),
        sa.Column("expires", sa.Float, nullable=False),
        sa.Column("address", sa.String(64)),
        sa.Column("prefix", sa.String(64)),
        sa.UniqueConstraint("digest", name="accounts_session_digest"),
    )
    op.create_index("accounts_session_user", "accounts_session", ["user"])
    op.create_index("accounts_session_expires", "accounts_session", ["expires"])


def downgrade() -> None:
    op.drop_table("accounts_session")
    op.drop_table("accounts_user")
