"""What a shell offers after Tab, asked as the shells' own scripts ask."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SHOP = '''
from tidegate import command

@command("shop.paint", params={"colour": {"type": "string", "required": True, "allowed": ["red", "green", "grey"]},
                               "gloss": {"type": "boolean"}, "grams": {"type": "integer"}})
def paint(colour, gloss=False, grams=1):
    """Paint it."""
'''


@pytest.fixture
def offered(cli: Any) -> Any:
    """`offered("call", "sys")`: what zsh is told when Tab follows the last word."""

    def ask(*words: str, **env: str) -> dict[str, str]:
        variables = {"COMP_WORDS": " ".join(["tidegate", *words]), "COMP_CWORD": str(len(words)), **env}
        ran = cli(env={"_TIDEGATE_COMPLETE": "zsh_complete", **variables})
        lines = ran.out.splitlines()
        return dict(zip(lines[1::3], lines[2::3], strict=False))

    return ask


@pytest.fixture
def shop(served: Any) -> str:
    return str(served(source=SHOP).addresses[0])


def test_subcommands_are_offered(offered: Any) -> None:
    assert list(offered("che")) == ["check-config"]


def test_the_methods_of_the_server_that_answers_are_offered(offered: Any, shop: str) -> None:
    assert offered("call", "--connect", shop, "shop.") == {"shop.paint": "Paint it."}
    assert offered("call", "shop.", TIDEGATE_CONNECT=shop) == {"shop.paint": "Paint it."}
    assert "shop.paint" in offered("explain", "", TIDEGATE_CONNECT=shop)


def test_the_parameters_that_are_left_and_their_values_are_offered(offered: Any, shop: str) -> None:
    call = ["call", "--connect", shop, "shop.paint"]
    assert list(offered(*call, "")) == ["colour=", "gloss=", "grams="]
    assert list(offered(*call, "colour=red", "g")) == ["gloss=", "grams="]
    assert list(offered(*call, "colour=gr")) == ["colour=green", "colour=grey"]
    assert list(offered(*call, "gloss=")) == ["gloss=true", "gloss=false"]


def test_nothing_is_offered_and_nothing_said_where_no_server_answers(cli: Any, tmp_path: Path) -> None:
    words = {"COMP_WORDS": f"tidegate call --connect unix:{tmp_path}/none s", "COMP_CWORD": "4"}
    ran = cli(env={"_TIDEGATE_COMPLETE": "zsh_complete", **words})
    assert (ran.out.strip(), ran.err) == ("", "")


def test_a_broken_plugin_does_not_disturb_the_line_that_is_typed(cli: Any, install: Any) -> None:
    path = install("broken", "import nothing_of_this_name", cli=["plunge", "version"])
    for line, offered in (("tidegate pl", ["plugins", "plugin", "plunge"]), ("tidegate plunge ", [])):
        words = {"COMP_WORDS": line, "COMP_CWORD": str(line.count(" "))}
        ran = cli(env={"_TIDEGATE_COMPLETE": "zsh_complete", **words}, path=path)
        assert ran.err == ""
        assert all(name in ran.out for name in offered)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_is_one_that_the_shell_reads(cli: Any, need: Any, tmp_path: Path, shell: str) -> None:
    script = tmp_path / "script"
    script.write_text(cli("completion", shell).out)
    assert "_TIDEGATE_COMPLETE" in script.read_text()
    subprocess.run([need(shell), "-n", script], check=True)


def test_bash_completes_where_it_breaks_words_itself(terminal: Any, need: Any, shop: str) -> None:
    """It breaks words at `=` and at the `:` of an address."""
    tidegate = Path(sys.executable).with_name("tidegate")
    bash = terminal(need("bash"), "--norc", env={"PATH": f"{tidegate.parent}:{os.environ['PATH']}"})
    bash.type('eval "$(tidegate completion bash)"; PS1="re""ady> "')
    bash.press("Enter")
    bash.sees("ready>")
    for typed, shown in (
        (f"tidegate call --connect {shop} shop.paint col", "paint colour="),
        ("gree", "colour=green"),
        ("gl", "colour=green gloss="),
        ("t", "gloss=true"),
    ):
        bash.type(typed)
        bash.sees(typed)
        bash.press("Tab")
        bash.sees(shown)
    bash.press("Enter")
    bash.sees("null")
