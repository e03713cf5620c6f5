"""Logging for everybody: stdlib `logging`, written by a thread so that no caller ever waits.

A line is formatted where it is logged and put in a bounded queue; a real thread writes it. A full
disk or a blocked pipe therefore costs lines (counted, and told once it works again), never time.
"""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path
from typing import Any, TextIO

from tidegate.log.lines import Format, Lines
from tidegate.log.writer import Writer, opened

_LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40, "critical": 50}


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
        fd = opened(path) if path is not None else os.dup(_descriptor(stream))
        colour = os.isatty(fd) and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
        self._lines = Lines(format, colour)
        self._writer = Writer(path, fd, self._lines.note, max_records)
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
