"""Fallbacks: what a client gets instead, and that the reply says so."""

from __future__ import annotations

import json

import pytest
from tidegate import User, command
from tidegate.faults import InvalidValue, NetworkError, ResourceUnavailable
from tidegate.registry import StartRefused

ADMIN = User("u1", "ada", frozenset({"user"}))


def cached(city: str, fault) -> dict:
    return {"city": city, "degrees": None, "because": fault.code}


def weather_of(**notes):
    @command("weather", **notes)
    def weather(city: str, fail: str = "") -> dict:
        if fail == "down":
            raise NetworkError
        if fail == "broken":
            raise KeyError(city)
        if fail == "wrong":
            raise InvalidValue
        return {"city": city, "degrees": 21}

    return weather


def test_a_function_answers_where_the_command_fails_and_the_reply_says_stale(inside):
    server = inside(plugins=["errors"], commands=[weather_of(fallback=cached)])
    with server.raw() as client:
        good = client.ask("weather", {"city": "Ulm"})
        assert good["result"]["degrees"] == 21
        assert "stale" not in good
        instead = client.ask("weather", {"city": "Ulm", "fail": "down"})
        assert instead["result"] == {"city": "Ulm", "degrees": None, "because": 1302}
        assert instead["stale"] is True
        assert client.ask("weather", {"city": "Ulm", "fail": "broken"})["result"]["because"] == 1304


def test_the_clients_own_mistake_gets_no_fallback(inside):
    server = inside(plugins=["errors"], commands=[weather_of(fallback=cached)])
    with server.raw() as client:
        assert client.ask("weather", {"city": "Ulm", "fail": "wrong"})["error"]["data"]["code"] == 1108


def test_an_open_breaker_and_spent_retries_get_the_fallback(inside):
    notes = {"fallback": cached, "breaker": True, "idempotent": True, "retry": {"attempts": 2, "backoff": "none"}}
    config = "[plugins.errors.breaker]\nminimum_calls = 4\nwindow = 4\n"
    server = inside(config, plugins=["errors"], commands=[weather_of(**notes)])
    with server.raw() as client:
        answers = [client.ask("weather", {"city": "Ulm", "fail": "down"})["result"]["because"] for _ in range(4)]
    assert answers == [1302, 1302, 1307, 1307]


def test_a_fallback_that_fails_too_gives_its_own_fault(inside):
    def worse(city: str):
        raise ResourceUnavailable("No weather for now")

    server = inside(plugins=["errors"], commands=[weather_of(fallback=worse)])
    with server.raw() as client:
        error = client.ask("weather", {"city": "Ulm", "fail": "down"})["error"]
        assert error["data"]["code"] == 1502
        assert error["message"] == "No weather for now"


def test_a_command_that_takes_too_long_gets_its_fallback(inside):
    @command("slow", timeout=2, fallback=lambda: "in time")
    def slow(call) -> str:
        call.server.clock.sleep(60)
        return "too late"

    server = inside(plugins=["errors"], commands=[slow])
    with server.raw() as client:
        client.send(b'{"jsonrpc":"2.0","id":1,"method":"slow"}\n')
        server.advance(2.1)
        assert client.json() == {"jsonrpc": "2.0", "id": 1, "result": "in time", "stale": True}


@pytest.mark.parametrize("fallback", [lambda: "done", "stale"], ids=["function", "stale"])
def test_what_the_failed_command_published_is_not_told(inside, fallback):
    runs = []

    @command("act", fallback=fallback)
    def act(call) -> str:
        runs.append(1)
        call.publish("maintenance.changed", actor=None, on=False, message=str(len(runs)))
        if len(runs) > 1:
            raise NetworkError
        return "done"

    server = inside(plugins=["errors"], commands=[act])
    heard = server.events("maintenance.changed")
    with server.raw() as client:
        assert client.ask("act") == {"jsonrpc": "2.0", "id": 1, "result": "done"}
        assert client.ask("act") == {"jsonrpc": "2.0", "id": 1, "result": "done", "stale": True}
    assert [event.message for event in heard] == ["1"]


