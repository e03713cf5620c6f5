"""What a command gets as `transaction`: transactions and savepoints, by `with`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy.engine import Connection
from sqlalchemy.orm import Session
from tidegate import Call
from tidegate.faults import InternalError

from tidegate_transactions.transaction import Transaction

if TYPE_CHECKING:
    from tidegate_transactions.scope import Scope


class Spec(NamedTuple):
    """The note `transaction`, as it is meant."""

    read: bool = False
    core: bool = False
    isolation: str = ""
    long: bool = False


_PLAIN, _CORE = Spec(), Spec(core=True)


def spec_of(note: Any) -> Spec:
    """Raises ValueError for a note that is neither True, "read" nor a table of those keys."""
    if note is True:
        return Spec()
    if note == "read":
        return Spec(read=True)
    if not isinstance(note, Mapping):
        raise ValueError(f"transaction: expected True, 'read' or a table, got {note!r}")
    if unknown := set(note) - set(Spec._fields):
        raise ValueError(f"transaction: unknown key {sorted(unknown)[0]!r}; known are {', '.join(Spec._fields)}")
    spec = Spec(**note)
    if spec.isolation and spec.isolation not in ("read committed", "repeatable read", "serializable"):
        raise ValueError(f"transaction: no isolation level {spec.isolation!r}")
    return spec


class Part:
    """`with` one of these: a savepoint where a transaction is open in this greenlet, else a transaction.

    Errors of the database leave it as faults, either way.
    """

    __slots__ = ("_call", "_effects", "_later", "_nested", "_outer", "_own", "_scope", "_spec")

    def __init__(self, scope: Scope, spec: Spec, call: Call | None = None) -> None:
        self._scope = scope
        self._spec = spec
        self._call = call
        self._own: Transaction | None = None
        self._outer: Transaction | None = None
        self._nested: Any = None

    def __enter__(self) -> Session | Connection:
        outer = self._scope.current()
        if outer is not None:
            return self._savepoint(outer)
        own = self._own = self._scope.begin(self._call, self._spec)
        return own.database(self._spec.core)

    def _savepoint(self, outer: Transaction) -> Session | Connection:
        if outer.read and not self._spec.read:
            raise InternalError(log="a transaction that reads only can't hold one that writes")
        self._outer = outer
        db = outer.database(self._spec.core)
        outer.savepoints += 1
        call = outer.call
        self._effects = len(call.effects) if call is not None and call.effects is not None else 0
        self._later = len(outer.later) if outer.later is not None else 0
        try:
            self._nested = (outer.session if outer.session is not None else db).begin_nested()
        except Exception as error:
            raise self._scope.explained(outer, error) from error
        return db

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        own = self._own
        if own is None:
            self._end_savepoint(kind, error, trace)
            return
        self._own = None
        if error is not None:
            raised = self._scope.abandon(own, error)
            if raised is not error:
                raise raised
            return
        try:
            self._scope.prepare(own)
            self._scope.commit(own)
        except BaseException as failed:
            raised = self._scope.abandon(own, failed)
            if raised is failed:
                raise
            raise raised from failed

    def _end_savepoint(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        outer, nested = self._outer, self._nested
        assert outer is not None
        try:
            nested.__exit__(kind, error, trace)
        except Exception as second:
            error = error or second  # where the whole batch was lost there is no savepoint any more
        if error is None:
            return
        call = outer.call
        if call is not None and call.effects is not None:
            call.effects = call.effects[: self._effects] or None
        if outer.later is not None:
            del outer.later[self._later :]
        raised = self._scope.explained(outer, error)
        if raised is not error or trace is None:
            raise raised


class Handle:
    """What a command gets as `transaction`, and jobs from `server.provided("transaction")`."""

    __slots__ = ("_call", "_scope")

    def __init__(self, scope: Scope, call: Call | None) -> None:
        self._scope = scope
        self._call = call

    def __call__(self, read: bool = False, core: bool = False, isolation: str = "", long: bool = False) -> Part:
        spec = _CORE if core else _PLAIN
        if read or isolation or long:
            spec = Spec(read, core, isolation, long)
        return Part(self._scope, spec, self._call)

    def record(self, operation: str) -> None:
        """Note what the code does in the open transaction, for administrators. Raises LookupError when none is open."""
        transaction = self._scope.current()
        if transaction is None:
            raise LookupError("no transaction is open here")
        transaction.record(operation)
