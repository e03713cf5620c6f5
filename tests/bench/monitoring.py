"""What the monitoring plugin adds to a call, what it remembers, and what its beat costs the event loop.

    python tests/bench/monitoring.py                       # aims: 0.2 µs, 5 MiB, 5 ms, no gap above 2 ms
    python tests/bench/monitoring.py --rounds 9000 --json out.json

A call: the listener alone, in windows of about 0.1 ms, mostly too short to be interrupted, less an empty function's
time; and a whole dispatch with the plugin and without, in turns, with the trace of every 1,000th call that is on by
default. Both with each call's share of the sorting that is done some fifty times a second. Of each the tenth percentile
counts. Memory: resident, after a million calls on 200 commands in 20 minutes of
virtual time, in a process of its own. A flush: a second with 10,000 calls on 200 commands,
made into 3,200 lines for a StatsD that is a UDP socket of this process; the beat is what comes before: counting,
history, rules. Gaps are how long a timer of 0.2 ms had to wait. All three in CPU time, for others use these cores too.
"""

from __future__ import annotations

import argparse
import gc
import logging
import random
import socket
import statistics
import sys
import tempfile
import time
from multiprocessing import get_context
from typing import Any

import gevent
import psutil
from gevent.hub import get_hub
from tidegate import Call, Command, Connection, Plugin, command, hookimpl
from tidegate.clock import Clock
from tidegate.config import read
from tidegate.server import Server
from tidegate_monitoring import Monitoring
from windows import keep, low, seconds

COMMANDS, CALLS, MINUTES = 200, 1_000_000, 20
MONITORED: dict[str, type[Plugin]] = {"monitoring": Monitoring}
AIMS = {"listener_us": 0.2, "dispatch_us": 0.2, "memory_mib": 5.0, "flush_ms": 5.0, "gap_ms": 2.0}


class Shop(Plugin):
    @command("bench.plain")
    def plain(self) -> int:
        return 1


class Listener(Plugin):
    listens = frozenset({"call.finished"})

    @hookimpl
    def tidegate_event(self, event: Any) -> None:
        pass


class Stepped(Clock):
    """Stands still until told."""

    def __init__(self) -> None:
        self.time = 1_000.0
        self.now = lambda: self.time  # type: ignore[method-assign]
        self.wall = lambda: 1.8e9 + self.time  # type: ignore[method-assign]


def server(plugins: dict[str, type[Plugin]], clock: Clock | None = None, sets: tuple[str, ...] = ()) -> Server:
    data = f"server.data={tempfile.gettempdir()}/tidegate-bench"
    made = Server(read(None, sets=[data, *sets]), plugins={"shop": Shop, **plugins}, only=["none"], clock=clock)
    if "monitoring" in plugins:
        plugin: Any = made.registry.plugins["monitoring"]
        plugin._adopt(plugin.config)
    return made


def a_call(of: Server) -> Call:
    route = of.routes["bench.plain"]
    return Call(of, Connection(of, "internal"), route.command, None, of.clock.now(), float("inf"), {})


def sorting(of: Server) -> float:
    """Seconds for what the monitoring plugin, if there is one, makes later of the calls since it last did."""
    plugin: Any = of.registry.plugins.get("monitoring")
    start = time.perf_counter()
    if plugin is not None:
        plugin.meters.sort()
    return time.perf_counter() - start


def listener(rounds: int, times: int) -> dict[str, float]:
    of = server(MONITORED)
    call, plugin = a_call(of), of.registry.plugins["monitoring"]
    call.seconds = 0.00123
    hear: Any = plugin.tidegate_event  # type: ignore[attr-defined]

    def empty(event: Any) -> None:
        pass

    gc.disable()
    pairs = [(seconds(empty, call, times), seconds(hear, call, times) + sorting(of) / times) for _ in range(rounds)]
    gc.enable()
    bare, heard = (low([pair[place] for pair in pairs]) for place in (0, 1))
    return {"listener_us": heard * 1e6, "without_the_call_itself_us": (heard - bare) * 1e6}


def dispatch(rounds: int, times: int) -> dict[str, float]:
    """A whole dispatch, of a server that nobody listens to, of one with an empty listener, and with the plugin."""
    ways = []
    for of in (server({}), server({"listener": Listener}), server(MONITORED)):
        ways.append((of, a_call(of), of.routes["bench.plain"]))

    def one(way: tuple[Server, Call, Any]) -> None:
        of, call, route = way
        call.encoded = call.layers = None
        of.dispatch(call, route.proceed)

    def window(way: tuple[Server, Call, Any]) -> float:
        way[1].now = way[0].clock.now()  # or the call would seem to take as long as this bench
        return seconds(one, way, times) + sorting(way[0]) / times

    gc.disable()
    rows = [[window(way) for way in ways] for _ in range(rounds)]
    gc.enable()
    alone, heard, monitored = (low([row[place] for row in rows]) for place in range(3))
    return {
        "dispatch_us": (monitored - heard) * 1e6,
        "telling_anybody_us": (heard - alone) * 1e6,
        "dispatch_alone_us": alone * 1e6,
    }


