"""A mistake in a configuration: where it is, and what was expected there."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import NamedTuple

Keys = tuple[str, ...]


class Problem(NamedTuple):
    """One mistake: `etc/tidegate.toml:14`, `server.threads`, `expected integer, got 'five'`."""

    where: str
    key: str
    text: str

    def __str__(self) -> str:
        return ": ".join(part for part in self if part)


class ConfigError(Exception):
    """All mistakes at once, those of the file by line; as text one line each."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = sorted(problems, key=_by_line)
        super().__init__("\n".join(map(str, self.problems)))


def _by_line(problem: Problem) -> tuple[bool, str, int, str]:
    name, colon, line = problem.where.rpartition(":")
    if colon and line.isdecimal():
        return (False, name, int(line), problem.key)
    return (True, problem.where, 0, problem.key)


def dotted(keys: Keys) -> str:
    """`plugins."security.threats".ring`, as in TOML."""
    return ".".join(key if re.fullmatch(r"[\w-]+", key) else json.dumps(key) for key in keys)
