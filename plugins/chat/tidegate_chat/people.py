"""People: who there is, who is here, and who types."""

from __future__ import annotations

from typing import Any

import gevent
from sqlalchemy import select
from tidegate import Call, command
from tidegate.faults import InvalidValue, ResourceNotFound

from tidegate_chat.base import AFTER, LIMIT, READ, ROOM, USER, Base, me
from tidegate_chat.feed import A_TURN_S
from tidegate_chat.tables import members
from tidegate_chat.texts import limit_of, text_of

STATES = ("online", "away", "busy")
LOOK_S = 1.0  # between two looks at who came and went: somebody who flaps is told once
SAID_S = 30 * 86400.0  # how long a presence that somebody set is remembered


class People(Base):
    """The commands `user.*`, `presence.set` and `typing`."""

    presences: Any  # user -> what they said of themselves, in `server.state`
    typists: Any  # a limit
    changed: set[str]  # whose presence is to be told

    def presence_of(self, user: str) -> dict[str, Any]:
        """`{"state": "away", "text": "lunch"}`; offline without a connection. Never switches."""
        if user not in self.server.sessions:
            return {"state": "offline", "text": ""}
        return self.presences.get(user) or {"state": "online", "text": ""}

    @command(
        "user.list",
        params={
            "text": {
                "type": "string",
                "maxlength": 64,
                "meta": {"profile": "identifier", "help": "How the name begins."},
            },
            "after": AFTER,
            "limit": LIMIT,
        },
        requires="user",
    )
    def users(self, text: str = "", after: str | None = None, limit: int = 50) -> dict[str, Any]:
        """List people by name, a page at a time, with their presence."""
        found = self.server.directory.search(text, after, limit_of(limit) + 1)
        return {
            "users": [
                {"id": user.id, "name": user.name, "presence": self.presence_of(user.id)["state"]}
                for user in found[:limit]
            ],
            "next": found[limit - 1].name if len(found) > limit else None,
        }

    @command("user.profile", params={"user": USER}, requires="user")
    def profile(self, user: str) -> dict[str, Any]:
        """Show what somebody says of themselves, and whether they are here."""
        profile = self.server.directory.profile(self.person(user).id)
        if profile is None:
            raise ResourceNotFound("There is no such user", field="params.user")
        return {**profile, "presence": self.presence_of(profile["id"])}

    @command(
        "presence.set",
        params={
            "state": {"type": "string", "required": True, "allowed": list(STATES), "meta": {"profile": "identifier"}},
            "text": {"type": "string", "maxlength": 100, "meta": {"is": "text", "help": "A few words beside it."}},
        },
        requires="user",
        rate="30/minute",
    )
    def set_presence(self, call: Call, state: str, text: str = "") -> dict[str, Any]:
        """Say whether you are here; who shares a room with you is told."""
        if state not in STATES:
            raise InvalidValue(f"Expected one of {', '.join(STATES)}", field="params.state")
        user, said = me(call).id, {"state": state, "text": text_of(text, "text", 100)}

        def tell() -> None:
            self.presences.set(user, said, SAID_S)
            self.changed.add(user)

        call.on_commit(tell)
        return said

    @command("typing", params={"room": ROOM}, requires="user", transaction=READ, rate="60/minute")
    def typing(self, call: Call, db: Any, room: str) -> bool:
        """Tell the others in a room that you are writing; they are told once in three seconds."""
        row, member = self.inside(call, db, room)
        if self.typists.hit(f"{row.id} {member.user}"):
            return False
        others = self.feeds.members_of(row.id)
        if others is None:
            query = select(members.c.user).where(members.c.room == row.id, members.c.state == "active")
            others = set(db.execute(query.limit(self.config.presence_members + 1)).scalars())
        user = me(call)
        if len(others) <= self.config.presence_members:
            told = {"room": row.id, "user": user.id, "name": user.name}
            call.on_commit(lambda: self.feeds.push_to(others - {user.id}, "event.typing", told))
        return True

    # --- who is here -----------------------------------------------------------------------------

    def watch(self) -> None:
        """Runs as long as the server: tells who came and went since the last look."""
        here: set[str] = set()
        while True:
            self.server.clock.sleep(LOOK_S)
            now = set(self.server.sessions)
            changed, self.changed = self.changed | (here ^ now), set()
            here = now
            try:
                for user in sorted(changed):
                    self._tell_presence(user)
                    gevent.sleep(A_TURN_S)  # a thousand may have come at once
            except Exception as error:
                self.log.warning("who is here can't be told: %s", self.server.fault_of(error))

    def _tell_presence(self, user: str) -> None:
        """To everybody who shares a room with them, large rooms aside. Switches."""
        said = self.presence_of(user)
        self.server.publish("presence.changed", user=user, state=said["state"])
        mine = select(members.c.room).where(members.c.user == user, members.c.state == "active")
        with self.reading() as db:
            rooms = list(db.execute(mine).scalars())
        others: set[str] = set()
        for room in rooms:
            held = self.feeds.members_of(room)
            if held is None:
                query = select(members.c.user).where(members.c.room == room, members.c.state == "active")
                with self.reading() as db:
                    held = set(db.execute(query.limit(self.config.presence_members + 1)).scalars())
            if len(held) <= self.config.presence_members:
                others |= held
        others.discard(user)
        self.feeds.push_to(others, "event.presence", {"user": user, "name": self.called(user), **said})
