"""Settings from file, environment and command line, checked; each mistake told by its line."""

from __future__ import annotations

import json
import math
import os
import re
import stat
import tomllib
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from contextlib import suppress
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, cast

from cerberus import SchemaError, TypeDefinition, Validator, errors

from tidegate.nearest import hint
from tidegate.plugin import RINGS
from tidegate.settings import PLUGIN, Namespace, annotated, document, listener_mistakes, reference

__all__ = (
    "ConfigError",
    "Namespace",
    "Problem",
    "Raw",
    "Settings",
    "annotated",
    "check",
    "read",
    "reference",
)

MAX_FILE_BYTES = 1_048_576
MAX_SECRET_BYTES = 65_536
PREFIX = "TIDEGATE__"

Keys = tuple[str, ...]
Rules = Mapping[str, Any]


class Problem(NamedTuple):
    """One mistake: `etc/tidegate.toml:14`, `server.threads`, `expected integer, got 'five'`."""

    where: str
    key: str
    text: str

    def __str__(self) -> str:
        return ": ".join(part for part in self if part)


class ConfigError(Exception):
    """All mistakes at once, those of the file by line; as text one line each."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = sorted(problems, key=_by_line)
        super().__init__("\n".join(map(str, self.problems)))


def _by_line(problem: Problem) -> tuple[bool, str, int, str]:
    name, colon, line = problem.where.rpartition(":")
    if colon and line.isdecimal():
        return (False, name, int(line), problem.key)
    return (True, problem.where, 0, problem.key)


class Text(str):
    """A value from the environment or from --set, which gets its type from the schema."""


class Origin(NamedTuple):
    where: str
    label: str


# --- reading --------------------------------------------------------------------------------------


class Raw:
    """What was read from everywhere, the strongest source on top, unchecked."""

    def __init__(self, source: str, environ: Mapping[str, str]) -> None:
        self.source = source
        self.environ = environ
        self.tree: dict[str, Any] = {}
        self.origins: dict[Keys, Origin] = {}

    def put(self, keys: Keys, value: object, origin: Origin) -> None:
        """Set one key over what is there. Raises LookupError for a list index that leaves a gap."""
        node: Any = self.tree
        for depth, key in enumerate(keys, 1):
            at: Any = key
            if isinstance(node, list):
                if not (key.isascii() and key.isdecimal()) or int(key) > len(node):
                    raise LookupError(f"expected an index from 0 to {len(node)}, got {key!r}")
                at = int(key)
                node.extend([{}] * (at == len(node)))
            if depth == len(keys):
                node[at] = value
                break
            below = node[at] if isinstance(node, list) else node.get(at)
            if not isinstance(below, dict | list):
                below = node[at] = [] if keys[:depth] == ("listen",) else {}
            node = below
        self.origins = {old: o for old, o in self.origins.items() if old[: len(keys)] != keys}
        self.origins[keys] = origin

    def origin(self, keys: Keys) -> Origin:
        """Where a key or a part of it was given, or else the table that it would stand in."""
        below = [one for old, one in self.origins.items() if old[: len(keys)] == keys]
        if keys not in self.origins and below:
            return below[-1]  # the strongest of those that gave a part of it
        # The first table of any plugin tells nothing about another one's.
        least = 1 if keys[0] == "plugins" and len(keys) > 1 else 0
        for end in range(len(keys), least, -1):
            if (found := self.origins.get(keys[:end])) is not None:
                return found
        return Origin(self.source, self.source)

    def core(self, name: str) -> Namespace:
        """`enabled`, `required`, `ring` of a plugin; a mistake counts as the default."""
        rules = {"type": "dict", "valuesrules": {"type": "dict", "schema": PLUGIN}}
        tables = typed(self.tree.get("plugins"), rules)
        given = tables.get(name) if isinstance(tables, dict) else None
        own = Namespace(**{key: PLUGIN[key]["default"] for key in PLUGIN})
        if isinstance(given, dict):
            for key in ("enabled", "required"):
                if isinstance(given.get(key), bool):
                    setattr(own, key, given[key])
            own.ring = given["ring"] if given.get("ring") in RINGS else None
        return own


def read(
    path: Path | None = None,
    *,
    environ: Mapping[str, str] = os.environ,
    sets: Sequence[str] = (),
    flags: Mapping[str, object] = {},
) -> Raw:
    """The file, over it the environment, then `--set key=value`, then `flags` (None: not given).

    Reads at most 1 MiB and blocks on it: a running server calls this in a thread.
    Raises ConfigError.
    """
    raw = Raw(str(path) if path else "configuration", environ)
    if path is not None:
        raw.tree, lines = _parse(path)
        raw.origins = {keys: Origin(f"{path}:{line}", f"{path}:{line}") for keys, line in lines.items()}
    server = raw.tree.get("server", {})
    if isinstance(server, dict) and "data" not in server and (folder := environ.get("STATE_DIRECTORY")):
        # systemd gives several folders with colons between them; the first is ours.
        raw.put(
            ("server", "data"),
            folder.partition(":")[0],
            Origin("environment STATE_DIRECTORY", "environment"),
        )
    problems = []
    for keys, value, origin in (
        *_from_environment(environ),
        *_from_sets(sets),
        *_from_flags(flags),
    ):
        try:
            if not keys or not all(keys):
                raise LookupError("expected a dotted key and a value, such as server.threads=8")
            raw.put(keys, value, origin)
        except LookupError as error:
            problems.append(Problem(origin.where, dotted(keys), str(error.args[0])))
    if problems:
        raise ConfigError(problems)
    return raw


Given = Iterator[tuple[Keys, object, Origin]]


def _from_environment(environ: Mapping[str, str]) -> Given:
    found = [(tuple(name[len(PREFIX) :].lower().split("__")), name) for name in environ if name.startswith(PREFIX)]
    # In the order of the indexes: LISTEN__10 after LISTEN__9.
    for keys, name in sorted(found, key=lambda one: [(part.isdecimal(), part.zfill(9)) for part in one[0]]):
        yield keys, Text(environ[name]), Origin(f"environment {name}", "environment")


def _from_sets(sets: Sequence[str]) -> Given:
    for one in sets:
        name, equals, value = one.partition("=")
        keys: list[str] = []
        if equals and "\n" not in name:
            with suppress(tomllib.TOMLDecodeError):
                node: Any = tomllib.loads(f"{name} = 0")
                while isinstance(node, dict):
                    key, node = next(iter(node.items()))
                    keys.append(key)
        # The value stays out of the name: it may be a secret.
        yield tuple(keys), Text(value), Origin(f"--set {name.strip()}", "--set")


def _from_flags(flags: Mapping[str, object]) -> Given:
    for name, value in flags.items():
        keys = tuple(name.split("."))
        flag = "--" + (keys[0] if keys[0] == "listen" else keys[-1]).replace("_", "-")
        if value is not None:
            yield (
                keys,
                Text(value) if isinstance(value, str) else deepcopy(value),
                Origin(flag, flag),
            )


def _parse(path: Path) -> tuple[dict[str, Any], dict[Keys, int]]:
    where = str(path)
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
        if len(data) > MAX_FILE_BYTES:
            raise ConfigError([Problem(where, "", "expected at most 1 MiB, the file is bigger")])
        text = data.decode("utf-8-sig").replace("\r\n", "\n")
        return tomllib.loads(text), _lines(text)
    except OSError as error:
        raise ConfigError([Problem(where, "", f"cannot be read: {error.strerror or error}")]) from error
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise ConfigError([Problem(f"{where}:{line}", "", "expected UTF-8, got other bytes")]) from error
    except ValueError as error:  # tomllib's own, or Python's for a number of 5,000 digits
        at = re.search(r" \(at (?:line (\d+), column (\d+)|end of document)\)$", str(error))
        if at is None:
            raise ConfigError([Problem(where, "", f"not valid TOML: {error}")]) from error
        line = int(at[1] or text.count("\n") + (not text.endswith("\n")))
        place = f"column {at[2]}" if at[2] else "the end of the file"
        told = f"not valid TOML at {place}: {str(error)[: at.start()]}"
        raise ConfigError([Problem(f"{where}:{line}", "", told)]) from error
    except RecursionError:
        raise ConfigError([Problem(where, "", "is nested too deeply")]) from None


_TOKEN = re.compile(
    r'''(?P<string>"""(?:[^\\]|\\.)*?""""{0,2}|\'\'\'.*?\'\'\'\'{0,2}|"(?:[^"\\\n]|\\.)*"|'[^'\n]*')'''
    r"""|(?P<comment>\#[^\n]*)|(?P<newline>\n)|(?P<mark>[\[\]{}=.,])|(?P<bare>[^\s\[\]{}=.,"'\#]+)""",
    re.S,
)


