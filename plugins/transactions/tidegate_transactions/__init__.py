"""Puts database transactions around commands: SQLite with group commit, or PostgreSQL."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Generator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gevent
from sqlalchemy import URL, MetaData, make_url
from sqlalchemy.exc import ArgumentError
from tidegate import Call, Command, Event, Fault, Plugin, Server, command, hookimpl
from tidegate.faults import CallCancelled, InvalidValue, ResourceNotFound, StorageFull

from tidegate_transactions import explain, schema, tables
from tidegate_transactions.book import Book
from tidegate_transactions.gate import Gate
from tidegate_transactions.keys import Keys
from tidegate_transactions.outbox import Outbox
from tidegate_transactions.parts import Handle
from tidegate_transactions.scope import Scope
from tidegate_transactions.settings import SETTINGS
from tidegate_transactions.transaction import Transaction

if TYPE_CHECKING:
    from tidegate_transactions.stores import Store

SWEEPS_TO_KEYS = 60  # outbox sweeps to one sweep of expired keys


class Transactions(Plugin):
    """Puts database transactions around commands."""

    ring = "scope"
    reads = frozenset({"transaction"})
    claims = frozenset({"idempotency_key"})
    provides = frozenset({"db", "transaction"})
    listens = frozenset({"server.started"})
    settings = SETTINGS
    offers = {"tables": (tables.metadata, schema.HERE)}

    store: Store
    gate: Gate
    heard = True  # somebody listens to transaction.finished
    lost: str | None = None  # why the database is not well, while it is not

    # --- settings --------------------------------------------------------------------------------

    def configure(self, config: Any) -> None:
        url = self._url(config.url)
        if config.isolation and url.get_backend_name() == "sqlite" and config.isolation != "serializable":
            raise ValueError("isolation: SQLite knows 'serializable' only")
        first = not hasattr(self, "url")
        if first:
            self.book, self.keys, self.outbox = Book(self.server.clock.wall), Keys(self), Outbox(self)
            self.scope = Scope(self)
            self.handle = Handle(self.scope, None)
            self.url = url
            self.store = self._store(config)
            self.gate = Gate(self.server, self.capacity(config), config.max_waiting, config.wait_s)
            self._metadata: tuple[MetaData, ...] = ()
        elif url != self.url:
            self.log.warning("plugins.transactions.url takes effect after a restart")
        self.limit_s: float = config.limit_s
        self.key_ttl_s: float = config.key_ttl_s
        self.outbox_topics = frozenset(config.outbox_topics)
        self.upgrade: str = config.upgrade
        self.named_tables = tuple(config.tables)
        self.gate.resize(self.capacity(config), config.max_waiting, config.wait_s)

    def capacity(self, config: Any) -> int:
        """Transactions at once: on PostgreSQL no more than the pool has connections, so that it never waits."""
        most: int = config.max_active
        return most if self.url.get_backend_name() == "sqlite" else min(most, config.pool_size)

    def _url(self, given: str) -> URL:
        if not given:
            return URL.create("sqlite", database=str((self.data / "tidegate.sqlite").absolute()))
        try:
            url = make_url(given)
        except ArgumentError:
            raise ValueError("url: expected sqlite:///FILE or postgresql://USER:PASSWORD@HOST/NAME") from None
        backend = url.get_backend_name()
        if backend == "sqlite":
            if url.database in (None, "", ":memory:"):
                raise ValueError("url: an SQLite database in memory is not durable; give it a file")
            return URL.create("sqlite", database=str(Path(str(url.database)).absolute()))
        if backend != "postgresql" or url.get_driver_name() not in ("psycopg", "psycopg2"):
            raise ValueError(f"url: expected sqlite or postgresql (psycopg 3), got {url.drivername}")
        if url.drivername == "postgresql+psycopg2":
            raise ValueError("url: psycopg2 blocks the event loop; write postgresql:// and install psycopg 3")
        return url.set(drivername="postgresql+psycopg")

    def _store(self, config: Any) -> Store:
        if self.url.get_backend_name() == "sqlite":
            from tidegate_transactions.sqlite import SQLite

            return SQLite(
                Path(str(self.url.database)),
                synchronous=config.synchronous.upper(),
                lock_wait_s=config.lock_wait_s,
                batch=config.batch,
                capacity=config.max_active,
                failed=self.failed,
            )
        from tidegate_transactions.postgres import Postgres

        return Postgres(
            self.server,
            self.url,
            capacity=self.capacity(config),
            connect_timeout_s=config.connect_timeout_s,
            isolation=config.isolation,
            failed=self.failed,
        )

    # --- its life --------------------------------------------------------------------------------

    @hookimpl
    def tidegate_serve(self, server: Server) -> Generator[None, None, None]:
        self.store.start()
        try:
            self._check_tables()
            topics = {"*", "transaction.finished"}
            self.heard = any(topics & set(plugin.listens) for plugin in server.registry.plugins.values())
            yield
            self._sweep()
        finally:
            self.scope.close()
            self.gate.close()
            self.store.stop()

    def all_tables(self) -> list[schema.Tables]:
        """What plugins offer and the configuration names, the plugin's own first. Raises ValueError."""
        found = []
        for owner, offer in self.server.offered("tables"):
            module = sys.modules.get(type(self.server.registry.plugins[owner]).__module__)
            base = Path(module.__file__).parent if module is not None and module.__file__ else None
            found.append(schema.tables_of(owner, offer, base))
        found.sort(key=lambda one: one.owner != self.name)
        return found + [schema.named(entry) for entry in self.named_tables]

    def make_room(self) -> None:
        """The folder of an SQLite file, for who has not started the server yet."""
        if self.url.get_backend_name() == "sqlite":
            Path(str(self.url.database)).parent.mkdir(mode=0o700, parents=True, exist_ok=True)

    def metadata(self) -> tuple[MetaData, ...]:
        return self._metadata

    def _check_tables(self) -> None:
        """Refuse a database that is behind, or bring it up to date. Raises ValueError."""
        all_tables = self.all_tables()
        self._metadata = tuple(one.metadata for one in all_tables)
        pool = self.server.pool("transactions.start", 1, 1)
        pool.run(importlib.import_module, "alembic.command")  # takes a second
        if self.url.get_backend_name() == "sqlite":
            behind, upgraded = pool.run(self._bring_up, all_tables, self.upgrade != "never")
        else:  # its driver waits on the loop
            behind, upgraded = self._bring_up(all_tables, self.upgrade == "always")
        if upgraded:
            self.log.info("upgraded the tables of %s", ", ".join(behind))
        elif behind:
            raise ValueError(
                f"the database is behind: the tables of {', '.join(behind)} have to be upgraded; "
                "run `tidegate db upgrade`"
            )

    def _bring_up(self, all_tables: list[schema.Tables], may: bool) -> tuple[list[str], bool]:
        """(whose tables are behind, whether they were upgraded)."""
        with schema.changing(self.url) as connection:
            behind = [state.owner for state in schema.states(connection, all_tables) if state.behind]
            if behind and may:
                schema.upgrade(connection, all_tables)
            return behind, bool(behind) and may

    @hookimpl
    def tidegate_event(self, event: Event) -> None:
        """The server accepts calls: whoever listens to what a crash left untold is there by now."""
        self.server.spawn(self._keep_house)

    def _keep_house(self) -> None:
        rounds = 0
        while True:
            try:
                if rounds == 0 or (rounds % 10 == 0 and self.url.get_backend_name() != "sqlite"):
                    self.outbox.recover()
                self._sweep()
                if rounds % SWEEPS_TO_KEYS == 0:
                    while self.keys.sweep():
                        gevent.sleep(0.05)
            except Exception as error:
                self.log.warning("housekeeping failed: %s", self.server.fault_of(error))
            else:
                rounds += 1
            gevent.sleep(1.0)

    def _sweep(self) -> None:
        self.outbox.sweep()

    # --- calls -----------------------------------------------------------------------------------

    @hookimpl
    def tidegate_decorate(self, command: Command, proceed: Callable[[Call], Any]) -> Callable[[Call], Any] | None:
        return self.scope.decorate(command, proceed)

    @hookimpl
    def tidegate_fault(self, call: Call) -> Fault | None:
        return explain.fault_of(call.error, metadata=self.metadata())

    def provided(self, name: str) -> Any:
        """For jobs: `with server.provided("transaction")(read=False, core=False) as db:`."""
        if name == "transaction":
            return self.handle
        raise LookupError(f"{name!r} is given to commands only; use 'transaction'")

    # --- what is told ----------------------------------------------------------------------------

    def finished(self, transaction: Transaction) -> None:
        """A transaction is over. Never switches."""
        self.book.enter(transaction)
        if not self.heard:
            return
        self.server.publish(
            "transaction.finished",
            transaction=transaction.id,
            method=transaction.method,
            user=transaction.user,
            state=transaction.state,
            seconds=transaction.seconds,
            statements=transaction.statements,
            rows=transaction.rows,
        )

    def look_at(self, fault: Fault) -> bool:
        """Whether a fault says that the database is not there, or not well; that is told once."""
        if fault.code not in explain.LOST:
            return False
        self.store.doubt()
        if self.lost is None:
            self.lost = fault.type
            self.log.error("the database is not well: %s %s", fault, fault.log or "")
            self.server.publish("database.lost", error=fault.type)
        return True

    def look_again(self, transaction: Transaction) -> None:
        """A transaction was committed while the database was not well: it is well again, unless this one wrote nothing
        and writing is what did not work."""
        if self.lost == StorageFull.__name__ and not transaction.rows:
            return
        error, self.lost = self.lost, None
        self.log.warning("the database is well again")
        self.server.publish("database.found", error=error)

    def failed(self, where: str, error: BaseException) -> None:
        """What no call can carry."""
        self.log.error("%s failed", where, exc_info=error)

    @hookimpl
    def tidegate_gauges(self) -> dict[str, float]:
        return {
            "transactions_active": float(len(self.scope.open)),
            "transactions_waiting": float(self.gate.waiting),
            "database_lost": float(self.lost is not None),
            **self.store.gauges(),
        }

    # --- for administrators ----------------------------------------------------------------------

    @command("transactions.active", requires="admin", scope="read", http="GET /transactions")
    def active(self, limit: int = 100) -> list[dict[str, Any]]:
        """List the open transactions, the oldest first, at most `limit` (1 to 1,000)."""
        _check_limit(limit)
        now = self.server.clock.now()
        return [transaction.row(now) for transaction in list(self.scope.open.values())[:limit]]

    @command("transactions.slow", requires="admin", scope="read", http="GET /transactions/slow")
    def slow(self, limit: int = 20) -> list[dict[str, Any]]:
        """List the slowest transactions since the server started, the slowest first, at most `limit` (1 to 1,000)."""
        _check_limit(limit)
        return self.book.slowest(limit)

    @command("transactions.totals", requires="admin", scope="read", http="GET /transactions/totals")
    def totals(self) -> dict[str, Any]:
        """Count what became of all transactions, by command too."""
        return {
            **self.book.totals(),
            "refused": self.gate.refused,
            "recovered_events": self.outbox.recovered,
            "lost": self.lost,
            **self.store.totals(),
        }

    @command("transactions.cancel", requires="admin", http="DELETE /transactions/{id}")
    def cancel(self, id: str, reason: str = "") -> bool:
        """Roll an open transaction back by its id; its client gets 1311. What is being committed goes on."""
        for transaction in self.scope.open.values():
            if transaction.id == id:
                if not transaction.may_be_stopped:
                    return False
                self.scope.stop(transaction, CallCancelled("An administrator ended the call"))
                return True
        raise ResourceNotFound(f"No transaction {id[:64]!r} is open", field="params.id")


def _check_limit(limit: int) -> None:
    if not 1 <= limit <= 1000:
        raise InvalidValue("A limit is between 1 and 1000", field="params.limit")
