"""The settings of [plugins.errors], and the rules that are made from them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tidegate_errors.breaker import Rules
from tidegate_errors.limit import Bounds

Schema = dict[str, Any]


def _number(kind: str, low: float, high: float, help: str, unit: str | None = None, **more: Any) -> Schema:
    meta = {"help": help} | ({"unit": unit} if unit else {})
    return {"type": kind, "min": low, "max": high, "meta": meta, **more}


def _optional(rules: Schema) -> Schema:
    return {**rules, "nullable": True, "default": None}


def _codes(help: str) -> Schema:
    item = {"type": "integer", "min": 1000, "max": 999_999}
    return {"type": "list", "schema": item, "maxlength": 100, "meta": {"help": help, "example": [1306]}}


_BREAKER: dict[str, tuple[Schema, Any]] = {
    "window": (_number("integer", 1, 100_000, "How many of the last calls are looked at."), 100),
    "window_s": (_number("number", 1, 86_400, "Look at the calls of the last seconds instead.", "s"), None),
    "failure_percent": (_number("number", 1, 100, "It opens when so many of them failed."), 50),
    "slow_s": (_number("number", 0.001, 86_400, "A call that takes longer is slow; not set: none is.", "s"), None),
    "slow_percent": (_number("number", 1, 100, "It opens when so many of them were slow."), 50),
    "minimum_calls": (_number("integer", 1, 100_000, "With fewer calls in the window it does not open."), 10),
    "open_s": (
        _number("number", 0.01, 86_400, "How long it is open at first; doubled each time the probes fail.", "s"),
        5,
    ),
    "open_cap_s": (_number("number", 0.01, 604_800, "How long it is open at most.", "s"), 300),
    "probes": (_number("integer", 1, 1000, "How many calls try whether it works again; the others are refused."), 3),
    "counts": (_codes("Only these faults count as failures; none given: all that are the server's."), []),
    "ignores": (_codes("Faults that never count as failures."), []),
}


def _complete(default: Any, rules: Schema) -> Schema:
    return _optional(rules) if default is None else {**rules, "default": default}


SETTINGS: Schema = {
    "retry_percent": _number("number", 0, 100, "Of a hundred calls so many may be retries; 0: none.", default=10),
    "retry_burst": _number("integer", 1, 1_000_000, "Retries at once; so many are lent to a new server.", default=100),
    "breaker": {
        "type": "dict",
        "default": {},
        "schema": {key: _complete(default, rules) for key, (rules, default) in _BREAKER.items()},
        "meta": {"help": "What all circuit breakers do, unless a table breakers.NAME says otherwise."},
    },
    "breakers": {
        "type": "dict",
        "default": {},
        "keysrules": {"type": "string", "minlength": 1, "maxlength": 128},
        "valuesrules": {"type": "dict", "schema": {key: _optional(rules) for key, (rules, _) in _BREAKER.items()}},
        "meta": {
            "help": "Breakers by name, with the keys of `breaker` that are to differ.",
            "example": {"smtp": {"open_s": 60}},
        },
    },
    "max_breakers": _number("integer", 1, 100_000, "Breakers made at run time; past it the oldest goes.", default=1000),
    "adaptive_limit": {
        "type": "boolean",
        "default": False,
        "meta": {"help": "Limit the calls that run at once by how they slow down; the least important are shed first."},
    },
    "limit_initial": _number("integer", 1, 100_000, "The adaptive limit at the start, in calls.", default=100),
    "limit_min": _number("integer", 1, 100_000, "It never falls below.", default=20),
    "limit_max": _number("integer", 1, 100_000, "It never grows beyond.", default=1000),
    "limit_tolerance": _number("number", 1, 10, "How many times slower calls may get before it falls.", default=1.5),
    "shed_retry_after_s": _number("number", 0.01, 3600, "About when who was refused shall come again.", "s", default=1),
    "stale_bytes": _number("integer", 0, 1 << 34, "Memory for the last good results of fallbacks.", default=16 << 20),
    "groups": _number("integer", 1, 10_000, "How many different failures are kept, with a sample each.", default=200),
    "log_per_minute": _number("integer", 1, 100_000, "Lines a minute for one failure; more are counted.", default=10),
}


def rules_of(table: Any, default: Rules | None = None) -> Rules:
    """A breaker's rules from its table; what is not set there is the default's. Raises ValueError."""
    given = table if isinstance(table, Mapping) else vars(table)
    base = default or Rules()

    def value(key: str, other: Any) -> Any:
        found = given.get(key)
        return other if found is None else found

    percent = {key: given.get(key) for key in ("failure_percent", "slow_percent")}
    rules = Rules(
        window=value("window", base.window),
        # A table that asks for a number of calls does not want the default's seconds.
        window_s=given.get("window_s") or (None if given.get("window") else base.window_s),
        failure_rate=base.failure_rate if percent["failure_percent"] is None else percent["failure_percent"] / 100,
        slow_s=value("slow_s", base.slow_s),
        slow_rate=base.slow_rate if percent["slow_percent"] is None else percent["slow_percent"] / 100,
        minimum_calls=value("minimum_calls", base.minimum_calls),
        open_s=value("open_s", base.open_s),
        open_cap_s=value("open_cap_s", base.open_cap_s),
        probes=value("probes", base.probes),
        counts=frozenset(value("counts", base.counts)),
        ignores=frozenset(value("ignores", base.ignores)),
    )
    if rules.open_cap_s < rules.open_s:
        raise ValueError(f"open_cap_s: expected at least open_s, {rules.open_s}, got {rules.open_cap_s}")
    if rules.window_s is None and rules.minimum_calls > rules.window:
        raise ValueError(f"minimum_calls: expected at most window, {rules.window}, got {rules.minimum_calls}")
    return rules


def bounds_of(config: Any) -> Bounds:
    """The adaptive limit's bounds. Raises ValueError."""
    if not config.limit_min <= config.limit_initial <= config.limit_max:
        raise ValueError(
            f"limit_initial: expected between limit_min, {config.limit_min}, and limit_max, {config.limit_max}, "
            f"got {config.limit_initial}"
        )
    return Bounds(config.limit_initial, config.limit_min, config.limit_max, config.limit_tolerance)
