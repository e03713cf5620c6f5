"""Everybody's commands: their own account and their own sessions."""

from __future__ import annotations

import secrets
from typing import Any

from sqlalchemy import delete, select, update
from tidegate import Call, Connection, Leaving, User, command
from tidegate.faults import (
    AccountLocked,
    AccountSuspended,
    AuthorizationDenied,
    InvalidCredentials,
    InvalidValue,
    PasswordRejected,
    PermissionDenied,
    ResourceConflict,
    ResourceNotFound,
    SessionExpired,
    TokenInvalid,
    UniqueConstraintViolation,
)

from tidegate_accounts.book import Book, taken
from tidegate_accounts.passwords import check_new
from tidegate_accounts.people import ROLES, SESSION, Live, live_of, suspension
from tidegate_accounts.tables import sessions, users
from tidegate_accounts.texts import key_of, name_of, text_of

NAME = {"type": "string", "required": True, "meta": {"is": "username", "help": "2 to 32 letters and digits."}}
TYPED_NAME = {
    "type": "string",
    "required": True,
    "maxlength": 128,
    "meta": {"profile": "identifier", "help": "The name."},
}
PASSWORD = {"type": "string", "required": True, "meta": {"is": "password", "help": "8 to 128 characters."}}
LABEL = {"type": "string", "maxlength": 128, "meta": {"is": "text", "help": "What the session is called in lists."}}
TOKEN = {
    "type": "string",
    "required": True,
    "maxlength": 128,
    "meta": {"profile": "secret", "help": "The session's token."},
}
#: The token is secret, so that no reply with it is stored under an idempotency key.
ENTERED = {
    "type": "dict",
    "schema": {
        "token": {"type": "string", "meta": {"profile": "secret"}},
        "session": {"type": "string"},
        "expires": {"type": "float"},
        "user": {"type": "dict"},
    },
}


