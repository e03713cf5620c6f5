"""Invitations: pending until accepted, declined, revoked or expired, and no other way."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Row, func, insert, select
from tidegate import Call, User, command
from tidegate.faults import (
    InvalidValue,
    PermissionDenied,
    QuotaExceeded,
    ResourceConflict,
    ResourceGone,
    ResourceNotFound,
    UnsupportedOperation,
    ValueOutOfRange,
)

from tidegate_chat.base import AFTER, CORE, LIMIT, RANKS, READ, ROOM, USER, me
from tidegate_chat.people import People
from tidegate_chat.tables import invitations, members, rooms
from tidegate_chat.texts import limit_of

INVITATION = {"type": "string", "required": True, "meta": {"is": "uuid", "help": "Its id."}}
ANSWERED = (ResourceConflict, ResourceGone, ResourceNotFound)


class Invitations(People):
    """The commands `invitation.*`."""

    @command(
        "invitation.create",
        params={
            "room": ROOM,
            "user": USER,
            "expires_s": {
                "type": "integer",
                "min": 60,
                "meta": {"help": "How long it waits for its answer.", "unit": "s"},
            },
        },
        requires="user",
        transaction=CORE,
        faults=(ResourceConflict, PermissionDenied),
        rate="60/minute",
    )
    def create(self, call: Call, db: Any, room: str, user: str, expires_s: int | None = None) -> dict[str, Any]:
        """Invite somebody: the invitation and their pending membership, or neither.

        Members invite into public rooms, administrators into private ones.
        """
        row, _ = self.inside(call, db, room, lock=True)
        return self.invite(call, db, row, self.person(user), expires_s)

    def invite(self, call: Call, db: Any, room: Row[Any], person: User, expires_s: int | None = None) -> dict[str, Any]:
        """In a locked room of which the caller is a member. Raises a Fault."""
        if room.pair is not None:
            raise UnsupportedOperation("A conversation of two stays one of two")
        ttl_s = self.config.invitation_ttl_s if expires_s is None else expires_s
        if not 60 <= ttl_s <= self.config.invitation_ttl_s:
            raise ValueOutOfRange(f"60 to {self.config.invitation_ttl_s} s are expected", field="params.expires_s")
        mine = self.membership(db, room.id, me(call).id)
        if room.private and (mine is None or RANKS[mine.role] < RANKS["admin"]):
            raise PermissionDenied("Only an admin of the room invites into it")
        member = self.membership(db, room.id, person.id)
        if member is not None:
            if member.state == "banned":
                raise PermissionDenied("They were banned from this room")
            inside = "are in this room" if member.state == "active" else "are invited"
            raise ResourceConflict(f"They {inside} already", field="params.user")
        waiting = select(func.count()).where(invitations.c.room == room.id, invitations.c.state == "pending")
        if db.execute(waiting).scalar_one() >= self.config.max_invitations:
            raise QuotaExceeded("Too many invitations of this room wait for an answer")
        at = self.server.clock.wall()
        values = {
            "id": self.server.new_id(),
            "room": room.id,
            "user": person.id,
            "inviter": me(call).id,
            "state": "pending",
            "created": at,
            "expires": at + ttl_s,
        }
        db.execute(insert(invitations).values(**values))
        self.enrol(db, room.id, person.id, "pending")
        call.publish("invitation.changed", invitation=values["id"], room=room.id, user=person.id, state="pending")
        told = {**values, "room_name": room.name, "inviter_name": me(call).name}
        call.on_commit(lambda: self.feeds.push_to([person.id], "event.invitation", told))
        return values

    def pending(self, db: Any, room: str, user: str) -> Row[Any]:
        """Somebody's invitation that waits for its answer. Raises ResourceGone."""
        query = select(invitations).where(
            invitations.c.room == room, invitations.c.user == user, invitations.c.state == "pending"
        )
        found: Row[Any] | None = db.execute(query).first()
        if found is None or found.expires <= self.server.clock.wall():
            raise ResourceGone("This invitation has expired")
        return found

    def enter(self, call: Call, db: Any, room: Row[Any]) -> dict[str, Any]:
        """Make the caller a member, tell it, and say where the room is."""
        self.enrol(db, room.id, me(call).id, "active")
        seq, at = self.append(call, db, room.id, "joined", user=me(call).id, role="member")
        return {"room": room.id, "name": room.name, "seq": seq, "at": at}

    def _open(self, call: Call, db: Any, invitation: str) -> tuple[Row[Any], Row[Any]]:
        """One that waits for its answer, and its room, locked. Raises ResourceNotFound, or how it was answered."""
        query = select(invitations).where(invitations.c.id == invitation)
        found = db.execute(query).first()
        if found is None:
            raise ResourceNotFound("There is no such invitation", field="params.invitation")
        room = db.execute(select(rooms).where(rooms.c.id == found.room).with_for_update()).first()
        found = db.execute(query).first()  # as it is now that nobody else can answer it
        if found is None or room is None:
            raise ResourceNotFound("There is no such invitation", field="params.invitation")
        mine = found.user == me(call).id
        if not mine and found.inviter != me(call).id:
            member = self.membership(db, found.room, me(call).id)
            if self.rank(call, room, member) < RANKS["admin"]:
                raise ResourceNotFound("There is no such invitation", field="params.invitation")
        self.feeds.expect(room.id, room.seq + 1)
        if found.state == "accepted":
            raise ResourceConflict("This invitation was accepted already")
        if found.state != "pending":
            raise ResourceGone(
                f"This invitation was {found.state}" if found.state != "expired" else "This invitation has expired"
            )
        if found.expires <= self.server.clock.wall():
            raise ResourceGone("This invitation has expired")
        return found, room

    @command("invitation.accept", params={"invitation": INVITATION}, requires="user", transaction=CORE, faults=ANSWERED)
    def accept(self, call: Call, db: Any, invitation: str) -> dict[str, Any]:
        """Become a member of the room to which you were invited."""
        found, room = self._open(call, db, invitation)
        if found.user != me(call).id:
            raise PermissionDenied("Only who was invited can accept")
        self.settle(call, db, found, "accepted")
        self._tell(call, found, room, "accepted")
        return self.enter(call, db, room)

    @command(
        "invitation.decline", params={"invitation": INVITATION}, requires="user", transaction=CORE, faults=ANSWERED
    )
    def decline(self, call: Call, db: Any, invitation: str) -> bool:
        """Say no; the pending membership goes."""
        found, room = self._open(call, db, invitation)
        if found.user != me(call).id:
            raise PermissionDenied("Only who was invited can decline")
        self._take_back(call, db, found, room, "declined")
        return True

    @command("invitation.revoke", params={"invitation": INVITATION}, requires="user", transaction=CORE, faults=ANSWERED)
    def revoke(self, call: Call, db: Any, invitation: str) -> bool:
        """Take back an invitation of yours, or of a room in which you are an administrator."""
        found, room = self._open(call, db, invitation)
        member = self.membership(db, room.id, me(call).id)
        if found.inviter != me(call).id and self.rank(call, room, member) < RANKS["admin"]:
            raise PermissionDenied("Only who invited, or an admin of the room, can revoke")
        self._take_back(call, db, found, room, "revoked")
        return True

    def _take_back(self, call: Call, db: Any, invitation: Row[Any], room: Row[Any], state: str) -> None:
        self.settle(call, db, invitation, state)
        self.dismiss(db, invitation.room, invitation.user)
        self._tell(call, invitation, room, state)

    def _tell(self, call: Call, invitation: Row[Any], room: Row[Any], state: str) -> None:
        """Push the answer to both sides."""
        told = {
            "id": invitation.id,
            "room": invitation.room,
            "room_name": room.name,
            "user": invitation.user,
            "inviter": invitation.inviter,
            "state": state,
        }
        both = {invitation.user, invitation.inviter}
        call.on_commit(lambda: self.feeds.push_to(both, "event.invitation", told, spare=call.connection))

    @command(
        "invitation.list",
        params={
            "scope": {
                "type": "string",
                "allowed": ["received", "sent"],
                "meta": {"profile": "identifier", "help": "To you, or by you."},
            },
            "room": {**ROOM, "required": False},
            "after": AFTER,
            "limit": LIMIT,
        },
        requires="user",
        transaction=READ,
    )
    def list_invitations(
        self, call: Call, db: Any, scope: str = "received", room: str = "", after: str | None = None, limit: int = 50
    ) -> dict[str, Any]:
        """List invitations that wait for an answer, the oldest first: to you, by you, or of your room."""
        query = select(invitations, rooms.c.name.label("room_name")).join_from(
            invitations, rooms, rooms.c.id == invitations.c.room
        )
        now = self.server.clock.wall()
        query = query.where(invitations.c.state == "pending", invitations.c.expires > now)
        if room:
            row, member = self.find(call, db, room)
            if self.rank(call, row, member) < RANKS["admin"]:
                raise PermissionDenied("Only an admin of the room sees its invitations")
            query = query.where(invitations.c.room == row.id)
        elif scope == "received":
            query = query.where(invitations.c.user == me(call).id)
        elif scope == "sent":
            query = query.where(invitations.c.inviter == me(call).id)
        else:
            raise InvalidValue("Expected received or sent", field="params.scope")
        if after is not None:
            query = query.where(invitations.c.id > after)
        rows = db.execute(query.order_by(invitations.c.id).limit(limit_of(limit) + 1)).all()
        return {
            "invitations": [
                {**row._mapping, "inviter_name": self.called(row.inviter), "user_name": self.called(row.user)}
                for row in rows[:limit]
            ],
            "next": rows[limit - 1].id if len(rows) > limit else None,
        }

    # --- the time --------------------------------------------------------------------------------

    def expire(self) -> None:
        """Runs as long as the server: ends invitations that nobody answered."""
        while True:
            self.server.clock.sleep(30.0)
            try:
                while self._expire_some():
                    pass
            except Exception as error:
                self.log.warning("invitations can't expire: %s", self.server.fault_of(error))

    def _expire_some(self) -> int:
        now = self.server.clock.wall()
        over = select(invitations).where(invitations.c.state == "pending", invitations.c.expires <= now).limit(100)
        with self.reading() as db:
            rows = db.execute(over.order_by(invitations.c.id)).all()
        for row in rows:
            with self.writing() as db:
                db.execute(select(rooms.c.id).where(rooms.c.id == row.room).with_for_update())
                done = db.execute(
                    invitations.update()
                    .where(invitations.c.id == row.id, invitations.c.state == "pending")
                    .values(state="expired", answered=now)
                )
                if done.rowcount:
                    db.execute(
                        members.delete().where(
                            members.c.room == row.room, members.c.user == row.user, members.c.state == "pending"
                        )
                    )
            if done.rowcount:
                self.server.publish(
                    "invitation.changed", invitation=row.id, room=row.room, user=row.user, state="expired"
                )
                told = {"id": row.id, "room": row.room, "user": row.user, "inviter": row.inviter, "state": "expired"}
                self.feeds.push_to({row.user, row.inviter}, "event.invitation", told)
        return len(rows)
