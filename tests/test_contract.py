"""server/docs/contract.md is what the code is: types, state, notes, topics, configuration keys, read from the page."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest
import tidegate
from tidegate import faults
from tidegate.commands import KNOWN_ARGUMENTS, KNOWN_NOTES
from tidegate.settings import LISTEN, PLUGIN, SERVER
from tidegate.topics import PEER, TOPICS

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "server/docs/contract.md").read_text()


def section(heading: str) -> str:
    found = PAGE.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    assert found, f"the contract has no section {heading!r}"
    return found


def rows(text: str) -> Iterator[list[str]]:
    """The cells of each table row below the heading row."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    for line in lines[2:]:
        yield [cell.strip() for cell in line.strip("|").split("|")]


# --- types ----------------------------------------------------------------------------------------


class Member(NamedTuple):
    """`Connection.push`, and the arguments of a method; None for an attribute."""

    owner: str
    name: str
    arguments: ast.arguments | None

    def __str__(self) -> str:
        return f"{self.owner}.{self.name}"


def members() -> Iterator[Member]:
    (block,) = re.findall(r"^```python\n(.*?)^```$", section("Types"), re.M | re.S)
    for kind in (node for node in ast.parse(block).body if isinstance(node, ast.ClassDef)):
        for node in kind.body:
            if isinstance(node, ast.FunctionDef):
                yield Member(kind.name, node.name, node.args)
            elif isinstance(node, ast.AnnAssign):
                yield Member(kind.name, ast.unparse(node.target), None)
            elif isinstance(node, ast.Assign):
                for target in node.targets:
                    names = target.elts if isinstance(target, ast.Tuple) else [target]
                    yield from (Member(kind.name, ast.unparse(name), None) for name in names)
            elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Name):
                yield Member(kind.name, node.value.id, None)


@pytest.fixture(scope="module")
def nouns() -> Iterator[dict[str, Any]]:
    """One living thing of each type that the page names."""
    import pathlib
    import tempfile

    from tidegate.testing.thread import Inside

    class Watcher(tidegate.Plugin):
        """Hears one topic of each kind."""

    with tempfile.TemporaryDirectory() as folder:
        server = Inside(pathlib.Path(folder), plugins={"watcher": Watcher})
        server.start()
        events = server.events("call.finished", "connection.opened")
        with server.raw() as raw:
            raw.ask("system.ping")
            call = next(event for event in events if event.topic == "call.finished")
            yield {
                "User": tidegate.OPERATOR,
                "Connection": call.connection,
                "Call": call,
                "Command": call.command,
                "Event": next(event for event in events if event is not call),
                "Stash": call.connection.stash,
                "Plugin": server.server.registry.plugins["watcher"],
                "Fault": faults.Fault(),
                "Server": server.server,
            }
        server.stop()


@pytest.mark.parametrize("member", list(members()), ids=str)
def test_a_member_on_the_page_is_there(nouns, member):
    thing = nouns[member.owner]
    assert hasattr(thing, member.name)
    if member.arguments is not None:
        check_arguments(getattr(thing, member.name), member.arguments)


def check_arguments(function: Any, shown: ast.arguments) -> None:
    """The arguments that the page shows can be given as it shows them."""
    known = inspect.signature(function).parameters
    open_ended = any(one.kind is one.VAR_KEYWORD for one in known.values())
    named = [one.name for one in known.values() if one.kind in (one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD)]
    positional = [one.arg for one in shown.args if one.arg != "self"]
    assert named[: len(positional)] == positional
    for one in shown.kwonlyargs:
        assert one.arg in known or open_ended
    given = {*positional, *(one.arg for one in shown.kwonlyargs)}
    needed = {one.name for one in known.values() if one.default is one.empty and one.kind not in (2, 4)}
    assert needed <= given, "the code asks for more than the page shows"


def test_every_type_on_the_page_is_looked_at(nouns):
    assert {member.owner for member in members()} <= set(nouns)


def test_an_operator_is_an_administrator_and_no_user():
    (text,) = re.findall(r"OPERATOR = (User\(.*?\)\))", section("Types"))
    assert eval(text, {"User": tidegate.User, "frozenset": frozenset}) == tidegate.OPERATOR
    assert msgspec.structs.fields(tidegate.User)[-1].default is None


def test_a_plugin_starts_from_the_defaults_on_the_page():
    for name in ("reads", "claims", "provides", "listens"):
        assert getattr(tidegate.Plugin, name) == frozenset()
    assert (tidegate.Plugin.api, tidegate.Plugin.ring, tidegate.Plugin.topics) == ((1, 0), None, {})


def test_a_field_error_is_the_tuple_on_the_page():
    (names,) = re.findall(r'namedtuple\("FieldError", "([^"]+)"\)', section("Types"))
    assert tidegate.FieldError._fields == tuple(names.split())


# --- clock, bus, state ----------------------------------------------------------------------------

CALLABLE = re.compile(r"(\w+)\(([^()]*)\)")


def seams() -> Iterator[tuple[str, str, str]]:
    """(path of the object, method, its arguments): ("state.score", "add", "key, points, now=None")."""
    (block,) = re.findall(r"^```\n(.*?)^```$", section("Clock, bus, state"), re.M | re.S)
    owner = ""
    for line in block.splitlines():
        code = line.partition(" # ")[0]
        if label := re.match(r"(\w+):\s", code):
            owner, code = label[1], code[label.end() :]
        # `a(x) -> T: b() c()`: b and c belong to what a gives.
        first, arrow, rest = code.partition("->")
        for name, arguments in CALLABLE.findall(first):
            yield owner, name, arguments
        made = f"{owner}.{CALLABLE.findall(first)[-1][0]}" if arrow else ""
        for name, arguments in CALLABLE.findall(rest):
            yield made, name, arguments


