"""The page in a real browser: what an operator sees, and what follows from what they do."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import tidegate

FLAGS = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync"),
]
NASTY = "<img src=x onerror=alert(1)>\"'><script>alert(2)</script>"
SHOP = '''
from tidegate import command
from tidegate.faults import ResourceNotFound

@command("shop.price", breaker="bank")
def price(item: str = "tea") -> int:
    """What it costs."""
    if item == "missing":
        raise ResourceNotFound("No such item")
    if item != "tea":
        raise KeyError(item)
    return 3
'''
ALERTS = """
[plugins.monitoring.rules.too_many_calls]
warning = "rate(calls) > 0/s"
"""
TITLES = ["Overview", "Alerts", "Errors", "Security", "Clients", "Transactions", "Server", "Events", "Panels", "API"]


@pytest.fixture(scope="module")
def chromium(request) -> Iterator[Any]:
    """One browser for this file; the system's, never one that is downloaded."""
    if find_spec("playwright") is None or not Path("/usr/bin/chromium").exists():
        reason = "playwright or /usr/bin/chromium is missing"
        (pytest.fail if request.config.getoption("--require-services") else pytest.skip)(reason)
    from playwright.sync_api import expect, sync_playwright

    expect.set_options(timeout=30_000)  # the machine may be busy
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path="/usr/bin/chromium", headless=True, args=FLAGS)
        yield browser
        browser.close()


class Watched:
    """A page that is logged in; what it must never do is gathered."""

    def __init__(self, browser: Any, web: Any, **options: Any) -> None:
        self.web = web
        self.context = browser.new_context(viewport={"width": 1280, "height": 900}, **options)
        self.page = self.context.new_page()
        self.page.set_default_timeout(45_000)
        self.wrong: list[str] = []
        self.page.on("console", lambda said: self.wrong.append(said.text) if said.type == "error" else None)
        self.page.on("pageerror", lambda error: self.wrong.append(str(error)))
        self.page.on("dialog", lambda dialog: (self.wrong.append(f"dialog: {dialog.message}"), dialog.dismiss()))
        self.page.on("request", lambda asked: self.wrong.append(asked.url) if not asked.url.startswith(web.base) else 0)

    def log_in(self, token: str | None = None) -> Any:
        self.page.goto(self.web.base)
        self.page.get_by_label("token").fill(self.web.token if token is None else token)
        self.page.get_by_role("button", name="Log in").click()
        self.page.wait_for_selector("#live.live")
        return self.page

    def view(self, name: str) -> None:
        self.page.get_by_role("navigation", name="Views").get_by_role("link", name=re.compile(f"^{name}")).click()
        self.page.get_by_role("heading", level=1, name=name).wait_for()

    def card(self, name: str) -> Any:
        return self.page.locator(f'[data-card="{name}"]')

    def confirm(self, button: str, reason: str = "a test") -> None:
        dialog = self.page.locator("dialog")
        dialog.get_by_label("reason").fill(reason)
        dialog.get_by_role("button", name=button).click()
        dialog.wait_for(state="detached")


@pytest.fixture
def watched(chromium) -> Iterator[Any]:
    pages: list[Watched] = []

    def start(web: Any, **options: Any) -> Watched:
        pages.append(Watched(chromium, web, **options))
        return pages[-1]

    yield start
    for page in pages:
        page.context.close()
        assert page.wrong == [], "no error, nothing from elsewhere"


class Load:
    """Calls, one after the other, until it is left."""

    def __init__(self, server: Any, method: str, **params: Any) -> None:
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(server, method, params))

    def _run(self, server: Any, method: str, params: dict[str, Any]) -> None:
        with server.client() as client:
            while not self._over.wait(0.005):
                client.call(method, **params)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()


# --- an operator's day ----------------------------------------------------------------------------


