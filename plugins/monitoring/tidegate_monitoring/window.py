"""What happened in a stretch of time: calls by command, counts, distributions and levels; two can be merged."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import msgspec

from tidegate_monitoring.histogram import Histogram, merge

#: Different names in one of a window's tables; what comes after them is counted under OTHER.
MAX_NAMES = 2000
OTHER = "other"
#: Commands after which others may run.
CHUNK = 20


class Calls(msgspec.Struct, array_like=True):
    """The calls of one command: seconds of those that succeeded, of those that failed, and these by code."""

    ok: Histogram = {}
    failed: Histogram = {}
    codes: dict[int, int] = {}

    @property
    def succeeded(self) -> int:
        return sum(self.ok.values())

    @property
    def failures(self) -> int:
        return sum(self.failed.values())

    @property
    def count(self) -> int:
        return self.succeeded + self.failures

    def seconds(self) -> Histogram:
        """Of all of them."""
        whole = dict(self.ok)
        merge(whole, self.failed)
        return whole

    def merge(self, other: Calls) -> None:
        merge(self.ok, other.ok)
        merge(self.failed, other.failed)
        for code, count in other.codes.items():
            self.codes[code] = self.codes.get(code, 0) + count


class Level(msgspec.Struct, array_like=True):
    """A gauge in a stretch of time."""

    last: float
    low: float
    high: float
    total: float
    readings: int = 1

    @classmethod
    def of(cls, value: float) -> Level:
        return cls(value, value, value, value)

    @property
    def mean(self) -> float:
        return self.total / self.readings

    def merge(self, later: Level) -> None:
        self.last = later.last
        self.low = min(self.low, later.low)
        self.high = max(self.high, later.high)
        self.total += later.total
        self.readings += later.readings


class Window(msgspec.Struct, array_like=True):
    """`start` is wall time; `seconds` is how much of it was seen, which a restart shortens.

    `counts` has every topic by its name, and parts of some after a bar: `connection.closed|reset`. `series` are
    distributions in seconds, bytes or numbers: `loop.lag`, `transaction|message.send`. `levels` are gauges.
    """

    start: float
    seconds: float = 0.0
    calls: dict[str, Calls] = {}
    counts: dict[str, int] = {}
    series: dict[str, Histogram] = {}
    levels: dict[str, Level] = {}

    def count(self, name: str, number: int = 1) -> None:
        counts = self.counts
        if name not in counts and len(counts) >= MAX_NAMES:
            name = OTHER
        counts[name] = counts.get(name, 0) + number

    def level(self, name: str, value: float) -> None:
        name = self._room(self.levels, name)
        if (known := self.levels.get(name)) is not None:
            known.merge(Level.of(value))
        else:
            self.levels[name] = Level.of(value)

    def merge(self, later: Window, rest: Callable[[], object] = lambda: None) -> None:
        """Take in what happened afterwards. `rest` is called now and then, and may switch."""
        self.seconds += later.seconds
        for number, (name, calls) in enumerate(later.calls.items(), 1):
            self.calls.setdefault(name, Calls()).merge(calls)
            if number % CHUNK == 0:
                rest()
        for name, number in later.counts.items():
            self.count(name, number)
        for name, histogram in later.series.items():
            merge(self.series.setdefault(self._room(self.series, name), {}), histogram)
        for name, level in later.levels.items():
            if (known := self.levels.get(name)) is not None:
                known.merge(level)
            elif len(self.levels) < MAX_NAMES:
                self.levels[name] = Level(*msgspec.structs.astuple(level))

    @staticmethod
    def _room(table: Mapping[str, object], name: str) -> str:
        return name if name in table or len(table) < MAX_NAMES else OTHER

    # --- what it says -----------------------------------------------------------------------------

    def all_calls(self, rest: Callable[[], object] = lambda: None) -> Calls:
        """Of all commands together."""
        whole = Calls()
        for number, calls in enumerate(self.calls.values(), 1):
            whole.merge(calls)
            if number % CHUNK == 0:
                rest()
        return whole

    def parts(self, topic: str) -> dict[str, int]:
        """`{"reset": 3}` for `connection.closed`."""
        start = f"{topic}|"
        return {name[len(start) :]: number for name, number in self.counts.items() if name.startswith(start)}


encode = msgspec.msgpack.Encoder().encode
decode = msgspec.msgpack.Decoder(Window).decode


def merged(windows: Iterable[Window], start: float = 0.0) -> Window:
    """One window of many, oldest first. Pure, and better done in a thread: a quarter of an hour takes 50 ms."""
    whole: Window | None = None
    for window in windows:
        if whole is None:
            whole = window
        else:
            whole.merge(window)
    return whole if whole is not None else Window(start)
