"""What the documentation shows is run, and is so; run as a program, it writes server/docs/hooks.md anew."""

from __future__ import annotations

import inspect
import json
import os
import re
import shlex
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import tidegate
from tidegate.hookpage import hooks, reference

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "server/docs"
README = (ROOT / "README.md").read_text()
PAGES = [*ROOT.glob("*.md"), *DOCS.glob("*.md"), *ROOT.glob("plug*/*/README.md")]
named = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


class Shown(NamedTuple):
    """A command of a `console` block, and the lines that the page shows below it; … stands for anything."""

    command: str
    output: str


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.M | re.S)


def shown(text: str) -> list[Shown]:
    found = []
    for block in blocks(text, "console"):
        for part in re.split(r"^\$ ", block, flags=re.M)[1:]:
            command, _, output = part.partition("\n")
            found.append(Shown(command, output.strip()))
    return found


def matches(pattern: str, text: str) -> bool:
    """Whether the text is what a page shows; ports and process ids are as they happen to be."""
    wanted = ".*".join(re.escape(part) for part in re.split("…", pattern))
    wanted = re.sub(r"pid\\ \d+", r"pid\\ \\d+", wanted).replace("7420", r"\d+")
    return re.fullmatch(wanted, text.strip(), re.S) is not None


# --- the pages themselves -------------------------------------------------------------------------


def test_the_page_of_hooks_is_current():
    assert (DOCS / "hooks.md").read_text() == reference(), f"stale; run: python {__file__}"


def test_every_hook_is_on_its_page_with_its_signature():
    page = (DOCS / "hooks.md").read_text()
    for name in hooks():
        assert f"### {name}\n\n```python\ndef {name}(" in page


def anchors(path: Path) -> set[str]:
    """What `#…` may say of a page, by the rules of the sites that show Markdown."""
    headings = re.findall(r"^#+ (.+)$", re.sub(r"^```.*?^```$", "", path.read_text(), flags=re.M | re.S), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@named
def test_no_link_leads_nowhere(page):
    text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.M | re.S)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        path = (page.parent / name).resolve() if name else page
        assert path.exists(), f"{page.name}: {target}"
        assert not anchor or anchor in anchors(path), f"{page.name}: {target}"


@named
def test_a_page_tells_nothing_of_where_it_was_written(page):
    assert not re.search(r"/root/|/home/|\bTODO\b|\bTBD\b", page.read_text())


# --- README ---------------------------------------------------------------------------------------


@pytest.fixture
def desk(tmp_path, monkeypatch):
    """A folder with the files that a page shows (`# shop.py` on their first line), and a shell that runs there."""
    for block in blocks(README, "python"):
        if name := re.match(r"# (\w+\.py)\n", block):
            (tmp_path / name[1]).write_text(block)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "TIDEGATE__LISTEN__0__ADDRESS": f"127.0.0.1:{port}",
        "TIDEGATE_CONNECT": f"127.0.0.1:{port}",
    }
    started: list[subprocess.Popen[bytes]] = []

    def run(command: str) -> str:
        command = command.replace("7420", str(port))
        if command.endswith("&"):
            return begin(command[:-1])
        done = subprocess.run(
            ["bash", "-c", command], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60
        )
        return done.stdout + done.stderr

    def begin(command: str) -> str:
        words = [*shlex.split(command), "--only", "none"]
        process = subprocess.Popen(words, cwd=tmp_path, env=environment, stdout=subprocess.PIPE)
        started.append(process)
        assert process.stdout is not None
        return process.stdout.readline().decode()

    yield run
    for process in started:
        process.terminate()
        process.wait(20)
        process.stdout.close()


#: Not to be run inside a test run: they would make an environment and run all tests; test_packaging looks at them.
NOT_HERE = ("make serve", "make test")


def test_every_command_of_the_readme_does_what_it_shows(desk, need):
    need("nc")
    for command, output in shown(README):
        if command not in NOT_HERE:
            said = desk(command)
            assert matches(output, said), f"$ {command}\n{said}"


