"""The sockets that the server listens on, and who may come in."""

from __future__ import annotations

import _socket
import errno
import fcntl
import ipaddress
import os
import select
import socket
import stat
import struct
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gevent import Greenlet
from gevent.monkey import get_original
from gevent.server import StreamServer

from tidegate.address import parse_address
from tidegate.connection import SocketConnection
from tidegate.faults import SystemError
from tidegate.model import OPERATOR
from tidegate.tls import server_context

if TYPE_CHECKING:
    import ssl

    from tidegate.server import Server

BACKLOG = 4096  # gevent's 128 is too small for a burst of connects
SCARCE_S = 1.0  # so long there must have been descriptors, or the log would flicker
_SCARCE = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}
_get_ident = get_original("_thread", "get_ident")
_poll = get_original("select", "poll")  # gevent's would switch, and this is the hub
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class Networks:
    """A set of networks that is asked for single addresses."""

    def __init__(self, texts: Iterable[str]) -> None:
        self._by_version: dict[int, list[tuple[int, int]]] = {4: [], 6: []}
        for text in texts:
            network = ipaddress.ip_network(text, strict=False)
            self._by_version[network.version].append((int(network.network_address), int(network.netmask)))

    def __contains__(self, packed: bytes) -> bool:
        """`packed` is 4 or 16 bytes."""
        number = int.from_bytes(packed, "big")
        for base, mask in self._by_version[4 if len(packed) == 4 else 6]:  # noqa: SIM110 (any() takes twice as long)
            if number & mask == base:
                return True
        return False

    def __bool__(self) -> bool:
        return any(self._by_version.values())


def packed_address(address: str) -> bytes:
    """4 or 16 bytes; an IPv4 address inside an IPv6 one counts as IPv4. Raises OSError for other text."""
    if ":" not in address:
        return socket.inet_pton(socket.AF_INET, address)
    packed = socket.inet_pton(socket.AF_INET6, address.partition("%")[0])
    return packed[12:] if packed[:12] == bytes(10) + b"\xff\xff" else packed


class Listener(StreamServer):
    """One `[[listen]]`: accepts, and gives each connection its greenlet."""

    def __init__(self, server: Server, limits: Any, sock: socket.socket, kind: str, name: str) -> None:
        super().__init__(sock, handle=lambda *_: None)
        self.server = server
        self.limits = limits
        self.kind = kind
        self.name = name
        self.context: ssl.SSLContext | None = None
        self.proxies = Networks(limits.proxy_from)
        self.thread = _get_ident()  # where its connections live
        self.scarce = False
        self.scarce_at = 0.0
        if limits.tls_cert:
            self.context = context_of(limits)

    def trusts(self, address: str | None) -> bool:
        """Whether this peer is a proxy that says who its clients are."""
        if not self.proxies:
            return False
        return address is not None and packed_address(address) in self.proxies

    def do_read(self) -> tuple[Any, str | None] | None:  # type: ignore[override]
        try:
            fd, peer = self.socket._accept()  # type: ignore[attr-defined]
        except BlockingIOError:
            return None
        except OSError as error:
            if error.errno not in _SCARCE:
                if error.errno != errno.ECONNABORTED:
                    raise
                return None
            self._pause_or_spend(error)
            return None
        # The plain C socket: gevent's own would make two watchers that this loop does not use.
        sock = _socket.socket(self.socket.family, self.socket.type, 0, fd)
        sock.setblocking(False)
        return sock, peer[0] if isinstance(peer, tuple) else None

    def _pause_or_spend(self, error: OSError) -> None:
        """Out of descriptors: stop accepting, say so once, and look again in a while; the operator gets the reserve."""
        waiting = _poll()
        waiting.register(self.socket.fileno(), select.POLLIN)
        if not waiting.poll(0):  # accept says EMFILE also when nobody waits
            return
        if self.kind == "admin" and self.server.spend_reserve():
            return  # the loop comes here again
        self.scarce_at = self.server.clock.now()
        if not self.scarce:
            self.scarce = True
            self.server.log.error("%s: can't accept (%s); waiting for descriptors", self.name, error.strerror)
        self.stop_accepting()
        self._timer: Any = self.loop.timer(0.2)
        self._timer.start(self._start_accepting_if_started)  # type: ignore[attr-defined, call-arg]

    def tell_recovered(self) -> None:
        """Say that there are descriptors again, once there have been for a while: asked every second."""
        if self.scarce and self.server.clock.now() > self.scarce_at + SCARCE_S:
            self.scarce = False
            self.server.log.warning("%s: accepting again", self.name)

    def do_handle(self, sock: Any, address: str | None) -> None:
        """In the hub. A connection that is refused here costs no greenlet."""
        server = self.server
        connection = SocketConnection(server, self, sock, address)
        if self.kind == "admin":
            if not _is_operator(sock):
                sock.close()
                return
            connection.user = OPERATOR
        elif server.draining:
            sock.close()
            return
        elif not server.has_place(connection):
            return
        elif not self.trusts(address) and not server.has_room(connection):
            server.places.total -= 1
            sock.close()
            return
        server.connections[connection.id] = connection
        Greenlet(connection.serve).start()


