"""`tidegate call`: typed arguments, results, faults and exit codes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import trustme

SHOP = '''
from tidegate import command

@command("shop.show", params={
    "text": {"type": "string"}, "count": {"type": "integer"}, "price": {"type": "float"}, "on": {"type": "boolean"},
    "tags": {"type": "list", "schema": {"type": "integer"}}, "more": {"type": "dict"},
    "maybe": {"type": "integer", "nullable": True}, "name": {"type": "string", "nullable": True}, "any": {},
})
def show(text="", count=0, price=0.0, on=False, tags=(), more=None, maybe=0, name="", any=None):
    """Give back what came, with the types that came."""
    values = {"text": text, "count": count, "price": price, "on": on, "tags": tags, "more": more,
              "maybe": maybe, "name": name, "any": any}
    return {name: [type(value).__name__, value] for name, value in values.items()}

@command("shop.pair")
def pair(left: str, right: int) -> list:
    return [left, right]

@command("shop.evil")
def evil() -> str:
    return "\\x1b[2Jé\\x9b"
'''


@pytest.fixture
def shop(served: Any, cli: Any) -> Any:
    server = served(source=SHOP)
    return lambda *words, **options: cli("call", *words, "--connect", server.addresses[0], **options)


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("text=12", "12"),
        ("text=", ""),
        ("text=a=b", "a=b"),
        ("count=12", 12),
        ("count=-3", -3),
        ("price=1.5", 1.5),
        ("price=2", 2),
        ("on=true", True),
        ("on=no", False),
        ("tags=7", [7]),
        ("tags=[1, 2]", [1, 2]),
        ('more={"a": [null]}', {"a": [None]}),
        ("maybe=null", None),
        ("maybe=5", 5),
        ("name=null", "null"),
        ("name:=null", None),
        ('text:="12"', "12"),
        ("any=12", 12),
        ("any=twelve", "twelve"),
        ('any:=["12"]', ["12"]),
        ("count=123456789012345678901234567890", 123456789012345678901234567890),
    ],
)
def test_an_argument_gets_the_type_that_the_schema_asks_for(shop: Any, word: str, value: Any) -> None:
    ran = shop("shop.show", word)
    assert ran.code == 0, ran.err
    name = word.partition("=")[0].removesuffix(":")
    assert json.loads(ran.out)[name] == [type(value).__name__, value]


def test_a_name_given_again_adds_to_a_list(shop: Any) -> None:
    assert json.loads(shop("shop.show", "tags=1", "tags=2").out)["tags"] == ["list", [1, 2]]


def test_values_without_a_name_go_by_order_around_those_with_one(shop: Any) -> None:
    assert json.loads(shop("shop.pair", "5", "6").out) == ["5", 6]
    assert json.loads(shop("shop.pair", "left=x", "6").out) == ["x", 6]


def test_all_parameters_may_come_as_json(shop: Any) -> None:
    assert json.loads(shop("shop.pair", "--params", '{"left": "a", "right": 1}').out) == ["a", 1]
    assert json.loads(shop("shop.pair", "--params", "-", stdin='["b", 2]').out) == ["b", 2]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["shop.show", "count=many"], "count: expected an integer, such as 3, got 'many'"),
        (["shop.show", "count=1", "count=2"], "count: given twice"),
        (["shop.show", "on=perhaps"], "on: expected true or false"),
        (["shop.show", "more:={"], "more: expected JSON"),
        (["shop.show", "price=NaN"], "price: expected a number"),
        (["shop.pair", "a", "1", "2"], "'2': the command has no more parameters"),
        (["shop.pair", "--params", "nothing"], "--params: expected JSON"),
        (["shop.pair", "a", "--params", "{}"], "not both"),
        ([], "Missing argument 'METHOD'"),
    ],
)
def test_what_can_not_be_meant_is_misuse(shop: Any, words: list[str], told: str) -> None:
    ran = shop(*words)
    assert ran.code == 2
    assert told in ran.err
    assert ran.out == ""


def test_a_fault_shows_its_code_name_recovery_and_request_id(shop: Any) -> None:
    ran = shop("shop.pair", "left=a")
    assert ran.code == 1
    assert ran.out == ""
    first, *more = ran.err.splitlines()
    assert first == "1107 RequiredFieldMissing: Field is required: right"
    told = dict(line.split(None, 1) for line in more)
    assert told["recovery"].startswith("fix_request")
    assert len(told["request"].removeprefix("id").strip()) == 36


def test_every_wrong_field_is_shown(shop: Any) -> None:
    ran = shop("shop.pair", "--params", '{"left": 1, "rigth": 2}')
    assert "params.left: left: expected a string" in ran.err
    assert "params.rigth: Unknown field: rigth; did you mean 'right'?" in ran.err


def test_a_method_that_is_not_there_is_the_servers_to_refuse(shop: Any) -> None:
    ran = shop("shop.pear", "left=a")
    assert (ran.code, ran.err.splitlines()[0]) == (1, "1605 MethodNotFound: No such method; did you mean 'shop.pair'?")


def test_json_is_one_line_for_a_result_and_for_a_fault(shop: Any) -> None:
    good, bad = shop("shop.pair", "a", "1", "--json"), shop("shop.pair", "a", "--json")
    assert (good.code, bad.code) == (0, 1)
    assert [text.count("\n") for text in (good.out, bad.out)] == [1, 1]
    assert json.loads(good.out) == {"result": ["a", 1]}
    assert json.loads(bad.out)["error"]["data"]["type"] == "RequiredFieldMissing"
    assert bad.err == ""


def test_what_a_server_sends_steers_no_terminal(shop: Any) -> None:
    for words in (["shop.evil"], ["shop.evil", "--json"]):
        out = shop(*words).out
        assert all(c.isprintable() or c == "\n" for c in out)
        assert "é" in out


def test_an_address_that_is_none_is_misuse(cli: Any) -> None:
    ran = cli("call", "system.ping", "--connect", "nowhere")
    assert (ran.code, "HOST:PORT" in ran.err) == (2, True)


def test_nobody_there_is_3(cli: Any, tmp_path: Any) -> None:
    gone = cli("call", "system.ping", "--connect", f"unix:{tmp_path}/nothing")
    assert (gone.code, gone.out) == (3, "")
    assert "no server answers on" in gone.err
    assert "tidegate serve" in gone.err
    assert json.loads(cli("call", "system.ping", "--data", str(tmp_path), "--json").out)["reason"]


def test_data_makes_an_operator(served: Any, cli: Any) -> None:
    server = served()
    ran = cli("call", "system.connections", "--data", str(server.data))
    assert [row["user"] for row in json.loads(ran.out)] == ["operator"]
    refused = cli("call", "system.connections", "--connect", server.addresses[0])
    assert refused.code == 1
    assert "--data DIR" in refused.err


def test_the_environment_says_where_and_as_whom(served: Any, cli: Any) -> None:
    server = served()
    where = {"TIDEGATE_CONNECT": server.addresses[0]}
    assert cli("call", "system.ping", env=where).out == '"pong"\n'
    # No plugin takes a token here, so that the server says that one came.
    assert cli("call", "system.ping", env={**where, "TIDEGATE_TOKEN": "x"}).err.startswith("1010 ")


def test_the_time_of_each_layer_goes_beside_the_result(served: Any, cli: Any) -> None:
    server = served()
    ran = cli("call", "system.ping", "--trace", "--json", "--data", str(server.data))
    assert "command" in json.loads(ran.out)["trace"]


def test_the_timeout_ends_the_call_at_the_server(served: Any, cli: Any) -> None:
    slow = "import gevent\nfrom tidegate import command\n@command('shop.wait')\ndef wait():\n    gevent.sleep(60)\n"
    server = served(source=slow)
    ran = cli("call", "shop.wait", "--timeout", "0.2", "--connect", server.addresses[0])
    assert (ran.code, ran.err[:16]) == (1, "1303 CallTimeout")


def test_over_tls_the_servers_certificate_is_checked(served: Any, cli: Any, tmp_path: Path) -> None:
    authority, stranger = trustme.CA(), trustme.CA()
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(tmp_path / "server.pem")
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    stranger.cert_pem.write_to_path(tmp_path / "stranger.pem")
    pem = tmp_path / "server.pem"
    server = served(f'[[listen]]\naddress = "127.0.0.1:0"\ntls_cert = "{pem}"\ntls_key = "{pem}"\n')
    where = ("call", "system.ping", "--connect", server.addresses[0])
    assert cli(*where, "--ca", "ca.pem").out == '"pong"\n'
    refused = cli(*where, "--ca", "stranger.pem")
    assert (refused.code, "certificate verify failed" in refused.err) == (3, True)
    wrong = cli(*where, "--ca", "nothing.pem")
    assert (wrong.code, "expected PEM files: No such file" in wrong.err) == (2, True)