def _lines(text: str) -> dict[Keys, int]:
    """The line of every table, key and list item of a valid TOML text."""
    return _Scanner(text).found


class _Scanner:
    """Reads what tomllib has found valid once more, for the lines that it does not tell."""

    def __init__(self, text: str) -> None:
        self.found: dict[Keys, int] = {}
        self.tokens: list[tuple[str, str, int]] = []  # (kind, token, line), the next one last
        line = 1
        for match in _TOKEN.finditer(text):
            kind, token = match.lastgroup or "", match.group()
            if kind != "comment":
                self.tokens.append((kind, token, line))
            line += token.count("\n")
        self.tokens.reverse()
        self.document()

    def sees(self, mark: str) -> bool:
        return bool(self.tokens) and self.tokens[-1][1] == mark and self.tokens[-1][0] != "string"

    def document(self) -> None:
        table: Keys = ()
        counts: dict[Keys, int] = {}
        while self.tokens:
            if self.sees("\n"):
                self.tokens.pop()
            elif self.sees("["):
                table = self.header(counts)
            else:
                self.pair(table)

    def header(self, counts: dict[Keys, int]) -> Keys:
        line = self.tokens.pop()[2]
        many = self.sees("[")
        header, table = self.key("]"), cast(Keys, ())
        for depth, key in enumerate(header, 1):
            table = (*table, key)
            if depth == len(header) and many:
                self.note(table, line)
                counts[table] = counts.get(table, -1) + 1
                self.tokens.pop()
            if table in counts:
                table = (*table, str(counts[table]))
        return self.note(table, line)

    def key(self, end: str) -> list[str]:
        keys = []
        while not self.sees(end):
            kind, token, _ = self.tokens.pop()
            if kind == "string":
                keys.append(tomllib.loads(f"key = {token}")["key"])
            elif kind == "bare":
                keys.append(token)
        self.tokens.pop()
        return keys

    def note(self, keys: Keys, line: int, known: int = 0) -> Keys:
        for end in range(known + 1, len(keys) + 1):
            self.found.setdefault(keys[:end], line)
        return keys

    def pair(self, table: Keys) -> None:
        line = self.tokens[-1][2]
        self.value(self.note((*table, *self.key("=")), line, len(table)))

    def value(self, keys: Keys) -> None:
        if not self.sees("[") and not self.sees("{"):
            while self.tokens and (self.tokens[-1][0] in ("string", "bare") or self.sees(".")):
                self.tokens.pop()
            return
        end, index = {"[": "]", "{": "}"}[self.tokens.pop()[1]], 0
        while not self.sees(end):
            if self.sees(",") or self.sees("\n"):
                self.tokens.pop()
            elif end == "}":
                self.pair(keys)
            else:
                self.value(self.note((*keys, str(index)), self.tokens[-1][2], len(keys)))
                index += 1
        self.tokens.pop()


