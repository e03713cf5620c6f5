"""Every fact that may be published, with its fields (contract.md, Topics)."""

from __future__ import annotations

PEER = ("address", "prefix", "connection_id", "user_id")

TOPICS: dict[str, tuple[str, ...]] = {
    "server.started": ("listeners",),
    "server.draining": ("reason", "seconds"),
    "config.reloaded": ("actor", "keys"),
    "maintenance.changed": ("actor", "on", "message"),
    "operator.acted": (*PEER, "actor", "method", "params", "reason", "code"),
    "plugin.failed": ("plugin", "where", "error"),
    "loop.blocked": ("seconds", "method", "stack"),
    "log.lost": ("count",),
    "connection.opened": ("connection",),
    "connection.closed": ("connection", "reason", "seconds", "calls", "bytes_in", "bytes_out"),
    "connection.refused": ("address", "prefix", "code"),
    "protocol.violated": (*PEER, "code", "kind", "excerpt"),
    "method.unknown": (*PEER, "method"),
    "call.finished": (),  # the event is the Call itself
    "validation.failed": (*PEER, "method", "errors", "fingerprint"),
    "rate.exceeded": (*PEER, "scope", "method", "retry_after", "count"),
    "breaker.changed": ("name", "old", "new", "until"),
    "retry.exhausted": ("method", "attempts", "code"),
    "load.shed": ("method", "limit", "count"),
    "transaction.finished": ("transaction", "method", "user", "state", "seconds", "statements", "rows"),
    "database.lost": ("error",),
    "database.found": ("error",),
    "threat.detected": (
        *PEER,
        *("method", "field", "category", "rules", "score", "action", "mode"),
    ),
    "attack.changed": ("on", "addresses", "seconds", "mode"),
    "address.blocked": ("prefix", "until", "severity", "reason", "actor", "mode"),
    "address.unblocked": ("prefix", "until", "severity", "reason", "actor", "mode"),
    "login.succeeded": (*PEER, "means"),
    "login.failed": (*PEER, "name", "known", "proof", "reason"),
    **{
        f"account.{what}": ("user", "actor", "what", "until", "reason")
        for what in ("registered", "changed", "suspended", "reinstated", "deleted")
    },
    "session.started": ("user", "session", "reason"),
    "session.ended": ("user", "session", "reason"),
    "alert.raised": ("name", "severity", "value", "rule"),
    "alert.cleared": ("name", "severity", "value", "rule"),
    "room.changed": ("room", "seq", "kind", "actor", "data"),
    "invitation.changed": ("invitation", "room", "user", "state"),
    "presence.changed": ("user", "state"),
}
