"""Sessions over time, certificates, the directory, and what other plugins see of accounts."""

from __future__ import annotations

import ssl

import pytest
import trustme
from tidegate import Plugin, command, hookimpl
from tidegate.faults import (
    AccountSuspended,
    AuthenticationRequired,
    AuthenticationUnavailable,
    PermissionDenied,
    ResourceConflict,
    SessionExpired,
    TokenInvalid,
)

PASSWORD = "correct horse battery"


def test_a_session_lives_as_long_as_it_is_used(accounts_inside):
    server = accounts_inside("session_ttl_s = 100\n")
    with server.client() as client:
        token = client.call("account.register", name="ada", password=PASSWORD)["token"]
    for _ in range(5):
        server.advance(80)
        with server.client() as client:
            client.call("account.resume", token=token)
    server.advance(101)
    with server.client() as client, pytest.raises((SessionExpired, TokenInvalid)):
        client.call("account.resume", token=token)


def test_a_connection_uses_its_session(accounts_inside):
    server = accounts_inside(
        "session_ttl_s = 100\n", rest="[[listen]]\naddress = '127.0.0.1:0'\nidle_timeout_s = 86400\n"
    )
    with server.client(reconnect=False) as client:
        client.call("account.register", name="ada", password=PASSWORD)
        for _ in range(10):
            server.advance(50)
        assert client.call("account.whoami")["name"] == "ada"


def test_a_token_that_expires_is_refused_and_removed(accounts_inside, eventually):
    server = accounts_inside()
    ended = server.events("session.ended")
    with server.admin() as admin:
        admin.call("account.create", name="bot")
        token = admin.call("account.create_token", user="bot", expires_s=60)["token"]
        raw = server.raw()
        assert raw.ask("account.whoami", auth=token)["result"]["name"] == "bot"
        server.advance(61)
        assert server.raw().ask("account.whoami", auth=token)["error"]["code"] in (1003, 1008)
        server.advance(60)
        eventually(lambda: admin.call("account.show", user="bot")["sessions"] == [])
    assert [event.reason for event in ended] == ["expired"]


def test_a_suspension_ends_when_it_said(accounts_inside):
    server = accounts_inside()
    with server.client() as client:
        client.call("account.register", name="eve", password=PASSWORD)
    with server.admin() as admin:
        admin.call("account.suspend", user="eve", for_s=3600)
    with server.client() as client:
        with pytest.raises(AccountSuspended) as caught:
            client.call("account.login", name="eve", password=PASSWORD)
        assert 3590 <= caught.value.retry_after <= 3600
    server.advance(3601)
    with server.client() as client:
        client.call("account.login", name="eve", password=PASSWORD)


def test_what_happens_to_an_account_is_told(accounts_inside):
    server = accounts_inside()
    names = ("registered", "changed", "suspended", "reinstated", "deleted")
    events = server.events(
        *(f"account.{name}" for name in names), "login.succeeded", "session.started", "session.ended"
    )
    with server.client() as client, server.admin() as admin:
        made = client.call("account.register", name="ada", password=PASSWORD)
        client.call("account.update_profile", about="x")
        client.call("account.logout")
        client.call("account.login", name="ada", password=PASSWORD)
        admin.call("account.suspend", user="ada", for_s=5)
        admin.call("account.reinstate", user="ada")
        admin.call("account.remove", user="ada", reason="asked for it")
    assert [event.topic for event in events] == [
        *("account.registered", "session.started", "login.succeeded"),
        *("account.changed", "session.ended", "session.started", "login.succeeded"),
        *("account.suspended", "account.reinstated", "session.ended", "account.deleted"),
    ]
    assert {event.user for event in events if event.topic.startswith("account.")} == {made["user"]["id"]}
    assert events[-1].reason == "asked for it"


# --- certificates ---------------------------------------------------------------------------------


@pytest.fixture
def tls(tmp_path):
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    made = authority.issue_cert("localhost", "127.0.0.1")
    made.private_key_pem.write_to_path(tmp_path / "key.pem")
    for part in made.cert_chain_pems:
        part.write_to_path(tmp_path / "cert.pem", append=True)

    def context(name=None):
        context = ssl.create_default_context(cafile=tmp_path / "ca.pem")
        if name is not None:
            authority.issue_cert(f"{name}@example.org", common_name=name).configure_cert(context)
        return context

    config = (
        f"[[listen]]\naddress = '127.0.0.1:0'\ntls_cert = '{tmp_path}/cert.pem'\ntls_key = '{tmp_path}/key.pem'\n"
        f"client_ca = '{tmp_path}/ca.pem'\n"
    )
    return config, context


