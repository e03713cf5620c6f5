"""An adaptive limit on the calls that run at once: lower while calls get slower, higher while they don't.

The algorithm is Gradient2 of Netflix's concurrency-limits (github.com/Netflix/concurrency-limits,
Gradient2Limit.java, ExpAvgMeasurement.java and WindowedLimit.java), with its numbers: each second the mean time of
a call is compared with its long-time mean, and the limit follows their ratio; 4 calls of queue, smoothing 0.2,
a tolerance of 1.5, windows of 10 samples at least, no samples below 100 µs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

PRIORITIES = range(10)
DEFAULT_PRIORITY = 5
WINDOW_S = 1.0
MIN_SAMPLES = 10
MIN_SECONDS = 100e-6
_WARM_UP = 10  # windows whose plain mean starts the long one
_LONG = 2 / (600 + 1)  # an exponential mean over 600 windows


@dataclass(frozen=True, slots=True)
class Bounds:
    """Between which numbers the limit moves."""

    initial: float = 100
    least: float = 20
    most: float = 1000
    tolerance: float = 1.5  # calls may get that much slower before the limit falls
    queue: float = 4
    smoothing: float = 0.2


class AdaptiveLimit:
    """One limit for the whole server.

    A caller of priority p asks whether `running < ceilings[p]`, adds itself to `running`, and afterwards gives
    its time to `took`. Priority 5 may use the whole limit, 0 half of it, 9 four tenths more: so the lowest are
    shed first.
    """

    __slots__ = (
        "_long",
        "_long_samples",
        "_now",
        "bounds",
        "ceilings",
        "limit",
        "peak",
        "running",
        "samples",
        "seconds",
        "until",
    )

    def __init__(self, bounds: Bounds, now: Callable[[], float]) -> None:
        self.bounds = bounds
        self.running = 0
        self.peak = 0  # the most that ran at once in this window
        self.seconds = 0.0
        self.samples = 0
        self.until = now() + WINDOW_S
        self._now = now
        self._long = 0.0
        self._long_samples = 0
        self.limit = 0.0
        self.ceilings: list[float] = []
        self._set(bounds.initial)

    def adopt(self, bounds: Bounds) -> None:
        """New bounds; the limit goes on from where it is, if that is within them."""
        self.bounds = bounds
        self._set(min(max(self.limit, bounds.least), bounds.most))

    def took(self, seconds: float, now: float) -> None:
        """A call ran for `seconds` until `now`."""
        if seconds >= MIN_SECONDS:
            self.seconds += seconds
            self.samples += 1
            if now >= self.until:
                self._update(now)

    def _set(self, limit: float) -> None:
        self.limit = limit
        self.ceilings = [limit * (5 + priority) / 10 for priority in PRIORITIES]

    def _update(self, now: float) -> None:
        samples, seconds, peak = self.samples, self.seconds, self.peak
        self.until = now + WINDOW_S
        self.samples, self.seconds, self.peak = 0, 0.0, self.running
        if samples < MIN_SAMPLES:
            return
        short = seconds / samples
        long = self._averaged(short)
        if long > 2 * short:
            self._long *= 0.95  # the load is over; the long mean must not take ten minutes to see it
        if peak < self.limit / 2:
            return  # the clients ask for less than that: nothing is learnt about what would be too much
        bounds, limit = self.bounds, self.limit
        gradient = max(0.5, min(1.0, bounds.tolerance * long / short))
        target = limit * gradient + bounds.queue
        limit += (target - limit) * bounds.smoothing
        self._set(max(bounds.least, min(bounds.most, limit)))

    def _averaged(self, short: float) -> float:
        if self._long_samples < _WARM_UP:
            self._long_samples += 1
            self._long += (short - self._long) / self._long_samples
        else:
            self._long += (short - self._long) * _LONG
        return self._long
