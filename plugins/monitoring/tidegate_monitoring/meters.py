"""What is counted while it happens: calls in the cells of the hot path, all else in the live window."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from math import inf, log2
from typing import TYPE_CHECKING, Any

from tidegate import Call, Command, Event

from tidegate_monitoring.histogram import STEP, Histogram, add, bucket_of, whole
from tidegate_monitoring.window import CHUNK, MAX_NAMES, OTHER, Calls, Window

if TYPE_CHECKING:
    from tidegate import Server

PEERS_S = 900.0  # for so long peers are told apart
MAX_PEERS = 500  # different peers that a limit refused, of each limit
Cell = tuple[defaultdict[float, int], float]


class Meters:
    """Counters since `take` was last called.

    `cells` has for each command the buckets of its successful calls, and the seconds from which a call is looked at
    more closely: slow ones, or all of a command with an access log. Only commands that exist have a cell, so that
    names which a client makes up never become names here.
    """

    def __init__(
        self, server: Server, looked_at: Callable[[Call], None], started: Callable[[], None] = lambda: None
    ) -> None:
        self.server = server
        self.cells: dict[Command, Cell] = {}
        self.looked_at = looked_at
        self.started = started  # called once all plugins have started
        self.limits: Callable[[str], float] = lambda name: inf
        self.live = Window(server.clock.wall())
        self.since = server.clock.now()
        self.peers: dict[str, set[str]] = {}
        self._peers_since = self.since
        self.calls = self.failed = 0  # since the start

    def prepare(self, limits: Callable[[str], float]) -> None:
        """Take over the seconds from which calls are looked at; counts stay."""
        self.limits = limits
        known = {command: window for command, (window, _) in self.cells.items()}
        self.cells.clear()
        for command in {*known, *self.server.commands.values()}:
            self.cells[command] = (known.get(command) or defaultdict(int), limits(command.name))

    # --- calls ------------------------------------------------------------------------------------

    def hearing(self) -> Callable[[Event | Call], None]:
        """What hears every event, the finished calls among them. For a quick success: one look-up, one bucket. A
        closure, since the names of an instance take 0.03 µs longer."""
        cells = self.cells

        def hear(event: Any) -> None:
            try:
                window, limit = cells[event.command]
                seconds = event.seconds
                if seconds < limit and event.fault is None and event.layers is None:
                    window[log2(seconds) // STEP] += 1
                    return
            except (AttributeError, KeyError, TypeError, ValueError):
                pass  # no call, the first of a command, or one that took no time
            if isinstance(event, Call):
                self.call(event)
            else:
                self.event(event)

        return hear

    def call(self, call: Call) -> None:
        """A call that the hot path leaves to us: failed, slow, traced, or of a command that is new."""
        command = call.command
        if command not in self.cells:
            self.cells[command] = (defaultdict(int), self.limits(command.name))
        window, limit = self.cells[command]
        if call.fault is None:
            window[bucket_of(call.seconds)] += 1
        else:
            calls = self.live.calls.setdefault(command.name, Calls())
            add(calls.failed, call.seconds)
            calls.codes[call.fault.code] = calls.codes.get(call.fault.code, 0) + 1
        for plugin, took in (call.layers or {}).items():
            self.observe(f"layer|{plugin}", took)
        if call.seconds >= limit:
            self.looked_at(call)

    # --- facts ------------------------------------------------------------------------------------

    def event(self, event: Event) -> None:
        """Count a topic, and of some topics their parts."""
        if event.topic == "server.started":
            self.started()
        self.live.count(event.topic)
        if (more := _MORE.get(event.topic)) is not None:
            more(self, event)

    def observe(self, name: str, value: float) -> None:
        """Put a value into a distribution."""
        series = self.live.series
        if name not in series and len(series) >= MAX_NAMES:
            name = OTHER
        add(series.setdefault(name, {}), max(value, 0.0))

    def known(self, method: Any) -> str:
        """A command's name, or what stands for all that a client made up."""
        return method if method in self.server.commands else OTHER

    def refused_peer(self, limit: str, peer: str) -> None:
        """Remember who was refused by a limit, and say how many they are."""
        peers = self.peers.setdefault(limit, set()) if len(self.peers) < MAX_NAMES else set()
        if len(peers) < MAX_PEERS:
            peers.add(peer)
        self.live.level(f"peers|{limit}", len(peers))

    # --- the beat ---------------------------------------------------------------------------------

    def take(self, rest: Callable[[], object] = lambda: None) -> Window:
        """What was counted since the last time. `rest` is called now and then, and may switch."""
        now = self.server.clock.now()
        if now - self._peers_since >= PEERS_S:
            self.peers.clear()
            self._peers_since = now
        taken, self.live = self.live, Window(self.server.clock.wall())
        taken.seconds, self.since = now - self.since, now
        busy = [(command, window) for command, (window, _) in self.cells.items() if window]
        for number, (command, window) in enumerate(busy, 1):
            got: Histogram = dict(zip(map(whole, window), window.values(), strict=True))
            window.clear()
            calls = taken.calls.setdefault(command.name, Calls())
            if calls.ok:
                calls.merge(Calls(got))  # two commands of one name, after a plugin was left out
            else:
                calls.ok = got
            self.calls += sum(got.values())
            if number % CHUNK == 0:
                rest()
        failed = sum(calls.failures for calls in taken.calls.values())
        self.calls += failed
        self.failed += failed
        return taken


