"""A real PostgreSQL server, started from the system's binaries."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

TABLES = 'tables = ["transactions_shop:metadata"]\n'


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slow", action="store_true", help="Run the long versions of the bank and the kill tests.")


@pytest.fixture
def slow(request: pytest.FixtureRequest) -> bool:
    return bool(request.config.getoption("--slow", default=False))


@pytest.fixture
def shop(served) -> Callable[..., object]:
    """A server with this plugin and the commands of transactions_shop."""

    def start(settings: str = "", **options: object) -> object:
        config = f"[plugins.transactions]\n{TABLES}{settings}\n"
        return served(config=config, plugins=["transactions"], commands=["transactions_shop"], **options)

    return start


class PostgresServer:
    """One cluster in a temporary folder, on a port of its own."""

    def __init__(self, bin: Path) -> None:
        self.bin = bin
        self.folder = Path(tempfile.mkdtemp(prefix="tidegate-pg-"))
        self.folder.chmod(0o755)
        self.data = self.folder / "data"
        with socket.socket() as sock:
            sock.bind(("127.0.0.1", 0))
            self.port = sock.getsockname()[1]
        self.url = f"postgresql://tidegate@127.0.0.1:{self.port}/postgres"

    def _run(self, program: str, *args: str) -> None:
        # PostgreSQL refuses to run as root.
        user = {"user": "postgres", "group": "postgres", "extra_groups": []} if os.getuid() == 0 else {}
        subprocess.run(
            [str(self.bin / program), *args], check=True, cwd="/", timeout=60, stdout=subprocess.DEVNULL, **user
        )

    def create(self) -> None:
        if os.getuid() == 0:
            entry = pwd.getpwnam("postgres")
            os.chown(self.folder, entry.pw_uid, entry.pw_gid)
        self._run(
            "initdb",
            "-D",
            str(self.data),
            "-U",
            "tidegate",
            "--auth=trust",
            "-E",
            "UTF8",
            "--locale=C.UTF-8",
            "--no-sync",
        )
        with (self.data / "postgresql.conf").open("a") as conf:
            conf.write(
                f"listen_addresses = '127.0.0.1'\nport = {self.port}\nunix_socket_directories = ''\n"
                "fsync = off\nfull_page_writes = off\nmax_connections = 60\n"
            )

    def start(self) -> None:
        self._run("pg_ctl", "-D", str(self.data), "-l", str(self.folder / "log"), "-w", "-t", "30", "start")

    def stop(self, mode: str = "fast") -> None:
        self._run("pg_ctl", "-D", str(self.data), "-m", mode, "-w", "-t", "30", "stop")

    @property
    def pid(self) -> int:
        return int((self.data / "postmaster.pid").read_text().split()[0])

    def close(self) -> None:
        try:
            self.stop("immediate")
        except subprocess.CalledProcessError:
            pass
        shutil.rmtree(self.folder, ignore_errors=True)


@pytest.fixture(scope="session")
def _cluster() -> Iterator[list[PostgresServer]]:
    made: list[PostgresServer] = []
    yield made
    for server in made:
        server.close()


def _binaries() -> Path | None:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if found:
        return found[-1].parent
    path = shutil.which("initdb")
    return Path(path).parent if path else None


@pytest.fixture
def postgres(need, _cluster) -> PostgresServer:
    """A running PostgreSQL with no tables in it."""
    bin = _binaries()
    need("postgresql", bin is not None, "PostgreSQL's initdb is not on this machine")
    try:
        import psycopg
    except ImportError:
        need("psycopg", False, "psycopg 3 is not installed")
    if not _cluster:
        server = PostgresServer(bin)
        server.create()
        server.start()
        _cluster.append(server)
    (server,) = _cluster
    import psycopg

    end = time.monotonic() + 20
    while True:
        try:
            with psycopg.connect(server.url, autocommit=True) as connection:
                connection.execute("DROP SCHEMA public CASCADE")
                connection.execute("CREATE SCHEMA public")
            return server
        except psycopg.OperationalError:
            if time.monotonic() > end:
                raise
            time.sleep(0.1)
