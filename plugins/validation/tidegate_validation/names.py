"""The named types: what `meta: {"is": "username"}` and its like accept, and the one form in which they give it.

Each reads a text and gives its canonical form, or says what is wrong. `fast` says at once
that an ordinary text is right and already canonical; it may say no to a right one.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from functools import lru_cache
from typing import Any
from urllib.parse import urlsplit

import email_validator
import msgspec
import regex

from tidegate_validation.skeletons import imitations, key_of
from tidegate_validation.text import Worded


class Refused(ValueError):
    """A text that is not of the type; `type` is of the catalogue."""

    def __init__(self, message: str, type: str = "InvalidFormat") -> None:
        super().__init__(message)
        self.type = type


class NamedType:
    """A type of text. As a rule set it is `rules`, with itself as `coerce` and `check_with`."""

    def __init__(
        self,
        name: str,
        read: Callable[[str], str],
        fast: Callable[[str], Any],
        meta: Mapping[str, Any] | None = None,
        longest: int | None = None,
    ) -> None:
        self.name = name
        self.fast = fast
        self.meta = dict(meta or {})
        self.longest = longest  # characters, whatever a schema says: 64 KiB of a name take 0.2 s to look at
        self._read = read
        self.takes_all = fast is _always  # then only `meta` says something
        # Names come again and again, and those beyond ASCII take 5 µs; at most 4,096 of 256 characters are remembered.
        self._known = lru_cache(4096)(self._exact) if name in ("username", "room_name") else None

    @property
    def rules(self) -> dict[str, Any]:
        return {"type": "string", "coerce": self.canonical, "check_with": self.check, "meta": dict(self.meta)}

    def read(self, text: str) -> str:
        """Its canonical form. Raises Refused."""
        if self.longest is not None and len(text) > self.longest:
            raise Refused(f"at most {self.longest} characters are allowed", "InvalidLength")
        return self._read(text)

    def exact(self, text: str) -> bool:
        """Whether a text is right and canonical."""
        return self._known(text) if self._known is not None and len(text) <= 256 else self._exact(text)

    def _exact(self, text: str) -> bool:
        try:
            return self.read(text) == text
        except Refused:
            return False

    def canonical(self, value: Any) -> Any:
        """For Cerberus' `coerce`; what is wrong stays as it is, and `check` says so."""
        if type(value) is not str:
            return value
        try:
            return self.read(value)
        except Refused:
            return value

    def check(self, field: Any, value: Any, error: Callable[..., None]) -> None:
        """For Cerberus' `check_with`."""
        if type(value) is str:
            try:
                self.read(value)
            except Refused as refused:
                error(field, Worded(str(refused), refused.type))


# --- names of people and rooms ------------------------------------------------------------------------

_WORD = regex.compile(r"[\p{L}\p{M}]+")
_LETTER = r"\p{L}\p{M}*+"
_USERNAME = regex.compile(rf"(?:{_LETTER}|\p{{Nd}})(?:[._'’\-]?(?:{_LETTER}|\p{{Nd}}))*+")
_ROOM_NAME = regex.compile(r"[^\s\p{C}\p{Z}](?: ?(?:[^\s\p{C}\p{Z}]|[\u200c\u200d]|[\U000e0030-\U000e007f]))*+")
_SCRIPT_NAMES = (
    *("Latin", "Cyrillic", "Greek", "Armenian", "Hebrew", "Arabic", "Syriac", "Thaana", "Devanagari", "Bengali"),
    *("Gurmukhi", "Gujarati", "Tamil", "Telugu", "Kannada", "Malayalam", "Sinhala", "Thai", "Lao", "Tibetan"),
    *("Myanmar", "Georgian", "Hangul", "Ethiopic", "Cherokee", "Khmer", "Mongolian", "Hiragana", "Katakana"),
    *("Bopomofo", "Han", "Coptic"),
)
_SCRIPTS = regex.compile("|".join(rf"(?P<{name}>\p{{Script={name}}})" for name in _SCRIPT_NAMES))
# Writing systems of more than one script (UTS #39, "Highly Restrictive").
_TOGETHER = (
    frozenset({"Latin", "Han", "Hiragana", "Katakana"}),
    frozenset({"Latin", "Han", "Bopomofo"}),
    frozenset({"Latin", "Han", "Hangul"}),
)


