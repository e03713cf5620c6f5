"""The performance report: what was busy, slow and failing, what changed, and what to do about it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tidegate_monitoring.advice import Evidence, advise
from tidegate_monitoring.histogram import Histogram, mean, quantiles
from tidegate_monitoring.history import Packed
from tidegate_monitoring.tracks import own_fault
from tidegate_monitoring.window import Calls, Window, merged

SPANS = {"15m": 900, "1h": 3600, "1d": 86400}
TOP = 10
#: A change is worth telling from this factor on, with at least so many calls before and now.
CHANGED = 1.5
ENOUGH = 20
SECURITY = (
    *("threat.detected", "address.blocked", "address.unblocked", "login.failed", "login.succeeded"),
    *("rate.exceeded", "protocol.violated", "connection.refused", "method.unknown"),
)


def row(name: str, calls: Calls, seconds: float) -> dict[str, Any]:
    """A command's figures, times in ms."""
    count, failed = calls.count, calls.failures
    times = latency(calls.seconds())
    return {
        "command": name,
        "count": count,
        "per_s": round(count / seconds, 3) if seconds else 0.0,
        "failed": failed,
        "own_failures": sum(number for code, number in calls.codes.items() if own_fault(code)),
        "failed_percent": round(100 * failed / count, 3) if count else 0.0,
        "errors": {str(code): number for code, number in sorted(calls.codes.items())},
        **times,
    }


def latency(seconds: Histogram) -> dict[str, float]:
    """`{"p50_ms": 1.2, …}`, within 1 %."""
    names = ("p50_ms", "p90_ms", "p99_ms", "p999_ms", "max_ms")
    values = quantiles(seconds, 0.5, 0.9, 0.99, 0.999, 1.0)
    return {name: round(value * 1000, 4) for name, value in zip(names, values, strict=True)}


def metrics(seconds: Sequence[Packed]) -> dict[str, Any]:
    """What the last seconds hold; pure, for a thread."""
    window = merged([packed.window for packed in seconds])
    rows = [row(name, calls, window.seconds) for name, calls in window.calls.items()]
    total = row("total", window.all_calls(), window.seconds)
    return {
        "seconds": round(window.seconds, 3),
        "total": total,
        "calls": sorted(rows, key=lambda each: -each["count"]),
        "counts": dict(sorted(window.counts.items())),
        "loop_lag": latency(window.series.get("loop.lag", {})),
    }


def build(now: Sequence[Packed], before: Sequence[Packed], span: str, until: float) -> dict[str, Any]:
    """The report of a span, compared with the one before; pure, for a thread."""
    windows = [packed.window for packed in now]
    points = [(window.start, dict(window.levels)) for window in windows]
    window, earlier = merged([packed.window for packed in now]), merged([packed.window for packed in before])
    rows = [row(name, calls, window.seconds) for name, calls in window.calls.items()]
    recommendations = advise(Evidence(window, points))
    return {
        "span": span,
        "from": round(window.start, 3),
        "until": round(until, 3),
        "seconds": round(window.seconds, 3),
        "total": row("total", window.all_calls(), window.seconds),
        "before": row("total", earlier.all_calls(), earlier.seconds) if before else None,
        "busiest": sorted(rows, key=lambda each: -each["count"])[:TOP],
        "slowest": sorted(rows, key=lambda each: -each["p99_ms"])[:TOP],
        "failing": sorted((each for each in rows if each["failed"]), key=lambda each: -each["failed"])[:TOP],
        "changes": changes(window, earlier) if before else [],
        "decorators": decorators(window),
        "resources": resources(window),
        "loop": {**latency(window.series.get("loop.lag", {})), "blocked": window.parts("loop.blocked")},
        "gc": {**latency(window.series.get("gc.pause", {})), "pauses": sum(window.series.get("gc.pause", {}).values())},
        "connections": connections(window),
        "transactions": transactions(window),
        "security": {topic: window.counts[topic] for topic in SECURITY if topic in window.counts},
        "recommendations": [each._asdict() for each in recommendations],
    }


def changes(now: Window, before: Window) -> list[dict[str, Any]]:
    """Commands whose rate, p99 or failures differ by half or more, the largest change first."""
    found: list[dict[str, Any]] = []
    for name in now.calls.keys() | before.calls.keys():
        new, old = now.calls.get(name, Calls()), before.calls.get(name, Calls())
        if max(new.count, old.count) < ENOUGH:
            continue
        pairs = {"per_s": (new.count / (now.seconds or 1), old.count / (before.seconds or 1))}
        if min(new.count, old.count) >= ENOUGH:
            pairs["p99_ms"] = (quantiles(new.seconds(), 0.99)[0] * 1000, quantiles(old.seconds(), 0.99)[0] * 1000)
            pairs["failed_percent"] = (100 * new.failures / new.count, 100 * old.failures / old.count)
        for what, (is_now, was) in pairs.items():
            # What was next to nothing may be many times as much and still be nothing.
            floor = {"per_s": 0.01, "p99_ms": 1.0, "failed_percent": 0.1}[what]
            factor = max(is_now, floor) / max(was, floor)
            if factor >= CHANGED or factor <= 1 / CHANGED:
                values = {"before": round(was, 4), "now": round(is_now, 4), "factor": round(factor, 2)}
                found.append({"command": name, "what": what, **values})
    found.sort(key=lambda each: -max(each["factor"], 1 / each["factor"]))
    return found[: 2 * TOP]


def decorators(window: Window) -> list[dict[str, Any]]:
    """Of the calls that were traced: what each decorator took, µs, the dearest first."""
    rows = []
    for name, histogram in window.series.items():
        if name.startswith("layer|"):
            p50, p99 = quantiles(histogram, 0.5, 0.99)
            figures = {"mean_us": mean(histogram), "p50_us": p50, "p99_us": p99}
            told = {key: round(value * 1e6, 2) for key, value in figures.items()}
            rows.append({"decorator": name.partition("|")[2], "traced": sum(histogram.values()), **told})
    return sorted(rows, key=lambda each: -each["mean_us"])


def resources(window: Window) -> dict[str, dict[str, float]]:
    """Every gauge: the last reading, the mean, the lowest and the highest."""
    return {
        name: {"last": level.last, "mean": round(level.mean, 4), "low": level.low, "high": level.high}
        for name, level in sorted(window.levels.items())
        if "|" not in name
    }


def connections(window: Window) -> dict[str, Any]:
    lengths = quantiles(window.series.get("connection.seconds", {}), 0.5, 0.99, 1.0)
    return {
        "opened": window.counts.get("connection.opened", 0),
        "closed": window.parts("connection.closed"),
        "refused": window.parts("connection.refused"),
        "bytes_in": window.counts.get("bytes_in", 0),
        "bytes_out": window.counts.get("bytes_out", 0),
        "length_s": dict(zip(("p50", "p99", "max"), (round(each, 3) for each in lengths), strict=True)),
    }


def transactions(window: Window) -> dict[str, Any]:
    whole: Histogram = {}
    for name, histogram in window.series.items():
        if name.startswith("transaction|"):
            for bucket, count in histogram.items():
                whole[bucket] = whole.get(bucket, 0) + count
    return {"states": window.parts("transaction.finished"), **latency(whole)} if whole else {}
