"""Guessing is slow, tells nothing, and locks nobody out from everywhere."""

from __future__ import annotations

import threading

import pytest
from tidegate.faults import AccountLocked, InvalidCredentials, ServerOverloaded

PASSWORD = "correct horse battery"


@pytest.fixture
def server(accounts_inside):
    server = accounts_inside()
    with server.client() as client:
        client.call("account.register", name="ada", password=PASSWORD)
    return server


def code(server, name, password, source=None):
    reply = server.raw(source).ask("account.login", {"name": name, "password": password})
    return reply["error"]["code"] if "error" in reply else 0


@pytest.mark.parametrize("name", ["ada", "nobody"])
def test_after_some_failures_the_next_attempts_from_there_wait_longer_each_time(server, name):
    assert [code(server, name, f"wrong {n}", "127.0.0.9") for n in range(5)] == [InvalidCredentials.code] * 5
    waits = []
    for n in range(4):
        reply = server.raw("127.0.0.9").ask("account.login", {"name": name, "password": "right or wrong"})
        assert reply["error"]["code"] == AccountLocked.code
        waits.append(reply["error"]["data"]["retry_after"])
        server.advance(waits[-1] + 0.1)
        assert code(server, name, f"again {n}", "127.0.0.9") == InvalidCredentials.code
    assert waits == sorted(waits)
    assert waits[-1] > waits[0]


def test_a_strangers_guesses_delay_the_stranger_only(server):
    for n in range(6):
        code(server, "ada", f"wrong {n}", "127.0.0.9")
    assert code(server, "ada", PASSWORD, "127.0.0.9") == AccountLocked.code
    assert code(server, "ada", PASSWORD, "127.0.0.1") == 0


def test_guesses_from_everywhere_are_slowed_and_the_owner_gets_in_from_where_they_were(server):
    codes = [code(server, "ada", f"wrong {n}", f"127.0.1.{n}") for n in range(30)]
    assert codes.count(InvalidCredentials.code) == 20
    assert codes[20:] == [AccountLocked.code] * 10
    assert code(server, "ada", PASSWORD, "127.0.0.1") == 0
    server.advance(200)
    assert code(server, "ada", PASSWORD, "127.0.2.2") == 0


def test_the_right_password_forgives(server):
    for _ in range(3):
        for n in range(4):
            assert code(server, "ada", f"wrong {n}") == InvalidCredentials.code
        assert code(server, "ada", PASSWORD) == 0


def test_failures_are_told_with_a_fingerprint_and_no_password(server):
    failed = server.events("login.failed")
    for name, password in (("ada", "one guess"), ("ada", "one guess"), ("nobody", "another")):
        code(server, name, password, "127.0.0.9")
    assert [(event.name, event.known, event.address) for event in failed] == [
        ("ada", True, "127.0.0.9"),
        ("ada", True, "127.0.0.9"),
        ("nobody", False, "127.0.0.9"),
    ]
    assert failed[0].proof == failed[1].proof != failed[2].proof
    assert not [event for event in failed if "guess" in repr(vars(event))]


gate = threading.Event()


def test_hashing_has_its_own_bounded_threads_and_holds_nobody_up(inside, eventually):
    gate.clear()
    config = "[plugins.accounts]\nargon2_memory_kib = 64\nhashing_threads = 1\nhashing_queue = 2\n"
    server = inside(config=config, plugins=["accounts", "transactions"])
    passwords = server.server.registry.plugins["accounts"].passwords
    plain = passwords._compare
    passwords._compare = lambda *args: gate.wait(20) and plain(*args)
    codes = []
    threads = [threading.Thread(target=lambda n=n: codes.append(code(server, f"user{n}", "guess"))) for n in range(3)]
    for thread in threads:
        thread.start()
    pool = server.server.pools["accounts.hashing"]
    eventually(lambda: pool.busy == 3)
    assert code(server, "one.more", "guess") == ServerOverloaded.code
    with server.client() as client:
        assert client.call("system.ping") == "pong"
    gate.set()
    for thread in threads:
        thread.join()
    assert codes == [InvalidCredentials.code] * 3
    eventually(lambda: pool.busy == 0)


def test_stronger_parameters_are_taken_at_the_next_login(accounts):
    server = accounts()
    with server.client() as client:
        client.call("account.register", name="ada", password=PASSWORD)
    before = stored(server)
    server.stop()
    server.config.write_text(server.config.read_text().replace("argon2_memory_kib = 64", "argon2_memory_kib = 128"))
    server.start()
    for _ in range(2):
        with server.client() as client:
            client.call("account.login", name="ada", password=PASSWORD)
    assert "m=64," in before
    assert "m=128," in stored(server)


def stored(server):
    import sqlite3

    with sqlite3.connect(server.data / "transactions" / "tidegate.sqlite") as db:
        ((hash,),) = db.execute("SELECT password FROM accounts_user")
    return hash
