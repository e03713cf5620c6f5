"""The terminal client: what one types, what the server tells, and keys."""

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
from prompt_toolkit.history import InMemoryHistory
from prompt_toolkit.key_binding import KeyBindings
from tidegate import Fault

from tidegate_chat.terminal.commands import COMMANDS, MOVES, Commands
from tidegate_chat.terminal.model import Room, View
from tidegate_chat.terminal.rows import STYLE, Line, printable
from tidegate_chat.terminal.screen import Screen
from tidegate_chat.terminal.session import Session

RETRY_S = (0.5, 1.0, 2.0, 5.0)  # between attempts to connect anew
TYPING_S = 4.0  # so long somebody is shown as writing


class App(Screen):
    """One screen. Calls run in a thread, in order; pushes come in another; the screen waits for neither."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.view = View(lambda method, params: session.client.call(method, params))
        self.room: Room | None = None
        self.notes: deque[tuple[float, Line]] = deque(maxlen=200)
        self.state = "connecting"
        self.back = 0  # lines scrolled back
        self.top = False  # and no more is here
        self._fetching = False  # older messages
        self._moves = 0  # commands under way that lead into another room
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

    # --- what the user does ----------------------------------------------------------------------

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
        room = self.room
        if lines > 0 and self.top and not self._fetching and room is not None and room.older is not None:
            self._fetching = True
            self.do(lambda: self._fetch_older(room))

    def _fetch_older(self, room: Room) -> None:
        try:
            page = self.view.page(room)
            with self._lock:
                room.prepend(page)
        finally:
            self._fetching = False

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
        if self.state == "connected" and self._read.get(room.id, 0) < room.seq:
            self._read[room.id] = room.seq
            self._tell("room.read", room=room.id, seq=room.seq)

    def _tell(self, method: str, **params: Any) -> None:
        """What the user did not ask for: it is done when it can be, and nothing is said when it can't."""

        def job() -> None:
            try:
                self.session.client.call(method, params)
            except (Fault, OSError):
                self._read.pop(params["room"], None)

        if self.state == "connected":
            self.do(job)

    def _types(self) -> None:
        room, now = self.room, time.monotonic()
        if (
            room is not None
            and self.input.text
            and not self.input.text.startswith("/")
            and now - self._typed > TYPING_S
        ):
            self._typed = now
            self._tell("typing", room=room.id)

    def _entered(self, buffer: Buffer) -> bool:
        text = buffer.text.strip()
        self.back = 0
        # Meant for the room on the screen; while a move is under way, for that to which it leads.
        room = None if self._moves else self.room
        if text.startswith("/") and not text.startswith("//"):
            moves = text[1:].partition(" ")[0] in MOVES
            with self._lock:
                self._moves += moves
            self.do(lambda: self._run(text[1:], room, moves))
        elif text:
            self.do(lambda: self._say(room or self.room, text.removeprefix("/")))
        return False

    def _run(self, text: str, room: Room | None, moves: bool) -> None:
        try:
            self.commands.run(text, room or self.room)
        finally:
            with self._lock:
                self._moves -= moves

    def _say(self, room: Room | None, text: str) -> None:
        from uuid import uuid4

        if room is None:
            return self.note("Join a room first: /rooms shows them, /join NAME enters one", "class:problem")
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
            except ValueError as error:  # ours, from a command
                self.note(str(error), "class:problem")
            except Exception as error:  # the screen stays, whatever was typed
                self.note(f"{type(error).__name__}: {error}", "class:problem")
            self.app.invalidate()

    def _listen(self) -> None:
        failures = 0
        while True:
            try:
                self._catch_up()
                failures, self.state = 0, "connected"
                if self.room is not None:
                    self._seen(self.room)
                self.app.invalidate()
                for push in self.session.client.pushes():
                    self._heard(push.method, push.params)
                    self.app.invalidate()
            except (OSError, Fault) as error:
                if self.session.client.closed:
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
