"""What makes two failures the same: the exception's type and the innermost frame of our own code."""

from __future__ import annotations

import hashlib
import traceback
from collections.abc import Iterable, Iterator, Mapping
from types import FrameType, TracebackType
from typing import Any, NamedTuple

from tidegate import Call, Command

MAX_TRACE = 8_192  # characters of a sample
_SHORTEST = 4  # a secret of fewer characters would mask half the text
MASK = "***"


class Print(NamedTuple):
    """`id`: 8 hex digits, the same in every process and after every start; `where`: `shop.orders.pay:42`."""

    id: str
    type: str
    where: str


class Fingerprints:
    """Knows which modules are ours: those with commands and plugins. Never this one, the core's or a library's."""

    def __init__(self, commands: Iterable[Command]) -> None:
        commands = list(commands)
        self._functions = {getattr(command.function, "__code__", None) for command in commands}
        self._ours = {
            module.partition(".")[0]
            for command in commands
            for module in (getattr(command.function, "__module__", None), type(command.plugin).__module__)
            if module
        } - {"tidegate", "tidegate_errors"}

    def of(self, error: BaseException) -> Print:
        """About 3 µs. An error that was raised nowhere has no place, `?`."""
        innermost: tuple[FrameType, int] | None = None
        own: tuple[FrameType, int] | None = None
        trace: TracebackType | None = error.__traceback__
        module, called = "", False
        while trace is not None:
            innermost = (trace.tb_frame, trace.tb_lineno)
            module = trace.tb_frame.f_globals.get("__name__", "")
            if module.partition(".")[0] in self._ours:
                own = innermost
            called = called or trace.tb_frame.f_code in self._functions
            trace = trace.tb_next
        refused = not called and module.startswith("tidegate_errors")  # by a breaker or a limit around the command
        found = innermost if refused else own or innermost
        where = "?"
        if found is not None:
            frame, line = found
            where = f"{frame.f_globals.get('__name__', '?')}.{frame.f_code.co_qualname}:{line}"
        name = type(error).__name__
        return Print(hashlib.blake2b(f"{name}|{where}".encode(), digest_size=4).hexdigest(), name, where)


def secrets_of(call: Call) -> list[str]:
    """The values that must not be shown: parameters that the schema calls secret, and the call's token."""
    found = [call.auth] if call.auth else []
    found += _secret("", call.params, {"schema": call.command.notes.get("params")})
    return sorted({text for text in found if len(text) >= _SHORTEST}, key=len, reverse=True)


def _secret(name: str, value: Any, rules: Any, depth: int = 8) -> Iterator[str]:
    rules = rules if isinstance(rules, Mapping) else {}
    meta = rules.get("meta") or {}
    if (
        meta.get("profile") == "secret"
        or meta.get("is") == "password"
        or any(word in name for word in ("password", "secret", "token"))
    ):
        yield from _texts(value)
    elif isinstance(value, Mapping) and depth:
        fields, others = rules.get("schema"), rules.get("valuesrules")
        fields = fields if isinstance(fields, Mapping) else {}  # not one by its name in a registry
        for key, item in value.items():
            yield from _secret(str(key), item, fields.get(key, others), depth - 1)
    elif isinstance(value, list) and depth:
        items, every = rules.get("items") or (), rules.get("schema")
        for place, item in enumerate(value):
            yield from _secret(name, item, items[place] if place < len(items) else every, depth - 1)


def _texts(value: Any, depth: int = 8) -> Iterator[str]:
    if isinstance(value, (str, int, float)) and not isinstance(value, bool):
        yield str(value)
    elif isinstance(value, Mapping) and depth:
        for inner in value.values():
            yield from _texts(inner, depth - 1)
    elif isinstance(value, (list, tuple)) and depth:
        for inner in value:
            yield from _texts(inner, depth - 1)


def masked(text: str, secrets: Iterable[str]) -> str:
    """`text` without them, also as `repr` would write them."""
    for secret in secrets:
        text = text.replace(secret, MASK).replace(repr(secret)[1:-1], MASK)
    return text


def trace_of(error: BaseException, secrets: Iterable[str] = ()) -> str:
    """The traceback with its causes, its middle left out past 8,192 characters; no secrets."""
    try:
        text = "".join(traceback.format_exception(error))
    except Exception:  # an exception whose __str__ raises
        text = f"{type(error).__name__}, which can't be shown"
    text = masked(text, secrets)
    if len(text) > MAX_TRACE:
        half = MAX_TRACE // 2
        text = f"{text[:half]}\n…{len(text) - 2 * half} characters…\n{text[-half:]}"
    return text
