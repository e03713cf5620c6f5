"""Tidegate: a TCP command server that plugins extend.

The public names. Importing this is light: no sockets, no TLS, no database, so that
`tidegate.__main__` can patch the standard library before anything else is loaded.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from tidegate.faults import Fault, FieldError
from tidegate.hookspecs import API
from tidegate.model import (
    OPERATOR,
    Call,
    Command,
    Connection,
    Event,
    Key,
    Leaving,
    Stash,
    User,
    command,
)
from tidegate.plugin import RINGS, Plugin, hookimpl

if TYPE_CHECKING:
    from tidegate.client import Client, ConnectionLost, Push, Reply
    from tidegate.server import Server

__all__ = [
    "API",
    "OPERATOR",
    "RINGS",
    "Call",
    "Client",
    "Command",
    "Connection",
    "ConnectionLost",
    "Event",
    "Fault",
    "FieldError",
    "Key",
    "Leaving",
    "Plugin",
    "Push",
    "Reply",
    "Server",
    "Stash",
    "User",
    "command",
    "hookimpl",
]


_LATER = {
    **dict.fromkeys(("Client", "ConnectionLost", "Push", "Reply"), "tidegate.client"),
    "Server": "tidegate.server",
}


def __getattr__(name: str) -> Any:
    """The client's names and `Server` are imported when first used."""
    if (module := _LATER.get(name)) is None:
        raise AttributeError(f"module 'tidegate' has no attribute {name!r}")
    return getattr(import_module(module), name)
