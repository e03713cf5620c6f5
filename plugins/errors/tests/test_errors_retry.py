"""Retry as a client sees it: what is repeated, what is not, and how long it takes."""

from __future__ import annotations

from itertools import pairwise

import gevent
import pytest
from tidegate import Call, Plugin, command, hookimpl
from tidegate.faults import (
    CircuitOpen,
    DeadlockDetected,
    DependencyUnavailable,
    InvalidValue,
    NetworkError,
    ResourceUnavailable,
    SerializationConflict,
)
from tidegate.registry import StartRefused

NOW = {"attempts": 3, "backoff": "none"}


def failing(name: str, times: int, error: type[BaseException], **notes):
    """A command that fails so many times, then says how often it was run; and that list."""
    runs: list[int] = []

    @command(name, **notes)
    def run() -> int:
        runs.append(1)
        if len(runs) <= times:
            raise error
        return len(runs)

    return run, runs


def test_an_idempotent_command_is_repeated_until_it_succeeds(inside):
    run, _ = failing("flaky", 2, ConnectionResetError, idempotent=True, retry=NOW)
    with inside(plugins=["errors"], commands=[run]).raw() as client:
        assert client.ask("flaky")["result"] == 3


def test_it_gives_up_after_its_attempts_and_says_so(inside):
    run, runs = failing("flaky", 9, NetworkError, idempotent=True, retry=NOW)
    server = inside(plugins=["errors"], commands=[run])
    exhausted = server.events("retry.exhausted")
    with server.raw() as client:
        assert client.ask("flaky")["error"]["data"]["code"] == 1302
    assert len(runs) == 3
    assert [(e.method, e.attempts, e.code) for e in exhausted] == [("flaky", 3, 1302)]


@pytest.mark.parametrize("error", [InvalidValue, KeyError, CircuitOpen])
def test_what_no_retry_can_help_is_not_repeated(inside, error):
    run, runs = failing("flaky", 1, error, idempotent=True, retry=NOW)
    server = inside(plugins=["errors"], commands=[run])
    exhausted = server.events("retry.exhausted")
    with server.raw() as client:
        assert "error" in client.ask("flaky")
    assert len(runs) == 1
    assert exhausted == []


def test_only_the_codes_of_the_note_are_repeated(inside):
    note = {**NOW, "on": [1302]}
    taken, _ = failing("taken", 1, NetworkError, idempotent=True, retry=note)
    left, runs = failing("left", 1, ResourceUnavailable, idempotent=True, retry=note)
    with inside(plugins=["errors"], commands=[taken, left]).raw() as client:
        assert client.ask("taken")["result"] == 2
        assert client.ask("left")["error"]["data"]["code"] == 1502
    assert len(runs) == 1


def test_a_command_that_may_do_harm_twice_cannot_be_noted_for_retry(inside):
    run, _ = failing("pay", 0, NetworkError, retry=NOW)
    with pytest.raises(StartRefused, match=r"'pay'.*idempotent"):
        inside(plugins=["errors"], commands=[run])


@pytest.mark.parametrize(
    ("note", "words"),
    [
        ({"attemps": 3}, "attemps"),
        ({"attempts": 0}, "attempts: expected 1 to 20"),
        ({"backoff": "fibonacci"}, "backoff: expected one of none, fixed"),
        ({"base_s": -1}, "base_s: expected seconds"),
        ({"on": ["1302"]}, "on: expected codes"),
        (3, "expected a table"),
    ],
)
def test_a_wrong_note_is_refused_at_start_with_the_reason(inside, note, words):
    run, _ = failing("flaky", 0, NetworkError, idempotent=True, retry=note)
    with pytest.raises(StartRefused, match=words):
        inside(plugins=["errors"], commands=[run])


class Transactions(Plugin):
    """Stands where transactions stand: counts how often a scope is entered, and what was left behind."""

    ring = "scope"
    reads = frozenset({"transaction"})

    def __init__(self):
        self.left_over = []

    @hookimpl
    def tidegate_decorate(self, command, proceed):
        if not command.notes.get("transaction"):
            return None

        def scope(call: Call):
            self.left_over.append((call.effects, call.encoded))
            return proceed(call)

        return scope


