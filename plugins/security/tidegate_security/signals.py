"""What counts against an address or an account, and how much (security.md 4.3)."""

from __future__ import annotations

from collections import deque
from typing import Any

from tidegate import Connection, Event, Key

from tidegate_security.reputation import Reputation

#: Points by signal.
POINTS = {
    "wrong password": 4.0,
    "unknown account": 4.0,
    "enumeration": 8.0,
    "spraying": 10.0,
    "distributed guessing": 15.0,
    "unknown method": 3.0,
    "probing method": 6.0,
    "malformed": 1.0,
    "limit breached": 8.0,
    "foreign protocol": 20.0,
    "slow line": 10.0,
    "invalid parameters": 1.0,
    "rate exceeded": 1.0,
    "insisting": 1.0,
    "too many connections": 2.0,
    "churn": 2.0,
    "denied": 3.0,
    "denied often": 8.0,
    "mostly errors": 10.0,
    "honeypot": 30.0,
    "threat low": 2.0,
    "threat medium": 8.0,
    "threat high": 25.0,
}
WITHIN_S = 600.0
ENUMERATION_AT = 5  # different unknown names
SPRAYING_AT = 3  # accounts that one password was tried on
DISTRIBUTED_AT = 5  # addresses that guess at one account
DENIED_OFTEN_AT = 10
WINDOW = 50  # answers
RECENT = Key[deque[int]]("security.recent_errors")
LEARNING = 0.3  # how fast many errors become what an address is used to
USUAL_S = 86400.0
CHURN = "32/10 minutes"
_PROBES = (
    "admin",
    "debug",
    "rpc.",
    "internal",
    "root",
    "shell",
    "exec",
    "eval",
    "console",
    "config",
    "test.",
    "actuator",
)
_FOREIGN = frozenset({"http", "tls", "ssh", "smb", "rdp", "socks", "redis", "proxy"})
_LIMITS = frozenset({"encoding", "size", "depth", "batch"})


