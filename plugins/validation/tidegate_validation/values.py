"""What a rule set asks of a value, as Python."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tidegate_validation.names import NamedType
from tidegate_validation.rules import OF, Rules
from tidegate_validation.schema import is_document
from tidegate_validation.source import MISSING, NotCompiled, Scope, as_list, dotted, failing
from tidegate_validation.text import Policy, Tree


class Values(Rules):
    """The half of the compiler that knows values; documents are the other half's."""

    def document(
        self, doc: str, out: str, fields: Mapping[Any, Any], tree: Tree, scope: Scope, path: tuple[Any, ...]
    ) -> bool:
        """Check `doc`, a dict; `out` is then what it becomes. Whether it may become another."""
        raise NotImplementedError

    def assign(self, doc: str, out: str, key: str, value: str) -> None:
        """Change `out`, which is a copy of `doc` then."""
        self.put(f"if {out} is {doc}:")
        self.put(f"    {out} = {doc}.copy()")
        self.put(f"{out}[{key}] = {value}")

    def value(
        self, var: str, field: str, rules: Mapping[str, Any], tree: Tree, scope: Scope, path: tuple[Any, ...]
    ) -> bool:
        """Check `var` and make it what normalization makes of it. Whether it may become another."""
        self._known(rules, path)
        if rules.get("nullable"):
            if not self._heeds_none(rules, scope):
                with self.block(f"if {var} is not None:"):
                    changes = self._not_none(var, field, rules, tree, scope, path)
                    self.put("pass")
                return changes
            self.fail_if(f"{var} is None")
        return self._not_none(var, field, rules, tree, scope, path)

    def _not_none(
        self, var: str, field: str, rules: Mapping[str, Any], tree: Tree, scope: Scope, path: tuple[Any, ...]
    ) -> bool:
        changes, done = False, False
        if scope.normalize and "coerce" in rules:
            changes, done = self._coerce(var, rules, tree.policy, path)
        return self._by_kind(var, field, rules, tree, scope, path, done) or changes

    def _coerce(self, var: str, rules: Mapping[str, Any], policy: Policy, path: tuple[Any, ...]) -> tuple[bool, bool]:
        """Whether the value may become another, and whether its text has been looked at."""
        steps = as_list(rules["coerce"])
        if isinstance(named := getattr(steps[0], "__self__", None), NamedType):
            steps = steps[1:]
            if not named.takes_all:
                # What is not canonical yet is Cerberus'. The fast way says yes to printable ASCII only.
                fast, exact = self.name(named.fast), self.name(named.exact)
                long = f"len({var}) > {named.longest} or " if named.longest is not None else ""
                right = f"{fast}({var}) or {exact}({var}) and {self.plain(policy)}({var})"
                self.fail_if(f"type({var}) is not str or {long}not ({right})")
        for step in steps:
            if isinstance(step, str):
                raise NotCompiled(f"{dotted(path)}.coerce: by name")
            self.fail_if(f"{var} is None")
            self.put("try:")
            self.put(f"    {var} = {self.name(step)}({var})")
            self.put("except Exception:")
            self.put("    FAIL")
        return bool(steps), named is not None and not named.takes_all and not steps

    def _by_kind(
        self,
        var: str,
        field: str,
        rules: Mapping[str, Any],
        tree: Tree,
        scope: Scope,
        path: tuple[Any, ...],
        done: bool,
    ) -> bool:
        """`done`: its text has been looked at."""
        kinds = self._kinds(var, rules, path)
        if kinds is None:
            return False
        if all(kind in (int, float, bool) for kind in kinds) or len(kinds) == 1:  # the rules ask the same of numbers
            if not done:
                self.fail_if(" and ".join(f"type({var}) is not {kind.__name__}" for kind in kinds))
            return self._rules(kinds[0], var, field, rules, tree, scope, path, done)
        changes = False
        kind_of = self.new("t")
        self.put(f"{kind_of} = type({var})")
        for place, kind in enumerate(kinds):
            with self.block(f"{'el' if place else ''}if {kind_of} is {kind.__name__}:"):
                changes |= self._rules(kind, var, field, rules, tree, scope, path, done)
                self.put("pass")
        self.put("else:")
        self.put("    FAIL")
        return changes

    def _rules(
        self,
        kind: type,
        var: str,
        field: str,
        rules: Mapping[str, Any],
        tree: Tree,
        scope: Scope,
        path: tuple[Any, ...],
        done: bool,
    ) -> bool:
        """What is asked of a value of one type, the cheap first."""
        sized = kind in (str, list, dict)
        changes = False
        if kind is dict:  # defaults in it count for what is asked of it
            changes = self._inside(kind, var, rules, tree, scope, path)
        if sized and rules.get("empty") is False:
            self.fail_if(f"not {var}")
        with self._spared_if_empty(var, rules, sized):
            self._lengths(var, rules, sized)
        if kind is list:
            changes = self._inside(kind, var, rules, tree, scope, path)
        with self._spared_if_empty(var, rules, sized):
            self._allowed(kind, var, rules, path)
        if "contains" in rules and sized:
            self._contains(kind, var, rules["contains"], path)
        if kind is str and not self.predicate and not done:
            self._text(var, rules, tree.policy)
        self._bounds(kind, var, rules, path)
        with self._spared_if_empty(var, rules, sized):
            if "regex" in rules and kind is str:
                self._regex(var, rules["regex"], path)
            if "items" in rules:
                self._items(kind, var, rules["items"], tree, scope, path)
            self._checks(kind, var, field, rules, path)
        for rule in self._offered(rules):
            check, constraint = self.name(self.schema.validator.offered_rules[rule]), self.name(rules[rule])
            self.fail_if(f"finds_fault({check}, {constraint}, {field}, {var})")
        for rule in OF:
            if rule in rules:
                self._forms(rule, kind, var, field, rules, tree, scope, path)
        return changes

    # --- containers ---------------------------------------------------------------------------------

    def _inside(
        self, kind: type, var: str, rules: Mapping[str, Any], tree: Tree, scope: Scope, path: tuple[Any, ...]
    ) -> bool:
        if kind not in (list, dict):
            return False
        inner = rules.get("schema")
        described = [rule for rule in ("schema", "keysrules", "valuesrules", "items") if rule in rules]
        if len(described) > 1 and set(described) != {"keysrules", "valuesrules"}:
            raise NotCompiled(f"{dotted(path)}: {' and '.join(described)} together")
        if any(isinstance(rules[rule], str) for rule in described):
            raise NotCompiled(f"{dotted(path)}: a schema by its name in a registry")
        if isinstance(inner, Mapping):
            if is_document(rules) != (kind is dict):
                raise NotCompiled(f"{dotted(path)}.schema: one for {'a dict' if kind is list else 'a list'}")
            if kind is list:
                return self._each(var, inner, tree, scope, path)
            return self._nested(var, rules, inner, tree, scope, path)
        if kind is dict and ("keysrules" in rules or "valuesrules" in rules):
            return self._mapping(var, rules, tree, scope, path)
        if "items" not in rules and not self.predicate:
            self.fail_if(f"not ordinary({var}, {self.plain(tree.policy)})")
        return False

    def _nested(
        self,
        var: str,
        rules: Mapping[str, Any],
        fields: Mapping[Any, Any],
        tree: Tree,
        scope: Scope,
        path: tuple[Any, ...],
    ) -> bool:
        scope = scope._replace(
            allow_unknown=bool(rules.get("allow_unknown", scope.allow_unknown)),
            require_all=bool(rules.get("require_all", scope.require_all)),
        )
        out = self.new("d")
        changes = self.document(var, out, fields, tree, scope, path)
        if changes:
            self.put(f"{var} = {out}")
        return changes

    def _each(self, var: str, rules: Mapping[str, Any], tree: Tree, scope: Scope, path: tuple[Any, ...]) -> bool:
        """The rules of a list's items."""
        place, item, first, out = self.new("i"), self.new(), self.new(), self.new("d")
        mark = len(self.lines)
        with self.block("for ITEM:"):
            changes = self.value(item, place, rules, tree.every or tree, scope, (*path, "schema"))
            if changes:
                with self.block(f"if {item} is not {first}:"):
                    self.assign(var, out, place, item)
            self.put("pass")
        if place not in "\n".join(self.lines[mark:]):
            head = f"for {item} in {var}:"
        else:
            head = f"for {place}, {item} in enumerate({var}):"
        self.lines[mark] = self.lines[mark].replace("for ITEM:", head)
        if changes:
            self.lines.insert(mark + 1, "    " * (self.depth + 1) + f"{first} = {item}")
            self.lines.insert(mark, "    " * self.depth + f"{out} = {var}")
            self.put(f"{var} = {out}")
        return changes

    def _items(self, kind: type, var: str, items: list[Any], tree: Tree, scope: Scope, path: tuple[Any, ...]) -> bool:
        if kind is not list:
            raise NotCompiled(f"{dotted(path)}.items: of what is no list")
        self.fail_if(f"len({var}) != {len(items)}")
        for place, rules in enumerate(items):
            item = self.new()
            self.put(f"{item} = {var}[{place}]")
            below = tree.fields.get(place, tree.every or tree)
            if self.value(item, str(place), rules, below, scope, (*path, place)):
                raise NotCompiled(f"{dotted(path)}.items: one that is normalized")
        return False

    def _mapping(self, var: str, rules: Mapping[str, Any], tree: Tree, scope: Scope, path: tuple[Any, ...]) -> bool:
        """keysrules and valuesrules."""
        key, item = self.new("k"), self.new()
        with self.block(f"for {key}, {item} in {var}.items():"):
            if not self.predicate:
                self.fail_if(f"not ({key}.isascii() and {key}.isprintable())")
            changes = False
            if "keysrules" in rules:
                changes = self.value(key, key, rules["keysrules"], Tree(Policy()), scope, (*path, "keysrules"))
            if "valuesrules" in rules:
                changes |= self.value(
                    item, key, rules["valuesrules"], tree.every or tree, scope, (*path, "valuesrules")
                )
            elif not self.predicate:
                self.fail_if(f"not ordinary({item}, {self.plain(tree.policy)})")
            if changes:
                raise NotCompiled(f"{dotted(path)}: keys or values that are normalized")
        return False

    # --- functions and forms ------------------------------------------------------------------------

    def _forms(
        self,
        rule: str,
        kind: type,
        var: str,
        field: str,
        rules: Mapping[str, Any],
        tree: Tree,
        scope: Scope,
        path: tuple[Any, ...],
    ) -> None:
        """anyof and the like: each form becomes a function, exact both ways for JSON values."""
        if (
            kind in (list, dict)
            and not self.predicate
            and any(r in rules for r in ("schema", "items", "keysrules", "valuesrules"))
        ):
            raise NotCompiled(f"{dotted(path)}.{rule}: beside a schema")
        calls = []
        for place, form in enumerate(rules[rule]):
            inherited = {
                "allow_unknown": scope.allow_unknown,
                **{k: rules[k] for k in ("type", "allow_unknown") if k in rules},
            }
            name = self._predicate({**inherited, **form}, tree, scope, (*path, rule, place))
            calls.append(f"{name}({var}, {field})")
        self.fail_if(
            {
                "anyof": f"not ({' or '.join(calls) or 'False'})",
                "allof": f"not ({' and '.join(calls) or 'True'})",
                "noneof": f"({' or '.join(calls) or 'False'})",
                "oneof": f"{' + '.join(calls) or '0'} != 1",
            }[rule]
        )

    def _predicate(self, form: Mapping[str, Any], tree: Tree, scope: Scope, path: tuple[Any, ...]) -> str:
        name, var = self.new("P"), self.new()
        kept = self.lines, self.depth, self.predicate
        self.lines, self.depth, self.predicate = [], 1, True
        try:
            # Cerberus looks at a form with a validator that allows the unknown; a list's items inherit that.
            self.value(var, "field", form, tree, Scope(False, True, scope.require_all), path)
            body = failing(self.lines, "return False")
        finally:
            self.lines, self.depth, self.predicate = kept
        self.predicates += [f"def {name}({var}, field):", *body, "    return True"]
        self.env[name] = MISSING  # defined by the text itself
        return name