def made_commands(plugin: Any) -> list[Command]:
    return [Command(f"area{n % 20}.command_{n}", lambda: None, plugin, {}) for n in range(COMMANDS)]


def latencies(n: int) -> list[float]:
    """Of one command: log-normal around a median of its own, as those of most services."""
    chance = random.Random(n)
    middle = chance.uniform(-8, -4)
    return [chance.lognormvariate(middle, 0.5) for _ in range(200)]


def memory(_: object = None) -> dict[str, float]:
    logging.disable()
    clock = Stepped()
    of = server(MONITORED, clock)
    plugin: Any = of.registry.plugins["monitoring"]
    calls = []
    for n, each in enumerate(made_commands(plugin)):
        call = Call(of, Connection(of, "internal"), each, None, 0.0, float("inf"), {})
        calls.append((call, latencies(n)))
    chance = random.Random(1)
    plugin.beats.beat()
    gc.collect()
    process = psutil.Process()
    before = process.memory_info().rss
    a_second = CALLS // (MINUTES * 60)
    for _ in range(MINUTES * 60):
        for _ in range(a_second):
            call, times = calls[int(chance.random() * COMMANDS)]
            call.seconds = times[int(chance.random() * 200)]
            plugin.tidegate_event(call)
        clock.time += 1.0
        plugin.beats.beat()
    gc.collect()
    return {
        "memory_mib": (process.memory_info().rss - before) / 2**20,
        "history_mib": plugin.history.size / 2**20,
        "calls": plugin.meters.calls,
    }


def flush(rounds: int) -> dict[str, float]:
    sink = socket.socket(type=socket.SOCK_DGRAM)
    sink.bind(("127.0.0.1", 0))
    sink.setblocking(False)
    clock = Stepped()
    of = server(MONITORED, clock, (f"plugins.monitoring.statsd=127.0.0.1:{sink.getsockname()[1]}",))
    plugin: Any = of.registry.plugins["monitoring"]
    calls = []
    for n, each in enumerate(made_commands(plugin)):
        call = Call(of, Connection(of, "internal"), each, None, 0.0, float("inf"), {})
        calls.append((call, latencies(n)[:50]))
    gaps: list[float] = []
    last = 0.0

    def tick() -> None:
        nonlocal last
        now = time.thread_time()  # not what other programs have the core for
        gaps.append(now - last)
        last = now

    timer = get_hub().loop.timer(0.0002, 0.0002)
    plugin.daemon.start()
    beats, flushes, longest = [], [], []
    gc.collect()
    gc.freeze()
    for turn in range(2 * rounds):
        for number, (call, times) in enumerate(calls):
            for call.seconds in times:
                plugin.tidegate_event(call)
            if number % (COMMANDS // 50) == 0:
                plugin.meters.sort()  # as fifty times in a second
        clock.time += 1.0
        gevent.sleep(0.01)
        gaps.clear()
        start = last = time.thread_time()
        if turn % 2:  # the timer takes its time, too
            timer.start(tick)
        plugin.beats.beat()
        sent, beaten = plugin.daemon.sent, time.thread_time()
        while plugin.daemon.sent == sent:
            gevent.sleep(0.02)  # looking more often would cost as much as the flush
        flushed = time.thread_time()
        timer.stop()
        if turn % 2:
            longest.append(max(gaps))
        else:
            beats.append(beaten - start)
            flushes.append(flushed - beaten)
        while True:
            try:
                sink.recv(65536)
            except BlockingIOError:
                break
    return {
        "beat_ms": statistics.median(beats) * 1e3,
        "flush_ms": statistics.median(flushes) * 1e3,
        "gap_ms": statistics.median(longest) * 1e3,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3000, help="pairs of windows (default 3000)")
    parser.add_argument("--times", type=int, default=500, help="calls in a window (default 500)")
    parser.add_argument("--flushes", type=int, default=30, help="(default 30)")
    parser.add_argument("--json", metavar="FILE", help="write the figures there too")
    args = parser.parse_args()
    logging.disable()
    sys.setswitchinterval(0.001)  # as a server that runs has it
    with get_context("spawn").Pool(1) as process:
        out = process.map(memory, [None])[0]
    out |= listener(args.rounds, args.times) | dispatch(args.rounds, args.times) | flush(args.flushes)
    print(f"{'':32s}{'found':>10s}{'aim':>8s}")
    for name, value in out.items():
        print(f"{name:32s}{value:10.3f}{AIMS.get(name, '')!s:>8s}")
    keep(out, args.json)


if __name__ == "__main__":
    main()
