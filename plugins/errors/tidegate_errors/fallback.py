"""Fallbacks: another function's answer, or the last good one, where a command fails; the reply says `stale`."""

from __future__ import annotations

import inspect
from collections import OrderedDict
from collections.abc import Callable, Mapping
from math import inf
from typing import TYPE_CHECKING, Any

import gevent
import msgspec
from tidegate import Call, Command, Fault

from tidegate_errors.breaker import ours

if TYPE_CHECKING:
    from tidegate import Server

Proceed = Callable[[Call], Any]
Answer = Callable[[Call, Fault], Any]
_encode = msgspec.json.Encoder(order="deterministic").encode
_decode = msgspec.json.Decoder().decode
NOTHING = object()


class Stale:
    """The last good results of commands, in bounded memory; the ones not used the longest go.

    Kept as JSON, so that nobody changes them later; by command, user and parameters, so that nobody gets another's.
    """

    def __init__(self, server: Server) -> None:
        self.server = server
        self.max_bytes = 16 << 20
        self.bytes = 0
        self._kept: OrderedDict[bytes, tuple[bytes, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    def key(self, call: Call) -> bytes | None:
        """None for parameters that have no JSON form."""
        try:
            return _encode([call.command.name, call.user.id if call.user is not None else None, call.params])
        except (TypeError, ValueError):
            return None

    def put(self, key: bytes, call: Call, result: Any) -> None:
        """Raises what `call.encode` raises: a result that is no reply is no good one."""
        encoded = call.encoded if call.encoded is not None and call.result is result else call.encode(result)
        self._drop(key)
        size = len(key) + len(encoded)
        if size > self.max_bytes // 16:
            return  # one answer must not push out all others
        self._kept[key] = (encoded, self.server.clock.now())
        self.bytes += size
        while self.bytes > self.max_bytes:
            self._drop(next(iter(self._kept)))

    def get(self, key: bytes, within_s: float) -> Any:
        """The result, NOTHING when there is none that is young enough."""
        held = self._kept.get(key)
        if held is None:
            return NOTHING
        if self.server.clock.now() - held[1] > within_s:
            self._drop(key)
            return NOTHING
        self._kept.move_to_end(key)
        return _decode(held[0])

    def clear(self) -> None:
        self._kept.clear()
        self.bytes = 0

    def _drop(self, key: bytes) -> None:
        if (held := self._kept.pop(key, None)) is not None:
            self.bytes -= len(key) + len(held[0])


def answer_of(command: Command) -> tuple[Answer | None, float]:
    """What a `fallback` note says: a function's answer, or None and the seconds for which an old one will do.

    The function takes the command's parameters, those that it names, and `call` and `fault` if it wants them.
    Raises ValueError.
    """
    note = command.notes["fallback"]
    if note == "stale":
        return None, inf
    if isinstance(note, Mapping) and set(note) == {"stale_s"} and type(note["stale_s"]) in (int, float):
        return None, float(note["stale_s"])
    if not callable(note):
        raise ValueError(f"fallback: expected a function, 'stale' or {{'stale_s': 300}}, got {note!r}")
    takes = inspect.signature(note).parameters.values()
    if any(one.kind is one.VAR_KEYWORD for one in takes):
        wanted: set[str] = {"call", "fault", *command.arguments}
    else:
        wanted = {one.name for one in takes if one.kind in (one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY)}
    if unknown := [one.name for one in takes if one.default is one.empty and one.name in wanted and
                   one.name not in ("call", "fault", *command.arguments)]:  # fmt: skip
        raise ValueError(f"fallback: its parameter {unknown[0]!r} is none of the command's, nor call nor fault")

    def answer(call: Call, fault: Fault) -> Any:
        given = {"call": call, "fault": fault, **call.params}
        return note(**{name: value for name, value in given.items() if name in wanted})

    return answer, 0.0


def falling_back(
    command: Command, proceed: Proceed, stale: Stale, told: Callable[[Call, BaseException, Fault, bool], None]
) -> Proceed:
    """`proceed`, or what the note says where it fails by no fault of the client's.

    `told(call, error, fault, answered)` hears of each failure.
    """
    answer, within_s = answer_of(command)
    fault_of = stale.server.fault_of

    def instead(call: Call, error: BaseException, key: bytes | None) -> Any:
        if not isinstance(error, (Exception, gevent.Timeout)):
            raise error
        fault = fault_of(error, call)
        if not ours(fault):  # a cancelled call is none of ours either
            raise error
        call.effects = call.encoded = call.result = None  # what failed is not told; what answers instead may tell
        found = NOTHING
        if answer is not None:
            try:
                found = answer(call, fault)
            except BaseException:
                told(call, error, fault, False)
                raise  # chained: the log has both
        elif key is not None:
            found = stale.get(key, within_s)
        told(call, error, fault, found is not NOTHING)
        if found is NOTHING:
            raise error
        call.error = None
        call.extra = {**(call.extra or {}), "stale": True}
        return found

    if answer is not None:

        def or_answer(call: Call) -> Any:
            try:
                return proceed(call)
            except BaseException as error:
                return instead(call, error, None)

        return or_answer

    def or_stale(call: Call) -> Any:
        key = stale.key(call)  # before the command can change its parameters
        try:
            result = proceed(call)
        except BaseException as error:
            return instead(call, error, key)
        if key is not None:
            stale.put(key, call, result)
        return result

    return or_stale
