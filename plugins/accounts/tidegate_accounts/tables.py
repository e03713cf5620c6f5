"""The tables of accounts and their sessions."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import (
    Boolean,
    CheckConstraint,
    Column,
    Float,
    ForeignKey,
    Index,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    false,
)

metadata = MetaData()
MIGRATIONS = Path(__file__).parent / "migrations"

#: Times are seconds since 1970.
users = Table(
    "accounts_user",
    metadata,
    Column("id", String(36), primary_key=True),  # a UUIDv7
    Column("name", String(128), nullable=False),
    Column("key", String(255), nullable=False),  # the name in one case
    Column("looks", String(255), nullable=False),  # what names that look alike share
    Column("display", String(256), nullable=False, server_default=""),
    Column("about", Text, nullable=False, server_default=""),
    Column("role", String(16), nullable=False),
    Column("password", Text),  # argon2id, encoded; NULL: there is none
    Column("certificate", String(255)),  # the subject's common name in a client certificate
    Column("suspended", Boolean, nullable=False, server_default=false()),
    Column("until", Float),  # when the suspension ends; NULL: never by itself
    Column("reason", Text, nullable=False, server_default=""),
    Column("created", Float, nullable=False),
    UniqueConstraint("key", name="accounts_user_key"),
    UniqueConstraint("looks", name="accounts_user_looks"),
    UniqueConstraint("certificate", name="accounts_user_certificate"),
    CheckConstraint("role IN ('user', 'moderator', 'admin')", name="accounts_user_role"),
)

#: What lets somebody in without a password: sessions, and tokens that administrators make.
sessions = Table(
    "accounts_session",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("user", String(36), ForeignKey("accounts_user.id", ondelete="CASCADE"), nullable=False),
    Column("digest", LargeBinary(32), nullable=False),  # of the token, which is kept nowhere
    Column("kind", String(8), nullable=False),  # session, token
    Column("label", String(128), nullable=False, server_default=""),
    Column("scopes", String(64)),  # separated by spaces; NULL: all
    Column("created", Float, nullable=False),
    Column("used", Float, nullable=False),
    Column("expires", Float, nullable=False),
    Column("address", String(64)),  # of its last use
    Column("prefix", String(64)),
    UniqueConstraint("digest", name="accounts_session_digest"),
    Index("accounts_session_user", "user"),
    Index("accounts_session_expires", "expires"),
)