def test_numbers_change_under_load(site, installed, watched):
    from playwright.sync_api import expect

    web = site(plugins=installed("monitoring"), source=SHOP)
    page = watched(web).log_in()
    calls = page.locator(".tiles li", has_text="Calls a second").locator("strong")
    with Load(web.server, "shop.price"):
        expect(calls).to_have_text(re.compile(r"^[1-9]\d"), timeout=20_000)
        expect(page.locator('[data-card="Top commands"]')).to_contain_text("shop.price")
        assert page.locator('[data-chart="Calls a second"] path.line').get_attribute("d")
    expect(calls).to_have_text(re.compile(r"^\d(\.\d+)?$"), timeout=20_000)


def test_an_attacker_is_blocked_from_an_event_and_let_in_again(site, installed, watched, eventually):
    from playwright.sync_api import expect

    web = site("[server]\nexempt = []\n", plugins=installed("security"), source=SHOP)
    seen = watched(web)
    page = seen.log_in()
    seen.view("Security")

    def answer(source):
        with web.server.raw(source=source) as raw:
            return raw.ask("system.echo", {"text": "hello"})

    with web.server.raw(source="127.0.0.66") as raw:
        raw.ask("debug.dump")
    row = seen.card("Signals").locator("tr", has_text="127.0.0.66").first
    row.get_by_role("button", name="Block").click()
    seen.confirm("Block", "it probes us")
    blocks = seen.card("Blocks")
    expect(blocks.locator("tr", has_text="127.0.0.66")).to_contain_text("it probes us")
    refused = answer("127.0.0.66")
    assert refused["error"]["data"]["code"] == 1406
    assert answer("127.0.0.67")["result"] == "hello"

    seen.card("Security events").get_by_role("link", name="127.0.0.66").first.click()
    page.get_by_role("heading", level=1, name="Address").wait_for()
    expect(seen.card("Address")).to_contain_text("prob")
    seen.card("Address").get_by_role("button", name="Unblock").click()
    seen.confirm("Unblock")
    expect(seen.card("Address").get_by_role("button", name="Block", exact=True)).to_be_visible()
    assert answer("127.0.0.66")["result"] == "hello"


def test_a_breaker_is_forced_open_and_decides_by_itself_again(site, installed, watched):
    from playwright.sync_api import expect

    web = site(plugins=installed("errors"), source=SHOP)
    with web.server.client() as client:
        client.call("shop.price")
        seen = watched(web)
        seen.log_in()
        seen.view("Errors")
        row = seen.card("Circuit breakers").locator("tr", has_text="bank")
        row.get_by_role("button", name="Force open").click()
        seen.confirm("Force open", "the bank is being moved")
        expect(row).to_contain_text("open")
        with pytest.raises(tidegate.Fault, match="1307"):
            client.call("shop.price")
        row.get_by_role("button", name="Auto").click()
        seen.confirm("Auto")
        expect(row).not_to_contain_text("forced")
    (event, *_) = web.run("admin.events", topics=["operator.acted"])[::-1]
    assert event["fields"]["reason"] == "the bank is being moved"


def test_an_alert_is_silenced(site, installed, watched):
    from playwright.sync_api import expect

    web = site(ALERTS, plugins=installed("monitoring"), source=SHOP)
    seen = watched(web)
    with Load(web.server, "shop.price"):
        seen.log_in()
        seen.view("Alerts")
        row = seen.card("Raised").locator("tr", has_text="too_many_calls")
        row.get_by_role("button", name="Silence").click()
        seen.confirm("Silence", "we know")
        expect(row).to_contain_text("silenced")
        expect(seen.card("Silences")).to_contain_text("we know")


