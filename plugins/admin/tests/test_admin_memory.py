"""What the site remembers: events and numbers, in bounded memory whatever comes."""

from __future__ import annotations

import pytest

pytest.importorskip("tidegate_admin")

from tidegate_admin.series import MAX_NAMES, SPANS, Series
from tidegate_admin.timeline import MAX_TEXT

CONFIG = '[plugins.admin]\nlisten = "127.0.0.1:0"\nevents = 50\n'


@pytest.fixture
def server(inside):
    return inside(CONFIG, plugins=["admin"])


def events(server, **params):
    with server.admin() as client:
        return client.call("admin.events", **params)


def refused(server, address, code=1406):
    server.run(lambda: server.server.publish("connection.refused", address=address, prefix=f"{address}/32", code=code))


def test_what_one_address_does_again_and_again_is_one_row_with_a_count(server):
    for _ in range(30):
        refused(server, "192.0.2.1")
    refused(server, "192.0.2.2")
    found = events(server, topics=["connection.refused"])
    assert [(row["fields"]["address"], row["count"]) for row in found] == [("192.0.2.2", 1), ("192.0.2.1", 30)]
    server.advance(61)
    refused(server, "192.0.2.1")
    assert events(server, topics=["connection.refused"])[0]["count"] == 1, "a minute later it is told anew"


def test_a_flood_from_everywhere_does_not_push_out_what_matters(server):
    server.run(lambda: server.server.publish("plugin.failed", plugin="x", where="y", error="z"))
    for number in range(500):
        refused(server, f"198.51.100.{number % 250}", code=number)
    assert "plugin.failed" in {row["topic"] for row in events(server, limit=1000)}
    gauges = server.run(server.server.gauges)
    assert gauges["admin.events_left_out"] == 500 - 20


def test_no_more_events_are_kept_than_configured_and_long_texts_are_cut(server):
    for number in range(200):
        server.run(
            lambda n=number: server.server.publish("plugin.failed", plugin="x", where=str(n), error="e" * 10_000)
        )
    found = events(server, limit=1000)
    assert len(found) == 50
    assert found[0]["fields"]["where"] == "199"
    assert all(len(row["fields"]["error"]) <= MAX_TEXT + 1 for row in found)


def test_events_are_asked_for_by_topic_area_and_number(server):
    server.run(lambda: server.server.publish("alert.cleared", name="n", severity="critical", value=1, rule="r"))
    server.run(lambda: server.server.publish("alert.raised", name="n", severity="critical", value=1, rule="r"))
    first, second = events(server, topics=["alert."])
    assert (first["topic"], first["severity"]) == ("alert.raised", "critical")
    assert events(server, topics=["alert."], after=second["number"]) == [first]
    assert [row["topic"] for row in events(server, topics=["alert.cleared"])] == ["alert.cleared"]


def test_a_coarser_past_is_the_mean_of_the_finer():
    series, start = Series(), 900 * 1_111_111
    for second in range(0, 3600, 5):
        values = {"minute": float(second // 60), "late": 1.0}
        series.put(start + second, values if second >= 1800 else {"minute": values["minute"]})
    fine, coarse = series.shown("15m", ["minute"]), series.shown("6h", [])
    assert (fine["step_s"], len(fine["times"])) == SPANS["15m"]
    assert coarse["times"] == [start + 60 * number for number in range(59)]
    assert coarse["values"]["minute"] == list(range(59))
    assert coarse["values"]["late"] == [None] * 30 + [1.0] * 29, "what was not measured is null, and no zero"


def test_the_past_is_filled_in_and_the_step_under_way_goes_on():
    series, start = Series(), 900 * 1_111_111
    now = start + 60.0 * 10 + 30
    series.fill("6h", [start + 60.0 * n for n in range(11)], {"level": [float(n) for n in range(10)] + [None]}, now)
    assert series.shown("6h", [])["values"] == {"level": [float(n) for n in range(10)]}
    series.fill("7d", [start - 900.0, float(start)], {"level": [3.0, 4.0]}, now)
    series.put(now, {"level": 4.0, "new": 1.0})
    series.put(start + 900.0, {"level": 9.0})
    coarse = series.shown("7d", [])
    assert (coarse["times"], coarse["values"]) == ([start - 900.0, start], {"level": [3.0, 4.0], "new": [None, 1.0]})


def test_names_are_bounded():
    series = Series()
    for second in range(5):
        series.put(1e9 + 5 * second, {f"n{number}": 1.0 for number in range(1000)})
    assert len(series.shown("15m", [])["values"]) == MAX_NAMES
