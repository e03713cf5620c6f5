"""The administrators' commands: other people's accounts."""

from __future__ import annotations

import secrets
from typing import Any

from sqlalchemy import select, update
from tidegate import Call, User, command
from tidegate.faults import (
    AccountSuspended,
    InvalidValue,
    ResourceConflict,
    ResourceNotFound,
    SessionExpired,
    UniqueConstraintViolation,
    ValueOutOfRange,
)

from tidegate_accounts.book import taken
from tidegate_accounts.own import NAME, Own, listed, session_row
from tidegate_accounts.passwords import check_new, generated
from tidegate_accounts.people import ROLES, SCOPES
from tidegate_accounts.tables import sessions, users
from tidegate_accounts.texts import key_of, name_of, text_of

USER = {
    "type": "string",
    "required": True,
    "maxlength": 128,
    "meta": {"profile": "identifier", "help": "Its id, or its name."},
}
REASON = {"type": "string", "maxlength": 500, "meta": {"is": "text", "help": "Why; it is kept in the audit trail."}}
ROLE = {"type": "string", "allowed": list(ROLES), "meta": {"profile": "identifier", "help": "What the account may do."}}
AFTER = {
    "type": "string",
    "maxlength": 128,
    "meta": {"profile": "identifier", "help": "`next` of the last page."},
}
LIMIT = {"type": "integer", "min": 1, "max": 1000, "meta": {"help": "How many on a page."}}
GIVEN_PASSWORD = {
    "type": "string",
    "meta": {"profile": "secret", "help": "8 to 128 characters; without one a random one is made and told once."},
}
MADE = {
    "type": "dict",
    "schema": {
        "id": {"type": "string"},
        "name": {"type": "string"},
        "role": {"type": "string"},
        "password": {"type": "string", "nullable": True, "meta": {"profile": "secret"}},
    },
}