def test_a_failure_leads_to_its_group_and_a_sample_trace(site, installed, watched):
    from playwright.sync_api import expect

    web = site(plugins=installed("errors", "monitoring"), source=SHOP)
    with web.server.client() as client, pytest.raises(tidegate.Fault):
        client.call("shop.price", item="unknown to the shelf")
    seen = watched(web)
    page = seen.log_in()
    seen.card("Errors by code").get_by_role("link", name="1304").click()
    page.get_by_role("heading", level=1, name="Errors").wait_for()
    seen.card("Error groups").get_by_role("button", name="KeyError").click()
    expect(page.locator("dialog pre.trace")).to_contain_text("KeyError")
    page.go_back()  # the dialog goes with its view
    expect(page.locator("dialog")).to_have_count(0)
    # And from a moment of the chart, with the keyboard.
    seen.view("Overview")
    chart = page.locator('[data-chart="Failed calls"] .plot')
    expect(page.locator('[data-chart="Failed calls"] path.line')).to_have_attribute("d", re.compile("L"))
    chart.focus()
    page.keyboard.press("ArrowLeft")
    expect(page.locator('[data-chart="Failed calls"] [role="status"]')).to_contain_text("failed")
    page.keyboard.press("Enter")
    expect(seen.card("Error groups")).to_contain_text("Only groups seen near")


def test_a_spike_leads_to_the_commands_of_that_moment_and_one_of_them_over_time(site, installed, watched):
    from playwright.sync_api import expect

    web = site(plugins=installed("monitoring"), source=SHOP)
    seen = watched(web)
    page = seen.log_in()
    with Load(web.server, "shop.price"):
        expect(seen.card("Top commands")).to_contain_text("shop.price")
        chart = page.locator('[data-chart="Latency"] .plot')
        expect(page.locator('[data-chart="Latency"] path.line').first).to_have_attribute("d", re.compile("L"))
        chart.focus()
        page.keyboard.press("ArrowLeft")
        page.keyboard.press("Enter")
        moment = page.get_by_role("dialog", name=re.compile("^Commands at"))
        moment.get_by_role("button", name="shop.price").click()
        command = page.get_by_role("dialog", name="shop.price")
        expect(command.locator('[data-chart="Calls of shop.price"] path.line')).to_have_attribute("d", re.compile("M"))
        command.get_by_role("button", name="What a call passes").click()
    page.get_by_role("heading", level=1, name="Server").wait_for()
    expect(seen.card("What a call passes")).to_contain_text("Time limit")


def test_the_audit_trail_is_searched_and_verified(site, installed, watched):
    from playwright.sync_api import expect

    web = site(plugins=installed("security"))
    web.run("security.block", network="192.0.2.9", reason="he knows why")
    seen = watched(web)
    seen.log_in()
    seen.view("Security")
    trail = seen.card("Audit trail")
    trail.get_by_label("Entries with this event").fill("address.blocked")
    trail.get_by_role("button", name="Search").click()
    expect(trail.locator("tr", has_text="192.0.2.9")).to_contain_text("he knows why")
    trail.get_by_role("button", name="Verify").click()
    expect(trail).to_contain_text("entries are as they were written")


def staffed(site, installed, watched) -> Watched:
    """The page of the administrator ada; there is a user bob too."""
    web = site(plugins=installed("transactions", "accounts"))
    with web.server.admin() as operator:
        operator.call("account.create", name="ada", password="correct horse 1", role="admin")
        operator.call("account.create", name="bob", password="correct horse 2")
    seen = watched(web)
    page = seen.page
    page.goto(web.base)
    page.get_by_label("Name").fill("ada")
    page.get_by_label("Password").fill("correct horse 1")
    page.get_by_role("button", name="Log in").click()
    page.wait_for_selector("#live.live")
    seen.view("Clients")
    return seen


