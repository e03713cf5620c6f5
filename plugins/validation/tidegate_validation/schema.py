"""A command's schema: its Cerberus rules, with what `meta` says worked in, and the validator that has the last word."""

from __future__ import annotations

import types
import typing
from collections.abc import Callable, Iterable, Mapping
from copy import deepcopy
from typing import Any

from cerberus import SchemaError, TypeDefinition, Validator, errors
from cerberus.schema import UnvalidatedSchema

from tidegate_validation.patterns import Patience, Pattern, TakesTooLong, pattern_of
from tidegate_validation.text import PROFILES, Fits, Policy, Tree

MOST = 50  # errors of one document, and of one list or dict in it
Rules = dict[str, Any]
_OF = ("anyof", "allof", "oneof", "noneof")
_LENGTHS = ("min_visible", "max_visible", "max_bytes")
_NORMALIZING = frozenset({"coerce", "default", "default_setter", "rename", "rename_handler", "purge_unknown"})


class SchemaMistake(ValueError):
    """A schema that can't be used; the text names the parameter."""


class _Nothing(set[Any]):
    """In the place of Cerberus' memory of schemas that are valid: it goes by a rule set's hash wherever
    that stands, so that what is right in a list's `schema` would be taken in an `anyof`, where it is wrong."""

    def __contains__(self, item: object) -> bool:
        return False

    def add(self, item: Any) -> None:
        """Forget it."""


class _Checked(UnvalidatedSchema):  # type: ignore[misc]
    """A schema that was checked and expanded: Cerberus would do both anew for each document that it normalizes."""

    def __setitem__(self, key: Any, rules: Any) -> None:
        self.schema[key] = rules


class Strict(Validator):  # type: ignore[misc]
    """Cerberus as commands use it, which refuses more than Cerberus alone (and takes more inside `noneof` and `oneof`).

    - `True` is no integer and no float, as it is none in JSON.
    - `regex` matches the whole text: `a|b` does not accept `ax`, nor `a` a text that ends with a line feed.
    - What is too long is not looked at further.
    - Past MOST errors no more are gathered: Cerberus sorts them anew for each, which takes a minute for 20,000.
    """

    offered_rules: typing.ClassVar[dict[str, Callable[..., Any]]] = {}
    _valid_schemas: typing.ClassVar[set[Any]] = _Nothing()
    priority_validations = ("nullable", "readonly", "type", "empty", "maxlength", "minlength")
    types_mapping: typing.ClassVar[dict[str, TypeDefinition]] = {
        **Validator.types_mapping,
        "integer": TypeDefinition("integer", (int,), (bool,)),
        "float": TypeDefinition("float", (float, int), (bool,)),
    }

    def _error(self, *args: Any) -> None:
        if len(self._errors) < MOST:
            super()._error(*args)

    def _validate_maxlength(self, max_length: int, field: Any, value: Any) -> None:
        """{'type': 'integer'}"""
        super()._validate_maxlength(max_length, field, value)
        if hasattr(value, "__len__") and len(value) > max_length:
            self._drop_remaining_rules()

    def _validate_regex(self, pattern: str, field: Any, value: Any) -> None:
        """{'type': 'string'}"""
        if not isinstance(value, str):
            return
        known = pattern if isinstance(pattern, Pattern) else pattern_of(pattern)
        try:
            fits = known.fits(value, self._config.get("patience") or Patience())
        except TakesTooLong as error:  # no mere error: in a `noneof` that would let the text pass
            error.path = (*self.document_path, field)
            raise
        if not fits:
            self._error(field, errors.REGEX_MISMATCH)


def strict_with(
    offered_types: Mapping[str, TypeDefinition], offered_rules: Mapping[str, Callable[..., Any]]
) -> type[Strict]:
    """`Strict` with the types and rules that plugins offer.

    A rule is a function `rule(constraint, field, value, error)`, which calls `error(field, "what is
    expected")` when the value is wrong; it never switches. A schema uses it as `{"iban": True}`.
    """
    body: dict[str, Any] = {
        "types_mapping": {**Strict.types_mapping, **offered_types},
        "offered_rules": dict(offered_rules),
    }
    for name, rule in offered_rules.items():

        def validate(self: Any, constraint: Any, field: Any, value: Any, rule: Callable[..., Any] = rule) -> None:
            rule(constraint, field, value, self._error)

        validate.__doc__ = "{'nullable': True}"
        body[f"_validate_{name}"] = validate
    return type("Strict", (Strict,), body)


