"""The tables of rooms, their members, and what is said in them."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    false,
    text,
)

metadata = MetaData()
MIGRATIONS = Path(__file__).parent / "migrations"

#: Ids that SQLite makes by itself are INTEGER there.
Big = BigInteger().with_variant(Integer(), "sqlite")


def _room() -> Column[str]:
    return Column("room", String(36), ForeignKey("chat_room.id", ondelete="CASCADE"), nullable=False)


#: Times are seconds since 1970; users are ids of `server.directory`.
rooms = Table(
    "chat_room",
    metadata,
    Column("id", String(36), primary_key=True),  # a UUIDv7
    Column("name", String(256), nullable=False),  # "" of a conversation of two
    Column("key", String(255)),  # the name in one case; NULL of a conversation of two
    Column("pair", String(73)),  # the two users of a conversation, in order
    Column("topic", Text, nullable=False, server_default=""),
    Column("private", Boolean, nullable=False, server_default=false()),
    Column("seq", Integer, nullable=False, server_default="0"),  # of the last event
    Column("created", Float, nullable=False),
    UniqueConstraint("key", name="chat_room_key"),
    UniqueConstraint("pair", name="chat_room_pair"),
)

members = Table(
    "chat_member",
    metadata,
    _room(),
    Column("user", String(36), nullable=False),
    Column("state", String(8), nullable=False),
    Column("role", String(8), nullable=False),
    Column("since", Float, nullable=False),
    Column("read", Integer, nullable=False, server_default="0"),  # the last event that was seen
    CheckConstraint("state IN ('active', 'pending', 'banned')", name="chat_member_state"),
    CheckConstraint("role IN ('owner', 'admin', 'member')", name="chat_member_role"),
    UniqueConstraint("room", "user", name="chat_member_once"),
    Index("chat_member_user", "user", "state"),
)

invitations = Table(
    "chat_invitation",
    metadata,
    Column("id", String(36), primary_key=True),
    _room(),
    Column("user", String(36), nullable=False),
    Column("inviter", String(36), nullable=False),
    Column("state", String(8), nullable=False),
    Column("created", Float, nullable=False),
    Column("expires", Float, nullable=False),
    Column("answered", Float),
    CheckConstraint("state IN ('pending', 'accepted', 'declined', 'revoked', 'expired')", name="chat_invitation_state"),
    Index(
        "chat_invitation_pending",
        "room",
        "user",
        unique=True,
        sqlite_where=text("state = 'pending'"),
        postgresql_where=text("state = 'pending'"),
    ),
    Index("chat_invitation_user", "user", "state"),
    Index("chat_invitation_expires", "state", "expires"),
)

#: What was said. SQLite's full-text table goes by `n`, PostgreSQL's index by the words themselves.
messages = Table(
    "chat_message",
    metadata,
    Column("n", Big, primary_key=True, autoincrement=True),
    Column("id", String(36), nullable=False),
    _room(),
    Column("seq", Integer, nullable=False),  # of the event that brought it
    Column("author", String(36), nullable=False),
    Column("text", Text, nullable=False),  # "" of one that was deleted
    Column("words", Text, nullable=False),  # the text as it is searched
    Column("reply_to", String(36)),
    Column("created", Float, nullable=False),
    Column("edited", Float),
    Column("deleted", Float),
    UniqueConstraint("id", name="chat_message_id"),
    UniqueConstraint("room", "seq", name="chat_message_seq"),
    Index("chat_message_author", "author"),
    Index("chat_message_words", text("to_tsvector('simple'::regconfig, words)"), postgresql_using="gin").ddl_if(
        dialect="postgresql"
    ),
    sqlite_autoincrement=True,  # a number never comes again
)

#: What an edited message said before.
edits = Table(
    "chat_edit",
    metadata,
    Column("message", String(36), ForeignKey("chat_message.id", ondelete="CASCADE"), primary_key=True),
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("text", Text, nullable=False),
    Column("at", Float, nullable=False),  # when it was replaced
)

#: Everything that happened in a room, in order and without a gap. Texts are not in it: they may be deleted.
events = Table(
    "chat_event",
    metadata,
    Column("room", String(36), ForeignKey("chat_room.id", ondelete="CASCADE"), primary_key=True),
    Column("seq", Integer, primary_key=True, autoincrement=False),
    Column("kind", String(16), nullable=False),
    Column("actor", String(36), nullable=False),
    Column("at", Float, nullable=False),
    Column("message", String(36)),  # which it is about
    Column("data", Text, nullable=False),  # JSON
)
