"""Names and other texts that clients send, checked where no plugin has done it."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable

from tidegate import Server
from tidegate.faults import InvalidCharacters, InvalidLength

_NAME = re.compile(r"[^\W_]+(?:[._'’-][^\W_]+)*")
_CONTROLS = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def name_of(text: str) -> str:
    """A name that somebody may take: 2 to 32 letters and digits, single `. _ - '` between them. Raises a Fault."""
    name = unicodedata.normalize("NFC", text)
    if not 2 <= len(name) <= 32:
        raise InvalidLength("A name has 2 to 32 characters", field="params.name")
    if _NAME.fullmatch(name) is None:
        raise InvalidCharacters(
            "A name has letters and digits, with single . _ - or ' between them", field="params.name"
        )
    return name


def text_of(text: str, field: str, longest: int) -> str:
    """Any text of at most `longest` characters. Raises a Fault."""
    text = unicodedata.normalize("NFC", text).strip()
    if len(text) > longest:
        raise InvalidLength(f"At most {longest} characters", field=f"params.{field}")
    if _CONTROLS.search(text) is not None:
        raise InvalidCharacters(f"{field}: it has control characters", field=f"params.{field}")
    return text


def key_of(name: str) -> str:
    """By this one's name is found, in whatever case and width it is typed."""
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())[:255]


def looks_of(server: Server, name: str) -> str:
    """What names that look alike have in common, if a plugin offers `skeletons`; else the name's key."""
    for _, skeleton in server.offered("skeletons"):
        look: Callable[[str], str] = skeleton
        return look(name)[:255]
    return key_of(name)
