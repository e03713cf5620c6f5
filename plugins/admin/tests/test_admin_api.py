"""Commands over HTTP: where they are, who may run them, and how a fault looks."""

from __future__ import annotations

import http.client
import json
import stat
import time
from importlib.util import find_spec

import pytest

SHOP = '''
from tidegate import command
from tidegate.faults import ResourceConflict

@command("shop.stock", requires="admin", scope="read", http="GET /shop/{item}/stock")
def stock(item: str, at_least: int = 0, ratio: float = 1.0, empty: bool = False, tags: list = []) -> dict:
    """What there is of an item."""
    return {"item": item, "at_least": at_least, "ratio": ratio, "empty": empty, "tags": tags}

@command("shop.sell", requires="admin", http="POST /shop/sales")
def sell(item: str, reason: str = "") -> str:
    """Sell one."""
    if item == "none":
        raise ResourceConflict("Sold out", field="params.item")
    return item

@command("shop.burn", requires="admin", http="GET /shop/burn")
def burn() -> bool:
    """Changes something, so it can be no GET."""
    return True

@command("shop.boom", requires="admin", scope="read")
def boom() -> None:
    """Fails for a reason that nobody foresaw."""
    raise KeyError("no such shelf")

@command("shop.price")
def price() -> int:
    """For everybody."""
    return 3
'''


@pytest.fixture
def shop(site):
    return site(source=SHOP)


# --- where commands are ---------------------------------------------------------------------------


def test_a_command_is_where_its_note_says_with_typed_parameters(shop):
    reply = shop.get("/api/v1/shop/green%20tea/stock?at_least=2&ratio=0.5&empty=true&tags=a&tags=b")
    assert reply.status == 200
    assert reply.json == {"item": "green tea", "at_least": 2, "ratio": 0.5, "empty": True, "tags": ["a", "b"]}
    assert shop.ask("POST", "/api/v1/shop/sales", {"item": "tea"}).json == "tea"


def test_a_slash_inside_a_segment_stays_there(shop):
    assert shop.get("/api/v1/shop/192.0.2.0%2F24/stock").json["item"] == "192.0.2.0/24"
    assert shop.get("/api/v1/shop/192.0.2.0/24/stock").status == 404


def test_every_administrators_command_is_also_at_its_plain_place(shop):
    assert shop.run("shop.sell", item="tea") == "tea"
    assert {row["name"] for row in shop.run("system.plugins")} >= {"admin", "core"}


def test_commands_for_everybody_are_not_served(shop):
    assert shop.ask("POST", "/api/v1/commands/shop.price", {}).status == 404


def test_a_command_that_changes_something_is_no_get(shop):
    assert shop.get("/api/v1/shop/burn").status == 404
    assert shop.run("shop.burn") is True
    assert "a command that changes something is no GET" in shop.server.log()


def test_another_method_is_told_which_one_is_right(shop):
    reply = shop.ask("DELETE", "/api/v1/shop/sales")
    assert (reply.status, reply.headers["Allow"]) == (405, "POST")


@pytest.mark.parametrize(
    ("path", "code", "field"),
    [
        ("/api/v1/shop/tea/stock?at_least=many", 1113, "params.at_least"),
        ("/api/v1/shop/tea/stock?unheard=1", 1112, "params.unheard"),
        ("/api/v1/shop/tea/stock?at_least=1&at_least=2", 1108, "params.at_least"),
        ("/api/v1/shop/tea/stock?item=coffee", 1109, "params.item"),
    ],
)
def test_a_wrong_parameter_is_named(shop, path, code, field):
    reply = shop.get(path)
    assert reply.status == 422
    assert (reply.json["code"], reply.json["errors"][0]["field"]) == (code, field)


# --- faults ---------------------------------------------------------------------------------------


def test_a_fault_is_a_problem_document_with_its_code(shop):
    reply = shop.ask("POST", "/api/v1/shop/sales", {"item": "none"})
    assert reply.status == 409
    assert reply.headers["Content-Type"] == "application/problem+json"
    said = reply.json
    assert (said["code"], said["title"], said["detail"]) == (1505, "ResourceConflict", "Sold out")
    assert (said["status"], said["type"]) == (409, "urn:tidegate:fault:1505")


