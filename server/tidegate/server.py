"""The server: its plugins, its listeners, its calls and its end."""

from __future__ import annotations

import hashlib
import logging
import os
import re
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import gevent
import msgspec
from gevent import Greenlet
from gevent.event import Event as Signal
from gevent.lock import BoundedSemaphore

from tidegate.bus import MemoryBus
from tidegate.calls import Calls
from tidegate.clock import Clock
from tidegate.config import Namespace, Raw, Settings, check, read
from tidegate.connection import SocketConnection
from tidegate.core import Core
from tidegate.directory import Directory
from tidegate.faults import (
    Catalogue,
    Fault,
    PluginFailure,
    ServerOverloaded,
    TooManyConnections,
    catalogue,
    merge,
)
from tidegate.listener import DataFolder, Listener, Networks, Places, packed_address
from tidegate.log import Log
from tidegate.model import Call, Connection, Event, User, new_id, prefix_text
from tidegate.onion import UNKNOWN, Blame, Proceed, Route, heart_of
from tidegate.outgoing import Outgoing
from tidegate.plugin import Plugin
from tidegate.pool import Pool
from tidegate.registry import Registry, StartRefused
from tidegate.serving import Serving
from tidegate.state import MemoryState
from tidegate.topics import TOPICS
from tidegate.watchdog import Watchdog

_encode = msgspec.json.Encoder().encode
_OURS = frozenset({"json", "encoding", "size", "depth", "batch", "slow"})  # kinds of protocol.violated that are JSON
_STRING = re.compile(rb'"(?:[^"\\]++|\\.)*+(?:"(\s*+:)?)?', re.DOTALL)  # with the colon after a key
Entered = list[tuple[str, Generator[None, None, None]]]


