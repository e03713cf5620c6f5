"""A client's connection, which threads may share: lines out, replies and pushes in."""

from __future__ import annotations

import copy
import errno
import os
import select
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack, suppress
from math import ceil
from typing import Any, NamedTuple, Self, TypedDict

import msgspec

from tidegate.address import Address
from tidegate.faults import Catalogue, Fault, IdleTimeout, RequestTimeout
from tidegate.pushes import Push

_CHUNK = 65536  # above a TLS record, so that none is left half read where poll() can't see it
_WAITING_BYTES = 1 << 20  # with more than this unsent, new requests wait
_UNREAD = (IdleTimeout, RequestTimeout)  # what was sent meanwhile has not been read


class ConnectionLost(ConnectionError):
    """The connection ended, and whether the server has carried out the request is unknown."""


class BadReply(ConnectionLost):
    """What came is no JSON-RPC, or longer than `max_reply_bytes`; the connection was closed."""


class UnknownFault(Fault):
    """A fault that the client has no class for; `code`, `type` and `recovery` are the server's."""

    _type: str

    @classmethod
    def from_error_object(cls, error: Mapping[str, Any]) -> Self:
        fault, said = super().from_error_object(error), error.get("data") or {}
        fault.__dict__ |= {"code": said.get("code", error.get("code")), "recovery": said.get("recovery", "none")}
        fault._type = said.get("type", cls.__name__)
        return fault

    @property
    def type(self) -> str:
        return self._type


class Reply(NamedTuple):
    """A result; `stale` when a fallback answered; `trace`: seconds by decorator, where asked for."""

    result: Any
    stale: bool = False
    trace: dict[str, float] | None = None


class Members(TypedDict, total=False):
    """What a request may carry beside its parameters, see docs/protocol.md; None is as if it were not there."""

    timeout: float | None
    auth: str | None
    idempotency_key: str | None
    trace: bool | None


class _Message(msgspec.Struct):
    id: int | None = None
    method: str | None = None
    params: Any = None
    result: Any = None
    error: dict[str, Any] | None = None
    stale: bool = False
    trace: dict[str, float] | None = None


_decode = msgspec.json.Decoder(_Message).decode


def due(seconds: float | None) -> float | None:
    """On the clock of `time.monotonic`; None is never."""
    return None if seconds is None else time.monotonic() + seconds


def left(deadline: float | None) -> float | None:
    """Seconds, 0 when it has passed."""
    return None if deadline is None else max(0.0, deadline - time.monotonic())


class Pending:
    """A request: once it is answered `error` is what `result()` raises, or None."""

    __slots__ = ("_reply", "again", "end", "error", "id", "keyed", "line", "quiet")

    def __init__(self, id: int, line: bytes, *, quiet: bool, keyed: bool) -> None:
        self.id, self.line = id, line
        self.quiet, self.keyed = quiet, keyed  # a notification; has an idempotency key
        self.end = 0  # where its line ends in all that its connection sends
        self.again = False  # it was lost, and may be sent again
        self.answer(None, None)

    def answer(self, reply: Reply | None, error: Exception | None) -> None:
        self._reply, self.error = reply, error

    def done(self, wire: Wire) -> bool:
        """Answered, or a notification that was sent."""
        return self._reply is not None or self.error is not None or (self.quiet and 0 < self.end <= wire.sent)

    def reply(self) -> Reply:
        """The whole reply. Raises the Fault, TimeoutError, ConnectionLost or another OSError."""
        if self.error is not None:
            raise self.error
        if self._reply is None and not self.quiet:
            raise RuntimeError("a batch is sent when its block is left; there is no reply yet")
        return self._reply or Reply(None)

    def result(self) -> Any:
        """The result. Raises as `reply` does."""
        return self.reply().result