# --- giving types to text -------------------------------------------------------------------------


def _kinds(rules: Rules) -> tuple[str, ...]:
    kinds = rules.get("type", ())
    return (kinds,) if isinstance(kinds, str) else tuple(kinds)


def _inner(rules: Rules, key: str) -> Rules:
    """The rules of a table's key or a list's item; none where the schema says nothing about it."""
    schema = rules.get("schema")
    if key.isdecimal() and "dict" not in _kinds(rules):
        items = rules.get("items", ())
        found = items[int(key)] if int(key) < len(items) else schema
    elif isinstance(schema, Mapping) and key in schema:
        found = schema[key]
    else:
        found = rules.get("valuesrules", rules.get("allow_unknown"))
    return found if isinstance(found, Mapping) else {}


def typed(value: Any, rules: Rules) -> Any:
    """A copy in which each Text has the type that the rules ask for, or stays a string."""
    kinds = _kinds(rules)
    if isinstance(value, Text):
        value = _from_text(value, kinds)
    if isinstance(value, dict):
        indexes = [str(index) for index in range(len(value))]
        if not ("list" in kinds and "dict" not in kinds and indexes and set(value) == set(indexes)):
            return {key: typed(one, _inner(rules, key)) for key, one in value.items()}
        value = [value[index] for index in indexes]
    if isinstance(value, list):
        return [typed(one, _inner(rules, str(index))) for index, one in enumerate(value)]
    return value


