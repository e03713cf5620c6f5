"""What a user of `tidegate.Client` gets, from real servers, with and without gevent."""

from __future__ import annotations

import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import trustme
from tidegate import Client, Fault
from tidegate.client import BadReply, ConnectionLost, Push, UnknownFault
from tidegate.faults import (
    AuthenticationUnavailable,
    CallTimeout,
    IdleTimeout,
    MethodNotFound,
    NestingTooDeep,
    RequestTooLarge,
    RequiredFieldMissing,
    ResourceFamily,
    ResourceNotFound,
    TooManyConnections,
    UnsupportedOperation,
)

SHOP = """
import gevent
from tidegate import Fault, command
from tidegate.faults import ResourceNotFound, ServerOverloaded

class ShopClosed(Fault):
    code = 2001
    message = "The shop is closed"

calls = []

@command("shop.buy")
def buy(call, what: str, count: int = 1):
    calls.append(what)
    return {"what": what, "count": count}

@command("shop.bought")
def bought(call):
    return calls

@command("shop.count")
def count(call):
    names = [name[:1] for name in calls]
    calls.clear()
    return names

@command("shop.find")
def find(call, what: str):
    raise ResourceNotFound(f"There is no {what}", field="params.what", shelf=7)

@command("shop.full")
def full(call):
    raise ServerOverloaded(retry_after=1.5)

@command("shop.closed")
def closed(call):
    raise ShopClosed

@command("shop.slow")
def slow(call, seconds: float):
    gevent.sleep(seconds)
    return "at last"

@command("shop.big")
def big(call, size: int):
    return "x" * size

@command("shop.ring")
def ring(call, times: int = 1, start: int = 0):
    for number in range(start, start + times):
        call.connection.push(call.server.frame("event.bell", {"number": number}))
    return times

@command("shop.later")
def later(call, seconds: float, times: int = 1):
    connection, frame = call.connection, call.server.frame
    def ring():
        for number in range(times):
            connection.push(frame("event.bell", {"number": number}))
    gevent.spawn_later(seconds, ring)

@command("shop.who")
def who(call):
    return {"id": call.connection.id, "kind": call.connection.kind, "certificate": bool(call.connection.certificate)}
"""


@pytest.fixture
def shop(served: Callable[..., Any]) -> Any:
    return served(source=SHOP)


@pytest.fixture
def kiosk(served: Callable[..., Any], tmp_path: Path) -> Any:
    """A shop that is found again after a restart: nobody else gets its path meanwhile, as may happen to a port."""
    return served(f'[[listen]]\naddress = "unix:{tmp_path}/kiosk.sock"\n', source=SHOP)


# --- calls ----------------------------------------------------------------------------------------


def test_parameters_go_by_name_by_place_or_as_one_mapping(shop: Any) -> None:
    with shop.client() as client:
        bought = {"what": "tea", "count": 2}
        assert client.call("shop.buy", what="tea", count=2) == bought
        assert client.call("shop.buy", ["tea", 2]) == bought
        assert client.call("shop.buy", ("tea", 2)) == bought
        assert client.call("shop.buy", bought) == bought
        assert client.call("system.ping") == "pong"


def test_parameters_that_are_named_as_the_clients_own_arguments_reach_the_command(served: Any) -> None:
    server = served(
        source="from tidegate import command\n"
        "@command('any.echo')\n"
        "def echo(call, method: str, params: str, timeout: int, auth: str, trace: str):\n"
        "    return [method, params, timeout]\n"
    )
    with server.client() as client:
        assert client.call("any.echo", method="m", params="p", timeout=3, auth="a", trace="t") == ["m", "p", 3]


def test_what_is_no_parameters_is_refused_before_anything_is_sent(shop: Any) -> None:
    with shop.client() as client:
        with pytest.raises(TypeError, match="mapping, list or tuple"):
            client.call("shop.buy", "tea")
        with pytest.raises(TypeError, match="either"):
            client.call("shop.buy", ["tea"], count=2)
        with pytest.raises(TypeError):
            client.call("shop.buy", what=object())
        assert client.call("shop.bought") == []


