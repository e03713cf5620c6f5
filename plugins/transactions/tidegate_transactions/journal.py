"""SQLite's write-ahead log, kept short although somebody always reads.

The log begins anew only while nobody reads from it. Where reads overlap all the time that moment never comes, and it
grows until the disk is full (sqlite.org/wal.html, "Avoiding Excessively Large WAL Files"). So once it is too long, new
reads wait until those under way have ended, and the writer empties it between two commits. The wait is short at first,
and twice as long after each time that it was too short; but never longer than the log's length is worth, so that a
long read holds the others up for seconds only where the disk is what has to be saved.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from time import monotonic
from typing import Any

from gevent.event import Event
from gevent.hub import get_hub

from tidegate_transactions.links import EMPTY, Link

MAX_BYTES = 64 << 20
#: How long new reads are held back, for each MAX_BYTES of the log at most FIRST_HOLD_S; and how many times as long they
#: run freely before that is tried again.
FIRST_HOLD_S, LONGEST_HOLD_S, REST = 0.5, 64.0, 4


class Journal:
    """Who reads from the log, and when it is emptied."""

    def __init__(self, database: Path) -> None:
        self.path = f"{database}-wal"
        self.reading = 0
        self.quiet = False  # new reads are held back, and nobody reads any more: the log can be emptied
        self.ready: Callable[[], object] = lambda: None  # called when it can
        self._released: Event | None = None  # new reads are held back until it is set
        self._tried = False  # to empty it
        self._hold_s = FIRST_HOLD_S
        self._not_before = 0.0
        self._alarm: Any = None

    # --- for a read ------------------------------------------------------------------------------

    def enter(self) -> None:
        """A read begins. May switch."""
        while (released := self._released) is not None:
            released.wait()
        self.reading += 1

    def leave(self) -> None:
        """A read is over. Never switches."""
        self.reading -= 1
        if self._released is not None and not self.reading:
            self.quiet = True
            self.ready()

    # --- for the writer --------------------------------------------------------------------------

    def empty(self, link: Link) -> None:
        """Empty the log if that can be done. In the thread, outside of a transaction; raises sqlite3.Error."""
        if self.quiet:
            self._tried = True
            link.say(EMPTY)  # never waits: where another process reads, it does what it can

    def size(self) -> int:
        """Bytes of the log's file, in the thread."""
        try:
            return os.stat(self.path).st_size
        except OSError:
            return 0

    def look(self, size: int) -> None:
        """Hold new reads back when the log is too long, let them go when it was emptied. Never switches."""
        if size <= MAX_BYTES:
            self._hold_s = FIRST_HOLD_S
            self.release()
        elif self._tried:  # it was not our reads that stood in the way
            self._tried = False  # also where they were let go between the thread's look at `quiet` and its try
            self._not_before = monotonic() + REST * FIRST_HOLD_S
            self.release()
        elif self._released is None and monotonic() >= self._not_before:
            self._released = Event()
            self.quiet = not self.reading
            self._hold_s = min(self._hold_s, FIRST_HOLD_S * size / MAX_BYTES)
            self._alarm = get_hub().loop.timer(self._hold_s)
            self._alarm.start(self._give_up)

    def _give_up(self) -> None:
        """Reads under way take longer than that."""
        self._not_before = monotonic() + REST * self._hold_s
        self._hold_s = min(2 * self._hold_s, LONGEST_HOLD_S)
        self.release()

    def release(self) -> None:
        """New reads may begin."""
        if self._released is not None:
            released, self._released = self._released, None
            self.quiet = self._tried = False
            self._alarm.close()
            released.set()
