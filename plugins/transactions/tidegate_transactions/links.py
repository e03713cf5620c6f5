"""Connections to an SQLite file, and cursors that never hold the event loop up for long."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from math import inf
from time import perf_counter
from typing import Any

import gevent
from gevent.threadpool import ThreadPool

#: A read that takes longer on the loop is begun again in a thread.
LOOP_BUDGET_S = 0.003
#: Steps of SQLite's virtual machine between two looks at the clock: some 0.1 ms.
STEPS = 5000
#: How long another process that holds the file locked is waited for: the pauses between two tries.
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.001, 0.05

#: Texts of our own: the driver keeps prepared statements by their text, and asks the guard only once for each.
READ, WRITE = "BEGIN -- tidegate", "BEGIN IMMEDIATE -- tidegate"
COMMIT, ROLLBACK = "COMMIT -- tidegate", "ROLLBACK -- tidegate"
EMPTY = "PRAGMA wal_checkpoint(TRUNCATE) -- tidegate"

_execute, _executemany = sqlite3.Cursor.execute, sqlite3.Cursor.executemany
_fetchone, _fetchmany, _fetchall = sqlite3.Cursor.fetchone, sqlite3.Cursor.fetchmany, sqlite3.Cursor.fetchall

#: What a command may not set on a connection that others use too, at the same time or after it.
_SHARED_PRAGMAS = frozenset(
    {
        *("defer_foreign_keys", "foreign_keys", "ignore_check_constraints", "journal_mode", "locking_mode"),
        *("query_only", "synchronous", "writable_schema", "wal_checkpoint", "page_size", "auto_vacuum"),
        *("schema_version", "read_uncommitted", "recursive_triggers", "case_sensitive_like", "busy_timeout"),
    }
)


class Link(sqlite3.Connection):
    """One connection to the file, in autocommit mode: BEGIN and COMMIT are ours."""

    threads: ThreadPool
    until = inf  # when what runs on the loop has used its budget up
    lock_wait_s = 5.0
    own = False  # the statement is ours

    def guard(self) -> None:
        """Let no command end a transaction that is ours to end, or change the connection under others."""
        self.set_authorizer(self._authorize)

    def say(self, sql: str) -> None:
        """One of the statements above, which the guard lets pass."""
        self.own = True
        try:
            self.execute(sql)
        finally:
            self.own = False

    def _authorize(self, action: int, first: str | None, second: str | None, *_: Any) -> int:
        if self.own:
            return sqlite3.SQLITE_OK
        if action in (sqlite3.SQLITE_TRANSACTION, sqlite3.SQLITE_ATTACH, sqlite3.SQLITE_DETACH):
            return sqlite3.SQLITE_DENY
        if action == sqlite3.SQLITE_PRAGMA and second is not None and str(first).lower() in _SHARED_PRAGMAS:
            return sqlite3.SQLITE_DENY
        return sqlite3.SQLITE_OK

    def be_patient(self) -> None:
        """Stop reads that have used up their budget, so that they can go on in a thread."""
        self.set_progress_handler(lambda: perf_counter() > self.until, STEPS)

    def in_thread(self, step: Callable[..., Any], *args: Any) -> Any:
        """`step` in a thread; who is interrupted meanwhile leaves the connection at rest. Switches."""
        result: Any = self.threads.spawn(_outcome, step, args)
        try:
            value, error = result.get()
        except BaseException:
            while not result.ready():
                self.interrupt()
                try:
                    result.wait(0.05)  # the thread may have been between two statements
                except BaseException:  # noqa: S112  (the first one is on its way already)
                    continue
            raise
        if error is not None:
            raise error
        return value


def run_in(threads: ThreadPool, step: Callable[..., Any], *args: Any) -> Any:
    """The result of `step` in a thread, or what it raised. Switches."""
    result: Any = threads.spawn(_outcome, step, args)
    value, error = result.get()
    if error is not None:
        raise error
    return value


def _outcome(step: Callable[..., Any], args: tuple[Any, ...]) -> tuple[Any, BaseException | None]:
    # gevent prints a traceback for what leaves a thread's function.
    try:
        return step(*args), None
    except BaseException as error:
        return None, error


class PatientCursor(sqlite3.Cursor):
    """A read begins on the loop; what takes longer than the budget begins again in a thread.

    All within one snapshot, so the second beginning gives the same rows. Once it has
    moved, a cursor stays in the thread.
    """

    connection: Link
    moved = False
    given = 0

    def execute(self, sql: str, parameters: Any = (), /) -> PatientCursor:
        self._statement = (sql, parameters)
        self.given = 0
        self._run(_execute, sql, parameters)
        return self

    def executemany(self, sql: str, parameters: Any, /) -> PatientCursor:
        if self.moved:
            self.connection.in_thread(_executemany, self, sql, list(parameters))
        else:
            _executemany(self, sql, parameters)
        return self

    def fetchone(self) -> Any:
        row = self._run(_fetchone)
        self.given += row is not None
        return row

    def fetchmany(self, size: int | None = None) -> list[Any]:
        rows: list[Any] = self._run(_fetchmany, self.arraysize if size is None else size)
        self.given += len(rows)
        return rows

    def fetchall(self) -> list[Any]:
        rows: list[Any] = self._run(_fetchall)
        self.given += len(rows)
        return rows

    def _run(self, step: Callable[..., Any], *args: Any) -> Any:
        link = self.connection
        if self.moved:
            return link.in_thread(step, self, *args)
        pause, end = FIRST_PAUSE_S, 0.0
        while True:
            start = perf_counter()
            link.until = start + LOOP_BUDGET_S
            try:
                return step(self, *args)
            except sqlite3.OperationalError as error:
                code = primary(error)
                end = end or start + link.lock_wait_s
                if code == sqlite3.SQLITE_INTERRUPT:
                    self.moved = True
                elif code != sqlite3.SQLITE_BUSY or perf_counter() > end:
                    raise
            finally:
                link.until = inf
            if self.moved:
                return link.in_thread(self._again, step, *args)
            gevent.sleep(pause)  # another process has locked the file
            pause = min(2 * pause, LONGEST_PAUSE_S)

    def _again(self, step: Callable[..., Any], *args: Any) -> Any:
        """In a thread: the statement from its beginning, without the rows that were given already."""
        _execute(self, *self._statement)
        if step is _execute:
            return self
        for _ in range(self.given):
            _fetchone(self)
        return step(self, *args)


class ThreadCursor(PatientCursor):
    """Every statement in a thread."""

    moved = True


def primary(error: BaseException) -> int:
    """The primary result code of an SQLite error, 0 for none."""
    return (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF


def open_link(
    path: str, threads: ThreadPool, *, mode: str, synchronous: str = "FULL", lock_wait_s: float = 5.0
) -> Link:
    """Open the file. `mode`: ro, rw, rwc. Blocks; raises sqlite3.Error."""
    from urllib.parse import quote

    query = "rw" if mode == "ro" else mode  # a WAL file can't be read without its index being written
    link = sqlite3.connect(
        f"file:{quote(path)}?mode={query}",
        uri=True,
        timeout=lock_wait_s,  # while it is opened, in a thread: who closes the file holds it for a moment
        isolation_level=None,
        check_same_thread=False,
        cached_statements=256,
        factory=Link,
    )
    try:
        link.threads, link.lock_wait_s = threads, lock_wait_s
        if mode != "ro":
            link.execute("PRAGMA journal_mode=WAL")
        link.execute(f"PRAGMA synchronous={synchronous}")
        link.execute("PRAGMA foreign_keys=ON")
        link.execute("PRAGMA journal_size_limit=67108864")  # bytes; else the log stays as large as it ever was
        link.execute("PRAGMA temp_store=MEMORY")
        if mode == "ro":
            link.execute("PRAGMA query_only=ON")
            link.be_patient()
        link.execute("PRAGMA busy_timeout=0")  # from now on: who waits in C holds the loop up
        if mode != "rwc":
            link.guard()
    except BaseException:
        link.close()
        raise
    return link
