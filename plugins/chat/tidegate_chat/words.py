"""Words: how texts are taken apart for searching, alike on every database, and found again in what was said.

Letters are compared without case and without diacritics. Scripts that write no spaces are taken letter by letter.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from typing import NamedTuple

# Thai to Khmer, kana, Han: no spaces between words there.
_SPACELESS = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
)
_WORD = re.compile(rf"[{_SPACELESS}]|(?:(?![{_SPACELESS}])(?:[^\W_]|[\u0300-\u036f]))+")
_ASCII = re.compile(r"[A-Za-z0-9]+")
# A phrase in quotes, or a word; a minus before it excludes, a star after it is for words that begin so.
_TERM = re.compile(r'(-?)(?:"([^"]*)"?|([^\s"]+))')
AROUND = 12  # words of a snippet on each side of what was found


class Word(NamedTuple):
    """A word of a text, in its plain form, and where it stands."""

    plain: str
    start: int
    end: int


class Term(NamedTuple):
    """A part of a query: one word, or several together."""

    words: tuple[str, ...]
    exclude: bool = False
    prefix: bool = False  # the last word only begins so


def words_of(text: str) -> Iterator[Word]:
    """`Größe!` gives `grosse`."""
    if text.isascii():
        for match in _ASCII.finditer(text):
            yield Word(match[0].lower(), match.start(), match.end())
        return
    for match in _WORD.finditer(text):
        plain = unicodedata.normalize("NFKD", unicodedata.normalize("NFKC", match[0]).casefold())
        plain = "".join(letter for letter in plain if letter.isalnum())
        if plain:
            yield Word(plain, match.start(), match.end())


def plain(text: str) -> str:
    """What is indexed: all words in their plain form."""
    if text.isascii():
        return " ".join(_ASCII.findall(text.lower()))
    return " ".join(word.plain for word in words_of(text))


def terms_of(query: str) -> list[Term]:
    """`one "two words" -not begin*` as terms, each once; what has no word in it is left out."""
    found: dict[Term, None] = {}
    for minus, phrase, word in _TERM.findall(query):
        words = tuple(one.plain for one in words_of(phrase or word))
        if words:
            found[Term(words, bool(minus), word.endswith("*"))] = None
    return list(found)


def snippet(text: str, terms: list[Term]) -> tuple[str, list[list[int]]]:
    """A part of a text around what was found, and the places of that in it: `("… say hello", [[6, 11]])`."""
    words = list(words_of(text))
    hits = list(_hits(words, terms))
    first = hits[0] if hits else 0
    start, end = max(0, first - AROUND), min(len(words), first + AROUND + 1)
    cut = words[start].start if start else 0
    to = words[end - 1].end if end < len(words) else len(text)
    head, tail = "… " if start else "", " …" if end < len(words) else ""
    marks: list[list[int]] = []
    before = None
    for hit in hits:
        if hit >= end:
            break
        place = [words[hit].start - cut + len(head), words[hit].end - cut + len(head)]
        if before == hit - 1 and text[words[before].end : words[hit].start].strip() == "":
            marks[-1][1] = place[1]
        else:
            marks.append(place)
        before = hit
    return head + text[cut:to] + tail, marks


def _hits(words: list[Word], terms: list[Term]) -> Iterator[int]:
    """The places of words that a term found, in order, each once; in about the time of one look at each word."""
    wanted = [term for term in terms if not term.exclude]
    beginnings = tuple(term.words[0] for term in wanted if term.prefix and len(term.words) == 1)
    phrases: dict[str, list[Term]] = {}  # by their first word
    for term in wanted:
        if not term.prefix or len(term.words) > 1:
            phrases.setdefault(term.words[0], []).append(term)
    plain = tuple(word.plain for word in words)
    done = 0  # all from the present place to this one were told
    for place, word in enumerate(plain):
        end = place + 1 if word.startswith(beginnings) else 0
        for term in phrases.get(word, ()):
            if place + len(term.words) > end and _fits(plain, place, term):
                end = place + len(term.words)
        yield from range(max(place, done), end)
        done = max(done, end)


def _fits(plain: tuple[str, ...], place: int, term: Term) -> bool:
    """Whether the words from there on are the term's, and there are as many."""
    last = place + len(term.words) - 1
    if not term.prefix:
        return plain[place : last + 1] == term.words
    return last < len(plain) and plain[place:last] == term.words[:-1] and plain[last].startswith(term.words[-1])
