"""Recommendations: each from one rule, with the figures that it goes by."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from math import inf
from typing import Any, NamedTuple

from tidegate_monitoring.histogram import Histogram, mean, quantiles
from tidegate_monitoring.meters import PEERS_S
from tidegate_monitoring.window import OTHER, Level, Window

BLOCKS = 3  # blocks of the loop by one command
WAIT_S = 0.05  # for a thread or a transaction's turn
ENOUGH = 20  # calls, transactions, pieces of work
QUERY_S = 0.1  # the mean of a statement
PEERS = 10  # different users or addresses that one limit refused
EACH = 20  # refusals a peer in PEERS_S; who has more is no normal user
OPENINGS = 3  # of one breaker
GC_SHARE = 0.1  # of the time of a command's calls
GC_PAUSES = 5
DISK_H = 72.0
TREND_S = 600.0  # the least time from which a trend is drawn


class Advice(NamedTuple):
    """`kind` is the rule, `subject` what it is about; `evidence` has numbers with their units."""

    kind: str
    subject: str
    text: str
    evidence: dict[str, Any]


class Evidence(NamedTuple):
    """What rules look at: the whole span as one window, and its levels over time (wall)."""

    window: Window
    points: Sequence[tuple[float, dict[str, Level]]] = ()


Found = Iterator[Advice]


def blocking_command(evidence: Evidence) -> Found:
    """A command that keeps the event loop to itself."""
    window = evidence.window
    for command, times in window.parts("loop.blocked").items():
        if times < BLOCKS:
            continue
        longest = quantiles(window.series.get(f"blocked|{command}", {}), 1.0)[0]
        figures = {"blocks": times, "longest_s": round(longest, 3), "in_s": round(window.seconds)}
        if command == OTHER:
            yield Advice(
                *("blocking_command", "a background task"),
                "Something that is no command blocks the event loop; the log has its stack. Move it to a thread pool.",
                figures,
            )
        else:
            yield Advice(
                *("blocking_command", command),
                f"{command} blocks the event loop, and everybody waits. If it computes or calls C code, mark it with "
                'thread=True; if it writes much to SQLite, with transaction={"long": True}; if it waits, use a library '
                "that yields under gevent.",
                figures,
            )


def small_pool(evidence: Evidence) -> Found:
    """A thread pool, or the turns of transactions, for which calls wait. By Little's law the mean wait is the mean
    length of the queue over the throughput."""
    window = evidence.window
    for name, level in window.levels.items():
        pool = name.partition("|")[2]
        if not name.startswith("pool|") or pool == "monitoring":  # its own: no client waits for that
            continue
        done = window.counts.get(f"pool.done|{pool}", 0)
        wait = level.mean * window.seconds / done if done else inf if level.mean else 0.0
        if wait >= WAIT_S and done >= ENOUGH:
            yield Advice(
                *("small_pool", pool),
                f"Work waits for a thread of the pool {pool!r}. Give it more threads ([server] threads for commands), "
                "or less to do.",
                {"mean_wait_s": round(wait, 3), "most_waiting": level.high, "done": done},
            )
    waiting = window.levels.get("transactions.transactions_waiting")
    done = window.counts.get("transaction.finished", 0)
    if waiting is not None and done >= ENOUGH and (wait := waiting.mean * window.seconds / done) >= WAIT_S:
        yield Advice(
            *("small_pool", "transactions"),
            "Calls wait for their turn to have a transaction. Raise [plugins.transactions] max_active (with PostgreSQL "
            "pool_size too), or make transactions shorter.",
            {"mean_wait_s": round(wait, 3), "most_waiting": waiting.high, "done": done},
        )


def slow_query(evidence: Evidence) -> Found:
    """Transactions that are slow with few statements; many statements are another matter."""
    window = evidence.window
    for name, seconds in window.series.items():
        if not name.startswith("transaction|"):
            continue
        command, count = name.partition("|")[2], sum(seconds.values())
        statements = window.counts.get(f"statements|{command}", 0)
        if count < ENOUGH or not statements:
            continue
        each = mean(seconds) * count / statements
        if each >= QUERY_S:
            yield Advice(
                *("slow_query", command),
                f"The statements of {command} are slow. Look at its plan (EXPLAIN); most often an index is missing.",
                {
                    "mean_statement_s": round(each, 3),
                    "statements_each": round(statements / count, 2),
                    "p99_transaction_s": round(quantiles(seconds, 0.99)[0], 3),
                    "transactions": count,
                },
            )


def tight_limit(evidence: Evidence) -> Found:
    """A limit that refuses many a little, and not a few a lot, meets normal users."""
    window = evidence.window
    for limit, refused in window.parts("rate.exceeded").items():
        level = window.levels.get(f"peers|{limit}")
        if level is None or level.high < PEERS:
            continue
        each = refused / (level.high * max(window.seconds / PEERS_S, 1.0))
        if each > EACH:
            continue
        scope, _, command = limit.partition("|")
        yield Advice(
            *("tight_limit", command),
            f"The limit of {command} (by {scope}) refuses many callers a few times each, as one does that is too low "
            "for normal use. Raise it, or let clients know of retry_after.",
            {"refused": refused, "callers": int(level.high), "each": round(each, 1)},
        )


def flapping_breaker(evidence: Evidence) -> Found:
    """A breaker that opens again and again."""
    changes = evidence.window.parts("breaker.changed")
    for change, times in changes.items():
        name, _, state = change.rpartition("|")
        if state == "open" and times >= OPENINGS and changes.get(f"{name}|closed", 0) >= OPENINGS - 1:
            yield Advice(
                *("flapping_breaker", name),
                f"The breaker {name!r} opens and closes again and again: what it guards is half well. Let it stay open "
                "for longer (open_s), ask for more probes, or find out what fails.",
                {"opened": times, "closed": changes.get(f"{name}|closed", 0), "in_s": round(evidence.window.seconds)},
            )


def collecting_command(evidence: Evidence) -> Found:
    """A command that makes so many objects that the collector takes much of its time."""
    window = evidence.window
    for name, pauses in window.series.items():
        if not name.startswith("gc|"):
            continue
        command, count = name.partition("|")[2], sum(pauses.values())
        spent, calls = _total(pauses), window.calls.get(command)
        if calls is None or count < GC_PAUSES:
            continue
        whole = _total(calls.seconds())
        if whole and spent / whole >= GC_SHARE:
            yield Advice(
                *("collecting_command", command),
                f"The garbage collector takes much of the time of {command}: it makes many objects that live long. "
                "Answer in pages, stream, or free what is done with.",
                {
                    "pauses": count,
                    "longest_s": round(quantiles(pauses, 1.0)[0], 4),
                    "share_percent": round(100 * spent / whole, 1),
                },
            )


def filling_disk(evidence: Evidence) -> Found:
    """A disk that will be full within days, as its free space goes down now."""
    for name in evidence.window.levels:
        if not (name.startswith("monitoring.disk_") and name.endswith("_free_bytes")):
            continue
        points = [(at, levels[name].last) for at, levels in evidence.points if name in levels]
        slope = _slope(points)
        if slope is None or slope >= 0:
            continue
        hours = points[-1][1] / -slope / 3600
        if hours <= DISK_H:
            disk = name.removeprefix("monitoring.disk_").removesuffix("_free_bytes")
            yield Advice(
                *("filling_disk", disk),
                f"The disk of the {disk} will be full in {hours:.0f} hours if it goes on like this. Rotate logs, move "
                "backups away, or make it larger.",
                {
                    "hours": round(hours, 1),
                    "free_bytes": int(points[-1][1]),
                    "bytes_per_hour": int(-slope * 3600),
                },
            )


RULES: tuple[Callable[[Evidence], Found], ...] = (
    *(blocking_command, small_pool, slow_query, tight_limit, flapping_breaker, collecting_command, filling_disk),
)


def advise(evidence: Evidence) -> list[Advice]:
    return [advice for rule in RULES for advice in rule(evidence)]


def _total(histogram: Histogram) -> float:
    return mean(histogram) * sum(histogram.values())


def _slope(points: Sequence[tuple[float, float]]) -> float | None:
    """Of the line through the points (least squares), a second; None where they are too few or too near, or jump:
    a line that explains less than half of what they do is no trend."""
    if len(points) < 5 or points[-1][0] - points[0][0] < TREND_S:
        return None
    count = len(points)
    mean_x = sum(x for x, _ in points) / count
    mean_y = sum(y for _, y in points) / count
    xx = sum((x - mean_x) ** 2 for x, _ in points)
    xy = sum((x - mean_x) * (y - mean_y) for x, y in points)
    yy = sum((y - mean_y) ** 2 for _, y in points)
    if not xx or not yy or xy * xy / (xx * yy) < 0.5:
        return None
    return xy / xx
