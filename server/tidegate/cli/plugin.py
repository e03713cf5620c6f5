"""`tidegate plugin new`: a plugin's distribution, to start from."""

from __future__ import annotations

import re
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from string import Template

import click

from tidegate.cli.display import echo
from tidegate.cli.options import FOLDER, refuse, version

#: Names that mean something else on the command line, or that would hide what a plugin's module imports.
_TAKEN = ("core", "system", "rpc", "testing", "none", "true", "false", "plugin", "call", "command", "callable", "any")
_NAME = re.compile(r"[a-z][a-z0-9]*(?:[-_][a-z0-9]+)*", re.ASCII)


@click.group()
def plugin() -> None:
    """Start a plugin of your own."""


@plugin.command()
@click.argument("name")
@click.option("--into", type=FOLDER, metavar="DIR", help="Where it is written.  [./tidegate-NAME]")
@click.option("--description", metavar="TEXT", help="One line for its setup.py and README.")
def new(name: str, into: Path | None, description: str | None) -> None:
    """Write a distribution tidegate-NAME that works as it is.

    A setup.py, a package with one command and one decorator, a README, a CHANGELOG, and a test that
    talks to a real server.

    \b
    Examples:
      tidegate plugin new weather
      cd tidegate-weather && pip install -e .[test] && pytest
    """
    check(name)
    words = words_of(name, description)
    into = into or Path(f"tidegate-{words['dashed']}")
    if into.exists() and any(into.iterdir()):
        refuse(f"{into}: expected an empty or a new folder, found files; name another with --into")
    for path, text in pages(words):
        target = into / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")
        echo(str(target))
    echo(f"\nNext: cd {into} && pip install -e '.[test]' && pytest")
    echo(f"Then: tidegate serve, and tidegate call {words['name']}.hello who=Ann")


def check(name: str) -> None:
    """Refuse a name that can't be a plugin's, or is one's already."""
    from tidegate.registry import installed

    if not _NAME.fullmatch(name) or len(name) > 40:
        raise click.BadParameter(
            f"expected small letters, digits and dashes, such as 'weather', got {name!r}", param_hint="NAME"
        )
    short = name.replace("-", "_")
    owners = {point.name: point.dist.name if point.dist else "?" for point in installed()}
    owners |= dict.fromkeys(_TAKEN, "tidegate")
    if short in owners:
        refuse(f"the name {short!r} belongs to {owners[short]}; choose another one")


def words_of(name: str, description: str | None) -> dict[str, str]:
    """What stands for `$name` and the others in the templates."""
    short = name.replace("-", "_")
    return {
        "name": short,
        "dashed": short.replace("_", "-"),
        "class": "".join(part.capitalize() for part in short.split("_")),
        "description": (description or f"A plugin for Tidegate: {short}")
        .rstrip(".")
        .replace('"', "'")
        .replace("\\", "/"),
        "tidegate": version(),
    }


def pages(words: dict[str, str]) -> list[tuple[str, str]]:
    """(path, text) of every file of a new distribution."""
    return sorted(
        (path.removesuffix(".template").replace("NAME", words["name"]), Template(text).substitute(words))
        for path, text in templates(files("tidegate").joinpath("scaffold"))
    )


def templates(folder: Traversable, path: str = "") -> list[tuple[str, str]]:
    found = []
    for entry in folder.iterdir():
        if entry.is_dir():
            found += templates(entry, f"{path}{entry.name}/")
        elif entry.name.endswith(".template"):
            found.append((path + entry.name, entry.read_text(encoding="utf-8")))
    return found
