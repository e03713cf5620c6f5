"""Messages: sending, editing, deleting and reading them, in rooms and between two."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Row, delete, func, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite
from tidegate import Call, command
from tidegate.faults import InvalidValue, PermissionDenied, ResourceGone, ResourceNotFound

from tidegate_chat.base import CORE, MAX_SEQ, RANKS, READ, ROOM, USER, me
from tidegate_chat.history import message
from tidegate_chat.keeping import Keeping
from tidegate_chat.tables import edits, messages, rooms
from tidegate_chat.texts import limit_of, text_of
from tidegate_chat.words import plain

TEXT = {"type": "string", "required": True, "meta": {"is": "text", "help": "At most `max_text` characters."}}
MESSAGE = {"type": "string", "required": True, "meta": {"is": "uuid", "help": "Its id."}}
REPLY_TO = {"type": "string", "meta": {"is": "uuid", "help": "The message that it answers."}}
PAGE = {
    "before": {"type": "integer", "min": 1, "max": MAX_SEQ, "meta": {"help": "Only messages before this event."}},
    "after": {"type": "integer", "min": 0, "max": MAX_SEQ, "meta": {"help": "Only messages after this event."}},
    "limit": {"type": "integer", "min": 1, "max": 200, "meta": {"help": "How many on a page."}},
}
_SAID = insert(messages)  # made once, as those of base.py


class Messages(Keeping):
    """The commands `message.*` and `direct.*`."""

    @command(
        "message.send",
        params={"room": ROOM, "text": TEXT, "reply_to": REPLY_TO},
        requires="user",
        transaction=CORE,
        faults=(PermissionDenied, ResourceNotFound),
        rate="120/minute",
    )
    def send(self, call: Call, db: Any, room: str, text: str, reply_to: str | None = None) -> dict[str, Any]:
        """Say something in a room; everybody in it gets it, in the order of `seq`."""
        text = text_of(text, "text", self.config.max_text, 1)
        row, _ = self.inside(call, db, room, lock=True)
        return self.say(call, db, row.id, text, reply_to)

    def say(self, call: Call, db: Any, room: str, text: str, reply_to: str | None) -> dict[str, Any]:
        """In a locked room of which the caller is a member."""
        if reply_to is not None:
            same = select(messages.c.n).where(messages.c.id == reply_to, messages.c.room == room)
            if db.execute(same).first() is None:
                raise ResourceNotFound("There is no such message in this room", field="params.reply_to")
        id = self.server.new_id()
        seq, at = self.append(call, db, room, "message", id, text=text, reply_to=reply_to)
        row = {"id": id, "room": room, "seq": seq, "author": me(call).id, "created": at}
        db.execute(_SAID, {**row, "text": text, "words": plain(text), "reply_to": reply_to})
        return {"id": id, "room": room, "seq": seq, "at": at}

    def _written(self, call: Call, db: Any, id: str) -> tuple[Row[Any], Row[Any], Row[Any]]:
        """A message, its room, locked, and the caller's membership. Raises ResourceNotFound, ResourceGone."""
        query = select(messages).where(messages.c.id == id)
        found = db.execute(query).first()
        if found is None:
            raise ResourceNotFound("There is no such message", field="params.message")
        room, member = self.inside(call, db, found.room, lock=True)
        found = db.execute(query).first()
        if found is None or found.deleted is not None:
            raise ResourceGone("This message was deleted")
        return found, room, member

    @command(
        "message.edit",
        params={"message": MESSAGE, "text": TEXT},
        requires="user",
        transaction=CORE,
        faults=(PermissionDenied, ResourceGone),
    )
    def edit(self, call: Call, db: Any, message: str, text: str) -> dict[str, Any]:
        """Change what you said; what it said before stays readable (message.edits)."""
        text = text_of(text, "text", self.config.max_text, 1)
        found, room, _ = self._written(call, db, message)
        if found.author != me(call).id:
            raise PermissionDenied("Only its author changes a message")
        count = db.execute(select(func.count()).select_from(edits).where(edits.c.message == message)).scalar_one()
        seq, at = self.append(call, db, room.id, "edited", message, text=text)
        db.execute(insert(edits).values(message=message, version=count + 1, text=found.text, at=at))
        db.execute(update(messages).where(messages.c.id == message).values(text=text, words=plain(text), edited=at))
        return {"id": message, "room": room.id, "seq": seq, "at": at, "version": count + 2}

    @command(
        "message.delete",
        params={"message": MESSAGE},
        requires="user",
        transaction=CORE,
        faults=(PermissionDenied, ResourceGone),
    )
    def delete(self, call: Call, db: Any, message: str) -> dict[str, Any]:
        """Take back what you said, or what was said in a room that you administer; a tombstone stays, not the text."""
        found, room, member = self._written(call, db, message)
        if found.author != me(call).id and (room.pair is not None or self.rank(call, room, member) < RANKS["admin"]):
            raise PermissionDenied("Only its author, or an admin of the room, deletes a message")
        seq, at = self.append(call, db, room.id, "erased", message)
        db.execute(delete(edits).where(edits.c.message == message))
        db.execute(update(messages).where(messages.c.id == message).values(text="", words="", deleted=at))
        return {"id": message, "room": room.id, "seq": seq, "at": at}

    @command("message.edits", params={"message": MESSAGE}, requires="user", transaction=READ)
    def edits(self, call: Call, db: Any, message: str) -> list[dict[str, Any]]:
        """What a message said, the oldest version first, the present one last."""
        found = db.execute(select(messages).where(messages.c.id == message)).first()
        if found is None:
            raise ResourceNotFound("There is no such message", field="params.message")
        self.inside(call, db, found.room)
        if found.deleted is not None:
            raise ResourceGone("This message was deleted")
        rows = db.execute(select(edits).where(edits.c.message == message).order_by(edits.c.version)).all()
        began = [found.created, *(row.at for row in rows)]
        return [
            {"text": text, "at": at} for text, at in zip([*(row.text for row in rows), found.text], began, strict=True)
        ]

    @command("message.history", params={"room": ROOM, **PAGE}, requires="user", transaction=READ)
    def history(
        self, call: Call, db: Any, room: str, before: int | None = None, after: int | None = None, limit: int = 50
    ) -> dict[str, Any]:
        """The last messages of a room, or those before or after an event; the oldest first, tombstones too.

        `next` goes on in the same direction; `seq` is the room's last event, of which this is the state.
        """
        row, _ = self.inside(call, db, room)
        return self._page(db, row, before, after, limit)

    def _page(self, db: Any, room: Row[Any], before: int | None, after: int | None, limit: int) -> dict[str, Any]:
        if before is not None and after is not None:
            raise InvalidValue("Give before or after, not both", field="params.after")
        query = select(messages).where(messages.c.room == room.id).limit(limit_of(limit) + 1)
        if after is not None:
            query = query.where(messages.c.seq > after).order_by(messages.c.seq)
        else:
            query = query.order_by(messages.c.seq.desc())
            if before is not None:
                query = query.where(messages.c.seq < before)
        rows = db.execute(query).all()
        more, rows = len(rows) > limit, rows[:limit]
        next = rows[-1].seq if more else None
        if after is None:
            rows = rows[::-1]
        names = {author: self.called(author) for author in {row.author for row in rows}}
        return {
            "room": room.id,
            "seq": room.seq,
            "messages": [{**message(row), "author_name": names[row.author]} for row in rows],
            "next": next,
        }

    # --- between two -----------------------------------------------------------------------------

    @command(
        "direct.send",
        params={"user": USER, "text": TEXT, "reply_to": REPLY_TO},
        requires="user",
        transaction=CORE,
        rate="120/minute",
    )
    def send_direct(self, call: Call, db: Any, user: str, text: str, reply_to: str | None = None) -> dict[str, Any]:
        """Say something to one person; the conversation is a room of two, made by its first message."""
        text = text_of(text, "text", self.config.max_text, 1)
        mine, person = me(call).id, self.person(user)
        if person.id == mine:
            raise InvalidValue("Nobody talks to themselves here", field="params.user")
        room = self._conversation(call, db, mine, person.id)
        return {**self.say(call, db, room, text, reply_to), "user": person.id}

    def _conversation(self, call: Call, db: Any, one: str, other: str) -> str:
        """The room of two, locked; made where there is none, once however many ask."""
        pair, id = pair_of(one, other), self.server.new_id()
        make = postgresql.insert if db.dialect.name == "postgresql" else sqlite.insert
        values = {"id": id, "name": "", "pair": pair, "private": True, "created": self.server.clock.wall()}
        db.execute(make(rooms).values(**values).on_conflict_do_nothing(index_elements=["pair"]))
        row = db.execute(select(rooms).where(rooms.c.pair == pair).with_for_update()).one()
        self.feeds.expect(row.id, row.seq + 1)
        if row.id == id:
            for user in (one, other):
                self.enrol(db, id, user, "active")
            self.append(call, db, id, "created", name="", topic="", private=True)
            self.append(call, db, id, "joined", user=other, role="member")
        return str(row.id)

    @command("direct.history", params={"user": USER, **PAGE}, requires="user", transaction=READ)
    def direct_history(
        self, call: Call, db: Any, user: str, before: int | None = None, after: int | None = None, limit: int = 50
    ) -> dict[str, Any]:
        """The last messages between you and one person; as message.history. `room` is null before the first one."""
        person = self.person(user)
        row = db.execute(select(rooms).where(rooms.c.pair == pair_of(me(call).id, person.id))).first()
        if row is None:
            return {"room": None, "seq": 0, "messages": [], "next": None}
        return self._page(db, row, before, after, limit)


def pair_of(one: str, other: str) -> str:
    """What names the conversation of two."""
    return ":".join(sorted((one, other)))
