"""Administration over the wire and on the command line, exports, health, HAProxy."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tidegate.faults import Fault

BLOCKED = 1406


def code_of(call: Callable[[], Any]) -> int:
    with pytest.raises(Fault) as raised:
        call()
    return raised.value.code


def tidegate(*args: str, given: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tidegate", *args], input=given, capture_output=True, text=True, timeout=60
    )


def test_only_administrators_may_ask(shop: Callable[..., Any]) -> None:
    server = shop()
    with server.raw(source="127.0.0.2") as raw:
        raw.ask("account.login", {"name": "alice", "password": "wonderland"})
        for method in ("security.status", "security.blocks", "security.mode"):
            assert "error" in raw.ask(method, {"mode": "observe"} if method == "security.mode" else None)


def test_blocks_are_added_listed_tested_and_taken_back(shop: Callable[..., Any]) -> None:
    server = shop()
    held = server.raw(source="127.0.0.50")
    held.ask("system.ping")
    with server.admin() as admin:
        assert admin.call("security.test", network="127.0.0.50")["connections"] == 1
        admin.call("security.block", network="127.0.0.0/26", for_s=60, reason="a test")
        assert json.loads(held.line())["error"]["code"] == BLOCKED
        assert json.loads(server.raw(source="127.0.0.51").line())["error"]["code"] == BLOCKED
        assert [b["network"] for b in admin.call("security.blocks")] == ["127.0.0.0/26"]
        assert admin.call("security.unblock", network="127.0.0.0/26", reason="it was wrong")
        assert code_of(lambda: admin.call("security.unblock", network="127.0.0.0/26")) == 1501
    assert server.raw(source="127.0.0.51").ask("system.ping")["result"] == "pong"


def test_a_senseless_block_is_refused(shop: Callable[..., Any]) -> None:
    server = shop()
    clients = [server.raw(source=f"127.0.4.{n}") for n in range(1, 11)]
    for client in clients:
        client.ask("system.ping")
    root = server.raw(source="127.0.0.60")
    root.ask("account.login", {"name": "root", "password": "toor"})
    assert root.ask("security.block", {"network": "127.0.0.60", "reason": "me"})["error"]["code"] == 1507
    assert root.ask("security.block", {"network": "127.0.4.0/24", "reason": "all"})["error"]["code"] == 1507
    assert root.ask("security.block", {"network": "127.0.4.0/24", "reason": "all", "force": True})["result"]
    assert root.ask("security.block", {"network": "no network", "reason": "x"})["error"]["data"]["code"] == 1108


def test_mode_rules_and_evidence(shop: Callable[..., Any]) -> None:
    server = shop()
    with server.admin() as admin, server.raw(source="127.0.0.61") as raw:
        raw.ask("system.echo", {"text": "' or 1=1--"})
        found = admin.call("security.reputation", address="127.0.0.61")
        assert found["score"] > 0
        assert found["evidence"][0]["signal"].startswith("threat")
        assert admin.call("security.events", prefix="127.0.0.61")[0]["detail"].startswith("sqli")
        assert admin.call("security.mode", mode="observe") == "observe"
        assert "Observing" in admin.call("security.status")["warnings"][0]
        report = admin.call("security.report", period_s=3600)
        assert report["threats"] == 1
        assert report["complete"] is False  # the server is younger than the hour
        assert report["advice"]
        assert admin.call("security.rule", id="sqli-drop", on=False) is False
        assert code_of(lambda: admin.call("security.rule", id="no-such", on=False)) == 1501
        assert admin.call("security.scan", text="1 or 1=1")["category"] == "sqli"
        gauges = admin.call("system.gauges")
        assert gauges["security.detections_sqli_high"] == 1
        assert gauges["security.audit_lost"] == 0


def test_the_lists_for_firewalls_are_rewritten(
    shop: Callable[..., Any], tmp_path: Path, eventually: Callable[..., Any]
) -> None:
    plain, ipset, nft = (tmp_path / name for name in ("plain", "ipset", "nft"))
    server = shop(f"blocklist = '{plain}'\nipset = '{ipset}'\nnftables = '{nft}'")
    with server.admin() as admin:
        admin.call("security.block", network="192.0.2.7", for_s=600, reason="x")
        admin.call("security.block", network="192.0.2.8", for_s=315_360_000, reason="x")
        admin.call("security.block", network="2001:db8::/48", for_s=None, reason="x")
        admin.call("security.block", network="2001:db8:0:1::/64", for_s=None, reason="x")
    server.advance(1)
    eventually(
        lambda: plain.exists() and plain.read_text() == "192.0.2.7/32\n192.0.2.8/32\n2001:db8::/48\n2001:db8:0:1::/64\n"
    )
    eventually(lambda: nft.exists())
    assert "add tidegate4 192.0.2.7/32 timeout 59" in ipset.read_text()
    assert "add tidegate6 2001:db8::/48 timeout 0 -exist" in ipset.read_text()
    assert "add element inet tidegate blocked4 { 192.0.2.7/32 timeout 59" in nft.read_text()
    assert "192.0.2.8/32 timeout 99999999s" in nft.read_text()  # the most that nft reads
    assert "blocked6 { 2001:db8::/48 }" in nft.read_text()  # nft refuses networks that overlap
    assert "delete" not in nft.read_text()  # the operator's rules lie in the same table


def test_lines_for_log_readers(served: Callable[..., Any]) -> None:
    server = served(
        "[server]\nexempt = []\n[plugins.security]\nlog_lines = true\nmax_delay_s = 0\n", plugins=["security"]
    )
    for _ in range(3):
        with server.raw(source="127.0.0.62") as raw:
            raw.send(b"GET / HTTP/1.1\r\n\r\n")
            raw.rest()
    server.wait_log("signal address=127.0.0.62 signal='foreign protocol' points=20")
    server.wait_log("blocked address=127.0.0.62")


def test_scan_reads_lines_and_prints_verdicts() -> None:
    rows = [{"id": 1, "text": "1' or '1'='1"}, {"id": "b", "text": "hello O'Brien"}, {"id": None, "text": "\ud800"}]
    done = tidegate("security", "scan", given="".join(json.dumps(row) + "\n" for row in rows))
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 0
    assert [a["id"] for a in answers] == [1, "b", None]
    assert [a["flagged"] for a in answers] == [True, False, False]
    assert answers[0]["category"] == "sqli"
    assert set(answers[0]) == {"id", "flagged", "category", "score", "rules"}
    wrong = tidegate("security", "scan", given='nonsense\n{"id": 5, "text": "x"}\n')
    assert wrong.returncode == 1
    assert "line 1" in wrong.stderr
    assert json.loads(wrong.stdout)["id"] == 5


def test_the_command_line_blocks_shows_and_verifies(served: Callable[..., Any]) -> None:
    server = served("[server]\nexempt = []\n", plugins=["security"])
    data = str(server.data)
    done = tidegate("security", "block", "127.0.0.63", "--for", "60", "--reason", "a test", "--data", data)
    assert done.returncode == 0, done.stderr
    assert "127.0.0.63/32" in tidegate("security", "blocks", "--data", data).stdout
    assert json.loads(tidegate("security", "reputation", "127.0.0.63", "--data", data, "--json").stdout)["block"]
    asked = ["--address", "127.0.0.64", "--signal", "foreign protocol", "--times", "3", "--data", data, "--json"]
    assert json.loads(tidegate("security", "simulate", *asked).stdout)["address"]["answer"] == "block"
    report = tidegate("security", "report", "--data", data).stdout
    assert "What to do" in report
    assert "older ones are no longer in memory" in report  # of the day that it is about, the server saw a moment
    status = tidegate("security", "status", "--data", data).stdout
    assert "active 1, soft 0" in status
    assert "{" not in status
    assert "{" not in tidegate("security", "rules", "--category", "xxe", "--data", data).stdout
    assert tidegate("security", "unblock", "127.0.0.63", "--data", data).returncode == 0
    server.stop()
    assert "0 problems" in tidegate("security", "audit", "verify", "--data", data).stdout
    assert "security.block" in tidegate("security", "audit", "tail", "--data", data).stdout
    found = tidegate("security", "audit", "search", "--event", "address.", "--address", "127.0.0.63", "--data", data)
    assert len(found.stdout.splitlines()) == 2
    path = server.data / "security" / "audit.jsonl"
    path.write_bytes(path.read_bytes().replace(b"127.0.0.63", b"127.0.0.64", 1))
    broken = tidegate("security", "audit", "verify", "--data", data)
    assert broken.returncode == 1
    assert "changed" in broken.stdout


HAPROXY = """
defaults
  mode tcp
  timeout connect 2s
  timeout client 60s
  timeout server 60s
