"""StatsD: a window a second, as few packets as it takes, with names as Graphite wants them."""

from __future__ import annotations

import logging
import re
import socket as names
from collections.abc import Iterator, Sequence
from functools import cache, lru_cache
from math import ceil, isfinite
from typing import Any, NamedTuple

import gevent
from gevent import Greenlet, socket
from gevent.event import Event as Signal
from statsd import StatsClient, TCPStatsClient  # type: ignore[import-untyped]
from statsd.client.stream import StreamPipeline  # type: ignore[import-untyped]
from statsd.client.udp import Pipeline  # type: ignore[import-untyped]

from tidegate_monitoring.alerts import Told
from tidegate_monitoring.histogram import Histogram, ranked, sample_ranks, value_of
from tidegate_monitoring.window import CHUNK, Calls, Window

#: Ethernet's 1,500 bytes less the headers of IPv6 and UDP, and some for tunnels.
MAX_PACKET_BYTES = 1400
#: Between bursts of packets, so that the daemon's socket buffer (208 KiB by default) is never full.
BURST_LINES = 200
PACE_S = 0.005
_TIMES = ("loop.", "gc.", "layer|", "transaction|", "connection.seconds")
RESOLVE_S = 60.0
TIMEOUT_S = 1.0
MAX_EVENTS = 100
QUANTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p999": 0.999, "max": 1.0}
_UNSAFE = re.compile(r"[^A-Za-z0-9_-]+")


@lru_cache(4096)
def node(text: str) -> str:
    """One node of a Graphite path: what is none becomes `_`, the dots of `message.send` too."""
    return _UNSAFE.sub("_", text) or "_"


@lru_cache(4096)
def path(text: str) -> str:
    """A path of several nodes: dots and bars part them."""
    return ".".join(node(part) for part in re.split(r"[.|]", text))


class Address(NamedTuple):
    host: str
    port: int


class _Datagrams(Pipeline):  # type: ignore[misc]
    """The client's own packing of lines into packets, for lines that we write: its methods drop by chance what has a
    rate below 1, know no tags, and take 3 µs each."""

    def add(self, lines: list[str]) -> None:
        self._stats.extend(lines)


class _Stream(StreamPipeline):  # type: ignore[misc]
    def add(self, lines: list[str]) -> None:
        self._stats.extend(lines)


class Writer:
    """Turns windows into lines `name:value|type|@rate|#tags`. `samples`: timings of one name, at most."""

    def __init__(self, prefix: str, samples: int, tagged: bool) -> None:
        self.start = f"{prefix}." if prefix else ""
        self.samples = samples
        self.tagged = tagged

    def write(self, window: Window, total: Calls, levels: dict[str, float]) -> Iterator[list[str]]:
        """In pieces of at most half a millisecond."""
        yield self._calls(f"{self.start}total", "", total)
        lines: list[str] = []
        for number, (command, calls) in enumerate(window.calls.items(), 1):
            if self.tagged:
                lines += self._calls(f"{self.start}calls", f"command:{command}", calls)
            else:
                lines += self._calls(f"{self.start}calls.{node(command)}", "", calls)
            if number % CHUNK == 0:
                yield lines
                lines = []
        yield lines
        yield [self._count(name, count) for name, count in window.counts.items() if count]
        for name, histogram in window.series.items():
            if name.startswith(_TIMES):
                yield self._times(f"{self.start}times.{path(name)}", "", histogram, sum(histogram.values()))
        yield [self._gauge(name, value) for name, value in levels.items() if isfinite(value)]

    def _calls(self, start: str, tags: str, calls: Calls) -> list[str]:
        tail = f"|#{tags}" if tags else ""
        ok, failed = calls.succeeded, calls.failures
        lines = []
        if ok:
            lines.append(f"{start}.ok:{ok}|c{tail}")
        if failed:
            lines.append(f"{start}.failed:{failed}|c{tail}")
        for code, count in calls.codes.items():
            if self.tagged:
                both = f"{tags},code:{code}" if tags else f"code:{code}"
                lines.append(f"{start}.errors:{count}|c|#{both}")
            else:
                lines.append(f"{start}.errors.{code}:{count}|c")
        if ok or failed:
            seconds = calls.seconds() if failed else calls.ok
            order = sorted(seconds)
            lines += self._times(f"{start}.latency", tail, seconds, ok + failed, order)
            ranks = [max(ceil(share * (ok + failed)), 1) for share in QUANTILES.values()]
            for name, bucket in zip(QUANTILES, ranked(seconds, ranks, order), strict=True):
                lines.append(f"{start}.{name}:{milliseconds(bucket)}|g{tail}")
        return lines

    def _count(self, name: str, count: int) -> str:
        topic, bar, part = name.partition("|")
        if self.tagged and bar:
            return f"{self.start}events.{path(topic)}.by:{count}|c|#part:{part.replace('|', ':')}"
        return f"{self.start}events.{path(name)}:{count}|c"

    def _gauge(self, name: str, value: float) -> str:
        name = f"{self.start}gauges.{path(name)}"
        # A sign would make it a change of the gauge, so that a level below 0 takes two lines, in one packet.
        return f"{name}:{plain(value)}|g" if value >= 0 else f"{name}:0|g\n{name}:{plain(value)}|g"

    def _times(self, name: str, tail: str, seconds: Histogram, total: int, order: Sequence[int] = ()) -> list[str]:
        """The rate makes the daemon's number of them right, as far as nine digits go."""
        end = f"|ms{tail}" if total <= self.samples else f"|ms|@{self.samples / total:.9f}{tail}"
        buckets = ranked(seconds, sample_ranks(total, self.samples), order)
        return [f"{name}:{milliseconds(bucket)}{end}" for bucket in buckets]


