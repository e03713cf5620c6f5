"""Alerts: each default fires on a load that has its problem and on no other; who is told, and who is not."""

from __future__ import annotations

import http.server
import json
import os
import re
import shutil
import threading
import time
from collections import namedtuple

import psutil
import pytest
from tidegate import Call, Client, Plugin, command, hookimpl
from tidegate.faults import ResourceNotFound
from tidegate_monitoring import Monitoring
from tidegate_monitoring.alerts import DEFAULTS

PEER = {"address": "192.0.2.7", "prefix": "192.0.2.7/32", "connection_id": "c-1", "user_id": None}


@command("shop.buy")
def buy() -> int:
    return 1


@command("shop.takes")
def takes(call: Call, seconds: float) -> None:
    call.server.clock.advance(seconds)


@command("shop.blocks")
def blocks(seconds: float) -> None:
    time.sleep(seconds)  # of the thread itself: `inside` is not patched


@command("shop.breaks")
def breaks() -> None:
    raise KeyError("made to fail")


@command("shop.lacks")
def lacks() -> None:
    raise ResourceNotFound


class Levels(Plugin):
    """Stands for another plugin that has one gauge."""

    gauge = ""
    value = 0.0

    @hookimpl
    def tidegate_gauges(self) -> dict[str, float]:
        return {self.gauge: self.value}


class Breakers(Levels):
    gauge = "breakers_open"


class Database(Levels):
    gauge = "database_lost"


@pytest.fixture
def shop(inside):
    """A server with the plugin, and what stands for two others."""

    def start(config: str = "", **plugins):
        text = f"[plugins.monitoring]\n{config}\n"
        classes = {"monitoring": Monitoring, "errors": Breakers, "transactions": Database, **plugins}
        return inside(text, plugins=classes, commands=[buy, takes, blocks, breaks, lacks])

    yield start
    Breakers.value = Database.value = 0.0


def calls(server, method: str, times: int = 1, **params) -> None:
    with server.raw() as raw:
        for _ in range(times):
            raw.ask(method, params)


def publish(server, topic: str, times: int, **fields) -> None:
    for _ in range(times):
        server.run(lambda: server.server.publish(topic, **fields))


Disk = namedtuple("Disk", "total used free")
Memory = namedtuple("Memory", "rss")


def nearly_full(server, patch) -> None:
    patch.setattr(shutil, "disk_usage", lambda place: Disk(100 << 30, 92 << 30, 8 << 30))


def full(server, patch) -> None:
    patch.setattr(shutil, "disk_usage", lambda place: Disk(100 << 30, 97 << 30, 3 << 30))


