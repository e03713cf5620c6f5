"""Publish and subscribe between the processes of a server; this one has one process."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from typing import Any

import msgspec

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode
_log = logging.getLogger("tidegate.bus")


class Subscription:
    """One subscriber of one channel, until `close`."""

    __slots__ = ("_bus", "channel", "fn")

    def __init__(self, bus: MemoryBus, channel: str, fn: Callable[[Any], object]) -> None:
        self._bus = bus
        self.channel = channel
        self.fn = fn

    def close(self) -> None:
        self._bus.leave(self)


class MemoryBus:
    """Delivers to all subscribers of a channel, one's own included, in the order of the sender, at most once.

    A message is JSON values. It is encoded and decoded here too, so that what works in
    one process works in several: every subscriber of a message gets an equal, not the same, object.
    """

    def __init__(self) -> None:
        self._channels: dict[str, list[Subscription]] = {}
        self._waiting: deque[tuple[str, bytes]] = deque()
        self._delivering = False

    def publish(self, channel: str, message: Any) -> None:
        """Never switches. Raises TypeError for what is no JSON; a subscriber's exception is logged."""
        self._waiting.append((channel, _encode(message)))
        if self._delivering:  # a subscriber publishes: after the message that it is at
            return
        self._delivering = True
        try:
            while self._waiting:
                self._deliver(*self._waiting.popleft())
        finally:
            self._delivering = False

    def _deliver(self, channel: str, encoded: bytes) -> None:
        for subscription in tuple(self._channels.get(channel, ())):
            try:
                subscription.fn(_decode(encoded))
            except Exception:
                _log.exception("a subscriber of %r failed", channel)

    def subscribe(self, channel: str, fn: Callable[[Any], object]) -> Subscription:
        """Call `fn(message)`, which never switches, for each message from now on."""
        subscription = Subscription(self, channel, fn)
        self._channels.setdefault(channel, []).append(subscription)
        return subscription

    def leave(self, subscription: Subscription) -> None:
        subscribers = self._channels.get(subscription.channel, [])
        if subscription in subscribers:
            subscribers.remove(subscription)
            if not subscribers:
                del self._channels[subscription.channel]
