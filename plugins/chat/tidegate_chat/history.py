"""Events and messages as clients get them, read from the database."""

from __future__ import annotations

from typing import Any

import msgspec
from sqlalchemy import select

from tidegate_chat.tables import events, messages

_decode = msgspec.json.Decoder().decode
encode = msgspec.json.Encoder().encode
#: These say what a message says; the log of events does not keep it.
SPEAKING = frozenset({"message", "edited"})


def events_after(db: Any, room: str, seq: int, limit: int) -> list[dict[str, Any]]:
    """The events that follow `seq`, with what their messages say now; `"deleted": true` where that is nothing more."""
    said = (messages.c.text, messages.c.deleted, messages.c.reply_to)
    query = (
        select(events, *said)
        .select_from(events.outerjoin(messages, messages.c.id == events.c.message))
        .where(events.c.room == room, events.c.seq > seq)
        .order_by(events.c.seq)
        .limit(limit)
    )
    found = []
    for row in db.execute(query):
        data = _decode(row.data)
        if row.message is not None:
            data["id"] = row.message
        if row.kind in SPEAKING:
            data["text"] = row.text or ""
            if row.kind == "message":
                data["reply_to"] = row.reply_to
            if row.deleted is not None or row.text is None:
                data["deleted"] = True
        found.append(
            {"room": row.room, "seq": row.seq, "kind": row.kind, "actor": row.actor, "at": row.at, "data": data}
        )
    return found


def message(row: Any) -> dict[str, Any]:
    """A message as replies show it."""
    return {
        "id": row.id,
        "room": row.room,
        "seq": row.seq,
        "author": row.author,
        "text": row.text,
        "reply_to": row.reply_to,
        "at": row.created,
        "edited": row.edited,
        "deleted": row.deleted is not None,
    }
