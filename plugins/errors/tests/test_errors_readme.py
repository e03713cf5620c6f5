"""The README says what is so."""

from __future__ import annotations

import re
from pathlib import Path

from tidegate_errors import Errors
from tidegate_errors.settings import SETTINGS

README = (Path(__file__).parents[1] / "README.md").read_text()


def test_every_setting_is_in_the_table_with_its_default():
    section = README.split("## Settings")[1].split("\n## ")[0]
    rows = dict(re.findall(r"^\| `(\w+)` \|\s*`?([\w.]*)`?\s*\|", section, re.MULTILINE))
    assert set(rows) == set(SETTINGS)
    for key, shown in rows.items():
        if shown:
            assert shown == str(SETTINGS[key]["default"]).lower()
    for key in SETTINGS["breaker"]["schema"]:
        assert f"`{key}`" in section


def test_every_command_is_in_the_table(inside):
    server = inside(plugins=["errors"])
    mine = {name for name, command in server.server.commands.items() if isinstance(command.plugin, Errors)}
    assert mine == set(re.findall(r"^\| `((?:errors|breakers)\.\w+)", README, re.MULTILINE))


def test_the_examples_notes_are_taken_and_the_example_does_what_is_said(served):
    blocks = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    source = (
        "def fetch(): return 1\n\ndef reserve(item): return item\n\nfrom tidegate import command\n\n"
        + "\n\n".join(blocks)
    )
    server = served(plugins=["errors"], source=source)
    with server.raw() as client:
        assert client.ask("order.place", {"item": "tea"})["result"] == "tea"
        codes = [client.ask("stock.read", {"item": "tea"})["error"]["data"]["code"] for _ in range(20)]
        assert client.ask("feed.refresh")["result"] == 1
        shared = client.ask("order.place", {"item": "tea"})["error"]["data"]
    assert shared["code"] == 1307, "both use the breaker of that name"
    assert codes[0] == 1306
    assert codes[-1] == 1307
