"""What a client sends and gets, message by message (server/docs/protocol.md, Messages and Errors)."""

from __future__ import annotations

import json

import pytest
from tidegate import command
from tidegate.faults import ResourceNotFound


@command("subtract")
def subtract(minuend: int, subtrahend: int) -> int:
    """Take one number from another."""
    return minuend - subtrahend


@command("sum")
def total(a: int, b: int, c: int) -> int:
    return a + b + c


SEEN: list[object] = []


@command("update")
def update(a: int = 0, b: int = 0, c: int = 0, d: int = 0, e: int = 0) -> None:
    SEEN.append(a)


@command("notify_hello")
def notify_hello(n: int = 0) -> None:
    SEEN.append(n)


@command("get_data")
def get_data() -> list[object]:
    return ["hello", 5]


@command("any.back")
def back(value) -> object:
    return value


@command("fail.missing")
def missing() -> None:
    raise ResourceNotFound("No such room", field="params.room", room="lobby")


@command("fail.broken")
def broken() -> None:
    raise KeyError("secret detail")


@command("fail.encode")
def unencodable() -> object:
    return object()


COMMANDS = [subtract, total, update, notify_hello, get_data, back, missing, broken, unencodable]


@pytest.fixture
def raw(inside):
    with inside(commands=COMMANDS).raw() as raw:
        yield raw


def ask(raw, text: str | bytes) -> object:
    """One line out, one line in; a ping shows where there is no answer."""
    raw.send((text.encode() if isinstance(text, str) else text) + b"\n")
    raw.send(b'{"jsonrpc":"2.0","method":"system.ping","id":"end"}\n')
    replies = []
    while (reply := raw.json()) != {"jsonrpc": "2.0", "id": "end", "result": "pong"}:
        replies.append(reply)
    assert len(replies) <= 1
    return replies[0] if replies else None


def core(reply: object) -> object:
    """A reply without what JSON-RPC leaves to the server."""
    if isinstance(reply, list):
        return sorted((core(one) for one in reply), key=lambda one: json.dumps(one, sort_keys=True))
    if isinstance(reply, dict) and "error" in reply:
        error = reply["error"]
        return {"id": reply["id"], "error": error["code"] if isinstance(error, dict) else error}
    return {k: v for k, v in reply.items() if k != "jsonrpc"} if isinstance(reply, dict) else reply


# The examples of the JSON-RPC 2.0 specification, section 7, in its order.
SPEC = [
    ('{"jsonrpc": "2.0", "method": "subtract", "params": [42, 23], "id": 1}', {"result": 19, "id": 1}),
    ('{"jsonrpc": "2.0", "method": "subtract", "params": [23, 42], "id": 2}', {"result": -19, "id": 2}),
    (
        '{"jsonrpc": "2.0", "method": "subtract", "params": {"subtrahend": 23, "minuend": 42}, "id": 3}',
        {"result": 19, "id": 3},
    ),
    (
        '{"jsonrpc": "2.0", "method": "subtract", "params": {"minuend": 42, "subtrahend": 23}, "id": 4}',
        {"result": 19, "id": 4},
    ),
    ('{"jsonrpc": "2.0", "method": "update", "params": [1,2,3,4,5]}', None),
    ('{"jsonrpc": "2.0", "method": "foobar"}', None),
    ('{"jsonrpc": "2.0", "method": "foobar", "id": "1"}', {"error": -32601, "id": "1"}),
    ('{"jsonrpc": "2.0", "method": "foobar, "params": "bar", "baz]', {"error": -32700, "id": None}),
    ('{"jsonrpc": "2.0", "method": 1, "params": "bar"}', {"error": -32600, "id": None}),
    (
        '[{"jsonrpc": "2.0", "method": "sum", "params": [1,2,4], "id": "1"}, {"jsonrpc": "2.0", "method"]',
        {"error": -32700, "id": None},
    ),
    ("[]", {"error": -32600, "id": None}),
    ("[1]", [{"error": -32600, "id": None}]),
    ("[1,2,3]", [{"error": -32600, "id": None}] * 3),
    (
        '[{"jsonrpc": "2.0", "method": "sum", "params": [1,2,4], "id": "1"},'
        '{"jsonrpc": "2.0", "method": "notify_hello", "params": [7]},'
        '{"jsonrpc": "2.0", "method": "subtract", "params": [42,23], "id": "2"},'
        '{"foo": "boo"},'
        '{"jsonrpc": "2.0", "method": "foo.get", "params": {"name": "myself"}, "id": "5"},'
        '{"jsonrpc": "2.0", "method": "get_data", "id": "9"}]',
        [
            {"result": 7, "id": "1"},
            {"result": 19, "id": "2"},
            {"error": -32600, "id": None},
            {"error": -32601, "id": "5"},
            {"result": ["hello", 5], "id": "9"},
        ],
    ),
    (
        '[{"jsonrpc": "2.0", "method": "notify_sum", "params": [1,2,4]},'
        '{"jsonrpc": "2.0", "method": "notify_hello", "params": [7]}]',
        None,
    ),
]


