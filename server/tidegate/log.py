"""Logging for everybody: stdlib `logging`, written by a thread so that no caller ever waits.

A line is formatted where it is logged and put in a bounded queue; a real thread writes it. A full
disk or a blocked pipe therefore costs lines (counted, and told once it works again), never time.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import sys
import time
import traceback
from collections import deque
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, TextIO

import msgspec
from gevent.monkey import get_original

# The writer must be a thread of the operating system also where gevent has patched `threading`.
_start_thread = get_original("_thread", "start_new_thread")
_Lock = get_original("_thread", "allocate_lock")
_RLock = get_original("_thread", "RLock")
_poll = get_original("select", "poll")

Format = Literal["text", "json"]
MAX_QUEUE_BYTES = 16 * 1024 * 1024
MAX_TEXT = 16_384  # characters of a message, an exception or a field; a client's line may be larger
MAX_LINE_BYTES = 131_072
WRITE_BYTES = 65_536  # a pipe's buffer: more in one write would only wait longer
RETRY_S = 1.0
MASK = "***"

_LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40, "critical": 50}
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


class _Lines:
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


class _Writer:
    """A bounded queue of lines and the thread that writes them to a descriptor.

    `put` never waits. The thread touches neither gevent, `threading` nor `logging`.
    """

    def __init__(self, path: Path | None, fd: int, lines: _Lines, max_records: int) -> None:
        self._path = path
        self._fd = fd
        self._lines = lines
        self._max_records = max_records
        self._queue: deque[bytes] = deque()
        self._bytes = 0  # in the queue, and in the write under way
        self._lost = 0  # not yet told in the log
        self._lost_untaken = 0  # not yet told to the server
        self._closing = self._reopening = False
        # Reentrant, because a signal handler may log in the middle of `put`.
        self._lock = _RLock()
        # Locks as signals: taken by the thread that waits, released by whoever has news.
        self._wake, self._nudge, self._done = _Lock(), _Lock(), _Lock()
        for lock in (self._wake, self._nudge, self._done):
            lock.acquire()
        _start_thread(self._run, ())

    def put(self, line: bytes) -> None:
        with self._lock:
            full = len(self._queue) >= self._max_records
            if full or self._closing or self._bytes + len(line) > MAX_QUEUE_BYTES:
                self._lost += 1
                self._lost_untaken += 1
                return
            self._queue.append(line)
            self._bytes += len(line)
        _release(self._wake)

    def take_lost(self) -> int:
        with self._lock:
            lost, self._lost_untaken = self._lost_untaken, 0
        return lost

    def reopen(self) -> None:
        self._reopening = self._path is not None
        _release(self._wake)
        _release(self._nudge)

    def close(self, timeout: float) -> bool:
        with self._lock:
            self._closing = True
        _release(self._wake)
        _release(self._nudge)
        done: bool = self._done.acquire(True, max(0.0, timeout))
        if done:
            self._done.release()  # for whoever closes again
        return done

    # --- in the thread ---------------------------------------------------------------------------

    def _run(self) -> None:
        ending = False
        while not ending:
            self._wake.acquire()
            ending = self._closing  # read before the queue is emptied: nothing is put after it
            self._reopen_if_asked()
            while chunk := self._take():
                self._write(chunk)
                with self._lock:
                    self._bytes -= len(chunk)
                    lost, self._lost = self._lost, 0
                if lost:
                    self._write(self._lines.note(f"{lost} log lines were lost: they could not be written"))
        os.close(self._fd)
        self._done.release()

    def _take(self) -> bytes:
        lines, size = [], 0
        with self._lock:
            while self._queue and size < WRITE_BYTES:
                lines.append(self._queue.popleft())
                size += len(lines[-1])
        return b"".join(lines)

    def _write(self, data: bytes) -> None:
        """Until all is written; at the end of the server one failure is enough."""
        rest = memoryview(data)
        while rest:
            self._reopen_if_asked()
            try:
                rest = rest[os.write(self._fd, rest) :]
            except BlockingIOError:  # somebody who shares the descriptor made it non-blocking
                waiting = _poll()
                waiting.register(self._fd, 4)  # POLLOUT
                waiting.poll(RETRY_S * 1000)
            except OSError:  # a full disk, a closed pipe
                if self._closing:
                    return
                self._nudge.acquire(True, RETRY_S)

    def _reopen_if_asked(self) -> None:
        if not self._reopening or self._path is None:
            return
        self._reopening = False
        try:
            fd = _open(self._path)
        except OSError as error:
            with self._lock:
                self._queue.appendleft(line := self._lines.note(f"can't reopen the log: {error}"))
                self._bytes += len(line)
            return
        os.close(self._fd)
        self._fd = fd


def _release(signal: Any) -> None:
    if signal.locked():
        with contextlib.suppress(RuntimeError):  # another thread was quicker
            signal.release()


def _open(path: Path) -> int:
    # O_NONBLOCK: a FIFO that nobody reads is an error now instead of a wait for ever.
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC
    return os.open(path, flags, 0o640)


class _Handler(logging.Handler):
    """Takes no lock of its own: under gevent that one would start a hub in a pool's thread."""

    def __init__(self, log: Log) -> None:
        super().__init__()
        self._log = log

    def createLock(self) -> None:
        self.lock = None

    def handle(self, record: logging.LogRecord) -> bool:
        wanted: Any = self.filter(record)
        if wanted:
            self.emit(wanted if isinstance(wanted, logging.LogRecord) else record)
        return bool(wanted)

    def emit(self, record: logging.LogRecord) -> None:
        self._log.write(record)

    def close(self) -> None:
        """`logging` calls this at the interpreter's exit."""
        self._log.close(1.0)
        super().close()


