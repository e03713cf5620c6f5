"""The site's own commands, and what may be watched live."""

from __future__ import annotations

from typing import Any

from tidegate import Call, Plugin, command
from tidegate.faults import AuthenticationRequired, InvalidValue

from tidegate_admin.series import SPANS, Series
from tidegate_admin.timeline import Timeline

PACE_S = 5.0  # how often a command is asked of which no panel says so


class Administration(Plugin):
    """The half of `Admin` that is asked."""

    timeline: Timeline
    series: Series
    database_lost: bool
    draining: bool

    # --- what pages may watch ---------------------------------------------------------------------

    def pace(self, name: str) -> float:
        """Seconds between two times that a watched command is asked."""
        paces = [float(panel.get("every_s", PACE_S)) for panel in self.offered_panels() if panel["command"] == name]
        return max(min(paces, default=PACE_S), 1.0)

    def check_watchable(self, name: str) -> None:
        """Raises InvalidValue for what is no administrators' command that only reads, with nothing to fill in."""
        found = self.server.commands.get(name)
        if (
            found is None
            or found.required
            or (found.notes.get("requires"), found.notes.get("scope")) != ("admin", "read")
        ):
            raise InvalidValue(f"{name[:64]!r} can't be watched", field="params.watch")

    def offered_panels(self) -> list[dict[str, Any]]:
        """Panels of plugins whose commands may be watched; one that is wrong is left out."""
        panels = []
        for owner, offer in self.server.offered("panels"):
            for panel in offer:
                try:
                    self.check_watchable(panel["command"])
                    panels.append({"plugin": owner, "draw": "table", "every_s": PACE_S, **panel})
                except (InvalidValue, KeyError, TypeError) as error:
                    self.log.debug("plugin %r offers a panel that can't be shown: %r", owner, error)
        return panels

    # --- for administrators -----------------------------------------------------------------------

    @command("admin.whoami", requires="admin", scope="read", always=True, http="GET /whoami")
    def whoami(self, call: Call) -> dict[str, Any]:
        """Say who you are, what you may do, and which server this is."""
        user = call.user
        if user is None:
            raise AuthenticationRequired
        scopes = ["read", "operate", "security"] if user.scopes is None else sorted(user.scopes)
        server = self.server
        return {
            "id": user.id,
            "name": user.name,
            "roles": sorted(user.roles),
            "scopes": scopes,
            "server": server.settings.server.name,
            "version": server.registry.plugins["core"].version,
            "uptime_s": round(server.clock.now() - (server.started or server.clock.now()), 3),
            "maintenance": server.maintenance,
            "now": round(server.clock.wall(), 3),
        }

    @command("admin.ready", requires="admin", scope="read", always=True, http="GET /ready")
    def ready(self) -> dict[str, Any]:
        """Say whether the server takes calls, and if not, why."""
        server = self.server
        reasons = []
        if self.draining:
            reasons.append("The server is shutting down")
        if server.maintenance is not None:
            reasons.append(f"Maintenance: {server.maintenance}")
        if self.database_lost:
            reasons.append("The database is away")
        if (left := server.settings.server.max_connections - len(server.connections)) <= 0:
            reasons.append(f"All places are taken: {-left} connections too many")
        return {"ready": not reasons, "reasons": reasons}

    @command("admin.panels", requires="admin", scope="read", http="GET /panels")
    def panels(self) -> list[dict[str, Any]]:
        """List what plugins have to show: title, command, how it is drawn, how often it is asked."""
        return self.offered_panels()

    @command(
        "admin.events",
        requires="admin",
        scope="read",
        http="GET /events",
        params={
            "topics": {
                "type": "list",
                "maxlength": 40,
                "schema": {"type": "string", "maxlength": 64},
                "meta": {"help": "Only these; 'account.' stands for all that begin so.", "example": ["login.failed"]},
            },
            "after": {"type": "integer", "min": 0, "meta": {"help": "Only those with a higher number."}},
            "limit": {"type": "integer", "min": 1, "max": 1000, "meta": {"help": "At most so many."}},
        },
    )
    def events(self, topics: list[str] | None = None, after: int = 0, limit: int = 100) -> list[dict[str, Any]]:
        """List what happened lately, whoever told it, the newest first."""
        if not 1 <= limit <= 1000:
            raise InvalidValue("A limit is between 1 and 1000", field="params.limit")
        return self.timeline.newest(limit, [str(topic) for topic in topics or ()], after)

    @command(
        "admin.series",
        requires="admin",
        scope="read",
        http="GET /series",
        params={
            "span": {"type": "string", "allowed": list(SPANS), "meta": {"help": "How far to look back."}},
            "names": {
                "type": "list",
                "maxlength": 150,
                "schema": {"type": "string", "maxlength": 200},
                "meta": {"help": "Only these.", "example": ["calls.per_s"]},
            },
        },
    )
    def series_of(self, span: str = "15m", names: list[str] | None = None) -> dict[str, Any]:
        """Show the numbers of the last 15m, 6h or 7d: gauges, and what monitoring measures where it is installed."""
        if span not in SPANS:
            raise InvalidValue(f"Expected one of {', '.join(SPANS)}", field="params.span")
        return self.series.shown(span, [str(name) for name in names or ()])
