"""What administrators see of errors: counts, windows, groups, gauges, and the log."""

from __future__ import annotations

import json

import pytest
from tidegate import Plugin, command, hookimpl
from tidegate.faults import InvalidValue, NetworkError, QueryFailed
from tidegate_errors import Errors


@command("fail")
def fail(how: str = "key") -> str:
    if how == "key":
        raise KeyError("x")
    if how == "network":
        raise NetworkError
    if how == "mistake":
        raise InvalidValue
    if how == "query":
        try:
            raise RuntimeError("syntax")
        except RuntimeError as error:
            raise QueryFailed from error
    return "fine"


@command("other")
def other() -> None:
    raise KeyError("x")


def stats(server) -> dict:
    with server.admin() as admin:
        return admin.call("errors.stats")


def groups(server) -> list[dict]:
    with server.admin() as admin:
        return admin.call("errors.groups")


def test_failures_are_counted_by_code_family_severity_and_command(inside):
    server = inside(plugins=["errors"], commands=[fail])
    with server.raw() as client:
        for how in ("key", "key", "network", "mistake", "fine"):
            client.ask("fail", {"how": how})
        client.ask("no.such.method")
    seen = stats(server)
    assert seen["failed"] == 5
    assert {row["code"]: row["count"] for row in seen["by_code"]} == {1304: 2, 1302: 1, 1108: 1, 1605: 1}
    assert seen["by_family"] == {"SystemFamily": 3, "ValidationFamily": 1, "ProtocolFamily": 1}
    assert seen["by_severity"] == {"high": 2, "medium": 1, "low": 2}
    assert {row["method"]: row["count"] for row in seen["by_command"]} == {"fail": 4, "unknown": 1}
    assert seen["by_command"][0]["codes"] == {"1304": 2, "1302": 1, "1108": 1}


def test_what_fails_before_there_is_a_call_is_counted_too(inside, eventually):
    server = inside(plugins=["errors"])
    with server.raw() as client:
        client.send(b"this is no JSON\n")
        assert client.json()["error"]["data"]["code"] == 1602
    eventually(lambda: stats(server)["failed"] == 1)
    assert stats(server)["by_command"] == [{"method": None, "count": 1, "codes": {"1602": 1}}]


def test_first_and_last_seen_are_wall_times(inside):
    server = inside(plugins=["errors"], commands=[fail])
    with server.raw() as client:
        client.ask("fail")
        first = server.clock.wall()
        server.advance(100)
        client.ask("fail")
    (row,) = stats(server)["by_code"]
    assert row["first"] == pytest.approx(first)
    assert row["last"] == pytest.approx(first + 100)


def test_windows_of_1_5_and_15_minutes_slide(inside):
    server = inside(plugins=["errors"], commands=[fail])

    def ask(how: str, times: int) -> None:
        with server.raw() as client:
            for _ in range(times):
                client.ask("fail", {"how": how})

    def percents() -> list[float]:
        with server.admin() as admin:
            gauges = admin.call("system.gauges")
        return [gauges[f"errors.failures_percent_{span}"] for span in ("1m", "5m", "15m")]

    ask("key", 100)
    assert percents() == [100, 100, 100]
    server.advance(50)
    ask("fine", 100)
    assert percents()[0] == pytest.approx(50, abs=3)
    server.advance(30)
    assert percents()[0] == 0
    assert percents()[1] == pytest.approx(50, abs=3)
    server.advance(250)
    assert percents()[1] == 0
    assert percents()[2] == pytest.approx(50, abs=3)
    server.advance(600)
    assert percents() == [0, 0, 0]
    assert stats(server)["windows"]["15m"]["failed"] == 0


