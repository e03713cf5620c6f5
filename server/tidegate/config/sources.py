"""What is read from file, environment and command line, the strongest on top, unchecked."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from copy import deepcopy
from pathlib import Path
from typing import Any, NamedTuple

from tidegate.config.problem import ConfigError, Keys, Problem, dotted
from tidegate.config.texts import Text, typed
from tidegate.config.toml import parsed
from tidegate.plugin import RINGS
from tidegate.settings import PLUGIN, Namespace

PREFIX = "TIDEGATE__"


class Origin(NamedTuple):
    where: str
    label: str


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
        raw.tree, lines = parsed(path)
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
