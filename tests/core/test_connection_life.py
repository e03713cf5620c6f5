"""A connection from its first byte to its last, in every kind: plain, TLS, Unix, behind a proxy."""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import struct
import threading
import time

import pytest
import trustme
from tidegate import Plugin, command, hookimpl
from tidegate.faults import AddressBlocked
from tidegate.testing.raw import Raw

PING = b'{"jsonrpc":"2.0","id":1,"method":"system.ping"}\n'


@command("any.long")
def long(size: int) -> str:
    return "x" * size


@command("who.am_i")
def who(call) -> dict:
    c = call.connection
    return {
        "address": c.address,
        "prefix": c.prefix.hex() if c.prefix else None,
        "kind": c.kind,
        "exempt": c.exempt,
        "subject": dict(rdn[0] for rdn in c.certificate["subject"]) if c.certificate else None,
    }


@command("push.me")
def push(call, count: int, size: int = 10) -> int:
    frame = call.server.frame("event.test", "x" * size)
    return sum(call.connection.push(frame) for _ in range(count))


@command("push.progress")
def progress(call) -> str:
    for done in (50, 100):
        call.connection.push(call.server.frame("event.progress", done))
        call.server.clock.sleep(10)
    return "done"


@command("wait.for")
def wait(call, seconds: float) -> str:
    call.server.clock.sleep(seconds)
    return "waited"


COMMANDS = [long, who, push, progress, wait]


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


@pytest.fixture
def files(authority, tmp_path):
    """Writes a certificate for 127.0.0.1 and gives the keys of a TLS listener."""
    certificate = authority.issue_cert("127.0.0.1", common_name="server")
    certificate.cert_chain_pems[0].write_to_path(tmp_path / "crt")
    certificate.private_key_pem.write_to_path(tmp_path / "key")
    authority.cert_pem.write_to_path(tmp_path / "ca")
    return f'tls_cert = "{tmp_path}/crt"\ntls_key = "{tmp_path}/key"\n'


def tls(server, authority, listener=0, certificate=None, version=None) -> Raw:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    if certificate is not None:
        certificate.configure_cert(context)
    if version is not None:
        context.maximum_version = version
    raw = server.raw(listener=listener)
    return Raw(context.wrap_socket(raw.sock, server_hostname="127.0.0.1"))


def handshake(client: ssl.SSLObject, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO, raw: Raw) -> None:
    """All of it but the client's last flight, which is left in `outgoing`."""
    while True:
        try:
            return client.do_handshake()
        except ssl.SSLWantReadError:
            raw.send(outgoing.read())
            incoming.write(raw.sock.recv(65536))


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_tls_is_the_same_service(inside, files, authority, version):
    server = inside(f"[[listen]]\naddress = '127.0.0.1:0'\n{files}", commands=COMMANDS, virtual=False)
    with tls(server, authority, version=version) as raw:
        assert raw.ask("who.am_i")["result"]["kind"] == "tls"
        raw.send(b'{"jsonrpc":"2.0","id":1,"method":"any.long","params":[900000]}\n' * 5 + PING)
        assert [len(raw.json()["result"]) for _ in range(6)] == [900_000] * 5 + [4]


def test_tls_older_than_1_2_is_refused(inside, files, authority):
    server = inside(f"[[listen]]\naddress = '127.0.0.1:0'\n{files}")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    authority.configure_trust(context)
    context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    context.maximum_version = ssl.TLSVersion.TLSv1_1
    context.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.raises(ssl.SSLError):
        context.wrap_socket(server.raw().sock, server_hostname="127.0.0.1")


def test_a_request_in_one_segment_with_the_end_of_the_handshake_is_answered(inside, files, authority):
    server = inside(f"[[listen]]\naddress = '127.0.0.1:0'\n{files}")
    context = ssl.create_default_context()
    authority.configure_trust(context)
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = context.wrap_bio(incoming, outgoing, server_hostname="127.0.0.1")
    with server.raw() as raw:
        handshake(client, incoming, outgoing, raw)
        client.write(PING)
        raw.send(outgoing.read())  # Finished and the request at once
        while True:
            try:
                assert b"pong" in client.read(65536)
                break
            except ssl.SSLWantReadError:
                incoming.write(raw.sock.recv(65536))


