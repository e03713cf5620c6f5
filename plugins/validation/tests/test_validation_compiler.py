"""The compiled check against Cerberus: generated schemas, generated documents, and what must be so for each pair.

`TG_PAIRS=1000000 pytest plugins/validation/tests/test_validation_compiler.py -k generated` runs as many as wanted.
"""

from __future__ import annotations

import os
import warnings
from collections import Counter
from copy import deepcopy
from random import Random
from typing import Any

import pytest
from cerberus import TypeDefinition, Validator
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from tidegate_validation.compiler import NotCompiled, compiled
from tidegate_validation.names import named_types
from tidegate_validation.schema import Schema, SchemaMistake, Strict, strict_with

PAIRS = int(os.environ.get("TG_PAIRS", "20000"))
DOCUMENTS = 40  # for each schema


def no_x(field, value, error):
    if isinstance(value, str) and "x" in value:
        error(field, "no x is expected")


def no_null(field, value, error):
    """Cerberus asks it of a null too, where null is allowed."""
    if value is None:
        error(field, "no null is expected")


def lower(value):
    return value.lower()


def to_int(value):
    return int(value)


def of_many(document):
    return len(document)


def divisible_by(constraint, field, value, error):
    if isinstance(value, int) and value % constraint:
        error(field, f"a multiple of {constraint} is expected")


def stock_with_rules():
    """Cerberus as it is installed, with the offered rule as Cerberus' users write one."""

    class Stock(Validator):
        _valid_schemas = Strict._valid_schemas
        types_mapping = {**Validator.types_mapping, "small": TypeDefinition("small", (int,), (bool,))}

        def _validate_divisible_by(self, constraint, field, value):
            """{'type': 'integer'}"""
            divisible_by(constraint, field, value, self._error)

    return Stock


STOCK = stock_with_rules()
STRICT = strict_with({"small": TypeDefinition("small", (int,), (bool,))}, {"divisible_by": divisible_by})
NAMED = {name: one.rules for name, one in named_types(["admin"]).items()}

NAMES = ("a", "b", "c", "d")
TEXTS = (
    *("", "a", "ab", "abc", "ABC", "x", "xy", "a\n", "1", "12", "a b", "admin", "Admln", "аdmin", "José", "e\u0301"),
    *("\u202eab", "a\x00", "李小龙", "0190163d-8694-739b-aea5-966c26f8ad91", "0190163D-8694-739B-AEA5-966C26F8AD91"),
    "a" * 600,
    *("jo@example.org", "jo@Example.ORG", "2027-01-15T09:30:00Z", "192.0.2.7", "2001:DB8::1", "https://example.org/a"),
)
NUMBERS = (0, 1, 2, 3, 10, -1, 1.0, 2.5, 10**20, -0.0, 2**63, float("inf"), float("nan"))
SCALARS = (*TEXTS, *NUMBERS, True, False, None)
NAMED_TEXTS = {
    "username": ("jane", "José", "李小龙", "o'brien", "Admln", "аdmin", "admin", "a b", "x", "root"),
    "room_name": ("lobby", "Python для всех", " x", "a  b", "💬 chat", "аdmin"),
    "uuid": ("0190163d-8694-739b-aea5-966c26f8ad91", "0190163D-8694-739B-AEA5-966C26F8AD91", "0190163d"),
    "email": ("jo@example.org", "jo@Example.ORG", "jo@localhost", "jö@exämple.org", "a@b", "jo.@example.org"),
    "timestamp": (
        "2027-01-15T09:30:00Z",
        "2027-02-30T09:30:00Z",
        "2027-01-31T09:30:00+01:00",
        "2027-01-15",
        "20270115T093000Z",
    ),
    "json": ('{"a": 1}', "{", "[" * 2000, "1"),
    "ip": ("192.0.2.7", "2001:DB8::1", "2001:db8::1", "1.2.3", "::ffff:1.2.3.4"),
    "url": (
        "https://example.org/a",
        "ftp://example.org",
        "https://a@b/",
        "http://[::1]/",
        "HTTP://EXAMPLE.ORG",
        "https://exämple.org/",
    ),
}
PATTERNS = ("[a-z]+", "[a-z]+$", "^a", "a|ab", "a|b", "\\d*", "(?i)ABC", ".*", "(?:a|ab|b|x)*y?")


