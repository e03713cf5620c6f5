"""Group commit: transactions of one writing connection that become durable by one fsync.

Two writers never meet inside SQLite, where the second would sleep in C and freeze the loop. Whoever
writes owns the connection for as long as its function runs, inside a SAVEPOINT of the batch that is
open, and gives it on with the savepoint's release; who switches greenlets only makes the others wait.
When nobody waits any more, or the batch is full, the committer - a greenlet of its own, so that no
deadline and no kill can hit it - commits for the whole batch in a thread, carries out what the calls
gathered in the order of their commits, and only then wakes them. A batch that is lost is told to all
of it, and who tries again commits for itself alone.

Why this way (measured, see README): one writer thread that runs the commands would take the loop's
own objects into a thread; one COMMIT each costs an fsync each; releasing a raw SAVEPOINT costs 0.7 µs
where SQLAlchemy's costs 55.
"""

from __future__ import annotations

import sqlite3
from collections import deque
from collections.abc import Callable
from time import monotonic, perf_counter
from typing import Any

import gevent
from gevent.hub import get_hub
from gevent.threadpool import ThreadPool
from tidegate.faults import TransactionFailed

from tidegate_transactions.journal import Journal
from tidegate_transactions.links import (
    COMMIT,
    FIRST_PAUSE_S,
    LONGEST_PAUSE_S,
    ROLLBACK,
    WRITE,
    Link,
    primary,
    run_in,
)
from tidegate_transactions.transaction import Transaction

SLICE_S = 0.0005  # of telling what was committed, before sockets get their turn
WOKEN = 16  # callers, each of whom may go on at once with work of its own, before sockets get their turn

_SAVEPOINT, _RELEASE, _UNDO = "SAVEPOINT tidegate", "RELEASE tidegate", "ROLLBACK TO tidegate"

_DOUBTFUL = frozenset(
    {
        *(sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_IOERR),
        *(sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN),
    }
)
_A_TURN = 1e-6  # seconds; sleep(0) would go on before the loop has looked at its sockets


class Batch:
    """Transactions that share one commit."""

    __slots__ = ("closed", "error", "members")

    def __init__(self) -> None:
        self.members: list[Transaction] = []
        self.closed = False  # nobody may join any more
        self.error: BaseException | None = None


