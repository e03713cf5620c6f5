"""Slows down who guesses passwords, and locks nobody out from everywhere.

Failures count for the pair of name and address, so a stranger's guesses delay the stranger. Guesses at
one name from many addresses are counted too, but only from places where this account has no session: its
owner gets in from where they have been before, and with a token from anywhere.
A name that does not exist is treated like one that does.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tidegate import Server
from tidegate.faults import AccountLocked

FREE = 4  # failures of a pair before the first delay
FIRST_S, LONGEST_S = 1.0, 900.0  # the delay after one failure more, doubled by each
HALF_LIFE_S = 900.0  # in which half of the failures are forgotten
AT_ONCE = 16  # attempts of a pair that may be under way: what parallel guesses can gain


class Throttle:
    """Asked before a password is compared, told after it."""

    def __init__(self, server: Server, config: Any) -> None:
        self._clock = server.clock
        self._failures = server.state.score("accounts.failures", HALF_LIFE_S, cap=50_000)
        self._until = server.state.values("accounts.delays", cap=50_000)
        self._guesses = server.state.limit("accounts.guesses", config.guesses, cap=50_000)
        self._under_way: dict[tuple[str, str], int] = {}

    @contextmanager
    def attempt(self, key: str, place: str | None) -> Iterator[None]:
        """One attempt of a place at a name. Raises AccountLocked when it comes too early."""
        pair = (key, place or "")
        until = self._until.get(pair)
        if until is not None:
            self._refuse(until - self._clock.wall())
        if self._under_way.get(pair, 0) >= AT_ONCE:
            self._refuse(1.0)
        self._under_way[pair] = self._under_way.get(pair, 0) + 1
        try:
            yield
        finally:
            self._under_way[pair] -= 1
            if not self._under_way[pair]:
                del self._under_way[pair]

    def check_stranger(self, key: str) -> None:
        """From a place where this account has no session. Raises AccountLocked when many have guessed."""
        wait = self._guesses.hit(key, 0)
        if wait:
            self._refuse(wait)

    def failed(self, key: str, place: str | None, stranger: bool) -> None:
        """The password was wrong."""
        pair = (key, place or "")
        failures = self._failures.add(pair, 1.0)
        if stranger:
            self._guesses.hit(key)
        if failures > FREE:
            delay = min(FIRST_S * 2.0 ** (failures - FREE - 1.0), LONGEST_S)
            self._until.set(pair, self._clock.wall() + delay, delay)

    def succeeded(self, key: str, place: str | None) -> None:
        self._failures.scale((key, place or ""), 0)

    @staticmethod
    def _refuse(wait: float) -> None:
        raise AccountLocked(
            "Too many wrong passwords from here; wait before the next attempt", retry_after=round(max(wait, 0.1), 1)
        )
