"""The terminal client: rooms on the left, what is said in the middle, who is there on the right, one line to write."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any

from prompt_toolkit.application import Application
from prompt_toolkit.buffer import Buffer
from prompt_toolkit.completion import ConditionalCompleter, WordCompleter
from prompt_toolkit.document import Document
from prompt_toolkit.filters import Condition
from prompt_toolkit.formatted_text import StyleAndTextTuples
from prompt_toolkit.history import InMemoryHistory
from prompt_toolkit.key_binding import KeyBindings
from prompt_toolkit.layout import Float, FloatContainer, HSplit, Layout, VSplit, Window
from prompt_toolkit.layout.controls import BufferControl, FormattedTextControl
from prompt_toolkit.layout.dimension import Dimension
from prompt_toolkit.layout.menus import CompletionsMenu
from prompt_toolkit.styles import Style
from tidegate import Fault

from tidegate_chat.terminal.commands import COMMANDS, Commands
from tidegate_chat.terminal.model import Room, View
from tidegate_chat.terminal.rows import Line, printable, wrapped
from tidegate_chat.terminal.session import Session

STYLE = Style.from_dict(
    {
        "title": "reverse",
        "here": "bold underline",
        "unread": "bold ansiyellow",
        "author": "bold ansicyan",
        "me": "bold ansigreen",
        "time": "ansibrightblack",
        "note": "italic ansibrightblack",
        "problem": "ansired",
        "mark": "bold ansiyellow",
    }
)
RETRY_S = (0.5, 1.0, 2.0, 5.0)  # between attempts to connect anew
TYPING_S = 4.0  # so long somebody is shown as writing
READ_S = 1.0  # between two notes of what was read


class App:
    """One screen. Calls run in a thread, in order; pushes come in another; the screen waits for neither."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.view = View(lambda method, params: session.client.call(method, params))
        self.room: Room | None = None
        self.notes: deque[tuple[float, Line]] = deque(maxlen=200)
        self.state = "connecting"
        self.back = 0  # lines scrolled back
        self.presence: dict[str, str] = {}
        self.typing: dict[str, dict[str, float]] = {}
        self.invitations: dict[str, dict[str, Any]] = {}
        self._lock = threading.RLock()
        self._jobs: SimpleQueue[Callable[[], object] | None] = SimpleQueue()
        self._typed = 0.0
        self._read: dict[str, int] = {}
        self.commands = Commands(self)
        self.input = Buffer(
            multiline=False,
            history=InMemoryHistory(),
            # Asked after a quick Enter too, when the line is empty again: then all would be offered.
            completer=ConditionalCompleter(
                WordCompleter([f"/{name}" for name in COMMANDS], sentence=True),
                Condition(lambda: self.input.text.startswith("/")),
            ),
            complete_while_typing=True,
            accept_handler=self._entered,
            on_text_changed=lambda _: self._types(),
        )
        self.app: Application[None] = Application(
            layout=self._layout(), key_bindings=self._keys(), style=STYLE, full_screen=True, refresh_interval=1.0
        )

    def run(self) -> None:
        """Until the user leaves."""
        for work in (self._work, self._listen):
            threading.Thread(target=work, daemon=True).start()
        self.app.run()
        self._jobs.put(None)
        self.session.client.close()

    # --- the screen ------------------------------------------------------------------------------

    def _layout(self) -> Layout:
        def pane(draw: Callable[[], StyleAndTextTuples], **options: Any) -> Window:
            return Window(FormattedTextControl(draw), **options)

        def line() -> Window:
            return Window(width=1, char="\N{BOX DRAWINGS LIGHT VERTICAL}", style="class:time")

        writing = BufferControl(self.input, focus_on_click=True)
        middle = VSplit(
            [
                pane(self._draw_rooms, width=Dimension(min=12, max=24, preferred=20)),
                line(),
                pane(self._draw_messages, wrap_lines=False),
                line(),
                pane(self._draw_members, width=Dimension(min=10, max=20, preferred=16)),
            ]
        )
        prompt = VSplit([Window(FormattedTextControl("> "), width=2), Window(writing, height=1)])
        rows = [
            pane(self._draw_title, height=1, style="class:title"),
            middle,
            pane(self._draw_status, height=1),
            prompt,
        ]
        menu = Float(CompletionsMenu(max_height=8), xcursor=True, ycursor=True)
        return Layout(FloatContainer(HSplit(rows), [menu]), focused_element=writing)

    def _draw_title(self) -> StyleAndTextTuples:
        room = self.room
        where = f"{room.name}  {room.topic}" if room is not None else "no room yet: /join NAME, /create NAME, /rooms"
        return [("", f" {printable(where)}".ljust(500))]

    def _draw_rooms(self) -> StyleAndTextTuples:
        found: StyleAndTextTuples = []
        with self._lock:
            for room in self.ordered():
                style = "class:here" if room is self.room else "class:unread" if room.unread else ""
                count = f" {room.unread}" if room.unread and room is not self.room else ""
                found.append((style, f"{printable(room.name)}{count}\n"))
            for invitation in self.invitations.values():
                found.append(("class:mark", f"? {printable(invitation['room_name'])}\n"))
        return found

    def ordered(self) -> list[Room]:
        """Rooms first, then conversations, by name."""
        return sorted(self.view.rooms.values(), key=lambda room: (room.direct, room.name.casefold()))

    def _draw_members(self) -> StyleAndTextTuples:
        found: StyleAndTextTuples = []
        with self._lock:
            if self.room is None:
                return found
            ranks = {"owner": "*", "admin": "+", "member": " "}
            rows = sorted((self.view.name(user).casefold(), user, role) for user, role in self.room.members.items())
            for _, user, role in rows:
                state = self.presence.get(user, "offline")
                style = "class:time" if state == "offline" else "" if state == "online" else "class:note"
                found.append((style, f"{ranks[role]}{printable(self.view.name(user))}\n"))
        return found

    def _draw_messages(self) -> StyleAndTextTuples:
        size = self.app.output.get_size()
        width, height = max(size.columns - 42, 20), max(size.rows - 3, 1)
        with self._lock:
            items = [(at, line) for at, line in self.notes]
            if self.room is not None:
                last = list(self.room.messages.values())[-(height + self.back + 50) :]
                items += [(message["at"], self._line(message)) for message in last]
        items.sort(key=lambda item: item[0])
        rows = [row for _, line in items for row in wrapped(line, width)]
        self.back = max(0, min(self.back, len(rows) - height))
        shown = rows[len(rows) - height - self.back if len(rows) > height + self.back else 0 : len(rows) - self.back]
        found: StyleAndTextTuples = [("", "\n" * (height - len(shown)))]
        for row in shown:
            found += [*row, ("", "\n")]
        return found

    def _line(self, message: dict[str, Any]) -> Line:
        clock = time.strftime("%H:%M", time.localtime(message["at"]))
        mine = message["author"] == self.session.user["id"]
        head: Line = [
            ("class:time", f"{clock} "),
            ("class:me" if mine else "class:author", self.view.name(message["author"])),
        ]
        if message["deleted"]:
            return [*head, ("class:note", " (deleted)")]
        edited: Line = [("class:note", " (edited)")] if message["edited"] else []
        return [*head, ("", f" {printable(message['text'])}"), *edited]

    def _draw_status(self) -> StyleAndTextTuples:
        now = time.monotonic()
        with self._lock:
            who = [n for n, until in self.typing.get(self.room.id if self.room else "", {}).items() if until > now]
        style = "class:problem" if self.state != "connected" else "class:time"
        found: StyleAndTextTuples = [(style, f" {self.session.user.get('name', '')} {self.state}")]
        if who:
            found.append(("class:note", f"   {', '.join(map(printable, who[:3]))} writing…"))
        if self.back:
            found.append(("class:mark", f"   {self.back} lines further down"))
        found.append(("class:time", "   Tab or Alt-↑↓ room  PgUp PgDn  /help  Ctrl-D leave"))
        return found

    def _keys(self) -> KeyBindings:
        keys = KeyBindings()
        keys.add("c-d")(lambda event: event.app.exit())
        keys.add("c-c")(lambda event: self.input.reset() if self.input.text else event.app.exit())
        keys.add("escape", "down")(lambda event: self.step(1))
        keys.add("escape", "up")(lambda event: self.step(-1))
        keys.add("pageup")(lambda event: self._scroll(10))
        keys.add("pagedown")(lambda event: self._scroll(-10))

        @keys.add("tab")
        def _(event: Any) -> None:
            if self.input.text.startswith("/"):
                self.input.complete_next() if self.input.complete_state else self.input.start_completion(True)
            else:
                self.step(1)

        return keys

    def _scroll(self, lines: int) -> None:
        self.back = max(0, self.back + lines)

    # --- what the user does ----------------------------------------------------------------------

    def step(self, by: int) -> None:
        """To the next room, or the one before."""
        with self._lock:
            rooms = self.ordered()
            if rooms:
                place = rooms.index(self.room) if self.room in rooms else -1
                self.go(rooms[(place + by) % len(rooms)])

    def go(self, room: Room | None) -> None:
        """Show a room."""
        self.room, self.back = room, 0
        if room is not None:
            self._seen(room)
        self.app.invalidate()

    def _seen(self, room: Room) -> None:
        room.unread = 0
        if self._read.get(room.id, 0) < room.seq:
            self._read[room.id] = room.seq
            self.do(lambda: self.session.client.call("room.read", room=room.id, seq=room.seq))

    def _types(self) -> None:
        room, now = self.room, time.monotonic()
        if (
            room is not None
            and self.input.text
            and not self.input.text.startswith("/")
            and now - self._typed > TYPING_S
        ):
            self._typed = now
            self.do(lambda: self.session.client.call("typing", room=room.id))

    def _entered(self, buffer: Buffer) -> bool:
        text, room = buffer.text.strip(), self.room
        self.back = 0
        if text.startswith("/") and not text.startswith("//"):
            self.do(lambda: self.commands.run(text[1:]))
        elif text and room is not None:
            said = text.removeprefix("/") if text.startswith("//") else text
            self.do(lambda: self._say(room, said))
        elif text:
            self.note("Join a room first: /rooms shows them, /join NAME enters one", "class:problem")
        return False

    def _say(self, room: Room, text: str) -> None:
        from uuid import uuid4

        key, params = uuid4().hex, {"room": room.id, "text": text}
        for attempt in range(4):  # with a key a repeat is never said twice
            try:
                self.session.client.request("message.send", params, idempotency_key=key)
                return
            except OSError:
                if attempt == 3:
                    if not self.input.text:
                        self.input.document = Document(text)
                    raise
                time.sleep(RETRY_S[attempt])

    def note(self, text: str, style: str = "class:note") -> None:
        """Say something to the user alone."""
        with self._lock:
            self.notes.append((time.time(), [(style, printable(text))]))
        self.app.invalidate()

    def do(self, job: Callable[[], object]) -> None:
        """Run it after what was asked before; the screen does not wait."""
        self._jobs.put(job)

    # --- the two threads -------------------------------------------------------------------------

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            try:
                job()
            except Fault as fault:
                self.note(f"{fault.message} ({fault.code})", "class:problem")
            except OSError as error:
                self.note(f"not sent: {error.strerror or error}", "class:problem")
            except Exception as error:  # the screen stays, whatever was typed
                self.note(f"{type(error).__name__}: {error}", "class:problem")
            self.app.invalidate()

    def _listen(self) -> None:
        failures = 0
        while True:
            try:
                self._catch_up()
                failures, self.state = 0, "connected"
                self.app.invalidate()
                for push in self.session.client.pushes():
                    self._heard(push.method, push.params)
                    self.app.invalidate()
            except (OSError, Fault) as error:
                if self.session.client._closed:
                    return
                self.state = (
                    f"connecting anew: {error.message if isinstance(error, Fault) else error.strerror or error}"
                )
                self.app.invalidate()
                time.sleep(RETRY_S[min(failures, len(RETRY_S) - 1)])
                failures += 1

    def _catch_up(self) -> None:
        """Everything as it is now; pushes that come meanwhile are applied afterwards."""
        call = self.session.client.call
        call("system.ping")
        self.view.refresh()
        listed = call("invitation.list")["invitations"]
        with self._lock:
            self.invitations = {one["id"]: one for one in listed}
            rooms = self.ordered()
        for room in rooms:
            for one in call("room.members", room=room.id)["members"]:
                self.presence[one["user"]] = one["presence"]
        if self.room is None or self.room.id not in self.view.rooms:
            self.go(rooms[0] if rooms else None)

    def _heard(self, method: str, params: dict[str, Any]) -> None:
        if method == "event.room":
            self._happened(params)
        elif method == "event.presence":
            self.presence[params["user"]] = params["state"]
        elif method == "event.typing":
            with self._lock:
                self.typing.setdefault(params["room"], {})[params["name"]] = time.monotonic() + TYPING_S
        elif method == "event.read":
            if (room := self.view.rooms.get(params["room"])) is not None and params["seq"] >= room.seq:
                room.unread = 0
        elif method == "event.invitation":
            self._invited(params)
        elif method == "event.shutdown":
            self.note("The server is shutting down")

    def _happened(self, event: dict[str, Any]) -> None:
        me = self.session.user["id"]
        with self._lock:
            room = self.view.take(event, me)
            if room is None:
                return
            if room.id not in self.view.rooms:
                self.note(f"You are no longer in {room.name}")
                if room is self.room:
                    rooms = self.ordered()
                    self.go(rooms[0] if rooms else None)
                return
            if event["kind"] == "message":
                self.typing.get(room.id, {}).pop(event.get("by") or "", None)
                if room is not self.room and event["actor"] != me:
                    room.unread += 1
            if room is self.room:
                self._seen(room)

    def _invited(self, invitation: dict[str, Any]) -> None:
        mine = invitation["user"] == self.session.user["id"]
        with self._lock:
            self.invitations.pop(invitation["id"], None)
            if mine and invitation["state"] == "pending":
                self.invitations[invitation["id"]] = invitation
        name = invitation.get("room_name", "a room")
        if mine and invitation["state"] == "pending":
            self.note(
                f"{invitation['inviter_name']} invites you into {name}: /accept {name} or /decline {name}", "class:mark"
            )
        elif invitation["state"] != "pending":
            self.note(f"The invitation into {name} was {invitation['state']}")