def test_a_transaction_is_repeated_in_a_new_one_without_any_note(inside):
    runs, heard = [], []

    @command("book", transaction=True)
    def book(call) -> int:
        runs.append(1)
        call.publish("maintenance.changed", actor=None, on=False, message=str(len(runs)))
        if len(runs) < 3:
            raise [SerializationConflict, DeadlockDetected][len(runs) - 1]
        return len(runs)

    from tidegate_errors import Errors

    server = inside(
        "[plugins.errors.breaker]\nwindow = 20\n",
        plugins={"errors": Errors, "transactions": Transactions},
        commands=[book],
    )
    heard = server.events("maintenance.changed")
    with server.raw() as client:
        client.send(b'{"jsonrpc":"2.0","id":1,"method":"book"}\n')
        server.advance(1)
        server.advance(1)
        assert client.json()["result"] == 3
    plugin = server.server.registry.plugins["transactions"]
    assert plugin.left_over == [(None, None)] * 3
    assert [event.message for event in heard] == ["3"], "what failed attempts published must never be told"


def test_a_transaction_is_not_repeated_for_what_may_have_done_something(inside):
    runs = []

    @command("book", transaction=True)
    def book() -> int:
        runs.append(1)
        raise NetworkError

    from tidegate_errors import Errors

    server = inside(plugins={"errors": Errors, "transactions": Transactions}, commands=[book])
    with server.raw() as client:
        assert client.ask("book")["error"]["data"]["code"] == 1302
    assert len(runs) == 1


def waits(server, client, method: str, times: int, step: float = 0.25) -> None:
    """Call a command and let virtual time pass until it has answered."""
    client.send(b'{"jsonrpc":"2.0","id":1,"method":"%s"}\n' % method.encode())
    for _ in range(times):
        server.advance(step)
    client.json()


def timed(name: str, **notes):
    starts: list[float] = []

    @command(name, idempotent=True, **notes)
    def run(call) -> None:
        starts.append(call.server.clock.now())
        raise NetworkError

    return run, starts


@pytest.mark.parametrize(
    ("note", "expected"),
    [
        ({"attempts": 4, "backoff": "fixed", "base_s": 1}, [1, 1, 1]),
        ({"attempts": 4, "backoff": "linear", "base_s": 1, "cap_s": 2.5}, [1, 2, 2.5]),
        ({"attempts": 5, "backoff": "exponential", "base_s": 1, "cap_s": 5}, [1, 2, 4, 5]),
    ],
)
def test_waits_grow_as_the_note_says(inside, note, expected):
    run, starts = timed("flaky", retry=note)
    server = inside(plugins=["errors"], commands=[run])
    with server.raw() as client:
        waits(server, client, "flaky", 30, 0.5)
    assert [round(b - a, 6) for a, b in pairwise(starts)] == expected


def test_jitter_waits_between_nothing_and_the_exponential_time(inside):
    run, starts = timed("flaky", retry={"attempts": 6, "backoff": "jitter", "base_s": 1, "cap_s": 4})
    server = inside(plugins=["errors"], commands=[run])
    with server.raw() as client:
        waits(server, client, "flaky", 40, 0.5)
    gaps = [b - a for a, b in pairwise(starts)]
    assert len(gaps) == 5
    assert all(0 <= gap <= limit + 1e-9 for gap, limit in zip(gaps, [1, 2, 4, 4, 4], strict=True))
    assert len(set(gaps)) == 5


def test_retries_never_outlive_the_calls_deadline(inside):
    run, starts = timed("flaky", timeout=5, retry={"attempts": 9, "backoff": "fixed", "base_s": 2})
    server = inside(plugins=["errors"], commands=[run])
    with server.raw() as client:
        client.send(b'{"jsonrpc":"2.0","id":1,"method":"flaky"}\n')
        server.advance(4.5)
        assert client.json()["error"]["data"]["code"] == 1302, "the real reason, told before the deadline"
    assert len(starts) == 3


def test_a_total_time_for_all_attempts_is_kept(inside):
    run, starts = timed("flaky", retry={"attempts": 9, "backoff": "fixed", "base_s": 2, "within_s": 3})
    server = inside(plugins=["errors"], commands=[run])
    with server.raw() as client:
        client.send(b'{"jsonrpc":"2.0","id":1,"method":"flaky"}\n')
        server.advance(2.5)
        assert client.json()["error"]["data"]["code"] == 1302
    assert len(starts) == 2


def test_a_deadline_that_passed_is_not_repeated(inside):
    runs = []

    @command("slow", idempotent=True, timeout=1, retry={**NOW, "on": [1303]})
    def slow(call) -> None:
        runs.append(1)
        call.server.clock.sleep(10)

    server = inside(plugins=["errors"], commands=[slow])
    with server.raw() as client:
        client.send(b'{"jsonrpc":"2.0","id":1,"method":"slow"}\n')
        server.advance(1.5)
        assert client.json()["error"]["data"]["code"] == 1303
    assert runs == [1]


