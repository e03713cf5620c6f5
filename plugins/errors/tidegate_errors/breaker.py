"""A circuit breaker: what keeps failing is left alone for a while, then tried by a few.

The states and what decides between them follow Resilience4j's CircuitBreaker (closed, open, half-open,
two forced ones; failure rate and slow-call rate over a sliding window of calls or seconds; a minimum
of calls; a limited number of probes), after M. Nygard, "Release It!". Nothing here switches or locks: a
call holds no lock while it runs, and a breaker costs a success one addition.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from math import ceil
from typing import Any, Protocol

from tidegate import Fault
from tidegate.faults import CircuitOpen

from tidegate_errors.window import CountWindow, TimeWindow, Window

CLOSED, OPEN, HALF_OPEN = "closed", "open", "half_open"
FORCED_OPEN, FORCED_CLOSED = "forced_open", "forced_closed"

#: A fault with one of these recoveries is the client's own, and says nothing about a dependency.
HARMLESS = frozenset({"fix_request", "authenticate", "disconnect", "none"})
#: Locked accounts and rate limits: the client's own too, though it may come again later.
LIMITS = frozenset({1005, 1104, 1105, 1110})


class Clock(Protocol):
    """The part of the server's clock that a breaker reads: monotonic seconds."""

    def now(self) -> float: ...


def ours(fault: Fault) -> bool:
    """Whether a fault is the server's failure, or that of something behind it, and not the client's."""
    return fault.recovery not in HARMLESS and fault.code not in LIMITS


@dataclass(frozen=True, slots=True)
class Rules:
    """When a breaker opens, for how long, and what closes it. Rates are shares, 0.5 for half."""

    window: int = 100  # calls
    window_s: float | None = None  # seconds instead of calls
    failure_rate: float = 0.5
    slow_s: float | None = None  # a call that takes longer is slow; None: none is
    slow_rate: float = 0.5
    minimum_calls: int = 10
    open_s: float = 5.0  # doubled each time the probes fail
    open_cap_s: float = 300.0
    probes: int = 3
    counts: frozenset[int] = frozenset()  # only these codes; empty: all that are ours
    ignores: frozenset[int] = frozenset()

    def count(self, fault: Fault) -> bool:
        """Whether this fault is a failure of what the breaker watches."""
        if not ours(fault):
            return False
        return fault.code in self.counts if self.counts else fault.code not in self.ignores


class Trial:
    """The probes of one half-open time."""

    __slots__ = ("at", "done", "failed", "left", "slow")

    def __init__(self, probes: int, now: float) -> None:
        self.at = now
        self.left = probes
        self.done = self.failed = self.slow = 0


#: What `enter` gives and `leave` takes: where the outcome belongs. None: nowhere.
Pass = Window | Trial | None