def context_of(limits: Any) -> ssl.SSLContext:
    ca = Path(limits.client_ca) if limits.client_ca else None
    return server_context(Path(limits.tls_cert), Path(limits.tls_key), ca)


def _is_operator(sock: Any) -> bool:
    """Root, or the user that the server runs as (SO_PEERCRED: pid, uid, gid)."""
    _, uid, _ = struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    return uid in (0, os.getuid())


def open_socket(text: str, inherited: dict[str, socket.socket]) -> tuple[socket.socket, str]:
    """A listening socket and its printable address. Raises OSError."""
    address = parse_address(text)
    if address.kind == "fd":
        sock = inherited[address.path or ""]
        sock.setblocking(False)
        return sock, text
    if address.kind == "unix":
        return bind_unix(Path(address.path or ""), 0o117), text
    family = socket.AF_INET6 if ":" in (address.host or "") else socket.AF_INET
    infos = socket.getaddrinfo(address.host or None, address.port, family, socket.SOCK_STREAM, 0, socket.AI_PASSIVE)
    sock = _gevent_socket(infos[0][0])
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # accepted sockets inherit it on Linux
    if family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    try:
        sock.bind(infos[0][4])
        sock.listen(BACKLOG)
    except OSError:
        sock.close()
        raise
    sock.setblocking(False)
    host, port = sock.getsockname()[:2]
    return sock, f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def bind_unix(path: Path, umask: int) -> socket.socket:
    """A listening Unix socket in place of a dead one; a path that is too long goes through the folder's descriptor."""
    if path.exists():
        if not stat.S_ISSOCK(path.stat().st_mode):
            raise OSError(errno.EEXIST, "there is a file that is no socket", str(path))
        if _answers(path):
            raise OSError(errno.EADDRINUSE, "another server listens there", str(path))
        path.unlink()
    path.parent.mkdir(parents=True, exist_ok=True)
    sock = _gevent_socket(socket.AF_UNIX)
    before = os.umask(umask)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        sock.bind(_short(path, folder))
        sock.listen(BACKLOG)
    except OSError:
        sock.close()
        raise
    finally:
        os.close(folder)
        os.umask(before)
    sock.setblocking(False)
    return sock


def _short(path: Path, folder: int) -> str:
    """sun_path holds 107 bytes."""
    return str(path) if len(os.fsencode(path)) < 108 else f"/proc/self/fd/{folder}/{path.name}"


def _answers(path: Path) -> bool:
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with socket.socket(socket.AF_UNIX) as probe:
            probe.connect(_short(path, folder))
    except OSError:
        return False
    finally:
        os.close(folder)
    return True


def _gevent_socket(family: int) -> socket.socket:
    from gevent import socket as gevent_socket

    return gevent_socket.socket(family, socket.SOCK_STREAM)


class DataFolder:
    """Everything that the server writes lies here; one server at a time."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock: int | None = None

    def take(self) -> None:
        """Make the folder and lock it. Raises SystemError when another server has it."""
        self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            raise SystemError(f"another server uses the folder {self.path}") from None
        self._lock = lock

    def give_back(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


class Places:
    """Counts connections, in all and by address; both are bounded."""

    def __init__(self) -> None:
        self.total = 0
        self.by_prefix: dict[bytes, int] = {}

    def enter(self, prefix: bytes | None) -> None:
        if prefix is not None:
            self.by_prefix[prefix] = self.by_prefix.get(prefix, 0) + 1

    def leave(self, prefix: bytes | None) -> None:
        if prefix is not None and prefix in self.by_prefix:
            if self.by_prefix[prefix] > 1:
                self.by_prefix[prefix] -= 1
            else:
                del self.by_prefix[prefix]
