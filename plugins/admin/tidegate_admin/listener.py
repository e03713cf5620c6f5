"""The site's own listener: HTTP by gevent's WSGI server, with a bound on everything that a client may send or hold."""

from __future__ import annotations

import logging
import re
import socket
from collections.abc import Callable
from io import BytesIO
from typing import Any

import gevent
import msgspec
from gevent import Greenlet, getcurrent
from gevent import socket as gevent_socket
from gevent.pywsgi import WSGIHandler, WSGIServer
from tidegate import Server
from tidegate.faults import ProtocolError, RequestTooLarge

from tidegate_admin.problems import CONTENT_TYPE, problem
from tidegate_admin.settings import Place

MAX_LINE_BYTES = 8_191
MAX_HEAD_BYTES = 16_384
MAX_HEADERS = 64
BACKLOG = 1024
HANDSHAKE_S = 10.0
SEND_S = 20.0  # a browser that takes nothing for so long is gone
LINGER_S = 1.0
A_TURN_S = 1e-6  # sleep(0) would go on before the loop has looked at its sockets
LINGER_BYTES = 262_144

_REASONS = {
    400: "Bad Request", 408: "Request Timeout", 411: "Length Required", 413: "Content Too Large", 414: "URI Too Long",
    431: "Request Header Fields Too Large", 501: "Not Implemented", 505: "HTTP Version Not Supported",
}  # fmt: skip
_TOKEN = re.compile(r"[A-Za-z]{1,16}")
_NAME = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


class Refused(ValueError):
    """A request that is not even looked at; pywsgi takes any ValueError for a client's mistake."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(f"{status}: {detail}")
        self.status, self.detail = status, detail

    def response(self) -> bytes:
        fault = RequestTooLarge(self.detail) if self.status in (413, 414, 431) else ProtocolError(self.detail)
        body = msgspec.json.encode(problem(fault, Server.new_id()) | {"status": self.status})
        head = (
            f"HTTP/1.1 {self.status} {_REASONS[self.status]}\r\nContent-Type: {CONTENT_TYPE}\r\n"
            f"Content-Length: {len(body)}\r\nX-Content-Type-Options: nosniff\r\nConnection: close\r\n\r\n"
        )
        return head.encode() + body


class Handler(WSGIHandler):
    """One connection. `environ` gets `tidegate.body`, the whole body, and `tidegate.path`, the path as it was sent."""

    server: Listener
    serving = False  # the client has said what it wants; until then its place may be taken
    sending = False  # and again while it does not take what it is sent

    def __init__(self, sock: Any, address: Any, server: Listener) -> None:
        self.first = True
        self.body = b""
        super().__init__(sock, address, server)

    def read_requestline(self) -> str:
        limits = self.server.limits
        if not self.first:
            gevent.sleep(A_TURN_S)  # many may have come at once; between two of them others get their turn
        seconds = limits.head_s if self.first else limits.idle_s
        self.first = self.serving = False
        self.socket.settimeout(None)
        try:
            with gevent.Timeout(seconds, OSError("no request came")):
                line = str(super().read_requestline())
        except OSError:
            return ""  # pywsgi closes
        return line[:MAX_LINE_BYTES]  # 8,192 would be answered by pywsgi, in its own words

    def read_request(self, raw_requestline: str) -> Any:
        limits = self.server.limits
        with gevent.Timeout(limits.head_s, Refused(408, "The request's head took too long")):
            head = self._head(raw_requestline)
        rfile: Any = self.rfile
        self.rfile = BytesIO(head)  # type: ignore[assignment]
        try:
            super().read_request(raw_requestline)
        finally:
            self.rfile = rfile
        length = self._length()
        with gevent.Timeout(limits.head_s, Refused(408, "The request's body took too long")):
            self.body = rfile.read(length) if length else b""
        if len(self.body) < length:
            raise Refused(400, "The body is shorter than its Content-Length")
        self.content_length = 0  # all of it was read: nothing is left for pywsgi to read, or to throw away
        self.serving = True
        self.socket.settimeout(SEND_S)
        return True

    def _head(self, line: str) -> bytes:
        """The header lines, with the empty one at their end."""
        words = line.split(" ")
        if len(line) >= MAX_LINE_BYTES:
            raise Refused(414, f"A request line has at most {MAX_LINE_BYTES} bytes")
        if len(words) != 3 or not _TOKEN.fullmatch(words[0]) or not line.endswith("\r\n"):
            raise Refused(400, "Expected a request line: METHOD PATH HTTP/1.1")
        if words[2].rstrip("\r\n") not in ("HTTP/1.1", "HTTP/1.0"):
            raise Refused(505, "HTTP/1.1 is spoken here")
        if not words[1].startswith("/"):
            raise Refused(400, "Expected a path that begins with /")
        head, left = [], MAX_HEAD_BYTES
        while True:
            read = self.rfile.readline(left)
            left -= len(read)
            if not read.endswith(b"\r\n"):
                raise Refused(431 if left <= 0 else 400, "The head is too long, or not made of lines that end in CR LF")
            head.append(read)
            if read == b"\r\n":
                return b"".join(head)
            if len(head) > MAX_HEADERS:
                raise Refused(431, f"At most {MAX_HEADERS} header fields are read")
            if not _NAME.fullmatch(read.partition(b":")[0]):
                raise Refused(400, "A header field is NAME: VALUE")

    def _length(self) -> int:
        """The body's length. Anything that two readers could understand differently is refused."""
        headers = self.headers
        if headers.get("transfer-encoding") is not None:
            raise Refused(411, "Send a Content-Length; chunked bodies are not read")
        lengths = headers.get_all("content-length", [])
        if len(lengths) > 1 or len(headers.get_all("host", [])) != 1:
            raise Refused(400, "Expected one Host and at most one Content-Length")
        if not lengths:
            return 0
        if not re.fullmatch(r"[0-9]{1,12}", lengths[0]):
            raise Refused(400, "Content-Length is a number")
        if (length := int(lengths[0])) > self.server.limits.max_body_bytes:
            raise Refused(413, f"At most {self.server.limits.max_body_bytes} bytes are read")
        if headers.get("expect", "").lower() == "100-continue":
            self.socket.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        return length

    def get_environ(self) -> dict[str, Any]:
        environ: dict[str, Any] = super().get_environ()
        environ["tidegate.body"] = self.body
        environ["tidegate.path"] = str(self.path).partition("?")[0]
        return environ

    def _sendall(self, data: bytes) -> None:
        self.sending = True
        super()._sendall(data)  # type: ignore[misc]
        self.sending = False

    def _handle_client_error(self, ex: Exception) -> None:
        """Say what is wrong, let the client read it, and close."""
        if not isinstance(ex, Refused):
            ex = Refused(400, "This is no HTTP request")
        self.server.log_to.debug("refused a request from %s: %s", self.client_address, ex)
        self.socket.settimeout(LINGER_S)
        try:
            self.socket.sendall(ex.response())
            # Closing with bytes unread would reset the connection, and the client would not see the answer.
            self.socket.shutdown(socket.SHUT_WR)
            with gevent.Timeout(LINGER_S, False):  # type: ignore[arg-type]
                left = LINGER_BYTES
                while left > 0 and (data := self.socket.recv(16_384)):
                    left -= len(data)
        except OSError:
            pass

    def _log_error(self, t: Any, v: Any, tb: Any) -> None:
        if not issubclass(t, gevent.GreenletExit):
            self.server.log_to.error("a request failed", exc_info=(t, v, tb))

    def log_request(self) -> None:
        """The commands that it runs are counted and audited like anybody's."""


