"""`tidegate serve` as an operator runs it: start, signals, reload, trouble, end."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import socket
import ssl
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import trustme

SOURCE = """
import time
from pathlib import Path
import gevent
from tidegate import command

@command("wait.for")
def wait(seconds: float) -> str:
    gevent.sleep(seconds)
    return "waited"

@command("wait.until")
def wait_until(file: str) -> str:
    Path(file + ".begun").touch()
    while not Path(file).exists():
        gevent.sleep(0.01)
    return "waited"

@command("block.for")
def block(seconds: float) -> str:
    time_sleep = __import__("gevent.monkey").monkey.get_original("time", "sleep")
    time_sleep(seconds)
    return "blocked"

@command("fail.now")
def fail() -> None:
    raise ValueError("here is why")
"""


def line(method: str, *params: object, id: int = 1) -> bytes:
    return json.dumps({"jsonrpc": "2.0", "id": id, "method": method, "params": params}).encode() + b"\n"


# --- start ----------------------------------------------------------------------------------------


def test_it_needs_no_file_and_says_in_one_line_where_it_listens(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-m", "tidegate", "serve", "--listen", "127.0.0.1:0", "--only", "none"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    told = process.stdout.readline()
    port = int(told.split(" serves on 127.0.0.1:")[1].split()[0])
    with socket.create_connection(("127.0.0.1", port)) as sock:
        sock.sendall(line("system.ping"))
        assert b"pong" in sock.recv(1000)
    process.terminate()
    out, err = process.communicate(timeout=20)
    assert (process.returncode, out) == (0, "")
    assert (tmp_path / "data" / "lock").exists()
    assert "Traceback" not in err


def test_an_address_in_use_a_bad_file_and_an_unknown_plugin_are_refused_with_the_reason(served, tmp_path):
    server = served()

    def attempt(*args: str) -> tuple[int, str]:
        done = subprocess.run(
            [sys.executable, "-m", "tidegate", "serve", "--data", str(tmp_path / "d"), *args],
            capture_output=True,
            text=True,
            timeout=30,
        )
        return done.returncode, done.stderr

    code, err = attempt("--only", "none", "--listen", server.addresses[0])
    assert code == 1
    assert f"listen {server.addresses[0]}" in err
    (tmp_path / "bad.toml").write_text("[server]\nthreds = 3\n")
    code, err = attempt("--only", "none", "--config", str(tmp_path / "bad.toml"))
    assert code == 1
    assert err.strip() == f"{tmp_path}/bad.toml:2: server.threds: unknown key; did you mean 'threads'?"
    code, err = attempt("--only", "no-such")
    assert code == 1
    assert "no plugin named 'no-such'" in err
    code, err = attempt("--only", "none", "--listen", "0.0.0.0:0")
    assert code == 1
    assert "open = true" in err
    code, err = attempt("--only", "none", "--data", str(server.data))
    assert code == 1
    assert "another server uses the folder" in err


def test_the_operators_socket_is_the_operators_alone(served):
    server = served()
    mode = (server.data / "admin.sock").stat().st_mode
    assert stat.S_ISSOCK(mode)
    assert stat.S_IMODE(mode) == 0o600
    with server.raw_admin() as door:
        assert any(row["key"] == "server.name" for row in door.ask("system.config")["result"])
    if os.getuid() == 0:  # somebody else, even if the folder let him in
        os.chmod(server.data / "admin.sock", 0o666)
        for folder in (server.data, *server.data.parents):
            if folder.stat().st_uid == 0 and str(folder).startswith(str(server.folder.parent.parent)):
                os.chmod(folder, folder.stat().st_mode | 0o055)
        script = (
            "import os,socket,sys\nos.setuid(65534)\ns=socket.socket(socket.AF_UNIX)\n"
            "s.connect(sys.argv[1])\ns.settimeout(5)\n"
            'try: s.sendall(b\'{"jsonrpc":"2.0","id":1,"method":"system.ping"}\\n\'); print(s.recv(99))\n'
            "except OSError as e: print(b'')\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", script, str(server.data / "admin.sock")], capture_output=True, text=True, timeout=20
        )
        assert "pong" not in done.stdout
    server.stop()
    assert not (server.data / "admin.sock").exists()


def test_a_path_too_long_for_a_socket_works(served, tmp_path_factory):
    server = served()
    server.stop()
    server.data = server.folder / ("d" * 100) / ("e" * 60)
    server._args[server._args.index("--data") + 1] = str(server.data)
    server.start()
    folder = os.open(server.data, os.O_RDONLY)
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(f"/proc/self/fd/{folder}/admin.sock")
        sock.sendall(line("system.ping"))
        assert b"pong" in sock.recv(1000)
    os.close(folder)


def test_a_socket_that_a_killed_server_left_behind_is_replaced(served):
    server = served()
    server.kill()
    assert (server.data / "admin.sock").exists()
    server.start()
    with server.raw_admin() as door:
        assert door.ask("system.ping")["result"] == "pong"


def test_systemd_is_told_and_hands_over_its_sockets(served, tmp_path):
    notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    notify.bind(str(tmp_path / "notify"))
    notify.settimeout(10)
    server = served(env={"NOTIFY_SOCKET": str(tmp_path / "notify")})
    assert b"READY=1" in notify.recv(1000)
    server.signal(signal.SIGHUP)
    assert b"RELOADING=1" in notify.recv(1000)
    assert b"READY=1" in notify.recv(1000)
    server.stop()
    assert b"STOPPING=1" in notify.recv(1000)


def test_a_socket_from_systemd_is_served(served, need):
    activate = need("systemd-socket-activate")
    probe = socket.create_server(("127.0.0.1", 0))
    port = probe.getsockname()[1]
    probe.close()
    server = served()
    server.stop()
    args = [part.replace("listen.0.address=127.0.0.1:0", "listen.0.address=fd:3") for part in server._args]
    command = [activate, "-l", f"127.0.0.1:{port}", *args]
    process = subprocess.Popen(command, cwd=server.folder, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    try:
        for _ in range(200):
            try:
                sock = socket.create_connection(("127.0.0.1", port), 10)
                break
            except OSError:
                time.sleep(0.02)
        sock.sendall(line("system.ping"))
        assert b"pong" in sock.recv(1000)
    finally:
        process.terminate()
        process.wait(20)


# --- the end --------------------------------------------------------------------------------------


class Held:
    """A call that runs until it is let go."""

    def __init__(self, folder: Path, eventually) -> None:
        self._file = folder / "go"
        self._eventually = eventually

    def begin(self, raw) -> None:
        """Returns when it runs."""
        raw.send(line("wait.until", str(self._file)))
        self._eventually(Path(f"{self._file}.begun").exists, 20)

    def let_go(self) -> None:
        self._file.touch()


@pytest.fixture
def held(tmp_path, eventually):
    return Held(tmp_path, eventually)


def test_sigterm_finishes_calls_in_flight_tells_idle_clients_and_accepts_nobody(served, held):
    server = served("[server]\ndrain_timeout_s = 600\n", source=SOURCE)
    idle, busy = server.raw(), server.raw()
    idle.ask("system.ping")
    held.begin(busy)
    server.signal(signal.SIGTERM)
    push = idle.json()
    assert push["method"] == "event.shutdown"
    assert idle.closed()
    with pytest.raises(OSError):  # noqa: PT011  (refused or reset)
        server.raw().ask("system.ping")
    assert busy.json()["method"] == "event.shutdown"
    held.let_go()
    assert busy.json()["result"] == "waited"
    assert busy.closed()
    assert server.wait() == 0


def test_an_operator_may_look_in_while_calls_end_and_holds_nobody_up(served, held):
    server = served("[server]\ndrain_timeout_s = 600\n", source=SOURCE)
    with server.raw() as busy:
        held.begin(busy)
        server.signal(signal.SIGTERM)
        assert busy.json()["method"] == "event.shutdown"
        with server.raw_admin() as door:
            assert {row["kind"] for row in door.ask("system.connections")["result"]} == {"tcp", "admin"}
            held.let_go()
            assert door.json()["method"] == "event.shutdown"
            assert door.closed()
        assert busy.json()["result"] == "waited"
    assert server.wait() == 0


def test_a_call_that_takes_longer_than_the_drain_is_told_so(served, held):
    server = served("[server]\ndrain_timeout_s = 0.3\n", source=SOURCE)
    with server.raw() as raw:
        held.begin(raw)
        server.signal(signal.SIGTERM)
        assert raw.json()["method"] == "event.shutdown"
        assert raw.json()["error"]["data"]["code"] == 1309
        assert raw.closed()
    assert server.wait() == 0
    assert "did not finish in time" in server.log()


def test_a_second_signal_ends_at_once(served, held):
    server = served("[server]\ndrain_timeout_s = 600\n", source=SOURCE)
    with server.raw() as raw:
        held.begin(raw)
        server.signal(signal.SIGINT)
        server.wait_log("draining (SIGINT)")
        server.signal(signal.SIGINT)
        assert server.wait() == 1


# --- reload ---------------------------------------------------------------------------------------


def test_sighup_takes_a_good_configuration_and_refuses_a_bad_one_whole(served):
    config = "[server]\nname = 'one'\ndrain_timeout_s = 2\n[[listen]]\naddress = '127.0.0.1:0'\nmax_line_bytes = %s\n"
    server = served(config % 1000)

    def long_line(raw) -> dict:
        return raw.ask("system.echo", ["x" * 1000])

    with server.raw() as raw:
        assert long_line(raw)["error"]["data"]["code"] == 1606
    server.config.write_text(config % 5000)
    server.signal(signal.SIGHUP)
    server.wait_log("configuration reloaded by SIGHUP: listen.0.max_line_bytes")
    with server.raw() as raw:
        assert "result" in long_line(raw)
    server.config.write_text((config % "'many'").replace("one", "two"))
    server.signal(signal.SIGHUP)
    server.wait_log("the old configuration stays")
    assert "listen.0.max_line_bytes: expected integer, got 'many'" in server.log()
    with server.raw() as raw:
        assert raw.ask("system.info")["result"]["name"] == "one"
        assert "result" in long_line(raw)
    with server.raw_admin() as door:
        assert "expected integer" in door.ask("system.reload")["error"]["message"]
        server.config.write_text((config % 5000).replace("one", "two"))
        assert door.ask("system.reload")["result"] == ["server.name"]
        assert door.ask("system.info")["result"]["name"] == "two"


def test_sighup_takes_a_new_certificate_and_keeps_the_old_one_when_it_does_not_fit(served, tmp_path):
    old, new = trustme.CA(), trustme.CA()

    def install(ca: trustme.CA) -> None:
        certificate = ca.issue_cert("127.0.0.1")
        certificate.cert_chain_pems[0].write_to_path(tmp_path / "crt")
        certificate.private_key_pem.write_to_path(tmp_path / "key")

    def trusted(ca: trustme.CA) -> bool:
        context = ssl.create_default_context()
        ca.configure_trust(context)
        try:
            with context.wrap_socket(server.raw().sock, server_hostname="127.0.0.1") as sock:
                sock.sendall(line("system.ping"))
                return b"pong" in sock.recv(1000)
        except ssl.SSLCertVerificationError:
            return False

    install(old)
    server = served(f"[[listen]]\naddress = '127.0.0.1:0'\ntls_cert = '{tmp_path}/crt'\ntls_key = '{tmp_path}/key'\n")
    assert (trusted(old), trusted(new)) == (True, False)
    install(new)
    server.signal(signal.SIGHUP)
    server.wait_log("configuration reloaded")
    assert (trusted(old), trusted(new)) == (False, True)
    other = trustme.CA().issue_cert("127.0.0.1")
    other.private_key_pem.write_to_path(tmp_path / "key")
    server.signal(signal.SIGHUP)
    server.wait_log("the old configuration stays")
    assert trusted(new)


# --- trouble --------------------------------------------------------------------------------------


def test_out_of_descriptors_it_says_so_once_goes_on_and_the_operator_gets_in(served, eventually):
    server = served()
    resource.prlimit(server.pid, resource.RLIMIT_NOFILE, (40, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    held = [server.raw() for _ in range(60)]
    server.wait_log("can't accept")
    with server.raw_admin() as door:
        assert door.ask("system.ping")["result"] == "pong"
    assert server.log().count("can't accept") == 1
    for raw in held[:40]:
        raw.close()
    assert held[-1].ask("system.ping")["result"] == "pong"
    server.wait_log("accepting again")


def test_a_command_that_blocks_the_loop_is_named_with_its_stack(served):
    server = served("[server]\nmax_blocking_s = 0.05\n", source=SOURCE)
    with server.raw() as raw:
        assert raw.ask("block.for", [0.3])["result"] == "blocked"
        assert raw.ask("wait.for", [0.3])["result"] == "waited"
    log = server.wait_log("block.for blocked the event loop for")
    assert "in block" in log
    assert "wait.for blocked" not in log


def test_a_full_disk_behind_the_log_never_blocks_and_what_was_lost_is_said(served):
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full")
    server = served(source=SOURCE)
    server.stop()
    with open("/dev/full", "wb") as full, (server.folder / "stdout").open("wb") as out:
        server.process = subprocess.Popen(server._args, cwd=server.folder, env=server._env, stdout=out, stderr=full)
    server._expected = True
    for _ in range(500):
        told = (server.folder / "stdout").read_text()
        if "\n" in told:
            break
        time.sleep(0.02)
    server.addresses = [told.partition(" serves on ")[2].split(" ")[0]]
    with server.raw() as raw:
        for _ in range(2000):
            assert raw.ask("fail.now")["error"]["data"]["code"] == 1304


def test_a_blocked_pipe_behind_the_log_never_blocks_and_what_was_lost_is_said(served):
    server = served(source=SOURCE)
    server.stop()
    read, write = os.pipe()
    with (server.folder / "stdout").open("wb") as out:
        server.process = subprocess.Popen(server._args, cwd=server.folder, env=server._env, stdout=out, stderr=write)
    os.close(write)
    for _ in range(500):
        told = (server.folder / "stdout").read_text()
        if "\n" in told:
            break
        time.sleep(0.02)
    server.addresses = [told.partition(" serves on ")[2].split(" ")[0]]
    count = 25_000
    with server.raw() as raw:  # nobody reads the pipe
        raw.sock.settimeout(60)

        def send() -> None:
            for _ in range(count // 100):
                raw.send(line("fail.now") * 100)

        sender = threading.Thread(target=send)
        sender.start()
        assert all(raw.json()["error"]["data"]["code"] == 1304 for _ in range(count))
        sender.join()
    collected = bytearray()

    def drain() -> None:
        while data := os.read(read, 65536):
            collected.extend(data)

    reader = threading.Thread(target=drain)
    reader.start()
    assert server.stop() == 0
    reader.join(20)
    assert b"log lines were lost" in collected


def test_the_log_is_json_where_one_asks_for_it_and_has_no_secret(served):
    server = served("[server]\nlog_format = 'json'\n", source=SOURCE)
    with server.raw() as raw:
        raw.ask("fail.now")
    server.stop()
    rows = [json.loads(text) for text in server.log().splitlines()]
    failed = next(row for row in rows if row.get("method") == "fail.now")
    assert (failed["level"], failed["code"]) == ("error", 1304)
    assert "here is why" in failed["exception"]


def test_help_and_the_whole_way_in_from_a_shell(served, need):
    nc = shutil.which("nc")
    if nc is None:
        nc = need("nc")
    server = served()
    done = subprocess.run(
        [nc, "-N", server.host, str(server.port)], input=line("system.ping"), capture_output=True, timeout=20
    )
    assert done.stdout == b'{"jsonrpc":"2.0","id":1,"result":"pong"}\n'