class Server(Calls):
    """One server with its own plugins; two may live in one process.

    Args:
        raw: the configuration as read (`tidegate.config.read`); None takes the defaults.
        plugins: plugin classes by name, beside the installed ones.
        only, without: names of installed plugins to take, or to leave out; `only=["none"]` takes none.
        commands: names of modules whose marked functions are served, beside those configured.
        clock: a virtual one in tests.

    Raises:
        ConfigError, StartRefused: with everything that is wrong, not only the first.
    """

    def __init__(
        self,
        raw: Raw | None = None,
        *,
        plugins: Mapping[str, type[Plugin]] | None = None,
        only: Iterable[str] | None = None,
        without: Iterable[str] = (),
        commands: Sequence[str] = (),
        clock: Clock | None = None,
    ) -> None:
        self.log = logging.getLogger("tidegate")
        self.clock = clock or Clock()
        self.raw = raw if raw is not None else read(None)
        self.registry = Registry(self, Core)
        self.registry.find(self.raw, extra=plugins or {}, only=only, without=without)
        self.settings: Settings = check(self.raw, self.registry.schemas(), self.registry.not_loaded())
        self.data = Path(self.settings.server.data)
        self.state = MemoryState(self.clock)
        self.bus = MemoryBus()
        self.directory = Directory()
        self.connections: dict[str, Connection] = {}
        self.sessions: dict[str, set[Connection]] = {}
        self.turnover = 0  # how often `sessions` changed; what was made from it is good while this stays
        self.places = Places()
        self.outgoing = Outgoing()
        self.pushes = 0  # frames that connections took to send, since the start
        self.report = self.log_failed  # what logs a call that failed; errors puts its own in this place
        self.patience = 1.0  # below 1 the time limits of connections are shorter; for security, under attack
        self._measuring = BoundedSemaphore(1)
        self.draining = False
        self.maintenance: str | None = None
        self.started: float | None = None
        self.listeners: list[Listener] = []
        self.exit_code = 0
        self.stop_reason = ""
        self.stopping = Signal()
        self.operator_door: Listener | None = None
        self.logs: Log | None = None
        self.folder = DataFolder(self.data)
        self._ids = count(1)
        self._boot = os.urandom(4).hex()
        self._secret = os.urandom(32)
        self._reserve: int | None = None
        self._greenlets: set[Greenlet[..., Any]] = set()
        self.pools: dict[str, Pool] = {}
        self._commands_asked = tuple(commands)
        self.watchdog = Watchdog(self)
        self.life = Serving(self)
        self.exempt = Networks(self.settings.server.exempt)
        self.registry.make(self.settings.plugins, self.data)
        self._settle()

    # --- commands and their decorators -----------------------------------------------------------

    def _settle(self) -> None:
        """Take from the registry what runs often."""
        modules = [*self.settings.server.commands, *self._commands_asked]
        self._listen_to_topics()
        self.faults = self._catalogue()
        self.commands = self.registry.commands(modules)
        self._hooks: list[tuple[Plugin, Callable[..., Any]]] = self.registry.impls("tidegate_connection")
        self._explainers = list(reversed(self.registry.impls("tidegate_fault")))
        self.compose()

    def refuse(self, problems: Sequence[str]) -> None:
        """What is wrong at load, if anything. Raises StartRefused; a server that is only looked at goes on."""
        if problems:
            raise StartRefused(problems)

    def _catalogue(self) -> Catalogue:
        """The core's faults and those that plugins offer."""
        known, problems = catalogue(), []
        for name, (_, classes) in self.offered("faults"):
            try:
                known = merge(known, name, classes)
            except ValueError as error:
                problems.append(str(error))
        self.refuse(problems)
        return known

    def leave_out(self, name: str, reason: str) -> None:
        """Serve without a plugin that failed at start and is not required."""
        self.registry.remove(name, reason)
        self._settle()

    def compose(self) -> None:
        """Compose the decorators of every command anew, and swap them in one assignment."""
        default = self.settings.server.call_timeout_s
        routes: dict[str, Route] = {}
        problems = []
        for name, command in self.commands.items():
            heart = heart_of(command)
            if command.notes.get("thread"):
                heart = self._in_thread(heart)
            try:
                timeout = float(command.notes.get("timeout", default))
                routes[name] = Route(command, heart, self.registry.decorating, timeout)
            except Exception as error:
                problems.append(f"command {name!r} can't be decorated: {type(error).__name__}: {error}")
                routes[name] = Route(command, heart, (), default)
        self.refuse(problems)
        packages = {type(plugin).__module__: name for name, plugin in self.registry.plugins.items() if name != "core"}
        for module, name in list(packages.items()):
            if (package := module.partition(".")[0]) != "tidegate":
                packages.setdefault(package, name)
        self.blame = Blame(packages)
        self.blame.learn(list(routes.values()))
        # Made-up method names have this one's decorators; nobody can call it by its own name.
        self.unknown_route = routes.pop(UNKNOWN)
        self.routes = routes

    def trace_next(self, method: str) -> None:
        """Have the layers of this command's next call timed, in `call.layers`. Never switches."""
        if (route := self.routes.get(method)) is not None:
            route.trace_next()

    def measure(self, route: Route, calls: int = 20, seconds: float = 2.0) -> dict[str, Any]:
        """Time the layers of the next calls of a command: `{"calls": 20, "seconds": {layer: mean}}`. Switches."""
        with self._measuring:  # each puts back what it found
            return self._measure(route, calls, seconds)

    def _measure(self, route: Route, calls: int, seconds: float) -> dict[str, Any]:
        sums: dict[str, float] = {}
        seen = 0

        def look(call: Call) -> Any:
            nonlocal seen
            if call.layers is None:
                call.layers = {}
            try:
                return route.traced(call)
            finally:
                seen += 1
                for name, took in (call.layers or {}).items():
                    sums[name] = sums.get(name, 0.0) + took

        before, route.proceed = route.proceed, look
        end = time.monotonic() + seconds
        try:
            while seen < calls and time.monotonic() < end:
                gevent.sleep(0.01)
        finally:
            if route.proceed is look:
                route.proceed = before
        return {"calls": seen, "seconds": {name: total / seen for name, total in sums.items()}}

    def _in_thread(self, heart: Proceed) -> Proceed:
        pool = self.pool("commands", self.settings.server.threads, 64)
        return lambda call: pool.run(heart, call)

    @contextmanager
    def door(self, kind: str, *, address: str | None = None, user: User | None = None) -> Iterator[Connection]:
        """A connection without a socket, with its plugins' lives: the admin site, jobs, tests.

        Raises the Fault of who refuses it.
        """
        connection = Connection(self, kind, address=address)
        entered: Entered = []
        try:
            self.admit(connection, entered)
            if user is not None:
                connection.become(user)
            yield connection
        finally:
            self._leave(connection, entered)

    # --- facts -----------------------------------------------------------------------------------

    def _listen_to_topics(self) -> None:
        self.topics = dict(TOPICS)
        for plugin in self.registry.plugins.values():
            self.topics.update(plugin.topics)
        self._listeners: dict[str, list[tuple[Plugin, Callable[[Any], None]]]] = {t: [] for t in self.topics}
        for plugin, listener in self.registry.impls("tidegate_event"):
            for topic in self.topics if "*" in plugin.listens else plugin.listens:
                if topic not in self._listeners:
                    self.refuse([f"plugin {plugin.name!r} listens to {topic!r}, which is no topic"])
                    continue
                self._listeners[topic].append((plugin, listener))
        self._call_listeners = self._listeners["call.finished"]

    def check_topic(self, topic: str, fields: Mapping[str, Any]) -> None:
        """Raises ValueError for a topic that does not exist, or fields that it does not have."""
        expected = self.topics.get(topic)
        if expected is None:
            raise ValueError(f"{topic!r} is no topic; declare it in `topics` of the plugin")
        if fields.keys() != set(expected):
            raise ValueError(f"topic {topic!r} has the fields {sorted(expected)}, got {sorted(fields)}")

    def publish(self, topic: str, **fields: Any) -> None:
        """Tell a fact now to those who listen; each is isolated. Never switches."""
        self.check_topic(topic, fields)
        listeners = self._listeners[topic]
        if not listeners:
            return
        event = Event(topic, self.clock.wall(), new_id(), fields)
        for plugin, listener in listeners:
            try:
                listener(event)
            except Exception as error:
                self.plugin_failed(plugin.name, topic, error)

    def plugin_failed(self, plugin: str, where: str, error: BaseException) -> None:
        """Log and tell a plugin's failure where no call can carry it."""
        self.log.error("plugin %r failed in %s", plugin, where, exc_info=error)
        if where != "plugin.failed":  # a listener to failures that fails is only logged
            self.publish("plugin.failed", plugin=plugin, where=where, error=f"{type(error).__name__}: {error}")

    def violated(self, connection: Connection, code: int, kind: str, data: bytes) -> None:
        if kind in _OURS:  # its strings may be anybody's password
            data = _STRING.sub(lambda found: found[0] if found[1] else b'"..."', data[:256])
        excerpt = data[:64].decode("latin-1").encode("unicode_escape").decode()
        self.publish("protocol.violated", **connection.peer, code=code, kind=kind, excerpt=excerpt)

    # --- connections -----------------------------------------------------------------------------

    def new_connection_id(self) -> str:
        return f"{self._boot}-{next(self._ids)}"

    @staticmethod
    def new_id() -> str:
        return new_id()

    def place_of(self, address: str) -> tuple[str, bytes, bool]:
        """An address as `Connection` keeps it: its text, its prefix (IPv6: /64), whether it is exempt."""
        packed = packed_address(address)
        if len(packed) == 4 and ":" in address:
            address = "%d.%d.%d.%d" % tuple(packed)
        return address, packed if len(packed) == 4 else packed[:8], packed in self.exempt

    def has_place(self, connection: SocketConnection) -> bool:
        """Count a new connection in, or refuse and close it: max_connections."""
        limit = self.settings.server.max_connections
        if self.places.total < limit:
            self.places.total += 1
            return True
        connection.refuse(ServerOverloaded("Too many connections", retry_after=1.0))
        connection.sock.close()
        self._told_refused(connection, ServerOverloaded.code)
        return False

    def has_room(self, connection: SocketConnection) -> bool:
        """Count a new connection for its address, or refuse it: max_per_address."""
        prefix = connection.prefix
        if prefix is None or connection.exempt:
            return True
        if self.places.by_prefix.get(prefix, 0) >= connection.listener.limits.max_per_address:
            connection.refuse(TooManyConnections())
            self._told_refused(connection, TooManyConnections.code)
            return False
        self.places.enter(prefix)
        connection.counted = True
        return True

    def _told_refused(self, connection: Connection, code: int) -> None:
        self.publish("connection.refused", address=connection.address, prefix=prefix_text(connection.prefix), code=code)

    def admit(self, connection: Connection, entered: Entered) -> bool:
        """Enter the plugins' connection lives. Raises the Fault of who refuses."""
        for plugin, hook in self._hooks:
            generator = hook(connection)
            try:
                next(generator)
            except Fault as fault:
                self._told_refused(connection, fault.code)
                raise
            except Exception as error:
                self.plugin_failed(plugin.name, "tidegate_connection", error)
                if plugin.ring == "guard":  # guards fail closed
                    raise PluginFailure() from error
                continue
            entered.append((plugin.name, generator))
        return True

    def _leave(self, connection: Connection, entered: Entered) -> None:
        for name, generator in reversed(entered):
            try:
                next(generator, None)
                generator.close()
            except Exception as error:
                self.plugin_failed(name, "tidegate_connection", error)
        connection.become(None)

    def opened(self, connection: SocketConnection) -> None:
        connection.introduced = True
        if self._listeners["connection.opened"]:  # asked before, since some clients open one for every request
            self.publish("connection.opened", connection=connection)

    def closed(self, connection: SocketConnection, entered: Entered) -> None:
        self.connections.pop(connection.id, None)
        self._leave(connection, entered)
        if connection.kind != "admin":
            self.places.total -= 1
            if connection.counted:
                self.places.leave(connection.prefix)
        if self._reserve is None and self.started is not None:
            self.keep_reserve()
        if connection.introduced and self._listeners["connection.closed"]:
            self.publish(
                "connection.closed",
                connection=connection,
                reason=connection.reason,
                seconds=self.clock.now() - connection.opened,
                calls=connection.calls,
                bytes_in=connection.bytes_in,
                bytes_out=connection.bytes_out,
            )

    # --- what plugins and commands use -----------------------------------------------------------

    def readers(self, note: str) -> tuple[str, ...]:
        """The names of the plugins that carry out `note`."""
        return self.registry.readers(note)

    def offered(self, kind: str) -> list[tuple[str, Any]]:
        """What plugins offer of a kind: (plugin name, value), sorted."""
        return self.registry.offered(kind)

    def provided(self, name: str) -> Any:
        """The factory behind an injected argument: `server.provided("transaction")`. Raises LookupError."""
        plugin = self.registry.provider(name)
        if plugin is None:
            raise LookupError(f"no plugin provides {name!r}")
        return plugin.provided(name)

    def gauges(self) -> dict[str, float]:
        """All plugins' levels, asked now: `{"core.connections_open": 12.0}`."""
        levels: dict[str, float] = {}
        for plugin, ask in self.registry.impls("tidegate_gauges"):
            try:
                levels.update({f"{plugin.name}.{name}": float(value) for name, value in ask().items()})
            except Exception as error:
                self.plugin_failed(plugin.name, "tidegate_gauges", error)
        return dict(sorted(levels.items()))

    @staticmethod
    def frame(method: str, params: object) -> bytes:
        """A push, encoded once for any number of connections."""
        return _encode({"jsonrpc": "2.0", "method": method, "params": params}) + b"\n"

    def fingerprint(self, text: str) -> str:
        """8 hex digits that are the same for the same text while this server lives, and tell nothing else."""
        return hashlib.blake2b(text.encode(), digest_size=4, key=self._secret).hexdigest()

    def spawn(self, fn: Callable[..., Any], *args: Any) -> Greenlet[..., Any]:
        """A greenlet that is logged if it dies, and ended when the server stops."""

        def run() -> None:
            try:
                fn(*args)
            except Exception:
                self.log.exception("a background task died: %r", fn)

        greenlet = Greenlet(run)
        self._greenlets.add(greenlet)
        greenlet.rawlink(self._greenlets.discard)
        greenlet.start()
        return greenlet

    def pool(self, name: str, threads: int, queue: int) -> Pool:
        """A bounded pool of threads by name; the first who asks decides its size."""
        if name not in self.pools:
            self.pools[name] = Pool(name, threads, queue)
        return self.pools[name]

    # --- its life --------------------------------------------------------------------------------

    def start(self) -> None:
        """Start the plugins and open the listeners; returns when it accepts connections."""
        self.life.start()

    @property
    def addresses(self) -> list[str]:
        """Where it listens: `["127.0.0.1:7420", "unix:/run/tidegate.sock"]`."""
        return [listener.name for listener in self.listeners]

    def run(self) -> int:
        """Serve until `stop` or a signal, drain, and give the exit code."""
        return self.life.run()

    def stop(self, reason: str = "stop") -> None:
        """Ask the server to drain and end. Never blocks, from anywhere."""
        self.stop_reason = self.stop_reason or reason
        self.stopping.set()

    def reload(self, actor: str) -> list[str]:
        """Read settings and certificates again: all or nothing. Raises ConfigurationError."""
        return self.life.reload(actor)

    def take_settings(self, raw: Raw, new: Settings) -> None:
        """Give every plugin its new settings; if one refuses, all get the old ones back.

        Raises ValueError, or StartRefused when a command can't be decorated then.
        """
        before = self.raw, self.settings
        done: list[Plugin] = []
        try:
            for plugin in self.registry.plugins.values():
                done.append(plugin)
                plugin.configure(new.plugins.get(plugin.name))
        except Exception as error:
            self._configure_back(done, before[1])
            raise ValueError(f"plugin {done[-1].name!r} refuses its configuration: {error}") from error
        try:
            self._use(raw, new)
        except StartRefused:
            self._configure_back(done, before[1])
            self._use(*before)
            raise

    @staticmethod
    def _configure_back(plugins: Sequence[Plugin], old: Settings) -> None:
        for plugin in plugins:
            plugin.configure(old.plugins.get(plugin.name))

    def _use(self, raw: Raw, new: Settings) -> None:
        for plugin in self.registry.plugins.values():
            plugin.config = new.plugins.get(plugin.name)
        self.raw, self.settings = raw, new
        self.exempt = Networks(new.server.exempt)
        if self.logs is not None:
            self.logs.set_level(new.server.log_level)
        self.compose()

    def operator_limits(self) -> Namespace:
        """The operator's socket has the limits of a default listener, and no address."""
        from tidegate.settings import default_listener

        return default_listener()

    def keep_reserve(self) -> None:
        """Hold a descriptor back, so that the operator gets in when there is none left."""
        try:
            self._reserve = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            self._reserve = None

    def spend_reserve(self) -> bool:
        if self._reserve is None:
            return False
        os.close(self._reserve)
        self._reserve = None
        return True

    def close(self) -> None:
        """Give back what is held; for a server that was built and not run, too."""
        self.started = None
        self.watchdog.stop()
        if self.operator_door is not None:
            self.operator_door.close()
            (self.data / "admin.sock").unlink(missing_ok=True)
            self.operator_door = None
        for listener in self.listeners:
            listener.close()
        for greenlet in list(self._greenlets):
            greenlet.kill(block=False)
        for pool in self.pools.values():
            pool.close()
        self.spend_reserve()
        self.folder.give_back()