@pytest.mark.parametrize("goal", ["serve", "test"])
def test_the_two_commands_are_what_make_runs(goal):
    done = subprocess.run(["make", "-n", goal], cwd=ROOT, capture_output=True, text=True, check=True)
    wanted = {"serve": "tidegate serve --config etc/tidegate.toml", "test": "python -m pytest"}[goal]
    assert wanted in done.stdout


def test_the_readmes_protocol_is_what_a_client_sees(served):
    (session,) = (block for block in blocks(README, "text") if "→" in block)
    server = served()
    with server.raw() as raw:
        for line in session.splitlines():
            if line.startswith("→ "):
                raw.send(line[2:].encode() + b"\n")
            else:
                said = raw.line().decode()
                assert matches(line[2:], said), said


def test_the_readmes_python_client_works(served):
    (program,) = (block for block in blocks(README, "python") if "Client(" in block)
    server = served()
    exec(compile(program.replace("127.0.0.1:7420", server.addresses[0]), "README.md", "exec"), {})


def test_the_readmes_plugin_has_fifteen_lines_of_code():
    (program,) = (block for block in blocks(README, "python") if "(Plugin)" in block)
    lines = [line for line in program.splitlines() if line.strip() and not line.startswith('"""')]
    assert len(lines) <= 15, len(lines)


def test_the_readme_names_the_samples_there_are():
    for path in (ROOT / "etc").iterdir():
        if path.suffix in (".service", ".socket", ".cfg") or path.name == "tidegate.toml":
            assert f"(etc/{path.name})" in README


# --- the page for plugin authors ------------------------------------------------------------------


def written(page: Path) -> dict[str, Any]:
    """All names that the page's Python blocks define, one after the other, as a reader would read them."""
    names: dict[str, Any] = {"command": tidegate.command}
    for block in blocks(page.read_text(), "python"):
        if not block.startswith("entry_points"):
            exec(compile(block, page.name, "exec"), names)
    return names


@pytest.fixture(scope="module")
def authored() -> dict[str, Any]:
    return written(DOCS / "plugins.md")


def test_every_plugin_on_the_authors_page_is_loaded(authored, inside):
    classes = {
        name.lower(): kind
        for name, kind in authored.items()
        if isinstance(kind, type) and issubclass(kind, tidegate.Plugin) and kind is not tidegate.Plugin
    }
    assert len(classes) >= 3
    server = inside(plugins=classes)
    loaded = {row["name"]: row["state"] for row in server.run(server.server.call, "system.plugins")}
    assert dict.fromkeys(classes, "ok").items() <= loaded.items()


def test_the_authors_test_passes(authored, inside):
    authored["test_an_answer_is_kept_for_its_time"](inside)


def test_both_pages_show_the_same_plugin(authored):
    (program,) = (block for block in blocks(README, "python") if "(Plugin)" in block)
    assert program.split() == blocks((DOCS / "plugins.md").read_text(), "python")[0].split()


def test_the_authors_counter_counts_sells_and_refills(authored, inside):
    server = inside(plugins={"counter": authored["Counter"]})
    sold = server.events("stock.sold")
    with server.raw() as raw:
        assert [raw.ask("counter.next")["result"], raw.ask("counter.next", {"step": 2})["result"]] == [1, 3]
        assert [raw.ask("stock.buy")["result"] for _ in range(3)] == [2, 1, 0]
        assert raw.ask("stock.buy")["error"]["data"]["code"] == 1501
    with server.raw_admin() as raw:
        assert raw.ask("stock.refill", {"pieces": 5})["result"] == 5
    assert [event.left for event in sold] == [2, 1, 0]


def test_the_authors_doorman_lets_one_address_stay_outside(authored, inside):
    doorman = {"doorman": authored["Doorman"]}
    server = inside('[server]\nexempt = []\n[plugins.doorman]\nunwelcome = "127.0.0.2"\n', plugins=doorman)
    with server.raw(source="127.0.0.2") as raw:
        assert raw.json()["error"]["data"]["code"] == 1404
        assert raw.closed()
    with server.raw() as raw:
        assert raw.ask("system.ping")["result"] == "pong"
    assert server.run(server.server.gauges)["doorman.clients_refused"] == 1