GIVEN: dict[str, tuple[Any, ...]] = {
    "clock.timer": (lambda: None,),
    "bus.subscribe": ("channel", lambda message: None),
    "state.limit": ("name", "10/second"),
    "state.score": ("name", 60.0),
    "state.values": ("name",),
    "state.members": ("name",),
}


@pytest.mark.parametrize(("owner", "name", "arguments"), list(seams()), ids=lambda part: part)
def test_an_operation_on_the_page_can_be_called_as_it_is_shown(nouns, owner, name, arguments):
    thing: Any = nouns["Server"]
    for part in owner.split("."):
        thing = getattr(thing, part)
    if "." in owner:
        thing = thing(*GIVEN[owner])
    known = list(inspect.signature(getattr(thing, name)).parameters.values())
    # A rate stands for itself on the page: `limit(name, "10/second, 600/hour", …)`.
    shown = [part.strip() for part in re.sub(r'"[^"]*"', "rate", arguments).split(",") if part.strip()]
    assert len(shown) == len(known)
    for text, parameter in zip(shown, known, strict=True):
        word, equals, default = text.partition("=")
        if equals:
            assert parameter.name == word
            assert parameter.default is not parameter.empty
            assert default in ("N", str(parameter.default))


# --- tables ---------------------------------------------------------------------------------------


def test_the_rings_are_those_on_the_page_in_that_order():
    heading = next(line for line in section("Rings").splitlines() if line.startswith("|"))
    assert tuple(cell.strip() for cell in heading.strip("|").split("|")) == tidegate.RINGS


def test_the_notes_are_those_on_the_page_with_their_readers():
    found = {}
    for names, _, readers, otherwise in rows(section("Notes")):
        groups = names.split(";") if ";" in readers else [names]
        for group, reader in zip(groups, readers.split(";"), strict=True):
            for name in re.findall(r"`(\w+)`", group):
                # What the core does where nobody reads a note, it reads too.
                reader = "core" if otherwise.startswith("core:") else reader.strip()
                found[name] = (reader, otherwise == "start refused")
    assert found == {name: (note.reader, note.needed) for name, note in KNOWN_NOTES.items()}


def test_the_injected_arguments_are_those_on_the_page():
    (text,) = re.findall(r"Arguments injected: (.*?); a client", section("Notes"))
    found = {}
    for names, owner in re.findall(r"((?:`\w+`(?:, )?)+) \((\w+)", text):
        found |= dict.fromkeys(re.findall(r"`(\w+)`", names), owner)
    assert found == KNOWN_ARGUMENTS


def topics() -> Iterator[tuple[str, tuple[str, ...]]]:
    """Each topic of the table with its fields; `a`, `.b`; `c` | x; + y; z is by name, or by the semicolons."""
    for names, fields in rows(section("Topics")):
        groups = [topic_names(group) for group in names.split(";")]
        parts = [part.strip() for part in re.sub(r"\([^)]*\)", "", fields).split(";")]
        flat = [[name] for group in groups for name in group]
        before: tuple[str, ...] = ()
        for group, part in zip(flat if len(parts) == len(flat) else groups, parts, strict=True):
            listed = [] if part == "the Call" else [word.strip() for word in part.removeprefix("+ ").split(",")]
            before = (*(before if part.startswith("+") else ()), *listed)
            for name in group:
                yield name, tuple(field for word in before for field in (PEER if word == "peer" else (word,)))


def topic_names(text: str) -> list[str]:
    names = re.findall(r"`([\w.]+)`", re.sub(r"\([^)]*\)", "", text))
    area = names[0].partition(".")[0]
    return [f"{area}{name}" if name.startswith(".") else name for name in names]


def test_the_topics_are_those_on_the_page_with_their_fields():
    assert dict(topics()) == TOPICS


def test_no_field_of_a_topic_hides_what_every_event_has():
    assert [topic for topic, fields in TOPICS.items() if {"topic", "at", "id"} & set(fields)] == []


def test_whatever_is_published_is_on_the_page():
    """Read from the source: the topic of each `publish("…")`, in the core and in every plugin."""
    known, published = set(TOPICS), {}
    for path in [*ROOT.glob("server/tidegate/**/*.py"), *ROOT.glob("plug*/*/tidegate_*/**/*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Assign | ast.AnnAssign) and isinstance(node.value, ast.Dict):
                target = node.target if isinstance(node, ast.AnnAssign) else node.targets[0]
                if ast.unparse(target) == "topics":
                    known |= {key.value for key in node.value.keys if isinstance(key, ast.Constant)}
            elif (
                isinstance(node, ast.Call)
                and re.search(r"(?<!bus)\.publish$", ast.unparse(node.func))
                and node.args
                and isinstance(node.args[0], ast.Constant)
            ):
                published[node.args[0].value] = path.name
    assert {topic: name for topic, name in published.items() if topic not in known} == {}


def test_the_configuration_has_the_keys_on_the_page_and_no_others():
    first = section("Configuration keys").strip().partition("\n`exempt` is")[0]
    tables = dict(re.findall(r"`(\[+[\w.]+\]+)` (.*?)(?= · |$)", first.replace("\n", " ")))
    assert set(tables["[server]"].split()) == set(SERVER)
    assert set(tables["[[listen]]"].split()) == set(LISTEN)
    assert set(tables["[plugins.NAME]"].partition(" are the core's")[0].split()) == set(PLUGIN)


def test_no_address_of_this_machine_is_limited_unless_it_is_asked_for():
    (text,) = re.findall(r"`exempt` is `(\[.*?\])` by default", section("Configuration keys"))
    assert ast.literal_eval(text) == SERVER["exempt"]["default"]