def one_script(text: str) -> None:
    """Raises Refused where letters of scripts that don't belong together stand in one word."""
    for word in _WORD.findall(text):
        scripts = {match.lastgroup for match in _SCRIPTS.finditer(word)}
        if len(scripts) > 1 and not any(scripts <= together for together in _TOGETHER):
            mixed = " and ".join(sorted(str(script) for script in scripts))
            raise Refused(f"one word mixes {mixed} letters, which can't be told apart by eye", "InvalidCharacters")


def _username(protected: Iterable[str]) -> NamedType:
    """Names of users. What looks like a protected name, and isn't it, is refused."""
    meant = {key_of(name): name.casefold() for name in protected}
    like_one = imitations(list(protected))
    fast = re.compile(rf"(?!(?:{like_one})\Z)[A-Za-z0-9]+(?:[._'-][A-Za-z0-9]+)*").fullmatch

    def read(text: str) -> str:
        if _USERNAME.fullmatch(text) is None:
            raise Refused("letters and digits are expected, with single . _ - or ' between them", "InvalidCharacters")
        one_script(text)
        name = meant.get(key_of(text))
        if name is not None and text.casefold() != name:
            raise Refused(f"this looks like {name!r}, which is another name", "InvalidValue")
        return text

    lengths = {"min_visible": 2, "max_visible": 32, "max_bytes": 128}
    return NamedType("username", read, fast, {"profile": "identifier", "nfc": True, **lengths}, 512)


def _room_name() -> NamedType:
    def read(text: str) -> str:
        if _ROOM_NAME.fullmatch(text) is None:
            raise Refused("words with single spaces between them are expected")
        one_script(text)
        return text

    lengths = {"min_visible": 1, "max_visible": 64, "max_bytes": 256}
    fast = re.compile(r"[!-~]+(?: [!-~]+)*").fullmatch
    return NamedType("room_name", read, fast, {"profile": "identifier", "nfc": True, **lengths}, 512)


# --- things of computers ------------------------------------------------------------------------------

_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")


def _uuid(text: str) -> str:
    if _UUID.fullmatch(lower := text.lower()) is None:
        raise Refused("a UUID is expected, such as 0190163d-8694-739b-aea5-966c26f8ad91")
    return lower


def _email(text: str) -> str:
    try:
        return email_validator.validate_email(text, check_deliverability=False).normalized
    except email_validator.EmailNotValidError:
        # Its own words may quote the address.
        raise Refused("an e-mail address is expected, such as jo@example.org") from None


# The special-use names (RFC 6761 and others) that email-validator refuses, and what is about them; it decides.
_EMAIL = re.compile(
    r"[a-z0-9]+(?:[._+-][a-z0-9]+)*@"
    r"(?:[a-z0-9](?:[a-z0-9]|-(?!-))*(?<!-)\.)+(?!(?:arpa|invalid|local|localhost|onion|test|example|internal|alt)\b)[a-z]{2,24}",
    re.ASCII,
)


def _quick_email(text: str) -> bool:
    return len(text) <= 60 and _EMAIL.fullmatch(text) is not None


_TIMESTAMP = re.compile(
    r"(?!0000)\d{4}-(?:0[1-9]|1[0-2])-(?:0[1-9]|1\d|2[0-8])T(?:[01]\d|2[0-3]):[0-5]\d:[0-5]\d(?:\.\d{1,9})?"
    r"(?:Z|[+-](?:[01]\d|2[0-3]):[0-5]\d)",
    re.ASCII,
)
_ISO = re.compile(
    r"\d{4}-?\d\d-?\d\d[Tt ]\d\d(?::?\d\d(?::?\d\d(?:[.,]\d{1,9})?)?)?(?:[Zz]|[+-]\d\d(?::?\d\d)?)", re.ASCII
)


