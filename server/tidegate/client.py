"""A blocking client: plain calls, pipelines and pushes, with or without gevent.

    with Client("127.0.0.1:7420") as client:
        client.call("message.send", room="lobby", text="hi")

Its connection is in wire.py; both use the standard library's sockets only.
"""

from __future__ import annotations

import copy
import itertools
import os
import random
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Unpack

import msgspec

from tidegate.address import parse_address
from tidegate.faults import Fault, catalogue, merge
from tidegate.pushes import Push, Pushes
from tidegate.wire import BadReply, ConnectionLost, Members, Pending, Reply, UnknownFault, Wire, dial, due, left

__all__ = ["BadReply", "Batch", "Client", "ConnectionLost", "Pending", "Push", "Reply", "UnknownFault"]

_KNOWN = catalogue()
_GRACE_S = 1.0  # for the server's word that it ended a call at the request's own timeout
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.05, 2.0  # between attempts to connect; doubled each time, with jitter
_encode = msgspec.json.Encoder().encode


class Batch:
    """Requests that are all sent when the block is left; each gets its own result or error. See `Client.batch`."""

    def __init__(self, client: Client, timeout: float | None) -> None:
        self._client, self._timeout = client, timeout
        self._items: list[Pending] = []

    def call(self, method: str, params: Any = None, /, **named: Any) -> Pending:
        """As `Client.call`; the result comes from `result()` of what this gives, after the block."""
        return self._add(self._client._pending(method, params, named))

    def request(self, method: str, params: Any = None, /, **members: Unpack[Members]) -> Pending:
        """As `Client.request`; its `reply()` gives the whole reply, after the block."""
        if self._timeout is not None:
            self._timeout = max(self._timeout, (members.get("timeout") or 0) + _GRACE_S)
        return self._add(self._client._pending(method, params, **members))

    def notify(self, method: str, params: Any = None, /, **named: Any) -> Pending:
        """As `Client.notify`; `result()` raises when it could not be sent."""
        return self._add(self._client._pending(method, params, named, quiet=True))

    def _add(self, item: Pending) -> Pending:
        self._items.append(item)
        return item

    def __enter__(self) -> Batch:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        items, self._items = self._items, []
        if kind is None:
            self._client._exchange(items, self._timeout)


