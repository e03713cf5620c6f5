"""One transaction: what administrators see of it, and the connection that its statements pass through."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import gevent
from sqlalchemy.engine import Connection
from sqlalchemy.exc import InvalidRequestError
from sqlalchemy.orm import Session
from sqlalchemy.pool import PoolProxiedConnection
from tidegate import Call, Fault
from tidegate.faults import TransactionFailed

if TYPE_CHECKING:
    from tidegate_transactions.outbox import Outbox
    from tidegate_transactions.stores import Store

ACTIVE, COMMITTED, ROLLED_BACK, TIMED_OUT = "active", "committed", "rolled back", "timed out"
IDLE = 0  # psycopg's, and libpq's, for a connection without a transaction
MAX_OPERATIONS = 32  # that code records in one transaction


class Transaction(PoolProxiedConnection):
    """A transaction under way, or one that is over.

    It stands where SQLAlchemy expects a pooled connection, so a `Session` or `Connection` of this
    transaction reaches the database through it and through nothing else: kept for longer than the
    transaction, it is refused, although the connection below goes on serving others.
    """

    # Defaults on the class: of what most transactions never set, nothing is set.
    raw: Any = None  # the driver's connection; None before it began and once it is over
    fairy: Any = None  # PostgreSQL: the pool's connection
    kind: Any = None  # SQLite: the cursor's class
    state = ACTIVE
    isolation = ""
    committing = False  # from here on nothing interrupts it
    alone = False  # SQLite: commits for itself only
    unfit = False  # PostgreSQL: its connection is not to be used again
    own_id = ""  # of one outside a call
    statements = rows = savepoints = 0
    seconds = 0.0
    mark = 0  # how many of the call's effects are older than it
    later: list[tuple[Call, list[tuple[str, Any]]]] | None = None  # of calls made inside, outside a call
    stopped: Stopped | None = None  # what was thrown into it
    operations: list[str] | None = None
    outbox: Outbox | None = None
    kept: list[int] | None = None  # ids of its events in the outbox
    connection: Connection | None = None
    session: Session | None = None
    summoned = False  # it was given what it waits for
    wakeup: Any = None  # the callback that will switch to it

    def __init__(
        self, store: Store, call: Call | None, greenlet: Any, started: float, due: float, read: bool, long: bool
    ) -> None:
        self.store = store
        self.call = call
        self.greenlet = greenlet
        self.started = started  # on the server's clock
        self.due = due  # when it has to be over
        self.read = read
        self.long = long  # its statements run in a thread

    # --- what administrators see -----------------------------------------------------------------

    @property
    def id(self) -> str:
        """The request id; of one outside a call an id of its own, of the same form."""
        return self.call.request_id if self.call is not None else self.own_id

    @property
    def method(self) -> str | None:
        return self.call.command.name if self.call is not None else None

    @property
    def may_be_stopped(self) -> bool:
        """Not while it is being committed, or rolled back already."""
        return self.state is ACTIVE and not self.committing

    @property
    def user(self) -> str | None:
        return self.call.user.id if self.call is not None and self.call.user is not None else None

    def row(self, now: float) -> dict[str, Any]:
        """As the administrators' commands list it."""
        return {
            "id": self.id,
            "method": self.method,
            "user": self.user,
            "state": self.state,
            "committing": self.committing,
            "read": self.read,
            "isolation": self.isolation or self.store.isolation,
            "seconds": round(self.seconds if self.state != ACTIVE else now - self.started, 6),
            "statements": self.statements,
            "rows": self.rows,
            "savepoints": self.savepoints,
            "operations": list(self.operations or ()),
        }

    def record(self, operation: str) -> None:
        """Note what the code does, for administrators; the first 32 of at most 200 characters are kept."""
        if self.operations is None:
            self.operations = []
        if len(self.operations) < MAX_OPERATIONS:
            self.operations.append(str(operation)[:200])

    @property
    def has_effects(self) -> bool:
        return self.later is not None or (self.call is not None and self.call.effects is not None)

    def told(self) -> None:
        """Carry out what its call gathered since it began. Never switches; called once it is durable."""
        for inner, effects in self.later or ():
            inner.effects = effects
            inner.committed()
        call = self.call
        if call is not None and call.effects is not None:
            older, call.effects = call.effects[: self.mark], call.effects[self.mark :]
            call.committed()
            call.effects = older or None
        if self.outbox is not None:
            self.outbox.told(self)

    def forget_effects(self) -> None:
        """It was rolled back: what its call gathered since it began is never told."""
        call = self.call
        if call is not None and call.effects is not None:
            call.effects = call.effects[: self.mark] or None

    # --- what commands get -----------------------------------------------------------------------

    def database(self, core: bool) -> Session | Connection:
        """Its `Connection`, or its `Session`; each is made once."""
        connection = self.connection
        if connection is None:
            engine = self.store.engine
            # A dispatcher of its own, for nobody, is an eighth of what a short transaction costs.
            heard = engine._has_events or getattr(Connection, "_has_events", False)  # 2.0: there once somebody listens
            connection = self.connection = Connection(engine, self, _has_events=None if heard else False)
        if core:
            if self.session is not None:
                self.session.flush()
            return connection
        if self.session is None:
            # Objects stay readable after a part of a command was committed.
            self.session = Session(connection, expire_on_commit=False, close_resets_only=False)
        return self.session

    def let_go(self) -> None:
        """It is over: no cycle is left for the garbage collector, which would cost more than all the rest."""
        session, connection = self.session, self.connection
        if session is not None:
            session.close()
            self.session = None
        if connection is not None:
            if (root := connection.get_transaction()) is not None:
                root.is_active = False  # there is nothing to roll back any more
                root.close()
            self.connection = None

    # --- what SQLAlchemy calls -------------------------------------------------------------------

    def cursor(self, *args: Any, **kwargs: Any) -> Any:
        raw = self.raw
        if raw is None:
            raise InvalidRequestError("This transaction is over; its db can't be used any more")
        self.statements += 1
        sqlite = self.kind is not None
        if not raw.in_transaction if sqlite else raw.pgconn.transaction_status == IDLE:
            # A statement would commit by itself.
            raise TransactionFailed(log="something had ended the transaction, and its command went on")
        return raw.cursor(self.kind) if sqlite else raw.cursor(*args, **kwargs)

    def commit(self) -> None:
        if self.raw is not None:
            raise InvalidRequestError(
                "This transaction is committed when its command returns or its `with` ends, not by commit(); "
                "a part of it is `with transaction():`"
            )

    def rollback(self) -> None:
        """All that it did so far is undone; it goes on."""
        if self.raw is not None:
            self.store.undo(self)
            self.forget_effects()

    def invalidate(self, e: BaseException | None = None, soft: bool = False) -> None:
        self.store.give_up(self, e)

    def close(self) -> None: ...

    def detach(self) -> None:
        raise InvalidRequestError("The connection of a transaction can't be detached")

    @property
    def is_valid(self) -> bool:
        return self.raw is not None

    @property
    def is_detached(self) -> bool:
        return False

    @property
    def dbapi_connection(self) -> Any:  # type: ignore[override]
        return self.raw

    @property
    def driver_connection(self) -> Any:  # type: ignore[override]
        return self.raw

    @property
    def info(self) -> dict[str, Any]:
        return self.fairy.info if self.fairy is not None else {}

    record_info = info

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or (raw := self.raw) is None:
            raise AttributeError(name)
        return getattr(raw, name)


class Stopped(gevent.Timeout):
    """Thrown into a transaction that is over its time or was cancelled; `__fault__` is what its client gets."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(None)
        self.__fault__ = fault
