"""Skeletons: names that look alike have the same one (UTS #39, section 4)."""

from __future__ import annotations

import re
import unicodedata
from functools import cache
from importlib.resources import files

# Default_Ignorable_Code_Point (DerivedCoreProperties.txt): nobody sees them.
_IGNORABLE = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164"
    "\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufff8\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)


@cache
def _prototypes() -> dict[int, str]:
    """Code point -> what it is confusable with; read when first needed, at the start."""
    found: dict[int, str] = {}
    for line in (files("tidegate_validation") / "confusables.txt").read_text("ascii").splitlines():
        if not line.startswith("#"):
            prototype, _, others = line.partition("<")
            text = "".join(chr(int(code, 16)) for code in prototype.split())
            found.update((int(code, 16), text) for code in others.split())
    return found


def skeleton(text: str) -> str:
    """Not for showing: `skeleton("аdmin") == skeleton("admin")`, though the first has a Cyrillic а."""
    text = _IGNORABLE.sub("", unicodedata.normalize("NFD", text))
    return unicodedata.normalize("NFD", text.translate(_prototypes()))


def key_of(name: str) -> str:
    """Equal for names that look alike in any case: what a table of names should be unique by.

    `I` looks like `l` and is `i` in capitals, so that the three are one here; and `Rn`, `RN`, `m`.
    """
    if name.isascii():
        return name.translate(_ascii_keys())
    return _folded(name)


def _folded(name: str) -> str:
    folded = skeleton(unicodedata.normalize("NFKC", name)).casefold()
    return skeleton(folded).casefold().replace("i", "l")


@cache
def _ascii_keys() -> dict[int, str]:
    return {code: key for code in range(128) if (key := _folded(chr(code))) != chr(code)}


def imitations(names: list[str]) -> str:
    """A pattern that matches, as a whole, exactly the ASCII texts with the key of one of `names`."""
    pieces: dict[str, list[str]] = {}
    for code in range(33, 127):
        pieces.setdefault(key_of(chr(code)), []).append(re.escape(chr(code)))

    @cache
    def rest(key: str) -> str | None:
        if not key:
            return ""
        ways = []
        for piece, characters in pieces.items():
            if piece and key.startswith(piece) and (after := rest(key[len(piece) :])) is not None:
                ways.append(f"[{''.join(characters)}]{after}")
        return f"(?:{'|'.join(ways)})" if len(ways) > 1 else ways[0] if ways else None

    found = [pattern for name in names if (pattern := rest(key_of(name))) is not None]
    return "|".join(found) or "(?!)"