@pytest.mark.parametrize("address", ["", "nonsense", "::1:7420", "unix:", "fd:http", "localhost:99999"])
def test_what_is_no_address_is_refused_at_once(address: str) -> None:
    with pytest.raises(ValueError, match="expected"):
        Client(address)


def test_a_failed_call_raises_the_class_of_its_fault_with_all_that_the_server_said(shop: Any) -> None:
    with shop.client() as client:
        with pytest.raises(ResourceNotFound) as caught:
            client.call("shop.find", what="milk")
        fault = caught.value
        assert isinstance(fault, ResourceFamily)
        assert (fault.message, fault.code, fault.recovery) == ("There is no milk", 1501, "fix_request")
        assert fault.errors[0].field == "params.what"
        assert fault.data == {"shelf": 7}
        assert fault.request_id
        assert str(fault) == "1501 ResourceNotFound: There is no milk"
        with pytest.raises(Fault) as caught:
            client.call("shop.full")
        assert caught.value.retry_after == 1.5
        with pytest.raises(RequiredFieldMissing) as missing:
            client.call("shop.buy")
        assert missing.value.errors[0].field == "params.what"
        with pytest.raises(MethodNotFound):
            client.call("shop.none")


def test_a_plugins_fault_is_raised_by_its_class_where_the_client_knows_it(shop: Any) -> None:
    class ShopClosed(Fault):
        code = 2001

        def __init__(self, day: str) -> None:
            super().__init__(f"Closed on {day}")

    with shop.client() as client, pytest.raises(UnknownFault) as caught:
        client.call("shop.closed")
    assert (caught.value.code, caught.value.type) == (2001, "ShopClosed")
    assert str(caught.value) == "2001 ShopClosed: The shop is closed"
    with shop.client(faults=[ShopClosed]) as client, pytest.raises(ShopClosed, match="The shop is closed"):
        client.call("shop.closed")


def test_a_request_carries_the_members_of_its_envelope(shop: Any) -> None:
    with shop.admin() as client:
        reply = client.request("shop.buy", {"what": "tea"}, trace=True)
        assert reply.result == {"what": "tea", "count": 1}
        assert reply.stale is False
        assert reply.trace is not None
    with shop.client() as client:
        with pytest.raises(UnsupportedOperation):
            client.request("system.ping", idempotency_key="0123456789012345678901")
        with pytest.raises(AuthenticationUnavailable):
            client.request("system.ping", auth="token")
    with shop.client(token="token") as client, pytest.raises(AuthenticationUnavailable):
        client.call("system.ping")


def test_a_notification_is_carried_out_and_not_answered(shop: Any) -> None:
    with shop.client() as client:
        client.notify("shop.buy", what="tea")
        client.notify("shop.none")
        assert client.call("shop.bought") == ["tea"]


def test_long_replies_arrive_whole(shop: Any) -> None:
    with shop.client() as client:
        for size in (0, 1, 65_535, 65_536, 1_000_000):
            assert client.call("shop.big", size=size) == "x" * size


def test_a_reply_longer_than_the_client_takes_ends_the_connection_and_not_the_client(shop: Any) -> None:
    with shop.client(max_reply_bytes=1000) as client:
        with pytest.raises(BadReply, match="1000"):
            client.call("shop.big", size=5000)
        assert client.call("shop.big", size=500) == "x" * 500


def test_what_is_said_about_a_line_with_no_readable_id_reaches_the_caller(shop: Any) -> None:
    deep: Any = []
    for _ in range(40):
        deep = [deep]
    with shop.client() as client:
        with pytest.raises(NestingTooDeep):
            client.call("system.echo", text=deep)
        assert client.call("system.ping") == "pong"
        with pytest.raises(RequestTooLarge):
            client.call("system.echo", text="x" * 100_000)
        assert client.call("system.ping") == "pong"


