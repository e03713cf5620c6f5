"""Names the command that blocks the event loop, with the stack where it sat."""

from __future__ import annotations

import sys
import time
import traceback
from types import FrameType
from typing import TYPE_CHECKING, Any

from gevent.hub import Hub
from gevent.monkey import get_original

from tidegate.onion import code_of

if TYPE_CHECKING:
    from tidegate.server import Server

_start_thread = get_original("_thread", "start_new_thread")
_get_ident = get_original("_thread", "get_ident")
_sleep = get_original("time", "sleep")


class Watchdog:
    """A real thread looks whether the loop still beats; the loop itself tells what was found.

    Costs the loop one timer every quarter of `max_blocking_s`.
    """

    def __init__(self, server: Server) -> None:
        self.server = server
        self.limit = 0.1
        self._beat = 0.0
        self._loop_thread = 0
        self._running = False
        self._seen: tuple[float, str, list[str]] | None = None
        self._timer: Any = None

    def start(self) -> None:
        from tidegate.clock import Clock

        self.limit = self.server.settings.server.max_blocking_s
        self._loop_thread = _get_ident()
        self._running = True
        self._beat = time.monotonic()
        self._timer = Clock().timer(self._tick)  # real time, also in a test with a virtual clock
        self._timer.start(self.limit / 4)
        _start_thread(self._watch, ())

    def stop(self) -> None:
        self._running = False
        if self._timer is not None:
            self._timer.stop()

    def _tick(self) -> None:
        now = time.monotonic()
        # First of all: what takes long to log would be seen as another block, of this function.
        before, self._beat = self._beat, now
        seen, self._seen = self._seen, None
        if seen is not None:
            _, method, stack = seen
            # The beat before the block may be up to a quarter of the limit older than the block.
            seconds = now - before
            self.server.log.warning(
                "%s blocked the event loop for %.3f s\n%s",
                method or "something that is no command",
                seconds,
                "".join(stack),
                extra={"method": method},
            )
            self.server.publish("loop.blocked", seconds=round(seconds, 3), method=method, stack=stack)
        if self._running:
            self._timer.start(self.limit / 4)

    def _watch(self) -> None:
        while self._running:
            _sleep(self.limit / 4)
            if self._seen is None and time.monotonic() - self._beat > self.limit:
                frame = sys._current_frames().get(self._loop_thread)
                # The loop itself is the innermost frame: the machine had no time for us.
                if frame is not None and frame.f_code is not Hub.run.__code__:
                    self._seen = self._look(frame)

    def _look(self, frame: FrameType) -> tuple[float, str, list[str]]:
        codes = {code_of(route.command.function): name for name, route in self.server.routes.items()}
        method, at = "", frame
        while at is not None:
            method = codes.get(at.f_code, method)
            at = at.f_back  # type: ignore[assignment]
        return self._beat, method, traceback.format_stack(frame)[-12:]