class Fresh:
    """A `default_setter` for a list or dict: Cerberus' `default` hands out the very object in the
    schema, and a function that changed it would change the schema."""

    def __init__(self, default: Any) -> None:
        self.default = deepcopy(default)

    def __call__(self, document: Any = None) -> Any:
        return deepcopy(self.default)


# --- rules, expanded ----------------------------------------------------------------------------------


def expanded(
    rules: Mapping[str, Any], named: Mapping[str, Mapping[str, Any]], path: str = "params", form: bool = False
) -> Rules:
    """A rule set with its named type worked in, and its sub-schemas', as Cerberus takes it; a copy.

    In a `form`, one of several in an *of rule, nothing is normalized. Raises SchemaMistake.
    """
    if not isinstance(rules, Mapping):
        raise SchemaMistake(f"{path}: expected a rule set, got {rules!r}")
    given = dict(rules)
    meta = dict(given.get("meta") or {})
    if (is_a := meta.get("is")) is not None:
        base = named.get(is_a)
        if base is None:
            raise SchemaMistake(f"{path}: meta.is: expected one of {', '.join(sorted(named))}, got {is_a!r}")
        base = dict(base)
        meta = {**base.pop("meta", {}), **meta}
        both = {
            rule: [*_listed(base.get(rule, ())), *_listed(given.get(rule, ()))]
            for rule in (("check_with",) if form else ("coerce", "check_with"))
            if rule in base or rule in given
        }
        if form:
            base.pop("coerce", None)
        given = {**base, **given, **both}
    _check_meta(meta, path)
    if any(key in meta for key in _LENGTHS):
        fits = Fits(meta.get("min_visible", 0), meta.get("max_visible"), meta.get("max_bytes"))
        given["check_with"] = [fits, *_listed(given.get("check_with", ()))]
    if meta:
        given["meta"] = meta
    if isinstance(given.get("regex"), str):
        try:
            given["regex"] = Pattern(given["regex"], given.get("maxlength"))
        except ValueError as error:
            raise SchemaMistake(f"{path}: regex: {error}") from None
    for rule, value in list(given.items()):
        if rule in ("keysrules", "valuesrules", "allow_unknown") and isinstance(value, Mapping):
            given[rule] = expanded(value, named, f"{path}.{rule}")
        elif rule == "items" or rule in _OF:
            given[rule] = [
                expanded(one, named, f"{path}.{rule}.{place}", rule in _OF) for place, one in enumerate(value)
            ]
        elif rule == "schema" and isinstance(value, Mapping):
            if is_document(given):
                given[rule] = {key: expanded(one, named, f"{path}.{key}") for key, one in value.items()}
            else:
                given[rule] = expanded(value, named, f"{path}.schema")
    if isinstance(given.get("default"), (list, dict)) and "default_setter" not in given:
        given["default_setter"] = Fresh(given.pop("default"))
    return given


def is_document(rules: Mapping[str, Any]) -> bool:
    """Whether the rule `schema` describes a dict's fields, and not the rules of a list's items."""
    if rules.get("type") in ("dict", "list"):
        return bool(rules["type"] == "dict")
    return all(isinstance(one, Mapping) for one in rules["schema"].values())  # Cerberus' own guess


def _listed(checks: Any) -> list[Any]:
    return list(checks) if isinstance(checks, (list, tuple)) else [checks]


def _check_meta(meta: Mapping[str, Any], path: str) -> None:
    for key, known in (("profile", tuple(PROFILES)), ("clean", ("refuse", "strip")), ("nfc", (True, False))):
        if key in meta and meta[key] not in known:
            raise SchemaMistake(f"{path}: meta.{key}: expected one of {', '.join(map(str, known))}, got {meta[key]!r}")
    for key in _LENGTHS:
        value = meta.get(key, 0)
        if not isinstance(value, int) or isinstance(value, bool) or value < 0:
            raise SchemaMistake(f"{path}: meta.{key}: expected a number of characters or bytes, got {value!r}")


def policies(schema: Mapping[Any, Mapping[str, Any]], policy: Policy) -> Tree:
    """How the texts of a document are treated."""
    tree = Tree(policy)
    tree.fields = {key: _policies_of(rules, policy) for key, rules in schema.items()}
    return tree


def _policies_of(rules: Mapping[str, Any], policy: Policy) -> Tree:
    policy = policy.within(rules.get("meta") or {})
    inner = rules.get("schema")
    if isinstance(inner, Mapping) and is_document(rules):
        return policies(inner, policy)
    tree = Tree(policy)
    if isinstance(inner, Mapping):
        tree.every = _policies_of(inner, policy)
    elif isinstance(rules.get("valuesrules"), Mapping):
        tree.every = _policies_of(rules["valuesrules"], policy)
    for place, one in enumerate(rules.get("items", ())):
        tree.fields[place] = _policies_of(one, policy)
    return tree


