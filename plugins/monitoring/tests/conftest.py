"""The real StatsD and the real Carbon, on the samples in etc/, each on free ports and in a folder of its own."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

ETC = Path(__file__).resolve().parents[3] / "etc"
NPM = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tidegate-tests/npm"

# A back end of a few lines: each flush as one line of JSON.
JSONL = """
const fs = require('fs');
exports.init = (startup, config, events) => {
  events.on('flush', (ts, m) => fs.appendFileSync(config.jsonlFile, JSON.stringify(
    { ts, counters: m.counters, gauges: m.gauges, timers: m.timer_data }) + '\\n'));
  return true;
};
"""
CARBON = """
[cache]
STORAGE_DIR = {folder}
LOCAL_DATA_DIR = {folder}/whisper
CONF_DIR = {folder}/conf
LOG_DIR = {folder}/log
PID_DIR = {folder}
USER =
DATABASE = whisper
ENABLE_LOGROTATION = False
MAX_CACHE_SIZE = inf
MAX_UPDATES_PER_SECOND = 5000
MAX_CREATES_PER_MINUTE = inf
MIN_TIMESTAMP_RESOLUTION = 1
LINE_RECEIVER_INTERFACE = 127.0.0.1
LINE_RECEIVER_PORT = {line}
PICKLE_RECEIVER_INTERFACE = 127.0.0.1
PICKLE_RECEIVER_PORT = {pickle}
CACHE_QUERY_INTERFACE = 127.0.0.1
CACHE_QUERY_PORT = {query}
CACHE_WRITE_STRATEGY = naive
"""


def free_port() -> int:
    """Free for TCP and for UDP."""
    while True:
        with socket.socket() as tcp, socket.socket(type=socket.SOCK_DGRAM) as udp:
            tcp.bind(("127.0.0.1", 0))
            try:
                udp.bind(tcp.getsockname())
            except OSError:
                continue
            return int(tcp.getsockname()[1])


class Program:
    """A program in the background; `log` is what it said."""

    def __init__(self, argv: list[str], folder: Path, port: int) -> None:
        self.path = folder / f"log-{port}"
        with self.path.open("wb") as log:
            self.process = subprocess.Popen(argv, cwd=folder, stdout=log, stderr=log)
        end = time.monotonic() + 20
        while True:
            try:
                return socket.create_connection(("127.0.0.1", port), 1).close()
            except OSError:
                if self.process.poll() is not None or time.monotonic() > end:
                    self.stop()
                    raise AssertionError(f"{argv[0]} did not start:\n{self.path.read_text()}") from None
                time.sleep(0.02)

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


class StatsD(Program):
    """The daemon, flushing each second unless told otherwise."""

    def __init__(self, need: Callable[..., str], folder: Path, changes: dict[str, str], tcp: bool = False) -> None:
        script = NPM / "node_modules/statsd/stats.js"
        need(str(script), ok=script.is_file(), why=f"the npm package statsd is not in {NPM}")
        self.port, admin = free_port(), free_port()
        self.flushed = folder / "flush.jsonl"
        text = (ETC / "statsd.js").read_text()
        settings = {"address": '"127.0.0.1"', "port": str(self.port), "mgmt_port": str(admin), "flushInterval": "1000"}
        for key, value in {**settings, **changes}.items():
            assert re.search(rf"\b{key}:", text), key
            text = re.sub(rf"\b{key}: [^,\n]+", f"{key}: {value}", text, count=1)
        (folder / "jsonl.js").write_text(JSONL)
        backends = re.search(r"backends: \[([^\]]*)\]", text)
        assert backends
        text = text.replace(backends[0], f'backends: [{backends[1]}, "{folder}/jsonl.js"], jsonlFile: "{self.flushed}"')
        if tcp:
            text = text.replace(
                "{", '{ servers: [{ server: "./servers/tcp", address: "127.0.0.1", port: %d }],' % self.port, 1
            )
        (folder / "statsd.js").write_text(text)
        super().__init__([need("node"), str(script), str(folder / "statsd.js")], folder, admin)

    def flushes(self) -> list[dict[str, Any]]:
        """The whole lines: the daemon may be writing the last one."""
        text = self.flushed.read_text() if self.flushed.exists() else ""
        return [json.loads(line) for line in text.split("\n")[:-1]]

    def total(self, counter: str) -> float:
        """Of all flushes."""
        return float(sum(flush["counters"].get(counter, 0) for flush in self.flushes()))

    def gauge(self, name: str) -> list[float]:
        """Its readings, in order."""
        return [flush["gauges"][name] for flush in self.flushes() if name in flush["gauges"]]


@pytest.fixture
def statsd(need, tmp_path_factory) -> Iterator[Callable[..., StatsD]]:
    """`statsd(tcp=True)`: starts a daemon that writes its flushes to a file."""
    started: list[StatsD] = []

    def start(tcp: bool = False, **changes: str) -> StatsD:
        daemon = StatsD(need, tmp_path_factory.mktemp("statsd"), {"graphitePort": str(free_port()), **changes}, tcp)
        started.append(daemon)
        return daemon

    yield start
    for daemon in started:
        daemon.stop()


class Graphite:
    """Carbon behind StatsD."""

    def __init__(self, need: Callable[..., str], folder: Path) -> None:
        self.folder = folder
        self._fetch, self._info = need("whisper-fetch"), need("whisper-info")
        ports = {name: free_port() for name in ("line", "pickle", "query")}
        for name in ("conf", "log", "whisper"):
            (folder / name).mkdir()
        (folder / "conf/carbon.conf").write_text(CARBON.format(folder=folder, **ports))
        # Seconds instead of tens of seconds: tests don't wait so long.
        schemas = (ETC / "storage-schemas.conf").read_text()
        assert "10s:" in schemas
        (folder / "conf/storage-schemas.conf").write_text(schemas.replace("10s:", "1s:"))
        (folder / "conf/storage-aggregation.conf").write_text((ETC / "storage-aggregation.conf").read_text())
        argv = [need("carbon-cache"), f"--config={folder}/conf/carbon.conf", f"--pidfile={folder}/carbon.pid"]
        self.carbon = Program([*argv, f"--logdir={folder}/log/", "--nodaemon", "start"], folder, ports["line"])
        try:
            self.statsd = StatsD(need, folder, {"graphitePort": str(ports["line"])})
        except BaseException:
            self.carbon.stop()
            raise

    def file(self, metric: str) -> Path:
        return self.folder / "whisper" / f"{metric.replace('.', '/')}.wsp"

    def values(self, metric: str) -> list[float]:
        """What Whisper holds of the last five minutes."""
        if not self.file(metric).exists():
            return []
        argv = [self._fetch, "--drop=nulls", f"--from={int(time.time()) - 300}", str(self.file(metric))]
        lines = subprocess.run(argv, capture_output=True, text=True, check=True).stdout.splitlines()
        return [float(line.split()[1]) for line in lines]

    def info(self, metric: str) -> str:
        return subprocess.run([self._info, str(self.file(metric))], capture_output=True, text=True, check=True).stdout

    def stop(self) -> None:
        self.statsd.stop()
        self.carbon.stop()


@pytest.fixture
def graphite(need, tmp_path_factory) -> Iterator[Graphite]:
    running = Graphite(need, tmp_path_factory.mktemp("graphite"))
    yield running
    running.stop()