def descriptors(percent: int):
    import resource

    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    return lambda server, patch: patch.setattr(psutil.Process, "num_fds", lambda self: limit * percent // 100)


def cpu(server, patch) -> None:
    patch.setattr(psutil.Process, "cpu_percent", lambda self, interval: 97.0)


def memory(share: float):
    def load(server, patch) -> None:
        rss = int(psutil.virtual_memory().total * share)
        patch.setattr(psutil.Process, "memory_info", lambda self: Memory(rss))

    return load


def gauge(kind: type[Levels]):
    return lambda server, patch: setattr(kind, "value", 1.0)


SHED = {"method": "shop.buy", "limit": 10, "count": 30}
THREAT = {"method": "shop.buy", "field": "params.x", "category": "sql", "rules": [], "score": 9, "action": "refused"}
BLOCK = {"prefix": "192.0.2.7/32", "until": 0, "severity": "high", "reason": "", "actor": "", "mode": "enforce"}
LOGIN = {"name": "ann", "known": True, "proof": "00000000", "reason": "password"}

#: (alert, severity) -> what is done in each second.
PROBLEMS = {
    ("loop_lag", "warning"): lambda server, patch: calls(server, "shop.blocks", seconds=0.2),
    ("loop_lag", "critical"): lambda server, patch: calls(server, "shop.blocks", seconds=1.3),
    ("loop_blocked", "warning"): lambda server, patch: (calls(server, "shop.blocks", seconds=0.3), time.sleep(0.1)),
    ("failures", "warning"): lambda server, patch: (calls(server, "shop.breaks"), calls(server, "shop.buy", 30)),
    ("failures", "critical"): lambda server, patch: (calls(server, "shop.breaks", 5), calls(server, "shop.buy", 5)),
    ("errors", "warning"): lambda server, patch: (calls(server, "shop.lacks", 9), calls(server, "shop.buy", 3)),
    ("slow_calls", "warning"): lambda server, patch: (
        calls(server, "shop.takes", seconds=2.5),
        calls(server, "shop.buy", 20),
    ),
    ("disk_free", "warning"): nearly_full,
    ("disk_free", "critical"): full,
    ("descriptors", "warning"): descriptors(85),
    ("descriptors", "critical"): descriptors(99),
    ("cpu", "warning"): cpu,
    ("memory", "warning"): memory(0.8),
    ("memory", "critical"): memory(0.95),
    ("breakers_open", "warning"): gauge(Breakers),
    ("database_lost", "critical"): gauge(Database),
    ("overload", "warning"): lambda server, patch: publish(server, "load.shed", 3, **SHED),
    ("refused", "warning"): lambda server, patch: publish(
        server, "connection.refused", 12, address="192.0.2.7", prefix="192.0.2.7/32", code=1409
    ),
    ("threats", "warning"): lambda server, patch: publish(
        server, "threat.detected", 1, **PEER, **THREAT, mode="enforce"
    ),
    ("threats", "critical"): lambda server, patch: publish(
        server, "threat.detected", 3, **PEER, **THREAT, mode="enforce"
    ),
    ("logins", "warning"): lambda server, patch: publish(server, "login.failed", 2, **PEER, **LOGIN),
    ("blocks", "warning"): lambda server, patch: publish(server, "address.blocked", 1, **BLOCK),
    ("plugins", "warning"): lambda server, patch: publish(server, "plugin.failed", 1, plugin="x", where="y", error="z"),
    ("log_lost", "warning"): lambda server, patch: publish(server, "log.lost", 1, count=5),
}


def test_every_default_alert_has_its_problem_here():
    assert {(name, severity) for name, rules in DEFAULTS.items() for severity in rules} == set(PROBLEMS)


@pytest.mark.parametrize(("name", "severity"), PROBLEMS, ids=["-".join(key) for key in PROBLEMS])
def test_a_default_alert_fires_on_its_problem_and_not_before(shop, monkeypatch, name, severity):
    server = shop("resources_every_s = 2\n")
    raised = server.events("alert.raised")
    for _ in range(8):  # a normal load: calls that succeed, a mistake of a client now and then
        calls(server, "shop.buy", 10)
        calls(server, "shop.lacks", 1)
        server.advance(1)
    # Lag is real time, and this machine may be busy with other things.
    assert [event.name for event in raised if not event.name.startswith("loop_")] == []
    for _ in range(160):
        PROBLEMS[name, severity](server, monkeypatch)
        server.advance(1)
        if (name, severity) in [(event.name, event.severity) for event in raised]:
            break
    else:
        pytest.fail(f"not raised; raised were {[(event.name, event.severity) for event in raised]}")
    others = {event.name for event in raised} - {name}
    related = {"loop_lag": {"loop_blocked"}, "loop_blocked": {"loop_lag"}, "failures": {"errors"}}
    assert others <= related.get(name, set()) | {"loop_lag", "loop_blocked"}


def test_an_alert_waits_until_its_condition_has_held(shop):
    server = shop('rules.busy.warning = "count(calls.shop.buy) > 5 over 2s for 10s"')
    raised = server.events("alert.raised")
    for _ in range(9):
        calls(server, "shop.buy", 6)
        server.advance(1)
    server.advance(5)  # a pause: the time begins anew
    for _ in range(10):
        calls(server, "shop.buy", 6)
        server.advance(1)
    assert raised == []
    for _ in range(2):
        calls(server, "shop.buy", 6)
        server.advance(1)
    assert [(event.name, event.severity, event.rule) for event in raised] == [
        ("busy", "warning", "count(calls.shop.buy) > 5 over 2s for 10s")
    ]
    assert raised[0].value > 5


def test_an_alert_that_swings_around_its_limit_is_raised_once(shop):
    server = shop('gauges_every_s = 1\nrules.swings.warning = "errors.breakers_open > 10 until 5"')
    raised, cleared = server.events("alert.raised"), server.events("alert.cleared")
    for value in (11, 9, 11, 8, 12, 6, 11, 9) * 3:
        Breakers.value = value
        server.advance(1)
    assert [event.name for event in raised if event.name == "swings"] == ["swings"]
    Breakers.value = 4
    server.advance(4)
    assert [event.name for event in cleared if event.name == "swings"] == []
    server.advance(4)
    assert [event.name for event in cleared if event.name == "swings"] == ["swings"]


def test_an_alert_that_gets_worse_is_told_as_critical(shop):
    rules = 'rules.level = { warning = "errors.breakers_open > 1", critical = "errors.breakers_open > 5" }'
    server = shop(f"gauges_every_s = 1\ndefault_rules = false\n{rules}")
    told = server.events("alert.raised", "alert.cleared")
    for value in (2, 9, 9, 2, 2, 2, 2, 2, 2, 0, 0, 0, 0, 0, 0):
        Breakers.value = value
        server.advance(1)
    server.advance(3)
    assert [(event.topic.partition(".")[2], event.severity) for event in told] == [
        *(("raised", "warning"), ("cleared", "warning"), ("raised", "critical")),
        *(("cleared", "critical"), ("raised", "warning"), ("cleared", "warning")),
    ]


def test_the_worst_command_is_named(shop):
    server = shop('rules.slow.warning = "p50(calls.*) > 100ms min 1"')
    calls(server, "shop.buy")
    calls(server, "shop.takes", seconds=0.2)
    server.advance(1)
    with server.admin() as admin:
        (alert,) = admin.call("monitoring.alerts")["active"]
    assert (alert["name"], alert["subject"]) == ("slow", "shop.takes")
    assert alert["value"] == pytest.approx(0.2, rel=0.02)


# --- administrators -------------------------------------------------------------------------------


@pytest.fixture
def breaker_open(shop):
    """An alert that is raised."""
    server = shop("gauges_every_s = 1\nremind_s = 30")
    Breakers.value = 1.0
    server.advance(2)
    return server


def test_an_alert_that_nobody_acknowledges_is_told_again(breaker_open, caplog):
    breaker_open.advance(65)
    assert caplog.text.count("alert breakers_open reminded") == 2
    with breaker_open.admin() as admin:
        assert admin.call("monitoring.acknowledge", name="breakers_open", reason="on it") is True
        breaker_open.advance(65)
        assert admin.call("monitoring.alerts")["active"][0]["acknowledged"] == "operator"
    assert caplog.text.count("alert breakers_open reminded") == 2


def test_only_a_raised_alert_can_be_acknowledged(shop):
    with shop().raw_admin() as door:
        assert door.ask("monitoring.acknowledge", {"name": "cpu"})["error"]["data"]["code"] == 1501


def test_a_silence_keeps_channels_quiet_for_its_time(shop):
    told: list[dict] = []

    class Pager(Plugin):
        offers = {"channels": {"pager": told.append}}

    server = shop("gauges_every_s = 1\nremind_s = 20", pager=Pager)
    with server.admin() as admin:
        until = admin.call("monitoring.silence", name="breakers_*", for_s=100, reason="we know")["until"]
        Breakers.value = 1.0
        server.advance(50)
        listed = admin.call("monitoring.alerts")
        assert (listed["active"][0]["silenced"], listed["silences"][0]["until"]) == (
            True,
            pytest.approx(until, abs=0.01),
        )
        assert told == []
        server.advance(80)
        assert {one["state"] for one in told} == {"reminded"}
        assert admin.call("monitoring.alerts")["silences"] == []


def test_a_threshold_is_set_while_the_server_runs_and_outlives_it(served, eventually):
    server = served(plugins=["monitoring"])
    with server.admin() as admin:
        rows = admin.call("monitoring.threshold", name="pings", rule="count(calls.system.ping) >= 2", reason="a test")
        assert [(row["severity"], row["origin"]) for row in rows] == [("warning", "administrator")]
        with server.client() as client:
            client.call("system.ping")
            client.call("system.ping")
        eventually(lambda: admin.call("monitoring.alerts")["active"])
        admin.call("monitoring.silence", name="disk_*", for_s=3600)
    server.stop()
    server.start()
    with server.admin() as admin:
        rules = {row["name"]: row for row in admin.call("monitoring.thresholds")}
        assert rules["pings"]["rule"] == "count(calls.system.ping) >= 2"
        kept = admin.call("monitoring.alerts")
        assert [one["name"] for one in kept["history"]] == ["pings"]
        assert [one["pattern"] for one in kept["silences"]] == ["disk_*"]
        assert admin.call("monitoring.threshold", name="pings", rule=None) == []


def test_a_rule_of_what_is_not_there_is_told_in_the_log(served, eventually):
    server = served(
        """
[plugins.monitoring.rules]
mistyped = {warning = "p99(calls.sistem.ping) > 1s"}
no_gauge = {critical = "errors.breakerz_open > 0"}
no_topic = {warning = "rate(loop.blokked) > 1/m"}
fine = {warning = "p99(calls.system.ping) > 1s", critical = "rate(errors.1304) > 1%"}
also_fine = {warning = "count(loop.blocked) > 1", critical = "core.connections_open > 1000"}
""",
        plugins=["monitoring"],
    )
    eventually(lambda: server.log().count("there is no") >= 3, timeout=30)
    with server.admin() as admin:
        admin.call("monitoring.threshold", name="later", rule="max(calls.x.y) > 1s")
        eventually(lambda: "no command 'x.y'" in server.log(), timeout=30)
    told = [line for line in server.log().splitlines() if "there is no" in line]
    assert {name for line in told for name in re.findall(r"rule (\w+)", line)} == {
        *("mistyped", "no_gauge", "no_topic", "later")
    }


def test_a_threshold_that_is_no_rule_changes_nothing(shop):
    server = shop()
    with server.raw_admin() as door:
        before = door.ask("monitoring.thresholds")["result"]
        error = door.ask("monitoring.threshold", {"name": "cpu", "rule": "cpu >> 9"})["error"]
        assert error["data"]["code"] == 1101
        assert "expected a rule such as" in error["message"]
        assert door.ask("monitoring.thresholds")["result"] == before


def test_a_rule_of_another_plugin_is_watched(shop):
    class Rooms(Levels):
        gauge = "rooms_open"
        value = 9.0
        offers = {"alerts": {"rooms": {"warning": "rooms.rooms_open > 5"}}}

    server = shop("gauges_every_s = 1", rooms=Rooms)
    raised = server.events("alert.raised")
    server.advance(2)
    assert [event.name for event in raised] == ["rooms"]


def test_nobody_but_administrators_sees_alerts(shop):
    with shop().raw() as raw:
        for method in ("alerts", "metrics", "report", "thresholds"):
            assert raw.ask(f"monitoring.{method}")["error"]["data"]["code"] == 1010


# --- channels -------------------------------------------------------------------------------------


class Hook:
    """An HTTP server that takes alerts; `answers` are its next statuses."""

    def __init__(self) -> None:
        self.got: list[dict] = []
        self.answers: list[int] = []
        hook = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                hook.got.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                self.send_response(hook.answers.pop(0) if hook.answers else 204)
                self.send_header("Location", "http://127.0.0.1:1/")
                self.end_headers()

            def log_message(self, *_: object) -> None: ...

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_port}/secret-token"