class Breaker:
    """One breaker.

    `window` is what a closed breaker counts in, else None. The quick way past a closed breaker, for who can't
    afford `enter` and `leave`: `window = breaker.window`, and after a success that was not slow `window.calls += 1`.
    """

    __slots__ = (
        "_changed",
        "_clock",
        "_openings",
        "_random",
        "_trial",
        "name",
        "refused",
        "rules",
        "state",
        "until",
        "window",
    )

    def __init__(
        self,
        name: str,
        rules: Rules,
        clock: Clock,
        changed: Callable[[Breaker, str], object] = lambda breaker, old: None,
        rand: Callable[[], float] = random.random,
    ) -> None:
        self.name = name
        self.rules = rules
        self.state = CLOSED
        self.until: float | None = None  # open: when probing begins, on the clock
        self.refused = 0
        self._clock = clock
        self._changed = changed
        self._random = rand
        self._openings = 0  # since it was last closed
        self._trial: Trial | None = None
        self.window: Window | None = self._new_window()

    # --- calls -----------------------------------------------------------------------------------

    def enter(self) -> Pass:
        """May a call pass? What it gives goes to `leave` with the outcome. Raises CircuitOpen."""
        if self.window is not None or self.state == FORCED_CLOSED:
            return self.window
        now = self._clock.now()
        if self._probing(now):
            trial = self._trial
            if trial is not None and trial.left:
                trial.left -= 1
                return trial
        self.refused += 1
        raise CircuitOpen(retry_after=self.retry_after(now), log=f"breaker {self.name} is {self.state}")

    def leave(self, entered: Pass, fault: Fault | None, seconds: float = 0.0, *, judged: bool = True) -> None:
        """The outcome of a call that passed: `fault` None is a success; not `judged`: it says nothing either way."""
        rules = self.rules
        failed = fault is not None and rules.count(fault)
        slow = rules.slow_s is not None and seconds >= rules.slow_s
        judged = judged and (failed or slow or fault is None)
        if isinstance(entered, Trial):
            self._tried(entered, judged, failed, slow)
        elif entered is not None and judged:
            if not failed and not slow:
                entered.calls += 1
                return
            now = self._clock.now()
            entered.add(now, failed=failed, slow=slow)
            if entered is self.window:
                self._judge(entered, now)

    def retry_after(self, now: float) -> float:
        """Seconds after which it is worth another try; while it probes or is forced open, a guess."""
        if self.state == OPEN and self.until is not None:
            return max(self.until - now, 0.0)
        return self.rules.open_s if self.state == FORCED_OPEN else min(1.0, self.rules.open_s)

    # --- operators -------------------------------------------------------------------------------

    def force(self, state: str | None) -> None:
        """Keep it `"open"` or `"closed"` whatever comes; None lets it decide again, from closed."""
        if state is None:
            self.reset()
        else:
            self._become(FORCED_OPEN if state == OPEN else FORCED_CLOSED)

    def reset(self) -> None:
        """Closed, with nothing remembered."""
        self._openings = 0
        self.refused = 0
        self._become(CLOSED)

    def adopt(self, rules: Rules) -> None:
        """New rules; what a closed breaker has counted is forgotten if they differ."""
        if rules != self.rules:
            self.rules = rules
            if self.window is not None:
                self.window = self._new_window()

    def report(self, now: float) -> dict[str, Any]:
        """Its state as JSON: rates in percent of the window, `retry_after` in seconds."""
        seen = self.window.seen(now) if self.window is not None else None
        share = 100 / seen.calls if seen is not None and seen.calls else 0.0
        return {
            "name": self.name,
            "state": self.state,
            "calls": seen.calls if seen is not None else None,
            "failed_percent": round(seen.failed * share, 1) if seen is not None else None,
            "slow_percent": round(seen.slow * share, 1) if seen is not None else None,
            "retry_after": round(self.retry_after(now), 3)
            if self.window is None and self.state != FORCED_CLOSED
            else None,
            "refused": self.refused,
        }

    # --- the states ------------------------------------------------------------------------------

    def _new_window(self) -> Window:
        rules = self.rules
        if rules.window_s is not None:
            return TimeWindow(rules.window_s, self._clock.now())
        return CountWindow(rules.window)

    def _become(self, state: str) -> None:
        old, self.state = self.state, state
        self.window = self._new_window() if state == CLOSED else None
        if state != OPEN:
            self.until = None
        if state != HALF_OPEN:
            self._trial = None
        if old != state:
            self._changed(self, old)

    def _judge(self, window: Window, now: float) -> None:
        rules, seen = self.rules, window.seen(now)
        if seen.calls < rules.minimum_calls:
            return
        if seen.failed >= rules.failure_rate * seen.calls or (
            rules.slow_s is not None and seen.slow >= rules.slow_rate * seen.calls
        ):
            self._open(now)

    def _open(self, now: float) -> None:
        self._openings += 1
        seconds, chance = self.rules.open_s * 2.0 ** min(self._openings - 1, 30), self._random()
        # ±20 %, at the cap as well, so that servers that lost the same dependency don't all come back together.
        self.until = now + min(seconds * (0.8 + 0.4 * chance), self.rules.open_cap_s * (0.8 + 0.2 * chance))
        self._become(OPEN)

    def _probing(self, now: float) -> bool:
        """Whether it is half-open, now that somebody asks."""
        if self.state == OPEN and self.until is not None and now >= self.until:
            self._trial = Trial(self.rules.probes, now)
            self._become(HALF_OPEN)
        elif self.state == HALF_OPEN and self._trial is not None and now - self._trial.at >= self.rules.open_cap_s:
            self._trial = Trial(self.rules.probes, now)  # probes that never came back
        return self.state == HALF_OPEN

    def _tried(self, trial: Trial, judged: bool, failed: bool, slow: bool) -> None:
        if trial is not self._trial:
            return  # a probe of an earlier time
        if not judged:
            trial.left += 1
            return
        rules = self.rules
        trial.done += 1
        trial.failed += failed
        trial.slow += slow
        if trial.failed >= ceil(rules.failure_rate * rules.probes) or (
            trial.slow and trial.slow >= ceil(rules.slow_rate * rules.probes)
        ):
            self._open(self._clock.now())
        elif trial.done >= rules.probes:
            self._openings = 0
            self._become(CLOSED)
