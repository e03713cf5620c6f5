"""Connections that end, wait and flood at the worst moment."""

from __future__ import annotations

import asyncio
import ctypes
import ctypes.util
import itertools
import json
import socket
import threading

import gevent
import pytest
import trustme
from tidegate import Plugin, User, command, hookimpl

PING = b'{"jsonrpc":"2.0","id":1,"method":"system.ping"}\n'
BOB = User("u1", "bob", frozenset({"user"}))


def request(method: str, params: object = None, id: object = 1) -> bytes:
    return json.dumps({"jsonrpc": "2.0", "id": id, "method": method, "params": params}).encode() + b"\n"


@command("wait.for", timeout=1000)
def wait(call, seconds: float) -> str:
    call.server.clock.sleep(seconds)
    return "waited"


@command("wait.short", timeout=5)
def short(call, seconds: float) -> str:
    call.server.clock.sleep(seconds)
    return "waited"


@command("log.in")
def log_in(call, seconds: float) -> str:
    call.server.clock.sleep(seconds)
    call.on_commit(lambda: call.connection.become(BOB))
    return "in"


@command("any.long")
def long(size: int) -> str:
    return "x" * size


@command("raise.base")
def raise_base(what: str) -> None:
    raise {"cancelled": asyncio.CancelledError(), "group": BaseExceptionGroup("many", [KeyboardInterrupt()])}[what]


COMMANDS = [wait, short, log_in, long, raise_base]


def listen(**limits: object) -> str:
    rows = (f"{key} = {value!r}" for key, value in limits.items())
    return "\n".join(["[[listen]]", "address = '127.0.0.1:0'", *rows])


# --- time -----------------------------------------------------------------------------------------


def test_a_line_that_came_half_with_slow_calls_before_it_is_not_late(inside):
    server = inside(commands=COMMANDS)
    with server.raw() as raw:
        raw.send(PING + request("wait.for", [20]) + PING[:20])
        raw.json()
        server.advance(21)
        assert raw.json()["result"] == "waited"
        raw.send(PING[20:])
        assert raw.json()["result"] == "pong"
        raw.send(PING[:20])
        server.advance(9.9)
        raw.send(PING[20:])
        assert raw.json()["result"] == "pong"


def test_a_client_is_not_idle_while_its_call_runs(inside):
    server = inside(listen(idle_timeout_s=10), commands=COMMANDS)
    with server.raw() as raw:
        raw.send(request("wait.for", [39]))
        for _ in range(4):
            server.advance(9.8)
        assert raw.json()["result"] == "waited"
        server.advance(5)
        assert raw.ask("system.ping")["result"] == "pong"
        server.advance(10.1)
        assert raw.json()["error"]["code"] == 1611


# --- ends -----------------------------------------------------------------------------------------


def test_an_operator_who_closes_a_connection_ends_its_whole_batch(inside, eventually):
    server = inside(commands=COMMANDS)
    with server.raw() as raw, server.admin() as admin:
        raw.send(b"[" + b",".join(request("wait.for", [900], id=n).strip() for n in range(5)) + b"]\n")
        (one,) = eventually(lambda: [c for c in admin.call("system.connections") if c["kind"] == "tcp"])
        eventually(lambda: admin.call("system.gauges")["core.calls_running"] == 2)
        assert admin.call("system.close", id=one["id"], cancel=True)
        assert [reply["error"]["code"] for reply in raw.json()] == [1311]
        assert raw.closed()


@pytest.mark.parametrize("what", ["cancelled", "group"])
def test_whatever_a_command_raises_is_answered_and_the_connection_lives_on(inside, what):
    server = inside(commands=COMMANDS)
    with server.raw() as raw:
        assert raw.ask("raise.base", [what])["error"]["data"]["code"] == 1304
        assert raw.ask("system.ping")["result"] == "pong"


def test_calls_of_a_client_that_vanished_still_have_their_deadline(inside, eventually):
    server = inside(listen(max_in_flight=4), commands=COMMANDS)
    calls = server.events("call.finished")
    with server.raw() as raw:
        raw.send(PING + request("wait.short", [900]) * 2)
        raw.json()
        eventually(lambda: server.run(server.server.gauges)["core.calls_running"] == 2)
        raw.reset()
        server.advance(0.1)
        server.advance(6)
        assert [call.fault.code for call in calls if call.command.name == "wait.short"] == [1303, 1303]
    eventually(lambda: not server.server.connections)
    assert (server.server.places.total, server.server.places.by_prefix) == (0, {})