def some(**rules):
    """At most three of these; what has more is hardly ever accepted."""
    names = st.lists(st.sampled_from(sorted(rules)), max_size=3, unique=True)
    return names.flatmap(lambda chosen: st.fixed_dictionaries({name: rules[name] for name in chosen}))


sizes = st.integers(0, 3)
strings = some(
    minlength=sizes,
    maxlength=sizes,
    regex=st.sampled_from(PATTERNS),
    empty=st.booleans(),
    allowed=st.lists(st.sampled_from(TEXTS), min_size=1, max_size=4),
    forbidden=st.lists(st.sampled_from(TEXTS), max_size=3),
    min=st.sampled_from(("a", "b", 1)),
    max=st.sampled_from(("b", "y", 1)),
    contains=st.sampled_from(("a", ["a", "b"])),
    check_with=st.sampled_from((no_x, no_null, [no_x, no_null])),
    coerce=st.just(lower),
    meta=st.fixed_dictionaries(
        {},
        optional={
            "is": st.sampled_from(sorted(NAMED)),
            "nfc": st.booleans(),
            "profile": st.sampled_from(("free_text", "identifier", "secret")),
            "clean": st.sampled_from(("refuse", "strip")),
            "min_visible": sizes,
            "max_visible": sizes,
            "max_bytes": st.integers(0, 40),
        },
    ),
).map(lambda rules: {"type": "string", **rules})
numbers = st.builds(
    lambda kind, rules: {"type": kind, **rules},
    st.sampled_from(("integer", "number", "float", "small", ["integer", "boolean"])),
    some(
        min=st.sampled_from(NUMBERS),
        max=st.sampled_from(NUMBERS),
        allowed=st.lists(st.sampled_from(NUMBERS), min_size=1, max_size=4),
        forbidden=st.lists(st.sampled_from(NUMBERS), max_size=3),
        divisible_by=st.integers(1, 3),
        coerce=st.just(to_int),
    ),
)
anything = some(
    type=st.lists(
        st.sampled_from(("string", "integer", "boolean", "list", "dict", "float", "container")), min_size=1, max_size=3
    ),
    minlength=sizes,
    maxlength=sizes,
    allowed=st.lists(st.sampled_from(SCALARS), min_size=1, max_size=6),
    forbidden=st.lists(st.sampled_from(SCALARS), max_size=3),
    min=st.sampled_from((1, "a")),
    empty=st.booleans(),
    regex=st.sampled_from(PATTERNS),
    check_with=st.just(no_x),
)
named = st.sampled_from(sorted(NAMED)).map(lambda name: {"meta": {"is": name}})
plain = st.one_of(strings, strings, named, numbers, st.just({"type": "boolean"}), anything)


def bigger(rules):
    fields = documents_of(rules)
    lists = some(
        schema=rules,
        minlength=sizes,
        maxlength=sizes,
        empty=st.booleans(),
        allowed=st.lists(st.sampled_from(SCALARS), max_size=6),
        contains=st.sampled_from(("a", 1, ["a", 1])),
        default=st.sampled_from(([], ["a"])),
    )
    dicts = some(
        schema=fields,
        allow_unknown=st.booleans(),
        purge_unknown=st.booleans(),
        require_all=st.booleans(),
        maxlength=sizes,
        default=st.sampled_from(({}, {"a": "ab"})),
    )
    maps = some(keysrules=strings, valuesrules=rules, minlength=sizes)
    forms = st.builds(
        lambda kind, of, forms: {**kind, of: forms},
        some(
            type=st.sampled_from(("string", "integer", ["string", "integer"], "list", "dict")), nullable=st.booleans()
        ),
        st.sampled_from(("anyof", "allof", "oneof", "noneof")),
        st.lists(rules, min_size=1, max_size=3),
    )
    return st.one_of(
        lists.map(lambda r: {"type": "list", **r}),
        dicts.map(lambda r: {"type": "dict", **r}),
        maps.map(lambda r: {"type": "dict", **r}),
        st.lists(rules, max_size=2).map(lambda r: {"type": "list", "items": r}),
        forms,
        some(type=st.just(["string", "list"]), schema=rules, maxlength=sizes),
    )


