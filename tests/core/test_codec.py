"""JSON lines as functions: bytes in, requests out, however the bytes come."""

from __future__ import annotations

import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tidegate.codecs import JsonLines, Refused, Request, id_of

PLAIN = [
    b'{"jsonrpc":"2.0","id":1,"method":"a.b","params":{"x":1}}',
    b'{"jsonrpc":"2.0","method":"a.b"}',
    b' {"id":"\\u00e9", "method":"a.b", "jsonrpc":"2.0", "params":[[[[1]]]]} \r',
]
CAREFUL = [
    b"",
    b"\r",
    b"nothing",
    b"[]",
    b"{}",
    b'{"jsonrpc":"2.0","id":{},"method":"a.b"}',
    b'{"jsonrpc":"2.0","id":7,"method":"a.b","params":[[[[[[[1]]]]]]]}',
    b'{"jsonrpc":"2.0","id":7,"method":"a.b","unknown":1}',
    b'{"jsonrpc":"2.0","id":7,"method":"\xff"}',
    b'[{"jsonrpc":"2.0","id":7,"method":"a.b"},1]',
    b'{"jsonrpc":"2.0","id":7,"method":"a.b"}{"jsonrpc":"2.0","id":8,"method":"a.b"}',
    b'{"jsonrpc":"2.0","id":7,',  # with the next: one value on two lines
    b'"method":"a.b"}',
]
LINES = st.lists(st.sampled_from(PLAIN + CAREFUL), min_size=1, max_size=12)


def read(reads: list[bytes], codec: JsonLines) -> list[object]:
    """What comes of the messages: ("a.b", id, params, timeout), parts of a batch, a fault's code, or None."""
    return [outcome(codec, message) for data in reads if data for message in codec.feed(data)]


def outcome(codec: JsonLines, message: Request | bytes) -> object:
    try:
        request = codec.decode(message) if isinstance(message, bytes) else message
        if request is None or isinstance(request, list):
            return request
        return request.method, id_of(request), json.dumps(request.params), getattr(request, "timeout", None)
    except Refused as refused:
        return refused.fault.code, refused.id


@given(LINES, st.lists(st.integers(0, 600), max_size=4), st.sampled_from([4, 32]))
def test_a_stream_means_the_same_however_it_is_cut(lines, cuts, depth):
    stream = b"\n".join(lines) + b"\n"
    places = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    pieces = [stream[start:end] for start, end in itertools.pairwise(places)]
    alone = [outcome(JsonLines(max_depth=depth), line) for line in lines]
    assert read(pieces, JsonLines(max_depth=depth)) == alone


@pytest.mark.parametrize("line", PLAIN)
def test_a_plain_request_is_read_at_once_and_means_what_a_closer_look_finds(line):
    codec = JsonLines()
    (message,) = codec.feed(line + b"\n")
    assert not isinstance(message, bytes)
    assert outcome(codec, message) == outcome(codec, line)


@pytest.mark.parametrize(("keys", "code"), [(256, None), (257, 1609)])
@pytest.mark.parametrize("around", [b'{"params":%b,', b'{"params":{"deep":[%b]},'])
def test_an_object_has_at_most_256_keys_wherever_it_stands(around, keys, code):
    many = b"{" + b",".join(b'"k%d":1' % n for n in range(keys)) + b"}"
    (found,) = read([around % many + b'"jsonrpc":"2.0","id":1,"method":"a.b"}\n'], JsonLines())
    assert found[0] == (code or "a.b")


def test_lines_before_one_that_is_too_long_are_given():
    codec = JsonLines(max_line_bytes=100)
    good = PLAIN[0] + b"\n"
    assert read([good + good + b"x" * 101 + b"\n" + good], codec) == [outcome(codec, PLAIN[0])] * 2
    assert codec.oversize
