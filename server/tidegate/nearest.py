"""The nearest known name to a mistyped one."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name most like `name` (difflib's ratio of 0.75), or the only one that begins with it; else None."""
    name, known = name[:64], list(known)
    if found := get_close_matches(name, known, 1, 0.75):
        return found[0]
    longer = [one for one in known if len(name) > 2 and one.startswith(name)]
    return longer[0] if len(longer) == 1 else None


def hint(name: str, known: Iterable[str]) -> str:
    """`; did you mean 'room'?` or nothing."""
    near = nearest(name, known)
    return f"; did you mean {near!r}?" if near is not None else ""
