"""Who somebody is: accounts and sessions as calls need them, read once, forgotten in every process when they change."""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import and_, bindparam, case, delete, or_, select, update
from tidegate import Call, Connection, Fault, Key, User
from tidegate.faults import (
    AccountSuspended,
    AuthenticationUnavailable,
    DatabaseFamily,
    SessionExpired,
    TokenInvalid,
)

from tidegate_accounts.kept import Kept
from tidegate_accounts.tables import sessions, users
from tidegate_accounts.texts import key_of

if TYPE_CHECKING:
    from tidegate_accounts import Accounts

CHANNEL = "accounts"  # on the bus
KEPT_S = 60.0  # how long what was read is believed, should another process's word be lost
CAP = 50_000
FLUSH_S = 30.0  # between two writings of when sessions were used
FLUSHED = 50  # sessions in one transaction, so that it holds nobody up
#: Everybody has the roles below theirs.
ROLES = {
    "user": frozenset({"user"}),
    "moderator": frozenset({"user", "moderator"}),
    "admin": frozenset({"user", "moderator", "admin"}),
}
SCOPES = ("read", "operate", "security")

#: A session's use prolongs it, unless it has expired; a token's does not.
_LIVE = and_(sessions.c.kind == "session", sessions.c.expires > bindparam("used"))
_USED = (
    update(sessions)
    .where(sessions.c.id == bindparam("of"))
    .values(
        used=bindparam("used"),
        address=bindparam("address"),
        prefix=bindparam("prefix"),
        expires=case((_LIVE, bindparam("until")), else_=sessions.c.expires),
    )
)


class Session(NamedTuple):
    """A way in without a password."""

    id: str
    kind: str  # session, token
    scopes: frozenset[str] | None
    expires: float  # wall clock


class Live(NamedTuple):
    """The session by which a connection, or a call with `auth`, is somebody."""

    id: str
    expires: float


#: On a connection: the session by which it is logged in. On a call: that of its `auth`.
SESSION = Key[Live]("accounts.session")


class Known:
    """An account as it was read."""

    __slots__ = ("id", "name", "reason", "role", "sessions", "suspended", "until")

    def __init__(self, row: Any) -> None:
        self.id: str = row.id
        self.name: str = row.name
        self.role: str = row.role
        self.suspended: bool = row.suspended
        self.until: float | None = row.until
        self.reason: str = row.reason
        self.sessions: dict[bytes, Session] = {}  # those that were asked for, by digest

    def user(self, scopes: frozenset[str] | None = None) -> User:
        return User(self.id, self.name, ROLES[self.role], scopes)

    def check(self, wall: float) -> None:
        """Raises AccountSuspended."""
        if self.suspended and (self.until is None or self.until > wall):
            raise suspension(self.until, self.reason, wall)


def suspension(until: float | None, reason: str, wall: float) -> Fault:
    """What somebody who is suspended is told."""
    text = f"This account is suspended: {reason}" if reason else None
    return AccountSuspended(text, retry_after=round(max(until - wall, 0.0), 1) if until is not None else None)


def digest_of(token: str) -> bytes:
    """What is stored of a token: it has 256 random bits, so a quick hash tells nothing."""
    return sha256(token.encode("utf-8", "surrogatepass")).digest()


_COLUMNS = (users.c.id, users.c.name, users.c.role, users.c.suspended, users.c.until, users.c.reason)


