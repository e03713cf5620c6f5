"""Alerts: when a rule's condition becomes one, when it ends, who is told, and who wants to hear nothing of it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Container, Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Any

import msgspec

from tidegate_monitoring.rules import DELAYS, Rule, shown
from tidegate_monitoring.tracks import Beat, Track

SEVERITIES = ("warning", "critical")
#: An alert ends when its condition has been over for as long as it had to hold, and at least for so long.
LEAST_CLEAR_S = 5.0
MAX_HISTORY = 500
MAX_SILENCES = 100

#: Rules that are on by default: name -> severity -> text. README.md says what each is for.
DEFAULTS: dict[str, dict[str, str]] = {
    "loop_lag": {"warning": "loop_lag > 100ms for 5s", "critical": "loop_lag > 1s"},
    "loop_blocked": {"warning": "count(loop.blocked) >= 3 over 1m"},
    "failures": {"warning": "rate(failures) > 1% for 30s", "critical": "rate(failures) > 10% for 30s"},
    "errors": {"warning": "rate(errors) > 50% for 1m"},
    "slow_calls": {"warning": "p99(calls) > 2s for 1m"},
    "disk_free": {"warning": "disk_free < 10%", "critical": "disk_free < 5%"},
    "descriptors": {"warning": "descriptors > 80% for 10s", "critical": "descriptors > 95%"},
    "cpu": {"warning": "cpu > 90% for 2m"},
    "memory": {"warning": "memory > 70% for 30s", "critical": "memory > 90%"},
    "breakers_open": {"warning": "breakers_open > 0"},
    "database_lost": {"critical": "database_lost > 0"},
    "overload": {"warning": "rate(load.shed) > 1/s for 10s"},
    "refused": {"warning": "rate(connection.refused) > 5/s for 10s"},
    "threats": {"warning": "rate(threat.detected) > 10/m", "critical": "rate(threat.detected) > 100/m"},
    "logins": {"warning": "rate(login.failed) > 30/m"},
    "blocks": {"warning": "rate(address.blocked) > 10/m"},
    "plugins": {"warning": "count(plugin.failed) > 0 over 5m"},
    "log_lost": {"warning": "count(log.lost) > 0"},
}


#: What a window counts beside topics.
COUNTS = ("bytes_in", "bytes_out", "pushes")


def absent(rule: Rule, commands: Container[str], topics: Container[str], gauges: Container[str]) -> str:
    """What a rule watches and this server has not: "no command 'mesage.send'"; empty where it is there."""
    if not rule.function:
        return "" if rule.series in gauges else f"no gauge {rule.series!r}"
    area, _, name = rule.series.partition(".")
    if area in ("calls", "errors", "failures", "transactions"):
        known = name in ("", "*") or name.isdigit() or name in commands
        return "" if known else f"no command {name!r}"
    return "" if rule.series in topics or rule.series in (*COUNTS, *DELAYS) else f"no topic {rule.series!r}"


class Silence(msgspec.Struct):
    """Nobody is told of alerts with such names until then (wall time)."""

    pattern: str
    until: float
    actor: str
    reason: str


class Told(msgspec.Struct):
    """A change of an alert, as channels get it and as history keeps it. `seconds`: how long it had lasted."""

    name: str
    severity: str
    state: str  # raised, cleared, reminded
    at: float
    value: float
    shown: str
    rule: str
    subject: str = ""
    seconds: float = 0.0
    silenced: bool = False


class Kept(msgspec.Struct):
    """What outlives this process."""

    silences: list[Silence] = []
    history: list[Told] = []
    thresholds: dict[str, dict[str, str]] = {}


class Watch:
    """One rule at one severity, and whether it fires."""

    def __init__(self, rule: Rule) -> None:
        self.rule = rule
        self.track = Track(rule)
        self.value: float | None = None
        self.firing = False
        self._turned: float | None = None  # since when the condition is other than `firing` says

    def look(self, beat: Beat, now: float) -> bool:
        """Take in a beat; whether `firing` changed. No evidence changes nothing for the worse."""
        value = self.track.value(beat)
        if value is not None:
            self.value = value
        if (value is not None and self.rule.holds(value, self.firing)) == self.firing:
            self._turned = None
            return False
        if self._turned is None:
            self._turned = now
        hold = max(self.rule.for_s, LEAST_CLEAR_S) if self.firing else self.rule.for_s
        if now - self._turned < hold:
            return False
        self.firing, self._turned = not self.firing, None
        return True


class Alert:
    """All severities of one name."""

    def __init__(self, name: str, watches: dict[str, Watch]) -> None:
        self.name = name
        self.watches = watches
        self.severity: str | None = None
        self.since = 0.0  # wall
        self.told = 0.0
        self.acknowledged: str | None = None

    def worst(self) -> str | None:
        return next((s for s in reversed(SEVERITIES) if s in self.watches and self.watches[s].firing), None)


class Alerts:
    """All alerts. `tell` gets each change; it must not switch."""

    def __init__(self, wall: Callable[[], float], tell: Callable[[Told], object]) -> None:
        self.wall = wall
        self.tell = tell
        self.remind_s = 0.0
        self.rules: dict[str, dict[str, Rule]] = {}
        self.alerts: dict[str, Alert] = {}
        self.thresholds: dict[str, dict[str, str]] = {}  # set by an administrator while it runs
        self.silences: list[Silence] = []
        self.history: deque[Told] = deque(maxlen=MAX_HISTORY)
        self.changed = False  # since it was last saved

    def adopt(self, rules: Mapping[str, Mapping[str, Rule]]) -> None:
        """Watch these from now on; what is unchanged goes on as it stands, what is gone is cleared."""
        before, self.alerts = self.alerts, {}
        self.rules = {name: dict(severities) for name, severities in rules.items()}
        for name, severities in self.rules.items():
            old = before.pop(name, None)
            watches = {}
            for severity, rule in severities.items():
                known = old.watches.get(severity) if old is not None else None
                watches[severity] = known if known is not None and known.rule == rule else Watch(rule)
            if old is None:
                self.alerts[name] = Alert(name, watches)
            else:
                old.watches = {**{s: old.watches[s] for s in old.watches if s == old.severity}, **watches}
                self._settle(old)
                old.watches = watches
                self.alerts[name] = old
        for old in before.values():
            for watch in old.watches.values():
                watch.firing = False
            self._settle(old)

    def beat(self, beat: Beat, now: float) -> None:
        """Look at every rule, once a second."""
        for alert in self.alerts.values():
            # Every watch looks, whatever the others found.
            changed = sum(watch.look(beat, now) for watch in alert.watches.values())
            if changed:
                self._settle(alert)
            elif alert.severity is not None and self._due(alert):
                self._tell(alert, alert.severity, "reminded")

    def _due(self, alert: Alert) -> bool:
        return self.remind_s > 0 and alert.acknowledged is None and self.wall() - alert.told >= self.remind_s

    def _settle(self, alert: Alert) -> None:
        """Tell what the watches have found. A change of severity ends the old alert and begins another."""
        worst = alert.worst()
        if worst == alert.severity:
            return
        if alert.severity is not None:
            self._tell(alert, alert.severity, "cleared")
            alert.acknowledged = None
        alert.severity = worst
        if worst is not None:
            alert.since = self.wall()
            self._tell(alert, worst, "raised")

    def _tell(self, alert: Alert, severity: str, state: str) -> None:
        watch, at = alert.watches[severity], self.wall()
        value = watch.value or 0.0
        told = Told(
            *(alert.name, severity, state, at, value, shown(value, watch.rule.unit), watch.rule.text),
            subject=watch.track.subject,
            seconds=at - alert.since,
            silenced=self.silenced(alert.name),
        )
        alert.told = at
        if state != "reminded":
            self.history.append(told)
            self.changed = True
        self.tell(told)

    # --- what administrators do -------------------------------------------------------------------

    def acknowledge(self, name: str, actor: str) -> bool:
        """Somebody looks after it: no more reminders. False where no such alert is raised."""
        alert = self.alerts.get(name)
        if alert is None or alert.severity is None:
            return False
        alert.acknowledged = actor
        return True

    def silence(self, silence: Silence) -> None:
        """Replaces one of the same pattern; one that is over already ends it. The oldest goes when there are many."""
        now = self.wall()
        self.silences = [one for one in self.silences if one.pattern != silence.pattern and one.until > now]
        if silence.until > now:
            self.silences.append(silence)
        del self.silences[:-MAX_SILENCES]
        self.changed = True

    def silenced(self, name: str) -> bool:
        now = self.wall()
        return any(one.until > now and fnmatchcase(name, one.pattern) for one in self.silences)

    # --- what is shown and kept -------------------------------------------------------------------

    def active(self) -> list[dict[str, Any]]:
        """Alerts that are raised, the worst first, then the oldest."""
        rows = [self._row(alert, alert.severity) for alert in self.alerts.values() if alert.severity is not None]
        return sorted(rows, key=lambda row: (-SEVERITIES.index(row["severity"]), row["since"]))

    def _row(self, alert: Alert, severity: str) -> dict[str, Any]:
        watch = alert.watches[severity]
        value = watch.value or 0.0
        return {
            "name": alert.name,
            "severity": severity,
            "value": value,
            "shown": shown(value, watch.rule.unit),
            "subject": watch.track.subject,
            "rule": watch.rule.text,
            "since": round(alert.since, 3),
            "seconds": round(self.wall() - alert.since, 3),
            "acknowledged": alert.acknowledged,
            "silenced": self.silenced(alert.name),
        }

    def kept(self) -> Kept:
        return Kept(list(self.silences), list(self.history), {n: dict(s) for n, s in self.thresholds.items()})

    def restore(self, kept: Kept) -> None:
        self.silences = kept.silences[-MAX_SILENCES:]
        self.history.extend(kept.history)
        self.thresholds = kept.thresholds


def combined(*layers: Iterable[tuple[str, Mapping[str, str]]]) -> dict[str, dict[str, str]]:
    """Rules by name and severity; a later layer wins, an empty text takes a rule away."""
    texts: dict[str, dict[str, str]] = {}
    for layer in layers:
        for name, severities in layer:
            texts.setdefault(name, {}).update(severities)
    kept = {name: {s: text for s, text in severities.items() if text} for name, severities in texts.items()}
    return {name: severities for name, severities in kept.items() if severities}
