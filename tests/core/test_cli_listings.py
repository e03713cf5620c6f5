"""`plugins`, `commands`, `explain`, `faults`, `version`, `check-config`: what people and scripts read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

GOOD = '''
from tidegate import Plugin, Fault, command, hookimpl
import click

class Sold(Fault):
    """Somebody was quicker."""
    code, message, recovery = 2345, "It is sold", "none"

class Good(Plugin):
    """Sells."""
    ring = "check"
    settings = {
        "size": {"type": "integer", "default": 3},
        "pin": {"type": "string", "default": "", "meta": {"secret": True}},
    }
    offers = {"faults": (Fault, (Sold,))}

    @command(
        "good.sell",
        requires="user",
        params={"what": {"type": "string", "required": True, "meta": {"help": "A thing."}}},
    )
    def sell(self, what: str) -> bool:
        """Sell a thing."""
        return True

    @hookimpl
    def tidegate_decorate(self, command, proceed):
        if command.name == "good.sell":
            return lambda call: proceed(call)

@click.command()
def sales():
    """Say what was sold. And when."""
    click.echo("nothing")
'''


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("import nothing_of_this_name", "No module named 'nothing_of_this_name'"),
        ("raise SystemExit(7)", "SystemExit"),
        ("from tidegate import Plugin\nclass Broken(Plugin):\n    api = (9, 0)", "hook API 9.0"),
        ("from tidegate import Plugin\nclass Broken(Plugin):\n    def __init__(self): 1 / 0", "ZeroDivisionError"),
        (
            "from tidegate import Plugin\nclass Broken(Plugin):\n    def configure(self, config): 1 / 0",
            "ZeroDivisionError",
        ),
    ],
)
def test_a_broken_plugin_is_listed_with_its_reason(cli: Any, install: Any, text: str, reason: str) -> None:
    install("good", GOOD)
    path = install("broken", text)
    ran = cli("plugins", "--only", "good,broken", path=path)
    assert ran.code == 0, ran.err
    rows = {line.split()[0]: line for line in ran.out.splitlines()}
    assert {"core", "good", "broken"} <= set(rows)
    assert "tidegate-broken" in rows["broken"]
    assert "broken: " in rows["broken"]
    assert reason in rows["broken"]
    assert rows["good"].endswith(" ok")


def test_plugins_are_in_the_order_of_their_rings(cli: Any, install: Any) -> None:
    outer = (
        GOOD.replace("Good", "Outer").replace("good.", "outer.").replace('"check"', '"guard"').replace("2345", "2346")
    )
    install("good", GOOD)
    path = install("outer", outer.replace("Sold", "Gone").replace("2345", "2346"))
    names = [row["name"] for row in json.loads(cli("plugins", "--json", "--only", "good,outer", path=path).out)]
    assert [name for name in names if name in ("core", "good", "outer")] == ["outer", "core", "good"]


def test_a_plugin_that_is_not_loaded_is_listed_as_off(cli: Any, install: Any) -> None:
    path = install("good", GOOD)
    (row,) = [
        r for r in json.loads(cli("plugins", "--json", "--without", "good", path=path).out) if r["name"] == "good"
    ]
    assert (row["state"], row["version"]) == ("off", "1.5")


def test_a_running_server_lists_its_own_plugins(served: Any, cli: Any) -> None:
    server = served()
    rows = json.loads(cli("plugins", "--data", str(server.data), "--json").out)
    assert [(row["name"], row["state"]) for row in rows] == [("core", "ok")]


def test_commands_say_who_may_and_whose_they_are(cli: Any, install: Any) -> None:
    path = install("good", GOOD)
    lines = cli("commands", "--only", "good", path=path).out.splitlines()
    (line,) = [line for line in lines if line.startswith("good.sell")]
    assert line.split(None, 3) == ["good.sell", "user", "good", "Sell a thing."]


def test_one_command_is_explained_with_its_parameters(cli: Any, install: Any) -> None:
    path = install("good", GOOD)
    told = cli("commands", "good.sell", "--only", "good", path=path).out
    assert "what=…" in told
    assert "string: A thing." in told
    wrong = cli("commands", "good.sel", "--only", "good", path=path)
    assert (wrong.code, "did you mean 'good.sell'?" in wrong.err) == (1, True)


def test_ones_own_module_is_listed_though_one_of_its_commands_is_wrong(cli: Any, tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(
        "from tidegate import command\n"
        "@command('shop.open')\ndef open(): 'Open.'\n"
        "@command('shop.buy')\ndef buy(db): 'Buy.'\n"
    )
    ran = cli("commands", "--commands", "shop", "--only", "none")
    assert ran.code == 0
    assert "shop.open" in ran.out
    assert "install tidegate-transactions" in ran.err
    refused = cli("check-config", "--commands", "shop", "--only", "none")
    assert (refused.code, "install tidegate-transactions" in refused.err) == (1, True)


def test_commands_of_a_running_server_are_those_that_one_may_use(served: Any, cli: Any) -> None:
    server = served()
    names = {
        where: {row["name"] for row in json.loads(cli("commands", "--json", *where).out)}
        for where in (("--connect", server.addresses[0]), ("--data", str(server.data)))
    }
    anybody, operator = names.values()
    assert "system.ping" in anybody
    assert operator - anybody >= {"system.reload"}


def test_explain_prints_the_decorators_in_order_with_their_source_lines(cli: Any, install: Any) -> None:
    path = install("good", GOOD)
    told = json.loads(cli("explain", "good.sell", "--json", "--only", "good", path=path).out)
    assert [(layer["ring"], layer["plugin"]) for layer in told["layers"]] == [
        ("admit", "core.admit"),
        ("check", "core.check"),
        ("check", "good"),
        ("command", "good"),
    ]
    file, _, line = told["layers"][2]["where"].rpartition(":")
    assert "lambda call: proceed(call)" in Path(file).read_text().splitlines()[int(line) - 1]
    for_people = cli("explain", "good.sell", "--only", "good", path=path).out
    assert told["layers"][2]["where"] in for_people


def test_the_cost_of_each_layer_is_measured_by_a_running_server(served: Any, cli: Any) -> None:
    busy = "\n".join(
        [
            "import gevent",
            "from tidegate import command",
            "@command('shop.start')",
            "def start(call):",
            "    server = call.server",
            "    def calls():",
            "        while not server.stopping.is_set():",
            "            server.call('system.ping'); gevent.sleep(0.005)",
            "    server.spawn(calls)",
        ]
    )
    server = served(source=busy)
    with server.client() as client:
        client.call("shop.start")
    told = json.loads(cli("explain", "system.ping", "--cost", "--json", "--data", str(server.data)).out)
    assert told["calls"] >= 1
    assert all(layer["seconds"] >= 0 for layer in told["layers"])
    offline = cli("explain", "system.ping", "--cost")
    assert (offline.code, "needs a running server" in offline.err) == (2, True)


def test_options_for_a_running_server_and_for_one_to_build_do_not_mix(cli: Any) -> None:
    ran = cli("plugins", "--data", "data", "--only", "none")
    assert (ran.code, "--data and --connect ask a running server" in ran.err) == (2, True)


def test_the_faults_of_plugins_are_in_the_catalogue(cli: Any, install: Any) -> None:
    path = install("good", GOOD)
    by_code, by_name = cli("faults", "2345", "--json", path=path), cli("faults", "sold", "--json", path=path)
    assert by_code == by_name
    told = json.loads(by_code.out)
    assert (told["name"], told["plugin"], told["when"]) == ("Sold", "good", "Somebody was quicker.")
    assert {1107, 2345} <= {row["code"] for row in json.loads(cli("faults", "--json", path=path).out)}


def test_a_fault_is_explained_with_what_to_do(cli: Any) -> None:
    told = cli("faults", "1107").out
    assert told.startswith("1107 RequiredFieldMissing")
    assert "fix_request: correct the request" in told
    assert "error.code -32602" in told
    unknown = cli("faults", "RequiredFieldMising")
    assert (unknown.code, "did you mean 'RequiredFieldMissing'?" in unknown.err) == (1, True)


def test_two_plugins_with_one_code_are_told_and_the_rest_is_listed(cli: Any, install: Any) -> None:
    install("good", GOOD)
    path = install("other", GOOD.replace("Good", "Other").replace("Sold", "Taken"))
    ran = cli("faults", path=path)
    assert ran.code == 0
    assert "2345 is already Sold of plugin 'good'" in ran.err
    assert "RequiredFieldMissing" in ran.out


def test_version_names_everything_that_has_one(cli: Any, install: Any) -> None:
    path = install("good", "raise RuntimeError('not imported for its version')")
    told = json.loads(cli("version", "--json", path=path).out)
    assert set(told) == {"tidegate", "hook_api", "protocol", "python", "gevent", "plugins"}
    assert {"name": "good", "version": "1.5", "distribution": "tidegate-good"} in told["plugins"]


# --- check-config ---------------------------------------------------------------------------------


def test_a_right_configuration_is_0_and_says_so(cli: Any, tmp_path: Path) -> None:
    (tmp_path / "right.toml").write_text("[server]\nthreads = 3\n")
    ran = cli("check-config", "--config", "right.toml", "--only", "none")
    assert (ran.code, ran.out, ran.err) == (0, "the configuration is fine\n", "")


def test_every_mistake_is_told_by_its_line_and_the_exit_code_is_1(cli: Any, tmp_path: Path) -> None:
    (tmp_path / "wrong.toml").write_text("[server]\nthraeds = 3\nname = 5\n\n[plugins.nothing]\nx = 1\n")
    ran = cli("check-config", "--config", "wrong.toml", "--only", "none")
    assert (ran.code, ran.out) == (1, "")
    assert [line.split(": ")[0] for line in ran.err.splitlines()] == ["wrong.toml:2", "wrong.toml:3", "wrong.toml:5"]
    told = json.loads(cli("check-config", "--config", "wrong.toml", "--json", "--only", "none").out)
    assert not told["ok"]
    assert [mistake["key"] for mistake in told["mistakes"]] == ["server.thraeds", "server.name", "plugins.nothing"]


def test_plugins_commands_and_listeners_are_checked_at_once(cli: Any, install: Any) -> None:
    path = install("broken", "import nothing_of_this_name")
    ran = cli("check-config", "--only", "broken", "--commands", "nix", "--set", "listen.0.address=0.0.0.0:1", path=path)
    assert ran.code == 1
    assert [part in ran.err for part in ("'broken'", "can't import 'nix'", "listen 0.0.0.0:1")] == [True] * 3


def test_a_note_that_nobody_reads_is_a_warning(cli: Any, tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(
        "from tidegate import command\n@command('shop.buy', rate='1/minute')\ndef buy(): 1\n"
    )
    ran = cli("check-config", "--commands", "shop", "--only", "none")
    assert ran.code == 0
    assert "the note 'rate' has no effect without tidegate-validation" in ran.err


def test_print_shows_every_value_and_where_it_comes_from(cli: Any, install: Any, tmp_path: Path) -> None:
    path = install("good", GOOD)
    (tmp_path / "some.toml").write_text('[server]\nthreads = 3\n[plugins.good]\npin = "1234"\n')
    words = ["check-config", "--print", "--config", "some.toml", "--only", "good", "--set", "plugins.good.size=9"]
    told = cli(*words, path=path, env={"TIDEGATE__SERVER__NAME": "quay"})
    rows = [line.split() for line in told.out.splitlines()]
    assert ["server.threads", "3", "some.toml:2"] in rows
    assert ["server.name", '"quay"', "environment"] in rows
    assert ["plugins.good.size", "9", "--set"] in rows
    assert ["server.max_connections", "10000", "default"] in rows
    assert "1234" not in told.out


# --- help, subcommands of plugins, colours --------------------------------------------------------


def test_help_is_grouped_and_tells_the_exit_codes(cli: Any) -> None:
    told = cli("--help").out
    assert [head for head in ("Serve:", "Use a server:", "Look inside:", "Build:") if head in told.splitlines()]
    assert "Exit codes: 0 fine, 1 refused, 2 misused, 3 nobody answers." in told


@pytest.mark.parametrize(
    "name",
    ["serve", "check-config", "call", "shell", "commands", "plugins", "explain", "faults", "plugin new", "completion"],
)
def test_each_subcommand_teaches_by_example(cli: Any, name: str) -> None:
    told = cli(*name.split(), "--help").out
    assert f"tidegate {name}" in told.partition("Options:")[0].partition("\n")[2]


@pytest.mark.parametrize(("typed", "meant"), [("sevre", "serve"), ("check", "check-config")])
def test_a_mistyped_subcommand_is_2_with_the_nearest_name(cli: Any, typed: str, meant: str) -> None:
    ran = cli(typed)
    assert (ran.code, f"did you mean '{meant}'?" in ran.err) == (2, True)


def test_plugins_bring_subcommands(cli: Any, install: Any) -> None:
    path = install("good", GOOD, cli=["sales"])
    assert cli("sales", path=path) == (0, "nothing\n", "")
    assert "Usage: tidegate sales" in cli("sales", "--help", path=path).out
    assert "sales         Say what was sold.\n" in cli("--help", path=path).out


def test_a_subcommand_is_imported_when_it_is_used_and_not_before(cli: Any, install: Any) -> None:
    path = install("good", "raise RuntimeError('imported')\n" + GOOD, cli=["sales"])
    for words in (["version"], ["--help"], ["seles"], ["serve", "--help"]):
        ran = cli(*words, path=path)
        assert "imported" not in ran.out + ran.err
    assert "Say what was sold." in cli("--help", path=path).out
    assert "did you mean 'sales'?" in cli("seles", path=path).err
    ran = cli("sales", path=path)
    told = "Error: subcommand 'sales' of tidegate-good 1.5 failed to import: RuntimeError: imported\n"
    assert ran == (1, "", told)


def test_what_is_no_command_is_refused_as_a_subcommand(cli: Any, install: Any) -> None:
    ran = cli("Good", path=install("good", GOOD, cli=["Good"]))
    assert ran.code == 1
    assert "tidegate_good:Good is <class 'tidegate_good.Good'>, expected a click command" in ran.err


def test_a_plugin_can_not_take_the_place_of_a_subcommand_of_ours(cli: Any, install: Any) -> None:
    path = install("good", GOOD, cli=["version"])
    assert cli("version", path=path).out.startswith("tidegate ")
    told = cli("--help", path=path).err
    assert "warning: without the subcommand 'version' of tidegate-good 1.5: the name is taken" in told


@pytest.mark.parametrize("words", ["--help", "version", "plugins", "faults 1107", "commands", "explain system.ping"])
def test_no_colour_codes_and_no_folded_columns_in_a_pipe(cli: Any, words: str) -> None:
    ran = cli(*words.split(), env={"COLUMNS": "40"})
    assert ran.code == 0
    assert "\x1b" not in ran.out
    if words in ("commands", "explain system.ping"):
        assert max(map(len, ran.out.splitlines())) > 40