@pytest.mark.parametrize(("line", "expected"), SPEC)
def test_the_examples_of_the_specification_hold(raw, line, expected):
    assert core(ask(raw, line)) == core(expected)


def test_a_notification_is_carried_out_and_never_answered(raw):
    SEEN.clear()
    assert ask(raw, '{"jsonrpc":"2.0","method":"update","params":[42]}') is None
    assert SEEN == [42]
    assert ask(raw, '{"jsonrpc":"2.0","method":"fail.broken"}') is None


@pytest.mark.parametrize(
    "id",
    ["0", "-1", "1.5", '""', '"x"', "null", "1e3", "12345678901234567890", '"\\u00e9"', '"é"', '"' + "x" * 62 + '"'],
)
def test_an_id_comes_back_byte_for_byte(raw, id):
    raw.send(f'{{"id":{id},"jsonrpc":"2.0","method":"system.ping"}}\n'.encode())
    assert raw.line() == f'{{"jsonrpc":"2.0","id":{id},"result":"pong"}}'.encode()


@pytest.mark.parametrize("id", ["true", "{}", "[1]", "false", '"' + "x" * 63 + '"'])
def test_what_can_be_no_id_is_1601(raw, id):
    reply = ask(raw, f'{{"id":{id},"jsonrpc":"2.0","method":"system.ping"}}')
    assert (reply["id"], reply["error"]["code"], reply["error"]["data"]["code"]) == (None, -32600, 1601)


def test_members_may_come_in_any_order_with_any_space_and_unknown_ones_are_ignored(raw):
    line = ' { "extra" : {"a":[1]}, "params" : { "b":1, "a":2, "c":3 } , "id" : 9 ,\t"method":"sum","jsonrpc":"2.0" } '
    assert ask(raw, line) == {"jsonrpc": "2.0", "id": 9, "result": 6}


def test_of_duplicate_keys_the_last_one_wins(raw):
    line = '{"jsonrpc":"2.0","id":1,"id":2,"method":"nope","method":"any.back","params":{"value":1,"value":[2]}}'
    assert ask(raw, line) == {"jsonrpc": "2.0", "id": 2, "result": [2]}


@pytest.mark.parametrize(
    "value", ['"\\u0000\\ud83d\\ude00"', "[[[[[[[[[[1]]]]]]]]]]", '{"a":{"b":{"c":{"d":{}}}}}', "1e308", "-0.0", "null"]
)
def test_values_come_back_as_they_were(raw, value):
    reply = ask(raw, '{"jsonrpc":"2.0","id":1,"method":"any.back","params":{"value":' + value + "}}")
    assert reply["result"] == json.loads(value)


def test_a_fault_has_all_that_the_protocol_promises(raw):
    error = ask(raw, '{"jsonrpc":"2.0","id":1,"method":"fail.missing"}')["error"]
    request_id = error["data"].pop("request_id")
    assert len(request_id) == 36
    assert error == {
        "code": 1501,
        "message": "No such room",
        "data": {
            "code": 1501,
            "type": "ResourceNotFound",
            "recovery": "fix_request",
            "errors": [{"field": "params.room", "type": "ResourceNotFound", "message": "No such room"}],
            "room": "lobby",
        },
    }


