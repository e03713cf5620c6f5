"""Each row of the table of limits is crossed over a real socket, and a fresh client is served then."""

from __future__ import annotations

import json
import socket
import time

import pytest
from tidegate import command

PING = b'{"jsonrpc":"2.0","id":1,"method":"system.ping"}\n'


@command("any.long")
def long(size: int) -> str:
    return "x" * size


@command("any.back")
def back(value) -> object:
    return value


@command("push.me")
def push(call, count: int, size: int = 1000) -> int:
    frame = call.server.frame("event.test", {"text": "x" * size})
    return sum(call.connection.push(frame) for _ in range(count))


CONFIG = """
[server]
exempt = []
[[listen]]
address = "127.0.0.1:0"
"""


def code(reply: dict) -> int:
    return reply["error"]["data"]["code"]


@pytest.fixture
def start(inside):
    servers = []

    def start(listen: str = "", server: str = "", **options):
        config = f"[server]\nexempt = []\n{server}\n[[listen]]\naddress = '127.0.0.1:0'\n{listen}\n"
        servers.append(inside(config, commands=[long, back, push], **options))
        return servers[-1]

    yield start
    for one in servers:
        with one.raw() as fresh:
            assert fresh.ask("system.ping")["result"] == "pong"


def test_bytes_of_a_line(start):
    server = start("max_line_bytes = 1000")
    with server.raw() as raw:
        fits = b'{"jsonrpc":"2.0","id":1,"method":"any.back","params":["%s"]}'
        line = fits % (b"x" * (1000 - len(fits) + 2))
        assert len(line) == 1000
        raw.send(line + b"\n")
        assert len(raw.json()["result"]) == 942
        raw.send(PING + line + b" \n" + PING)
        assert raw.json()["result"] == "pong"  # what came before it is answered
        assert code(raw.json()) == 1606
        assert raw.closed()


def test_a_line_that_never_ends_is_cut_at_the_limit_and_not_buffered(start):
    server = start()
    with server.raw() as raw:
        raw.send(PING)
        raw.json()
        sent = 0
        try:
            for _ in range(1000):
                raw.send(b"x" * 65536)
                sent += 65536
        except OSError:
            pass
        assert sent < 30 * 1024 * 1024  # the server stopped reading; the rest waits in the kernel


def test_nesting_and_the_configured_depth(start):
    server = start("max_depth = 10")
    with server.raw() as raw:
        raw.send(b'{"jsonrpc":"2.0","id":1,"method":"any.back","params":[' + b"[" * 8 + b"]" * 8 + b"]}\n")
        assert "result" in raw.json()
        raw.send(b'{"jsonrpc":"2.0","id":1,"method":"any.back","params":[' + b"[" * 9 + b"]" * 9 + b"]}\n")
        assert code(raw.json()) == 1609
        raw.send(b'{"jsonrpc":"2.0","id":1,"method":"any.back","params":["' + b"[" * 99 + b'"]}\n')
        assert raw.json()["result"] == "[" * 99
        raw.send(b"[" * 60_000 + b"\n" + PING)
        assert code(raw.json()) == 1609
        assert raw.json()["result"] == "pong"


def test_requests_in_a_batch(start):
    server = start()
    one = PING.strip()
    with server.raw() as raw:
        raw.send(b"[" + b",".join([one] * 50) + b"]\n")
        assert len(raw.json()) == 50
        raw.send(b"[" + b",".join([one] * 51) + b"]\n" + PING)
        assert code(raw.json()) == 1607
        assert raw.json()["result"] == "pong"


def test_seconds_until_the_first_complete_line(start):
    server = start()
    with server.raw() as silent, server.raw() as slow, server.raw() as good:
        slow.send(b"{")
        good.send(PING)
        good.json()
        server.advance(9.5)
        slow.send(b'"')
        server.advance(0.6)
        for raw in (silent, slow):
            assert code(raw.json()) == 1612
            assert raw.closed()
        assert good.ask("system.ping")["result"] == "pong"


def test_seconds_from_the_first_byte_of_a_line_to_its_end(start):
    server = start()
    violations = server.events("protocol.violated")
    with server.raw() as raw:
        raw.send(PING)
        raw.json()
        server.advance(100)
        raw.send(b'{"jsonrpc"')
        for _ in range(9):  # a byte a second does not help
            server.advance(1)
            raw.send(b" ")
        server.advance(1.1)
        assert code(raw.json()) == 1612
        assert raw.closed()
    assert [(one.code, one.kind) for one in violations] == [(1612, "slow")]


def test_seconds_idle_between_lines(start):
    server = start()
    with server.raw() as idle, server.raw() as busy:
        idle.send(PING)
        idle.json()
        for _ in range(4):
            busy.send(PING)
            busy.json()
            server.advance(76)
        assert code(idle.json()) == 1611
        assert idle.closed()
        assert busy.ask("system.ping")["result"] == "pong"


def test_an_idle_limit_below_the_other_limits_holds_too(inside):
    @command("wait.for")
    def wait(call, seconds: float) -> None:
        call.server.clock.sleep(seconds)

    server = inside("[[listen]]\naddress = '127.0.0.1:0'\nidle_timeout_s = 2\n", commands=[wait])
    with server.raw() as raw:
        raw.send(b'{"jsonrpc":"2.0","id":1,"method":"wait.for","params":[5]}\n')
        server.advance(5)
        assert raw.json()["result"] is None
        server.advance(2.1)
        assert code(raw.json()) == 1611
        assert raw.closed()


