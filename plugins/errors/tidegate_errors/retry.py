"""Retry: what to repeat, how long to wait before, and when to give up.

"Full jitter" is M. Brooker's, "Exponential Backoff And Jitter" (AWS Architecture Blog, 2015): a random time
between nothing and the exponential one, which spreads clients that failed together best.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from math import inf
from typing import TYPE_CHECKING, Any

import gevent
from tidegate import Call, Command, Fault, Key

from tidegate_errors.advice import retry_after_of

if TYPE_CHECKING:
    from tidegate import Server

    from tidegate_errors.budget import Budget

#: How often a call was tried, where that is more than once.
ATTEMPTS = Key[int]("errors.attempts")
#: Rolled back for certain by who raises them: a transaction that met one may run again.
ROLLED_BACK = frozenset({1203, 1207, 1209})
#: Says `retry_later`, and yet a second try soon is what helps: something behind the server was away.
SOON = frozenset({1306, 1502})
BACKOFFS = ("none", "fixed", "linear", "exponential", "jitter")
MAX_ATTEMPTS = 20
CONTAINERS = (dict, list)
_SCALARS = ("string", "integer", "float", "number", "boolean", "str", "int", "bool", str, int, float, bool)
_KEYS = {"attempts", "backoff", "base_s", "cap_s", "within_s", "on"}


def cut_short(error: BaseException, call: Call | None) -> bool:
    """Whether the server itself ended the call: its deadline passed, or somebody cancelled it. Nobody waits then."""
    if call is not None:
        return call.interrupt is not None
    return isinstance(error, gevent.Timeout) and hasattr(error, "__fault__")  # the server's own brings its fault


def retryable(fault: Fault) -> bool:
    """Whether the catalogue lets anybody repeat what met this fault."""
    return fault.recovery in ("retry", "retry_later")


@dataclass(frozen=True, slots=True)
class Policy:
    """How to retry. `on` None: every fault whose recovery is `retry`, and 1306 and 1502."""

    attempts: int = 3
    backoff: str = "jitter"
    base_s: float = 0.05
    cap_s: float = 2.0
    within_s: float = inf  # for all attempts and waits together
    on: frozenset[int] | None = None
    rand: Callable[[], float] = field(default=random.random, compare=False)

    def takes(self, fault: Fault) -> bool:
        if self.on is not None:
            return fault.code in self.on and retryable(fault)
        return fault.recovery == "retry" or fault.code in SOON

    def wait(self, attempt: int) -> float:
        """Seconds between attempt number `attempt`, which failed, and the next."""
        if self.backoff == "none":
            return 0.0
        if self.backoff == "fixed":
            return min(self.base_s, self.cap_s)
        if self.backoff == "linear":
            return min(self.base_s * attempt, self.cap_s)
        longest = min(self.base_s * 2.0 ** (attempt - 1), self.cap_s)
        return longest * self.rand() if self.backoff == "jitter" else longest


def policy_of(note: Any, on: frozenset[int] | None = None) -> Policy:
    """The policy that a note or keyword arguments describe. Raises ValueError, saying what was expected."""
    if note is True:
        note = {}
    if not isinstance(note, Mapping):
        raise ValueError(f"retry: expected a table such as {{'attempts': 3}}, got {note!r}")
    if unknown := set(note) - _KEYS:
        raise ValueError(f"retry: unknown key {sorted(unknown)[0]!r}; expected some of {', '.join(sorted(_KEYS))}")
    given = dict(note)
    if given.get("backoff", "jitter") not in BACKOFFS:
        raise ValueError(f"retry: backoff: expected one of {', '.join(BACKOFFS)}, got {given['backoff']!r}")
    attempts = given.get("attempts", 3)
    if not isinstance(attempts, int) or isinstance(attempts, bool) or not 1 <= attempts <= MAX_ATTEMPTS:
        raise ValueError(f"retry: attempts: expected 1 to {MAX_ATTEMPTS}, got {attempts!r}")
    for key in ("base_s", "cap_s", "within_s"):
        value = given.get(key, 0)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or value < 0:
            raise ValueError(f"retry: {key}: expected seconds, 0 or more, got {value!r}")
    codes = given.pop("on", None)
    if codes is not None:
        if isinstance(codes, (str, bytes)) or not isinstance(codes, Iterable):
            raise ValueError(f"retry: on: expected codes such as [1207, 1302], got {codes!r}")
        on = frozenset(codes)
        if wrong := [code for code in on if not isinstance(code, int)]:
            raise ValueError(f"retry: on: expected codes such as 1207, got {wrong[0]!r}")
    return Policy(on=on, **given)


def policy_for(command: Command) -> Policy | None:
    """How calls of a command are retried, None if they are not.

    A transaction that rolled back may run again, and what is `idempotent`; nothing else. Raises ValueError for a
    `retry` note on another command, for that would run things twice.
    """
    note = command.notes.get("retry")
    transaction, idempotent = command.notes.get("transaction"), command.notes.get("idempotent")
    if note is False or (note is None and not transaction):
        return None
    if not transaction and not idempotent:
        raise ValueError(
            "retry: running it twice may do harm; note idempotent=True if it doesn't, or let it be a transaction"
        )
    policy = policy_of({} if note is None else note, None if idempotent and note is not None else ROLLED_BACK)
    return policy if policy.attempts > 1 else None


def changeable(command: Command) -> tuple[str, ...]:
    """The parameters that may hold lists or objects, by their schemas or annotations."""
    schema, annotations = command.notes.get("params") or {}, getattr(command.function, "__annotations__", {})

    def scalar(name: str) -> bool:
        kinds = schema[name].get("type", ()) if isinstance(schema.get(name), Mapping) else ()
        if not kinds:
            return annotations.get(name) in _SCALARS
        return all(kind in _SCALARS for kind in ([kinds] if isinstance(kinds, str) else kinds))

    return tuple(name for name in command.arguments if not scalar(name))


def copied(value: Any) -> Any:
    """A JSON value in which nothing can be changed that is in the other."""
    if type(value) is dict:
        return {key: copied(item) if type(item) in CONTAINERS else item for key, item in value.items()}
    if type(value) is list:
        return [copied(item) if type(item) in CONTAINERS else item for item in value]
    return value


class Executor:
    """Carries policies out: asks the budget, waits on the server's clock, tells what was given up."""

    def __init__(self, server: Server, budget: Budget, earn: Callable[[], object]) -> None:
        self.server = server
        self.budget = budget
        self._earn = earn  # lets the budget know of the calls since
        self.attempted = self.succeeded = self.failed = 0

    def wait_for(
        self, policy: Policy, name: str, error: BaseException, attempt: int, deadline: float, call: Call | None = None
    ) -> float | None:
        """Seconds to wait before the next attempt, which is paid for then; None: give up.

        `name` is what `retry.exhausted` calls it.
        """
        wait = self._wait_for(policy, name, error, attempt, deadline, call)
        self.failed += wait is None and attempt > 1
        return wait

    def _wait_for(
        self, policy: Policy, name: str, error: BaseException, attempt: int, deadline: float, call: Call | None
    ) -> float | None:
        if not isinstance(error, (Exception, gevent.Timeout)) or cut_short(error, call):
            return None
        fault = self.server.fault_of(error, call)
        if not policy.takes(fault):
            return None
        # A deadline that fell into a shielded part is taken away: what was begun is finished, and no more than that.
        if call is not None and (call.deadline == inf or call.connection.gone):
            return None
        clock = self.server.clock
        wait = max(policy.wait(attempt), retry_after_of(error, clock.wall()) or fault.retry_after or 0.0)
        if attempt < policy.attempts and clock.now() + wait < deadline:
            self._earn()
            if self.budget.withdraw():
                self.attempted += 1
                return wait
        self.server.publish("retry.exhausted", method=name, attempts=attempt, code=fault.code)
        return None

    def sleep(self, seconds: float) -> None:
        """Switches, unless there is nothing to wait for. A retry that is not waited for to its end has failed."""
        if seconds > 0:
            try:
                self.server.clock.sleep(seconds)
            except BaseException:
                self.failed += 1
                raise

    def again(
        self,
        policy: Policy,
        proceed: Callable[[Call], Any],
        call: Call,
        error: BaseException,
        params: dict[str, Any],
    ) -> Any:
        """The result of a call whose first attempt ended with `error`; or raises what the last one ended with.

        `params`: as they came; an attempt may change the lists and objects in its own.
        """
        deadline = min(call.deadline, call.now + policy.within_s)
        attempt = 1
        while True:
            call.params = params  # for a fallback, too
            wait = self.wait_for(policy, call.command.name, error, attempt, deadline, call)
            if wait is None:
                raise error
            self.sleep(wait)
            if call.connection.gone:
                self.failed += 1
                raise error
            call.effects = call.encoded = call.result = call.error = None
            call.params = copied(params)
            attempt += 1
            call.stash[ATTEMPTS] = attempt
            try:
                result = proceed(call)
            except BaseException as next_error:
                error = next_error
                continue
            self.succeeded += 1
            return result