def annotated(function: Callable[..., Any], names: Iterable[str]) -> Rules:
    """The schema that a function's plain annotations make, for a command without the note `params`."""
    try:
        hints = typing.get_type_hints(function)
    except Exception:  # annotations that can't be resolved are no contract
        hints = {}
    return {name: _rules_of(hints.get(name, Any)) for name in names}


_TYPES = {str: "string", int: "integer", float: "float", bool: "boolean", list: "list", dict: "dict"}


def _rules_of(annotation: Any) -> Rules:
    options: tuple[Any, ...] = (annotation,)
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        options = typing.get_args(annotation)
    kinds = [typing.get_origin(option) or option for option in options]
    known = [_TYPES[kind] for kind in kinds if kind in _TYPES]
    nullable = type(None) in kinds or None in kinds
    if len(known) + nullable < len(kinds) or not known:
        return {"nullable": True}
    return {"type": known if len(known) > 1 else known[0], **({"nullable": True} if nullable else {})}


class Schema:
    """One command's schema, checked and ready.

    Args:
        rules: the note `params`, or what the annotations make.
        required: parameters without which the function can't be called.
        validator: the class, from `strict_with`.
        named: rule sets of the named types.
        name: whose schema it is.

    Raises:
        SchemaMistake: with the parameter that is wrong.
    """

    def __init__(
        self,
        rules: Mapping[str, Any],
        required: Iterable[str] = (),
        *,
        validator: type[Strict] = Strict,
        named: Mapping[str, Mapping[str, Any]] | None = None,
        name: str = "a document",
    ) -> None:
        self.name = name
        fields = {key: expanded(one, named or {}, f"params.{key}") for key, one in rules.items()}
        for name in required:
            one = fields.get(name)
            if one is None or "default" in one or "default_setter" in one:
                continue
            if one.setdefault("required", True) is not True:
                raise SchemaMistake(f"params.{name}: required: False, but the function has no default for it")
        self.validator = validator
        try:
            self._definition = _Checked(self.validator(fields).schema.schema)
        except (SchemaError, RuntimeError) as error:
            raise SchemaMistake("; ".join(_mistakes(error.args[0] if error.args else error, "params"))) from None
        self.fields: Rules = self._definition.schema
        self.normalizes = _normalizes(self.fields)
        self.bounded = _bounded(self.fields)  # else a thread looks at what the patterns can't decide at once
        self.tree = policies(self.fields, Policy())
        self._spare: list[Strict] = []

    def validate(self, document: dict[str, Any]) -> tuple[dict[str, Any], list[Any]]:
        """What Cerberus makes of a document, and its errors. A validator keeps state, so that
        each run has its own; rules never switch, but one that did would hurt nobody else."""
        checker = (
            self._spare.pop() if self._spare else self.validator(self._definition, error_handler=errors.ToyErrorHandler)
        )
        checker._config["patience"] = Patience()  # those that look at its parts share it
        checker.validate(document, normalize=self.normalizes)
        result, found = checker.document, list(checker._errors)
        checker.document = None
        if len(self._spare) < 4:
            self._spare.append(checker)
        return result, found


def _normalizes(rules: Any) -> bool:
    """Whether validating may change a document; a field that is named like a rule does no harm."""
    if isinstance(rules, Mapping):
        return any(key in _NORMALIZING or _normalizes(value) for key, value in rules.items() if key != "meta")
    return isinstance(rules, list) and any(map(_normalizes, rules))


def _bounded(rules: Any) -> bool:
    """Whether all patterns are quick whatever the text."""
    if isinstance(rules, Mapping):
        in_a_registry = any(isinstance(rules.get(rule), str) for rule in ("schema", "keysrules", "valuesrules"))
        return not in_a_registry and all(map(_bounded, rules.values()))
    if isinstance(rules, list):
        return all(map(_bounded, rules))
    return not isinstance(rules, Pattern) or rules.bounded


def _mistakes(found: Any, path: str) -> list[str]:
    """The lines of a SchemaError: `{"room": [{"maxlength": ["must be of integer type"]}]}`."""
    if isinstance(found, Mapping):
        return [line for key, value in found.items() for line in _mistakes(value, f"{path}.{key}")]
    if isinstance(found, list):
        return [line for value in found for line in _mistakes(value, path)]
    return [f"{path}: {found}"]
