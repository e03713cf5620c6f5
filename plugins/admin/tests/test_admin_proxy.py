"""Behind a proxy: who asks is who the proxy says, and only a trusted proxy is believed."""

from __future__ import annotations

import pytest

pytest.importorskip("tidegate_admin")

from tidegate_admin.proxies import client_of, networks_of

PROXY, CLIENT, OTHER = "127.0.0.9", "203.0.113.5", "203.0.113.6"
TRUSTING = f'proxy_from = ["{PROXY}"]\n'


def actor_address(web, source: str, forwarded: str) -> str:
    """From where a change came, as the time line has it."""
    level = {"level": "info", "reason": "where from"}
    headers = {"X-Forwarded-For": forwarded}
    assert web.ask("PUT", "/api/v1/log/level", level, source=source, headers=headers).status == 200
    return web.run("admin.events", topics=["operator.acted"])[0]["fields"]["address"]


def test_the_client_behind_a_trusted_proxy_is_named_and_a_forger_is_not_believed(site):
    web = site(admin=TRUSTING)
    assert actor_address(web, PROXY, CLIENT) == CLIENT
    assert actor_address(web, PROXY, f"10.1.1.1, {CLIENT}") == CLIENT, "what stands left of it anybody may have sent"
    assert actor_address(web, "127.0.0.10", CLIENT) == "127.0.0.10"


def test_nobody_is_believed_by_default(site):
    web = site()
    assert actor_address(web, PROXY, CLIENT) == PROXY


@pytest.mark.parametrize(
    ("peer", "forwarded", "found"),
    [
        ("10.0.0.1", "203.0.113.5", "203.0.113.5"),
        ("10.0.0.1", "203.0.113.5, 10.0.0.2", "203.0.113.5"),
        ("10.0.0.1", "1.2.3.4, 203.0.113.5, 10.0.0.2", "203.0.113.5"),
        ("10.0.0.1", "203.0.113.5:40000", "203.0.113.5"),
        ("10.0.0.1", "[2001:db8::7]:443", "2001:db8::7"),
        ("10.0.0.1", "2001:DB8:0::7", "2001:db8::7"),
        ("::ffff:10.0.0.1", "203.0.113.5", "203.0.113.5"),
        ("10.0.0.1", "", "10.0.0.1"),
        ("10.0.0.1", "unknown", "10.0.0.1"),
        ("10.0.0.1", "203.0.113.5, unknown, 10.0.0.2", "10.0.0.2"),
        ("10.0.0.1", "fe80::1%eth0", "10.0.0.1"),
        ("203.0.113.9", "203.0.113.5", "203.0.113.9"),
        (None, "203.0.113.5", None),
    ],
)
def test_the_client_is_the_last_that_no_trusted_proxy_has(peer, forwarded, found):
    assert client_of(peer, forwarded, networks_of(["10.0.0.0/8", "2001:db8:ffff::/48"])) == found


def test_wrong_tokens_behind_a_proxy_count_for_the_client_who_sent_them(site):
    web = site(admin=TRUSTING + 'failures = "3/minute"\n')

    def tried(forwarded: str, times: int) -> list[int]:
        headers = {"X-Forwarded-For": forwarded}
        return [web.get("/metrics", token="wrong", source=PROXY, headers=headers).status for _ in range(times)]

    assert tried(CLIENT, 5) == [401, 401, 401, 429, 429]
    assert tried(OTHER, 1) == [401]
    said = web.run("admin.events", topics=["login.failed"])
    assert {row["fields"]["address"] for row in said} == {CLIENT, OTHER}


def test_a_blocked_address_is_shut_out_behind_a_proxy_too_and_its_neighbour_is_not(site, installed):
    web = site("[server]\nexempt = []\n", plugins=installed("security"), admin=TRUSTING)
    web.run("security.block", network=CLIENT, reason="a test")
    behind = {address: {"X-Forwarded-For": address} for address in (CLIENT, OTHER)}
    reply = web.get("/api/v1/whoami", source=PROXY, headers=behind[CLIENT])
    assert (reply.status, reply.json["code"]) == (403, 1406)
    assert web.get("/api/v1/whoami", source=PROXY, headers=behind[OTHER]).status == 200


def test_a_browser_logs_in_behind_a_proxy_that_speaks_tls(site):
    web = site(admin=TRUSTING + 'hosts = ["admin.example.org"]\n')
    browser = {
        "Host": "admin.example.org",
        "Origin": "https://admin.example.org",
        "X-Forwarded-For": CLIENT,
        "X-Forwarded-Proto": "https",
    }
    form = {**browser, "Content-Type": "application/x-www-form-urlencoded"}
    reply = web.ask("POST", "/login", f"token={web.token}", token="", source=PROXY, headers=form)
    assert reply.status == 303
    cookies = reply.headers.get_all("Set-Cookie")
    assert all(cookie.startswith("__Host-tidegate-443") and "Secure" in cookie for cookie in cookies)
    pairs = [cookie.partition(";")[0] for cookie in cookies]
    inside = {**browser, "Cookie": "; ".join(pairs), "X-CSRF-Token": pairs[1].partition("=")[2]}
    change = ("PUT", "/api/v1/log/level", {"level": "info", "reason": "a test"})
    assert web.ask(*change, token="", source=PROXY, headers=inside).status == 200
    assert web.ask(*change, token="", source="127.0.0.10", headers=inside).status == 401, "this one is no proxy"


def test_a_proxy_that_is_no_network_refuses_the_start(served):
    with pytest.raises(AssertionError, match=r"proxy_from.*expected an address or a network"):
        served('[plugins.admin]\nproxy_from = ["everybody"]\n', plugins=["admin"])
