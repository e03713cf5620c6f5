"""Writes the text of a function, line by line, with names for the objects in it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from itertools import count
from typing import Any, NamedTuple

from tidegate_validation.schema import Schema
from tidegate_validation.text import Policy

MISSING = object()
SCALARS: tuple[type, ...] = (str, int, float, bool)


class NotCompiled(Exception):
    """A schema that Cerberus has to look at on every call; the text says which rule is why."""


class Scope(NamedTuple):
    """What a sub-schema inherits."""

    normalize: bool = True
    allow_unknown: bool = False
    require_all: bool = False


def ordinary(value: Any, plain: Callable[[str], bool]) -> bool:
    """Whether a JSON value has only texts, keys too, that are accepted as they are."""
    kind = type(value)
    if kind is str:
        return (value.isascii() and value.isprintable()) or plain(value)
    if kind is dict:
        return all(key.isascii() and key.isprintable() and ordinary(item, plain) for key, item in value.items())
    if kind is list:
        return all(ordinary(item, plain) for item in value)
    return kind in SCALARS or value is None


def finds_fault(check: Callable[..., None], *given: Any) -> bool:
    """Whether a rule's function calls `error`."""
    found: list[Any] = []
    check(*given, lambda *error: found.append(error))
    return bool(found)


class Source:
    """The text of one function, and the objects that it names."""

    def __init__(self, schema: Schema) -> None:
        self.schema = schema
        self.env: dict[str, Any] = {"ordinary": ordinary, "finds_fault": finds_fault, "MISSING": MISSING}
        self.lines: list[str] = []
        self.depth = 0
        self.numbers = count()
        self.predicates: list[str] = []  # functions for the forms of an *of rule
        self.predicate = False  # inside one: no text is looked at, and False means that Cerberus refuses
        self.changes = False
        self.purges = "purge_unknown" in repr(schema.fields)
        self.plains: dict[Policy, str] = {}

    def function(self, head: str, body: list[str], name: str, env: Mapping[str, Any] | None = None) -> Any:
        text = "\n".join([*self.predicates, f"def {head}:", *(f"    {line}" for line in body)])
        # The module's name, so that a traceback is laid at this plugin's door.
        space = {"__name__": __name__, **self.env, **(env or {})}
        try:
            exec(compile(text, f"<schema of {self.schema.name}>", "exec"), space)  # noqa: S102 (made here, of repr()s and names of its own)
        except (SyntaxError, RecursionError, MemoryError) as error:  # more nested loops than Python has
            raise NotCompiled(f"params: it is nested too deep ({error})") from None
        return space[name]

    # --- writing ------------------------------------------------------------------------------------

    def put(self, line: str) -> None:
        self.lines.append("    " * self.depth + line)

    def fail_if(self, condition: str) -> None:
        self.put(f"if {condition}:")
        self.put("    FAIL")

    @contextmanager
    def block(self, head: str) -> Iterator[None]:
        self.put(head)
        self.depth += 1
        yield
        self.depth -= 1

    def new(self, prefix: str = "v") -> str:
        return f"{prefix}{next(self.numbers)}"

    def name(self, value: Any) -> str:
        """A name for an object; the same for the same object."""
        for known, held in self.env.items():
            if held is value:
                return known
        name = self.new("K")
        self.env[name] = value
        return name

    def plain(self, policy: Policy) -> str:
        """A name for the function that knows a text to be accepted as it is."""
        if policy not in self.plains:
            self.plains[policy] = self.name(policy.plain())
        return self.plains[policy]


def failing(lines: list[str], fail: str) -> list[str]:
    """The lines with the statement that fails in its places."""
    return [line.replace("FAIL", fail) if line.strip() == "FAIL" else line for line in lines]


def dotted(path: tuple[Any, ...]) -> str:
    """`params.members.schema`."""
    return ".".join(["params", *map(str, path)])


def as_list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, (list, tuple)) else [value]
