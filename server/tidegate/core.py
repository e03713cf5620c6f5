"""The core plugin: `system.*` and `rpc.discover`, who may call what, and parameters bound to a signature."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from tidegate import discover
from tidegate.commands import is_secret
from tidegate.faults import (
    AuthenticationRequired,
    AuthenticationUnavailable,
    AuthorizationDenied,
    ConfigurationError,
    InvalidValue,
    MethodNotFound,
    ResourceNotFound,
    ServerShuttingDown,
    VersionMismatch,
)
from tidegate.model import Call, Command, User, command, prefix_text
from tidegate.nearest import hint
from tidegate.onion import UNKNOWN, Proceed, Route, where
from tidegate.plugin import Plugin, hookimpl
from tidegate.signature import check_of

PROTOCOL = 1
HINTS = "20/second"  # names suggested for unknown methods
ROLES_OF_OPERATORS = ("admin",)


class Admit(Plugin):
    """Enforces `requires`, `scope`, the port's `admin` and maintenance."""

    ring = "admit"

    @hookimpl
    def tidegate_decorate(self, command: Command, proceed: Proceed) -> Proceed | None:
        notes, server = command.notes, self.server
        role = notes.get("requires")
        maintained = server.maintenance is not None and not notes.get("always")
        if role is None:
            return self._closed(proceed) if maintained else None
        admins = role in ROLES_OF_OPERATORS
        scope = notes.get("scope", "operate")
        acted = admins and scope != "read"
        someone_identifies = any(
            d.ring == "identify" and d.plugin.whole.name != "core" for d in server.registry.decorating
        )

        def admit(call: Call) -> Any:
            user = call.user
            if admins and not call.connection.admin:
                raise MethodNotFound
            if user is None:
                if someone_identifies:
                    raise AuthenticationRequired
                raise AuthenticationUnavailable("Nobody can log in: no plugin of this server knows its users")
            if role not in user.roles:
                raise AuthorizationDenied
            if user.scopes is not None and scope not in user.scopes:
                raise AuthorizationDenied(f"This token does not have the scope {scope!r}")
            return proceed(call)

        inner = proceed
        if acted:
            proceed = self._told(inner)
        elif maintained:
            proceed = self._closed(inner)
        return admit

    def _closed(self, proceed: Proceed) -> Proceed:
        """Maintenance: administrators still work."""
        server = self.server

        def closed(call: Call) -> Any:
            if server.maintenance is not None and not (call.user and "admin" in call.user.roles):
                raise ServerShuttingDown(server.maintenance or "The server is being maintained")
            return proceed(call)

        return closed

    def _told(self, proceed: Proceed) -> Proceed:
        """What an administrator did is told, whatever came of it."""
        server = self.server

        def told(call: Call) -> Any:
            code: int | None = None
            try:
                return proceed(call)
            except BaseException as error:
                code = server.fault_of(error, call).code
                raise
            finally:
                server.publish(
                    "operator.acted",
                    **call.connection.peer,
                    actor=call.user.id if call.user else None,
                    method=call.command.name,
                    params=masked(call.command, call.params),
                    reason=str(call.params.get("reason", "")),
                    code=code,
                )

        return told


class Check(Plugin):
    """Names, required and plain annotated types, where no plugin reads the note `params`."""

    ring = "check"

    @hookimpl
    def tidegate_decorate(self, command: Command, proceed: Proceed) -> Proceed | None:
        if command.name == UNKNOWN or self.server.readers("params") != ("core",):
            return None
        return check_of(command, proceed)


