"""Under attack: raised by many addresses at once, over by itself; and what would be done, asked without doing it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from tidegate import command
from tidegate.faults import Fault
from tidegate_security.signals import POINTS


def misbehave(server: Any, addresses: int, first: int = 1) -> None:
    """So many addresses speak HTTP to the port."""
    for number in range(first, first + addresses):
        with server.raw(source=f"127.0.7.{number}") as raw:
            raw.send(b"GET / HTTP/1.1\r\n\r\n")
            raw.rest()


def is_attacked(server: Any) -> bool:
    with server.admin() as admin:
        return admin.call("security.status")["under_attack"] is not None


def test_many_addresses_at_once_are_an_attack_and_quiet_ends_it(
    guarded: Callable[..., Any], eventually: Callable[..., Any]
) -> None:
    server = guarded("attack_addresses = 10\nattack_calm_s = 120\nmax_delay_s = 0")
    events = server.events("attack.changed")
    misbehave(server, 9)
    assert not is_attacked(server)
    misbehave(server, 1, first=10)
    eventually(lambda: is_attacked(server))
    assert server.server.patience == 0.5
    assert [(event.on, event.addresses) for event in events] == [(True, 10)]
    for _ in range(6):
        server.advance(10)
    assert is_attacked(server)  # it is quiet, but not for long enough
    for _ in range(30):
        server.advance(5)
    eventually(lambda: not is_attacked(server))
    assert server.server.patience == 1.0
    assert [event.on for event in events] == [True, False]
    with server.admin() as admin:
        eventually(lambda: len(admin.call("security.audit", event="attack.changed")["entries"]) == 2)


def test_an_attack_that_goes_on_with_fewer_addresses_does_not_flutter(
    guarded: Callable[..., Any], eventually: Callable[..., Any]
) -> None:
    server = guarded("attack_addresses = 6\nattack_calm_s = 60\nmax_delay_s = 0")
    events = server.events("attack.changed")
    misbehave(server, 6)
    eventually(lambda: is_attacked(server))
    for round_ in range(5):
        server.advance(30)
        misbehave(server, 4, first=20 + 10 * round_)
    assert is_attacked(server)
    assert [event.on for event in events] == [True]


def test_time_limits_are_halved_under_attack(guarded: Callable[..., Any], eventually: Callable[..., Any]) -> None:
    listen = '[[listen]]\naddress = "127.0.0.1:0"\nfirst_line_timeout_s = 40\n'
    server = guarded("attack_addresses = 5\nattack_calm_s = 3600\nmax_delay_s = 0", listen=listen)
    misbehave(server, 5)
    eventually(lambda: is_attacked(server))
    with server.raw(source="127.0.8.1") as idle:
        idle.send(b'{"jsonrpc"')
        eventually(lambda: any(c.address == "127.0.8.1" for c in server.run(server.server.connections.values)))
        server.advance(25)
        assert b"1612" in idle.rest()


def test_observing_tells_of_an_attack_and_changes_nothing(
    guarded: Callable[..., Any], eventually: Callable[..., Any]
) -> None:
    server = guarded("mode = 'observe'\nattack_addresses = 5")
    misbehave(server, 5)
    eventually(lambda: is_attacked(server))
    assert server.server.patience == 1.0
    with server.admin() as admin:
        admin.call("security.mode", mode="enforce")
        assert server.server.patience == 0.5


def test_a_client_of_many_users_with_a_mistake_in_it_is_no_attack(guarded: Callable[..., Any]) -> None:
    server = guarded("attack_addresses = 5")
    for number in range(1, 12):
        with server.raw(source=f"127.0.7.{number}") as raw:
            raw.ask("system.echo", {"wrong": 1})
    assert not is_attacked(server)


def test_what_would_be_done_is_said_and_not_done(shop: Callable[..., Any]) -> None:
    server = shop()
    with server.admin() as admin:
        found = admin.call("security.simulate", text="' or 1=1--", address="127.0.0.80", times=1)
        assert found["text"]["category"] == "sqli"
        assert found["text"]["refused"] is False
        assert found["text"]["points"] == POINTS["threat high"] / 2
        assert found["address"]["answer"] == "none"
        found = admin.call("security.simulate", text="' or 1=1--", profile="identifier", address="127.0.0.80", times=2)
        assert found["text"]["refused"] is True
        assert (found["address"]["answer"], found["address"]["severity"]) == ("block", "medium")
        assert found["address"]["block_s"] == 600
        found = admin.call("security.simulate", address="127.0.0.80", signal="foreign protocol", times=4)
        assert (found["address"]["severity"], found["address"]["block_s"]) == ("high", 3600)
        assert admin.call("security.simulate", text="hello O'Brien")["text"]["flagged"] is False
        admin.call("security.allow", network="127.0.0.80", reason="ours")
        found = admin.call("security.simulate", address="127.0.0.80", signal="honeypot", times=9)
        assert (found["address"]["never_blocked"], found["address"]["answer"]) == (True, "none")
        assert admin.call("security.events", prefix="127.0.0.80") == []
        assert admin.call("security.blocks") == []
        with pytest.raises(Fault):
            admin.call("security.simulate")
        with pytest.raises(Fault):
            admin.call("security.simulate", address="nobody")


def test_simulation_says_what_is_done_then(shop: Callable[..., Any]) -> None:
    server = shop()
    with server.admin() as admin:
        found = admin.call("security.simulate", address="127.0.0.81", signal="foreign protocol", times=3)["address"]
        for _ in range(3):
            with server.raw(source="127.0.0.81") as raw:
                raw.send(b"GET / HTTP/1.1\r\n\r\n")
                raw.rest()
        (block,) = admin.call("security.blocks")
        assert (found["answer"], found["severity"], found["prefix"]) == ("block", block["severity"], block["network"])
        assert abs(block["left_s"] - found["block_s"]) <= 0.11 * found["block_s"]


def test_an_address_of_ipv6_is_blocked_with_its_whole_prefix(guarded: Callable[..., Any]) -> None:
    listen = '[[listen]]\naddress = "[::1]:0"\n'
    server = guarded("max_delay_s = 0", listen=listen)
    for _ in range(3):
        with server.raw() as raw:
            assert raw.sock.getpeername()[0] == "::1"
            raw.send(b"GET / HTTP/1.1\r\n\r\n")
            raw.rest()
    with server.raw() as raw:
        assert b"1406" in raw.line()
    with server.admin() as admin:
        assert [block["network"] for block in admin.call("security.blocks")] == ["::/64"]
        assert admin.call("security.unblock", network="::/64", reason="a test")
    with server.raw() as raw:
        assert raw.ask("system.ping")["result"] == "pong"


def test_who_floods_past_a_rate_is_delayed_and_then_blocked(
    inside: Callable[..., Any], eventually: Callable[..., Any]
) -> None:
    @command("flood.me", rate="5/minute")
    def flooded() -> int:
        return 1

    config = "[server]\nexempt = []\n[plugins.security]\nmax_delay_s = 0\n"
    server = inside(config, plugins=["security", "validation"], commands=[flooded])

    def blocked() -> bool:
        with server.admin() as admin:
            return bool(admin.call("security.blocks"))

    with server.raw(source="127.0.0.98") as innocent:
        for _ in range(90):
            if blocked():
                break
            try:
                with server.raw(source="127.0.0.82") as raw:
                    for _ in range(8):
                        raw.ask("flood.me")
            except (AssertionError, OSError, ValueError):
                pass
            assert innocent.ask("system.ping")["result"] == "pong"
            server.advance(1)
        assert blocked()
        assert innocent.ask("flood.me")["result"] == 1