@pytest.mark.parametrize(("sent", "answers"), [(PING * 10, 10), (PING.rstrip(), 1), (PING + PING.rstrip(), 2)])
def test_a_half_close_over_tls_is_answered_after_close_notify(inside, files, authority, sent, answers):
    server = inside(f"[[listen]]\naddress = '127.0.0.1:0'\n{files}")
    context = ssl.create_default_context()
    authority.configure_trust(context)
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = context.wrap_bio(incoming, outgoing, server_hostname="127.0.0.1")
    with server.raw() as raw:
        handshake(client, incoming, outgoing, raw)
        client.write(sent)
        with pytest.raises(ssl.SSLWantReadError):
            client.unwrap()  # writes close_notify, and wants the server's
        raw.send(outgoing.read())
        raw.shut()
        incoming.write(raw.rest())
        incoming.write_eof()
        plain = b""
        with contextlib.suppress(ssl.SSLZeroReturnError):
            while part := client.read(65536):
                plain += part
        assert plain.count(b"pong") == answers


def test_client_certificates_are_optional_and_checked(inside, files, authority, tmp_path):
    config = f'[[listen]]\naddress = "127.0.0.1:0"\n{files}\nclient_ca = "{tmp_path}/ca"\n'
    server = inside(config, commands=COMMANDS)
    with tls(server, authority) as raw:
        assert raw.ask("who.am_i")["result"]["subject"] is None
    good = authority.issue_cert("alice@example.org", common_name="alice")
    with tls(server, authority, certificate=good) as raw:
        assert raw.ask("who.am_i")["result"]["subject"]["commonName"] == "alice"
    bad = trustme.CA().issue_cert("mallory@example.org", common_name="mallory")
    with pytest.raises((ssl.SSLError, ConnectionError, AssertionError)), tls(server, authority, certificate=bad) as raw:
        raw.ask("who.am_i")


def test_plain_bytes_on_a_tls_port_are_closed_in_silence(inside, files, authority):
    server = inside(f"[[listen]]\naddress = '127.0.0.1:0'\n{files}")
    with server.raw() as raw:
        raw.send(PING)
        assert b"jsonrpc" not in raw.rest()
    with tls(server, authority) as raw:
        assert raw.ask("system.ping")["result"] == "pong"


def test_unix_sockets_ipv6_and_several_listeners_at_once(inside, tmp_path):
    config = "".join(
        f"[[listen]]\naddress = '{address}'\n" for address in ("127.0.0.1:0", "[::1]:0", f"unix:{tmp_path}/s")
    )
    server = inside(config, commands=COMMANDS)
    seen = []
    for index in range(3):
        with server.raw(listener=index) as raw:
            seen.append(raw.ask("who.am_i")["result"])
    assert [(one["address"], one["kind"]) for one in seen] == [
        ("127.0.0.1", "tcp"),
        ("::1", "tcp"),
        (None, "unix"),
    ]
    assert seen[1]["prefix"] == bytes(8).hex()


# --- behind a proxy -------------------------------------------------------------------------------

PROXIED = (
    "[server]\nexempt = []\n[[listen]]\naddress = '127.0.0.1:0'\nproxy_from = ['127.0.0.1/32']\nmax_per_address = 2\n"
)
V2 = b"\r\n\r\n\x00\r\nQUIT\n"


def v2(address: str, command: int = 0x21) -> bytes:
    body = socket.inet_aton(address) + socket.inet_aton("127.0.0.1") + struct.pack("!HH", 5555, 7420)
    return V2 + bytes([command, 0x11]) + struct.pack("!H", len(body)) + body


@pytest.mark.parametrize(
    ("header", "address"),
    [
        (b"PROXY TCP4 192.0.2.7 127.0.0.1 5555 7420\r\n", "192.0.2.7"),
        (b"PROXY TCP6 2001:db8::7 ::1 5555 7420\r\n", "2001:db8::7"),
        (b"PROXY UNKNOWN\r\n", "127.0.0.1"),
        (v2("192.0.2.8"), "192.0.2.8"),
        (v2("192.0.2.8", 0x20), "127.0.0.1"),  # LOCAL: the proxy's own health check
    ],
)
def test_a_trusted_proxy_says_who_its_client_is(inside, header, address):
    server = inside(PROXIED, commands=COMMANDS)
    with server.raw() as raw:
        raw.send(header)
        assert raw.ask("who.am_i")["result"]["address"] == address
    with server.raw() as raw:  # in one segment with the first request, too
        raw.send(header + PING)
        assert raw.json()["result"] == "pong"
    with server.raw() as raw:  # and byte by byte
        for byte in header:
            raw.send(bytes([byte]))
        assert raw.ask("system.ping")["result"] == "pong"


