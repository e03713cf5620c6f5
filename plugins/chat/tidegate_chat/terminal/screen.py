"""What stands on the screen: rooms, what is said, who is there, and one line to write."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from threading import RLock
from typing import Any

from prompt_toolkit.application import Application
from prompt_toolkit.buffer import Buffer
from prompt_toolkit.filters import Condition
from prompt_toolkit.formatted_text import StyleAndTextTuples
from prompt_toolkit.layout import ConditionalContainer, Float, FloatContainer, HSplit, Layout, VSplit, Window
from prompt_toolkit.layout.controls import BufferControl, FormattedTextControl
from prompt_toolkit.layout.dimension import Dimension
from prompt_toolkit.layout.menus import CompletionsMenu

from tidegate_chat.terminal.model import Room, View
from tidegate_chat.terminal.rows import Line, printable, wrapped
from tidegate_chat.terminal.session import Session

ROOMS, MEMBERS = 20, 16  # columns of the panes
WITH_ROOMS, WITH_MEMBERS = 60, 84  # columns of a terminal that is wide enough for each


class Screen:
    """Draws what the app knows; never waits for the server."""

    session: Session
    view: View
    app: Application[None]
    input: Buffer
    room: Room | None
    state: str
    notes: deque[tuple[float, Line]]
    presence: dict[str, str]
    typing: dict[str, dict[str, float]]
    invitations: dict[str, dict[str, Any]]
    back: int  # lines scrolled back
    top: bool  # and no more is here
    _lock: RLock

    def _layout(self) -> Layout:
        def pane(draw: Callable[[], StyleAndTextTuples], **options: Any) -> Window:
            return Window(FormattedTextControl(draw), **options)

        def line() -> Window:
            return Window(width=1, char="\N{BOX DRAWINGS LIGHT VERTICAL}", style="class:time")

        def where(least: int, *windows: Window) -> ConditionalContainer:
            return ConditionalContainer(VSplit(windows), Condition(lambda: self._columns() >= least))

        writing = BufferControl(self.input, focus_on_click=True)
        middle = VSplit(
            [
                where(WITH_ROOMS, pane(self._draw_rooms, width=Dimension.exact(ROOMS)), line()),
                pane(self._draw_messages, wrap_lines=False),
                where(WITH_MEMBERS, line(), pane(self._draw_members, width=Dimension.exact(MEMBERS))),
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

    def _columns(self) -> int:
        return self.app.output.get_size().columns

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
        width, height = size.columns - 1, max(size.rows - 3, 1)
        width -= (ROOMS + 1) * (width + 1 >= WITH_ROOMS) + (MEMBERS + 1) * (size.columns >= WITH_MEMBERS)
        with self._lock:
            items = [(at, line) for at, line in self.notes]
            if self.room is not None:
                last = list(self.room.messages.values())[-(height + self.back + 50) :]
                items += [(message["at"], self._line(message)) for message in last]
        items.sort(key=lambda item: item[0])
        rows = [row for _, line in items for row in wrapped(line, width)]
        self.top = self.back >= len(rows) - height
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
            rooms = list(self.view.rooms.values())
        style = "class:problem" if self.state != "connected" else "class:time"
        found: StyleAndTextTuples = [(style, f" {self.session.user.get('name', '')} {self.state}")]
        unread = sum(room.unread for room in rooms if room is not self.room)
        if unread:
            found.append(("class:unread", f"   {unread} unread"))
        if who:
            found.append(("class:note", f"   {', '.join(map(printable, who[:3]))} writing…"))
        if self.back:
            found.append(("class:mark", f"   {self.back} lines further down"))
        found.append(("class:time", "   Tab or Alt-↑↓ room  PgUp PgDn  /help  Ctrl-D leave"))
        return found
