"""Circuit breakers around commands and blocks, over a real socket, with a real dependency that dies and comes back."""

from __future__ import annotations

import itertools
import socket
import threading

import pytest
from tidegate import Plugin, command, hookimpl
from tidegate.faults import AccountLocked, DependencyUnavailable, InvalidValue, NetworkError
from tidegate.registry import StartRefused
from tidegate_errors import Errors

CONFIG = "[plugins.errors.breaker]\nwindow = 10\nminimum_calls = 4\nopen_s = 10\nopen_cap_s = 100\nprobes = 2\n"


class Dependency:
    """A TCP service: says `ok`, hangs up, or is not there."""

    def __init__(self):
        self.asked = 0
        self.healthy = itertools.repeat(True)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._start()

    def _start(self):
        threading.Thread(target=self._serve, args=(self._listener,), daemon=True).start()

    def _serve(self, listener):
        while True:
            try:
                sock, _ = listener.accept()
            except OSError:
                return
            self.asked += 1
            with sock:
                sock.recv(100)
                if next(self.healthy):
                    sock.sendall(b"ok")

    def die(self):
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def come_back(self):
        self._listener = socket.create_server(("127.0.0.1", self.port))
        self._start()


@pytest.fixture
def dependency():
    one = Dependency()
    yield one
    one.die()


SOURCE = """
import socket
from tidegate import command

@command("ask", breaker="dependency")
def ask(port: int) -> str:
    with socket.create_connection(("127.0.0.1", port), 5) as sock:
        sock.sendall(b"?")
        answer = sock.recv(100)
    if not answer:
        raise ConnectionResetError("hung up")
    return answer.decode()
"""


def state(server, name="dependency"):
    with server.admin() as admin:
        return {row["name"]: row for row in admin.call("breakers.list")}[name]["state"]


def test_a_dependency_that_fails_dies_and_comes_back_opens_probes_and_closes(served, dependency):
    server = served(CONFIG, plugins=["errors"], source=SOURCE, virtual=True)
    with server.raw() as client:

        def code():
            reply = client.ask("ask", {"port": dependency.port})
            return reply["error"]["data"]["code"] if "error" in reply else reply["result"]

        assert [code() for _ in range(10)] == ["ok"] * 10
        dependency.healthy = itertools.cycle([False, True])  # half of them fail: at 50 % it opens
        codes = [code() for _ in range(20)]
        assert codes[:9] == [1302, "ok"] * 4 + [1302]
        assert set(codes[9:]) == {1307}
        asked = dependency.asked
        refused = client.ask("ask", {"port": dependency.port})["error"]["data"]
        assert 7.9 < refused["retry_after"] <= 12
        assert refused["recovery"] == "retry_later"
        assert dependency.asked == asked, "an open breaker leaves the dependency alone"

        dependency.die()
        server.advance(12.1)
        assert code() == 1306, "one probe that fails opens it again"
        assert client.ask("ask", {"port": dependency.port})["error"]["data"]["retry_after"] > 12

        dependency.healthy = itertools.repeat(True)
        dependency.come_back()
        assert code() == 1307
        server.advance(25)
        assert code() == "ok"
        assert state(server) == "half_open"
        assert code() == "ok"
        assert state(server) == "closed"
        assert [code() for _ in range(10)] == ["ok"] * 10


def test_the_fault_that_opens_a_breaker_says_when_to_come_again(inside):
    @command("ask", breaker=True)
    def ask() -> None:
        raise DependencyUnavailable

    server = inside(CONFIG, plugins=["errors"], commands=[ask])
    with server.raw() as client:
        told = [client.ask("ask")["error"]["data"] for _ in range(4)]
    assert [data["code"] for data in told] == [1306] * 4
    assert ["retry_after" in data for data in told] == [False, False, False, True]


def test_while_probes_run_all_others_are_refused(inside, eventually):
    running = []

    @command("ask", breaker=True)
    def ask(call, fail: bool = False) -> str:
        if fail:
            raise NetworkError
        running.append(1)
        call.server.clock.sleep(3)
        return "ok"

    server = inside(CONFIG, plugins=["errors"], commands=[ask])
    changes = server.events("breaker.changed")
    finished = server.events("call.finished")
    with server.raw() as client:
        for _ in range(4):
            client.ask("ask", {"fail": True})
    server.advance(13)
    clients = [server.raw() for _ in range(10)]
    for client in clients:
        client.send(b'{"jsonrpc":"2.0","id":1,"method":"ask"}\n')
    eventually(lambda: len(finished) == 4 + 8)  # eight are refused while two are tried
    assert len(running) == 2
    server.advance(3)
    replies = [client.json() for client in clients]
    assert [reply["result"] for reply in replies if "result" in reply] == ["ok", "ok"]
    refused = [reply["error"]["data"] for reply in replies if "error" in reply]
    assert [data["code"] for data in refused] == [1307] * 8
    assert all(data["retry_after"] > 0 for data in refused)
    assert [(event.name, event.old, event.new) for event in changes] == [
        ("ask", "closed", "open"),
        ("ask", "open", "half_open"),
        ("ask", "half_open", "closed"),
    ]
    assert changes[0].until > changes[0].at
    assert changes[2].until is None
    for client in clients:
        client.close()