def _from_text(text: Text, kinds: Sequence[str]) -> Any:
    for kind in sorted(kinds, key=lambda kind: kind == "string"):
        if kind == "string":
            break
        with suppress(ValueError):
            return _READERS.get(kind, _toml)(text)
    if not kinds:
        with suppress(ValueError):
            return _toml(text)
    return str(text)


def _toml(text: str) -> Any:
    try:
        found = tomllib.loads(f"value = {text}")
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if len(found) != 1:
        raise ValueError("more than one value")
    return found["value"]


def _table(text: str) -> Any:
    """TOML or JSON; any other text stays what it is."""
    with suppress(ValueError):
        return _toml(text)
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _list(text: str) -> Any:
    if text.lstrip().startswith("["):
        return _table(text)
    return [Text(part.strip()) for part in text.split(",") if part.strip()]


def _boolean(text: str) -> bool:
    words = {
        "true": True,
        "yes": True,
        "on": True,
        "1": True,
        "false": False,
        "no": False,
        "off": False,
        "0": False,
    }
    try:
        return words[text.strip().lower()]
    except KeyError:
        raise ValueError("no truth value") from None


def _number(text: str) -> float:
    return int(text) if re.fullmatch(r"\s*[+-]?\d+\s*", text) else float(text)


_READERS: dict[str, Callable[[str], Any]] = {
    "boolean": _boolean,
    "integer": int,
    "float": _number,
    "number": _number,
    "list": _list,
    "dict": _table,
}


# --- checking -------------------------------------------------------------------------------------


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
            rules = _inner(rules, key)
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
            self.problem(("plugins",), f"expected table, got {_got(plugins)}")
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
            if _secret(rules) and "dict" not in _kinds(rules):
                return typed(self.secret(value, keys), rules)
            return {key: self.settled(one, _inner(rules, key), (*keys, key)) for key, one in value.items()}
        if isinstance(value, list):
            items = [(one, str(index)) for index, one in enumerate(value)]
            return [self.settled(one, _inner(rules, key), (*keys, key)) for one, key in items]
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
        for one in _flat(validator._errors):
            path = (*keys[:-1], *map(str, one.document_path))
            secret = any(_secret(self.rules_at(path[:end])) for end in range(1, len(path) + 1))
            self.problem(path, _said(one, self.rules_at(path), self.rules_at(path[:-1]), secret))
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
        inside = {key: _namespaces(one, _inner(rules, str(key))) for key, one in value.items()}
        if isinstance(schema, Mapping) and "dict" in _kinds(rules):
            return Namespace(**{**dict.fromkeys(schema), **inside})
        return inside
    if isinstance(value, list):
        return [_namespaces(one, _inner(rules, str(index))) for index, one in enumerate(value)]
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
        below = _inner(rules, str(key))
        # What stands in a secret table is secret too.
        below = {**below, "meta": rules["meta"]} if _secret(rules) else below
        yield from _leaves(one, below, (*keys, str(key)))


