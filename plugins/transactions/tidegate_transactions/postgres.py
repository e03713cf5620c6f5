"""PostgreSQL through psycopg 3, which waits cooperatively under gevent."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import gevent
from sqlalchemy import URL, MetaData, create_engine, event
from sqlalchemy.engine import Engine
from tidegate import Server
from tidegate.faults import DatabaseConnectionFailed, QueryFailed, TransactionFailed

from tidegate_transactions.transaction import Transaction

COMMIT_S = 30.0  # after which a server that does not answer a COMMIT is given up
LATER_S = 0.5  # so long after the server's own deadline PostgreSQL ends what still runs


class Postgres:
    """One database of a PostgreSQL server, with a pool of connections that never waits: the gate is in front of it."""

    def __init__(
        self,
        server: Server,
        url: URL,
        *,
        capacity: int,
        connect_timeout_s: float,
        isolation: str = "",
        failed: Callable[[str, BaseException], object],
    ) -> None:
        try:
            import psycopg
        except ImportError as error:
            raise ValueError(
                f"PostgreSQL needs psycopg 3: pip install 'tidegate-transactions[postgres]' ({error})"
            ) from error
        self._psycopg = psycopg
        self.server = server
        self.capacity = capacity
        self.failed = failed
        self.lost_connections = 0
        self.isolation = isolation or "read committed"
        self.engine: Engine = create_engine(
            url,
            pool_size=capacity,
            max_overflow=0,
            pool_timeout=1,
            pool_use_lifo=True,
            hide_parameters=True,
            isolation_level="AUTOCOMMIT",  # BEGIN is ours: one round trip says isolation and time limits too
            connect_args={
                "connect_timeout": max(2, round(connect_timeout_s)),  # libpq's least is 2
                "application_name": f"tidegate {server.settings.server.name}",
                **_keepalives(url),
            },
        )
        event.listen(self.engine, "connect", self._greet)
        event.listen(self.engine, "after_cursor_execute", _count_rows)

    @staticmethod
    def _greet(raw: Any, record: Any) -> None:
        """A query of a client that is gone ends within a second."""
        if raw.info.server_version >= 140000:
            raw.execute("SET client_connection_check_interval = '1s'")

    def start(self) -> None:
        with self.engine.connect():
            pass

    def stop(self) -> None:
        self.engine.dispose()

    # --- transactions ----------------------------------------------------------------------------

    def begin(self, transaction: Transaction) -> None:
        for _ in range(self.capacity + 1):
            fairy: Any = self.engine.raw_connection()
            raw = fairy.driver_connection
            try:
                raw.execute(self._begin_text(transaction), prepare=False)
            except self._psycopg.OperationalError as error:
                fairy.invalidate(error)
                if not raw.broken and not raw.closed:
                    raise
                # The server was restarted: nothing has happened yet, so the next connection may do.
                self.lost_connections += 1
                continue
            except BaseException as error:
                fairy.invalidate(error)
                raise
            transaction.fairy, transaction.raw = fairy, raw
            return
        raise DatabaseConnectionFailed(log="every connection of the pool was lost")

    def _begin_text(self, transaction: Transaction) -> str:
        isolation = f" ISOLATION LEVEL {(transaction.isolation or self.isolation).upper()}"
        mode = " READ ONLY" if transaction.read else ""
        ms = max(1, int((transaction.due - self.server.clock.now() + LATER_S) * 1000))
        return (
            f"BEGIN{isolation}{mode}; SET LOCAL statement_timeout = {ms}; "
            f"SET LOCAL idle_in_transaction_session_timeout = {ms}"
        )

    def commit(self, transaction: Transaction) -> BaseException | None:
        raw = transaction.raw
        if raw is None or raw.info.transaction_status != self._psycopg.pq.TransactionStatus.INTRANS:
            broken = raw is None or raw.broken or raw.closed
            self.rollback(transaction)
            if broken:
                raise DatabaseConnectionFailed(log="the connection was lost before the commit")
            raise TransactionFailed(log="the command went on after an error that had ended its transaction")
        if transaction.read:
            try:
                raw.commit()
            finally:
                self._give_back(transaction)
            transaction.told()
            return None
        return self._shielded(transaction)

    def _shielded(self, transaction: Transaction) -> BaseException | None:
        """COMMIT in a greenlet of its own, which no deadline and no kill can hit."""
        committer = gevent.spawn(self._commit, transaction)
        thrown: BaseException | None = None
        while not committer.ready():
            try:
                committer.join()
            except BaseException as error:
                thrown = thrown or error
        if (outcome := committer.value) is not None:
            raise outcome
        return thrown

    def _commit(self, transaction: Transaction) -> BaseException | None:
        raw = transaction.raw
        try:
            with gevent.Timeout(COMMIT_S, TimeoutError()):
                raw.commit()
        except Exception as error:
            broken = raw.broken or raw.closed or not getattr(error, "sqlstate", None)
            self._give_back(transaction, error)
            if not broken:
                return error
            call = transaction.call
            if call is not None and call.idempotency_key is not None:
                return DatabaseConnectionFailed(log=f"lost at COMMIT: {type(error).__name__}")
            return QueryFailed(
                "The database went away during the commit; whether it was committed is not known",
                log=f"lost at COMMIT: {type(error).__name__}",
                outcome="unknown",
            )
        self._give_back(transaction)
        try:
            transaction.told()
        except Exception as error:
            self.failed("telling what was committed", error)
        return None

    def rollback(self, transaction: Transaction) -> None:
        raw = transaction.raw
        if raw is None:
            return
        if transaction.unfit:
            # After a failover this is the server that takes no writes any more, and a new connection finds the other.
            self._give_back(transaction, ConnectionError())
            return
        try:
            raw.rollback()
        except Exception as error:
            self._give_back(transaction, error)
        except BaseException as error:
            self._give_back(transaction, error)
            raise
        else:
            self._give_back(transaction)

    def undo(self, transaction: Transaction) -> None:
        transaction.raw.rollback()
        transaction.raw.execute(self._begin_text(transaction), prepare=False)

    def give_up(self, transaction: Transaction, error: BaseException | None) -> None:
        self.lost_connections += 1
        self._give_back(transaction, error or ConnectionError())

    @staticmethod
    def _give_back(transaction: Transaction, error: BaseException | None = None) -> None:
        """The connection goes back to the pool, or is closed after an error."""
        fairy, transaction.fairy, transaction.raw = transaction.fairy, None, None
        if fairy is None:
            return
        if error is not None:
            fairy.invalidate(error)
        else:
            fairy.close()

    def doubt(self) -> None: ...

    # --- looked at from outside ------------------------------------------------------------------

    def gauges(self) -> dict[str, float]:
        pool: Any = self.engine.pool
        return {"pool_size": float(pool.checkedin() + pool.checkedout()), "pool_used": float(pool.checkedout())}

    def totals(self) -> dict[str, int]:
        return {"connections_lost": self.lost_connections}

    def backup(self, file: Path) -> None:
        """By pg_dump, in its custom format. Raises OSError when pg_dump is missing or fails."""
        partial = file.with_name(f"{file.name}.partial")
        url = self.engine.url.set(drivername="postgresql")
        environment = {"PATH": _path(), **({"PGPASSWORD": str(url.password)} if url.password else {})}
        plain = url.set(password=None).render_as_string(hide_password=False)
        done = subprocess.run(
            ["pg_dump", "--format=custom", f"--file={partial}", plain], env=environment, capture_output=True, text=True
        )
        if done.returncode:
            partial.unlink(missing_ok=True)
            raise OSError(done.stderr.strip() or "pg_dump failed")
        partial.replace(file)

    def doubts(self, metadata: Iterable[MetaData]) -> list[str]:
        return []


def _path() -> str:
    import os

    return os.environ.get("PATH", os.defpath)


def _keepalives(url: URL) -> dict[str, Any]:
    """Notice within half a minute that the other machine is gone, unless the URL says otherwise."""
    wanted = {"keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 3}
    return {name: value for name, value in wanted.items() if name not in url.query}


def _count_rows(connection: Any, cursor: Any, statement: str, parameters: Any, context: Any, executemany: bool) -> None:
    transaction = connection.connection
    if isinstance(transaction, Transaction) and (cursor.statusmessage or "").split(" ")[0] in (
        *("INSERT", "UPDATE", "DELETE", "MERGE"),
    ):
        transaction.rows += max(cursor.rowcount, 0)
