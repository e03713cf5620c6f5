"""Each hook, as its page in hookspecs.py promises it: one test a hook, found by its name."""

from __future__ import annotations

import pytest
from tidegate import Command, Plugin, command, hookimpl, hookspecs
from tidegate.faults import AddressBlocked, ResourceNotFound

HOOKS = sorted(name for name in vars(hookspecs) if name.startswith("tidegate_"))
DONE: list[object] = []


@pytest.fixture(autouse=True)
def _fresh():
    DONE.clear()


@pytest.mark.parametrize("hook", HOOKS)
def test_each_hook_has_a_test_and_a_page(hook):
    assert f"test_hook_{hook.removeprefix('tidegate_')}" in globals()
    doc = getattr(hookspecs, hook).__doc__
    assert "When:" in doc


def test_hook_commands(inside):
    class Gives(Plugin):
        @hookimpl
        def tidegate_commands(self):
            return [Command(f"made.{n}", lambda n=n: n, self, {}) for n in ("one", "two")]

    server = inside(plugins={"gives": Gives})
    with server.raw() as raw:
        assert raw.ask("made.two")["result"] == "two"


def test_hook_decorate(inside):
    class Decorates(Plugin):
        ring = "check"

        @hookimpl
        def tidegate_decorate(self, command, proceed):
            DONE.append(command.name)
            if command.name != "system.echo":
                return None

            def shout(call):
                return proceed(call).upper()

            return shout

    server = inside(plugins={"decorates": Decorates})
    assert DONE.count("system.echo") == 1  # once for each command, at start
    with server.raw() as raw:
        assert raw.ask("system.echo", ["quiet"])["result"] == "QUIET"
        assert raw.ask("system.ping")["result"] == "pong"


def test_hook_serve(inside):
    class Outer(Plugin):
        ring = "guard"

        @hookimpl
        def tidegate_serve(self, server):
            DONE.append(f"+{self.name}")
            yield
            DONE.append(f"-{self.name}")
            raise RuntimeError("stops nobody else")

    class Inner(Outer):
        ring = "scope"

    class Plain(Outer):
        ring = None
        needs = ("zinner",)

    server = inside(plugins={"outer": Outer, "zinner": Inner, "plain": Plain})
    with server.raw() as raw:
        assert raw.ask("system.ping")["result"] == "pong"
    assert DONE == ["+zinner", "+outer", "+plain"]
    failed = server.events("plugin.failed")
    server.stop()
    assert DONE[3:] == ["-plain", "-outer", "-zinner"]
    assert len(failed) == 3


def test_hook_connection(inside, eventually):
    class Counts(Plugin):
        ring = "guard"

        @hookimpl
        def tidegate_connection(self, connection):
            if connection.address == "127.0.0.9":
                raise AddressBlocked
            DONE.append("+")
            yield
            DONE.append("-")

    class Watches(Plugin):
        @hookimpl
        def tidegate_connection(self, connection):
            raise RuntimeError("a watcher fails open")
            yield

    server = inside(plugins={"counts": Counts, "watches": Watches})
    with server.raw() as raw:
        assert raw.ask("system.ping")["result"] == "pong"
        assert DONE == ["+"]
    eventually(lambda: DONE == ["+", "-"])
    with server.raw(source="127.0.0.9") as raw:
        assert raw.json()["error"]["code"] == 1406


def test_hook_connection_of_a_guard_fails_closed(inside):
    class Guard(Plugin):
        ring = "guard"

        @hookimpl
        def tidegate_connection(self, connection):
            raise RuntimeError("out of order")
            yield

    server = inside(plugins={"guard": Guard})
    with server.raw() as raw:
        assert raw.json()["error"]["data"]["code"] == 1310
        assert raw.closed()


def test_hook_forget(inside):
    from tidegate import Leaving, User

    class Keeps(Plugin):
        @hookimpl
        def tidegate_forget(self, leaving):
            return {"messages": len(leaving.user.name)}

    server = inside(plugins={"keeps": Keeps})
    leaving = Leaving(User("u1", "alice", frozenset()), None, None)
    found = server.run(lambda: [fn(leaving) for _, fn in server.server.registry.impls("tidegate_forget")])
    assert found == [{"messages": 5}]


def test_hook_fault(inside):
    @command("break.it")
    def break_it() -> None:
        raise ZeroDivisionError

    class Explains(Plugin):
        @hookimpl
        def tidegate_fault(self, call):
            return ResourceNotFound("no such number") if isinstance(call.error, ZeroDivisionError) else None

    server = inside(plugins={"explains": Explains}, commands=[break_it])
    with server.raw() as raw:
        assert raw.ask("break.it")["error"]["code"] == 1501


def test_hook_event(inside):
    class Listens(Plugin):
        listens = frozenset({"call.finished", "connection.closed"})

        @hookimpl
        def tidegate_event(self, event):
            DONE.append(event.topic)
            raise RuntimeError("hurts nobody")

    server = inside(plugins={"listens": Listens})
    closed = server.events("connection.closed")
    with server.raw() as raw:
        assert raw.ask("system.ping")["result"] == "pong"
    server.run(lambda: None)
    assert DONE[0] == "call.finished"
    assert "connection.opened" not in DONE
    assert closed or DONE


def test_hook_gauges(inside):
    class Levels(Plugin):
        @hookimpl
        def tidegate_gauges(self):
            return {"rooms_open": 3}

    class Fails(Plugin):
        @hookimpl
        def tidegate_gauges(self):
            raise RuntimeError("no level")

    server = inside(plugins={"levels": Levels, "fails": Fails})
    with server.raw_admin() as door:
        gauges = door.ask("system.gauges")["result"]
    assert gauges["levels.rooms_open"] == 3.0
    assert gauges["core.connections_open"] >= 1.0