def test_what_a_fallback_publishes_is_told(inside):
    def instead(call) -> str:
        call.publish("maintenance.changed", actor=None, on=False, message="instead")
        return "instead"

    @command("act", fallback=instead)
    def act(call) -> str:
        call.publish("maintenance.changed", actor=None, on=False, message="failed")
        raise NetworkError

    server = inside(plugins=["errors"], commands=[act])
    heard = server.events("maintenance.changed")
    with server.raw() as client:
        assert client.ask("act")["result"] == "instead"
    assert [event.message for event in heard] == ["instead"]


def test_a_fallback_that_asks_for_what_nobody_gives_is_refused_at_start(inside):
    with pytest.raises(StartRefused, match="'country'"):
        inside(plugins=["errors"], commands=[weather_of(fallback=lambda country: None)])


def price_of(**notes):
    state = {"price": 1, "down": False}

    @command("price", **notes)
    def price(of: str) -> dict:
        if state["down"]:
            raise NetworkError
        state["price"] += 1
        return {"of": of, "price": state["price"]}

    return price, state


def test_the_last_good_result_answers_for_the_same_parameters(inside):
    price, state = price_of(fallback="stale")
    server = inside(plugins=["errors"], commands=[price])
    with server.raw() as client:
        first = client.ask("price", {"of": "tea"})["result"]
        state["down"] = True
        assert client.ask("price", ["tea"]) == {"jsonrpc": "2.0", "id": 1, "result": first, "stale": True}
        assert client.ask("price", {"of": "milk"})["error"]["data"]["code"] == 1302


def test_a_result_that_is_too_old_does_not_answer(inside):
    price, state = price_of(fallback={"stale_s": 60})
    server = inside(plugins=["errors"], commands=[price])
    with server.raw() as client:
        client.ask("price", {"of": "tea"})
        state["down"] = True
        server.advance(59)
        assert client.ask("price", {"of": "tea"})["stale"] is True
        server.advance(2)
        assert client.ask("price", {"of": "tea"})["error"]["data"]["code"] == 1302


def test_nobody_gets_another_users_result(inside):
    price, state = price_of(fallback="stale")
    server = inside(plugins=["errors"], commands=[price])

    def call(user):
        return server.run(lambda: server.server.call("price", {"of": "tea"}, user=user))

    call(ADMIN)
    state["down"] = True
    assert call(ADMIN)["of"] == "tea"
    with pytest.raises(NetworkError):
        call(User("u2", "bob", frozenset({"user"})))
    with server.raw() as client:
        assert client.ask("price", {"of": "tea"})["error"]["data"]["code"] == 1302


def test_old_results_take_bounded_memory(inside):
    @command("big", fallback="stale")
    def big(number: int, down: bool = False) -> str:
        if down:
            raise NetworkError
        return "x" * 10_000

    server = inside("[plugins.errors]\nstale_bytes = 200000\n", plugins=["errors"], commands=[big])
    with server.raw() as client, server.admin() as admin:
        for number in range(100):
            client.ask("big", {"number": number, "down": False})
        assert 100_000 < admin.call("system.gauges")["errors.stale_bytes"] <= 200_000


def test_fallbacks_are_counted_and_the_hidden_error_is_logged(served):
    server = served(
        "[server]\nlog_format = 'json'\n",
        plugins=["errors"],
        source="from tidegate import command\n"
        "@command('a', fallback=lambda: 1)\n"
        "def a():\n"
        "    raise RuntimeError('hidden from the client')\n",
    )
    with server.raw() as client, server.admin() as admin:
        assert client.ask("a")["result"] == 1
        stats = admin.call("errors.stats")
    assert stats["recoveries"]["fallback"] == {"attempted": 1, "succeeded": 1, "failed": 0}
    assert stats["failed"] == 0
    (line,) = [json.loads(line) for line in server.wait_log("hidden from").splitlines() if "hidden from" in line]
    assert "fallback" in line["message"]