def _shown(value: Any, rules: Rules) -> Any:
    if _secret(rules):
        return "***" if value not in (None, "") else value
    if isinstance(value, Namespace):
        value = vars(value)
    if isinstance(value, Mapping):
        return {str(key): _shown(one, _inner(rules, str(key))) for key, one in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_shown(one, _inner(rules, str(index))) for index, one in enumerate(value)]
    return value if value is None or isinstance(value, str | int | float) else str(value)


# --- saying what is wrong -------------------------------------------------------------------------


def dotted(keys: Keys) -> str:
    """`plugins."security.threats".ring`, as in TOML."""
    return ".".join(key if re.fullmatch(r"[\w-]+", key) else json.dumps(key) for key in keys)


def _secret(rules: Rules) -> bool:
    meta = rules.get("meta")
    return isinstance(meta, Mapping) and bool(meta.get("secret"))


def _got(value: object, secret: bool = False) -> str:
    if secret:
        return "***"
    if isinstance(value, bool):
        return "true" if value else "false"
    for kind, word in ((dict, "a table"), (list, "a list"), (type(None), "nothing")):
        if isinstance(value, kind):
            return word
    shown = repr(value) if isinstance(value, str | int | float) else str(value)
    return shown if len(shown) <= 60 else f"{shown[:57]}…"


def _flat(found: Any) -> Iterator[Any]:
    """Cerberus's errors without the groups around them."""
    for one in found:
        if one.is_group_error and not one.is_logic_error:
            yield from _flat(one.child_errors)
        else:
            yield one


def _said(error: Any, rules: Rules, above: Rules, secret: bool) -> str:
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
        texts = dict.fromkeys(_said(one, {}, {}, secret) for one in _flat(error.child_errors))
        return " or ".join(texts) or f"not accepted: {_got(error.value)}"
    template = errors.BasicErrorHandler.messages.get(code, "not accepted: {value}")
    given = {"constraint": error.constraint, "field": error.field, "value": _got(error.value)}
    return str(template.format(*error.info, **given))


_WORDS = {"dict": "table", "boolean": "true or false"}
_LEAST = {errors.MIN_VALUE.code, errors.MIN_LENGTH.code}
_MOST = {errors.MAX_VALUE.code, errors.MAX_LENGTH.code}


def _expected(error: Any, rules: Rules, secret: bool) -> str | None:
    """`expected integer, got 'five'` for the usual mistakes, None for others."""
    wanted, value, code = error.constraint, error.value, error.code
    meta = rules.get("meta", {})
    got, hinted = _got(value, secret), ""
    if code == errors.BAD_TYPE.code:
        kinds = [wanted] if isinstance(wanted, str) else wanted
        expected = " or ".join(_WORDS.get(kind, kind) for kind in kinds)
        if "list" in kinds and isinstance(value, dict):
            hinted = f"; write it as [[{error.document_path[-1]}]]"
    elif code in (errors.UNALLOWED_VALUE.code, errors.UNALLOWED_VALUES.code):
        wrong = value if code == errors.UNALLOWED_VALUE.code else next(iter(error.info[0]))
        expected, got = f"one of {', '.join(map(_got, wanted))}", _got(wrong, secret)
        hinted = "" if secret else hint(str(wrong), map(str, wanted))
    elif code in _LEAST | _MOST:
        unit = f" {meta['unit']}" if "unit" in meta else ""
        if code in (errors.MIN_LENGTH.code, errors.MAX_LENGTH.code):
            unit = " character" if isinstance(value, str) else " item"
            unit += "s" if wanted != 1 else ""
            got = "***" if secret else str(len(value))
        expected = f"{'at least' if code in _LEAST else 'at most'} {_got(wanted)}{unit}"
    elif code == errors.REGEX_MISMATCH.code:
        such = f", such as {_got(meta['example'])}" if "example" in meta else ""
        expected = f"a string that matches {wanted!r}{such}"
    elif code in (errors.EMPTY_NOT_ALLOWED.code, errors.NOT_NULLABLE.code):
        expected = "a value"
    else:
        return None
    return f"expected {expected}, got {got}{hinted}"
