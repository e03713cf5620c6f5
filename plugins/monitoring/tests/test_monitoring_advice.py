"""Each recommendation on a made-up load that has its problem, and none on one that has not."""

from __future__ import annotations

import gc
import shutil
import time
from collections import namedtuple

import pytest
from tidegate import Call, command
from tidegate.faults import AddressRateLimitExceeded
from tidegate_monitoring import advice

HOUR = 3600


@command("shop.buy")
def buy() -> int:
    return 1


@command("shop.takes")
def takes(call: Call, seconds: float) -> None:
    call.server.clock.advance(seconds)


@command("shop.blocks")
def blocks() -> None:
    time.sleep(0.25)


@command("shop.limited")
def limited() -> None:
    raise AddressRateLimitExceeded


@command("shop.hoards")
def hoards() -> int:
    kept = [[n] for n in range(60_000)]
    for _ in range(2):
        gc.collect()
    return len(kept)


@command("shop.threaded", thread=True)
def threaded(seconds: float) -> None:
    time.sleep(seconds)


@pytest.fixture
def shop(inside):
    """A server, and `report`: what it recommends, by kind."""
    server = inside(
        "[server]\nthreads = 1\n[plugins.monitoring]\nresources_every_s = 30\n",
        plugins=["monitoring"],
        commands=[buy, takes, blocks, limited, hoards, threaded],
    )

    def report(span: str = "15m") -> dict[str, dict]:
        with server.admin() as admin:
            found = admin.call("monitoring.report", span=span)["recommendations"]
        return {each["kind"]: each for each in found}

    server.report = report
    return server


def calls(server, method: str, times: int = 1, **params) -> None:
    with server.raw() as raw:
        for _ in range(times):
            raw.ask(method, params)


def publish(server, topic: str, **fields) -> None:
    server.run(lambda: server.server.publish(topic, **fields))


def transaction(server, seconds: float, statements: int, method: str = "shop.buy") -> None:
    fields = {"transaction": "t", "method": method, "user": None, "state": "committed", "rows": 1}
    publish(server, "transaction.finished", seconds=seconds, statements=statements, **fields)


def refused(server, user: int, times: int) -> None:
    peer = {"address": f"192.0.2.{user}", "prefix": f"192.0.2.{user}/32", "connection_id": "c", "user_id": f"u{user}"}
    publish(server, "rate.exceeded", **peer, scope="user", method="shop.buy", retry_after=1.0, count=times)


def breaker(server, new: str) -> None:
    publish(server, "breaker.changed", name="smtp", old="closed", new=new, until=0)


def normal(server) -> None:
    """A day in the life: quick calls, a mistake, a slow call, a transaction, somebody at a limit, a breaker once."""
    for n in range(40):
        calls(server, "shop.buy", 5)
        transaction(server, 0.004, 2)
        transaction(server, 0.9, 40, "shop.takes")  # slow for its many statements
        server.advance(20 if n % 10 == 0 else 1)
    calls(server, "shop.threaded", 3, seconds=0.001)
    calls(server, "shop.takes", seconds=1.5)
    refused(server, 1, 500)  # one who hammers
    for state in ("open", "half_open", "closed"):
        breaker(server, state)
    server.advance(10)


def test_a_normal_day_needs_no_advice(shop):
    normal(shop)
    assert shop.report() == {}


def test_every_rule_has_its_problem_here():
    kinds = {rule.__name__ for rule in advice.RULES}
    assert {name.removeprefix("test_problem_") for name in globals() if name.startswith("test_problem_")} == kinds


def test_problem_blocking_command(shop, eventually):
    normal(shop)
    blocked = shop.events("loop.blocked")

    def named() -> int:
        calls(shop, "shop.blocks")  # as often as it takes: on a busy machine a block may begin before the command
        return sum(event.method == "shop.blocks" for event in blocked)

    eventually(lambda: named() >= 4, timeout=20)
    shop.advance(2)
    found = shop.report()
    assert set(found) == {"blocking_command"}
    assert found["blocking_command"]["subject"] == "shop.blocks"
    assert found["blocking_command"]["evidence"]["blocks"] >= 4
    assert found["blocking_command"]["evidence"]["longest_s"] >= 0.2
    assert "thread=True" in found["blocking_command"]["text"]


