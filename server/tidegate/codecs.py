"""How requests and replies look on the wire: JSON-RPC 2.0, one message a line. No sockets here."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Annotated, Any, Literal, NoReturn, Protocol

import msgspec

from tidegate.faults import (
    BatchTooLarge,
    Fault,
    InvalidEncoding,
    MalformedRequest,
    NestingTooDeep,
    ProtocolError,
    RequestTooLarge,
)

NO_ID = msgspec.Raw(b"")
NULL = b"null"
MAX_ID_BYTES = 64
MAX_METHOD_CHARACTERS = 64
MAX_KEYS = 256
_ID_STARTS = frozenset(b'"-n0123456789')

# Values at most three containers deep under `params`, and no object with too many keys: a line that decodes
# as this needs no further check, and the check by types costs nothing (0.16 µs with or without it).
_FewKeys = msgspec.Meta(max_length=MAX_KEYS)
_Scalar = str | int | float | bool | None
_Level1 = str | int | float | bool | None | list[_Scalar] | Annotated[dict[str, _Scalar], _FewKeys]
_Level2 = str | int | float | bool | None | list[_Level1] | Annotated[dict[str, _Level1], _FewKeys]
_Level3 = str | int | float | bool | None | list[_Level2] | Annotated[dict[str, _Level2], _FewKeys]
SHALLOW_DEPTH = 5  # the request's own object, params, and the three


class Request(msgspec.Struct, gc=False):
    """One request as it stands on the wire; `id` is its bytes, `NO_ID` for a notification."""

    method: str
    jsonrpc: Literal["2.0"]
    id: msgspec.Raw = NO_ID
    params: dict[str, Any] | list[Any] | None = None
    timeout: float | None = None
    auth: str | None = None
    idempotency_key: str | None = None
    trace: bool = False


class PlainRequest(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    """A request with none of the optional members: what nearly all are."""

    method: str
    jsonrpc: Literal["2.0"]
    id: msgspec.Raw = NO_ID
    params: Annotated[dict[str, _Level3], _FewKeys] | list[_Level3] | None = msgspec.field(default_factory=dict)


class _Shallow(PlainRequest, gc=False, forbid_unknown_fields=True):
    timeout: float | None = None
    auth: str | None = None
    idempotency_key: str | None = None
    trace: bool = False


class _Envelope(msgspec.Struct, gc=False):
    id: msgspec.Raw = NO_ID


class Codec(Protocol):
    """One connection's wire format. Never switches, never blocks."""

    def feed(self, data: bytes) -> Sequence[Request | bytes]:
        """Take what was read, give the whole messages in it: plain ones as requests, all others as they came."""

    def decode(self, message: bytes) -> Request | list[bytes] | None:
        """What `feed` gave as it came: a request, a batch (its parts, for `decode_part`), or None for nothing."""

    def reply(self, id: bytes, encoded: bytes, extra: dict[str, Any] | None) -> bytes: ...

    def error(self, id: bytes, fault: Fault, request_id: str) -> bytes: ...


class Refused(Exception):
    """A message that is no request: the fault to answer with, and the id if it could be read."""

    def __init__(self, fault: Fault, id: bytes = NULL) -> None:
        super().__init__(fault)
        self.fault = fault
        self.id = id


_plain = msgspec.json.Decoder(PlainRequest).decode
_shallow = msgspec.json.Decoder(_Shallow).decode
_request = msgspec.json.Decoder(Request).decode
_envelope = msgspec.json.Decoder(_Envelope).decode
_parts = msgspec.json.Decoder(list[msgspec.Raw]).decode
_anything = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder().encode
_CLOSER_LOOK = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
# A string without an end goes to the end: else its escaped quotes would each begin another search.
_STRING = re.compile(rb'"(?:[^"\\]++|\\.)*+"?', re.DOTALL)
_NOT_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_STEP = [0] * 256
for _open, _close in (b"[]", b"{}"):
    _STEP[_open], _STEP[_close] = 1, -1


def _none_is_plain(line: bytes) -> NoReturn:
    raise msgspec.DecodeError