def test_connections_from_one_address(start):
    server = start("max_per_address = 3")
    refused = server.events("connection.refused")
    held = [server.raw() for _ in range(3)]
    for one in held:
        assert one.ask("system.ping")["result"] == "pong"
    with server.raw() as fourth:
        assert code(fourth.json()) == 1409
        assert fourth.closed()
    with server.raw(source="127.0.0.9") as other:
        assert other.ask("system.ping")["result"] == "pong"
    assert [(one.address, one.prefix, one.code) for one in refused] == [("127.0.0.1", "127.0.0.1/32", 1409)]
    for one in held:
        one.close()
    server.run(lambda: None)


def test_exempt_networks_are_not_counted_by_address(inside):
    server = inside("[[listen]]\naddress = '127.0.0.1:0'\nmax_per_address = 2\n")
    held = [server.raw() for _ in range(5)]
    assert all(one.ask("system.ping")["result"] == "pong" for one in held)


def test_connections_in_all(start, eventually):
    server = start(server="max_connections = 3")
    held = [server.raw() for _ in range(3)]
    for one in held:
        one.ask("system.ping")
    with server.raw() as more:
        reply = more.json()
        assert code(reply) == 1308
        assert reply["error"]["data"]["retry_after"] > 0
        assert more.closed()
    with server.raw_admin() as door:  # the operator gets in all the same
        assert len(door.ask("system.connections")["result"]) == 4
    for one in held:
        one.close()
    eventually(lambda: not server.server.places.total)


def test_pushes_that_wait_for_a_slow_reader(start, eventually):
    server = start("outbox_bytes = 100000")
    closed = server.events("connection.closed")
    with server.raw() as raw:
        raw.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        raw.ask("system.ping")
        connection = next(iter(server.server.connections.values()))
        frame = server.server.frame("event.test", "x" * 10_000)

        def flood() -> int:
            return sum(connection.push(frame) for _ in range(2000))

        assert server.run(flood) < 2000
        eventually(lambda: closed)
    assert closed[0].reason == "slow reader"


def test_seconds_in_which_a_waiting_reply_makes_no_progress(start, eventually):
    server = start()
    closed = server.events("connection.closed")
    with server.raw() as raw, server.raw() as other:
        raw.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        line = b'{"jsonrpc":"2.0","id":1,"method":"any.long","params":[1000000]}\n'
        raw.send(line * 20)
        eventually(lambda: any(c.outbox for c in server.server.connections.values()))
        assert other.ask("system.ping")["result"] == "pong"  # nobody else waits for it
        server.advance(29)
        assert not closed
        server.advance(2)
        eventually(lambda: closed)
    assert closed[0].reason == "slow reader"


def test_a_reader_that_is_slow_and_reads_gets_everything(start):
    server = start()
    with server.raw() as raw:
        raw.send(b'{"jsonrpc":"2.0","id":1,"method":"any.long","params":[1000000]}\n' * 10)
        raw.shut()
        time.sleep(0.1)
        assert [len(json.loads(line)["result"]) for line in raw.rest().splitlines()] == [1_000_000] * 10


def test_bytes_of_a_reply(start):
    server = start("max_reply_bytes = 1000")
    with server.raw() as raw:
        assert "result" in raw.ask("any.long", [998])
        assert code(raw.ask("any.long", [1000])) == 1503


def test_bytes_of_an_id_characters_of_a_method_keys_of_an_object(start):
    server = start()
    with server.raw() as raw:
        assert code(raw.ask("system.ping", id="x" * 63)) == 1601
        assert code(raw.ask("m" * 65)) == 1605
        assert raw.ask("any.back", {"value": {str(n): 1 for n in range(256)}})["result"]
        assert code(raw.ask("any.back", {"value": {str(n): 1 for n in range(257)}})) == 1609


def test_seconds_for_a_tls_handshake_and_for_a_proxy_header(inside, tmp_path):
    import trustme

    ca = trustme.CA()
    certificate = ca.issue_cert("127.0.0.1")
    certificate.cert_chain_pems[0].write_to_path(tmp_path / "crt")
    certificate.private_key_pem.write_to_path(tmp_path / "key")
    server = inside(
        f"""
[[listen]]
address = "127.0.0.1:0"
proxy_from = ["127.0.0.0/8"]
[[listen]]
address = "127.0.0.1:0"
tls_cert = "{tmp_path}/crt"
tls_key = "{tmp_path}/key"
"""
    )
    with server.raw() as proxy, server.raw(listener=1) as tls:
        server.advance(3.1)
        assert proxy.closed()
        tls.send(b"\x16\x03\x01")
        server.advance(7)
        assert tls.closed()


def test_the_time_limits_are_halved_by_patience(start):
    server = start()
    with server.raw() as raw:
        server.run(lambda: setattr(server.server, "patience", 0.5))
        raw.send(PING)
        raw.json()
        server.advance(151)
        assert code(raw.json()) == 1611
