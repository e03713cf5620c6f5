"""Rooms, members, invitations, messages, their edits, events and full-text search."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

_BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_SQLITE = (
    "CREATE VIRTUAL TABLE chat_text USING fts5(words, content='chat_message', content_rowid='n', tokenize='unicode61')",
    "CREATE TRIGGER chat_text_insert AFTER INSERT ON chat_message BEGIN"
    " INSERT INTO chat_text(rowid, words) VALUES (new.n, new.words); END",
    "CREATE TRIGGER chat_text_delete AFTER DELETE ON chat_message BEGIN"
    " INSERT INTO chat_text(chat_text, rowid, words) VALUES ('delete', old.n, old.words); END",
    "CREATE TRIGGER chat_text_update AFTER UPDATE OF words ON chat_message BEGIN"
    " INSERT INTO chat_text(chat_text, rowid, words) VALUES ('delete', old.n, old.words);"
    " INSERT INTO chat_text(rowid, words) VALUES (new.n, new.words); END",
)
_POSTGRES = "CREATE INDEX chat_message_words ON chat_message USING gin (to_tsvector('simple'::regconfig, words))"


def _room(**options: Any) -> sa.Column[str]:
    return sa.Column(
        "room", sa.String(36), sa.ForeignKey("chat_room.id", ondelete="CASCADE"), nullable=False, **options
    )


def upgrade() -> None:
    op.create_table(
        "chat_room",
        sa.Column("id", sa.String(36), primary_key=True),
        sa.Column("name", sa.String(256), nullable=False),
        sa.Column("key", sa.String(255)),
        sa.Column("pair", sa.String(73)),
        sa.Column("topic", sa.Text, nullable=False, server_default=""),
        sa.Column("private", sa.Boolean, nullable=False, server_default=sa.false()),
        sa.Column("seq", sa.Integer, nullable=False, server_default="0"),
        sa.Column("created", sa.Float, nullable=False),
        sa.UniqueConstraint("key", name="chat_room_key"),
        sa.UniqueConstraint("pair", name="chat_room_pair"),
    )
    op.create_table(
        "chat_member",
        _room(),
        sa.Column("user", sa.String(36), nullable=False),
        sa.Column("state", sa.String(8), nullable=False),
        sa.Column("role", sa.String(8), nullable=False),
        sa.Column("since", sa.Float, nullable=False),
        sa.Column("read", sa.Integer, nullable=False, server_default="0"),
        sa.CheckConstraint("state IN ('active', 'pending', 'banned')", name="chat_member_state"),
        sa.CheckConstraint("role IN ('owner', 'admin', 'member')", name="chat_member_role"),
        sa.UniqueConstraint("room", "user", name="chat_member_once"),
    )
    op.create_index("chat_member_user", "chat_member", ["user", "state"])
    op.create_table(
        "chat_invitation",
        sa.Column("id", sa.String(36), primary_key=True),
        _room(),
        sa.Column("user", sa.String(36), nullable=False),
        sa.Column("inviter", sa.String(36), nullable=False),
        sa.Column("state", sa.String(8), nullable=False),
        sa.Column("created", sa.Float, nullable=False),
        sa.Column("expires", sa.Float, nullable=False),
        sa.Column("answered", sa.Float),
        sa.CheckConstraint(
            "state IN ('pending', 'accepted', 'declined', 'revoked', 'expired')", name="chat_invitation_state"
        ),
    )
    pending = sa.text("state = 'pending'")
    op.create_index(
        "chat_invitation_pending", "chat_invitation", ["room", "user"],
        unique=True, sqlite_where=pending, postgresql_where=pending,
    )  # fmt: skip
    op.create_index("chat_invitation_user", "chat_invitation", ["user", "state"])
    op.create_index("chat_invitation_expires", "chat_invitation", ["state", "expires"])
    op.create_table(
        "chat_message",
        sa.Column("n", _BIG, primary_key=True, autoincrement=True),
        sa.Column("id", sa.String(36), nullable=False),
        _room(),
        sa.Column("seq", sa.Integer, nullable=False),
        sa.Column("author", sa.String(36), nullable=False),
        sa.Column("text", sa.Text, nullable=False),
        sa.Column("words", sa.Text, nullable=False),
        sa.Column("reply_to", sa.String(36)),
        sa.Column("created", sa.Float, nullable=False),
        sa.Column("edited", sa.Float),
        sa.Column("deleted", sa.Float),
        sa.UniqueConstraint("id", name="chat_message_id"),
        sa.UniqueConstraint("room", "seq", name="chat_message_seq"),
        sqlite_autoincrement=True,
    )
    op.create_index("chat_message_author", "chat_message", ["author"])
    op.create_table(
        "chat_edit",
        sa.Column("message", sa.String(36), sa.ForeignKey("chat_message.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("version", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("text", sa.Text, nullable=False),
        sa.Column("at", sa.Float, nullable=False),
    )
    op.create_table(
        "chat_event",
        _room(primary_key=True),
        sa.Column("seq", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("actor", sa.String(36), nullable=False),
        sa.Column("at", sa.Float, nullable=False),
        sa.Column("message", sa.String(36)),
        sa.Column("data", sa.Text, nullable=False),
    )
    for statement in _SQLITE if op.get_bind().dialect.name == "sqlite" else (_POSTGRES,):
        op.execute(statement)


def downgrade() -> None:
    if op.get_bind().dialect.name == "sqlite":
        op.execute("DROP TABLE chat_text")
    for table in ("chat_event", "chat_edit", "chat_message", "chat_invitation", "chat_member", "chat_room"):
        op.drop_table(table)
