"""What the plugin counts, logs, reports and keeps, as administrators see it."""

from __future__ import annotations

import json
import re
import sqlite3
import subprocess
import sys

import pytest
from tidegate import Call, Plugin, command, hookimpl
from tidegate.faults import ResourceNotFound
from tidegate_monitoring import Monitoring


@command("shop.buy")
def buy(n: int = 1) -> int:
    return n


@command("shop.takes")
def takes(call: Call, seconds: float) -> None:
    call.server.clock.advance(seconds)


@command("shop.lacks")
def lacks() -> None:
    raise ResourceNotFound


@pytest.fixture
def shop(inside):
    def start(config: str = "", **plugins):
        classes = {"monitoring": Monitoring, **plugins}
        return inside(f"[plugins.monitoring]\n{config}\n", plugins=classes, commands=[buy, takes, lacks])

    return start


def ask(server, method: str, **params):
    with server.raw_admin() as door:
        reply = door.ask(method, params)
    assert "result" in reply, reply
    return reply["result"]


def calls(server, method: str, times: int = 1, **params) -> None:
    with server.raw() as raw:
        for _ in range(times):
            raw.ask(method, params)


def test_each_call_is_counted_by_command_and_outcome(shop):
    server = shop()
    calls(server, "shop.buy", 7)
    calls(server, "shop.lacks", 3)
    calls(server, "no.such_method", 2)
    server.advance(1)
    found = ask(server, "monitoring.metrics")
    rows = {row["command"]: row for row in found["calls"]}
    assert (rows["shop.buy"]["count"], rows["shop.buy"]["failed"]) == (7, 0)
    assert (rows["shop.lacks"]["failed"], rows["shop.lacks"]["errors"]) == (3, {"1501": 3})
    assert rows["unknown"]["errors"] == {"1605": 2}
    assert "no.such_method" not in json.dumps(found)
    assert found["counts"]["method.unknown"] == 2
    assert found["total"]["count"] == 12
    assert found["since_start"] == {"calls": 12, "failed": 5}


def test_latencies_are_within_a_hundredth(shop):
    server = shop()
    for n in range(1, 11):
        calls(server, "shop.takes", seconds=n / 100)
    server.advance(1)
    row = {row["command"]: row for row in ask(server, "monitoring.metrics")["calls"]}["shop.takes"]
    assert (row["p50_ms"], row["p90_ms"], row["max_ms"]) == tuple(pytest.approx(n, rel=0.01) for n in (50, 90, 100))


def test_connections_are_counted_by_how_they_ended(shop):
    server = shop()
    with server.raw() as raw:
        raw.ask("system.ping")
        server.advance(3)
    with server.raw() as raw:
        raw.send(b"GET / HTTP/1.1\r\n\r\n")
        raw.rest()
    server.advance(1)
    found = ask(server, "monitoring.report")["connections"]
    assert found["opened"] == 2
    assert found["closed"] == {"client": 1, "ProtocolAbuse": 1}
    assert found["length_s"]["max"] == pytest.approx(3, rel=0.02)
    assert found["bytes_in"] > 60


def test_decorators_are_timed_of_one_call_in_so_many(shop, eventually):
    server = shop("trace_every = 3")
    made = 0

    def decorators():
        nonlocal made
        calls(server, "shop.buy", 1)
        server.advance(1)
        made += 2  # and the report itself
        rows = {row["decorator"]: row for row in ask(server, "monitoring.report")["decorators"]}
        return rows if rows and rows["command"]["traced"] >= 4 else None

    rows = eventually(decorators, timeout=60)
    assert made >= 3 * rows["command"]["traced"]
    assert rows["core.check"]["p50_us"] > 0


def test_what_other_plugins_have_is_shown_under_their_name(shop):
    class Rooms(Plugin):
        topics = {"room.flooded": ("room",)}

        @hookimpl
        def tidegate_gauges(self) -> dict[str, float]:
            return {"rooms_open": 3}

    server = shop(rooms=Rooms)
    server.run(lambda: server.server.publish("room.flooded", room="lobby"))
    server.advance(6)
    found = ask(server, "monitoring.metrics")
    assert found["levels"]["rooms.rooms_open"] == 3.0
    assert found["counts"]["room.flooded"] == 1


def test_the_process_and_its_disks_are_watched(shop):
    server = shop()
    (server.data / "shop").mkdir()
    (server.data / "shop/shop.db").write_bytes(b"x" * 5000)
    (server.data / "shop/shop.db-wal").write_bytes(b"x" * 700)
    server.run(server.server.registry.plugins["monitoring"].beats.read_resources)
    server.advance(6)
    levels = ask(server, "monitoring.metrics")["levels"]
    assert levels["monitoring.database_bytes"] >= 5000
    assert levels["monitoring.wal_bytes"] >= 700
    assert levels["monitoring.rss_bytes"] > 1e6
    assert 0 < levels["monitoring.disk_free_percent"] <= 100
    assert levels["monitoring.descriptors_open"] > 3
    assert levels["monitoring.threads_running"] >= 1


