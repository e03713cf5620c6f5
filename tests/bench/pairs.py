"""Paired windows: two servers stay up and take turns on one core, for a fraction of a second each.

The ratio of neighbouring windows cancels what the machine does meanwhile; single figures drift by up to 1.5.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import loadgen
from process import LOAD_CORE, Process

WARMUP_S = 0.12


class Load(NamedTuple):
    """`connections`, each with `depth` requests in flight."""

    connections: int
    depth: int


LOADS = {"c50": Load(50, 1), "c500": Load(500, 1), "c50p16": Load(50, 16)}


class Spread(NamedTuple):
    """The median of some ratios and their quartiles."""

    median: float
    q1: float
    q3: float

    def __str__(self) -> str:
        return f"{self.median:.2f} [{self.q1:.2f}–{self.q3:.2f}]"


def spread(values: Iterable[float]) -> Spread:
    ordered = sorted(values)
    quarter = len(ordered) // 4
    return Spread(statistics.median(ordered), ordered[quarter], ordered[-1 - quarter])


class Pair(NamedTuple):
    """A candidate against its base: medians of all windows, ratios of neighbouring ones.

    Latencies are µs of a request; at a depth above 1, of a whole batch.
    `bad` counts replies that were errors or out of order, and connections that were closed.
    """

    base_rate: float
    rate: float
    ratio: Spread
    per_cpu: Spread  # the ratio of answers per second of the server's CPU, which other programs can't take away
    p50: float
    p50_ratio: Spread
    p99: float
    p99_ratio: Spread
    bad: int


def window(server: Process, load: Load, seconds: float, *options: object) -> dict[str, Any]:
    """One window: what the generator says, and `per_cpu_s`, answers per second of the server's CPU."""
    before = server.cpu_s()
    said = loadgen.run(
        *("--port", server.port, "--method", "system.echo", "--cpu", LOAD_CORE),
        *("-c", load.connections, "-d", load.depth, "--seconds", seconds, "--warmup", WARMUP_S),
        *options,
    )
    answers = said["results"] + said["errors"] + said["other"]
    said["per_cpu_s"] = answers / (server.cpu_s() - before)
    said["bad"] = said["errors"] + said["other"] + said["id_mismatch"] + said["closed"]
    return said


def pair(
    base: Process, candidate: Process, load: Load, rounds: int, seconds: float, options: Sequence[object] = ()
) -> Pair:
    """Let the two take turns. `options` go to the load generator, for both."""
    both = [(window(base, load, seconds, *options), window(candidate, load, seconds, *options)) for _ in range(rounds)]

    def median(key: str, place: int = 1) -> float:
        return float(statistics.median(windows[place][key] for windows in both))

    def ratio(key: str) -> Spread:
        return spread(ours[key] / floors[key] for floors, ours in both)

    return Pair(
        median("rps", 0), median("rps"), ratio("rps"), ratio("per_cpu_s"),
        median("p50_us"), ratio("p50_us"), median("p99_us"), ratio("p99_us"),
        sum(ours["bad"] for _, ours in both),
    )  # fmt: skip
