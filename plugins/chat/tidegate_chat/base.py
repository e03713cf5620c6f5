"""What the commands have in common: rooms, who is in them and what they may do, and the log of what happened."""

from __future__ import annotations

from typing import Any

from sqlalchemy import BindParameter, Row, and_, bindparam, delete, func, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite
from tidegate import Call, Plugin, User
from tidegate.faults import (
    AuthorizationDenied,
    PermissionDenied,
    PreconditionFailed,
    QuotaExceeded,
    ResourceConflict,
    ResourceNotFound,
    UnsupportedOperation,
)

from tidegate_chat.feed import Feeds
from tidegate_chat.history import SPEAKING, encode
from tidegate_chat.tables import events, invitations, members, rooms
from tidegate_chat.texts import UUID, key_of

ROOM = {
    "type": "string",
    "required": True,
    "maxlength": 256,
    "meta": {"profile": "identifier", "help": "Its id, or its name."},
}
USER = {
    "type": "string",
    "required": True,
    "maxlength": 128,
    "meta": {"profile": "identifier", "help": "An id, or a name."},
}
MAX_SEQ = 2**31 - 1  # what PostgreSQL's integer holds
LIMIT = {"type": "integer", "min": 1, "max": 200, "meta": {"help": "How many on a page."}}
AFTER = {"type": "string", "maxlength": 256, "meta": {"profile": "identifier", "help": "`next` of the last page."}}
REASON = {"type": "string", "maxlength": 500, "meta": {"is": "text", "help": "Why; the room sees it."}}

RANKS = {"member": 1, "admin": 2, "owner": 3}
CORE = {"core": True}
READ = {"core": True, "read": True}
#: For what one row stands for many: on SQLite its statements run in a thread, and hold no other client up.
LONG = {"core": True, "long": True}

# Made once: to build a statement costs three times as much as to run it.
_OF: BindParameter[str] = bindparam("of")
_ROOM_BY_ID = select(rooms).where(rooms.c.id == _OF)
_ROOM_BY_NAME = select(rooms).where(rooms.c.key == _OF)
_LOCKED_BY_ID, _LOCKED_BY_NAME = _ROOM_BY_ID.with_for_update(), _ROOM_BY_NAME.with_for_update()
_MEMBERSHIP = select(members).where(members.c.room == _OF, members.c.user == bindparam("who"))
_NEXT = update(rooms).where(rooms.c.id == _OF).values(seq=rooms.c.seq + 1).returning(rooms.c.seq)
_EVENT = insert(events)


