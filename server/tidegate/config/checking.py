"""The checked settings: typed, complete and right, or all mistakes at once."""

from __future__ import annotations

import math
import os
import stat
from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from cerberus import SchemaError, TypeDefinition, Validator

from tidegate.config.problem import ConfigError, Keys, Problem, dotted
from tidegate.config.sources import Raw
from tidegate.config.texts import Rules, Text, inner, is_secret, kinds_of, typed
from tidegate.config.wording import flat, quoted, said
from tidegate.nearest import hint
from tidegate.settings import PLUGIN, Namespace, document, listener_mistakes

MAX_SECRET_BYTES = 65_536


class _Schema(Validator):  # type: ignore[misc]
    # Cerberus takes True for a number.
    types_mapping = {
        **Validator.types_mapping,
        "integer": TypeDefinition("integer", (int,), (bool,)),
        "float": TypeDefinition("float", (float, int), (bool,)),
    }


@dataclass
class Settings:
    """The checked settings. `origins` tells by dotted key where each comes from."""

    server: Namespace
    listen: list[Namespace]
    plugins: dict[str, Namespace]
    origins: dict[str, str] = field(default_factory=dict)
    warnings: list[Problem] = field(default_factory=list)
    _values: dict[str, object] = field(default_factory=dict, repr=False)
    _shown: dict[str, object] = field(default_factory=dict, repr=False)

    def rows(self) -> list[tuple[str, object, str]]:
        """(dotted key, value, origin) of every setting; values as in JSON, secrets as '***'."""
        return [(key, value, self.origins[key]) for key, value in self._shown.items()]

    def changed(self, other: Settings) -> list[str]:
        """The dotted keys that differ, those that only one of both has included."""
        missing = object()
        old, new = self._values, other._values
        return sorted(key for key in {*old, *new} if old.get(key, missing) != new.get(key, missing))


def check(raw: Raw, schemas: Mapping[str, Mapping[str, Any]], unchecked: Container[str] = ()) -> Settings:
    """The settings, typed, complete and right, given each plugin's own schema by the plugin's name.

    The tables of the plugins named in `unchecked`, which are installed and not loaded, are passed over.

    Raises ConfigError with all mistakes. Looks at certificates and reads the files of secrets, so a
    running server calls this in a thread. A table with a schema becomes a Namespace in which a key
    that was not given and has no default is None; a table with free keys stays a dict.
    """
    return _Check(raw, schemas, unchecked).settings()


