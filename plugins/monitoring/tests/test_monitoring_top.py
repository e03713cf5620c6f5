"""`tidegate top` on a real terminal, and `tidegate report`."""

from __future__ import annotations

import json
import subprocess
import sys
import uuid
from pathlib import Path

import pytest

TIDEGATE = str(Path(sys.executable).parent / "tidegate")


class Screen:
    """A terminal of 100 by 24 in a tmux of its own."""

    def __init__(self, tmux: str, *argv: str) -> None:
        self._tmux = [tmux, "-L", f"tidegate-{uuid.uuid4().hex[:8]}", "-f", "/dev/null"]
        self._run("new-session", "-d", "-x", "100", "-y", "24", *argv)
        self._run("set-option", "-g", "remain-on-exit", "on")

    def _run(self, *argv: str) -> str:
        return subprocess.run([*self._tmux, *argv], capture_output=True, text=True, check=True).stdout

    def text(self) -> str:
        return self._run("capture-pane", "-p")

    def type(self, *keys: str) -> None:
        self._run("send-keys", *keys)

    def ended(self) -> bool:
        return self._run("list-panes", "-F", "#{pane_dead}").strip() == "1"

    def close(self) -> None:
        subprocess.run([*self._tmux, "kill-server"], capture_output=True)


@pytest.fixture
def screen(need):
    opened: list[Screen] = []

    def open_(*argv: str) -> Screen:
        opened.append(Screen(need("tmux"), *argv))
        return opened[-1]

    yield open_
    for one in opened:
        one.close()


def test_top_shows_what_goes_on_and_takes_keys(served, screen, eventually):
    rules = 'rules.pings.critical = "count(calls.system.ping) > 5"'
    server = served(f"[plugins.monitoring]\n{rules}\n", plugins=["monitoring"])
    top = screen(TIDEGATE, "top", "--data", str(server.data), "--every", "0.3")

    def shows(*texts: str) -> str:
        return eventually(lambda: all(text in (seen := top.text()) for text in texts) and seen, timeout=20)

    shows("calls", "loop lag", "connections", "q quit")
    with server.client() as client:
        for _ in range(20):
            client.call("system.ping")
            client.call("system.echo", text="x")
        with server.raw() as raw:
            raw.ask("system.echo", {"text": 5})
        seen = shows("critical", "pings 20, rule: count(calls.system.ping) > 5", "system.echo", "1113×1", "sort: calls")
        assert seen.index("system.echo") < seen.index("system.info")
        top.type("s")
        seen = shows("sort: failed")
        top.type("s", "s")
        seen = shows("sort: name")
        top.type("p")
        shows("paused")
        top.type("p", "-")
        shows("every 0.6 s")
    server.stop()
    shows("no answer")
    server.start()
    eventually(lambda: "no answer" not in top.text(), timeout=20)
    top.type("q")
    eventually(top.ended)


def test_top_fits_a_small_terminal(served, screen, eventually):
    server = served(plugins=["monitoring"])
    with server.client() as client:
        client.call("system.ping")
    top = screen(TIDEGATE, "top", "--data", str(server.data), "--every", "0.3")
    eventually(lambda: "loop lag" in top.text(), timeout=20)
    top._run("resize-window", "-x", "50", "-y", "8")
    eventually(lambda: "q quit" in (seen := top.text()) and "command" in seen)
    assert len(top.text().rstrip().splitlines()) <= 8
    top.type("C-c")
    eventually(top.ended)


def run(*argv: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([TIDEGATE, *argv], capture_output=True, text=True, timeout=60)


def test_top_in_a_pipe_is_one_look(served, eventually):
    server = served(plugins=["monitoring"])
    with server.client() as client, server.admin() as admin:
        client.call("system.ping")
        eventually(lambda: admin.call("monitoring.metrics")["since_start"]["calls"] > 1)
    done = run("top", "--data", str(server.data), "--over", "60")
    assert done.returncode == 0, done.stderr
    assert "system.ping" in done.stdout
    assert "\x1b" not in done.stdout
    found = json.loads(run("top", "--data", str(server.data), "--over", "60", "--json").stdout)
    assert "system.ping" in [row["command"] for row in found["calls"]]


def test_who_is_no_administrator_sees_nothing(served):
    server = served(plugins=["monitoring"])
    done = run("top", "--connect", server.addresses[0])
    assert done.returncode == 1
    assert "1010" in done.stderr


def test_nobody_answers(tmp_path):
    assert run("report", "--data", str(tmp_path)).returncode == 3


def test_a_report_for_people_and_for_programs(served, eventually):
    server = served(plugins=["monitoring"])
    with server.client() as client, server.admin() as admin:
        for _ in range(30):
            client.call("system.echo", text="x")
        eventually(lambda: admin.call("monitoring.metrics")["since_start"]["calls"] > 30)
    done = run("report", "--data", str(server.data))
    assert done.returncode == 0, done.stderr
    for text in ("Busiest", "system.echo", "Resources and connections", "Recommendations"):
        assert text in done.stdout
    found = json.loads(run("report", "--data", str(server.data), "--span", "1h", "--json").stdout)
    assert found["span"] == "1h"
    assert found["busiest"][0]["count"] >= 30
