"""What was read, kept for a while: a dict of this process, bounded, its entries forgotten after their time."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Kept(Generic[K, V]):
    """At most `cap` values, each for `ttl_s`; past it the oldest goes. Never switches."""

    def __init__(self, now: Callable[[], float], cap: int, ttl_s: float) -> None:
        self._now = now
        self._cap = cap
        self._ttl_s = ttl_s
        self._values: dict[K, tuple[V, float]] = {}

    def get(self, key: K) -> V | None:
        held = self._values.get(key)
        if held is None or held[1] <= self._now():
            return None
        return held[0]

    def set(self, key: K, value: V) -> None:
        self._values.pop(key, None)
        self._values[key] = (value, self._now() + self._ttl_s)
        if len(self._values) > self._cap:
            del self._values[next(iter(self._values))]

    def pop(self, key: K) -> None:
        self._values.pop(key, None)

    def clear(self) -> None:
        self._values.clear()
