"""The server's own life: start, signals, reload, drain, end."""

from __future__ import annotations

import gc
import os
import resource
import signal
import sys
import time
from types import FrameType
from typing import TYPE_CHECKING, Any

import gevent
from gevent.hub import get_hub
from gevent.lock import BoundedSemaphore

from tidegate import systemd
from tidegate.config import ConfigError, Raw, check
from tidegate.connection import SocketConnection
from tidegate.faults import ConfigurationError, Fault, ServerShuttingDown
from tidegate.listener import Listener, Networks, bind_unix, context_of, open_socket
from tidegate.registry import StartRefused

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from tidegate.plugin import Plugin
    from tidegate.server import Server

_LOOPBACK = Networks(["127.0.0.0/8", "::1"])


class Serving:
    """Carries a `Server` from start to end."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.reread: Callable[[], Raw] | None = None  # how SIGHUP reads the configuration again
        self.on_start: list[Callable[[], object]] = []
        self.on_reload: list[Callable[[], object]] = []
        self._entered: list[tuple[Plugin, Generator[None, None, None]]] = []
        self._signals = 0
        self._reloading = BoundedSemaphore(1)
        self._hangup_waits = False  # for a reload under way, before another

    # --- start -----------------------------------------------------------------------------------

    def start(self) -> None:
        """Take the data folder, start the plugins, open the listeners. Raises StartRefused or a Fault."""
        self._prepare()
        self._open()

    def _prepare(self) -> None:
        """All that can be done before clients may come."""
        server = self.server
        if problems := self.unsafe():
            raise StartRefused(problems)
        sys.setswitchinterval(0.001)  # also gevent's slice for callbacks before it polls again
        try:
            server.folder.take()
        except OSError as error:
            raise _unusable(server, error) from error
        try:
            self._raise_descriptors()
            server.keep_reserve()
            self._enter_plugins()
        except BaseException:
            self.finish()
            raise

    def _open(self) -> None:
        server = self.server
        try:
            self._open_listeners()
        except BaseException:
            self.finish()
            raise
        server.started = server.clock.now()
        for listener in server.listeners:
            listener.start()
        server.watchdog.start()  # until now there was nobody to hold up
        server.publish("server.started", listeners=server.addresses)
        for notice in server.registry.notices:
            server.log.warning("%s", notice)
        for broken in server.registry.broken:
            server.log.error("serving without %s", broken)
        systemd.notify(f"READY=1\nSTATUS=Serving on {', '.join(server.addresses)}")
        server.spawn(self._housekeeping)
        for act in self.on_start:
            act()

    def unsafe(self) -> list[str]:
        """Beyond loopback only when the configuration says so, or somebody guards or identifies."""
        server = self.server
        if server.settings.server.open or any(
            d.ring in ("guard", "identify") and d.plugin.whole.name not in ("core", "validation")
            for d in server.registry.decorating
        ):
            return []
        return [
            f"listen {limits.address}: nothing guards the server or identifies anybody; "
            "install tidegate-security or tidegate-accounts, listen on 127.0.0.1, or set [server] open = true"
            for limits in server.settings.listen
            if _beyond_loopback(limits.address)
        ]

    @staticmethod
    def _raise_descriptors() -> None:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if soft < hard:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))

    def _enter_plugins(self) -> None:
        server = self.server
        hooks = {plugin.name: hook for plugin, hook in server.registry.impls("tidegate_serve")}
        for plugin in server.registry.serving_order():
            if (hook := hooks.get(plugin.name)) is None:
                continue
            generator = hook(server)
            try:
                next(generator)
            except Exception as error:
                reason = f"failed at start, in tidegate_serve: {type(error).__name__}: {error}"
                if server.raw.core(plugin.name).required:
                    if not isinstance(error, ValueError | Fault):  # those say all there is to say
                        server.log.error("plugin %r %s", plugin.name, reason, exc_info=error)
                    raise StartRefused(
                        [f"plugin {plugin.name!r} ({plugin.distribution} {plugin.version}) {reason}"]
                    ) from error
                server.leave_out(plugin.name, reason)
                continue
            self._entered.append((plugin, generator))

    def _open_listeners(self) -> None:
        server = self.server
        inherited = systemd.listen_sockets()
        try:
            operator = bind_unix(server.data / "admin.sock", 0o177)
        except OSError as error:
            raise _unusable(server, error) from error
        limits = server.operator_limits()
        server.operator_door = Listener(server, limits, operator, "admin", f"unix:{server.data / 'admin.sock'}")
        server.operator_door.start()
        problems = []
        for limits in server.settings.listen:
            try:
                sock, name = open_socket(limits.address, inherited)
                kind = "tls" if limits.tls_cert else "unix" if name.startswith("unix:") else "tcp"
                server.listeners.append(Listener(server, limits, sock, kind, name))
            except (OSError, KeyError, ValueError) as error:
                told = error.strerror if isinstance(error, OSError) and error.strerror else error
                problems.append(f"listen {limits.address}: {told}; choose another address")
        if problems:
            raise StartRefused(problems)

    def _housekeeping(self) -> None:
        """What must be looked at now and then: lost log lines, descriptors that are there again."""
        server = self.server
        while True:
            gevent.sleep(1.0)
            if server.logs is not None and (lost := server.logs.take_lost()):
                server.publish("log.lost", count=lost)
            for listener in server.listeners:
                listener.tell_recovered()

    # --- signals ---------------------------------------------------------------------------------

    def run(self) -> int:
        """Start, serve until told to stop, drain, and give the exit code."""
        # First: who reads where it serves may signal at once.
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_stop)
        signal.signal(signal.SIGHUP, self._on_hangup)
        self._prepare()
        # What is loaded by now stays: a full collection through it would stop the loop for 0.1 s with all plugins.
        gc.collect()
        gc.freeze()
        self._open()
        try:
            self.server.stopping.wait()
        finally:
            self.drain()
            self.finish()
        return self.server.exit_code

    def _on_stop(self, number: int, frame: FrameType | None) -> None:
        # Handlers run wherever the loop is; never block here.
        self._signals += 1
        if self._signals > 1:
            os._exit(1)  # told twice: at once
        self.server.stop(signal.Signals(number).name)

    def _on_hangup(self, number: int, frame: FrameType | None) -> None:
        get_hub().loop.run_callback(lambda: self.server.spawn(self._hangup))

    def _hangup(self) -> None:
        for act in self.on_reload:
            act()
        if self._hangup_waits:
            return
        self._hangup_waits = True
        try:
            self.reload("SIGHUP")
        except ConfigurationError as fault:
            self.server.log.error("%s; the old configuration stays", fault.log)

    # --- reload ----------------------------------------------------------------------------------

    def reload(self, actor: str) -> list[str]:
        """Read the configuration and the certificates again: all of it or nothing.

        Returns the changed keys. Raises ConfigurationError with the reason in its log text.
        """
        if self.reread is None:
            self._hangup_waits = False
            raise ConfigurationError("This server was started without a configuration to read again")
        with self._reloading:  # or an older file could be taken after a newer one
            self._hangup_waits = False
            return self._reload_or_stay(actor)

    def _reload_or_stay(self, actor: str) -> list[str]:
        systemd.notify(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")
        try:
            return self._reload(actor)
        except (ConfigError, StartRefused, OSError, ValueError) as error:
            raise ConfigurationError(
                "The new configuration is refused; the log says why", log=f"refused to reload: {error}"
            ) from error
        finally:
            systemd.notify("READY=1")

    def _reload(self, actor: str) -> list[str]:
        server = self.server
        reread = self.reread
        assert reread is not None
        pool = get_hub().threadpool
        raw = pool.apply(reread)
        new = pool.apply(check, (raw, server.registry.schemas(), server.registry.not_loaded()))
        contexts = {
            listener: pool.apply(context_of, (limits,))
            for listener, limits in self._same_listeners(new)
            if limits.tls_cert
        }
        keys = server.settings.changed(new)
        server.take_settings(raw, new)
        for listener, limits in self._same_listeners(new):
            listener.limits = limits
            listener.context = contexts.get(listener)
            listener.proxies = Networks(limits.proxy_from)
        server.publish("config.reloaded", actor=actor, keys=keys)
        server.log.info("configuration reloaded by %s: %s", actor, ", ".join(keys) or "nothing changed")
        for key in keys:
            if key.endswith(".address") or key in ("server.data", "server.commands", "server.threads"):
                server.log.warning("%s takes effect after a restart", key)
        return keys

    def _same_listeners(self, new: Any) -> list[tuple[Listener, Any]]:
        """Listeners go by their place in the file; new and removed ones take a restart."""
        return list(zip(self.server.listeners, new.listen, strict=False))

    # --- the end ---------------------------------------------------------------------------------

    def drain(self) -> None:
        """Stop accepting, tell clients, let calls finish within `drain_timeout_s`, close."""
        server = self.server
        limit = server.settings.server.drain_timeout_s
        systemd.notify("STOPPING=1")
        server.publish("server.draining", reason=server.stop_reason, seconds=limit)
        server.log.info("draining (%s): %d connections", server.stop_reason, len(server.connections))
        for listener in server.listeners:
            listener.close()
        server.draining = True
        self._say_goodbye()
        if not self._wait_empty(limit):
            server.log.warning("%d calls did not finish in time", len(server.connections))
            for connection in self._sockets():
                connection.abandon(ServerShuttingDown)
            if not self._wait_empty(1.0):
                gevent.killall([c.greenlet for c in self._sockets() if c.greenlet is not None], timeout=1.0)

    def _say_goodbye(self) -> None:
        """Tell those who were not told yet; what they have sent is still answered."""
        seconds = self.server.settings.server.drain_timeout_s
        frame = self.server.frame("event.shutdown", {"reason": "The server is shutting down", "seconds": seconds})
        for connection in self._sockets():
            if connection.phase != "draining":
                connection.push(frame)
                connection.drain()

    def _sockets(self) -> list[SocketConnection]:
        return [c for c in self.server.connections.values() if isinstance(c, SocketConnection)]

    def _wait_empty(self, seconds: float) -> bool:
        """Real time: a virtual clock must not keep a server from ending.

        Operators may still come and look; they have to go when nobody else is left.
        """
        connections, end = self.server.connections, time.monotonic() + seconds
        while connections and time.monotonic() < end:
            if all(c.kind == "admin" and not c.calls_in_flight() for c in connections.values()):
                self._say_goodbye()
            gevent.sleep(0.01)
        return not connections

    def finish(self) -> None:
        """Leave the plugins' lives, innermost last, and give everything back."""
        server = self.server
        for plugin, generator in reversed(self._entered):
            try:
                next(generator, None)
                generator.close()
            except Exception as error:
                server.plugin_failed(plugin.name, "tidegate_serve", error)
        self._entered.clear()
        server.close()


def _unusable(server: Server, error: OSError) -> StartRefused:
    return StartRefused([f"server.data: {server.data}: {error.strerror or error}; choose another folder"])


def _beyond_loopback(text: str) -> bool:
    from tidegate.address import parse_address
    from tidegate.listener import packed_address

    address = parse_address(text)
    if address.kind != "tcp":
        return False
    if address.host == "localhost":
        return False
    try:
        return packed_address(address.host or "0.0.0.0") not in _LOOPBACK  # noqa: S104  (it asks, and binds nothing)
    except OSError:
        return True
