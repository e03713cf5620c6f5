"""The named breakers of a server: found or made by name, bounded in number, around calls and around blocks."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from functools import wraps
from math import inf
from types import TracebackType
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import gevent
from tidegate import Call, Fault

from tidegate_errors.breaker import CLOSED, FORCED_OPEN, HALF_OPEN, OPEN, Breaker, Pass, Rules
from tidegate_errors.retry import cut_short

if TYPE_CHECKING:
    from tidegate import Server

P = ParamSpec("P")
T = TypeVar("T")
Proceed = Callable[[Call], Any]
CHANNEL = "errors.breakers"


class Breakers:
    """All breakers by name. At most `cap` beside those of notes: the closed one not asked for the longest goes."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.default = Rules()
        self.own: Mapping[str, Rules] = {}
        self.cap = 1000
        self.recovered = 0  # how often one closed after it had been open
        self._breakers: OrderedDict[str, Breaker] = OrderedDict()
        self._held: dict[str, Breaker] = {}  # by the notes of commands; never dropped

    def adopt(self, default: Rules, own: Mapping[str, Rules], cap: int) -> None:
        """New rules for all, at a reload."""
        self.default, self.own, self.cap = default, own, cap
        for breaker in self:
            breaker.adopt(own.get(breaker.name, default))

    def __iter__(self) -> Iterator[Breaker]:
        return iter([*self._held.values(), *self._breakers.values()])

    def get(self, name: str) -> Breaker | None:
        """One that is there already."""
        return self._held.get(name) or self._breakers.get(name)

    def named(self, name: str, *, held: bool = False) -> Breaker:
        """The breaker of that name, made when first asked for."""
        if (breaker := self._held.get(name)) is not None:
            return breaker
        if (breaker := self._breakers.get(name)) is None:
            breaker = Breaker(name, self.own.get(name, self.default), self.server.clock, self._changed)
        if held:
            self._breakers.pop(name, None)
            self._held[name] = breaker
            return breaker
        self._breakers[name] = breaker
        self._breakers.move_to_end(name)
        if len(self._breakers) > self.cap:
            self._drop_one()
        return breaker

    def _drop_one(self) -> None:
        """A closed one rather than one that knows something; never the newest."""
        newest, oldest = next(reversed(self._breakers)), next(iter(self._breakers))
        closed = (name for name, breaker in self._breakers.items() if breaker.state == CLOSED and name != newest)
        del self._breakers[next(closed, oldest)]

    def act(self, message: Mapping[str, Any]) -> None:
        """An administrator's act, from the bus: `{"name": "smtp", "state": "open", "closed" or "auto"}`."""
        breaker = self.named(str(message["name"]))
        state = message["state"]
        breaker.force(None if state == "auto" else str(state))

    def _changed(self, breaker: Breaker, old: str) -> None:
        server = self.server
        until = None if breaker.until is None else server.clock.wall() + breaker.until - server.clock.now()
        self.recovered += old == HALF_OPEN and breaker.state == CLOSED
        opened = breaker.state in (OPEN, FORCED_OPEN)
        server.log.log(
            30 if opened else 20,
            "breaker %s: %s, was %s",
            breaker.name,
            breaker.state,
            old,
            extra={"breaker": breaker.name, "refused": breaker.refused},
        )
        server.publish("breaker.changed", name=breaker.name, old=old, new=breaker.state, until=until)


def judged(error: BaseException, call: Call | None, seconds: float, limit_s: float) -> bool:
    """Whether an error says anything about what was called. What was killed doesn't, nor what the server cut short
    before the command's own time limit: a client in a hurry must not open a breaker for all others."""
    if not isinstance(error, (Exception, gevent.Timeout)):
        return False
    return not cut_short(error, call) or seconds > limit_s - 0.001


def breaking(breaker: Breaker, proceed: Proceed, server: Server, limit_s: float) -> Proceed:
    """`proceed` behind `breaker`. `limit_s`: the command's own time limit; a client's shorter one proves nothing."""
    enter, leave, now = breaker.enter, breaker.leave, server.clock.now

    def failed(call: Call, error: BaseException, entered: Pass, start: float) -> None:
        time = now()
        telling = judged(error, call, time - call.now, limit_s)
        leave(entered, server.fault_of(error, call) if telling else None, time - start, judged=telling)

    def asked(call: Call) -> Any:
        """Not closed: perhaps a probe."""
        entered = enter()
        start = now()
        try:
            result = proceed(call)
        except BaseException as error:
            failed(call, error, entered, start)
            raise
        leave(entered, None, now() - start)
        return result

    if breaker.rules.slow_s is None and breaker.rules.window_s is None:

        def counting(call: Call) -> Any:
            window = breaker.window
            if window is None:
                return asked(call)
            try:
                result = proceed(call)
            except BaseException as error:
                failed(call, error, window, call.now)
                raise
            window.calls += 1
            return result

        return counting

    slow_s = inf if breaker.rules.slow_s is None else breaker.rules.slow_s

    def timing(call: Call) -> Any:
        window = breaker.window
        if window is None:
            return asked(call)
        start = now()
        try:
            result = proceed(call)
        except BaseException as error:
            failed(call, error, window, start)
            raise
        end = now()
        if end >= window.until:
            window.roll(end)
        if end - start < slow_s:
            window.calls += 1
        else:
            leave(window, None, end - start)
        return result

    return timing


class Guard:
    """`with breaker("smtp"): …`, or `@breaker("smtp")` before a function. Raises CircuitOpen.

    May be kept, and entered by many greenlets. `call`: the one in which this happens, if any, and its command's time
    limit.
    """

    __slots__ = ("_breaker", "_call", "_inside", "_limit_s", "server")

    def __init__(self, server: Server, breaker: Breaker, call: Call | None = None, limit_s: float = inf) -> None:
        self.server = server
        self._call = call
        self._limit_s = limit_s
        self._breaker = breaker
        self._inside: list[tuple[Any, Pass, float]] = []  # who, how it got in, and when

    def __enter__(self) -> Guard:
        entered = self._breaker.enter()
        self._inside.append((gevent.getcurrent(), entered, self.server.clock.now()))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        call, now = self._call, self.server.clock.now()
        fault: Fault | None = None
        me = gevent.getcurrent()
        place = max(place for place, (who, _, _) in enumerate(self._inside) if who is me)
        _, entered, start = self._inside.pop(place)
        telling = error is None or judged(error, call, now - call.now if call is not None else 0.0, self._limit_s)
        if error is not None and telling:
            fault = self.server.fault_of(error, call)
        self._breaker.leave(entered, fault, now - start, judged=telling)

    def __call__(self, function: Callable[P, T]) -> Callable[P, T]:
        @wraps(function)
        def guarded(*args: P.args, **kwargs: P.kwargs) -> T:
            with Guard(self.server, self._breaker, self._call, self._limit_s):
                return function(*args, **kwargs)

        return guarded
