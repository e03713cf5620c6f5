"""Compiles a schema to plain Python that accepts what it fully understands.

The function takes a document and gives the very document that Cerberus would, or None: then Cerberus
has the word. It never accepts what Cerberus refuses. What a rule means is read off
`cerberus.validator` 1.3 (the order there: rename, purge, readonly, defaults, coerce, containers; then for
each field nullable, type, empty and the rest), and tests/test_validation_compiler.py
compares the two on generated schemas and documents.

Only the seven types that JSON decodes to are known, by identity: `type(v) is str`. Text is looked at
on the way, for a text that needs cleaning is not accepted either.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from tidegate_validation.schema import Fresh, Schema
from tidegate_validation.source import NotCompiled, Scope, as_list, dotted, failing
from tidegate_validation.text import Tree
from tidegate_validation.values import Values

__all__ = ["Accept", "NotCompiled", "compiled", "compiled_check"]
Accept = Callable[[dict[str, Any]], dict[str, Any] | None]


def compiled(schema: Schema) -> Accept:
    """Raises NotCompiled, which says which rule of which parameter is the reason."""
    source = Compiler(schema)
    body = source.document_function()
    return source.function("accept(doc)", [*body("return None"), "return out"], "accept")  # type: ignore[no-any-return]


def compiled_check(schema: Schema, proceed: Callable[[Any], Any], slow: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """The same around the rest of a call, in one function, for a function call costs as much as a field."""
    source = Compiler(schema)
    body = source.document_function()
    env = {"proceed": proceed, "slow": slow}
    lines = ["doc = call.params", *body("return slow(call)")]
    if source.changes:
        lines += ["if out is not doc:", "    call.params = out"]
    return source.function("check(call)", [*lines, "return proceed(call)"], "check", env)  # type: ignore[no-any-return]


class Compiler(Values):
    """One schema's function in the making."""

    def document_function(self) -> Callable[[str], list[str]]:
        """The body, as a function of the statement that fails."""
        self.changes = self.document("doc", "out", self.schema.fields, self.schema.tree, Scope(), ())
        lines = self.lines
        return lambda fail: failing(lines, fail)

    def document(
        self, doc: str, out: str, fields: Mapping[Any, Any], tree: Tree, scope: Scope, path: tuple[Any, ...]
    ) -> bool:
        """Check `doc`, a dict; `out` is then what it becomes. Whether it may become another."""
        needed, optional, absent = self._sorted_fields(fields, scope, path)
        self.put(f"{out} = {doc}")
        held = {key: self.new() for key in (*needed, *optional)}
        if needed:
            with self.block("try:"):
                for key in needed:
                    self.put(f"{held[key]} = {doc}[{key!r}]")
            self.put("except KeyError:")
            self.put("    FAIL")
        counted = bool(optional) and not scope.allow_unknown
        if counted:
            number = self.new("n")
            self.put(f"{number} = {len(needed)}")
        elif not scope.allow_unknown:
            self.fail_if(f"len({doc}) != {len(needed)}")
        changes = False
        for key in needed:
            changes |= self._field(doc, out, key, held[key], fields[key], tree, scope, path)
        for key in optional:
            var = held[key]
            self.put(f"{var} = {doc}.get({key!r}, MISSING)")
            with self.block(f"if {var} is not MISSING:"):
                if counted:
                    self.put(f"{number} += 1")
                changes |= self._field(doc, out, key, var, fields[key], tree, scope, path)
                self.put("pass")
            if scope.normalize and ("default" in fields[key] or "default_setter" in fields[key]):
                with self.block("else:"):
                    if default := self._default(key, fields[key], path):
                        self.assign(doc, out, repr(key), default)
                        changes = True
                    else:
                        self.put("FAIL")
        for key in absent:
            if scope.normalize and ("default" in fields[key] or "default_setter" in fields[key]):
                if (default := self._default(key, fields[key], path)) is None:
                    raise NotCompiled(f"{dotted((*path, key))}: readonly or rename, with a default_setter")
                self.fail_if(f"{key!r} in {doc}")
                self.assign(doc, out, repr(key), default)
                changes = True
        if counted:
            self.fail_if(f"len({doc}) != {number}")
        elif scope.allow_unknown:
            self._unknown(doc, fields, absent, tree)
        for key in (*needed, *optional, *absent):
            self._relations(out, key, fields[key], path)
        return changes

    def _sorted_fields(
        self, fields: Mapping[Any, Any], scope: Scope, path: tuple[Any, ...]
    ) -> tuple[list[Any], list[Any], list[Any]]:
        """Which have to be there, which may, and which are Cerberus' business when they are."""
        needed: list[Any] = []
        optional: list[Any] = []
        absent: list[Any] = []
        for key, rules in fields.items():
            here = (*path, key)
            if not isinstance(rules, Mapping):
                raise NotCompiled(f"{dotted(here)}: a rule set by its name in a registry")
            if not isinstance(key, (str, int)):
                raise NotCompiled(f"{dotted(here)}: a name that is no text")
            required = rules.get("required", scope.require_all) is True
            if rules.get("readonly") or "rename" in rules or "rename_handler" in rules:
                absent.append(key)
                if required and not ("default" in rules or "default_setter" in rules):
                    raise NotCompiled(
                        f"{dotted(here)}: required and {'readonly' if rules.get('readonly') else 'rename'}"
                    )
            if key in absent and self.predicate:
                raise NotCompiled(f"{dotted(here)}: readonly or rename in a form")
            if key in absent:
                continue
            gives = scope.normalize and ("default" in rules or "default_setter" in rules)
            (needed if required and not gives else optional).append(key)
        return needed, optional, absent

    def _field(
        self,
        doc: str,
        out: str,
        key: Any,
        var: str,
        rules: Mapping[str, Any],
        tree: Tree,
        scope: Scope,
        path: tuple[Any, ...],
    ) -> bool:
        below = tree.fields.get(key, tree.every or tree)
        first = self.new()
        mark = len(self.lines)
        if not self.value(var, repr(key), rules, below, scope, (*path, key)):
            return False
        self.lines.insert(mark, "    " * self.depth + f"{first} = {var}")
        with self.block(f"if {var} is not {first}:"):
            self.assign(doc, out, repr(key), var)
        return True

    def _unknown(self, doc: str, fields: Mapping[Any, Any], absent: list[Any], tree: Tree) -> None:
        """allow_unknown: any JSON value, with ordinary texts."""
        known, plain = self.name(frozenset(fields)), self.plain(tree.policy)
        key = self.new("k")
        if absent:
            self.fail_if(" or ".join(f"{name!r} in {doc}" for name in absent))
        if not self.predicate:
            with self.block(f"for {key} in {doc}:"):
                self.fail_if(
                    f"{key} not in {known} and not ({key}.isascii() and {key}.isprintable() "
                    f"and ordinary({doc}[{key}], {plain}))"
                )

    def _default(self, key: Any, rules: Mapping[str, Any], path: tuple[Any, ...]) -> str | None:
        """An expression for a default that Cerberus takes as it is; None where a function finds it."""
        setter = rules.get("default_setter")
        if "default" in rules and setter is not None:
            raise NotCompiled(f"{dotted((*path, key))}: default and default_setter")
        if "default" in rules:
            value, expression = rules["default"], None
        elif isinstance(setter, Fresh):
            value, expression = setter.default, f"{self.name(setter)}()"
        else:
            return None
        alone = {key: {rule: v for rule, v in rules.items() if rule not in ("dependencies", "excludes")}}
        checker = self.schema.validator(alone)
        if checker.validated({key: value}) != {key: value} or type(checker.document[key]) is not type(value):
            raise NotCompiled(f"{dotted((*path, key))}.default: one that is changed or refused")
        return expression or (repr(value) if value is None or type(value) in (str, int, bool) else self.name(value))

    def _relations(self, out: str, key: Any, rules: Mapping[str, Any], path: tuple[Any, ...]) -> None:
        """dependencies and excludes, on the document as it became."""
        others = rules.get("dependencies", ())
        others = [others] if isinstance(others, str) or not isinstance(others, Iterable) else others
        wrong = []
        for other in others:
            if not isinstance(other, str) or "." in other or "^" in other:
                raise NotCompiled(f"{dotted((*path, key))}.dependencies: a path")
            if isinstance(others, Mapping):
                values = others[other]
                values = [values] if isinstance(values, str) or not isinstance(values, (list, tuple)) else values
                wrong.append(f"{out}.get({other!r}) not in {self.name(tuple(values))}")
            else:
                wrong.append(f"{other!r} not in {out}")
        for other in as_list(rules["excludes"]) if "excludes" in rules else ():
            wrong.append(f"{other!r} in {out}")
        if wrong:
            self.fail_if(f"{key!r} in {out} and ({' or '.join(wrong)})")
