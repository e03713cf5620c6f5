"""Rules as text: `p99(calls.message.send) > 250ms for 30s`.

    rule     = measure compare limit clause*
    measure  = LEVEL | FUNCTION "(" SERIES ")"
    compare  = ">" | ">=" | "<" | "<="
    limit    = NUMBER UNIT?          250ms  2s  5%  100/m  512MiB  3
    clause   = "for" DURATION        it must hold so long before it is told; at once without
             | "over" DURATION       what a function looks back on, 1m without
             | "until" limit         it ends past this value; without, a tenth inside the limit
             | "min" NUMBER          fewer calls than this are no evidence; 20 without

LEVEL is a gauge, `errors.breakers_open`, or one of LEVELS. FUNCTION is `p50`, `p99.9`, `max` or `mean` of seconds,
`rate` (a share with %, else a number in a time) or `count`. SERIES is `calls` or `calls.COMMAND` (`calls.*`: the
worst one command), `errors` (all faults), `failures` (the server's own), `errors.1304`, `transactions`, `loop.lag`,
`gc.pause`, or any topic.
"""

from __future__ import annotations

import re
from typing import NamedTuple

#: Short names of gauges.
LEVELS = {
    "loop_lag": "monitoring.loop_lag_ms",
    "disk_free": "monitoring.disk_free_percent",
    "cpu": "monitoring.cpu_percent",
    "memory": "monitoring.memory_percent",
    "descriptors": "monitoring.descriptors_percent",
    "threads": "monitoring.threads_running",
    "connections": "core.connections_open",
    "in_flight": "core.calls_running",
    "breakers_open": "errors.breakers_open",
    "database_lost": "transactions.database_lost",
}
_UNITS = {
    **{"us": ("seconds", 1e-6), "µs": ("seconds", 1e-6), "ms": ("seconds", 1e-3), "s": ("seconds", 1.0)},
    **{"m": ("seconds", 60.0), "h": ("seconds", 3600.0), "d": ("seconds", 86400.0), "%": ("share", 0.01)},
    **{"/s": ("rate", 1.0), "/m": ("rate", 1 / 60), "/h": ("rate", 1 / 3600)},
    **{"B": ("bytes", 1.0), "KiB": ("bytes", 2.0**10), "MiB": ("bytes", 2.0**20), "GiB": ("bytes", 2.0**30)},
    **{"KB": ("bytes", 1e3), "MB": ("bytes", 1e6), "GB": ("bytes", 1e9)},
}
#: What a gauge is measured in, by the end of its name, and what one base unit is there.
_SUFFIXES = {
    **{"_ms": ("seconds", 1e3), "_s": ("seconds", 1.0), "_seconds": ("seconds", 1.0)},
    **{"_percent": ("share", 100.0), "_bytes": ("bytes", 1.0)},
}
_MEASURE = (
    r"\s*(?:(?P<function>p[\d.]+|max|mean|rate|count{more})\s*\(\s*(?P<series>[\w.*]+)\s*\)"
    r"|(?P<level>[A-Za-z_][\w.]*))\s*"
)
_RULE = re.compile(
    _MEASURE.replace("{more}", "")
    + r"(?P<compare>>=|<=|>|<)\s*(?P<limit>[^\s]+)(?P<clauses>(?:\s+(?:for|over|until|min)\s+[^\s]+)*)\s*",
    re.ASCII,
)
#: Without a limit nothing says whether a rate is a share: here that is `percent`.
_MEASURE_ALONE = re.compile(_MEASURE.replace("{more}", "|percent"), re.ASCII)
_QUANTITY = re.compile(r"(\d+(?:\.\d+)?)\s*([a-zA-Zµ/%]*)")
_LONGEST_S = 86_400.0
WORST = "calls.*"
#: Times that are no calls': how late the event loop was, how long the garbage collector took.
DELAYS = ("loop.lag", "gc.pause")


class Rule(NamedTuple):
    """A rule that was understood. `limit` and `until` are in the unit of what is measured."""

    text: str
    function: str  # "" for a level
    series: str  # or the gauge's whole name
    compare: str
    limit: float
    until: float
    for_s: float
    over_s: float
    minimum: int
    unit: str  # how a value is shown: seconds share rate bytes number, or the gauge's own

    @property
    def quantile(self) -> float | None:
        """0.99 for p99; None where it is none."""
        return share_of(self.function)

    def holds(self, value: float, firing: bool) -> bool:
        """Whether the condition holds; once it fires, as long as the value is not past `until`."""
        limit = self.until if firing else self.limit
        # Past `until` it is over; at a limit that a value must be above, it has not begun.
        if self.compare[0] == ">":
            return value >= limit if self.compare == ">=" or (firing and limit != self.limit) else value > limit
        return value <= limit if self.compare == "<=" or (firing and limit != self.limit) else value < limit


class Measure(NamedTuple):
    """A rule's measure alone, for a chart; with `percent(errors)`, the share of the calls."""

    text: str
    function: str  # "" for a level
    series: str  # or the gauge's whole name


def share_of(function: str) -> float | None:
    """0.99 for p99, 1.0 for max; None for what is no quantile."""
    if function == "max":
        return 1.0
    return float(function[1:]) / 100 if re.match(r"p\d", function) else None


def measure(text: str) -> Measure:
    """Raises ValueError, saying what was expected."""
    found = _MEASURE_ALONE.fullmatch(text)
    if found is None:
        raise ValueError(f"{text!r}: expected a measure such as 'p99(calls.message.send)', or PLUGIN.GAUGE")
    function, series = _what(text, found)
    if function == "percent" and not series.startswith(("errors", "failures")):
        raise ValueError(f"{text!r}: only errors and failures are a share of the calls")
    _check_series(text, function, series)
    return Measure(text, function, series)


