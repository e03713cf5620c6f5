"""How fast and how small the server is, against the bare gevent loop. README.md says what the figures mean.

python tests/bench/run.py                                  # throughput and latency, in paired windows
python tests/bench/run.py fairness churn memory            # the other measurements
python tests/bench/run.py all --rounds 9 --json out.json
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import loadgen
from pairs import LOADS, pair
from process import LOAD_CORE, SERVERS, Process, missing, raise_priority
from windows import keep

Rows = list[dict[str, Any]]


class Table:
    """Columns for people, row by row as they come."""

    def __init__(self, title: str, *headings: str) -> None:
        self._widths = [max(len(heading), 18 if heading.startswith("ratio") else 9) for heading in headings]
        print(f"\n{title}")
        self.row("server", *headings)

    def row(self, server: str, *values: object) -> None:
        cells = [f"{value:>{width}}" for value, width in zip(map(str, values), self._widths, strict=True)]
        print("  ".join([f"{server:14}", *cells]), flush=True)


def throughput(args: argparse.Namespace) -> Rows:
    """Each server against the floor, in turns."""
    title = "Throughput and latency, each server in turns with the floor: ratio [quartiles], the floor is 1.00"
    heads = (
        "load",
        "floor req/s",
        "req/s",
        "ratio",
        "ratio per CPU-s",
        "p50 µs",
        "ratio p50",
        "p99 µs",
        "ratio p99",
        "bad",
    )
    table, rows = Table(title, *heads), []
    for name in (name for name in args.servers if name != "floor"):
        with started("floor", args) as floor, started(name, args) as server:
            for load in args.loads:
                found = pair(floor, server, LOADS[load], args.rounds, args.seconds)
                rows.append({"server": name, "load": load, **found._asdict()})
                rates = (f"{found.base_rate:,.0f}", f"{found.rate:,.0f}", found.ratio, found.per_cpu)
                times = (f"{found.p50:,.0f}", found.p50_ratio, f"{found.p99:,.0f}", found.p99_ratio)
                table.row(name, load, *rates, *times, found.bad)
    return rows


def fairness(args: argparse.Namespace) -> Rows:
    """A light client beside two that keep 400 requests in flight each."""
    title = "A light client (one request at a time) beside two that keep 400 in flight each"
    table, rows = Table(title, "flood req/s", "light req/s", "p50 µs", "p99 µs", "max µs"), []
    for name in args.servers:
        with started(name, args) as server:
            for _ in range(args.rounds):
                to = ("--port", server.port, "--method", "system.echo", "--cpu", LOAD_CORE, "--seconds", args.seconds)
                flood = loadgen.start(*to, "-c", 2, "-d", 400, "--window", "--warmup", 0.4)
                light = loadgen.run(*to, "-c", 1, "-d", 1, "--warmup", 0.2)
                rows.append({"server": name, "flood_rps": loadgen.result(flood)["rps"], **light})
        table.row(name, *medians(rows, name, "flood_rps", "rps", "p50_us", "p99_us", "max_us"))
    return rows


def churn(args: argparse.Namespace) -> Rows:
    """Connect, one request, close; four clients at once."""
    title = "Connect, one request, close: four clients at once"
    table, rows = Table(title, "cycles/s", "per server CPU-s", "p50 µs", "p99 µs", "failed"), []
    for _ in range(args.rounds):  # the servers take turns
        for name in args.servers:
            with started(name, args) as server:
                to = ("--port", server.port, "--method", "system.echo", "--mode", "churn", "--requests", 6000)
                before, start = server.cpu_s(), time.perf_counter()
                clients = [loadgen.start(*to, "--cpu", LOAD_CORE, "--seconds", args.seconds) for _ in range(4)]
                said = [loadgen.result(client) for client in clients]
                cycles, took = sum(one["cycles"] for one in said), time.perf_counter() - start
                row = {"cycles_per_s": cycles / took, "per_cpu_s": cycles / (server.cpu_s() - before)}
                row |= {key: statistics.median(one[key] for one in said) for key in ("p50_us", "p99_us")}
                rows.append({"server": name, **row, "failed": sum(one["fails"] for one in said)})
    for name in args.servers:
        table.row(name, *medians(rows, name, "cycles_per_s", "per_cpu_s", "p50_us", "p99_us", "failed"))
    return rows


def memory(args: argparse.Namespace) -> Rows:
    """Resident memory per idle connection, each of which has been answered once."""
    title = "Resident memory of idle connections, each answered once"
    table, rows = Table(title, "connections", "MiB before", "MiB with", "KiB each", "MiB after", "answered"), []
    for name in args.servers:
        for count in args.connections:
            with started(name, args) as server:
                to = ("--port", server.port, "--method", "system.echo", "--mode", "hold", "-c", count, "--seconds", 1.5)
                holder = loadgen.start(*to)
                assert holder.stdout is not None
                answered = json.loads(holder.stdout.readline())["answered"]
                time.sleep(0.5)
                before, held = server.rss_at_start, server.rss_kib()
                holder.communicate()
                time.sleep(0.5)
                after = server.rss_kib()
            each = (held - before) / count
            rows.append({
                "server": name, "connections": count, "before_kib": before, "with_kib": held,
                "after_kib": after, "each_kib": each, "answered": answered,
            })  # fmt: skip
            mib = [f"{kib / 1024:.1f}" for kib in (before, held, after)]
            table.row(name, f"{count:,}", *mib[:2], f"{each:.1f}", mib[2], f"{answered:,}")
    return rows


MEASUREMENTS: dict[str, Callable[[argparse.Namespace], Rows]] = {
    "throughput": throughput, "fairness": fairness, "churn": churn, "memory": memory,
}  # fmt: skip


def started(name: str, args: argparse.Namespace) -> Process:
    return Process(SERVERS[name], args.nice)


def medians(rows: Rows, name: str, *keys: str) -> list[str]:
    return [f"{statistics.median(row[key] for row in rows if row['server'] == name):,.0f}" for key in keys]


def machine() -> dict[str, Any]:
    """What the figures were taken with."""
    packages = {name: version(name) for name in ("tidegate", "gevent", "greenlet", "msgspec", "pluggy")}
    return {"python": platform.python_version(), "kernel": platform.release(), **packages}


def words(allowed: object) -> Callable[[str], list[str]]:
    def split(text: str) -> list[str]:
        if unknown := set(chosen := text.split(",")) - set(allowed):  # type: ignore[call-overload]
            raise argparse.ArgumentTypeError(f"unknown: {', '.join(unknown)}; known: {', '.join(allowed)}")  # type: ignore[arg-type]
        return chosen

    return split


def parsed(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "what", nargs="*", default="throughput", choices=[*MEASUREMENTS, "all"], help="default: throughput"
    )
    parser.add_argument("--rounds", type=int, default=7, help="windows of each server (default 7)")
    parser.add_argument("--seconds", type=float, default=0.4, help="length of a window (default 0.4)")
    parser.add_argument("--loads", type=words(LOADS), default=list(LOADS), help="default: %(default)s")
    parser.add_argument(
        "--servers", type=words(SERVERS), default=["floor", "core", "aiorpcx"], help=f"of {', '.join(SERVERS)}"
    )
    parser.add_argument(
        "--connections", type=lambda text: [int(n) for n in text.split(",")], default=[1000], help="for memory"
    )
    parser.add_argument("--nice", type=int, default=0, help="-15, as root: keeps other programs off the core")
    parser.add_argument("--json", metavar="FILE", help="write all figures there too")
    args = parser.parse_args(arguments)
    chosen = [args.what] if isinstance(args.what, str) else args.what  # argparse checks a default as one word
    args.what = list(MEASUREMENTS) if "all" in chosen else chosen
    return args


def main() -> None:
    args = parsed()
    for name in list(args.servers):
        if lacking := missing(name):
            print(f"{name} is left out: not installed: {', '.join(lacking)}", file=sys.stderr)
            args.servers.remove(name)
    if args.nice:
        raise_priority(args.nice)
    found = {what: MEASUREMENTS[what](args) for what in args.what}
    keep({"machine": machine(), **found}, args.json)


if __name__ == "__main__":
    main()
