"""Schemas as commands have them: where failures are named, what is told of them, what the start refuses."""

from __future__ import annotations

import pytest
from cerberus import TypeDefinition
from tidegate import Plugin, command
from tidegate_validation import Validation

ROOM = {
    "name": {"meta": {"is": "room_name"}, "required": True},
    "private": {"type": "boolean", "default": False},
    "members": {
        "type": "list",
        "maxlength": 500,
        "default": [],
        "schema": {
            "type": "dict",
            "schema": {
                "name": {"type": "string", "required": True},
                "role": {"type": "string", "allowed": ["user", "guest"]},
            },
        },
    },
    "secret": {"type": "string", "maxlength": 20, "meta": {"profile": "secret"}},
}


@command("room.create", params=ROOM)
def create(name, private, members, secret=None):
    members.append({"name": "the owner"})
    return [name, private, members]


@command("plain.types")
def types(a: int, b: str = "x", c: list | None = None, *, d: float = 0.5):
    return [a, b, c, d]


@command(
    "either",
    params={
        "other": {"type": "integer", "oneof": [{"min": 5}, {"max": 3}]},
        "value": {"rename": "other"},  # as it was called before
    },
)
def either(other):
    return other


@pytest.fixture
def server(inside):
    return inside(plugins=["validation"], commands=[create, types])


def errors(reply):
    return [(row["field"], row["type"]) for row in reply["error"]["data"]["errors"]]


def test_every_failing_field_is_named_with_its_place(server):
    raw = server.raw()
    reply = raw.ask(
        "room.create",
        {
            "name": " x",
            "private": 1,
            "members": [{"name": "jo"}, {"name": 7}, {"nmae": "x", "role": "king"}],
            "colour": 1,
        },
    )
    assert reply["error"]["code"] == -32602
    assert reply["error"]["data"]["code"] == 1111
    assert errors(reply) == [
        ("params.colour", "UnknownField"),
        ("params.members.1.name", "InvalidType"),
        ("params.members.2.name", "RequiredFieldMissing"),
        ("params.members.2.nmae", "UnknownField"),
        ("params.members.2.role", "InvalidValue"),
        ("params.name", "InvalidFormat"),
        ("params.private", "InvalidType"),
    ]
    messages = {row["field"]: row["message"] for row in reply["error"]["data"]["errors"]}
    assert messages["params.members.2.nmae"] == "Unknown field: nmae; did you mean 'name'?"
    assert messages["params.members.2.role"] == "role: expected one of user, guest"
    assert reply["error"]["message"] == "7 fields are wrong"


def test_a_single_failure_is_itself(server):
    reply = server.raw().ask("room.create", {"name": "lobby", "privat": True})
    assert reply["error"]["data"]["code"] == 1112
    assert reply["error"]["message"] == "Unknown field: privat; did you mean 'private'?"
    reply = server.raw().ask("room.create", {})
    assert (reply["error"]["data"]["code"], reply["error"]["message"]) == (1107, "Field is required: name")


def test_a_long_list_of_failures_is_cut(server):
    reply = server.raw().ask("room.create", {"name": "lobby", "members": [{"name": 1}] * 300})
    assert reply["error"]["message"] == "50 or more fields are wrong"
    assert len(reply["error"]["data"]["errors"]) == 50


def test_a_named_type_alone_is_what_a_lists_items_are(inside):
    """`{"meta": …}` could be a dict's one field, too."""

    @command("invite", params={"names": {"type": "list", "schema": {"meta": {"is": "username"}}}})
    def invite(names):
        return names

    raw = inside(plugins=["validation"], commands=[invite]).raw()
    assert raw.ask("invite", [["jane", "José"]])["result"] == ["jane", "José"]
    assert errors(raw.ask("invite", [["jane", "аdmin", "x"]])) == [
        ("params.names.1", "InvalidCharacters"),
        ("params.names.2", "InvalidLength"),
    ]


def test_defaults_are_filled_in_and_never_shared_between_calls(server):
    raw = server.raw()
    for _ in range(3):
        assert raw.ask("room.create", {"name": "lobby"})["result"] == ["lobby", False, [{"name": "the owner"}]]
    # The same by the slow way: the name is composed there.
    for _ in range(3):
        assert raw.ask("room.create", {"name": "e\u0301"})["result"] == ["é", False, [{"name": "the owner"}]]