def test_the_request_id_of_a_failure_is_the_one_in_the_log(shop):
    said = shop.ask("POST", "/api/v1/commands/shop.boom", {}).json
    assert (said["status"], said["code"]) == (500, 1304)
    assert "shelf" not in json.dumps(said)
    assert said["request_id"] in shop.server.wait_log(said["request_id"])


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (b"{", {"Content-Type": "application/json"}, 400),
        (b"[1]", {"Content-Type": "application/json"}, 400),
        (b'{"item": "\xff"}', {"Content-Type": "application/json"}, 400),
        (b"[" * 5000, {"Content-Type": "application/json"}, 400),
        (b"item=tea", {"Content-Type": "application/x-www-form-urlencoded"}, 400),
    ],
)
def test_a_body_that_is_no_object_in_json_is_refused(shop, body, headers, status):
    assert shop.ask("POST", "/api/v1/shop/sales", body, headers=headers).status == status


# --- who may --------------------------------------------------------------------------------------


def test_the_operators_token_is_kept_where_only_the_server_reads(shop):
    path = shop.server.data / "admin" / "token"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert shop.get("/api/v1/whoami").json["id"] == "operator"


def test_a_token_that_others_could_read_is_replaced(site):
    first = site()
    path = first.server.data / "admin" / "token"
    path.chmod(0o644)
    first.server.stop()
    first.server.start()
    assert path.read_text().strip() != first.token
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_the_token_stays_the_same_over_a_restart(site):
    first = site()
    first.server.stop()
    first.server.start()
    assert (first.server.data / "admin" / "token").read_text().strip() == first.token


def test_nothing_but_liveness_is_served_without_a_token(site):
    web = site(admin='failures = "1000/second"\n')
    assert web.get("/health/live", token="").status == 200
    paths = ("whoami", "openapi.json", "stream", "nothing", "commands/system.plugins")
    for path in (*(f"/api/v1/{name}" for name in paths), "/metrics", "/health/ready"):
        for token in ("", "wrong", "x" * 1000):
            reply = web.get(path, token=token)
            assert reply.status == 401, path
            assert reply.headers["WWW-Authenticate"] == "Bearer"


def test_an_administrators_change_is_told_with_who_and_why(shop):
    shop.run("shop.sell", item="tea", reason="a good customer")
    (event,) = shop.run("admin.events", topics=["operator.acted"])
    fields = event["fields"]
    assert (fields["actor"], fields["method"], fields["reason"]) == ("operator", "shop.sell", "a good customer")
    assert fields["address"] == "127.0.0.1"


def test_wrong_tokens_are_counted_and_then_refused(site):
    web = site(admin='failures = "3/minute"\n')
    assert [web.get("/metrics", token="wrong").status for _ in range(5)] == [401, 401, 401, 429, 429]
    assert web.get("/api/v1/whoami").status == 200, "the right token still opens"


def test_requests_are_limited(site):
    web = site(admin='rate = "5/minute"\n')
    replies = [web.get("/api/v1/whoami") for _ in range(7)]
    assert [reply.status for reply in replies] == [200] * 5 + [429] * 2
    assert int(replies[-1].headers["Retry-After"]) >= 1
    assert replies[-1].json["code"] == 1110


# --- a browser's session --------------------------------------------------------------------------


def test_a_session_opens_the_page_and_the_api(shop):
    cookie, _ = shop.log_in()
    page = shop.get("/", token="", headers={"Cookie": cookie})
    assert page.status == 200
    assert "<!doctype html>" in page.text
    assert shop.get("/api/v1/whoami", token="", headers={"Cookie": cookie}).json["name"] == "operator"
    assert shop.get("/", token="").headers["Location"] == "/login"


def test_a_change_without_the_pages_proof_is_refused(shop):
    cookie, proof = shop.log_in()
    sell = ("POST", "/api/v1/shop/sales", {"item": "tea"})
    for headers in (
        {},
        {"X-CSRF-Token": "0" * 32},
        {"X-CSRF-Token": proof, "Origin": "http://evil.example"},
        {"X-CSRF-Token": proof, "Sec-Fetch-Site": "cross-site"},
        {"X-CSRF-Token": proof, "Sec-Fetch-Site": "same-site"},
    ):
        reply = shop.ask(*sell, token="", headers={"Cookie": cookie, **headers})
        assert (reply.status, reply.json["code"]) == (403, 1404), headers
    good = {"Cookie": cookie, "X-CSRF-Token": proof, "Origin": shop.base, "Sec-Fetch-Site": "same-origin"}
    assert shop.ask(*sell, token="", headers=good).status == 200


def test_the_sessions_cookie_is_out_of_reach(shop):
    reply = shop.ask(
        "POST",
        "/login",
        f"token={shop.token}",
        token="",
        headers={"Content-Type": "application/x-www-form-urlencoded"},
    )
    session, proof = reply.headers.get_all("Set-Cookie")
    assert "HttpOnly" in session
    assert all("SameSite=Strict" in cookie and "Path=/" in cookie for cookie in (session, proof))
    assert shop.token not in session + proof