def test_a_deadline_that_fell_into_a_shielded_part_lets_it_end_and_no_more(inside, eventually):
    """Such as a commit that takes long and then fails: nobody would stop the next attempts."""
    runs = []

    @command("book", idempotent=True, timeout=1, retry=NOW)
    def book(call) -> None:
        runs.append(1)
        with call.shield():
            call.server.clock.sleep(10)
            raise SerializationConflict

    server = inside(plugins=["errors"], commands=[book])
    with server.raw() as client:
        client.send(b'{"jsonrpc":"2.0","id":1,"method":"book"}\n')
        eventually(lambda: runs)
        server.advance(11)
        assert client.json()["error"]["data"]["code"] == 1207
    assert runs == [1]


def test_a_client_that_is_gone_is_not_tried_again_for(inside, eventually):
    run, starts = timed("flaky", retry={"attempts": 3, "backoff": "fixed", "base_s": 2})
    server = inside(plugins=["errors"], commands=[run])
    client = server.raw()
    client.send(b'{"jsonrpc":"2.0","id":1,"method":"flaky"}\n')
    eventually(lambda: len(starts) == 1)
    (connection,) = server.server.connections.values()
    client.reset()
    eventually(lambda: connection.gone)
    server.advance(10)
    assert len(starts) == 1
    with server.admin() as admin:
        assert admin.call("errors.stats")["recoveries"]["retry"] == {"attempted": 1, "succeeded": 0, "failed": 1}


def test_a_wait_that_is_cancelled_is_a_retry_that_failed(inside, eventually):
    runs = []

    @command("outer")
    def outer(retrying) -> None:
        for attempt in retrying(attempts=2, backoff="fixed", base_s=3):
            with attempt:
                runs.append(1)
                raise NetworkError

    server = inside(plugins=["errors"], commands=[outer])
    with server.raw() as client, server.admin() as admin:
        client.send(b'{"jsonrpc":"2.0","id":1,"method":"outer"}\n')
        eventually(lambda: runs)
        (connection,) = [one for one in server.server.connections.values() if one.kind == "tcp"]
        server.run(lambda: connection.end(cancel=True))
        assert client.json()["error"]["data"]["code"] == 1311
        assert admin.call("errors.stats")["recoveries"]["retry"] == {"attempted": 1, "succeeded": 0, "failed": 1}


def test_an_attempt_that_fails_for_another_reason_is_a_retry_that_failed(inside):
    errors = [NetworkError, InvalidValue]

    @command("flaky", idempotent=True, retry=NOW)
    def flaky() -> None:
        raise errors.pop(0)

    server = inside(plugins=["errors"], commands=[flaky])
    with server.raw() as client, server.admin() as admin:
        assert client.ask("flaky")["error"]["data"]["code"] == 1108
        assert admin.call("errors.stats")["recoveries"]["retry"] == {"attempted": 1, "succeeded": 0, "failed": 1}


def test_each_attempt_gets_the_parameters_as_they_came(inside):
    def instead(members, settings) -> list:
        return [members, settings]

    @command("room.fill", idempotent=True, retry=NOW, fallback=instead)
    def fill(members, settings: dict, fail: int) -> list:
        members.append("the owner")
        settings["tags"].pop()
        seen.append(1)
        if len(seen) <= fail:
            raise SerializationConflict
        return [members, settings]

    server = inside(plugins=["errors"], commands=[fill])
    with server.raw() as client:
        for fail, expected in ((2, [["jo", "the owner"], {"tags": ["a"]}]), (3, [["jo"], {"tags": ["a", "b"]}])):
            seen = []
            reply = client.ask("room.fill", {"members": ["jo"], "settings": {"tags": ["a", "b"]}, "fail": fail})
            assert reply["result"] == expected
            assert len(seen) == 3


def test_a_block_is_not_repeated_after_the_calls_deadline(inside):
    runs = []

    @command("slow", timeout=1)
    def slow(call, retrying) -> None:
        for attempt in retrying(attempts=3, backoff="none", on=[1303]):
            with attempt:
                runs.append(1)
                call.server.clock.sleep(10)

    server = inside(plugins=["errors"], commands=[slow])
    with server.raw() as client:
        client.send(b'{"jsonrpc":"2.0","id":1,"method":"slow"}\n')
        server.advance(1.5)
        assert client.json()["error"]["data"]["code"] == 1303
    assert runs == [1]