def test_the_same_failure_is_one_group_with_one_sample(inside):
    server = inside(plugins=["errors"], commands=[fail, other])
    with server.raw() as client:
        ids = [client.ask("fail")["error"]["data"]["request_id"] for _ in range(3)]
        client.ask("other")
        client.ask("fail", {"how": "query"})
        client.ask("fail", {"how": "mistake"})
    query, second, first = groups(server)
    assert (first["count"], second["count"], query["count"]) == (3, 1, 1)
    assert first["error"] == second["error"] == "KeyError"
    assert first["fingerprint"] != second["fingerprint"]
    assert first["where"].startswith(f"{__name__}.fail:")
    assert first["commands"] == ["fail"]
    assert first["request_id"] == ids[0]
    assert "KeyError" in first["trace"]
    assert query["error"] == "RuntimeError", "a chained cause is what failed"
    assert query["code"] == 1202
    assert "syntax" in query["trace"]


def test_a_group_is_found_in_our_code_not_in_the_library_that_raised(inside):
    @command("parse")
    def parse() -> None:
        json.loads("{")

    server = inside(plugins=["errors"], commands=[parse])
    with server.raw() as client:
        client.ask("parse")
    (group,) = groups(server)
    assert group["where"].startswith(f"{__name__}.")
    assert "parse:" in group["where"]


class Around(Plugin):
    """Stands outside of the errors plugin, and has a command."""

    ring = "guard"

    @hookimpl
    def tidegate_decorate(self, command, proceed):
        return lambda call: proceed(call)

    @command("around.none")
    def none(self) -> None:
        """Nothing."""


@command("shipped", breaker="carrier")
def shipped() -> None:
    raise NetworkError


@command("shipped.by", breaker=False)
def shipped_by(breaker) -> None:
    with breaker("carrier"):
        raise NetworkError


def test_what_a_breaker_refuses_is_never_laid_to_a_plugin_around_it(inside):
    server = inside(plugins={"errors": Errors, "around": Around}, commands=[shipped, shipped_by])
    with server.admin() as admin, server.raw() as raw:
        raw.ask("shipped")
        admin.call("breakers.force", name="carrier", state="open", reason="x")
        assert raw.ask("shipped")["error"]["code"] == 1307
        assert raw.ask("shipped.by")["error"]["code"] == 1307
        places = [group["where"] for group in admin.call("errors.groups") if group["code"] == 1307]
    assert len(places) == 2
    assert any(f"{__name__}.shipped_by:" in place for place in places)
    assert any(place.startswith("tidegate_errors.") for place in places)


def test_groups_are_bounded_and_the_ones_seen_last_stay(inside):
    source = "\n".join(f"def f{n}():\n    raise KeyError({n})" for n in range(30))
    functions: dict = {"__name__": __name__}
    exec(source, functions)

    @command("many")
    def many(number: int) -> None:
        functions[f"f{number}"]()

    server = inside("[plugins.errors]\ngroups = 10\n", plugins=["errors"], commands=[many])
    with server.raw() as client:
        for number in range(30):
            client.ask("many", {"number": number})
    assert [group["where"].split(":")[0].rpartition(".")[2] for group in groups(server)] == [
        f"f{number}" for number in range(29, 19, -1)
    ]


def test_reset_forgets_counts_and_groups(inside):
    server = inside(plugins=["errors"], commands=[fail])
    with server.raw() as client, server.admin() as admin:
        client.ask("fail")
        assert admin.call("errors.reset", reason="a new start") is True
    assert stats(server)["failed"] == 0
    assert stats(server)["by_code"] == []
    assert groups(server) == []


def test_an_account_that_breaks_hurts_no_call(inside):
    server = inside(plugins=["errors"], commands=[fail])
    failed = server.events("plugin.failed")
    server.server.registry.plugins["errors"].reporter.accounts = None
    with server.raw() as client:
        assert client.ask("fail")["error"]["data"]["code"] == 1304
        assert client.ask("fail", {"how": "fine"})["result"] == "fine"
    assert len(failed) == 1


def test_accounts_are_for_administrators(inside):
    server = inside(plugins=["errors"])
    with server.raw() as client:
        for method in ("errors.stats", "errors.groups", "errors.reset", "breakers.list"):
            assert "error" in client.ask(method)


