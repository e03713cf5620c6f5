"""Servers with accounts, on SQLite and on PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable

import pytest

#: Hashing that is quick enough for hundreds of accounts.
QUICK = "argon2_memory_kib = 64\nargon2_passes = 1\n"


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request) -> str:
    """Settings of the transactions plugin; a test that asks for it runs on both."""
    if request.param == "sqlite":
        return ""
    return f'url = "{request.getfixturevalue("postgres").database()}"\nupgrade = "always"\nconnect_timeout_s = 60\n'


@pytest.fixture
def settings() -> Callable[..., str]:
    """TOML for a server with accounts."""

    def text(own: str = "", database: str = "", rest: str = "") -> str:
        return f"{rest}\n[plugins.accounts]\n{QUICK}{own}\n[plugins.transactions]\n{database}\n"

    return text


@pytest.fixture
def accounts(served, settings) -> Callable[..., object]:
    """A server with accounts in a subprocess."""

    def start(own: str = "", database: str = "", rest: str = "", **options: object) -> object:
        options.setdefault("plugins", ["accounts", "transactions"])
        return served(config=settings(own, database, rest), **options)

    return start


@pytest.fixture
def server(accounts, database) -> object:
    """A server with accounts at their defaults; a test that asks for it runs on both databases."""
    return accounts(database=database)


@pytest.fixture
def accounts_inside(inside, settings) -> Callable[..., object]:
    """The same in a thread of this process, in virtual time."""

    def start(own: str = "", database: str = "", rest: str = "", **options: object) -> object:
        options.setdefault("plugins", ["accounts", "transactions"])
        return inside(config=settings(own, database, rest), **options)

    return start