# --- pipelines ------------------------------------------------------------------------------------


def test_a_batch_gives_each_request_its_own_result_or_fault(shop: Any) -> None:
    with shop.client() as client:
        with client.batch() as batch:
            tea = batch.call("shop.buy", what="tea")
            batch.notify("shop.buy", what="milk")
            none = batch.call("shop.find", what="milk")
            traced = batch.request("shop.bought", timeout=5)
            with pytest.raises(RuntimeError, match="block"):
                tea.result()
        assert tea.result()["what"] == "tea"
        with pytest.raises(ResourceNotFound):
            none.result()
        assert traced.reply().result == ["tea", "milk"]


def test_a_batch_whose_block_raises_sends_nothing(shop: Any) -> None:
    with shop.client() as client:
        with suppress(KeyError), client.batch() as batch:
            batch.call("shop.buy", what="tea")
            raise KeyError
        with client.batch():
            pass
        assert client.call("shop.bought") == []


def test_a_pipeline_that_fills_all_buffers_both_ways_does_not_lock_up(shop: Any) -> None:
    text = "x" * 980
    with shop.client() as client:
        with client.batch() as batch:
            echoes = [batch.call("system.echo", text=f"{number:06d}{text}") for number in range(20_000)]
            large = [batch.call("shop.big", size=200_000) for _ in range(50)]
        assert [echo.result()[:6] for echo in echoes] == [f"{number:06d}" for number in range(20_000)]
        assert all(len(one.result()) == 200_000 for one in large)


def test_notifications_fill_all_buffers_and_arrive_all_the_same(shop: Any) -> None:
    with shop.client(timeout=30) as client, ThreadPoolExecutor(1) as pool:
        for listening in (False, True):
            heard = pool.submit(numbers, client, 1) if listening else None
            with client.batch() as batch:
                for _ in range(20_000):
                    batch.notify("shop.buy", what="tea" * 300)
            assert len(client.call("shop.count")) == 20_000
            if heard:
                client.call("shop.ring")
                assert heard.result(10) == [0]


def test_replies_that_come_out_of_order_find_their_requests(served: Any) -> None:
    server = served('[[listen]]\naddress = "127.0.0.1:0"\nmax_in_flight = 10\n', source=SHOP)
    with server.client() as client:
        with client.batch() as batch:
            slow = batch.call("shop.slow", seconds=0.3)
            quick = [batch.call("system.echo", text=str(number)) for number in range(5)]
        assert slow.result() == "at last"
        assert [one.result() for one in quick] == ["0", "1", "2", "3", "4"]


# --- pushes ---------------------------------------------------------------------------------------


def numbers(client: Client, count: int) -> list[int]:
    found = []
    for push in client.pushes(timeout=10):
        assert push.method == "event.bell"
        found.append(push.params["number"])
        if len(found) == count:
            break
    return found


def test_pushes_come_in_order_also_those_that_came_before_a_reply(shop: Any) -> None:
    with shop.client() as client:
        assert client.call("shop.ring", times=3) == 3
        client.call("shop.ring", times=2, start=3)
        client.call("shop.later", seconds=0.1)
        assert numbers(client, 6) == [0, 1, 2, 3, 4, 0]
        assert list(client.pushes(timeout=0)) == []
        assert list(client.pushes(timeout=0.05)) == []


def test_a_push_is_its_method_and_its_parameters(shop: Any) -> None:
    with shop.client() as client:
        client.call("shop.ring", start=7)
        assert list(client.pushes(timeout=0)) == [Push("event.bell", {"number": 7})]


def test_pushes_that_nobody_takes_are_bounded_and_those_dropped_are_counted(shop: Any) -> None:
    with shop.client(max_pushes=10) as client:
        client.call("shop.ring", times=25)
        assert client.dropped == 15
        assert numbers(client, 10) == list(range(15, 25))


