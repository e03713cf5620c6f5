"""The scanner by itself: its rules, its collections, its profiles, and the time it may take."""

from __future__ import annotations

import json
import random
import string
import time
import zlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tidegate_security.decode import readings
from tidegate_security.engine import Engine, cache_folders
from tidegate_security.rules import CATEGORIES, MAX_PATTERN, Rule, built_in, chosen, linear, read
from tidegate_security.scanner import THRESHOLDS, Scanner

CORPUS = Path(__file__).parent / "corpus"
RULES = chosen(built_in())
SCANNER = Scanner(RULES, caches=cache_folders())


def lines(folder: str) -> list[tuple[str, str]]:
    """(kind, text) of a collection; the files that end in 2 came after the rules, and half of them was tuned on."""
    found = []
    for path in sorted((CORPUS / folder).iterdir()):
        for line in path.read_text("utf-8").split("\n"):
            if line.strip():
                found.append((path.stem, json.loads(line) if path.suffix == ".jsonl" else line))
    return found


def held_out(text: str) -> bool:
    return zlib.crc32(text.encode("utf-8", "surrogatepass")) & 1 == 1


def flagged(texts: list[str]) -> float:
    """Per cent."""
    return 100 * sum(SCANNER.scan(text).flagged for text in texts) / len(texts)


def test_attacks_that_the_rules_were_written_for_are_found() -> None:
    assert flagged([text for _, text in lines("attacks")]) >= 97


def test_most_attacks_that_the_rules_were_not_tuned_on_are_found() -> None:
    assert flagged([text for _, text in lines("attacks2") if held_out(text)]) >= 85
    assert flagged([text for _, text in lines("attacks3") if held_out(text)]) >= 92


def test_people_who_talk_are_left_alone() -> None:
    assert flagged([text for kind, text in lines("ordinary") if kind != "technical"]) <= 0.3
    assert flagged([text for kind, text in lines("ordinary") if kind == "technical"]) <= 2
    assert flagged([text for _, text in lines("ordinary3") if held_out(text)]) <= 2


def test_colours_of_a_terminal_are_an_attack_on_a_line_and_none_in_a_picture() -> None:
    assert SCANNER.scan("bob\x1b[31m").category == "control"
    assert not SCANNER.scan("\x1b[31m  /\\_/\\\n\x1b[32m ( o.o )\n\x1b[0m").flagged
    assert SCANNER.scan("one\ntwo \x1b]0;title\x07\nthree").flagged


@pytest.mark.parametrize("text", ["1 оr 1=1", "' unіon ѕelect 1,2--", "<ѕсript>alert(1)</script>", "＇ ＯＲ １＝１"])
def test_letters_that_only_look_like_others_hide_nothing(text: str) -> None:
    assert SCANNER.scan(text).flagged


def test_what_excuses_a_text_counts_only_as_it_is_written() -> None:
    assert SCANNER.scan("{{ url_for('static', filename='a.css') }}").flagged is False
    hidden = "%0d%0aSet-Cookie:%20a=b&x=INFO%20started"
    assert SCANNER.scan(hidden).flagged


@pytest.mark.parametrize(
    "text",
    [
        "cash",
        "shell script",
        "DROP TABLE is dangerous",
        "O'Brien",
        "<3",
        "../docs",
        'Traceback (most recent call last):\n  File "shop.py", line 3, in <module>\n    1/0\nZeroDivisionError: x',
        "I can't come; it's late & I'm tired -- sorry!",
        "try sudo apt-get update && sudo apt-get upgrade, then reboot",
        "C'est l'été; qu'est-ce qu'on fait aujourd'hui ?",
        "да ладно)))",
        "今天天气很好，我们去公园吧！（笑）",
        "👨‍👩‍👧‍👦 family & friends 🏳️‍🌈",
        "السلام عليكم ورحمة الله",
    ],
)
def test_ordinary_text_is_ordinary(text: str) -> None:
    assert not SCANNER.scan(text).flagged


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.id)
def test_every_rule_finds_its_example_and_leaves_its_counterexample_alone(rule: Rule) -> None:
    engine = Engine([rule.pattern])
    assert engine.matches(rule.hit.lower().encode())
    assert rule.miss
    assert not engine.matches(rule.miss.lower().encode())


@pytest.mark.parametrize(("key", "text"), [("hit", "something else"), ("miss", "a frobnicator")])
def test_a_rule_that_does_not_do_what_its_examples_say_is_refused(key: str, text: str) -> None:
    row = {"id": "own-x", "category": "cmdi", "score": 5, "description": "x", "pattern": "frobnicat", key: text}
    with pytest.raises(ValueError, match=f"own-x: {key}"):
        read({"rule": [row]}, "test")


