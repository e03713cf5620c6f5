"""Retry around a block or a function of one's own, on the same budget as calls."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import wraps
from math import inf
from types import TracebackType
from typing import ParamSpec, TypeVar

from tidegate import Call

from tidegate_errors.retry import Executor, Policy

P = ParamSpec("P")
T = TypeVar("T")


class Retrying:
    """Repeats a block or a function.

    ```python
    for attempt in retrying(attempts=3):
        with attempt:
            fetch()

    @retrying(attempts=3, on=[1302])
    def fetch(): ...
    ```

    `attempt.number` is 1 at first. What is not retryable, and the last failure, comes out of the `with`.
    """

    def __init__(self, executor: Executor, policy: Policy, name: str = "", call: Call | None = None) -> None:
        self.executor = executor
        self.policy = policy
        self.name = name
        self.call = call  # whose deadline is kept

    def wait_for(self, error: BaseException, number: int, deadline: float) -> float | None:
        """Seconds to wait after attempt `number`; None: give up."""
        return self.executor.wait_for(self.policy, self.name, error, number, deadline, self.call)

    def __iter__(self) -> Iterator[Attempt]:
        executor, call = self.executor, self.call
        executor.budget.deposit(1)
        deadline = min(executor.server.clock.now() + self.policy.within_s, inf if call is None else call.deadline)
        for number in range(1, self.policy.attempts + 1):
            attempt = Attempt(self, number, deadline)
            yield attempt
            if attempt.wait is None:
                return
            executor.sleep(attempt.wait)

    def __call__(self, function: Callable[P, T]) -> Callable[P, T]:
        @wraps(function)
        def repeated(*args: P.args, **kwargs: P.kwargs) -> T:
            for attempt in self:
                with attempt:
                    return function(*args, **kwargs)
            raise AssertionError("the last attempt returns or raises")

        return repeated


class Attempt:
    """One try of a `Retrying` block."""

    __slots__ = ("_deadline", "_of", "number", "wait")

    def __init__(self, of: Retrying, number: int, deadline: float) -> None:
        self._of = of
        self._deadline = deadline
        self.number = number
        self.wait: float | None = None  # after it failed and may be repeated

    def __enter__(self) -> Attempt:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        if error is None:
            self._of.executor.succeeded += self.number > 1
            return False
        self.wait = self._of.wait_for(error, self.number, self._deadline)
        return self.wait is not None
