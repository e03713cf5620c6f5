"""What is done about who has gathered points: delay, refuse, disconnect, block, suspend; in proportion."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tidegate import Call, Connection, Fault
from tidegate.faults import AccessDenied, AddressBlocked, AddressRateLimitExceeded

from tidegate_security.blocks import Block, Blocks
from tidegate_security.networks import (
    Network,
    NetworkTable,
    full,
    network,
    network_of,
    table,
)
from tidegate_security.reputation import Evidence, Reputation
from tidegate_security.signals import POINTS

if TYPE_CHECKING:
    from tidegate_security import Security

MAX_MARKS = 20_000
SOFT_LOGINS = "12/minute"  # of an address that may only log in
INSISTING = "2/second"  # calls of one that was told so; more count against it, once a second
DELAY_FROM_S = 0.25


class Answers:
    """Decides, and acts. Nothing but `meet` and `suspend` switches."""

    def __init__(self, whole: Security, reputation: Reputation, blocks: Blocks) -> None:
        self.whole = whole
        self.server = whole.server
        self.reputation = reputation
        self.blocks = blocks
        self.never: NetworkTable[str] = NetworkTable()
        #: Addresses whose calls are looked at: prefix -> its text.
        self.marks: dict[bytes, str] = {}
        self._logins = self.server.state.limit("security.soft_logins", SOFT_LOGINS, cap=10_000)
        self._insisting = self.server.state.limit("security.insisting", INSISTING, cap=10_000)
        self._insisted = self.server.state.limit("security.insisted", "1/second", cap=10_000)
        self._would = self.server.state.values("security.would", cap=10_000)
        self._suspending: set[str] = set()
        self.delayed = 0  # calls that wait now
        self.counts = {
            "delayed": 0,
            "refused": 0,
            "blocked": 0,
            "suspended": 0,
            "softened": 0,
            "observed": 0,
        }

    # --- who is never blocked ----------------------------------------------------------------------

    def spare(self, allowed: list[str]) -> None:
        """Learn the networks that are never counted: exempt, trusted proxies, the allowlist."""
        settings = self.server.settings
        proxies = [text for limits in settings.listen for text in limits.proxy_from]
        self.never = table([*settings.server.exempt, *proxies, *allowed])

    def spared(self, prefix: str) -> bool:
        return self.never.covers(network(prefix))

    def is_spared(self, connection: Connection) -> bool:
        return connection.exempt or (connection.address is not None and self.never.covers(full(connection.address)))

    # --- at a connection -----------------------------------------------------------------------------

    def admit(self, connection: Connection) -> None:
        """A client's address is known. Raises AddressBlocked."""
        blocks = self.blocks
        if not len(blocks) or connection.exempt or connection.prefix is None or connection.address is None:
            return
        block = blocks.exact.get(connection.prefix)
        if block is None or block.soft:
            block = blocks.covering(full(connection.address))
        if block is None:
            return
        if block.soft:
            self.marks[connection.prefix] = block.network
        elif not self.is_spared(connection):
            raise self._blocked(block)

    def _blocked(self, block: Block) -> Fault:
        left = block.left_s(self.server.clock.wall())
        return AddressBlocked(retry_after=None if left is None else round(left, 1))

    # --- at a call -----------------------------------------------------------------------------------

    def meet(self, call: Call, always: bool) -> None:
        """A marked address calls: wait, or refuse it. Raises AccessDenied, AddressRateLimitExceeded. May switch."""
        connection = call.connection
        prefix = connection.prefix
        if prefix is None or self.is_spared(connection) or (call.user is not None and "admin" in call.user.roles):
            return
        place = network_of(prefix)
        score = self.reputation.addresses.get(str(place))
        block = self.blocks.covering(place)
        config = self.whole.config
        soft = block is not None and block.soft
        if score < config.delay_score and not soft:
            self.marks.pop(prefix, None)
            return
        if self.whole.mode == "observe":
            return
        if call.user is None and (soft or score >= config.refuse_score):
            self._only_logins(call, str(place), always)
        if call.user is None and score >= config.delay_score:
            self._delay(score, config.max_delayed)

    def _only_logins(self, call: Call, prefix: str, always: bool) -> None:
        if not always and call.auth is None:
            self.counts["refused"] += 1
            if self._insisting.hit(prefix) > 0 and not self._insisted.hit(prefix) > 0:
                self.reputation.add(prefix, None, "insisting", POINTS["insisting"], call.command.name)
            raise AccessDenied("Too much trouble came from this address lately; log in first")
        if (wait := self._logins.hit(prefix)) > 0:
            self.counts["refused"] += 1
            raise AddressRateLimitExceeded(retry_after=round(wait, 1))

    def _delay(self, score: float, most: int) -> None:
        seconds = self.delay_s(score)
        if seconds <= 0:
            return
        if self.delayed >= most:  # a waiting greenlet costs memory, a refusal none
            self.counts["refused"] += 1
            raise AddressRateLimitExceeded(retry_after=round(seconds, 1))
        self.counts["delayed"] += 1
        self.delayed += 1
        try:
            self.server.clock.sleep(seconds)
        finally:
            self.delayed -= 1

    # --- when points were added ------------------------------------------------------------------------

    def crossed(self, evidence: Evidence) -> None:
        config = self.whole.config
        score = evidence.score
        if self.whole.config.log_lines:
            self.whole.log.warning(
                "signal address=%s signal=%r points=%g score=%g",
                (evidence.prefix or "-").partition("/")[0],
                evidence.signal,
                evidence.points,
                score,
            )
        if evidence.user is not None:
            if score >= config.suspend_score:
                self._want_suspension(evidence)
            return
        if evidence.prefix is None or score < config.delay_score:
            return
        place = network(evidence.prefix)
        if (severity := self.severity(score)) is not None:
            self.block(place, severity, f"{evidence.signal}: {score:g} points")
        elif (key := _bytes_of(place)) is not None:
            if len(self.marks) >= MAX_MARKS:
                self._fade()
            self.marks[key] = evidence.prefix

    def severity(self, score: float) -> str | None:
        """Of the block that so many points lead to; None where they lead to none."""
        config = self.whole.config
        if score < config.block_score:
            return None
        return "high" if score >= config.block_high_score else "medium"

    def answer_to(self, score: float) -> str:
        """What so many points of an address lead to: none, delay, refuse (all but logins) or block."""
        config = self.whole.config
        if score >= config.block_score:
            return "block"
        return "refuse" if score >= config.refuse_score else "delay" if score >= config.delay_score else "none"

    def delay_s(self, score: float) -> float:
        """How long an answer to an address with so many points is delayed."""
        config = self.whole.config
        if score < config.delay_score:
            return 0.0
        return float(min(config.max_delay_s, DELAY_FROM_S * 2 ** min(64, (score - config.delay_score) / 5)))

    def is_softened(self, place: Network) -> bool:
        """Whether a block of a network would be a soft one, for those who are logged in from there."""
        return len(self.good_accounts(place)) >= self.whole.config.good_accounts or self._has_admin(place)

    def _fade(self) -> None:
        """Forget the marks of those who have mended their ways; if none has, the half of them."""
        limit = self.whole.config.delay_score
        idle = [key for key, text in self.marks.items() if self.reputation.addresses.get(text) < limit]
        for key in idle or list(self.marks)[: MAX_MARKS // 2]:
            del self.marks[key]  # the next signal marks it again

    def block(self, place: Network, severity: str, reason: str) -> None:
        """Shut a network out, or say that it would be."""
        if self.never.covers(place):
            return
        known = self.blocks.covering(place)
        if known is not None and not known.soft:
            return
        soft = self.is_softened(place)
        if known is not None and soft:
            return
        seconds = self.blocks.duration(place, severity)
        wall = self.server.clock.wall()
        block = Block(str(place), wall, wall + seconds, severity, reason, None, soft)
        if self.whole.mode == "observe":
            if self._would.add(block.network, True, seconds):
                self.counts["observed"] += 1
                self.tell(block, "observe")
            return
        self.counts["softened" if soft else "blocked"] += 1
        if self.blocks.add(place, block):
            wide = self.blocks.widened(place)
            if wide is not None and not self.never_inside(wide) and not self.good_accounts(wide):
                self.block(wide, severity, f"many blocked addresses of {wide}")

    def never_inside(self, wide: Network) -> bool:
        """Whether a wide network holds anybody who is never blocked."""
        return any(wide.covers(place) or place.covers(wide) for place, _ in self.never.items())

    def good_accounts(self, place: Network) -> set[str]:
        """The accounts that are logged in from a network and have done nothing."""
        limit = self.whole.config.delay_score
        return {
            c.user.id
            for c in self.connections(place)
            if c.user is not None and "admin" not in c.user.roles and self.reputation.accounts.get(c.user.id) < limit
        }

    def _has_admin(self, place: Network) -> bool:
        return any(c.user is not None and "admin" in c.user.roles for c in self.connections(place))

    def connections(self, place: Network) -> list[Connection]:
        """The connections from a network."""
        return [
            c
            for c in self.server.connections.values()
            if c.prefix is not None and c.address is not None and place.covers(full(c.address))
        ]

    def enforce(self, block: Block) -> None:
        """End what a new block shuts out, and look at the calls of those whom a soft one lets in."""
        place = network(block.network)
        for connection in self.connections(place):
            if block.soft and connection.prefix is not None:
                self.marks[connection.prefix] = block.network
            elif not self.is_spared(connection) and not (connection.user and "admin" in connection.user.roles):
                connection.end(self._blocked(block))

    def tell(self, block: Block, mode: str) -> None:
        self.server.publish(
            "address.blocked",
            prefix=block.network,
            until=block.until,
            severity=block.severity,
            reason=block.reason + (" (only logins are let in)" if block.soft else ""),
            actor=block.actor,
            mode=mode,
        )
        if self.whole.config.log_lines:
            self.whole.log.warning(
                "%s address=%s reason=%r",
                "blocked" if mode == "enforce" else "would block",
                block.network.removesuffix("/32"),
                block.reason,
            )

    # --- accounts --------------------------------------------------------------------------------------

    def _want_suspension(self, evidence: Evidence) -> None:
        user = str(evidence.user)
        held = self.server.sessions.get(user, set())
        if user in self._suspending or any(c.user is not None and "admin" in c.user.roles for c in held):
            return
        if self.whole.mode == "observe":
            if self._would.add(f"user {user}", True, self.whole.config.suspend_s):
                self.counts["observed"] += 1
                self.whole.recorder.record("suspension.observed", "high", user=user, score=evidence.score)
            return
        self._suspending.add(user)
        self.server.spawn(self._suspend, user, evidence)

    def _suspend(self, user: str, evidence: Evidence) -> None:
        reason = f"{evidence.signal}: {evidence.score:g} points"
        try:
            self.suspend(user, self.whole.config.suspend_s, reason)
            self.counts["suspended"] += 1
            self.reputation.accounts.scale(user, 0.0)
        except Fault as fault:
            self.whole.recorder.record("suspension.failed", "high", user=user, reason=reason, code=fault.code)
            for connection in list(self.server.sessions.get(user, ())):  # at least these sessions end
                connection.end(AccessDenied("This session was ended for what was done in it"))
        finally:
            self._suspending.discard(user)

    def suspend(self, user: str, for_s: float | None, reason: str) -> Any:
        """Have an account suspended by whoever keeps accounts. Raises a Fault. Switches."""
        return self.server.call("account.suspend", {"user": user, "for_s": for_s, "reason": reason})


def _bytes_of(place: Network) -> bytes | None:
    if place.version == 4:
        return place.number.to_bytes(4, "big") if place.length == 32 else None
    return place.number.to_bytes(8, "big") if place.length == 64 else None
