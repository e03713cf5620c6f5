"""Binds a client's parameters to a function's signature: names, required, plain annotated types."""

from __future__ import annotations

import types
import typing
from collections.abc import Callable
from typing import Any

from tidegate.faults import FieldError, InvalidInput, InvalidType, RequiredFieldMissing, UnknownField
from tidegate.model import Call, Command
from tidegate.nearest import hint

_WORDS = {
    str: "a string",
    int: "an integer",
    float: "a number",
    bool: "true or false",
    list: "a list",
    dict: "an object",
    type(None): "null",
}
Check = Callable[[dict[str, Any]], list[FieldError]]
LISTED = 20  # wrong fields that a reply names
HINTED = 3  # of them, so many get a suggestion, which costs 20 µs


def check_of(command: Command, proceed: Callable[[Call], Any]) -> Callable[[Call], Any]:
    """`proceed` behind a check of the parameters. One of plain types costs about 0.1 µs.

    The quick test accepts only what it fully understands; anything else is looked at
    field by field, which also words the errors.
    """
    kinds = kinds_of(command)
    names = frozenset(command.arguments)
    if len(kinds) == 1 and command.required:
        ((name, allowed),) = kinds.items()
        if allowed is not None and len(allowed) == 1:
            return _check_of_one(name, allowed[0], proceed)
    quick = _quick(kinds, command.required)

    def check(call: Call) -> Any:
        params = call.params
        if not quick(params) and (errors := errors_of(params, names, command.required, kinds)):
            raise _fault(errors)
        return proceed(call)

    return check


def _check_of_one(name: str, kind: type, proceed: Callable[[Call], Any]) -> Callable[[Call], Any]:
    """The same for one parameter that must be there: no second call."""

    def check(call: Call) -> Any:
        params = call.params
        if len(params) != 1 or type(params.get(name)) is not kind:
            raise _fault(errors_of(params, frozenset({name}), frozenset({name}), {name: (kind,)}))
        return proceed(call)

    return check


def kinds_of(command: Command) -> dict[str, tuple[type, ...] | None]:
    """The JSON types each parameter takes; None takes anything."""
    try:
        hints = typing.get_type_hints(command.function)
    except Exception:  # annotations that can't be resolved are no contract
        hints = {}
    return {name: _kinds(hints.get(name, Any)) for name in command.arguments}


def _kinds(annotation: Any) -> tuple[type, ...] | None:
    origin = typing.get_origin(annotation)
    if origin in (typing.Union, types.UnionType):
        found: list[type] = []
        for option in typing.get_args(annotation):
            kinds = _kinds(option)
            if kinds is None:
                return None
            found += kinds
        return tuple(dict.fromkeys(found))
    kind = origin or annotation
    if kind is None:
        return (type(None),)
    if kind is float:
        return (float, int)
    return (kind,) if kind in _WORDS else None


def _quick(kinds: dict[str, tuple[type, ...] | None], required: frozenset[str]) -> Callable[[dict[str, Any]], bool]:
    """True only for parameters that are certainly right. type() tells True from 1."""
    if not kinds:
        return lambda params: not params
    rows = {name: None if allowed is None else frozenset(allowed) for name, allowed in kinds.items()}
    missing = object()

    def quick(params: dict[str, Any]) -> bool:
        for name, value in params.items():
            allowed = rows.get(name, missing)
            if allowed is not None and (allowed is missing or type(value) not in allowed):  # type: ignore[operator]
                return False
        return required <= params.keys()

    return quick


def errors_of(
    params: dict[str, Any],
    names: frozenset[str],
    required: frozenset[str],
    kinds: dict[str, tuple[type, ...] | None],
) -> list[FieldError]:
    """Every field that is wrong, in a stable order."""
    errors = [
        FieldError(f"params.{name}", "RequiredFieldMissing", f"Field is required: {name}")
        for name in sorted(required - params.keys())
    ]
    for name, value in params.items():
        field = f"params.{name[:64]}"
        if name not in names:
            near = hint(name, names) if len(errors) < HINTED else ""
            errors.append(FieldError(field, "UnknownField", f"Unknown field: {name[:64]}{near}"))
        elif (kind := kinds[name]) is not None and type(value) not in kind:
            words = [_WORDS[k] for k in kind if not (k is int and float in kind)]
            message = f"{name}: expected {' or '.join(words)}, got {_WORDS.get(type(value), 'something else')}"
            errors.append(FieldError(field, "InvalidType", message))
    return errors


_FAULTS = {f.__name__: f for f in (RequiredFieldMissing, UnknownField, InvalidType)}


def _fault(errors: list[FieldError]) -> Exception:
    if len(errors) == 1:
        (error,) = errors
        return _FAULTS[error.type](error.message, errors=errors)
    return InvalidInput(f"{len(errors)} fields are wrong", errors=errors[:LISTED])
