"""The nearest known name to a mistyped one."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name most like `name`, None if none is near (difflib's ratio of 0.75)."""
    found = get_close_matches(name[:64], list(known), 1, 0.75)
    return found[0] if found else None


def hint(name: str, known: Iterable[str]) -> str:
    """`; did you mean 'room'?` or nothing."""
    near = nearest(name, known)
    return f"; did you mean {near!r}?" if near is not None else ""