class Client:
    """A connection to a server, made when first needed and made anew when it is lost.

    Threads and greenlets may share one: their requests are pipelined, and whoever waits reads for
    all. A request that may have reached the server is never repeated by itself: its caller gets
    ConnectionLost, unless it carries an idempotency key; one that can't have been read is sent
    again, within `timeout`. A reply that says that the call failed raises the class of its fault:
    `except ResourceNotFound`. What the server says before it closes (TooManyConnections,
    RequestTooLarge) is raised where a reply was awaited.

    Args:
        address: `HOST:PORT`, `[IPV6]:PORT` or `unix:/PATH`, else ValueError.
        timeout: seconds for connecting and for each reply, then TimeoutError; the client stays
            usable. None waits for ever. In a batch: seconds without any reply.
        tls: True checks the server's certificate as the system's authorities say; or a context.
        server_name: the name in the server's certificate, where it is not the host of `address`.
        token: sent with each request, as `auth`.
        reconnect: if false, every call after a loss raises what ended the connection.
        on_connect: called with this client on each new connection, before anything else is sent on
            it: log in and subscribe there. While it runs, other threads' calls wait.
        faults: a plugin's own fault classes, to be raised as such.
        max_reply_bytes: a longer line is not read: BadReply.
        max_pushes: how many pushes wait for `pushes()`, in all no longer than one reply may be; past
            it the oldest is dropped, and counted in `dropped`. Who reads nothing but pushes loses none.
        ping_s: seconds of silence after which `pushes()` asks whether the server is still there.
    """

    def __init__(
        self,
        address: str,
        *,
        timeout: float | None = 10.0,
        tls: bool | ssl.SSLContext | None = None,
        server_name: str | None = None,
        token: str | None = None,
        reconnect: bool = True,
        on_connect: Callable[[Client], object] | None = None,
        faults: Iterable[type[Fault]] = (),
        max_reply_bytes: int = 16 << 20,
        max_pushes: int = 10_000,
        ping_s: float | None = 60.0,
    ) -> None:
        self._to = parse_address(address)
        if self._to.kind == "fd":
            raise ValueError(f"expected HOST:PORT, [IPV6]:PORT or unix:/PATH, got {address!r}")
        self.address, self.timeout = address, timeout
        self._tls = ssl.create_default_context() if tls is True else tls or None
        self._server_name = server_name or self._to.host or "localhost"
        self._token, self._reconnect, self._on_connect = token, reconnect, on_connect
        self._max_reply_bytes, self._ping_s = max_reply_bytes, ping_s
        self._faults = merge(_KNOWN, "client", faults)
        self._pushes = Pushes(max_pushes, max_reply_bytes)
        self._ids = itertools.count(1)
        self._door = threading.RLock()  # held while connecting
        self._wire: Wire | None = None
        self._failures, self._greeting, self._closed = 0, False, False

    @classmethod
    def operator(cls, data: str | os.PathLike[str] = "data", **options: Any) -> Client:
        """Who may do everything: over the operator's socket in the data folder of a server on this machine."""
        return cls(f"unix:{Path(data) / 'admin.sock'}", **options)

    def call(self, method: str, params: Any = None, /, **named: Any) -> Any:
        """The result of `call("message.send", room="lobby", text="hi")`, or `call("m", ["lobby", "hi"])`.

        Raises the reply's Fault, TimeoutError, ConnectionLost or another OSError; what is no JSON, TypeError.
        """
        item = self._pending(method, params, named)
        self._exchange([item], self.timeout)
        return item.result()

    def request(self, method: str, params: Any = None, /, **members: Unpack[Members]) -> Reply:
        """The whole reply, with the request's own `timeout`, `auth`, `idempotency_key` and `trace`; raises as `call`.

        `timeout`: seconds after which the server ends the call and undoes it (CallTimeout); TimeoutError
        when it does not say so within another second.
        """
        timeout = members.get("timeout")
        item = self._pending(method, params, **members)
        self._exchange([item], self.timeout if timeout is None else timeout + _GRACE_S)
        return item.reply()

    def notify(self, method: str, params: Any = None, /, **named: Any) -> None:
        """Send what is never answered; returns when it is on its way. Raises as `call`, but no reply's Fault."""
        item = self._pending(method, params, named, quiet=True)
        self._exchange([item], self.timeout)
        item.result()

    def batch(self, timeout: float | None = None) -> Batch:
        """Pipelining: `with client.batch() as batch: a = batch.call(…); b = batch.call(…)`, then `a.result()`."""
        return Batch(self, self.timeout if timeout is None else timeout)

    def pushes(self, timeout: float | None = None) -> Iterator[Push]:
        """What the server sends by itself, as it comes; ends after `timeout` seconds with none.

        Raises ConnectionLost, or the server's fault, when the connection ends, since pushes may be
        missing then; iterate anew to connect anew.
        """
        wire, deadline = self._wire, due(timeout)
        wire = wire if wire is not None and wire.ended is None else None
        if wire is not None:
            wire.alive()  # reads what is there already
        while True:
            while self._pushes:
                yield self._pushes.take()
                deadline = due(timeout)
            wire = wire or self._ready(due(self.timeout))
            if wire.ended is not None and not self._pushes:
                raise copy.copy(wire.ended)
            ends = [end for end in (deadline, due(self._ping_s)) if end is not None]
            if not wire.until(lambda: self._pushes, min(ends, default=None)):
                if left(deadline) == 0:
                    return
                self._ping(wire)

    @property
    def dropped(self) -> int:
        """Pushes that nobody took in time."""
        return self._pushes.dropped

    @property
    def closed(self) -> bool:
        """Whether `close` was called; a lost connection alone is made anew by the next call."""
        return self._closed

    def close(self) -> None:
        """Close the connection for good; calls under way get ConnectionLost. From anywhere, any number of times."""
        self._closed = True
        if self._wire is not None:
            self._wire.close("this client was closed")

    def __enter__(self) -> Client:
        self._ready(due(self.timeout))
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _pending(
        self, method: str, params: Any, named: Any = None, quiet: bool = False, **members: Unpack[Members]
    ) -> Pending:
        if unknown := members.keys() - Members.__annotations__.keys():
            raise TypeError(f"a request has no member {', '.join(unknown)}; pass parameters as one mapping")
        if named and params is not None:
            raise TypeError("give either one value with all parameters, or each by its name")
        params = dict(params) if isinstance(params, Mapping) else named or params
        if not isinstance(params, dict | list | tuple | None):
            raise TypeError(f"params: expected a mapping, list or tuple, got {type(params).__name__}")
        id = next(self._ids)
        message = {"jsonrpc": "2.0", "id": None if quiet else id, "method": method, "params": params} | members
        if message.get("auth") is None:
            message["auth"] = self._token
        line = _encode({name: value for name, value in message.items() if value is not None}) + b"\n"
        return Pending(id, line, quiet=quiet, keyed=members.get("idempotency_key") is not None)

    def _exchange(self, items: Sequence[Pending], timeout: float | None) -> None:
        """Each item gets its reply or its error; a reply that comes later finds no item, and is dropped."""
        deadline = due(timeout)
        while items:
            wire = failure = None
            try:
                wire = self._ready(deadline)
                wire.send(items, deadline)
                for item in items:
                    if not wire.until(partial(item.done, wire), deadline):
                        raise TimeoutError(f"{self.address} has not answered within {timeout:g} s")
                    deadline = deadline if item.again else due(timeout)
            except (OSError, Fault) as error:
                failure = error
            finally:
                if wire is not None:
                    wire.forget(items)
            if failure is not None:
                for item in items:
                    if item.error is None and not (wire and item.done(wire)):
                        item.answer(None, copy.copy(failure))
                return
            items = [item for item in items if item.again]

    def _ready(self, deadline: float | None) -> Wire:
        """A connection not known to be dead. Raises TimeoutError, another OSError, or what `on_connect` raises."""
        seconds = left(deadline)
        if not self._door.acquire(timeout=-1 if seconds is None else seconds):
            raise TimeoutError(f"{self.address}: another thread is still connecting")
        try:
            if (wire := self._wire) is not None:
                if wire.alive():
                    return wire
                if wire.ended is not None and (self._greeting or not self._reconnect):
                    raise copy.copy(wire.ended)
            return self._connect(deadline, wire)
        finally:
            self._door.release()

    def _connect(self, deadline: float | None, before: Wire | None) -> Wire:
        """The very first attempt fails at once; after a loss it goes on until the deadline."""
        self._failures = 0 if before is None or before.heard else self._failures + 1
        failure: Exception = (before and before.ended) or TimeoutError(f"{self.address}: no time left to connect")
        while not self._closed:
            seconds = left(deadline)
            pause = self._failures and min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2 ** min(self._failures, 9))
            if seconds is not None and seconds <= pause:
                raise copy.copy(failure)
            time.sleep(pause * random.uniform(0.5, 1))  # noqa: S311
            try:
                return self._greet(left(deadline))
            except OSError as error:
                self._failures += 1
                failure = error
                if before is None or isinstance(error, ssl.SSLCertVerificationError):
                    raise
        raise ConnectionLost("this client was closed")

    def _greet(self, seconds: float | None) -> Wire:
        sock = dial(self._to, seconds, self._tls, self._server_name)
        wire = self._wire = Wire(sock, self.address, self._faults, self._pushes.keep, self._max_reply_bytes)
        self._greeting = True
        try:
            if self._on_connect is not None:
                self._on_connect(self)
        except BaseException:
            wire.close("on_connect failed")
            raise
        finally:
            self._greeting = False
        if self._closed:
            self.close()
        return wire

    def _ping(self, wire: Wire) -> None:
        item = self._pending("system.ping", None)
        self._exchange([item], self._ping_s if self.timeout is None else self.timeout)
        if isinstance(item.error, TimeoutError):  # a fault is a sign of life
            wire.close(f"{self.address} no longer answers")