listen front
  bind {host}:{port}
  server s1 127.0.0.1:{back} send-proxy-v2
"""


def test_behind_haproxy_the_client_is_blocked_and_not_the_proxy(
    served: Callable[..., Any], need: Callable[..., str], tmp_path: Path, eventually: Callable[..., Any]
) -> None:
    program = need("haproxy")
    listen = '[[listen]]\naddress = "127.0.0.1:0"\nproxy_from = ["127.0.0.1"]\n'
    server = served(f"[server]\nexempt = []\n{listen}[plugins.security]\nmax_delay_s = 0\n", plugins=["security"])
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    config = tmp_path / "haproxy.cfg"
    config.write_text(HAPROXY.format(host="127.0.0.1", port=port, back=server.port))
    proxy = subprocess.Popen([program, "-db", "-q", "-f", str(config)])
    try:
        eventually(lambda: socket.socket().connect_ex(("127.0.0.1", port)) == 0)

        def ask(source: str, data: bytes) -> bytes:
            with socket.create_connection(("127.0.0.1", port), 10, (source, 0)) as sock:
                sock.sendall(data)
                return sock.makefile("rb").readline()

        ping = b'{"jsonrpc":"2.0","id":1,"method":"system.ping"}\n'
        for _ in range(3):
            assert b"1410" in ask("127.0.0.70", b"GET / HTTP/1.1\r\n\r\n")
        eventually(lambda: b"1406" in ask("127.0.0.70", ping))
        assert b"pong" in ask("127.0.0.71", ping)
        with server.admin() as admin:
            assert [b["network"] for b in admin.call("security.blocks")] == ["127.0.0.70/32"]
            assert admin.call("security.reputation", address="127.0.0.1")["never_blocked"]
    finally:
        proxy.terminate()
        proxy.wait(10)
