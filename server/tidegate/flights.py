"""Several calls of one connection at once, for listeners with `max_in_flight` above 1."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import gevent
from gevent.event import Event
from gevent.lock import BoundedSemaphore
from greenlet import getcurrent

from tidegate.codecs import NO_ID, Refused

if TYPE_CHECKING:
    from tidegate.connection import SocketConnection
    from tidegate.model import Call
    from tidegate.onion import Proceed


class Flights:
    """The calls under way on one connection; at the limit `take` waits, so nothing more is read."""

    def __init__(self, connection: SocketConnection, limit: int) -> None:
        self.connection = connection
        self.count = 0
        self._places = BoundedSemaphore(limit)
        self._idle = Event()
        self._idle.set()
        self.calls: dict[Call, Any] = {}  # each with the greenlet that runs it
        self._under_way: set[Any] = set()

    def take(self, message: Any, now: float) -> None:
        """Answer one line in a greenlet of its own; a notification waits until nothing is under way."""
        connection = self.connection
        try:
            request = connection.codec.decode(message) if type(message) is bytes else message
        except Refused as refused:
            connection.owe(connection.refusal(refused, message))
            return
        if request is None:
            return
        if not isinstance(request, list) and request.id is NO_ID:
            self._idle.wait()
        self._places.acquire()
        self.count += 1
        self._idle.clear()
        greenlet = gevent.spawn(self._fly, request, message, now)
        self._under_way.add(greenlet)
        greenlet.rawlink(self._landed)

    def _fly(self, request: Any, message: Any, now: float) -> None:
        connection = self.connection
        if type(request) is list:
            reply = connection.batch(request, now)
        else:
            try:
                reply = connection.answer(request, now, connection.max_reply_bytes)
            except Refused as refused:
                reply = connection.refusal(refused, message)
        if reply is not None and connection.phase != "closed":
            connection.owe(reply)

    def dispatch(self, call: Call, proceed: Proceed) -> None:
        """Run a call, which can be found meanwhile."""
        self.calls[call] = getcurrent()
        try:
            self.connection.server.dispatch(call, proceed)
        finally:
            del self.calls[call]

    def _landed(self, greenlet: Any) -> None:
        self._under_way.discard(greenlet)
        self.count -= 1
        self._places.release()
        if not self.count:
            self._idle.set()
            self.connection.last = self.connection.server.clock.now()
        if self.connection.ending:  # a fault that closes came from this call
            self.connection.end()

    def join(self) -> None:
        gevent.joinall(list(self._under_way))