class Base(Plugin):
    """The base of all parts of the chat."""

    feeds: Feeds

    def reading(self) -> Any:
        return self.server.provided("transaction")(read=True, core=True)

    def writing(self) -> Any:
        return self.server.provided("transaction")(core=True)

    # --- people ----------------------------------------------------------------------------------

    def person(self, user: str, field: str = "params.user") -> User:
        """Somebody by id or name. Raises ResourceNotFound. May switch."""
        directory = self.server.directory
        found = directory.get(user) if UUID.fullmatch(user) else directory.named(user)
        if found is None:
            raise ResourceNotFound("There is no such user", field=field)
        return found

    def called(self, user: str) -> str | None:
        """What somebody is called; None for who is gone. May switch."""
        found = self.server.directory.get(user)
        return found.name if found is not None else None

    def with_names(self, told: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Events with the names of those who brought them. May switch."""
        names = {actor: self.called(actor) for actor in {one["actor"] for one in told}}
        return [{**one, "by": names[one["actor"]]} for one in told]

    # --- rooms -----------------------------------------------------------------------------------

    def find(self, call: Call, db: Any, room: str, lock: bool = False) -> tuple[Row[Any], Row[Any] | None]:
        """A room by id or name, and the caller's membership. A locked one is nobody else's until the commit.

        Raises ResourceNotFound, also for a private room of which the caller is no member.
        """
        if UUID.fullmatch(room):
            query, of = _LOCKED_BY_ID if lock else _ROOM_BY_ID, room
        else:
            query, of = _LOCKED_BY_NAME if lock else _ROOM_BY_NAME, key_of(room)
        row = db.execute(query, {"of": of}).first()
        if row is None:
            raise ResourceNotFound("There is no such room", field="params.room")
        if lock:
            self.feeds.expect(row.id, row.seq + 1)
        member = self.membership(db, row.id, me(call).id)
        if row.private and (member is None or member.state == "banned"):
            raise ResourceNotFound("There is no such room", field="params.room")
        return row, member

    @staticmethod
    def membership(db: Any, room: str, user: str) -> Row[Any] | None:
        found: Row[Any] | None = db.execute(_MEMBERSHIP, {"of": room, "who": user}).first()
        return found

    def inside(self, call: Call, db: Any, room: str, lock: bool = False) -> tuple[Row[Any], Row[Any]]:
        """The same for who is a member. Raises ResourceNotFound, PermissionDenied."""
        row, member = self.find(call, db, room, lock)
        if member is None or member.state != "active":
            raise PermissionDenied("You are not in this room")
        return row, member

    @staticmethod
    def rank(call: Call, room: Row[Any], member: Row[Any] | None) -> int:
        """1 of a member, 2 of an admin, 3 of an owner; the server's own moderators and admins rule in public rooms."""
        own = RANKS[member.role] if member is not None and member.state == "active" else 0
        if room.private:
            return own
        roles = me(call).roles
        return max(own, 3 if "admin" in roles else 2 if "moderator" in roles else 0)

    def ruled(self, call: Call, db: Any, room: str, rank: str) -> tuple[Row[Any], int]:
        """A locked room in which the caller has that rank, and the rank that they have. Raises PermissionDenied."""
        row, member = self.find(call, db, room, lock=True)
        if row.pair is not None:
            raise UnsupportedOperation("A conversation of two has no administrators")
        mine = self.rank(call, row, member)
        if mine < RANKS[rank]:
            raise PermissionDenied(f"Only an {rank} of the room may do this")
        return row, mine

    # --- what happens ----------------------------------------------------------------------------

    def append(
        self, call: Call, db: Any, room: str, kind: str, message: str | None = None, **data: Any
    ) -> tuple[int, float]:
        """Write an event into the room's log, and tell it with the commit: its number and its time.

        The room's row is this transaction's from here on, so numbers come in the order of commits.
        """
        seq = db.execute(_NEXT, {"of": room}).scalar_one()
        at, actor = self.server.clock.wall(), me(call).id
        kept = data if kind not in SPEAKING else {}
        row = {"room": room, "seq": seq, "kind": kind, "actor": actor, "at": at, "message": message}
        db.execute(_EVENT, {**row, "data": encode(kept).decode()})
        if message is not None:
            data = {"id": message, **data}
        call.publish(
            "room.changed", room=room, seq=seq, kind=kind, actor=actor, data={"at": at, "by": me(call).name, **data}
        )
        return seq, at

    def enrol(self, db: Any, room: str, user: str, state: str, role: str = "member") -> None:
        """Make somebody a member, whatever they were. Raises QuotaExceeded."""
        if state == "active":
            self._check_room(db, room, user)
        make = postgresql.insert if db.dialect.name == "postgresql" else sqlite.insert
        values = {"state": state, "role": role, "since": self.server.clock.wall()}
        statement = make(members).values(room=room, user=user, **values)
        db.execute(statement.on_conflict_do_update(index_elements=["room", "user"], set_=values))

    def _check_room(self, db: Any, room: str, user: str) -> None:
        active = members.c.state == "active"
        inside = select(func.count()).select_from(members).where(members.c.room == room, active)
        if db.execute(inside).scalar_one() >= self.config.max_members:
            raise QuotaExceeded("This room is full")
        mine = select(func.count()).select_from(members).where(members.c.user == user, active)
        if db.execute(mine).scalar_one() >= self.config.max_rooms:
            raise QuotaExceeded(f"Nobody is in more than {self.config.max_rooms} rooms at once")

    @staticmethod
    def dismiss(db: Any, room: str, user: str) -> None:
        """Remove a membership."""
        db.execute(delete(members).where(members.c.room == room, members.c.user == user))

    def check_owner_stays(self, db: Any, room: str, leaving: str) -> None:
        """Raises PreconditionFailed where nobody else owns the room, and somebody would be left without an owner."""
        others = and_(members.c.room == room, members.c.state == "active", members.c.user != leaving)
        roles = set(db.execute(select(members.c.role).where(others).distinct()).scalars())
        if roles and "owner" not in roles:
            raise PreconditionFailed("The last owner can't go; make somebody an owner, or delete the room")

    def settle(self, call: Call, db: Any, invitation: Row[Any], state: str, at: float | None = None) -> None:
        """Answer an invitation: the one way out of `pending`. Raises ResourceConflict when it is answered already."""
        done = db.execute(
            update(invitations)
            .where(invitations.c.id == invitation.id, invitations.c.state == "pending")
            .values(state=state, answered=at or self.server.clock.wall())
        )
        if not done.rowcount:
            raise ResourceConflict("This invitation was answered at the same moment")
        call.publish(
            "invitation.changed", invitation=invitation.id, room=invitation.room, user=invitation.user, state=state
        )


def me(call: Call) -> User:
    """Who calls, where `requires` has made sure that somebody does. Raises AuthorizationDenied."""
    if call.user is None:
        raise AuthorizationDenied
    return call.user
