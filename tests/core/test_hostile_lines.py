"""What one line of a hostile client may cost, say and show."""

from __future__ import annotations

import json
import random
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from tidegate import command
from tidegate.faults import SecurityViolation

DONE: list[object] = []


def made(name: str) -> Callable[..., Any]:
    @command(name)
    def made_up(room: str, text: str = "", title: str = "", limit: int = 1, after: str = "") -> str:
        """Do what its name says.

        And more of it, so that the description has a length.
        """
        return ""

    return made_up


MANY = [
    made(f"{room}.{what}")
    for room in ("account", "message", "room", "security", "monitor", "transaction", "chat", "error", "rule", "invite")
    for what in ("create", "delete", "list", "update", "get", "send", "block", "unblock", "status", "history")
]


@command("any.long")
def long(call, size: int) -> str:
    call.on_commit(lambda: DONE.append(size))
    return "x" * size


@command("raise.closing")
def closing() -> None:
    raise SecurityViolation


def request(method: str, params: object = None, id: object = 1) -> bytes:
    return json.dumps({"jsonrpc": "2.0", "id": id, "method": method, "params": params}, separators=(",", ":")).encode()


def batch(parts: list[bytes]) -> bytes:
    return b"[" + b",".join(parts) + b"]"


_random = random.Random(7)
DEAR = {
    "a string that never ends, full of escaped quotes": b"[" * 6 + b'"' + b'\\"' * 32_000,
    "a string that never ends, full of backslashes": b"[" * 6 + b'"' + b"\\\\" * 32_000 + b"\\",
    "nothing but strings": b"[" * 6 + b'"",' * 21_000,
    "nothing but brackets": b"[]" * 32_000,
    "the dearest command of the core": batch([request("rpc.discover")] * 50),
    "unknown methods like all known ones": batch(
        [request("transaction." + "".join(_random.sample("creatdlisuphgnkboy", 9))) for _ in range(50)]
    ),
    "unknown fields like all known ones": batch(
        [request("room.create", {f"ilttemoxr{n:02x}": 1 for n in range(70)}) for _ in range(50)]
    ),
    "nothing but empty lines": b"\n" * 65_000,
}


@pytest.fixture(scope="module")
def ample(tmp_path_factory):
    from tidegate.testing.thread import Inside

    server = Inside(tmp_path_factory.mktemp("ample"), commands=[*MANY, long], virtual=False)
    server.start()
    yield server
    server.stop()


@pytest.mark.parametrize("line", DEAR.values(), ids=DEAR)
def test_no_line_of_64_kib_costs_what_other_clients_would_notice(ample, line):
    assert len(line) <= 65_536
    with ample.raw() as raw:
        raw.sock.settimeout(60)
        before = ample.run(time.thread_time)  # of the server's thread: other processes do not count
        hear = threading.Thread(target=raw.rest)
        hear.start()
        raw.send(line + b"\n")
        raw.shut()
        hear.join()
        assert ample.run(time.thread_time) - before < 0.25


def test_many_wrong_fields_are_counted_and_not_all_listed(ample):
    with ample.raw() as raw:
        error = raw.ask("room.create", {f"field{n}": 1 for n in range(200)})["error"]
    assert "201 fields" in error["message"]  # those, and room, which is missing
    assert 0 < len(error["data"]["errors"]) <= 50
    assert error["data"]["errors"][0]["field"] == "params.room"


def test_a_scanner_gets_twenty_suggestions_a_second_and_no_more(inside):
    server = inside(commands=MANY)
    with server.raw() as raw:

        def suggestions() -> int:
            replies = [raw.ask("room.creat") for _ in range(50)]
            assert {reply["error"]["data"]["code"] for reply in replies} == {1605}
            return sum("did you mean 'room.create'?" in reply["error"]["message"] for reply in replies)

        assert suggestions() == 20
        assert suggestions() == 0
        server.advance(1)
        assert suggestions() == 20


# --- batches --------------------------------------------------------------------------------------


def test_the_results_of_a_batch_share_the_limit_of_a_reply_and_what_does_not_fit_is_undone(inside):
    DONE.clear()
    server = inside("[[listen]]\naddress = '127.0.0.1:0'\nmax_reply_bytes = 4096\n", commands=[long])
    with server.raw() as raw:
        raw.send(batch([request("any.long", [1500], id=n) for n in range(5)]) + b"\n")
        replies = {one["id"]: one for one in raw.json()}
        assert [len(replies[n].get("result", "")) for n in range(5)] == [1500, 1500, 0, 0, 0]
        assert all(replies[n]["error"]["code"] == 1503 for n in (2, 3, 4))
        assert DONE == [1500, 1500]
        assert len(raw.ask("any.long", [4000])["result"]) == 4000  # the next message has it all again


def test_batches_that_run_at_once_have_a_limit_each(inside):
    listen = "[[listen]]\naddress = '127.0.0.1:0'\nmax_reply_bytes = 4096\nmax_in_flight = 4\n"
    server = inside(listen, commands=[long])
    with server.raw() as raw:
        raw.send((batch([request("any.long", [1500], id=n) for n in range(3)]) + b"\n") * 3)
        for _ in range(3):
            assert sorted(len(one.get("result", "")) for one in raw.json()) == [0, 1500, 1500]


@pytest.mark.parametrize("in_flight", [1, 4])
def test_a_batch_ends_with_the_fault_that_closes(inside, in_flight):
    DONE.clear()
    server = inside(f"[[listen]]\naddress = '127.0.0.1:0'\nmax_in_flight = {in_flight}\n", commands=[long, closing])
    with server.raw() as raw:
        raw.send(batch([request("any.long", [1]), request("raise.closing"), request("any.long", [2])]) + b"\n")
        assert [reply.get("result") for reply in raw.json()] == ["x", None]
        assert raw.closed()
    assert DONE == [1]


# --- what is shown of it --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "line",
    [
        b'{"params":{"password":"hunter2"},"method":1}',
        b'{"params":["bob","hunter2"],"id":[]}',
        b'[{"auth":"hunter2"',
        b'{"auth":"hunter2',
        b'{"auth" : "\\"hunter2"}',
    ],
)
def test_what_is_told_of_a_bad_line_has_no_value_that_stood_in_it(inside, line):
    server = inside()
    events = server.events("protocol.violated")
    with server.raw() as raw:
        raw.send(line + b"\n")
        raw.line()
    (event,) = events
    assert "hunter" not in event.excerpt
    assert len(event.excerpt) <= 256


def test_what_is_told_of_another_protocol_is_its_first_bytes(inside):
    server = inside()
    events = server.events("protocol.violated")
    with server.raw() as raw:
        raw.send(b"GET /shell\r\n\r\n")
        raw.rest()
    assert events[0].excerpt == "GET /shell\\r\\n\\r\\n"