class JsonLines:
    """JSON-RPC 2.0, one value a line, UTF-8, ended by LF."""

    __slots__ = ("_plain", "max_batch", "max_depth", "max_line_bytes", "oversize", "partial")

    def __init__(self, *, max_line_bytes: int = 65536, max_depth: int = 32, max_batch: int = 50) -> None:
        self.max_line_bytes = max_line_bytes
        self.max_depth = max_depth
        self.max_batch = max_batch
        self._plain: Callable[[bytes], Any] = _plain if max_depth >= SHALLOW_DEPTH else _none_is_plain
        self.partial = bytearray()  # the line that has begun and not ended
        self.oversize = False  # a line passed the limit; nothing after it is read

    def feed(self, data: bytes) -> list[Request | bytes]:
        """The messages in `data` and what waited before it: requests, or lines that take a closer look.

        Past `max_line_bytes` the lines before the long one are given, and `oversize` is set.
        """
        if not self.partial:
            line, end, more = data.partition(b"\n")  # half of what `find` costs
            if end and not more and len(line) <= self.max_line_bytes:
                plain = self._plain
                try:
                    return [plain(line)]
                except _CLOSER_LOOK:
                    return [line]
        lines = self._lines(data)
        messages: list[Request | bytes] = []
        left = iter(lines)
        while len(messages) < len(lines):
            try:
                # Decodes until a line is no plain request; those before it are in the list then.
                messages.extend(map(self._plain, left))
            except _CLOSER_LOOK:
                messages.append(lines[len(messages)])
        return messages

    def _lines(self, data: bytes) -> list[bytes]:
        """The whole lines in `data` and what waited before it."""
        if b"\n" not in data:
            self.partial += data
            self.oversize = len(self.partial) > self.max_line_bytes
            return []
        if self.partial:
            data = bytes(self.partial) + data
            self.partial.clear()
        lines = data.split(b"\n")
        if rest := lines.pop():
            self.partial += rest
        if len(data) > self.max_line_bytes:
            for place, line in enumerate(lines):
                if len(line) > self.max_line_bytes:
                    self.oversize = True
                    self.partial.clear()
                    return lines[:place]
            self.oversize = len(self.partial) > self.max_line_bytes
        return lines

    def last(self) -> list[bytes]:
        """At the end of the stream: a last line without LF counts if its JSON is complete."""
        line = bytes(self.partial)
        self.partial.clear()
        if not line.strip():
            return []
        try:
            _anything(line)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return []
        return [line]

    def decode_part(self, part: bytes) -> Request:
        """One element of a batch, whose text and depth were checked with the batch. Raises Refused."""
        try:
            return _request(part)
        except msgspec.DecodeError as error:
            raise Refused(ProtocolError(f"Not a JSON-RPC request: {error}"), _id_of(part)) from None

    def decode(self, line: bytes) -> Request | list[bytes] | None:
        """A request, the parts of a batch, or None for an empty line. Raises Refused."""
        if self._plain is _plain and line[:1] == b"{":
            try:
                return _shallow(line)  # type: ignore[return-value]
            except _CLOSER_LOOK:
                pass
        if not line.strip():
            return None
        if not line.isascii():
            try:
                line.decode()
            except UnicodeDecodeError as error:
                raise Refused(InvalidEncoding(f"Not UTF-8 at byte {error.start}")) from None
        if depth_of(line) > self.max_depth:
            raise Refused(NestingTooDeep(f"Nested deeper than {self.max_depth} levels"), _id_of(line))
        try:
            value = _anything(line)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise Refused(MalformedRequest(f"Not JSON: {error}")) from None
        except RecursionError:  # a configured max_depth above what the parser can do
            raise Refused(NestingTooDeep()) from None
        if line.count(b":") > MAX_KEYS and keys_of(value) > MAX_KEYS:
            raise Refused(NestingTooDeep(f"An object with more than {MAX_KEYS} keys"), _id_of(line))
        if type(value) is list:
            return self._batch(line, value)
        return self.decode_part(line)

    def _batch(self, line: bytes, value: list[Any]) -> list[bytes]:
        if not value:
            raise Refused(ProtocolError("An empty batch"))
        if len(value) > self.max_batch:
            raise Refused(BatchTooLarge(f"{len(value)} requests in a batch, at most {self.max_batch} are taken"))
        return [bytes(part) for part in _parts(line)]

    def too_large(self) -> Fault:
        return RequestTooLarge(f"A line is at most {self.max_line_bytes} bytes long")

    def reply(self, id: bytes, encoded: bytes, extra: dict[str, Any] | None = None) -> bytes:
        if extra is None:
            return b"".join((b'{"jsonrpc":"2.0","id":', id, b',"result":', encoded, b"}\n"))
        return b'{"jsonrpc":"2.0","id":%b,"result":%b,%b}\n' % (id, encoded, _encode(extra)[1:-1])

    def error(self, id: bytes, fault: Fault, request_id: str) -> bytes:
        return b'{"jsonrpc":"2.0","id":%b,"error":%b}\n' % (id, _encode(fault.error_object(request_id)))

    @staticmethod
    def batch(replies: Sequence[bytes]) -> bytes:
        """One line from the replies to a batch; each comes with its LF."""
        return b"[" + b",".join([reply[:-1] for reply in replies]) + b"]\n"