def test_a_command_without_a_schema_is_checked_by_its_annotations(server):
    raw = server.raw()
    assert raw.ask("plain.types", [1])["result"] == [1, "x", None, 0.5]
    assert raw.ask("plain.types", {"a": 1, "c": None, "d": 2})["result"] == [1, "x", None, 2]
    assert errors(raw.ask("plain.types", {"a": True, "b": 1, "c": "x", "e": 1})) == [
        ("params.a", "InvalidType"),
        ("params.b", "InvalidType"),
        ("params.c", "InvalidType"),
        ("params.e", "UnknownField"),
    ]
    assert errors(raw.ask("plain.types", [1, "a\x00"])) == [("params.b", "InvalidCharacters")]


def test_a_failure_is_told_with_a_fingerprint_and_no_values(server):
    events = server.events("validation.failed")
    raw = server.raw()
    for secret in ("correct horse battery", "correct horse battery", "correct horse batterz"):
        reply = raw.ask("room.create", {"name": "lobby", "secret": secret})
        assert "horse" not in str(reply)
    assert [event.method for event in events] == ["room.create"] * 3
    assert events[0].errors == [{"field": "params.secret", "type": "InvalidLength"}]
    assert events[0].address == "127.0.0.1"
    prints = [event.fingerprint for event in events]
    assert prints[0] == prints[1] != prints[2]
    assert "horse" not in str([vars(event) for event in events])


def test_what_is_strange_in_a_fields_name_is_not_sent_back(server):
    reply = server.raw().ask("room.create", {"name": "lobby", "\u202e" + "x" * 200: 1})
    assert "\u202e" not in str(reply)
    assert len(reply["error"]["message"]) < 200


def test_explain_says_what_is_compiled_and_what_keeps_the_rest_from_it(inside):
    server = inside(plugins=["validation"], commands=[create, either])
    admin = server.admin()

    def said(method):
        layers = admin.call("system.explain", method=method)["layers"]
        return next(layer["explain"] for layer in layers if layer["plugin"] == "validation")

    assert said("room.create") == "schema compiled"
    assert said("system.echo") == "schema compiled"
    assert said("either") == "schema compiled"


def test_a_schema_that_is_not_compiled_still_holds(inside):
    @command("path", params={"a": {"type": "integer", "dependencies": "b.c"}, "b": {"type": "dict"}})
    def path(a=0, b=None):
        return a

    server = inside(plugins=["validation"], commands=[path])
    layers = server.admin().call("system.explain", method="path")["layers"]
    (said,) = [layer["explain"] for layer in layers if layer["plugin"] == "validation"]
    assert said == "schema not compiled, Cerberus looks at every call: params.a.dependencies: a path"
    raw = server.raw()
    assert raw.ask("path", {"a": 1, "b": {"c": 1}})["result"] == 1
    reply = raw.ask("path", {"a": 1, "b": {}})
    assert (reply["error"]["data"]["code"], reply["error"]["message"]) == (
        1109,
        "a: can only be given together with b.c",
    )


def test_an_old_name_of_a_parameter_is_renamed(inside):
    server = inside(plugins=["validation"], commands=[either])
    raw = server.raw()
    assert raw.ask("either", {"value": 9})["result"] == 9
    assert raw.ask("either", {"other": 9})["result"] == 9
    assert raw.ask("either", [9])["result"] == 9
    assert errors(raw.ask("either", {"value": 4})) == [("params.other", "InvalidValue")]
    assert errors(raw.ask("either", {})) == [("params.other", "RequiredFieldMissing")]


# --- what the start refuses ---------------------------------------------------------------------------


def refused(inside, params):
    @command("room.create", params=params)
    def create(name):
        return name

    with pytest.raises(Exception, match=r"room\.create") as error:
        inside(plugins=["validation"], commands=[create])
    return str(error.value)


