"""Idempotency keys: exactly one effect, however often a call is repeated."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

import msgspec
from sqlalchemy import and_, delete, insert, select, update
from sqlalchemy.dialects.postgresql import insert as insert_postgres
from tidegate import Call, Command
from tidegate.faults import (
    DeserializationError,
    IdempotencyConflict,
    ProtocolError,
    SerializationConflict,
    UnsupportedOperation,
)

from tidegate_transactions.tables import keys as table
from tidegate_transactions.transaction import Transaction

if TYPE_CHECKING:
    from tidegate_transactions import Transactions

ANONYMOUS_CHARACTERS = 22  # of a key that nobody's name protects from being guessed: 128 bits
SWEEP_ROWS = 500  # expired keys that one transaction removes

_encode = msgspec.json.Encoder(order="sorted").encode
_decode = msgspec.json.Decoder().decode


class Keys:
    """Keeps replies under (user, method, key), in the transaction that made them."""

    def __init__(self, plugin: Transactions) -> None:
        self.plugin = plugin
        self._wall = plugin.server.clock.wall

    # --- what can't be done ----------------------------------------------------------------------

    def refusal(self, command: Command, read: bool) -> str | None:
        """Why this command keeps no keys; None when it does."""
        if read:
            return "it changes nothing"
        if _has_secret(command.notes.get("result")):
            return "its result has a secret, which is not stored"
        return None

    @staticmethod
    def check(call: Call, refusal: str | None) -> None:
        """Raises UnsupportedOperation, and ProtocolError for an anonymous key that could be guessed."""
        if refusal is not None:
            raise UnsupportedOperation(f"{call.command.name} keeps no idempotency keys: {refusal}")
        if call.user is None and len(call.idempotency_key or "") < ANONYMOUS_CHARACTERS:
            raise ProtocolError(
                f"idempotency_key: without a login at least {ANONYMOUS_CHARACTERS} characters are expected"
            )

    # --- in the transaction ----------------------------------------------------------------------

    def find(self, transaction: Transaction, call: Call) -> bytes | None:
        """The reply of the first call with this key, or None: this is the first. May switch.

        On PostgreSQL the key is taken at once, so that a second call with it waits for the
        first one's end; on SQLite one writes at a time. Raises IdempotencyConflict.
        """
        connection = self._connection(transaction)
        where, now = self._where(call), self._wall()
        postgres = self.plugin.store.engine.dialect.name == "postgresql"
        if postgres:
            mine = (
                insert_postgres(table).values(**self._row(call, None)).on_conflict_do_nothing().returning(table.c.key)
            )
            if connection.execute(mine).first() is not None:
                return None
        row = connection.execute(select(table.c.request, table.c.reply, table.c.expires).where(where)).first()
        if row is None:
            if postgres:
                raise SerializationConflict(log="an idempotency key went away while it was looked at")
            return None
        if row.expires <= now:
            connection.execute(delete(table).where(where))
            if postgres:
                connection.execute(insert(table).values(**self._row(call, None)))
            return None
        if row.request != self._request(call):
            raise IdempotencyConflict
        return row.reply  # type: ignore[no-any-return]

    def keep(self, transaction: Transaction, call: Call) -> None:
        """Store the reply, which is encoded by now, with its key."""
        connection = self._connection(transaction)
        if self.plugin.store.engine.dialect.name == "postgresql":
            done = connection.execute(update(table).where(self._where(call)).values(reply=call.encoded))
            if done.rowcount:
                return
            # The command took back all that it had done, the key too.
        connection.execute(insert(table).values(**self._row(call, call.encoded)))

    def replay(self, call: Call, stored: bytes) -> Any:
        """The first reply again, byte for byte."""
        try:
            call.result = _decode(stored)
        except msgspec.DecodeError as error:
            raise DeserializationError(log="the reply that is kept with an idempotency key") from error
        call.encoded = bytes(stored)
        self.plugin.book.replayed += 1
        return call.result

    def sweep(self) -> int:
        """Remove expired keys, some at a time; how many there were. May switch."""
        now = self._wall()
        old = select(table.c.user, table.c.method, table.c.key).where(table.c.expires <= now).limit(SWEEP_ROWS)
        with self.plugin.handle(read=True, core=True) as db:
            rows = db.execute(old).all()
        if rows:
            with self.plugin.handle(core=True) as db:
                for user, method, key in rows:
                    named = and_(table.c.user == user, table.c.method == method, table.c.key == key)
                    db.execute(delete(table).where(named, table.c.expires <= now))
        return len(rows)

    @staticmethod
    def _connection(transaction: Transaction) -> Any:
        return transaction.database(core=True)

    @staticmethod
    def _where(call: Call) -> Any:
        return and_(
            table.c.user == _user(call), table.c.method == call.command.name, table.c.key == call.idempotency_key
        )

    def _row(self, call: Call, reply: bytes | None) -> dict[str, Any]:
        return {
            "user": _user(call),
            "method": call.command.name,
            "key": call.idempotency_key,
            "request": self._request(call),
            "reply": reply,
            "expires": self._wall() + self.plugin.key_ttl_s,
        }

    @staticmethod
    def _request(call: Call) -> bytes:
        """What makes two requests the same: the parameters, but secret ones, of which no hash is stored either."""
        params = _unsecret(call.params, {"schema": call.command.notes.get("params")})
        return blake2b(_encode(params), digest_size=16).digest()


def _user(call: Call) -> str:
    return call.user.id if call.user is not None else ""


def _is_secret(rules: Any) -> bool:
    meta = rules.get("meta") if isinstance(rules, Mapping) else None
    return isinstance(meta, Mapping) and (meta.get("profile") == "secret" or meta.get("is") == "password")


def _unsecret(value: Any, rules: Any) -> Any:
    """A value without what its schema calls secret, at any depth."""
    if _is_secret(rules):
        return None
    inner = rules.get("schema") if isinstance(rules, Mapping) else None
    if isinstance(value, dict):
        fields = inner if isinstance(inner, Mapping) else {}
        return {name: _unsecret(item, fields.get(name)) for name, item in value.items()}
    if isinstance(value, list):
        return [_unsecret(item, inner) for item in value]
    return value


def _has_secret(schema: Any) -> bool:
    """Whether a schema calls anything in it secret."""
    if _is_secret(schema):
        return True
    if isinstance(schema, Mapping):
        return any(_has_secret(value) for value in schema.values())
    if isinstance(schema, list | tuple):
        return any(_has_secret(value) for value in schema)
    return False
