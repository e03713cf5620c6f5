"""Brings what happened in a room to its members' connections: after the commit, in the room's order, once each.

Every event has the number that its transaction took from the room's row. What is told out of order
(transactions of PostgreSQL, or of several processes) waits for what belongs before it; what does
not come is read from the database. Pushing to many is cut into slices, so that a full room holds
up nobody; a slow client's pushes wait in its own bounded outbox.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from time import perf_counter
from typing import TYPE_CHECKING, Any

import gevent
from sqlalchemy import select

from tidegate_chat.history import events_after
from tidegate_chat.tables import members

if TYPE_CHECKING:
    from tidegate import Connection

    from tidegate_chat import Chat

CHANNEL = "chat.room"  # on the bus
PUSH = "event.room"
SLICE_S = 0.001  # of pushing, before other clients get their turn
A_TURN_S = 1e-6  # sleep(0) would go on before the loop has looked at its sockets
INLINE = 64  # members to whom an event goes at once, before its sender has its reply
PATIENCE_S = 1.0  # for an event that belongs before others
STEP = 32  # connections between two looks at the clock
PIECE_BYTES = 65536  # of events that go to a connection at once
SCOPE = "operate"  # of the commands that read what is pushed: they name none
_JOINS = frozenset({"created", "joined"})
_LEAVES = frozenset({"left", "kicked", "banned", "forgotten"})
_MOVES = _JOINS | _LEAVES | {"deleted"}  # after these others are in the room

Told = dict[str, Any]


class Feed:
    """One room, as far as this process tells of it."""

    __slots__ = ("busy", "held", "members", "next", "queue", "reach", "room", "timer", "turnover")

    def __init__(self, room: str, next: int) -> None:
        self.room = room
        self.next = next  # the number of the event that is to be told next
        self.held: dict[int, Told] = {}  # told too early
        self.queue: deque[Told] = deque()  # in order, to be pushed
        self.members: set[str] | None = None  # None: not read yet
        self.reach: list[Connection] | None = None  # the members' connections; None: not gathered yet
        self.turnover = 0  # of the server, when they were
        self.busy = False  # a greenlet pushes
        self.timer: Any = None

    @property
    def idle(self) -> bool:
        return not (self.busy or self.queue or self.held)


class Feeds:
    """The rooms in which something happened lately; of too many the one that was silent longest goes."""

    def __init__(self, chat: Chat) -> None:
        self.chat = chat
        self.server = chat.server
        self._feeds: OrderedDict[str, Feed] = OrderedDict()

    def __len__(self) -> int:
        return len(self._feeds)

    def expect(self, room: str, next: int) -> None:
        """A transaction that has the room's row may bring the event `next`. Never switches."""
        if room not in self._feeds:
            self._add(Feed(room, next))

    def _add(self, feed: Feed) -> None:
        self._feeds[feed.room] = feed
        if len(self._feeds) > self.chat.config.feeds:
            for old in self._feeds.values():
                if old.idle:
                    del self._feeds[old.room]
                    break

    def forget(self) -> None:
        """What is remembered may be wrong: the database was away."""
        for feed in list(self._feeds.values()):
            if feed.idle:
                del self._feeds[feed.room]

    # --- what was committed ----------------------------------------------------------------------

    def tell(self, told: Told) -> None:
        """`{"room", "seq", "kind", "actor", "by", "at", "data"}`, in every process. Never switches."""
        self.server.bus.publish(CHANNEL, told)

    def heard(self, told: Told) -> None:
        """From whatever process. Never switches."""
        room, seq = told["room"], told["seq"]
        feed = self._feeds.get(room)
        if feed is None:
            feed = Feed(room, seq)
            self._add(feed)
        else:
            self._feeds.move_to_end(room)
        if seq < feed.next:
            return  # it was told already
        feed.held[seq] = told
        self._sort(feed)
        if feed.held and feed.timer is None:
            feed.timer = self.server.clock.timer(lambda: self._missed(feed))
            feed.timer.start(PATIENCE_S)
        self._run(feed)

    @staticmethod
    def _sort(feed: Feed) -> None:
        while (told := feed.held.pop(feed.next, None)) is not None:
            feed.queue.append(told)
            feed.next += 1

    def _missed(self, feed: Feed) -> None:
        feed.timer = None
        if feed.held:
            self.server.spawn(self._fill, feed)

    def _fill(self, feed: Feed) -> None:
        """Read what nobody told. Switches."""
        with self.chat.reading() as db:
            found = self.chat.with_names(events_after(db, feed.room, feed.next - 1, 500))
        for told in found:
            if told["seq"] >= feed.next:
                feed.held.setdefault(told["seq"], told)
        if feed.held and min(feed.held) > feed.next and not found:
            feed.next = min(feed.held)  # the room is gone
        self._sort(feed)
        if feed.held:
            feed.timer = self.server.clock.timer(lambda: self._missed(feed))
            feed.timer.start(PATIENCE_S)
        self._run(feed)

    # --- pushing ---------------------------------------------------------------------------------

    def _run(self, feed: Feed) -> None:
        if feed.busy or not feed.queue:
            return
        if feed.members is not None and len(feed.members) <= INLINE:
            while feed.queue:
                piece, count, reach = self._next(feed)
                for connection in reach:
                    connection.push(piece, count)
        else:
            feed.busy = True
            self.server.spawn(self._push_all, feed)

    def _push_all(self, feed: Feed) -> None:
        """Push what waits, a slice at a time. Switches."""
        try:
            if feed.members is None:
                self.load(feed)
            while feed.queue:
                self._push(feed, *self._next(feed))
        finally:
            feed.busy = False
            if feed.queue:
                self._run(feed)

    def _push(self, feed: Feed, piece: bytes, count: int, reach: list[Connection]) -> None:
        """Others get their turn after each slice; who has logged out meanwhile is passed over. Switches."""
        since, there = perf_counter(), None
        for start in range(0, len(reach), STEP):
            for connection in reach[start : start + STEP]:
                if there is None or connection in there:
                    connection.push(piece, count)
            if perf_counter() - since > SLICE_S:
                gevent.sleep(A_TURN_S)
                if feed.turnover != self.server.turnover:
                    there = set(self._reach(feed))
                since = perf_counter()

    def _next(self, feed: Feed) -> tuple[bytes, int, list[Connection]]:
        """What waits for the same people as one piece, how many events that is, and their connections.

        Who joins by an event, and who leaves by it, gets it too.
        """
        held, queue = feed.members, feed.queue
        assert held is not None
        frames = [self.server.frame(PUSH, told := queue.popleft())]
        kind, user = told["kind"], told["data"].get("user") or told["actor"]
        if kind in _JOINS:
            held.add(user)
            feed.reach = None
        if kind in _LEAVES:
            held.discard(user)
            feed.reach = None
            return frames[0], 1, [*filter(_hears, self.server.sessions.get(user, ())), *self._reach(feed)]
        if kind == "deleted":
            self._feeds.pop(feed.room, None)
        size = len(frames[0])
        while queue and queue[0]["kind"] not in _MOVES and size < PIECE_BYTES:
            frames.append(self.server.frame(PUSH, queue.popleft()))
            size += len(frames[-1])
        return b"".join(frames), len(frames), self._reach(feed)

    def _reach(self, feed: Feed) -> list[Connection]:
        """The members' connections; gathered again only when somebody joined, left, came or went."""
        sessions, turnover = self.server.sessions, self.server.turnover
        if feed.reach is None or feed.turnover != turnover:
            feed.reach = [one for user in feed.members or () for one in sessions.get(user, ()) if _hears(one)]
            feed.turnover = turnover
        return feed.reach

    def load(self, feed: Feed) -> None:
        """Read who is in the room. Switches."""
        with self.chat.reading() as db:
            query = select(members.c.user).where(members.c.room == feed.room, members.c.state == "active")
            feed.members, feed.reach = set(db.execute(query).scalars()), None

    def members_of(self, room: str) -> set[str] | None:
        """Who is in a room, if that is remembered. Never switches."""
        feed = self._feeds.get(room)
        return feed.members if feed is not None else None

    def push_to(self, users: Any, method: str, params: Any, spare: Any = None) -> None:
        """Push to all connections of some users, save one. Never switches."""
        frame, sessions = self.server.frame(method, params), self.server.sessions
        for user in users:
            connections = sessions.get(user)
            if connections is not None:
                for connection in list(connections):
                    if connection is not spare and _hears(connection):
                        connection.push(frame)


def _hears(connection: Connection) -> bool:
    """Whether it may read what is pushed: a token may lack the scope."""
    user = connection.user
    return user is not None and (user.scopes is None or SCOPE in user.scopes)
