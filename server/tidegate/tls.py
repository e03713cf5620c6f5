"""TLS over bytes: the same loop reads and writes the socket, with or without it."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any


def server_context(cert: Path, key: Path, client_ca: Path | None = None) -> ssl.SSLContext:
    """TLS 1.2 and newer; with `client_ca` a client may show a certificate, and a bad one is refused.

    Raises OSError or ssl.SSLError. Reads files: call it in a thread once the server runs. A context
    is never changed: a failed `load_cert_chain` on a live one would break all later handshakes.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.load_cert_chain(cert, key)
    if client_ca is not None:
        context.load_verify_locations(client_ca)
        context.verify_mode = ssl.CERT_OPTIONAL
    return context


class Tls:
    """One connection's TLS, between the socket's bytes and the codec's. Never touches the socket."""

    __slots__ = ("_in", "_object", "_out")

    def __init__(self, context: ssl.SSLContext) -> None:
        self._in = ssl.MemoryBIO()
        self._out = ssl.MemoryBIO()
        self._object = context.wrap_bio(self._in, self._out, server_side=True)

    def feed(self, data: bytes) -> None:
        self._in.write(data)

    def handshake(self) -> tuple[bool, bytes, str | None]:
        """One step: whether it is done, what must be sent, and what went wrong."""
        try:
            self._object.do_handshake()
        except ssl.SSLWantReadError:
            return False, self._out.read(), None
        except ssl.SSLError as error:
            return False, self._out.read(), error.reason or str(error)
        return True, self._out.read(), None

    def certificate(self) -> dict[str, Any] | None:
        return self._object.getpeercert() or None

    def read(self, data: bytes) -> tuple[bytes, bool]:
        """What the client said, and whether it has said its last (close_notify)."""
        self._in.write(data)
        return self.take()

    def owed(self) -> bytes:
        """What TLS itself has to say: an alert, the answer to a change of keys."""
        return self._out.read() if self._out.pending else b""

    def take(self) -> tuple[bytes, bool]:
        """What is decrypted of what was fed already."""
        plain = []
        try:
            while part := self._object.read(65536):
                plain.append(part)
        except ssl.SSLWantReadError:
            return b"".join(plain), False
        except ssl.SSLZeroReturnError:
            return b"".join(plain), True
        except ssl.SSLError:
            return b"".join(plain), True
        return b"".join(plain), True

    def write(self, data: bytes) -> bytes:
        self._object.write(data)
        return self._out.read()

    def close_notify(self) -> bytes:
        try:
            self._object.unwrap()
        except (ssl.SSLError, ValueError):
            pass
        return self._out.read()
