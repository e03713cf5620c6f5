"""Text: which characters a client may send, cleaned and counted as people see it.

What is asked of every text on every call says yes to the ordinary at once; whoever it does not
say yes to is looked at character by character.

Sources: Unicode 17, UAX #9 (bidi controls), UTS #51 (emoji sequences), RFC 5892 appendix A
(joiners), UTS #39 and the "Trojan Source" paper (CVE-2021-42574) for what is done with them.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from typing import Any, NamedTuple

import regex

# Refused in any text: C0 but tab and line ends, DEL, C1, surrogates that stand alone, noncharacters.
_CONTROLS = "\\x00-\\x08\\x0b\\x0c\\x0e-\\x1f\\x7f-\\x9f\\ud800-\\udfff\\ufdd0-\\ufdef" + "".join(
    f"\\U{plane << 16 | 0xFFFE:08x}\\U{plane << 16 | 0xFFFF:08x}" for plane in range(17)
)
_LINES = "\\t\\n\\r\\u2028\\u2029"  # in free text only
# Nobody sees them, and no language needs them; the second line is in use, in certain places.
_INVISIBLE = (
    "\\u034f\\u115f\\u1160\\u17b4\\u17b5\\u180e\\u2060-\\u2065\\u206a-\\u206f\\u3164\\ufeff\\uffa0"
    "\\ufff0-\\ufffb\\U0001bca0-\\U0001bca3\\U0001d173-\\U0001d17a\\U000e0000-\\U000e00ff\\U000e01f0-\\U000e0fff"
)
_JOINERS = "\\u200c\\u200d"
_SELECTORS = "\\ufe00-\\ufe0f\\U000e0100-\\U000e01ef"
_SPACE = "\\u200b"  # between words of scripts that write none
_BIDI = "\\u202a-\\u202e\\u2066-\\u2069"
_MARKS = "\\u200e\\u200f\\u061c"  # of direction
_NAMELESS = "\\u00ad\\u2800\\u00a0\\u1680\\u2000-\\u200a\\u202f\\u205f\\u3000"  # look like a space or like nothing
_DIACRITICS = "\\u0300-\\u036f\\u1ab0-\\u1aff\\u1dc0-\\u1dff\\u20d0-\\u20f0\\ufe20-\\ufe2f"
_MAX_DIACRITICS = 8  # on one letter; Vietnamese, Hebrew and phonetic writing need up to 4
# Letters that join: beyond Latin, Greek, Cyrillic and Armenian, and before the compatibility forms; emoji.
_JOINING = "\\u0590-\\u1fff\\u2190-\\u2bff\\u2e80-\\ud7ff\\uf900-\\ufdcf\\ufe0f\\ufe70-\\ufefc\\U00010000-\\U0003ffff"
_LONG = 4096  # characters; looking at the odd ones in more takes over a millisecond, which is a thread's work
_EASTERN = "\\u0e00-\\u0eff\\u1000-\\u109f\\u1780-\\u17ff\\u19e0-\\u19ff\\ua9e0-\\ua9ff\\uaa60-\\uaa7f"

_IN_PLACE = [
    f"(?<=[{_JOINING}])[{_JOINERS}](?![{_JOINERS}{_MARKS}{_SPACE}{_SELECTORS}])",
    f"(?<=[#*0-9©®\\u2000-\\u200a\\u2010-\\u2027\\u2030-\\ufdff\\ufe30-\\ufefe\\U00010000-\\U0003ffff])[{_SELECTORS}]",
    "\\U0001f3f4[\\U000e0030-\\U000e0039\\U000e0061-\\U000e007a]{3,6}\\U000e007f",  # the flag of Wales
    f"(?<![{_DIACRITICS}])[{_DIACRITICS}]{{1,{_MAX_DIACRITICS}}}",
]
_IN_PLACE_OF_TEXT = [
    *_IN_PLACE,
    f"(?<=[{_EASTERN}]){_SPACE}(?=[{_EASTERN}])",
    f"[{_MARKS}](?![{_MARKS}])",
    "[\\u2066-\\u2068][^\\u2066-\\u2069\\n]*\\u2069",  # an isolate that is closed on its line harms nobody
]
_ODD = _INVISIBLE + _JOINERS + _SELECTORS + _SPACE + _BIDI + _MARKS + _DIACRITICS


class Profile:
    """What one kind of text may hold."""

    def __init__(self, name: str, refused: str, odd: str = "", in_place: Sequence[str] = ()) -> None:
        self.name = name
        self._unusual = re.compile(f"[{refused}{odd}]").search
        allowed = "|".join(f"(?:{pattern})" for pattern in in_place) or "(?!)"
        self._allowed_or_not = re.compile(f"({allowed})|[{refused}{odd}]")

    def plain(self, text: str) -> bool:
        """Whether all of it is allowed."""
        return self._unusual(text) is None or self.first_bad(text) is None

    def quick(self, text: str) -> bool:
        """The same within a millisecond; it may say no to a long text that has unusual characters in place."""
        return self._unusual(text) is None or (len(text) <= _LONG and self.first_bad(text) is None)

    def first_bad(self, text: str) -> int | None:
        """Where the first character is that is not allowed."""
        for match in self._allowed_or_not.finditer(text):
            if match.lastindex is None:
                return match.start()
        return None

    def stripped(self, text: str) -> str:
        """Without the characters that are not allowed."""
        return self._allowed_or_not.sub(lambda match: match[1] or "", text)

    def __repr__(self) -> str:
        return f"<Profile {self.name}>"


PROFILES = {
    "free_text": Profile("free_text", _CONTROLS, _ODD, _IN_PLACE_OF_TEXT),
    "structured": Profile("structured", _CONTROLS, _ODD, _IN_PLACE_OF_TEXT),
    "identifier": Profile("identifier", _CONTROLS + _LINES + _NAMELESS, _ODD, _IN_PLACE),
    "secret": Profile("secret", _CONTROLS + _LINES),  # RFC 8265, OpaqueString: all else may be in a password
}


class Policy(NamedTuple):
    """How the text of one parameter is treated; said in `meta`."""

    profile: str = "free_text"
    clean: str = "refuse"
    nfc: bool = False

    def within(self, meta: Mapping[str, Any]) -> Policy:
        """What holds for a value that says something of its own."""
        given = {key: meta[key] for key in self._fields if key in meta}
        return self._replace(**given) if given else self

    def plain(self) -> Callable[[str], bool]:
        """A function that is true for text which is accepted as it is; see `Profile.quick`."""
        plain = PROFILES[self.profile].quick
        if not self.nfc:
            return plain
        return lambda text: plain(text) and unicodedata.is_normalized("NFC", text)


class Problem(NamedTuple):
    """What is wrong with a text; `path` leads to it."""

    path: tuple[Any, ...]
    type: str
    message: str


class Tree:
    """The policies of a schema, by the path of the value."""

    __slots__ = ("every", "fields", "keys", "policy")

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self.fields: dict[Any, Tree] = {}
        self.every: Tree | None = None  # for the values that `fields` does not name
        self.keys: Policy = Policy("identifier")

    def clean(self, value: Any, problems: list[Problem], path: tuple[Any, ...] = ()) -> Any:
        """The value with its texts cleaned, the same object where nothing changed. Never switches."""
        kind = type(value)
        if kind is str:
            return self._text(value, problems, path)
        if kind is dict:
            return self._object(value, problems, path)
        if kind is list:
            return self._list(value, problems, path)
        return value

    def _text(self, text: str, problems: list[Problem], path: tuple[Any, ...]) -> str:
        if text.isascii() and text.isprintable():
            return text
        profile = PROFILES[self.policy.profile]
        if not profile.plain(text):
            if self.policy.clean != "strip" or self.policy.profile == "secret":
                problems.append(Problem(path, "InvalidCharacters", self._named(profile, text)))
                return text
            text = profile.stripped(text)
        return unicodedata.normalize("NFC", text) if self.policy.nfc else text

    def _named(self, profile: Profile, text: str) -> str:
        place = profile.first_bad(text)
        if self.policy.profile == "secret" or place is None:
            return "control characters are not allowed here"
        return f"{name_of(text[place])} at position {place + 1} is not allowed here"

    def _object(self, value: dict[str, Any], problems: list[Problem], path: tuple[Any, ...]) -> dict[str, Any]:
        cleaned: dict[str, Any] | None = None
        for key, item in value.items():
            if type(key) is str and not (key.isascii() and key.isprintable()) and key not in self.fields:
                profile = PROFILES[self.keys.profile]
                if not profile.plain(key):
                    problems.append(
                        Problem(
                            (*path, profile.stripped(key)),
                            "InvalidCharacters",
                            "the name of this field has characters that are not allowed",
                        )
                    )
                    continue
            new = self.fields.get(key, self.every or self).clean(item, problems, (*path, key))
            if new is not item:
                cleaned = value.copy() if cleaned is None else cleaned
                cleaned[key] = new
        return value if cleaned is None else cleaned

    def _list(self, value: list[Any], problems: list[Problem], path: tuple[Any, ...]) -> list[Any]:
        cleaned: list[Any] | None = None
        for place, item in enumerate(value):
            new = self.fields.get(place, self.every or self).clean(item, problems, (*path, place))
            if new is not item:
                cleaned = value.copy() if cleaned is None else cleaned
                cleaned[place] = new
        return value if cleaned is None else cleaned


def name_of(character: str) -> str:
    """`U+202E RIGHT-TO-LEFT OVERRIDE`."""
    return f"U+{ord(character):04X} {unicodedata.name(character, 'control character')}"


_CLUSTER = regex.compile(r"\X")


def visible(text: str, most: int | None = None) -> int:
    """How many characters a reader sees: extended grapheme clusters (UAX #29). Counts to `most` and no further."""
    if text.isascii() and "\r" not in text:
        return len(text) if most is None else min(len(text), most)
    return sum(1 for _ in islice(_CLUSTER.finditer(text), most))


class Fits:
    """A `check_with` of Cerberus: a text's length as people see it, and in bytes of UTF-8."""

    def __init__(self, min_visible: int = 0, max_visible: int | None = None, max_bytes: int | None = None) -> None:
        self.min_visible = min_visible
        self.max_visible = max_visible
        self.max_bytes = max_bytes

    def problem(self, text: str) -> str | None:
        """What is wrong, in words."""
        if self.max_bytes is not None and len(text) * 4 > self.max_bytes:
            size = len(text.encode("utf-8", "surrogatepass"))
            if size > self.max_bytes:
                return f"at most {self.max_bytes} bytes are allowed, these are {size}"
        # As many characters as code points, at most; only what is longer needs to be counted.
        if self.max_visible is not None and len(text) > self.max_visible:
            seen = visible(text)
            if seen > self.max_visible:
                return f"at most {self.max_visible} characters are allowed, these are {seen}"
        if self.min_visible:
            seen = visible(text, self.min_visible)
            if seen < self.min_visible:
                return f"at least {self.min_visible} characters are expected, these are {seen}"
        return None

    def quick(self, text: str) -> bool:
        """Whether nothing is wrong; it may say no to a text that takes long to count."""
        counts = self.max_visible is not None and len(text) > self.max_visible
        return not (counts and len(text) > _LONG) and self.problem(text) is None

    def source(self, var: str) -> str:
        """A Python expression that is true for the ordinary text of the right length."""
        top = min(n for n in (self.max_visible, self.max_bytes, 1 << 62) if n is not None)
        lines = f" and '\\r' not in {var}" if self.min_visible > 1 else ""  # CR LF is one
        return f"{var}.isascii() and {self.min_visible} <= len({var}) <= {top}{lines}"

    def __call__(self, field: Any, value: Any, error: Callable[..., None]) -> None:
        if type(value) is str and (problem := self.problem(value)) is not None:
            error(field, Worded(problem, "InvalidLength"))

    def __repr__(self) -> str:
        return f"Fits({self.min_visible}, {self.max_visible}, {self.max_bytes})"


class Worded(str):
    """A message for Cerberus that knows its type in the catalogue."""

    type: str

    def __new__(cls, message: str, type: str) -> Worded:
        worded = super().__new__(cls, message)
        worded.type = type
        return worded
