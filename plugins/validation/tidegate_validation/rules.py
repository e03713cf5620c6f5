"""What a rule asks of one value, whatever is in it, as Python."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from tidegate_validation.names import NamedType
from tidegate_validation.patterns import Pattern
from tidegate_validation.source import SCALARS, NotCompiled, Scope, Source, as_list, dotted, ordinary
from tidegate_validation.text import Fits, Policy

_JSON: tuple[type, ...] = (str, int, float, bool, list, dict)  # and None, which goes by `nullable`
OF = ("anyof", "allof", "oneof", "noneof")


class Rules(Source):
    """The rules that need no look at a sub-schema."""

    def _known(self, rules: Mapping[str, Any], path: tuple[Any, ...]) -> None:
        compiled_rules = {
            *("type", "required", "nullable", "empty", "minlength", "maxlength", "min", "max", "regex", "allowed"),
            *("forbidden", "contains", "schema", "items", "keysrules", "valuesrules", "check_with", "meta", "coerce"),
            *("default", "default_setter", "dependencies", "excludes", "allow_unknown", "require_all", "purge_unknown"),
            *("readonly", *OF, *self.schema.validator.offered_rules),
        }
        for rule in rules:
            if rule not in compiled_rules:
                raise NotCompiled(f"{dotted(path)}.{rule}")
        for rule in ("allow_unknown", "require_all", "purge_unknown"):
            told = rule == "allow_unknown" and not self.purges  # without a schema it says what is so anyway
            if rule in rules and (
                not isinstance(rules[rule], bool) or not (self.predicate or "schema" in rules or told)
            ):
                raise NotCompiled(f"{dotted(path)}.{rule}")
        if self.predicate and any(rule in rules for rule in ("dependencies", "excludes", "readonly")):
            raise NotCompiled(f"{dotted(path)}: dependencies, excludes or readonly in a form")

    def _offered(self, rules: Mapping[str, Any]) -> list[str]:
        return [rule for rule in rules if rule in self.schema.validator.offered_rules]

    def _heeds_none(self, rules: Mapping[str, Any], scope: Scope) -> bool:
        """Whether Cerberus asks something of a None that is allowed, which has to see it then."""
        steps = as_list(rules["coerce"]) if scope.normalize and "coerce" in rules else []
        checks = as_list(rules.get("check_with", ()))
        ours = all(
            isinstance(one, Fits) or isinstance(getattr(one, "__self__", None), NamedType) for one in (*steps, *checks)
        )
        return not ours or "contains" in rules or "excludes" in rules or bool(self._offered(rules))

    def _kinds(self, var: str, rules: Mapping[str, Any], path: tuple[Any, ...]) -> list[type] | None:
        """The JSON types that `type` takes; None where it takes no JSON, and the check is written."""
        given = rules.get("type")
        if not given:
            return list(_JSON)
        definitions = []
        for name in [given] if isinstance(given, str) else given:
            definition = self.schema.validator.types_mapping.get(name)
            if definition is None:
                raise NotCompiled(f"{dotted(path)}.type: {name!r}, which a method checks")
            definitions.append(definition)
        kinds: list[type] = [
            kind
            for kind in _JSON
            if any(issubclass(kind, d.included_types) and not issubclass(kind, d.excluded_types) for d in definitions)
        ]
        if kinds:
            return kinds
        others = set(rules) - {"type", "required", "nullable", "coerce", "meta", "default", "dependencies", "excludes"}
        if "coerce" not in rules or others or len(definitions) != 1:
            raise NotCompiled(f"{dotted(path)}.type: {given!r}, which is not of JSON")
        included, excluded = self.name(definitions[0].included_types), self.name(definitions[0].excluded_types)
        self.fail_if(f"not isinstance({var}, {included}) or isinstance({var}, {excluded})")
        return None

    @contextmanager
    def _spared_if_empty(self, var: str, rules: Mapping[str, Any], sized: bool) -> Iterator[None]:
        """The rule `empty` spares the empty value what Cerberus drops for it: lengths, allowed, regex, items, …"""
        if sized and rules.get("empty"):
            with self.block(f"if {var}:"):
                yield
                self.put("pass")
        else:
            yield

    def _lengths(self, var: str, rules: Mapping[str, Any], sized: bool) -> None:
        low, high = rules.get("minlength"), rules.get("maxlength")
        if not sized or (low is None and high is None):
            return
        low = None if low is not None and low <= 0 else low
        if low is not None and high is not None:
            self.fail_if(f"not {low} <= len({var}) <= {high}")
        elif low == 1:
            self.fail_if(f"not {var}")
        elif low is not None:
            self.fail_if(f"len({var}) < {low}")
        elif high is not None:
            self.fail_if(f"len({var}) > {high}")

    def _allowed(self, kind: type, var: str, rules: Mapping[str, Any], path: tuple[Any, ...]) -> None:
        for rule, wrong in (("allowed", "not in"), ("forbidden", "in")):
            if rule not in rules:
                continue
            if kind in SCALARS:
                self.fail_if(f"{var} {wrong} {self.name(_container(rules[rule]))}")
                continue
            if self.predicate and (rule == "forbidden" or not isinstance(rules[rule], (list, tuple))):
                raise NotCompiled(f"{dotted(path)}.{rule}: of a list, in a form")
            values = self.name(_tuple(rules[rule]))
            if rule == "forbidden" and kind is dict:
                self.fail_if(f"{var} in {values}")
                continue
            item = self.new()
            with self.block(f"for {item} in {var}:"):
                if rule == "forbidden":  # what has no hash stops Cerberus
                    self.fail_if(f"type({item}) is list or type({item}) is dict")
                self.fail_if(f"{item} {wrong} {values}")

    def _contains(self, kind: type, var: str, expected: Any, path: tuple[Any, ...]) -> None:
        if self.predicate:
            raise NotCompiled(f"{dotted(path)}.contains: in a form")
        if isinstance(expected, str) or not isinstance(expected, Iterable):
            expected = (expected,)
        if kind is list:
            item = self.new()
            self.fail_if(f"any(type({item}) is list or type({item}) is dict for {item} in {var})")
        self.fail_if(f"not {self.name(frozenset(expected))}.issubset({var})")

    def _text(self, var: str, rules: Mapping[str, Any], policy: Policy) -> None:
        allowed = rules.get("allowed")
        plain = policy.plain()
        if allowed is not None and not rules.get("empty") and all(ordinary(value, plain) for value in allowed):
            return
        self.fail_if(f"not ({var}.isascii() and {var}.isprintable() or {self.plain(policy)}({var}))")

    def _regex(self, var: str, pattern: Pattern, path: tuple[Any, ...]) -> None:
        if not pattern.bounded and (self.predicate or not {"schema", "keysrules", "valuesrules"}.isdisjoint(path)):
            raise NotCompiled(f"{dotted(path)}.regex: one that may take long, for many values or in a form")
        self.fail_if(f"not {self.name(pattern.quick)}({var})")

    def _bounds(self, kind: type, var: str, rules: Mapping[str, Any], path: tuple[Any, ...]) -> None:
        for rule, sign in (("min", "<"), ("max", ">")):
            if rule not in rules:
                continue
            bound = rules[rule]
            if type(bound) not in SCALARS:
                raise NotCompiled(f"{dotted(path)}.{rule}: a bound that is neither a number nor a text")
            if (kind is str) == (type(bound) is str) and kind in SCALARS:
                self.fail_if(f"{var} {sign} {self._constant(bound)}")

    def _constant(self, value: Any) -> str:
        return repr(value) if type(value) in (int, bool) else self.name(value)

    def _checks(self, kind: type, var: str, field: str, rules: Mapping[str, Any], path: tuple[Any, ...]) -> None:
        checks = rules.get("check_with", ())
        coerced = [getattr(step, "__self__", None) for step in as_list(rules.get("coerce", ()))]
        for check in as_list(checks):
            named = getattr(check, "__self__", None)
            if isinstance(check, str):
                raise NotCompiled(f"{dotted(path)}.check_with: by name")
            if isinstance(check, Fits):
                if kind is str:
                    self.fail_if(f"not ({check.source(var)} or {self.name(check.quick)}({var}))")
            elif isinstance(named, NamedType) and coerced == [named] and not self.predicate:
                continue  # looked at where it was coerced
            else:
                self.fail_if(f"finds_fault({self.name(check)}, {field}, {var})")


def _container(values: Any) -> Any:
    try:
        return frozenset(values)
    except TypeError:
        return _tuple(values)


def _tuple(values: Any) -> Any:
    return tuple(values) if isinstance(values, (list, tuple, set, frozenset)) else values