def documents_of(rules):
    field = st.builds(
        lambda rules, more: {**rules, **more},
        rules,
        some(
            required=st.booleans(),
            nullable=st.booleans(),
            readonly=st.booleans(),
            default=st.sampled_from((None, "a", "ABC", 1, True)),
            default_setter=st.just(of_many),
            rename=st.sampled_from(NAMES),
            dependencies=st.one_of(
                st.sampled_from(NAMES),
                st.lists(st.sampled_from(NAMES), max_size=2),
                st.dictionaries(st.sampled_from(NAMES), st.sampled_from(("a", 1, ["a", None])), max_size=2),
            ),
            excludes=st.one_of(st.sampled_from(NAMES), st.lists(st.sampled_from(NAMES), min_size=1, max_size=2)),
        ),
    )
    # Most fields have none of the rarer rules, or nothing would ever be accepted.
    usual = st.builds(
        lambda rules, required, more: {**rules, "required": required, **more},
        rules,
        st.booleans(),
        st.sampled_from(({}, {}, {"nullable": True})),
    )
    return st.dictionaries(st.sampled_from(NAMES), st.one_of(usual, usual, field), min_size=1, max_size=4)


schemas = documents_of(st.recursive(plain, bigger, max_leaves=5))


class Chance(Random):
    """Draws documents; hypothesis takes longer than Cerberus for it. A schema shrinks, its documents don't."""

    def any_value(self, depth: int = 0) -> Any:
        kind = self.randrange(8 if depth < 3 else 6)
        if kind == 6:
            return [self.any_value(depth + 1) for _ in range(self.randrange(3))]
        if kind == 7:
            return {self.choice((*NAMES, "é")): self.any_value(depth + 1) for _ in range(self.randrange(3))}
        return self.choice(SCALARS)

    def value(self, rules: Any, depth: int = 0) -> Any:
        """Something that often fits."""
        if not isinstance(rules, dict) or depth > 4 or self.randrange(12) == 0:
            return self.any_value()
        for of in ("anyof", "oneof", "allof"):
            if rules.get(of):
                return self.value({**rules, **self.choice(rules[of]), of: None}, depth + 1)
        if rules.get("nullable") and self.randrange(5) == 0:
            return None
        kinds = rules.get("type", "string")
        kind = self.choice(kinds) if isinstance(kinds, list) else kinds
        if rules.get("allowed") and kind not in ("list", "dict"):
            return self.choice(rules["allowed"])
        if kind == "string":
            examples: Any = NAMED_TEXTS.get((rules.get("meta") or {}).get("is"))
            return self.choice(examples if examples and self.randrange(4) else TEXTS)
        if kind in ("integer", "number", "float", "small"):
            return self.choice(NUMBERS)
        if kind == "boolean":
            return self.choice((True, False))
        if kind == "list":
            if "items" in rules:
                return [self.value(one, depth + 1) for one in rules["items"]]
            return [self.value(rules.get("schema", {"type": "string"}), depth + 1) for _ in range(self.randrange(4))]
        if kind == "dict":
            if isinstance(rules.get("schema"), dict):
                return self.document(rules["schema"], depth + 1)
            return {
                self.choice(NAMES): self.value(rules.get("valuesrules"), depth + 1) for _ in range(self.randrange(3))
            }
        return self.any_value()

    def document(self, fields: Any, depth: int = 0) -> Any:
        document = {}
        for key, rules in fields.items():
            needed = isinstance(rules, dict) and rules.get("required")
            if self.randrange(20 if needed else 2) or not isinstance(rules, dict):
                document[key] = self.value(rules, depth)
        if self.randrange(20) == 0:
            document[self.choice((*NAMES, "unknown"))] = self.any_value()
        return document


