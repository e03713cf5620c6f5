"""What the commands have in common: accounts and sessions as rows, and what follows when they change."""

from __future__ import annotations

from typing import Any

from sqlalchemy import delete, func, insert, select
from tidegate import Call, Plugin, User
from tidegate.faults import QuotaExceeded, ResourceConflict, ResourceNotFound, SessionExpired, UniqueConstraintViolation

from tidegate_accounts.passwords import Passwords
from tidegate_accounts.people import ROLES, Live, People, digest_of
from tidegate_accounts.tables import sessions, users
from tidegate_accounts.texts import key_of, looks_of
from tidegate_accounts.throttle import Throttle


class Book(Plugin):
    """The base of the two halves of the plugin: everybody's commands, and the administrators'."""

    people: People
    passwords: Passwords
    throttle: Throttle
    session_ttl_s: float
    token_ttl_s: float
    max_sessions: int
    max_tokens: int
    registration: bool
    reserved: frozenset[str]

    def new_row(self, *, name: str, password: str | None, role: str, certificate: str | None = None) -> dict[str, Any]:
        """The row of a new account; `password` is hashed."""
        return {
            "id": self.server.new_id(),
            "name": name,
            "key": key_of(name),
            "looks": looks_of(self.server, name),
            "role": role,
            "password": password,
            "certificate": certificate,
            "created": self.server.clock.wall(),
        }

    def insert_account(
        self, call: Call, db: Any, *, name: str, password: str | None, role: str, certificate: str | None = None
    ) -> User:
        """A new account. Raises ResourceConflict when the name is taken, or looks like one that is."""
        row = self.new_row(name=name, password=password, role=role, certificate=certificate)
        same = select(users.c.id).where((users.c.key == row["key"]) | (users.c.looks == row["looks"]))
        if db.execute(same).first() is not None:
            raise ResourceConflict("This name is taken", field="params.name")
        db.execute(insert(users).values(**row))
        user = User(row["id"], name, ROLES[role])
        call.publish(
            "account.registered",
            user=user.id,
            actor=call.user.id if call.user is not None else user.id,
            what="registered",
            until=None,
            reason="",
        )
        return user

    def insert_session(
        self,
        call: Call,
        db: Any,
        user: str,
        *,
        token: str,
        kind: str = "session",
        label: str = "",
        scopes: list[str] | None = None,
        ttl_s: float | None = None,
    ) -> Live:
        """A new session, or a token; of too many sessions the one used longest ago ends. Raises QuotaExceeded."""
        wall = self.server.clock.wall()
        self._make_room(call, db, user, kind)
        live = Live(self.server.new_id(), wall + (ttl_s or self.session_ttl_s))
        here = call.connection if kind == "session" else None
        db.execute(
            insert(sessions).values(
                id=live.id,
                user=user,
                digest=digest_of(token),
                kind=kind,
                label=label,
                scopes=" ".join(scopes) if scopes is not None else None,
                created=wall,
                used=wall,
                expires=live.expires,
                address=here.address if here is not None else None,
                prefix=here.peer["prefix"] if here is not None else None,
            )
        )
        call.publish("session.started", user=user, session=live.id, reason=kind)
        return live

    def _make_room(self, call: Call, db: Any, user: str, kind: str) -> None:
        mine = (sessions.c.user == user) & (sessions.c.kind == kind)
        if kind == "token":
            if db.execute(select(func.count()).where(mine)).scalar_one() >= self.max_tokens:
                raise QuotaExceeded(f"An account has at most {self.max_tokens} tokens; revoke one")
            return
        kept = select(sessions.c.id).where(mine).order_by(sessions.c.used.desc(), sessions.c.id.desc())
        over = list(db.execute(kept.offset(self.max_sessions - 1)).scalars())
        if over:
            self.end_sessions(call, db, user, sessions.c.id.in_(over), reason="too many sessions")

    def end_sessions(self, call: Call, db: Any, user: str, which: Any, *, reason: str, spare: str | None = None) -> int:
        """Remove sessions, and with the commit end the connections that stand on them, save `spare`; how many."""
        where = (sessions.c.user == user) & which
        gone = list(db.execute(delete(sessions).where(where).returning(sessions.c.id)).scalars())
        for session in gone:
            call.publish("session.ended", user=user, session=session, reason=reason)
        if gone:
            call.on_commit(lambda: self.people.tell(user, over=SessionExpired.code, sessions=gone, spare=spare))
        return len(gone)

    def changed(self, call: Call, user: str, what: str, *, reason: str = "", **told: Any) -> None:
        """Tell with the commit that an account is no more as it was."""
        call.publish(
            "account.changed",
            user=user,
            actor=call.user.id if call.user is not None else None,
            what=what,
            until=None,
            reason=reason,
        )
        call.on_commit(lambda: self.people.tell(user, **told))

    def row_of(self, db: Any, user: str, lock: bool = True) -> Any:
        """The account with this id, or with this name; locked where it will be changed. Raises ResourceNotFound."""
        query = select(users).where(users.c.id == user if len(user) == 36 else users.c.key == key_of(user))
        row = db.execute(query.with_for_update() if lock else query).first()
        if row is None:
            raise ResourceNotFound("There is no such account", field="params.user")
        return row


def taken(error: UniqueConstraintViolation) -> ResourceConflict:
    """Two took a name at the same moment."""
    return ResourceConflict("This name is taken", field="params.name", log=error.log)