def test_calls_may_be_made_while_pushes_are_gone_through(shop: Any) -> None:
    with shop.client() as client:
        client.call("shop.ring", times=3)
        for push in client.pushes(timeout=0):
            assert client.call("system.echo", text=str(push.params["number"])) == str(push.params["number"])


def test_listening_keeps_a_connection_from_being_idle(served: Any) -> None:
    server = served('[[listen]]\naddress = "127.0.0.1:0"\nidle_timeout_s = 1\n', source=SHOP)
    with server.client(ping_s=0.2) as client:
        client.call("shop.later", seconds=2.5)
        assert numbers(client, 1) == [0]


def test_a_listener_is_told_that_the_connection_ended_and_may_go_on_listening(kiosk: Any) -> None:
    with kiosk.client() as client:
        client.call("shop.ring", times=2)
        pushes = client.pushes()
        assert next(pushes).params == {"number": 0}
        client.call("shop.later", seconds=0)
        assert next(pushes).params == {"number": 1}
        assert next(pushes).params == {"number": 0}
        client.call("shop.ring", start=7)
        kiosk.kill()
        assert next(pushes).params == {"number": 7}
        with pytest.raises(ConnectionLost):
            next(pushes)
        kiosk.start()
        client.call("shop.ring", times=1)
        assert numbers(client, 1) == [0]


def test_a_listener_notices_a_server_that_no_longer_answers(shop: Any) -> None:
    with shop.client(ping_s=0.1) as client:
        client.call("system.ping")
        client.timeout = 0.3
        shop.signal(signal.SIGSTOP)
        try:
            with pytest.raises(ConnectionLost, match="no longer answers"):
                next(client.pushes())
        finally:
            shop.signal(signal.SIGCONT)


# --- losses ---------------------------------------------------------------------------------------