def test_a_form_of_another_site_logs_nobody_in(shop):
    headers = {"Content-Type": "application/x-www-form-urlencoded", "Origin": "http://evil.example"}
    assert shop.ask("POST", "/login", f"token={shop.token}", token="", headers=headers).status == 403


def test_a_session_ends_when_its_user_logs_out(shop):
    cookie, proof = shop.log_in()
    assert shop.ask("POST", "/logout", token="", headers={"Cookie": cookie}).status == 403
    assert shop.ask("POST", "/logout", token="", headers={"Cookie": cookie, "X-CSRF-Token": proof}).status == 303
    assert shop.get("/api/v1/whoami", token="", headers={"Cookie": cookie}).status == 401


def test_a_session_ends_with_its_time(site):
    web = site(admin="session_s = 100\n", virtual=True)
    cookie, _ = web.log_in()
    assert web.get("/api/v1/whoami", token="", headers={"Cookie": cookie}).status == 200
    web.server.advance(101)
    assert web.get("/api/v1/whoami", token="", headers={"Cookie": cookie}).status == 401


# --- accounts -------------------------------------------------------------------------------------


@pytest.fixture
def staffed(site, installed):
    """A server with accounts, an administrator `ada` and a user `bob`."""
    web = site(plugins=installed("transactions", "accounts"))
    with web.server.admin() as operator:
        ada = operator.call("account.create", name="ada", password="correct horse 1", role="admin")
        bob = operator.call("account.create", name="bob", password="correct horse 2")
    web.ids = {"ada": ada["id"], "bob": bob["id"]}
    return web


def token_of(web, name, scopes=None, expires_s=None):
    given = {"user": web.ids[name], "label": "test"}
    given |= {"scopes": scopes} if scopes else {}
    given |= {"expires_s": expires_s} if expires_s else {}
    with web.server.admin() as operator:
        return operator.call("account.create_token", **given)


def test_with_accounts_their_tokens_open_and_there_is_no_other(staffed):
    assert staffed.token == ""
    token = token_of(staffed, "ada")["token"]
    assert staffed.get("/api/v1/whoami", token=token).json["name"] == "ada"
    assert staffed.get("/api/v1/whoami", token="wrong").status == 401


def test_a_token_does_what_its_scopes_say(staffed):
    read = token_of(staffed, "ada", ["read"])["token"]
    assert staffed.get("/api/v1/whoami", token=read).json["scopes"] == ["read"]
    reply = staffed.ask("POST", "/api/v1/commands/system.log_level", {"level": "debug"}, token=read)
    assert (reply.status, reply.json["code"]) == (403, 1002)
    security = token_of(staffed, "ada", ["security"])["token"]
    assert staffed.get("/metrics", token=security).status == 403
    bob = staffed.ids["bob"]
    suspend = ("POST", "/api/v1/commands/account.suspend", {"user": bob, "reason": "test"})
    assert staffed.ask(*suspend, token=read).status == 403
    assert staffed.ask(*suspend, token=security).status == 200


def test_a_users_token_opens_nothing(staffed):
    token = token_of(staffed, "bob")["token"]
    for path in ("/api/v1/whoami", "/metrics", "/health/ready", "/api/v1/openapi.json", "/api/v1/stream"):
        assert staffed.get(path, token=token).status == 403


def test_a_token_that_was_revoked_or_whose_owner_was_suspended_opens_nothing(staffed):
    first, second = token_of(staffed, "ada"), token_of(staffed, "ada")
    with staffed.server.admin() as operator:
        operator.call("account.end_sessions", user=staffed.ids["ada"], session=first["session"])
    assert staffed.get("/api/v1/whoami", token=first["token"]).status == 401
    with staffed.server.admin() as operator:
        operator.call("account.suspend", user=staffed.ids["ada"])
    assert staffed.get("/api/v1/whoami", token=second["token"]).status in (401, 403)


def test_a_token_expires(site, installed):
    web = site(plugins=installed("transactions", "accounts"), virtual=True)
    with web.server.admin() as operator:
        web.ids = {"ada": operator.call("account.create", name="ada", password="correct horse 1", role="admin")["id"]}
    token = token_of(web, "ada", expires_s=60)["token"]
    assert web.get("/api/v1/whoami", token=token).status == 200
    web.server.advance(61)
    assert web.get("/api/v1/whoami", token=token).status == 401


