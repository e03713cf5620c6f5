"""The command line: `tidegate serve`, `tidegate call`, and the others. Each subcommand is a module of its own."""

from __future__ import annotations

import os
from functools import cached_property
from importlib.metadata import EntryPoint
from typing import Any

import click

from tidegate.cli.subcommand import GROUP, Subcommand, installed

#: Section -> its subcommands; that of `check-config` is `check_config` in the module of this name.
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
    """Imports a subcommand when it is used, and only that one."""

    context_class = Context

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*_OURS, *self.brought]

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in _OURS:
            return self.brought.get(name)
        module = name.replace("-", "_")
        return Subcommand(EntryPoint(name, f"tidegate.cli.{module}:{module}", GROUP))

    @cached_property
    def brought(self) -> dict[str, Subcommand]:
        """The subcommands of installed plugins; of two with one name, and of one with a name of ours, a warning."""
        taken: dict[str, Subcommand] = {}
        for one in map(Subcommand, installed()):
            if one.point.name in _OURS or one.point.name in taken:
                _warn(f"without the {one}: the name is taken")
            else:
                taken[one.point.name] = one
        return taken

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
            if rows := [(f"{name:{width}}", command.get_short_help_str(70)) for name, command in commands]:
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