def same(one: Any, other: Any) -> bool:
    """Equal, and of the same types: `1 == True == 1.0`."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(value, other[key]) for key, value in one.items())
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other or one != one  # not a number


def checked(schema: Schema, accept: Any, document: dict[str, Any]) -> str:
    """Assert what must be so for one pair; says what came of it."""
    before = deepcopy(document)
    accepted = accept(document)
    assert same(document, before), "the document that came in was changed"
    if accepted is None:
        try:
            return "left to Cerberus, who accepts" if not schema.validate(deepcopy(document))[1] else "refused"
        except Exception:
            return "refused"
    result, errors = schema.validate(deepcopy(document))
    assert not errors, f"Cerberus refuses {document!r}"
    assert same(accepted, result), f"{accepted!r}, by Cerberus {result!r}"
    if "oneof" not in repr(schema.fields):  # noneof too: what takes less inside one of these takes more outside
        stock = STOCK(deepcopy(schema.fields))
        assert stock.validate(deepcopy(document)), f"Cerberus alone refuses {document!r}"
        assert same(accepted, stock.document)
    problems: list[Any] = []
    assert schema.tree.clean(document, problems) is document, "its text needed cleaning"
    assert not problems
    return "accepted"


seen: Counter[str] = Counter()


@settings(
    max_examples=3 * PAIRS // DOCUMENTS,  # more than half of the schemas are mistakes, or not compiled
    deadline=None,
    derandomize="TG_PAIRS" not in os.environ,
    phases=[Phase.generate] if "TG_PAIRS" in os.environ else list(Phase),
    database=None,
    suppress_health_check=list(HealthCheck),
)
@pytest.mark.timeout(0)  # as many as are asked for
@given(schemas, st.integers(0, 2**64))
def test_generated_documents_are_accepted_only_as_cerberus_would(rules, seed):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            schema = Schema(rules, validator=STRICT, named=NAMED)
            accept = compiled(schema)
        except SchemaMistake:
            seen["no schema"] += 1
            return
        except NotCompiled:
            seen["not compiled"] += 1
            return
        chance = Chance(seed)
        for _ in range(DOCUMENTS):
            seen[checked(schema, accept, chance.document(rules))] += 1


CASES = [
    # Found by the generated pairs: a default inside counts for the length outside.
    ({"a": {"type": "dict", "maxlength": 0, "schema": {"b": {"type": "integer", "default": 1}}}}, {"a": {}}),
    ({"a": {"type": "dict", "empty": False, "schema": {"b": {"type": "integer", "default": 1}}}}, {"a": {}}),
    ({"a": {"type": "list", "contains": "ab", "schema": {"type": "string", "coerce": lower}}}, {"a": ["AB"]}),
    ({"a": {"type": "list", "allowed": ["ab"], "schema": {"type": "string", "coerce": lower}}}, {"a": ["AB"]}),
    ({"a": {"default": None, "default_setter": of_many, "nullable": True}}, {}),
    ({"a": {"meta": {"is": "uuid"}, "nullable": True}}, {"a": None}),
    ({"a": {"meta": {"is": "uuid"}, "nullable": True, "coerce": lower}}, {"a": None}),
    ({"a": {"nullable": True, "check_with": no_null}}, {"a": None}),
]


@pytest.mark.parametrize(("rules", "document"), CASES, ids=[str(number) for number in range(len(CASES))])
def test_what_was_found_once_stays_found(rules, document):
    schema = Schema(rules, validator=STRICT, named=NAMED)
    try:
        accept = compiled(schema)
    except NotCompiled:
        return
    checked(schema, accept, document)


def test_most_of_what_cerberus_accepts_is_accepted_at_once():
    """Else the test above would say nothing."""
    if not seen:
        pytest.skip("runs after the generated pairs")
    print(dict(seen))
    pairs = seen["accepted"] + seen["refused"] + seen["left to Cerberus, who accepts"]
    assert pairs >= PAIRS
    assert seen["accepted"] > 4 * seen["left to Cerberus, who accepts"]
    assert seen["accepted"] > sum(seen.values()) / 20
