"""Servers with accounts, on SQLite and on PostgreSQL."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

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


@pytest.fixture
def postgres(need, _clusters) -> Callable[[], str]:
    """Gives the URL of an empty database on a real PostgreSQL."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    path = found[-1] if found else shutil.which("initdb")
    need("postgresql", path is not None, "PostgreSQL's initdb is not on this machine")
    pytest.importorskip("psycopg")
    if not _clusters:
        _clusters.append(Postgres(Path(path).parent))
    return _clusters[0].database


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request) -> str:
    """Settings of the transactions plugin; a test that asks for it runs on both."""
    if request.param == "sqlite":
        return ""
    return f'url = "{request.getfixturevalue("postgres")()}"\nupgrade = "always"\n'


@pytest.fixture
def settings() -> Callable[..., str]:
    """TOML for a server with accounts."""

    def text(own: str = "", database: str = "", rest: str = "") -> str:
        return f"{rest}\n[plugins.accounts]\n{QUICK}{own}\n[plugins.transactions]\n{database}\n"

    return text


@pytest.fixture
def accounts(served, settings) -> Callable[..., object]:
    """A server with accounts in a subprocess."""

    def start(own: str = "", database: str = "", rest: str = "", **options: object) -> object:
        options.setdefault("plugins", ["accounts", "transactions"])
        return served(config=settings(own, database, rest), **options)

    return start


@pytest.fixture
def accounts_inside(inside, settings) -> Callable[..., object]:
    """The same in a thread of this process, in virtual time."""

    def start(own: str = "", database: str = "", rest: str = "", **options: object) -> object:
        options.setdefault("plugins", ["accounts", "transactions"])
        return inside(config=settings(own, database, rest), **options)

    return start
