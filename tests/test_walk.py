"""The way of one call through the rooms, as data, held against a real call."""

from __future__ import annotations

import sys

from tidegate import Plugin, command, hookimpl

# room, function, what comes in and goes out
WALK = [
    ("socket", "SocketConnection._loop", "readable -> bytes"),
    ("codec", "JsonLines.feed", "bytes -> requests"),
    ("dispatch", "Calls.dispatch", "Call -> result or fault, always"),
    ("observe", "Observe.tidegate_decorate.<locals>.observe", "go on, or a fault"),
    ("admit", "Admit.tidegate_decorate.<locals>.admit", "go on, or a fault"),
    ("check", "check_of", "go on, or a fault"),
    ("scope", "Scope.tidegate_decorate.<locals>.scope", "go on, or a fault"),
    ("heart", "look", "parameters as keywords -> result"),
    ("facts", "Calls._finished", "the Call -> those who listen"),
    ("codec", "JsonLines.reply", "result -> bytes"),
    ("outbox", "SocketConnection.send", "all of a read -> one write"),
]
ROOMS = [function for _, function, _ in WALK]
PASSED: list[str] = []


class Observe(Plugin):
    ring = "observe"

    @hookimpl
    def tidegate_decorate(self, command, proceed):
        def observe(call):
            return proceed(call)

        return observe


class Scope(Plugin):
    ring = "scope"

    @hookimpl
    def tidegate_decorate(self, command, proceed):
        def scope(call):
            return proceed(call)

        return scope


@command("walk.begin")
def begin() -> None:
    def note(frame, event, argument) -> None:
        name = frame.f_code.co_qualname
        if event == "call":  # a closure counts as the function that made it
            PASSED.extend(room for room in ROOMS if name == room or name.startswith(f"{room}.<locals>"))

    sys.setprofile(note)


@command("walk.look", requires="admin", scope="read")
def look(x: int, y: int = 0) -> int:
    return x


@command("walk.end")
def end() -> None:
    sys.setprofile(None)


def test_a_call_passes_these_rooms_in_this_order(inside):
    server = inside(plugins={"observe": Observe, "scope": Scope}, commands=[begin, look, end])
    with server.raw_admin() as door:
        door.ask("walk.begin")
        PASSED.clear()
        assert door.ask("walk.look", [7])["result"] == 7
        passed = PASSED[:]
        door.ask("walk.end")
    # The loop itself runs all the time; the profile sees only what it calls.
    assert passed[: len(ROOMS) - 1] == ROOMS[1:]
