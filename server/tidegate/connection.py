"""One client's connection: its loop, its clock and its outbox."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Generator, Sequence
from contextlib import suppress
from math import inf
from typing import TYPE_CHECKING, Any

import gevent
from gevent.hub import get_hub
from gevent.monkey import get_original
from greenlet import getcurrent, greenlet
from msgspec.json import encode

from tidegate.codecs import MAX_ID_BYTES, NULL, JsonLines, PlainRequest, Refused, Request, foreign, id_of
from tidegate.faults import (
    CallCancelled,
    CallTimeout,
    Fault,
    IdleTimeout,
    ProtocolAbuse,
    RequestTimeout,
    ServerShuttingDown,
    TooManyItems,
)
from tidegate.model import Call, Connection
from tidegate.outgoing import MANY
from tidegate.proxy import ProxyError, parse

if TYPE_CHECKING:
    from gevent import Greenlet

    from tidegate.listener import Listener
    from tidegate.onion import Proceed, Route
    from tidegate.server import Server
    from tidegate.tls import Tls

READ_BYTES = 16384  # bounds the work of one turn: about 120 requests
TURN = 32  # requests answered before others get their turn
LARGE = 16384  # bytes of a reply that is sent before the next request is looked at
FLUSH_BYTES = 65536
LINGER_S = 1.0  # for a client that still sends when it has been refused
LINGER_READS = 256  # of 64 KiB
PROXY_S = 3.0
HANDSHAKE_S = 10.0
_FIRST_BYTES = frozenset(b"{[")  # any other first byte is looked at
_GONE = ("reset", "slow reader")  # nobody hears last words
_switch = greenlet.switch
_get_ident = get_original("_thread", "get_ident")


class Interrupt(gevent.Timeout):
    """The server's own deadline or cancel, thrown into a call; told from others by identity."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(None)
        self.__fault__ = fault


class Ended(BaseException):
    """Thrown into a parked connection so that its own greenlet closes it."""


