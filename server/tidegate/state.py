"""State that plugins share: rate limits, decaying scores, values that expire, sets, locks; in bounded memory.

Another back end takes the place of `server.state` with the same operations. Here none but
`lock` switches or fails. A full table drops what no longer means anything, then what means
the least; it never refuses, and never goes by age.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from math import inf
from typing import Any, NamedTuple

from gevent.event import Event

from tidegate.clock import Clock, Timer

CAP = 100_000
_SAMPLE = 5  # entries that are compared when a full table drops one (as Redis does: maxmemory-samples)
_SLACK_S = 1e-6  # floats of a clock that has run for a year are right to 4 ns
_NOTHING = 0.01  # a score below it is none
_SECONDS = {"second": 1, "minute": 60, "hour": 3600, "day": 86400}
_RATE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*/\s*(\d+)?\s*(second|minute|hour|day)s?\s*", re.ASCII)

Key = Hashable
Worth = Callable[[Any, float], float]


class Rate(NamedTuple):
    """So many in so many seconds."""

    number: float
    seconds: float


def rates(text: str) -> list[Rate]:
    """`"10/second, 600/hour"` or `"5/10 minutes"`. Raises ValueError, which says what was expected."""
    found = []
    for part in text.split(","):
        match = _RATE.fullmatch(part)
        if match is None or not float(match[1]) or (match[2] is not None and not int(match[2])):
            raise ValueError(f"expected rates such as '60/minute' or '10/second, 600/hour', got {text[:80]!r}")
        found.append(Rate(float(match[1]), int(match[2] or 1) * _SECONDS[match[3]]))
    return found


class _Table(dict[Key, Any]):
    """At most `cap` entries. A hand goes round them, so that each is looked at by and by, whatever its age.

    `worth(value, now)` says how much an entry means; 0 or less: nothing any more.
    """

    # A plain dict is read and written on every call; an OrderedDict, whose order could be the
    # hand's, costs more. A key that was deleted leaves its place in the hand until that comes round.
    __slots__ = ("_hand", "cap", "worth")

    def __init__(self, cap: int, worth: Worth) -> None:
        super().__init__()
        self.cap = cap
        self.worth = worth
        self._hand: deque[Key] = deque()

    def put(self, key: Key, value: Any, now: float) -> None:
        """Add a key that is not there."""
        self[key] = value
        hand = self._hand
        hand.append(key)
        if len(self) > self.cap:
            self._drop_least(now)
        elif len(hand) > 2 * len(self) + 64:  # places of keys that were deleted one by one, or came back
            self._hand = deque(self)
        else:  # what means nothing goes by and by, so that a flood's memory comes back
            for _ in range(min(2, len(hand))):
                old = hand.popleft()
                if (held := self.get(old)) is not None:
                    if self.worth(held, now) > 0 or old == key:
                        hand.append(old)
                    else:
                        del self[old]

    def _drop_least(self, now: float) -> None:
        seen: dict[Key, float] = {}
        while self._hand and len(seen) < _SAMPLE:
            old = self._hand.popleft()
            if old not in seen and (held := self.get(old)) is not None:
                seen[old] = self.worth(held, now)
        least = min(seen, key=seen.__getitem__)
        for old, worth in seen.items():
            if worth <= 0 or old == least:
                del self[old]
            else:
                self._hand.append(old)

    def shrink(self, cap: int, now: float) -> None:
        self.cap = cap
        while len(self) > cap:
            self._drop_least(now)

    def clear(self) -> None:
        super().clear()
        self._hand.clear()


class Limit:
    """Rates by key: GCRA, the generic cell rate algorithm (ITU-T I.371), one float a key and rate."""

    hit: Callable[..., float]
    """`hit(key, cost=1, now=None)`: 0.0 when taken, else the seconds after which it would be; all
    rates or none. `cost=0` asks for one without taking; a negative cost gives back what a call took that another
    limit then refused; infinity: never, the cost is above the burst."""

    def __init__(self, clock: Clock, table: _Table, given: Sequence[Rate], burst: float | None) -> None:
        self._now = clock.now
        self._table = table
        self.rates = tuple(given)
        shortest = min(given, key=lambda rate: rate.seconds)
        # (seconds that one costs, seconds that may be owed)
        self._steps = [
            (
                rate.seconds / rate.number,
                rate.seconds / rate.number * (burst if burst and rate is shortest else rate.number),
            )
            for rate in given
        ]
        # A rate of its own for one and for two, since they are asked on every call: 0.1 and 0.15 µs.
        self.hit = {1: self._one, 2: self._two}.get(len(given), lambda: self._many)()

    @property
    def most(self) -> float:
        """The greatest cost that is ever taken."""
        return min(owed / step for step, owed in self._steps)

    def _one(self) -> Callable[..., float]:
        ((step, owed),) = self._steps
        table, clock_now, many = self._table, self._now, self._many
        get, slack = table.get, owed + _SLACK_S

        def hit(key: Key, cost: float = 1, now: float | None = None) -> float:
            if now is None:
                now = clock_now()
            if (due := get(key)) is not None and cost:
                later = (due if due > now else now) + step * cost
                if later <= now + slack:
                    table[key] = later
                    return 0.0
            return many(key, cost, now)

        return hit

    def _two(self) -> Callable[..., float]:
        (step, owed), (other_step, other_owed) = self._steps
        table, clock_now, many = self._table, self._now, self._many
        get, slack, other_slack = table.get, owed + _SLACK_S, other_owed + _SLACK_S

        def hit(key: Key, cost: float = 1, now: float | None = None) -> float:
            if now is None:
                now = clock_now()
            if (dues := get(key)) is not None and cost:
                due, other = dues
                later = (due if due > now else now) + step * cost
                if later <= now + slack:
                    other = (other if other > now else now) + other_step * cost
                    if other <= now + other_slack:
                        table[key] = (later, other)
                        return 0.0
            return many(key, cost, now)

        return hit

    def _many(self, key: Key, cost: float = 1, now: float | None = None) -> float:
        if now is None:
            now = self._now()
        held = self._table.get(key)
        dues = (held,) if isinstance(held, float) else held
        wait, laters = 0.0, []
        for place, (step, owed) in enumerate(self._steps):
            due = now if dues is None else max(dues[place], now)
            later = due + step * (cost or 1)
            if later - now > owed + _SLACK_S:
                wait = max(wait, later - now - owed if step * cost <= owed + _SLACK_S else inf)
            laters.append(later)
        if wait or not cost:
            return wait
        value = laters[0] if len(laters) == 1 else tuple(laters)
        if held is not None:
            self._table[key] = value
        elif cost > 0:
            self._table.put(key, value, now)
        return 0.0

    def __len__(self) -> int:
        return len(self._table)


class Score:
    """Points by key that halve every `half_life_s`; below 0.01 they are none."""

    def __init__(self, clock: Clock, table: _Table, half_life_s: float) -> None:
        self._now = clock.now
        self._table = table
        self.half_life_s = half_life_s

    def add(self, key: Key, points: float, now: float | None = None) -> float:
        """The score after it."""
        now = self._now() if now is None else now
        held = self._table.get(key)
        total = points if held is None else self._left(held, now) + points
        if held is not None:
            self._table[key] = (total, now)
        else:
            self._table.put(key, (total, now), now)
        return total

    def get(self, key: Key) -> float:
        held = self._table.get(key)
        if held is None:
            return 0.0
        left = self._left(held, self._now())
        return left if left >= _NOTHING else 0.0

    def scale(self, key: Key, factor: float) -> None:
        """Forgive with a factor below 1; 0 forgets."""
        if (held := self._table.get(key)) is None:
            return
        if factor <= 0:
            del self._table[key]
        else:
            self._table[key] = (held[0] * factor, held[1])

    def items(self) -> Iterator[tuple[Key, float]]:
        now = self._now()
        for key, held in list(self._table.items()):
            if (left := self._left(held, now)) >= _NOTHING:
                yield key, left

    def _left(self, held: tuple[float, float], now: float) -> float:
        return _left(held, now, self.half_life_s)

    def __len__(self) -> int:
        return len(self._table)


def _left(held: tuple[float, float], now: float, half_life_s: float) -> float:
    points, at = held
    return float(points * 0.5 ** ((now - at) / half_life_s))


class Values:
    """Values by key, each with a time to live; what would expire first means the least."""

    def __init__(self, clock: Clock, table: _Table) -> None:
        self._now = clock.now
        self._table = table

    def get(self, key: Key) -> Any:
        """The value, None when there is none."""
        held = self._table.get(key)
        if held is None:
            return None
        if held[1] <= self._now():
            del self._table[key]
            return None
        return held[0]

    def set(self, key: Key, value: Any, ttl_s: float) -> None:
        now = self._now()
        if key in self._table:
            self._table[key] = (value, now + ttl_s)
        else:
            self._table.put(key, (value, now + ttl_s), now)

    def add(self, key: Key, value: Any, ttl_s: float) -> bool:
        """Set it only when absent; whether it was."""
        if self.get(key) is not None:
            return False
        self.set(key, value, ttl_s)
        return True

    def pop(self, key: Key) -> Any:
        value = self.get(key)
        self._table.pop(key, None)
        return value

    def items(self) -> Iterator[tuple[Key, Any]]:
        now = self._now()
        for key, (value, until) in list(self._table.items()):
            if until > now:
                yield key, value

    def __len__(self) -> int:
        return len(self._table)


class Members:
    """Small sets by key, each member with a time to live: how many distinct, at most `each`."""

    def __init__(self, clock: Clock, table: _Table, each: int) -> None:
        self._now = clock.now
        self._table = table
        self.each = each

    def add(self, key: Key, member: Key, ttl_s: float) -> int:
        """How many distinct members there are then; past `each` the one that expires first goes."""
        now = self._now()
        held = self._table.get(key)
        if held is None:
            self._table.put(key, {member: now + ttl_s}, now)
            return 1
        held[member] = now + ttl_s
        for old in [one for one, until in held.items() if until <= now]:
            del held[old]
        if len(held) > self.each:
            del held[min(held, key=held.__getitem__)]
        return len(held)

    def discard(self, key: Key, member: Key) -> None:
        if (held := self._table.get(key)) is not None:
            held.pop(member, None)
            if not held:
                del self._table[key]

    def of(self, key: Key) -> list[Key]:
        now = self._now()
        return [member for member, until in self._table.get(key, {}).items() if until > now]

    def __len__(self) -> int:
        return len(self._table)


class MemoryState:
    """One process's state. Asking twice for a name gives the same table, with the newer settings."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self._tables: dict[tuple[str, str], _Table] = {}
        self._given: dict[str, tuple[list[Rate], float | None]] = {}
        self._locks: dict[str, _Held] = {}

    def _table(self, kind: str, name: str, cap: int, worth: Worth) -> _Table:
        table = self._tables.setdefault((kind, name), _Table(cap, worth))
        table.worth = worth
        table.shrink(cap, self.clock.now())
        return table

    def limit(self, name: str, rate: str, burst: float | None = None, cap: int = CAP) -> Limit:
        """`rate` as for `rates`; `burst`: how many at once by the shortest of them (None: its own number).

        What other rates counted under this name is forgotten: a debt is in seconds of its own rate. Raises ValueError.
        """
        given = rates(rate)
        table = self._table(
            "limit", name, cap, lambda dues, now: (dues if isinstance(dues, float) else max(dues)) - now
        )
        if self._given.setdefault(name, (given, burst)) != (given, burst):
            table.clear()
            self._given[name] = (given, burst)
        return Limit(self.clock, table, given, burst)

    def score(self, name: str, half_life_s: float, cap: int = CAP) -> Score:
        table = self._table("score", name, cap, lambda held, now: _left(held, now, half_life_s) - _NOTHING)
        return Score(self.clock, table, half_life_s)

    def values(self, name: str, cap: int = CAP) -> Values:
        """What would expire first means the least."""
        return Values(self.clock, self._table("values", name, cap, lambda held, now: held[1] - now))

    def members(self, name: str, cap: int = CAP, each: int = 16) -> Members:
        table = self._table("members", name, cap, lambda held, now: max(held.values(), default=now) - now)
        return Members(self.clock, table, each)

    @contextmanager
    def lock(self, name: str, ttl_s: float) -> Iterator[None]:
        """Hold `name` alone, for at most `ttl_s`: then the next gets it. Switches while it waits."""
        while (other := self._locks.get(name)) is not None:
            other.free.wait()
        held = self._locks[name] = _Held()
        held.timer = self.clock.timer(lambda: self._release(name, held))
        held.timer.start(ttl_s)
        try:
            yield
        finally:
            self._release(name, held)

    def _release(self, name: str, held: _Held) -> None:
        if self._locks.get(name) is held:
            del self._locks[name]
        held.timer.stop()
        held.free.set()


class _Held:
    __slots__ = ("free", "timer")

    timer: Timer

    def __init__(self) -> None:
        self.free = Event()
