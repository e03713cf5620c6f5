"""Keeping up with a room: read markers, and what happened while one was away; and several operations as one."""

from __future__ import annotations

from typing import Any

from sqlalchemy import and_, update
from tidegate import Call, Fault, command
from tidegate.faults import InvalidValue, TooManyItems

from tidegate_chat.base import CORE, LIMIT, LONG, MAX_SEQ, READ, ROOM
from tidegate_chat.history import events_after
from tidegate_chat.ruling import Ruling
from tidegate_chat.tables import members
from tidegate_chat.texts import limit_of

SEQ = {"type": "integer", "required": True, "min": 0, "max": MAX_SEQ, "meta": {"help": "The number of an event."}}
#: What a batch may hold.
IN_BATCHES = frozenset(
    {
        *("room.create", "room.join", "room.leave", "room.update", "room.delete", "room.set_role", "room.kick"),
        *("room.ban", "room.unban", "room.read", "invitation.create", "invitation.accept", "invitation.decline"),
        "invitation.revoke",
    }
)
MOST_IN_A_BATCH = 50


class Keeping(Ruling):
    """The commands `room.read`, `room.since` and `room.batch`."""

    @command("room.read", params={"room": ROOM, "seq": SEQ}, requires="user", transaction=CORE)
    def read(self, call: Call, db: Any, room: str, seq: int) -> dict[str, Any]:
        """Say that you have seen everything up to `seq`; it never goes back. Your other connections are told."""
        row, member = self.inside(call, db, room)
        mine = and_(members.c.room == row.id, members.c.user == member.user)
        seq = min(seq, row.seq)
        done = db.execute(update(members).where(mine, members.c.read < seq).values(read=seq))
        if done.rowcount:
            call.on_commit(
                lambda: self.feeds.push_to(
                    [member.user], "event.read", {"room": row.id, "seq": seq}, spare=call.connection
                )
            )
        return {"room": row.id, "seq": max(seq, member.read)}

    @command(
        "room.since",
        params={"room": ROOM, "seq": SEQ, "limit": {**LIMIT, "max": 500}},
        requires="user",
        transaction=READ,
    )
    def since(self, call: Call, db: Any, room: str, seq: int, limit: int = 500) -> dict[str, Any]:
        """What happened after the event `seq`, in order and without a gap; `more` when there is more to ask for.

        `seq` of the reply is the room's last event: who has that one has everything.
        """
        row, _ = self.inside(call, db, room)
        found = self.with_names(events_after(db, row.id, seq, limit_of(limit, 500)))
        last = found[-1]["seq"] if found else seq
        return {"room": row.id, "events": found, "seq": row.seq, "more": last < row.seq and bool(found)}

    # --- several at once -------------------------------------------------------------------------

    @command(
        "room.batch",
        params={
            "operations": {
                "type": "list",
                "required": True,
                "minlength": 1,
                "maxlength": MOST_IN_A_BATCH,
                "schema": {
                    "type": "dict",
                    "schema": {
                        "method": {
                            "type": "string",
                            "required": True,
                            "allowed": sorted(IN_BATCHES),
                            "meta": {"profile": "identifier"},
                        },
                        "params": {"type": "dict", "allow_unknown": True, "meta": {"profile": "structured"}},
                    },
                },
                "meta": {"help": 'Such as [{"method": "room.create", "params": {"name": "news"}}].'},
            }
        },
        requires="user",
        transaction=LONG,
    )
    def batch(self, call: Call, operations: list) -> list[Any]:  # type: ignore[type-arg]
        """Do several operations on rooms and invitations, all of them or none; their results in order.

        The first that fails undoes all; the error's `operation` is its place.
        """
        if not 1 <= len(operations) <= MOST_IN_A_BATCH:
            raise TooManyItems(f"A batch has 1 to {MOST_IN_A_BATCH} operations", field="params.operations")
        results = []
        for place, operation in enumerate(operations):
            method, params = self._operation(place, operation)
            try:
                results.append(self.server.call(method, params, connection=call.connection, user=call.user))
            except Fault as fault:
                fault.data["operation"] = place
                raise
        return results

    @staticmethod
    def _operation(place: int, operation: Any) -> tuple[str, dict[str, Any]]:
        field = f"params.operations.{place}"
        if not isinstance(operation, dict) or not isinstance(operation.get("params", {}), dict):
            raise InvalidValue("An operation has a method and params", field=field)
        method = operation.get("method")
        if method not in IN_BATCHES:
            raise InvalidValue(f"A batch may hold {', '.join(sorted(IN_BATCHES))}", field=f"{field}.method")
        return method, operation.get("params", {})
