"""A log record as one line of bytes: bounded, with secrets masked, and nothing in it that ends a line."""

from __future__ import annotations

import logging
import re
import time
import traceback
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Literal

import msgspec

Format = Literal["text", "json"]
MAX_TEXT = 16_384  # characters of a message, an exception or a field; a client's line may be larger
MAX_LINE_BYTES = 131_072
MASK = "***"

_COLOURS = {10: "2", 30: "33", 40: "31", 50: "1;31"}
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_FEWEST = len(vars(logging.makeLogRecord({})))
_OURS = frozenset({"time", "level", "logger", "message", "exception"})
_WORDS = "auth|authorization|cookie|passphrase|passwd|password|secret|token"
_BARE = re.compile(r"[^\s\"=]+")  # a text that needs no quotes in key=value
_SECRET = re.compile(rf"(?:^|[^a-z])(?:{_WORDS})(?:$|[^a-z])|(?:{_WORDS})$")


@lru_cache(1024)
def _is_secret(name: str) -> bool:
    return _SECRET.search(name.lower()) is not None


def _safe(value: object) -> str:
    """`str`, bounded, that neither raises nor leaves what UTF-8 can't carry."""
    try:
        text = str(value)
    except Exception as error:
        text = f"<{type(value).__name__} whose str raised {type(error).__name__}>"
    return _cut(text).encode("utf-8", "backslashreplace").decode()


def _cut(text: str) -> str:
    """Long texts lose their middle: an exception says what it is at its end."""
    if len(text) <= MAX_TEXT:
        return text
    half = MAX_TEXT // 2
    return f"{text[:half]} …{len(text) - 2 * half} characters… {text[-half:]}"


def _masked(value: Any, depth: int = 4) -> Any:
    """A copy without secrets: the original may change before it is written."""
    if isinstance(value, str):
        return _cut(value)
    if depth and isinstance(value, Mapping):
        return {
            str(name): MASK if _is_secret(str(name)) else _masked(each, depth - 1)
            for name, each in list(value.items())[:100]
        }
    if depth and isinstance(value, list | tuple):
        return [_masked(each, depth - 1) for each in value[:100]]
    return value if isinstance(value, int | float | None) else _safe(value)  # a date, a path


def _printable(text: str) -> str:
    """`text` with everything escaped that could end a line or steer a terminal."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


class Lines:
    """Turns what was logged into one line of bytes. Thread-safe; about 3 µs."""

    def __init__(self, form: Format, colour: bool) -> None:
        self._render = self._json if form == "json" else self._text
        self._colour = colour
        self._second = (0, "")

    def of(self, record: logging.LogRecord) -> bytes:
        try:
            message = record.getMessage()
        except Exception as error:  # a wrong call of the logger is no reason to fail
            message = f"{_safe(record.msg)} with {_safe(record.args)} ({_safe(error)})"
        attributes = vars(record)
        extra = {}
        if len(attributes) > _FEWEST:
            extra = {
                f"{name}_" if name in _OURS else str(name): MASK if _is_secret(str(name)) else value
                for name, value in attributes.items()
                if name not in _STANDARD and value is not None
            }
        trace = _trace(record) if record.exc_info or record.stack_info else ""
        return self.line(record.created, record.levelno, record.name, message, extra, trace)

    def line(self, at: float, level: int, name: str, message: str, extra: dict[str, Any], trace: str) -> bytes:
        message = _cut(message)
        try:
            extra = {key: _masked(value) for key, value in extra.items()}
            line = self._render(at, level, name, message, extra, trace)
        except Exception:  # lone surrogates, a number of a thousand digits
            extra = {_safe(key): _safe(value) for key, value in extra.items()}
            line = self._render(at, level, _safe(name), _safe(message), extra, _safe(trace))
        if len(line) > MAX_LINE_BYTES:
            line = self._render(at, level, name, _safe(message), {"fields": "too long"}, "")
        return line

    def note(self, message: str) -> bytes:
        return self.line(time.time(), logging.WARNING, "tidegate.log", message, {}, "")

    def _time(self, at: float) -> str:
        second, text = self._second
        if int(at) != second:
            second = int(at)
            text = time.strftime("%Y-%m-%dT%H:%M:%S.", time.gmtime(second))
            self._second = (second, text)
        return f"{text}{int((at - second) * 1000):03d}Z"

    def _json(self, at: float, level: int, name: str, message: str, extra: dict[str, Any], trace: str) -> bytes:
        fields = {
            "time": self._time(at),
            "level": logging.getLevelName(level).lower(),
            "logger": name,
            "message": message,
            **extra,
        }
        if trace:
            fields["exception"] = trace
        return _encode(fields) + b"\n"

    def _text(self, at: float, level: int, name: str, message: str, extra: dict[str, Any], trace: str) -> bytes:
        word = f"{logging.getLevelName(level):<8}"
        if self._colour and (colour := _COLOURS.get(level)):
            word = f"\x1b[{colour}m{word}\x1b[0m"
        parts = [f"{self._time(at)} {word} {_printable(name):<16} {_printable(message)}"]
        parts += [f"{_printable(key)}={_value(value)}" for key, value in extra.items()]
        line = "  ".join(parts)
        # The bar keeps an exception's own line ends from looking like lines of the log.
        for each in trace.splitlines():
            line += f"\n  | {_printable(each)}"
        return line.encode("utf-8", "backslashreplace") + b"\n"


_encode = msgspec.json.Encoder().encode


def _value(value: Any) -> str:
    if isinstance(value, str) and _BARE.fullmatch(value):
        return _printable(value)
    return _printable(_encode(value).decode())


def _trace(record: logging.LogRecord) -> str:
    parts = []
    if record.exc_info and record.exc_info[1] is not None:
        try:
            parts.append("".join(traceback.format_exception(record.exc_info[1])))
        except Exception as error:  # an exception whose __str__ raises badly
            parts.append(f"{type(record.exc_info[1]).__name__} ({_safe(error)})")
    if record.stack_info:
        parts.append(record.stack_info)
    return _cut("\n".join(part.rstrip("\n") for part in parts))
