"""Idempotency keys: one effect, however often a call is repeated."""

from __future__ import annotations

import json
import threading

import pytest

ANON = "an-anonymous-key-of-22-characters"


@pytest.fixture(params=["sqlite", "postgresql"])
def any_shop(request, shop):
    def start(settings="", **options):
        if request.param == "postgresql":
            url = request.getfixturevalue("database")
            settings = f'url = "{url}"\nupgrade = "always"\n' + settings
        return shop(settings, **options)

    return start


def code_of(reply):
    return reply["error"]["data"]["code"] if "error" in reply else None


def names(server):
    with server.client() as client:
        return client.call("item.names")


def test_a_repeat_gets_the_first_reply_and_changes_nothing_also_after_a_crash(any_shop):
    server = any_shop()
    first = server.raw().ask("item.add", {"name": "pen"}, idempotency_key=ANON)
    again = server.raw().ask("item.add", {"name": "pen"}, idempotency_key=ANON)
    server.kill()
    server.start()
    after = server.raw().ask("item.add", {"name": "pen"}, idempotency_key=ANON)
    assert first["result"] == again["result"] == after["result"]
    assert names(server) == ["pen"]


def test_the_same_key_with_another_request_is_1214(any_shop):
    server = any_shop()
    server.raw().ask("item.add", {"name": "pen"}, idempotency_key=ANON)
    assert code_of(server.raw().ask("item.add", {"name": "ink"}, idempotency_key=ANON)) == 1214
    assert names(server) == ["pen"]


def test_a_call_that_failed_keeps_no_key(any_shop):
    server = any_shop()
    assert code_of(server.raw().ask("item.fail", {"name": "pen"}, idempotency_key=ANON)) == 1304
    assert code_of(server.raw().ask("item.fail", {"name": "pen"}, idempotency_key=ANON)) == 1304
    assert names(server) == []


def test_repeats_at_the_same_time_have_one_effect_and_one_reply(any_shop):
    server = any_shop()
    replies = []

    def ask():
        replies.append(server.raw().ask("item.slow", {"name": "pen", "seconds": 0.2}, idempotency_key=ANON))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert [reply.get("result") for reply in replies] == ["pen"] * 8
    assert names(server) == ["pen"]


def test_repeats_on_one_connection_in_one_segment_have_one_effect(any_shop):
    server = any_shop()
    raw = server.raw()
    lines = [
        {"jsonrpc": "2.0", "id": i, "method": "item.add", "params": {"name": "pen"}, "idempotency_key": ANON}
        for i in range(10)
    ]
    raw.send(b"".join(json.dumps(line).encode() + b"\n" for line in lines))
    results = {raw.json()["result"] for _ in lines}
    assert len(results) == 1
    assert names(server) == ["pen"]


def test_keys_are_kept_by_method(any_shop):
    server = any_shop()
    server.raw().ask("item.add", {"name": "pen"}, idempotency_key=ANON)
    assert server.raw().ask("item.slow", {"name": "pen", "seconds": 0}, idempotency_key=ANON)["result"] == "pen"
    assert names(server) == ["pen", "pen"]


def test_a_short_anonymous_key_is_refused(any_shop):
    server = any_shop()
    assert code_of(server.raw().ask("item.add", {"name": "pen"}, idempotency_key="short")) == 1601


def test_commands_that_keep_no_keys_refuse_them(served, shop):
    source = (
        "from tidegate import command\n\n"
        "@command('token.make', transaction=True, result={'token': {'meta': {'profile': 'secret'}}})\n"
        "def make(db):\n    return {'token': 'x'}\n"
    )
    server = served(plugins=["transactions"], source=source)
    assert code_of(server.raw().ask("token.make", idempotency_key=ANON)) == 1603
    server = shop()
    assert code_of(server.raw().ask("item.names", idempotency_key=ANON)) == 1603
    assert code_of(server.raw().ask("item.parts", {"first": "a", "second": "b"}, idempotency_key=ANON)) == 1603
    assert code_of(server.raw().ask("system.ping", idempotency_key=ANON)) == 1603


PAY = """
from tidegate import command

NUMBER = {"type": "string", "meta": {"profile": "secret"}}
CARD = {"type": "dict", "schema": {"number": NUMBER, "name": {"type": "string"}}}

@command("pay", transaction=True, params={"card": CARD})
def pay(db, card: dict):
    return card["number"]
"""


def test_secrets_inside_a_parameter_are_no_part_of_what_is_kept(served):
    server = served(plugins=["transactions"], source=PAY)

    def ask(number, name):
        return server.raw().ask("pay", {"card": {"number": number, "name": name}}, idempotency_key=ANON)

    assert ask("1", "Ann")["result"] == "1"
    assert ask("2", "Ann")["result"] == "1", "the same request: no hash of the number was stored"
    assert code_of(ask("1", "Bob")) == 1214


def test_a_key_expires(any_shop):
    server = any_shop("key_ttl_s = 60\n", virtual=True)
    server.raw().ask("item.add", {"name": "pen"}, idempotency_key=ANON)
    server.advance(61)
    assert "result" in server.raw().ask("item.add", {"name": "pen"}, idempotency_key=ANON)
    assert names(server) == ["pen", "pen"]


def test_the_key_of_a_command_that_took_all_back_is_kept(any_shop):
    server = any_shop()
    for _ in range(2):
        assert server.raw().ask("item.take_back", {"name": "pen"}, idempotency_key=ANON)["result"] == "pen"
    assert names(server) == ["pen again"]
