"""What changes while the server runs: certificates, sessions, maintenance, the log's level."""

from __future__ import annotations

import http.client
import json
import signal
import socket
import ssl

import pytest
import tidegate
import trustme

SHOP = '''
from tidegate import command

@command("shop.price")
def price() -> int:
    """What it costs."""
    return 3

@command("shop.mine", requires="admin", scope="read", http="GET /items/mine")
def mine() -> str:
    """At a path that is also one of the other's."""
    return "mine"

@command("shop.item", requires="admin", scope="read", http="GET /items/{item}")
def item(item: str) -> str:
    """One item."""
    return item

@command("shop.drop", requires="admin", http="DELETE /items/{item}")
def drop(item: str) -> str:
    """Take it away."""
    return item
'''


# --- certificates ---------------------------------------------------------------------------------


def write(folder, authority) -> bytes:
    """A new certificate in the place of the old one."""
    leaf = authority.issue_cert("127.0.0.1")
    leaf.cert_chain_pems[0].write_to_path(folder / "crt")
    leaf.private_key_pem.write_to_path(folder / "key")
    return ssl.PEM_cert_to_DER_cert(leaf.cert_chain_pems[0].bytes().decode())


@pytest.fixture
def secured(site, tmp_path):
    """A site that speaks TLS; `shown()` is the certificate that a new connection is shown."""
    authority = trustme.CA()
    context = ssl.create_default_context()
    authority.configure_trust(context)
    first = write(tmp_path, authority)
    web = site(admin=f'tls_cert = "{tmp_path}/crt"\ntls_key = "{tmp_path}/key"\n', context=context)

    def shown() -> bytes:
        plain = socket.create_connection((web.host, web.port), timeout=20)
        with context.wrap_socket(plain, server_hostname="127.0.0.1") as tls:
            return tls.getpeercert(binary_form=True)

    assert shown() == first
    web.shown, web.renew = shown, lambda: write(tmp_path, authority)
    return web


def test_a_new_certificate_is_served_after_a_reload_and_open_connections_go_on(secured, eventually):
    kept = http.client.HTTPSConnection(secured.host, secured.port, context=secured.context, timeout=20)
    kept.request("GET", "/health/live")
    assert kept.getresponse().read() == b"live\n"
    renewed = secured.renew()
    secured.server.signal(signal.SIGHUP)
    eventually(lambda: secured.shown() == renewed, timeout=30)
    kept.request("GET", "/health/live")
    assert kept.getresponse().read() == b"live\n"
    kept.close()


def test_a_certificate_that_can_not_be_used_leaves_the_old_one(secured, tmp_path):
    before = secured.shown()
    (tmp_path / "crt").write_text("no certificate")
    secured.server.signal(signal.SIGHUP)
    secured.server.wait_log("the old one stays", timeout=30)
    assert secured.shown() == before
    assert secured.get("/api/v1/whoami").status == 200


# --- live pages -----------------------------------------------------------------------------------


class Live:
    """A live page's stream."""

    def __init__(self, web, **headers: str) -> None:
        self._connection = http.client.HTTPConnection(web.host, web.port, timeout=60)
        self._connection.request("GET", "/api/v1/stream", headers=headers)
        self._reply = self._connection.getresponse()
        assert self._reply.status == 200

    def until(self, event: str):
        """Its data, once it has come; None where the stream ends before."""
        name = ""
        while line := self._reply.readline():
            key, _, value = line.decode().rstrip("\n").partition(": ")
            name = value if key == "event" else name
            if key == "data" and name == event:
                return json.loads(value)
        return None

    def over(self) -> bool:
        """Whether the server closes after it, with nothing more to say."""
        return self._reply.read().strip() == b""

    def close(self) -> None:
        self._connection.close()


@pytest.fixture
def staff(site, installed):
    """Accounts in virtual time, with the administrator ada; `token()` makes one for her."""
    web = site(plugins=installed("transactions", "accounts"), virtual=True)
    with web.server.admin() as operator:
        ada = operator.call("account.create", name="ada", password="correct horse 1", role="admin")
    web.ada = ada["id"]

    def token(**given):
        with web.server.admin() as operator:
            return operator.call("account.create_token", user=web.ada, **given)

    web.new_token = token
    return web