def test_a_database_outside_the_data_folder_is_watched_with_its_disk(shop, tmp_path):
    database = sqlite3.connect(tmp_path / "elsewhere.sqlite")
    database.execute("PRAGMA journal_mode=WAL")
    database.execute("CREATE TABLE a (b)")
    server = shop()
    server.run(server.server.registry.plugins["monitoring"].beats.read_resources)
    server.advance(6)
    levels = ask(server, "monitoring.metrics")["levels"]
    assert levels["monitoring.database_bytes"] >= (tmp_path / "elsewhere.sqlite").stat().st_size
    assert levels["monitoring.wal_bytes"] >= (tmp_path / "elsewhere.sqlite-wal").stat().st_size > 0
    assert levels["monitoring.disk_database_free_bytes"] > 0
    database.close()


def test_a_report_says_what_has_changed(shop):
    server = shop()
    for n in range(36):
        calls(server, "shop.takes", 2, seconds=0.01 if n < 18 else 0.2)
        server.advance(50)
    changes = {(row["command"], row["what"]): row for row in ask(server, "monitoring.report")["changes"]}
    row = changes["shop.takes", "p99_ms"]
    assert (row["before"], row["now"]) == (pytest.approx(10, rel=0.02), pytest.approx(200, rel=0.02))
    assert row["factor"] == pytest.approx(20, rel=0.05)
    assert ("shop.takes", "per_s") not in changes


def test_history_outlives_a_restart(served):
    server = served(plugins=["monitoring"])
    with server.client() as client:
        for _ in range(30):
            client.call("system.echo", text="x")
    server.stop()
    server.start()
    with server.admin() as admin:
        rows = {row["command"]: row for row in admin.call("monitoring.report")["busiest"]}
    assert rows["system.echo"]["count"] == 30


def test_measures_are_shown_over_time_for_charts(shop):
    server = shop()
    for _ in range(6):
        calls(server, "shop.takes", 10, seconds=0.05)
        calls(server, "shop.lacks", 10)
        server.advance(9.5)  # and the half second that the calls took
    now = ask(server, "monitoring.metrics")["at"]
    names = ["rate(calls)", "max(calls.shop.takes)", "percent(errors)", "core.connections_open"]
    found = ask(server, "monitoring.series", names=names, since=now - 60, until=now, step_s=20)
    assert list(found["values"]) == names
    assert len(found["times"]) in (3, 4), "steps begin at round times"
    rate, slowest, failed, level = (found["values"][name][1] for name in names)
    assert rate == pytest.approx(2, rel=0.6)
    assert slowest == pytest.approx(50, rel=0.02)
    assert failed == pytest.approx(50, abs=20)
    assert level is not None


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ({"names": ["nonsense"]}, "is no level"),
        ({"names": ["cpu"], "since": 0}, "at most 1000 steps"),
        ({"names": ["cpu"], "since": 2e9, "until": 1e9}, "Expected a time before"),
        ({"names": ["cpu"], "step_s": 0.1}, "1 to 86400 seconds"),
    ],
)
def test_a_chart_of_nothing_or_of_too_much_is_refused(shop, params, said):
    with shop().raw_admin() as door:
        assert said in str(door.ask("monitoring.series", params)["error"])


def test_a_file_that_can_not_be_read_is_put_aside(served):
    server = served(plugins=["monitoring"])
    server.stop()
    (server.data / "monitoring/history.msgpack").write_bytes(b"\xc1")
    server.start()
    server.wait_log("history.msgpack is put aside")
    with server.client() as client:
        assert client.call("system.ping") == "pong"
    assert (server.data / "monitoring/history.broken").read_bytes() == b"\xc1"


def test_who_blocked_the_loop_is_told(served, eventually):
    source = "import time\nfrom tidegate import command\n@command('shop.spins')\ndef spins():\n"
    source += "    end = time.perf_counter() + 0.4\n    while time.perf_counter() < end: pass\n"
    server = served(plugins=["monitoring"], source=source)
    with server.client() as client, server.admin() as admin:
        eventually(lambda: admin.call("system.info")["uptime_s"] > 0.1)  # what is late at the start is no lag

        def loop() -> dict:
            client.call("shop.spins")  # again and again: on a busy machine a block may begin before the command
            return admin.call("monitoring.report")["loop"]

        eventually(lambda: loop()["blocked"].get("shop.spins"), timeout=20)
        # Another beat may lie between the block and how late the loop was by it.
        eventually(lambda: loop()["max_ms"] >= 350, timeout=20)


