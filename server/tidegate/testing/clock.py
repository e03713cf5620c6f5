"""Virtual time: a clock that stands still until a test moves it, and a plugin that moves it from outside."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from itertools import count
from typing import Any

import gevent
from gevent.event import Event

from tidegate.clock import Clock, Timer
from tidegate.model import command
from tidegate.plugin import Plugin

EPOCH = 1_800_000_000.0  # 2027-01-15, wall time at the start
START = 1_000.0


class VirtualClock(Clock):
    """Moves only by `advance`, which runs what falls due on the way, in order."""

    def __init__(self) -> None:
        self._time = START
        self._due: list[tuple[float, int, _VirtualTimer]] = []
        self._order = count()
        self.now = lambda: self._time
        self.wall = lambda: EPOCH + self._time - START

    def sleep(self, seconds: float) -> None:
        woken = Event()
        self.timer(woken.set).start(seconds)
        woken.wait()

    def timer(self, fn: Callable[[], object]) -> Timer:
        return _VirtualTimer(self, fn)

    def advance(self, seconds: float) -> None:
        """Move on; between two timers everything that can run does. In the server's thread; switches."""
        end = self._time + seconds
        settle()
        while self._due and self._due[0][0] <= end:
            at, _, timer = heapq.heappop(self._due)
            if timer.at != at:
                continue  # stopped, or started again
            self._time = max(self._time, at)
            timer.at = None
            timer.fn()
            settle()
        self._time = max(self._time, end)
        settle()

    def put(self, timer: _VirtualTimer, at: float) -> None:
        heapq.heappush(self._due, (at, next(self._order), timer))


class _VirtualTimer:
    __slots__ = ("at", "clock", "fn")

    def __init__(self, clock: VirtualClock, fn: Callable[[], object]) -> None:
        self.clock = clock
        self.fn = fn
        self.at: float | None = None

    def start(self, seconds: float) -> None:
        self.at = self.clock.now() + max(seconds, 0.0)
        self.clock.put(self, self.at)

    def stop(self) -> None:
        self.at = None


def settle() -> None:
    """Let all greenlets run, and the loop look some times at what the kernel holds ready."""
    for _ in range(4):
        gevent.sleep(0.001)  # 0 would not make the loop look at its sockets


class Time(Plugin):
    """`clock.advance` for a server in another process; loaded by `python -m tidegate.testing` only."""

    @command("clock.advance", requires="admin", timeout=1e9)
    def advance(self, seconds: float) -> float:
        """Move the virtual clock by `seconds`; gives its time."""
        clock: Any = self.server.clock
        clock.advance(seconds)
        return float(clock.now())
