"""`tidegate.Client` against a server that wants it no good."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import pytest
import trustme
from tidegate import Client, Fault
from tidegate.client import BadReply, ConnectionLost


@contextmanager
def server(talk: Callable[[socket.socket], object]) -> Iterator[str]:
    """Does the same to each client that comes."""
    over = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.1)

        def serve() -> None:
            while not over.is_set():
                with suppress(OSError):
                    peer, _ = listener.accept()
                    with peer:
                        peer.settimeout(5)
                        talk(peer)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"127.0.0.1:{listener.getsockname()[1]}"
        finally:
            over.set()
            thread.join(20)


@pytest.mark.parametrize(
    "line",
    [
        b"[]",
        b"null",
        b"\xff\xfe",
        b"\0" * 100,
        b"[" * 100_000,
        b'{"id":1,"error":[]}',
        b'{"id":1,"error":{"data":"text"}}',
        b'{"id":1,"error":{"data":[1]}}',
        b'{"id":1,"error":{"data":{"code":[],"errors":[1]}}}',
        b'{"id":1,"error":{"data":{"code":1107,"errors":{"a":1}}}}',
        b'{"id":1,"error":{"data":{"code":1107,"type":[],"retry_after":{},"request_id":[],"errors":[{}]}}}',
        b'{"id":1,"error":{}}',
        b'{"id":"1","result":2}',
        b'{"id":1.5,"result":2}',
        b'{"id":99999999999999999999999,"result":2}',
        b'{"id":1,"result":"\\ud800"}',
        b'{"id":1,"trace":{"a":"b"},"result":1}',
        b'{"method":[],"params":1}',
        b'{"id":null,"error":{"code":1606,"message":"x","data":{"code":1606}}}',
        b'{"id":null,"error":{"code":99999,"message":7,"data":{"code":"a","recovery":[]}}}',
    ],
)
def test_whatever_comes_is_an_error_that_is_told_and_has_a_text(line):
    def talk(peer: socket.socket) -> None:
        peer.recv(65536)
        peer.sendall(line + b"\n")

    with server(talk) as address, Client(address, timeout=1) as client:
        with pytest.raises((OSError, Fault)) as told:
            client.call("system.ping")
        assert str(told.value)
        assert repr(told.value)


def test_a_line_without_end_is_not_gathered():
    def talk(peer: socket.socket) -> None:
        while True:
            peer.sendall(b"x" * 65536)

    with server(talk) as address, Client(address, max_reply_bytes=1 << 20) as client, pytest.raises(BadReply):
        client.call("system.ping")


def test_one_that_answers_by_the_spoon_costs_no_more_than_the_timeout():
    def talk(peer: socket.socket) -> None:
        for _ in range(100):
            peer.sendall(b" ")
            time.sleep(0.02)

    with server(talk) as address, Client(address, timeout=0.3) as client, pytest.raises(TimeoutError):
        client.call("system.ping")


def test_one_that_ends_each_connection_with_a_fault_is_not_dialled_without_pause():
    dialled = []

    def talk(peer: socket.socket) -> None:
        dialled.append(peer.recv(65536))
        peer.sendall(b'{"id":null,"error":{"code":1611,"message":"idle","data":{"code":1611,"type":"IdleTimeout"}}}\n')

    with server(talk) as address, Client(address, timeout=2) as client, pytest.raises((OSError, Fault)):
        client.call("system.ping")
    assert len(dialled) < 20


def test_pushes_that_nobody_takes_are_bounded_in_bytes_too():
    pushes = 60

    def talk(peer: socket.socket) -> None:
        peer.recv(65536)
        for number in range(pushes):
            peer.sendall(b'{"method":"event.big","params":{"number":%d,"pad":"%s"}}\n' % (number, b"x" * 500_000))
        peer.sendall(b'{"id":1,"result":"there"}\n')
        peer.recv(65536)

    with server(talk) as address, Client(address, max_reply_bytes=4 << 20) as client:
        assert client.call("system.ping") == "there"
        kept = []
        with suppress(ConnectionLost):
            for push in client.pushes(timeout=0.1):
                kept.append(push.params["number"])
    assert 1 <= len(kept) <= 8
    assert kept == list(range(pushes - len(kept), pushes))
    assert client.dropped == pushes - len(kept)


def test_the_bad_end_of_one_connection_harms_no_other_of_this_thread(served, tmp_path):
    """`unwrap` leaves an alert that it met where OpenSSL's next call in this thread takes it for its own."""
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1")
    certificate.cert_chain_pems[0].write_to_path(tmp_path / "crt")
    certificate.private_key_pem.write_to_path(tmp_path / "key")
    own = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    own.maximum_version = ssl.TLSVersion.TLSv1_2
    certificate.configure_cert(own)
    sent = threading.Event()

    def talk(peer: socket.socket) -> None:
        coming, going = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = own.wrap_bio(coming, going, server_side=True)

        def until(step: Callable[[], object]) -> None:
            while True:
                try:
                    step()
                    return peer.sendall(going.read())
                except ssl.SSLWantReadError:
                    peer.sendall(going.read())
                    coming.write(peer.recv(65536))

        until(tls.do_handshake)
        until(lambda: tls.read(65536))
        tls.write(b'{"id":1,"result":"pong"}\n')
        peer.sendall(going.read())
        coming.write(b"\x17\x03\x03\x00\x05hello")  # what is no record gets an alert, which the client gets
        with suppress(ssl.SSLError):
            tls.read(1)
        peer.sendall(going.read())
        sent.set()
        peer.recv(65536)

    trust = ssl.create_default_context()
    authority.configure_trust(trust)
    listen = f'[[listen]]\naddress = "127.0.0.1:0"\ntls_cert = "{tmp_path}/crt"\ntls_key = "{tmp_path}/key"\n'
    with served(listen).client(tls=trust) as other, server(talk) as address:
        other.call("system.ping")
        client = Client(address, tls=trust)
        assert client.call("system.ping") == "pong"
        assert sent.wait(5)
        client.close()
        wire = other._wire
        assert other.call("system.ping") == "pong"
        assert other._wire is wire
