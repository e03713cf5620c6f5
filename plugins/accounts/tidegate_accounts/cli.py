"""`tidegate account`: accounts made on the machine itself, with or without a running server."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from tidegate.cli.display import emit, note
from tidegate.cli.options import FOLDER, Configuration, as_json, configured, refuse, refusing

if TYPE_CHECKING:
    from tidegate_accounts import Accounts


@click.group()
def account() -> None:
    """Accounts: make the first administrator.

    The other commands are the server's own: tidegate call account.list --data data
    """


@account.command()
@click.argument("name")
@click.option("--admin", "role", flag_value="admin", help="An administrator.")
@click.option("--moderator", "role", flag_value="moderator", help="A moderator.")
@click.option("--generate", is_flag=True, help="Make a random password and print it, instead of asking for one.")
@click.option("--data", type=FOLDER, metavar="DIR", help="The server's data folder.  [./data]")
@as_json
@configured
def create(
    configuration: Configuration, name: str, role: str | None, generate: bool, data: Path | None, as_json: bool
) -> None:
    """Make the account NAME. The password is asked for, or read from standard input in a pipe.

    It asks the running server over the operator's socket in its data folder; with no server running it
    writes to the database itself, whose tables must be there (`tidegate db upgrade`, or one start).

    \b
    Examples:
      tidegate account create ada --admin
      tidegate account create ada --admin --generate --config etc/tidegate.toml
    """
    from tidegate import Client, Fault

    given = None if generate else _password()
    with refusing():
        server = configuration.server(configuration.read({"server.data": str(data) if data else None}))
        try:
            plugin: Accounts | None = server.registry.plugins.get("accounts")
            if plugin is None:
                refuse("\n".join(map(str, server.registry.broken)) or "the accounts plugin is not enabled here")
            params = {"name": name, "password": given or "", "role": role or "user"}
            try:
                with Client.operator(server.data) as client:
                    made = client.call("account.create", params)
            except (FileNotFoundError, ConnectionRefusedError):
                made = _written(server, plugin, **params)
            except Fault as fault:
                refuse(fault.message)
            except OSError as error:
                refuse(f"{server.data}: {error.strerror or error}")
        finally:
            server.close()
    if as_json:
        return emit(made)
    note(f"made {made['role']} {made['name']}, {made['id']}")
    if made["password"] is not None:
        click.echo(made["password"])


def _password() -> str:
    if sys.stdin.isatty():
        text: str = click.prompt("Password", hide_input=True, confirmation_prompt=True, err=True)
        return text
    return sys.stdin.readline().rstrip("\n") or refuse("no password on standard input; give one, or --generate")


def _written(server: Any, plugin: Accounts, name: str, password: str, role: str) -> dict[str, Any]:
    """With no server running: into the database that it would use. Raises a Fault; else the program ends."""
    from sqlalchemy import create_engine, insert, inspect, select
    from sqlalchemy.exc import IntegrityError, SQLAlchemyError

    from tidegate_accounts.passwords import check_new, generated
    from tidegate_accounts.tables import users
    from tidegate_accounts.texts import name_of

    name, made = name_of(name), None if password else generated()
    if password:
        check_new(password, name)
    url = server.registry.plugins["transactions"].url
    if url.get_backend_name() == "sqlite" and not Path(str(url.database)).exists():
        refuse(f"there is no database {url.database}; run `tidegate db upgrade` first, or start the server once")
    engine = create_engine(url, hide_parameters=True)
    try:
        if not inspect(engine).has_table(users.name):
            refuse("the database has no accounts yet; run `tidegate db upgrade` first, or start the server once")
        row = plugin.new_row(name=name, password=plugin.passwords.hash(made or password), role=role)
        with engine.begin() as db:
            if db.execute(select(users.c.id).where(users.c.key == row["key"])).first() is not None:
                refuse("This name is taken")
            db.execute(insert(users).values(**row))
    except IntegrityError:
        refuse("This name is taken, or looks like one that is")
    except SQLAlchemyError as error:
        refuse(f"the database can't be written: {type(error).__name__}")
    finally:
        engine.dispose()
    return {"id": row["id"], "name": name, "role": role, "password": made}