def test_a_login_that_ends_after_its_client_vanished_leaves_no_session(inside, eventually):
    server = inside(listen(max_in_flight=4), commands=COMMANDS)
    with server.raw() as raw:
        raw.send(request("log.in", [3]))
        eventually(lambda: server.run(server.server.gauges)["core.calls_running"] == 1)
        raw.reset()
        server.advance(0.1)
        server.advance(4)
    eventually(lambda: not server.server.connections)
    assert server.server.sessions == {}


def test_a_call_that_begins_while_its_connection_closes_takes_nothing_from_what_is_still_to_be_said(inside):
    server = inside(listen(max_in_flight=4, max_line_bytes=1024), commands=COMMANDS)
    with server.raw() as raw:
        raw.send(PING + request("wait.for", [5]) + b"x" * 2000 + b"\n")
        assert raw.json()["result"] == "pong"
        server.advance(5)
        assert raw.json()["result"] == "waited"
        assert raw.json()["error"]["code"] == 1606
        assert raw.closed()


# --- many at once ---------------------------------------------------------------------------------


class Crowd:
    """Clients whose requests the server finds all at once."""

    def __init__(self, server, count: int) -> None:
        self.server = server
        self.raws = [server.raw() for _ in range(count)]
        for raw in self.raws:
            assert raw.ask("system.ping")["result"] == "pong"

    def send(self, *requests: bytes) -> None:
        """One for each client."""
        gate = threading.Event()
        busy = threading.Thread(target=self.server.run, args=(gate.wait, 30))
        busy.start()
        for raw, data in zip(self.raws, requests, strict=True):
            raw.send(data)
        gate.set()
        busy.join()


def test_the_replies_to_a_crowd_wait_for_nobodys_call(inside):
    server = inside(commands=COMMANDS)
    crowd = Crowd(server, 40)
    crowd.send(*[PING + request("wait.for", [900])] * 20, *[PING, PING * 3] * 10)
    for waiting in crowd.raws[:20]:
        assert waiting.json()["result"] == "pong"
    for raw in crowd.raws[20::2]:
        assert raw.json()["result"] == "pong"
    for raw in crowd.raws[21::2]:
        assert [raw.json()["result"] for _ in range(3)] == ["pong"] * 3
    server.advance(900)
    for waiting in crowd.raws[:20]:
        assert waiting.json()["result"] == "waited"


