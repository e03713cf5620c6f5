"""Bounded pools of threads, for what would block the event loop."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

from gevent.threadpool import ThreadPool

from tidegate.faults import ServerOverloaded

T = TypeVar("T")


class Pool:
    """`run(fn, *args)` in a thread; the caller's greenlet waits, the others go on.

    A place is free when its thread has ended the work, not when the waiter gave up:
    a killed waiter does not stop the thread.
    """

    def __init__(self, name: str, threads: int, queue: int) -> None:
        self.name = name
        self.threads = threads
        self.limit = threads + queue
        self.busy = 0
        self.done = 0  # pieces of work that have ended, whatever came of them
        self._threads = ThreadPool(threads)

    def run(self, fn: Callable[..., T], *args: Any) -> T:
        """The result of `fn`, or what it raised. Raises ServerOverloaded when the queue is full. Switches."""
        if self.busy >= self.limit:
            raise ServerOverloaded(f"The thread pool {self.name!r} is full", retry_after=1.0)
        self.busy += 1
        try:
            result = self._threads.spawn(_outcome, fn, args)
        except BaseException:
            self.busy -= 1
            raise
        result.rawlink(self._done)
        value, error = cast("tuple[Any, BaseException | None]", result.get())
        if error is None:
            return cast(T, value)
        try:
            raise error
        finally:
            del error  # it holds this frame

    @property
    def waiting(self) -> int:
        """Pieces of work that have no thread yet."""
        return max(self.busy - self.threads, 0)

    def _done(self, _: object) -> None:
        self.busy -= 1
        self.done += 1

    def close(self) -> None:
        """Let idle threads end; what runs is not waited for."""
        self._threads.maxsize = 0


def _outcome(fn: Callable[..., Any], args: tuple[Any, ...]) -> tuple[Any, BaseException | None]:
    """What `fn` gave or raised: gevent would print what it raised, and drop where."""
    try:
        return fn(*args), None
    except BaseException as error:
        return None, error