def _what(text: str, found: re.Match[str]) -> tuple[str, str]:
    """A function, empty for a level, and of what."""
    function, series, level = found["function"] or "", found["series"] or "", found["level"]
    if not function:
        series = LEVELS.get(level, level)
        if "." not in series:
            raise ValueError(f"{text!r}: {level!r} is no level; expected one of {', '.join(LEVELS)}, or PLUGIN.GAUGE")
    if re.match(r"p[\d.]", function):
        _check_quantile(text, function)
    return function, series


def parse(text: str) -> Rule:
    """Raises ValueError, saying what was expected where."""
    found = _RULE.fullmatch(text)
    if found is None:
        raise ValueError(f"{text!r}: expected a rule such as 'p99(calls.message.send) > 250ms for 30s'")
    function, series = _what(text, found)
    words = found["clauses"].split()
    clauses = dict(zip(words[::2], words[1::2], strict=True))
    if len(clauses) * 2 != len(words):
        raise ValueError(f"{text!r}: a clause is given twice")
    _check_series(text, function, series)
    limit, kind = quantity(found["limit"])
    limit, unit = _in_unit(text, function, series, limit, kind)
    rising = found["compare"][0] == ">"
    until = limit * 0.9 if rising else limit * 1.1
    if unit == "number" or limit == 0:
        until = limit  # breakers and disks are counted, not measured
    if "until" in clauses:
        until, _ = _in_unit(text, function, series, *quantity(clauses["until"]))
        if until > limit if rising else until < limit:
            raise ValueError(f"{text!r}: 'until' lies beyond the limit")
    return Rule(
        text,
        function,
        series,
        found["compare"],
        limit,
        until,
        _duration(text, clauses.get("for", "0s"), 0.0),
        _duration(text, clauses.get("over", "1m"), 1.0),
        _whole(text, clauses.get("min", "20")),
        unit,
    )


def quantity(text: str) -> tuple[float, str]:
    """`250ms` is (0.25, "seconds"). Raises ValueError."""
    found = _QUANTITY.fullmatch(text)
    if found is None or (found[2] and found[2] not in _UNITS):
        raise ValueError(f"{text!r}: expected a number with a unit of {', '.join(_UNITS)}, or none")
    kind, factor = _UNITS[found[2]] if found[2] else ("number", 1.0)
    return float(found[1]) * factor, kind


def _in_unit(text: str, function: str, series: str, limit: float, kind: str) -> tuple[float, str]:
    """The limit as the measure gives its values. Raises ValueError when the units don't fit."""
    if not function:
        for suffix, (wanted, factor) in _SUFFIXES.items():
            if series.endswith(suffix):
                if kind not in (wanted, "number"):
                    raise ValueError(f"{text!r}: {series} is compared with {wanted}, not with {kind}")
                return (limit * factor if kind == wanted else limit), suffix[1:]
        allowed = {"number": "number"}
    elif function == "count":
        allowed = {"number": "number"}
    elif function == "rate":
        allowed = {"share": "share", "rate": "rate", "number": "rate"}
        if kind == "share" and not series.startswith(("errors", "failures")):
            raise ValueError(f"{text!r}: only errors and failures are a share of the calls; use /s, /m or /h")
    else:
        allowed = {"seconds": "seconds"}
    if kind not in allowed:
        raise ValueError(f"{text!r}: expected a limit in {' or '.join(allowed)}, got {kind}")
    return limit, allowed[kind]


def _check_quantile(text: str, function: str) -> None:
    try:
        percent = float(function[1:])
    except ValueError:
        percent = 0.0
    if not 0 < percent < 100:
        raise ValueError(f"{text!r}: {function} is no percentile; expected p50, p99 or p99.9")


def _check_series(text: str, function: str, series: str) -> None:
    timed = series in ("calls", "transactions", *DELAYS) or series.startswith(("calls.", "transactions."))
    if function in ("rate", "count") and series == WORST:
        raise ValueError(f"{text!r}: {WORST} is for times; count calls or calls.COMMAND")
    if function and function not in ("rate", "count", "percent") and not timed:
        known = ", ".join(("calls", "calls.COMMAND", WORST, *DELAYS))
        raise ValueError(f"{text!r}: {function} is of {known} or transactions")


def _duration(text: str, given: str, least: float) -> float:
    seconds, kind = quantity(given)
    if kind != "seconds" or not least <= seconds <= _LONGEST_S:
        raise ValueError(f"{text!r}: {given!r}: expected a time such as 30s, at most a day")
    return seconds


def _whole(text: str, given: str) -> int:
    if not given.isdigit():
        raise ValueError(f"{text!r}: min {given!r}: expected a number of calls")
    return int(given)


def shown(value: float, unit: str) -> str:
    """A value for people: `312 ms`, `6.2 %`."""
    if unit in ("seconds", "s"):
        return f"{value * 1000:.3g} ms" if value < 1 else f"{value:.3g} s"
    if unit == "ms":
        return shown(value / 1000, "seconds")
    if unit in ("share", "percent"):
        return f"{value * 100 if unit == 'share' else value:.3g} %"
    if unit == "rate":
        return f"{value:.3g}/s" if value >= 1 or value == 0 else f"{value * 60:.3g}/m"
    if unit == "bytes":
        for name in ("B", "KiB", "MiB", "GiB"):
            if value < 1024 or name == "GiB":
                return f"{value:.4g} {name}"
            value /= 1024
    return f"{value:g}"
