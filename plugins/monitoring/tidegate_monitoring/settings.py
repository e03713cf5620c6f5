"""The settings of [plugins.monitoring], and the rules that are made of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tidegate_monitoring.alerts import DEFAULTS, SEVERITIES, combined
from tidegate_monitoring.rules import Rule, parse

Schema = dict[str, Any]


def _number(kind: str, low: float, high: float, default: float, help: str, unit: str = "") -> Schema:
    meta = {"help": help} | ({"unit": unit} if unit else {})
    return {"type": kind, "min": low, "max": high, "default": default, "meta": meta}


def _texts(help: str, *, secret: bool = False, longest: int = 20, **example: Any) -> Schema:
    meta = {"help": help, **example} | ({"secret": True} if secret else {})
    return {"type": "list", "schema": {"type": "string"}, "maxlength": longest, "default": [], "meta": meta}


RULE = {"type": "string", "maxlength": 200}

SETTINGS: Schema = {
    "statsd": {
        "type": "string",
        "default": "",
        "meta": {"help": "HOST:PORT of a StatsD daemon; empty: nothing is sent.", "example": "127.0.0.1:8125"},
    },
    "statsd_tcp": {
        "type": "boolean",
        "default": False,
        "meta": {"help": "Over TCP, where packets must not be lost on the way."},
    },
    "statsd_tags": {
        "type": "boolean",
        "default": False,
        "meta": {"help": "Commands and codes as DogStatsD tags instead of parts of a name."},
    },
    "prefix": {
        "type": "string",
        "default": "tidegate.{host}",
        "maxlength": 200,
        "meta": {"help": "Before every name; {host} is this machine's, {name} the server's."},
    },
    "samples": _number("integer", 1, 1000, 5, "Timings a command and second; more are stood for by a sample rate."),
    "trace_every": _number(
        "integer", 0, 1_000_000, 1000, "After so many calls of a command the next has its decorators timed; 0: none."
    ),
    "gauges_every_s": _number("integer", 1, 3600, 5, "How often plugins are asked for their gauges.", "s"),
    "resources_every_s": _number("integer", 1, 3600, 10, "How often memory, descriptors, disks are looked at.", "s"),
    "disks": _texts("Folders whose disks are watched, beside those of the data, the database and the log."),
    "history_bytes": _number("integer", 65536, 1 << 32, 4 << 20, "Memory for the last week; the oldest go first."),
    "save_every_s": _number("integer", 1, 86400, 60, "How often history is written to the data folder.", "s"),
    "default_rules": {"type": "boolean", "default": True, "meta": {"help": "Whether the rules of the README are on."}},
    "rules": {
        "type": "dict",
        "default": {},
        "keysrules": {"type": "string", "regex": "[a-z][a-z0-9_]{0,63}"},
        "valuesrules": {"type": "dict", "schema": {severity: {**RULE, "nullable": True} for severity in SEVERITIES}},
        "meta": {
            "help": "Alerts by name; one of a default's name replaces it, an empty text takes it away.",
            "example": {"slow_send": {"warning": "p99(calls.message.send) > 250ms for 30s"}},
        },
    },
    "webhooks": _texts("Where alerts are posted as JSON.", secret=True),
    "run": _texts("A program, with its arguments, that is run for each alert; JSON on its standard input."),
    "notify_timeout_s": _number("number", 0.1, 300, 5, "How long a webhook or a program may take.", "s"),
    "remind_s": _number("integer", 0, 604800, 3600, "An alert that nobody acknowledged is told again; 0: never.", "s"),
    "access_log": {
        "type": "dict",
        "default": {},
        "keysrules": {"type": "string", "maxlength": 64},
        "valuesrules": {"type": "number", "min": 0, "max": 1},
        "meta": {
            "help": "Share of calls that are logged, by command; '*' is all others.",
            "example": {"account.login": 1, "*": 0.01},
        },
    },
    "slow_s": _number("number", 0, 86400, 1, "Calls that take longer are logged; 0: none.", "s"),
    "log_per_s": _number("integer", 1, 100_000, 50, "Lines of the access log in a second; more are counted only."),
}


def texts_of(config: Any) -> dict[str, dict[str, str]]:
    """The configured rules as they are written."""
    rows: Mapping[str, Any] = config.rules
    return {name: {s: text for s in SEVERITIES if (text := _get(table, s)) is not None} for name, table in rows.items()}


def _get(table: Any, key: str) -> str | None:
    return table.get(key) if isinstance(table, Mapping) else getattr(table, key, None)


def rules_of(*layers: Mapping[str, Mapping[str, str]]) -> dict[str, dict[str, Rule]]:
    """Rules that were understood; a later layer wins. Raises ValueError for the first that is not."""
    found: dict[str, dict[str, Rule]] = {}
    for name, severities in combined(*(layer.items() for layer in layers)).items():
        for severity, text in severities.items():
            try:
                found.setdefault(name, {})[severity] = parse(text)
            except ValueError as error:
                raise ValueError(f"rules.{name}.{severity}: {error}") from None
    return found


def defaults(wanted: bool) -> Mapping[str, Mapping[str, str]]:
    return DEFAULTS if wanted else {}
