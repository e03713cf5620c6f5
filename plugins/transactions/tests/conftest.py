"""A server with transactions and a small shop, and a database on PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable

import pytest

# A busy machine takes long to connect, which is no news about this plugin.
SETTINGS = 'tables = ["transactions_shop:metadata"]\nconnect_timeout_s = 60\n'


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slow", action="store_true", help="Run the long versions of the bank and the kill tests.")


@pytest.fixture
def slow(request: pytest.FixtureRequest) -> bool:
    return bool(request.config.getoption("--slow", default=False))


@pytest.fixture
def shop(served) -> Callable[..., object]:
    """A server with this plugin and the commands of transactions_shop."""

    def start(settings: str = "", **options: object) -> object:
        config = f"[plugins.transactions]\n{SETTINGS}{settings}\n"
        return served(config=config, plugins=["transactions"], commands=["transactions_shop"], **options)

    return start


@pytest.fixture
def database(postgres) -> str:
    """The URL of an empty database on PostgreSQL."""
    return postgres.database()
