"""The command line: `tidegate serve`, `tidegate call`, and the others. Each subcommand is a module of its own."""

from __future__ import annotations

import importlib
import logging
import os
from functools import cached_property
from typing import Any

import click

#: Section -> its subcommands; the module of `check-config` is `check_config`, imported when it is asked for.
_SECTIONS = {
    "Serve": ("serve", "check-config"),
    "Use a server": ("call", "shell"),
    "Look inside": ("commands", "plugins", "explain", "faults", "version"),
    "Build": ("plugin", "completion"),
}
_OURS = tuple(name for names in _SECTIONS.values() for name in names)
CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


class Formatter(click.HelpFormatter):
    """Help with headings and names that stand out; click leaves the colours away in a pipe."""

    def write_heading(self, heading: str) -> None:
        self.write(f"{'':>{self.current_indent}}{click.style(heading + ':', bold=True)}\n")

    def write_dl(self, rows: Any, col_max: int = 30, col_spacing: int = 2) -> None:
        super().write_dl([(click.style(term, fg="cyan"), text) for term, text in rows], col_max, col_spacing)


class Context(click.Context):
    """Without colours where the user wants none (no-color.org); click looks only for a terminal."""

    formatter_class = Formatter

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        if os.environ.get("NO_COLOR"):
            self.color = False


class Group(click.Group):
    """Imports a subcommand's module when it is named, and plugins when it is none of ours."""

    context_class = Context

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*_OURS, *self.brought]

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in _OURS:
            return self.brought.get(name)
        module = name.replace("-", "_")
        command: click.Command = getattr(importlib.import_module(f"tidegate.cli.{module}"), module)
        return command

    @cached_property
    def brought(self) -> dict[str, click.Command]:
        """The subcommands of the installed plugins. A plugin that fails is left out with a warning."""
        from tidegate.registry import find

        found, broken = find(lambda name: True)
        for each in broken:
            _warn(f"without the subcommands of {each}")
        taken: dict[str, click.Command] = {}
        for one in found:
            own = click.Group()
            try:
                if (hook := getattr(one.type, "tidegate_cli", None)) is not None:
                    plugin = one.type()
                    plugin.name = one.name
                    plugin.log = logging.getLogger(f"tidegate.{one.name}")
                    hook(plugin, own)
            except Exception as error:
                _warn(f"without the subcommands of {one}: {type(error).__name__}: {error}")
                continue
            for name, command in own.commands.items():
                if name in _OURS or name in taken:
                    _warn(f"without the subcommand {name!r} of {one}: the name is taken")
                else:
                    taken[name] = command
        return dict(sorted(taken.items()))

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        from tidegate.nearest import hint

        if not ctx.resilient_parsing and args and self.get_command(ctx, args[0]) is None and args[0][:1].isalnum():
            ctx.fail(f"No such command {args[0]!r}{hint(args[0], self.list_commands(ctx))}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        sections = {**_SECTIONS, "Brought by plugins": tuple(self.brought)}
        width = max(map(len, self.list_commands(ctx)))
        for section, names in sections.items():
            commands = [(name, command) for name in names if (command := self.get_command(ctx, name)) is not None]
            if rows := [(f"{name:{width}}", each.get_short_help_str(70)) for name, each in commands if not each.hidden]:
                with formatter.section(section):
                    formatter.write_dl(rows)


@click.group(cls=Group, context_settings=CONTEXT, epilog="Exit codes: 0 fine, 1 refused, 2 misused, 3 nobody answers.")
def tidegate() -> None:
    """Tidegate: a TCP command server for plain Python functions.

    \b
      tidegate serve                          serve what is installed, on 127.0.0.1:7420
      tidegate call system.echo text=hi       call a command, from another terminal
      tidegate COMMAND --help                 more on each, with examples
    """


def _warn(text: str) -> None:
    if "_TIDEGATE_COMPLETE" in os.environ:  # somebody is typing
        return
    from tidegate.cli.display import note

    note(f"warning: {text}")


def main(*args: Any) -> None:
    from tidegate.cli import completion  # noqa: F401  (makes its shells known to click)

    tidegate(*args, prog_name="tidegate")
