"""What Cerberus finds wrong, in plain English."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from cerberus import errors

from tidegate.config.texts import Rules
from tidegate.nearest import hint


def quoted(value: object, secret: bool = False) -> str:
    """A value as a message shows it: short, on one line."""
    if secret:
        return "***"
    if isinstance(value, bool):
        return "true" if value else "false"
    for kind, word in ((dict, "a table"), (list, "a list"), (type(None), "nothing")):
        if isinstance(value, kind):
            return word
    shown = repr(value) if isinstance(value, str | int | float) else str(value)
    return shown if len(shown) <= 60 else f"{shown[:57]}…"


def flat(found: Any) -> Iterator[Any]:
    """Cerberus's errors without the groups around them."""
    for one in found:
        if one.is_group_error and not one.is_logic_error:
            yield from flat(one.child_errors)
        else:
            yield one


def said(error: Any, rules: Rules, above: Rules, secret: bool) -> str:
    """One of Cerberus's errors in plain English."""
    code = error.code
    if code == errors.UNKNOWN_FIELD.code:
        schema = above.get("schema")
        return f"unknown key{hint(str(error.document_path[-1]), map(str, schema or ()))}"
    if code == errors.REQUIRED_FIELD.code:
        return "required key is missing"
    if (expected := _expected(error, rules, secret)) is not None:
        return expected
    if secret:  # the rest quotes the value
        return "this secret is not accepted"
    if code == errors.CUSTOM.code:
        return str(error.info[0])
    if code == errors.COERCION_FAILED.code:
        return f"not accepted: {error.info[0]}"
    if error.is_logic_error:
        texts = dict.fromkeys(said(one, {}, {}, secret) for one in flat(error.child_errors))
        return " or ".join(texts) or f"not accepted: {quoted(error.value)}"
    template = errors.BasicErrorHandler.messages.get(code, "not accepted: {value}")
    given = {"constraint": error.constraint, "field": error.field, "value": quoted(error.value)}
    return str(template.format(*error.info, **given))


_WORDS = {"dict": "table", "boolean": "true or false"}
_LEAST = {errors.MIN_VALUE.code, errors.MIN_LENGTH.code}
_MOST = {errors.MAX_VALUE.code, errors.MAX_LENGTH.code}


def _expected(error: Any, rules: Rules, secret: bool) -> str | None:
    """`expected integer, got 'five'` for the usual mistakes, None for others."""
    wanted, value, code = error.constraint, error.value, error.code
    meta = rules.get("meta", {})
    got, hinted = quoted(value, secret), ""
    if code == errors.BAD_TYPE.code:
        kinds = [wanted] if isinstance(wanted, str) else wanted
        expected = " or ".join(_WORDS.get(kind, kind) for kind in kinds)
        if "list" in kinds and isinstance(value, dict):
            hinted = f"; write it as [[{error.document_path[-1]}]]"
    elif code in (errors.UNALLOWED_VALUE.code, errors.UNALLOWED_VALUES.code):
        wrong = value if code == errors.UNALLOWED_VALUE.code else next(iter(error.info[0]))
        expected, got = f"one of {', '.join(map(quoted, wanted))}", quoted(wrong, secret)
        hinted = "" if secret else hint(str(wrong), map(str, wanted))
    elif code in _LEAST | _MOST:
        unit = f" {meta['unit']}" if "unit" in meta else ""
        if code in (errors.MIN_LENGTH.code, errors.MAX_LENGTH.code):
            unit = " character" if isinstance(value, str) else " item"
            unit += "s" if wanted != 1 else ""
            got = "***" if secret else str(len(value))
        expected = f"{'at least' if code in _LEAST else 'at most'} {quoted(wanted)}{unit}"
    elif code == errors.REGEX_MISMATCH.code:
        such = f", such as {quoted(meta['example'])}" if "example" in meta else ""
        expected = f"a string that matches {wanted!r}{such}"
    elif code in (errors.EMPTY_NOT_ALLOWED.code, errors.NOT_NULLABLE.code):
        expected = "a value"
    else:
        return None
    return f"expected {expected}, got {got}{hinted}"
