"""`tidegate check-config`: everything that is wrong before the server starts."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from tidegate.cli.display import dumped, echo, emit, note, table
from tidegate.cli.options import REFUSED, Configuration, as_json, configured, refuse

if TYPE_CHECKING:
    from tidegate.server import Server


@click.command("check-config")
@configured
@click.option("--print", "printed", is_flag=True, help="Show every setting, and where its value comes from.")
@as_json
def check_config(configuration: Configuration, printed: bool, as_json: bool) -> None:
    """Check a configuration and say every mistake in it.

    Builds the server as `tidegate serve` would, with its plugins and commands, and starts nothing.
    Mistakes exit with 1; warnings, such as a note on a command that nobody reads, do not.

    \b
    Examples:
      tidegate check-config --config etc/tidegate.toml
      tidegate check-config --config etc/tidegate.toml --print
      tidegate check-config --commands shop.commands --json
    """
    from tidegate.cli.look import look
    from tidegate.config import ConfigError

    server: Server | None = None
    try:
        server = look(configuration)
        mistakes = [{"where": "", "key": "", "text": text} for text in server.problems]
    except ConfigError as error:
        mistakes = [problem._asdict() for problem in error.problems]
    warnings = warnings_of(server) if server is not None else []
    rows = settings_of(server) if server is not None and printed else []
    if as_json:
        emit(
            {"ok": not mistakes, "mistakes": mistakes, "warnings": warnings, **({"settings": rows} if printed else {})}
        )
        sys.exit(REFUSED if mistakes else 0)
    if rows:
        table(("key", "value", "from"), [(row["key"], dumped(row["value"]), row["origin"]) for row in rows])
    for warning in warnings:
        note(f"warning: {warning}")
    if mistakes:
        refuse("\n".join(": ".join(part for part in mistake.values() if part) for mistake in mistakes))
    if not printed:
        echo("the configuration is fine")


def warnings_of(server: Server) -> list[str]:
    optional = [each for each in server.registry.broken if not server.raw.core(each.name).required]
    broken = [f"serving without {each}" for each in optional]
    return [*map(str, server.settings.warnings), *server.registry.notices, *broken]


def settings_of(server: Server) -> list[dict[str, Any]]:
    return [{"key": key, "value": value, "origin": origin} for key, value, origin in server.settings.rows()]