@pytest.fixture
def hook():
    hook = Hook()
    yield hook
    hook.server.shutdown()
    hook.server.server_close()


PINGS = 'rules.pings.warning = "count(calls.system.ping) > 0 over 2s"'


def ping(server) -> None:
    with server.client() as client:
        client.call("system.ping")


def test_a_webhook_gets_the_alert_and_its_end(served, hook, eventually):
    server = served(f'[plugins.monitoring]\nwebhooks = ["{hook.url}"]\n{PINGS}\n', plugins=["monitoring"])
    ping(server)
    eventually(lambda: len(hook.got) == 2, timeout=20)
    raised, cleared = hook.got
    assert (raised["name"], raised["state"], raised["severity"]) == ("pings", "raised", "warning")
    assert (cleared["state"], raised["server"]) == ("cleared", "tidegate")
    assert cleared["seconds"] > 0


def test_a_webhook_that_fails_is_tried_again_and_its_address_is_no_log_line(served, hook, eventually):
    hook.answers = [503, 302]
    server = served(f'[plugins.monitoring]\nwebhooks = ["{hook.url}"]\n{PINGS}\n', plugins=["monitoring"])
    ping(server)
    eventually(lambda: len(hook.got) >= 3, timeout=30)
    assert [alert["state"] for alert in hook.got[:3]] == ["raised"] * 3
    with server.raw_admin() as door:
        config = json.dumps(door.ask("system.config")["result"])
        eventually(lambda: door.ask("monitoring.alerts")["result"]["channels"][0]["sent"] >= 1, timeout=30)
    assert "secret-token" not in server.log() + config