def test_rules_have_ids_of_their_own_descriptions_and_references() -> None:
    rules = built_in()
    assert len({rule.id for rule in rules}) == len(rules)
    for rule in rules:
        assert rule.description
        assert rule.refs
        assert rule.category in CATEGORIES
        assert any(ref.startswith(("CWE-", "CVE-", "OWASP-")) for ref in rule.refs)


def test_an_identifier_is_judged_more_strictly_than_a_text() -> None:
    text = "DROP TABLE users"
    assert not SCANNER.scan(text, "free_text").flagged
    assert SCANNER.scan(text, "identifier").flagged


@pytest.mark.parametrize("wrong", ["(a", "(?=a)b", r"(a)\1", "a" * (MAX_PATTERN + 1)])
def test_a_pattern_that_is_not_linear_or_not_right_is_refused(wrong: str) -> None:
    row = {"id": "own-x", "category": "sqli", "score": 5, "description": "x", "pattern": wrong}
    with pytest.raises(ValueError, match="own-x"):
        read({"rule": [row]}, "test")


def test_long_gaps_lose_their_upper_bound() -> None:
    assert linear("a.{0,200}b[^x]{1,60}c\\d{2,4}") == "a.*b[^x]+c\\d{2,4}"


SEEDS = [
    "' or " * 3, "<a " * 5, "../" * 9, "$" + "{" * 9, "(" * 9 + ")" * 9, "select " * 3, "union/**/",
    "%25" * 9, "&lt;" * 5,
    "\\u003c" * 3, "; cat ", "\r\nx:", "{{a" * 3, "`id`|", "on" * 9, "=1" * 9, "A" * 40, "aGVsbG8gd29ybGQ=" * 2,
]  # fmt: skip


@pytest.mark.parametrize("size", [65536])
def test_no_crafted_text_takes_long(size: int) -> None:
    """The aim is 5 ms; a machine under load takes more, so what is asserted is that nothing explodes."""
    noise = random.Random(5)
    texts = [seed * (size // len(seed)) for seed in SEEDS]
    texts += ["".join(noise.choice(SEEDS) for _ in range(size // 8))[:size] for _ in range(5)]
    texts += ["".join(noise.choices("'\"<>(){}[]$%&;|/\\.=*# orandselect", k=size)) for _ in range(5)]
    for text in texts:
        start = time.thread_time()
        SCANNER.scan(text)
        assert time.thread_time() - start < 0.1, text[:40]


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=400))
def test_no_text_makes_it_raise(text: str) -> None:
    for profile in THRESHOLDS:
        SCANNER.scan(text, profile)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from([*SEEDS, "\ud800", "\0", "é", "％２７", "x" * 30]), max_size=30).map("".join))
def test_readings_are_few_and_end(text: str) -> None:
    assert len(list(readings(text))) <= 7
    SCANNER.scan(text)


@given(st.sampled_from([text for _, text in lines("attacks") if text.isascii() and "base64" not in text.lower()]))
@settings(max_examples=100, deadline=None)
def test_what_is_percent_encoded_is_found_as_well(text: str) -> None:
    if not SCANNER.scan(text).flagged or "\\" in text or "%" in text:
        return
    encoded = "".join(c if c in string.ascii_letters + string.digits else f"%{ord(c):02X}" for c in text)
    assert SCANNER.scan(encoded).flagged


def test_compiled_rules_are_kept_and_a_file_that_others_can_write_is_not_taken(tmp_path: Path) -> None:
    few = RULES[:5]
    text = "' or 1=1--"
    fresh = Scanner(few, caches=[tmp_path]).scan(text)
    (kept,) = tmp_path.glob("rules-*.hsdb")
    assert kept.stat().st_mode & 0o077 == 0
    assert Scanner(few, caches=[tmp_path]).scan(text) == fresh
    kept.write_bytes(b"nonsense")
    assert Scanner(few, caches=[tmp_path]).scan(text) == fresh
    kept.chmod(0o666)
    before = kept.stat().st_mtime_ns
    assert Scanner(few, caches=[tmp_path]).scan(text) == fresh
    assert kept.stat().st_mtime_ns != before
    assert kept.stat().st_mode & 0o077 == 0


def test_no_rules_find_nothing() -> None:
    assert Scanner([]).scan("' or 1=1--").flagged is False