def test_a_client_certificate_lets_its_account_in(accounts, tls):
    config, context = tls
    server = accounts(rest=config)
    with server.admin() as admin:
        admin.call("account.create", name="probe", certificate="probe.example.org")
        with pytest.raises(ResourceConflict):
            admin.call(
                "account.set_certificate",
                user=admin.call("account.create", name="x2")["id"],
                certificate="probe.example.org",
            )
        with server.client(tls=context("probe.example.org")) as client:
            assert client.call("account.whoami")["name"] == "probe"
            assert client.call("account.sessions") == []
        with server.client(tls=context("stranger")) as client:
            assert client.call("account.whoami") is None
            with pytest.raises(AuthenticationRequired):
                client.call("account.sessions")
        with server.client(tls=context()) as client:
            assert client.call("account.whoami") is None


def test_a_certificate_that_was_taken_away_lets_nobody_in(accounts, tls):
    config, context = tls
    server = accounts(rest=config)
    with server.admin() as admin, server.client(tls=context("probe"), reconnect=False) as client:
        admin.call("account.create", name="probe", certificate="probe")
        assert client.call("account.whoami")["name"] == "probe"
        admin.call("account.set_certificate", user="probe", certificate=None)
        with pytest.raises((SessionExpired, ConnectionError)):
            client.call("account.whoami")
        with server.client(tls=context("probe")) as other:
            assert other.call("account.whoami") is None
        admin.call("account.set_certificate", user="probe", certificate="probe")
        admin.call("account.suspend", user="probe")
        with server.client(tls=context("probe")) as other, pytest.raises((AccountSuspended, ConnectionError)):
            other.call("account.whoami")


# --- other plugins --------------------------------------------------------------------------------


class Shelf(Plugin):
    """Keeps things of users, and may refuse to let go."""

    held: dict[str, int] = {}
    stubborn = False

    @hookimpl
    def tidegate_forget(self, leaving):
        if Shelf.stubborn:
            raise PermissionDenied("Bring the books back first")
        count = Shelf.held.get(leaving.user.id, 0)
        leaving.call.on_commit(lambda: Shelf.held.pop(leaving.user.id, None))
        return {"books": count}

    @command("shelf.look")
    def look(self, name: str):
        directory = self.server.directory
        user = directory.named(name)
        if user is None:
            return None
        return {
            "id": user.id,
            "same": directory.get(user.id) == user,
            "found": [one.name for one in directory.search(name[:2])],
            "profile": directory.profile(user.id)["name"],
        }


@pytest.fixture
def shelf(inside, settings):
    Shelf.held.clear()
    Shelf.stubborn = False
    return inside(config=settings(), plugins={"shelf": Shelf, **installed("accounts", "transactions")})


def installed(*names):
    from importlib.metadata import entry_points

    return {point.name: point.load() for point in entry_points(group="tidegate") if point.name in names}


def test_the_directory_knows_who_there_is(shelf):
    with shelf.client() as client:
        for name in ("ada", "adam", "grace"):
            client.call("account.register", name=name, password=PASSWORD)
        found = client.call("shelf.look", name="ADA")
        assert found["same"]
        assert found["found"] == ["ada", "adam"]
        assert found["profile"] == "ada"
        assert client.call("shelf.look", name="nobody") is None


def test_deleting_an_account_takes_with_it_what_is_the_users_elsewhere_or_nothing(shelf):
    with shelf.client() as client:
        id = client.call("account.register", name="ada", password=PASSWORD)["user"]["id"]
        Shelf.held[id] = 3
        Shelf.stubborn = True
        with pytest.raises(PermissionDenied):
            client.call("account.delete", password=PASSWORD)
        assert client.call("account.whoami")["id"] == id
        assert Shelf.held == {id: 3}
        Shelf.stubborn = False
        removed = client.call("account.delete", password=PASSWORD)["removed"]
        assert removed == {"accounts": {"accounts": 1, "sessions": 1}, "shelf": {"books": 3}}
        assert Shelf.held == {}


def test_when_the_store_is_down_nobody_gets_in_by_a_token(shelf):
    with shelf.client() as client:
        token = client.call("account.register", name="ada", password=PASSWORD)["token"]
        people = shelf.server.registry.plugins["accounts"].people

        def broken():
            from tidegate.faults import DatabaseConnectionFailed

            raise DatabaseConnectionFailed

        people.reading = broken
        reply = shelf.raw().ask("system.ping", auth=token)
        assert reply["error"]["code"] == AuthenticationUnavailable.code
        del people.reading
        assert shelf.raw().ask("system.ping", auth=token)["result"] == "pong"
