"""What becomes of a call: its result, its deadline, whatever it raises, and who is to blame."""

from __future__ import annotations

import logging
import time

import gevent
import pytest
from gevent import GreenletExit
from tidegate import OPERATOR, Plugin, User, command, hookimpl
from tidegate.faults import AddressBlocked, CallTimeout, ResourceNotFound, SecurityViolation

DONE: list[object] = []


@pytest.fixture(autouse=True)
def _fresh():
    DONE.clear()


@command("wait.for")
def wait(call, seconds: float) -> str:
    call.server.clock.sleep(seconds)
    DONE.append(seconds)
    return "waited"


@command("wait.short", timeout=2)
def short(call, seconds: float) -> str:
    return wait(call, seconds)


@command("wait.shielded", timeout=2)
def shielded(call, seconds: float) -> str:
    with call.shield():
        call.server.clock.sleep(seconds)
        return "kept"


@command("wait.stubborn", timeout=2)
def stubborn(call) -> str:
    while True:
        try:
            call.server.clock.sleep(100)
        except gevent.Timeout:
            DONE.append("caught")
            if len(DONE) == 2:
                raise


@command("raise.this")
def raise_this(call, what: str) -> None:
    raise {
        "value": ValueError("x" * 10),
        "memory": MemoryError(),
        "timeout": gevent.Timeout(1),
        "kill": GreenletExit(),
        "fault": ResourceNotFound(),
        "closing": SecurityViolation(),
        "group": ExceptionGroup("many", [ValueError(), KeyError()]),
    }[what]


@command("by.name")
def by_name(*, text: str) -> str:
    return text


@command("raise.deep")
def deep(n: int = 0) -> None:
    deep(n + 1)


@command("thread.double", thread=True)
def double(n: int) -> int:
    return n * 2


@command("thread.sleep", thread=True, timeout=1)
def thread_sleep(seconds: float) -> str:
    time.sleep(seconds)
    DONE.append("thread")
    return "slept"


@command("effects.some")
def effects(call, fail: bool = False) -> str:
    call.publish("maintenance.changed", actor="a", on=True, message="told")
    call.on_commit(lambda: DONE.append("run"))
    DONE.append("command")
    if fail:
        raise ResourceNotFound
    return "ok"


@command("effects.nested")
def nested(call, method: str, params: dict) -> object:
    return call.server.call(method, params, connection=call.connection)


COMMANDS = [wait, short, shielded, stubborn, raise_this, deep, by_name, double, thread_sleep, effects, nested]


def code(reply: dict) -> int:
    return reply["error"]["data"]["code"]


# --- time -----------------------------------------------------------------------------------------


@pytest.fixture
def server(inside):
    return inside(commands=COMMANDS)


def send(raw, method: str, params: object, **members: object) -> None:
    import json

    raw.send(json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params, **members}).encode() + b"\n")


@pytest.mark.parametrize(
    ("method", "members", "seconds"),
    [
        ("wait.for", {}, 30),
        ("wait.short", {}, 2),
        ("wait.for", {"timeout": 1.5}, 1.5),
        ("wait.short", {"timeout": 50}, 2),
    ],
)
def test_a_call_that_takes_too_long_is_1303(server, method, members, seconds):
    with server.raw() as raw:
        send(raw, method, [seconds + 0.5], **members)
        server.advance(seconds - 0.1)
        server.advance(0.2)
        assert code(raw.json()) == 1303
        assert raw.ask("system.ping")["result"] == "pong"
        send(raw, method, [seconds - 0.5], **members)
        server.advance(seconds - 0.1)
        assert raw.json()["result"] == "waited"
    assert len(DONE) == 1


@pytest.mark.parametrize("timeout", [0, -1, 1e-300])
def test_a_deadline_that_passed_before_the_start_is_1303_without_running(server, timeout):
    with server.raw() as raw:
        assert code(raw.ask("effects.some", timeout=timeout)) == 1303
    assert DONE == []


def test_a_pipelined_call_whose_time_was_used_up_by_the_one_before_does_not_run(server):
    with server.raw() as raw:
        send_two = (
            b'{"jsonrpc":"2.0","id":1,"method":"wait.for","params":[29]}\n'
            b'{"jsonrpc":"2.0","id":2,"method":"effects.some","timeout":5}\n'
        )
        raw.send(send_two)
        server.advance(29.5)
        assert raw.json()["result"] == "waited"
        assert code(raw.json()) == 1303
    assert DONE == [29]


def test_a_reply_is_not_held_back_by_the_calls_that_were_read_with_it(server):
    with server.raw() as raw:
        raw.send(b'{"jsonrpc":"2.0","id":1,"method":"wait.for","params":[1]}\n' * 3)
        for _ in range(3):
            server.advance(1)
            assert raw.json()["result"] == "waited"


def test_what_is_shielded_is_finished_and_its_outcome_is_the_reply(server):
    with server.raw() as raw:
        send(raw, "wait.shielded", [10])
        server.advance(9)
        server.advance(2)
        assert raw.json()["result"] == "kept"


