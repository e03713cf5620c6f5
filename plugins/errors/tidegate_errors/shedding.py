"""Bulkheads and load shedding: calls that are too many are refused at once, with 1308."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from tidegate import Call
from tidegate.faults import CallTimeout, ServerOverloaded

from tidegate_errors.limit import MIN_SECONDS, AdaptiveLimit

if TYPE_CHECKING:
    from tidegate import Server

Proceed = Callable[[Call], Any]


class Bulkhead:
    """How many calls of one command run at once, and how many may."""

    __slots__ = ("limit", "method", "running")

    def __init__(self, method: str, limit: int) -> None:
        self.method = method
        self.limit = limit
        self.running = 0


class Shed:
    """What was refused, told once a second a command: `load.shed`."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.retry_after_s = 1.0
        self.count = 0
        self._waiting: dict[tuple[str, bool], tuple[float, int]] = {}

    def refused(self, method: str, limit: float, *, adaptive: bool) -> ServerOverloaded:
        """The fault, to be raised. Who is refused comes back at different times, about `retry_after_s` later."""
        self.count += 1
        _, count = self._waiting.get((method, adaptive), (0.0, 0))
        self._waiting[method, adaptive] = (limit, count + 1)
        return ServerOverloaded(
            retry_after=self.retry_after_s * (0.5 + random.random()),  # noqa: S311
            log=f"{'the adaptive limit' if adaptive else 'concurrency'} of {limit:.0f} calls is reached",
        )

    def tell(self) -> None:
        waiting, self._waiting = self._waiting, {}
        for (method, _), (limit, count) in waiting.items():
            self.server.publish("load.shed", method=method, limit=round(limit), count=count)


def compartment(bulkhead: Bulkhead, proceed: Proceed, shed: Shed) -> Proceed:
    """`proceed`, at most `bulkhead.limit` times at once."""

    def held(call: Call) -> Any:
        if bulkhead.running >= bulkhead.limit:
            raise shed.refused(bulkhead.method, bulkhead.limit, adaptive=False)
        bulkhead.running += 1
        try:
            return proceed(call)
        finally:
            bulkhead.running -= 1

    return held


def limited(limit: AdaptiveLimit, priority: int, method: str, proceed: Proceed, shed: Shed) -> Proceed:
    """`proceed`, while the adaptive limit has room for this priority."""
    now, took = shed.server.clock.now, limit.took

    def adapted(call: Call) -> Any:
        running = limit.running
        if running >= limit.ceilings[priority]:
            raise shed.refused(method, limit.ceilings[priority], adaptive=True)
        limit.running = running = running + 1
        if running > limit.peak:
            limit.peak = running
        start = now()
        try:
            result = proceed(call)
        except BaseException as error:
            limit.running -= 1
            # What failed at once says nothing about the load; what did not come to an end does.
            if call.interrupt is not None or isinstance(error, CallTimeout):
                took((end := now()) - start, end)
            raise
        limit.running -= 1
        end = now()
        if end - start >= MIN_SECONDS:  # `took` asks again; most calls are quicker than that, and spare themselves it
            took(end - start, end)
        return result

    return adapted