@contextmanager
def scripted(*scripts: Callable[[socket.socket], object]) -> Iterator[str]:
    """A server's address; each connection in turn gets its script, then is closed. More are refused."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            for script in scripts:
                peer, _ = listener.accept()
                with peer:
                    script(peer)
            listener.close()

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"127.0.0.1:{listener.getsockname()[1]}"
        thread.join(10)
        assert not thread.is_alive()


def answer(peer: socket.socket, result: bytes = b'"yes"') -> bytes:
    """Answer one request; gives its line."""
    line = b""
    while not line.endswith(b"\n"):
        if not (data := peer.recv(65536)):
            return line
        line += data
    number = line.partition(b'"id":')[2].split(b",")[0]
    peer.sendall(b'{"jsonrpc":"2.0","id":%b,"result":%b}\n' % (number, result))
    return line


def swallow(peer: socket.socket) -> None:
    """Take a request and die."""
    peer.recv(65536)


def test_a_server_that_is_not_there_is_told_at_once(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        port = gone.getsockname()[1]
    with pytest.raises(ConnectionRefusedError):
        Client(f"127.0.0.1:{port}").call("system.ping")
    with pytest.raises(FileNotFoundError):
        Client.operator(tmp_path).call("system.ping")


def test_a_connection_that_died_between_calls_is_made_anew(kiosk: Any) -> None:
    with kiosk.client() as client:
        before = client.call("shop.who")["id"]
        kiosk.kill()
        kiosk.start()
        assert client.call("shop.who")["id"] != before


def test_a_call_waits_for_a_server_that_comes_back(kiosk: Any) -> None:
    with kiosk.client(timeout=30) as client, ThreadPoolExecutor(1) as pool:
        client.call("system.ping")
        kiosk.kill()
        called = pool.submit(client.call, "system.ping")
        kiosk.start()
        assert called.result(30) == "pong"


def test_a_server_that_stays_away_is_told_within_the_timeout(shop: Any) -> None:
    with shop.client() as client:
        client.call("system.ping")
        client.timeout = 0.3
        shop.kill()
        with pytest.raises(ConnectionRefusedError):
            client.call("system.ping")


def test_without_reconnect_a_lost_connection_stays_lost(kiosk: Any) -> None:
    with kiosk.client(reconnect=False) as client:
        client.call("system.ping")
        kiosk.kill()
        kiosk.start()
        for _ in range(2):
            with pytest.raises(ConnectionLost):
                client.call("system.ping")


def test_a_call_whose_fate_is_unknown_is_not_repeated() -> None:
    with scripted(swallow, answer) as address, Client(address) as client:
        with pytest.raises(ConnectionLost, match="closed the connection"):
            client.call("shop.buy", what="tea")
        assert client.call("system.ping") == "yes"


def test_a_call_with_an_idempotency_key_is_repeated_with_the_same_key() -> None:
    lines: list[bytes] = []
    with (
        scripted(lambda peer: lines.append(peer.recv(65536)), lambda peer: lines.append(answer(peer))) as address,
        Client(address) as client,
    ):
        assert client.request("shop.buy", {"what": "tea"}, idempotency_key="k" * 22).result == "yes"
    assert lines[0] == lines[1]
    assert b'"idempotency_key":"kkkk' in lines[0]


def test_a_keyed_call_that_can_not_be_repeated_tells_that_its_fate_is_unknown() -> None:
    with scripted(swallow) as address, Client(address, timeout=0.5) as client, pytest.raises(ConnectionLost):
        client.request("shop.buy", {"what": "tea"}, idempotency_key="k" * 22)


def test_a_request_that_can_not_have_been_read_is_sent_again() -> None:
    def some(peer: socket.socket) -> None:
        peer.recv(2_000_000, socket.MSG_WAITALL)  # then it closes; most of 30 MB was never sent

    def all_of(peer: socket.socket) -> None:
        with peer.makefile("rb") as lines:
            for line in lines:
                number = line.partition(b'"id":')[2].split(b",")[0]
                peer.sendall(b'{"jsonrpc":"2.0","id":%b,"result":1}\n' % number)

    with scripted(some, all_of) as address, Client(address) as client:
        with client.batch() as batch:
            items = [batch.call("system.echo", text="x" * 1_000_000) for _ in range(30)]
        with pytest.raises(ConnectionLost):
            items[0].result()
        assert items[-1].result() == 1
        client.close()


def test_idleness_that_ended_the_connection_is_no_callers_trouble(served: Any) -> None:
    server = served('[[listen]]\naddress = "127.0.0.1:0"\nidle_timeout_s = 0.2\nfirst_line_timeout_s = 0.2\n')
    with server.client() as client:
        client.call("system.ping")
        for _ in range(2):
            with pytest.raises(IdleTimeout):
                next(client.pushes())
            assert client.call("system.ping") == "pong"


def test_a_request_that_crosses_the_idle_timeout_is_sent_again() -> None:
    def idle(peer: socket.socket) -> None:
        peer.recv(65536)
        peer.sendall(
            b'{"jsonrpc":"2.0","id":null,"error":{"code":1611,"message":"idle","data":{"code":1611,"type":"IdleTimeout"}}}\n'
        )

    with scripted(idle, answer) as address, Client(address) as client:
        assert client.call("shop.buy", what="tea") == "yes"


def test_what_the_server_says_before_it_closes_is_what_the_caller_gets(served: Any) -> None:
    server = served('[server]\nexempt = []\n[[listen]]\naddress = "127.0.0.1:0"\nmax_per_address = 1\n')
    with server.client() as first:
        first.call("system.ping")
        with server.client() as second, pytest.raises(TooManyConnections):
            second.call("system.ping")
        assert first.call("system.ping") == "pong"


def test_a_server_that_shuts_down_says_so(shop: Any) -> None:
    with shop.client(reconnect=False) as client:
        client.call("system.ping")
        assert shop.stop() == 0
        with pytest.raises(ConnectionLost, match="shutting down"):
            client.call("system.ping")
        assert client._pushes.take().method == "event.shutdown"


def test_a_peer_that_speaks_another_protocol_is_told_from_a_server() -> None:
    def ssh(peer: socket.socket) -> None:
        peer.sendall(b"SSH-2.0-OpenSSH_9.6\r\n")
        peer.recv(100)

    with scripted(ssh) as address, pytest.raises(BadReply, match="no reply"):
        Client(address).call("system.ping")


def test_on_connect_logs_in_on_each_new_connection_before_any_other_call(kiosk: Any) -> None:
    seen: list[str] = []

    def log_in(client: Client) -> None:
        seen.append(client.call("shop.who")["id"])

    with kiosk.client(on_connect=log_in) as client, ThreadPoolExecutor(4) as pool:
        assert client.call("shop.who")["id"] == seen[0]
        kiosk.kill()
        kiosk.start()
        ids = {who["id"] for who in pool.map(lambda _: client.call("shop.who"), range(8))}
        assert len(seen) == 2
        assert ids == {seen[1]}


def test_a_login_that_is_refused_is_told_to_the_caller_each_time(shop: Any) -> None:
    client = shop.client(on_connect=lambda client: client.call("shop.find", what="me"))
    for _ in range(2):
        with pytest.raises(ResourceNotFound):
            client.call("system.ping")
    client.close()


# --- time -----------------------------------------------------------------------------------------


def test_a_timeout_leaves_the_client_usable_and_drops_the_late_reply(shop: Any) -> None:
    with shop.client() as client:
        client.timeout = 0.2
        with pytest.raises(TimeoutError, match=r"0\.2 s"):
            client.call("shop.slow", seconds=0.5)
        client.timeout = 10
        assert client.call("system.echo", text="next") == "next"
        with client.batch(timeout=0.2) as batch:
            first, slow, last = batch.call("system.ping"), batch.call("shop.slow", seconds=1), batch.call("system.ping")
        assert first.result() == "pong"
        assert client.call("system.echo", text="next") == "next"
        for late in (slow, last):
            with pytest.raises(TimeoutError):
                late.result()


def test_a_batch_may_take_longer_than_its_timeout_while_replies_come() -> None:
    def slowly(peer: socket.socket) -> None:
        with peer.makefile("rb") as lines:
            for line in lines:
                time.sleep(0.6)
                peer.sendall(b'{"jsonrpc":"2.0","id":%b,"result":1}\n' % line.partition(b'"id":')[2].split(b",")[0])

    with scripted(slowly) as address, Client(address) as client:
        with client.batch(timeout=1.5) as batch:
            items = [batch.call("system.ping") for _ in range(3)]
        assert [item.result() for item in items] == [1, 1, 1]
        client.close()


def test_a_requests_own_timeout_ends_the_call_in_the_server(shop: Any) -> None:
    with shop.client() as client, pytest.raises(CallTimeout):
        client.request("shop.slow", {"seconds": 5}, timeout=0.1)


def test_a_server_that_reads_nothing_costs_no_more_than_the_timeout_and_no_memory(shop: Any) -> None:
    with shop.client() as client:
        client.call("system.ping")
        client.timeout = 0.2
        shop.signal(signal.SIGSTOP)
        try:
            for _ in range(3):
                with client.batch() as batch:
                    items = [batch.call("system.echo", text="x" * 60_000) for _ in range(200)]
                with pytest.raises(TimeoutError):
                    items[-1].result()
            with pytest.raises(TimeoutError, match="takes no requests"):
                client.notify("shop.buy", what="tea")
        finally:
            shop.signal(signal.SIGCONT)
        client.timeout = 10
        assert client.call("system.ping") == "pong"


# --- threads --------------------------------------------------------------------------------------


def test_threads_share_a_client(shop: Any) -> None:
    def work(thread: int) -> list[str]:
        return [client.call("system.echo", text=f"{thread}-{number}") for number in range(200)]

    with shop.client() as client, ThreadPoolExecutor(8) as pool:
        for thread, echoes in enumerate(pool.map(work, range(8))):
            assert echoes == [f"{thread}-{number}" for number in range(200)]


def test_a_thread_that_listens_holds_up_no_call_and_hears_what_the_others_bring(shop: Any) -> None:
    with shop.client() as client, ThreadPoolExecutor(1) as pool:
        heard = pool.submit(numbers, client, 300)
        for number in range(300):
            client.call("shop.ring", start=number)
        assert heard.result(20) == list(range(300))


def test_a_large_batch_and_small_calls_share_a_connection_with_a_listener(shop: Any) -> None:
    with shop.client(timeout=60) as client, ThreadPoolExecutor(3) as pool:
        heard = pool.submit(numbers, client, 100)

        def large() -> list[str]:
            with client.batch() as batch:
                items = [batch.call("system.echo", text=f"{number:05d}" + "x" * 900) for number in range(5000)]
            return [item.result()[:5] for item in items]

        batches = [pool.submit(large) for _ in range(2)]
        for number in range(100):
            client.call("shop.ring", start=number)
        assert all(batch.result(60) == [f"{number:05d}" for number in range(5000)] for batch in batches)
        assert heard.result(20) == list(range(100))


def test_close_ends_what_other_threads_wait_for(shop: Any) -> None:
    client = shop.client()
    with ThreadPoolExecutor(2) as pool:
        client.call("system.ping")
        listener = pool.submit(lambda: list(client.pushes()))
        caller = pool.submit(client.call, "shop.slow", seconds=20)
        with shop.client() as other:
            while other.call("shop.bought") is None or not client._wire._pending:
                time.sleep(0.01)
        client.close()
        for waiting in (listener, caller):
            with pytest.raises(ConnectionLost, match="closed"):
                waiting.result(5)
    client.close()
    with pytest.raises(ConnectionLost, match="closed"):
        client.call("system.ping")


# --- other ways in --------------------------------------------------------------------------------


def test_the_operators_socket_may_lie_deep_and_carries_the_operators_rights(served: Any, tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 100) / ("e" * 100)
    deep.mkdir(parents=True)
    server = served(args=["--set", f"server.data={deep}"], source=SHOP)
    data = deep if (deep / "admin.sock").exists() else server.data
    link = tmp_path / ("f" * 120)
    link.symlink_to(data, target_is_directory=True)
    for folder in (data, link, str(link)):
        with Client.operator(folder) as client:
            assert client.call("shop.who")["kind"] == "admin"
            assert client.call("system.connections")


def test_a_unix_socket_serves_as_well(served: Any, tmp_path: Path) -> None:
    server = served(f'[[listen]]\naddress = "unix:{tmp_path}/shop.sock"\n', source=SHOP)
    with Client(f"unix:{tmp_path}/shop.sock") as client:
        assert client.call("shop.who")["kind"] == "unix"
    server.stop()


def test_ipv6_addresses_stand_in_brackets(served: Any, need: Any) -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
        there = True
    except OSError:
        there = False
    need("ipv6", ok=there, why="this machine has no IPv6")
    server = served('[[listen]]\naddress = "[::1]:0"\n')
    with server.client() as client:
        assert client.call("system.ping") == "pong"


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def secure(served: Any, tmp_path: Path, authority: trustme.CA) -> Any:
    authority.issue_cert("127.0.0.1", "shop.example").private_key_and_cert_chain_pem.write_to_path(
        tmp_path / "server.pem"
    )
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    pem = f"{tmp_path}/server.pem"
    config = (
        f'[[listen]]\naddress = "127.0.0.1:0"\ntls_cert = "{pem}"\ntls_key = "{pem}"\nclient_ca = "{tmp_path}/ca.pem"\n'
    )
    return served(config, source=SHOP)


def test_over_tls_everything_goes_as_without(secure: Any, authority: trustme.CA) -> None:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    with secure.client(tls=context) as client:
        assert client.call("shop.who")["kind"] == "tls"
        assert client.call("shop.big", size=1_000_000) == "x" * 1_000_000
        with client.batch() as batch:
            echoes = [batch.call("system.echo", text=f"{number:05d}" + "x" * 900) for number in range(5000)]
        assert [echo.result()[:5] for echo in echoes] == [f"{number:05d}" for number in range(5000)]
        client.call("shop.ring", times=50)
        assert numbers(client, 50) == list(range(50))


def test_a_client_shows_its_certificate_and_checks_the_servers(secure: Any, authority: trustme.CA) -> None:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    authority.issue_cert("client@shop.example").configure_cert(context)
    with secure.client(tls=context, server_name="shop.example") as client:
        assert client.call("shop.who")["certificate"]
    with pytest.raises(ssl.SSLCertVerificationError):
        secure.client(tls=True).call("system.ping")
    with pytest.raises(ssl.SSLCertVerificationError):
        secure.client(tls=context, server_name="other.example").call("system.ping")
    with secure.client() as plain, pytest.raises(ConnectionLost):
        plain.call("system.ping")


# --- gevent ---------------------------------------------------------------------------------------


def test_importing_the_client_imports_no_gevent_and_no_cerberus() -> None:
    program = "import sys, tidegate.client; print(sorted({'gevent', 'cerberus', 'sqlalchemy'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout == "[]\n"


PATCHED = """
{imports}
import gevent
from tidegate import Client

