"""Tidegate: a TCP command server that plugins extend.

The public names. Importing this is light: no sockets, no TLS, no database, so that
`tidegate.__main__` can patch the standard library before anything else is loaded.
"""

from __future__ import annotations

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
    from tidegate.client import Client
    from tidegate.server import Server

__all__ = [
    "API",
    "OPERATOR",
    "RINGS",
    "Call",
    "Client",
    "Command",
    "Connection",
    "Event",
    "Fault",
    "FieldError",
    "Key",
    "Leaving",
    "Plugin",
    "Server",
    "Stash",
    "User",
    "command",
    "hookimpl",
]


def __getattr__(name: str) -> Any:
    """`Client` and `Server` are imported when first used."""
    if name == "Client":
        from tidegate.client import Client

        return Client
    if name == "Server":
        from tidegate.server import Server

        return Server
    raise AttributeError(f"module 'tidegate' has no attribute {name!r}")
