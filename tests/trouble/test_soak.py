"""200 clients misbehave in every way we know while others are served, and afterwards nothing is left of them.

TG_SOAK_S: seconds of the long run (60). TG_SOAK_SEED: to go the same ways again.
"""

from __future__ import annotations

import json
import os
import random
import re
import signal
import ssl
import struct
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import gevent
import pytest
import trustme
from gevent import socket
from gevent.ssl import SSLContext

HOSTILE, GOOD = 200, 3  # of the good ones so many on each listener
LONG_S = float(os.environ.get("TG_SOAK_S", "60"))
GONE = (OSError, EOFError, ssl.SSLError, ValueError)

SOURCE = """
import gc, os
import gevent
from tidegate import User, command

@command("any.long")
def long(size: int) -> str:
    return "x" * size

@command("wait.for", timeout=3)
def wait(seconds: float) -> str:
    gevent.sleep(seconds)
    return "waited"

@command("wait.stubborn", timeout=0.3)
def stubborn(times: int) -> str:
    for _ in range(times):
        try:
            gevent.sleep(5)
        except gevent.Timeout:
            pass
    return "at last"

@command("wait.thread", timeout=0.5, thread=True)
def thread(seconds: float) -> str:
    import time
    time.sleep(seconds)
    return "waited"

@command("log.in")
def log_in(call, seconds: float) -> None:
    gevent.sleep(seconds)
    user = User(f"u{id(call.connection) % 7}", "u", frozenset({"user"}))
    call.on_commit(lambda: call.connection.become(user))

@command("push.me")
def push(call, count: int, size: int = 10) -> int:
    for number in range(count):
        call.connection.push(call.server.frame("event.own", {"number": number, "pad": "x" * size}))
    return count

@command("push.all")
def push_all(call, count: int, size: int) -> int:
    frame = call.server.frame("event.all", "y" * size)
    def push():
        for _ in range(count):
            for connection in [c for c in call.server.connections.values() if c.kind != "admin"]:
                connection.push(frame)
            gevent.sleep(0)
    gevent.spawn(push)
    return count

@command("raise.some")
def raise_some(what: int) -> None:
    from tidegate.faults import SecurityViolation
    if what == 0:
        raise SecurityViolation
    raise (ValueError("x"), KeyError("y"), gevent.GreenletExit(), gevent.Timeout(1), RecursionError())[what - 1]

@command("look.me")
def me(call) -> str:
    return call.connection.id

@command("look.inside", requires="admin")
def look(call) -> dict:
    server = call.server
    gc.collect()
    return {
        "connections": sum(c.kind != "admin" for c in server.connections.values()),
        "places": server.places.total,
        "prefixes": len(server.places.by_prefix),
        "sessions": len(server.sessions),
        "threads busy": sum(pool.busy for pool in server.pools.values()),
        "descriptors": len(os.listdir("/proc/self/fd")),
        "greenlets": sum(isinstance(o, gevent.Greenlet) and not o.dead for o in gc.get_objects()),
        "watchers": gevent.get_hub().loop.activecnt,
    }
"""

LIMITS = """
max_per_address = 300
max_line_bytes = 8192
first_line_timeout_s = 1
line_timeout_s = 2
idle_timeout_s = 6
send_timeout_s = 5
outbox_bytes = 4194304
max_reply_bytes = 500000
"""


def request(method: str, params: Any = None, id: Any = 1, **members: Any) -> bytes:
    if params is not None:
        members["params"] = params
    return json.dumps({"jsonrpc": "2.0", "id": id, "method": method, **members}).encode() + b"\n"


def ask(sock: Any, method: str, params: Any) -> Any:
    """The result of one request on a socket that is used for nothing else."""
    sock.sendall(request(method, params))
    data = b""
    while not data.endswith(b"\n"):
        data += sock.recv(65536)
    return json.loads(data).get("result")