def test_problem_small_pool(shop):
    import threading

    normal(shop)
    clients = [
        threading.Thread(target=calls, args=(shop, "shop.threaded", 6), kwargs={"seconds": 0.02}) for _ in range(8)
    ]
    for client in clients:
        client.start()
    while any(client.is_alive() for client in clients):
        shop.advance(1)
    found = shop.report()
    assert set(found) == {"small_pool"}
    assert found["small_pool"]["subject"] == "commands"
    assert found["small_pool"]["evidence"]["most_waiting"] >= 2


def test_problem_slow_query(shop):
    normal(shop)
    for _ in range(25):
        transaction(shop, 0.6, 2, "shop.limited")
    shop.advance(2)
    found = shop.report()
    assert set(found) == {"slow_query"}
    assert found["slow_query"]["subject"] == "shop.limited"
    assert found["slow_query"]["evidence"]["mean_statement_s"] == pytest.approx(0.3, rel=0.02)
    assert found["slow_query"]["evidence"]["statements_each"] == 2


def test_problem_tight_limit(shop):
    normal(shop)
    for user in range(2, 40):
        refused(shop, user, 3)
    shop.advance(2)
    # With the one who hammers they are 16 refusals each.
    found = shop.report()
    assert set(found) == {"tight_limit"}
    assert found["tight_limit"]["subject"] == "shop.buy"
    assert found["tight_limit"]["evidence"]["callers"] == 39


def test_problem_flapping_breaker(shop):
    normal(shop)
    for _ in range(3):
        for state in ("open", "half_open", "closed"):
            breaker(shop, state)
        shop.advance(30)
    found = shop.report()
    assert set(found) == {"flapping_breaker"}
    assert found["flapping_breaker"]["evidence"]["opened"] == 4


def test_problem_collecting_command(inside):
    """In real time: what a pause takes of a call is a matter of clocks that run."""
    server = inside("[plugins.monitoring]\n", plugins=["monitoring"], commands=[buy, hoards], virtual=False)
    calls(server, "shop.buy", 50)
    calls(server, "shop.hoards", 12)
    server.run(server.server.registry.plugins["monitoring"].beats.beat)
    with server.admin() as admin:
        found = {each["kind"]: each for each in admin.call("monitoring.report")["recommendations"]}
    assert found["collecting_command"]["subject"] == "shop.hoards"
    assert found["collecting_command"]["evidence"]["share_percent"] > 10


Disk = namedtuple("Disk", "total used free")


def test_problem_filling_disk(shop, monkeypatch):
    shrinking = {"free": 50 << 30}

    def usage(place: str) -> Disk:
        return Disk(100 << 30, (100 << 30) - shrinking["free"], shrinking["free"])

    monkeypatch.setattr(shutil, "disk_usage", usage)
    for _ in range(30):  # 1 GiB a minute: full in less than an hour
        shop.advance(60)
        shrinking["free"] -= 1 << 30
    found = shop.report("1h")
    assert "filling_disk" in found
    evidence = found["filling_disk"]["evidence"]
    assert evidence["hours"] == pytest.approx(20 / 60, rel=0.2)
    assert evidence["bytes_per_hour"] == pytest.approx(60 << 30, rel=0.2)


def test_a_disk_that_comes_and_goes_is_no_trend(shop, monkeypatch):
    sizes = {"n": 0}

    def usage(place: str) -> Disk:
        sizes["n"] += 1
        return Disk(100 << 30, 0, (50 + sizes["n"] * 7 % 11) << 30)

    monkeypatch.setattr(shutil, "disk_usage", usage)
    for _ in range(20):
        shop.advance(60)
    assert shop.report("1h") == {}
