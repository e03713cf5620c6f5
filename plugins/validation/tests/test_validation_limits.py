"""Rate limits in virtual time: how many pass, who is exempt, how long to wait, and what is told of it."""

from __future__ import annotations

import pytest
from tidegate import Plugin, User, command, hookimpl
from tidegate.faults import AddressRateLimitExceeded, SessionExpired, TokenInvalid
from tidegate_validation import Validation

STRANGERS = "[server]\nexempt = []\n"


class People(Plugin):
    """Who says `auth: "jo"` is Jo; `people.enter` logs a connection in."""

    ring = "identify"
    claims = frozenset({"auth"})

    @hookimpl
    def tidegate_decorate(self, command, proceed):
        def identify(call):
            if call.auth == "old":
                raise SessionExpired
            if call.auth is not None and not call.auth.isalpha():
                raise TokenInvalid
            if call.auth is not None:
                call.user = User(call.auth, call.auth, frozenset({"user"}))
            return proceed(call)

        return identify

    @command("people.enter")
    def enter(self, call, name: str, role: str = "user"):
        user = User(name, name, frozenset({role}))
        call.on_commit(lambda: call.connection.become(user))
        return True


@command("work")
def work(text: str = ""):
    return "done"


@command("dear", cost=5)
def dear():
    return "done"


@command("scarce", rate="3/minute")
def scarce():
    return "done"


@command("both", rate="2/second, 5/minute")
def both():
    return "done"


@pytest.fixture
def serving(inside):
    def serving(config="", head=STRANGERS):
        plugins = {"validation": Validation, "people": People}
        return inside(f"{head}{config}", plugins=plugins, commands=[work, dear, scarce, both])

    return serving


def entered(server, name, role="user", source="127.0.0.1"):
    raw = server.raw(source=source)
    assert raw.ask("people.enter", {"name": name, "role": role})["result"] is True
    return raw


def passed(raw, method, most=300, **members):
    """How many calls pass until one is refused, and that one's error."""
    for number in range(most):
        reply = raw.ask(method, **members)
        if "error" in reply:
            return number, reply["error"]
    return most, None


# --- how many -----------------------------------------------------------------------------------------


def test_an_address_has_100_calls_at_once_without_a_user_by_default(serving):
    server = serving()
    number, error = passed(server.raw(), "work")
    assert number == 100
    assert error["code"] == error["data"]["code"] == 1105
    assert error["data"]["recovery"] == "retry_later"
    assert error["data"]["retry_after"] == 0.6


def test_a_user_has_60_calls_at_once_by_default_on_all_connections_together(serving):
    server = serving()
    first, second = entered(server, "jo"), entered(server, "jo", source="127.0.0.2")
    assert passed(first, "work", 40) == (40, None)
    number, error = passed(second, "work")
    assert number == 20
    assert error["code"] == 1104
    assert error["data"]["retry_after"] == 1.0


def test_waiting_as_long_as_is_said_succeeds_and_a_moment_less_does_not(serving):
    server = serving('[plugins.validation]\nuser_rate = "7/10 seconds"\n')
    raw = entered(server, "jo")
    passed(raw, "work")
    for _ in range(20):
        wait = raw.ask("work")["error"]["data"]["retry_after"]
        server.advance(wait - 0.01)
        assert raw.ask("work")["error"]["code"] == 1104
        server.advance(0.01)
        assert raw.ask("work")["result"] == "done"


def test_at_most_119_calls_pass_in_any_minute_at_60_a_minute(serving):
    server = serving()
    raw = entered(server, "jo")
    times = []
    for _ in range(280):
        while "result" in raw.ask("work"):
            times.append(server.clock.now())
        server.advance(0.5)
    assert max(sum(start <= at < start + 60 for at in times) for start in times) == 119
    assert len(times) == 60 + 139


def test_several_rates_hold_at_once(serving):
    server = serving('[plugins.validation]\naddress_rate = "10/second, 25/hour"\n')
    raw = server.raw()
    counts = []
    for _ in range(4):
        counts.append(passed(raw, "work")[0])
        server.advance(1.0)
    assert counts == [10, 10, 5, 0]
    number, error = passed(raw, "work")
    assert number == 0
    assert 100 < error["data"]["retry_after"] <= 144


def test_a_burst_may_be_another_than_the_rate(serving):
    server = serving('[plugins.validation]\naddress_rate = "60/minute"\naddress_burst = 5\n')
    assert passed(server.raw(), "work")[0] == 5


def test_off_is_no_limit(serving):
    server = serving('[plugins.validation]\naddress_rate = "off"\nuser_rate = "off"\n')
    assert passed(server.raw(), "work") == (300, None)
    layers = server.admin().call("system.explain", method="work")["layers"]
    assert not [layer for layer in layers if layer["plugin"].startswith("validation.")]


