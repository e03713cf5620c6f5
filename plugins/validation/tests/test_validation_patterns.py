"""A schema's own patterns: none stops the server, whatever the text; and a text's length is looked at first."""

from __future__ import annotations

import re
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tidegate import command
from tidegate_validation.compiler import NotCompiled, compiled
from tidegate_validation.patterns import Patience, Pattern, TakesTooLong
from tidegate_validation.schema import Schema

EVIL = r"(?:[a-z0-9]|\d\d?|[0-9a-f]+)*!"
ENDLESS = "1a" * 12_000 + "!a"
QUICK = [
    *("", "[a-z0-9-]+", "[A-Z]{3}-[0-9]{4}", r"^\+?[0-9]{7,15}$", ".*", "a|b|cd", "(?i:abc)+", r"\bfoo\b", "a++b"),
    *(r"(?>a+)b", r"(?!x)[a-z]*", r"(?<=x)y", r"(ab)*"),
]
WATCHED = [
    *(EVIL, r"(?:a?){30}a{30}", r"(x+x+)+y", r"[a-z]*[a-z]*", r"(?P<q>['\"]).*(?P=q)", r"[a-z]+(?:-[a-z]+)*"),
    *(r"(?=.*\d)(?=.*[a-z]).*", r"[^@]+@[^@]+\.[^@]+", r"(?:\w+\s?)*", r"(a)?(?(1)b|c)+"),
]


@pytest.mark.parametrize("pattern", QUICK)
def test_an_ordinary_pattern_is_known_to_be_quick(pattern):
    assert Pattern(pattern).bounded


@pytest.mark.parametrize("pattern", WATCHED)
def test_what_may_take_long_is_watched(pattern):
    assert not Pattern(pattern).bounded


def test_a_maxlength_makes_more_patterns_quick():
    assert not Pattern(r"\S+@\S+").bounded
    assert Pattern(r"\S+@\S+", 254).bounded
    assert not Pattern(EVIL, 254).bounded


@pytest.mark.parametrize("pattern", [r"(?:\w+\s?)*{e<=1}", r"(?:[[:alpha:]]+\s?)*", r"(a+)+\\{i}"])
@pytest.mark.filterwarnings("ignore:Possible nested set")
def test_what_two_engines_read_differently_is_refused_at_the_start(pattern):
    with pytest.raises(ValueError, match="ambiguous"):
        Pattern(pattern)


def test_an_escaped_brace_is_one_wherever_it_is_matched():
    for pattern in (r"(?:\w+\s?)*\{e\}", r"\{e\}", r"(?:a{,3}b?){1,}"):
        assert Pattern(pattern).fits("{e}" if "e" in pattern else "aab", Patience())


@settings(max_examples=500, deadline=None)
@given(st.sampled_from(WATCHED), st.integers(0, 2**32))
def test_a_watched_pattern_takes_what_pythons_own_takes(pattern, seed):
    chance = Random(seed)
    text = "".join(chance.choice("ab1x-!y@. '\"\ncé") for _ in range(chance.randrange(12)))
    expected = re.fullmatch(pattern, text) is not None
    assert Pattern(pattern).fits(text, Patience()) == expected
    if Pattern(pattern).quick(text):
        assert expected


def test_all_texts_of_a_document_share_one_time():
    """Else a list of them could keep a thread for minutes."""
    schema = Schema({"texts": {"type": "list", "schema": {"type": "string", "regex": EVIL}}})
    with pytest.raises(NotCompiled, match="for many values"):
        compiled(schema)
    text = "1a" * 5000 + "!"
    assert schema.validate({"texts": [text] * 2})[1] == []
    with pytest.raises(TakesTooLong) as late:
        schema.validate({"texts": [text] * 5000})
    assert late.value.path[0] == "texts"
    assert late.value.path[1] > 0
    assert schema.validate({"texts": [text] * 2})[1] == [], "the next document has its own"


def refused(reply):
    error = reply["error"]
    return error["data"]["code"], error["data"]["errors"][0]["field"], error["message"]


def test_a_text_that_a_pattern_never_ends_with_is_refused_and_stops_nobody(inside):
    @command("evil", params={"deep": {"type": "dict", "schema": {"text": {"type": "string", "regex": EVIL}}}})
    def evil(deep):
        return "taken"

    server = inside(plugins=["validation"], commands=[evil], virtual=False)
    slow, quick = server.raw(), server.raw()
    assert slow.ask("evil", [{"text": "12ab!"}])["result"] == "taken"
    assert slow.ask("evil", [{"text": "12ab?"}])["error"]["message"] == "text: does not have the expected format"
    slow.send(b'{"jsonrpc":"2.0","id":1,"method":"evil","params":[{"text":"%s"}]}\n' % ENDLESS.encode())
    assert quick.ask("system.ping")["result"] == "pong"
    assert refused(slow.json()) == (1101, "params.deep.text", "It takes too long to read this text")
    assert server.server.pools["validation"].done == 2, "both that were refused: a thread looked at them"


def test_what_can_not_be_decided_does_not_pass_where_a_pattern_is_forbidden(inside):
    @command("never", params={"text": {"type": "string", "noneof": [{"regex": EVIL}]}})
    def never(text):
        return "taken"

    raw = inside(plugins=["validation"], commands=[never], virtual=False).raw()
    assert raw.ask("never", ["12ab?"])["result"] == "taken"
    assert raw.ask("never", ["12ab!"])["error"]["data"]["code"] == 1108
    assert refused(raw.ask("never", [ENDLESS]))[:2] == (1101, "params.text")


def test_explain_says_that_a_pattern_is_watched(inside):
    @command("evil", params={"text": {"type": "string", "regex": EVIL}})
    def evil(text):
        return "taken"

    layers = inside(plugins=["validation"], commands=[evil]).admin().call("system.explain", method="evil")["layers"]
    said = next(layer["explain"] for layer in layers if layer["plugin"] == "validation")
    assert said == "schema compiled; it has a regex that may take long, which is watched"


# --- long texts ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["username", "room_name", "email", "url"])
def test_a_named_type_has_a_longest_length_whatever_a_schema_says(inside, name):
    @command("case", params={"value": {"meta": {"is": name, "max_visible": 60_000, "max_bytes": 60_000}}})
    def case(value):
        return value

    raw = inside(plugins=["validation"], commands=[case]).raw()
    code, field, message = refused(raw.ask("case", ["a" * 60_000]))
    assert (code, field) == (1102, "params.value")
    assert message == f"value: at most {8192 if name == 'url' else 512} characters are allowed"


def test_only_a_long_text_of_unusual_characters_is_looked_at_in_a_thread(inside):
    @command("say", params={"text": {"type": "string", "meta": {"is": "text", "min_visible": 1}}})
    def say(text):
        return len(text)

    server = inside(plugins=["validation"], commands=[say])
    raw = server.raw()
    family = "👩\u200d❤️\u200d👨"
    for text in ("a" * 60_000, "李" * 9_000, family * 100):
        assert raw.ask("say", [text])["result"] == len(text)
    assert "validation" not in server.server.pools
    assert raw.ask("say", [family * 1000])["result"] == len(family * 1000)
    assert server.server.pools["validation"].done == 1
