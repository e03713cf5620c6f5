"""Real text passes, tricks don't; what looks alike is known."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tidegate_validation.skeletons import imitations, key_of, skeleton
from tidegate_validation.text import PROFILES, Policy, Tree, visible

MESSAGES = {
    "Latin": "Việt Nam: Chào các bạn! Ça va, Łódź? Þetta reddast…",
    "decomposed Latin": unicodedata.normalize("NFD", "Việt Nam: Chào các bạn! Ça va, Łódź?"),
    "Cyrillic": "Съешь же ещё этих мягких французских булок",
    "Greek": "Ξεσκεπάζω τὴν ψυχοφθόρα βδελυγμία",
    "Arabic": "مرحبا بالعالم، كيف الحال؟ مُحَمَّد",
    "Persian with joiners": "می‌خواهم کتاب‌ها را بخوانم",
    "Hebrew with marks": "שָׁלוֹם עוֹלָם!\u200f (abc)",
    "Devanagari": "नमस्ते दुनिया, क्‍ष श्री‌मान",
    "Tamil": "வணக்கம் உலகம்",
    "Thai": "สวัสดีชาวโลก",
    "Khmer with word breaks": "សួស្តី\u200bពិភពលោក",
    "Chinese": "你好，世界！「李小龍」",
    "Japanese": "こんにちは世界 ｶﾀｶﾅ 葛󠄀城市",
    "Korean": "안녕하세요 세계",
    "Georgian": "გამარჯობა მსოფლიო",
    "Amharic": "ሰላም ልዑል",
    "emoji": "👩‍❤️‍👨 👍🏽 🏳️‍🌈 1️⃣ ☕️ 🇩🇪 🏴󠁧󠁢󠁷󠁬󠁳󠁿 👨‍👩‍👧‍👦",
    "mathematics": "∀x∈ℝ: ⌈x⌉ = −⌊−x⌋, α ∧ ¬β",
    "code": 'for (;;) { printf("%s\\n", x); }\n\tif (a<b && c>d) exit(1);\r\n',
    "mixed directions": "He said \u2067שלום\u2069 and left",
    "harmless though naughty": "'; DROP TABLE users; -- <b>null</b> undefined NaN ../../etc/passwd ${x} {{7*7}} %00 "
    "0x1F 1/0 -1e400 ¯\\_(ツ)_/¯ ﷽",
}

TRICKS = {
    "NUL": "a\x00b",
    "escape": "\x1b[31mred",
    "C1": "a\x85b",
    "lone surrogate": "a\ud800b",
    "noncharacter": "a\ufffeb",
    "right-to-left override": "invoice\u202egpj.exe",
    "unclosed isolate": "a\u2067b",
    "zero width space": "ad\u200bmin",
    "zero width joiner in Latin": "ad\u200dmin",
    "byte order mark": "\ufeffhello",
    "word joiner": "a\u2060b",
    "invisible letters": "a\u3164b",
    "hidden tags": "hi\U000e0068\U000e0069",
    "a run of selectors": "😀\ufe01\ufe02\ufe03",
    "selector on a letter": "a\ufe0f",
    "a run of direction marks": "a\u200e\u200f\u200eb",
    "a tower of marks": "z" + "\u0335\u0301" * 10,
}


@pytest.mark.parametrize("name", MESSAGES)
@pytest.mark.parametrize("profile", ["free_text", "structured", "secret"])
def test_real_text_passes(name, profile):
    text = MESSAGES[name] if profile != "secret" else " ".join(MESSAGES[name].split())
    assert PROFILES[profile].plain(text)
    assert Tree(Policy(profile)).clean(text, problems := []) is text
    assert not problems


@pytest.mark.parametrize("name", TRICKS)
@pytest.mark.parametrize("profile", ["free_text", "structured", "identifier"])
def test_a_trick_is_refused_or_stripped_as_the_schema_says(name, profile):
    problems = []
    Tree(Policy(profile)).clean(TRICKS[name], problems)
    assert [problem.type for problem in problems] == ["InvalidCharacters"]
    stripped = Tree(Policy(profile, "strip")).clean(TRICKS[name], problems := [])
    assert not problems
    assert PROFILES[profile].plain(stripped)
    assert len(stripped) < len(TRICKS[name])


@given(st.text())
def test_what_was_stripped_is_plain_then(text):
    for profile in PROFILES.values():
        once = profile.stripped(text)
        # Taking a character away may bring two others together; the second time there is nothing left to do.
        assert profile.plain(profile.stripped(once))


@given(st.text(alphabet=st.characters(codec="utf-8", categories=["L", "N", "P", "S", "Zs"], max_codepoint=0x2FF)))
def test_ordinary_latin_text_is_free_text(text):
    assert PROFILES["free_text"].plain(text.replace("\u00ad", ""))


def test_text_is_composed_where_the_schema_asks_for_it_and_only_there():
    assert Tree(Policy(nfc=True)).clean("e\u0301", []) == "é"
    assert Tree(Policy()).clean("e\u0301", []) == "e\u0301"


def test_a_secret_is_never_changed_by_stripping_nor_described():
    problems = []
    Tree(Policy("secret", "strip")).clean("hunter2\x00", problems)
    assert problems[0].message == "control characters are not allowed here"


def test_the_names_of_fields_are_looked_at_too():
    problems = []
    Tree(Policy()).clean({"a": {"b\u202e": 1}}, problems)
    assert problems[0].path == ("a", "b")


def test_length_is_what_a_reader_sees():
    assert visible("José") == visible(unicodedata.normalize("NFD", "José")) == 4
    assert visible("👩‍❤️‍👨👍🏽🇩🇪") == 3
    assert visible("a\r\nb") == 3


@pytest.mark.parametrize("other", ["аdmin", "ADMIN", "Admln", "adrnin", "ａｄｍｉｎ", "ad\u200bmin", "𝐚𝐝𝐦𝐢𝐧", "аԁmіn"])
def test_names_that_look_alike_have_one_key(other):
    assert key_of(other) == key_of("admin")


@pytest.mark.parametrize(
    ("one", "other"), [("jane", "janet"), ("José", "Jose"), ("李小龙", "李小龍"), ("anna", "hanna")]
)
def test_names_that_do_not_look_alike_have_two(one, other):
    assert key_of(one) != key_of(other)


@given(st.text(max_size=20))
def test_a_skeleton_is_its_own_skeleton(text):
    assert skeleton(skeleton(text)) == skeleton(text)


@given(st.text(alphabet="adminrolI1|0ADMNRO", max_size=8))
def test_the_quick_pattern_for_protected_names_is_exact_for_ascii(text):
    import re

    names = ["admin", "root", "moderator"]
    expected = key_of(text) in {key_of(name) for name in names}
    assert bool(re.fullmatch(imitations(names), text)) == expected