def test_a_call_costs_what_its_command_says(serving):
    server = serving()
    assert passed(server.raw(), "dear")[0] == 20


def test_an_unknown_method_counts_as_a_call(serving):
    server = serving()
    raw = server.raw()
    codes = [raw.ask(f"guess.{n}")["error"]["data"]["code"] for n in range(101)]
    assert codes == [1605] * 100 + [1105]


# --- whose ---------------------------------------------------------------------------------------------


def test_people_behind_one_address_do_not_take_from_each_other(serving):
    server = serving()
    people = [entered(server, name) for name in ("jo", "ann", "kim", "lee")]
    assert [passed(raw, "work")[0] for raw in people] == [60, 60, 60, 60]
    assert passed(server.raw(), "work")[0] == 96  # strangers: four of the hundred went on entering


def test_addresses_do_not_take_from_each_other(serving):
    server = serving()
    assert passed(server.raw(source="127.0.0.2"), "work")[0] == 100
    assert passed(server.raw(source="127.0.0.3"), "work")[0] == 100


def test_ipv6_counts_by_its_64(inside):
    server = inside(plugins=["validation"], commands=[work])

    def calls():
        counts = []
        for address in ("2001:db8:1:1::1", "2001:db8:1:1:ffff::9", "2001:db8:1:2::1"):
            with server.server.door("tcp", address=address) as connection:
                number = 0
                try:
                    while number < 300:
                        server.server.call("work", connection=connection)
                        number += 1
                except AddressRateLimitExceeded:
                    pass
                counts.append(number)
        return counts

    assert server.run(calls) == [100, 0, 100]


def test_a_call_with_a_token_counts_for_its_user_and_not_for_the_address(serving):
    server = serving()
    raw = server.raw()
    assert passed(raw, "work", auth="jo")[0] == 60
    assert passed(raw, "work", auth="ann")[0] == 60
    assert passed(raw, "work")[0] == 100


@pytest.mark.parametrize(("token", "code"), [("old", 1003), ("§", 1008)])
def test_a_token_that_fails_counts_for_the_address_which_is_then_refused_beforehand(serving, token, code):
    server = serving()
    raw = server.raw()
    codes = [raw.ask("work", auth=token)["error"]["code"] for _ in range(101)]
    assert codes == [code] * 100 + [1105]
    assert raw.ask("work", auth="jo")["error"]["code"] == 1105
    server.advance(0.6)
    assert raw.ask("work", auth="jo")["result"] == "done"


def test_exempt_are_roles_networks_commands_and_the_operators_socket(serving):
    server = serving(
        '[plugins.validation]\nexempt_networks = ["127.0.0.8/30"]\nexempt_commands = ["both"]\n'
        'exempt_roles = ["admin", "robot"]\n'
    )
    assert passed(entered(server, "ann", "admin"), "work") == (300, None)
    assert passed(entered(server, "robbie", "robot"), "work") == (300, None)
    assert passed(server.raw(source="127.0.0.9"), "work") == (300, None)
    assert passed(server.raw(source="127.0.0.12"), "work")[0] == 100
    assert passed(server.raw(source="127.0.0.13"), "both") == (300, None)
    admin = server.admin()
    assert all(admin.call("system.ping") for _ in range(300))


def test_the_servers_exempt_networks_are_passed_over(serving):
    assert passed(serving(head="").raw(), "work") == (300, None)


# --- the command's own --------------------------------------------------------------------------------


def test_a_commands_own_rate_holds_for_each_user_and_each_strangers_address(serving):
    server = serving()
    assert [passed(entered(server, name), "scarce")[0] for name in ("jo", "ann")] == [3, 3]
    number, error = passed(server.raw(source="127.0.0.2"), "scarce")
    assert (number, error["code"], error["data"]["retry_after"]) == (3, 1105, 20.0)


def test_what_one_limit_refuses_is_not_taken_from_another(serving):
    server = serving()
    raw = entered(server, "jo")
    number, error = passed(raw, "scarce")
    assert (number, error["code"]) == (3, 1104)
    for _ in range(50):
        assert "error" in raw.ask("scarce")
    assert passed(raw, "work")[0] == 57


def test_the_longest_wait_of_several_limits_is_told_and_succeeds(serving):
    server = serving('[plugins.validation]\nuser_rate = "5/2 minutes"\n')
    raw = entered(server, "jo")
    assert passed(raw, "both")[0] == 2
    server.advance(1)
    assert passed(raw, "both")[0] == 2
    server.advance(1)
    assert passed(raw, "both")[0] == 1
    wait = raw.ask("both")["error"]["data"]["retry_after"]
    assert wait == 22.0  # the user's, not the command's
    server.advance(wait)
    assert raw.ask("both")["result"] == "done"