def dial(address: Address, timeout: float | None, tls: ssl.SSLContext | None, server_name: str) -> socket.socket:
    """A connected socket, its TLS handshake done. Raises OSError, which ssl.SSLError is."""
    if timeout == 0:
        raise TimeoutError("no time left to connect")
    with ExitStack() as undo:
        if address.kind == "unix":
            sock = undo.enter_context(socket.socket(socket.AF_UNIX))
            sock.settimeout(timeout)
            _reach(sock, address.path or "")
        else:
            sock = socket.create_connection((address.host or "127.0.0.1", address.port or 0), timeout)
            undo.enter_context(sock)
            if sock.getsockname() == sock.getpeername():  # a port with no listener may be met by itself
                raise ConnectionRefusedError(errno.ECONNREFUSED, os.strerror(errno.ECONNREFUSED))
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        sock = tls.wrap_socket(sock, server_hostname=server_name) if tls else sock
        undo.pop_all()
    return sock


def _reach(sock: socket.socket, path: str) -> None:
    if len(os.fsencode(path)) <= 107:  # what the address of a Unix socket holds
        return sock.connect(path)
    folder = os.open(os.path.dirname(path), os.O_RDONLY | os.O_DIRECTORY)
    try:
        sock.connect(f"/proc/self/fd/{folder}/{os.path.basename(path)}")
    finally:
        os.close(folder)


def _take_leave(sock: ssl.SSLSocket) -> None:
    """Say goodbye, and wait for no answer."""
    with suppress(OSError, ValueError):
        sock.unwrap()
    # An alert that `unwrap` met stays in this thread's queue of OpenSSL's errors, where the next call for another
    # connection would take it for its own; any failure empties the queue (test_the_bad_end_of_one_connection…).
    with suppress(OSError, ValueError):
        sock.context.wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO(), server_hostname="nobody").do_handshake()


