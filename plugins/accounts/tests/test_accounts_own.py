"""What everybody does with their own account, on both databases."""

from __future__ import annotations

import threading

import pytest
from tidegate.faults import (
    AuthenticationRequired,
    InvalidCharacters,
    InvalidCredentials,
    InvalidLength,
    InvalidValue,
    PasswordRejected,
    PermissionDenied,
    ResourceConflict,
    ResourceNotFound,
    SessionExpired,
    TokenInvalid,
    UnsupportedOperation,
)

PASSWORD = "correct horse battery"


def test_who_registers_is_logged_in_and_may_log_in_again(server):
    with server.client() as client:
        assert client.call("account.whoami") is None
        made = client.call("account.register", name="Ada", password=PASSWORD)
        who = client.call("account.whoami")
        assert who["name"] == "Ada"
        assert who["roles"] == ["user"]
        assert who["id"] == made["user"]["id"]
    with server.client() as client:
        assert client.call("account.login", name="ADA", password=PASSWORD)["user"]["id"] == made["user"]["id"]
        assert client.call("account.whoami")["name"] == "Ada"


def test_a_name_is_taken_in_any_case_and_by_one_of_many_at_once(server):
    won, lost = [], []

    def register(name):
        with server.client() as client:
            try:
                won.append(client.call("account.register", name=name, password=PASSWORD))
            except ResourceConflict:
                lost.append(name)

    threads = [threading.Thread(target=register, args=(name,)) for name in ("grace", "Grace", "GRACE", "gRace")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert len(lost) == 3
    with server.admin() as admin:
        assert len(admin.call("account.list")["accounts"]) == 1


@pytest.mark.parametrize(
    ("name", "fault"),
    [("x", InvalidLength), ("x" * 33, InvalidLength), ("a b", InvalidCharacters), ("a\u202eb", InvalidCharacters)],
)
def test_a_name_that_is_none_is_refused_without_the_validation_plugin(server, name, fault):
    with server.client() as client, pytest.raises(fault):
        client.call("account.register", name=name, password=PASSWORD)


@pytest.mark.parametrize(
    "password",
    ["short", "x" * 129, "password", "Password1!", "iloveyou2024", "11111111", "ada.lovelace", "Ada.Lovelace1"],
)
def test_a_password_that_is_short_long_or_common_is_refused(server, password):
    with server.client() as client:
        with pytest.raises(PasswordRejected):
            client.call("account.register", name="ada.lovelace", password=password)
        assert client.call("account.whoami") is None


def test_a_password_is_the_same_however_its_letters_were_composed(server):
    with server.client() as client:
        client.call("account.register", name="zoe", password="caf\u00e9 na\u00efve 12")
    with server.client() as client:
        client.call("account.login", name="zoe", password="cafe\u0301 nai\u0308ve 12")


def test_an_unknown_name_and_a_wrong_password_get_the_same_answer(server):
    with server.client() as client:
        client.call("account.register", name="ada", password=PASSWORD)
    answers = []
    for name in ("ada", "nobody"):
        error = server.raw().ask("account.login", {"name": name, "password": "wrong password"})["error"]
        error["data"].pop("request_id")
        answers.append(error)
    assert answers[0] == answers[1]
    assert answers[0]["code"] == InvalidCredentials.code


def test_a_token_survives_a_reconnect_and_a_restart(server):
    with server.client() as client:
        token = client.call("account.register", name="ada", password=PASSWORD)["token"]
    with server.client() as client:
        assert client.call("account.resume", token=token)["user"]["name"] == "ada"
    server.kill()
    server.start()
    with server.client() as client:
        client.call("account.resume", token=token)
        assert client.call("account.whoami")["name"] == "ada"


def test_a_token_speaks_for_one_call_only(server):
    with server.client() as client:
        token = client.call("account.register", name="ada", password=PASSWORD)["token"]
    raw = server.raw()
    assert raw.ask("account.whoami", auth=token)["result"]["name"] == "ada"
    assert raw.ask("account.whoami")["result"] is None
    assert raw.ask("account.sessions")["error"]["code"] == AuthenticationRequired.code
    assert raw.ask("account.whoami", auth="made up")["error"]["code"] == TokenInvalid.code


def test_logging_out_ends_the_session_and_leaves_the_connection(server):
    with server.client() as client:
        token = client.call("account.register", name="ada", password=PASSWORD)["token"]
        assert client.call("account.logout") is True
        assert client.call("account.whoami") is None
        with pytest.raises(TokenInvalid):
            client.call("account.resume", token=token)


def test_a_token_is_stored_nowhere(server, database):
    with server.client() as client:
        token = client.call("account.register", name="ada", password=PASSWORD)["token"]
        client.call("account.logout")
        client.call("account.login", name="ada", password=PASSWORD)
        with pytest.raises(UnsupportedOperation):  # the reply would be kept
            client.request("account.login", {"name": "ada", "password": PASSWORD}, idempotency_key="k" * 22)
    files = [path.read_bytes() for path in server.data.rglob("*") if path.is_file()]
    for secret in (token, PASSWORD):
        assert not [data for data in files if secret.encode() in data]
        assert secret not in server.log()


def test_a_new_password_ends_the_other_sessions_and_keeps_this_one(server):
    with server.client() as first, server.client(reconnect=False) as second:
        token = first.call("account.register", name="ada", password=PASSWORD)["token"]
        other = second.call("account.login", name="ada", password=PASSWORD)["token"]
        with pytest.raises(InvalidCredentials):
            first.call("account.change_password", old="wrong password", password="another good one")
        assert first.call("account.change_password", old=PASSWORD, password="another good one") == {"ended": 1}
        with pytest.raises((SessionExpired, ConnectionError)):
            second.call("account.whoami")
        assert first.call("account.whoami")["name"] == "ada"
        with server.client() as third:
            third.call("account.resume", token=token)
            with pytest.raises(TokenInvalid):
                third.call("account.resume", token=other)
            with pytest.raises(InvalidCredentials):
                third.call("account.login", name="ada", password=PASSWORD)
            third.call("account.login", name="ada", password="another good one")


def test_sessions_are_listed_and_revoked_one_by_one(server):
    with server.client() as first, server.client(reconnect=False) as second:
        first.call("account.register", name="ada", password=PASSWORD, label="desk")
        second.call("account.login", name="ada", password=PASSWORD, label="phone")
        listed = {session["label"]: session for session in first.call("account.sessions")}
        assert listed["desk"]["current"] is True
        assert listed["phone"]["current"] is False
        assert listed["phone"]["address"] == "127.0.0.1"
        assert first.call("account.revoke", session=listed["phone"]["id"]) is True
        with pytest.raises((SessionExpired, ConnectionError)):
            second.call("account.whoami")
        with pytest.raises(ResourceNotFound):
            first.call("account.revoke", session=listed["phone"]["id"])
        assert [session["label"] for session in first.call("account.sessions")] == ["desk"]


def test_nobody_revokes_what_is_somebody_elses(server):
    with server.client() as ada, server.client() as eve:
        session = ada.call("account.register", name="ada", password=PASSWORD)["session"]
        eve.call("account.register", name="eve", password=PASSWORD)
        with pytest.raises(ResourceNotFound):
            eve.call("account.revoke", session=session)
        assert ada.call("account.whoami")["name"] == "ada"


def test_the_session_used_longest_ago_makes_room_for_a_new_one(accounts, database):
    server = accounts("max_sessions = 2\n", database)
    with server.client() as client:
        tokens = [client.call("account.register", name="ada", password=PASSWORD)["token"]]
    for _ in range(2):
        with server.client() as client:
            tokens.append(client.call("account.login", name="ada", password=PASSWORD)["token"])
    with server.client() as client:
        with pytest.raises(TokenInvalid):
            client.call("account.resume", token=tokens[0])
        client.call("account.resume", token=tokens[2])
        assert len(client.call("account.sessions")) == 2


def test_a_profile_is_what_its_owner_says(server):
    with server.client() as client:
        client.call("account.register", name="ada", password=PASSWORD)
        client.call("account.update_profile", display="Ada L.")
        profile = client.call("account.update_profile", about="Poetical science")
        assert (profile["display"], profile["about"]) == ("Ada L.", "Poetical science")
        with pytest.raises(InvalidLength):
            client.call("account.update_profile", display="x" * 65)
        with pytest.raises(InvalidCharacters):
            client.call("account.update_profile", about="bell \x07")


def test_who_deletes_the_account_is_nobody_then(server):
    with server.client() as client, server.client(reconnect=False) as other:
        token = client.call("account.register", name="ada", password=PASSWORD)["token"]
        other.call("account.login", name="ada", password=PASSWORD)
        with pytest.raises(InvalidCredentials):
            client.call("account.delete", password="not this one")
        gone = client.call("account.delete", password=PASSWORD)
        assert gone["removed"]["accounts"] == {"accounts": 1, "sessions": 2}
        assert client.call("account.whoami") is None
        with pytest.raises((SessionExpired, ConnectionError)):
            other.call("account.whoami")
        with pytest.raises(InvalidCredentials):
            client.call("account.login", name="ada", password=PASSWORD)
        with pytest.raises(TokenInvalid):
            client.call("account.resume", token=token)
        client.call("account.register", name="ada", password=PASSWORD)


@pytest.mark.parametrize("name", ["admin", "ROOT", "Support"])
def test_a_name_that_speaks_for_the_server_is_no_bodys_to_register(accounts, name):
    server = accounts()
    with server.client() as client, pytest.raises(InvalidValue, match="reserved"):
        client.call("account.register", name=name, password=PASSWORD)
    with server.admin() as admin:
        assert admin.call("account.create", name=name, password=PASSWORD)["name"] == name


def test_registration_can_be_closed(accounts, database):
    server = accounts("registration = false\n", database)
    with server.client() as client, pytest.raises(PermissionDenied):
        client.call("account.register", name="ada", password=PASSWORD)
