"""SQLite in this process: one writer with group commit, readers with a snapshot each."""

from __future__ import annotations

import os
import re
import sqlite3
from collections.abc import Callable, Iterable
from pathlib import Path

from gevent.threadpool import ThreadPool
from sqlalchemy import ForeignKeyConstraint, MetaData, create_engine
from sqlalchemy.engine import Engine
from sqlalchemy.pool import NullPool

from tidegate_transactions.journal import Journal
from tidegate_transactions.links import READ, ROLLBACK, Link, PatientCursor, ThreadCursor, open_link, primary, run_in
from tidegate_transactions.transaction import Transaction
from tidegate_transactions.writer import Writer

IDLE_READERS = 16  # connections that are kept open
READ_THREADS = 4
_DEFERRED = re.compile(r"deferrable\s+initially\s+deferred", re.IGNORECASE)


class SQLite:
    """One file in WAL mode."""

    isolation = "serializable"

    def __init__(
        self,
        path: Path,
        *,
        synchronous: str = "FULL",
        lock_wait_s: float = 5.0,
        batch: int = 128,
        capacity: int = 100,
        failed: Callable[[str, BaseException], object],
    ) -> None:
        self.path = path
        self.synchronous = synchronous
        self.lock_wait_s = lock_wait_s
        self.batch = batch
        self.capacity = capacity
        self.failed = failed
        self.engine: Engine = create_engine(
            "sqlite://", creator=self._open_reader, poolclass=NullPool, hide_parameters=True
        )
        self._readers: list[Link] = []
        self.journal = Journal(path)
        self._threads: ThreadPool
        self._writer: Writer  # once it is started

    # --- its life --------------------------------------------------------------------------------

    def start(self) -> None:
        self._threads = ThreadPool(READ_THREADS)
        run_in(self._threads, self._create)
        self._writer = Writer(self._open_writer, self.failed, self.batch, self.journal)
        # SQLAlchemy looks at the server's version once.
        with self.engine.connect():
            pass

    def _create(self) -> None:
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        link = open_link(str(self.path), self._threads, mode="rwc", synchronous=self.synchronous)
        try:
            link.execute("SELECT count(*) FROM sqlite_master").fetchone()
            link.execute("BEGIN IMMEDIATE")  # a file that can't be written is found out now
            link.execute("ROLLBACK")
        except sqlite3.OperationalError as error:
            if primary(error) != sqlite3.SQLITE_BUSY:
                raise
        finally:
            link.close()

    def _open_writer(self) -> Link:
        return open_link(
            str(self.path), self._threads, mode="rw", synchronous=self.synchronous, lock_wait_s=self.lock_wait_s
        )

    def _open_reader(self) -> Link:
        return open_link(str(self.path), self._threads, mode="ro", lock_wait_s=self.lock_wait_s)

    def stop(self) -> None:
        self.journal.release()
        for link in self._readers:
            link.close()
        self._readers.clear()
        self._writer.close()
        self.engine.dispose()
        self._threads.kill()

    # --- transactions ----------------------------------------------------------------------------

    def begin(self, transaction: Transaction) -> None:
        if transaction.read:
            self._begin_read(transaction)
            return
        # Interrupting a write rolls back all of its batch, so a long one has one of its own.
        transaction.alone |= transaction.long
        transaction.kind = ThreadCursor if transaction.long else sqlite3.Cursor
        self._writer.enter(transaction)

    def _begin_read(self, transaction: Transaction) -> None:
        self.journal.enter()
        try:
            link = self._readers.pop() if self._readers else run_in(self._threads, self._open_reader)
            try:
                link.say(READ)
            except BaseException:
                self._discard(link)
                raise
        except BaseException:
            self.journal.leave()
            raise
        transaction.raw = link
        transaction.kind = ThreadCursor if transaction.long else PatientCursor

    def commit(self, transaction: Transaction) -> BaseException | None:
        if not transaction.read:
            return self._writer.leave(transaction)
        self._end_read(transaction, fit=True)
        transaction.told()
        return None

    def rollback(self, transaction: Transaction) -> None:
        if transaction.raw is None:
            return
        if transaction.read:
            self._end_read(transaction, fit=False)
        else:
            self._writer.undo(transaction)

    def undo(self, transaction: Transaction) -> None:
        if not transaction.read:
            self._writer.undo(transaction, stay=True)

    def give_up(self, transaction: Transaction, error: BaseException | None) -> None:
        """SQLAlchemy gives a connection up on any BaseException; this one is at rest and goes on."""

    def doubt(self) -> None:
        self._writer.stale = True
        while self._readers:
            self._discard(self._readers.pop())

    def _end_read(self, transaction: Transaction, fit: bool) -> None:
        link, transaction.raw = transaction.raw, None
        try:
            link.say(ROLLBACK)
        except sqlite3.Error:
            fit = False
        self.journal.leave()
        # After an error what this connection remembers of the file may be wrong; opening another is cheap.
        if fit and len(self._readers) < IDLE_READERS:
            self._readers.append(link)
        else:
            self._discard(link)

    def _discard(self, link: Link) -> None:
        self._threads.spawn(link.close)

    # --- looked at from outside ------------------------------------------------------------------

    def gauges(self) -> dict[str, float]:
        writer: Writer | None = getattr(self, "_writer", None)
        if writer is None:
            return {}
        return {
            "writers_waiting": writer.waiting,
            "reads_active": self.journal.reading,
            "batch_members": round(writer.members / writer.batches, 2) if writer.batches else 0.0,
        }

    def totals(self) -> dict[str, int]:
        writer: Writer | None = getattr(self, "_writer", None)
        if writer is None:
            return {}
        return {"batches": writer.batches, "batched": writer.members, "batches_lost": writer.lost}

    def backup(self, file: Path) -> None:
        """Blocks: for the command line. WAL lets others write meanwhile."""
        partial = file.with_name(f"{file.name}.partial")
        partial.unlink(missing_ok=True)
        source = sqlite3.connect(f"file:{self.path}?mode=rw", uri=True, timeout=30)
        try:
            target = sqlite3.connect(partial, isolation_level=None)
            try:
                source.backup(target)
                (found,) = target.execute("PRAGMA integrity_check").fetchone()
                target.execute("PRAGMA journal_mode=DELETE")
            finally:
                target.close()
        finally:
            source.close()
        if found != "ok":
            partial.unlink()
            raise sqlite3.DatabaseError(f"the copy is not whole: {found}")
        with partial.open("rb") as copy:
            os.fsync(copy.fileno())
        partial.replace(file)
        folder = os.open(file.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def doubts(self, metadata: Iterable[MetaData]) -> list[str]:
        found = [
            f"table {table.name!r}: a constraint on {', '.join(constraint.column_keys)} is deferred: it fails only at "
            "COMMIT, where it would take other transactions with it; declare it without initially='DEFERRED'"
            for one in metadata
            for table in one.tables.values()
            for constraint in table.constraints
            if isinstance(constraint, ForeignKeyConstraint) and (constraint.initially or "").upper() == "DEFERRED"
        ]
        link = sqlite3.connect(f"file:{self.path}?mode=rw", uri=True)
        try:
            for name, sql in link.execute("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL"):
                if _DEFERRED.search(sql) and not any(f"table {name!r}:" in text for text in found):
                    found.append(f"table {name!r}: a constraint in the database is deferred; recreate it without")
        finally:
            link.close()
        return found
