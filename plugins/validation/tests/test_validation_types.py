"""Each named type and rule: what a client may send, what is refused, and the exact error it sees."""

from __future__ import annotations

import email_validator
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tidegate import command
from tidegate_validation.names import named_types

TYPES = named_types(["admin", "root", "moderator"])
DOCUMENTED = ("username", "room_name", "uuid", "email", "timestamp", "text", "password", "json", "ip", "url")
LONG_URL = "https://example.org/" + "a" * 2029

# type -> accepted (as a pair where it is given in another form), refused with code and message
TABLE = {
    "username": (
        [
            "jo",
            "Jane.Doe",
            "O'Brien",
            "José",
            "李小龙",
            "ひろし",
            "김철수",
            "Åsa-Maj",
            "محمد",
            "Зоя",
            "नेहा",
            "admin",
            "x" * 32,
            ("e\u0301va", "éva"),
        ],
        [
            ("x", 1102, "value: at least 2 characters are expected, these are 1"),
            ("x" * 33, 1102, "value: at most 32 characters are allowed, these are 33"),
            ("jo doe", 1103, "value: letters and digits are expected, with single . _ - or ' between them"),
            ("jo..doe", 1103, "value: letters and digits are expected, with single . _ - or ' between them"),
            ("-jo", 1103, "value: letters and digits are expected, with single . _ - or ' between them"),
            ("jo😀", 1103, "value: letters and digits are expected, with single . _ - or ' between them"),
            ("аdmin", 1103, "value: one word mixes Cyrillic and Latin letters, which can't be told apart by eye"),
            ("Admln", 1108, "value: this looks like 'admin', which is another name"),
            ("r00t", 1108, "value: this looks like 'root', which is another name"),
            ("rnoderator", 1108, "value: this looks like 'moderator', which is another name"),
            ("jo\u200bhn", 1103, "value: U+200B ZERO WIDTH SPACE at position 3 is not allowed here"),
            ("jo\n", 1103, "value: U+000A control character at position 3 is not allowed here"),
            (7, 1113, "value: expected a string, got an integer"),
            (None, 1113, "value: null is not allowed"),
        ],
    ),
    "room_name": (
        ["lobby", "Python для всех", "Café ☕️", "東京タワー", "💬 chat", "C++ & C#", "a", "گفت‌وگو"],
        [
            ("", 1111, "2 fields are wrong"),
            (" lobby", 1101, "value: words with single spaces between them are expected"),
            ("a  b", 1101, "value: words with single spaces between them are expected"),
            ("lоbby", 1103, "value: one word mixes Cyrillic and Latin letters, which can't be told apart by eye"),
            ("a\u00a0b", 1103, "value: U+00A0 NO-BREAK SPACE at position 2 is not allowed here"),
            ("x" * 65, 1102, "value: at most 64 characters are allowed, these are 65"),
        ],
    ),
    "uuid": (
        [
            "0190163d-8694-739b-aea5-966c26f8ad91",
            ("0190163D-8694-739B-AEA5-966C26F8AD91", "0190163d-8694-739b-aea5-966c26f8ad91"),
        ],
        [
            (
                "0190163d8694739baea5966c26f8ad91",
                1101,
                "value: a UUID is expected, such as 0190163d-8694-739b-aea5-966c26f8ad91",
            ),
            (
                "{0190163d-8694-739b-aea5-966c26f8ad91}",
                1101,
                "value: a UUID is expected, such as 0190163d-8694-739b-aea5-966c26f8ad91",
            ),
        ],
    ),
    "email": (
        ["jo@example.org", "jo.doe+chat@mail.example.co.uk", ("Jo@Example.ORG", "Jo@example.org"), "jö@exämple.org"],
        [
            ("jo", 1101, "value: an e-mail address is expected, such as jo@example.org"),
            ("jo@localhost", 1101, "value: an e-mail address is expected, such as jo@example.org"),
            ("jo@@example.org", 1101, "value: an e-mail address is expected, such as jo@example.org"),
            (".jo@example.org", 1101, "value: an e-mail address is expected, such as jo@example.org"),
            ("jo@example.org\n", 1103, "value: U+000A control character at position 15 is not allowed here"),
        ],
    ),
    "timestamp": (
        [
            "2027-01-15T09:30:00Z",
            "2027-01-31T09:30:00.123456+05:45",
            "2028-02-29T00:00:00-08:00",
            "20270115T093000Z",
            "2026-12-31T23:59:60Z",
            "2027-01-15 09:30Z",
        ],
        [
            (text, 1101, "value: a point in time with its offset is expected, such as 2027-01-15T09:30:00Z")
            for text in (
                "2027-01-15",
                "2027-01-15T09:30:00",
                "2027-02-29T00:00:00Z",
                "2027-13-01T00:00:00Z",
                "2027-01-15T24:30:00Z",
                "now",
                "٢٠٢٧-01-15T09:30:00Z",
            )
        ],
    ),
    "text": (
        ["", "hello", "two\nlines\tand a tab", "👩‍❤️‍👨 👍🏽", ("e\u0301", "é")],
        [
            ("a\x00b", 1103, "value: U+0000 control character at position 2 is not allowed here"),
            ("a\u202eb", 1103, "value: U+202E RIGHT-TO-LEFT OVERRIDE at position 2 is not allowed here"),
        ],
    ),
    "password": (
        ["correct horse battery staple", "пароль 李", "p\u200bw", ("e\u0301", "é")],
        [
            ("", 1102, "value: at least 1 characters are expected, these are 0"),
            ("a\nb", 1103, "value: control characters are not allowed here"),
            ("x" * 1025, 1102, "value: at most 1024 bytes are allowed, these are 1025"),
        ],
    ),
    "json": (
        ['{"a": [1, 2, {"b": null}]}', "1", '"text"', '{\n  "a": 1\n}'],
        [
            ("{", 1101, "value: a text that is one JSON value is expected"),
            ("{} {}", 1101, "value: a text that is one JSON value is expected"),
            ("NaN", 1101, "value: a text that is one JSON value is expected"),
            ("[" * 20_000, 1101, "value: this JSON is nested too deep"),
        ],
    ),
    "ip": (
        ["192.0.2.7", "2001:db8::7", ("2001:DB8:0::7", "2001:db8::7"), "::1"],
        [
            (text, 1101, "value: an IP address is expected, such as 192.0.2.7 or 2001:db8::7")
            for text in ("192.0.2", "192.0.2.256", "192.0.2.07", "fe80::1%eth0", "example.org", "1")
        ],
    ),
    "url": (
        [
            "https://example.org/page?q=1#top",
            "http://localhost:8080/",
            "https://exämple.org/",
            "http://[2001:db8::7]/",
            "HTTPS://example.org",
            "https://example.org/%20",
        ],
        [
            (
                "ftp://example.org/",
                1101,
                "value: an http or https address is expected, such as https://example.org/page",
            ),
            (
                "javascript:alert(1)",
                1101,
                "value: an http or https address is expected, such as https://example.org/page",
            ),
            ("https://", 1101, "value: an http or https address is expected, such as https://example.org/page"),
            (
                "https://example.org/a b",
                1101,
                "value: an http or https address is expected, such as https://example.org/page",
            ),
            (
                "https://example.org\\@evil.example/",
                1101,
                "value: an http or https address is expected, such as https://example.org/page",
            ),
            (
                "https://example.org:99999/",
                1101,
                "value: an http or https address is expected, such as https://example.org/page",
            ),
            (
                "https://example.org/%zz",
                1101,
                "value: an http or https address is expected, such as https://example.org/page",
            ),
            ("https://jo:secret@example.org/", 1101, "value: a URL with a user name or password in it is not accepted"),
            (LONG_URL, 1102, "value: at most 2048 bytes are allowed, these are 2049"),
        ],
    ),
}

