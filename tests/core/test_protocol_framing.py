"""How bytes become lines, and what other protocols hear (server/docs/protocol.md, Framing)."""

from __future__ import annotations

import json
import time
from itertools import pairwise

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tidegate.testing.raw import Raw

PING = b'{"jsonrpc":"2.0","id":%d,"method":"system.ping"}'
PONG = b'{"jsonrpc":"2.0","id":%d,"result":"pong"}'


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    from tidegate.testing.thread import Inside

    server = Inside(tmp_path_factory.mktemp("framing"), virtual=False)
    server.start()
    yield server
    server.stop()


@pytest.fixture
def raw(server):
    with server.raw() as raw:
        yield raw


def test_a_request_may_come_byte_by_byte(raw):
    for byte in PING % 1 + b"\n":
        raw.send(bytes([byte]))
    assert raw.line() == PONG % 1


def test_the_newline_may_come_in_a_segment_of_its_own(raw):
    raw.send(PING % 1)
    time.sleep(0.02)  # nothing to wait for: the server has no reason to say anything
    raw.send(b"\n")
    assert raw.line() == PONG % 1


def test_many_requests_and_a_part_may_come_in_one_segment(raw):
    raw.send(PING % 1 + b"\n" + PING % 2 + b"\n" + (PING % 3)[:10])
    assert [raw.line(), raw.line()] == [PONG % 1, PONG % 2]
    raw.send((PING % 3)[10:] + b"\n")
    assert raw.line() == PONG % 3


def test_a_cr_before_the_lf_and_empty_lines_are_ignored(raw):
    raw.send(b"\r\n\n  \n" + PING % 1 + b"\r\n\r\n\n" + PING % 2 + b"\r\n")
    assert [raw.line(), raw.line()] == [PONG % 1, PONG % 2]


def test_one_value_over_two_lines_is_two_bad_lines(raw):
    raw.send(b'{"jsonrpc":"2.0","id":1,\n"method":"system.ping"}\n' + PING % 2 + b"\n")
    assert [json.loads(raw.line())["error"]["code"] for _ in range(2)] == [-32700, -32700]
    assert raw.line() == PONG % 2


def test_what_was_read_before_a_half_close_is_answered(raw):
    raw.send(b"".join(PING % n + b"\n" for n in range(100)))
    raw.shut()
    assert raw.rest() == b"".join(PONG % n + b"\n" for n in range(100))


def test_a_last_line_without_lf_counts_if_its_json_is_complete(server, raw):
    raw.send(PING % 1 + b"\n" + PING % 2)
    raw.shut()
    assert raw.rest() == PONG % 1 + b"\n" + PONG % 2 + b"\n"
    with server.raw() as cut:
        cut.send(PING % 1 + b"\n" + (PING % 2)[:-1])
        cut.shut()
        assert cut.rest() == PONG % 1 + b"\n"


@pytest.mark.parametrize(
    "first",
    [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"POST /rpc HTTP/1.1\r\n",
        b"Content-Length: 3\r\n\r\n{}\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n",
        b"\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c",
        b"*1\r\n$4\r\nPING\r\n",
        b"\x05\x01\x00",
        b"\x03\x00\x00\x13\x0e\xe0\x00\x00",
    ],
)
def test_another_protocol_gets_one_clear_line_and_is_closed(raw, first):
    raw.send(first)
    reply = raw.json()
    assert (reply["id"], reply["error"]["code"]) == (None, 1410)
    assert "JSON-RPC" in reply["error"]["message"]
    assert raw.closed()


def test_what_looks_like_another_protocol_later_on_is_only_no_json(raw):
    raw.send(PING % 1 + b"\nGET / HTTP/1.1\n" + PING % 2 + b"\n")
    assert raw.line() == PONG % 1
    assert raw.json()["error"]["data"]["code"] == 1602
    assert raw.line() == PONG % 2


# --- any bytes, cut anywhere ----------------------------------------------------------------------

LINES = st.one_of(
    st.integers(0, 99).map(lambda n: PING % n),
    st.builds(
        lambda n: b'{"jsonrpc":"2.0","id":%d,"method":"system.echo","params":["\xc3\xa9"]}' % n, st.integers(0, 9)
    ),
    st.just(b'{"jsonrpc":"2.0","method":"system.ping"}'),
    st.just(b'[{"jsonrpc":"2.0","id":1,"method":"system.ping"},3,{"jsonrpc":"2.0","method":"system.ping"}]'),
    st.sampled_from([b"", b"\r", b"   ", b"{}", b"[]", b"{", b"\xff\xfe", b"null", b'"x"', b"[" * 40, b"]" * 9]),
    st.binary(max_size=40).map(lambda data: b"x" + data.replace(b"\n", b"")),
)


def replies_to(server, pieces: list[bytes]) -> list[object]:
    with Raw.tcp(server.host, server.port) as raw:
        for piece in pieces:
            raw.send(piece)
        raw.shut()
        replies = [json.loads(line) for line in raw.rest().splitlines()]
    for reply in replies:
        for one in reply if isinstance(reply, list) else [reply]:
            if "error" in one:
                del one["error"]["data"]["request_id"]
    return replies


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(lines=st.lists(LINES, max_size=40), cuts=st.lists(st.integers(0, 4000), max_size=12), end=st.booleans())
def test_the_replies_never_depend_on_how_the_bytes_were_cut(server, lines, cuts, end):
    # The first line decides whether this is another protocol: let it be ours.
    data = PING % 1 + b"\n" + b"\n".join(lines) + (b"\n" if end else b"")
    places = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    pieces = [data[a:b] for a, b in pairwise(places)]
    assert replies_to(server, pieces) == replies_to(server, [data])
    with server.raw() as fresh:
        assert fresh.ask("system.ping")["result"] == "pong"
