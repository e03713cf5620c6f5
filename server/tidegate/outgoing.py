"""When replies are written: at once, or those of many clients together."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gevent.hub import get_hub

if TYPE_CHECKING:
    from tidegate.connection import SocketConnection

MANY = 8  # other sockets that are still to be looked at in this pass: from so many on replies are held
HELD = 32  # connections whose replies are held at most: more would wait too long


class Outgoing:
    """Holds what connections have answered in a busy pass of the event loop, and writes it when the pass ends.

    Each write to a sleeping client on this machine costs the server the waking of it; written one after the other,
    all but the first find it awake. In a pass with few clients that would only make them wait.
    tests/bench/README.md has the figures.
    """

    def __init__(self) -> None:
        self.holds = False  # this pass is a busy one
        self._owing: dict[SocketConnection, None] = {}

    def add(self, connection: SocketConnection) -> None:
        """What it has answered by the end of this pass is written then, also if its next call waits."""
        if not self._owing:
            get_hub().loop.run_callback(self._flush)
        self._owing[connection] = None

    def hold(self, connection: SocketConnection) -> None:
        """Its turn in a busy pass is over."""
        self.holds = True
        self.add(connection)
        if len(self._owing) >= HELD:
            self._flush()

    def _flush(self) -> None:
        owing, self._owing, self.holds = self._owing, {}, False
        for connection in owing:
            connection.flush()