def test_a_trusted_proxy_must_send_a_header(inside):
    server = inside(PROXIED)
    with server.raw() as raw:
        raw.send(PING)
        assert raw.closed()


def test_nobody_else_may_say_who_he_is(inside):
    server = inside(PROXIED)
    with server.raw(source="127.0.0.2") as raw:
        raw.send(b"PROXY TCP4 192.0.2.7 127.0.0.1 5555 7420\r\n")
        assert raw.json()["error"]["code"] == 1410


def test_limits_by_address_are_the_clients_not_the_proxys(inside):
    server = inside(PROXIED)

    def come(address: str) -> Raw:
        raw = server.raw()
        raw.send(b"PROXY TCP4 %s 127.0.0.1 5555 7420\r\n" % address.encode() + PING)
        return raw

    held = [come("192.0.2.7") for _ in range(2)] + [come("192.0.2.9") for _ in range(2)]
    assert all(raw.json()["result"] == "pong" for raw in held)
    assert come("192.0.2.7").json()["error"]["code"] == 1409


# --- fairness, pushes and endings -----------------------------------------------------------------


def test_a_client_that_floods_does_not_starve_another(inside):
    server = inside(commands=COMMANDS, virtual=False)
    over = threading.Event()

    def flood() -> None:
        with server.raw() as raw:
            raw.sock.settimeout(60)
            while not over.is_set():
                raw.send(PING * 1000)
                for _ in range(1000):
                    raw.line()

    floods = [threading.Thread(target=flood) for _ in range(2)]
    for one in floods:
        one.start()
    try:
        with server.raw() as raw:
            assert all(raw.ask("system.ping", id=n)["id"] == n for n in range(100))
    finally:
        over.set()
        for one in floods:
            one.join()


def test_a_calls_own_pushes_come_before_its_reply_and_after_earlier_replies(inside):
    server = inside(commands=COMMANDS)
    with server.raw() as raw:
        raw.send(PING + b'{"jsonrpc":"2.0","id":2,"method":"push.me","params":[3]}\n' + PING)
        kinds = [raw.json() for _ in range(6)]
    assert [one.get("method", one.get("id")) for one in kinds] == [1, "event.test", "event.test", "event.test", 2, 1]


def test_a_long_call_shows_its_progress(inside):
    server = inside(commands=COMMANDS)
    with server.raw() as raw:
        raw.send(b'{"jsonrpc":"2.0","id":1,"method":"push.progress"}\n')
        assert raw.json()["params"] == 50
        server.advance(10)
        assert raw.json()["params"] == 100
        server.advance(10)
        assert raw.json()["result"] == "done"


def test_a_push_never_tears_a_reply(inside, eventually):
    server = inside(commands=COMMANDS, virtual=False)
    with server.raw() as raw:
        raw.ask("system.ping")
        connection = next(iter(server.server.connections.values()))
        frame = server.server.frame("event.test", "y" * 1000)
        raw.send(b'{"jsonrpc":"2.0","id":3,"method":"any.long","params":[1000000]}\n' * 20)
        eventually(lambda: connection.outbox)
        for _ in range(100):
            server.run(connection.push, frame)
        lines = [raw.json() for _ in range(120)]
    assert sum("method" in one for one in lines) == 100
    assert [len(one["result"]) for one in lines if "id" in one] == [1_000_000] * 20


def test_a_call_that_pushes_more_than_the_client_reads_is_bounded(inside, eventually):
    server = inside("[[listen]]\naddress = '127.0.0.1:0'\noutbox_bytes = 100000\n", commands=COMMANDS)
    closed = server.events("connection.closed")
    with server.raw() as raw:
        raw.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        raw.send(b'{"jsonrpc":"2.0","id":1,"method":"push.me","params":[100000,1000]}\n')
        eventually(lambda: closed)
    assert closed[0].reason == "slow reader"


