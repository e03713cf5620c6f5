"""Servers with a chat, on SQLite and on PostgreSQL, and people who use it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from itertools import count

import pytest
from tidegate import Client
from tidegate.testing.process import Served

#: Hashing that is quick enough for hundreds of accounts.
QUICK = "argon2_memory_kib = 64\nargon2_passes = 1\n"


def config_of(request: pytest.FixtureRequest, kind: str, own: str = "", rest: str = "") -> str:
    """TOML for a server with a chat on `sqlite` or `postgresql`."""
    database = ""
    if kind == "postgresql":
        url = request.getfixturevalue("postgres").database()
        database = f'url = "{url}"\nupgrade = "always"\nconnect_timeout_s = 60\n'
    return f"{rest}\n[plugins.accounts]\n{QUICK}\n[plugins.transactions]\n{database}\n[plugins.chat]\n{own}\n"


PLUGINS = ["accounts", "chat", "transactions"]


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def server(request, tmp_path_factory) -> Iterator[object]:
    """One server for all tests of a module; they meet nobody else's people and rooms."""
    server = Served(tmp_path_factory.mktemp("chat"), config_of(request, request.param), plugins=PLUGINS)
    server.start()
    yield server
    server.finish()


@pytest.fixture
def chat(served, request) -> Callable[..., object]:
    """A server of a test's own: `chat("sqlite", own="…")`."""

    def start(kind: str = "sqlite", own: str = "", rest: str = "", **options: object) -> object:
        options.setdefault("plugins", PLUGINS)
        return served(config=config_of(request, kind, own, rest), **options)

    return start


@pytest.fixture
def chat_inside(inside, request) -> Callable[..., object]:
    """The same in a thread of this process, in virtual time."""

    def start(own: str = "", rest: str = "", **options: object) -> object:
        options.setdefault("plugins", PLUGINS)
        return inside(config=config_of(request, "sqlite", own, rest), **options)

    return start


_numbers = count(1)


class Person(Client):
    """A client that is logged in; `id`, `nick` and `token` are its account's."""

    def __init__(self, server: object, nick: str = "user", **options: object) -> None:
        super().__init__(server.addresses[0], **options)
        self.nick = f"{nick}{next(_numbers)}"
        made = self.call("account.register", name=self.nick, password="correct horse battery")
        self.id, self.token = made["user"]["id"], made["token"]

    def heard(self, *kinds: str, room: str | None = None, timeout: float = 5.0) -> list[dict]:
        """The next events of these kinds, one each, in this order; others between them are passed over."""
        found: list[dict] = []
        for push in self.pushes(timeout):
            if push.method == "event.room" and push.params["kind"] == kinds[len(found)]:
                if room is None or push.params["room"] == room:
                    found.append(push.params)
                if len(found) == len(kinds):
                    return found
        raise AssertionError(f"heard {[one['kind'] for one in found]}, not {kinds}")

    def told(self, method: str, timeout: float = 5.0) -> dict:
        """The next push of this method."""
        for push in self.pushes(timeout):
            if push.method == method:
                return push.params
        raise AssertionError(f"no {method} came")


@pytest.fixture
def newcomer() -> Iterator[Callable[..., Person]]:
    """`newcomer(server, "ada")`: somebody new, logged in to a server of the test's own."""
    made: list[Person] = []

    def make(server: object, nick: str = "user", **options: object) -> Person:
        made.append(Person(server, nick, **options))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture
def person(server, newcomer) -> Callable[..., Person]:
    """The same for the module's server: `ada = person("ada")`."""
    return partial(newcomer, server)


@pytest.fixture
def talk(person, room_name) -> tuple[Person, Person, str]:
    """(ada, bob, the room that both are in)."""
    ada, bob = person("ada"), person("bob")
    room = ada.call("room.create", name=room_name)["id"]
    bob.call("room.join", room=room)
    return ada, bob, room


@pytest.fixture
def room_name() -> str:
    """A name that no other test's room has."""
    return f"Room {next(_numbers)}"