def _timestamp(text: str) -> str:
    """Day, time and offset; the text stays as it was sent. A leap second is a time (RFC 3339, 5.7)."""
    if _ISO.fullmatch(text) is not None:
        plain = re.sub(r"^(.*[T ]23:?59:?)60", r"\g<1>59", text.upper())
        try:
            datetime.fromisoformat(plain)
        except ValueError:
            pass
        else:
            return text
    raise Refused("a point in time with its offset is expected, such as 2027-01-15T09:30:00Z")


def _ip(text: str) -> str:
    try:
        if "%" not in text:
            return str(ipaddress.ip_address(text))
    except ValueError:
        pass
    raise Refused("an IP address is expected, such as 192.0.2.7 or 2001:db8::7")


_OCTET = r"(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)"
_IPV4 = re.compile(rf"(?:{_OCTET}\.){{3}}{_OCTET}", re.ASCII)

_LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_URL = re.compile(
    rf"https?://{_LABEL}(?:\.{_LABEL})*(?::[1-9]\d{{0,3}})?(?:[/?#](?:[!#$&'()*+,./0-9:;=?@A-Z_a-z~\[\]-]|%[0-9A-Fa-f]{{2}})*)?",
    re.ASCII,
)
_HOST = regex.compile(r"[\p{L}\p{M}\p{Nd}](?:[\p{L}\p{M}\p{Nd}_-]{0,61}[\p{L}\p{M}\p{Nd}])?")
_NOT_IN_URLS = re.compile(r"[\s<>\"{}|\\^`\x00-\x20\x7f]|%(?![0-9A-Fa-f]{2})")


def _url(text: str) -> str:
    """An absolute http or https URL; the text stays as it was sent."""
    refused = Refused("an http or https address is expected, such as https://example.org/page")
    try:
        parts = urlsplit(text)
        port, host = parts.port, parts.hostname
    except ValueError:
        raise refused from None
    if parts.scheme not in ("http", "https") or not host or port == 0 or _NOT_IN_URLS.search(text):
        raise refused
    if "@" in parts.netloc:
        raise Refused("a URL with a user name or password in it is not accepted")
    if "[" in parts.netloc:
        _ip(host)
    elif len(host) > 253 or not all(_HOST.fullmatch(label) for label in host.removesuffix(".").split(".")):
        raise refused
    return text


def _quick_url(text: str) -> bool:
    return len(text) <= 253 and _URL.fullmatch(text) is not None


def _json(text: str) -> str:
    """A text that is one JSON value; it stays as it was sent."""
    try:
        msgspec.json.decode(text)
    except RecursionError:
        raise Refused("this JSON is nested too deep") from None
    except (msgspec.DecodeError, UnicodeEncodeError):
        raise Refused("a text that is one JSON value is expected") from None
    return text


def _as_it_is(text: str) -> str:
    return text


def _always(text: str) -> bool:
    return True


def _never(text: str) -> bool:
    return False


def named_types(protected: Iterable[str]) -> dict[str, NamedType]:
    """The types that `meta.is` may name, beside those that plugins offer."""
    types = [
        _username(tuple(protected)),
        _room_name(),
        NamedType("uuid", _uuid, _UUID.fullmatch, {"profile": "identifier"}),
        NamedType("email", _email, _quick_email, {"profile": "identifier", "max_bytes": 254}, 512),
        NamedType("timestamp", _timestamp, _TIMESTAMP.fullmatch, {"profile": "identifier", "max_bytes": 40}),
        NamedType("text", _as_it_is, _always, {"nfc": True}),
        NamedType(
            "password", _as_it_is, _always, {"profile": "secret", "nfc": True, "min_visible": 1, "max_bytes": 1024}
        ),
        NamedType("json", _json, _never, {"profile": "structured"}),
        NamedType("ip", _ip, _IPV4.fullmatch, {"profile": "identifier", "max_bytes": 45}),
        NamedType("url", _url, _quick_url, {"profile": "identifier", "max_bytes": 2048}, 8192),
    ]
    return {named.name: named for named in types}