def test_panels_are_offered_as_data(inside):
    server = inside(plugins=["errors"])
    (row,) = server.server.offered("panels")
    assert row[0] == "errors"
    for panel in row[1]:
        assert panel["command"] in server.server.commands
        assert set(panel) == {"title", "command", "draw", "every_s"}


SOURCE = """
from tidegate import command
from tidegate.faults import NetworkError

@command("login", params={
    "name": {"type": "string", "required": True},
    "pin": {"type": "string", "required": True, "meta": {"profile": "secret"}},
    "more": {"type": "dict", "schema": {"answer": {"type": "string", "meta": {"is": "password"}}}},
    "cards": {"type": "list", "schema": {"type": "dict", "schema": {
        "number": {"type": "integer", "meta": {"profile": "secret"}}, "owner": {"type": "string"}}}},
})
def login(name: str, pin: str, more: dict | None = None, cards: list | None = None) -> None:
    raise RuntimeError(f"cannot log in {name} with {pin} and {more} and {cards}")

@command("fail")
def fail(number: int = 0) -> None:
    raise RuntimeError("the story of a failure")

@command("planned")
def planned() -> None:
    raise NetworkError(log="for the log only")
"""
JSON = "[server]\nlog_format = 'json'\nlog_level = 'info'\n"


def lines(server, text: str) -> list[dict]:
    return [json.loads(line) for line in server.wait_log(text).splitlines() if text in line and line.startswith("{")]


def test_secret_parameters_are_in_no_log_and_no_sample(served):
    server = served(JSON, plugins=["errors"], source=SOURCE)
    with server.raw() as client:
        cards = [{"number": 4929_1234_5678, "owner": "ada l"}]
        params = {"name": "ada", "pin": "hunter22", "more": {"answer": "rosebud1"}, "cards": cards}
        assert client.ask("login", params)["error"]["data"]["code"] == 1304
    sample = json.dumps(groups(server))
    log = server.wait_log("cannot log in ada")
    for secret in ("hunter22", "rosebud1", "492912345678"):
        assert secret not in sample
        assert secret not in log
    assert "cannot log in ada with ***" in sample
    assert "ada l" in sample, "the rest is shown"


def test_identical_failures_are_logged_a_few_times_a_minute_and_the_rest_counted(served):
    server = served(JSON + "[plugins.errors]\nlog_per_minute = 3\n", plugins=["errors"], source=SOURCE, virtual=True)
    with server.raw() as client:
        for _ in range(50):
            client.ask("fail")
        assert len(lines(server, "the story of a failure")) == 3
        server.advance(61)
        (told,) = lines(server, "happened 47 more times")
        assert told["left_out"] == 47
        assert told["method"] == "fail"
        client.ask("fail")
        client.ask("planned")
        (planned,) = lines(server, "for the log only")
    assert len(lines(server, "the story of a failure")) == 4
    assert planned["level"] == "warning", "the catalogue's level for 1302"
    assert "exception" not in planned, "what was raised on purpose needs no trace"


def test_there_is_one_line_for_one_error(served):
    server = served(JSON, plugins=["errors"], source=SOURCE)
    with server.raw() as client:
        request_id = client.ask("fail")["error"]["data"]["request_id"]
    told = lines(server, request_id)
    assert len(told) == 1
    assert told[0]["level"] == "error"
    assert told[0]["culprit"] == "served_commands"


def test_a_line_says_who_called_how_often_it_was_tried_and_how_long_it_took(served):
    source = """
from tidegate import command
@command("fail", idempotent=True, retry={"attempts": 3, "backoff": "none"})
def fail():
    raise ConnectionResetError("hung up")
"""
    server = served(JSON, plugins=["errors"], source=source)
    with server.raw_admin() as operator:
        operator.ask("fail")
    (told,) = lines(server, "hung up")
    assert told["attempt"] == 3
    assert told["user"] == "operator"
    assert told["method"] == "fail"
    assert told["connection"]
    assert told["seconds"] >= 0