@pytest.mark.parametrize("method", ["fail.broken", "fail.encode"])
def test_an_exception_is_1304_and_says_nothing_of_itself(raw, method):
    reply = ask(raw, f'{{"jsonrpc":"2.0","id":1,"method":"{method}"}}')
    assert reply["error"]["code"] == -32603
    assert reply["error"]["data"]["code"] == 1304
    assert "secret" not in json.dumps(reply)
    assert "object" not in reply["error"]["message"]


@pytest.mark.parametrize(
    ("params", "code", "type", "field"),
    [
        ("{}", 1111, "InvalidInput", "params.minuend"),
        ('{"minuend":1}', 1107, "RequiredFieldMissing", "params.subtrahend"),
        ("[1]", 1107, "RequiredFieldMissing", "params.subtrahend"),
        ("[1,2,3]", 1115, "TooManyItems", "params"),
        ('{"minuend":1,"subtrahend":"2"}', 1113, "InvalidType", "params.subtrahend"),
        ('{"minuend":1,"subtrahend":true}', 1113, "InvalidType", "params.subtrahend"),
        ('{"minuend":1,"subtrahend":2,"x":3}', 1112, "UnknownField", "params.x"),
        ('{"call":1,"minuend":1,"subtrahend":2}', 1112, "UnknownField", "params.call"),
    ],
)
def test_parameters_are_bound_to_the_signature(raw, params, code, type, field):
    error = ask(raw, '{"jsonrpc":"2.0","id":1,"method":"subtract","params":' + params + "}")["error"]
    assert (error["code"], error["data"]["code"], error["data"]["type"]) == (-32602, code, type)
    assert error["data"]["errors"][0]["field"] == field


def test_a_mistyped_name_gets_the_nearest_one(raw):
    error = ask(raw, '{"jsonrpc":"2.0","id":1,"method":"system.pong"}')["error"]
    assert "system.ping" in error["message"]
    error = ask(raw, '{"jsonrpc":"2.0","id":1,"method":"subtract","params":{"minuent":1,"subtrahend":2}}')["error"]
    assert "minuend" in error["data"]["errors"][1]["message"]


def test_a_name_that_only_an_administrator_may_call_is_not_suggested(raw):
    error = ask(raw, '{"jsonrpc":"2.0","id":1,"method":"system.confog"}')["error"]
    assert "system.config" not in error["message"]


@pytest.mark.parametrize(
    ("line", "code"),
    [
        (b"nonsense", 1602),
        (b'{"jsonrpc":"2.0","id":1,"method":"system.ping"', 1602),
        (b'{"jsonrpc":"2.0","id":1,"method":"system.ping"} {"x":1}', 1602),
        (b'{"jsonrpc":"2.0","id":1,"method":"any.back","params":[NaN]}', 1602),
        (b'{"jsonrpc":"2.0","id":1,"method":"any.back","params":["\\ud800"]}', 1602),
        (b'{"jsonrpc":"2.0","id":1,"method":"any.back","params":["\xff"]}', 1608),
        (b'{"jsonrpc":"1.0","id":1,"method":"system.ping"}', 1601),
        (b'{"id":1,"method":"system.ping"}', 1601),
        (b'{"jsonrpc":"2.0","id":1,"method":["system.ping"]}', 1601),
        (b'{"jsonrpc":"2.0","id":1,"method":"system.ping","params":"x"}', 1601),
        (b'{"jsonrpc":"2.0","id":1,"method":"system.ping","timeout":"soon"}', 1601),
        (b'"system.ping"', 1601),
        (b"17", 1601),
        (b"null", 1601),
        (b"{}", 1601),
    ],
)
def test_what_is_no_request_gets_its_code_and_the_connection_lives_on(raw, line, code):
    assert ask(raw, line)["error"]["data"]["code"] == code


def test_a_broken_request_gets_its_id_back_where_it_can_be_read(raw):
    assert ask(raw, '{"jsonrpc":"2.0","id":"k7","method":17}')["id"] == "k7"