def test_administrators_log_in_with_name_and_password_and_users_do_not(staffed):
    cookie, proof = staffed.log_in({"name": "ada", "password": "correct horse 1"})
    assert staffed.get("/api/v1/whoami", token="", headers={"Cookie": cookie}).json["name"] == "ada"
    assert staffed.ask("POST", "/logout", token="", headers={"Cookie": cookie, "X-CSRF-Token": proof}).status == 303
    with staffed.server.admin() as operator:
        sessions = operator.call("account.show", user=staffed.ids["ada"])["sessions"]
    assert sessions == [], "the account's session has ended too"
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    for fields, status in (("name=bob&password=correct horse 2", 403), ("name=ada&password=wrong", 401)):
        reply = staffed.ask("POST", "/login", fields.replace(" ", "+"), token="", headers=form)
        assert reply.status == status
        assert 'role="alert"' in reply.text


# --- health, numbers, files -----------------------------------------------------------------------


def test_readiness_says_why_not(shop):
    assert shop.get("/health/ready").json == {"ready": True, "reasons": []}
    shop.run("system.maintenance", on=True, message="moving house")
    reply = shop.get("/health/ready")
    assert (reply.status, reply.json) == (503, {"ready": False, "reasons": ["Maintenance: moving house"]})
    assert shop.get("/health/live", token="").status == 200
    with shop.server.client() as client, pytest.raises(Exception, match="moving house"):
        client.call("shop.price")
    shop.run("system.maintenance", on=False)
    assert shop.get("/health/ready").status == 200


def test_prometheus_reads_the_numbers(site, installed, need, eventually):
    need("prometheus_client", ok=find_spec("prometheus_client") is not None, why="prometheus-client is missing")
    from prometheus_client.parser import text_string_to_metric_families

    web = site(plugins=installed("errors", "monitoring"), source=SHOP)
    with web.server.client() as client:
        for _ in range(20):
            client.call("shop.price")
        with pytest.raises(Exception, match="1605"):
            client.call("shop.nothing")

    def seen():
        reply = web.get("/metrics")
        assert reply.status == 200
        found = {}
        for family in text_string_to_metric_families(reply.text):
            for sample in family.samples:
                found[sample.name, tuple(sorted(sample.labels.items()))] = sample.value
        return found

    price = ("tidegate_call_seconds", (("command", "shop.price"), ("quantile", "0.99")))
    found = eventually(lambda: (f := seen()).get(price) and f)
    assert found["tidegate_calls_total", ()] >= 21
    assert found["tidegate_core_connections_open", ()] >= 0
    assert found["tidegate_faults_total", (("code", "1605"), ("type", "MethodNotFound"))] == 1


def test_files_are_asked_for_again_only_when_they_have_changed(shop):
    cookie, _ = shop.log_in()
    first = shop.get("/assets/app.js", token="", headers={"Cookie": cookie, "Accept-Encoding": "gzip"})
    assert (first.status, first.headers["Content-Encoding"]) == (200, "gzip")
    again = {"Cookie": cookie, "If-None-Match": first.headers["ETag"]}
    assert shop.get("/assets/app.js", token="", headers=again).status == 304
    assert shop.get("/assets/app.js", token="").status == 404, "before the login there is only the login"
    assert shop.get("/assets/style.css", token="").status == 200


def test_a_kept_connection_is_used_again_without_delay(shop):
    connection = http.client.HTTPConnection(shop.host, shop.port, timeout=10)
    for _ in range(50):
        connection.request("GET", "/api/v1/whoami", headers={"Authorization": f"Bearer {shop.token}"})
        assert connection.getresponse().read()
    connection.close()


def test_the_site_speaks_tls_and_says_so_to_browsers(site, tmp_path):
    import ssl

    import trustme

    authority = trustme.CA()
    leaf = authority.issue_cert("127.0.0.1")
    leaf.cert_chain_pems[0].write_to_path(tmp_path / "crt")
    leaf.private_key_pem.write_to_path(tmp_path / "key")
    context = ssl.create_default_context()
    authority.configure_trust(context)
    web = site(admin=f'tls_cert = "{tmp_path}/crt"\ntls_key = "{tmp_path}/key"\n', context=context)
    assert web.scheme == "https"
    reply = web.get("/api/v1/whoami")
    assert reply.status == 200
    assert "max-age" in reply.headers["Strict-Transport-Security"]
    reply = web.ask(
        "POST", "/login", f"token={web.token}", headers={"Content-Type": "application/x-www-form-urlencoded"}
    )
    assert all(c.startswith("__Host-") and "Secure" in c for c in reply.headers.get_all("Set-Cookie"))


