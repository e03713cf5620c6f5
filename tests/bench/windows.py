"""A function timed in short windows within one process, and the figures of a bench kept."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any


def seconds(function: Callable[[Any], Any], argument: Any, times: int) -> float:
    """For one call of `function`."""
    numbers = range(times)
    start = time.perf_counter()
    for _ in numbers:
        function(argument)
    return (time.perf_counter() - start) / times


def low(values: list[float]) -> float:
    """The tenth percentile: what it takes when no other program has the core or its caches."""
    return sorted(values)[len(values) // 10]


def keep(figures: object, path: str | None) -> None:
    """Write them where `--json FILE` says, if it was given."""
    if path:
        with open(path, "w") as file:
            json.dump(figures, file, indent=1)
