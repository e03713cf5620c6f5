"""Every sample under etc/ does what it says, on the real thing where this machine has it."""

from __future__ import annotations

import configparser
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

ETC = Path(__file__).resolve().parents[1] / "etc"
BIN = Path(sys.executable).parent

#: Which test looks at each file; a sample that nobody loads is a sample that goes stale.
LOOKED_AT = {
    "tidegate.toml": "tests/core/test_config.py",
    "minimal.toml": "tests/core/test_config.py",
    "tidegate.service": "here",
    "tidegate.socket": "here",
    "haproxy.cfg": "here",
    "requirements-dev.txt": "tests/test_packaging.py",
    "ruff.toml": "make lint",
    "towncrier.toml": "tests/test_packaging.py",
}


def test_every_sample_is_looked_at():
    root = ETC.parent
    found = {str(path.relative_to(ETC)) for path in ETC.rglob("*") if path.is_file()}
    unseen = found - set(LOOKED_AT)
    tests = "".join(path.read_text() for path in root.glob("plug*/*/tests/*.py"))
    assert [name for name in sorted(unseen) if Path(name).name not in tests] == [], "add it to LOOKED_AT, with its test"


# --- systemd --------------------------------------------------------------------------------------


@pytest.fixture
def units(tmp_path):
    """Both units, with the program that is installed here."""
    text = (ETC / "tidegate.service").read_text()
    (tmp_path / "tidegate.service").write_text(text.replace("/opt/tidegate/bin/tidegate", str(BIN / "tidegate")))
    shutil.copy(ETC / "tidegate.socket", tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", ["tidegate.service", "tidegate.socket"])
def test_systemd_finds_nothing_wrong_with_the_unit(units, need, name):
    done = subprocess.run([need("systemd-analyze"), "verify", units / name], capture_output=True, text=True)
    # It looks at the machine's own units too; only what it says of ours counts.
    assert [line for line in done.stderr.splitlines() if "tidegate" in line] == []


def unit(name: str) -> configparser.ConfigParser:
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str
    parser.read(ETC / name)
    return parser


def test_the_unit_gives_calls_the_time_to_finish():
    from tidegate.settings import SERVER

    service = unit("tidegate.service")["Service"]
    assert int(service["TimeoutStopSec"]) > SERVER["drain_timeout_s"]["default"] + 5
    assert service["Type"] == "notify"


def test_a_server_takes_the_socket_that_the_unit_names(served, need, tmp_path):
    """As systemd does it, without systemd: the same listener, by the name in tidegate.socket."""
    name = unit("tidegate.socket")["Socket"]["FileDescriptorName"]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    config = tmp_path / "tidegate.toml"
    config.write_text(f'[[listen]]\naddress = "fd:{name}"\n')
    activate = [need("systemd-socket-activate"), f"--listen=127.0.0.1:{port}", f"--fdname={name}", "--setenv=PATH"]
    serve = [
        sys.executable,
        "-m",
        "tidegate",
        "serve",
        "--only",
        "none",
        "--config",
        config,
        "--data",
        tmp_path / "data",
    ]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen([*activate, *serve], stdout=log, stderr=log)
    try:
        assert ask(port, tmp_path / "log") == b'{"jsonrpc":"2.0","id":1,"result":"pong"}\n'
    finally:
        process.terminate()
        process.wait(10)


def ask(port: int, log: Path, limit: float = 20.0) -> bytes:
    """A ping's reply, once somebody listens."""
    from tidegate.testing import wait_until

    def connected() -> socket.socket | None:
        try:
            return socket.create_connection(("127.0.0.1", port), limit)
        except ConnectionRefusedError:
            return None

    try:
        with wait_until(connected, limit) as sock:
            sock.sendall(b'{"jsonrpc":"2.0","id":1,"method":"system.ping"}\n')
            return sock.makefile("rb").readline()
    except (AssertionError, OSError) as error:
        raise AssertionError(f"{error}\n{log.read_text()}") from None


# --- HAProxy --------------------------------------------------------------------------------------


@pytest.fixture
def proxied(tmp_path, need, served):
    """HAProxy on the sample, before a server: gives the two ports (plain, TLS), the server and the certificate."""
    import trustme

    server = served(config='[[listen]]\naddress = "127.0.0.1:0"\nproxy_from = ["127.0.0.1/32"]\n')
    authority, pem = trustme.CA(), tmp_path / "tidegate.pem"
    leaf = authority.issue_cert("localhost", "127.0.0.1")
    leaf.private_key_and_cert_chain_pem.write_to_path(pem)
    ports = []
    for _ in range(2):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            ports.append(free.getsockname()[1])
    text = (ETC / "haproxy.cfg").read_text()
    changes = {
        "/etc/haproxy/tidegate.pem": pem,
        ":7420": f":{ports[0]}",
        ":7443": f":{ports[1]}",
        ":7422": f":{server.port}",
    }
    for old, new in changes.items():
        assert old in text
        text = text.replace(old, str(new))
    text = f"global\n  stats socket {tmp_path / 'stats'} level user\n{text.replace('inter 2s', 'inter 50ms')}"
    (tmp_path / "haproxy.cfg").write_text(text)
    checked = subprocess.run([need("haproxy"), "-c", "-f", tmp_path / "haproxy.cfg"], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stderr
    assert "WARNING" not in checked.stderr
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen([need("haproxy"), "-db", "-f", tmp_path / "haproxy.cfg"], stdout=log, stderr=log)
    yield ports, server, authority
    process.terminate()
    process.wait(10)


def test_haproxy_passes_calls_on_and_the_server_knows_the_clients_address(proxied, tmp_path, eventually):
    (plain, _), server, _ = proxied
    assert ask(plain, tmp_path / "log") == b'{"jsonrpc":"2.0","id":1,"result":"pong"}\n'
    with socket.create_connection(("127.0.0.1", plain), 10, ("127.0.0.9", 0)) as sock:
        sock.sendall(b'{"jsonrpc":"2.0","id":1,"method":"system.ping"}\n')
        sock.makefile("rb").readline()
        with server.raw_admin() as door:
            open_now = door.ask("system.connections")["result"]
    assert "127.0.0.9" in [one["address"] for one in open_now]


def test_haproxy_ends_tls(proxied, tmp_path):
    import ssl

    (plain, tls), _, authority = proxied
    ask(plain, tmp_path / "log")
    context = ssl.create_default_context()
    authority.configure_trust(context)
    with (
        socket.create_connection(("127.0.0.1", tls), 10) as sock,
        context.wrap_socket(sock, server_hostname="localhost") as secure,
    ):
        secure.sendall(b'{"jsonrpc":"2.0","id":1,"method":"system.ping"}\n')
        assert secure.recv(1000) == b'{"jsonrpc":"2.0","id":1,"result":"pong"}\n'


def test_haproxys_health_checks_are_answered_and_trouble_nobody(proxied, tmp_path, eventually):
    (plain, _), server, _ = proxied
    ask(plain, tmp_path / "log")

    def health() -> str:
        with socket.socket(socket.AF_UNIX) as sock:
            sock.connect(str(tmp_path / "stats"))
            sock.sendall(b"show stat\n")
            rows = [line.split(",") for line in sock.makefile() if line.startswith(("# pxname", "tidegates,one,"))]
        return dict(zip(*rows, strict=False))["check_status"]

    eventually(lambda: health() == "L7OK")
    assert server.log() == ""


def test_haproxy_waits_longer_than_the_server():
    from tidegate.settings import LISTEN

    text = (ETC / "haproxy.cfg").read_text()
    for end in ("client", "server"):
        seconds = re.search(rf"timeout {end} (\d+)s", text)
        assert int(seconds[1]) > LISTEN["idle_timeout_s"]["default"]
