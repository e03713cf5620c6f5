"""What a hostile client sends to the site: it is refused or harmless, and the TCP service does not notice."""

from __future__ import annotations

import json
import socket
import time
from contextlib import ExitStack
from itertools import product

import pytest
from gevent.hub import get_hub

HEAD = b"Host: 127.0.0.1\r\n"


def status(answer: bytes) -> int:
    assert answer.startswith(b"HTTP/1.1 "), answer[:100]
    return int(answer[9:12])


def works(web):
    """Somebody else is served: over HTTP, and over TCP."""
    assert web.get("/api/v1/whoami").status == 200
    with web.server.client() as client:
        assert client.call("system.ping") == "pong"


# --- bytes ----------------------------------------------------------------------------------------


BYTES = [
    (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 200 + b"\r\n\r\n", 400),
    (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", 400),
    (b"GET / HTTP/2.0\r\n" + HEAD + b"\r\n", 505),
    (b"GET /\r\n\r\n", 400),
    (b"GET http://evil.example/ HTTP/1.1\r\n" + HEAD + b"\r\n", 400),
    (b"GET  /  HTTP/1.1\r\n" + HEAD + b"\r\n", 400),
    (b"GET / HTTP/1.1\n" + b"Host: x\n\n", 400),
    (b"GET / HTTP/1.1\r\n\r\n", 400),
    (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
    (b"GET / HTTP/1.1\r\nHost : a\r\n\r\n", 400),
    (b"GET / HTTP/1.1\r\nHost: a\r\n folded: line\r\n\r\n", 400),
    (b"GET / HTTP/1.1\r\n" + HEAD + b"No colon here\r\n\r\n", 400),
    (b"GET / HTTP/1.1\r\n" + HEAD + b"X: " + b"a" * 20_000 + b"\r\n\r\n", 431),
    (b"GET / HTTP/1.1\r\n" + HEAD + b"X: y\r\n" * 100 + b"\r\n", 431),
    (b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\n" + HEAD + b"\r\n", 414),
    (b"POST /login HTTP/1.1\r\n" + HEAD + b"Content-Length: 5, 6\r\n\r\nhello", 400),
    (b"POST /login HTTP/1.1\r\n" + HEAD + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello", 400),
    (b"POST /login HTTP/1.1\r\n" + HEAD + b"Content-Length: +5\r\n\r\nhello", 400),
    (b"POST /login HTTP/1.1\r\n" + HEAD + b"Content-Length: -5\r\n\r\nhello", 400),
    (b"POST /login HTTP/1.1\r\n" + HEAD + b"Content-Length: 1_0\r\n\r\nhello12345", 400),
    (b"POST /login HTTP/1.1\r\n" + HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", 411),
    (
        b"POST /login HTTP/1.1\r\n" + HEAD
        + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\n\r\n",
        411,
    ),
    (b"POST /login HTTP/1.1\r\n" + HEAD + b"Content-Length: 99999999999\r\n\r\n", 413),
]  # fmt: skip


def test_bytes_that_two_readers_could_understand_differently_are_refused(site):
    web = site()
    for data, wanted in BYTES:
        answer = web.raw(data)
        assert status(answer) == wanted, data
        assert answer.count(b"\r\n\r\n") == 1, "one answer, and the connection is closed"
    works(web)


def test_a_huge_body_is_refused_without_being_read(site):
    web = site()
    huge = b"x" * 8_000_000
    head = b"POST /login HTTP/1.1\r\n" + HEAD + b"Content-Length: %d\r\n\r\n" % len(huge)
    with socket.create_connection((web.host, web.port), timeout=10) as sock:
        sock.sendall(head)
        try:
            sock.sendall(huge)
        except OSError:
            pass  # it need not take them
        answer = sock.recv(65536)
    assert status(answer) == 413
    works(web)


@pytest.mark.parametrize(
    "begun",
    [
        b"",
        b"GET / HT",
        b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Slow: ",
        b"POST /login HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 100\r\n\r\ntok",
    ],
)
def test_who_takes_too_long_is_shown_out(site, begun):
    web = site(admin="head_s = 0.5\nidle_s = 0.5\n")
    with socket.create_connection((web.host, web.port), timeout=20) as sock:
        sock.sendall(begun)
        answer = sock.recv(65536)
    assert answer == b"" or status(answer) == 408
    works(web)


def test_a_thousand_idle_connections_keep_nobody_out(site):
    web = site()
    with ExitStack() as stack:
        held = [stack.enter_context(socket.create_connection((web.host, web.port), timeout=10)) for _ in range(1000)]
        for sock in held[::2]:
            try:
                sock.sendall(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Sl")
            except OSError:
                pass  # its place was taken already
        for _ in range(10):
            works(web)
        assert web.run("system.gauges")["admin.connections_open"] <= 200


def test_clients_that_take_no_answer_keep_nobody_out(site):
    web = site(admin="max_connections = 10\n")
    with ExitStack() as stack:
        for _ in range(10):
            sock = stack.enter_context(socket.create_connection((web.host, web.port)))
            sock.settimeout(1.0)
            with pytest.raises(TimeoutError):  # the site waits for this client, and reads no more from it
                while True:
                    sock.sendall((b"GET /assets/style.css HTTP/1.1\r\n" + HEAD + b"\r\n") * 100)
        assert web.get("/health/live").status == 200


def test_many_requests_at_once_leave_others_their_turn(inside):
    server = inside('[plugins.admin]\nlisten = "127.0.0.1:0"\n', plugins=["admin"], virtual=False)
    place = server.server.registry.plugins["admin"].listener.place
    passes = []

    def count():
        watcher = get_hub().loop.prepare(ref=False)
        watcher.start(lambda: passes.append(watcher))

    server.run(count)
    head = b"GET /health/live HTTP/1.1\r\n" + HEAD
    with socket.create_connection(place, timeout=60) as sock:
        sock.sendall((head + b"\r\n") * 499 + head + b"Connection: close\r\n\r\n")
        answers = b"".join(iter(lambda: sock.recv(65536), b""))
    assert answers.count(b"live\n") == 500
    assert len(passes) >= 499


def test_a_live_page_that_reads_nothing_holds_up_nobody(site):
    web = site()
    with socket.create_connection((web.host, web.port), timeout=10) as sock:
        sock.sendall(
            b"GET /api/v1/stream?watch=system.config HTTP/1.1\r\n" + HEAD
            + b"Authorization: Bearer " + web.token.encode() + b"\r\n\r\n"
        )  # fmt: skip
        for number in range(300):
            web.run("system.log_level", level="info", reason=f"{number} {'x' * 300}")
        works(web)


# --- paths ----------------------------------------------------------------------------------------


PATHS = [
    "/assets/../__init__.py", "/assets/..%2f__init__.py", "/assets/%2e%2e/access.py", "/assets//etc/passwd",
    "/assets/....//access.py", "/assets/app.js%00.css", "//etc/passwd", "/./api/v1/whoami", "/api//v1/whoami",
    "/api/v1/../v1/whoami", "/api/v1/%77hoami/", "/api/v1/commands/", "/api/v1/commands/system.plugins/extra",
    "/API/V1/whoami", "/assets/%ff", "/.git/config", "/api/v1/commands/__class__", "/health/live/..;/ready",
]  # fmt: skip


def test_path_tricks_lead_nowhere(site):
    web = site()
    rest = b" HTTP/1.1\r\n" + HEAD + b"Connection: close\r\nAuthorization: Bearer " + web.token.encode() + b"\r\n\r\n"
    for path in PATHS:
        answer = web.raw(b"GET " + path.encode() + rest)
        assert status(answer) in (400, 404, 405), path
        assert b"import" not in answer


def test_a_page_whose_name_was_made_to_point_here_gets_nothing(site):
    web = site(admin='hosts = ["admin.example.org"]\n')
    for host, wanted in (
        ("evil.example", 403),
        ("admin.example.org.evil.example", 403),
        ("admin.example.org", 200),
        (f"localhost:{web.port}", 200),
        ("[::1]:80", 200),
        ("203.0.113.9", 200),
    ):
        assert web.get("/api/v1/whoami", headers={"Host": host}).status == wanted, host


# --- what a browser may do with an answer ---------------------------------------------------------


def test_every_answer_has_the_security_headers(site):
    web = site()
    paths = ["/login", "/", "/nothing", "/health/live", "/api/v1/whoami", "/assets/style.css"]
    for path, token in product(paths, ("", web.token)):
        headers = web.get(path, token=token).headers
        policy = headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert "http" not in policy
        assert "require-trusted-types-for 'script'" in policy
        assert (headers["X-Content-Type-Options"], headers["X-Frame-Options"]) == ("nosniff", "DENY")
        assert headers["Access-Control-Allow-Origin"] is None
        assert headers["Server"] is None


def test_nobodys_cache_keeps_an_answer(site):
    web = site()
    for path in ("/api/v1/whoami", "/metrics", "/health/ready", "/login"):
        assert web.get(path).headers["Cache-Control"] == "no-store"


def test_what_was_typed_does_not_come_back_as_markup(site):
    web = site('[server]\nname = "<b>shop</b>"\n')
    page = web.ask(
        "POST",
        "/login",
        "token=%3Cscript%3Ealert(1)%3C/script%3E",
        token="",
        headers={"Content-Type": "application/x-www-form-urlencoded"},
    )
    assert page.status == 401
    assert "<script" not in page.text
    assert "<b>shop" not in page.text
    assert "&lt;b&gt;shop" in page.text


# --- secrets --------------------------------------------------------------------------------------


def test_no_token_gets_into_a_log_or_an_event(site):
    web = site(config='[server]\nlog_level = "debug"\n')
    web.log_in()
    web.get("/metrics", token="a-wrong-token-of-somebody")
    web.raw(b"GET /%zz HTTP/1.1\r\nAuthorization: Bearer " + web.token.encode() + b"\r\n\r\n")
    seen = json.dumps(web.run("admin.events")) + web.server.log() + json.dumps(web.run("system.config"))
    assert web.token not in seen
    assert "a-wrong-token-of-somebody" not in seen


def test_a_session_that_was_read_from_memory_opens_nothing(inside):
    """What is kept of a session is no cookie, and holds no token."""
    server = inside('[plugins.admin]\nlisten = "127.0.0.1:0"\n', plugins=["admin"], virtual=False)
    from tidegate_admin.access import Access, Caller

    plugin = server.server.registry.plugins["admin"]
    access = server.run(Access, plugin)
    id = server.run(access.start, Caller(None, "a-secret-token", "key"))
    kept = server.run(lambda: repr(list(server.server.state.values("admin.sessions", cap=1000).items())))
    assert "secret" not in kept
    assert id not in kept


# --- the address ----------------------------------------------------------------------------------


def test_a_blocked_address_is_shut_out_here_too(site, installed):
    web = site("[server]\nexempt = []\n", plugins=installed("security"))
    # For a network beside ours, since the one who blocks is never shut out by mistake.
    web.run("security.block", network="127.0.0.9", reason="test")
    reply = web.get("/api/v1/whoami", source="127.0.0.9")
    assert (reply.status, reply.json["code"]) == (403, 1406)
    assert web.get("/health/live", source="127.0.0.9", token="").status == 200
    assert web.get("/api/v1/whoami").status == 200


def test_wrong_tokens_are_a_signal_for_security(site, installed, eventually):
    web = site("[server]\nexempt = []\n", plugins=installed("security"))
    for number in range(6):
        web.get("/metrics", token=f"wrong{number}", source="127.0.0.8")
    found = eventually(lambda: web.run("security.reputation", address="127.0.0.8")["evidence"])
    assert found[0]["prefix"] == "127.0.0.8/32"


# --- the service ----------------------------------------------------------------------------------


def test_the_service_goes_on_while_the_site_is_attacked(site):
    web = site()
    with ExitStack() as stack:
        client = stack.enter_context(web.server.client())
        asked, end = 0, time.monotonic() + 2
        while time.monotonic() < end:
            for data in (b"GET / HTTP/1.1\r\nHost: x", b"\0" * 5000, b"POST /login HTTP/1.1\r\nHost: 127.0.0.1\r\n"):
                sock = stack.enter_context(socket.create_connection((web.host, web.port), timeout=5))
                sock.sendall(data)
            assert client.call("system.ping") == "pong"
            asked += 1
    assert asked > 10
    works(web)
