"""What a client knows of its rooms: snapshots and events, applied in order; a gap is seen, never hidden."""

from __future__ import annotations

from typing import Any

Event = dict[str, Any]
PAGE = 100  # messages that are fetched at once
KEPT = 5000  # messages of a room; older ones are fetched again when somebody scrolls there
FAR = 1000  # events behind: the room is read anew, not event by event


class Room:
    """One room as this client sees it."""

    def __init__(self, id: str) -> None:
        self.id = id
        self.name = ""
        self.topic = ""
        self.private = False
        self.direct = False
        self.seq = 0  # the last event that is in what stands here
        self.unread = 0
        self.members: dict[str, str] = {}  # user id -> role
        self.messages: dict[str, dict[str, Any]] = {}  # by id, in order
        self.older: int | None = None  # there are messages before this event that are not here
        self.gone = False

    def prepend(self, page: dict[str, Any]) -> None:
        """Take a page of older messages."""
        self.messages = {one["id"]: one for one in page["messages"]} | self.messages
        self.older = page["next"]

    def apply(self, event: Event) -> bool:
        """Take an event; one that is known already changes nothing. False: some before it are missing."""
        if event["seq"] <= self.seq:
            return True
        if event["seq"] != self.seq + 1:
            return False
        self.seq = event["seq"]
        getattr(self, f"_{event['kind']}", self._other)(event, event["data"])
        return True

    def _other(self, event: Event, data: dict[str, Any]) -> None:
        """Of a kind that changes nothing here, such as `unbanned`, or that a newer server has."""

    def _created(self, event: Event, data: dict[str, Any]) -> None:
        self._updated(event, data)
        self.members[event["actor"]] = "member" if self.direct or not data["name"] else "owner"

    def _updated(self, event: Event, data: dict[str, Any]) -> None:
        self.name, self.topic, self.private = data["name"], data["topic"], data["private"]

    def _deleted(self, event: Event, data: dict[str, Any]) -> None:
        self.gone = True

    def _joined(self, event: Event, data: dict[str, Any]) -> None:
        self.members[data["user"]] = data["role"]

    _role = _joined

    def _left(self, event: Event, data: dict[str, Any]) -> None:
        self.members.pop(data["user"], None)

    _kicked = _banned = _left

    def _message(self, event: Event, data: dict[str, Any]) -> None:
        self.messages[data["id"]] = {
            "id": data["id"],
            "seq": event["seq"],
            "author": event["actor"],
            "text": data["text"],
            "reply_to": data["reply_to"],
            "at": event["at"],
            "edited": None,
            "deleted": data.get("deleted", False),
        }
        while len(self.messages) > KEPT:
            del self.messages[next(iter(self.messages))]
            self.older = next(iter(self.messages.values()))["seq"]

    def _edited(self, event: Event, data: dict[str, Any]) -> None:
        if (message := self.messages.get(data["id"])) is not None and not message["deleted"]:
            message.update(text=data["text"], edited=event["at"], deleted=data.get("deleted", False))

    def _erased(self, event: Event, data: dict[str, Any]) -> None:
        if (message := self.messages.get(data["id"])) is not None:
            message.update(text="", deleted=True)

    def _forgotten(self, event: Event, data: dict[str, Any]) -> None:
        self.members.pop(data["user"], None)
        if data["owner"] is not None:
            self.members[data["owner"]] = "owner"
        for message in self.messages.values():
            if message["author"] == data["user"]:
                message.update(text="", deleted=True)


class View:
    """All rooms of one client, kept up to date over any callable `call(method, params)`."""

    def __init__(self, call: Any) -> None:
        self.call = call
        self.rooms: dict[str, Room] = {}
        self.names: dict[str, str] = {}

    def name(self, user: str) -> str:
        return self.names.get(user, "somebody")

    def refresh(self) -> None:
        """After a connect: which rooms there are; what was missed in them is fetched. May block."""
        listed = self._listed()
        for id in list(self.rooms):
            if id not in listed:
                del self.rooms[id]
        for id, one in listed.items():
            room = self.rooms.get(id)
            if room is None or one["seq"] - room.seq > FAR:
                room = self._enter(id, one)
            else:
                self.catch_up(room)
            room.unread = one["unread"]

    def _listed(self) -> dict[str, dict[str, Any]]:
        listed, after = {}, None
        while True:
            page = self.call("room.list", {"limit": 200, **({"after": after} if after else {})})
            listed.update({one["id"]: one for one in page["rooms"]})
            after = page["next"]
            if after is None:
                return listed

    def enter(self, id: str) -> Room:
        """A room that is new here, with its last messages. May block."""
        return self._enter(id, self._listed().get(id))

    def _enter(self, id: str, listed: dict[str, Any] | None) -> Room:
        room = Room(id)
        if listed is not None:
            room.name, room.topic, room.private = listed["name"], listed["topic"], listed["private"]
            room.direct = listed["direct"]
            if room.direct:
                room.name = f"@{listed['with']['name'] or 'somebody'}"
        page = self.page(room)
        room.prepend(page)
        room.seq = page["seq"]
        after = None
        # What the pages know more than `seq` says comes again as events, and ends up the same.
        while True:
            found = self.call("room.members", {"room": id, "limit": 200, **({"after": after} if after else {})})
            for one in found["members"]:
                room.members[one["user"]] = one["role"]
                if one["name"]:
                    self.names[one["user"]] = one["name"]
            after = found["next"]
            if after is None:
                break
        self.rooms[id] = room
        return room

    def page(self, room: Room) -> dict[str, Any]:
        """The messages before those that are here, or the last ones, for `room.prepend`. May block."""
        before = {} if room.older is None else {"before": room.older}
        page: dict[str, Any] = self.call("message.history", {"room": room.id, "limit": PAGE, **before})
        self.names.update({one["author"]: one["author_name"] for one in page["messages"] if one["author_name"]})
        return page

    def catch_up(self, room: Room) -> None:
        """Fetch what happened since. May block."""
        while True:
            page = self.call("room.since", {"room": room.id, "seq": room.seq})
            for event in page["events"]:
                self._learn(event)
                room.apply(event)
            if not page["more"]:
                return

    def take(self, event: Event, me: str) -> Room | None:
        """A pushed event. May block, to fetch what is missing before it."""
        self._learn(event)
        room = self.rooms.get(event["room"])
        leaves = event["kind"] in ("left", "kicked", "banned") and event["data"].get("user") == me
        if leaves or event["kind"] == "deleted":
            return self.rooms.pop(event["room"], None)
        if room is None:
            return self.enter(event["room"])
        if not room.apply(event):
            self.catch_up(room)
        return room

    def _learn(self, event: Event) -> None:
        if event.get("by"):
            self.names[event["actor"]] = event["by"]