def ended(web, live: Live):
    """What a page is told when it is shut out. Time goes on until somebody looks."""
    for _ in range(3):
        web.server.advance(11)
    said = live.until("ended")
    assert live.over()
    live.close()
    return said


def test_a_live_page_ends_when_its_token_is_revoked(staff):
    made = staff.new_token()
    live = Live(staff, Authorization=f"Bearer {made['token']}")
    assert live.until("tick")
    staff.server.advance(11)
    assert live.until("tick"), "as long as it is good it goes on"
    with staff.server.admin() as operator:
        operator.call("account.end_sessions", user=staff.ada, session=made["session"])
    assert ended(staff, live)["code"] in (1007, 1008)


def test_a_live_page_ends_when_its_token_expires(staff):
    made = staff.new_token(expires_s=60)
    live = Live(staff, Authorization=f"Bearer {made['token']}")
    assert live.until("tick")
    staff.server.advance(50)
    assert ended(staff, live)["code"] in (1003, 1008), "expired, or forgotten since"


def test_a_live_page_ends_when_its_user_is_suspended(staff):
    live = Live(staff, Authorization=f"Bearer {staff.new_token()['token']}")
    assert live.until("tick")
    with staff.server.admin() as operator:
        operator.call("account.suspend", user=staff.ada, reason="a test")
    assert ended(staff, live)["code"]


def test_a_live_page_ends_when_its_browser_logs_out(site):
    web = site(virtual=True)
    cookie, proof = web.log_in()
    live = Live(web, Cookie=cookie)
    assert live.until("tick")
    assert web.ask("POST", "/logout", token="", headers={"Cookie": cookie, "X-CSRF-Token": proof}).status == 303
    assert ended(web, live)["code"] == 1404


# --- maintenance, the log -------------------------------------------------------------------------


def test_maintenance_is_switched_on_and_off_for_everybody_but_administrators(site):
    web = site(source=SHOP)
    with web.server.raw() as before, web.server.admin() as operator:
        assert before.ask("shop.price")["result"] == 3
        switch = {"on": True, "message": "moving house", "reason": "a test"}
        assert web.ask("PUT", "/api/v1/maintenance", switch).json is True
        with web.server.raw() as after:
            for raw in (before, after):
                refused = raw.ask("shop.price")["error"]
                assert refused["data"]["code"] == 1309
                assert "moving house" in refused["message"]
                assert raw.ask("system.ping")["result"] == "pong", "what a client needs to find out is answered"
        assert operator.call("shop.price") == 3
        assert web.get("/api/v1/whoami").json["maintenance"] == "moving house"
        assert web.get("/health/ready").status == 503
        (told,) = web.run("admin.events", topics=["maintenance.changed"])
        assert (told["fields"]["on"], told["fields"]["message"]) == (True, "moving house")
        assert web.ask("PUT", "/api/v1/maintenance", {"on": False, "reason": "done"}).json is False
        assert before.ask("shop.price")["result"] == 3
        assert web.get("/health/ready").status == 200


def test_the_logs_level_is_changed_at_run_time_and_the_configuration_says_so(site):
    web = site()

    def shown():
        (row,) = [row for row in web.get("/api/v1/config").json if row["key"] == "server.log_level"]
        return row["value"], row["origin"]

    before = shown()
    assert web.ask("PUT", "/api/v1/log/level", {"level": "debug", "reason": "a test"}).json == "debug"
    assert shown() == ("debug", "system.log_level")
    web.ask("PUT", "/api/v1/log/level", {"level": before[0]})
    assert shown() == before


# --- paths ----------------------------------------------------------------------------------------


def test_a_path_that_is_written_out_is_looked_at_before_one_with_a_parameter(site):
    web = site(source=SHOP)
    assert web.get("/api/v1/items/mine").json == "mine"
    assert web.get("/api/v1/items/yours").json == "yours"
    assert web.ask("DELETE", "/api/v1/items/yours").json == "yours"
    reply = web.ask("DELETE", "/api/v1/items/mine")
    assert (reply.status, reply.headers["Allow"]) == (405, "GET")


