"""The test kit: a pytest plugin with which a plugin's tests talk to a real server.

Installing `tidegate` makes its fixtures known to pytest:

- `served(…)`: a server in a subprocess, as in production; see `process.Served`.
- `inside(…)`: a server in a thread of this process with its own event loop; see `thread.Inside`.
- `postgres`: a real PostgreSQL; see `cluster.Postgres`.
- `need(command)`: skip the test where a command is missing; with `--require-services` it fails.
- `eventually(fn)`: what `fn` gives once it is true, within a limit.

No module of this package may be called as a fixture is: importing it would hide the fixture.

Nothing here patches the standard library, so it goes with pytest-xdist.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

import pytest

if TYPE_CHECKING:
    from tidegate.testing.cluster import Postgres
    from tidegate.testing.process import Served
    from tidegate.testing.thread import Inside

T = TypeVar("T")

#: How long the kit waits for what should come at once: a busy machine takes its time, and only a failing test waits.
WAIT_S = 30.0


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--require-services",
        action="store_true",
        help="Fail where a test would be skipped for want of a service or a program (as in CI).",
    )


@pytest.fixture(scope="session")
def need(pytestconfig: pytest.Config) -> Callable[..., str]:
    """`need("tmux")` gives the program's path; `need("x", ok=False, why="…")` states any other want."""

    def need(name: str, ok: bool | None = None, why: str = "") -> str:
        path = shutil.which(name) if ok is None else name if ok else None
        if path is not None:
            return path
        reason = why or f"{name} is not on this machine"
        if pytestconfig.getoption("--require-services"):
            pytest.fail(reason)
        pytest.skip(reason)

    return need


@pytest.fixture
def eventually() -> Callable[..., Any]:
    """`eventually(lambda: log.count("x") == 2)`: wait until it is true, at most `timeout` seconds."""
    return wait_until


def wait_until(fn: Callable[[], T], timeout: float = WAIT_S) -> T:
    """What `fn` gives once it is true. Raises AssertionError after `timeout` seconds."""
    end = time.monotonic() + timeout
    while not (value := fn()):
        if time.monotonic() > end:
            raise AssertionError(f"not within {timeout} s: the last value was {value!r}")
        time.sleep(0.005)
    return value


@pytest.fixture
def served(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Served]]:
    """Starts servers in subprocesses; they are stopped, and must end well, after the test."""
    from tidegate.testing.process import Served

    started: list[Served] = []

    def start(config: str = "", **options: Any) -> Served:
        folder = tmp_path_factory.mktemp("served")
        server = Served(folder, config, search=[request.path.parent], **options)
        started.append(server)
        server.start()
        return server

    yield start
    for server in started:
        server.finish()


@pytest.fixture
def inside(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Inside]]:
    """Starts servers in threads of this process."""
    from tidegate.testing.thread import Inside

    started: list[Inside] = []

    def start(config: str = "", **options: Any) -> Inside:
        server = Inside(tmp_path_factory.mktemp("inside"), config, **options)
        started.append(server)
        server.start()
        return server

    yield start
    for server in started:
        server.stop()


@pytest.fixture(scope="session")
def postgres(need: Callable[..., str]) -> Iterator[Postgres]:
    """A running PostgreSQL: `postgres.database()` is the URL of an empty database. Skips where there is none."""
    from tidegate.testing.cluster import Postgres, programs

    found = programs()
    need("postgresql", ok=found is not None, why="PostgreSQL's initdb is not on this machine")
    assert found is not None
    server = Postgres(found)
    yield server
    server.close()
