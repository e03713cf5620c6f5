"""The samples in etc/ for StatsD, Carbon and Grafana fit each other, and what the plugin really sends.

The real daemons load statsd.js, storage-schemas.conf and storage-aggregation.conf in test_monitoring_statsd.py.
"""

from __future__ import annotations

import json
import re
import socket
from fnmatch import fnmatchcase
from pathlib import Path

from tidegate import command
from tidegate_monitoring.daemon import node

ETC = Path(__file__).resolve().parents[3] / "etc"
HOST = node(socket.gethostname())
PEER = {"address": "192.0.2.7", "prefix": "192.0.2.7/32", "connection_id": "c-1", "user_id": None}
FACTS = {
    "threat.detected": {
        **PEER,
        **{
            "method": "x",
            "field": "f",
            "category": "sql",
            "rules": [],
            "score": 1,
            "action": "refused",
            "mode": "enforce",
        },
    },
    "login.failed": {**PEER, "name": "ann", "known": True, "proof": "0", "reason": "password"},
    "address.blocked": {"prefix": "p", "until": 0, "severity": "high", "reason": "", "actor": "", "mode": "enforce"},
    "rate.exceeded": {**PEER, "scope": "user", "method": "shop.buy", "retry_after": 1.0, "count": 3},
    "loop.blocked": {"seconds": 0.3, "method": "shop.buy", "stack": []},
    "alert.raised": {"name": "x", "severity": "warning", "value": 1.0, "rule": "cpu > 1%"},
}


@command("shop.buy")
def buy() -> int:
    return 1


def paths(target: str) -> list[str]:
    """The metric paths of a Graphite expression, for this host; alternatives in braces one by one."""
    found = re.findall(r"(?:counters|gauges|timers)\.[\w.$*{},]*[\w*}]", target)
    whole = []
    for path in found:
        path = path.replace("$host", HOST)
        options = re.search(r"\{([^}]*)\}", path)
        whole += [path.replace(options[0], each) for each in options[1].split(",")] if options else [path]
    return whole


def test_the_dashboard_asks_for_nothing_that_is_not_sent(statsd, inside, eventually):
    daemon = statsd()
    config = f'[plugins.monitoring]\nstatsd = "127.0.0.1:{daemon.port}"\ntrace_every = 1\n'
    server = inside(config, plugins=["monitoring"], commands=[buy])
    with server.raw() as raw:
        raw.ask("shop.buy")
        raw.ask("shop.buy", {"x": 1})
    for topic, fields in FACTS.items():
        server.run(lambda topic=topic, fields=fields: server.server.publish(topic, **fields))
    server.advance(6)
    sent = set()

    def all_of_it() -> bool:
        for flush in daemon.flushes():
            sent.update(f"counters.{name}.{what}" for name in flush["counters"] for what in ("count", "rate"))
            sent.update(f"gauges.{name}" for name in flush["gauges"])
            sent.update(f"timers.{name}.{what}" for name, data in flush["timers"].items() for what in data)
        return any("connection.closed" in name for name in sent) and any("loop_lag_ms" in name for name in sent)

    eventually(all_of_it, timeout=20)
    dashboard = json.loads((ETC / "grafana-dashboard.json").read_text())
    asked = [each["target"] for panel in dashboard["panels"] for each in panel["targets"]]
    asked += [each["target"]["target"] for each in dashboard["annotations"]["list"]]
    asked += [each["query"] for each in dashboard["templating"]["list"] if each["type"] == "query"]
    wanted = [path for target in asked for path in paths(target)]
    assert len(wanted) > 20
    # `*` is one node in Graphite.
    known = {tuple(name.split(".")) for name in sent} | {tuple(name.split(".")[:3]) for name in sent}

    def fits(path: str) -> bool:
        parts = path.split(".")
        return any(len(name) == len(parts) and all(map(fnmatchcase, name, parts)) for name in known)

    assert [path for path in wanted if not fits(path)] == []


def test_every_panel_has_a_place_of_its_own():
    panels = json.loads((ETC / "grafana-dashboard.json").read_text())["panels"]
    taken = [
        (x, y)
        for panel in panels
        for x in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
        for y in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
    ]
    assert len(taken) == len(set(taken))
    assert max(x for x, _ in taken) < 24
    assert len({panel["id"] for panel in panels}) == len(panels)


def test_statsd_flushes_as_often_as_carbon_keeps():
    (flush_ms,) = re.findall(r"flushInterval: (\d+)", (ETC / "statsd.js").read_text())
    (first,) = re.findall(r"^retentions = (\d+)s:", (ETC / "storage-schemas.conf").read_text(), re.M)
    assert int(flush_ms) == int(first) * 1000


# --- the README -----------------------------------------------------------------------------------


def test_the_readme_has_every_default_rule_as_it_is():
    from tidegate_monitoring.alerts import DEFAULTS

    page = (Path(__file__).parents[1] / "README.md").read_text()
    rows = re.findall(r"^\| `(\w+)` \| (?:`([^`]+)`)? ?\| (?:`([^`]+)`)? ?\|$", page, re.M)
    found = {name: {s: text for s, text in (("warning", one), ("critical", two)) if text} for name, one, two in rows}
    assert found == DEFAULTS


def test_the_readme_has_every_setting_and_its_default():
    from tidegate_monitoring.settings import SETTINGS

    page = (Path(__file__).parents[1] / "README.md").read_text().partition("## Settings")[2].partition("### Rules")[0]
    rows = dict(re.findall(r"^\| `(\w+)` \| (?:`([^`]+)`)? ?\|", page, re.M))
    written = {key: json.loads(text) if text else SETTINGS[key]["default"] for key, text in rows.items()}
    assert written == {key: rule["default"] for key, rule in SETTINGS.items()}