class Core(Plugin):
    """What every server has."""

    parts = (Admit, Check)
    reads = frozenset({"requires", "scope", "params", "result", "faults", "deprecated", "timeout", "thread", "always"})
    provides = frozenset({"call"})

    def configure(self, config: Any) -> None:
        self._hints = self.server.state.limit("core.hints", HINTS)

    @hookimpl
    def tidegate_gauges(self) -> dict[str, float]:
        server = self.server
        return {
            "connections_open": len(server.connections),
            "calls_running": sum(len(c.calls_in_flight()) for c in server.connections.values()),
        }

    @command(UNKNOWN, always=True)
    def unknown(self, call: Call) -> Any:
        """A method that does not exist."""
        method = str((call.resources or {}).get("method", ""))
        if self._hints.hit("") > 0.0:  # a scanner's thousand guesses would cost 0.2 ms each
            raise MethodNotFound
        known = [name for name, route in self.server.routes.items() if may_use(call.user, call, route.command)]
        said = hint(method, known)
        raise MethodNotFound(f"No such method{said}" if said else None)

    # --- for everybody ---------------------------------------------------------------------------

    @command("system.ping", always=True)
    def ping(self) -> str:
        """Answer `"pong"`."""
        return "pong"

    @command("system.echo", params={"text": {"type": "string", "required": True, "maxlength": 1000}})
    def echo(self, text: str) -> str:
        """Answer with the same text, at most 1,000 characters: what latency is measured with."""
        if len(text) > 1000:
            raise InvalidValue("At most 1,000 characters are echoed", field="params.text")
        return text

    @command("system.info", always=True)
    def info(self) -> dict[str, Any]:
        """Say the server's name, versions, uptime and plugins."""
        server = self.server
        registry = server.registry
        return {
            "name": server.settings.server.name,
            "version": self.version,
            "protocol": PROTOCOL,
            "uptime_s": round(server.clock.now() - (server.started or server.clock.now()), 3),
            "maintenance": server.maintenance,
            "plugins": [
                {"name": p.name, "version": p.version, "state": "ok"}
                for name, p in registry.plugins.items()
                if name != "core"
            ]
            + [{"name": b.name, "version": b.version, "state": "broken"} for b in registry.broken],
        }

    @command("system.hello", always=True)
    def hello(self, protocol: int, client: str = "") -> dict[str, Any]:
        """Agree on a protocol version; one that this server does not speak is refused with 1604."""
        if protocol != PROTOCOL:
            raise VersionMismatch(f"This server speaks protocol {PROTOCOL}", supported=[PROTOCOL])
        return {"protocol": PROTOCOL, "server": f"tidegate/{self.version}"}

    @command("rpc.discover", always=True)
    def discover(self, call: Call) -> dict[str, Any]:
        """Describe the commands that this caller may use, as an OpenRPC 1.x document."""
        routes = self.server.routes
        usable = [route for route in routes.values() if may_use(call.user, call, route.command)]
        return discover.document(self.server.settings.server.name, self.version, usable)

    # --- for administrators ----------------------------------------------------------------------

    @command("system.connections", requires="admin", scope="read", http="GET /connections")
    def connections(self, after: str = "", limit: int = 100) -> list[dict[str, Any]]:
        """List open connections, oldest first: the `limit` (at most 1,000) that follow the connection `after`."""
        server = self.server
        if not 1 <= limit <= 1000:
            raise InvalidValue("A limit is between 1 and 1000", field="params.limit")
        ids = list(server.connections)
        start = ids.index(after) + 1 if after in server.connections else 0
        now = server.clock.now()
        return [
            {
                "id": c.id,
                "kind": c.kind,
                "address": c.address,
                "prefix": prefix_text(c.prefix),
                "user": c.user.id if c.user is not None else None,
                "name": c.user.name if c.user is not None else None,
                "seconds": round(now - c.opened, 3),
                **c.traffic(),
            }
            for c in (server.connections[id] for id in ids[start : start + limit])
        ]

    @command("system.close", requires="admin", http="DELETE /connections/{id}")
    def close(self, id: str, cancel: bool = False, reason: str = "") -> bool:
        """Close a connection by its id; `cancel` stops its running call too."""
        connection = self.server.connections.get(id)
        if connection is None:
            raise ResourceNotFound(f"No connection {id[:64]!r} is open", field="params.id")
        connection.end(cancel=cancel)
        return True

    @command("system.plugins", requires="admin", scope="read", http="GET /plugins")
    def plugins(self) -> list[dict[str, Any]]:
        """List the plugins: version, distribution, rings, hooks, state."""
        registry = self.server.registry
        rows = []
        for name, plugin in registry.plugins.items():
            hooks = sorted(
                caller.name.removeprefix("tidegate_") for caller in registry.manager.get_hookcallers(plugin) or ()
            )
            rings = [d.ring for d in registry.decorating if d.plugin.whole is plugin]
            rows.append(
                {
                    "name": name,
                    "version": plugin.version,
                    "distribution": plugin.distribution,
                    "rings": rings,
                    "hooks": sorted({*hooks, *(["decorate"] if rings else [])}),
                    "commands": sum(c.plugin is plugin for c in self.server.commands.values()) - (name == "core"),
                    "state": "ok",
                    "reason": "",
                }
            )
        rows += [
            {
                "name": b.name,
                "version": b.version,
                "distribution": b.distribution,
                "rings": [],
                "hooks": [],
                "commands": 0,
                "state": "broken",
                "reason": b.reason,
            }
            for b in registry.broken
        ]
        return sorted(rows, key=lambda row: str(row["name"]))

    @command("system.explain", requires="admin", scope="read", http="GET /layers/{method}")
    def explain(self, method: str, cost: bool = False) -> dict[str, Any]:
        """Show what a call to `method` passes, outermost first; with `cost` the mean seconds of each layer.

        They are of the next 20 calls, or those of the next 2 seconds.
        """
        route = self.server.routes.get(method)
        if route is None:
            known = self.server.routes
            raise ResourceNotFound(f"No command {method[:64]!r}{hint(method, known)}", field="params.method")
        return explained(route, self.server.measure(route) if cost else None)

    @command("system.config", requires="admin", scope="read", http="GET /config")
    def configuration(self) -> list[dict[str, Any]]:
        """Show the effective configuration and where each value comes from; secrets are masked."""
        rows = [{"key": key, "value": value, "origin": origin} for key, value, origin in self.server.settings.rows()]
        if self.server.logs is not None:
            level = logging.getLevelName(logging.getLogger().level).lower()
            for row in rows:
                if row["key"] == "server.log_level" and row["value"] != level:
                    row |= {"value": level, "origin": "system.log_level"}
        return rows

    @command("system.reload", requires="admin", timeout=60, http="POST /config/reload")
    def reload(self, call: Call, reason: str = "") -> list[str]:
        """Read settings and certificates again, all or nothing, and say which keys changed."""
        try:
            return self.server.reload(call.user.id if call.user else "operator")
        except ConfigurationError as fault:
            # An administrator may read the reason; nobody else can call this.
            raise ConfigurationError(fault.log, log=fault.log) from fault

    @command("system.maintenance", requires="admin", http="PUT /maintenance")
    def maintenance(self, call: Call, on: bool, message: str = "", reason: str = "") -> bool:
        """Switch maintenance: new calls get 1309 with `message`, administrators still work."""
        server = self.server
        server.maintenance = (message or "The server is being maintained") if on else None
        server.compose()
        call.publish("maintenance.changed", actor=call.user.id if call.user else None, on=on, message=message)
        return on

    @command("system.log_level", requires="admin", http="PUT /log/level")
    def log_level(self, level: str, reason: str = "") -> str:
        """Set the level of the log: debug, info, warning, error or critical."""
        levels = ("debug", "info", "warning", "error", "critical")
        if level not in levels:
            raise InvalidValue(f"Expected one of {', '.join(levels)}{hint(level, levels)}", field="params.level")
        if self.server.logs is not None:
            self.server.logs.set_level(level)
        else:
            logging.getLogger("tidegate").setLevel(level.upper())
        return level

    @command("system.gauges", requires="admin", scope="read", http="GET /gauges")
    def gauges(self) -> dict[str, float]:
        """Ask all plugins for their levels."""
        return self.server.gauges()