class People:
    """Reads accounts and sessions, keeps what was read, and ends what is over."""

    def __init__(self, plugin: Accounts) -> None:
        self.server = plugin.server
        self.log = plugin.log
        now = self.server.clock.now
        self._kept: Kept[str, Known] = Kept(now, CAP, KEPT_S)
        self._owners: Kept[bytes, str] = Kept(now, CAP, KEPT_S)  # digest -> user id
        self._subjects: Kept[str, str] = Kept(now, CAP, KEPT_S)  # common name -> user id, "" for nobody
        self._epoch = 0  # moved by every change: what was read before it is not kept
        self._used: dict[str, tuple[float, str | None, str | None]] = {}  # session -> when and whence, to be written

    # --- looking up ------------------------------------------------------------------------------

    def get(self, id: str) -> Known | None:
        """An account by its id. May switch."""
        return self._kept.get(id) or self.read(users.c.id == id)

    def of_certificate(self, subject: str) -> Known | None:
        """The account to which a certificate's common name belongs. May switch."""
        id = self._subjects.get(subject)
        if id is not None:
            return self.get(id) if id else None
        epoch = self._epoch
        known = self.read(users.c.certificate == subject)
        if epoch == self._epoch:
            self._subjects.set(subject, known.id if known is not None else "")
        return known

    def of_token(self, token: str) -> tuple[Known, Session]:
        """Whose token it is. Raises TokenInvalid, SessionExpired, AccountSuspended. May switch."""
        digest = digest_of(token)
        owner = self._owners.get(digest)
        known = self._kept.get(owner) if owner is not None else None
        session = known.sessions.get(digest) if known is not None else None
        wall = self.server.clock.wall()
        if known is None or session is None or session.expires <= wall:  # it may have been prolonged
            known, session = self._read_session(digest)
        if session.expires <= wall:
            raise SessionExpired
        known.check(wall)
        return known, session

    def read(self, where: Any) -> Known | None:
        epoch = self._epoch
        with self.reading() as db:
            row = db.execute(select(*_COLUMNS).where(where)).first()
        return self._keep(Known(row), epoch) if row is not None else None

    def _keep(self, known: Known, epoch: int) -> Known:
        if epoch == self._epoch:
            self._kept.set(known.id, known)
        return known

    def _read_session(self, digest: bytes) -> tuple[Known, Session]:
        epoch = self._epoch
        query = select(
            *_COLUMNS, sessions.c.id.label("session"), sessions.c.kind, sessions.c.scopes, sessions.c.expires
        ).join_from(users, sessions, sessions.c.user == users.c.id)
        with self.reading() as db:
            row = db.execute(query.where(sessions.c.digest == digest)).first()
        if row is None:
            raise TokenInvalid
        scopes = frozenset(row.scopes.split()) if row.scopes is not None else None
        session = Session(row.session, row.kind, scopes, row.expires)
        known = self._kept.get(row.id) or self._keep(Known(row), epoch)
        if epoch == self._epoch and len(known.sessions) < 64:
            known.sessions[digest] = session
            self._owners.set(digest, known.id)
        return known, session

    def reading(self) -> Any:
        return self.server.provided("transaction")(read=True, core=True)

    def writing(self) -> Any:
        return self.server.provided("transaction")(core=True)

    # --- identifying -----------------------------------------------------------------------------

    def identify(self, call: Call) -> None:
        """Set `call.user` from its `auth`, or from the connection's certificate. Raises a Fault. May switch."""
        try:
            if call.auth is not None:
                self._by_token(call, call.auth)
            else:
                self._by_certificate(call)
        except DatabaseFamily as fault:
            raise AuthenticationUnavailable(retry_after=1.0, log=f"{fault.type}: {fault.log}") from fault

    def _by_token(self, call: Call, token: str) -> None:
        try:
            known, session = self.of_token(token)
        except (TokenInvalid, SessionExpired, AccountSuspended) as fault:
            self.refused(call.connection, fault)
            raise
        call.user = known.user(session.scopes)
        call.stash[SESSION] = Live(session.id, session.expires)
        self.touch(session.id, call.connection)

    def _by_certificate(self, call: Call) -> None:
        connection = call.connection
        subject = common_name(connection.certificate)
        known = self.of_certificate(subject) if subject is not None else None
        if known is None:
            return
        known.check(self.server.clock.wall())
        if connection.user is None:
            connection.become(known.user())
            self.server.publish("login.succeeded", **connection.peer, means="certificate")
        call.user = connection.user

    def refused(self, connection: Connection, fault: Fault) -> None:
        """Tell that a token was not accepted."""
        reason = {TokenInvalid.code: "token", SessionExpired.code: "expired"}.get(fault.code, "suspended")
        self.server.publish(
            "login.failed", **connection.peer, name=None, known=reason != "token", proof=None, reason=reason
        )

    # --- what changes ----------------------------------------------------------------------------

    def tell(self, user: str, **what: Any) -> None:
        """Say in every process that an account changed; for `on_commit`, never switches.

        `role`: its new role. `over`: why its connections end, a code of the catalogue: then `sessions`
        (ids, None for all), `only` ("certificate": those that came in by one), `spare` (a connection that
        stays open), `reason`, `until`. `certificate`: what certificates mean has changed.
        """
        self.server.bus.publish(CHANNEL, {"user": user, **what})

    def heard(self, said: dict[str, Any]) -> None:
        """A change, made in whatever process. Never switches."""
        self._epoch += 1
        user = said["user"]
        self._kept.pop(user)
        if said.get("certificate"):
            self._subjects.clear()
        connections = list(self.server.sessions.get(user, ()))
        if (role := said.get("role")) is not None:
            for connection in connections:
                if connection.user is not None:
                    connection.become(User(user, connection.user.name, ROLES[role], connection.user.scopes))
        if (code := said.get("over")) is not None:
            for connection in connections:
                if self._is_over(connection, said):
                    self._end(connection, code, said)

    @staticmethod
    def _is_over(connection: Connection, said: dict[str, Any]) -> bool:
        live = live_of(connection)
        if connection.id == said.get("spare"):
            return False
        if said.get("only") == "certificate":
            return live is None
        if said.get("sessions") is not None:
            return live is not None and live.id in said["sessions"]
        return True

    def _end(self, connection: Connection, code: int, said: dict[str, Any]) -> None:
        suspended = code == AccountSuspended.code
        fault: Fault = (
            suspension(said.get("until"), said.get("reason", ""), self.server.clock.wall())
            if suspended
            else SessionExpired(said.get("reason") or None)
        )
        connection.become(None)
        connection.end(fault, cancel=suspended)

    def enter(self, connection: Connection, user: User, live: Live, means: str) -> None:
        """A login was committed. Never switches."""
        connection.become(user)
        connection.stash[SESSION] = live
        self.server.publish("login.succeeded", **connection.peer, means=means)

    # --- the time --------------------------------------------------------------------------------

    def touch(self, session: str, connection: Connection) -> None:
        """Note that a session was used; written now and then."""
        if len(self._used) < CAP:
            self._used[session] = (self.server.clock.wall(), connection.address, connection.peer["prefix"])

    def flush(self, ttl_s: float) -> None:
        """Write when sessions were used, which also prolongs them; tokens keep their end. Switches."""
        used, self._used = self._used, {}
        items = list(used.items())
        for start in range(0, len(items), FLUSHED):
            rows = [
                {"of": session, "used": at, "address": address, "prefix": prefix, "until": at + ttl_s}
                for session, (at, address, prefix) in sorted(items[start : start + FLUSHED])
            ]
            with self.writing() as db:
                db.execute(_USED, rows)

    def sweep(self) -> None:
        """Remove what has expired, and end the connections that stand on it. Switches."""
        wall = self.server.clock.wall()
        over = sessions.c.expires <= wall
        with self.reading() as db:
            rows = db.execute(select(sessions.c.id, sessions.c.user).where(over).limit(500)).all()
        if not rows:
            return
        ids = [row.id for row in rows]
        with self.writing() as db:
            gone = set(
                db.execute(delete(sessions).where(over, sessions.c.id.in_(ids)).returning(sessions.c.id)).scalars()
            )
        for row in rows:
            if row.id in gone:
                self.server.publish("session.ended", user=row.user, session=row.id, reason="expired")
                self.tell(row.user, over=SessionExpired.code, sessions=[row.id])

    def keep_house(self, plugin: Accounts) -> None:
        """Runs as long as the server."""
        while True:
            self.server.clock.sleep(FLUSH_S)
            try:
                self.prolong()
                self.flush(plugin.session_ttl_s)
                self.sweep()
            except Exception as error:
                self.log.warning("housekeeping failed: %s", self.server.fault_of(error))

    def prolong(self) -> None:
        """Who is connected uses the session. Never switches."""
        for connections in self.server.sessions.values():
            for connection in connections:
                if (live := live_of(connection)) is not None:
                    self.touch(live.id, connection)


