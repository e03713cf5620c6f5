"""A schema's own patterns: `re` where it is quick whatever the text, else `regex` with a limit of time.

`re` tries one way after the other in which a pattern may fit. Where their number is bounded by what a millisecond is
enough for, nothing needs to be watched. The others are matched by `regex`, which goes by the same syntax, looks at
the clock and lets other threads run meanwhile: for a moment at once, then in a thread, then not at all.
"""

from __future__ import annotations

import re
import time
import warnings
from collections.abc import Callable, Iterable
from functools import lru_cache
from math import inf
from typing import Any, Self

import regex

try:
    from re import _constants as ops  # type: ignore[attr-defined]
    from re import _parser as parser  # type: ignore[attr-defined]
except ImportError:  # they are not public; without them every pattern is watched
    ops = parser = None

_LONGEST = 1 << 16  # characters of a text without `maxlength`: a line has 64 KiB
_MOST = 100_000  # ways; `re` takes 5 to 60 ns for each (Python 3.11)
_AT_ONCE_S = 0.0005


# Plain characters for `re`, and more than that for `regex`: `(?:foo){e<=1}`, `[[:alpha:]]`.
_AMBIGUOUS = re.compile(r"(?<!\\)(?:\\\\)*\{(?!\d*,?\d*\})|\[:\^?\w+:\]")


class TakesTooLong(Exception):
    """Whether the text at `path` fits can't be said in the time that is left."""

    path: tuple[Any, ...] = ()


class Patience:
    """The time that is left for all watched patterns of one document."""

    __slots__ = ("left_s",)

    def __init__(self) -> None:
        self.left_s = 0.25


class Pattern(str):
    """A pattern that Cerberus takes for its text. Raises ValueError.

    `maxlength`: of the texts that are held against it, where their length is looked at before.
    """

    bounded: bool
    #: Whether a whole text fits, within a millisecond; if not `bounded`, it may say no to one that does.
    quick: Callable[[str], Any]

    def __new__(cls, text: str, maxlength: int | None = None) -> Self:
        pattern = super().__new__(cls, text)
        try:
            pattern._usual = re.compile(text)
            pattern.bounded = ways(text, maxlength if isinstance(maxlength, int) else _LONGEST) <= _MOST
            if not pattern.bounded and (found := _AMBIGUOUS.search(text)) is not None:
                raise ValueError(f"it may take long, and {found[0]!r} is ambiguous then; put a \\ before it")
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of syntax that may mean something else one day
                pattern._watched = None if pattern.bounded else regex.compile(text)
        except (re.error, regex.error, OverflowError, RecursionError) as error:
            raise ValueError(f"expected a regular expression, got {text!r}: {error}") from None
        pattern.quick = pattern._usual.fullmatch if pattern.bounded else pattern._at_once
        return pattern

    _usual: re.Pattern[str]
    _watched: Any

    def _at_once(self, text: str) -> bool:
        try:
            return self._watched.fullmatch(text, timeout=_AT_ONCE_S, concurrent=False) is not None
        except TimeoutError:
            return False

    def fits(self, text: str, patience: Patience) -> bool:
        """Whether the whole text fits; a thread's work if it is not `bounded`. Raises TakesTooLong."""
        if self.bounded:
            return self._usual.fullmatch(text) is not None
        if patience.left_s <= 0:
            raise TakesTooLong
        start = time.thread_time()
        try:
            return self._watched.fullmatch(text, timeout=patience.left_s, concurrent=True) is not None
        except TimeoutError:
            raise TakesTooLong from None
        finally:
            patience.left_s -= time.thread_time() - start


@lru_cache(256)
def pattern_of(text: str) -> Pattern:
    """For a rule set of a registry, which nobody looked at before."""
    return Pattern(text)


def ways(pattern: str, length: int) -> float:
    """At most how many ways there are to lay `pattern` over a text of `length` characters; inf: that is not known."""
    return _ways(parser.parse(pattern), length) if parser is not None else inf


def _ways(items: Iterable[tuple[Any, Any]], length: int) -> float:
    product = 1.0
    for op, given in items:
        if op in (ops.MAX_REPEAT, ops.MIN_REPEAT, ops.POSSESSIVE_REPEAT):
            low, high, body = given
            inner, most = _ways(body, length), min(int(high), length)
            if inner == 1:
                product *= max(most - low, 0) + 1
            else:
                product *= 2 * inner**most if most * inner < 1000 else inf
        elif op is ops.BRANCH:
            product *= sum(_ways(branch, length) for branch in given[1])
        elif op is ops.SUBPATTERN:
            product *= _ways(given[3], length)
        elif op in (ops.ASSERT, ops.ASSERT_NOT):
            product *= _ways(given[1], length)
        elif op is ops.ATOMIC_GROUP:
            product *= _ways(given, length)
        elif op not in _ONE_CHARACTER:
            return inf
    return product


_ONE_CHARACTER = {ops.LITERAL, ops.NOT_LITERAL, ops.ANY, ops.IN, ops.AT} if ops is not None else set()