class Own(Book):
    """What one does with one's own account."""

    @command(
        "account.register",
        params={"name": NAME, "password": PASSWORD, "label": LABEL},
        result=ENTERED,
        faults=(PasswordRejected, ResourceConflict, PermissionDenied),
        rate="60/minute",
    )
    def register(self, call: Call, transaction: Any, name: str, password: str, label: str = "") -> dict[str, Any]:
        """Make an account and log in with it: the account and its first session, or neither."""
        if not self.registration:
            raise PermissionDenied("Only administrators make accounts here")
        name, label = name_of(name), text_of(label, "label", 128)
        if key_of(name) in self.reserved:
            raise InvalidValue("This name is reserved; an administrator can make it an account", field="params.name")
        check_new(password, name)
        hashed, token = self.passwords.hash(password), secrets.token_urlsafe(32)
        try:
            with transaction(core=True) as db:
                user = self.insert_account(call, db, name=name, password=hashed, role="user")
                live = self.insert_session(call, db, user.id, token=token, label=label)
                call.on_commit(lambda: self.people.enter(call.connection, user, live, "password"))
        except UniqueConstraintViolation as error:
            raise taken(error) from error
        return entered(user, live, token)

    @command(
        "account.login",
        params={"name": TYPED_NAME, "password": PASSWORD, "label": LABEL},
        result=ENTERED,
        faults=(InvalidCredentials, AccountLocked, AccountSuspended),
        always=True,
        rate="60/minute",
    )
    def login(self, call: Call, transaction: Any, name: str, password: str, label: str = "") -> dict[str, Any]:
        """Log this connection in; the token takes the place of the password after a reconnect (account.resume).

        A name that does not exist and a wrong password are one answer, after the same time. After some
        failures from one address the next attempts from there have to wait (1005).
        """
        label = text_of(label, "label", 128)
        row = self._prove(call, transaction, name, password)
        wall = self.server.clock.wall()
        if row.suspended and (row.until is None or row.until > wall):
            raise suspension(row.until, row.reason, wall)
        hashed = self.passwords.hash(password) if self.passwords.is_dated(row.password) else row.password
        token = secrets.token_urlsafe(32)
        with transaction(core=True) as db:
            user = self._still(db, row, hashed)
            live = self.insert_session(call, db, user.id, token=token, label=label)
            call.on_commit(lambda: self.people.enter(call.connection, user, live, "password"))
        return entered(user, live, token)

    @command(
        "account.resume", params={"token": TOKEN}, faults=(TokenInvalid, SessionExpired), always=True, rate="120/minute"
    )
    def resume(self, call: Call, transaction: Any, token: str) -> dict[str, Any]:
        """Log this connection in with the token of a session, after a reconnect; prolongs the session."""
        try:
            known, session = self.people.of_token(token)
        except (TokenInvalid, SessionExpired, AccountSuspended) as fault:
            self.people.refused(call.connection, fault)
            raise
        wall, user = self.server.clock.wall(), known.user(session.scopes)
        expires = wall + self.session_ttl_s if session.kind == "session" else session.expires
        live, here = Live(session.id, expires), call.connection
        with transaction(core=True) as db:
            done = db.execute(
                update(sessions)
                .where(sessions.c.id == session.id)
                .values(used=wall, expires=expires, address=here.address, prefix=here.peer["prefix"])
            )
            if not done.rowcount:  # revoked at the same moment
                raise TokenInvalid
            call.on_commit(lambda: self.people.enter(here, user, live, "token"))
        return {"session": live.id, "expires": live.expires, "user": shown(user)}

    @command("account.logout", requires="user", transaction={"core": True})
    def logout(self, call: Call, db: Any) -> bool:
        """End this session; the connection stays, as nobody's."""
        live = session_of(call)
        own = call.auth is None

        if own:
            call.on_commit(lambda: leave(call.connection))
        if live is not None:
            spare = call.connection.id if own else None
            self.end_sessions(call, db, user_of(call).id, sessions.c.id == live.id, reason="logout", spare=spare)
        return True

    @command(
        "account.change_password",
        params={"old": PASSWORD, "password": PASSWORD},
        requires="user",
        faults=(InvalidCredentials, PasswordRejected, AccountLocked),
    )
    def change_password(self, call: Call, transaction: Any, old: str, password: str) -> dict[str, Any]:
        """Take a new password; all other sessions end. Tokens made by administrators go on."""
        user = user_of(call)
        row = self._prove(call, transaction, user.name, old)
        check_new(password, row.name)
        if old == password:
            raise PasswordRejected("This is the password that you have", field="params.password")
        hashed, live = self.passwords.hash(password), session_of(call)
        with transaction(core=True) as db:
            self._still(db, row, hashed)
            others = sessions.c.kind == "session"
            if live is not None:
                others &= sessions.c.id != live.id
            ended = self.end_sessions(call, db, row.id, others, reason="password changed", spare=call.connection.id)
            self.changed(call, row.id, "password")
        return {"ended": ended}

    @command(
        "account.update_profile",
        params={
            "display": {"type": "string", "maxlength": 64, "meta": {"is": "text", "help": "The name that is shown."}},
            "about": {"type": "string", "maxlength": 500, "meta": {"is": "text", "help": "A few words about you."}},
        },
        requires="user",
        transaction={"core": True},
    )
    def update_profile(
        self, call: Call, db: Any, display: str | None = None, about: str | None = None
    ) -> dict[str, Any]:
        """Change what others see of you; what is left out stays."""
        user = user_of(call)
        values = {}
        if display is not None:
            values["display"] = text_of(display, "display", 64)
        if about is not None:
            values["about"] = text_of(about, "about", 500)
        if values:
            db.execute(update(users).where(users.c.id == user.id).values(**values))
            self.changed(call, user.id, "profile")
        columns = (users.c.id, users.c.name, users.c.display, users.c.about, users.c.role, users.c.created)
        row = db.execute(select(*columns).where(users.c.id == user.id)).first()
        if row is None:
            raise ResourceNotFound("This login is no account")
        return dict(row._mapping)

    @command("account.whoami", always=True)
    def whoami(self, call: Call) -> dict[str, Any] | None:
        """Say who you are here: null for nobody."""
        if call.user is None:
            return None
        live = session_of(call)
        return {**shown(call.user), "session": live.id if live is not None else None}

    @command("account.sessions", requires="user", transaction={"read": True, "core": True})
    def sessions(self, call: Call, db: Any) -> list[dict[str, Any]]:
        """List your sessions and tokens, the last used first, with the address and time of their last use."""
        live = session_of(call)
        return listed(db, user_of(call).id, live.id if live is not None else None)

    @command("account.revoke", requires="user", transaction={"core": True})
    def revoke(self, call: Call, db: Any, session: str) -> bool:
        """End one of your sessions or tokens by its id."""
        if not self.end_sessions(call, db, user_of(call).id, sessions.c.id == session, reason="revoked"):
            raise ResourceNotFound("You have no such session", field="params.session")
        return True

    @command(
        "account.delete", params={"password": PASSWORD}, requires="user", faults=(InvalidCredentials, AccountLocked)
    )
    def delete(self, call: Call, transaction: Any, password: str) -> dict[str, Any]:
        """Delete your account and all that is yours, in every plugin, at once; says what was removed."""
        row = self._prove(call, transaction, user_of(call).name, password)
        with transaction(long=True) as db:  # there may be much of it
            return self.forget(call, db, self._still(db, row, row.password), "deleted by its owner")

    # --- the parts -------------------------------------------------------------------------------

    def _prove(self, call: Call, transaction: Any, name: str, password: str) -> Any:
        """The account's row, once the password is proven. Raises InvalidCredentials, AccountLocked. Switches."""
        key, place = key_of(name), call.connection.peer["prefix"]
        with self.throttle.attempt(key, place):
            with transaction(read=True, core=True) as db:
                row = db.execute(select(users).where(users.c.key == key)).first()
                been_here = (
                    row is not None
                    and db.execute(
                        select(sessions.c.id).where(sessions.c.user == row.id, sessions.c.prefix == place).limit(1)
                    ).first()
                )
            if not been_here:
                self.throttle.check_stranger(key)
            if not self.passwords.matches(row.password if row is not None else None, password):
                self.throttle.failed(key, place, stranger=not been_here)
                self.server.publish(
                    "login.failed",
                    **call.connection.peer,
                    name=name[:64],
                    known=row is not None,
                    proof=self.server.fingerprint(password),
                    reason="password",
                )
                raise InvalidCredentials
            self.throttle.succeeded(key, place)
            return row

    def _still(self, db: Any, row: Any, hashed: str) -> User:
        """Inside the transaction: nothing has changed since the password was proven; `hashed` is stored."""
        done = db.execute(
            update(users)
            .where(
                users.c.id == row.id,
                users.c.password == row.password,
                users.c.suspended == row.suspended,
                users.c.role == row.role,
            )
            .values(password=hashed)
        )
        if not done.rowcount:
            raise ResourceConflict("The account was changed at the same moment; try again")
        return User(row.id, row.name, ROLES[row.role])

    def forget(self, call: Call, db: Any, user: User, reason: str) -> dict[str, Any]:
        """Remove an account; each plugin removes what is its user's, in this transaction. `db`: an open Session."""
        leaving = Leaving(user, call, db)
        removed: dict[str, Any] = {}
        for plugin, hook in self.server.registry.impls("tidegate_forget"):
            removed[plugin.name] = hook(leaving)
        ids = list(db.execute(delete(sessions).where(sessions.c.user == user.id).returning(sessions.c.id)).scalars())
        db.execute(delete(users).where(users.c.id == user.id))
        for session in ids:
            call.publish("session.ended", user=user.id, session=session, reason="account deleted")
        call.publish(
            "account.deleted",
            user=user.id,
            actor=call.user.id if call.user is not None else None,
            what="deleted",
            until=None,
            reason=reason,
        )
        spare = call.connection.id if call.user is not None and call.user.id == user.id else None

        def over() -> None:
            if spare is not None and call.auth is None:
                leave(call.connection)
            self.people.tell(
                user.id, over=SessionExpired.code, reason="The account was deleted", spare=spare, certificate=True
            )

        call.on_commit(over)
        return {"user": user.id, "removed": {"accounts": {"accounts": 1, "sessions": len(ids)}, **removed}}


