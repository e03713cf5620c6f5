"""What administrators see of security: the commands that only look, and the gauges."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tidegate import Plugin, command, hookimpl
from tidegate.faults import (
    InvalidValue,
)

from tidegate_security import report
from tidegate_security.blocks import BASE_S, Block, Blocks
from tidegate_security.networks import Network, network

if TYPE_CHECKING:
    from tidegate_security.answers import Answers
    from tidegate_security.audit import Trail
    from tidegate_security.recorder import Recorder
    from tidegate_security.reputation import Reputation
    from tidegate_security.rules import Rule
    from tidegate_security.scanner import Scanner
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
FOR_S = {
    "type": "number",
    "nullable": True,
    "min": 1,
    "max": 315_360_000,
    "meta": {
        "help": "How long; null: until it is taken back.",
        "unit": "s",
        "example": 3600,
    },
}
USER = {
    "type": "string",
    "required": True,
    "maxlength": 64,
    "meta": {"help": "The account's id.", "profile": "identifier"},
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

    @command("security.status", requires="admin", scope="read")
    def status(self) -> dict[str, Any]:
        """Say what security does now: mode, blocks, detections, tables, scanner, audit trail, warnings."""
        return report.status(self)

    @command(
        "security.report",
        requires="admin",
        scope="read",
        params={"period_s": {"type": "number", "min": 1, "max": 31_536_000}},
    )
    def report(self, period_s: float = 86400.0) -> dict[str, Any]:
        """Report on a period: what happened, what changed against the period before, and what to do about it."""
        return report.report(self, period_s)

    @command(
        "security.blocks",
        requires="admin",
        scope="read",
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
        params={"address": NETWORK},
    )
    def reputation_of(self, address: str) -> dict[str, Any]:
        """Show what an address has gathered: points, the evidence, its block, who is logged in from it."""
        place = self._network(address)
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

    @command("security.test", requires="admin", scope="read", params={"network": NETWORK})
    def test(self, network: str) -> dict[str, Any]:
        """Say whom a block would shut out; changes nothing."""
        return self._effect(self._network(network))

    @command(
        "security.events",
        requires="admin",
        scope="read",
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
        params={
            "text": {"type": "string", "required": True, "meta": {"profile": "secret"}},
            "profile": {
                "type": "string",
                "allowed": ["free_text", "structured", "identifier"],
            },
        },
    )
    def scan_text(self, text: str, profile: str = "free_text") -> dict[str, Any]:
        """Try the rules on a text."""
        return self.scanner.scan(text, profile)._asdict()

    # --- what they share --------------------------------------------------------------------------

    @staticmethod
    def _network(text: str) -> Network:
        try:
            return network(text)
        except ValueError:
            raise InvalidValue(
                "Expected an address or a network, as 192.0.2.7 or 2001:db8::/48",
                field="params.network",
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
