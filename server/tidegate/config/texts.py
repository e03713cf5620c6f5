"""Values that came as text get the type that the schema asks for."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

Rules = Mapping[str, Any]


class Text(str):
    """A value from the environment or from --set, which gets its type from the schema."""


def kinds_of(rules: Rules) -> tuple[str, ...]:
    kinds = rules.get("type", ())
    return (kinds,) if isinstance(kinds, str) else tuple(kinds)


def inner(rules: Rules, key: str) -> Rules:
    """The rules of a table's key or a list's item; none where the schema says nothing about it."""
    schema = rules.get("schema")
    if key.isdecimal() and "dict" not in kinds_of(rules):
        items = rules.get("items", ())
        found = items[int(key)] if int(key) < len(items) else schema
    elif isinstance(schema, Mapping) and key in schema:
        found = schema[key]
    else:
        found = rules.get("valuesrules", rules.get("allow_unknown"))
    return found if isinstance(found, Mapping) else {}


def typed(value: Any, rules: Rules) -> Any:
    """A copy in which each Text has the type that the rules ask for, or stays a string."""
    kinds = kinds_of(rules)
    if isinstance(value, Text):
        value = _from_text(value, kinds)
    if isinstance(value, dict):
        indexes = [str(index) for index in range(len(value))]
        if not ("list" in kinds and "dict" not in kinds and indexes and set(value) == set(indexes)):
            return {key: typed(one, inner(rules, key)) for key, one in value.items()}
        value = [value[index] for index in indexes]
    if isinstance(value, list):
        return [typed(one, inner(rules, str(index))) for index, one in enumerate(value)]
    return value


def _from_text(text: Text, kinds: Sequence[str]) -> Any:
    for kind in sorted(kinds, key=lambda kind: kind == "string"):
        if kind == "string":
            break
        with suppress(ValueError):
            return _READERS.get(kind, _toml)(text)
    if not kinds:
        with suppress(ValueError):
            return _toml(text)
    return str(text)


def _toml(text: str) -> Any:
    try:
        found = tomllib.loads(f"value = {text}")
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if len(found) != 1:
        raise ValueError("more than one value")
    return found["value"]


def _table(text: str) -> Any:
    """TOML or JSON; any other text stays what it is."""
    with suppress(ValueError):
        return _toml(text)
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _list(text: str) -> Any:
    if text.lstrip().startswith("["):
        return _table(text)
    return [Text(part.strip()) for part in text.split(",") if part.strip()]


def _boolean(text: str) -> bool:
    words = {
        "true": True,
        "yes": True,
        "on": True,
        "1": True,
        "false": False,
        "no": False,
        "off": False,
        "0": False,
    }
    try:
        return words[text.strip().lower()]
    except KeyError:
        raise ValueError("no truth value") from None


def _number(text: str) -> float:
    return int(text) if re.fullmatch(r"\s*[+-]?\d+\s*", text) else float(text)


_READERS: dict[str, Callable[[str], Any]] = {
    "boolean": _boolean,
    "integer": int,
    "float": _number,
    "number": _number,
    "list": _list,
    "dict": _table,
}


def is_secret(rules: Rules) -> bool:
    meta = rules.get("meta")
    return isinstance(meta, Mapping) and bool(meta.get("secret"))