#: Issue 9: what must be there, each from the plugin that owns it.
PATHS = {
    "core": "GET /connections, DELETE /connections/{id}, GET /plugins, GET /layers/{method}, GET /config, "
    "POST /config/reload, PUT /maintenance, PUT /log/level, GET /gauges",
    "monitoring": "GET /monitoring/metrics, GET /monitoring/series, GET /monitoring/report, GET /monitoring/alerts, "
    "PUT /monitoring/alerts/{name}/acknowledgement, PUT /monitoring/alerts/{name}/silence, "
    "GET /monitoring/thresholds, PUT /monitoring/thresholds/{name}",
    "errors": "GET /errors, GET /errors/groups, POST /errors/reset, GET /breakers, PUT /breakers/{name}/state, "
    "POST /breakers/{name}/reset",
    "transactions": "GET /transactions, GET /transactions/slow, GET /transactions/totals, DELETE /transactions/{id}",
    "accounts": "GET /users, POST /users, GET /users/{user}, DELETE /users/{user}, PUT /users/{user}/role, "
    "PUT /users/{user}/suspension, DELETE /users/{user}/suspension, PUT /users/{user}/password, "
    "PUT /users/{user}/certificate, POST /users/{user}/tokens, GET /sessions, DELETE /users/{user}/sessions",
    "security": "GET /security/events, GET /security/blocks, POST /security/blocks, GET /security/allowlist, "
    "GET /security/rules, PUT /security/mode, GET /security/audit, GET /security/audit/verify",
}


def token_of_ada(web) -> str:
    with web.server.admin() as operator:
        operator.call("account.create", name="ada", password="correct horse 1", role="admin")
        return operator.call("account.create_token", user="ada")["token"]


def test_every_administrators_command_of_every_plugin_has_a_path_of_its_own(site, installed):
    web = site(plugins=installed(*(name for name in PATHS if name != "core")))
    token = token_of_ada(web)
    made = {
        f"{method.upper()} {path}": (entry["x-plugin"], entry["operationId"], entry["summary"])
        for path, methods in web.get("/api/v1/openapi.json", token=token).json["paths"].items()
        for method, entry in methods.items()
    }
    assert [path for path in made if path.startswith("POST /commands/")] == []
    wanted = {path: plugin for plugin, paths in PATHS.items() for path in paths.split(", ")}
    assert {path: made[path][0] for path in wanted} == wanted
    assert [name for _, name, summary in made.values() if not summary.endswith(".")] == [], "a sentence, not a half"
    assert "it is at POST /commands" not in web.server.log()


def test_what_is_done_at_a_path_is_done(site, installed):
    """Over HTTP, seen over TCP."""
    web = site(plugins=installed("errors", "transactions", "accounts"), source=SHOP)
    token = token_of_ada(web)
    with web.server.client(reconnect=False) as client:
        made = client.call("account.register", name="bob", password="correct horse 2")
        (row,) = [row for row in web.get("/api/v1/connections", token=token).json if row["user"] == made["user"]["id"]]
        (session,) = web.get("/api/v1/sessions?user=bob", token=token).json["sessions"]
        assert session["id"] == made["session"]
        assert web.ask("DELETE", f"/api/v1/connections/{row['id']}?reason=a+test", token=token).json is True
        with pytest.raises((ConnectionError, tidegate.Fault)):
            client.call("shop.price")
    suspension = "/api/v1/users/bob/suspension"
    assert web.ask("PUT", suspension, {"for_s": 3600, "reason": "a test"}, token=token).json["suspended"] is True
    with web.server.client() as client:
        with pytest.raises(tidegate.Fault, match="1006"):
            client.call("account.login", name="bob", password="correct horse 2")
        assert web.ask("DELETE", suspension, token=token).json["suspended"] is False
        assert client.call("account.login", name="bob", password="correct horse 2")["user"]["name"] == "bob"
    assert web.ask("PUT", "/api/v1/users/bob/role", {"role": "moderator"}, token=token).json["role"] == "moderator"
    assert web.ask("DELETE", "/api/v1/users/bob", token=token).status == 200
    assert web.get("/api/v1/users/bob", token=token).status == 404