class Wire:
    """One connection. Of those who wait for something one polls and reads for all; `turn` guards everything.

    Args:
        sock: connected; it belongs to the wire from now on.
        name: what errors call the server.
        faults: the classes in which faults are raised.
        hear: gets each push, and the bytes of its line; must not block.
        max_bytes: of one line from the server.
    """

    def __init__(
        self, sock: socket.socket, name: str, faults: Catalogue, hear: Callable[[Push, int], None], max_bytes: int
    ) -> None:
        self.turn = threading.Condition(threading.Lock())
        self.ended: Exception | None = None
        self.said: Exception | None = None  # the server's last words: then it closes
        self.heard = False  # a reply or a push came, not only why it ends
        self._sock, self._name, self._faults, self._hear, self._max_bytes = sock, name, faults, hear, max_bytes
        self._bell, self._ear = socket.socketpair()  # ends a poll, so that it looks anew
        for one in (sock, self._bell, self._ear):
            one.setblocking(False)
        self._polled = False
        self._out, self._queued = bytearray(), 0  # what waits to be sent; all bytes ever put there
        self._deaf = False  # a write failed: the server reads no more, but may have said why
        self._partial = bytearray()
        self._pending: dict[int, Pending] = {}

    @property
    def sent(self) -> int:
        """Bytes that the socket took."""
        return self._queued - len(self._out)

    def until(self, done: Callable[[], object], deadline: float | None) -> bool:
        """Write and read until `done()` or the connection's end; False when the deadline came first."""
        with self.turn:
            while not done() and self.ended is None:
                if (seconds := left(deadline)) == 0:
                    return False
                if self._polled:
                    self.turn.wait(seconds)
                else:
                    self._poll(seconds)
                    self._move()
        return True

    def alive(self) -> bool:
        """Not known to be dead; where the server has said its last, it has a second to close."""
        with self.turn:
            if not self._polled:
                self._move()
        if self.said is not None:
            self.until(lambda: False, due(1.0))
        return self.ended is None

    def send(self, items: Sequence[Pending], deadline: float | None) -> None:
        """Queue them, and send what the socket takes. Raises TimeoutError when there is no room for them."""
        if not self.until(lambda: len(self._out) < _WAITING_BYTES, deadline):
            raise TimeoutError(f"{self._name} takes no requests")
        with self.turn:
            for item in items:
                self._queued += len(item.line)
                item.end, item.again = self._queued - 1, False  # a last line counts without its LF
                item.answer(None, None)
                self._pending[item.id] = item
            self._out += b"".join([item.line for item in items])
            if self.ended is not None:
                return self._end(self.ended)
            self._write()
            if self._out and self._polled:
                self._ring()

    def forget(self, items: Iterable[Pending]) -> None:
        """Replies to them that come later are dropped."""
        with self.turn:
            for item in items:
                self._pending.pop(item.id, None)

    def close(self, why: str) -> None:
        """End it with ConnectionLost for all who wait."""
        with self.turn:
            self._end(ConnectionLost(why))

    # --- all below: `turn` is held ----------------------------------------------------------------

    def _poll(self, seconds: float | None) -> None:
        poll = select.poll()
        poll.register(self._ear.fileno(), select.POLLIN)
        poll.register(self._sock.fileno(), select.POLLIN | (select.POLLOUT if self._out and not self._deaf else 0))
        self._polled = True
        self.turn.release()
        try:
            ready = poll.poll(None if seconds is None else ceil(seconds * 1000))
        finally:
            self.turn.acquire()
            self._polled = False
            self.turn.notify_all()
            if self.ended is not None:
                self._release()
        if self.ended is None and any(number == self._ear.fileno() for number, _ in ready):
            self._ear.recv(_CHUNK)

    def _move(self) -> None:
        """Write and read what goes without waiting; nobody polls."""
        if self.ended is None:
            self._write()
            self._read()

    def _write(self) -> None:
        try:
            while self._out and not self._deaf:
                with memoryview(self._out) as whole, whole[: 4 * _CHUNK] as part:
                    count = self._sock.send(part)
                if not count:  # gevent's word for SSLWantWriteError
                    return
                del self._out[:count]
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            pass
        except OSError:
            self._deaf = True

    def _read(self) -> None:
        data, end = bytearray(), None
        try:
            while len(data) < 16 * _CHUNK and end is None:
                chunk = self._sock.recv(_CHUNK)
                data += chunk
                end = None if chunk else f"{self._name} closed the connection"
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            pass
        except OSError as error:
            end = f"the connection to {self._name} broke: {error.strerror or error}"
        try:
            for line in self._lines(data):
                self._take(_decode(line), len(line))
        except (ValueError, TypeError, AttributeError, RecursionError) as error:  # msgspec's are ValueErrors, too
            self._end(BadReply(f"{self._name} sent what is no reply: {error}"))
        if end is not None:
            self._end(self.said or ConnectionLost(end))

    def _lines(self, data: bytearray) -> list[bytearray]:
        *lines, rest = data.split(b"\n")
        if lines:
            lines[0] = self._partial + lines[0]
            self._partial = rest
        else:
            self._partial += rest
        if max(map(len, [self._partial, *lines])) > self._max_bytes:
            raise ValueError(f"a line longer than {self._max_bytes} bytes")
        return [line for line in lines if line.strip()]

    def _take(self, message: _Message, size: int) -> None:
        if message.method is not None:
            if message.method == "event.shutdown":
                self.said = ConnectionLost(f"{self._name} is shutting down")
            else:
                self.heard = True
            return self._hear(Push(message.method, message.params), size)
        id, fault = message.id, None
        if (error := message.error) is not None:
            code: Any = (error.get("data") or {}).get("code", error.get("code"))
            fault = self._faults.get(code, UnknownFault).from_error_object(error)
        if fault and (id is None or fault.closes):
            self.said = fault
        if id is not None and (item := self._pending.pop(id, None)) is not None:
            self.heard = True
            item.answer(None if fault else Reply(message.result, message.stale, message.trace), fault)

    def _end(self, error: Exception) -> None:
        """What has no reply gets the error, and may be sent again where nothing can be done twice."""
        self.ended = self.ended or error
        for item in self._pending.values():
            unread = item.end > self.sent or isinstance(self.ended, _UNREAD)
            item.again = (unread or item.keyed) and type(self.ended) in (*_UNREAD, ConnectionLost)
            item.answer(None, copy.copy(self.ended))
        self._pending.clear()
        self.turn.notify_all()
        if self._polled:
            self._ring()
        else:
            self._release()

    def _ring(self) -> None:
        try:
            self._bell.send(b"\0")
        except BlockingIOError:
            pass  # it rings already

    def _release(self) -> None:
        """Close the sockets; not while they are polled: another connection could get their numbers."""
        if isinstance(self._sock, ssl.SSLSocket):
            _take_leave(self._sock)
        for sock in (self._sock, self._bell, self._ear):
            sock.close()