@cache
def milliseconds(bucket: int) -> str:
    """What stands for a bucket; there are 2,000 of them at most."""
    return plain(value_of(bucket) * 1000)


def plain(value: float) -> str:
    """Without an exponent, which StatsD would not read."""
    return f"{value:.6f}".rstrip("0").rstrip(".")


class Daemon:
    """Sends each window from a greenlet of its own. When the daemon is away, a window is lost and nothing else.

    At most one window waits: a daemon over TCP that is slow loses the windows between.
    """

    def __init__(self, log: logging.Logger) -> None:
        self._log = log
        self.address: Address | None = None
        self.sent = self.lost = 0
        self._greenlet: Greenlet[..., Any] | None = None
        self._waiting: tuple[Window, Calls, dict[str, float]] | None = None
        self._wake = Signal()
        self._client: Any = None
        self._resolved_at = 0.0
        self._told = False
        self._tagged = False
        self._events: list[str] = []

    def adopt(self, address: Address | None, prefix: str, tcp: bool, tagged: bool, samples: int) -> None:
        """Send there from now on; None sends nowhere."""
        self.address, self._tcp = address, tcp
        self._tagged = tagged
        self._writer = Writer(prefix, samples, tagged)
        self._drop_client()

    def start(self) -> None:
        self._greenlet = gevent.spawn(self._run)

    def put(self, window: Window, total: Calls, levels: dict[str, float]) -> None:
        """Never switches."""
        if self.address is None:
            return
        if self._waiting is not None:
            self.lost += 1
        self._waiting = (window, total, levels)
        self._wake.set()

    def tell(self, told: Told) -> None:
        """An alert as a DogStatsD event, with the next window; plain StatsD has counters only. Never switches."""
        if self._tagged and len(self._events) < MAX_EVENTS:
            self._events.append(event_line(told))

    def close(self) -> None:
        """Send what waits, for a second at most. Switches."""
        if self._greenlet is not None:
            self._greenlet.kill()
        if self._waiting is not None:
            gevent.with_timeout(TIMEOUT_S, self._send_waiting, timeout_value=None)
        self._drop_client()

    def _run(self) -> None:
        while True:
            self._wake.wait()
            self._wake.clear()
            self._send_waiting()

    def _send_waiting(self) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting is None:
            return
        try:
            self._send(*waiting)
            self.sent += 1
            self._tell(None)
        except (OSError, RuntimeError) as error:
            self.lost += 1
            self._drop_client()
            self._tell(error)
        except Exception:
            self.lost += 1
            self._log.exception("a flush to StatsD failed")

    def _send(self, window: Window, total: Calls, levels: dict[str, float]) -> None:
        client = self._connected()
        pipe = _Stream(client) if self._tcp else _Datagrams(client)
        events, self._events = self._events, []
        pipe.add(events)
        waiting = 0
        for lines in self._writer.write(window, total, levels):
            pipe.add(lines)
            waiting += len(lines)
            if waiting >= BURST_LINES:
                pipe.send()
                waiting = 0
                gevent.sleep(PACE_S)
        pipe.send()

    def _tell(self, error: BaseException | None) -> None:
        """Once when it begins, once when it ends."""
        if error is not None and not self._told:
            self._log.warning("StatsD can't be reached: %s; metrics are lost until it is back", error)
        elif error is None and self._told:
            self._log.info("StatsD is back")
        self._told = error is not None

    # --- its socket -------------------------------------------------------------------------------

    def _connected(self) -> Any:
        """A client of the address as it resolves now. Switches; raises OSError."""
        now = gevent.get_hub().loop.now()
        if self._client is not None and (self._tcp or now - self._resolved_at < RESOLVE_S):
            return self._client
        assert self.address is not None
        kind = socket.SOCK_STREAM if self._tcp else socket.SOCK_DGRAM
        # The client would look the name up while it is made; gevent's own look-up lets others run.
        family, _, _, _, place = socket.getaddrinfo(self.address.host, self.address.port, 0, kind)[0]
        options = {"host": place[0], "port": place[1], "ipv6": family == socket.AF_INET6}
        self._drop_client()
        if self._tcp:
            self._client = TCPStatsClient(timeout=TIMEOUT_S, **options)
        else:
            self._client = StatsClient(maxudpsize=MAX_PACKET_BYTES, **options)
        self._resolved_at = now
        return self._client

    def _drop_client(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            client.close()


def event_line(told: Told) -> str:
    """`_e{title,text}:…`, as DogStatsD takes it; lengths are of UTF-8, which ours is ASCII of."""
    title = f"{told.name} {told.state}".encode("ascii", "replace").decode()
    text = f"{told.shown}{f' of {told.subject}' if told.subject else ''}, rule: {told.rule}"
    text = text.encode("ascii", "replace").decode().replace("\n", " ").replace("|", "/")
    kind = "success" if told.state == "cleared" else "error" if told.severity == "critical" else "warning"
    return f"_e{{{len(title)},{len(text)}}}:{title}|{text}|t:{kind}|k:{told.name}"


def prefixed(template: str, server_name: str) -> str:
    """`tidegate.{host}` with this machine's name as one node. Raises ValueError."""
    try:
        filled = template.format(host=node(names.gethostname()), name=node(server_name))
    except (KeyError, IndexError, ValueError):
        raise ValueError(f"prefix: expected text with {{host}} or {{name}}, got {template!r}") from None
    return ".".join(node(part) for part in filled.split(".") if part)


def address_of(text: str) -> Address | None:
    """`localhost:8125`, `[::1]:8125`; empty: nowhere. Raises ValueError."""
    if not text:
        return None
    host, colon, port = text.rpartition(":")
    if not colon or not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise ValueError(f"statsd: expected HOST:PORT, got {text!r}")
    return Address(host.strip("[]"), int(port))
