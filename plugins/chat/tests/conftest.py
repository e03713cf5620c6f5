"""Servers with a chat, on SQLite and on PostgreSQL, and people who use it."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest
from tidegate import Client

#: Hashing that is quick enough for hundreds of accounts.
QUICK = "argon2_memory_kib = 64\nargon2_passes = 1\n"


class Postgres:
    """One cluster in a temporary folder; each test gets a database of its own."""

    def __init__(self, bin: Path) -> None:
        self.bin = bin
        self.folder = Path(tempfile.mkdtemp(prefix="tidegate-pg-"))
        with socket.socket() as sock:
            sock.bind(("127.0.0.1", 0))
            self.port = sock.getsockname()[1]
        self.made = 0
        if os.getuid() == 0:  # PostgreSQL refuses to run as root
            entry = pwd.getpwnam("postgres")
            os.chown(self.folder, entry.pw_uid, entry.pw_gid)
        data = str(self.folder / "data")
        self._run("initdb", "-D", data, "-U", "tidegate", "--auth=trust", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync")
        options = f"-h 127.0.0.1 -p {self.port} -k '' -c fsync=off -c full_page_writes=off -c max_connections=60"
        self._run("pg_ctl", "-D", data, "-l", str(self.folder / "log"), "-w", "-t", "30", "-o", options, "start")

    def _run(self, program: str, *args: str) -> None:
        user = {"user": "postgres", "group": "postgres", "extra_groups": []} if os.getuid() == 0 else {}
        subprocess.run([self.bin / program, *args], check=True, cwd="/", timeout=60, stdout=subprocess.DEVNULL, **user)

    def database(self) -> str:
        """The URL of an empty database."""
        self.made += 1
        name = f"test{self.made}"
        self._run("createdb", "-h", "127.0.0.1", "-p", str(self.port), "-U", "tidegate", name)
        return f"postgresql://tidegate@127.0.0.1:{self.port}/{name}"

    def close(self) -> None:
        subprocess.run(
            [self.bin / "pg_ctl", "-D", self.folder / "data", "-m", "immediate", "-w", "stop"],
            **({"user": "postgres", "group": "postgres", "extra_groups": []} if os.getuid() == 0 else {}),
            cwd="/",
            stdout=subprocess.DEVNULL,
        )
        shutil.rmtree(self.folder, ignore_errors=True)


@pytest.fixture(scope="session")
def _clusters() -> Iterator[list[Postgres]]:
    made: list[Postgres] = []
    yield made
    for cluster in made:
        cluster.close()


@pytest.fixture(scope="session")
def postgres(pytestconfig, _clusters) -> Callable[[], str]:
    """Gives the URL of an empty database on a real PostgreSQL."""

    def make() -> str:
        found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
        path = found[-1] if found else shutil.which("initdb")
        if path is None:
            want = pytest.fail if pytestconfig.getoption("--require-services") else pytest.skip
            want("PostgreSQL's initdb is not on this machine")
        pytest.importorskip("psycopg")
        if not _clusters:
            _clusters.append(Postgres(Path(path).parent))
        return _clusters[0].database()

    return make


def config_of(kind: str, postgres: Callable[[], str], own: str = "", rest: str = "") -> str:
    """TOML for a server with a chat on `sqlite` or `postgresql`."""
    database = f'url = "{postgres()}"\nupgrade = "always"\n' if kind == "postgresql" else ""
    return f"{rest}\n[plugins.accounts]\n{QUICK}\n[plugins.transactions]\n{database}\n[plugins.chat]\n{own}\n"


PLUGINS = ["accounts", "chat", "transactions"]


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def server(request, postgres, tmp_path_factory) -> Iterator[object]:
    """One server for all tests of a module; they meet nobody else's people and rooms."""
    from tidegate.testing.served import Served  # not above: it would hide the fixture of this name

    server = Served(tmp_path_factory.mktemp("chat"), config_of(request.param, postgres), plugins=PLUGINS)
    server.start()
    yield server
    server.finish()


@pytest.fixture
def chat(served, postgres) -> Callable[..., object]:
    """A server of a test's own: `chat("sqlite", own="…")`."""

    def start(kind: str = "sqlite", own: str = "", rest: str = "", **options: object) -> object:
        options.setdefault("plugins", PLUGINS)
        return served(config=config_of(kind, postgres, own, rest), **options)

    return start


@pytest.fixture
def chat_inside(inside, postgres) -> Callable[..., object]:
    """The same in a thread of this process, in virtual time."""

    def start(own: str = "", rest: str = "", **options: object) -> object:
        options.setdefault("plugins", PLUGINS)
        return inside(config=config_of("sqlite", postgres, own, rest), **options)

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
def person(server) -> Iterator[Callable[..., Person]]:
    """`ada = person("ada")`: somebody new, logged in to the module's server."""
    made: list[Person] = []

    def make(nick: str = "user", **options: object) -> Person:
        made.append(Person(server, nick, **options))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture
def newcomer() -> Iterator[Callable[..., Person]]:
    """The same for a server of the test's own: `newcomer(server, "ada")`."""
    made: list[Person] = []

    def make(server: object, nick: str = "user", **options: object) -> Person:
        made.append(Person(server, nick, **options))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture
def room_name() -> str:
    """A name that no other test's room has."""
    return f"Room {next(_numbers)}"