def test_a_new_token_is_shown_this_once_and_its_session_can_be_ended(site, installed, watched):
    from playwright.sync_api import expect

    seen = staffed(site, installed, watched)
    page = seen.page
    seen.card("Accounts").locator("tr", has_text="ada").get_by_role("button", name="New token").click()
    form = page.get_by_role("dialog", name="New token: ada")
    form.get_by_label("label").fill("the nightly job")
    form.get_by_label("reason").fill("a test")
    form.get_by_role("button", name="New token").click()
    dialog = page.get_by_role("dialog", name="The new token")
    token = dialog.locator("pre").inner_text()
    assert seen.web.get("/api/v1/whoami", token=token).json["name"] == "ada"
    page.keyboard.press("Escape")
    expect(dialog).to_have_count(0)
    page.reload()
    row = seen.card("Sessions and tokens").locator("tr", has_text="the nightly job")
    expect(row).to_contain_text("token")
    row.get_by_role("button", name="End").click()
    seen.confirm("End")
    expect(row).to_have_count(0)
    assert seen.web.get("/api/v1/whoami", token=token).status == 401


def test_a_user_is_suspended_and_reinstated(site, installed, watched):
    from playwright.sync_api import expect

    seen = staffed(site, installed, watched)
    row = seen.card("Accounts").locator("tr", has_text="bob")
    row.get_by_role("button", name="Suspend").click()
    seen.confirm("Suspend", "a rude word")
    expect(row).to_contain_text("a rude word")
    row.get_by_role("button", name="Reinstate").click()
    seen.confirm("Reinstate")
    expect(row.get_by_role("button", name="Suspend")).to_be_visible()


def test_maintenance_is_switched_and_seen_on_every_page(site, watched):
    from playwright.sync_api import expect

    web = site(source=SHOP)
    one, other = watched(web), watched(web)
    one.log_in()
    other.log_in()
    one.view("Server")
    one.card("State").get_by_role("button", name="Begin maintenance").click()
    one.page.locator("dialog").get_by_label("message").fill("moving house")
    one.confirm("Begin maintenance")
    expect(other.page.locator("#banner")).to_contain_text("moving house")
    with web.server.client() as client, pytest.raises(tidegate.Fault, match="moving house"):
        client.call("shop.price")
    one.card("State").get_by_role("button", name="End maintenance").click()
    one.confirm("End maintenance")
    expect(other.page.locator("#banner")).to_be_hidden()


# --- what it must withstand -----------------------------------------------------------------------


def test_names_and_texts_of_clients_never_become_markup(site, installed, watched):
    """Each place where a client's text is shown; the page would tell of a dialog, or of a request elsewhere."""
    from playwright.sync_api import expect

    plugins = installed("errors", "monitoring", "security", "validation")
    web = site(f"[server]\nexempt = []\nname = '''{NASTY[:60]}'''\n", plugins=plugins, source=SHOP)
    with web.server.raw(source="127.0.0.66") as raw:
        raw.ask(f"shop.{NASTY}")
        raw.ask("system.echo", {"text": NASTY})
        raw.ask("shop.price", {"item": NASTY})
    with web.server.raw(source="127.0.0.67") as raw:
        raw.send(f"GET /{NASTY} HTTP/1.1\r\n\r\n".encode())
        raw.rest()
    web.run("security.block", network="127.0.0.5", reason=NASTY)
    web.run("system.maintenance", on=True, message=NASTY, reason=NASTY)
    web.run("monitoring.silence", name=NASTY[:60], for_s=60, reason=NASTY)
    seen = watched(web)
    page = seen.log_in()
    for title in TITLES:
        seen.view(title)
        page.wait_for_timeout(300)
        assert page.locator("main img, main script").count() == 0, title
    expect(page.locator("#banner")).to_contain_text("<img src=x")


def test_every_view_is_whole_without_any_other_plugin(site, watched):
    from playwright.sync_api import expect

    web = site(source=SHOP)
    seen = watched(web)
    page = seen.log_in()
    for title in TITLES:
        seen.view(title)
        expect(page.locator("#view .card, #view .empty").first).to_be_visible()
    seen.view("Security")
    expect(page.locator("#view")).to_contain_text("pip install tidegate-security")
    seen.view("Clients")
    expect(seen.card("Accounts")).to_contain_text("pip install tidegate-accounts")