# rules -> accepted, refused with code and message
RULES = [
    (
        {"type": "integer"},
        [0, -7, 10**20],
        [
            (True, 1113, "value: expected an integer, got true or false"),
            (1.0, 1113, "value: expected an integer, got a fraction"),
            ("1", 1113, "value: expected an integer, got a string"),
        ],
    ),
    (
        {"type": "float"},
        [1, 1.5],
        [
            (False, 1113, "value: expected a number, got true or false"),
            ([], 1113, "value: expected a number, got a list"),
        ],
    ),
    ({"type": "number"}, [1, 1.5], [("x", 1113, "value: expected a number, got a string")]),
    ({"type": "boolean"}, [True, False], [(1, 1113, "value: expected true or false, got an integer")]),
    ({"type": ["string", "integer"]}, ["a", 1], [(1.5, 1113, "value: expected a string or an integer, got a number")]),
    ({"type": "string", "nullable": True}, [None, "a"], [(1, 1113, "value: expected a string, got an integer")]),
    (
        {"type": "string", "minlength": 2, "maxlength": 3},
        ["ab", "李小龙"],
        [
            ("a", 1102, "value: at least 2 characters are expected, got 1"),
            ("abcd", 1102, "value: at most 3 characters are allowed, got 4"),
        ],
    ),
    (
        {"type": "list", "minlength": 1, "maxlength": 2},
        [[1], [1, 2]],
        [
            ([], 1102, "value: at least 1 item is expected, got 0"),
            ([1, 2, 3], 1115, "value: at most 2 items are allowed, got 3"),
        ],
    ),
    ({"type": "string", "empty": False}, ["a"], [("", 1102, "value: must not be empty")]),
    (
        {"type": "string", "regex": "[a-z]+"},
        ["abc"],
        [
            ("Abc", 1101, "value: does not have the expected format"),
            ("abc\n", 1101, "value: does not have the expected format"),
        ],
    ),
    ({"type": "string", "regex": "a|b"}, ["a", "b"], [("ax", 1101, "value: does not have the expected format")]),
    (
        {"type": "integer", "min": 1, "max": 9},
        [1, 9],
        [(0, 1114, "value: at least 1 is expected"), (10, 1114, "value: at most 9 is allowed")],
    ),
    ({"type": "string", "allowed": ["red", "green"]}, ["red"], [("blue", 1108, "value: expected one of red, green")]),
    (
        {"type": "list", "allowed": ["red", "green"]},
        [["red"], []],
        [(["blue"], 1108, "value: expected one of red, green")],
    ),
    ({"type": "string", "forbidden": ["root"]}, ["jo"], [("root", 1108, "value: this value is not allowed")]),
    ({"type": "list", "contains": "a"}, [["a", "b"]], [(["b"], 1108, "value: lacks a")]),
    (
        {"type": "list", "items": [{"type": "string"}, {"type": "integer"}]},
        [["a", 1]],
        [
            (["a"], 1102, "value: exactly 2 items are expected, got 1"),
            (["a", 1, 2], 1115, "value: exactly 2 items are expected, got 3"),
            (["a", "b"], 1113, "1: expected an integer, got a string"),
        ],
    ),
    (
        {"anyof": [{"type": "string"}, {"type": "integer"}]},
        ["a", 1],
        [(1.5, 1113, "value: expected a string or an integer, got a number")],
    ),
    (
        {"anyof": [{"type": "integer", "max": 3}, {"type": "integer", "min": 7}]},
        [1, 9],
        [(5, 1108, "value: fits none of the 2 forms that are allowed")],
    ),
    (
        {"oneof": [{"type": "integer", "max": 5}, {"type": "integer", "min": 3}]},
        [1, 9],
        [(4, 1108, "value: has to fit exactly one of 2 forms, fits 2")],
    ),
    ({"type": "integer", "noneof": [{"min": 3}]}, [1], [(4, 1108, "value: has a form that is not allowed")]),
    (
        {"type": "integer", "allof": [{"min": 3}, {"max": 5}]},
        [4],
        [(9, 1108, "value: has to fit 2 forms at once, fits 1")],
    ),
    (
        {"type": "dict", "valuesrules": {"type": "integer"}},
        [{"a": 1}],
        [({"a": "x"}, 1113, "a: expected an integer, got a string")],
    ),
    (
        {"type": "dict", "keysrules": {"type": "string", "regex": "[a-z]+"}},
        [{"a": 1}],
        [({"A": 1}, 1101, "A: does not have the expected format")],
    ),
    ({"type": "integer", "coerce": int}, [1, ("7", 7)], [("x", 1111, "2 fields are wrong")]),
    ({"type": "string", "readonly": True}, [], [("x", 1108, "value: can't be set")]),
    (
        {"type": "string", "meta": {"max_visible": 2}},
        ["ab", "👩‍❤️‍👨👍🏽"],
        [("abc", 1102, "value: at most 2 characters are allowed, these are 3")],
    ),
    (
        {"type": "string", "meta": {"max_bytes": 6}},
        ["abcdef", "李小"],
        [("李小龙", 1102, "value: at most 6 bytes are allowed, these are 9")],
    ),
    ({"type": "string", "meta": {"clean": "strip"}}, ["ab", ("a\u202eb\x00", "ab"), ("\ufeffhi\u200b", "hi")], []),
]


