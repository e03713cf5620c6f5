"""What happens in the server: StatsD and Graphite, alerts, reports with advice, and `tidegate top`."""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, Any, ClassVar

from tidegate import Call, Event, Plugin, command, hookimpl
from tidegate.faults import InvalidFormat, InvalidValue, ResourceNotFound

from tidegate_monitoring.access import AccessLog
from tidegate_monitoring.alerts import DEFAULTS, SEVERITIES, Alerts, Silence, Told, absent, combined
from tidegate_monitoring.beat import Beats
from tidegate_monitoring.channels import Channels
from tidegate_monitoring.daemon import Daemon, address_of, prefixed
from tidegate_monitoring.history import History
from tidegate_monitoring.meters import Meters
from tidegate_monitoring.report import SPANS, build, metrics
from tidegate_monitoring.rules import measure, shown
from tidegate_monitoring.series import MAX_MEASURES, MAX_POINTS, series
from tidegate_monitoring.settings import SETTINGS, defaults, rules_of, texts_of

if TYPE_CHECKING:
    from tidegate import Server

__all__ = ["Monitoring"]

REASON = {"type": "string", "maxlength": 500, "meta": {"help": "Why, for the audit trail."}}
NAME = {"type": "string", "required": True, "minlength": 1, "maxlength": 64, "meta": {"help": "The alert's name."}}