class Writer:
    """The one connection that writes, and who may use it."""

    def __init__(
        self,
        connect: Callable[[], Link],
        failed: Callable[[str, BaseException], object],
        limit: int,
        journal: Journal,
    ) -> None:
        self.connect = connect  # run in the thread
        self.journal = journal
        self.failed = failed  # told of what goes wrong where no call can carry it
        self.limit = limit  # transactions in a batch
        self.link: Link | None = None
        self.owner: Any = None  # who may use the connection: a transaction, or this writer while it commits
        self.batch: Batch | None = None
        self.stale = False  # what is known of the file may be wrong: open it anew before the next batch
        self.batches = self.members = self.lost = 0
        self.thread = ThreadPool(1)
        self._cursor: Any = None
        self._line: deque[Transaction] = deque()
        self._idle = False  # the committer waits to be woken
        self._locked = self._tried = 0.0  # since when another process holds the file, and when that was last seen
        self._hub = get_hub()
        self._greenlet = gevent.spawn(self._commit_batches)
        journal.ready = self._wake

    @property
    def waiting(self) -> int:
        return len(self._line)

    # --- for a transaction -----------------------------------------------------------------------

    def enter(self, transaction: Transaction) -> None:
        """Own the connection, inside a savepoint of the open batch. Raises sqlite3.Error. May switch."""
        if self.owner is None and not self._line and self._may_join(transaction):
            self.owner = transaction
        else:
            self._wait(transaction)
        try:
            if self.batch is None:
                self._begin()
                if transaction.alone:
                    self.batch.closed = True  # type: ignore[attr-defined]
            self._cursor.execute(_SAVEPOINT)
        except BaseException as error:
            if isinstance(error, sqlite3.Error):
                if self.batch is not None and not self._still_there():
                    self._lose(error)
                self._doubt(error)
            self._pass_on()
            raise
        transaction.rows = -self.link.total_changes  # type: ignore[union-attr]
        transaction.raw = self.link

    def leave(self, transaction: Transaction) -> BaseException | None:
        """Give the connection on, and return when what was written is on disk.

        From here on the transaction is finished whatever is thrown at it; an exception that comes
        meanwhile is given back. Raises what the commit of a lone transaction raised, and
        TransactionFailed when a batch of more was lost. Switches.
        """
        batch = self.batch
        if batch is None or not self.link.in_transaction:  # type: ignore[union-attr]
            self.undo(transaction)
            raise TransactionFailed(log="the transaction ended before its command did")
        try:
            self._cursor.execute(_RELEASE)
        except sqlite3.Error:
            self.undo(transaction)
            raise
        transaction.rows += self.link.total_changes  # type: ignore[union-attr]
        transaction.raw = None
        transaction.summoned = False
        batch.members.append(transaction)
        self._pass_on()
        hub, thrown = self._hub, None
        while not transaction.summoned:
            try:
                hub.switch()
            except BaseException as error:
                thrown = thrown or error
        transaction.wakeup.stop()
        if batch.error is not None:
            if len(batch.members) == 1:
                raise batch.error
            raise TransactionFailed(log=f"its batch was lost: {batch.error}") from batch.error
        return thrown

    def undo(self, transaction: Transaction, *, stay: bool = False) -> None:
        """Take back what this transaction wrote, and no other's. Never switches."""
        cursor = self._cursor
        try:
            if not self._still_there():
                raise sqlite3.OperationalError("the whole batch was rolled back")
            cursor.execute(_UNDO)
            if stay:
                return
            cursor.execute(_RELEASE)
            transaction.rows += self.link.total_changes  # type: ignore[union-attr]
        except sqlite3.Error as error:
            self._lose(error)
        transaction.rows = max(transaction.rows, 0)
        transaction.raw = None
        if self.owner is transaction:
            self._pass_on()

    # --- who is next -----------------------------------------------------------------------------

    def _may_join(self, transaction: Transaction) -> bool:
        batch = self.batch
        if batch is None:
            return True
        return not batch.closed and not transaction.alone and len(batch.members) < self.limit

    def _wait(self, transaction: Transaction) -> None:
        self._line.append(transaction)
        hub = self._hub
        try:
            while not transaction.summoned:
                hub.switch()
        except BaseException:
            if transaction.summoned:
                transaction.wakeup.stop()
                self._pass_on()
            else:
                self._line.remove(transaction)
            raise
        transaction.summoned = False

    def _pass_on(self) -> None:
        """Give the connection to who has waited longest, or to the committer."""
        line, batch = self._line, self.batch
        if line and self._may_join(line[0]):
            transaction = line.popleft()
            self.owner = transaction
            transaction.summoned = True
            transaction.wakeup = self._hub.loop.run_callback(transaction.greenlet.switch)
            return
        self.owner = None
        if batch is not None and not batch.members and not line:
            self._end_empty()
        self._wake()

    def _wake(self) -> None:
        """Let the committer look whether there is something to do. Not at once: who is ready in this turn of the loop
        still joins the batch."""
        if self._idle and self.owner is None and (self.batch is not None or self.journal.quiet):
            self._idle = False
            self._hub.loop.run_callback(self._greenlet.switch)

    # --- the batch -------------------------------------------------------------------------------

    def _begin(self) -> None:
        """Open a batch; another process that writes is waited for without holding the loop up."""
        if self.stale:
            self.drop()
        link, pause = self.link or self._open(), FIRST_PAUSE_S
        while True:
            try:
                link.say(WRITE)
                self.batch, self._tried = Batch(), 0.0
                return
            except sqlite3.OperationalError as error:
                if primary(error) != sqlite3.SQLITE_BUSY:
                    raise
                now = monotonic()
                # Counted for all who wait, so that the hundredth does not wait a hundred times as long.
                if now - self._tried > 1.0:
                    self._locked = now
                self._tried = now
                if now - self._locked >= link.lock_wait_s:
                    raise
            gevent.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE_S)

    def _open(self) -> Link:
        link: Link = run_in(self.thread, self.connect)
        self.link, self._cursor = link, sqlite3.Cursor(link)
        return link

    def _still_there(self) -> bool:
        return self.link is not None and self.link.in_transaction

    def _end_empty(self) -> None:
        """Nobody wrote anything: nothing to make durable."""
        self.batch = None
        self._roll_back()

    def _roll_back(self) -> None:
        link = self.link
        if link is None or not link.in_transaction:
            return
        try:
            link.say(ROLLBACK)
        except sqlite3.Error as error:
            self.failed("rolling back", error)
            self.drop()

    def _lose(self, error: BaseException) -> None:
        """The database rolled back more than one savepoint: all of the batch is told."""
        self._roll_back()
        batch, self.batch = self.batch, None
        if batch is not None:
            self.lost += bool(batch.members)
            # Its members were released: they may be told of no one's error as their own.
            batch.error = TransactionFailed(log=f"its batch was lost: {error}")
            self._settle(batch)
        self._doubt(error)

    def _doubt(self, error: BaseException) -> None:
        """After some errors nothing that SQLite remembers of the file is to be trusted."""
        if primary(error) in _DOUBTFUL:
            self.stale = True

    def drop(self) -> None:
        """Close the file, without waiting for it."""
        link, self.link, self._cursor, self.stale = self.link, None, None, False
        if link is not None:
            self.thread.spawn(link.close)

    def _commit_batches(self) -> None:
        hub = self._hub
        while True:
            batch = self.batch
            if batch is None and self.owner is None and self.journal.quiet and self.link is not None:
                self.owner = self
                self.journal.look(self.thread.apply(self._empty))
                self.owner = None
                self._pass_on()
                continue
            if (
                batch is None
                or self.owner is not None
                or (self._line and self._may_join(self._line[0]))
                or not (batch.members or self._line)
            ):
                self._idle = True
                hub.switch()
                continue
            self.owner = self
            self.batch = None
            if batch.members:
                batch.error, size = self.thread.apply(self._commit)
                self.batches += 1
                self.members += len(batch.members)
                if batch.error is None:
                    self.journal.look(size)
                else:
                    self.lost += 1
                    self._doubt(batch.error)
            else:
                self._roll_back()
            self.owner = None
            self._pass_on()
            self._settle(batch)

    def _commit(self) -> tuple[BaseException | None, int]:
        """In the thread: the fsync. What went wrong, and how long the log is then."""
        link = self.link
        assert link is not None
        try:
            link.say(COMMIT)
        except Exception as error:
            try:
                if link.in_transaction:
                    link.say(ROLLBACK)
            except sqlite3.Error as second:
                self.failed("rolling back", second)
            return error, 0
        return None, self._empty()

    def _empty(self) -> int:
        """In the thread: empty the log if its time has come. How long it is then."""
        link = self.link
        assert link is not None
        try:
            self.journal.empty(link)
        except sqlite3.Error as error:
            self.failed("emptying the log", error)
        return self.journal.size()

    def _settle(self, batch: Batch) -> None:
        """Tell what was committed, in the order of the commits, and wake who waited. May switch after a commit."""
        run_callback, good = self._hub.loop.run_callback, batch.error is None
        since, woken = perf_counter(), 0
        for transaction in batch.members:
            if good and transaction.has_effects:
                try:
                    transaction.told()
                except Exception as error:
                    self.failed("telling what was committed", error)
            transaction.summoned = True
            transaction.wakeup = run_callback(transaction.greenlet.switch)
            woken += 1
            if good and (woken >= WOKEN or perf_counter() - since > SLICE_S):
                gevent.sleep(_A_TURN)
                since, woken = perf_counter(), 0

    def close(self) -> None:
        """Commit what is open and close the file. Switches."""
        end = monotonic() + 5.0
        while (self.batch is not None or self.owner is not None) and monotonic() < end:
            gevent.sleep(0.005)
        self._greenlet.kill()
        if self.link is not None:
            self.thread.apply(self.link.close)
            self.link = None
        self.thread.kill()