ticks = 0
def tick():
    global ticks
    while True:
        gevent.sleep(0.01)
        ticks += 1

address, tls_address, ca = sys.argv[1:]
with Client(address, timeout=30) as client:
    ticking = gevent.spawn(tick)
    def listen():
        return [push.params["number"] for _, push in zip(range(20), client.pushes())]
    heard = gevent.spawn(listen)
    slow = gevent.spawn(client.call, "shop.slow", seconds=0.3)
    def work(name):
        return [client.call("system.echo", text=name + str(number)) for number in range(50)]
    workers = [gevent.spawn(work, name) for name in "abcdef"]
    assert slow.get() == "at last"
    assert ticks > 5, ticks
    for name, worker in zip("abcdef", workers):
        assert worker.get() == [name + str(number) for number in range(50)]
    client.call("shop.ring", times=20)
    assert heard.get(timeout=10) == list(range(20))
    with client.batch() as batch:
        items = [batch.call("system.echo", text="x" * 1000) for _ in range(5000)]
    assert all(item.result() == "x" * 1000 for item in items)
    with gevent.Timeout(0.1, False):
        client.call("shop.slow", seconds=0.5)
    assert client.call("system.ping") == "pong"

import ssl
context = ssl.create_default_context(cafile=ca)
with Client(tls_address, timeout=30, tls=context) as client:
    with client.batch() as batch:
        items = [batch.call("system.echo", text="x" * 1000) for _ in range(2000)]
    assert all(item.result() == "x" * 1000 for item in items)
    before = ticks
    client.call("shop.slow", seconds=0.3)
    assert ticks > before + 5
print("fine")
"""


@pytest.mark.parametrize(
    "imports",
    [
        "import sys; from gevent import monkey; monkey.patch_all()",
        "import sys; import tidegate.client; from gevent import monkey; monkey.patch_all()",
    ],
    ids=["patched first", "patched after the import"],
)
def test_greenlets_share_a_client_and_none_stops_the_loop(shop: Any, secure: Any, tmp_path: Path, imports: str) -> None:
    given = [shop.addresses[0], secure.addresses[0], f"{tmp_path}/ca.pem"]
    program = [sys.executable, "-W", "ignore", "-c", PATCHED.format(imports=imports), *given]
    done = subprocess.run(program, capture_output=True, text=True, timeout=60)
    assert done.stdout == "fine\n", done.stderr
