"""The time line: what happened lately that an operator wants to know of, whoever told it."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable
from itertools import islice
from typing import Any

from tidegate import Event

#: Topics -> how serious they are by themselves: info, warning, critical.
TOPICS: dict[str, str] = {
    "server.started": "info",
    "server.draining": "warning",
    "config.reloaded": "info",
    "maintenance.changed": "warning",
    "operator.acted": "info",
    "plugin.failed": "critical",
    "loop.blocked": "warning",
    "log.lost": "warning",
    "connection.refused": "info",
    "protocol.violated": "info",
    "rate.exceeded": "info",
    "breaker.changed": "warning",
    "retry.exhausted": "info",
    "load.shed": "warning",
    "database.lost": "critical",
    "database.found": "info",
    "threat.detected": "warning",
    "attack.changed": "warning",
    "address.blocked": "warning",
    "address.unblocked": "info",
    "login.failed": "info",
    "account.registered": "info",
    "account.suspended": "warning",
    "account.reinstated": "info",
    "account.deleted": "warning",
    "alert.raised": "warning",
    "alert.cleared": "info",
}
MAX_TEXT = 300
#: Of topics that clients can make happen at will no more than so many a second are taken; the rest is counted.
MAX_PER_S = 20
_FLOODING = frozenset(
    {"connection.refused", "protocol.violated", "rate.exceeded", "threat.detected", "login.failed", "load.shed"}
)
#: Such events of one address (and command) are one row for so long, with a count.
FOLD_S = 60.0
MAX_FOLDED = 200
TELL_S = 2.0  # a row whose count grows is told again so often
_LEFT_OUT = frozenset({"stack", "connection", "topic", "at", "id"})


class Timeline:
    """The newest events, at most `kept`. `tell` gets each as it comes; it must not switch."""

    def __init__(self, kept: int, now: Callable[[], float], tell: Callable[[dict[str, Any]], object]) -> None:
        self.events: deque[dict[str, Any]] = deque(maxlen=kept)
        self.left_out = 0
        self._now = now
        self._tell = tell
        self._number = 0
        self._second = 0.0
        self._taken = 0
        self._folded: OrderedDict[tuple[Any, ...], dict[str, Any]] = OrderedDict()
        self._told: dict[int, float] = {}

    def resize(self, kept: int) -> None:
        self.events = deque(self.events, maxlen=kept)

    def put(self, event: Event) -> None:
        """Take an event in. Never switches."""
        key = None
        if event.topic in _FLOODING:
            key = (event.topic, *(getattr(event, name, None) for name in ("prefix", "method", "code", "category")))
            if (row := self._folded.get(key)) is not None and event.at - row["at"] < FOLD_S:
                self._again(row, event)
                return
            if not self._has_room():
                self.left_out += 1
                return
        self._number += 1
        fields = {name: shortened(value) for name, value in vars(event).items() if name not in _LEFT_OUT}
        row = {
            "number": self._number,
            "at": round(event.at, 3),
            "topic": event.topic,
            "severity": severity_of(event),
            "count": 1,
            "last": round(event.at, 3),
            "fields": fields,
        }
        self.events.append(row)
        if key is not None:
            if (before := self._folded.pop(key, None)) is not None:
                self._told.pop(before["number"], None)
            self._folded[key] = row
            if len(self._folded) > MAX_FOLDED:
                self._told.pop(self._folded.popitem(last=False)[1]["number"], None)
        self._tell(row)

    def _again(self, row: dict[str, Any], event: Event) -> None:
        row["count"] += 1
        row["last"] = round(event.at, 3)
        if event.at - self._told.get(row["number"], row["at"]) >= TELL_S:
            self._told[row["number"]] = event.at
            self._tell(row)

    def _has_room(self) -> bool:
        now = self._now()
        if now - self._second >= 1.0:
            self._second, self._taken = now, 0
        self._taken += 1
        return self._taken <= MAX_PER_S

    def newest(self, limit: int, topics: list[str], after: int) -> list[dict[str, Any]]:
        """The newest first. A topic may be an area: `account.` stands for all that begin so."""
        wanted = tuple(topics)
        found = (
            row
            for row in reversed(self.events)
            if row["number"] > after and (not wanted or any(_is(row["topic"], topic) for topic in wanted))
        )
        return list(islice(found, limit))


def _is(topic: str, wanted: str) -> bool:
    return topic.startswith(wanted) if wanted.endswith(".") else topic == wanted


def severity_of(event: Event) -> str:
    """As the event says, else as its topic has it."""
    severity = getattr(event, "severity", None)
    if event.topic == "operator.acted" and event.code:
        return "warning"
    if severity in ("critical", "high"):
        return "critical"
    if severity in ("warning", "medium") and event.topic not in ("alert.cleared", "address.unblocked"):
        return "warning"
    return TOPICS.get(event.topic, "info")


def shortened(value: Any, depth: int = 3) -> Any:
    """A copy in bounded size: texts are cut, lists and objects too."""
    if isinstance(value, str):
        return value if len(value) <= MAX_TEXT else f"{value[:MAX_TEXT]}…"
    if value is None or isinstance(value, (bool, int, float)):
        return value
    if depth == 0:
        return "…"
    if isinstance(value, dict):
        return {str(key)[:64]: shortened(item, depth - 1) for key, item in islice(value.items(), 30)}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [shortened(item, depth - 1) for item in islice(value, 30)]
    return str(value)[:MAX_TEXT]