def test_a_webhook_that_hangs_keeps_nobody_waiting(served, eventually):
    import socket

    with socket.create_server(("127.0.0.1", 0)) as deaf:
        url = f"http://127.0.0.1:{deaf.getsockname()[1]}/secret-token"
        options = f'webhooks = ["{url}"]\nnotify_timeout_s = 0.3'
        server = served(f"[plugins.monitoring]\n{options}\n{PINGS}\n", plugins=["monitoring"])
        ping(server)
        server.wait_log("alert pings raised")
        with server.client(timeout=2) as client:
            for _ in range(20):
                assert client.call("system.ping") == "pong"
        log = server.wait_log("could not be told by webhook 127.0.0.1", timeout=30)
    assert "secret-token" not in log


def test_a_program_is_run_with_the_alert(served, tmp_path, eventually):
    out = tmp_path / "out"
    script = f'(cat; echo; env | grep TIDEGATE_ALERT_NAME) >> "{out}"'
    server = served(f"[plugins.monitoring]\nrun = ['/bin/sh', '-c', '{script}']\n{PINGS}\n", plugins=["monitoring"])
    ping(server)
    eventually(lambda: out.exists() and "TIDEGATE_ALERT_NAME" in out.read_text(), timeout=20)
    alert, name = out.read_text().splitlines()[:2]
    assert json.loads(alert)["rule"] == "count(calls.system.ping) > 0 over 2s"
    assert name == "TIDEGATE_ALERT_NAME=pings"


def test_a_program_that_is_not_there_is_told_at_the_start(served, eventually):
    server = served('[plugins.monitoring]\nrun = ["/no/such/pager"]\n', plugins=["monitoring"])
    eventually(lambda: "no program '/no/such/pager'" in server.log())


def test_a_program_that_hangs_is_ended_with_all_that_it_started(served, eventually):
    mark = f"4321.{os.getpid()}"  # of no other run of this test
    script = f"sleep {mark} & sleep {mark}"
    options = f"run = ['/bin/sh', '-c', '{script}']\nnotify_timeout_s = 0.2"
    server = served(f"[plugins.monitoring]\n{options}\n{PINGS}\n", plugins=["monitoring"])
    ping(server)
    server.wait_log("could not be told by command /bin/sh", timeout=30)
    with Client.operator(server.data) as admin:
        assert admin.call("system.ping") == "pong"
    children = psutil.Process(server.pid).children(recursive=True)
    eventually(lambda: not [c for c in children if c.is_running() and c.status() != "zombie"], timeout=60)
    eventually(
        lambda: not [p for p in psutil.process_iter(["cmdline"]) if mark in (p.info["cmdline"] or [])], timeout=60
    )
