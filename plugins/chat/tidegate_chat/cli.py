"""`tidegate chat`: the chat's client for the terminal."""

from __future__ import annotations

import os
import sys

import click
from tidegate.cli.options import UNREACHED, refuse
from tidegate.cli.remote import Remote, reason_of, remote


@click.command()
@click.option("--name", metavar="NAME", help="Who you are; else it asks.")
@click.option("--register", is_flag=True, help="Make the account first.")
@remote
def chat(remote: Remote, name: str | None, register: bool) -> None:
    """Chat in the terminal. Rooms, people, live messages, search, invitations.

    It asks for your name and password once; afterwards the session's token, in a file that only you may
    read, lets you in and takes you back in after a lost connection; with --name that of this name.
    /help lists what one can type.

    \b
    Examples:
      tidegate chat --register
      tidegate chat --name grace
      tidegate chat --connect chat.example.org:7420 --tls
    """
    from tidegate.cli.remote import DEFAULT

    from tidegate_chat.terminal.app import App
    from tidegate_chat.terminal.session import Session

    if not sys.stdin.isatty():
        refuse("tidegate chat needs a terminal; for programs there is `tidegate call`")
    given = os.environ.get("TIDEGATE_CHAT_PASSWORD")

    def ask(problem: str | None) -> tuple[str, str, bool]:
        nonlocal given
        if problem is not None:
            click.echo(problem, err=True)
        who = name or click.prompt("Name", err=True)
        password, given = (
            given or click.prompt("Password", hide_input=True, confirmation_prompt=register, err=True),
            None,
        )
        return who, password, register

    if remote.data is not None:
        refuse("over the operator's socket one has no account to chat with; use --connect")
    address = remote.connect or DEFAULT
    try:
        session = Session(address, ask, tls=remote.context(), token=remote.token, name=name, fresh=register)
        session.open()
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--connect") from None
    except OSError as error:
        refuse(f"no chat answers on {address}: {reason_of(error)}", UNREACHED)
    App(session).run()
