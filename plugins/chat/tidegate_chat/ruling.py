"""Ruling a room: its name and topic, its members' roles, and who has to go."""

from __future__ import annotations

from typing import Any

from sqlalchemy import update
from sqlalchemy.exc import IntegrityError
from tidegate import Call, command
from tidegate.faults import InvalidValue, PermissionDenied, PreconditionFailed, ResourceConflict, ResourceNotFound

from tidegate_chat.base import CORE, LONG, RANKS, REASON, ROOM, USER, me
from tidegate_chat.rooms import NAME, PRIVATE, TOPIC, Rooms
from tidegate_chat.tables import members, rooms
from tidegate_chat.texts import key_of, name_of, text_of

ROLE = {"type": "string", "required": True, "allowed": list(RANKS), "meta": {"profile": "identifier"}}


class Ruling(Rooms):
    """The commands of `room.*` for its administrators and owners."""

    @command(
        "room.update",
        params={"room": ROOM, "name": NAME, "topic": TOPIC, "private": PRIVATE},
        requires="user",
        transaction=CORE,
        faults=(ResourceConflict, PermissionDenied),
    )
    def update_room(
        self,
        call: Call,
        db: Any,
        room: str,
        name: str | None = None,
        topic: str | None = None,
        private: bool | None = None,
    ) -> dict[str, Any]:
        """Change a room's name, topic or privacy; what is left out stays."""
        row, _ = self.ruled(call, db, room, "admin")
        new: dict[str, Any] = {
            "name": name_of(name) if name is not None else row.name,
            "topic": text_of(topic, "topic", 500) if topic is not None else row.topic,
            "private": private if private is not None else row.private,
        }
        try:
            db.execute(update(rooms).where(rooms.c.id == row.id).values(**new, key=key_of(new["name"])))
        except IntegrityError as error:
            raise ResourceConflict("There is a room of this name", field="params.name") from error
        seq, at = self.append(call, db, row.id, "updated", **new)
        return {"room": row.id, **new, "seq": seq, "at": at}

    @command(
        "room.delete",
        params={"room": ROOM, "reason": REASON},
        requires="user",
        transaction=LONG,
        faults=(PermissionDenied,),
    )
    def delete_room(self, call: Call, db: Any, room: str, reason: str = "") -> bool:
        """Delete a room of yours with all that was said in it."""
        row, _ = self.ruled(call, db, room, "owner")
        self.remove(call, db, row.id)
        return True

    @command(
        "room.set_role",
        params={"room": ROOM, "user": USER, "role": ROLE},
        requires="user",
        transaction=CORE,
        faults=(PreconditionFailed, PermissionDenied),
    )
    def set_role(self, call: Call, db: Any, room: str, user: str, role: str) -> dict[str, Any]:
        """Make a member of your room an owner, an administrator, or a plain member."""
        if role not in RANKS:
            raise InvalidValue(f"A role is one of {', '.join(RANKS)}", field="params.role")
        row, _ = self.ruled(call, db, room, "owner")
        other = self._other(db, row.id, user, "active")
        if other.role == "owner" and role != "owner":
            self.check_owner_stays(db, row.id, other.user)
        db.execute(update(members).where(members.c.room == row.id, members.c.user == other.user).values(role=role))
        seq, at = self.append(call, db, row.id, "role", user=other.user, role=role)
        return {"room": row.id, "user": other.user, "role": role, "seq": seq, "at": at}

    def _other(self, db: Any, room: str, user: str, *states: str) -> Any:
        """Somebody's membership. Raises ResourceNotFound."""
        found = self.membership(db, room, self.person(user).id)
        if found is None or found.state not in states:
            raise ResourceNotFound("They are not in this room", field="params.user")
        return found

    @command(
        "room.kick",
        params={"room": ROOM, "user": USER, "reason": REASON},
        requires="user",
        transaction=CORE,
        faults=(PermissionDenied,),
    )
    def kick(self, call: Call, db: Any, room: str, user: str, reason: str = "") -> dict[str, Any]:
        """Put a member of lower rank out of a room; they may come back."""
        row, rank = self.ruled(call, db, room, "admin")
        other = self._other(db, row.id, user, "active")
        self._check_below(other, rank, me(call).id)
        self.dismiss(db, row.id, other.user)
        return self._without(call, db, row.id, "kicked", other.user, reason=text_of(reason, "reason", 500))

    @command(
        "room.ban",
        params={"room": ROOM, "user": USER, "reason": REASON},
        requires="user",
        transaction=CORE,
        faults=(PermissionDenied,),
    )
    def ban(self, call: Call, db: Any, room: str, user: str, reason: str = "") -> dict[str, Any]:
        """Put somebody out of a room for good; who is no member yet can't become one."""
        row, rank = self.ruled(call, db, room, "admin")
        person = self.person(user)
        other = self.membership(db, row.id, person.id)
        if other is not None:
            if other.state == "banned":
                raise ResourceConflict("They are banned already")
            self._check_below(other, rank, me(call).id)
            if other.state == "pending":
                self.settle(call, db, self.pending(db, row.id, person.id), "revoked")
        self.enrol(db, row.id, person.id, "banned")
        return self._without(call, db, row.id, "banned", person.id, reason=text_of(reason, "reason", 500))

    @command(
        "room.unban", params={"room": ROOM, "user": USER}, requires="user", transaction=CORE, faults=(PermissionDenied,)
    )
    def unban(self, call: Call, db: Any, room: str, user: str) -> dict[str, Any]:
        """Let somebody who was banned become a member again."""
        row, _ = self.ruled(call, db, room, "admin")
        other = self._other(db, row.id, user, "banned")
        self.dismiss(db, row.id, other.user)
        seq, at = self.append(call, db, row.id, "unbanned", user=other.user)
        return {"room": row.id, "seq": seq, "at": at}

    @staticmethod
    def _check_below(other: Any, rank: int, me: str) -> None:
        if other.user == me:
            raise InvalidValue("Use room.leave to go yourself", field="params.user")
        if other.state == "active" and RANKS[other.role] >= rank:
            raise PermissionDenied("They have the same rank as you, or a higher one")
