"""Calls: how one goes through its decorators, and what becomes of it when something is raised."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from math import inf
from typing import TYPE_CHECKING, Any, cast

import gevent
from gevent.hub import get_hub
from greenlet import GreenletExit, getcurrent

from tidegate.codecs import Request
from tidegate.connection import Interrupt
from tidegate.faults import (
    AuthenticationUnavailable,
    CallCancelled,
    CallTimeout,
    Fault,
    InternalError,
    PluginFailure,
    ProtocolError,
    ServerShuttingDown,
    SystemError,
    UnsupportedOperation,
)
from tidegate.model import OPERATOR, Call, Connection, User
from tidegate.onion import Blame, Proceed, Route, in_traceback

if TYPE_CHECKING:
    from tidegate.clock import Clock
    from tidegate.plugin import Plugin
    from tidegate.server import Server

_LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40, "critical": 50}


class Calls:
    """The half of `Server` that runs calls."""

    clock: Clock
    log: logging.Logger
    blame: Blame
    routes: dict[str, Route]
    unknown_route: Route
    exit_code: int
    report: Callable[[Call], None]  # logs a call that failed; the core's `log_failed` until a plugin does more
    _call_listeners: list[tuple[Plugin, Callable[[Any], None]]]
    _explainers: list[tuple[Plugin, Callable[[Call], Fault | None]]]

    if TYPE_CHECKING:

        def publish(self, topic: str, **fields: Any) -> None: ...
        def plugin_failed(self, plugin: str, where: str, error: BaseException) -> None: ...
        def stop(self, reason: str) -> None: ...
        def door(self, kind: str, *, address: str | None = None, user: User | None = None) -> Any: ...

    def dispatch(self, call: Call, proceed: Proceed) -> None:
        """Run one call: a result or a fault, always. The one place where control turns round."""
        try:
            result = proceed(call)
            if call.encoded is None or call.result is not result:
                call.encode(result)
            if call.effects is not None:
                call.committed()
        except (Exception, gevent.Timeout) as error:
            self._failed(call, error)
        except SystemExit as error:
            self._failed(call, ServerShuttingDown())
            self.log.warning("%s asks the server to exit", call.command.name)
            self.exit_code = error.code if isinstance(error.code, int) else 1
            self.stop("exit")
        except GreenletExit:
            call.error = call.fault = CallCancelled()
            self._finished(call)
            raise
        except BaseException as error:  # asyncio's CancelledError, a BaseExceptionGroup
            self._failed(call, error)
        if call.layers is not None:
            self._traced_reply(call)
        if self._call_listeners:
            self._finished(call)

    def _traced_reply(self, call: Call) -> None:
        user = call.user
        if call.trace and user is not None and "admin" in user.roles and call.layers is not None:
            call.extra = {**(call.extra or {}), "trace": {k: round(v, 9) for k, v in call.layers.items()}}

    def _failed(self, call: Call, error: BaseException) -> None:
        call.error = error
        call.result = call.encoded = call.effects = None
        fault = self.fault_of(error, call)
        call.fault = fault
        call.culprit = self.blame.culprit(error) or ("core" if error is fault else None)
        if call.command.notes.get("thread") and isinstance(error, Interrupt):
            call.culprit = call.command.plugin.name  # its frames are in the other thread
        try:
            self.report(call)
        except Exception as failure:
            self.plugin_failed(self.report.__module__, "report", failure)
            self.log_failed(call)

    def log_failed(self, call: Call) -> None:
        """A line for a call that failed, with the traceback of what was no fault."""
        fault, error = call.fault, call.error
        assert fault is not None
        level = _LEVELS[fault.level]
        extra = {
            "request_id": call.request_id,
            "method": call.command.name,
            "code": fault.code,
            "culprit": call.culprit,
            "connection": call.connection.id,
        }
        if error is not fault and not isinstance(error, Interrupt):
            self.log.error(
                "%s failed with %s %s", call.command.name, fault.code, fault.type, exc_info=error, extra=extra
            )
        elif level > logging.INFO or fault.log:
            self.log.log(level, "%s: %s %s %s", call.command.name, fault.code, fault.type, fault.log or "", extra=extra)
        else:
            self.log.debug("%s: %s %s", call.command.name, fault.code, fault.type, extra=extra)

    def fault_of(self, error: BaseException, call: Call | None = None) -> Fault:
        """The fault that a client gets for `error`; remembered on the error. Never raises."""
        if isinstance(error, Fault):
            return error
        known = getattr(error, "__fault__", None)
        if isinstance(known, Fault):
            return known
        if call is None:
            call = self._call_of(self.unknown_route, Connection(cast("Server", self), "internal"), None, None)
        call.error = error
        fault = self._explained(call) or self._unexplained(error, call)
        fault.__cause__ = error
        try:
            error.__fault__ = fault  # type: ignore[attr-defined]
        except AttributeError:
            pass
        return fault

    def _explained(self, call: Call) -> Fault | None:
        for plugin, explain in self._explainers:
            try:
                fault = explain(call)
            except Exception as error:
                self.plugin_failed(plugin.name, "tidegate_fault", error)
                continue
            if fault is not None:
                return fault
        return None

    @staticmethod
    def _unexplained(error: BaseException, call: Call) -> Fault:
        if isinstance(error, MemoryError):
            return SystemError()
        if isinstance(error, gevent.Timeout):
            return CallTimeout()
        if in_traceback(error, call.command.function):
            return InternalError()
        return PluginFailure()

    def _finished(self, call: Call) -> None:
        call.seconds = self.clock.now() - call.now
        for plugin, listener in self._call_listeners:
            try:
                listener(call)
            except Exception as error:
                self.plugin_failed(plugin.name, "call.finished", error)

    def call(
        self,
        method: str,
        params: Mapping[str, Any] | Sequence[Any] | None = None,
        *,
        connection: Connection | None = None,
        user: User | None = None,
        auth: str | None = None,
        timeout: float | None = None,
    ) -> Any:
        """Call a command from inside, through the same decorators. May switch.

        `user` is the connection's when one is given, else OPERATOR. Raises the Fault.
        """
        if connection is None:
            with self.door("internal", user=user or OPERATOR) as connection:
                return self.call(method, params, connection=connection, auth=auth, timeout=timeout)
        route = self.routes.get(method)
        call = self._call_of(route or self.unknown(method, connection), connection, user or connection.user, params)
        if route is None:
            route, call.resources = self.unknown_route, {"method": method}
        request = Request(method, "2.0", timeout=timeout, auth=auth)
        proceed = self.with_extras(call, request, route, route.proceed)
        with self.deadline(call):
            self.dispatch(call, proceed)
        if call.fault is not None:
            call.fault.request_id = call.request_id
            raise call.fault
        return call.result

    def _call_of(
        self, route: Route, connection: Connection, user: User | None, params: Mapping[str, Any] | Sequence[Any] | None
    ) -> Call:
        now = self.clock.now()
        if not isinstance(params, Mapping):
            params = dict(zip(route.command.arguments, params or (), strict=False))
        room = connection.max_reply_bytes
        return Call(self, connection, route.command, user, now, now + route.timeout, dict(params), room)

    @contextmanager
    def deadline(self, call: Call) -> Iterator[None]:
        """Throw the call's deadline into the current greenlet; for calls that no connection's alarm watches."""
        loop, greenlet, live = get_hub().loop, getcurrent(), True

        def throw() -> None:
            if live and call.shielded:
                call.deadline = inf
            elif live:
                call.interrupt = Interrupt(CallTimeout())
                greenlet.throw(call.interrupt)

        timer = self.clock.timer(lambda: loop.run_callback(throw))
        timer.start(max(call.deadline - self.clock.now(), 0.0))
        try:
            yield
        finally:
            live = False
            timer.stop()

    # --- the rarer ways --------------------------------------------------------------------------

    def unknown(self, method: str, connection: Connection) -> Route:
        """The way of a method that does not exist: all decorators, then 1605."""
        self.publish("method.unknown", **connection.peer, method=method[:64])
        return self.unknown_route

    def with_extras(self, call: Call, request: Request, route: Route, proceed: Proceed) -> Proceed:
        """Take the optional members of a request; what can't be taken becomes a fault inside dispatch."""
        if request.timeout is not None:
            call.deadline = min(call.deadline, call.now + request.timeout)
            if call.deadline <= self.clock.now():
                return _raising(CallTimeout("The time for this call was over before it began"))
        if request.auth is not None:
            if "auth" not in route.claims:
                return _raising(AuthenticationUnavailable())
            call.auth = request.auth
        if (key := request.idempotency_key) is not None:
            if not (1 <= len(key) <= 64 and key.isascii() and key.isprintable() and " " not in key):
                return _raising(ProtocolError("idempotency_key: 1 to 64 visible ASCII characters are expected"))
            if "idempotency_key" not in route.claims:
                return _raising(UnsupportedOperation(f"{route.command.name} keeps no idempotency keys"))
            call.idempotency_key = key
        if request.trace and proceed is route.proceed:
            call.trace = True
            call.layers = {}
            return route.traced
        return proceed


def _raising(fault: Fault) -> Proceed:
    def refuse(call: Call) -> Any:
        raise fault

    return refuse
