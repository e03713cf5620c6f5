"""A server under measurement: a process of its own, on a core of its own, and what it uses."""

from __future__ import annotations

import importlib.util
import os
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).resolve().parent
_CORES = sorted(os.sched_getaffinity(0))
#: The servers take turns on the first core, the load generator has the last.
SERVER_CORE, LOAD_CORE = _CORES[0], _CORES[-1]
_START_S = 20.0
_STOP_S = 15.0


class Contender(NamedTuple):
    """How to start a server. `{port}`, `{data}` and `{config}` in `command` are filled in when it starts.

    `needs`: packages that must be installed; `config`: TOML text, written to the file `{config}`.
    """

    command: Sequence[str]
    needs: Sequence[str] = ()
    config: str = ""


def tidegate(*plugins: str, config: str = "", options: Sequence[str] = ()) -> Contender:
    """Tidegate with these installed plugins and no others, started as in production."""
    command = [sys.executable, "-m", "tidegate", "serve", "--only", ",".join(plugins) or "none"]
    command += ["--config", "{config}", "--data", "{data}", "--listen", "127.0.0.1:{port}", *options]
    return Contender(command, config=config)


def script(name: str, *options: str, needs: Sequence[str] = ()) -> Contender:
    """A server in a file beside this one, which takes its port as an argument."""
    return Contender([sys.executable, str(HERE / name), "{port}", *options], needs)


SERVERS = {
    "floor": script("floor.py"),
    "core": tidegate(config="[server]\nmax_connections = 1_000_000\n"),
    "aiorpcx": script("aiorpcx_server.py", needs=("aiorpcx",)),
    "aiorpcx-uvloop": script("aiorpcx_server.py", "--uvloop", needs=("aiorpcx", "uvloop")),
}


def missing(name: str) -> list[str]:
    """The packages that a server needs and that are not installed."""
    return [package for package in SERVERS[name].needs if importlib.util.find_spec(package) is None]


def raise_priority(nice: int, pid: int | str = "self") -> None:
    """Keep other programs from taking the core. Linux counts a nice value by session (autogroup) first."""
    Path(f"/proc/{pid}/autogroup").write_text(str(nice))
    os.setpriority(os.PRIO_PROCESS, 0 if pid == "self" else int(pid), nice)


class Process:
    """A running server; leaving the `with` stops it.

    Raises RuntimeError with what it printed when it does not come up.
    """

    def __init__(self, contender: Contender, nice: int = 0) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="tidegate-bench-")
        self.port = _free_port()
        folder = Path(self._folder.name)
        self._log, config = folder / "log", folder / "config.toml"
        config.write_text(contender.config)
        resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
        names = {"port": self.port, "data": folder / "data", "config": config}
        command = [part.format(**names) for part in contender.command]
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                command,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=lambda: os.sched_setaffinity(0, {SERVER_CORE}),
            )
        self.pid = self._process.pid
        try:
            if nice:
                raise_priority(nice, self.pid)
            self._wait_until_up()
        except BaseException:
            self.stop()
            raise
        self.rss_at_start = self.rss_kib()

    def _wait_until_up(self) -> None:
        end = time.monotonic() + _START_S
        while self._process.poll() is None and time.monotonic() < end:
            try:
                socket.create_connection(("127.0.0.1", self.port), 0.3).close()
                time.sleep(0.3)  # what it imports late is in memory then
                return
            except OSError:
                time.sleep(0.05)
        raise RuntimeError(f"{self._process.args!r} did not start:\n{self._log.read_text()[-2000:]}")

    def rss_kib(self) -> int:
        """Resident memory."""
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS"):
                return int(line.split()[1])
        return 0

    def cpu_s(self) -> float:
        """CPU seconds so far, all threads, to the nanosecond."""
        threads = Path(f"/proc/{self.pid}/task").glob("*/schedstat")
        return sum(int(thread.read_text().split()[0]) for thread in threads) / 1e9

    def stop(self) -> None:
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._folder.cleanup()

    def __enter__(self) -> Process:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])
