"""The test kit itself, as a plugin author meets it."""

from __future__ import annotations

import pkgutil
import subprocess

import pytest
from _pytest.fixtures import FixtureFunctionDefinition
from tidegate import Plugin, command, testing
from tidegate.testing.process import Served

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


def test_a_word_in_the_configuration_is_not_taken_for_a_listener(served, inside):
    """`listen` is a key of plugins, too; 7420 may be taken by a server that somebody uses."""
    config = '# where to listen is open\n[plugins.other]\nlisten = "here"\nenabled = false\n'
    for start in (served, inside):
        assert start(config).port != 7420


def test_listeners_of_the_configuration_are_served_as_they_are(served, inside):
    config = '[[listen]]\naddress = "127.0.0.1:0"\n[[listen]]\naddress = "127.0.0.1:0"\n'
    for start in (served, inside):
        server = start(config)
        assert len(server.addresses) == 2
        with server.raw(listener=1) as raw:
            assert raw.ask("system.ping")["result"] == "pong"


def test_no_module_of_the_kit_hides_a_fixture():
    """Importing the module `served` of a package puts it in the place of a function of that name."""
    modules = {module.name for module in pkgutil.iter_modules(testing.__path__)}
    fixtures = {name for name, one in vars(testing).items() if isinstance(one, FixtureFunctionDefinition)}
    assert {"served", "inside", "postgres", "need", "eventually"} <= fixtures
    assert not fixtures & modules


def test_a_module_of_ones_own_may_keep_a_server(tmp_path_factory):
    server = Served(tmp_path_factory.mktemp("kept"))
    server.start()
    with server.client() as client:
        assert client.call("system.ping") == "pong"
    assert server.stop() == 0


def test_postgres_gives_each_who_asks_a_database_of_its_own(postgres):
    for url in (postgres.database(), postgres.database()):
        assert query(postgres, url, "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'") == "0"
        query(postgres, url, "CREATE TABLE pen (id int)")


def test_postgres_keeps_what_was_committed_when_it_is_stopped_and_started(postgres):
    url = postgres.database()
    query(postgres, url, "CREATE TABLE pen AS SELECT 7 AS id")
    postgres.stop("immediate")
    assert not postgres.runs()
    postgres.start()
    assert query(postgres, url, "SELECT id FROM pen") == "7"


def test_a_stopped_postgres_is_back_for_the_next_test(postgres):
    postgres.stop()
    assert query(postgres, postgres.database(), "SELECT 1") == "1"


def query(postgres, url, sql):
    words = [postgres.programs / "psql", "--no-psqlrc", "-tAc", sql, url]
    return subprocess.run(words, check=True, capture_output=True, text=True, timeout=30).stdout.strip()
