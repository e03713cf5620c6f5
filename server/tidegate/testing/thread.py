"""A server in a thread of the test's process, with its own event loop: for rings, limits and a look inside."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import gevent
from gevent.hub import get_hub

from tidegate.clock import Clock
from tidegate.config import read
from tidegate.model import Call, Event
from tidegate.plugin import Plugin, hookimpl
from tidegate.server import Server
from tidegate.testing import WAIT_S
from tidegate.testing.clock import VirtualClock
from tidegate.testing.reach import Reachable, unsaid

T = TypeVar("T")


class Collector(Plugin):
    """Hears every topic."""

    listens = frozenset({"*"})

    def __init__(self) -> None:
        self.lists: list[tuple[tuple[str, ...], list[Any]]] = []

    @hookimpl
    def tidegate_event(self, event: Event | Call) -> None:
        for topics, events in self.lists:
            if event.topic in topics:
                events.append(event)


class Inside(Reachable):
    """One server in a thread.

    Args:
        config: TOML text; without `[[listen]]` it listens on a free port of 127.0.0.1.
        plugins: plugin classes by name, or names of installed plugins; none by default.
        commands: functions marked with `@command`.
        virtual: with a virtual clock (the default), moved by `advance`.
    """

    def __init__(
        self,
        folder: Path,
        config: str = "",
        *,
        plugins: Mapping[str, type[Plugin]] | Iterable[str] = (),
        commands: Iterable[Callable[..., Any]] = (),
        virtual: bool = True,
        env: Mapping[str, str] | None = None,
    ) -> None:
        (folder / "tidegate.toml").write_text(config)
        self.data = folder / "data"
        self.clock: Clock = VirtualClock() if virtual else Clock()
        self._config = folder / "tidegate.toml"
        self._env = env or {}
        self._flags = {"server.data": str(self.data), **unsaid(config)}
        classes = dict(plugins) if isinstance(plugins, Mapping) else {}
        self._names = ["none"] if isinstance(plugins, Mapping) else ["none", *plugins]
        functions = tuple(commands)
        if functions:
            classes["commands"] = type("Commands", (Plugin,), {"commands": functions})
        self._classes = {**classes, "collector": Collector}
        self.server: Server
        self._jobs: deque[Callable[[], None]] = deque()
        self._ready = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._live, daemon=True)

    # --- its life ---------------------------------------------------------------------------------

    def start(self) -> None:
        """Returns when it accepts connections; raises what the start raised."""
        self._thread.start()
        assert self._ready.wait(2 * WAIT_S), "the server did not start"
        if self._error is not None:
            self._thread.join(WAIT_S)  # `stop` goes by whether it lives
            raise self._error

    def _live(self) -> None:
        try:
            hub = get_hub()
            self._wake = hub.loop.async_()
            self._wake.start(self._work)
            raw = read(self._config, environ=self._env, flags=self._flags)
            self.server = Server(raw, plugins=self._classes, only=self._names, clock=self.clock)
            self.server.life.reread = lambda: read(self._config, environ=self._env, flags=self._flags)
            self.server.start()
        except BaseException as error:
            self._error = error
            self._ready.set()
            return
        self._ready.set()
        self.server.stopping.wait()
        self.server.life.drain()
        self.server.life.finish()
        # Threads that a call gave up on still end their work, and tell this loop.
        with gevent.Timeout(10, False):  # type: ignore[arg-type]
            while any(pool.busy for pool in self.server.pools.values()):
                gevent.sleep(0.01)
        self._wake.close()
        hub.destroy(destroy_loop=True)

    def _work(self) -> None:
        while self._jobs:
            gevent.spawn(self._jobs.popleft())

    def stop(self) -> None:
        """Drain and end it."""
        if self._thread.is_alive():
            self.run(self.server.stop)
            self._thread.join(20)
            assert not self._thread.is_alive(), "the server did not stop"

    def run(self, fn: Callable[..., T], *args: Any) -> T:
        """`fn(*args)` in a greenlet of the server's thread: its result, or what it raised."""
        done = threading.Event()
        box: dict[str, Any] = {}

        def job() -> None:
            try:
                box["result"] = fn(*args)
            except BaseException as error:
                box["error"] = error
            done.set()

        self._jobs.append(job)
        self._wake.send()
        assert done.wait(60), "the server's thread did not answer"
        if "error" in box:
            raise box["error"]
        return box["result"]  # type: ignore[no-any-return]

    def advance(self, seconds: float) -> None:
        """Move the virtual clock; what falls due on the way has run then."""
        assert isinstance(self.clock, VirtualClock)
        self.run(self.clock.advance, seconds)

    # --- what is seen of it -----------------------------------------------------------------------

    @property
    def addresses(self) -> list[str]:  # type: ignore[override]
        return self.server.addresses

    def events(self, *topics: str) -> list[Any]:
        """A list that gathers these topics' events from now on."""
        events: list[Any] = []
        collector: Any = self.server.registry.plugins["collector"]
        collector.lists.append((topics, events))
        return events