# --- the access log -------------------------------------------------------------------------------


def lines(server, text: str) -> list[dict]:
    return [json.loads(line) for line in server.log().splitlines() if text in line]


def test_slow_calls_are_logged_and_quick_ones_are_not(served):
    source = "from tidegate import command\n@command('shop.takes')\ndef takes(call, seconds: float):\n"
    source += "    call.server.clock.advance(seconds)\n"
    config = '[server]\nlog_format = "json"\n[plugins.monitoring]\nslow_s = 0.5\n'
    server = served(config, plugins=["monitoring"], source=source, virtual=True)
    with server.client() as client:
        for seconds in (0.1, 0.4, 0.7):
            client.call("shop.takes", seconds=seconds)
    server.wait_log("shop.takes took")
    (line,) = lines(server, "shop.takes took")
    assert (line["method"], line["code"], line["ms"]) == ("shop.takes", 0, pytest.approx(700, abs=1))
    assert re.fullmatch(r"[0-9a-f-]{36}", line["request_id"])


def test_a_share_of_a_commands_calls_is_logged(served, eventually):
    shares = '{ "system.echo" = 0.25, "system.ping" = 1 }'
    config = f'[server]\nlog_format = "json"\n[plugins.monitoring]\naccess_log = {shares}\n'
    server = served(config, plugins=["monitoring"])
    with server.client() as client:
        for _ in range(20):
            client.call("system.echo", text="x")
        for _ in range(3):
            client.call("system.ping")
    eventually(lambda: len(lines(server, '"method":"system.ping"')) == 3)
    assert len(lines(server, '"method":"system.echo"')) == 5


def test_the_access_log_is_bounded(served, eventually):
    config = '[plugins.monitoring]\naccess_log = { "*" = 1 }\nlog_per_s = 3\n'
    server = served(config, plugins=["monitoring"], virtual=True)
    with server.client() as client:
        for _ in range(50):
            client.call("system.ping")
    with server.admin() as admin:
        assert admin.call("monitoring.metrics")["access_log_left_out"] >= 47
    assert server.log().count("method=system.ping") == 3


# --- settings -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('rules.x.warning = "p99(calls) > 1"', "expected a limit in seconds"),
        ('rules.x.warming = "cpu > 1%"', "warming"),
        ('statsd = "localhost"', "expected HOST:PORT"),
        ('prefix = "a.{nothing}"', "{host} or {name}"),
        ('webhooks = ["ftp://x/"]', "expected http"),
        ("access_log.a = 2", "access_log"),
    ],
)
def test_a_mistake_in_the_settings_refuses_the_start(tmp_path, line, said):
    (tmp_path / "t.toml").write_text(f"[plugins.monitoring]\n{line}\n")
    argv = [sys.executable, "-m", "tidegate", "check-config", "--only", "monitoring", "--config", "t.toml"]
    done = subprocess.run(argv, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1
    assert said in done.stderr + done.stdout


def test_a_reload_takes_new_rules_and_keeps_what_was_counted(served, eventually):
    server = served("[plugins.monitoring]\n", plugins=["monitoring"])
    with server.client() as client, server.admin() as admin:
        for _ in range(5):
            client.call("system.ping")
        server.config.write_text('[plugins.monitoring]\nrules.some.warning = "count(calls.system.ping) > 2 over 1h"\n')
        assert admin.call("system.reload") == ["plugins.monitoring.rules"]
        eventually(lambda: admin.call("monitoring.metrics")["since_start"]["calls"] >= 5)
        assert "some" in [row["name"] for row in admin.call("monitoring.thresholds")]
        for _ in range(3):
            client.call("system.ping")
        eventually(lambda: [alert["name"] for alert in admin.call("monitoring.alerts")["active"]] == ["some"])


def test_pushes_and_readers_that_are_too_slow_are_counted(inside):
    @command("shop.watch")
    def watch(call: Call, times: int, size: int) -> int:
        frame = call.server.frame("event.stock", {"text": "x" * size})
        other = next(c for c in call.server.connections.values() if c is not call.connection)
        return sum(other.push(frame) for _ in range(times))

    listen = '[[listen]]\naddress = "127.0.0.1:0"\noutbox_bytes = 65536\n'
    server = inside(f"{listen}[plugins.monitoring]\n", plugins={"monitoring": Monitoring}, commands=[watch])
    with server.raw() as reader, server.raw() as raw:
        reader.ask("system.ping")
        assert raw.ask("shop.watch", {"times": 5, "size": 10})["result"] == 5
        raw.ask("shop.watch", {"times": 200, "size": 100_000})  # which nobody reads
        server.advance(1)
        found = ask(server, "monitoring.metrics")["counts"]
    assert found["pushes"] > 5
    assert found["connection.closed|slow reader"] == 1
