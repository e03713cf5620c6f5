"""The admin site: administrators' commands over HTTP, and a dashboard that uses them."""

from __future__ import annotations

import ssl
from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
from gevent import ssl as gevent_ssl
from tidegate import Event, hookimpl

from tidegate_admin import assets, figures, openapi
from tidegate_admin.access import Access, operator_token
from tidegate_admin.administration import Administration
from tidegate_admin.feeds import Feeds
from tidegate_admin.listener import Listener
from tidegate_admin.proxies import networks_of
from tidegate_admin.series import Series
from tidegate_admin.settings import SETTINGS, place_of
from tidegate_admin.site import Site
from tidegate_admin.timeline import TOPICS, Timeline

if TYPE_CHECKING:
    from tidegate import Server

__all__ = ["Admin"]

END_S = 2.0


class Admin(Administration):
    """Runs administrators' commands over HTTP, through the same decorators as over TCP. It decorates nothing."""

    reads = frozenset({"http"})
    listens = frozenset(TOPICS)
    settings = SETTINGS

    def configure(self, config: Any) -> None:
        place = place_of(config.listen)
        if (config.tls_cert is None) != (config.tls_key is None):
            raise ValueError("tls_cert and tls_key go together")
        if not place.loopback and config.tls_cert is None and not config.clear:
            raise ValueError(
                f"listen {place}: tokens would cross the network in clear text; "
                "set tls_cert and tls_key, listen on 127.0.0.1, or set clear = true"
            )
        self.proxies = networks_of(config.proxy_from)
        if hasattr(self, "timeline"):
            self.timeline.resize(config.events)
            return
        self.feeds = Feeds(self)
        self.series = Series()
        self.timeline = Timeline(config.events, self.server.clock.now, self.feeds.tell)
        self.operations: list[openapi.Operation] = []
        self.openapi = assets.Asset("application/json", b"{}", None, '""')
        self.listener: Listener | None = None
        self.database_lost = False
        self.draining = False

    # --- the server's life ------------------------------------------------------------------------

    @hookimpl
    def tidegate_serve(self, server: Server) -> Generator[None, None, None]:
        config = self.config
        access = Access(self)
        if not self._accounts():
            access.token = operator_token(self.data)
        context = context_of(config.tls_cert, config.tls_key) if config.tls_cert else None
        place = place_of(config.listen)
        try:
            self.listener = Listener(place, Site(self, access, assets.load()), config, self.log, context)
        except OSError as error:
            raise RuntimeError(
                f"listen {place}: {error.strerror or error}; choose another address, [plugins.admin] listen"
            ) from error
        try:
            yield
        finally:
            self.feeds.stop()
            self.listener.end(END_S)

    def _started(self) -> None:
        """Once every command is known, and the server serves."""
        assert self.listener is not None
        self._describe()
        self.listener.start()
        scheme = "https" if self.listener.context is not None else "http"
        hint = "accounts and their tokens open it" if self._accounts() else f"the token is in {self.data / 'token'}"
        self.log.info("admin site on %s://%s; %s", scheme, self.listener.place, hint)
        figures.recall(self.server, self.log, self.series)
        self.feeds.start()

    def _accounts(self) -> bool:
        """Whether somebody judges tokens: then the operator's is none."""
        kinds = (type(plugin) for plugin in self.server.registry.plugins.values())
        return any("auth" in part.claims for kind in kinds for part in (kind, *kind.parts))

    def _describe(self) -> None:
        """Find each command's path, and write the document."""
        server = self.server
        methods = {method["name"]: method for method in server.call("rpc.discover")["methods"]}
        known = [(each, methods[name]) for name, each in server.commands.items() if name in methods]
        self.operations, mistakes = openapi.operations(known)
        for mistake in mistakes:
            self.log.warning("%s; it is at POST /commands", mistake)
        document = openapi.document(server.settings.server.name, self.version, self.operations, methods)
        self.openapi = assets.made("application/json", msgspec.json.encode(document))

    @hookimpl
    def tidegate_event(self, event: Event) -> None:
        topic = event.topic
        if topic == "server.started":
            self.server.spawn(self._started)
        elif topic == "config.reloaded" and self.listener is not None:
            self.listener.limits = self.config
            if self.config.tls_cert:
                self.server.spawn(self._new_certificate)
        elif topic in ("database.lost", "database.found"):
            self.database_lost = topic == "database.lost"
        elif topic == "server.draining":
            self.draining = True
        self.timeline.put(event)

    def _new_certificate(self) -> None:
        config = self.config
        assert self.listener is not None
        try:
            self.listener.context = self._threads.run(context_of, config.tls_cert, config.tls_key)
        except (OSError, ValueError) as error:
            self.log.error("the new certificate can't be used, the old one stays: %s", error)

    @property
    def _threads(self) -> Any:
        return self.server.pool("admin", 1, 16)

    @hookimpl
    def tidegate_gauges(self) -> dict[str, float]:
        return {
            "connections_open": len(self.listener.open) if self.listener is not None else 0,
            "streams_open": len(self.feeds.viewers),
            "events_left_out": self.timeline.left_out,
        }

    # --- live numbers -----------------------------------------------------------------------------

    def read(self) -> tuple[float, dict[str, float]]:
        """The charts' numbers now, by name, and keep them. Switches."""
        values = figures.read(self.server, self.log, 2 if self.feeds.viewers else 5)
        at = self.server.clock.wall()
        self.series.put(at, values)
        return round(at, 3), {name: round(value, 4) for name, value in values.items()}


def context_of(cert: str, key: str) -> ssl.SSLContext:
    """TLS 1.2 and newer, giving way to others while it waits. Reads files. Raises OSError, ssl.SSLError."""
    context = gevent_ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.load_cert_chain(Path(cert), Path(key))
    return context
