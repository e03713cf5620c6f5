"""Attackers at several addresses of loopback, and an innocent client beside them who notices nothing."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from tidegate.testing.raw import Raw

BLOCKED, INNOCENT = 1406, "127.0.0.99"


def is_blocked(server: Any, address: str) -> bool:
    """Whether a connection from there is refused at once."""
    with server.raw(source=address) as raw:
        raw.send(b'{"jsonrpc":"2.0","id":1,"method":"system.ping"}\n')
        line = json.loads(raw.line() or b"{}")
        return bool(line.get("error", {}).get("code") == BLOCKED)


def calls_until_blocked(server: Any, address: str, call: Callable[[Raw, int], Any], most: int = 200) -> int:
    """Repeat `call` on new connections until the address is blocked; how often it took."""
    for number in range(most):
        if is_blocked(server, address):
            return number
        with server.raw(source=address) as raw:
            try:
                call(raw, number)
            except (AssertionError, OSError):
                pass
        server.advance(0)
    raise AssertionError(f"not blocked after {most}")


@pytest.fixture
def innocent(shop: Callable[..., Any]) -> Iterator[Any]:
    """A server without delays, and a client that must be served to the end."""
    server = shop("max_delay_s = 0")
    yield server
    raw = server.raw(source=INNOCENT)
    assert raw.ask("system.echo", {"text": "I noticed nothing, O'Brien"})["result"] == "I noticed nothing, O'Brien"
    assert not is_blocked(server, INNOCENT)
    raw.close()


def login(name: str, password: str) -> Callable[[Raw, int], Any]:
    return lambda raw, number: raw.ask("account.login", {"name": name, "password": password.format(number)})


def test_brute_force_is_blocked_and_let_in_again(innocent: Any) -> None:
    server = innocent
    assert calls_until_blocked(server, "127.0.0.2", login("alice", "guess{}")) <= 15
    server.advance(700)
    assert not is_blocked(server, "127.0.0.2")


def test_the_same_wrong_password_again_is_an_old_client_and_no_attack(innocent: Any) -> None:
    server = innocent
    for _ in range(40):
        with server.raw(source="127.0.0.3") as raw:
            raw.ask("account.login", {"name": "alice", "password": "forgotten"})
    assert not is_blocked(server, "127.0.0.3")


def test_enumeration_is_blocked(innocent: Any) -> None:
    server = innocent
    taken = calls_until_blocked(
        server, "127.0.0.4", lambda raw, n: raw.ask("account.login", {"name": f"user{n}", "password": f"p{n}"})
    )
    assert taken <= 10


def test_one_password_on_many_accounts_is_blocked(innocent: Any) -> None:
    server = innocent
    taken = calls_until_blocked(
        server, "127.0.0.5", lambda raw, n: raw.ask("account.login", {"name": f"user{n}", "password": "summer"})
    )
    assert taken <= 9


def test_guessing_at_one_account_from_many_addresses_is_blocked_address_by_address(innocent: Any) -> None:
    server = innocent
    addresses = [f"127.0.1.{n}" for n in range(1, 21)]
    for turn in range(4):
        for address in addresses:
            if not is_blocked(server, address):
                with server.raw(source=address) as raw:
                    raw.ask("account.login", {"name": "alice", "password": f"{address}{turn}"})
    assert sum(is_blocked(server, address) for address in addresses) >= 15
    with server.raw(source="127.0.0.98") as owner:  # who owns the account still gets in
        assert owner.ask("account.login", {"name": "alice", "password": "wonderland"})["result"] == "alice"


def test_a_success_halves_what_an_address_has_gathered(innocent: Any) -> None:
    server = innocent
    with server.raw(source="127.0.0.6") as raw:
        for number in range(5):
            raw.ask("account.login", {"name": "alice", "password": f"typo{number}"})
        before = server.admin().call("security.reputation", address="127.0.0.6")["score"]
        raw.ask("account.login", {"name": "alice", "password": "wonderland"})
    after = server.admin().call("security.reputation", address="127.0.0.6")["score"]
    assert after < 0.6 * before


def test_scanning_for_methods_is_blocked(innocent: Any) -> None:
    server = innocent
    assert calls_until_blocked(server, "127.0.0.7", lambda raw, n: raw.ask(f"admin.try{n}")) <= 9


def test_asking_for_one_missing_method_again_and_again_is_an_old_client(innocent: Any) -> None:
    server = innocent
    for _ in range(20):
        with server.raw(source="127.0.0.8") as raw:
            raw.ask("room.old_name")
    assert not is_blocked(server, "127.0.0.8")


@pytest.mark.parametrize(
    "first",
    [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(64),
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"\x00\x00\x00\x85\xffSMB\x72" + bytes(64),
        b"\x03\x00\x00\x13\x0e\xe0\x00\x00\x00\x00\x00\x01\x00\x08\x00\x03\x00\x00\x00",
    ],
    ids=["http", "tls", "ssh", "smb", "rdp"],
)
def test_another_protocols_bytes_are_blocked_the_third_time(innocent: Any, first: bytes) -> None:
    server = innocent

    def knock(raw: Raw, _: int) -> None:
        raw.send(first)
        raw.rest()

    assert calls_until_blocked(server, "127.0.0.10", knock) == 3


def test_slow_lines_are_blocked(innocent: Any) -> None:
    server = innocent

    def dawdle(raw: Raw, _: int) -> None:
        raw.ask("system.ping")
        raw.send(b'{"jsonrpc":"2.0",')
        server.run(lambda: None)
        for _ in range(20):
            server.advance(5)
        raw.rest()

    # A slow line is told once its time is over; what it counts fades meanwhile.
    assert calls_until_blocked(server, "127.0.0.11", dawdle, most=20) <= 12


def test_malformed_lines_are_blocked(innocent: Any) -> None:
    server = innocent

    def garble(raw: Raw, _: int) -> None:
        for _ in range(20):
            raw.send(b"{broken\n")
            raw.line()

    assert calls_until_blocked(server, "127.0.0.12", garble) <= 4


def test_connections_for_each_request_are_normal(innocent: Any) -> None:
    server = innocent
    for _ in range(100):
        with server.raw(source="127.0.0.13") as raw:
            raw.ask("system.ping")
    assert server.admin().call("security.reputation", address="127.0.0.13")["score"] == 0


def test_connections_without_any_request_are_churn(innocent: Any, eventually: Callable[..., Any]) -> None:
    server = innocent
    for _ in range(60):
        server.raw(source="127.0.0.14").close()
    admin = server.admin()
    eventually(lambda: admin.call("security.reputation", address="127.0.0.14")["score"] > 20)


def test_mostly_errors_count_against_an_address_that_is_not_used_to_them(innocent: Any) -> None:
    server = innocent
    with server.raw(source="127.0.0.15") as raw:
        for _ in range(60):
            raw.ask("note.named", {"nonsense": 1})
    found = server.admin().call("security.reputation", address="127.0.0.15")
    assert "mostly errors" in {e["signal"] for e in found["evidence"]}


def test_a_honeypot_answers_like_a_method_that_is_not_there(innocent: Any) -> None:
    server = innocent
    with server.raw(source="127.0.0.16") as raw:
        assert raw.ask("shell.run")["error"]["code"] == raw.ask("shell.ran")["error"]["code"] == -32601
    with server.raw(source="127.0.0.16") as raw:
        raw.ask("shell.run")
    assert is_blocked(server, "127.0.0.16")


def test_a_repeated_block_is_longer(innocent: Any) -> None:
    server = innocent
    lengths = []
    for number in range(3):
        calls_until_blocked(server, "127.0.0.17", lambda raw, n: raw.ask("shell.run"))
        (row,) = [b for b in server.admin().call("security.blocks") if b["network"] == "127.0.0.17/32"]
        lengths.append(row["left_s"])
        if number < 2:
            server.advance(row["left_s"] + 1)
    assert lengths[1] > 3 * lengths[0]
    assert lengths[2] > 3 * lengths[1]


def test_trouble_is_first_answered_with_a_delay_then_with_logins_only(shop: Callable[..., Any]) -> None:
    server = shop("max_delay_s = 2\nblock_score = 1000\nblock_high_score = 1000")
    with server.raw(source="127.0.0.18") as raw:
        raw.ask("shell.run")  # 30 points
    with server.raw(source="127.0.0.18") as raw:
        server.server.clock.sleep = lambda seconds: slept.append(seconds)
        slept: list[float] = []
        assert raw.ask("system.ping")["result"] == "pong"
        assert 0 < slept[0] <= 2
        raw.ask("shell.run")
        assert raw.ask("system.echo", {"text": "x"})["error"]["code"] == 1404
        assert raw.ask("account.login", {"name": "alice", "password": "wonderland"})["result"] == "alice"
        assert raw.ask("system.echo", {"text": "x"})["result"] == "x"


def test_delayed_calls_are_bounded(shop: Callable[..., Any]) -> None:
    server = shop("max_delay_s = 2\nmax_delayed = 0\nblock_score = 1000\nblock_high_score = 1000")
    with server.raw(source="127.0.0.19") as raw:
        raw.ask("shell.run")
        assert raw.ask("system.ping")["error"]["code"] == 1105


def test_an_account_in_good_standing_turns_a_block_into_a_soft_one(shop: Callable[..., Any]) -> None:
    server = shop("max_delay_s = 0")
    with server.raw(source="127.0.0.20") as good:
        good.ask("account.login", {"name": "bob", "password": "builder"})
        for _ in range(2):
            with server.raw(source="127.0.0.20") as bad:
                bad.ask("shell.run")
        (block,) = server.admin().call("security.blocks")
        assert block["soft"]
        assert good.ask("note.write", {"text": "still here"})["result"] == "still here"
    with server.raw(source="127.0.0.20") as stranger:
        assert stranger.ask("system.echo", {"text": "x"})["error"]["code"] == 1404
        assert stranger.ask("account.login", {"name": "alice", "password": "wonderland"})["result"] == "alice"


def test_an_administrators_session_is_never_ended_by_a_block(shop: Callable[..., Any]) -> None:
    server = shop("max_delay_s = 0")
    with server.raw(source="127.0.0.21") as root:
        root.ask("account.login", {"name": "root", "password": "toor"})
        for _ in range(3):
            with server.raw(source="127.0.0.21") as bad:
                bad.ask("shell.run")
        assert root.ask("security.blocks")["result"][0]["soft"]


def test_what_an_account_does_is_its_own_fault_and_suspends_it(
    shop: Callable[..., Any], eventually: Callable[..., Any], suspended: list[dict[str, Any]]
) -> None:
    server = shop()
    with server.raw(source="127.0.0.22") as raw:
        raw.ask("account.login", {"name": "alice", "password": "wonderland"})
        for number in range(4):
            raw.send(json.dumps({"jsonrpc": "2.0", "id": number, "method": "shell.run"}).encode() + b"\n")
        eventually(lambda: suspended)
    assert suspended[0]["user"] == "u-alice"
    assert suspended[0]["for_s"] == 3600
    assert not is_blocked(server, "127.0.0.22")
    trail = (server.data / "security" / "audit.jsonl").read_text
    eventually(lambda: "account.suspend" in trail())


def test_observing_does_everything_but_answer(shop: Callable[..., Any]) -> None:
    server = shop("mode = 'observe'")
    seen = server.events("address.blocked")
    for _ in range(4):
        with server.raw(source="127.0.0.23") as raw:
            raw.ask("shell.run")
            assert raw.ask("note.named", {"name": "' or 1=1--"})["result"]
    assert not is_blocked(server, "127.0.0.23")
    assert [(e.prefix, e.mode) for e in seen] == [("127.0.0.23/32", "observe")]


def test_exempt_and_allowed_networks_are_never_blocked(shop: Callable[..., Any]) -> None:
    server = shop("allow = ['127.0.2.0/24']")
    server.admin().call("security.allow", network="127.0.3.1", reason="a test")
    for address in ("127.0.2.9", "127.0.3.1"):
        for _ in range(5):
            with server.raw(source=address) as raw:
                raw.ask("shell.run")
        assert not is_blocked(server, address)
        assert server.admin().call("security.reputation", address=address)["score"] == 0


def test_blocks_and_offences_survive_a_restart(served: Callable[..., Any]) -> None:
    server = served("[server]\nexempt = []\n", plugins=["security"])
    with server.admin() as admin:
        admin.call("security.block", network="127.0.0.24", for_s=3600, reason="a test")
        admin.call("security.rule", id="sqli-drop", on=False)
    server.stop()
    server.start()
    assert is_blocked(server, "127.0.0.24")
    with server.admin() as admin:
        assert not next(r for r in admin.call("security.rules") if r["id"] == "sqli-drop")["on"]