def test_params_null_is_no_parameters(raw):
    assert ask(raw, '{"jsonrpc":"2.0","id":1,"method":"system.ping","params":null}')["result"] == "pong"
    assert ask(raw, '{"jsonrpc":"2.0","id":1,"method":"system.ping","params":[]}')["result"] == "pong"
    assert ask(raw, '{"jsonrpc":"2.0","id":1,"method":"system.ping","params":{}}')["result"] == "pong"


def test_claimed_members_are_refused_where_nobody_claims_them(raw):
    assert ask(raw, '{"jsonrpc":"2.0","id":1,"method":"system.ping","auth":"x"}')["error"]["code"] == 1010
    reply = ask(raw, '{"jsonrpc":"2.0","id":1,"method":"system.ping","idempotency_key":"0123456789012345678901"}')
    assert reply["error"]["code"] == 1603


def test_trace_is_only_for_administrators(inside):
    server = inside()
    line = {"trace": True}
    with server.raw() as raw, server.raw_admin() as door:
        assert "trace" not in raw.ask("system.echo", ["x"], **line)
        traced = door.ask("system.echo", ["x"], **line)
        assert traced["result"] == "x"
        assert "command" in traced["trace"]


def test_one_call_is_traced_for_who_asks_from_inside_and_the_next_is_not(inside):
    server = inside()
    finished = server.events("call.finished")
    server.run(server.server.trace_next, "system.echo")
    with server.raw() as raw:
        replies = [raw.ask("system.echo", ["x"]) for _ in range(3)]
    assert ["trace" in reply for reply in replies] == [False, False, False]
    assert [call.layers is not None for call in finished] == [True, False, False]
    assert "command" in finished[0].layers


def test_replies_come_in_the_order_of_the_requests(raw):
    count = 1000
    raw.send(b"".join(b'{"jsonrpc":"2.0","id":%d,"method":"any.back","params":[%d]}\n' % (n, n) for n in range(count)))
    assert [raw.json()["result"] for _ in range(count)] == list(range(count))


def test_every_server_has_its_commands(raw):
    assert raw.ask("system.ping")["result"] == "pong"
    assert raw.ask("system.echo", {"text": "héllo 😀"})["result"] == "héllo 😀"
    assert raw.ask("system.echo", {"text": "x" * 1001})["error"]["data"]["code"] == 1108
    info = raw.ask("system.info")["result"]
    assert {"name", "version", "protocol", "uptime_s", "plugins"} <= info.keys()
    assert raw.ask("system.hello", {"protocol": 1, "client": "t/1"})["result"]["protocol"] == 1
    assert raw.ask("system.hello", {"protocol": 2})["error"]["code"] == 1604


def test_rpc_discover_tells_the_type_of_a_parameter_whose_schema_names_none(inside):
    @command("room.open", params={"name": {"meta": {"is": "room_name"}}, "size": {"coerce": int}})
    def open_room(name: str, size: int = 1):
        """Open a room."""

    with inside(commands=[open_room]).raw() as raw:
        (method,) = [m for m in raw.ask("rpc.discover")["result"]["methods"] if m["name"] == "room.open"]
    # What is coerced may come as anything.
    assert [param["schema"] for param in method["params"]] == [{"type": "string"}, {"default": 1}]


def test_rpc_discover_describes_what_the_caller_may_use(inside):
    server = inside(commands=COMMANDS)
    with server.raw() as raw, server.raw_admin() as door:
        document = raw.ask("rpc.discover")["result"]
        assert document["openrpc"].startswith("1.")
        methods = {method["name"]: method for method in document["methods"]}
        assert methods["subtract"]["summary"] == "Take one number from another."
        assert [p["name"] for p in methods["subtract"]["params"]] == ["minuend", "subtrahend"]
        assert methods["subtract"]["params"][0] == {"name": "minuend", "required": True, "schema": {"type": "integer"}}
        assert "system.close" not in methods
        assert "unknown" not in methods
        assert "system.close" in {method["name"] for method in door.ask("rpc.discover")["result"]["methods"]}
