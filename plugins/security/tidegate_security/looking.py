"""What administrators see of security: the commands that only look, and the gauges."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tidegate import Plugin, command, hookimpl
from tidegate.faults import (
    InvalidValue,
)

from tidegate_security import report, simulate
from tidegate_security.blocks import BASE_S, Block, Blocks
from tidegate_security.networks import Network, network
from tidegate_security.search import Wanted, search
from tidegate_security.signals import POINTS
from tidegate_security.verify import check, opened

if TYPE_CHECKING:
    from tidegate_security.answers import Answers
    from tidegate_security.attack import Attack
    from tidegate_security.audit import Trail
    from tidegate_security.recorder import Recorder
    from tidegate_security.reputation import Reputation
    from tidegate_security.rules import Rule
    from tidegate_security.scanner import Scanner, Verdict
    from tidegate_security.signals import Signals
    from tidegate_security.store import Store

REASON = {
    "type": "string",
    "maxlength": 500,
    "meta": {"help": "Why, for the audit trail."},
}
NETWORK = {
    "type": "string",
    "required": True,
    "minlength": 2,
    "maxlength": 64,
    "meta": {
        "help": "An address or a network.",
        "example": "192.0.2.7",
        "profile": "identifier",
    },
}
PROFILE = {
    "type": "string",
    "allowed": ["free_text", "structured", "identifier"],
    "meta": {"help": "What kind of parameter it is."},
}
TIME = {
    "type": "string",
    "regex": r"(\d{4}-\d\d-\d\d(T[\d:.]*Z?)?)?",
    "meta": {"help": "UTC.", "example": "2026-01-31T12:00"},
}
LIMIT = {
    "type": "integer",
    "min": 1,
    "max": 1000,
    "meta": {"help": "How many at most."},
}
TOO_MANY = 0.05  # of the clients: so many are shut out by mistake only
PANELS = [
    {"title": "Security", "command": "security.status", "draw": "pairs", "every_s": 5},
    {"title": "Blocks", "command": "security.blocks", "draw": "table", "every_s": 5},
    {
        "title": "Recent security events",
        "command": "security.events",
        "draw": "table",
        "every_s": 5,
    },
]


class Looking(Plugin):
    """The part of `Security` that is asked and changes nothing."""

    allowed: dict[str, dict[str, Any]]
    answers: Answers
    attack: Attack
    blocks: Blocks
    detections: dict[tuple[str, str], int]
    known_rules: list[Rule]
    mode: str
    recorder: Recorder
    reputation: Reputation
    scanner: Scanner
    scan_s: float
    scans: int
    signals: Signals
    slowest_s: float
    store: Store
    switched: dict[str, bool]
    trail: Trail
    acting: str | None = None  # the administrator whose command runs now

    @hookimpl
    def tidegate_gauges(self) -> dict[str, float]:
        blocks, trail = self.blocks, self.trail
        levels = {
            "blocks_active": len(blocks),
            "blocks_added": blocks.added,
            "blocks_expired": blocks.expired,
            "blocks_without_room": blocks.full,
            "addresses_tracked": len(self.reputation.addresses),
            "accounts_tracked": len(self.reputation.accounts),
            "addresses_marked": len(self.answers.marks),
            "addresses_misbehaving": self.attack.addresses,
            "under_attack": float(self.attack.since is not None),
            "calls_delayed": self.answers.delayed,
            "scans": self.scans,
            "scan_mean_seconds": self.scan_s / self.scans if self.scans else 0.0,
            "scan_slowest_seconds": self.slowest_s,
            "audit_entries": trail.seq,
            "audit_queued": len(trail.queue),
            "audit_lost": trail.lost_in_all,
            "audit_broken": float(bool(trail.broken)),
        }
        for (category, severity), count in self.detections.items():
            levels[f"detections_{category}_{severity}"] = levels.get(f"detections_{category}_{severity}", 0) + count
        return {name: float(value) for name, value in levels.items()}

    # --- looking ----------------------------------------------------------------------------------

    @command("security.status", requires="admin", scope="read", http="GET /security")
    def status(self) -> dict[str, Any]:
        """Say what security does now: mode, blocks, detections, tables, scanner, audit trail, warnings."""
        return report.status(self)

    @command(
        "security.report",
        requires="admin",
        scope="read",
        http="GET /security/report",
        params={"period_s": {"type": "number", "min": 1, "max": 31_536_000}},
    )
    def report(self, period_s: float = 86400.0) -> dict[str, Any]:
        """Report on a period: what happened, what changed against the period before, and what to do about it."""
        return report.report(self, period_s)

    @command(
        "security.blocks",
        requires="admin",
        scope="read",
        http="GET /security/blocks",
        params={"after": {"type": "string", "maxlength": 64}, "limit": LIMIT},
    )
    def blocks_listed(self, after: str = "", limit: int = 100) -> list[dict[str, Any]]:
        """List the blocks, the oldest first: the `limit` that follow the network `after`."""
        found = self.blocks.all()
        if after:
            names = [block.network for block in found]
            found = found[names.index(after) + 1 :] if after in names else []
        return [self._row(block) for block in found[:limit]]

    @command(
        "security.reputation",
        requires="admin",
        scope="read",
        http="GET /security/addresses/{address}",
        params={"address": NETWORK},
    )
    def reputation_of(self, address: str) -> dict[str, Any]:
        """Show what an address has gathered: points, the evidence, its block, who is logged in from it."""
        place = self._network(address, "address")
        text = str(place)
        block = self.blocks.covering(place)
        return {
            "prefix": text,
            "score": round(self.reputation.addresses.get(text), 1),
            "never_blocked": self.answers.never.covers(place),
            "earlier_blocks": self.blocks.earlier(place),
            "block": self._row(block) if block else None,
            "connections": len(self.answers.connections(place)),
            "accounts": sorted({c.user.id for c in self.answers.connections(place) if c.user is not None}),
            "evidence": [e._asdict() for e in self.reputation.of(text)[:50]],
        }

    @command("security.test", requires="admin", scope="read", http="GET /security/test", params={"network": NETWORK})
    def test(self, network: str) -> dict[str, Any]:
        """Say whom a block would shut out; changes nothing."""
        return self._effect(self._network(network))

    @command(
        "security.events",
        requires="admin",
        scope="read",
        http="GET /security/events",
        params={"limit": LIMIT, "prefix": {"type": "string", "maxlength": 64}},
    )
    def events(self, limit: int = 100, prefix: str = "") -> list[dict[str, Any]]:
        """List the last signals, the newest first, of all addresses or of one."""
        text = str(self._network(prefix)) if prefix else None
        found = (e for e in reversed(self.reputation.evidence) if text is None or e.prefix == text)
        return [e._asdict() for e, _ in zip(found, range(limit), strict=False)]

    @command(
        "security.rules",
        requires="admin",
        scope="read",
        http="GET /security/rules",
        params={"category": {"type": "string", "maxlength": 32}},
    )
    def rules_listed(self, category: str = "") -> list[dict[str, Any]]:
        """List the rules: what each finds, its points, where it comes from, whether it is on."""
        on = {rule.id for rule in self.scanner.rules} - self.scanner.off
        return [
            {
                "id": rule.id,
                "category": rule.category,
                "score": rule.score,
                "description": rule.description,
                "refs": list(rule.refs),
                "hit": rule.hit,
                "miss": rule.miss,
                "origin": rule.origin,
                "on": rule.id in on,
            }
            for rule in self.known_rules
            if not category or rule.category == category
        ]

    @command(
        "security.scan",
        requires="admin",
        scope="read",
        http="POST /security/scan",
        params={
            "text": {"type": "string", "required": True, "meta": {"profile": "secret"}},
            "profile": PROFILE,
        },
    )
    def scan_text(self, text: str, profile: str = "free_text") -> dict[str, Any]:
        """Try the rules on a text."""
        return self.scanner.scan(text, profile)._asdict()

    def weigh(self, verdict: Verdict, profile: str) -> tuple[str, bool]:
        raise NotImplementedError

    @command(
        "security.simulate",
        requires="admin",
        scope="read",
        http="POST /security/simulate",
        params={
            "text": {"type": "string", "nullable": True, "meta": {"profile": "secret", "help": "A parameter's text."}},
            "profile": PROFILE,
            "address": {
                "type": "string",
                "nullable": True,
                "maxlength": 64,
                "meta": {"help": "Who does it.", "example": "192.0.2.7"},
            },
            "signal": {"type": "string", "nullable": True, "allowed": sorted(POINTS), "meta": {"help": "What else."}},
            "times": {"type": "integer", "min": 1, "max": 10_000, "meta": {"help": "How often."}},
        },
    )
    def simulate(
        self,
        text: str | None = None,
        profile: str = "free_text",
        address: str | None = None,
        signal: str | None = None,
        times: int = 1,
    ) -> dict[str, Any]:
        """Say what would be done about a text, an address that sends it, or one that does something else `times` times.

        Nothing is done: nothing is counted, told, delayed or blocked.
        """
        if text is None and address is None:
            raise InvalidValue("Give a text, an address, or both", field="params")
        found: dict[str, Any] = {}
        points = POINTS[signal] * times if signal is not None else 0.0
        if text is not None:
            found["text"] = simulate.of_text(self, self.scanner.scan(text, profile), profile)
            points += found["text"]["points"] * times
        if address is not None:
            found["address"] = simulate.of_address(self, self._network(address, "address"), points)
        return found

    # --- the audit trail --------------------------------------------------------------------------

    @command(
        "security.audit",
        requires="admin",
        scope="read",
        http="GET /security/audit",
        params={
            "text": {"type": "string", "maxlength": 200, "meta": {"help": "Anywhere in the entry."}},
            "event": {"type": "string", "maxlength": 64, "meta": {"help": "A part of its name.", "example": "login."}},
            "address": {"type": "string", "maxlength": 64, "meta": {"help": "An address or its prefix."}},
            "user": {"type": "string", "maxlength": 64, "meta": {"help": "An account's id, or the actor."}},
            "severity": {"type": "string", "allowed": ["", "low", "medium", "high", "critical"]},
            "since": TIME,
            "until": TIME,
            "before": {
                "type": "integer",
                "nullable": True,
                "min": 1,
                "meta": {"help": "Entries with lower numbers: the `next` of the answer before."},
            },
            "limit": LIMIT,
        },
    )
    def audit(
        self,
        text: str = "",
        event: str = "",
        address: str = "",
        user: str = "",
        severity: str = "",
        since: str = "",
        until: str = "",
        before: int | None = None,
        limit: int = 100,
    ) -> dict[str, Any]:
        """Search the audit trail, the newest first: `entries`, and `next`, null at the trail's beginning.

        One call reads at most 16 MiB of it: a page may be short, even empty, and `next` still goes on.
        """
        wanted = Wanted(event, address, user, severity, since, until, text)
        pool = self.server.pool("security.search", 1, 8)
        return pool.run(search, self.trail.folder, wanted, before, limit)._asdict()

    @command("security.audit_verify", requires="admin", scope="read", http="GET /security/audit/verify", timeout=600)
    def audit_verify(self) -> dict[str, Any]:
        """Check every byte of the audit trail: whether it is as it was written, and what is wrong where.

        The first thousand `problems` are listed; `kind` is changed, missing, order, torn, cut, rewritten, checkpoint
        or key.
        """
        trail = self.trail
        # The thread that writes says what there is: no line is half there, no file renamed meanwhile.
        files = self.recorder.pool.run(opened, trail.folder, trail.checkpoints)
        found = self.server.pool("security.verify", 1, 2).run(check, files, trail.key)
        return {
            "ok": not found.problems,
            "entries": found.entries,
            "checkpoints": found.checkpoints,
            "problems": [problem._asdict() for problem in found.problems[:1000]],
            "problems_in_all": len(found.problems),
        }

    # --- what they share --------------------------------------------------------------------------

    @staticmethod
    def _network(text: str, name: str = "network") -> Network:
        try:
            return network(text)
        except ValueError:
            raise InvalidValue(
                "Expected an address or a network, as 192.0.2.7 or 2001:db8::/48",
                field=f"params.{name}",
            ) from None

    def _row(self, block: Block) -> dict[str, Any]:
        left = block.left_s(self.server.clock.wall())
        return {
            "network": block.network,
            "since": block.since,
            "until": block.until,
            "left_s": None if left is None else round(left, 1),
            "severity": block.severity,
            "reason": block.reason,
            "actor": block.actor,
            "soft": block.soft,
        }

    def _effect(self, place: Network) -> dict[str, Any]:
        held = self.answers.connections(place)
        return {
            "network": str(place),
            "addresses": min(place.addresses, 2**63),
            "connections": len(held),
            "accounts": sorted({c.user.id for c in held if c.user is not None}),
            "good_accounts": sorted(self.answers.good_accounts(place)),
            "never_blocked": self.answers.never_inside(place),
            "first_block_s": dict(BASE_S),
        }