class Signals:
    """Turns events into points. Never switches."""

    topics = frozenset(
        {
            *(
                "protocol.violated",
                "connection.refused",
                "connection.closed",
                "method.unknown",
                "validation.failed",
            ),
            *("rate.exceeded", "login.failed", "login.succeeded"),
        }
    )

    def __init__(self, state: Any, reputation: Reputation, cap: int) -> None:
        self.reputation = reputation
        small = max(16, cap // 10)
        self._methods = state.members("security.methods", cap=small, each=12)
        self._unknown = state.members("security.unknown_names", cap=small, each=8)
        self._tried = state.members("security.passwords", cap=small, each=8)
        self._sprayed = state.members("security.sprayed", cap=small, each=8)
        self._guessing = state.members("security.guessing", cap=small, each=8)
        self._familiar = state.members("security.familiar", cap=small, each=8)
        self._usual = state.values("security.usual_errors", cap=small)
        self._churn = state.limit("security.churn", CHURN, cap=cap)
        self._hear = {
            "protocol.violated": self._violated,
            "connection.refused": self._refused,
            "connection.closed": self._closed,
            "method.unknown": self._method,
            "validation.failed": self._invalid,
            "rate.exceeded": self._rate,
            "login.failed": self._failed,
            "login.succeeded": self._succeeded,
        }

    def hear(self, event: Event) -> None:
        if (take := self._hear.get(event.topic)) is not None:
            take(event)

    def _count(self, event: Event, signal: str, detail: str = "", points: float | None = None) -> None:
        self.reputation.add(
            event.prefix,
            event.user_id,
            signal,
            POINTS[signal] if points is None else points,
            detail,
        )

    # --- the wire --------------------------------------------------------------------------------

    def _violated(self, event: Event) -> None:
        kind = event.kind
        if kind in _FOREIGN:
            signal = "foreign protocol"
        elif kind == "slow":
            signal = "slow line"
        else:
            signal = "limit breached" if kind in _LIMITS else "malformed"
        self._count(event, signal, f"{kind}: {event.excerpt}"[:80])

    def _refused(self, event: Event) -> None:
        if event.code == 1409:
            self.reputation.add(
                event.prefix,
                None,
                "too many connections",
                POINTS["too many connections"],
                "",
            )

    def _closed(self, event: Event) -> None:
        connection = event.connection
        if connection.prefix is None or connection.exempt:
            return
        if not event.calls:
            if self._churn.hit(connection.prefix) > 0:
                peer = connection.peer
                self.reputation.add(
                    peer["prefix"],
                    None,
                    "churn",
                    POINTS["churn"],
                    "connections without a request",
                )
        elif connection.user is not None and event.calls >= 50:
            self.reputation.credit(connection.peer["prefix"], event.calls // 50)

    def _method(self, event: Event) -> None:
        if event.prefix is None:
            return
        name = event.method
        if name in self._methods.of(event.prefix):
            return
        self._methods.add(event.prefix, name, WITHIN_S)
        lower = name.lower()
        self._count(
            event,
            "probing method" if lower.startswith(_PROBES) else "unknown method",
            name,
        )

    def _invalid(self, event: Event) -> None:
        self._count(event, "invalid parameters", event.method)

    def _rate(self, event: Event) -> None:
        self._count(event, "rate exceeded", event.method or "")

    # --- logins ----------------------------------------------------------------------------------

    def _failed(self, event: Event) -> None:
        prefix, name, proof = event.prefix, str(event.name or "")[:64], event.proof
        if prefix is None:
            return
        pair = f"{prefix} {name}"
        if proof:
            if proof in self._tried.of(pair):
                return  # the same password again: somebody's old client
            self._tried.add(pair, proof, WITHIN_S)
            if self._sprayed.add(proof, name, WITHIN_S) >= SPRAYING_AT:
                self._count(event, "spraying", f"one password on {SPRAYING_AT} accounts or more")
                return
        if not event.known:
            many = self._unknown.add(prefix, name, WITHIN_S) >= ENUMERATION_AT
            self._count(event, "enumeration" if many else "unknown account", name)
            return
        addresses = self._guessing.add(name, prefix, WITHIN_S)
        if addresses >= DISTRIBUTED_AT and prefix not in self._familiar.of(name):
            self._count(event, "distributed guessing", f"{name}: {addresses} addresses or more")
        else:
            self._count(event, "wrong password", name)

    def _succeeded(self, event: Event) -> None:
        if event.prefix is None:
            return
        self.reputation.forgive(event.prefix)

    def familiar(self, name: str, prefix: str) -> None:
        """An account has logged in from here before, and is no stranger."""
        self._familiar.add(name, prefix, 30 * 86400.0)

    def denied(self, prefix: str | None, user: str | None, method: str) -> None:
        """Somebody asked for what the role does not allow."""
        key = user or prefix
        if key is None:
            return
        times = self._methods.add(f"denied {key}", method, WITHIN_S)
        signal = "denied often" if times >= DENIED_OFTEN_AT else "denied"
        self.reputation.add(prefix, user, signal, POINTS[signal], method)

    def erred(self, connection: Connection) -> None:
        """A client's call was refused for its own fault. More than half of the last WINDOW answers, and clearly more
        than this address is used to, is a signal."""
        stash = connection.stash
        if RECENT not in stash:
            stash[RECENT] = deque(maxlen=WINDOW // 2 + 1)
        recent = stash[RECENT]
        calls = connection.traffic()["calls"]
        recent.append(calls)
        if len(recent) < WINDOW // 2 + 1 or calls - recent[0] >= WINDOW:
            return
        share = len(recent) / max(1, calls - recent[0] + 1)
        recent.clear()
        peer = connection.peer
        usual = self._usual.get(peer["prefix"]) or 0.0
        self._usual.set(peer["prefix"], usual + (share - usual) * LEARNING, USUAL_S)
        if share > usual * 1.2:
            self.reputation.add(
                peer["prefix"],
                peer["user_id"],
                "mostly errors",
                POINTS["mostly errors"],
                f"{share:.0%} of the answers",
            )
