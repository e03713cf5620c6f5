"""What the service manager gets to hear, and which sockets it hands over."""

from __future__ import annotations

import fcntl
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from tidegate.systemd import listen_sockets, notify

PROGRAM = """
import json, os, sys
os.environ["LISTEN_PID"] = sys.argv[1] if len(sys.argv) > 1 else str(os.getpid())
from tidegate.systemd import listen_sockets
found = listen_sockets()
print(json.dumps({
    "names": {name: sock.getsockname()[1] for name, sock in found.items()},
    "inheritable": [os.get_inheritable(sock.fileno()) for sock in found.values()],
    "variables": [name for name in os.environ if name.startswith("LISTEN_")],
    "again": len(listen_sockets()),
    "accepts": [sock.getsockopt(1, 30) for sock in found.values()],
}))
"""


@pytest.fixture
def manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A service manager's socket; `manager(name)` binds it and sets the variable."""
    opened = []

    def bind(name: str) -> socket.socket:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        opened.append(sock)
        sock.bind("\0" + name[1:] if name.startswith("@") else name)
        sock.settimeout(5)
        monkeypatch.setenv("NOTIFY_SOCKET", name)
        return sock

    yield bind
    for sock in opened:
        sock.close()


def activated(names: str | None, *sockets: socket.socket, arguments: tuple[str, ...] = ()):
    """Run PROGRAM with these sockets from descriptor 3 on, as systemd would."""
    environment = {**os.environ, "LISTEN_FDS": str(len(sockets)), "LISTEN_PIDFDID": "7"}
    if names is not None:
        environment["LISTEN_FDNAMES"] = names
    redirections = " ".join(f"{3 + n}<&{sock.fileno()}" for n, sock in enumerate(sockets))
    return subprocess.run(
        [
            "bash",
            "-c",
            f'exec "$@" {redirections}',
            "bash",
            sys.executable,
            "-c",
            PROGRAM,
            *arguments,
        ],
        env=environment,
        pass_fds=[sock.fileno() for sock in sockets],
        capture_output=True,
        text=True,
        timeout=30,
    )


@pytest.fixture
def listeners():
    """Three listening sockets, with descriptors high enough not to be overwritten on the way."""
    made = []
    for _ in range(3):
        with socket.create_server(("127.0.0.1", 0)) as sock:
            made.append(socket.socket(fileno=fcntl.fcntl(sock, fcntl.F_DUPFD_CLOEXEC, 50)))
    yield made
    for sock in made:
        sock.close()


@pytest.mark.parametrize("abstract", [False, True])
def test_the_manager_hears_what_is_told(manager, tmp_path, abstract):
    sock = manager(f"@tidegate-test-{os.getpid()}" if abstract else str(tmp_path / "notify"))
    assert notify("READY=1\nSTATUS=Serving")
    assert sock.recv(100) == b"READY=1\nSTATUS=Serving"


def test_without_a_manager_nothing_happens(monkeypatch):
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    assert not notify("READY=1")


@pytest.mark.parametrize("address", ["", "relative", "/no/such/socket", "/" + "x" * 200, "vsock:2:1234", "@"])
def test_a_manager_that_is_not_there_is_no_error(monkeypatch, address):
    monkeypatch.setenv("NOTIFY_SOCKET", address)
    assert not notify("READY=1")


def test_a_manager_that_does_not_listen_holds_nobody_up(manager, tmp_path):
    manager(str(tmp_path / "notify"))
    told = [notify("WATCHDOG=1") for _ in range(5000)]
    assert told[0]
    assert not told[-1]


def test_a_text_that_can_not_be_sent_is_no_error(manager, tmp_path):
    manager(str(tmp_path / "notify"))
    assert not notify("STATUS=\ud800")


def test_sockets_are_handed_over_by_name(listeners):
    done = activated("json:admin:json", *listeners)
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    ports = [sock.getsockname()[1] for sock in listeners]
    assert seen["names"] == {"json": ports[0], "admin": ports[1], "json.1": ports[2]}
    assert seen["inheritable"] == [False] * 3
    assert seen["variables"] == []
    assert seen["again"] == 0
    assert seen["accepts"] == [1] * 3


@pytest.mark.parametrize("names", [None, "unknown:unknown"])
def test_sockets_without_names_are_known_by_their_numbers(listeners, names):
    done = activated(names, *listeners[:2])
    assert done.returncode == 0, done.stderr
    assert f'"3": {listeners[0].getsockname()[1]}' in done.stdout
    assert f'"4": {listeners[1].getsockname()[1]}' in done.stdout


def test_sockets_meant_for_another_process_are_left_alone(listeners):
    done = activated("json", listeners[0], arguments=("1",))
    assert '"names": {}' in done.stdout
    assert '"variables": []' in done.stdout


def test_names_that_do_not_fit_are_told(listeners):
    done = activated("json", *listeners[:2])
    assert "LISTEN_FDNAMES has 1 names for 2 descriptors" in done.stderr


@pytest.mark.parametrize(("pid", "count"), [("x", "1"), ("self", "-1"), ("self", "99999999")])
def test_senseless_variables_are_told(monkeypatch, pid, count):
    monkeypatch.setenv("LISTEN_PID", str(os.getpid()) if pid == "self" else pid)
    monkeypatch.setenv("LISTEN_FDS", count)
    with pytest.raises(ValueError, match="LISTEN_FDS"):
        listen_sockets()
    assert "LISTEN_FDS" not in os.environ


def test_without_systemd_there_are_no_sockets(monkeypatch):
    monkeypatch.delenv("LISTEN_FDS", raising=False)
    assert listen_sockets() == {}