@pytest.mark.parametrize(
    ("rules", "words"),
    [
        ({"type": "strng"}, "params.name.type: Unsupported types: strng"),
        ({"type": "string", "maxlen": 3}, "params.name.maxlen: unknown rule"),
        ({"type": "string", "maxlength": "3"}, "params.name.maxlength: must be of integer type"),
        ({"type": "string", "maxlength": "3", "regex": "a*"}, "params.name.maxlength: must be of integer type"),
        ({"type": "string", "regex": "["}, "params.name: regex: expected a regular expression, got '['"),
        ({"type": "string", "regex": 3}, "params.name.regex: must be of string type"),
        ({"type": "dict", "schema": {"a": {"typ": "string"}}}, "unknown rule"),
        ({"meta": {"is": "usrname"}}, "params.name: meta.is: expected one of email, ip, json"),
        ({"meta": {"clean": "wash"}}, "params.name: meta.clean: expected one of refuse, strip, got 'wash'"),
        ({"meta": {"max_bytes": "9"}}, "params.name: meta.max_bytes"),
        ({"type": "string", "required": False}, "params.name: required: False, but the function has no default for it"),
    ],
)
def test_a_mistake_in_a_schema_names_command_and_path(inside, rules, words):
    assert words in refused(inside, {"name": rules})


# --- what plugins offer -----------------------------------------------------------------------------


def even(constraint, field, value, error):
    """A rule."""
    if isinstance(value, int) and (value % 2 == 0) != constraint:
        error(field, "an even number is expected")


class Shop(Plugin):
    offers = {
        "types": {
            "sku": {"type": "string", "regex": "[A-Z]{3}-[0-9]{4}", "meta": {"profile": "identifier"}},
            "small": TypeDefinition("small", (int,), (bool,)),
        },
        "rules": {"even": even},
    }

    @command("shop.buy", params={"sku": {"meta": {"is": "sku"}}, "number": {"type": "small", "even": True}})
    def buy(self, sku, number):
        return [sku, number]


def test_types_and_rules_of_a_plugin_are_used_by_their_names(inside):
    server = inside(plugins={"validation": Validation, "shop": Shop})
    raw = server.raw()
    assert raw.ask("shop.buy", ["ABC-1234", 2])["result"] == ["ABC-1234", 2]
    assert errors(raw.ask("shop.buy", ["abc", 3])) == [
        ("params.number", "InvalidValue"),
        ("params.sku", "InvalidFormat"),
    ]
    assert raw.ask("shop.buy", ["ABC-1234", 3])["error"]["message"] == "number: an even number is expected"
    assert errors(raw.ask("shop.buy", ["ABC-1234", True])) == [("params.number", "InvalidType")]


def test_a_type_that_is_there_already_is_refused(inside):
    class Twice(Plugin):
        offers = {"types": {"email": {"type": "string"}}}

    with pytest.raises(Exception, match="plugin 'twice' offers a type 'email', which is there already"):
        inside(plugins={"validation": Validation, "twice": Twice})


def test_a_rule_that_fails_by_itself_is_the_plugins_fault_and_not_the_clients(inside):
    def broken(constraint, field, value, error):
        raise RuntimeError("the rule is broken")

    class Bad(Plugin):
        offers = {"rules": {"broken": broken}}

        @command("bad", params={"a": {"type": "integer", "broken": True}})
        def bad(self, a):
            return a

    server = inside(plugins={"validation": Validation, "bad": Bad})
    reply = server.raw().ask("bad", [1])
    assert reply["error"]["data"]["code"] in (1304, 1310)
    assert "broken" not in str(reply)


def test_what_stops_cerberus_is_refused_and_not_an_error_of_ours(inside):
    @command("tags", params={"tags": {"type": "list", "forbidden": ["x"]}})
    def tags(tags):
        return tags

    raw = inside(plugins=["validation"], commands=[tags]).raw()
    assert raw.ask("tags", [["a"]])["result"] == ["a"]
    assert raw.ask("tags", [[["a"]]])["error"]["data"]["code"] == 1108


def test_a_large_wrong_document_does_not_stop_the_others(inside):
    """64 KiB of what is wrong takes Cerberus a second; it goes to a thread."""

    @command("numbers", params={"numbers": {"type": "list", "schema": {"type": "integer", "coerce": int, "max": 5}}})
    def numbers(numbers):
        return len(numbers)

    server = inside(plugins=["validation"], commands=[numbers], virtual=False)
    slow, quick = server.raw(), server.raw()
    slow.send(b'{"jsonrpc":"2.0","id":1,"method":"numbers","params":[[%s]]}\n' % b",".join([b"9"] * 20_000))
    assert quick.ask("system.ping")["result"] == "pong"
    slow.sock.settimeout(60)
    assert slow.json()["error"]["message"] == "50 or more fields are wrong"
    assert server.server.pools["validation"].done == 1
