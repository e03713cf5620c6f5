"""What administrators do with accounts, and how the first one comes to be."""

from __future__ import annotations

import subprocess
import sys

import pytest
from tidegate.faults import (
    AccountSuspended,
    AuthenticationRequired,
    AuthorizationDenied,
    InvalidCredentials,
    InvalidValue,
    PasswordRejected,
    QuotaExceeded,
    ResourceConflict,
    ResourceNotFound,
    SessionExpired,
    TokenInvalid,
    ValueOutOfRange,
)

PASSWORD = "correct horse battery"


def register(client, name):
    return client.call("account.register", name=name, password=PASSWORD)


def test_there_is_no_account_before_somebody_makes_one(server):
    with server.admin() as admin:
        assert admin.call("account.list") == {"accounts": [], "next": None}
        made = admin.call("account.create", name="root", role="admin")
    with server.client() as client:
        client.call("account.login", name="root", password=made["password"])
        assert client.call("account.whoami")["roles"] == ["admin", "moderator", "user"]
        assert [one["name"] for one in client.call("account.list")["accounts"]] == ["root"]


def test_who_is_no_administrator_administers_nothing(server):
    with server.client() as client:
        with pytest.raises(AuthenticationRequired):
            client.call("account.list")
        register(client, "eve")
        for method, params in (
            ("account.list", {}),
            ("account.set_role", {"user": "eve", "role": "admin"}),
            ("account.create", {"name": "eve2", "role": "admin"}),
            ("account.create_token", {"user": "eve"}),
            ("account.reset_password", {"user": "eve"}),
        ):
            with pytest.raises(AuthorizationDenied):
                client.call(method, params)


def test_accounts_are_listed_a_page_at_a_time(server):
    with server.admin() as admin:
        for number in range(7):
            admin.call("account.create", name=f"user{number}", role="moderator" if number % 2 else "user")
        names, after = [], None
        while True:
            page = admin.call("account.list", {"limit": 3, **({"after": after} if after else {})})
            names += [one["name"] for one in page["accounts"]]
            after = page["next"]
            if after is None:
                break
        assert names == [f"user{number}" for number in range(7)]
        assert len(admin.call("account.list", role="moderator")["accounts"]) == 3
        assert len(admin.call("account.list", text="USER3")["accounts"]) == 1
        assert admin.call("account.list", text="user_")["accounts"] == []
        with pytest.raises((InvalidValue, ValueOutOfRange)):
            admin.call("account.list", limit=0)


def test_who_is_connected_is_told_by_name(server):
    with server.client() as client, server.admin() as admin:
        user = register(client, "ada")["user"]
        (row,) = [row for row in admin.call("system.connections") if row["kind"] == "tcp"]
        assert (row["user"], row["name"]) == (user["id"], "ada")


def test_a_role_holds_for_open_connections_at_once(server):
    with server.client() as client, server.admin() as admin:
        register(client, "ada")
        admin.call("account.set_role", user="ada", role="admin")
        assert client.call("account.list", limit=1)["accounts"]
        admin.call("account.set_role", user="ada", role="user")
        with pytest.raises(AuthorizationDenied):
            client.call("account.list")
        with pytest.raises(InvalidValue):
            admin.call("account.set_role", user="ada", role="emperor")
        with pytest.raises(ResourceNotFound):
            admin.call("account.set_role", user="nobody", role="user")


def test_suspension_ends_live_sessions_at_once_and_is_said_after_the_right_password_only(server):
    with server.client(reconnect=False) as client, server.admin() as admin:
        made = register(client, "eve")
        admin.call("account.suspend", user=made["user"]["id"], for_s=None, reason="spam")
        with pytest.raises((AccountSuspended, ConnectionError)):
            client.call("account.whoami")
        with server.client() as other:
            with pytest.raises(InvalidCredentials):
                other.call("account.login", name="eve", password="wrong password")
            with pytest.raises(AccountSuspended, match="spam"):
                other.call("account.login", name="eve", password=PASSWORD)
        with server.client() as other, pytest.raises(AccountSuspended):
            other.call("account.resume", token=made["token"])
        assert server.raw().ask("system.ping", auth=made["token"])["error"]["code"] == AccountSuspended.code
        assert admin.call("account.list", suspended=True)["accounts"][0]["reason"] == "spam"
        admin.call("account.reinstate", user="eve")
        with pytest.raises(ResourceConflict):
            admin.call("account.reinstate", user="eve")
        with server.client() as other:
            other.call("account.resume", token=made["token"])


def test_a_token_may_do_what_its_scopes_say_and_no_more(server):
    with server.admin() as admin:
        admin.call("account.create", name="root", role="admin")
        token = admin.call("account.create_token", user="root", scopes=["read"], label="graphs")["token"]
        full = admin.call("account.create_token", user="root")["token"]
        with pytest.raises(InvalidValue):
            admin.call("account.create_token", user="root", scopes=["everything"])
    raw = server.raw()
    assert "result" in raw.ask("account.list", auth=token)
    denied = raw.ask("account.set_role", {"user": "root", "role": "user"}, auth=token)
    assert denied["error"]["code"] == AuthorizationDenied.code
    denied = raw.ask("account.suspend", {"user": "root"}, auth=token)
    assert denied["error"]["code"] == AuthorizationDenied.code
    assert "result" in raw.ask("account.set_role", {"user": "root", "role": "admin"}, auth=full)


