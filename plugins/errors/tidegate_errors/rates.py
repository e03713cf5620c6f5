"""Calls and failures over the last 1, 5 and 15 minutes: windows that slide by the second, in bounded memory."""

from __future__ import annotations

from collections import deque

SPANS = {"1m": 60, "5m": 300, "15m": 900}
LONGEST = max(SPANS.values())


class Rates:
    """Remembers two counters at each second's end; a window is the difference to an earlier end."""

    def __init__(self, now: float) -> None:
        self._marks: deque[tuple[int, int]] = deque([(0, 0)], maxlen=LONGEST + 1)
        self._until = now + 1.0

    def roll(self, now: float, calls: int, failed: int) -> None:
        """Told at least each second; of a time in which it was not, it knows the end only."""
        while self._until <= now:
            missed = int(now - self._until)
            if missed > LONGEST:
                self._until += missed - LONGEST
            self._marks.append((calls, failed))
            self._until += 1.0

    def over(self, seconds: int, calls: int, failed: int) -> tuple[int, int]:
        """(calls, failures) in the last `seconds`, at most 900; the counters are as they are now."""
        before = self._marks[max(len(self._marks) - seconds, 0)]
        return calls - before[0], failed - before[1]
