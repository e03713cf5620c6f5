"""The test kit itself, as a plugin author meets it."""

from __future__ import annotations

import pytest
from tidegate import Plugin, command

SOURCE = '''
from tidegate import command

@command("shop.add")
def add(a: int, b: int = 1) -> int:
    """Add."""
    return a + b
'''


@command("shop.add")
def add(a: int, b: int = 1) -> int:
    """Add."""
    return a + b


def test_served_runs_a_module_of_commands_in_a_subprocess(served):
    server = served(source=SOURCE)
    with server.raw() as raw:
        assert raw.ask("shop.add", [1, 2])["result"] == 3
        assert raw.ask("shop.add", {"a": 5}, id="x") == {"jsonrpc": "2.0", "id": "x", "result": 6}
    assert server.stop() == 0
    assert "draining (SIGTERM)" in server.log()


def test_served_moves_its_virtual_clock(served):
    server = served(virtual=True)
    raw = server.raw()
    server.advance(9.9)
    assert raw.ask("system.ping")["result"] == "pong"
    server.advance(300)
    assert raw.json()["error"]["data"]["type"] == "IdleTimeout"
    assert raw.closed()


def test_inside_gives_a_look_at_the_server(inside):
    server = inside(commands=[add])
    events = server.events("call.finished")
    with server.raw() as raw:
        assert raw.ask("shop.add", [1])["result"] == 2
    assert [event.command.name for event in events] == ["shop.add"]
    assert server.run(lambda: server.server.call("shop.add", {"a": 1, "b": 4})) == 5


def test_inside_has_virtual_time(inside):
    server = inside()
    raw = server.raw()
    raw.ask("system.ping")
    before = server.clock.now()
    server.advance(301)
    assert server.clock.now() == before + 301
    assert raw.json()["error"]["data"]["code"] == 1611
    assert raw.closed()


def test_two_servers_live_in_one_process(inside):
    one, other = inside(commands=[add]), inside()
    with one.raw() as a, other.raw() as b:
        assert a.ask("shop.add", [1])["result"] == 2
        assert b.ask("shop.add", [1])["error"]["code"] == -32601


class Refusing(Plugin):
    def configure(self, config):
        raise ValueError("it does not like it")


def test_a_start_that_is_refused_raises_in_the_test(inside):
    with pytest.raises(Exception, match="does not like it"):
        inside(plugins={"refusing": Refusing})
