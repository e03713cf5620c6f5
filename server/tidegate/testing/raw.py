"""A plain socket that speaks bytes and lines: what a client nobody here wrote would send."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

from tidegate.testing import WAIT_S


class Raw:
    """Bytes out, lines in. Every wait ends after 30 s with TimeoutError."""

    def __init__(self, sock: socket.socket) -> None:
        sock.settimeout(WAIT_S)
        self.sock = sock
        self._buffer = b""

    @classmethod
    def tcp(cls, host: str, port: int, source: str | None = None) -> Raw:
        """`source`: the address to come from, such as 127.0.0.2."""
        return cls(socket.create_connection((host, port), WAIT_S, (source, 0) if source else None))

    @classmethod
    def unix(cls, path: Path) -> Raw:
        sock = socket.socket(socket.AF_UNIX)
        sock.connect(str(path))
        return cls(sock)

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def line(self) -> bytes:
        """The next line without its LF; b"" when the server has closed."""
        while b"\n" not in self._buffer:
            if not self._more():
                line, self._buffer = self._buffer, b""
                return line
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line

    def json(self) -> Any:
        """The next line as JSON."""
        line = self.line()
        assert line, "the server closed the connection"
        return json.loads(line)

    def ask(self, method: str, params: Any = None, id: Any = 1, **members: Any) -> dict[str, Any]:
        """The reply to one request; pushes that come before it are passed over."""
        request = {"jsonrpc": "2.0", "id": id, "method": method, **members}
        if params is not None:
            request["params"] = params
        self.send(json.dumps(request).encode() + b"\n")
        while "method" in (reply := self.json()):
            pass
        return reply  # type: ignore[no-any-return]

    def rest(self) -> bytes:
        """Everything until the server closes."""
        while self._more():
            pass
        data, self._buffer = self._buffer, b""
        return data

    def closed(self) -> bool:
        """Whether the server closes now, with nothing more to say."""
        return self.rest() == b""

    def shut(self) -> None:
        """Say that nothing more will come; replies still do."""
        self.sock.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """Vanish: the server sees a reset."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self.sock.close()

    def close(self) -> None:
        self.sock.close()

    def __enter__(self) -> Raw:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _more(self) -> bool:
        try:
            data = self.sock.recv(65536)
        except ConnectionResetError:
            data = b""
        self._buffer += data
        return bool(data)
