"""Other readings of a text: what is left when URL, HTML, Unicode, escape and base64 layers are taken off."""

from __future__ import annotations

import base64
import binascii
import html
import json
import re
import unicodedata
from collections.abc import Iterator
from urllib.parse import unquote_to_bytes

DEPTH = 3
READINGS = 6  # at most, beside the text itself

# `%04lx` and `%20d` are how C prints numbers.
_PERCENT = re.compile(r"%(?:\d[A-Fa-f]|[A-Fa-f][0-9A-Fa-f]|\d\d(?!(?:\.\d+)?l?l?[duxXioscfeg]\b)|u[0-9A-Fa-f]{4})")
_HEX = re.compile(rb"%((?![01]\d[duxXioscfeg]\b|[01]\d\.\d|20[ds]\b)[0-9A-Fa-f]{2})")
_PERCENT_U = re.compile(r"%u([0-9A-Fa-f]{4})")
_ENTITY = re.compile(r"&#?\w{2,8};?")
_ESCAPE = re.compile(r"\\(?:x([0-9A-Fa-f]{2})|u([0-9A-Fa-f]{4})|u\{([0-9A-Fa-f]{1,6})\})")
# Overlong UTF-8 for . / \ and NUL, which decoders that follow the standard refuse and old servers take.
_OVERLONG = re.compile(rb"\xc0(?=[\xae\xaf\x80])|\xc1(?=[\x9c\x81])|\xe0\x80(?=[\xae\xaf])|\xf0\x80\x80(?=\xaf)")
_OVERLONG_TAIL = {0xAE: b".", 0xAF: b"/", 0x80: b"\0", 0x9C: b"\\", 0x81: b"A"}
_BASE64 = re.compile(r"(?<![\w+/=%.-])[A-Za-z0-9+/_-]{16,4096}={0,2}(?![\w+/=%.-])")
# What a shell drops inside a word: quotes in pairs, backslashes, carets, empty variables. One apostrophe is a word's.
_QUOTES = re.compile(r"""(['"])([\w/]{0,12})\1""")
_MARKS = re.compile(r"[\\^](?![nrt])(?=[\w/?])|\$@|\$\{[a-z]\}", re.IGNORECASE)
# `name=`, `/page?name=` or `https://host/page?name=`, up to its value; and where the next one begins.
_PARAMETER = re.compile(r"(?:(?:https?://)?[\w.:/~%+-]*\?)?[\w.\[\]$%-]{1,40}=")
_NEXT = re.compile(r"&(?=[\w.\[\]$%-]{1,40}=)")
# Letters of Cyrillic and Greek that look like ones of Latin (Unicode TR39, confusables), and a word that has both.
_LOOKALIKES = str.maketrans(
    "аеорсухіјѕһԁԛԝкмтвαοερτυνικχАЕОРСУХІЈЅНКМТВΑΟΕΡΤΥΝΙΚΧΒΗΜ",
    "aeopcyxijshdqwkmtbaoeptuvikxAEOPCYXIJSHKMTBAOEPTYNIKXBHM",
)
_LOOKALIKE = "".join(map(chr, _LOOKALIKES))
_MIXED = re.compile(f"[a-zA-Z][{_LOOKALIKE}]|[{_LOOKALIKE}][a-zA-Z]")
_SHELL = frozenset(";|&`$({")


def readings(text: str) -> Iterator[str]:
    """The other readings of a text, at most READINGS, none twice."""
    seen = {text}
    wave = [text]
    for _ in range(DEPTH):
        following = []
        for one in wave:
            for other in _peeled(one):
                if other not in seen:
                    seen.add(other)
                    following.append(other)
                    yield other
                    if len(seen) > READINGS:
                        return
        if not following:
            return
        wave = following


