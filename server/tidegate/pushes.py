"""What a server sends by itself, kept for the client's program until it is taken."""

from __future__ import annotations

import threading
from collections import deque
from typing import Any, NamedTuple


class Push(NamedTuple):
    """A message that the server sent by itself: `Push("event.message", {"room": "lobby", …})`."""

    method: str
    params: Any


class Pushes:
    """At most `number` of them, and `size` bytes of lines in all; past it the oldest is dropped, and counted."""

    def __init__(self, number: int, size: int) -> None:
        self.dropped = 0
        self._most, self._room = number, size
        self._waiting: deque[tuple[Push, int]] = deque()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._waiting)

    def keep(self, push: Push, size: int) -> None:
        """`size`: bytes of its line. From any thread; never blocks for long."""
        with self._lock:
            self._waiting.append((push, size))
            self._room -= size
            while len(self._waiting) > self._most or self._room < 0:
                self._room += self._waiting.popleft()[1]
                self.dropped += 1

    def take(self) -> Push:
        """The oldest. Raises IndexError when there is none."""
        with self._lock:
            push, size = self._waiting.popleft()
            self._room += size
            return push