def echo_of(rules):
    @command("case", params={"value": {"required": True, **rules}})
    def case(value):
        return value

    return case


def looked_at(inside, rules, accepted, refused):
    server = inside(plugins=["validation"], commands=[echo_of(rules)])
    with server.raw() as raw:
        for value in accepted:
            value, expected = value if isinstance(value, tuple) else (value, value)
            assert raw.ask("case", {"value": value}).get("result", "refused") == expected, value
        for value, code, message in refused:
            error = raw.ask("case", {"value": value})["error"]
            assert (error["code"], error["data"]["code"], error["message"]) == (-32602, code, message), value
            assert error["data"]["errors"][0]["field"].startswith("params.value"), value


@pytest.mark.parametrize("name", TABLE)
def test_a_named_type_takes_what_it_says_and_refuses_the_rest_in_these_words(inside, name):
    looked_at(inside, {"meta": {"is": name}}, *TABLE[name])


@pytest.mark.parametrize(("rules", "accepted", "refused"), RULES, ids=[str(row[0])[:60] for row in RULES])
def test_a_rule_takes_what_it_says_and_refuses_the_rest_in_these_words(inside, rules, accepted, refused):
    looked_at(inside, rules, accepted, refused)


def test_every_named_type_of_the_contract_is_in_the_table():
    assert set(TABLE) == set(TYPES) == {*DOCUMENTED}


@settings(max_examples=1000, deadline=None)
@given(st.one_of(st.emails(), st.from_regex(r"\A[a-z0-9.+_-]{1,12}@[a-z0-9.-]{1,20}\.[a-z]{1,10}\Z")))
def test_what_is_taken_for_an_address_at_once_is_one_for_the_library_too(text):
    if TYPES["email"].fast(text):
        assert email_validator.validate_email(text, check_deliverability=False).normalized == text


near = st.sampled_from(
    [
        "2027-02-30T09:30:00Z",
        "192.0.2.7",
        "jane",
        "Admin",
        "lobby 1",
        "https://a.b:80/c?d#e",
        "0190163d-8694-739b-aea5-966c26f8ad91",
    ]
)


@settings(max_examples=2000, deadline=None)
@given(
    st.sampled_from(sorted(TYPES)),
    st.one_of(
        st.text(max_size=12),
        st.builds(lambda t, i, c: t[:i] + c + t[i + 1 :], near, st.integers(0, 40), st.text(max_size=2)),
    ),
)
def test_the_fast_way_of_a_type_agrees_with_the_exact_one(name, text):
    if TYPES[name].fast(text):
        assert TYPES[name].read(text) == text
