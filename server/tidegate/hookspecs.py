"""Every hook, in the order in which a server meets it: the page a plugin author reads.

A plugin implements a hook by defining a method of that name, marked with
`tidegate.hookimpl`, on its subclass of `tidegate.Plugin`. Order is declared
with `ring`, never with `tryfirst` or `trylast` (but see `tidegate_fault`).
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any

import pluggy

if TYPE_CHECKING:
    from tidegate.faults import Fault
    from tidegate.model import Call, Command, Connection, Event, Leaving
    from tidegate.server import Server

#: The number that binds a plugin to a server: the major must be equal, the minor not above the server's.
API = (1, 0)

hookspec = pluggy.HookspecMarker("tidegate")


# --- at load, before anything runs ---------------------------------------------------------------


@hookspec
def tidegate_commands() -> list[Command]:
    """Give commands that are made by code; functions marked with `@command` are found without it.

    When: at load, after `configure`. Raising refuses the start. Cost: once.
    """
    raise NotImplementedError


# --- the call ------------------------------------------------------------------------------------


@hookspec
def tidegate_decorate(command: Command, proceed: Callable[[Call], Any]) -> Callable[[Call], Any] | None:
    """Surround the calls of one command, or return None where there is nothing to do for it.

    When: for each command at start, again after `configure` at a reload. What
    a call passes, outermost first:

    - socket: bytes -> `Connection.serve`
    - codec: bytes -> lines -> requests; positional parameters get their names
    - dispatch: `Server.dispatch(call)`, result or fault, always
        - observe: sees everything, changes nothing
        - guard: knows the address and the method's name
        - identify: learns who it is
        - admit: decides whether they may
        - check: looks at the parameters
        - answer: may answer, or repeat what is inside
        - scope: holds what the command needs
            - the command's own function
    - facts: `call.finished`
    - codec: result -> bytes
    - outbox: all of a read -> one write

    The function returned takes the call and returns what `proceed(call)` returns.
    Refusing is raising a Fault; answering instead is returning without `proceed`;
    a retry is calling `proceed` again; a transaction is a `with` around it.
    A text in its attribute `explain` is shown by `tidegate explain`.
    Raising here refuses the start. Cost: the function runs once per call, keep
    what it adds under 0.25 µs or say what it buys.
    """


# --- the two long lives --------------------------------------------------------------------------


@hookspec
def tidegate_serve(server: Server) -> Generator[None, None, None]:
    """Hold what lives as long as the server: engines, sockets, timers.

    When: the server starts. A generator with one `yield`. Before it: start; the listeners open after the
    last plugin has started. After it: stop; the listeners are drained by then. Innermost ring first, so that
    what others stand on starts first and stops last. Raising before the `yield` refuses the start
    (or leaves the plugin out, with `required = false`); raising after it is logged and stops nobody else.
    May switch. Cost: once.
    """
    raise NotImplementedError


@hookspec
def tidegate_connection(connection: Connection) -> Generator[None, None, None]:
    """Admit or refuse a client, and clean up after it.

    A generator with one `yield`. When: for each connection, after the PROXY
    header if there is one and before TLS. Before the `yield`: raise a Fault to
    refuse the client. After it: the client is gone. Any other exception is
    told by `plugin.failed`; a guard's refuses the client, a watcher's does not. Cost: keep it under 10 µs.
    """
    raise NotImplementedError


@hookspec
def tidegate_forget(leaving: Leaving) -> dict[str, int]:
    """Remove what belongs to `leaving.user`, inside `leaving.call`'s transaction, and say how much: `{"messages": 12}`.

    When: an account is deleted. Raising undoes all of it. May switch.
    """
    raise NotImplementedError


# --- failure and facts ---------------------------------------------------------------------------


@hookspec(firstresult=True)
def tidegate_fault(call: Call) -> Fault | None:
    """Explain `call.error`, which is no fault, to the client; None lets the next plugin answer.

    When: a call raised something that is no Fault; failure path only. Innermost
    ring first: who holds the database explains its exceptions. Who knows of any exception a little says
    `@hookimpl(trylast=True)`, here only, and is asked after all others. Raising counts as None.
    """


@hookspec
def tidegate_event(event: Event) -> None:
    """Count, log, learn from or react to a published fact of a topic in `listens`.

    When: on each `publish`. Never switches. An exception is logged and told by
    `plugin.failed`; no other listener and no call is hurt. Cost: `call.finished` is hot, keep it under 0.2 µs.
    """


@hookspec
def tidegate_gauges() -> dict[str, float]:
    """Say levels by name, `{"connections_open": 12}`; the names get the plugin's in front.

    When: every few seconds, and when somebody asks. Never switches. Cost: keep it under 100 µs.
    """
    raise NotImplementedError
