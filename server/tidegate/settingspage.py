"""The pages made from the schemas: etc/tidegate.toml and server/docs/settings.md."""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Iterator, Mapping
from typing import Any

from tidegate.settings import LISTEN, PLUGIN, SERVER

_TOP = """\
Every setting of Tidegate, at its default. This page is made from the schemas; {edit}.

A flag or --set KEY=VALUE (--set listen.0.max_line_bytes=1024) goes before an environment variable
(TIDEGATE__SERVER__DRAIN_TIMEOUT_S=20, TIDEGATE__LISTEN__0__ADDRESS=127.0.0.1:7421), that before the
file, and the file before the default; there, lists may be written with commas. A key that ends in
_s is in seconds, one in _bytes in bytes. `tidegate check-config` tells every mistake with its line.
A secret may be written as {{file = "/run/secrets/x"}} or {{env = "NAME"}}; it is never shown.
Relative paths start at the folder in which the server was started."""

_SECTIONS = (
    ("server", SERVER, "The server as a whole."),
    (
        "listen",
        LISTEN,
        "A listener; repeat the table for more. With none there is one, at these defaults.",
    ),
)
_PLUGIN_HELP = "What every plugin's table may have."
_UNITS = {"s": "seconds"}


def _toml(value: object) -> str:
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: '""'}[value]
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, Mapping):
        inside = ", ".join(f"{_key(str(key))} = {_toml(one)}" for key, one in value.items())
        return f"{{{inside}}}"
    if isinstance(value, list | tuple | set | frozenset):
        return f"[{', '.join(map(_toml, value))}]"
    return str(value)


def _key(key: str) -> str:
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else json.dumps(key)


def _sample(rules: Mapping[str, Any]) -> str:
    """The default, or what a value could look like where there is none."""
    meta = rules.get("meta", {})
    if rules.get("default") is not None and not meta.get("secret"):
        return _toml(rules["default"])
    if meta.get("secret"):
        return '{file = "/run/secrets/x"}'
    if "example" in meta:
        return _toml(meta["example"])
    if "allowed" in rules:
        return _toml(next(iter(rules["allowed"])))
    kind = rules.get("type", "string")
    first = kind if isinstance(kind, str) else kind[0]
    empty = {"boolean": False, "list": [], "dict": {}}
    return _toml(rules.get("min", 0) if first in ("integer", "float", "number") else empty.get(first, ""))


def _facts(rules: Mapping[str, Any]) -> str:
    """`seconds, 0 to 3600`."""
    meta = rules.get("meta", {})
    facts = [_UNITS.get(meta["unit"], meta["unit"])] if "unit" in meta else []
    if "min" in rules and "max" in rules:
        facts.append(f"{rules['min']} to {rules['max']}")
    elif "min" in rules or "max" in rules:
        facts.append(f"at least {rules['min']}" if "min" in rules else f"at most {rules['max']}")
    if "allowed" in rules:
        facts.append(f"one of {', '.join(map(str, rules['allowed']))}")
    if meta.get("secret"):
        facts.append("secret")
    if rules.get("required"):
        facts.append("required")
    elif rules.get("default") is None:
        facts.append("not set by default")
    return ", ".join(facts)


def _tables(
    header: str, schema: Mapping[str, Any], help: str, many: bool = False
) -> Iterator[tuple[str, bool, str, list[tuple[str, Mapping[str, Any]]]]]:
    """Header, whether it is a list of tables, help, keys; nested tables after their table."""
    nested, keys = [], []
    for key, rules in schema.items():
        inner = rules.get("schema")
        item = inner.get("schema") if isinstance(inner, Mapping) and rules.get("type") == "list" else None
        below = item if isinstance(item, Mapping) else inner if rules.get("type") == "dict" else None
        if isinstance(below, Mapping):
            nested.append(
                (
                    f"{header}.{_key(key)}",
                    below,
                    rules.get("meta", {}).get("help", ""),
                    below is item,
                )
            )
        else:
            keys.append((key, rules))
    yield header, many, help, keys
    for one in nested:
        yield from _tables(*one)


def _all_tables(
    schemas: Mapping[str, Mapping[str, Any]],
) -> Iterator[tuple[str, bool, str, list[tuple[str, Mapping[str, Any]]]]]:
    for name, schema, help in _SECTIONS:
        yield from _tables(name, schema, help, name == "listen")
    yield from _tables("plugins.NAME", PLUGIN, _PLUGIN_HELP)
    for name in sorted(schemas):
        yield from _tables(f"plugins.{_key(name)}", schemas[name], f"The {name} plugin.")


def _comment(text: str) -> list[str]:
    paragraphs = "\n\n".join(textwrap.fill(part, 98) for part in text.split("\n\n"))
    return [f"# {line}".rstrip() for line in paragraphs.splitlines()]


def annotated(schemas: Mapping[str, Mapping[str, Any]]) -> str:
    """etc/tidegate.toml, given each plugin's schema: every key with help, commented out.

    Loads as it is with no plugin installed, so the plugins' tables are commented out as a whole.
    """
    lines = _comment(_TOP.format(edit="change a copy: take the # from a key, and from the [table] above it"))
    for header, many, help, keys in _all_tables(schemas):
        mark = "# " if header.startswith("plugins.") else ""
        lines += ["", "", *_comment(help), f"{mark}[[{header}]]" if many else f"{mark}[{header}]"]
        for key, rules in keys:
            help, facts = rules.get("meta", {}).get("help", ""), _facts(rules)
            lines += ["", *_comment(f"{help} ({facts})".strip() if facts else help)]
            lines.append(f"# {_key(key)} = {_sample(rules)}")
    return "\n".join(lines) + "\n"


def reference(schemas: Mapping[str, Mapping[str, Any]]) -> str:
    """server/docs/settings.md, given each plugin's schema: the keys of each table of the file."""
    lines = ["# Settings", "", *_TOP.format(edit="a test fails when it is stale").splitlines()]
    for header, many, help, keys in _all_tables(schemas):
        lines += ["", f"## `[[{header}]]`" if many else f"## `[{header}]`", "", help]
        if keys:
            lines += ["", "| key | type | default | what |", "|---|---|---|---|"]
        for key, rules in keys:
            kind = rules.get("type", "any")
            kind = kind if isinstance(kind, str) else " or ".join(kind)
            default = rules.get("default")
            shown = "" if default is None or rules.get("meta", {}).get("secret") else f"`{_toml(default)}`"
            help, facts = rules.get("meta", {}).get("help", ""), _facts(rules)
            what = (f"{help} ({facts})" if facts else help).replace("|", "\\|").replace("\n", " ")
            lines.append(f"| `{key}` | {kind} | {shown} | {what} |")
    return "\n".join(lines) + "\n"