def test_a_time_limit_of_the_commands_own_is_repeated(inside):
    runs = []

    @command("slow", idempotent=True, retry=NOW)
    def slow() -> int:
        runs.append(1)
        if len(runs) < 3:
            raise gevent.Timeout(1)
        return len(runs)

    with inside(plugins=["errors"], commands=[slow]).raw() as client:
        assert client.ask("slow")["result"] == 3


def test_a_dependencys_retry_after_is_waited_for(inside):
    starts = []

    @command("polite", idempotent=True, retry={"attempts": 2, "backoff": "none"})
    def polite(call) -> str:
        starts.append(call.server.clock.now())
        if len(starts) == 1:
            raise DependencyUnavailable(retry_after=4)
        return "now"

    server = inside(plugins=["errors"], commands=[polite])
    with server.raw() as client:
        client.send(b'{"jsonrpc":"2.0","id":1,"method":"polite"}\n')
        server.advance(3.9)
        assert len(starts) == 1
        server.advance(0.2)
        assert client.json()["result"] == "now"
    assert starts[1] - starts[0] == pytest.approx(4)


def test_a_retry_does_not_wait_for_a_breaker_that_it_has_opened(inside):
    run, runs = failing("flaky", 9, DependencyUnavailable, idempotent=True, breaker=True, retry={**NOW, "attempts": 9})
    config = "[plugins.errors.breaker]\nminimum_calls = 3\nwindow = 3\n"
    with inside(config, plugins=["errors"], commands=[run]).raw() as client:
        data = client.ask("flaky")["error"]["data"]
    assert data["code"] == 1307
    assert 3.9 < data["retry_after"] <= 6
    assert len(runs) == 3


def test_the_budget_ends_retries_for_the_whole_server(inside):
    one, first = failing("one", 10**6, NetworkError, idempotent=True, retry=NOW)
    two, second = failing("two", 10**6, NetworkError, idempotent=True, retry=NOW)
    server = inside("[plugins.errors]\nretry_burst = 5\n", plugins=["errors"], commands=[one, two])
    with server.raw() as client:
        for _ in range(20):
            client.ask("one")
            client.ask("two")
    assert len(first) + len(second) == 40 + 5
    with server.admin() as admin:
        stats = admin.call("errors.stats")
    assert stats["recoveries"]["retry"]["attempted"] == 5
    assert stats["retry_budget"]["refused"] > 0


def test_retry_can_be_switched_off(inside):
    run, runs = failing("flaky", 9, NetworkError, idempotent=True, retry=NOW)
    with inside("[plugins.errors]\nretry_percent = 0\n", plugins=["errors"], commands=[run]).raw() as client:
        client.ask("flaky")
    assert len(runs) == 1


def test_a_block_of_ones_own_is_repeated_on_the_same_budget(inside):
    runs = []

    @command("mine")
    def mine(retrying, fail: int = 2) -> list[int]:
        numbers = []
        for attempt in retrying(attempts=3, backoff="none"):
            with attempt:
                runs.append(attempt.number)
                numbers.append(attempt.number)
                if attempt.number <= fail:
                    raise ConnectionResetError
        return numbers

    server = inside("[plugins.errors]\nretry_burst = 4\n", plugins=["errors"], commands=[mine])
    exhausted = server.events("retry.exhausted")
    with server.raw() as client:
        assert client.ask("mine")["result"] == [1, 2, 3]
        assert client.ask("mine", {"fail": 9})["error"]["data"]["code"] == 1302
        assert runs == [1, 2, 3] * 2
        assert "error" in client.ask("mine"), "the budget was spent"
    assert [event.method for event in exhausted] == ["mine", "mine"]


def test_a_function_of_ones_own_is_repeated(inside):
    runs = []

    class Mine(Plugin):
        @command("mine")
        def mine(self) -> int:
            @self.server.provided("retrying")(attempts=3, backoff="none", on=[1302])
            def fetch() -> int:
                runs.append(1)
                if len(runs) < 3:
                    raise NetworkError
                return len(runs)

            return fetch()

    from tidegate_errors import Errors

    with inside(plugins={"errors": Errors, "mine": Mine}).raw() as client:
        assert client.ask("mine")["result"] == 3


def test_a_client_cannot_send_what_is_injected(inside):
    @command("mine")
    def mine(retrying) -> bool:
        return callable(retrying)

    with inside(plugins=["errors"], commands=[mine]).raw() as client:
        assert client.ask("mine")["result"] is True
        assert client.ask("mine", {"retrying": 1})["error"]["data"]["code"] == 1112
