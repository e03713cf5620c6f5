"""Makes commands from marked functions, and checks what they ask for."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType, ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple

from tidegate.codecs import MAX_METHOD_CHARACTERS
from tidegate.model import Command
from tidegate.nearest import hint, nearest

if TYPE_CHECKING:
    from tidegate.plugin import Plugin

_NAME = re.compile(r"[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)*", re.ASCII)


class Note(NamedTuple):
    """A note that first-party plugins know: who reads it, whether a command can go without a reader, and whether
    an operator is told that nobody reads it: without a site nobody misses a path."""

    reader: str
    needed: bool = False
    told: bool = True


#: The notes of contract.md; the core's own are read by the core.
KNOWN_NOTES = {
    **dict.fromkeys(
        ("requires", "scope", "params", "result", "faults", "deprecated", "timeout", "thread", "always"),
        Note("core"),
    ),
    "transaction": Note("transactions", needed=True),
    **dict.fromkeys(("retry", "idempotent", "breaker", "concurrency", "priority", "fallback"), Note("errors")),
    "rate": Note("validation"),
    "cost": Note("validation"),
    "honeypot": Note("security"),
    "http": Note("admin", told=False),
}
#: Injected arguments that first-party plugins provide; never a client's parameter.
KNOWN_ARGUMENTS = {"db": "transactions", "transaction": "transactions", "breaker": "errors", "retrying": "errors"}


class Mistake(ValueError):
    """A command that can't be served; the text says which, and why."""


def commands_of(plugin: Plugin) -> list[tuple[str, Callable[..., Any], Mapping[str, Any]]]:
    """The marked functions of a plugin: its `commands`, then its methods, by name."""
    found = []
    for function in plugin.commands:
        if not hasattr(function, "__tidegate_command__"):
            raise Mistake(f"{function!r} in `commands` is not marked with @command")
        found.append((*function.__tidegate_command__, function))
    for attribute in sorted(dir(type(plugin))):
        function = inspect.getattr_static(type(plugin), attribute)
        if isinstance(function, staticmethod):
            function = function.__func__
        if hasattr(function, "__tidegate_command__"):
            found.append((*function.__tidegate_command__, getattr(plugin, attribute)))
    return [(name, function, notes) for name, notes, function in found]


def commands_in(module: ModuleType) -> list[tuple[str, Callable[..., Any], Mapping[str, Any]]]:
    """The marked functions of one's own module, in the order they are written."""
    return [
        (*thing.__tidegate_command__[:1], thing, thing.__tidegate_command__[1])
        for thing in vars(module).values()
        if callable(thing) and hasattr(thing, "__tidegate_command__")
    ]


def build(
    name: str,
    function: Callable[..., Any],
    notes: Mapping[str, Any],
    plugin: Plugin,
    provided: Iterable[str],
    known_notes: Iterable[str],
) -> Command:
    """A checked Command. Raises Mistake, naming the command."""
    if not isinstance(name, str) or not _NAME.fullmatch(name) or len(name) > MAX_METHOD_CHARACTERS:
        raise Mistake(f"command {name!r}: a name is like 'room.create', at most {MAX_METHOD_CHARACTERS} characters")
    if name.startswith("rpc.") and plugin.name != "core":
        raise Mistake(f"command {name!r}: names that begin with 'rpc.' are reserved by JSON-RPC")
    _check_notes(name, notes, known_notes)
    arguments, injected, required = _signature(name, function, notes, {"call", *provided})
    return Command(name, function, plugin, MappingProxyType(dict(notes)), arguments, injected, required)


def _check_notes(name: str, notes: Mapping[str, Any], known: Iterable[str]) -> None:
    known = {*known, *KNOWN_NOTES}
    for note in notes:
        if note not in known and (near := nearest(note, known)) is not None:
            raise Mistake(f"command {name!r}: unknown note {note!r}; did you mean {near!r}?")
    timeout = notes.get("timeout")
    if timeout is not None and (isinstance(timeout, bool) or not isinstance(timeout, (int, float)) or timeout <= 0):
        raise Mistake(f"command {name!r}: timeout: expected seconds above 0, got {timeout!r}")
    for note, kind in (("requires", str), ("params", Mapping), ("thread", bool), ("always", bool)):
        if note in notes and not isinstance(notes[note], kind):
            raise Mistake(f"command {name!r}: {note}: expected {kind.__name__}, got {notes[note]!r}")
    scope = notes.get("scope", "operate")
    if scope not in ("read", "operate", "security"):
        raise Mistake(f"command {name!r}: scope: expected 'read', 'operate' or 'security', got {scope!r}")


def _signature(
    name: str, function: Callable[..., Any], notes: Mapping[str, Any], injectable: set[str]
) -> tuple[tuple[str, ...], tuple[str, ...], frozenset[str]]:
    arguments, injected, required = [], [], set()
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
            raise Mistake(f"command {name!r}: parameter {parameter} has no name a client could use")
        if parameter.name in injectable:
            injected.append(parameter.name)
        elif parameter.name in KNOWN_ARGUMENTS:
            owner = KNOWN_ARGUMENTS[parameter.name]
            raise Mistake(
                f"command {name!r} asks for {parameter.name!r}, which plugin {owner!r} provides; "
                f"install tidegate-{owner} and enable it"
            )
        else:
            arguments.append(parameter.name)
            if parameter.default is parameter.empty:
                required.add(parameter.name)
    schema = notes.get("params")
    if schema is not None:
        for key, rules in schema.items():
            renamed = isinstance(rules, Mapping) and rules.get("rename") in arguments  # an older name of a parameter
            if key not in arguments and not renamed:
                raise Mistake(f"command {name!r}: params.{key} is no parameter of its function{hint(key, arguments)}")
        if missing := [key for key in arguments if key in required and key not in schema]:
            raise Mistake(f"command {name!r}: params lacks {missing[0]!r}, which its function needs")
        arguments = [*(key for key in schema if key in arguments), *(key for key in arguments if key not in schema)]
    if notes.get("thread") and injected:
        raise Mistake(f"command {name!r}: with thread=True nothing is injected, but it asks for {injected[0]!r}")
    return tuple(arguments), tuple(injected), frozenset(required)


def is_secret(name: str, rules: Mapping[str, Any]) -> bool:
    """Whether a parameter's value is never shown, logged or kept."""
    meta = rules.get("meta") or {}
    return (
        meta.get("profile") == "secret"
        or meta.get("is") == "password"
        or any(word in name for word in ("password", "secret", "token"))
    )
