"""What goes into the audit trail, and its way there off the event loop."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import gevent
from gevent.event import AsyncResult
from gevent.event import Event as Signal
from tidegate import Event

from tidegate_security.audit import (
    CHECKPOINT_ENTRIES,
    CHECKPOINT_S,
    SEVERE,
    Trail,
    stamp,
)

if TYPE_CHECKING:
    from tidegate import Server

#: Topic -> severity of its entry.
SEVERITIES = {
    "server.started": "low",
    "server.draining": "low",
    "config.reloaded": "high",
    "maintenance.changed": "high",
    "operator.acted": "high",
    "plugin.failed": "high",
    "login.succeeded": "low",
    "login.failed": "medium",
    "session.started": "low",
    "session.ended": "low",
    "account.registered": "medium",
    "account.changed": "medium",
    "account.suspended": "high",
    "account.reinstated": "high",
    "account.deleted": "high",
    "attack.changed": "high",
    "address.blocked": "high",
    "address.unblocked": "high",
    "threat.detected": "medium",
    "protocol.violated": "low",
    "log.lost": "medium",
}
# A fingerprint tells two passwords apart, an excerpt may hold one: neither is kept.
_LEFT_OUT = frozenset(
    {
        "topic",
        "at",
        "id",
        "proof",
        "excerpt",
        "connection",
        "mac",
        "seq",
        "prev",
        "key",
        "ts",
    }
)
_FOLDED = frozenset({"threat.detected", "protocol.violated", "login.failed"})
FOLD_S = 10.0
MAX_FOLDS = 1000
RETRY_S = 1.0
SYNC_S = 1.0
BATCH = 512
WAIT_S = 5.0  # for the disk, before an administrator's change is refused


class Recorder:
    """The loop's half of the trail. `record` never switches; `ensure` does."""

    def __init__(self, server: Server, trail: Trail, durable: str, log: Any) -> None:
        self._server = server
        self.trail = trail
        self.durable = durable
        self._log = log
        self._wake = Signal()
        self._waiting: list[AsyncResult[bool]] = []
        self._folds: dict[tuple[Any, ...], list[Any]] = {}
        self.pool = server.pool("security.audit", 1, 4)
        self._unsigned = 0
        self._synced_at = server.clock.now()
        self._unsynced = False
        self._signed_at = server.clock.now()
        self._greenlet: Any = None
        self._stopping = False

    # --- taking ----------------------------------------------------------------------------------

    def hear(self, event: Event) -> None:
        """An event as an entry; a flood of alike ones becomes one with `repeated`."""
        fields = {name: value for name, value in vars(event).items() if name not in _LEFT_OUT}
        severity = SEVERITIES[event.topic]
        if event.topic == "threat.detected" and event.score >= 20:
            severity = "high"
        if event.topic in _FOLDED and self._folded(event, fields, severity):
            return
        self._put(self._entry(event.topic, severity, event.at, fields))

    def record(self, what: str, severity: str, at: float | None = None, **fields: Any) -> None:
        """Put an entry into the queue."""
        self._put(self._entry(what, severity, at, fields))

    def _put(self, entry: dict[str, Any]) -> None:
        self.trail.put(entry)
        self._wake.set()

    def _entry(self, what: str, severity: str, at: float | None, fields: dict[str, Any]) -> dict[str, Any]:
        when = stamp(self._server.clock.wall() if at is None else at)
        return {"ts": when, "event": what, "severity": severity, **_bounded(fields)}

    def _folded(self, event: Event, fields: dict[str, Any], severity: str) -> bool:
        key = (
            event.topic,
            fields.get("prefix"),
            fields.get("user_id"),
            fields.get("category") or fields.get("kind"),
        )
        now = self._server.clock.now()
        held = self._folds.get(key)
        if held is not None and held[0] > now:
            held[1] += 1
            held[2] = fields
            return True
        if held is not None:
            self._tell_fold(key, held)
        if len(self._folds) < MAX_FOLDS:
            self._folds[key] = [now + FOLD_S, 0, fields, severity]
        return False

    def _tell_fold(self, key: tuple[Any, ...], held: list[Any]) -> None:
        del self._folds[key]
        if held[1]:
            self._put(self._entry(key[0], held[3], None, {"repeated": held[1], **held[2]}))

    def sweep(self) -> None:
        """Tell what was folded and is over; ask for a checkpoint when it is time. Called once a second."""
        now = self._server.clock.now()
        for key, held in [(key, held) for key, held in self._folds.items() if held[0] <= now]:
            self._tell_fold(key, held)
        if now - self._signed_at >= CHECKPOINT_S or self._unsynced:
            self._wake.set()

    def ensure(self, what: str, severity: str, **fields: Any) -> bool:
        """Record, and wait until it is on the disk; False when it can't be. Switches."""
        done: AsyncResult[bool] = AsyncResult()
        self._waiting.append(done)
        self.record(what, severity, **fields)
        try:
            return bool(done.get(timeout=WAIT_S))
        except gevent.Timeout:
            return False
        finally:
            if done in self._waiting:
                self._waiting.remove(done)

    # --- writing ---------------------------------------------------------------------------------

    def start(self) -> None:
        self._greenlet = self._server.spawn(self._write_all)

    def _write_all(self) -> None:
        while not self._stopping:
            self._wake.wait()
            self._wake.clear()
            while (self.trail.queue or self._is_due()) and self.write_some():
                pass
            if self.trail.broken and not self._stopping:
                gevent.sleep(RETRY_S)
                self._wake.set()

    def _is_due(self) -> bool:
        """Whether what is written has waited long enough for the disk, or for a checkpoint."""
        now = self._server.clock.now()
        due = self._unsynced and now - self._synced_at >= SYNC_S
        return due or (self._unsigned > 0 and now - self._signed_at >= CHECKPOINT_S)

    def write_some(self, run: Callable[..., Any] | None = None) -> bool:
        """Write a batch; False when it can't be written, and then it waits where it was."""
        run = run or self.pool.run
        trail = self.trail
        batch = [trail.queue.popleft() for _ in range(min(BATCH, len(trail.queue)))]
        waiting = [] if trail.queue else list(self._waiting)  # not those who come while it is written
        lost, trail.lost = trail.lost, 0
        if lost:
            batch.append(self._entry("audit.lost", "high", None, {"count": lost}))
        now = self._server.clock.now()
        due = self.durable == "second" and now - self._synced_at >= SYNC_S
        sync = self.durable == "always" or bool(waiting) or due
        try:
            run(trail.write, batch, sync)
            self._unsynced = not sync and self.durable == "second"
            if sync:
                self._synced_at = now
            self._unsigned += len(batch)
            if self._unsigned >= CHECKPOINT_ENTRIES or now - self._signed_at >= CHECKPOINT_S:
                self._sign(run, now)
        except Exception as error:
            self._fail(error, batch, lost)
            return False
        if trail.broken:
            self._log.warning("the audit trail can be written again")
            trail.broken = ""
        for done in waiting:
            done.set(True)
        return True

    def _sign(self, run: Callable[..., Any], now: float) -> None:
        point = run(self.trail.sign)
        self._unsigned, self._signed_at = 0, now
        if point is not None:  # the log is a third place
            self._log.info(
                "audit checkpoint: %d entries, head %s, key %s",
                point["count"],
                point["head"],
                point["key"],
            )

    def _fail(self, error: Exception, batch: list[dict[str, Any]], lost: int) -> None:
        trail = self.trail
        reason = str(error)[:200] or type(error).__name__
        if not trail.broken:
            self._log.error(
                "the audit trail can't be written: %s; administrators' changes are refused",
                reason,
            )
        trail.broken = reason
        if lost:
            batch.pop()
            trail.lost += lost
        trail.queue.extendleft(reversed(batch))
        while len(trail.queue) > trail.cap * 4:
            trail.queue.popleft()
            trail.lost += 1
            trail.lost_in_all += 1
        waiting, self._waiting = self._waiting, []
        for done in waiting:
            done.set(False)

    def stop(self) -> None:
        """Write what is left, and a last checkpoint. Blocks; for the end of the server."""
        self._stopping = True
        for key, held in list(self._folds.items()):
            self._tell_fold(key, held)
        if self._greenlet is not None:
            self._wake.set()
            self._greenlet.join(WAIT_S)  # a batch that is being written is written
            self._greenlet.kill()

        def at_once(fn: Callable[..., Any], *args: Any) -> Any:
            return fn(*args)

        while self.trail.queue and self.write_some(at_once):
            pass
        try:
            self.trail.sign()
        except OSError as error:
            self._log.error("no last checkpoint: %s", error)
        severe = sum(entry.get("severity") in SEVERE for entry in self.trail.queue)
        if severe:
            self._log.error("%d severe entries of the audit trail were not written", severe)
        self.trail.close()


def _bounded(fields: dict[str, Any]) -> dict[str, Any]:
    """No field of an entry is without an end."""
    return {name: _short(value) for name, value in fields.items()}


def _short(value: Any, depth: int = 0) -> Any:
    if isinstance(value, str):
        return value[:500]
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_short(inner, depth + 1) for inner in list(value)[:50]] if depth < 4 else "…"
    if isinstance(value, dict):
        return {str(k)[:64]: _short(v, depth + 1) for k, v in list(value.items())[:50]} if depth < 4 else "…"
    return value
