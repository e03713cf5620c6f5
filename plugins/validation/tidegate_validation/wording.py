"""Cerberus' errors in the catalogue's types and in words that say what is expected; values are never quoted."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from difflib import get_close_matches
from typing import Any

from cerberus import errors as cerberus_errors
from tidegate import FieldError
from tidegate.faults import (
    ConflictingValues,
    Fault,
    InvalidCharacters,
    InvalidFormat,
    InvalidInput,
    InvalidLength,
    InvalidType,
    InvalidValue,
    RequiredFieldMissing,
    TooManyItems,
    UnknownField,
    ValueOutOfRange,
)

from tidegate_validation.schema import MOST
from tidegate_validation.text import PROFILES, Problem, Worded

_FAULTS: dict[str, type[Fault]] = {
    fault.__name__: fault
    for fault in (
        ConflictingValues,
        InvalidCharacters,
        InvalidFormat,
        InvalidLength,
        InvalidType,
        InvalidValue,
        RequiredFieldMissing,
        TooManyItems,
        UnknownField,
        ValueOutOfRange,
    )
}
_KINDS = {
    "string": "a string",
    "integer": "an integer",
    "float": "a number",
    "number": "a number",
    "boolean": "true or false",
    "list": "a list",
    "dict": "an object",
    "container": "a list or an object",
}
_GOT = {
    str: "a string",
    int: "an integer",
    float: "a number",
    bool: "true or false",
    list: "a list",
    dict: "an object",
    type(None): "null",
}


def fault_of(found: Sequence[FieldError]) -> Fault:
    """A single failure is itself, several are 1111 with the list."""
    if len(found) == 1:
        (error,) = found
        return _FAULTS[error.type](error.message, errors=found)
    number = str(len(found)) if len(found) < MOST else f"{MOST} or more"
    return InvalidInput(f"{number} fields are wrong", errors=found[:MOST])


def field_of(path: Iterable[Any]) -> str:
    """`params.members.3.name`; what a client made up is cut and has no odd characters."""
    return ".".join(["params", *(_shown(part) for part in path)])


def _shown(part: Any) -> str:
    return PROFILES["identifier"].stripped(str(part)[:64])


def of_problems(problems: Iterable[Problem]) -> list[FieldError]:
    return [
        FieldError(field_of(problem.path), problem.type, f"{_name(problem.path)}: {problem.message}")
        for problem in problems
    ]


def of_cerberus(found: Iterable[Any], fields: Mapping[Any, Any]) -> list[FieldError]:
    """Every field that is wrong, in the order of their names."""
    rows: dict[tuple[str, str], FieldError] = {}
    for error in found:
        for row in _rows(error, fields):
            rows.setdefault((row.field, row.type), row)
    return sorted(rows.values())


def _name(path: Sequence[Any]) -> str:
    return _shown(path[-1]) if path else "params"


def _rows(error: Any, fields: Mapping[Any, Any]) -> list[FieldError]:
    if error.is_group_error and not error.is_logic_error:
        return [row for child in error.child_errors for row in _rows(child, fields)]
    path = error.document_path
    kind, words = _worded(error, path, fields)
    return [FieldError(field_of(path), kind, words)]


def _worded(error: Any, path: Sequence[Any], fields: Mapping[Any, Any]) -> tuple[str, str]:
    name = _name(path)
    if error.code == cerberus_errors.REQUIRED_FIELD.code:
        return "RequiredFieldMissing", f"Field is required: {name}"
    if error.code == cerberus_errors.UNKNOWN_FIELD.code:
        return "UnknownField", f"Unknown field: {name}{_hint(path, fields)}"
    write = _WORDS.get(error.code)
    kind, words = write(error) if write is not None else ("InvalidValue", "this value is not allowed")
    return kind, f"{name}: {words}"


def _hint(path: Sequence[Any], fields: Mapping[Any, Any]) -> str:
    known: Any = fields
    for part in path[:-1]:
        rules = known.get(part, {}) if isinstance(known, Mapping) else {}
        known = rules.get("schema", rules.get("valuesrules", {})) if isinstance(rules, Mapping) else {}
        if isinstance(known, Mapping) and isinstance(known.get("type"), str):
            known = _Every(known)  # the rules of a list's items
    if not isinstance(known, Mapping) or isinstance(known, _Every):
        return ""
    near = get_close_matches(str(path[-1])[:64], [str(key) for key in known], 1, 0.75)
    return f"; did you mean {near[0]!r}?" if near else ""


class _Every(dict[Any, Any]):
    """The same rules under any key."""

    def __init__(self, rules: Mapping[Any, Any]) -> None:
        super().__init__(rules)
        self.rules = rules

    def get(self, key: Any, default: Any = None) -> Any:
        return self.rules


def _type(error: Any) -> tuple[str, str]:
    given = error.constraint
    names = [given] if isinstance(given, str) else list(given)
    expected = list(dict.fromkeys(_KINDS.get(name, f"a value of type {name}") for name in names))
    got = _GOT.get(type(error.value), "something else")
    if got == "a number" and expected == ["an integer"]:
        got = "a fraction"
    return "InvalidType", f"expected {' or '.join(expected)}, got {got}"


def _null(error: Any) -> tuple[str, str]:
    return "InvalidType", "null is not allowed"


def _short(error: Any) -> tuple[str, str]:
    return "InvalidLength", f"at least {_amount(error.constraint, error.value)} expected, got {error.info[0]}"


def _long(error: Any) -> tuple[str, str]:
    kind = "InvalidLength" if isinstance(error.value, str) else "TooManyItems"
    return kind, f"at most {_amount(error.constraint, error.value)} allowed, got {error.info[0]}"


def _amount(number: int, value: Any) -> str:
    noun = "character" if isinstance(value, str) else "item"
    return f"{number} {noun} is" if number == 1 else f"{number} {noun}s are"


def _items(error: Any) -> tuple[str, str]:
    expected, got = error.info
    return "TooManyItems" if got > expected else "InvalidLength", f"exactly {expected} items are expected, got {got}"


def _allowed(error: Any) -> tuple[str, str]:
    values = [str(value) for value in error.constraint] if len(error.constraint) <= 12 else []
    return (
        "InvalidValue",
        f"expected one of {', '.join(values)}" if values else "this value is not among the allowed ones",
    )


def _forbidden(error: Any) -> tuple[str, str]:
    return "InvalidValue", "this value is not allowed"


def _contains(error: Any) -> tuple[str, str]:
    return "InvalidValue", f"lacks {', '.join(sorted(map(str, error.info[0])))}"


def _needs(error: Any) -> tuple[str, str]:
    return "ConflictingValues", f"can only be given together with {error.info[0]}"


def _needs_value(error: Any) -> tuple[str, str]:
    return "ConflictingValues", f"does not go with the value of {', '.join(map(str, error.info[0]))}"


def _excludes(error: Any) -> tuple[str, str]:
    return "ConflictingValues", f"can't be given together with {error.info[0]}"


def _forms(error: Any) -> tuple[str, str]:
    children = list(error.child_errors or ())
    codes = {child.code for child in children}
    if codes == {cerberus_errors.BAD_TYPE.code}:
        given = [c.constraint if isinstance(c.constraint, (list, tuple)) else [c.constraint] for c in children]
        kinds = list(dict.fromkeys(str(_KINDS.get(name, name)) for names in given for name in names))
        return "InvalidType", f"expected {' or '.join(kinds)}, got {_GOT.get(type(error.value), 'something else')}"
    number = len(error.constraint)
    words = {
        "anyof": f"fits none of the {number} forms that are allowed",
        "oneof": f"has to fit exactly one of {number} forms, fits {error.info[1]}",
        "noneof": "has a form that is not allowed",
        "allof": f"has to fit {number} forms at once, fits {error.info[1]}",
    }
    return "InvalidValue", words.get(error.rule, "has a form that is not allowed")


def _custom(error: Any) -> tuple[str, str]:
    words = error.info[0] if error.info else "this value is not allowed"
    return (words.type if isinstance(words, Worded) else "InvalidValue"), str(words)


_WORDS: dict[int, Callable[[Any], tuple[str, str]]] = {
    cerberus_errors.BAD_TYPE.code: _type,
    cerberus_errors.BAD_TYPE_FOR_SCHEMA.code: lambda error: ("InvalidType", "expected a list, got an object"),
    cerberus_errors.NOT_NULLABLE.code: _null,
    cerberus_errors.EMPTY_NOT_ALLOWED.code: lambda error: ("InvalidLength", "must not be empty"),
    cerberus_errors.MIN_LENGTH.code: _short,
    cerberus_errors.MAX_LENGTH.code: _long,
    cerberus_errors.ITEMS_LENGTH.code: _items,
    cerberus_errors.REGEX_MISMATCH.code: lambda error: ("InvalidFormat", "does not have the expected format"),
    cerberus_errors.MIN_VALUE.code: lambda error: ("ValueOutOfRange", f"at least {error.constraint} is expected"),
    cerberus_errors.MAX_VALUE.code: lambda error: ("ValueOutOfRange", f"at most {error.constraint} is allowed"),
    cerberus_errors.UNALLOWED_VALUE.code: _allowed,
    cerberus_errors.UNALLOWED_VALUES.code: _allowed,
    cerberus_errors.FORBIDDEN_VALUE.code: _forbidden,
    cerberus_errors.FORBIDDEN_VALUES.code: _forbidden,
    cerberus_errors.MISSING_MEMBERS.code: _contains,
    cerberus_errors.DEPENDENCIES_FIELD.code: _needs,
    cerberus_errors.DEPENDENCIES_FIELD_VALUE.code: _needs_value,
    cerberus_errors.EXCLUDES_FIELD.code: _excludes,
    cerberus_errors.COERCION_FAILED.code: lambda error: ("InvalidFormat", "can't be read as what is expected"),
    cerberus_errors.RENAMING_FAILED.code: lambda error: ("UnknownField", "this name is not expected"),
    cerberus_errors.READONLY_FIELD.code: lambda error: ("InvalidValue", "can't be set"),
    cerberus_errors.SETTING_DEFAULT_FAILED.code: lambda error: ("InvalidValue", "has no default here; give a value"),
    cerberus_errors.ANYOF.code: _forms,
    cerberus_errors.ALLOF.code: _forms,
    cerberus_errors.NONEOF.code: _forms,
    cerberus_errors.ONEOF.code: _forms,
    cerberus_errors.CUSTOM.code: _custom,
}