def _peeled(text: str) -> Iterator[str]:
    if text[:1] in " \t" or text[-1:] in " \t":
        yield text.strip(" \t")
    if "=" in text and (name := _PARAMETER.match(text)) is not None:
        for value in _NEXT.split(text[name.end() :], 2):
            yield value.rpartition("=")[2] if value[:40].count("=") == 1 and _PARAMETER.match(value) else value
    if "+" in text and " " not in text and ("%" in text or "+/" in text or text.count("+") > 1):
        yield text.replace("+", " ")
    if text[:1] in '{["' and text[-1:] in '}]"':
        yield from _inside(text)
    peeled = text
    if "%" in text and _PERCENT.search(text):
        peeled = percent(text)
    if "&" in peeled and _ENTITY.search(peeled):
        if peeled is not text:
            yield peeled
        peeled = html.unescape(peeled)
    if "\\" in peeled and _ESCAPE.search(peeled):
        peeled = _ESCAPE.sub(_character, peeled)
    if not peeled.isascii():
        peeled = plain(peeled)
        if is_mixed(peeled):
            peeled = peeled.translate(_LOOKALIKES)
    if peeled != text:
        yield peeled
    if not _SHELL.isdisjoint(text) and (bare := unhidden(text)) != text:
        yield bare
    found = _BASE64.search(text) if len(text) >= 16 else None
    inside = unbase64(found[0]) if found is not None else None
    if inside is not None:
        yield inside


def _inside(text: str) -> Iterator[str]:
    """The texts in a JSON document, the first few."""
    try:
        waiting = [json.loads(text)]
    except (ValueError, RecursionError):
        return
    left = READINGS
    while waiting and left:
        value = waiting.pop()
        if isinstance(value, str):
            left -= 1
            yield value
        elif isinstance(value, (dict, list)):
            waiting += list(value.values() if isinstance(value, dict) else value)[:16]


def percent(text: str) -> str:
    """Percent-decoding, `%u0041` and overlong UTF-8 included. Never raises."""
    text = _PERCENT_U.sub(lambda m: chr(int(m[1], 16)), text)
    data = text.encode("utf-8", "surrogatepass")
    # What is encoded has no blanks; where there are some, `%08x` and `%20s` are how numbers and texts are printed.
    data = _HEX.sub(lambda m: bytes((int(m[1], 16),)), data) if " " in text else unquote_to_bytes(data)
    if b"\xc0" in data or b"\xc1" in data or b"\xe0\x80" in data or b"\xf0\x80" in data:
        data = _overlong(data)
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data.decode("latin-1")


def _overlong(data: bytes) -> bytes:
    out, at = bytearray(), 0
    for match in _OVERLONG.finditer(data):
        out += data[at : match.start()] + _OVERLONG_TAIL[data[match.end()]]
        at = match.end() + 1
    return bytes(out + data[at:])


def _character(match: re.Match[str]) -> str:
    number = int(match[1] or match[2] or match[3], 16)
    # What controls is left as it is written: people write it so, and it does nothing that way.
    return chr(number) if 32 <= number < 127 or 160 <= number < 0xD800 or 0xFF00 <= number < 0xFFE0 else match[0]


def is_mixed(text: str) -> bool:
    """Whether a letter of Latin stands beside one that only looks like one."""
    return _MIXED.search(text) is not None


def unhidden(text: str) -> str:
    """A text as a shell reads it, without what hides the name of a command from those who look for it."""
    if "'" in text or '"' in text:
        text = _QUOTES.sub(_unquoted, text)
    if "\\" in text or "^" in text or "$" in text:
        text = _MARKS.sub("", text)
    return text


def _unquoted(match: re.Match[str]) -> str:
    """Quotes inside a word go; those around one stay."""
    text, start, end = match.string, match.start(), match.end()
    before = start > 0 and (text[start - 1].isalnum() or text[start - 1] in "/?_")
    after = end < len(text) and (text[end].isalnum() or text[end] in "/?_")
    return match[2] if before or (after and match[2]) else match[0]


def plain(text: str) -> str:
    """Compatibility forms (fullwidth letters, ligatures) as plain ones; what would grow fourfold stays."""
    if unicodedata.is_normalized("NFKC", text):
        return text
    folded = unicodedata.normalize("NFKC", text)
    return folded if len(folded) <= 4 * len(text) else text


def unbase64(token: str) -> str | None:
    """What a token says in base64, if that is readable text."""
    token = token.rstrip("=").replace("-", "+").replace("_", "/")
    if (token.isalpha() and (token.islower() or token.isupper())) or token.isdigit():
        return None
    try:
        data = base64.b64decode(token + "=" * (-len(token) % 4), validate=True)
        text = data.decode()
    except (binascii.Error, ValueError):
        return None
    return text if text.isprintable() or text.replace("\n", "").replace("\r", "").isprintable() else None
