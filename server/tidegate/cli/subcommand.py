"""A subcommand that is imported when it is used; what a listing says of it is read from its source."""

from __future__ import annotations

import ast
from importlib.machinery import PathFinder
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec
from typing import Any

import click

#: Entry points of this group are subcommands of `tidegate`: name = package.module:command.
GROUP = "tidegate.cli"


def installed() -> list[EntryPoint]:
    """The subcommands of all installed distributions, in an order that every run has."""
    return sorted(entry_points(group=GROUP), key=lambda point: (point.name, point.value))


class Subcommand(click.Command):
    """Stands for the command that an entry point names."""

    def __init__(self, point: EntryPoint) -> None:
        super().__init__(point.name)
        self.point = point

    def __str__(self) -> str:
        dist = self.point.dist
        return f"subcommand {self.name!r} of {f'{dist.name} {dist.version}' if dist else 'tidegate'}"

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        """The context of the command itself; from here on click works with that one."""
        try:
            command = self.point.load()
            if not isinstance(command, click.Command):
                raise TypeError(f"{self.point.value} is {command!r}, expected a click command")
        except Exception as error:
            if extra.get("resilient_parsing"):  # somebody is typing: nothing is offered, and nothing said
                return super().make_context(info_name, args, parent, **extra)
            raise click.ClickException(f"{self} failed to import: {type(error).__name__}: {error}") from error
        return command.make_context(info_name, args, parent, **extra)

    def get_short_help_str(self, limit: int = 45) -> str:
        """The first sentence of its docstring."""
        self.help = self.help or docstring(self.point.module, self.point.attr)
        return super().get_short_help_str(limit)


def docstring(module: str, function: str) -> str:
    """A function's docstring, else its module's, else "", read without importing the module or its package."""
    top, *inner = module.split(".")
    spec, name = find_spec(top), top
    for part in inner:
        name = f"{name}.{part}"
        spec = PathFinder.find_spec(name, spec.submodule_search_locations) if spec else None
    if spec is None or spec.origin is None or not spec.origin.endswith(".py"):
        return ""
    with open(spec.origin, "rb") as file:
        tree = ast.parse(file.read())
    defined = (node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == function)
    return ast.get_docstring(next(defined, tree)) or ast.get_docstring(tree) or ""