@pytest.mark.parametrize("fault", [InvalidValue, AccountLocked])
def test_the_clients_own_mistakes_open_nothing(inside, fault):
    @command("ask", breaker=True)
    def ask() -> None:
        raise fault

    server = inside(CONFIG, plugins=["errors"], commands=[ask])
    with server.raw() as client:
        assert {client.ask("ask")["error"]["data"]["code"] for _ in range(30)} == {fault.code}
    assert state(server, "ask") == "closed"


def test_which_codes_count_is_configurable_by_breaker(inside):
    @command("a", breaker="a")
    def a() -> None:
        raise DependencyUnavailable

    @command("b", breaker="b")
    def b() -> None:
        raise DependencyUnavailable

    @command("c", breaker="c")
    def c() -> None:
        raise DependencyUnavailable

    config = (
        CONFIG + "[plugins.errors.breakers]\na = {ignores = [1306]}\nb = {counts = [1302]}\nc = {minimum_calls = 2}\n"
    )
    server = inside(config, plugins=["errors"], commands=[a, b, c])
    with server.raw() as client:
        for name in ("a", "b", "c"):
            for _ in range(6):
                client.ask(name)
    assert [state(server, name) for name in ("a", "b", "c")] == ["closed", "closed", "open"]


def test_slow_calls_open_a_breaker_though_they_succeed(inside):
    @command("ask", breaker=True)
    def ask(call) -> str:
        call.server.clock.sleep(3)
        return "at last"

    server = inside(CONFIG + "slow_s = 2\nslow_percent = 100\n", plugins=["errors"], commands=[ask])
    with server.raw() as client:
        for _ in range(4):
            client.send(b'{"jsonrpc":"2.0","id":1,"method":"ask"}\n')
            server.advance(3)
            assert client.json()["result"] == "at last"
        assert client.ask("ask")["error"]["data"]["code"] == 1307


def test_a_time_window_forgets_old_failures(inside):
    @command("ask", breaker=True)
    def ask() -> None:
        raise NetworkError

    server = inside(CONFIG + "window_s = 10\n", plugins=["errors"], commands=[ask])
    with server.raw() as client:
        for _ in range(8):  # never four of them within ten seconds
            assert client.ask("ask")["error"]["data"]["code"] == 1302
            server.advance(4)
        for _ in range(3):
            client.ask("ask")
        assert client.ask("ask")["error"]["data"]["code"] == 1307


def test_a_client_in_a_hurry_cannot_open_a_breaker_for_all(inside):
    @command("ask", breaker=True, timeout=10)
    def ask(call) -> None:
        call.server.clock.sleep(60)

    server = inside(CONFIG, plugins=["errors"], commands=[ask])
    with server.raw() as client:

        def timeout(seconds: float):
            client.send(b'{"jsonrpc":"2.0","id":1,"method":"ask","timeout":%g}\n' % seconds)
            server.advance(min(seconds, 10) + 0.1)
            return client.json()["error"]["data"]["code"]

        assert [timeout(0.5) for _ in range(8)] == [1303] * 8
        assert state(server, "ask") == "closed"
        assert [timeout(50) for _ in range(4)] == [1303] * 4, "the command's own limit is the dependency's failure"
        assert state(server, "ask") == "open"


def test_a_client_in_a_hurry_cannot_open_a_blocks_breaker_either(inside):
    @command("ask", timeout=10)
    def ask(call, breaker) -> None:
        with breaker("x"):
            call.server.clock.sleep(60)

    server = inside(CONFIG, plugins=["errors"], commands=[ask])
    with server.raw() as client:
        for seconds, states in ((0.5, "closed"), (50, "open")):
            for _ in range(5):
                client.send(b'{"jsonrpc":"2.0","id":1,"method":"ask","timeout":%g}\n' % seconds)
                server.advance(min(seconds, 10) + 0.1)
                client.json()
            assert state(server, "x") == states


def test_a_block_and_a_function_have_breakers_of_their_own(inside):
    tried = []

    @command("block")
    def block(breaker) -> None:
        with breaker("smtp"):
            tried.append(1)
            raise ConnectionRefusedError

    @command("function")
    def function(breaker) -> None:
        @breaker("smtp")
        def send() -> None:
            tried.append(1)

        send()

    server = inside(CONFIG, plugins=["errors"], commands=[block, function])
    with server.raw() as client:
        assert [client.ask("block")["error"]["data"]["code"] for _ in range(5)] == [1306] * 4 + [1307]
        assert client.ask("function")["error"]["data"]["code"] == 1307
        assert len(tried) == 4
        server.advance(13)
        assert client.ask("function")["result"] is None


