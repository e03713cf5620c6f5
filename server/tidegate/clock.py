"""The server's clock: monotonic for rules, wall time for people. Tests put a virtual one in its place."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Protocol

import gevent
from gevent.hub import get_hub


class Timer(Protocol):
    """Runs its function once, in the hub: the function never switches. `start` again moves it."""

    def start(self, seconds: float) -> None: ...

    def stop(self) -> None: ...


class Clock:
    """Real time. Every rule, limit, deadline and sweep asks the server's clock and no other."""

    #: Seconds, monotonic; only differences mean something.
    now = staticmethod(time.monotonic)
    #: Seconds since 1970, for people.
    wall = staticmethod(time.time)

    def sleep(self, seconds: float) -> None:
        """Let other greenlets run for `seconds`. Switches."""
        gevent.sleep(max(seconds, 0.0))

    def timer(self, fn: Callable[[], object]) -> Timer:
        """A timer of the current thread's loop; not started."""
        return _LoopTimer(fn)


class _LoopTimer:
    # libev's timers can't be given another delay, and a new one costs 0.1 µs.
    __slots__ = ("_fn", "_watcher")

    def __init__(self, fn: Callable[[], object]) -> None:
        self._fn = fn
        self._watcher: Any = None

    def start(self, seconds: float) -> None:
        self.stop()
        self._watcher = get_hub().loop.timer(max(seconds, 0.0))
        # The loop's own idea of the time is as old as its last pass.
        self._watcher.start(self._fn, update=True)

    def stop(self) -> None:
        if self._watcher is not None:
            self._watcher.close()
            self._watcher = None