def test_it_does_not_start_beyond_loopback_in_clear_text(served):
    with pytest.raises(AssertionError, match="tokens would cross the network in clear text"):
        served('[plugins.admin]\nlisten = "0.0.0.0:0"\n', plugins=["admin"])


def test_a_taken_port_is_told(site, served):
    web = site()
    with pytest.raises(AssertionError, match=r"choose another address, \[plugins.admin\] listen"):
        served(f'[plugins.admin]\nlisten = "127.0.0.1:{web.port}"\n', plugins=["admin"])


# --- live -----------------------------------------------------------------------------------------


def stream(web, watch, events, cookie=""):
    """The first events of a live page, as (name, data); reads until `events` names were all seen."""
    connection = http.client.HTTPConnection(web.host, web.port, timeout=20)
    headers = {"Cookie": cookie} if cookie else {"Authorization": f"Bearer {web.token}"}
    connection.request("GET", f"/api/v1/stream?{watch}", headers=headers)
    reply = connection.getresponse()
    assert (reply.status, reply.headers["Content-Type"]) == (200, "text/event-stream")
    seen, name = [], ""
    while not events <= {each for each, _ in seen}:
        line = reply.readline().decode().rstrip("\n")
        if line.startswith("event: "):
            name = line[7:]
        elif line.startswith("data: "):
            seen.append((name, json.loads(line[6:])))
    connection.close()
    return seen


def test_a_live_page_gets_numbers_and_what_it_watches(shop):
    seen = dict(stream(shop, "watch=system.plugins&watch=system.gauges", {"tick", "panel"}))
    assert seen["tick"]["values"]["core.connections_open"] == 0
    assert seen["panel"]["name"] in ("system.plugins", "system.gauges")


def test_a_live_page_hears_of_events(shop):
    import threading

    threading.Timer(0.3, lambda: shop.run("shop.sell", item="tea", reason="live")).start()
    seen = dict(stream(shop, "", {"event"}))
    assert seen["event"]["fields"]["reason"] == "live"


@pytest.mark.parametrize("name", ["shop.sell", "shop.stock", "shop.price", "nothing.here", "system.close"])
def test_only_what_reads_and_needs_nothing_can_be_watched(shop, name):
    assert shop.get(f"/api/v1/stream?watch={name}").status == 422


def test_live_pages_are_counted(site):
    web = site(admin="max_streams = 1\n")
    connection = http.client.HTTPConnection(web.host, web.port, timeout=20)
    connection.request("GET", "/api/v1/stream", headers={"Authorization": f"Bearer {web.token}"})
    reply = connection.getresponse()  # kept: what is forgotten is closed
    assert reply.status == 200
    assert web.get("/api/v1/stream").status == 503
    reply.close()


def test_the_past_is_there_for_charts(shop, eventually):
    found = eventually(lambda: (s := shop.run("admin.series", span="15m"))["times"] and s, timeout=30)
    assert len(found["values"]["core.connections_open"]) == len(found["times"])


def test_the_past_outlives_a_restart_where_monitoring_keeps_it(site, installed, eventually):
    web = site(plugins=installed("monitoring"), source=SHOP)
    with web.server.client() as client:
        for _ in range(50):
            client.call("shop.price")
    eventually(lambda: web.run("monitoring.metrics", seconds=60)["total"]["count"] >= 50, timeout=30)
    stopped = time.time()
    web.restart()

    def before():
        found = web.run("admin.series", span="15m", names=["calls.per_s"])
        pairs = zip(found["times"], found["values"].get("calls.per_s", []), strict=False)
        return [value for at, value in pairs if at < stopped and value]

    eventually(before, timeout=60)


# --- the document ---------------------------------------------------------------------------------


def test_the_document_has_every_administrators_command_once(shop):
    document = shop.get("/api/v1/openapi.json").json
    names = [entry["operationId"] for path in document["paths"].values() for entry in path.values()]
    assert len(names) == len(set(names))
    assert {"shop.stock", "shop.sell", "system.close", "admin.events"} <= set(names)
    assert "shop.price" not in names
    stock = document["paths"]["/shop/{item}/stock"]["get"]
    assert {(p["name"], p["in"], p["required"]) for p in stock["parameters"]} >= {
        ("item", "path", True),
        ("at_least", "query", False),
    }


def test_panels_of_plugins_are_offered_with_what_they_show(site, installed):
    web = site(plugins=installed("errors"))
    panels = web.run("admin.panels")
    assert {"plugin": "errors", "command": "breakers.list"}.items() <= panels[-1].items()
    assert all(panel["every_s"] >= 1 and panel["title"] and panel["draw"] for panel in panels)