def test_a_page_finds_its_server_again_after_a_restart(site, watched):
    from playwright.sync_api import expect

    web = site()
    web.restart()
    seen = watched(web)
    page = seen.log_in()
    web.server.stop()
    expect(page.locator("#live")).to_have_text("not connected")
    web.server.start()
    expect(page).to_have_url(re.compile("/login$"), timeout=20_000)  # sessions end with the process
    seen.log_in()
    seen.wrong.clear()  # the browser itself says that it could not connect


# --- everybody can use it -------------------------------------------------------------------------


def test_it_is_used_by_keyboard_alone(site, installed, watched):
    from playwright.sync_api import expect

    web = site(plugins=installed("errors"), source=SHOP)
    with web.server.client() as client:
        client.call("shop.price")
    page = watched(web).log_in()
    page.keyboard.press("3")
    expect(page.get_by_role("heading", level=1)).to_have_text("Errors")
    page.get_by_role("button", name="Force open").focus()
    page.keyboard.press("Enter")
    page.keyboard.type("a reason")
    page.keyboard.press("Enter")
    expect(page.locator("#notes")).to_contain_text("Force open: done")
    expect(page.locator("dialog")).to_have_count(0)
    page.keyboard.press("?")
    expect(page.get_by_role("dialog", name="Keys")).to_be_visible()
    page.keyboard.press("Escape")
    page.keyboard.press("p")
    expect(page.locator("#live")).to_have_text("paused")
    page.keyboard.press("p")
    expect(page.locator("#live")).to_have_text("live")


def test_it_fits_on_a_phone_in_both_themes(site, installed, watched):
    plugins = installed("errors", "monitoring", "security")
    web = site(plugins=plugins, source=SHOP)
    for theme in ("light", "dark"):
        seen = watched(web, color_scheme=theme)
        seen.page.set_viewport_size({"width": 390, "height": 800})
        page = seen.log_in()
        for title in TITLES:
            seen.view(title)
            page.wait_for_timeout(200)
            assert page.evaluate("document.documentElement.scrollWidth") <= 390, (theme, title)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_controls_have_names_and_text_can_be_read(site, installed, watched, theme):
    web = site(plugins=installed("errors", "monitoring", "security"), source=SHOP)
    seen = watched(web, color_scheme=theme)
    page = seen.log_in()
    unnamed = """() => {
      const named = (one) => (one.innerText || '').trim() || one.getAttribute('aria-label')
        || (one.labels && one.labels.length) || one.querySelector('caption');
      const kinds = 'button, a, input, select, textarea, [role=img], [role=region], table';
      return [...document.querySelectorAll(kinds)].filter((one) => one.offsetParent && !named(one))
        .map((one) => one.outerHTML.slice(0, 120));
    }"""
    for title in TITLES:
        seen.view(title)
        page.wait_for_timeout(300)
        assert page.evaluate(unnamed) == [], title
        assert page.evaluate("document.querySelectorAll('h1').length") == 1
        assert page.evaluate(CONTRAST) == [], f"{title}: text is at least 4.5 to 1 against its ground"


CONTRAST = """() => {
  const part = (v) => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;  // WCAG 2.2, relative luminance
  const light = (text) => {
    const [r, g, b] = text.match(/[\\d.]+/g).map((v) => part(v / 255));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ground = (one) => {
    for (; one; one = one.parentElement) {
      const colour = getComputedStyle(one).backgroundColor;
      if (!/, 0\\)$|transparent/.test(colour)) return colour;
    }
    return 'rgb(255, 255, 255)';
  };
  const ratio = (one) => {
    const [a, b] = [light(getComputedStyle(one).color), light(ground(one))];
    return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
  };
  const written = (one) => one.offsetParent && [...one.childNodes].some((n) => n.nodeType === 3 && n.data.trim());
  return [...document.querySelectorAll('body *')].filter((one) => written(one) && ratio(one) < 4.5)
    .map((one) => [one.className, one.innerText.slice(0, 30), ratio(one)]);
}"""
