"""A server to look at: built as `tidegate serve` would and never started, whatever is wrong with it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tidegate.cli.display import note
from tidegate.cli.options import Configuration
from tidegate.config import ConfigError, Raw
from tidegate.server import Server


class Looked(Server):
    """Goes on without what is broken; `problems` says what that is."""

    def __init__(self, raw: Raw, **options: Any) -> None:
        self.problems: list[str] = []
        super().__init__(raw, **options)

    def refuse(self, problems: Sequence[str]) -> None:
        self.problems += problems


def look(configuration: Configuration) -> Looked:
    """What `configuration` makes of a server. Raises ConfigError."""
    server: Looked = configuration.server(configuration.read(), Looked)
    server.problems += server.life.unsafe()
    return server


def listing(configuration: Configuration) -> Looked:
    """A server to list, for which mistakes are no reason to show nothing: they are told beside it."""
    try:
        server = look(configuration)
        mistakes = server.problems
    except ConfigError as error:
        mistakes = list(map(str, error.problems))
        server = configuration.server(Raw("defaults", {}), Looked)
    for mistake in mistakes:
        note(f"would not start: {mistake}")
    return server
