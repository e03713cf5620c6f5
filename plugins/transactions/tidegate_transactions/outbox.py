"""Events that survive a crash between their commit and their telling."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import msgspec
from sqlalchemy import delete, func, insert, select
from tidegate.faults import InternalError

from tidegate_transactions.tables import outbox as table
from tidegate_transactions.transaction import Transaction

if TYPE_CHECKING:
    from tidegate_transactions import Transactions

SWEEP_S = 1.0  # between two removals of what was told
GRACE_S = 10.0  # after which a row of another process was left behind by a crash
PAGE = 500

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode


class Outbox:
    """Rows are written with the transaction, removed once told; what a crash left is told at the next start.

    At least once: a crash after the telling and before the removal tells it again.
    """

    def __init__(self, plugin: Transactions) -> None:
        self.plugin = plugin
        self.owner = os.urandom(8).hex()
        self.recovered = 0
        self._told: list[int] = []

    def keep(self, transaction: Transaction, effects: Sequence[tuple[str, Any]]) -> None:
        """Write the events of kept topics. Raises InternalError for fields that are no JSON."""
        topics = self.plugin.outbox_topics
        rows = [
            {"topic": topic, "fields": _json(topic, fields), "at": self.plugin.server.clock.wall(), "owner": self.owner}
            for topic, fields in effects
            if topic and (topic in topics or "*" in topics)
        ]
        if not rows:
            return
        connection: Any = transaction.database(core=True)
        for row in rows:
            (made,) = connection.execute(insert(table).values(**row)).inserted_primary_key
            transaction.outbox = self
            transaction.kept = [*(transaction.kept or ()), made]

    def told(self, transaction: Transaction) -> None:
        """Its events were told: the rows may go. Never switches."""
        self._told += transaction.kept or ()

    def sweep(self) -> None:
        """Remove what was told. May switch."""
        while self._told:
            ids, self._told = self._told[:PAGE], self._told[PAGE:]
            try:
                with self.plugin.handle(core=True) as db:
                    db.execute(delete(table).where(table.c.id.in_(ids)))
            except BaseException:
                self._told = ids + self._told
                raise

    def recover(self) -> int:
        """Tell what a crash left behind, in the order it was written; how much. May switch.

        An SQLite file is served by one process, so all that this one did not write is left over.
        PostgreSQL may serve many: there it is what nobody has removed for a while.
        """
        server, total = self.plugin.server, 0
        postgres = self.plugin.store.engine.dialect.name == "postgresql"
        old = select(table).where(table.c.owner != self.owner).order_by(table.c.id).limit(PAGE)
        if postgres:
            old = old.where(table.c.at <= server.clock.wall() - GRACE_S).with_for_update(skip_locked=True)
        while True:
            with self.plugin.handle(read=True, core=True) as db:
                if db.execute(select(table.c.id).where(table.c.owner != self.owner).limit(1)).first() is None:
                    break
            with self.plugin.handle(core=True) as db:
                rows = db.execute(old).all()
                for row in rows:
                    try:
                        server.publish(row.topic, **_decode(row.fields))
                    except Exception as error:  # a topic of a plugin that is no more
                        self.plugin.log.warning("outbox: %s can't be told: %s", row.topic, error)
                if rows:
                    db.execute(delete(table).where(table.c.id.in_([row.id for row in rows])))
            total += len(rows)
            if len(rows) < PAGE:
                break
        self.recovered += total
        return total

    def waiting(self) -> int:
        """Rows in the table. May switch."""
        with self.plugin.handle(read=True, core=True) as db:
            count = db.execute(select(func.count()).select_from(table)).scalar_one()
        return int(count)


def _json(topic: str, fields: Any) -> str:
    try:
        return _encode(fields).decode()
    except Exception as error:
        raise InternalError(log=f"the fields of {topic} can't be kept: {error}") from error