class Administration(Own):
    """What administrators do with accounts. `user` is an id or a name."""

    @command(
        "account.create",
        params={
            "name": NAME,
            "password": GIVEN_PASSWORD,
            "role": ROLE,
            "certificate": {
                "type": "string",
                "maxlength": 255,
                "meta": {"profile": "identifier", "help": "The common name in the client certificate that lets it in."},
            },
            "reason": REASON,
        },
        requires="admin",
        http="POST /users",
        result=MADE,
        faults=(ResourceConflict,),
    )
    def create(
        self,
        call: Call,
        transaction: Any,
        name: str,
        password: str = "",
        role: str = "user",
        certificate: str = "",
        reason: str = "",
    ) -> dict[str, Any]:
        """Make an account; a password that was not given is made at random and told this once."""
        name, role = name_of(name), role_of(role)
        made = None if password else generated()
        if password:
            check_new(password, name)
        hashed = self.passwords.hash(made or password)
        try:
            with transaction(core=True) as db:
                subject = certificate or None
                user = self.insert_account(call, db, name=name, password=hashed, role=role, certificate=subject)
                if certificate:
                    call.on_commit(lambda: self.people.tell(user.id, certificate=True))
        except UniqueConstraintViolation as error:
            raise taken(error) from error
        return {"id": user.id, "name": name, "role": role, "password": made}

    @command(
        "account.create_token",
        params={
            "user": USER,
            "label": {"type": "string", "maxlength": 128, "meta": {"is": "text", "help": "What it is for."}},
            "scopes": {
                "type": "list",
                "schema": {"type": "string", "allowed": list(SCOPES)},
                "meta": {"help": "What it may do of what its user may: read, operate, security; all without it."},
            },
            "expires_s": {"type": "integer", "min": 60, "meta": {"help": "How long it lives.", "unit": "s"}},
            "reason": REASON,
        },
        requires="admin",
        http="POST /users/{user}/tokens",
        transaction={"core": True},
        result={
            "type": "dict",
            "schema": {
                "token": {"type": "string", "meta": {"profile": "secret"}},
                "session": {"type": "string"},
                "expires": {"type": "float"},
            },
        },
    )
    def create_token(
        self,
        call: Call,
        db: Any,
        user: str,
        label: str = "",
        scopes: list | None = None,  # type: ignore[type-arg]
        expires_s: int | None = None,
        reason: str = "",
    ) -> dict[str, Any]:
        """Make a token for programs, sent as `auth` with each call; it is told this once."""
        if scopes is not None:
            if not scopes or any(scope not in SCOPES for scope in scopes):
                raise InvalidValue(f"Scopes are some of {', '.join(SCOPES)}", field="params.scopes")
            scopes = sorted(set(scopes))
        ttl_s = self.token_ttl_s if expires_s is None else expires_s
        if not 60 <= ttl_s <= self.token_ttl_s:
            raise ValueOutOfRange(f"A token lives for 60 to {self.token_ttl_s:g} s", field="params.expires_s")
        row, token = self.row_of(db, user), secrets.token_urlsafe(32)
        live = self.insert_session(
            call, db, row.id, token=token, kind="token", label=text_of(label, "label", 128), scopes=scopes, ttl_s=ttl_s
        )
        return {"token": token, "session": live.id, "expires": live.expires}

    @command(
        "account.list",
        params={
            "text": {
                "type": "string",
                "maxlength": 128,
                "meta": {"profile": "identifier", "help": "How the name begins."},
            },
            "role": ROLE,
            "suspended": {"type": "boolean", "meta": {"help": "Only those who are, or are not, suspended."}},
            "after": AFTER,
            "limit": LIMIT,
        },
        requires="admin",
        scope="read",
        http="GET /users",
        transaction={"read": True, "core": True},
    )
    def page(
        self,
        db: Any,
        text: str = "",
        role: str | None = None,
        suspended: bool | None = None,
        after: str | None = None,
        limit: int = 50,
    ) -> dict[str, Any]:
        """List accounts by name, a page at a time: `{"accounts": […], "next": "…" or null}`."""
        if not 1 <= limit <= 1000:
            raise ValueOutOfRange("A limit is between 1 and 1000", field="params.limit")
        query = select(users).order_by(users.c.key).limit(limit + 1)
        if text:
            query = query.where(users.c.key.startswith(key_of(text), autoescape=True))
        if role is not None:
            query = query.where(users.c.role == role_of(role))
        if suspended is not None:
            now = self.server.clock.wall()
            is_so = users.c.suspended & (users.c.until.is_(None) | (users.c.until > now))
            query = query.where(is_so if suspended else ~is_so)
        if after is not None:
            query = query.where(users.c.key > after)
        rows = db.execute(query).all()
        return {
            "accounts": [self._shown(row) for row in rows[:limit]],
            "next": rows[limit - 1].key if len(rows) > limit else None,
        }

    @command(
        "account.show", params={"user": USER}, requires="admin", scope="read", http="GET /users/{user}",
        transaction={"read": True, "core": True},
    )  # fmt: skip
    def show(self, db: Any, user: str) -> dict[str, Any]:
        """Show one account with its sessions and tokens."""
        row = self.row_of(db, user, lock=False)
        return {**self._shown(row), "sessions": listed(db, row.id, None)}

    @command(
        "account.set_role", params={"user": USER, "role": {**ROLE, "required": True}, "reason": REASON},
        requires="admin", http="PUT /users/{user}/role", transaction={"core": True},
    )  # fmt: skip
    def set_role(self, call: Call, db: Any, user: str, role: str, reason: str = "") -> dict[str, Any]:
        """Make somebody a user, a moderator or an administrator; it holds for open connections at once."""
        row = self.row_of(db, user)
        db.execute(update(users).where(users.c.id == row.id).values(role=role_of(role)))
        self.changed(call, row.id, "role", reason=reason, role=role)
        return {"id": row.id, "name": row.name, "role": role}

    @command(
        "account.set_certificate",
        params={
            "user": USER,
            "certificate": {
                "type": "string", "maxlength": 255, "nullable": True, "required": True,
                "meta": {"profile": "identifier", "help": "The common name in its subject; null for none."},
            },
            "reason": REASON,
        },
        requires="admin", http="PUT /users/{user}/certificate", transaction={"core": True},
    )  # fmt: skip
    def set_certificate(
        self, call: Call, db: Any, user: str, certificate: str | None, reason: str = ""
    ) -> dict[str, Any]:
        """Say which client certificate lets an account in; connections that came in by the old one end."""
        row = self.row_of(db, user)
        other = select(users.c.name).where(users.c.certificate == certificate, users.c.id != row.id)
        if certificate is not None and db.execute(other).first() is not None:
            raise ResourceConflict("This certificate belongs to another account", field="params.certificate")
        db.execute(update(users).where(users.c.id == row.id).values(certificate=certificate or None))
        self.changed(
            call, row.id, "certificate", reason=reason, certificate=True, over=SessionExpired.code, only="certificate"
        )
        return {"id": row.id, "name": row.name, "certificate": certificate or None}

    @command(
        "account.suspend",
        params={
            "user": USER,
            "for_s": {
                "type": "float",
                "min": 1,
                "nullable": True,
                "meta": {"help": "How long; null: until reinstated.", "unit": "s"},
            },
            "reason": REASON,
        },
        requires="admin",
        scope="security",
        http="PUT /users/{user}/suspension",
        transaction={"core": True},
    )
    def suspend(self, call: Call, db: Any, user: str, for_s: float | None = None, reason: str = "") -> dict[str, Any]:
        """Shut an account out, and end its connections and running calls at once."""
        row, reason = self.row_of(db, user), text_of(reason, "reason", 500)
        if for_s is not None and not for_s >= 1:
            raise ValueOutOfRange("A suspension takes a second at least", field="params.for_s")
        until = self.server.clock.wall() + for_s if for_s is not None else None
        db.execute(update(users).where(users.c.id == row.id).values(suspended=True, until=until, reason=reason))
        self._tell_suspension(call, "account.suspended", row.id, until, reason)
        call.on_commit(lambda: self.people.tell(row.id, over=AccountSuspended.code, until=until, reason=reason))
        return {"id": row.id, "name": row.name, "suspended": True, "until": until}

    @command(
        "account.reinstate",
        params={"user": USER, "reason": REASON},
        requires="admin",
        scope="security",
        http="DELETE /users/{user}/suspension",
        transaction={"core": True},
    )
    def reinstate(self, call: Call, db: Any, user: str, reason: str = "") -> dict[str, Any]:
        """End a suspension. Raises ResourceConflict for an account that is not suspended."""
        row = self.row_of(db, user)
        if not row.suspended:
            raise ResourceConflict("This account is not suspended", field="params.user")
        db.execute(update(users).where(users.c.id == row.id).values(suspended=False, until=None, reason=""))
        self._tell_suspension(call, "account.reinstated", row.id, None, reason)
        call.on_commit(lambda: self.people.tell(row.id))
        return {"id": row.id, "name": row.name, "suspended": False}

    @command(
        "account.reset_password", params={"user": USER, "password": GIVEN_PASSWORD, "reason": REASON},
        requires="admin", http="PUT /users/{user}/password", result=MADE,
    )  # fmt: skip
    def reset_password(
        self, call: Call, transaction: Any, user: str, password: str = "", reason: str = ""
    ) -> dict[str, Any]:
        """Give an account a new password, and end all its sessions and tokens; one made at random is told this once."""
        made = None if password else generated()
        if password:
            check_new(password, user)
        hashed = self.passwords.hash(made or password)
        with transaction(core=True) as db:
            row = self.row_of(db, user)
            db.execute(update(users).where(users.c.id == row.id).values(password=hashed))
            self.end_sessions(call, db, row.id, sessions.c.id.is_not(None), reason="password reset")
            self.changed(call, row.id, "password", reason=reason, over=SessionExpired.code)
        return {"id": row.id, "name": row.name, "role": row.role, "password": made}

    @command(
        "account.list_sessions",
        params={
            "user": {**USER, "required": False},
            "after": {**AFTER, "maxlength": 36},
            "limit": LIMIT,
        },
        requires="admin",
        scope="read",
        http="GET /sessions",
        transaction={"read": True, "core": True},
    )
    def list_sessions(
        self, db: Any, user: str | None = None, after: str | None = None, limit: int = 50
    ) -> dict[str, Any]:
        """List sessions and tokens of all accounts, the youngest first: `{"sessions": […], "next": "…" or null}`."""
        if not 1 <= limit <= 1000:
            raise ValueOutOfRange("A limit is between 1 and 1000", field="params.limit")
        alive = sessions.c.expires > self.server.clock.wall()
        query = select(sessions, users.c.name).join(users, users.c.id == sessions.c.user).where(alive)
        if user is not None:
            query = query.where(sessions.c.user == self.row_of(db, user, lock=False).id)
        if after is not None:
            query = query.where(sessions.c.id < after)
        rows = db.execute(query.order_by(sessions.c.id.desc()).limit(limit + 1)).all()
        return {
            "sessions": [{"user": row.user, "name": row.name, **session_row(row)} for row in rows[:limit]],
            "next": rows[limit - 1].id if len(rows) > limit else None,
        }

    @command(
        "account.end_sessions",
        params={
            "user": USER,
            "session": {
                "type": "string",
                "maxlength": 36,
                "meta": {"profile": "identifier", "help": "One of them; all without it."},
            },
            "reason": REASON,
        },
        requires="admin",
        http="DELETE /users/{user}/sessions",
        transaction={"core": True},
    )
    def end_all(self, call: Call, db: Any, user: str, session: str = "", reason: str = "") -> dict[str, Any]:
        """End somebody's sessions and tokens, or one of them; says how many."""
        row = self.row_of(db, user)
        which = sessions.c.id == session if session else sessions.c.id.is_not(None)
        ended = self.end_sessions(call, db, row.id, which, reason=reason or "ended by an administrator")
        if session and not ended:
            raise ResourceNotFound("This account has no such session", field="params.session")
        return {"id": row.id, "ended": ended}

    @command(
        "account.remove",
        params={"user": USER, "reason": REASON},
        requires="admin",
        http="DELETE /users/{user}",
        transaction={"long": True},
    )
    def remove(self, call: Call, db: Any, user: str, reason: str = "") -> dict[str, Any]:
        """Delete somebody's account and all that is theirs, in every plugin, at once; says what was removed."""
        row = self.row_of(db, user)
        return self.forget(call, db, User(row.id, row.name, ROLES[row.role]), reason or "deleted by an administrator")

    def _tell_suspension(self, call: Call, topic: str, user: str, until: float | None, reason: str) -> None:
        call.publish(
            topic,
            user=user,
            actor=call.user.id if call.user is not None else None,
            what=topic.partition(".")[2],
            until=until,
            reason=reason,
        )

    def _shown(self, row: Any) -> dict[str, Any]:
        suspended = row.suspended and (row.until is None or row.until > self.server.clock.wall())
        return {
            "id": row.id,
            "name": row.name,
            "display": row.display,
            "role": row.role,
            "certificate": row.certificate,
            "has_password": row.password is not None,
            "suspended": suspended,
            "until": row.until if suspended else None,
            "reason": row.reason if suspended else "",
            "created": row.created,
            "connections": len(self.server.sessions.get(row.id, ())),
        }


def role_of(text: str) -> str:
    """Raises InvalidValue for what is no role."""
    if text not in ROLES:
        raise InvalidValue(f"A role is one of {', '.join(ROLES)}", field="params.role")
    return text