class Monitoring(Plugin):
    """Counts all that happens, tells StatsD, raises alerts, and reports. It decorates nothing and can break no call."""

    listens = frozenset({"*"})
    settings = SETTINGS
    offers: ClassVar[dict[str, Any]] = {
        "panels": [
            {"title": "Calls", "command": "monitoring.metrics", "draw": "table", "every_s": 5},
            {"title": "Alerts", "command": "monitoring.alerts", "draw": "table", "every_s": 5},
            {"title": "Last quarter of an hour", "command": "monitoring.report", "draw": "table", "every_s": 60},
        ]
    }

    meters: Meters
    doubtful = False  # the rules have changed since `doubt` looked

    def configure(self, config: Any) -> None:
        address, prefix = address_of(config.statsd), prefixed(config.prefix, self.server.settings.server.name)
        first = not hasattr(self, "meters")
        rules_of(defaults(config.default_rules), texts_of(config))  # refuses before anything is changed
        if first:
            self._make(config)
        self.channels.check(config.webhooks)
        self.daemon.adopt(address, prefix, config.statsd_tcp, config.statsd_tags, config.samples)
        self.history.max_bytes = config.history_bytes
        self.access.adopt(config.access_log, config.slow_s, config.log_per_s)
        self.alerts.remind_s = config.remind_s
        if not first:
            self._adopt(config)

    def _make(self, config: Any) -> None:
        server = self.server
        self.access = AccessLog(self.log, server.clock.now)
        self.meters = Meters(server, self.access.look, lambda: self.beats.lag.begin())
        self.tidegate_event = hookimpl(self.meters.hearing())  # type: ignore[method-assign, assignment]
        self.history = History(config.history_bytes)
        self.alerts = Alerts(server.clock.wall, self._told)
        self.channels = Channels(server, self.log)
        self.daemon = Daemon(self.log)
        self.beats = Beats(self)

    def _adopt(self, config: Any) -> None:
        """What needs the other plugins: they are all there once the server starts."""
        self.meters.prepare(self.access.limit_of, config.trace_every)
        self.channels.adopt(config.webhooks, config.run, config.notify_timeout_s)
        self.alerts.adopt(self.rules(config))
        self.doubtful = True

    def doubt(self) -> None:
        """Log once the rules that somebody has set and that can never hold. Called when gauges were read."""
        if not self.doubtful:
            return
        self.doubtful = False
        server, levels = self.server, self.beats.levels
        for name, alert in self.alerts.alerts.items():
            for severity, watch in alert.watches.items():
                if self._origin(name, severity) not in ("configuration", "administrator"):
                    continue
                if missing := absent(watch.rule, server.commands, server.topics, levels):
                    self.log.warning("rule %s.%s: there is %s here: %s", name, severity, missing, watch.rule.text)

    def rules(self, config: Any) -> Any:
        """Ours, those of other plugins, of the configuration, of administrators: the later wins. An offered rule
        that can't be understood is logged and left out."""
        offered: dict[str, Any] = {}
        for owner, table in self.server.offered("alerts"):
            try:
                rules_of(table)
            except ValueError as error:
                self.log.error("plugin %r offers an alert that can't be understood: %s", owner, error)
                continue
            offered |= table
        return rules_of(defaults(config.default_rules), offered, texts_of(config), self.alerts.thresholds)

    # --- the server's life ------------------------------------------------------------------------

    @hookimpl
    def tidegate_serve(self, server: Server) -> Generator[None, None, None]:
        self.beats.restore()
        self._adopt(self.config)
        self.beats.start()
        try:
            yield
        finally:
            self.beats.stop()
            self.channels.close()
            self.daemon.close()

    @hookimpl
    def tidegate_event(self, event: Event) -> None:
        """Every instance has its own: `Meters.hearing`."""
        raise NotImplementedError

    @hookimpl
    def tidegate_gauges(self) -> dict[str, float]:
        return self.beats.resources | {
            "loop_lag_ms": self.beats.lag_ms,
            "alerts_raised": sum(alert.severity is not None for alert in self.alerts.alerts.values()),
            "statsd_lost": self.daemon.lost,
            "history_bytes": self.history.size,
        }

    def _told(self, told: Told) -> None:
        """An alert changed: the log, the topic and the counters at once, the channels when they can."""
        line = "alert %s %s (%s): %s%s, rule: %s"
        subject = f" of {told.subject}" if told.subject else ""
        write = self.log.info if told.state == "cleared" or told.silenced else self.log.warning
        if told.severity == "critical" and write == self.log.warning:
            write = self.log.error
        write(line, told.name, told.state, told.severity, told.shown, subject, told.rule)
        self.meters.live.count(f"alerts|{told.name}|{told.state}")
        if told.state != "reminded":
            self._publish(told)
        if not told.silenced:
            self.channels.put(told)
            self.daemon.tell(told)

    def _publish(self, told: Told) -> None:
        fields = {"name": told.name, "severity": told.severity, "value": told.value, "rule": told.rule}
        if told.state == "raised":
            self.server.publish("alert.raised", **fields)
        else:
            self.server.publish("alert.cleared", **fields)

    # --- for administrators -----------------------------------------------------------------------

    @command(
        "monitoring.metrics",
        requires="admin",
        scope="read",
        http="GET /monitoring/metrics",
        params={
            "seconds": {"type": "integer", "min": 1, "max": 60, "meta": {"help": "How far to look back.", "unit": "s"}}
        },
    )
    def metrics(self, seconds: int = 10) -> dict[str, Any]:
        """Show the last seconds: calls by command with rates, latencies and errors; topics, gauges, alerts."""
        if not 1 <= seconds <= 60:
            raise InvalidValue("Expected 1 to 60 seconds", field="params.seconds")
        found = self.beats.pool.run(metrics, self.history.recent(seconds))
        return {
            **found,
            "at": round(self.server.clock.wall(), 3),
            "levels": dict(sorted(self.beats.levels.items())),
            "since_start": {"calls": self.meters.calls, "failed": self.meters.failed},
            "alerts": self.alerts.active(),
            "statsd": {"sent": self.daemon.sent, "lost": self.daemon.lost},
            "access_log_left_out": self.access.left_out,
        }

    @command(
        "monitoring.report",
        requires="admin",
        scope="read",
        timeout=60,
        http="GET /monitoring/report",
        params={"span": {"type": "string", "allowed": list(SPANS), "meta": {"help": "How far to look back."}}},
    )
    def report(self, span: str = "15m") -> dict[str, Any]:
        """Report on the last 15m, 1h or 1d: busiest, slowest, failing commands; changes; resources; recommendations."""
        length = SPANS.get(span)
        if length is None:
            raise InvalidValue(f"Expected one of {', '.join(SPANS)}", field="params.span")
        wall = self.server.clock.wall()
        now = self.history.between(wall - length, wall)
        before = self.history.between(wall - 2 * length, wall - length)
        found: dict[str, Any] = self.beats.pool.run(build, now, before, span, wall)
        told = [told for told in self.alerts.history if told.at >= wall - length and told.state == "raised"]
        return found | {"alerts": told}

    @command(
        "monitoring.series",
        requires="admin",
        scope="read",
        timeout=60,
        http="GET /monitoring/series",
        params={
            "names": {
                "type": "list",
                "required": True,
                "minlength": 1,
                "maxlength": MAX_MEASURES,
                "schema": {"type": "string", "maxlength": 200},
                "meta": {"help": "Measures, as in rules; percent(errors) too.", "example": ["p99(calls)", "cpu"]},
            },
            "since": {"type": "number", "meta": {"help": "From when on, Unix time; without: 15 minutes.", "unit": "s"}},
            "until": {"type": "number", "meta": {"help": "Until when, Unix time; without: now.", "unit": "s"}},
            "step_s": {"type": "number", "min": 1, "max": 86400, "meta": {"help": "Between two points.", "unit": "s"}},
        },
    )
    def series(
        self, names: list[str], since: float | None = None, until: float | None = None, step_s: float = 10
    ) -> dict[str, Any]:
        """Show measures over time, at most 1,000 points: `{"times": […], "values": {name: [number or null, …]}}`.

        The past is kept in steps of 10 s for 15 minutes, 60 s for 6 hours, 15 minutes for a week; a smaller step
        gives fewer points.
        """
        until = self.server.clock.wall() if until is None else until
        since = until - 900 if since is None else since
        if not 1 <= step_s <= 86400:
            raise InvalidValue("Expected 1 to 86400 seconds", field="params.step_s")
        if not 0 <= until - since <= step_s * MAX_POINTS:
            raise InvalidValue(f"Expected a time before, at most {MAX_POINTS} steps", field="params.since")
        try:
            measures = [measure(str(name)) for name in dict.fromkeys(names)][:MAX_MEASURES]
        except ValueError as error:
            raise InvalidFormat(str(error), field="params.names") from None
        windows = self.history.between(since, until)
        found: dict[str, Any] = self.beats.pool.run(series, windows, measures, since, until, step_s)
        return found

    @command("monitoring.alerts", requires="admin", scope="read", http="GET /monitoring/alerts")
    def list_alerts(self, history: int = 50) -> dict[str, Any]:
        """List raised alerts, silences, and the last `history` (0 to 500) changes, the newest first."""
        if not 0 <= history <= 500:
            raise InvalidValue("Expected 0 to 500", field="params.history")
        now = self.server.clock.wall()
        return {
            "active": self.alerts.active(),
            "silences": [one for one in self.alerts.silences if one.until > now],
            "channels": self.channels.report(),
            "history": list(reversed(self.alerts.history))[:history],
        }

    @command(
        "monitoring.acknowledge",
        requires="admin",
        http="PUT /monitoring/alerts/{name}/acknowledgement",
        params={"name": NAME, "reason": REASON},
    )
    def acknowledge(self, call: Call, name: str, reason: str = "") -> bool:
        """Say that somebody looks after a raised alert: it is not told again until it has ended."""
        if not self.alerts.acknowledge(name, call.user.id if call.user else ""):
            raise ResourceNotFound(f"No alert {name[:64]!r} is raised", field="params.name")
        return True

    @command(
        "monitoring.silence",
        requires="admin",
        http="PUT /monitoring/alerts/{name}/silence",
        params={
            "name": {**NAME, "meta": {"help": "The alert's name, or a pattern with *.", "example": "disk_*"}},
            "for_s": {
                "type": "number",
                "required": True,
                "min": 0,
                "max": 2_592_000,
                "meta": {"help": "How long nobody is told; 0 ends the silence.", "unit": "s"},
            },
            "reason": REASON,
        },
    )
    def silence(self, call: Call, name: str, for_s: float, reason: str = "") -> dict[str, Any]:
        """Tell nobody of an alert for a time; it is still watched, logged and listed."""
        if not 0 <= for_s <= 2_592_000:
            raise InvalidValue("Expected 0 to 2592000 seconds", field="params.for_s")
        until = self.server.clock.wall() + for_s
        actor = call.user.id if call.user else ""
        call.on_commit(lambda: self.alerts.silence(Silence(name[:64], until, actor, reason[:500])))
        return {"name": name, "until": round(until, 3)}

    @command("monitoring.thresholds", requires="admin", scope="read", http="GET /monitoring/thresholds")
    def thresholds(self) -> list[dict[str, Any]]:
        """List the rules, what they measure now, and who set each: default, plugin, configuration, administrator."""
        rows = []
        for name, alert in sorted(self.alerts.alerts.items()):
            for severity, watch in alert.watches.items():
                rows.append(
                    {
                        "name": name,
                        "severity": severity,
                        "rule": watch.rule.text,
                        "value": watch.value,
                        "shown": None if watch.value is None else shown(watch.value, watch.rule.unit),
                        "raised": watch.firing,
                        "origin": self._origin(name, severity),
                    }
                )
        return rows

    def _origin(self, name: str, severity: str) -> str:
        if severity in self.alerts.thresholds.get(name, {}):
            return "administrator"
        if severity in texts_of(self.config).get(name, {}):
            return "configuration"
        offered = combined(*(table.items() for _, table in self.server.offered("alerts")))
        if severity in offered.get(name, {}):
            return "plugin"
        return "default" if severity in DEFAULTS.get(name, {}) else "configuration"

    @command(
        "monitoring.threshold",
        requires="admin",
        http="PUT /monitoring/thresholds/{name}",
        params={
            "name": {**NAME, "regex": "[a-z][a-z0-9_]{0,63}"},
            "rule": {
                "type": "string",
                "required": True,
                "maxlength": 200,
                "nullable": True,
                "meta": {"help": "The rule; empty takes it away, null goes back to the configuration's."},
            },
            "severity": {"type": "string", "allowed": list(SEVERITIES), "meta": {"help": "Of the alert."}},
            "reason": REASON,
        },
    )
    def threshold(
        self, name: str, rule: str | None, severity: str = "warning", reason: str = ""
    ) -> list[dict[str, Any]]:
        """Set a rule while the server runs; it is kept across restarts. Gives the rules of that name."""
        if severity not in SEVERITIES:
            raise InvalidValue("Expected warning or critical", field="params.severity")
        thresholds = {each: dict(rules) for each, rules in self.alerts.thresholds.items()}
        mine = thresholds.setdefault(name, {})
        if rule is None:
            mine.pop(severity, None)
        else:
            mine[severity] = rule
        if not mine:
            del thresholds[name]
        if len(thresholds) > 200:
            raise InvalidValue("200 rules were set this way; take one away first", field="params.name")
        before, self.alerts.thresholds = self.alerts.thresholds, thresholds
        try:
            rules = self.rules(self.config)
        except ValueError as error:
            self.alerts.thresholds = before
            raise InvalidFormat(str(error), field="params.rule") from None
        self.alerts.adopt(rules)
        self.alerts.changed = self.doubtful = True
        return [row for row in self.thresholds() if row["name"] == name]
