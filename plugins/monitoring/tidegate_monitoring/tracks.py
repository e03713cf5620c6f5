"""What rules look back on: each a sliding window of 60 steps at most, whatever its length."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from math import ceil

import msgspec

from tidegate_monitoring.histogram import Histogram, mean, merge, quantiles
from tidegate_monitoring.rules import DELAYS, WORST, Rule
from tidegate_monitoring.window import Calls, Window

STEPS = 60
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(dict[int, int]).decode


def own_fault(code: int) -> bool:
    """Whether a fault is the server's and not the client's: database and system, save those of low severity, such as
    a broken constraint, a shutdown, a call that was cancelled."""
    return 1200 <= code < 1400 and code not in (1205, 1206, 1212, 1214, 1309, 1311)


class Beat:
    """One second's window, its calls of all commands together, and the levels as they are now."""

    def __init__(self, window: Window, levels: dict[str, float], rest: Callable[[], object] = lambda: None) -> None:
        self.window = window
        self.levels = levels
        self.calls = window.all_calls(rest)

    def histogram(self, series: str) -> Histogram:
        if series in DELAYS:
            return self.window.series.get(series, {})
        area, _, name = series.partition(".")
        if area == "transactions":
            whole: Histogram = {}
            for method, histogram in self.window.series.items():
                if method.startswith("transaction|") and name in ("", method.partition("|")[2]):
                    merge(whole, histogram)
            return whole
        return self._calls(name).seconds()

    def _calls(self, name: str) -> Calls:
        return self.window.calls.get(name, Calls()) if name else self.calls

    def number(self, series: str) -> tuple[int, int]:
        """How many there were, and of how many calls."""
        if series in self.window.counts:
            return self.window.counts[series], self.calls.count
        area, _, name = series.partition(".")
        if area == "calls":
            return self._calls(name).count, self.calls.count
        if area in ("errors", "failures"):
            calls = self._calls("" if name.isdigit() else name)
            if area == "failures":
                return sum(number for code, number in calls.codes.items() if own_fault(code)), calls.count
            return (calls.codes.get(int(name), 0) if name.isdigit() else calls.failures), calls.count
        return 0, self.calls.count


class Track:
    """The measure of one rule."""

    def __init__(self, rule: Rule) -> None:
        self.rule = rule
        self._each = max(ceil(rule.over_s / STEPS), 1)  # beats in a step
        self._steps: deque[bytes] = deque()
        self._count = ceil(rule.over_s / self._each)
        self._sum: Histogram = {}  # of all steps; numbers are kept as buckets 0 and 1
        self._step: Histogram = {}
        self._beats = 0
        self._seconds: deque[float] = deque(maxlen=STEPS)
        self._second = 0.0
        self._worst: dict[str, Track] = {}
        self.subject = ""  # the command that `calls.*` found

    def value(self, beat: Beat) -> float | None:
        """Take in a beat; the value now, None where there is no evidence."""
        rule = self.rule
        if not rule.function:
            return beat.levels.get(rule.series)
        if rule.series == WORST:
            return self._worst_of(beat)
        if rule.function in ("rate", "count"):
            number, calls = beat.number(rule.series)
            self._take({bucket: count for bucket, count in ((0, number), (1, calls)) if count}, beat)
            return self._number()
        self._take(beat.histogram(rule.series), beat)
        return self._quantile()

    def _take(self, now: Histogram, beat: Beat) -> None:
        merge(self._step, now)
        merge(self._sum, now)
        self._beats += 1
        self._second += beat.window.seconds
        if self._beats < self._each:
            return
        self._steps.append(_encode(self._step))
        self._seconds.append(self._second)
        self._step, self._beats, self._second = {}, 0, 0.0
        while len(self._steps) > self._count:
            merge(self._sum, _decode(self._steps.popleft()), -1)

    def _number(self) -> float | None:
        number, calls = self._sum.get(0, 0), self._sum.get(1, 0)
        rule = self.rule
        if rule.function == "count":
            return float(number)
        if rule.unit == "share":
            return number / calls if calls and calls >= rule.minimum else None
        # The whole span counts from the start: a burst in the first second is no rate of a minute.
        return number / rule.over_s

    def _quantile(self) -> float | None:
        if sum(self._sum.values()) < max(self.rule.minimum, 1):
            return None
        share = self.rule.quantile
        return mean(self._sum) if share is None else quantiles(self._sum, share)[0]

    def _worst_of(self, beat: Beat) -> float | None:
        for name in beat.window.calls:
            if name not in self._worst:
                self._worst[name] = Track(self.rule._replace(series=f"calls.{name}"))
        values = {name: track.value(beat) for name, track in self._worst.items()}
        known = {name: value for name, value in values.items() if value is not None}
        if not known:
            return None
        choose = max if self.rule.compare[0] == ">" else min
        self.subject = choose(known, key=known.__getitem__)
        return known[self.subject]
