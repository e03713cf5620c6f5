"""What administrators are told of transactions: the slowest, and totals by command."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from itertools import count
from typing import Any

from tidegate_transactions.transaction import COMMITTED, ROLLED_BACK, Transaction

SLOWEST = 100  # kept


class Totals:
    """Of one command."""

    __slots__ = ("committed", "rolled_back", "rows", "seconds", "statements", "timed_out")

    def __init__(self) -> None:
        self.committed = self.rolled_back = self.timed_out = self.statements = self.rows = 0
        self.seconds = 0.0

    def row(self) -> dict[str, Any]:
        return {
            "committed": self.committed,
            "rolled_back": self.rolled_back,
            "timed_out": self.timed_out,
            "statements": self.statements,
            "rows": self.rows,
            "seconds": round(self.seconds, 6),
        }


class Book:
    """Bounded: by the number of commands, and by SLOWEST."""

    def __init__(self, wall: Callable[[], float]) -> None:
        self._wall = wall
        self.by_method: dict[str | None, Totals] = {}
        self.retried = self.replayed = 0
        self._slowest: list[tuple[float, int, dict[str, Any]]] = []
        self._least = 0.0
        self._numbers = count()

    def enter(self, transaction: Transaction) -> None:
        """A transaction is over."""
        method = transaction.method
        totals = self.by_method.get(method)
        if totals is None:
            totals = self.by_method[method] = Totals()
        state = transaction.state
        if state is COMMITTED:
            totals.committed += 1
        elif state is ROLLED_BACK:
            totals.rolled_back += 1
        else:
            totals.timed_out += 1
        totals.statements += transaction.statements
        totals.rows += transaction.rows
        totals.seconds += transaction.seconds
        if transaction.seconds > self._least:
            row = {**transaction.row(0.0), "ended": self._wall()}
            entry = (transaction.seconds, next(self._numbers), row)
            if len(self._slowest) < SLOWEST:
                heapq.heappush(self._slowest, entry)
            else:
                heapq.heapreplace(self._slowest, entry)
                self._least = self._slowest[0][0]

    def slowest(self, limit: int) -> list[dict[str, Any]]:
        return [row for _, _, row in heapq.nlargest(limit, self._slowest)]

    def totals(self) -> dict[str, Any]:
        """All commands together, and each."""
        whole: dict[str, Any] = Totals().row()
        for one in self.by_method.values():
            for name, value in one.row().items():
                whole[name] += value
        whole["seconds"] = round(whole["seconds"], 6)
        return {
            **whole,
            "retried": self.retried,
            "replayed": self.replayed,
            "by_method": {method or "-": one.row() for method, one in sorted(self.by_method.items(), key=str)},
        }
