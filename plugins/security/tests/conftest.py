"""A server with security, on which loopback is no exception; and commands in the place of the accounts plugin."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from tidegate import Call, User, command
from tidegate.faults import InvalidCredentials
from tidegate_security import Security

PASSWORDS = {"alice": "wonderland", "bob": "builder", "root": "toor"}
SUSPENDED: list[dict[str, Any]] = []


@command("account.login", always=True)
def login(call: Call, name: str, password: str) -> str:
    peer, server = call.connection.peer, call.server
    if PASSWORDS.get(name) != password:
        server.publish(
            "login.failed",
            **peer,
            name=name,
            known=name in PASSWORDS,
            proof=server.fingerprint(password),
            reason="password",
        )
        raise InvalidCredentials
    roles = frozenset({"user", "admin"} if name == "root" else {"user"})
    call.on_commit(lambda: call.connection.become(User(f"u-{name}", name, roles)))
    call.on_commit(lambda: server.publish("login.succeeded", **call.connection.peer, means="password"))
    return name


@command("account.suspend", requires="admin", scope="security")
def suspend(call: Call, user: str, for_s: float | None = None, reason: str = "") -> bool:
    SUSPENDED.append({"user": user, "for_s": for_s, "reason": reason})
    for connection in list(call.server.sessions.get(user, ())):
        connection.end()
    return True


@command("note.write", requires="user")
def write(text: str) -> str:
    return text


@command("note.named", params={"name": {"type": "string", "required": True, "meta": {"profile": "identifier"}}})
def named(name: str) -> str:
    return name


@command("note.find", params={"filter": {"type": "dict", "required": True}})
def find(filter: dict[str, Any]) -> int:
    return len(filter)


@command(
    "note.secret",
    params={"password": {"type": "string", "required": True, "meta": {"profile": "secret"}}},
)
def secret(password: str) -> int:
    return len(password)


@command("shell.run", honeypot=True)
def honeypot() -> None:
    """Nobody has a reason to call it."""


COMMANDS = [login, suspend, write, named, find, secret, honeypot]

CONFIG = "[server]\nexempt = []\n"


@pytest.fixture
def guarded(inside: Callable[..., Any]) -> Callable[..., Any]:
    """`guarded("mode = 'observe'")`: a server in virtual time; the text goes into [plugins.security]."""

    def start(settings: str = "", listen: str = "", **options: Any) -> Any:
        config = f"{CONFIG}{listen}\n[plugins.security]\n{settings}\n"
        return inside(config, plugins=["security"], **options)

    return start


@pytest.fixture
def shop(inside: Callable[..., Any]) -> Callable[..., Any]:
    """The same with accounts."""

    def start(settings: str = "", **options: Any) -> Any:
        if "max_delay_s" not in settings:  # virtual time stands still while a call is delayed
            settings += "\nmax_delay_s = 0"
        config = f"{CONFIG}\n[plugins.security]\n{settings}\n"
        return inside(config, plugins={"security": Security}, commands=COMMANDS, **options)

    return start


@pytest.fixture
def suspended() -> list[dict[str, Any]]:
    """The suspensions that were asked for."""
    SUSPENDED.clear()
    return SUSPENDED