def test_a_guard_that_is_kept_is_entered_by_many_calls_at_once(inside, eventually):
    """A plugin may make it once; the quick calls among slow ones must not take the slow ones' times."""
    entered = []

    class Mail(Plugin):
        @hookimpl
        def tidegate_serve(self, server):
            self.smtp = server.provided("breaker")("smtp")
            yield

        @command("send")
        def send(self, call, seconds: float) -> str:
            with self.smtp:
                entered.append(seconds)
                call.server.clock.sleep(seconds)
            return "sent"

    config = "[plugins.errors.breakers.smtp]\nslow_s = 2\nslow_percent = 60\nminimum_calls = 2\n"
    server = inside(config, plugins={"errors": Errors, "mail": Mail})
    with server.raw() as slow, server.raw() as quick, server.admin() as admin:
        slow.send(b'{"jsonrpc":"2.0","id":1,"method":"send","params":[5]}\n')
        eventually(lambda: entered == [5])
        server.advance(4)
        quick.send(b'{"jsonrpc":"2.0","id":1,"method":"send","params":[0.5]}\n')
        eventually(lambda: entered == [5, 0.5])
        server.advance(2)
        assert slow.json()["result"] == quick.json()["result"] == "sent"
        (row,) = admin.call("breakers.list")
        assert (row["calls"], row["slow_percent"]) == (2, 50.0)


def test_an_administrator_forces_a_breaker_and_lets_it_go(inside):
    @command("ask", breaker="x")
    def ask(fail: bool = False) -> str:
        if fail:
            raise NetworkError
        return "ok"

    server = inside(CONFIG, plugins=["errors"], commands=[ask])
    with server.raw() as client, server.admin() as admin:
        assert admin.call("breakers.force", name="x", state="open", reason="repairs")["state"] == "forced_open"
        assert client.ask("ask")["error"]["data"]["code"] == 1307
        server.advance(200)
        assert client.ask("ask")["error"]["data"]["code"] == 1307
        admin.call("breakers.force", name="x", state="closed")
        assert {client.ask("ask", {"fail": True})["error"]["data"]["code"] for _ in range(30)} == {1302}
        admin.call("breakers.force", name="x", state="auto")
        assert client.ask("ask")["result"] == "ok"
        for _ in range(5):
            client.ask("ask", {"fail": True})
        assert client.ask("ask")["error"]["data"]["code"] == 1307
        assert admin.call("breakers.reset", name="x")["state"] == "closed"
        assert client.ask("ask")["result"] == "ok"


def test_breakers_are_for_administrators_and_unknown_ones_are_told(inside):
    server = inside(plugins=["errors"])
    with server.raw() as client, server.raw_admin() as admin:
        assert "error" in client.ask("breakers.force", {"name": "x", "state": "open"})
        assert admin.ask("breakers.force", {"name": "x", "state": "open"})["error"]["data"]["code"] == 1501
        assert admin.ask("breakers.reset", {"name": "x"})["error"]["data"]["code"] == 1501


def test_breakers_made_by_name_are_bounded(inside):
    @command("ask")
    def ask(breaker, name: str) -> str:
        with breaker(name):
            return "ok"

    server = inside("[plugins.errors]\nmax_breakers = 20\n", plugins=["errors"], commands=[ask])
    with server.raw() as client, server.admin() as admin:
        for number in range(50):
            client.ask("ask", {"name": f"host{number}"})
        names = {row["name"] for row in admin.call("breakers.list")}
    assert names == {f"host{number}" for number in range(30, 50)}


def test_a_forced_breaker_outlives_a_flood_of_new_names(inside):
    @command("ask")
    def ask(breaker, name: str) -> str:
        with breaker(name):
            return "ok"

    server = inside("[plugins.errors]\nmax_breakers = 20\n", plugins=["errors"], commands=[ask])
    with server.raw() as client, server.admin() as admin:
        client.ask("ask", {"name": "sick"})
        admin.call("breakers.force", name="sick", state="open")
        for number in range(50):
            client.ask("ask", {"name": f"host{number}"})
        assert client.ask("ask", {"name": "sick"})["error"]["data"]["code"] == 1307


def test_a_reload_gives_running_breakers_their_new_rules(inside):
    @command("ask", breaker="x")
    def ask() -> None:
        raise NetworkError

    server = inside(CONFIG, plugins=["errors"], commands=[ask])
    with server.raw() as client, server.admin() as admin:
        client.ask("ask")
        server._config.write_text(CONFIG.replace("minimum_calls = 4", "minimum_calls = 1"))
        admin.call("system.reload")
        client.ask("ask")
        assert client.ask("ask")["error"]["data"]["code"] == 1307


@pytest.mark.parametrize(
    ("notes", "words"),
    [
        ({"breaker": 3}, "breaker: expected a name"),
        ({"concurrency": 0}, "concurrency: expected"),
        ({"priority": 10}, "priority: expected 0 to 9"),
        ({"fallback": 3}, "fallback: expected a function"),
    ],
)
def test_wrong_notes_are_refused_at_start(inside, notes, words):
    @command("ask", **notes)
    def ask() -> None: ...

    with pytest.raises(StartRefused, match=words):
        inside(plugins=["errors"], commands=[ask])
