"""What a call passes: the decorators around each command, composed once, and who is to blame."""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable, Sequence
from types import CodeType, TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple

from tidegate.faults import PluginFailure
from tidegate.model import Call, Command

if TYPE_CHECKING:
    from tidegate.plugin import Plugin

Proceed = Callable[[Call], Any]
UNKNOWN = "unknown"  # the core's command behind every method that does not exist


class Layer(NamedTuple):
    """One decorator of one command."""

    plugin: str
    ring: str
    function: Proceed
    where: str  # "file:line"


class Decorating(NamedTuple):
    """A plugin, or a part of one, that stands in a ring."""

    name: str
    ring: str
    plugin: Plugin
    decorate: Callable[[Command, Proceed], Proceed | None]


class Route:
    """How calls of one command go: the composed function, and what dispatch needs to know at once."""

    __slots__ = (
        "_plain",
        "_traced",
        "claims",
        "command",
        "description",
        "heart",
        "layers",
        "proceed",
        "rings",
        "timeout",
    )

    def __init__(self, command: Command, heart: Proceed, rings: Sequence[Decorating], timeout: float) -> None:
        self.command = command
        self.heart = heart
        self.rings = rings
        self.timeout = timeout
        self.layers: list[Layer] = []
        self.description: dict[str, Any] | None = None  # for rpc.discover, made when first asked for
        self.claims: frozenset[str] = frozenset()
        self.proceed = self._plain = self._compose()
        self._traced: Proceed | None = None

    def trace_next(self) -> None:
        """Trace the next call; those after it pay nothing for that."""

        def once(call: Call) -> Any:
            if self.proceed is once:
                self.proceed = self._plain
            if call.layers is None:
                call.layers = {}
            return self.traced(call)

        if self.proceed is self._plain:  # else each is looked at already
            self.proceed = once

    def _compose(self) -> Proceed:
        proceed = self.heart
        claims: set[str] = set()
        self.layers = []
        for decorating in reversed(self.rings):
            function = decorating.decorate(self.command, proceed)
            if function is None:
                continue
            if not callable(function):
                raise TypeError(
                    f"plugin {decorating.name!r}: tidegate_decorate returned {function!r} for "
                    f"{self.command.name!r}, expected a function or None"
                )
            self.layers.insert(0, Layer(decorating.name, decorating.ring, function, where(function)))
            claims |= decorating.plugin.claims
            proceed = function
        self.claims = frozenset(claims)
        return proceed

    @property
    def traced(self) -> Proceed:
        """The same way with a clock at each layer: fills `call.layers` with seconds, own time only."""
        if self._traced is None:
            self._traced = self._compose_traced()
        return self._traced

    def _compose_traced(self) -> Proceed:
        proceed = timed("command", self.heart)
        for decorating in reversed(self.rings):
            function = decorating.decorate(self.command, proceed)
            if function is not None:
                proceed = timed(decorating.name, function)
        return proceed


def timed(name: str, function: Proceed) -> Proceed:
    """`function`, with the seconds spent in it and not further in added to `call.layers[name]`."""

    def layer(call: Call) -> Any:
        layers = call.layers
        if layers is None:
            return function(call)
        inside = sum(layers.values())
        start = time.perf_counter()
        try:
            return function(call)
        finally:
            took = time.perf_counter() - start
            layers[name] = layers.get(name, 0.0) + took - (sum(layers.values()) - inside)

    return layer


def heart_of(command: Command) -> Proceed:
    """The innermost function: the command's own, with its arguments."""
    function, injected = command.function, command.injected
    if command.name == UNKNOWN:  # whatever parameters came
        return lambda call: function(call)
    if not injected:
        if len(command.arguments) == 1 and command.required and _takes_it_by_place(function):
            return _heart_of_one(function, command.arguments[0])
        return lambda call: function(**call.params)
    if injected == ("call",):
        return lambda call: function(call=call, **call.params)

    def run(call: Call) -> Any:
        resources = call.resources or {}
        try:
            given = {name: call if name == "call" else resources[name] for name in injected}
        except KeyError as error:
            raise PluginFailure(log=f"nothing provided {error} for {command.name}") from None
        return function(**given, **call.params)

    return run


def _takes_it_by_place(function: Callable[..., Any]) -> bool:
    (parameter,) = inspect.signature(function).parameters.values()
    return parameter.kind is parameter.POSITIONAL_OR_KEYWORD


def _heart_of_one(function: Callable[..., Any], name: str) -> Proceed:
    """For functions of one parameter: by keyword the call costs 0.15 µs more."""

    def run(call: Call) -> Any:
        params = call.params
        return function(params[name]) if len(params) == 1 and name in params else function(**params)

    return run


def code_of(function: Any) -> CodeType | None:
    """The code object behind a function, bound method, partial or callable object."""
    for _ in range(8):
        if (code := getattr(function, "__code__", None)) is not None:
            return code  # type: ignore[no-any-return]
        for attribute in ("__wrapped__", "__func__", "func"):
            if (inner := getattr(function, attribute, None)) is not None:
                function = inner
                break
        else:
            function = type(function).__call__
    return None


def where(function: Any) -> str:
    """`file:line` of a function."""
    code = code_of(function)
    return f"{code.co_filename}:{code.co_firstlineno}" if code is not None else "?"


class Blame:
    """Finds the plugin in whose code an error arose; free on success, for it reads the traceback only."""

    def __init__(self, owners: dict[str, str]) -> None:
        self._packages = owners  # top-level package or module -> plugin name
        self._codes: dict[CodeType, str] = {}

    def learn(self, routes: Sequence[Route]) -> None:
        for route in routes:
            for layer in route.layers:
                if (code := code_of(layer.function)) is not None:
                    self._codes[code] = layer.plugin
            if (code := code_of(route.command.function)) is not None:
                self._codes.setdefault(code, route.command.plugin.name)

    def culprit(self, error: BaseException) -> str | None:
        """The plugin of the innermost frame that belongs to one, None if there is none."""
        found = None
        trace: TracebackType | None = error.__traceback__
        while trace is not None:
            frame = trace.tb_frame
            owner = self._codes.get(frame.f_code)
            if owner is None:
                module = frame.f_globals.get("__name__", "")
                owner = self._packages.get(module) or self._packages.get(module.partition(".")[0])
            found = owner or found
            trace = trace.tb_next
        return found


def in_traceback(error: BaseException, function: Any) -> bool:
    """Whether `function` itself is in the traceback of `error`."""
    code = code_of(function)
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code is code:
            return True
        trace = trace.tb_next
    return False
