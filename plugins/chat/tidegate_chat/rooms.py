"""Rooms: making them, entering and leaving them, and finding them."""

from __future__ import annotations

from typing import Any

from sqlalchemy import delete, exists, func, insert, literal, select
from sqlalchemy.exc import IntegrityError
from tidegate import Call, command
from tidegate.faults import (
    InvalidValue,
    PermissionDenied,
    PreconditionFailed,
    ResourceConflict,
    TooManyItems,
    UnsupportedOperation,
)

from tidegate_chat.base import AFTER, CORE, LIMIT, LONG, READ, ROOM, me
from tidegate_chat.invitations import Invitations
from tidegate_chat.tables import invitations, members, messages, rooms
from tidegate_chat.texts import key_of, limit_of, name_of, text_of

NAME = {"type": "string", "meta": {"is": "room_name", "help": "1 to 64 characters, unlike all others."}}
TOPIC = {"type": "string", "maxlength": 500, "meta": {"is": "text", "help": "What it is about."}}
PRIVATE = {"type": "boolean", "meta": {"help": "Whether one needs an invitation."}}
MANY = 1000  # unread messages are not counted further


class Rooms(Invitations):
    """The commands `room.*`."""

    @command(
        "room.create",
        params={
            "name": {**NAME, "required": True},
            "topic": TOPIC,
            "private": PRIVATE,
            "invite": {
                "type": "list",
                "maxlength": 50,
                "schema": {"type": "string", "maxlength": 128},
                "meta": {"help": "Whom, by id or name."},
            },
        },
        requires="user",
        transaction=CORE,
        faults=(ResourceConflict,),
        rate="30/minute",
    )
    def create_room(
        self,
        call: Call,
        db: Any,
        name: str,
        topic: str = "",
        private: bool = False,
        invite: list | None = None,  # type: ignore[type-arg]
    ) -> dict[str, Any]:
        """Open a room, owned by you, and invite people: all of it or nothing."""
        name, topic = name_of(name), text_of(topic, "topic", 500)
        if len(invite or ()) > 50:
            raise TooManyItems("At most 50 people are invited at once", field="params.invite")
        room, owner = self.server.new_id(), me(call).id
        values = {"id": room, "name": name, "key": key_of(name), "topic": topic, "private": private}
        try:
            db.execute(insert(rooms).values(**values, created=self.server.clock.wall()))
        except IntegrityError as error:
            raise ResourceConflict("There is a room of this name", field="params.name") from error
        self.enrol(db, room, owner, "active", "owner")
        seq, at = self.append(call, db, room, "created", name=name, topic=topic, private=private)
        row, _ = self.inside(call, db, room)
        made = [self.invite(call, db, row, self.person(str(user), "params.invite")) for user in invite or ()]
        return {"id": room, "name": name, "seq": seq, "at": at, "invitations": made}

    @command(
        "room.join",
        params={"room": ROOM},
        requires="user",
        transaction=CORE,
        faults=(ResourceConflict, PermissionDenied),
    )
    def join(self, call: Call, db: Any, room: str) -> dict[str, Any]:
        """Enter a public room, or one to which you are invited."""
        row, member = self.find(call, db, room, lock=True)
        if member is not None and member.state == "active":
            raise ResourceConflict("You are in this room already")
        if member is not None and member.state == "banned":
            raise PermissionDenied("You were banned from this room")
        if member is not None:
            self.settle(call, db, self.pending(db, row.id, me(call).id), "accepted")
        return self.enter(call, db, row)

    @command("room.leave", params={"room": ROOM}, requires="user", transaction=LONG, faults=(PreconditionFailed,))
    def leave(self, call: Call, db: Any, room: str) -> dict[str, Any]:
        """Go out of a room; its last owner can't while others are in it. Without anybody in it a room is deleted."""
        row, member = self.inside(call, db, room, lock=True)
        if row.pair is not None:
            raise UnsupportedOperation("A conversation of two can't be left")
        self.check_owner_stays(db, row.id, member.user)
        self.dismiss(db, row.id, member.user)
        return self._without(call, db, row.id, "left", member.user)

    def _without(self, call: Call, db: Any, room: str, kind: str, user: str, **data: Any) -> dict[str, Any]:
        """Tell that somebody is no member any more; without any the room goes."""
        seq, at = self.append(call, db, room, kind, user=user, **data)
        anybody = select(members.c.user).where(members.c.room == room, members.c.state == "active").limit(1)
        if db.execute(anybody).first() is None:
            self.remove(call, db, room)
        return {"room": room, "seq": seq, "at": at}

    def remove(self, call: Call, db: Any, room: str) -> None:
        """Delete a room with all that is in it."""
        waiting = select(invitations).where(invitations.c.room == room, invitations.c.state == "pending")
        for invitation in db.execute(waiting).all():
            self.settle(call, db, invitation, "revoked")
        self.append(call, db, room, "deleted")
        db.execute(delete(rooms).where(rooms.c.id == room))

    @command(
        "room.list",
        params={
            "scope": {
                "type": "string",
                "allowed": ["mine", "public"],
                "meta": {"profile": "identifier", "help": "Where you are, or what there is."},
            },
            "text": {
                "type": "string",
                "maxlength": 64,
                "meta": {"profile": "identifier", "help": "How the name begins."},
            },
            "after": AFTER,
            "limit": LIMIT,
        },
        requires="user",
        transaction=READ,
    )
    def rooms(
        self, call: Call, db: Any, scope: str = "mine", text: str = "", after: str | None = None, limit: int = 50
    ) -> dict[str, Any]:
        """List rooms a page at a time: yours with their unread messages, or the public ones by name."""
        limit_of(limit)
        if scope == "mine":
            return self._mine(call, db, after, limit)
        if scope != "public":
            raise InvalidValue("Expected mine or public", field="params.scope")
        count = (
            select(func.count())
            .select_from(members)
            .where(members.c.room == rooms.c.id, members.c.state == "active")
            .scalar_subquery()
        )
        inside = exists().where(
            members.c.room == rooms.c.id, members.c.user == me(call).id, members.c.state == "active"
        )
        query = select(rooms, count.label("members"), inside.label("inside")).where(
            rooms.c.private.is_(False), rooms.c.key.is_not(None)
        )
        if text:
            query = query.where(rooms.c.key.startswith(key_of(text), autoescape=True))
        if after is not None:
            query = query.where(rooms.c.key > after)
        rows = db.execute(query.order_by(rooms.c.key).limit(limit + 1)).all()
        return {
            "rooms": [{**shown(row), "members": row.members, "inside": bool(row.inside)} for row in rows[:limit]],
            "next": rows[limit - 1].key if len(rows) > limit else None,
        }

    def _mine(self, call: Call, db: Any, after: str | None, limit: int) -> dict[str, Any]:
        user = me(call).id
        new = select(literal(1)).where(
            messages.c.room == rooms.c.id,
            messages.c.seq > members.c.read,
            messages.c.author != user,
            messages.c.deleted.is_(None),
        )
        # PostgreSQL and SQLite both let a limited subquery look at the outer row.
        unread = (
            select(func.count()).select_from(new.limit(MANY).correlate(rooms, members).subquery()).scalar_subquery()
        )
        query = (
            select(rooms, members.c.role, members.c.read, unread.label("unread"))
            .join_from(rooms, members, members.c.room == rooms.c.id)
            .where(members.c.user == user, members.c.state == "active")
        )
        if after is not None:
            query = query.where(rooms.c.id > after)
        rows = db.execute(query.order_by(rooms.c.id).limit(limit + 1)).all()
        found = []
        for row in rows[:limit]:
            other = None
            if row.pair is not None:
                other = next((one for one in row.pair.split(":") if one != user), user)
            with_whom = {"with": {"id": other, "name": self.called(other)}} if other is not None else {}
            found.append({**shown(row), "role": row.role, "read": row.read, "unread": row.unread, **with_whom})
        return {"rooms": found, "next": rows[limit - 1].id if len(rows) > limit else None}

    @command("room.members", params={"room": ROOM, "after": AFTER, "limit": LIMIT}, requires="user", transaction=READ)
    def room_members(
        self, call: Call, db: Any, room: str, after: str | None = None, limit: int = 100
    ) -> dict[str, Any]:
        """List who is in a room, a page at a time."""
        row, member = self.find(call, db, room)
        if row.private and (member is None or member.state != "active"):
            raise PermissionDenied("You are not in this room")
        query = select(members).where(members.c.room == row.id, members.c.state == "active")
        if after is not None:
            query = query.where(members.c.user > after)
        rows = db.execute(query.order_by(members.c.user).limit(limit_of(limit) + 1)).all()
        return {
            "room": row.id,
            "seq": row.seq,
            "members": [
                {
                    "user": one.user,
                    "name": self.called(one.user),
                    "role": one.role,
                    "since": one.since,
                    "presence": self.presence_of(one.user)["state"],
                }
                for one in rows[:limit]
            ],
            "next": rows[limit - 1].user if len(rows) > limit else None,
        }


def shown(row: Any) -> dict[str, Any]:
    """A room as lists show it."""
    return {
        "id": row.id,
        "name": row.name,
        "topic": row.topic,
        "private": row.private,
        "direct": row.pair is not None,
        "seq": row.seq,
        "created": row.created,
    }