def test_one_of_a_crowd_that_does_not_take_its_replies_is_closed_and_the_others_are_served(inside, eventually):
    server = inside(listen(send_timeout_s=30, idle_timeout_s=86400), commands=COMMANDS)
    closed = server.events("connection.closed")
    crowd = Crowd(server, 20)
    slow, *others = crowd.raws
    connection = next(iter(server.server.connections.values()))
    server.run(connection.sock.setsockopt, socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    slow.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    crowd.send(request("any.long", [15_000]) * 30, *[PING] * 19)
    for raw in others:
        assert raw.json()["result"] == "pong"
    eventually(lambda: server.run(lambda: len(connection.outbox)))
    # Again, for the kernel may take some more of it meanwhile.
    eventually(lambda: server.advance(31) or [event.reason for event in closed] == ["slow reader"])
    for raw in others:
        assert raw.ask("system.ping")["result"] == "pong"


# --- floods ---------------------------------------------------------------------------------------


def test_large_replies_to_pipelined_requests_wait_for_their_reader_one_by_one(inside, eventually):
    server = inside(commands=COMMANDS)
    with server.raw() as raw:
        raw.send(request("any.long", [1_000_000]) * 32)
        (connection,) = eventually(lambda: list(server.server.connections.values()))
        eventually(lambda: server.run(lambda: len(connection.outbox)))
        assert server.run(lambda: len(connection.outbox) + sum(map(len, connection.out))) < 3_000_000
        assert [len(raw.json()["result"]) for _ in range(32)] == [1_000_000] * 32


def test_a_flood_of_nonsense_gives_others_their_turn_where_calls_run_at_once(inside):
    server = inside(listen(max_in_flight=8), virtual=False)
    turns: list[int] = []

    def count_turns() -> None:
        while True:
            turns.append(len(refused))
            gevent.sleep(0)

    refused = server.events("protocol.violated")
    with server.raw() as raw:
        counting = server.run(gevent.spawn, count_turns)
        hear = threading.Thread(target=raw.rest)
        hear.start()
        raw.send(b"x\n" * 8192)
        raw.shut()
        hear.join()
        server.run(counting.kill)
    assert len(refused) == 8192
    assert max(after - before for before, after in itertools.pairwise(turns)) <= 64


@pytest.fixture
def openssl(need):
    """OpenSSL itself: Python's module has no word for what this client does."""
    path = ctypes.util.find_library("ssl")
    need("libssl", ok=path is not None, why="libssl is not on this machine")
    library = ctypes.CDLL(path)
    for name in ("TLS_client_method", "SSL_CTX_new", "SSL_new"):
        getattr(library, name).restype = ctypes.c_void_p
    return library


def test_a_client_that_only_renews_its_keys_costs_no_memory(inside, openssl, tmp_path, eventually):
    certificate = trustme.CA().issue_cert("127.0.0.1")
    certificate.cert_chain_pems[0].write_to_path(tmp_path / "crt")
    certificate.private_key_pem.write_to_path(tmp_path / "key")
    server = inside(listen(tls_cert=f"{tmp_path}/crt", tls_key=f"{tmp_path}/key"), virtual=False)
    pointer = ctypes.c_void_p
    client = pointer(openssl.SSL_new(pointer(openssl.SSL_CTX_new(pointer(openssl.TLS_client_method())))))
    with server.raw() as raw:
        raw.sock.settimeout(None)
        openssl.SSL_set_fd(client, raw.sock.fileno())
        assert openssl.SSL_connect(client) == 1
        assert openssl.SSL_write(client, PING, len(PING)) == len(PING)
        (connection,) = server.server.connections.values()
        raw.sock.settimeout(0.5)
        asked = 0
        # Each wants an answer that is never read: at some time the server reads no more.
        while asked < 200_000 and openssl.SSL_key_update(client, 1) == 1 and openssl.SSL_do_handshake(client) == 1:
            asked += 1
        assert asked > 1000
        assert server.run(lambda: connection.tls._out.pending + len(connection.outbox)) < 100_000


# --- the operator's tools -------------------------------------------------------------------------


def test_two_operators_who_measure_a_command_at_once_leave_it_as_it_was(inside):
    server = inside(commands=COMMANDS)
    route = server.server.routes["system.ping"]
    before = route.proceed
    jobs = server.run(lambda: [gevent.spawn(server.server.measure, route, calls, 20.0) for calls in (1, 3)])
    with server.raw() as raw:
        for _ in range(2000):
            raw.ask("system.ping")
            if all(job.ready() for job in jobs):
                break
    assert [job.value["calls"] >= calls for job, calls in zip(jobs, (1, 3), strict=True)] == [True, True]
    assert route.proceed is before


class Picky(Plugin):
    """Can't decorate under some settings."""

    ring = "observe"
    settings = {"fine": {"type": "boolean", "default": True}}

    @hookimpl
    def tidegate_decorate(self, command, proceed):
        if not self.config.fine:
            raise RuntimeError("not with these")
        return None


def test_a_reload_that_a_decorator_refuses_changes_nothing(inside):
    server = inside("[plugins.picky]\nfine = true\n", plugins={"picky": Picky})
    before = server.server.settings
    with server.admin() as admin:
        server._config.write_text("[server]\nmax_connections = 7\n[plugins.picky]\nfine = false\n")
        with pytest.raises(Exception, match="not with these"):
            admin.call("system.reload")
        assert server.server.settings is before
        assert server.server.registry.plugins["picky"].config.fine is True
        server._config.write_text("[server]\nmax_connections = 7\n")
        assert admin.call("system.reload") == ["server.max_connections"]


def test_reloads_at_once_take_the_newest_configuration(inside, tmp_path):
    server = inside(virtual=False)
    server._config.write_text("[server]\nmax_connections = 1\n")
    slow = server.server.life.reread
    first = threading.Event()

    def stuck() -> object:
        raw = slow()
        if not first.is_set():
            first.set()
            released.wait(10)
        return raw

    released = threading.Event()
    server.server.life.reread = stuck
    jobs = [server.run(gevent.spawn, server.server.reload, "a")]
    assert first.wait(10)
    server._config.write_text("[server]\nmax_connections = 2\n")
    jobs.append(server.run(gevent.spawn, server.server.reload, "b"))
    server.run(gevent.sleep, 0.3)
    released.set()
    server.run(gevent.joinall, jobs)
    assert server.server.settings.server.max_connections == 2
