"""A real PostgreSQL for tests, made from the programs of this machine and gone after the run."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from itertools import count
from pathlib import Path
from typing import Any


class Postgres:
    """One cluster in a temporary folder, on a free port of 127.0.0.1; each test makes a database of its own.

    It forgets what it wrote when the machine fails (`fsync = off`), and nothing when it is stopped or killed.
    """

    def __init__(self, programs: Path) -> None:
        self.programs = programs
        self.folder = Path(tempfile.mkdtemp(prefix="tidegate-pg-"))
        self.data = self.folder / "data"
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self._made = count(1)
        self._as: dict[str, Any] = {}
        if os.getuid() == 0:  # PostgreSQL refuses to run as root
            user = pwd.getpwnam("postgres")
            os.chown(self.folder, user.pw_uid, user.pw_gid)
            self._as = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
        options = ["--auth=trust", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync"]
        self._run("initdb", "-D", self.data, "-U", "tidegate", *options)
        with (self.data / "postgresql.conf").open("a") as settings:
            settings.write(
                f"listen_addresses = '127.0.0.1'\nport = {self.port}\nunix_socket_directories = ''\n"
                "fsync = off\nfull_page_writes = off\nmax_connections = 60\n"
            )
        self.start()

    def _run(self, program: str, *words: str | Path, check: bool = True) -> int:
        """Its exit code; with `check` CalledProcessError unless that is 0."""
        command = [self.programs / program, *words]
        return subprocess.run(
            command, check=check, cwd="/", timeout=90, stdout=subprocess.DEVNULL, **self._as
        ).returncode

    def _control(self, *words: str, check: bool = True) -> int:
        log = str(self.folder / "log")
        return self._run("pg_ctl", "-D", self.data, "-l", log, "-w", "-t", "60", *words, check=check)

    def database(self) -> str:
        """The URL of a new, empty database; the server is started again where a test has left it stopped."""
        if not self.runs():
            self.start()
        name = f"test{next(self._made)}"
        self._run("createdb", "-h", "127.0.0.1", "-p", str(self.port), "-U", "tidegate", name)
        return f"postgresql://tidegate@127.0.0.1:{self.port}/{name}"

    def start(self) -> None:
        """Returns when it takes connections."""
        self._control("start")

    def stop(self, mode: str = "fast") -> None:
        """`immediate`: as if it had crashed."""
        self._control("-m", mode, "stop")

    def runs(self) -> bool:
        return self._control("status", check=False) == 0

    @property
    def pid(self) -> int:
        return int((self.data / "postmaster.pid").read_text().split()[0])

    def close(self) -> None:
        self._control("-m", "immediate", "stop", check=False)
        shutil.rmtree(self.folder, ignore_errors=True)


def programs() -> Path | None:
    """The folder of the newest PostgreSQL's programs: Debian's place, else where `initdb` is on PATH."""
    installed = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=_version)
    found = str(installed[-1]) if installed else shutil.which("initdb")
    return Path(found).parent if found else None


def _version(program: Path) -> float:
    try:
        return float(program.parts[-3])
    except ValueError:
        return 0.0
