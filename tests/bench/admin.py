"""What the admin site's open pages cost the TCP service, and what a request to its API takes.

    python tests/bench/admin.py                            # aim: 20 open dashboards cost under 3 %
    python tests/bench/admin.py --pages 50 --rounds 15 --json out.json

Two servers with the same plugins take turns on one core: one has nobody looking, at the other 20 pages are open,
each with the overview's live stream, which they read as browsers do (a process of its own on the other core; real
browsers would need more than this machine has). A window is longer than the pages' beat of 2 s, so that each holds
its share. The ratio of answers per second of the server's CPU counts; other programs can't take that away.
"""

from __future__ import annotations

import argparse
import http.client
import json
import multiprocessing
import os
import re
import statistics
import sys
import time
from pathlib import Path
from typing import Any

from pairs import LOADS, pair
from process import LOAD_CORE, Process, tidegate
from windows import keep

PLUGINS = ("admin", "errors", "monitoring", "security", "validation")
WATCHED = ("errors.stats", "monitoring.alerts", "monitoring.metrics", "security.status")
CONFIG = """
[plugins.admin]
listen = "127.0.0.1:0"
rate = "100000/second"
[plugins.validation]
user_rate = "off"
address_rate = "off"
"""
AIM = 0.97


class Site:
    """The site of a server under measurement."""

    def __init__(self, server: Process) -> None:
        words = Path(f"/proc/{server.pid}/cmdline").read_bytes().split(b"\0")
        self.data = Path(os.fsdecode(words[words.index(b"--data") + 1]))
        self.token = (self.data / "admin/token").read_text().strip()
        found = re.search(r"admin site on http://127\.0\.0\.1:(\d+)", (self.data.parent / "log").read_text())
        assert found is not None
        self.port = int(found[1])

    def get(self, connection: http.client.HTTPConnection, path: str) -> http.client.HTTPResponse:
        connection.request("GET", path, headers={"Authorization": f"Bearer {self.token}"})
        return connection.getresponse()


def look(port: int, token: str, pages: int, ready: Any) -> None:
    """Read live streams until this process is ended."""
    import selectors
    import socket

    os.sched_setaffinity(0, {LOAD_CORE})
    os.nice(5)
    watched = "&".join(f"watch={name}" for name in WATCHED)
    head = f"GET /api/v1/stream?{watched} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {token}\r\n\r\n"
    waiting = selectors.DefaultSelector()
    for _ in range(pages):
        sock = socket.create_connection(("127.0.0.1", port))
        sock.sendall(head.encode())
        assert sock.recv(65536).startswith(b"HTTP/1.1 200 ")
        waiting.register(sock, selectors.EVENT_READ)
    ready.set()
    while True:
        for key, _ in waiting.select():
            if not key.fileobj.recv(262_144):  # type: ignore[union-attr]
                raise SystemExit("a live page was closed")


def pages(args: argparse.Namespace) -> dict[str, Any]:
    with Process(tidegate(*PLUGINS, config=CONFIG)) as base, Process(tidegate(*PLUGINS, config=CONFIG)) as watched:
        site, ready = Site(watched), multiprocessing.Event()
        viewer = multiprocessing.Process(target=look, args=(site.port, site.token, args.pages, ready), daemon=True)
        viewer.start()
        try:
            assert ready.wait(30), "the pages could not be opened"
            found = pair(base, watched, LOADS[args.load], args.rounds, args.seconds)
            connection = http.client.HTTPConnection("127.0.0.1", site.port)
            open_now = json.loads(site.get(connection, "/api/v1/whoami").read())
            assert viewer.is_alive(), "the pages did not stay open"
            assert open_now["id"] == "operator"
        finally:
            viewer.terminate()
            viewer.join()
    return found._asdict()


def requests(count: int) -> dict[str, float]:
    """One after the other over one kept connection, µs."""
    with Process(tidegate(*PLUGINS, config=CONFIG)) as server:
        site = Site(server)
        connection = http.client.HTTPConnection("127.0.0.1", site.port)
        found = {}
        for path in ("/health/live", "/api/v1/whoami", "/api/v1/errors", "/metrics"):
            took = []
            for _ in range(count):
                start = time.perf_counter()
                site.get(connection, path).read()
                took.append(time.perf_counter() - start)
            found[path] = statistics.median(took) * 1e6
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pages", type=int, default=20, help="open dashboards (default 20)")
    parser.add_argument("--rounds", type=int, default=9, help="windows of each server (default 9)")
    parser.add_argument("--seconds", type=float, default=4.0, help="length of a window (default 4)")
    parser.add_argument("--load", choices=LOADS, default="c50", help="default: c50, 50 connections at depth 1")
    parser.add_argument("--requests", type=int, default=300, help="requests to each path (default 300)")
    parser.add_argument("--json", metavar="FILE", help="write the figures there too")
    args = parser.parse_args()
    found = pages(args)
    print(
        f"{args.pages} open dashboards, {args.load}: {found['base_rate']:,.0f} req/s without, {found['rate']:,.0f} with"
    )
    print(f"  ratio {found['ratio']}, of answers per CPU-s {found['per_cpu']} (aim: {AIM}); p99 {found['p99_ratio']}")
    took = requests(args.requests)
    print("A request over a kept connection, median:")
    for path, micros in took.items():
        print(f"  {path:20s}{micros:8.0f} µs")
    keep({"pages": found, "requests_us": took}, args.json)
    sys.exit(found["bad"] > 0)


if __name__ == "__main__":
    main()
