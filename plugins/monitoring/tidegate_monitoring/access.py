"""The access log: a line for slow calls, and for the share of a command's calls that somebody wants to see."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from math import inf

from tidegate import Call


class AccessLog:
    """`look` is called for calls above `limit_of` their command; never waits, and bounded in each second."""

    def __init__(self, log: logging.Logger, clock: Callable[[], float]) -> None:
        self._log = log
        self._clock = clock
        self._shares: Mapping[str, float] = {}
        self._slow_s = inf
        self._per_s = 50
        self._second = 0
        self._lines = 0
        self._due: dict[str, float] = {}
        self.left_out = 0

    def adopt(self, shares: Mapping[str, float], slow_s: float, per_s: int) -> None:
        self._shares = dict(shares)
        self._slow_s = slow_s or inf
        self._per_s = per_s
        self._due.clear()

    def _share(self, command: str) -> float:
        return self._shares.get(command, self._shares.get("*", 0.0))

    def limit_of(self, command: str) -> float:
        """Seconds from which `look` wants a call: none of a command of which each may be logged."""
        return 0.0 if self._share(command) else self._slow_s

    def look(self, call: Call) -> None:
        name = call.command.name
        slow = call.seconds >= self._slow_s
        if not slow and not self._chosen(name):
            return
        second = int(self._clock())
        if second != self._second:
            self._second, self._lines = second, 0
        if self._lines >= self._per_s:
            self.left_out += 1
            return
        self._lines += 1
        fault, connection = call.fault, call.connection
        fields = {
            "method": name,
            "code": fault.code if fault is not None else 0,
            "ms": round(call.seconds * 1000, 3),
            "user": call.user.id if call.user is not None else None,
            "address": connection.address,
            "connection": connection.id,
            "request_id": call.request_id,
        }
        if slow:
            self._log.warning("%s took %.3f s", name, call.seconds, extra=fields)
        else:
            self._log.info("%s", name, extra=fields)

    def _chosen(self, command: str) -> bool:
        """Every n-th of a command, evenly: a share of 0.01 is each hundredth call."""
        due = self._due.get(command, 0.0) + self._share(command)
        self._due[command] = due - 1.0 if due >= 1.0 else due
        return due >= 1.0
