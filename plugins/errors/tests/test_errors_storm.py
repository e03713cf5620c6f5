"""A storm: a thousand clients, and a dependency that is sick."""

from __future__ import annotations

import json
import selectors
import socket

SOURCE = """
from tidegate import command

asked = 0

@command("order", idempotent=True, retry={"attempts": 4, "base_s": 0.01, "cap_s": 0.05}%s)
def order() -> str:
    global asked
    asked += 1
    raise ConnectionResetError("the dependency hung up")

@command("asked")
def count() -> int:
    return asked
"""
CLIENTS, CALLS = 1000, 3
# A busy machine may take its time with a thousand connections; none of these limits is what is looked at.
CONFIG = """
[server]
call_timeout_s = 300
[[listen]]
address = "127.0.0.1:0"
first_line_timeout_s = 300
line_timeout_s = 300
send_timeout_s = 300
"""
ORDER = b'{"jsonrpc":"2.0","id":1,"method":"order"}\n'


def storm(server) -> list[dict]:
    """A thousand clients with three calls each, one after the other; all replies."""
    replies = []
    left = {}
    with selectors.DefaultSelector() as selector:
        for _ in range(CLIENTS):
            sock = socket.create_connection((server.host, server.port), 10)
            left[sock] = [CALLS, b""]
            sock.sendall(ORDER)
            selector.register(sock, selectors.EVENT_READ)
        while left:
            ready = selector.select(120)
            assert ready, f"{len(left)} clients were not answered"
            for key, _ in ready:
                sock = key.fileobj
                state = left[sock]
                state[1] += (data := sock.recv(65536))
                assert data, "the server hung up"
                if not state[1].endswith(b"\n"):
                    continue
                replies.append(json.loads(state[1]))
                state[0], state[1] = state[0] - 1, b""
                if state[0]:
                    sock.sendall(ORDER)
                    continue
                selector.unregister(sock)
                sock.close()
                del left[sock]
    return replies


def test_a_thousand_clients_make_at_most_a_tenth_more_calls_on_a_sick_dependency(served):
    server = served(CONFIG, plugins=["errors"], source=SOURCE % "")
    replies = storm(server)
    assert len(replies) == CLIENTS * CALLS, "everybody is answered"
    assert {reply["error"]["data"]["code"] for reply in replies} == {1302}
    with server.raw() as client:
        asked = client.ask("asked")["result"]
    assert CLIENTS * CALLS < asked <= CLIENTS * CALLS * 1.1


def test_with_a_breaker_the_same_storm_hardly_touches_it(served):
    server = served(CONFIG, plugins=["errors"], source=SOURCE % ", breaker='dependency'")
    replies = storm(server)
    assert len(replies) == CLIENTS * CALLS
    assert {reply["error"]["data"]["code"] for reply in replies} <= {1302, 1307}
    assert all("retry_after" in r["error"]["data"] for r in replies if r["error"]["data"]["code"] == 1307)
    with server.raw() as client:
        assert client.ask("asked")["result"] <= 50