def test_a_client_that_vanishes_frees_everything(inside, eventually):
    server = inside("[server]\nexempt = []\n", commands=COMMANDS, virtual=False)
    for _ in range(20):
        raw = server.raw()
        raw.send(PING + b'{"jsonrpc":"2.0","id":1,"method":"any.long","params":[900000]}\n' * 5)
        raw.line()
        raw.reset()
    eventually(lambda: not server.server.connections)
    assert (server.server.places.total, server.server.places.by_prefix) == (0, {})
    with server.raw() as raw:
        assert raw.ask("system.ping")["result"] == "pong"


def test_a_client_that_sends_far_too_long_a_line_still_hears_why(inside):
    server = inside(virtual=False)
    with server.raw() as raw:
        raw.send(b"[" + b"1," * 1_000_000)
        assert raw.json()["error"]["code"] == 1606
        assert raw.closed()


def test_several_calls_of_a_connection_run_at_once_where_the_listener_says_so(inside):
    server = inside("[[listen]]\naddress = '127.0.0.1:0'\nmax_in_flight = 4\n", commands=COMMANDS)
    with server.raw() as raw:
        for id, seconds in ((1, 3), (2, 1), (3, 2)):
            line = {"jsonrpc": "2.0", "id": id, "method": "wait.for", "params": [seconds]}
            raw.send(json.dumps(line).encode() + b"\n")
        raw.send(PING)
        assert raw.json()["id"] == 1
        server.advance(5)
        assert [raw.json()["id"] for _ in range(3)] == [2, 3, 1]


def test_at_the_limit_of_calls_at_once_nothing_more_is_read(inside):
    server = inside("[[listen]]\naddress = '127.0.0.1:0'\nmax_in_flight = 2\n", commands=COMMANDS)
    with server.raw() as raw:
        line = b'{"jsonrpc":"2.0","id":1,"method":"wait.for","params":[10]}\n'
        raw.send(line * 2 + PING)
        server.advance(9)
        raw.sock.settimeout(0.1)
        with pytest.raises(TimeoutError):
            raw.line()
        raw.sock.settimeout(10)
        server.advance(2)
        assert sorted(raw.json()["result"] for _ in range(3)) == ["pong", "waited", "waited"]


class Gate(Plugin):
    ring = "guard"
    refuse = True
    left = 0

    @hookimpl
    def tidegate_connection(self, connection):
        if self.refuse:
            raise AddressBlocked(retry_after=5)
        yield
        type(self).left += 1


def test_a_plugin_refuses_a_client_before_its_first_line(inside, eventually):
    server = inside(plugins={"gate": Gate})
    refused = server.events("connection.refused", "connection.opened")
    with server.raw() as raw:
        reply = raw.json()
        assert (reply["id"], reply["error"]["code"], reply["error"]["data"]["retry_after"]) == (None, 1406, 5)
        assert raw.closed()
    assert [one.topic for one in refused] == ["connection.refused"]
    gate = server.server.registry.plugins["gate"]
    gate.refuse = False
    with server.raw() as raw:
        assert raw.ask("system.ping")["result"] == "pong"
    eventually(lambda: Gate.left == 1)


def test_an_administrator_closes_a_connection_and_its_running_call(inside):
    server = inside(commands=COMMANDS)
    with server.raw() as raw, server.raw() as other, server.raw_admin() as door:
        raw.ask("system.ping")
        other.ask("system.ping")
        rows = [row for row in door.ask("system.connections")["result"] if row["kind"] == "tcp"]
        assert [row["calls"] for row in rows] == [1, 1]
        raw.send(b'{"jsonrpc":"2.0","id":7,"method":"wait.for","params":[1000]}\n')
        time.sleep(0.05)
        assert door.ask("system.close", {"id": rows[0]["id"], "cancel": True})["result"] is True
        assert raw.json()["error"]["data"]["code"] == 1311
        assert raw.closed()
        assert other.ask("system.ping")["result"] == "pong"
        assert door.ask("system.close", {"id": "nope"})["error"]["code"] == 1501