class Log:
    """Where all log lines of the process go, as text for people or JSON for programs.

    Logging never waits for the file, pipe or terminal, and never raises. Fields given as `extra=`
    stand beside the message; those named like a password, a token or a secret are masked.

    Args:
        level: debug, info, warning, error or critical.
        format: `text`: columns, coloured on a terminal unless NO_COLOR is set; `json`: an object
            a line with `time`, `level`, `logger`, `message`, what `extra=` gave, `exception`.
        path: a file to append to, made with mode 0640.
        stream: where there is no path; its descriptor is duplicated. None: standard error.
        max_records: lines that may wait to be written, and 16 MiB of them at most; further ones
            are counted and dropped.

    Raises OSError when the path can't be opened, ValueError for an unknown level. Make it after
    the last fork: a child process has no writing thread.
    """

    def __init__(
        self,
        *,
        level: str = "info",
        format: Format = "text",
        path: Path | None = None,
        stream: TextIO | None = None,
        max_records: int = 10_000,
    ) -> None:
        self._level = _level(level)
        fd = _open(path) if path is not None else os.dup(_descriptor(stream))
        colour = os.isatty(fd) and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
        self._lines = _Lines(format, colour)
        self._writer = _Writer(path, fd, self._lines, max_records)
        self._handler = _Handler(self)
        self._before: tuple[list[logging.Handler], int] | None = None

    def install(self) -> None:
        """Until `close` the root logger's only handler; Python's warnings come here too."""
        root = logging.getLogger()
        self._before = (root.handlers[:], root.level)
        root.handlers[:] = [self._handler]
        root.setLevel(self._level)
        logging.captureWarnings(True)

    def set_level(self, level: str) -> None:
        """From now on; raises ValueError for an unknown one."""
        self._level = _level(level)
        if self._before is not None:
            logging.getLogger().setLevel(self._level)

    def write(self, record: logging.LogRecord) -> None:
        """Queue one record, whatever its level. Never waits, switches or raises."""
        try:
            line = self._lines.of(record)
        except Exception as error:
            line = self._lines.note(f"a line of {record.name!r} can't be shown: {error!r}")
        self._writer.put(line)

    def reopen(self) -> None:
        """Go on in a new file of the same path, as logrotate wants it; the thread does it."""
        self._writer.reopen()

    def take_lost(self) -> int:
        """How many lines were dropped since this was last asked."""
        return self._writer.take_lost()

    def close(self, timeout: float = 2.0) -> bool:
        """Write what waits, for at most `timeout` seconds in which nothing else runs; if all was
        written. The root logger gets its former handlers back. Calling it again does no harm.
        """
        if self._before is not None:
            root = logging.getLogger()
            root.handlers[:], level = self._before
            root.setLevel(level)
            logging.captureWarnings(False)
            self._before = None
        return self._writer.close(timeout)


def _level(name: str) -> int:
    if name not in _LEVELS:
        raise ValueError(f"log level: expected one of {', '.join(_LEVELS)}, found {name!r}")
    return _LEVELS[name]


def _descriptor(stream: TextIO | None) -> int:
    try:
        return (stream or sys.stderr).fileno()
    except (AttributeError, OSError, ValueError):
        if stream is not None:
            raise
        return 2  # sys.stderr was replaced by something in memory
