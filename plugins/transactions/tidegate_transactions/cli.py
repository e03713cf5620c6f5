"""`tidegate db`: the database of a server, looked at and brought up to date from the command line."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from tidegate.cli.options import REFUSED, Configuration, as_json, configured, refuse, refusing

if TYPE_CHECKING:
    from tidegate_transactions import Transactions
    from tidegate_transactions.schema import State

_data = click.option(
    "--data", type=click.Path(file_okay=False, path_type=Path), metavar="DIR", help="Where everything is written."
)


@click.group()
def db() -> None:
    """The database: upgrade, current, check, backup.

    \b
    Examples:
      tidegate db current --config etc/tidegate.toml
      tidegate db backup --config etc/tidegate.toml /var/backups/tidegate.sqlite
    """


def _subcommand(function: Callable[..., Any]) -> click.Command:
    return db.command()(configured(_data(function)))


@contextmanager
def _plugin(configuration: Configuration, data: Path | None) -> Iterator[Transactions]:
    """The plugin of a server that is built and not started; what the database refuses ends the program."""
    from sqlalchemy.exc import SQLAlchemyError

    with refusing():
        raw = configuration.read({"server.data": str(data) if data else None})
        server = configuration.server(raw)
        try:
            plugin = server.registry.plugins.get("transactions")
            if plugin is None:
                refuse("the transactions plugin is not enabled in this configuration")
            yield plugin
        except (SQLAlchemyError, OSError, ValueError) as error:
            from tidegate_transactions import explain

            fault = explain.fault_of(error)
            refuse(f"{fault} ({fault.log})" if fault is not None else str(error))
        finally:
            server.close()


@_subcommand
def upgrade(configuration: Configuration, data: Path | None) -> None:
    """Bring the tables of all plugins to where this version wants them. In one transaction: all or nothing."""
    from tidegate_transactions import schema

    with _plugin(configuration, data) as plugin:
        all_tables = plugin.all_tables()
        plugin.make_room()
        with schema.changing(plugin.url) as connection:
            before = schema.states(connection, all_tables)
            schema.upgrade(connection, all_tables)
        for state in before:
            click.echo(f"{state.owner}: {'upgraded' if state.behind else 'nothing to do'}")


@_subcommand
@as_json
def current(configuration: Configuration, data: Path | None, as_json: bool) -> None:
    """Show where the tables of each plugin are. And where they should be; exits with 1 when some are behind."""
    from tidegate_transactions import schema

    with _plugin(configuration, data) as plugin:
        all_tables = plugin.all_tables()
        plugin.make_room()
        with schema.changing(plugin.url) as connection:
            states = schema.states(connection, all_tables)
        _show(states, as_json)
        sys.exit(REFUSED if any(state.behind for state in states) else 0)


@_subcommand
def check(configuration: Configuration, data: Path | None) -> None:
    """Compare the database with the code. Says, too, what it can't do well; exits with 1 when something is wrong."""
    from tidegate_transactions import schema

    with _plugin(configuration, data) as plugin:
        all_tables = plugin.all_tables()
        plugin.make_room()
        with schema.changing(plugin.url) as connection:
            states = schema.states(connection, all_tables)
            wrong = [f"{state.owner}: is behind; run `tidegate db upgrade`" for state in states if state.behind]
            if not wrong:
                wrong = schema.differences(connection, all_tables)
        wrong += plugin.store.doubts([tables.metadata for tables in all_tables])
        for text in wrong:
            click.echo(text)
        if wrong:
            sys.exit(REFUSED)
        click.echo("the database is as it should be")


@_subcommand
@click.option("--force", is_flag=True, help="Replace FILE if it is there.")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
def backup(configuration: Configuration, data: Path | None, force: bool, file: Path) -> None:
    """Copy the database to FILE. The copy is consistent and checked; the server may go on meanwhile.

    Of SQLite a database file, of PostgreSQL an archive for pg_restore. FILE appears when it is whole.
    """
    if file.exists() and not force:
        refuse(f"{file} is there already; --force replaces it")
    with _plugin(configuration, data) as plugin:
        plugin.store.backup(file.absolute())
    click.echo(f"{file}: {file.stat().st_size:,} bytes")


def _show(states: list[State], as_json: bool) -> None:
    from tidegate.cli.display import emit, table

    if as_json:
        emit([{**state._asdict(), "behind": state.behind} for state in states])
        return
    table(
        ("plugin", "current", "wanted", "state"),
        [
            (
                state.owner,
                ", ".join(state.current) or "-",
                ", ".join(state.wanted) or "-",
                "behind" if state.behind else "ok",
            )
            for state in states
        ],
    )