def may_use(user: User | None, call: Call, command: Command) -> bool:
    """Whether somebody may call a command, as far as role and port decide."""
    role = command.notes.get("requires")
    if role is None:
        return not command.notes.get("honeypot")
    if role in ROLES_OF_OPERATORS and not call.connection.admin:
        return False
    return user is not None and role in user.roles


def masked(command: Command, params: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters fit for an audit trail: what the schema calls secret, at any depth, is not shown."""
    shown: dict[str, Any] = _shown("", params, {"schema": command.notes.get("params")})
    return shown


def _shown(name: str, value: Any, rules: Any) -> Any:
    rules = rules if isinstance(rules, Mapping) else {}
    if is_secret(name, rules):
        return "***"
    if isinstance(value, Mapping):
        fields, others = rules.get("schema"), rules.get("valuesrules")
        fields = fields if isinstance(fields, Mapping) else {}  # not one by its name in a registry
        return {key: _shown(str(key), item, fields.get(key, others)) for key, item in value.items()}
    if isinstance(value, list):
        return [_shown(name, item, rules.get("schema")) for item in value]
    return value


def explained(route: Route, cost: Mapping[str, Any] | None) -> dict[str, Any]:
    """One command's onion: `{"method": …, "layers": [{"plugin", "ring", "where", "explain", "seconds"}]}`.

    `explain` is there where the function that `tidegate_decorate` gave has an attribute of that name, a text.
    """
    layers: list[dict[str, Any]] = [
        {"plugin": layer.plugin, "ring": layer.ring, "where": layer.where}
        | ({"explain": str(said)} if (said := getattr(layer.function, "explain", None)) else {})
        for layer in route.layers
    ]
    layers.append({"plugin": route.command.plugin.name, "ring": "command", "where": where(route.command.function)})
    if cost is not None:
        for layer in layers:
            key = "command" if layer["ring"] == "command" else layer["plugin"]
            layer["seconds"] = cost["seconds"].get(key)
    return {
        "method": route.command.name,
        "timeout_s": route.timeout,
        "notes": {name: _plain(value) for name, value in route.command.notes.items()},
        "layers": layers,
        **({} if cost is None else {"calls": cost["calls"]}),
    }


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if value is None or isinstance(value, (str, int, float, bool)):
        return value
    return getattr(value, "__name__", str(value))