class Ways:
    """How a client gets in, on each of the listeners."""

    def __init__(self, server: Any, trust: SSLContext, folder: Path) -> None:
        self.port = [address.rpartition(":")[2] for address in server.addresses]
        self.paths = {"unix": str(folder / "soak.sock"), "admin": str(server.data / "admin.sock")}
        self.trust = trust
        self.kinds = ["tcp", "tls", "unix", "proxy", "many"]

    def plain(self, kind: str) -> Any:
        """Connected, and nothing said yet."""
        if kind in self.paths:
            sock = socket.socket(socket.AF_UNIX)
            sock.connect(self.paths[kind])
        else:
            sock = socket.create_connection(("127.0.0.1", int(self.port[self.kinds.index(kind)])))
        sock.settimeout(10)
        return sock

    def open(self, kind: str, header: bytes = b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n") -> Any:
        """Ready for requests."""
        sock = self.plain(kind)
        if kind == "proxy":
            sock.sendall(header)
        return self.trust.wrap_socket(sock, server_hostname="127.0.0.1") if kind == "tls" else sock


# --- those who misbehave --------------------------------------------------------------------------


def leave(sock: Any, chance: random.Random) -> None:
    """In one of the ways in which clients go."""
    way = chance.randrange(5)
    with suppress(*GONE):
        if way == 0:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        elif way == 1:
            sock.shutdown(socket.SHUT_WR)
            drink(sock, chance)
        elif way == 2:
            gevent.sleep(chance.random() * 2.5)  # half open: the server must end it
        elif way == 3 and hasattr(sock, "unwrap"):
            sock.unwrap()
    sock.close()


def drink(sock: Any, chance: random.Random) -> None:
    """Read what comes for a while, sometimes by the spoon."""
    size = chance.choice([1, 100, 65536])
    with suppress(*GONE):
        for _ in range(chance.randrange(200)):
            if not sock.recv(size):
                return
            if size < 65536:
                gevent.sleep(0.001)


def nonsense(chance: random.Random) -> bytes:
    """Lines that no client should send."""
    ping = request("system.ping")
    return chance.choice(
        [
            lambda: chance.randbytes(chance.randrange(1, 3000)),
            lambda: b"\0" * 500 + b"\n",
            lambda: b"\r\n" * 2000,
            lambda: b"x" * 9000,
            lambda: b"[" * 4000 + b"\n",
            lambda: b"[[[[[[" + b'"' + b'\\"' * 4000 + b"\n",
            lambda: b"[" + b",".join([ping.strip()] * 51) + b"]\n",
            lambda: b"[1,2,{}]\n[]\n{}\nnull\n",
            lambda: b'{"jsonrpc":"2.0","id":"' + b"i" * 3000 + b'","method":"system.ping"}\n',
            lambda: request("m" * 3000),
            lambda: request("system.pimg", {f"k{n}": n for n in range(300)}),
            lambda: request("system.echo", {f"k{n}": n for n in range(200)}),
            lambda: b'{"jsonrpc":"2.0","id":1,"method":"system.echo","params":["\xff\xfe"]}\n',
            lambda: b'{"jsonrpc":"2.0","id":1,"method":"system.echo","params":["\\ud800"]}\n',
            lambda: b'{"jsonrpc":"2.0","id":1,"method":"system.echo","params":["\xc3' + b"",
            lambda: b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
            lambda: b"\x16\x03\x01\x02\x00\x01",
            lambda: b"PROXY TCP4 1.2.3.4 1.2.3.4 1 2\r\n",
            lambda: ping * 300,
            lambda: ping[: chance.randrange(len(ping))],
        ]
    )()


def work(chance: random.Random) -> bytes:
    """Requests that are allowed, if not nice."""
    line = chance.choice(
        [
            lambda: request("wait.for", [chance.random()]),
            lambda: request("wait.for", [10], timeout=chance.random() / 2),
            lambda: request("wait.stubborn", [1]),
            lambda: request("wait.thread", [chance.random() / 5]),
            lambda: request("log.in", [chance.random() / 5]),
            lambda: request("any.long", [chance.randrange(600_000)]),
            lambda: request("push.me", [chance.randrange(200), 500]),
            lambda: request("push.all", [3, chance.randrange(3000)]),
            lambda: request("raise.some", [chance.randrange(6)]),
            lambda: request("rpc.discover"),
            lambda: request("system.echo", ["x"]).replace(b'"id": 1, ', b""),
        ]
    )()
    return b"[" + b",".join([line.strip()] * chance.randrange(1, 4)) + b"]\n" if chance.random() < 0.2 else line


def headers(chance: random.Random) -> bytes:
    """PROXY headers, right and wrong, and cut anywhere."""
    address = chance.randbytes(4)
    text = b"PROXY TCP4 %d.%d.%d.%d 192.0.2.2 1 2\r\n" % tuple(address)
    binary = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c" + address + b"\xc0\0\2\2\0\1\0\2"
    header = chance.choice([text, binary])
    return header if chance.random() < 0.5 else header[: chance.randrange(len(header))]


def misbehave(ways: Ways, chance: random.Random) -> None:
    """One connection's life."""
    kind = chance.choice(ways.kinds)
    sock = None
    try:
        way = chance.randrange(8)
        if way < 2:  # before anything was settled: half a handshake, half a header
            sock = ways.plain(kind)
            if chance.random() < 0.7:
                sock.sendall(headers(chance) if kind == "proxy" else nonsense(chance))
        else:
            sock = ways.open(kind, headers(chance))
            for _ in range(chance.randrange(6)):
                data = nonsense(chance) if chance.random() < 0.3 else work(chance) * chance.choice([1, 1, 5])
                cut = chance.randrange(len(data) + 1)
                sock.sendall(data[:cut])
                if chance.random() < 0.2:
                    gevent.sleep(chance.random() / 5)
                sock.sendall(data[cut:])
                if chance.random() < 0.5:
                    drink(sock, chance)
            if kind == "tls" and chance.random() < 0.2:
                raw = socket.socket(fileno=os.dup(sock.fileno()))
                raw.sendall(chance.randbytes(100))  # not TLS
                raw.close()
    except GONE:
        pass
    finally:
        if sock is not None:
            leave(sock, chance)


# --- those who behave -----------------------------------------------------------------------------


class Good:
    """A client that checks each of its replies."""

    def __init__(self, ways: Ways, kind: str, chance: random.Random) -> None:
        self.sock = ways.open(kind)
        self.chance = chance
        self.kind = kind
        self.lines = self.read()
        self.next = self.done = 0
        self.sock.sendall(request("look.me", id=self.id()))
        self.connection = self.replies(1)[1]

    def read(self) -> Iterator[Any]:
        rest = b""
        while data := self.sock.recv(65536):
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                message = json.loads(line)
                if type(message) is list or message.get("method") != "event.all":  # somebody else's push
                    yield message

    def id(self) -> int:
        self.next += 1
        return self.next

    def replies(self, number: int) -> dict[Any, Any]:
        """By id, each once; in order where the listener keeps it."""
        found = [next(self.lines) for _ in range(number)]
        ids = [reply["id"] for reply in found]
        assert len(set(ids)) == number
        if self.kind != "many":
            assert ids == sorted(ids)
        return {reply["id"]: reply.get("result", reply.get("error")) for reply in found}

    def echo(self) -> None:
        wanted = {
            self.id(): f"{self.kind} {self.next} {self.chance.random()}" for _ in range(self.chance.randrange(1, 80))
        }
        self.sock.sendall(b"".join(request("system.echo", [text], id) for id, text in wanted.items()))
        assert self.replies(len(wanted)) == wanted

    def batch(self) -> None:
        wanted = {self.id(): str(self.chance.random()) for _ in range(20)}
        parts = [request("system.echo", [text], id).strip() for id, text in wanted.items()]
        self.sock.sendall(b"[" + b",".join(parts) + b"]\n")
        assert {reply["id"]: reply["result"] for reply in next(self.lines)} == wanted

    def long(self) -> None:
        sizes = {self.id(): self.chance.randrange(400_000) for _ in range(3)}
        self.sock.sendall(b"".join(request("any.long", [size], id) for id, size in sizes.items()))
        assert {id: len(text) for id, text in self.replies(3).items()} == sizes

    def pushes(self) -> None:
        self.sock.sendall(request("push.me", [30], self.id()))
        assert [next(self.lines)["params"]["number"] for _ in range(30)] == list(range(30))
        assert self.replies(1) == {self.next: 30}

    def wait(self) -> None:
        self.sock.sendall(request("wait.for", [0.05], self.id()) + request("wait.for", [9], self.id(), timeout=0.1))
        replies = self.replies(2)
        assert replies[self.next - 1] == "waited"
        assert replies[self.next]["data"]["code"] == 1303

    def live(self, over: Callable[[], bool]) -> None:
        while not over():
            self.chance.choice([self.echo, self.batch, self.long, self.pushes, self.wait])()
            self.done += 1
        self.sock.shutdown(socket.SHUT_WR) if self.kind != "tls" else self.sock.close()
        if self.kind != "tls":
            assert [*self.lines] == []
        self.sock.close()


class Siege(threading.Thread):
    """HOSTILE clients and an operator who closes some, for `seconds`.

    In a thread of its own: in one thread OpenSSL mistakes the end of one connection for another's (unwrap).
    """

    def __init__(self, server: Any, ways: Ways, chance: random.Random, seconds: float, spared: set[str]) -> None:
        super().__init__()
        self.server, self.ways, self.chance, self.spared = server, ways, chance, spared
        self.end = time.monotonic() + seconds
        self.failed: BaseException | None = None
        self.start()

    def over(self) -> bool:
        gevent.sleep(0)
        return time.monotonic() > self.end

    def run(self) -> None:
        own = [random.Random(self.chance.random()) for _ in range(HOSTILE + 1)]
        hostile = [gevent.spawn(self.misbehave, one) for one in own[1:]]
        operator = gevent.spawn(self.operate, own[0])
        operator.join()
        self.failed = operator.exception
        gevent.killall(hostile, timeout=20)

    def misbehave(self, own: random.Random) -> None:
        while not self.over():
            misbehave(self.ways, own)

    def operate(self, own: random.Random) -> None:
        """Close clients in the midst of whatever they do, and read the configuration again."""
        with self.ways.plain("admin") as operator:
            while not self.over():
                gevent.sleep(own.random() / 10)
                listed = ask(operator, "system.connections", {"limit": 1000})
                found = {one["id"] for one in listed if one["kind"] != "admin"} - self.spared
                for id in own.sample(sorted(found), min(3, len(found))):
                    ask(operator, "system.close", {"id": id, "cancel": own.random() < 0.5})
                if own.random() < 0.2:
                    self.server.signal(signal.SIGHUP)


@pytest.fixture
def fortress(served, tmp_path):
    """A server with a listener of each kind, and the ways in."""
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1")
    certificate.cert_chain_pems[0].write_to_path(tmp_path / "crt")
    certificate.private_key_pem.write_to_path(tmp_path / "key")
    tcp = f"[[listen]]\naddress = '127.0.0.1:0'\n{LIMITS}\n"
    server = served(
        f"[server]\nexempt = []\nmax_connections = 400\n{tcp}"
        f"{tcp}tls_cert = '{tmp_path}/crt'\ntls_key = '{tmp_path}/key'\n"
        f"[[listen]]\naddress = 'unix:{tmp_path}/soak.sock'\n{LIMITS}\n"
        f"{tcp}proxy_from = ['127.0.0.0/8']\n{tcp}max_in_flight = 8\n",
        source=SOURCE,
        env={"PYTHONFAULTHANDLER": "1"},
    )
    trust = SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    authority.configure_trust(trust)
    return server, Ways(server, trust, tmp_path)


@pytest.fixture
def chance(request):
    seed = int(os.environ.get("TG_SOAK_SEED") or zlib.crc32(request.node.name.encode()))
    print(f"TG_SOAK_SEED={seed}")
    return random.Random(seed)


def sound(log: str) -> bool:
    """Whether no greenlet died in it."""
    return re.search("<Greenlet at|background task died|<Connection .*failed", log) is None


@pytest.mark.parametrize(
    "seconds", [5.0, pytest.param(LONG_S, marks=[pytest.mark.slow, pytest.mark.timeout(LONG_S + 120)])]
)
def test_clients_that_misbehave_harm_nobody_and_leave_nothing(fortress, chance, eventually, seconds):
    server, ways = fortress
    with server.admin() as admin:

        def memory() -> int:
            return int(Path(f"/proc/{server.pid}/statm").read_text().split()[1]) * 4096

        def settled() -> dict[str, Any] | None:
            found = admin.call("look.inside")
            return found if found["connections"] == found["threads busy"] == 0 else None

        for kind in ways.kinds:  # what is made when first needed is made now
            Good(ways, kind, chance).live(iter([False] * 10 + [True]).__next__)
        for sock in [ways.open("tcp") for _ in range(20)]:
            sock.sendall(request("wait.thread", [0.1]))
            sock.close()
        admin.call("system.reload")
        before = eventually(settled)

        good = [Good(ways, kind, random.Random(chance.random())) for kind in ways.kinds for _ in range(GOOD)]
        siege = Siege(server, ways, chance, seconds, {one.connection for one in good})
        lives = [gevent.spawn(one.live, siege.over) for one in good]
        gevent.joinall(lives)
        siege.join()
        for one in lives:
            one.get()
        assert siege.failed is None
        with suppress(AssertionError):  # what is left is told below
            eventually(lambda: settled() == before, 20)
        assert settled() == before
        assert memory() < 150_000_000
    assert sound(server.log())


def test_a_server_that_is_stopped_amid_all_this_ends_well(fortress, chance):
    server, ways = fortress
    siege = Siege(server, ways, chance, 30, set())
    gevent.sleep(2)
    assert server.stop() == 0
    siege.end = 0
    siege.join()
    assert sound(server.log())
