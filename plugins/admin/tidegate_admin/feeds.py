"""Live pages: what they watch is asked once for all of them, and sent to each that takes it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import gevent
import msgspec
from gevent import Greenlet
from gevent.event import Event as Signal
from tidegate import Fault
from tidegate.faults import ServerOverloaded

from tidegate_admin.series import READ_S

if TYPE_CHECKING:
    from tidegate_admin import Admin

TICK_S = 2.0  # where somebody looks; else READ_S
BEAT_S = 15.0  # a comment, so that proxies keep the stream and a browser that is gone is noticed
CHECK_S = 10.0  # so often who watches must still be allowed to
MAX_WATCHED = 20
MAX_ROWS = 50
MAX_EVENTS = 100
_encode = msgspec.json.Encoder().encode


class Viewer:
    """One live page. What is not taken yet is replaced by what is newer, so a slow page holds little."""

    def __init__(self, names: frozenset[str]) -> None:
        self.names = names
        self.waiting: dict[str, bytes] = {}
        self.events: deque[bytes] = deque(maxlen=MAX_EVENTS)
        self.signal = Signal()

    def give(self, name: str, frame: bytes) -> None:
        self.waiting[name] = frame
        self.signal.set()

    def tell(self, frame: bytes) -> None:
        self.events.append(frame)
        self.signal.set()

    def take(self) -> bytes:
        data = b"".join([*self.events, *self.waiting.values()])
        self.events.clear()
        self.waiting.clear()
        self.signal.clear()
        return data


class Feeds:
    """All live pages. Each watched command has one greenlet, for as long as somebody watches it."""

    def __init__(self, plugin: Admin) -> None:
        self.plugin = plugin
        self.viewers: dict[Viewer, None] = {}
        self._polls: dict[str, Greenlet[..., Any]] = {}
        self._last: dict[str, bytes] = {}
        self._tick: Greenlet[..., Any] | None = None
        self._faster = Signal()
        self.stopping = False

    # --- its life ---------------------------------------------------------------------------------

    def start(self) -> None:
        self._tick = gevent.spawn(self._ticking)

    def stop(self) -> None:
        self.stopping = True
        for viewer in self.viewers:
            viewer.signal.set()
        gevent.killall([*self._polls.values(), *filter(None, [self._tick])])

    # --- pages ------------------------------------------------------------------------------------

    def stream(self, names: frozenset[str], allowed: Callable[[], object]) -> Iterator[bytes]:
        """Server-sent events for a page that watches these commands; ends when `allowed` raises a Fault.

        Raises ServerOverloaded, at once, when there are too many pages.
        """
        if len(self.viewers) >= self.plugin.config.max_streams:
            raise ServerOverloaded("Too many live pages are open", retry_after=30.0)
        viewer = Viewer(names)
        self.viewers[viewer] = None
        for name in names:
            if name in self._last:
                viewer.give(name, self._last[name])
            if name not in self._polls:
                self._polls[name] = gevent.spawn(self._polling, name)
        self._faster.set()
        return self._frames(viewer, allowed)

    def _frames(self, viewer: Viewer, allowed: Callable[[], object]) -> Iterator[bytes]:
        clock = self.plugin.server.clock
        checked = clock.now()
        try:
            yield b"retry: 3000\n\n"
            while not self.stopping:
                if not viewer.signal.wait(BEAT_S):
                    yield b": still here\n\n"
                if clock.now() - checked >= CHECK_S:
                    checked = clock.now()
                    try:
                        allowed()
                    except Fault as fault:
                        yield frame("ended", {"code": fault.code, "message": fault.message})
                        return
                if data := viewer.take():
                    yield data
        finally:
            self.viewers.pop(viewer, None)
            self._forget(viewer.names)

    def _forget(self, names: frozenset[str]) -> None:
        """Ask no more for what nobody watches."""
        watched = frozenset().union(*(viewer.names for viewer in self.viewers))
        for name in names - watched:
            self._last.pop(name, None)
            if (poll := self._polls.pop(name, None)) is not None:
                poll.kill(block=False)

    def tell(self, event: dict[str, Any]) -> None:
        """An event of the time line, to every page. Never switches."""
        if self.viewers:
            data = frame("event", event)
            for viewer in self.viewers:
                viewer.tell(data)

    # --- what is asked ----------------------------------------------------------------------------

    def _polling(self, name: str) -> None:
        """One command, again and again; sent when it is other than before."""
        every = self.plugin.pace(name)
        while True:
            try:
                said: dict[str, Any] = {"name": name, "result": shortened(self.plugin.server.call(name))}
            except Fault as fault:
                said = {"name": name, "fault": {"code": fault.code, "type": fault.type, "message": fault.message}}
            data = frame("panel", said)
            if data != self._last.get(name):
                self._last[name] = data
                for viewer in list(self.viewers):
                    if name in viewer.names:
                        viewer.give(name, data)
            self.plugin.server.clock.sleep(every)

    def _ticking(self) -> None:
        """The numbers for the charts, whether somebody looks or not."""
        while True:
            try:
                at, values = self.plugin.read()
                if self.viewers:
                    data = frame("tick", {"at": at, "values": values})
                    for viewer in self.viewers:
                        viewer.give("", data)
            except Exception:
                self.plugin.log.exception("the numbers of the dashboard could not be read")
            self._faster.clear()
            if self.viewers:
                self.plugin.server.clock.sleep(TICK_S)
            else:
                self._faster.wait(READ_S)


def frame(event: str, data: Any) -> bytes:
    """One server-sent event. JSON has no line ends, so one `data` line is enough."""
    return b"event: %b\ndata: %b\n\n" % (event.encode(), _encode(data))


def shortened(value: Any) -> Any:
    """The value with long lists cut: what is more than a page shows is asked for when somebody wants to see it."""
    if isinstance(value, dict):
        return {key: shortened(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [shortened(item) for item in value[:MAX_ROWS]]
    return value
