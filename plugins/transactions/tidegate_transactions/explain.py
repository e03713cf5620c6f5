"""What a database's error means to a client: by SQLSTATE, and by SQLite's extended result code.

Sources: PostgreSQL 15, appendix A; sqlite.org/rescode.html. A fault carries the constraint's name and
never SQL or values: PostgreSQL's own messages quote the row.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterable
from typing import Any

from sqlalchemy import MetaData, UniqueConstraint
from sqlalchemy.exc import DBAPIError, SQLAlchemyError, StatementError, TimeoutError
from sqlalchemy.orm.exc import StaleDataError
from tidegate import Fault
from tidegate.faults import (
    CheckViolation,
    DatabaseConnectionFailed,
    DataIntegrityError,
    DeadlockDetected,
    DeserializationError,
    ForeignKeyViolation,
    InternalError,
    QueryFailed,
    SerializationConflict,
    StorageFull,
    TransactionLimitReached,
    TransactionTimeout,
    UniqueConstraintViolation,
)

_SQLITE: dict[int, type[Fault]] = {
    # extended codes
    sqlite3.SQLITE_CONSTRAINT_UNIQUE: UniqueConstraintViolation,
    sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY: UniqueConstraintViolation,
    sqlite3.SQLITE_CONSTRAINT_ROWID: UniqueConstraintViolation,
    sqlite3.SQLITE_CONSTRAINT_FOREIGNKEY: ForeignKeyViolation,
    sqlite3.SQLITE_IOERR_SHMSIZE: StorageFull,  # no room for the log's index
    sqlite3.SQLITE_READONLY_DBMOVED: DatabaseConnectionFailed,
    # primary codes
    sqlite3.SQLITE_CONSTRAINT: CheckViolation,  # CHECK, NOT NULL, a trigger, a STRICT table's type
    sqlite3.SQLITE_MISMATCH: CheckViolation,
    sqlite3.SQLITE_BUSY: SerializationConflict,
    sqlite3.SQLITE_LOCKED: SerializationConflict,
    sqlite3.SQLITE_INTERRUPT: TransactionTimeout,
    sqlite3.SQLITE_FULL: StorageFull,
    sqlite3.SQLITE_READONLY: StorageFull,
    sqlite3.SQLITE_IOERR: DatabaseConnectionFailed,
    sqlite3.SQLITE_CANTOPEN: DatabaseConnectionFailed,
    sqlite3.SQLITE_PERM: DatabaseConnectionFailed,
    sqlite3.SQLITE_CORRUPT: DataIntegrityError,
    sqlite3.SQLITE_NOTADB: DataIntegrityError,
    sqlite3.SQLITE_AUTH: InternalError,  # the guard of the shared connection refused it
}
_POSTGRES: dict[str, type[Fault]] = {
    "23505": UniqueConstraintViolation,
    "23P01": UniqueConstraintViolation,  # exclusion
    "23503": ForeignKeyViolation,
    "23001": ForeignKeyViolation,  # restrict
    "40001": SerializationConflict,
    "55P03": SerializationConflict,  # lock not available
    "40P01": DeadlockDetected,
    "57014": TransactionTimeout,  # statement_timeout, or cancelled
    "25P03": TransactionTimeout,  # idle in transaction
    "25P04": TransactionTimeout,  # transaction_timeout
    "53100": StorageFull,
    "25006": StorageFull,  # the server takes no writes
    "57P01": DatabaseConnectionFailed,
    "57P02": DatabaseConnectionFailed,
    "57P03": DatabaseConnectionFailed,
    "57P05": DatabaseConnectionFailed,
    "3D000": DatabaseConnectionFailed,
    "53300": DatabaseConnectionFailed,  # too many connections
    # a value that its column does not take: too long, too large, no date, no text
    **dict.fromkeys(("22001", "22003", "22007", "22008", "22021", "22P02", "22P05"), CheckViolation),
    # classes
    "23": CheckViolation,
    "08": DatabaseConnectionFailed,
    "28": DatabaseConnectionFailed,
    "XX": DataIntegrityError,
}
#: SQLSTATE XX000 is an internal error of PostgreSQL, not a damaged file.
_POSTGRES["XX000"] = QueryFailed
#: What another try with a new transaction may mend.
RETRIED = frozenset({SerializationConflict.code, DeadlockDetected.code, 1203})
#: What says that the database is not there, or not well.
LOST = frozenset({DatabaseConnectionFailed.code, StorageFull.code, DataIntegrityError.code})
#: Where SQLAlchemy gives statements to the driver; where it makes Python's values of a row's (an Enum of another
#: version, JSON that is none), by its names in 2.1 and in 2.0, compiled or not.
_STATEMENTS = ("sqlalchemy.engine.default",)
_ROWS = ("sqlalchemy.engine._result_cy", "sqlalchemy.engine.result", "sqlalchemy.cyextension.resultproxy")
_COLUMNS = re.compile(r"(UNIQUE|CHECK|NOT NULL) constraint failed: (.+)")
_INDEX = re.compile(r"index '(.+)'")


def fault_of(error: BaseException | None, *, read: bool = False, metadata: Iterable[MetaData] = ()) -> Fault | None:
    """The fault that explains an error of the database, None for any other error.

    `read`: it came from a transaction that was declared as reading only.
    """
    if isinstance(error, StaleDataError):
        return SerializationConflict(log=f"{type(error).__name__}: {error}")
    if isinstance(error, TimeoutError):
        return TransactionLimitReached(retry_after=1.0, log=str(error))
    if isinstance(error, StatementError) and isinstance(error.orig, Fault):
        return error.orig  # the transaction refused the statement
    unread = _passed(error, _ROWS)
    if isinstance(error, DBAPIError):
        statement = error.statement
        invalid = error.connection_invalidated
        error = error.orig
    else:
        statement, invalid = None, False
    if isinstance(error, sqlite3.Error):
        if unread and getattr(error, "sqlite_errorcode", None) is None:
            return DeserializationError(log=_log(type(error).__name__, "no text", statement))
        return _sqlite(error, statement, read, metadata)
    if hasattr(error, "sqlstate") and hasattr(error, "diag"):  # psycopg, which need not be installed
        return _postgres(error, statement, read, invalid, unread)
    if unread and isinstance(error, Exception) and not isinstance(error, SQLAlchemyError):
        return DeserializationError(log=f"{type(error).__name__} while a row was read")
    if isinstance(error, OverflowError) and _passed(error, _STATEMENTS):
        return CheckViolation(log="a number is too large for the database")
    return None


def _passed(error: BaseException | None, modules: tuple[str, ...]) -> bool:
    """Whether it was raised below one of these modules."""
    trace = error.__traceback__ if error is not None else None
    while trace is not None:
        if trace.tb_frame.f_globals.get("__name__", "").startswith(modules):
            return True
        trace = trace.tb_next
    return False


def _sqlite(error: sqlite3.Error, statement: str | None, read: bool, metadata: Iterable[MetaData]) -> Fault:
    code = getattr(error, "sqlite_errorcode", None) or 0
    kind = _SQLITE.get(code) or _SQLITE.get(code & 0xFF) or QueryFailed
    if read and code & 0xFF == sqlite3.SQLITE_READONLY:
        return InternalError(log="a transaction that is declared as reading only tried to write")
    name = getattr(error, "sqlite_errorname", None) or "?"
    data: dict[str, Any] = {}
    if issubclass(kind, UniqueConstraintViolation | CheckViolation) and (found := _sqlite_name(str(error), metadata)):
        data["constraint"] = found
    return kind(log=_log(type(error).__name__, name, statement), **data)


def _sqlite_name(message: str, metadata: Iterable[MetaData]) -> str | None:
    """SQLite tells the columns of a UNIQUE constraint; its name is in the tables, if it has one."""
    if (match := _COLUMNS.match(message)) is None:
        return None
    what, named = match.groups()
    if what != "UNIQUE":
        return named
    if index := _INDEX.match(named):
        return index[1]
    columns = [text.strip().partition(".") for text in named.split(",")]
    table, wanted = columns[0][0], {column for _, _, column in columns}
    for one in metadata:
        if (found := one.tables.get(table)) is None:
            continue
        for constraint in found.constraints:
            if isinstance(constraint, UniqueConstraint) and constraint.name and {*constraint.columns.keys()} == wanted:
                return str(constraint.name)
        for made in found.indexes:
            if made.unique and made.name and {*made.columns.keys()} == wanted:
                return str(made.name)
    return named


def _postgres(error: Any, statement: str | None, read: bool, invalid: bool, unread: bool) -> Fault:
    state: str = error.sqlstate or ""
    if not state and type(error).__name__ == "DataError":  # the driver's own: it could not convert a value
        return (DeserializationError if unread else CheckViolation)(log=_log("DataError", "no SQLSTATE", statement))
    kind = _POSTGRES.get(state) or _POSTGRES.get(state[:2])
    if kind is None:
        lost = invalid or (
            not state and type(error).__name__ in ("OperationalError", "InterfaceError", "ConnectionTimeout")
        )
        kind = DatabaseConnectionFailed if lost else QueryFailed
    if read and state == "25006":
        return InternalError(log="a transaction that is declared as reading only tried to write")
    data: dict[str, Any] = {}
    if name := error.diag.constraint_name or (error.diag.column_name if state == "23502" else None):
        data["constraint"] = name
    return kind(log=_log(type(error).__name__, state or "no SQLSTATE", statement), **data)


def _log(kind: str, code: str, statement: str | None) -> str:
    """For the log: what failed, in which statement; values are bound parameters and not in it."""
    text = f"{kind} {code}"
    return f"{text} in: {' '.join(statement.split())[:500]}" if statement else text
