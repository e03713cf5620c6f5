"""Names and texts that clients send, checked where no plugin has done it."""

from __future__ import annotations

import re
import unicodedata

from tidegate.faults import InvalidCharacters, InvalidFormat, InvalidLength, ValueOutOfRange

UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_NAME = re.compile(r"\S+(?: \S+)*")
_CONTROLS = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_LINES = re.compile("[\t\n\r\u2028\u2029]")


def name_of(text: str) -> str:
    """The name of a room: words with single spaces, 1 to 64 characters, none that looks like an id. Raises a Fault."""
    name = unicodedata.normalize("NFC", text)
    if not 1 <= len(name) <= 64:
        raise InvalidLength("A room's name has 1 to 64 characters", field="params.name")
    if _CONTROLS.search(name) or _LINES.search(name):
        raise InvalidCharacters("A room's name has no control characters", field="params.name")
    if _NAME.fullmatch(name) is None or UUID.fullmatch(name.lower()):
        raise InvalidFormat("A room's name is words with single spaces between them", field="params.name")
    return name


def text_of(text: str, field: str, longest: int, shortest: int = 0) -> str:
    """Any text of so many characters, without blanks at its ends. Raises a Fault."""
    text = unicodedata.normalize("NFC", text).strip()
    if not shortest <= len(text) <= longest:
        least = f"{shortest} to " if shortest else "at most "
        raise InvalidLength(f"{field}: {least}{longest} characters are expected", field=f"params.{field}")
    if _CONTROLS.search(text) is not None:
        raise InvalidCharacters(f"{field}: it has control characters", field=f"params.{field}")
    return text


def key_of(name: str) -> str:
    """By this a room is found by its name, in whatever case and width it is typed."""
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())[:255]


def limit_of(limit: int, most: int = 200) -> int:
    """Raises ValueOutOfRange."""
    if not 1 <= limit <= most:
        raise ValueOutOfRange(f"A limit is between 1 and {most}", field="params.limit")
    return limit