def live_of(holder: Connection | Call) -> Live | None:
    """The session of a connection, or of a call with `auth`."""
    stash = holder.stash
    return stash[SESSION] if SESSION in stash else None  # noqa: SIM401  (a Stash's default has the value's type)


def common_name(certificate: dict[str, Any] | None) -> str | None:
    """The subject's common name of a certificate as `ssl` gives it; None where there is none, or more than one."""
    found = [value for part in (certificate or {}).get("subject", ()) for name, value in part if name == "commonName"]
    return found[0] if len(found) == 1 else None


class Directory:
    """What `server.directory` is when there are accounts. May switch."""

    def __init__(self, people: People) -> None:
        self._people = people

    def get(self, id: str) -> User | None:
        known = self._people.get(id)
        return known.user() if known is not None else None

    def named(self, name: str) -> User | None:
        """In whatever case it is typed."""
        known = self._people.read(users.c.key == key_of(name))
        return known.user() if known is not None else None

    def search(self, text: str, after: str | None = None, limit: int = 50) -> list[User]:
        """Whose name, or shown name, begins with `text`; by name, those that follow the name `after`."""
        start = key_of(text).replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
        query = select(*_COLUMNS).order_by(users.c.key).limit(max(1, min(limit, 1000)))
        if start:
            query = query.where(
                or_(users.c.key.like(f"{start}%", escape="\\"), users.c.display.ilike(f"{start}%", escape="\\"))
            )
        if after is not None:
            query = query.where(users.c.key > key_of(after))
        with self._people.reading() as db:
            rows = db.execute(query).all()
        return [Known(row).user() for row in rows]

    def profile(self, id: str) -> dict[str, Any] | None:
        """`{"id": …, "name": "ada", "display": "Ada L.", "about": "", "role": "user", "created": 1790000000.0}`."""
        query = select(users.c.id, users.c.name, users.c.display, users.c.about, users.c.role, users.c.created)
        with self._people.reading() as db:
            row = db.execute(query.where(users.c.id == id)).first()
        return dict(row._mapping) if row is not None else None