def test_tokens_are_bounded_and_revoked(accounts):
    server = accounts("max_tokens = 2\n")
    with server.admin() as admin:
        admin.call("account.create", name="bot")
        tokens = [admin.call("account.create_token", user="bot") for _ in range(2)]
        with pytest.raises(QuotaExceeded):
            admin.call("account.create_token", user="bot")
        assert admin.call("account.end_sessions", user="bot", session=tokens[0]["session"])["ended"] == 1
        shown = admin.call("account.show", user="bot")
        assert [session["id"] for session in shown["sessions"]] == [tokens[1]["session"]]
    assert server.raw().ask("account.whoami", auth=tokens[0]["token"])["error"]["code"] == TokenInvalid.code
    assert server.raw().ask("account.whoami", auth=tokens[1]["token"])["result"]["name"] == "bot"


def test_all_sessions_are_listed_a_page_at_a_time_with_whose_they_are(server):
    with server.client() as client, server.admin() as admin:
        ada = register(client, "ada")
        admin.call("account.create", name="bot")
        for _ in range(2):
            admin.call("account.create_token", user="bot", label="a job")
        found, after = [], None
        while True:
            page = admin.call("account.list_sessions", {"limit": 2, **({"after": after} if after else {})})
            found += page["sessions"]
            if (after := page["next"]) is None:
                break
        assert sorted((one["name"], one["kind"], one["label"]) for one in found) == [
            ("ada", "session", ""),
            ("bot", "token", "a job"),
            ("bot", "token", "a job"),
        ]
        (one,) = admin.call("account.list_sessions", user="ada")["sessions"]
        assert (one["id"], one["user"]) == (ada["session"], ada["user"]["id"])
        admin.call("account.end_sessions", user=one["user"], session=one["id"])
        assert admin.call("account.list_sessions", user="ada") == {"sessions": [], "next": None}
        assert "digest" not in one


def test_a_password_that_is_reset_ends_everything(server):
    with server.client(reconnect=False) as client, server.admin() as admin:
        made = register(client, "ada")
        token = admin.call("account.create_token", user="ada")["token"]
        new = admin.call("account.reset_password", user="ada")["password"]
        with pytest.raises((SessionExpired, ConnectionError)):
            client.call("account.whoami")
        for old in (made["token"], token):
            assert server.raw().ask("account.whoami", auth=old)["error"]["code"] == TokenInvalid.code
        with server.client() as other:
            other.call("account.login", name="ada", password=new)
        with pytest.raises(PasswordRejected):
            admin.call("account.reset_password", user="ada", password="password")


def test_what_administrators_do_is_in_the_audit_without_the_password(accounts_inside):
    server = accounts_inside()
    acted = server.events("operator.acted")
    with server.admin() as admin:
        admin.call("account.create", name="root", role="admin", password=PASSWORD)
        admin.call("account.suspend", user="root", for_s=60, reason="test")
    assert [(event.method, event.params.get("password")) for event in acted] == [
        ("account.create", "***"),
        ("account.suspend", None),
    ]
    assert acted[1].reason == "test"


# --- on the machine -------------------------------------------------------------------------------


def run(*args, stdin="", **options):
    command = [sys.executable, "-m", "tidegate", *map(str, args)]
    return subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=60, **options)


def test_the_first_administrator_is_made_on_the_machine(server):
    options = ("--config", server.config, "--data", server.data, "--only", "accounts,transactions")
    done = run("account", "create", "root", "--admin", *options, stdin=f"{PASSWORD}\n")
    assert done.returncode == 0, done.stderr
    assert "made admin root" in done.stderr
    with server.client() as client:
        client.call("account.login", name="root", password=PASSWORD)
        assert "admin" in client.call("account.whoami")["roles"]
    again = run("account", "create", "root", "--admin", *options, stdin=f"{PASSWORD}\n")
    assert (again.returncode, again.stderr.strip()) == (1, "This name is taken")
    weak = run("account", "create", "weak", "--admin", *options, stdin="password\n")
    assert weak.returncode == 1
    assert "Many people" in weak.stderr


def test_and_with_no_server_running_too(server):
    options = ("--config", server.config, "--data", server.data, "--only", "accounts,transactions")
    server.stop()
    done = run("account", "create", "root", "--admin", "--generate", *options)
    assert done.returncode == 0, done.stderr
    password = done.stdout.strip()
    assert run("account", "create", "Root", *options, "--generate").returncode == 1
    server.start()
    with server.client() as client:
        client.call("account.login", name="root", password=password)
        assert "admin" in client.call("account.whoami")["roles"]


def test_without_a_database_it_says_what_to_do(tmp_path):
    done = run(
        "account", "create", "root", "--data", tmp_path / "none", "--only", "accounts,transactions", "--generate"
    )
    assert done.returncode == 1
    assert "tidegate db upgrade" in done.stderr


def test_without_transactions_the_plugin_refuses_with_a_reason(tmp_path):
    done = run("serve", "--data", tmp_path / "data", "--only", "accounts", "--listen", "127.0.0.1:0")
    assert done.returncode == 1
    assert "'accounts'" in done.stderr
    assert "needs plugin 'transactions'" in done.stderr
