"""Bulkheads and the adaptive limit: who is refused when there is too much."""

from __future__ import annotations

import pytest
from tidegate import command
from tidegate_errors.limit import AdaptiveLimit, Bounds

ASK = b'{"jsonrpc":"2.0","id":1,"method":"%s"}\n'


def sleeping(name: str, **notes):
    @command(name, **notes)
    def run(call) -> str:
        call.server.clock.sleep(5)
        return "slept"

    return run


def crowd(server, name: str, count: int):
    clients = [server.raw() for _ in range(count)]
    for client in clients:
        client.send(ASK % name.encode())
    return clients


def outcomes(clients) -> tuple[int, list[dict]]:
    """How many were answered, and what the others were told."""
    replies = [client.json() for client in clients]
    for client in clients:
        client.close()
    return sum("result" in reply for reply in replies), [r["error"]["data"] for r in replies if "error" in r]


def test_more_calls_than_a_commands_bulkhead_holds_are_refused_at_once(inside, eventually):
    server = inside(plugins=["errors"], commands=[sleeping("report", concurrency=3), sleeping("other")])
    finished, shed = server.events("call.finished"), server.events("load.shed")
    reports, others = crowd(server, "report", 8), crowd(server, "other", 8)
    eventually(lambda: len(finished) == 5)
    server.advance(5.5)
    answered, refused = outcomes(reports)
    assert answered == 3
    assert {data["code"] for data in refused} == {1308}
    assert all(0.4 < data["retry_after"] <= 1.5 for data in refused)
    assert outcomes(others)[0] == 8, "one command's crowd takes no place of another's"
    assert [(event.method, event.limit, event.count) for event in shed] == [("report", 3, 5)], "told once a second"


def test_a_place_is_free_again_however_a_call_ends(inside):
    @command("ask", concurrency=1, timeout=1)
    def ask(call, how: str) -> str:
        if how == "error":
            raise KeyError(how)
        if how == "timeout":
            call.server.clock.sleep(9)
        return how

    server = inside(plugins=["errors"], commands=[ask])
    with server.raw() as client:
        for _ in range(3):
            assert client.ask("ask", {"how": "error"})["error"]["data"]["code"] == 1304
            client.send(b'{"jsonrpc":"2.0","id":1,"method":"ask","params":["timeout"]}\n')
            server.advance(1.1)
            assert client.json()["error"]["data"]["code"] == 1303
        assert client.ask("ask", {"how": "well"})["result"] == "well"


def test_the_adaptive_limit_sheds_the_least_important_first(inside, eventually):
    config = "[plugins.errors]\nadaptive_limit = true\nlimit_initial = 20\nlimit_min = 20\n"
    commands = [sleeping("low", priority=0), sleeping("plain"), sleeping("high", priority=9)]
    server = inside(config, plugins=["errors"], commands=commands)
    finished = server.events("call.finished")
    low = crowd(server, "low", 12)
    eventually(lambda: len(finished) == 2)  # half of the limit is theirs
    plain = crowd(server, "plain", 12)
    eventually(lambda: len(finished) == 4)  # the ordinary may use all of it
    high = crowd(server, "high", 12)
    eventually(lambda: len(finished) == 8)  # the most important 40 % more
    with server.raw_admin() as admin:
        assert "result" in admin.ask("errors.stats"), "administrators are never shed"
    server.advance(5.5)
    assert [outcomes(clients)[0] for clients in (low, plain, high)] == [10, 10, 8]


def test_without_the_setting_nothing_is_shed(inside):
    server = inside(plugins=["errors"], commands=[sleeping("low", priority=0)])
    clients = crowd(server, "low", 60)
    server.advance(5.5)
    server.advance(5.5)
    assert outcomes(clients)[0] == 60


class Load:
    """A made-up service: so many calls at once are served in its own time, more of them wait for each other."""

    def __init__(self, bounds: Bounds, serves: int):
        self.at = 0.0
        self.limit = AdaptiveLimit(bounds, lambda: self.at)
        self.serves = serves

    def seconds(self, wanted: int, times: int, slowness: float = 0.01) -> None:
        """`wanted` calls at once, as many as the limit lets in, for so many seconds."""
        for _ in range(times):
            limit = self.limit
            running = min(wanted, int(limit.ceilings[5]))
            limit.peak = max(limit.peak, running)
            took = slowness * max(1.0, running / self.serves)
            for call in range(20):
                self.at += 0.0525
                limit.took(took, self.at if call == 19 else 0.0)


def test_the_limit_finds_about_what_the_service_can_do():
    load = Load(Bounds(initial=30, least=10, most=1000), serves=50)
    load.seconds(wanted=500, times=200)
    assert 50 <= load.limit.limit <= 160, "it lets a queue form, but not ten times what is served"


def test_the_limit_falls_when_calls_get_slower_and_recovers():
    load = Load(Bounds(initial=100, least=20, most=120), serves=1000)
    load.seconds(wanted=500, times=60)
    full = load.limit.limit
    load.seconds(wanted=500, times=15, slowness=0.2)
    fallen = load.limit.limit
    load.seconds(wanted=500, times=150)
    assert full == 120
    assert fallen < 50
    assert load.limit.limit == 120


def test_an_idle_service_does_not_move_the_limit():
    load = Load(Bounds(initial=100, least=20, most=1000), serves=1000)
    load.seconds(wanted=10, times=50)
    assert load.limit.limit == 100


@pytest.mark.parametrize("slowness", [0.01, 0.05, 5.0])
def test_the_limit_stays_within_its_bounds(slowness):
    load = Load(Bounds(initial=100, least=20, most=150), serves=1)
    for wanted in (5, 500, 5, 500):
        load.seconds(wanted, 50, slowness)
        assert 20 <= load.limit.limit <= 150
