"""The rules that say what an attack looks like: read, checked, switched on and off."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from tidegate_security.engine import Engine

CATEGORIES = (
    "sqli",
    "xss",
    "cmdi",
    "traversal",
    "nosqli",
    "ldapi",
    "ssti",
    "jndi",
    "xxe",
    "control",
)
FOLDER = Path(__file__).parent / "rules"
MAX_PATTERN = 8000
_FIELDS = {
    "id",
    "category",
    "score",
    "description",
    "pattern",
    "refs",
    "talk",
    "hit",
    "miss",
    "enabled",
}
_MACRO = re.compile(r"<([A-Z]+)>")
_COUNTED = re.compile(r"\{(\d+),(\d+)\}")
_ID = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)+")


class Rule(NamedTuple):
    """One rule. `score` are points: at the profile's threshold a text is flagged. A rule with a negative score
    excuses its category. `talk`: it counts in full where people talk about it, too. `hit` and `miss`: a text that it
    finds, and one much like it that it leaves alone."""

    id: str
    category: str
    score: int
    description: str
    pattern: str
    refs: tuple[str, ...] = ()
    talk: bool = False
    enabled: bool = True
    origin: str = "tidegate"
    hit: str = ""
    miss: str = ""


def built_in() -> list[Rule]:
    """The rules that come with the plugin."""
    macros = tomllib.loads((FOLDER / "macros.toml").read_text("utf-8"))
    rules: list[Rule] = []
    for category in CATEGORIES:
        rules += read(
            tomllib.loads((FOLDER / f"{category}.toml").read_text("utf-8")),
            category,
            macros,
        )
    return rules


def read_file(path: Path) -> list[Rule]:
    """An operator's rules. Raises ValueError, which says which rule of which file is wrong; OSError."""
    try:
        data = tomllib.loads(path.read_text("utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{path}: {error}") from None
    return read(data, str(path), tomllib.loads((FOLDER / "macros.toml").read_text("utf-8")))


def read(data: Mapping[str, Any], origin: str, macros: Mapping[str, str] | None = None) -> list[Rule]:
    """Rules from data `{"category": "sqli", "refs": [...], "rule": [{"id": ..., "pattern": ...}]}`.

    Raises ValueError.
    """
    rows = data.get("rule")
    if not isinstance(rows, list) or not rows:
        raise ValueError(f"{origin}: expected at least one [[rule]]")
    rules = []
    for number, row in enumerate(rows, 1):
        if not isinstance(row, Mapping):
            raise ValueError(f"{origin}: rule {number}: expected a table")
        name = str(row.get("id", f"number {number}"))
        try:
            rules.append(
                _rule(
                    {**{k: data[k] for k in ("category", "refs") if k in data}, **row},
                    macros or {},
                    origin,
                )
            )
        except (ValueError, TypeError, KeyError) as error:
            raise ValueError(f"{origin}: rule {name}: {error}") from None
    return rules


def _rule(row: Mapping[str, Any], macros: Mapping[str, str], origin: str) -> Rule:
    if unknown := row.keys() - _FIELDS:
        raise ValueError(f"unknown keys {sorted(unknown)}")
    for key, kind in (
        ("id", str),
        ("category", str),
        ("score", int),
        ("description", str),
        ("pattern", str),
    ):
        if not isinstance(row.get(key), kind) or isinstance(row[key], bool):
            raise ValueError(f"{key}: expected {kind.__name__}, found {row.get(key)!r}")
    if not _ID.fullmatch(row["id"]):
        raise ValueError("an id is words in lower case joined by hyphens, as in sqli-union-select")
    if row["category"] not in CATEGORIES:
        raise ValueError(f"category: expected one of {', '.join(CATEGORIES)}, found {row['category']!r}")
    if not -100 <= row["score"] <= 100 or row["score"] == 0:
        raise ValueError("a score is between -100 and 100, and not 0")
    pattern = linear(expand(row["pattern"], macros))
    if len(pattern) > MAX_PATTERN:
        raise ValueError(f"the pattern is longer than {MAX_PATTERN} characters")
    if origin not in CATEGORIES:  # ours are compiled by the tests
        try:
            engine = Engine([pattern])
        except ValueError as error:
            raise ValueError(f"pattern: {error}") from None
        for key, found in (("hit", True), ("miss", False)):
            if key in row and bool(engine.matches(str(row[key]).lower().encode())) is not found:
                raise ValueError(f"{key}: the pattern {'does not find' if found else 'finds'} {str(row[key])[:60]!r}")
    return Rule(
        row["id"],
        row["category"],
        row["score"],
        row["description"],
        pattern,
        tuple(row.get("refs", ())),
        bool(row.get("talk", False)),
        bool(row.get("enabled", True)),
        origin if origin not in CATEGORIES else "tidegate",
        str(row.get("hit", "")),
        str(row.get("miss", "")),
    )


def expand(pattern: str, macros: Mapping[str, str]) -> str:
    """A pattern with its macros written out."""
    for _ in range(4):
        pattern, changed = _MACRO.subn(lambda m: macros.get(m[1], m[0]), pattern)
        if not changed:
            break
    return pattern


def linear(pattern: str) -> str:
    """Gaps of more than eight without their upper bound, which multiplies the automaton's states."""

    def gap(match: re.Match[str]) -> str:
        low, high = int(match[1]), int(match[2])
        if high <= 8:
            return match[0]
        return {0: "*", 1: "+"}.get(low, f"{{{low},}}")

    return _COUNTED.sub(gap, pattern)


def chosen(rules: Iterable[Rule], off: Iterable[str] = ()) -> list[Rule]:
    """The rules that are on; of two with one id the later counts, so that an operator may change one of ours."""
    by_id = {rule.id: rule for rule in rules}
    without = set(off)
    return [rule for rule in by_id.values() if rule.enabled and rule.id not in without]