class SocketConnection(Connection):
    """A client on a socket. Only its own greenlet reads and closes; `send` is the one writer.

    Replies are written at once, or with others' at the end of a busy pass of the loop (`Outgoing`).
    """

    __slots__ = (
        "alarm",
        "bytes_in",
        "bytes_out",
        "calls",
        "codec",
        "counted",
        "due",
        "early",
        "ended",
        "ending",
        "fd",
        "flights",
        "greenlet",
        "introduced",
        "last",
        "line_since",
        "listener",
        "out",
        "out_bytes",
        "outbox",
        "phase",
        "progress",
        "pushed",
        "reason",
        "running",
        "sock",
        "tls",
        "wakes",
        "writable",
    )

    def __init__(self, server: Server, listener: Listener, sock: Any, address: str | None) -> None:
        super().__init__(server, listener.kind, address=address)
        limits = listener.limits
        self.listener = listener
        self.admin = limits.admin
        self.max_reply_bytes = limits.max_reply_bytes
        self.sock = sock
        self.fd: int = sock.fileno()
        self.codec = JsonLines(
            max_line_bytes=limits.max_line_bytes, max_depth=limits.max_depth, max_batch=limits.max_batch
        )
        self.early = b""  # read with the PROXY header, and the client's
        self.ended = False  # the client half-closed, and all that it sent was read
        self.tls: Tls | None = None
        self.greenlet: Greenlet[..., Any] | None = None
        self.counted = False  # in server.places by its prefix
        self.introduced = False  # connection.opened was told
        self.running: Call | None = None
        self.flights: Any = None  # max_in_flight above 1: the calls under way
        self.calls = self.bytes_in = self.bytes_out = 0
        self.phase = "proxy"  # proxy, tls, first, open, closing
        self.last = self.opened  # when the last whole line was read
        self.line_since = 0.0  # when the unfinished line began; 0.0: there is none
        self.progress = 0.0  # when a waiting reply last moved; 0.0: none waits
        self.due = inf  # when the alarm rings
        self.alarm = server.clock.timer(self._ring)
        self.out: list[bytes] = []  # what is answered and not yet sent
        self.out_bytes = 0
        self.outbox = bytearray()  # what the socket did not take
        self.pushed = 0  # bytes of pushes in the outbox, at most
        self.writable: Any = None  # the write watcher, made when first needed
        self.wakes = False  # the greenlet waits for the write watcher
        self.ending: Fault | bool = False  # True: close; a fault: say it, then close
        self.reason = "client"

    # --- its life --------------------------------------------------------------------------------

    def serve(self) -> None:
        """The whole life of the connection; returns when it is closed."""
        entered: list[tuple[str, Generator[None, None, None]]] = []
        self.greenlet = getcurrent()  # type: ignore[assignment]
        try:
            try:
                if not self.ending and self._introduced() and self.server.admit(self, entered) and self._secured():
                    self.phase = "first"
                    self._arm(self.opened + self.listener.limits.first_line_timeout_s)
                    self.server.opened(self)
                    self._loop()
            except Ended:
                pass
            except Fault as fault:  # a plugin refused the client
                self.ending = fault
            except OSError:
                self.reason = self.reason if self.reason in _GONE else "reset"
            except Exception:
                self.reason = "failure"
                self.server.log.exception("%r failed", self)
            self._farewell()
        finally:
            self._close()
            self.server.closed(self, entered)

    def _introduced(self) -> bool:
        """The PROXY header of a trusted proxy, if this listener wants one."""
        if self.counted or not self.listener.trusts(self.address):
            return True
        self._arm(self.opened + PROXY_S)
        data = b""
        while True:
            self._readable()
            try:
                more = os.read(self.fd, 4096)
            except BlockingIOError:
                continue
            if not more:
                return False
            data += more
            try:
                header = parse(data)
            except ProxyError as error:
                self.server.violated(self, ProtocolAbuse.code, "proxy", data)
                self.server.log.warning("%s: bad PROXY header: %s", self.address, error)
                self.reason = "proxy"
                return False
            if header is not None:
                break
        if not header.local and header.source is not None:
            self.locate(header.source)
        self.early = data[header.consumed :]  # they came in one read with the header
        return self.server.has_room(self)

    def _secured(self) -> bool:
        context = self.listener.context
        if context is None:
            return True
        from tidegate.tls import Tls

        self.phase = "tls"
        self._arm(self.server.clock.now() + HANDSHAKE_S)
        self.tls = Tls(context)
        while True:
            if self.early:
                self.tls.feed(self.early)
                self.early = b""
            done, answer, error = self.tls.handshake()
            if answer:
                self.send(answer, plain=False)
            if error is not None:
                self.reason = "tls"
                self.server.violated(self, ProtocolAbuse.code, "tls", error.encode())
                return False
            if done:
                self.certificate = self.tls.certificate()
                return True
            self._readable()
            try:
                data = os.read(self.fd, READ_BYTES)
            except BlockingIOError:
                continue
            if not data:
                return False
            self.tls.feed(data)

    def refuse(self, fault: Fault) -> None:
        """Say why and close at once; nothing is said on a TLS listener. Never switches."""
        self.reason = fault.type
        if self.listener.context is None:
            try:
                os.write(self.fd, self.codec.error(NULL, fault, self.server.new_id()))
            except OSError:
                pass

    def _farewell(self) -> None:
        """The last words, and an orderly end so that the client gets them."""
        self.phase = "closing"
        if isinstance(self.ending, Fault):
            self.reason = self.ending.type
        if self.flights is not None:  # also when the client is gone: its calls have their deadlines still
            self.flights.join()
        if isinstance(self.ending, Fault) and (self.listener.context is None or self.tls is not None):
            self.out.append(self.codec.error(NULL, self.ending, self.server.new_id()))
        if self.reason in _GONE:
            return
        try:
            self.flush()
            if self.tls is not None:
                self.send(self.tls.close_notify(), plain=False)
            if self.outbox:
                self._drained()
            if not self.ended:
                self.sock.shutdown(socket.SHUT_WR)
                self._linger()
        except (OSError, Ended):
            pass

    def _linger(self) -> None:
        """Unread bytes would turn the close into a reset, which may take the last reply with it: read what
        is there, and what still comes for a moment where the client was told something that it did not expect."""
        self.phase = "lingering"
        self.last = self.server.clock.now()
        self.due = inf
        self._arm(self.last + LINGER_S)
        for _ in range(LINGER_READS):
            try:
                if not os.read(self.fd, FLUSH_BYTES):
                    return
            except BlockingIOError:
                if not isinstance(self.ending, Fault):
                    return
                self._readable()

    def _close(self) -> None:
        self.alarm.stop()
        self.due = inf
        self.phase = "closed"
        self.ending = self.ending or True
        if self.writable is not None:
            self.writable.stop()
            self.writable.close()
        self.outbox.clear()
        self.out.clear()
        self.sock.close()

    # --- the loop --------------------------------------------------------------------------------

    def _loop(self) -> None:
        """Wait for readability, read once, answer (tests/bench: 1.5 times stock recv/sendall).

        The watcher is active only while the greenlet waits, so a command may block freely; waiting before
        each read gives every other connection its turn.
        """
        hub, codec = get_hub(), self.codec
        watcher = hub.loop.io(self.fd, 1)
        start, stop, me = watcher.start, watcher.stop, getcurrent().switch
        read, fd, now_of, feed = os.read, self.fd, self.server.clock.now, codec.feed
        answer = self._turn if self.listener.limits.max_in_flight == 1 else self._spread
        data, self.early = self.early, b""
        tls, first = self.tls, True
        waits = not data and tls is None  # the first bytes may have come with the handshake
        try:
            while True:
                if waits:
                    start(me)
                    try:
                        _switch(hub)
                    finally:
                        stop()
                    if self.progress:  # not all of the last replies was taken
                        self._drained()
                    try:
                        data = read(fd, READ_BYTES)
                    except BlockingIOError:
                        continue
                    if not data:
                        self.ended = self.phase != "draining"  # there, more may have come
                        return self._end_of_stream(answer)
                waits = True
                self.bytes_in += len(data)
                if tls is not None:
                    data, over = tls.read(data)
                    if owed := tls.owed():
                        self.send(owed, plain=False)
                        if self.outbox:
                            self._drained()
                    if over:
                        if data:
                            answer(feed(data), now_of())
                        return self._end_of_stream(answer)
                    if not data:
                        continue
                now = now_of()
                if first:
                    first = self.phase == "first"
                    if first and data[0] not in _FIRST_BYTES and self._is_foreign(data):
                        return
                lines = feed(data)
                if lines:
                    if self.line_since:
                        self.line_since = 0.0
                    answer(lines, now)
                if codec.partial or codec.oversize:
                    if codec.oversize:
                        self.server.violated(self, 1606, "size", b"")
                        self.ending = codec.too_large()
                        return
                    if not self.line_since:  # not `now`: the lines before it may have taken long
                        self.line_since = now_of()
                        self._arm(self.line_since + self.listener.limits.line_timeout_s)
                if self.ending:
                    return
                del data, lines  # an idle connection keeps nothing
        finally:
            stop()
            watcher.close()

    def _end_of_stream(self, answer: Callable[[Sequence[Any], float], None]) -> None:
        """The client half-closed: what was read is answered, a complete last line too."""
        if lines := self.codec.last():
            answer(lines, self.server.clock.now())
        if self.flights is not None:
            self.flights.join()

    def _is_foreign(self, data: bytes) -> bool:
        """Another protocol's first bytes get one clear line instead of silence."""
        first = bytes(self.codec.partial) + data
        kind = foreign(first)
        if kind is None:
            return False
        self.server.violated(self, ProtocolAbuse.code, kind, first)
        self.ending = ProtocolAbuse(f"This port speaks JSON-RPC 2.0, one JSON object a line, not {kind.upper()}")
        return True

    def _turn(self, lines: Sequence[Any], now: float) -> None:
        """Answer the messages of one read, at most TURN before others get their turn."""
        self.last = now
        if len(lines) != 1:
            return self._turns(lines, now)
        message, outgoing = lines[0], self.server.outgoing
        try:
            if type(message) is not bytes:  # twice as quick as isinstance
                reply = self.answer(message, now, self.max_reply_bytes)
            else:
                reply = self._looked_at(message, now)
        except Refused as refused:
            reply = self.refusal(refused, message)
        if self.last is not now:  # the alarm rang while it ran
            self.last = self.server.clock.now()
        if reply is not None:
            if self.out or outgoing.holds or self.listener.loop.pendingcnt >= MANY:
                self.out.append(reply)
                outgoing.hold(self)
            else:
                self.send(reply)
            if self.outbox:
                self._drained()

    def _turns(self, lines: Sequence[Any], now: float) -> None:
        """The same for several messages, or none; their replies are joined."""
        answer, out, outgoing, room = self.answer, self.out, self.server.outgoing, self.max_reply_bytes
        while True:
            for message in lines[:TURN]:
                try:
                    reply = answer(message, now, room) if type(message) is not bytes else self._looked_at(message, now)
                except Refused as refused:
                    reply = self.refusal(refused, message)
                if reply is not None:
                    if not out:
                        outgoing.add(self)  # the next call may wait
                    out.append(reply)
                    if len(reply) > LARGE:
                        self.flush()
                if self.ending:
                    return
                if self.outbox:
                    self._drained()
            if self.last is not now:
                self.last = self.server.clock.now()
            if outgoing.holds or self.listener.loop.pendingcnt >= MANY:
                outgoing.hold(self)
            else:
                self.flush()
            if self.outbox:
                self._drained()
            if len(lines) <= TURN:
                return
            lines = lines[TURN:]
            self._writable()

    def _looked_at(self, message: bytes, now: float) -> bytes | None:
        """Answer what the codec did not take for a plain request. Raises Refused."""
        request = self.codec.decode(message)
        if isinstance(request, list):
            return self.batch(request, now)
        return self.answer(request, now, self.max_reply_bytes) if request is not None else None

    def batch(self, parts: list[bytes], now: float) -> bytes | None:
        """Answer the requests of a batch until one ends the connection; their results share the room of one reply."""
        replies: list[bytes] = []
        room = self.max_reply_bytes
        for part in parts:
            try:
                reply = self.answer(self.codec.decode_part(part), now, room)
            except Refused as refused:
                reply = self.refusal(refused, part)
            if reply is not None:
                replies.append(reply)
                room -= len(reply)
            if self.ending:
                break
        return self.codec.batch(replies) if replies else None

    def answer(self, request: PlainRequest | Request, now: float, room: int) -> bytes | None:
        """Run one request, whose result may take `room` bytes; its reply, or None for a notification.

        Raises Refused for a bad id.
        """
        digits = b"".join((request.id,))  # a third faster than bytes()
        id = digits if digits.isdigit() and len(digits) <= MAX_ID_BYTES else id_of(request)
        server, params = self.server, request.params
        route = server.routes.get(request.method)
        if route is not None and type(params) is dict and type(request) is PlainRequest:
            deadline = now + route.timeout
            call = Call(server, self, route.command, self.user, now, deadline, params, room)
            proceed = route.proceed
        else:
            call, proceed = self._unusual(request, route, now, room)
            deadline = call.deadline
        if self.due > deadline and self._arm(deadline):
            proceed = _too_late
        if self.phase != "open":
            proceed = self._begin(proceed)
        if self.flights is None:
            self.running = call
            server.dispatch(call, proceed)
            self.running = None
        else:
            self.flights.dispatch(call, proceed)
        self.calls += 1
        fault = call.fault
        if fault is None:
            if id is None:
                return None
            return self.codec.reply(id, call.encoded, call.extra)  # type: ignore[arg-type]
        if fault.closes and not self.ending:
            self.ending = True
            self.reason = fault.type
        if id is None:
            return None
        return self.codec.error(id, fault, call.request_id)

    def _unusual(
        self, request: PlainRequest | Request, route: Route | None, now: float, room: int
    ) -> tuple[Call, Proceed]:
        """A call with optional members, with positional parameters, or of an unknown method."""
        server, params = self.server, request.params or {}
        if unknown := route is None:
            route = server.unknown(request.method, self)
        call = Call(server, self, route.command, self.user, now, now + route.timeout, {}, room)
        if unknown:
            call.resources = {"method": request.method}
        proceed = route.proceed
        if isinstance(params, dict):
            call.params = params
        else:
            proceed = self._named(call, params, route)
        if type(request) is not PlainRequest:
            proceed = server.with_extras(call, request, route, proceed)  # type: ignore[arg-type]
        return call, proceed

    def _begin(self, proceed: Callable[[Call], Any]) -> Callable[[Call], Any]:
        """The first line is whole, or the connection is being drained, or closes once its calls have ended."""
        if self.phase == "draining":
            return _shutting_down
        if self.phase == "first":
            self.phase = "open"
            self._arm(self.server.clock.now() + self.listener.limits.idle_timeout_s)
        return proceed

    def _named(self, call: Call, values: list[Any], route: Any) -> Callable[[Call], Any]:
        """Give positional parameters their names."""
        names = route.command.arguments
        if len(values) <= len(names) or route is self.server.unknown_route:
            call.params = dict(zip(names, values, strict=False))
            return route.proceed  # type: ignore[no-any-return]
        fault = TooManyItems(f"{route.command.name} takes at most {len(names)} positional parameters", field="params")

        def too_many(call: Call) -> Any:
            raise fault

        return too_many

    def refusal(self, refused: Refused, message: Any) -> bytes:
        """The reply to what is no request."""
        fault = refused.fault
        if self.phase == "first":
            self.phase = "open"
        kind = _KINDS.get(fault.code, "json")
        self.server.violated(self, fault.code, kind, message if type(message) is bytes else encode(message))
        return self.codec.error(refused.id, fault, self.server.new_id())

    # --- several calls at once (max_in_flight above 1) -------------------------------------------

    def _spread(self, lines: Sequence[Any], now: float) -> None:
        """Each request in a greenlet of its own; its reply comes when it is done."""
        from tidegate.flights import Flights

        if self.flights is None:
            self.flights = Flights(self, self.listener.limits.max_in_flight)
        self.last = now
        for place, line in enumerate(lines, 1):
            self.flights.take(line, now)
            if self.outbox:
                self._drained()
            elif place % TURN == 0:
                self._writable()
            if self.ending:
                return

    # --- waiting ---------------------------------------------------------------------------------

    def _readable(self) -> None:
        hub = get_hub()
        watcher = hub.loop.io(self.fd, 1)
        watcher.start(getcurrent().switch)
        try:
            _switch(hub)
        finally:
            watcher.stop()
            watcher.close()

    def _writable(self) -> None:
        """One pass of the loop, and the socket takes bytes: what is left of a read waits here, not on
        readability, which need not come again."""
        self.wakes = True
        self._watch_writes()
        try:
            _switch(get_hub())
        finally:
            self.wakes = False
            if not self.outbox and self.writable is not None:
                self.writable.stop()

    def _drained(self) -> None:
        """Wait until the client has taken its replies; nothing is read meanwhile."""
        self._await_progress()
        while self.outbox:
            self._writable()
        self.progress = 0.0

    def _await_progress(self) -> None:
        """A reply waits: from now on the client must take some of it within `send_timeout_s`."""
        if not self.progress:
            self.progress = self.server.clock.now()
            self._arm(self.progress + self.listener.limits.send_timeout_s)

    # --- sending ---------------------------------------------------------------------------------

    def send(self, data: bytes, *, plain: bool = True) -> None:
        """Write now what the socket takes; the rest waits in the outbox. Never switches."""
        if self.tls is not None and plain:
            data = self.tls.write(data)
        if not self.outbox:
            try:
                sent = os.write(self.fd, data)
            except BlockingIOError:
                sent = 0
            self.bytes_out += sent
            if sent == len(data):
                return
            data = data[sent:]
        self.outbox += data
        self._watch_writes()

    def owe(self, reply: bytes) -> None:
        """Send a reply when this pass of the loop ends, also if the next call waits. Never switches."""
        if not self.out:
            self.server.outgoing.add(self)
        self.out.append(reply)
        if len(reply) > LARGE:  # TURN of them would be much to hold
            self.flush()

    def flush(self) -> None:
        """Send what has been answered so far. Never switches."""
        data = b"".join(self.out)
        if not data:
            return
        self.out.clear()
        self.out_bytes = 0
        try:
            self.send(data)
        except OSError:
            self._lost()
            return
        if self.outbox and self.running is None:
            self._await_progress()

    def push(self, frame: bytes, count: int = 1) -> bool:
        if _get_ident() != self.listener.thread:
            raise RuntimeError("push from another thread: a command with thread=True leaves pushes to one without")
        if self.ending or self.phase in ("proxy", "tls"):
            return False
        self.server.pushes += count
        if self.running is not None and getcurrent() is self.greenlet:
            if not self.out:
                self.server.outgoing.add(self)
            self.out.append(frame)  # before this call's reply, after those before it
            self.out_bytes += len(frame)
            if self.out_bytes < FLUSH_BYTES:
                return True
            frame = b"".join(self.out)
            self.out.clear()
            self.out_bytes = 0
        elif self.out:
            self.flush()
        try:
            self.send(frame)
        except OSError:
            self._lost()
            return False
        if self.outbox:
            self.pushed = min(self.pushed + len(frame), len(self.outbox))
            if self.pushed > self.listener.limits.outbox_bytes:
                self._lost("slow reader")
                return False
        return True

    def _watch_writes(self) -> None:
        if self.writable is None:
            self.writable = get_hub().loop.io(self.fd, 2)
        self.writable.start(self._take_outbox)

    def _take_outbox(self) -> None:
        """In the hub: the socket takes bytes again."""
        if self.outbox:
            try:
                sent = os.write(self.fd, memoryview(self.outbox)[:FLUSH_BYTES])
            except BlockingIOError:
                return
            except OSError:
                self._lost()
                return
            del self.outbox[:sent]
            self.bytes_out += sent
            self.pushed = min(self.pushed, len(self.outbox))
            if self.outbox:
                if self.progress:
                    self.progress = self.server.clock.now()
                return
            self.progress = 0.0
        if self.wakes:
            self.greenlet.switch()  # type: ignore[union-attr]
        else:
            self.writable.stop()

    def _lost(self, reason: str = "reset") -> None:
        """The client is gone, or as good as gone; its own greenlet closes."""
        self.reason = reason
        self.outbox.clear()
        if self.writable is not None:
            self.writable.stop()
        with suppress(OSError):  # what a running call still sends fails then
            self.sock.shutdown(socket.SHUT_RDWR)
        self.end()

    # --- time and ending -------------------------------------------------------------------------

    def _arm(self, due: float) -> bool:
        """Ring at `due` unless the alarm rings before; True if that is past already."""
        if self.due <= due:
            return False
        left = due - self.server.clock.now()
        self.due = due
        self.alarm.start(max(left, 0.0))
        return left <= 0.0

    def _ring(self) -> None:
        """In the hub: whatever this connection waits for may have taken too long."""
        self.due = inf
        now = self.server.clock.now()
        limits = self.listener.limits
        fault: Fault | None = None
        if self.busy:
            due = inf
            for call in self.calls_in_flight():
                if call.deadline <= now:
                    self.interrupt(call, CallTimeout)
                else:
                    due = min(due, call.deadline)
            # It is looked after again when it has ended: interrupted, shielded, or sooner than its deadline.
            due = min(due, now + (1.0 if due == inf else limits.idle_timeout_s))
            self.last = due  # nobody is idle while a call runs
        elif self.progress:
            due = self.progress + limits.send_timeout_s
            if due <= now:
                return self._lost("slow reader")
        elif self.phase == "lingering":
            due = self.last + LINGER_S
        elif self.phase == "proxy":
            due = self.opened + PROXY_S
        elif self.phase == "tls":
            due = self.opened + HANDSHAKE_S
        else:
            due, fault = self._line_due(now, limits)
        if due > now:
            self._arm(due)
        else:
            if fault is not None and fault.code == RequestTimeout.code:
                self.server.violated(self, fault.code, "slow", bytes(self.codec.partial[:64]))
            self.end(fault)

    def _line_due(self, now: float, limits: Any) -> tuple[float, Fault]:
        patience = self.server.patience
        if self.phase == "first":
            return self.opened + limits.first_line_timeout_s * patience, RequestTimeout("No complete line came in time")
        if self.line_since:
            return self.line_since + limits.line_timeout_s * patience, RequestTimeout()
        return self.last + limits.idle_timeout_s * patience, IdleTimeout()

    @property
    def busy(self) -> bool:
        """Whether a call runs."""
        return self.running is not None or (self.flights is not None and self.flights.count > 0)

    @property
    def gone(self) -> bool:
        """One system call; the kernel tells an error once, so it is remembered."""
        if self.reason != "reset" and self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            self.reason = "reset"
        return self.reason == "reset"

    def traffic(self) -> dict[str, int]:
        return {"calls": self.calls, "bytes_in": self.bytes_in, "bytes_out": self.bytes_out}

    def calls_in_flight(self) -> list[Call]:
        if self.flights is not None:
            return list(self.flights.calls)
        return [self.running] if self.running is not None else []

    def interrupt(self, call: Call, fault: type[Fault] = CallCancelled) -> None:
        """Throw the deadline or a cancel into a running call; a shielded one goes on. From anywhere."""
        self.listener.loop.run_callback_threadsafe(self._throw_into, call, fault)

    def _throw_into(self, call: Call, fault: type[Fault]) -> None:
        if self.flights is not None:
            greenlet = self.flights.calls.get(call)
        else:
            greenlet = self.greenlet if self.running is call else None
        if greenlet is None:
            return
        if call.shielded:
            call.deadline = inf  # what was begun is finished, and its outcome is the reply
            return
        call.interrupt = Interrupt(fault())
        # Should the command catch it, it is told again a second later.
        call.deadline = self.server.clock.now() + 1.0
        self._arm(call.deadline)
        greenlet.throw(call.interrupt)

    def end(self, fault: Fault | None = None, *, cancel: bool = False) -> None:
        if not self.ending:
            self.ending = fault or True
        if cancel:
            for call in self.calls_in_flight():
                self.interrupt(call)
        if self.running is None and self.greenlet is not None:
            self.listener.loop.run_callback_threadsafe(self._throw_end)

    def _throw_end(self) -> None:
        if self.running is not None or self.phase == "closed":
            return
        if self.phase != "closing" or (self.wakes and not self.outbox):
            self.greenlet.throw(Ended())  # type: ignore[union-attr]

    def abandon(self, fault: type[Fault]) -> None:
        """The time for draining is over: running calls are interrupted, waiting replies given up."""
        self.outbox.clear()
        for call in self.calls_in_flight():
            self.interrupt(call, fault)
        self.end()

    def drain(self) -> None:
        """What has been read is finished; what comes from now on is answered with 1309."""
        if self.phase in ("first", "open"):
            self.phase = "draining"
        try:
            self.sock.shutdown(socket.SHUT_RD)
        except OSError:
            pass


def _too_late(call: Call) -> Any:
    raise CallTimeout("The time for this call was over before it began")


def _shutting_down(call: Call) -> Any:
    raise ServerShuttingDown


_KINDS = {1602: "json", 1601: "json", 1608: "encoding", 1609: "depth", 1607: "batch", 1606: "size"}