def id_of(request: PlainRequest | Request) -> bytes | None:
    """The id's bytes, or None for a notification. Raises Refused for what can't be an id."""
    if request.id is NO_ID:
        return None
    id = b"".join((request.id,))  # a third faster than bytes()
    if (not id.isdigit() or len(id) > MAX_ID_BYTES) and not _is_id(id):
        raise Refused(ProtocolError(f"An id is a string, a number or null, at most {MAX_ID_BYTES} bytes long"))
    return id


def _id_of(line: bytes) -> bytes:
    """The id of something that is no good request, else `null`."""
    try:
        raw = bytes(_envelope(line).id)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return NULL
    return raw if raw and _is_id(raw) else NULL


def _is_id(raw: bytes) -> bool:
    if raw[0] not in _ID_STARTS or len(raw) > MAX_ID_BYTES:
        return False
    try:
        raw.decode()
    except UnicodeDecodeError:
        return False
    return True


def depth_of(line: bytes) -> int:
    """How deep the containers of a JSON text are nested, found in its bytes and without recursion."""
    if line.count(b"{") + line.count(b"[") <= SHALLOW_DEPTH:
        return line.count(b"{") + line.count(b"[")
    brackets = _STRING.sub(b"", line).translate(None, _NOT_BRACKETS)
    return max(accumulate(map(_STEP.__getitem__, brackets)), default=0)


def keys_of(value: Any) -> int:
    """The most keys that any object in `value` has."""
    most, waiting = 0, [value]
    while waiting:
        item = waiting.pop()
        if type(item) is dict:
            most = max(most, len(item))
            waiting.extend(item.values())
        elif type(item) is list:
            waiting.extend(item)
    return most


# First bytes of other protocols, by the `kind` of topic protocol.violated.
_FOREIGN = (
    (re.compile(rb"(GET|POST|PUT|HEAD|OPTIONS|DELETE|PATCH|CONNECT|TRACE|PRI) |Content-[A-Z]|HTTP/"), "http"),
    (re.compile(rb"\x16\x03[\x00-\x04]"), "tls"),
    (re.compile(rb"SSH-"), "ssh"),
    (re.compile(rb"\x00..?.?\xfe?\xff?SMB|\x00\x00..[\xfe\xff]SMB|\x00\x00\x00[^\x00]\xff?", re.DOTALL), "smb"),
    (re.compile(rb"\x03\x00\x00"), "rdp"),
    (re.compile(rb"[\x04\x05][\x00-\x0a]"), "socks"),
    (re.compile(rb"PROXY |\r\n\r\n\x00\r\nQUIT\n"), "proxy"),
    (re.compile(rb"\*\d+\r?\n|PING\r?\n|INFO\r?\n|AUTH "), "redis"),
)


def foreign(first: bytes) -> str | None:
    """Which other protocol a connection's first bytes belong to, None if they may be ours."""
    if first[:1] in (b"{", b"["):
        return None
    for pattern, kind in _FOREIGN:
        if pattern.match(first):
            return kind
    return None
