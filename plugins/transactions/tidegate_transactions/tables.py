"""The plugin's own tables."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Float, Index, Integer, LargeBinary, MetaData, String, Table, Text

metadata = MetaData()

#: Ids that SQLite makes by itself are INTEGER there.
Big = BigInteger().with_variant(Integer(), "sqlite")

#: The reply of each call that was committed with a key.
keys = Table(
    "tidegate_keys",
    metadata,
    Column("user", String(255), primary_key=True),  # "" of who is not logged in
    Column("method", String(64), primary_key=True),
    Column("key", String(64), primary_key=True),
    Column("request", LargeBinary(16), nullable=False),  # a hash of the parameters
    Column("reply", LargeBinary),  # JSON; NULL while its transaction is under way
    Column("expires", Float, nullable=False),  # wall clock
    Index("tidegate_keys_expires", "expires"),
)

#: Events that were committed and may not have been told yet.
outbox = Table(
    "tidegate_outbox",
    metadata,
    Column("id", Big, primary_key=True, autoincrement=True),
    Column("topic", String(64), nullable=False),
    Column("fields", Text, nullable=False),  # JSON
    Column("at", Float, nullable=False),  # wall clock
    Column("owner", String(32), nullable=False),  # the server process that tells it
    sqlite_autoincrement=True,  # an id never comes again
)
