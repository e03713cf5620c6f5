"""So many transactions at once; the others wait in a fair queue, for so long."""

from __future__ import annotations

from collections import deque
from typing import Any

from gevent.hub import get_hub
from greenlet import getcurrent
from tidegate import Fault, Server
from tidegate.faults import TransactionLimitReached


class Ticket:
    """A place in the queue."""

    __slots__ = ("due", "fault", "greenlet", "summoned", "wakeup")

    def __init__(self, greenlet: Any, due: float) -> None:
        self.greenlet = greenlet
        self.due = due
        self.summoned = False
        self.fault: Fault | None = None
        self.wakeup: Any = None


class Gate:
    """First come, first served: `enter` before a transaction, `leave` after it."""

    def __init__(self, server: Server, limit: int, queue: int, wait_s: float) -> None:
        self.limit = limit
        self.queue = queue
        self.wait_s = wait_s
        self.inside = 0
        self.refused = 0
        self._clock = server.clock
        self._line: deque[Ticket] = deque()
        self._alarm: Any = None

    @property
    def waiting(self) -> int:
        return len(self._line)

    def enter(self) -> None:
        """Take a place. Raises TransactionLimitReached when the queue is full or too slow. May switch."""
        if self.inside < self.limit and not self._line:
            self.inside += 1
            return
        if len(self._line) >= self.queue:
            self.refused += 1
            raise TransactionLimitReached(retry_after=1.0)
        ticket = Ticket(getcurrent(), self._clock.now() + self.wait_s)
        self._line.append(ticket)
        if len(self._line) == 1:
            self._arm()
        hub = get_hub()
        try:
            while not ticket.summoned:
                hub.switch()
        except BaseException:
            if ticket.wakeup is not None:
                ticket.wakeup.stop()
            if not ticket.summoned:
                self._line.remove(ticket)
            elif ticket.fault is None:
                self.leave()  # the place came at the same moment; the next one gets it
            raise
        if ticket.fault is not None:
            raise ticket.fault

    def leave(self) -> None:
        """Give the place to who has waited longest. Never switches."""
        if self._line and self.inside <= self.limit:
            self._summon(self._line.popleft())
        else:
            self.inside -= 1

    def resize(self, limit: int, queue: int, wait_s: float) -> None:
        """Take new settings; who is inside stays."""
        self.limit, self.queue, self.wait_s = limit, queue, wait_s
        while self._line and self.inside < self.limit:
            self.inside += 1
            self._summon(self._line.popleft())

    @staticmethod
    def _summon(ticket: Ticket) -> None:
        ticket.summoned = True
        ticket.wakeup = get_hub().loop.run_callback(ticket.greenlet.switch)

    def _arm(self) -> None:
        if self._alarm is None:
            self._alarm = self._clock.timer(self._ring)
        self._alarm.start(max(self._line[0].due - self._clock.now(), 0.0))

    def _ring(self) -> None:
        """In the hub: whoever has waited too long is refused. The line is in the order of its dues."""
        now = self._clock.now()
        while self._line and self._line[0].due <= now:
            ticket = self._line.popleft()
            ticket.fault = TransactionLimitReached(retry_after=self.wait_s)
            self.refused += 1
            self._summon(ticket)
        if self._line:
            self._arm()

    def close(self) -> None:
        if self._alarm is not None:
            self._alarm.stop()
