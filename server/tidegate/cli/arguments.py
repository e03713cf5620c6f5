"""Turns `room=lobby count=3` into parameters, typed by the command's own schema (`rpc.discover`)."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from tidegate.nearest import hint

Method = Mapping[str, Any]  # an OpenRPC method object

KEY = re.compile(r"([A-Za-z_]\w*)(:?=)(.*)", re.S)
_INTEGER = re.compile(r"[+-]?\d{1,4000}", re.ASCII)  # Python refuses to read longer ones
_TRUTH = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}
_ARTICLES = {
    "integer": "an integer, such as 3",
    "number": "a number, such as 0.5",
    "boolean": "true or false",
    "array": "a JSON array, such as [1, 2]",
    "object": 'a JSON object, such as {"a": 1}',
    "null": "null",
    "string": "a string",
}


class Misused(ValueError):
    """An argument that can't be what the command takes; says what was expected."""


def parameters(words: Sequence[str], method: Method | None) -> dict[str, Any] | list[Any]:
    """What the words say: `name=value`, `name:=JSON`, or values in the order of the command's parameters.

    A method that is not known gets its values as they look: JSON, else text. A name given twice makes
    an array where the schema has one. Raises Misused.
    """
    named: dict[str, list[tuple[str, str]]] = {}
    ordered = []
    for word in words:
        if (match := KEY.fullmatch(word)) is not None:
            named.setdefault(match[1], []).append((match[2], match[3]))
        else:
            ordered.append(word)
    schemas = {param["name"]: param["schema"] for param in method["params"]} if method is not None else {}
    if method is None and ordered:
        if named:
            raise Misused(f"{ordered[0]!r}: expected NAME=VALUE, for the command is not known here")
        return [value(word, {}) for word in ordered]
    places = [name for name in schemas if name not in named]
    if len(ordered) > len(places):
        raise Misused(f"{ordered[len(places)]!r}: the command has no more parameters; write NAME=VALUE")
    named.update((name, [("=", word)]) for name, word in zip(places, ordered, strict=False))
    return {name: _value_of(name, given, schemas.get(name, {})) for name, given in named.items()}


def _value_of(name: str, given: Sequence[tuple[str, str]], schema: Mapping[str, Any]) -> Any:
    try:
        if len(given) > 1:
            if "array" not in kinds(schema):
                raise Misused("given twice")
            return [_read(sign, text, schema.get("items", {})) for sign, text in given]
        return _read(*given[0], schema)
    except Misused as error:
        raise Misused(f"{name}: {error}") from None


def _read(sign: str, text: str, schema: Mapping[str, Any]) -> Any:
    if sign == "=":
        return value(text, schema)
    try:
        return _json(text)
    except ValueError as error:
        raise Misused(f"expected JSON after ':=', got {text!r} ({error})") from None


def kinds(schema: Mapping[str, Any]) -> tuple[str, ...]:
    """The JSON types that a schema takes; none says anything goes."""
    kind = schema.get("type", ())
    return (kind,) if isinstance(kind, str) else tuple(kind)


def value(text: str, schema: Mapping[str, Any]) -> Any:
    """One value in the type its schema asks for. Raises Misused."""
    wanted = kinds(schema)
    if not wanted:
        with suppress(ValueError):
            return _json(text)
        return text
    for kind, read in _READERS.items():
        if kind in wanted:
            with suppress(ValueError):
                return read(text)
    if "array" in wanted and not text.lstrip().startswith("["):
        return [value(text, schema.get("items", {}))]
    words = " or ".join(_ARTICLES.get(kind, kind) for kind in wanted)
    raise Misused(f"expected {words}, got {text!r}{hint(text, ('true', 'false')) if 'boolean' in wanted else ''}")


def _json(text: str) -> Any:
    try:
        return json.loads(text, parse_constant=_no_json)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _no_json(text: str) -> Any:
    raise ValueError(f"{text} is no JSON")


def _integer(text: str) -> int:
    if _INTEGER.fullmatch(text.strip()) is None:
        raise ValueError
    return int(text)


def _number(text: str) -> float:
    with suppress(ValueError):
        return _integer(text)
    number = float(text)
    if number - number != 0:  # infinity and NaN are no JSON
        raise ValueError
    return number


def _boolean(text: str) -> bool:
    try:
        return _TRUTH[text.strip().lower()]
    except KeyError:
        raise ValueError from None


def _shaped(kind: type) -> Any:
    def read(text: str) -> Any:
        found = _json(text)
        if not isinstance(found, kind):
            raise ValueError
        return found

    return read


def _null(text: str) -> None:
    if text != "null":
        raise ValueError


#: In the order they are tried: text goes last but for null, since "null" may be somebody's name.
_READERS = {
    "integer": _integer,
    "number": _number,
    "boolean": _boolean,
    "array": _shaped(list),
    "object": _shaped(dict),
    "string": str,
    "null": _null,
}


# --- secrets --------------------------------------------------------------------------------------


def is_secret(param: Mapping[str, Any]) -> bool:
    """Whether a parameter's value must not be shown or kept."""
    return bool(param.get("schema", {}).get("writeOnly")) or sounds_secret(str(param.get("name", "")))


def sounds_secret(name: str) -> bool:
    return any(word in name.lower() for word in ("password", "passphrase", "secret", "token"))


def missing_secrets(method: Method | None, given: Mapping[str, Any]) -> list[str]:
    """The required secrets that were not given: they are asked for."""
    if method is None:
        return []
    return [p["name"] for p in method["params"] if p.get("required") and is_secret(p) and p["name"] not in given]