def test_a_command_that_catches_its_deadline_is_told_again(server):
    with server.raw() as raw:
        send(raw, "wait.stubborn", [])
        server.advance(2.1)
        server.advance(1.1)
        assert code(raw.json()) == 1303
    assert DONE == ["caught", "caught"]


def test_every_call_of_a_batch_has_its_own_deadline(server):
    with server.raw() as raw:
        raw.send(
            b'[{"jsonrpc":"2.0","id":1,"method":"wait.short","params":[5]},'
            b'{"jsonrpc":"2.0","id":2,"method":"wait.for","params":[3]}]\n'
        )
        server.advance(2.1)
        server.advance(3.1)
        first, second = raw.json()
        assert (code(first), second["result"]) == (1303, "waited")


# --- what is raised -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("what", "expected"),
    [("value", 1304), ("memory", 1301), ("timeout", 1303), ("fault", 1501), ("group", 1304)],
)
def test_what_a_command_raises_gets_its_code_and_the_connection_lives_on(server, what, expected):
    with server.raw() as raw:
        assert code(raw.ask("raise.this", [what])) == expected
        assert raw.ask("system.ping")["result"] == "pong"


def test_a_fault_that_closes_closes_after_its_reply(server):
    with server.raw() as raw:
        raw.send(b'{"jsonrpc":"2.0","id":1,"method":"raise.this","params":["closing"]}\n' * 2)
        assert code(raw.json()) == 1401
        assert raw.closed()


def test_a_command_may_take_its_parameters_by_name_only(server):
    with server.raw() as raw:
        assert raw.ask("by.name", ["x"])["result"] == "x"
        assert raw.ask("by.name", {"text": "y"})["result"] == "y"


def test_endless_recursion_is_1304(server):
    with server.raw() as raw:
        assert code(raw.ask("raise.deep")) == 1304
        assert raw.ask("system.ping")["result"] == "pong"


def test_a_command_that_exits_ends_the_server_in_good_order(served):
    server = served(
        source="import sys\nfrom tidegate import command\n@command('end.me')\ndef end() -> None:\n    sys.exit(3)\n"
    )
    with server.raw() as raw:
        assert code(raw.ask("end.me")) == 1309
        raw.rest()
    assert server.wait() == 3


def test_the_log_has_the_request_id_that_the_client_got(server, caplog):
    with server.raw() as raw:
        reply = raw.ask("raise.this", ["value"])
    records = [r for r in caplog.records if getattr(r, "request_id", None) == reply["error"]["data"]["request_id"]]
    assert [(r.levelno, r.method, r.code, r.culprit) for r in records] == [
        (logging.ERROR, "raise.this", 1304, "commands")
    ]
    assert records[0].exc_info


class Broken(Plugin):
    ring = "check"

    @hookimpl
    def tidegate_decorate(self, command, proceed):
        if command.name != "system.ping":
            return None

        def decorated(call):
            raise LookupError("inside the plugin")

        return decorated


def test_a_plugins_failure_is_1310_for_that_call_alone_and_names_the_plugin_in_the_log_only(inside, caplog):
    server = inside(plugins={"broken": Broken}, commands=COMMANDS)
    finished = server.events("call.finished")
    with server.raw() as raw:
        reply = raw.ask("system.ping")
        assert code(reply) == 1310
        assert "broken" not in str(reply)
        assert raw.ask("system.echo", ["x"])["result"] == "x"
    assert [call.culprit for call in finished] == ["broken", None]
    assert any(getattr(r, "culprit", None) == "broken" for r in caplog.records)


class Explains(Plugin):
    @hookimpl
    def tidegate_fault(self, call):
        if isinstance(call.error, ValueError):
            return ResourceNotFound("explained")
        return None


class FailsToExplain(Plugin):
    @hookimpl
    def tidegate_fault(self, call):
        raise RuntimeError("no")


def test_a_plugin_may_explain_an_exception(inside):
    server = inside(plugins={"explains": Explains, "fails": FailsToExplain}, commands=COMMANDS)
    failed = server.events("plugin.failed")
    with server.raw() as raw:
        assert raw.ask("raise.this", ["value"])["error"]["message"] == "explained"
        assert code(raw.ask("raise.this", ["group"])) == 1304
    assert {one.plugin for one in failed} == {"fails"}


class ExplainsAll(Plugin):
    ring = "scope"

    @hookimpl(trylast=True)
    def tidegate_fault(self, call):
        return ResourceNotFound("explained in general")


def test_who_explains_in_general_is_asked_after_all_others(inside):
    server = inside(plugins={"all": ExplainsAll, "explains": Explains}, commands=COMMANDS)
    with server.raw() as raw:
        assert raw.ask("raise.this", ["value"])["error"]["message"] == "explained"
        assert raw.ask("raise.this", ["group"])["error"]["message"] == "explained in general"