def session_of(call: Call) -> Live | None:
    """The session by which this call is somebody's."""
    return live_of(call if call.auth is not None else call.connection)


def leave(connection: Connection) -> None:
    """From now on it is nobody's. Never switches."""
    connection.become(None)
    if SESSION in connection.stash:
        del connection.stash[SESSION]


def user_of(call: Call) -> User:
    """Who calls, where `requires` has made sure that somebody does. Raises AuthorizationDenied."""
    if call.user is None:
        raise AuthorizationDenied
    return call.user


def shown(user: User) -> dict[str, Any]:
    """As replies show who somebody is."""
    return {
        "id": user.id,
        "name": user.name,
        "roles": sorted(user.roles),
        "scopes": sorted(user.scopes) if user.scopes is not None else None,
    }


def entered(user: User, live: Live, token: str) -> dict[str, Any]:
    return {"token": token, "session": live.id, "expires": live.expires, "user": shown(user)}


def listed(db: Any, user: str, current: str | None) -> list[dict[str, Any]]:
    """Sessions and tokens of one account, the last used first."""
    rows = db.execute(select(sessions).where(sessions.c.user == user).order_by(sessions.c.used.desc(), sessions.c.id))
    return [{**session_row(row), "current": row.id == current} for row in rows]


def session_row(row: Any) -> dict[str, Any]:
    """A session or token as it is shown."""
    return {
        "id": row.id,
        "kind": row.kind,
        "label": row.label,
        "scopes": row.scopes.split() if row.scopes is not None else None,
        "created": row.created,
        "used": row.used,
        "expires": row.expires,
        "address": row.address,
    }