# --- the page of the test kit ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def shown_tests() -> dict[str, Any]:
    return written(DOCS / "testing.md")


def test_the_tests_on_the_kits_page_pass(shown_tests, served, inside):
    shown_tests["test_a_total_is_the_same_after_a_crash"](served)
    shown_tests["test_it_closes_after_eight_hours"](inside)


def test_every_fixture_and_argument_of_the_kit_is_on_its_page():
    from tidegate import testing
    from tidegate.testing.process import Served
    from tidegate.testing.raw import Raw
    from tidegate.testing.thread import Inside

    page = (DOCS / "testing.md").read_text()
    fixtures = {name for name, one in vars(testing).items() if type(one).__name__ == "FixtureFunctionDefinition"}
    assert {name for name in fixtures if f"| `{name}" not in page} == set()
    for kind, heading in ((Served, "served"), (Inside, "inside"), (Raw, "Talking to it")):
        text = page.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
        asked = set(inspect.signature(kind).parameters) - {"folder", "search", "sock", "self"}
        mine = {name for name, one in vars(kind).items() if not name.startswith("_") and callable(one)}
        mine -= {"finish", "tcp", "unix"} | ({"start"} if kind is Inside else set())
        assert {name for name in asked | mine if not re.search(rf"`[^`]*\b{name}\b", text)} == set(), heading


# --- the page for operators -----------------------------------------------------------------------


def test_every_call_on_the_operators_page_is_understood(served, desk):
    server = served()
    calls = [
        one.command for one in shown((DOCS / "operating.md").read_text()) if one.command.startswith("tidegate call")
    ]
    assert calls
    for command in calls:
        said = desk(command.replace("/var/lib/tidegate", str(server.data)) + " --json")
        fault = json.loads(said).get("error", {"data": {}})
        assert fault["data"].get("code") in (None, 1501), f"$ {command}\n{said}"  # 1501: a connection that is not there


def test_the_operators_configuration_is_readable_by_the_service_and_leaves_the_data_folder_to_systemd():
    from tidegate.config import check, read

    page, unit = (DOCS / "operating.md").read_text(), (ROOT / "etc/tidegate.service").read_text()
    (group, source, target) = re.search(r"^\$ install -D -m 0640 -g (\w+) (\S+) (\S+)$", page, re.M).groups()
    assert f"Group={group}\n" in unit
    assert f"--config {target}\n" in unit
    assert f" {group}\n" in re.search(r"^\$ useradd .*\n", page, re.M)[0]
    settings = check(read(ROOT / source, environ={"STATE_DIRECTORY": "/var/lib/tidegate"}), {})
    assert settings.server.data == "/var/lib/tidegate"


def test_the_operators_page_and_the_readme_agree_on_signals_and_exit_codes(served):
    import signal

    server = served()
    server.signal(signal.SIGHUP)
    server.wait_log("configuration reloaded by SIGHUP")
    assert server.stop() == 0


def test_the_operators_limits_are_the_settings_defaults():
    from tidegate.settings import LISTEN, SERVER

    rules = {**SERVER, **LISTEN}
    page = (DOCS / "operating.md").read_text().partition("## Limits")[2].partition("\n## ")[0]
    seen = set()
    for keys, defaults in re.findall(r"^\| (`.+?`.*?) \| (.+?) \|", page, re.M):
        values = re.split(r", (?=\d)", defaults) if keys.count("`") > 2 else [defaults]
        for key, value in zip(re.findall(r"`(\w+)`", keys), values, strict=True):
            assert float(value.replace(",", "")) == rules[key]["default"], key
            seen.add(key)
    assert {key for key in rules if key.startswith("max_") or key.endswith("_timeout_s")} <= seen


if __name__ == "__main__":
    (DOCS / "hooks.md").write_text(reference())