# --- the parts of topics --------------------------------------------------------------------------


def _part(*names: str) -> Callable[[Meters, Event], None]:
    """Count by the values of these fields, which the server and its plugins choose."""

    def count(meters: Meters, event: Event) -> None:
        meters.live.count("|".join([event.topic, *(str(getattr(event, name))[:64] for name in names)]))

    return count


def _closed(meters: Meters, event: Event) -> None:
    meters.live.count(f"connection.closed|{event.reason}")
    for name in ("bytes_in", "bytes_out"):
        meters.live.count(name, getattr(event, name))
        meters.observe(f"connection.{name}", getattr(event, name))
    meters.observe("connection.seconds", event.seconds)
    meters.observe("connection.calls", event.calls)


def _transaction(meters: Meters, event: Event) -> None:
    method = meters.known(event.method)
    meters.live.count(f"transaction.finished|{event.state}")
    meters.observe(f"transaction|{method}", event.seconds)
    meters.live.count(f"statements|{method}", event.statements)


def _blocked(meters: Meters, event: Event) -> None:
    method = meters.known(event.method) if event.method else OTHER
    meters.live.count(f"loop.blocked|{method}")
    meters.observe(f"blocked|{method}", event.seconds)


def _limited(meters: Meters, event: Event) -> None:
    limit = f"{str(event.scope)[:64]}|{meters.known(event.method)}"
    # The topic is folded: one event stands for `count` refusals.
    meters.live.count("rate.exceeded", event.count - 1)
    meters.live.count(f"rate.exceeded|{limit}", event.count)
    meters.refused_peer(limit, str(event.user_id or event.prefix))


def _shed(meters: Meters, event: Event) -> None:
    meters.live.count("load.shed", event.count - 1)
    meters.live.count(f"load.shed|{meters.known(event.method)}", event.count)


def _lost(meters: Meters, event: Event) -> None:
    meters.live.count("log.lost", event.count - 1)


def _exhausted(meters: Meters, event: Event) -> None:
    meters.live.count(f"retry.exhausted|{meters.known(event.method)}")


_MORE: dict[str, Callable[[Meters, Event], None]] = {
    "connection.closed": _closed,
    "connection.refused": _part("code"),
    "protocol.violated": _part("kind"),
    "plugin.failed": _part("plugin"),
    "loop.blocked": _blocked,
    "log.lost": _lost,
    "transaction.finished": _transaction,
    "breaker.changed": _part("name", "new"),
    "retry.exhausted": _exhausted,
    "load.shed": _shed,
    "rate.exceeded": _limited,
    "threat.detected": _part("category"),
    "address.blocked": _part("severity"),
    "login.succeeded": _part("means"),
    "login.failed": _part("reason"),
    "alert.raised": _part("severity"),
}
