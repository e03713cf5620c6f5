"""The numbers of the last days, in three resolutions and bounded memory: what charts are drawn from."""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Iterable, Mapping
from math import isfinite, nan
from typing import Any

#: What is asked for -> seconds between two points, points kept. 15 minutes, 6 hours, 7 days.
SPANS = {"15m": (5, 180), "6h": (60, 360), "7d": (900, 672)}
MAX_NAMES = 150
READ_S = 5.0  # how often the numbers are read where nobody looks
_NOTHING = nan


class Tier:
    """Means over `step` seconds; the newest `points` of them."""

    def __init__(self, step: float, points: int) -> None:
        self.step = step
        self.times: deque[float] = deque(maxlen=points)
        self.rows: deque[array[float]] = deque(maxlen=points)
        self._sums: list[list[float]] = []  # of each name: the sum, and of how many
        self._until = 0.0

    def put(self, at: float, row: array[float]) -> None:
        """Take in a point. One that begins a new step ends the one before."""
        if at >= self._until:
            self._close()
            self._until = (at // self.step + 1) * self.step
        while len(self._sums) < len(row):
            self._sums.append([0.0, 0])
        for sums, value in zip(self._sums, row, strict=False):
            if isfinite(value):
                sums[0] += value
                sums[1] += 1

    def fill(self, times: list[float], rows: list[array[float]], now: float) -> None:
        """Go on after these points, oldest first; one of the step that is under way counts for what was read so far."""
        started = now // self.step * self.step
        for at, row in zip(times, rows, strict=True):
            if at < started:
                self.times.append(at)
                self.rows.append(row)
            else:
                count = max((now - started) / READ_S, 1.0)
                self._until = started + self.step
                self._sums = [[value * count, count] if isfinite(value) else [0.0, 0.0] for value in row]

    def _close(self) -> None:
        if any(count for _, count in self._sums):
            self.times.append(self._until - self.step)
            self.rows.append(array("d", [total / count if count else _NOTHING for total, count in self._sums]))
        self._sums = []


class Series:
    """Points by name. Names come and are never forgotten; after MAX_NAMES no new one is taken."""

    def __init__(self) -> None:
        self._places: dict[str, int] = {}
        self.tiers = {span: Tier(*shape) for span, shape in SPANS.items()}

    def put(self, at: float, values: Mapping[str, float]) -> None:
        """Take in what was measured at `at`, wall time. Never switches."""
        self._place(values)
        row = array("d", [values.get(name, _NOTHING) for name in self._places])
        for tier in self.tiers.values():
            tier.put(at, row)

    def fill(self, span: str, times: list[float], values: Mapping[str, list[float | None]], now: float) -> None:
        """Take in what was measured before this process began, as `shown` gives it."""
        self._place(values)
        columns = [values.get(name, []) for name in self._places]
        rows = [array("d", [_number(column, place) for column in columns]) for place in range(len(times))]
        self.tiers[span].fill(times, rows, now)

    def _place(self, names: Iterable[str]) -> None:
        for name in names:
            if name not in self._places and len(self._places) < MAX_NAMES:
                self._places[name] = len(self._places)

    def shown(self, span: str, names: list[str]) -> dict[str, Any]:
        """`{"span": "15m", "step_s": 5, "times": [...], "values": {name: [number or null, ...]}}`, oldest first."""
        tier = self.tiers[span]
        wanted = {name: self._places[name] for name in names or self._places if name in self._places}
        values = {
            name: [round(row[place], 4) if place < len(row) and isfinite(row[place]) else None for row in tier.rows]
            for name, place in wanted.items()
        }
        return {"span": span, "step_s": tier.step, "times": list(tier.times), "values": values}


def _number(column: list[float | None], place: int) -> float:
    value = column[place] if place < len(column) else None
    return _NOTHING if value is None else value