class Deaf(Plugin):
    listens = frozenset({"*"})

    @hookimpl
    def tidegate_event(self, event):
        raise RuntimeError("I hear nothing")


def test_a_raising_listener_starves_nobody(inside):
    server = inside(plugins={"deaf": Deaf})
    heard = server.events("call.finished", "connection.opened")
    with server.raw() as raw:
        assert raw.ask("system.ping")["result"] == "pong"
    assert [one.topic for one in heard] == ["connection.opened", "call.finished"]


# --- effects --------------------------------------------------------------------------------------


def test_effects_are_told_in_order_after_success_and_never_after_a_fault(server):
    told = server.events("maintenance.changed")
    with server.raw() as raw:
        assert raw.ask("effects.some")["result"] == "ok"
        assert code(raw.ask("effects.some", {"fail": True})) == 1501
    assert DONE == ["command", "run", "command"]
    assert [one.message for one in told] == ["told"]


def test_a_topic_that_does_not_exist_is_a_mistake(server):
    with pytest.raises(ValueError, match="is no topic"):
        server.run(lambda: server.server.publish("no.such", x=1))
    with pytest.raises(ValueError, match="has the fields"):
        server.run(lambda: server.server.publish("log.lost", number=1))


# --- threads --------------------------------------------------------------------------------------


def test_a_command_in_a_thread_gives_its_result(server):
    with server.raw() as raw:
        assert raw.ask("thread.double", [21])["result"] == 42
        assert code(raw.ask("thread.double", ["x"])) == 1113


def test_at_the_deadline_of_a_command_in_a_thread_the_late_result_is_dropped(inside, eventually):
    server = inside(commands=COMMANDS, virtual=False)
    with server.raw() as raw:
        assert code(raw.ask("thread.sleep", [1.5])) == 1303
        assert raw.ask("system.ping")["result"] == "pong"
    eventually(lambda: DONE == ["thread"])


class Megaphone(Plugin):
    """Pushes from a thread, which it must not."""

    @command("push.all", thread=True)
    def push_all(self) -> None:
        for connection in self.server.connections.values():
            connection.push(self.server.frame("event.x", {}))


def test_a_push_from_a_thread_is_refused_and_says_what_to_do(inside):
    server = inside(plugins={"megaphone": Megaphone}, virtual=False)
    (calls, log) = server.events("call.finished"), []
    server.server.report = lambda call: log.append(str(call.error))
    with server.raw() as raw:
        assert code(raw.ask("push.all")) == 1304
        assert raw.ask("system.ping")["result"] == "pong"
    assert log == ["push from another thread: a command with thread=True leaves pushes to one without"]
    assert calls[0].culprit == "megaphone"


def test_the_pool_of_threads_is_bounded(inside):
    server = inside("[server]\nthreads = 1\n", commands=COMMANDS, virtual=False)
    raws = [server.raw() for _ in range(70)]
    for raw in raws:
        send(raw, "thread.sleep", [0.2])
    codes = [code(reply) for raw in raws if "error" in (reply := raw.json())]
    assert 1308 in codes
    assert set(codes) <= {1308, 1303}


# --- calls from inside ----------------------------------------------------------------------------


def test_a_call_from_inside_goes_through_the_same_decorators(server):
    call = server.server.call
    assert server.run(lambda: call("system.echo", ["x"])) == "x"
    assert server.run(lambda: call("system.connections")) == []  # as the operator
    with pytest.raises(Exception, match="1605"):
        server.run(lambda: call("nope"))
    nobody = User("u1", "u1", frozenset({"user"}))
    with pytest.raises(Exception, match="1002"):
        server.run(lambda: call("system.connections", user=nobody))
    with pytest.raises(CallTimeout):
        server.run(lambda: call("wait.for", [1], timeout=0))
    with pytest.raises(ResourceNotFound):
        server.run(lambda: call("raise.this", ["fault"]))
    assert "admin" in OPERATOR.roles


def test_a_command_may_call_another(server):
    with server.raw() as raw:
        assert raw.ask("effects.nested", ["system.echo", {"text": "x"}])["result"] == "x"
        assert code(raw.ask("effects.nested", ["raise.this", {"what": "fault"}])) == 1501


def test_a_door_has_the_lives_of_a_connection(inside):
    class Gate(Plugin):
        ring = "guard"

        @hookimpl
        def tidegate_connection(self, connection):
            DONE.append(connection.kind)
            if connection.address == "192.0.2.1":
                raise AddressBlocked
            yield
            DONE.append("left")

    server = inside(plugins={"gate": Gate})

    def through() -> str:
        with server.server.door("http", address="192.0.2.7", user=OPERATOR) as connection:
            assert connection in server.server.sessions["operator"]
            return server.server.call("system.ping", connection=connection)

    assert server.run(through) == "pong"
    assert DONE == ["http", "left"]
    assert "operator" not in server.server.sessions

    def refused() -> None:
        with server.server.door("http", address="192.0.2.1"):
            pass

    with pytest.raises(AddressBlocked):
        server.run(refused)