def test_the_operator_may_limit_a_command_for_all_callers_together(serving):
    server = serving(
        '[plugins.validation.commands.work]\ntotal = "10/minute"\n[plugins.validation.commands.dear]\ncost = 1\n'
    )
    assert passed(entered(server, "jo"), "work")[0] == 10
    raw = entered(server, "ann")
    number, error = passed(raw, "work")
    assert (number, error["code"], error["data"]["retry_after"]) == (0, 1110, 6.0)
    assert passed(raw, "dear")[0] == 60


def test_the_server_as_a_whole_may_be_limited(serving):
    server = serving('[plugins.validation]\nserver_rate = "10/minute"\n')
    assert passed(server.raw(), "work")[0] == 10
    number, error = passed(server.raw(source="127.0.0.2"), "work")
    assert (number, error["code"]) == (0, 1110)


# --- memory, reload, mistakes --------------------------------------------------------------------------


def test_a_flood_from_100_000_addresses_stays_within_the_bound_and_forgets_no_flooder(inside):
    server = inside("[plugins.validation]\nmax_keys = 20_000\n", plugins=["validation"], commands=[work])

    def flood():
        limit = server.server.registry.plugins["validation"].limits.by_address
        heavy = b"\xc0\x00\x02\x07"
        for _ in range(101):
            limit.hit(heavy)
        most, refused = 0, 0
        for n in range(100_000):
            refused += limit.hit(n.to_bytes(4, "big")) > 0
            most = max(most, len(limit))
        return most, refused, limit.hit(heavy) > 0

    most, refused, remembered = server.run(flood)
    assert most <= 20_000
    assert refused == 0
    assert remembered
    assert server.server.gauges()["validation.limited_keys"] <= 20_000


def test_a_reload_changes_the_limits_of_those_who_are_there(serving):
    server = serving()
    raw = entered(server, "jo")
    assert passed(raw, "work")[0] == 60
    (server.data.parent / "tidegate.toml").write_text(f'{STRANGERS}[plugins.validation]\nuser_rate = "5/minute"\n')
    assert server.admin().call("system.reload") == ["plugins.validation.user_rate"]
    assert passed(raw, "work")[0] == 5


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ('user_rate = "60/fortnight"', "user_rate: expected rates such as '60/minute'"),
        ('address_rate = "0/minute"', "address_rate: expected rates such as '60/minute'"),
        ('commands.work.rate = "often 1"', "commands.work.rate"),
        ('exempt_networks = ["localhost"]', "localhost"),
        ("commands.work.cost = 500", "cost: 500 is more than a rate ever allows at once, which is 100"),
    ],
)
def test_a_mistake_in_the_settings_is_told_at_the_start(serving, config, words):
    with pytest.raises(Exception, match=r"validation|work") as refused:
        serving(f"[plugins.validation]\nrequired = true\n{config}\n")
    assert words in str(refused.value)


# --- what is told ----------------------------------------------------------------------------------------


def test_refusals_are_told_at_once_and_then_once_a_second_with_their_number(serving):
    server = serving()
    events = server.events("rate.exceeded")
    raw = server.raw()
    passed(raw, "work")
    (first,) = events
    assert (first.scope, first.method, first.count, first.retry_after) == ("address", "work", 1, 0.6)
    assert (first.address, first.prefix, first.user_id) == ("127.0.0.1", "127.0.0.1/32", None)
    for _ in range(9):
        raw.ask("work")
    assert len(events) == 1
    server.advance(1.0)
    assert [event.count for event in events] == [1, 9]
    server.advance(2.0)
    assert len(events) == 2


def test_each_user_is_told_by_name(serving):
    server = serving()
    events = server.events("rate.exceeded")
    for name in ("jo", "ann"):
        passed(entered(server, name), "work")
    assert [(event.scope, event.user_id) for event in events] == [("user", "jo"), ("user", "ann")]


def test_what_was_held_back_is_told_when_the_server_stops(serving):
    server = serving()
    events = server.events("rate.exceeded")
    raw = server.raw()
    passed(raw, "work")
    raw.ask("work")
    server.stop()
    assert sum(event.count for event in events) == 2


def test_explain_shows_the_limits_of_a_command(serving):
    layers = serving().admin().call("system.explain", method="scarce")["layers"]
    said = {layer["plugin"]: layer.get("explain") for layer in layers}
    assert said["validation.addresses"] == "address: 100/minute"
    assert said["validation.users"] == "user: 60/minute; caller: 3/minute"
