"""The thread that writes log lines, and the bounded queue before it."""

from __future__ import annotations

import contextlib
import os
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gevent.monkey import get_original

# The writer must be a thread of the operating system also where gevent has patched `threading`.
_start_thread = get_original("_thread", "start_new_thread")
_Lock = get_original("_thread", "allocate_lock")
_RLock = get_original("_thread", "RLock")
_poll = get_original("select", "poll")

MAX_QUEUE_BYTES = 16 * 1024 * 1024
WRITE_BYTES = 65_536  # a pipe's buffer: more in one write would only wait longer
RETRY_S = 1.0


class Writer:
    """A bounded queue of lines and the thread that writes them to a descriptor.

    `put` never waits. `note` words a line of the writer's own. The thread touches neither gevent,
    `threading` nor `logging`.
    """

    def __init__(self, path: Path | None, fd: int, note: Callable[[str], bytes], max_records: int) -> None:
        self._path = path
        self._fd = fd
        self._note = note
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
                    self._write(self._note(f"{lost} log lines were lost: they could not be written"))
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
            fd = opened(self._path)
        except OSError as error:
            with self._lock:
                self._queue.appendleft(line := self._note(f"can't reopen the log: {error}"))
                self._bytes += len(line)
            return
        os.close(self._fd)
        self._fd = fd


def _release(signal: Any) -> None:
    if signal.locked():
        with contextlib.suppress(RuntimeError):  # another thread was quicker
            signal.release()


def opened(path: Path) -> int:
    """A descriptor that appends to the file, made with mode 0640. Raises OSError."""
    # O_NONBLOCK: a FIFO that nobody reads is an error now instead of a wait for ever.
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC
    return os.open(path, flags, 0o640)
