"""What one types after a slash."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tidegate_chat.terminal.app import App
    from tidegate_chat.terminal.model import Room

#: Command -> (its words, what it does)
COMMANDS: dict[str, tuple[str, str]] = {
    "help": ("", "this list"),
    "rooms": ("[TEXT]", "public rooms"),
    "join": ("ROOM", "enter a room"),
    "leave": ("", "go out of this room"),
    "go": ("ROOM", "show a room of yours"),
    "create": ("NAME", "open a public room"),
    "private": ("NAME", "open a private room"),
    "invite": ("USER", "invite somebody into this room"),
    "invitations": ("", "what waits for your answer"),
    "accept": ("ROOM", "accept an invitation"),
    "decline": ("ROOM", "decline one"),
    "msg": ("USER TEXT", "say something to one person"),
    "edit": ("TEXT", "change what you said last in this room"),
    "delete": ("", "take back what you said last in this room"),
    "search": ("WORDS", "find messages"),
    "topic": ("TEXT", "what this room is about"),
    "kick": ("USER", "put somebody out of this room"),
    "role": ("USER ROLE", "make somebody owner, admin or member"),
    "users": ("[TEXT]", "people by name"),
    "who": ("USER", "somebody's profile"),
    "away": ("[TEXT]", "say that you are away"),
    "online": ("", "say that you are back"),
    "logout": ("", "end the session and leave"),
    "quit": ("", "leave; the session stays"),
}
#: After these another room is on the screen.
MOVES = frozenset({"join", "leave", "go", "create", "private", "accept", "msg"})


class Commands:
    """Runs them in the app's working thread; a Fault is shown by the app."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._room: Room | None = None

    def run(self, text: str, room: Room | None) -> None:
        """`join lobby`, typed while `room` was on the screen. Raises Fault and OSError."""
        self._room = room
        name, _, rest = text.partition(" ")
        if name not in COMMANDS:
            return self._app.note(f"No command /{name}; /help lists them", "class:problem")
        words, _ = COMMANDS[name]
        rest = rest.strip()
        if words and not words.startswith("[") and len(rest.split(None, words.count(" "))) <= words.count(" "):
            return self._app.note(f"/{name} {words}", "class:problem")
        act: Callable[[str], None] = getattr(self, f"_{name}")
        act(rest)

    def _call(self, method: str, **params: Any) -> Any:
        return self._app.session.client.call(method, params or None)

    def _here(self) -> Room:
        if self._room is None:
            raise ValueError("there is no room on the screen")
        return self._room

    def _enter(self, id: str) -> None:
        with self._app._lock:
            room = self._app.view.rooms.get(id) or self._app.view.enter(id)
        self._app.go(room)

    def _help(self, rest: str) -> None:
        for name, (words, does) in COMMANDS.items():
            self._app.note(f"/{name} {words}".ljust(20) + f" {does}")

    def _rooms(self, rest: str) -> None:
        found = self._call("room.list", scope="public", text=rest, limit=50)
        for room in found["rooms"]:
            inside = " (you are in it)" if room["inside"] else ""
            self._app.note(f"{room['name']}  {room['members']} members{inside}  {room['topic']}")
        if not found["rooms"]:
            self._app.note("No such public room; /create NAME opens one")
        elif found["next"]:
            self._app.note("… and more; /rooms TEXT shows those that begin so")

    def _join(self, rest: str) -> None:
        self._enter(self._call("room.join", room=rest)["room"])

    def _leave(self, rest: str) -> None:
        self._call("room.leave", room=self._here().id)

    def _go(self, rest: str) -> None:
        key = rest.casefold()
        rooms = self._app.ordered()
        found = [room for room in rooms if room.name.casefold() == key]
        found += [room for room in rooms if room.name.casefold().removeprefix("@").startswith(key)]
        if found:
            self._app.go(found[0])
        else:
            self._app.note(f"You are in no room {rest}; /join {rest} enters it", "class:problem")

    def _create(self, rest: str) -> None:
        self._enter(self._call("room.create", name=rest)["id"])

    def _private(self, rest: str) -> None:
        self._enter(self._call("room.create", name=rest, private=True)["id"])

    def _invite(self, rest: str) -> None:
        self._call("invitation.create", room=self._here().id, user=rest)
        self._app.note(f"{rest} is invited")

    def _invitations(self, rest: str) -> None:
        found = self._call("invitation.list")["invitations"]
        for one in found:
            self._app.note(f"{one['inviter_name']} invites you into {one['room_name']}: /accept {one['room_name']}")
        if not found:
            self._app.note("Nobody has invited you")

    def _answer(self, verb: str, rest: str) -> Any:
        found = self._call("invitation.list")["invitations"]
        mine = [one for one in found if rest in (one["room_name"], one["id"])]
        if not mine:
            raise ValueError(f"there is no invitation into {rest}")
        done = self._call(f"invitation.{verb}", invitation=mine[0]["id"])
        self._app.invitations.pop(mine[0]["id"], None)
        return done

    def _accept(self, rest: str) -> None:
        self._enter(self._answer("accept", rest)["room"])

    def _decline(self, rest: str) -> None:
        self._answer("decline", rest)
        self._app.note(f"You declined {rest}")

    def _msg(self, rest: str) -> None:
        user, text = rest.split(None, 1)
        said = self._call("direct.send", user=user, text=text)
        self._enter(said["room"])

    def _last(self) -> str:
        me = self._app.session.user["id"]
        mine = [m for m in self._here().messages.values() if m["author"] == me and not m["deleted"]]
        if not mine:
            raise ValueError("you have said nothing here")
        return str(mine[-1]["id"])

    def _edit(self, rest: str) -> None:
        self._call("message.edit", message=self._last(), text=rest)

    def _delete(self, rest: str) -> None:
        self._call("message.delete", message=self._last())

    def _search(self, rest: str) -> None:
        found = self._call("message.search", text=rest, limit=20)["messages"]
        for one in reversed(found):
            day = time.strftime("%d %b %H:%M", time.localtime(one["at"]))
            where = one["room_name"] or "two of you"
            self._app.note(f"{day} {where} <{one['author_name']}> {one['snippet']}", "class:mark")
        self._app.note(f"{len(found)} found" if found else f"Nothing found for {rest}")

    def _topic(self, rest: str) -> None:
        self._call("room.update", room=self._here().id, topic=rest)

    def _kick(self, rest: str) -> None:
        self._call("room.kick", room=self._here().id, user=rest)

    def _role(self, rest: str) -> None:
        user, role = rest.split(None, 1)
        self._call("room.set_role", room=self._here().id, user=user, role=role)

    def _users(self, rest: str) -> None:
        for user in self._call("user.list", text=rest)["users"]:
            self._app.note(f"{user['name']}  {user['presence']}")

    def _who(self, rest: str) -> None:
        profile = self._call("user.profile", user=rest)
        presence = profile["presence"]
        said = f"{presence['state']} {presence['text']}".strip()
        self._app.note(f"{profile['name']}  {profile['display']}  {profile['role']}  {said}  {profile['about']}")

    def _away(self, rest: str) -> None:
        self._call("presence.set", state="away", text=rest)
        self._app.note("You are away")

    def _online(self, rest: str) -> None:
        self._call("presence.set", state="online")
        self._app.note("You are back")

    def _logout(self, rest: str) -> None:
        self._app.session.log_out()
        self._quit(rest)

    def _quit(self, rest: str) -> None:
        loop = self._app.app.loop
        if loop is not None:
            loop.call_soon_threadsafe(self._app.app.exit)
