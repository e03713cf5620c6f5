"""What several subcommands have in common: their options, refusals and exit codes."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as version_of
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import click

if TYPE_CHECKING:
    from tidegate.config import Raw

F = TypeVar("F", bound=Callable[..., Any])

#: Exit codes: fine, refused (by us or the server), misused (click's own), nobody answers.
FINE, REFUSED, MISUSED, UNREACHED = 0, 1, 2, 3

FILE = click.Path(dir_okay=False, path_type=Path)
FOLDER = click.Path(file_okay=False, path_type=Path)

as_json = click.option("--json", "as_json", is_flag=True, help="JSON for programs, on one line.")


@dataclass
class Configuration:
    """What a server is to be built from: the options of `@configured`."""

    config: Path | None
    sets: tuple[str, ...]
    only: str | None
    without: str | None
    modules: tuple[str, ...]

    def __bool__(self) -> bool:
        """Whether any of the options was given."""
        return any(getattr(self, field.name) not in (None, ()) for field in fields(self))

    def read(self, flags: Mapping[str, object] = {}) -> Raw:
        """The configuration as it stands now. Raises ConfigError."""
        from tidegate.config import read

        return read(self.config, sets=self.sets, flags=flags)

    def server(self, raw: Raw, kind: Any = None) -> Any:
        """A server, or another `kind` of one, built and not started. Raises ConfigError and StartRefused."""
        if kind is None:
            from tidegate.server import Server as kind
        if os.getcwd() not in sys.path:  # `--commands shop.commands` is found where one stands
            sys.path.insert(0, os.getcwd())
        return kind(raw, only=names(self.only), without=names(self.without) or (), commands=self.modules)


def gathering(kind: type, name: str, *options: Callable[[F], F]) -> Callable[[F], F]:
    """A decorator that adds options and hands their values in as one `kind`, under `name`."""
    keys = [field.name for field in fields(kind)]

    def decorate(function: F) -> F:
        @functools.wraps(function)
        def gathered(**given: Any) -> Any:
            values = {key: given.pop(key) for key in keys}
            return function(**{name: kind(**values)}, **given)

        for option in reversed(options):
            gathered = option(gathered)
        return gathered  # type: ignore[return-value]

    return decorate


#: The options of every subcommand that builds a server; handed in as `configuration`.
configured = gathering(
    Configuration,
    "configuration",
    click.option("--config", type=FILE, metavar="FILE", help="The configuration, TOML."),
    click.option("--set", "sets", multiple=True, metavar="KEY=VALUE", help="Set one key: server.drain_timeout_s=5"),
    click.option(
        "--commands", "modules", multiple=True, metavar="MODULE", help="Serve your own module's commands, too."
    ),
    click.option("--only", metavar="NAME,…", help="Load these plugins only; 'none' for none."),
    click.option("--without", metavar="NAME,…", help="Load all plugins but these."),
)


@contextmanager
def refusing() -> Iterator[None]:
    """What a configuration or a plugin has wrong goes to standard error, whole; the exit code is 1."""
    from tidegate.config import ConfigError
    from tidegate.faults import Fault
    from tidegate.registry import StartRefused

    try:
        yield
    except (ConfigError, StartRefused) as error:
        refuse(str(error))
    except Fault as fault:
        refuse(fault.message)


def refuse(text: str, code: int = REFUSED) -> NoReturn:
    """Say why not, and exit."""
    click.echo(text, err=True)
    sys.exit(code)


def names(text: str | None) -> list[str] | None:
    """`a,b` as a list; None stays None."""
    return None if text is None else [name.strip() for name in text.split(",") if name.strip()]


def version() -> str:
    """The installed version of the core."""
    try:
        return version_of("tidegate")
    except PackageNotFoundError:
        return "0"
