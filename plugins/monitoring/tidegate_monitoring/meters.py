"""What is counted while it happens: calls in the cells of the hot path, all else in the live window."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from math import inf, log2
from typing import TYPE_CHECKING, Any

from tidegate import Call, Command, Event

from tidegate_monitoring.histogram import LEAST, STEP, Histogram, add, bucket_of, whole
from tidegate_monitoring.window import CHUNK, MAX_NAMES, OTHER, Calls, Window

if TYPE_CHECKING:
    from tidegate import Server

PEERS_S = 900.0  # for so long peers are told apart
MAX_PEERS = 500  # different peers that a limit refused, of each limit
#: Puts down what a call took, and the seconds from which a call is looked at more closely.
Cell = tuple[Callable[[float], None], float]


class Tally:
    """Of one command: seconds of successful calls, those not sorted yet and the others by bucket."""

    __slots__ = ("buckets", "left", "times")

    def __init__(self, every: int) -> None:
        self.times: list[float] = []
        self.buckets: defaultdict[float, int] = defaultdict(int)
        self.left = every - 1  # calls before one that is traced


class Meters:
    """Counters since `take` was last called.

    `cells` is all that a quick, successful call needs: it leaves its seconds, which are sorted into buckets some
    fifty times a second, many at once, which takes less than one by one. Only commands that exist have a cell, so
    that names which a client makes up never become names here.
    """

    def __init__(
        self, server: Server, looked_at: Callable[[Call], None], started: Callable[[], None] = lambda: None
    ) -> None:
        self.server = server
        self.cells: dict[Command, Cell] = {}
        self.tallies: dict[Command, Tally] = {}
        self.looked_at = looked_at
        self.started = started  # called once all plugins have started
        self.limits: Callable[[str], float] = lambda name: inf
        self.trace_every = 0
        self.live = Window(server.clock.wall())
        self.since = server.clock.now()
        self.peers: dict[str, set[str]] = {}
        self._peers_since = self.since
        self.calls = self.failed = 0  # since the start

    def prepare(self, limits: Callable[[str], float], trace_every: int) -> None:
        """Take over the seconds from which calls are looked at, and how many calls share a trace; counts stay."""
        self.limits, self.trace_every = limits, trace_every
        for command in {*self.tallies, *self.server.commands.values()}:
            tally = self._tally(command)
            tally.left = trace_every
            self._passed(command, tally, 1)

    def _tally(self, command: Command) -> Tally:
        """Of this command, with its cell as the settings are now."""
        tally = self.tallies.get(command)
        if tally is None:
            tally = self.tallies[command] = Tally(self.trace_every)
        self.cells[command] = (tally.times.append, self.limits(command.name))
        return tally

    # --- calls ------------------------------------------------------------------------------------

    def hearing(self) -> Callable[[Event | Call], None]:
        """What hears every event, the finished calls among them. For a quick success: one look-up, one number put
        down. A closure, since the names of an instance take 0.03 µs longer."""
        cells = self.cells

        def hear(event: Any) -> None:
            try:
                put, limit = cells[event.command]
                seconds = event.seconds
                if seconds < limit and event.fault is None and event.layers is None:
                    put(seconds)
                    return
            except (AttributeError, KeyError, TypeError):
                pass  # no call, or the first of a command
            if isinstance(event, Call):
                self.call(event)
            else:
                self.event(event)

        return hear

    def call(self, call: Call) -> None:
        """A call that the hot path leaves to us: failed, slow, traced, or of a command that is new."""
        command = call.command
        tally = self.tallies.get(command) or self._tally(command)
        if call.fault is None:
            tally.buckets[bucket_of(call.seconds)] += 1
        else:
            calls = self.live.calls.setdefault(command.name, Calls())
            add(calls.failed, call.seconds)
            calls.codes[call.fault.code] = calls.codes.get(call.fault.code, 0) + 1
        for plugin, took in (call.layers or {}).items():
            self.observe(f"layer|{plugin}", took)
        self._passed(command, tally, 1)
        if call.seconds >= self.cells[command][1]:
            self.looked_at(call)

    def sort(self) -> None:
        """Put what calls have left into buckets. Never switches."""
        for command, tally in self.tallies.items():
            times = tally.times
            if not times:
                continue
            buckets = tally.buckets
            for seconds in times:
                # The same as bucket_of, inline.
                buckets[log2(seconds if seconds > LEAST else LEAST) // STEP] += 1
            self._passed(command, tally, len(times))
            times.clear()

    def _passed(self, command: Command, tally: Tally, calls: int) -> None:
        """After so many calls the next one is traced."""
        tally.left -= calls
        if tally.left <= 0 < self.trace_every:
            tally.left = self.trace_every
            self.server.trace_next(command.name)

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
        self.sort()
        taken, self.live = self.live, Window(self.server.clock.wall())
        taken.seconds, self.since = now - self.since, now
        busy = [(command, tally.buckets) for command, tally in self.tallies.items() if tally.buckets]
        for number, (command, buckets) in enumerate(busy, 1):
            got: Histogram = dict(zip(map(whole, buckets), buckets.values(), strict=True))
            buckets.clear()
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