class _Check:
    def __init__(self, raw: Raw, schemas: Mapping[str, Mapping[str, Any]], unchecked: Container[str]) -> None:
        self.raw = raw
        self.unchecked = unchecked
        self.problems: dict[str, Problem] = {}  # one a key: what follows from it is no news
        self.warnings: list[Problem] = []
        tables = {name: dict(schema) for name, schema in schemas.items()}
        for name in tables:
            for key in PLUGIN.keys() & tables[name].keys():
                self.problem(("plugins", name, key), "the plugin declares a key that is the server's own")
        self.rules: Rules = document(tables)
        self.tree: dict[str, Any] = self.settled(typed(raw.tree, self.rules), self.rules, ())
        if not self.tree.get("listen", True):
            del self.tree["listen"]

    def problem(self, keys: Keys, text: str) -> None:
        self.problems.setdefault(dotted(keys), Problem(self.raw.origin(keys).where, dotted(keys), text))

    def settings(self) -> Settings:
        self.unknown_tables()
        found = {}
        for keys in (
            ("server",),
            ("listen",),
            *(("plugins", name) for name in self.plugin_rules()),
        ):
            found[keys] = self.section(keys, self.rules_at(keys))
        listeners = found["listen",] if isinstance(found["listen",], list) else []
        if not self.problems:
            self.check_listeners(listeners)
        if self.problems:
            raise ConfigError(list(self.problems.values()))
        plugins = {name: found["plugins", name] for name in self.plugin_rules()}
        settings = Settings(found["server",], listeners, plugins, warnings=self.warnings)
        for top, value in found.items():
            for keys, leaf, rules in _leaves(value, self.rules_at(top), top):
                key = dotted(keys)
                settings._values[key] = leaf
                settings._shown[key] = _shown(leaf, rules)
                settings.origins[key] = self.raw.origin(keys).label if self.given(keys) else "default"
        return settings

    def plugin_rules(self) -> dict[str, Rules]:
        found: dict[str, Rules] = self.rules["schema"]["plugins"]["schema"]
        return found

    def rules_at(self, keys: Keys) -> Rules:
        rules = self.rules
        for key in keys:
            rules = inner(rules, key)
        return rules

    def given(self, keys: Keys) -> bool:
        node: Any = self.tree
        for key in keys:
            if isinstance(node, list) and key.isdecimal() and int(key) < len(node):
                node = node[int(key)]
            elif isinstance(node, dict) and key in node:
                node = node[key]
            else:
                return False
        return True

    def unknown_tables(self) -> None:
        for name in self.tree:
            if name not in self.rules["schema"]:
                self.problem((name,), f"unknown key{hint(name, self.rules['schema'])}")
        plugins, known = self.tree.get("plugins", {}), self.plugin_rules()
        if not isinstance(plugins, dict):
            self.problem(("plugins",), f"expected table, got {quoted(plugins)}")
            return
        for name in sorted(plugins.keys() - known.keys()):
            whole, dot, _ = name.partition(".")
            if dot and whole in known:  # a part of a plugin, which may be moved to another ring
                known[name] = {"type": "dict", "schema": {"ring": PLUGIN["ring"]}}
            elif whole in self.unchecked or name in self.unchecked:
                continue
            elif self.raw.core(whole).enabled and self.raw.core(name).enabled:
                near = hint(name, known)
                self.problem(
                    ("plugins", name),
                    f"unknown plugin{near or '; install it, or set enabled = false'}",
                )

    def settled(self, value: Any, rules: Rules, keys: Keys) -> Any:
        """A copy with each secret read from its file or variable."""
        if isinstance(value, dict):
            if is_secret(rules) and "dict" not in kinds_of(rules):
                return typed(self.secret(value, keys), rules)
            return {key: self.settled(one, inner(rules, key), (*keys, key)) for key, one in value.items()}
        if isinstance(value, list):
            items = [(one, str(index)) for index, one in enumerate(value)]
            return [self.settled(one, inner(rules, key), (*keys, key)) for one, key in items]
        if isinstance(value, float) and not math.isfinite(value):
            self.problem(keys, f"expected a finite number, got {value}")
        return value

    def secret(self, value: dict[str, Any], keys: Keys) -> Text | None:
        means, name = next(iter(value.items())) if len(value) == 1 else ("", "")
        if means not in ("file", "env") or not isinstance(name, str):
            self.problem(keys, "expected the secret, {file = …} or {env = …}, got another table")
        elif means == "env":
            if name in self.raw.environ:
                return Text(self.raw.environ[name])
            self.problem(keys, f"the environment variable {name!r} is not set")
        else:
            try:
                with open(name, "rb") as file:
                    if os.fstat(file.fileno()).st_mode & stat.S_IROTH:
                        where, text = (
                            self.raw.origin(keys).where,
                            f"{name!r} may be read by others; chmod o-r it",
                        )
                        self.warnings.append(Problem(where, dotted(keys), text))
                    data = file.read(MAX_SECRET_BYTES + 1)
                if len(data) <= MAX_SECRET_BYTES:
                    return Text(data.decode().removesuffix("\n").removesuffix("\r"))
                self.problem(keys, f"expected at most 64 KiB in {name!r}, the file is bigger")
            except OSError as error:
                self.problem(keys, f"cannot read {name!r}: {error.strerror}")
            except ValueError:  # no UTF-8 in the file, or NUL in its name
                self.problem(keys, f"expected UTF-8 text in {name!r}, got other bytes")
        return None

    def section(self, keys: Keys, rules: Rules) -> Any:
        name, node = keys[-1], self.tree
        for key in keys[:-1]:
            node = node.get(key, {}) if isinstance(node, dict) else {}
        given = {name: node[name]} if isinstance(node, dict) and name in node else {}
        try:
            validator = _Schema({name: rules})
        except SchemaError as error:
            self.problem(keys, f"the plugin's schema is no valid Cerberus schema: {error}")
            return None
        validator.validate(given)
        for one in flat(validator._errors):
            path = (*keys[:-1], *map(str, one.document_path))
            secret = any(is_secret(self.rules_at(path[:end])) for end in range(1, len(path) + 1))
            self.problem(path, said(one, self.rules_at(path), self.rules_at(path[:-1]), secret))
        return _namespaces(validator.document[name], rules)

    def check_listeners(self, listeners: list[Namespace]) -> None:
        seen: dict[str, int] = {}
        for index, listener in enumerate(listeners):
            for key, text in listener_mistakes(listener):
                self.problem(("listen", str(index), key), text)
            first = seen.setdefault(listener.address, index)
            if first != index and not listener.address.endswith(":0"):
                self.problem(("listen", str(index), "address"), f"listen.{first} has the same address")


def _namespaces(value: Any, rules: Rules) -> Any:
    if isinstance(value, Mapping):
        schema = rules.get("schema")
        inside = {key: _namespaces(one, inner(rules, str(key))) for key, one in value.items()}
        if isinstance(schema, Mapping) and "dict" in kinds_of(rules):
            return Namespace(**{**dict.fromkeys(schema), **inside})
        return inside
    if isinstance(value, list):
        return [_namespaces(one, inner(rules, str(index))) for index, one in enumerate(value)]
    return value


def _leaves(value: Any, rules: Rules, keys: Keys) -> Iterator[tuple[Keys, Any, Rules]]:
    inside: Any = ()
    if isinstance(value, Namespace):
        inside = vars(value).items()
    elif isinstance(value, list) and any(isinstance(one, Namespace) for one in value):
        inside = enumerate(value)
    else:
        yield keys, value, rules
    for key, one in inside:
        below = inner(rules, str(key))
        # What stands in a secret table is secret too.
        below = {**below, "meta": rules["meta"]} if is_secret(rules) else below
        yield from _leaves(one, below, (*keys, str(key)))


def _shown(value: Any, rules: Rules) -> Any:
    if is_secret(rules):
        return "***" if value not in (None, "") else value
    if isinstance(value, Namespace):
        value = vars(value)
    if isinstance(value, Mapping):
        return {str(key): _shown(one, inner(rules, str(key))) for key, one in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_shown(one, inner(rules, str(index))) for index, one in enumerate(value)]
    return value if value is None or isinstance(value, str | int | float) else str(value)
