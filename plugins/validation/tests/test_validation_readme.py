"""The README's example, in a server of its own as in production."""

from __future__ import annotations

import re
from pathlib import Path

import tidegate_validation
from tidegate_validation.names import named_types
from tidegate_validation.settings import SETTINGS

README = (Path(__file__).parent.parent / "README.md").read_text()


def test_the_example_answers_as_it_says(served):
    source = re.search(r"```python\n(from tidegate import command.*?)```", README, re.S)
    server = served(plugins=["validation"], source=source[1])
    raw = server.raw()
    assert raw.ask("room.create", {"name": "lobby", "members": ["jane"]})["result"] == {"name": "lobby", "members": 1}
    error = raw.ask("room.create", {"name": "lobby", "members": ["jane", "аdmin"]})["error"]
    assert error["message"] in README
    assert error["data"]["errors"][0]["field"] == "params.members.1"
    with server.admin() as admin:
        layers = admin.call("system.explain", method="room.create")["layers"]
    said = {layer["plugin"]: layer.get("explain") for layer in layers}
    assert said["validation"] == "schema compiled"
    assert said["validation.users"] == "user: 60/minute; caller: 10/minute"


def test_every_setting_and_every_type_is_in_it():
    for name in (*SETTINGS, *named_types([])):
        assert f"`{name}`" in README, name


def test_it_declares_what_it_reads():
    assert tidegate_validation.Validation.reads == {"params", "rate", "cost"}
