"""Sliding windows over the outcomes of calls: the last so many, or those of the last so many seconds.

A success costs its caller `window.calls += 1` and nothing else, for only a bad call can raise a rate:
all bookkeeping is done when one comes. Both windows are exact but for the tenth of the time window
that is just sliding out, and bounded.
"""

from __future__ import annotations

from collections import deque
from math import inf
from typing import NamedTuple, Protocol

SLICES = 10  # of a time window


class Seen(NamedTuple):
    """What a window holds: so many calls, of which so many failed and so many were slow."""

    calls: int
    failed: int
    slow: int


class Window(Protocol):
    """`calls` grows by one for each success; `roll` is due once the time is `until`."""

    calls: int
    until: float

    def roll(self, now: float) -> None: ...

    def add(self, now: float, *, failed: bool, slow: bool) -> None: ...

    def seen(self, now: float) -> Seen: ...


class CountWindow:
    """The last `size` calls. Remembers at which call each bad one was."""

    __slots__ = ("_failed", "_slow", "calls", "size", "until")

    def __init__(self, size: int) -> None:
        self.size = size
        self.calls = 0
        self.until = inf
        self._failed: deque[int] = deque(maxlen=size)
        self._slow: deque[int] = deque(maxlen=size)

    def roll(self, now: float) -> None:
        """Nothing slides out by time."""

    def add(self, now: float, *, failed: bool, slow: bool) -> None:
        """One call that was bad in one way, or both."""
        self.calls += 1
        if failed:
            self._failed.append(self.calls)
        if slow:
            self._slow.append(self.calls)

    def seen(self, now: float) -> Seen:
        oldest = self.calls - self.size
        for bad in (self._failed, self._slow):
            while bad and bad[0] <= oldest:
                bad.popleft()
        return Seen(min(self.calls, self.size), len(self._failed), len(self._slow))


class TimeWindow:
    """The calls of the last `seconds`, in ten slices. Remembers the counts at each slice's end."""

    __slots__ = ("_failed", "_marks", "_slice", "_slow", "calls", "seconds", "until")

    def __init__(self, seconds: float, now: float) -> None:
        self.seconds = seconds
        self._slice = seconds / SLICES
        self.calls = self._failed = self._slow = 0
        self.until = now + self._slice
        self._marks: deque[tuple[float, int, int, int]] = deque([(now, 0, 0, 0)], maxlen=SLICES + 2)

    def roll(self, now: float) -> None:
        """Close the slice; the calls so far were before its end."""
        if now < self.until:
            return
        self._marks.append((self.until, self.calls, self._failed, self._slow))
        passed = int((now - self.until) / self._slice)
        if passed:  # nothing was called in the slices between
            self._marks.append((self.until + passed * self._slice, self.calls, self._failed, self._slow))
        self.until += (passed + 1) * self._slice

    def add(self, now: float, *, failed: bool, slow: bool) -> None:
        """One call that was bad in one way, or both."""
        self.roll(now)
        self.calls += 1
        self._failed += failed
        self._slow += slow

    def seen(self, now: float) -> Seen:
        self.roll(now)
        while len(self._marks) > 1 and self._marks[1][0] <= now - self.seconds:
            self._marks.popleft()
        _, calls, failed, slow = self._marks[0]
        return Seen(self.calls - calls, self._failed - failed, self._slow - slow)
