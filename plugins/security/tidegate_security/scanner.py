"""Finds attacks in texts: a set of patterns for each kind, and points that add up."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from tidegate_security.decode import is_mixed, readings
from tidegate_security.engine import Engine
from tidegate_security.rules import Rule
from tidegate_security.talk import talk

#: Points at which a text is flagged. In an identifier hardly anything is excused.
THRESHOLDS = {"free_text": 10, "structured": 8, "identifier": 4}
MAX_CHARACTERS = 16384  # of a value that are looked at
MAX_READING = 2048  # of each of its other readings
_PADDING = re.compile(r"(?<![\w .,\n])[\w .,\n]{256,}+")

# A text of these characters alone can't be an attack, but for words of SQL: they end the first look, which costs
# 0.2 µs for 100 bytes. Bytes from 0x80 on are letters of other scripts, save the lead bytes of punctuation,
# invisible and fullwidth characters.
_SUSPECT_LEADS = b"\xc2\xcc\xcd\xe1\xe2\xe5\xef\xf3"
# A table: what is plain becomes a letter, so that `data.translate(PLAIN).isalpha()` tells.
PLAIN = bytes(
    ord("a")
    if (chr(b).isalnum() and b < 128) or b in b" .,!?_\n" or (b >= 0x80 and b not in _SUSPECT_LEADS)
    else ord("!")
    for b in range(256)
)
NOTHING_PLAIN = b"!" * 256


def has_words(text: str) -> bool:
    """Whether a text without punctuation may still be something: words of SQL, one long word (maybe base64), or one
    of letters that only look alike."""
    if not text.isascii() and is_mixed(text):
        return True
    size = len(text)
    if size > 15 and size > 24 * (text.count(" ") + 1):
        return True
    lower = text.lower()
    if "select" in lower or "drop " in lower or " by " in lower:
        return True
    return size < 40 and ("or " in lower or "and " in lower)


def shortened(text: str, most: int) -> str:
    """A long text without the inside of its plain stretches; of what is still too long, the head and the tail."""
    if len(text) <= most:
        return text
    text = _PADDING.sub(lambda found: f"{found[0][:120]} {found[0][-120:]}", text)
    return _ends(text, most)


def _ends(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most * 3 // 4]}\n{text[-most // 4 :]}"


class Verdict(NamedTuple):
    """What was found: `score` and `category` of the strongest kind, the ids of its rules, whether it passes the
    profile's threshold."""

    flagged: bool
    category: str | None
    score: int
    rules: tuple[str, ...]


CLEAN = Verdict(False, None, 0, ())


class Scanner:
    """Looks at texts with a set of rules. Pure, without I/O; never raises, never switches. One thread at a time.

    `off`: ids of rules that do not count. `caches`: folders where the compiled rules are kept.
    """

    def __init__(
        self,
        rules: Iterable[Rule],
        thresholds: dict[str, int] | None = None,
        *,
        off: Collection[str] = (),
        caches: Sequence[Path] = (),
    ) -> None:
        self.off = frozenset(off)
        given = list(rules)
        ours = [rule for rule in given if rule.origin == "tidegate"]
        others = [rule for rule in given if rule.origin != "tidegate"]
        self.rules = [*ours, *others]
        self.thresholds = {**THRESHOLDS, **(thresholds or {})}
        # Two automatons: ours takes seconds to compile, and is the same whatever others add.
        engines = [Engine([rule.pattern for rule in ours], caches)]
        if others:
            engines.append(Engine([rule.pattern for rule in others], caches))
        self._matches = engines[0].matches if not others else self._of_both
        self._engines = engines
        self._ours = len(ours)
        self._excuses = frozenset(number for number, rule in enumerate(self.rules) if rule.score < 0)
        #: The bytes of which alone nothing can be made; none where others' rules look for whatever they like.
        self.plain = NOTHING_PLAIN if others else PLAIN

    def scan(self, text: str, profile: str = "free_text") -> Verdict:
        """What is in `text`. `profile`: free_text, structured or identifier; secrets are not for scanning."""
        data = text.encode("utf-8", "surrogatepass")
        if not text or (data.translate(self.plain).isalpha() and not has_words(text)):
            return CLEAN
        return self._look(text, profile)

    def _of_both(self, data: bytes) -> list[int]:
        ours, others = self._engines
        return ours.matches(data) + [self._ours + number for number in others.matches(data)]

    def _look(self, text: str, profile: str) -> Verdict:
        text = shortened(text, MAX_CHARACTERS)
        found = set(self._matches(text.lower().encode("utf-8", "surrogatepass")))
        excuses = self._excuses & found  # count where they stand as they are, and in no other reading
        for other in readings(_ends(text, MAX_READING)):
            found.update(self._matches(other[:MAX_READING].lower().encode("utf-8", "surrogatepass")))
        found -= self._excuses - excuses
        if not found:
            return CLEAN
        rules = [rule for rule in (self.rules[number] for number in found) if rule.id not in self.off]
        return self._judged(text, rules, profile) if rules else CLEAN

    def _judged(self, text: str, found: list[Rule], profile: str) -> Verdict:
        share = talk(text) if profile == "free_text" else 0.0
        excuse = 1.0 if share < 0.4 else 0.5 if share < 0.6 else 0.25
        kinds: dict[str, list[Rule]] = {}
        for rule in found:
            kinds.setdefault(rule.category, []).append(rule)
        totals = {kind: _points(rules, excuse) for kind, rules in kinds.items()}
        category = max(sorted(totals), key=totals.__getitem__)
        if totals[category] <= 0:
            return CLEAN
        rules = sorted((-rule.score, rule.id) for rule in kinds[category] if rule.score > 0)
        score = min(100, int(totals[category]))
        return Verdict(score >= self.thresholds[profile], category, score, tuple(id for _, id in rules))


def _points(rules: list[Rule], excuse: float) -> float:
    """What rules of one kind add up to. Among talk the strongest counts, and the others hardly."""
    full = sum(rule.score for rule in rules if rule.talk or rule.score < 0)
    scores = [rule.score for rule in rules if not rule.talk and rule.score > 0]
    if not scores:
        return full
    if excuse == 1.0:
        return full + sum(scores)
    most = max(scores)
    return full + excuse * (most + 0.25 * (sum(scores) - most))