class Listener(WSGIServer):
    """Accepts; one more than `max_connections` takes the place of the one that has kept us waiting for the longest."""

    def __init__(self, place: Place, app: Callable[..., Any], limits: Any, log: logging.Logger, context: Any) -> None:
        self.limits = limits
        self.log_to = log
        self.context = context
        self.open: dict[Greenlet[..., Any], Handler | None] = {}
        sock = bound(place)
        environ = {"SERVER_NAME": place.host, "SERVER_PORT": str(sock.getsockname()[1])}  # or pywsgi asks DNS
        environ["wsgi.url_scheme"] = "https" if context is not None else "http"
        super().__init__(sock, app, log=None, error_log=None, environ=environ)
        self.place = Place(place.host, sock.getsockname()[1])

    def do_handle(self, sock: Any, address: Any) -> None:
        """In the hub. A connection that is refused here costs no greenlet."""
        if len(self.open) >= self.limits.max_connections and not self._make_room():
            sock.close()
            return
        greenlet: Greenlet[..., Any] = Greenlet(self._serve, sock, address)
        self.open[greenlet] = None
        greenlet.rawlink(lambda done: self.open.pop(done, None))
        greenlet.start()

    def _make_room(self) -> bool:
        for greenlet, handler in self.open.items():
            if handler is None or not handler.serving or handler.sending:
                del self.open[greenlet]
                greenlet.kill(block=False)
                return True
        return False

    def _serve(self, sock: Any, address: Any) -> None:
        try:
            if self.context is not None:
                with gevent.Timeout(HANDSHAKE_S, OSError("the handshake took too long")):
                    sock = self.context.wrap_socket(sock, server_side=True)
            handler = Handler(sock, address, self)
            me = getcurrent()
            if me in self.open:
                self.open[me] = handler
            handler.handle()
        except OSError as error:
            self.log_to.debug("connection from %s: %s", address, error)
        finally:
            sock.close()

    def end(self, seconds: float) -> None:
        """Accept no more; let what is under way end within `seconds`. Switches."""
        self.close()
        for greenlet, handler in list(self.open.items()):
            if handler is None or not handler.serving:
                greenlet.kill(block=False)
        gevent.joinall(list(self.open), timeout=seconds)
        gevent.killall(list(self.open), timeout=1.0)


def bound(place: Place) -> Any:
    """A listening socket. Raises OSError."""
    family = socket.AF_INET6 if ":" in place.host else socket.AF_INET
    where = socket.getaddrinfo(place.host, place.port, family, socket.SOCK_STREAM, 0, socket.AI_PASSIVE)[0][4]
    sock = gevent_socket.socket(family, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    # Accepted sockets inherit it on Linux; without it each request of a kept connection takes 42 ms.
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    try:
        sock.bind(where)
        sock.listen(BACKLOG)
    except OSError:
        sock.close()
        raise
    sock.setblocking(False)
    return sock
