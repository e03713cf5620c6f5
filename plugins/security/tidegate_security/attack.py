"""Whether the server is under attack: many addresses misbehave at once."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

from tidegate_security.reputation import Evidence

if TYPE_CHECKING:
    from tidegate_security import Security

WITHIN_S = 60.0  # an address counts for so long after what it did
PATIENCE = 0.5  # what is left of the time limits of connections
CALM = 0.5  # it is over when so much of the number that raised it is left, for `attack_calm_s`
#: What a client's new version may do by mistake, everywhere at once.
MISTAKES = frozenset({"invalid parameters", "malformed"})


class Attack:
    """Raised at `attack_addresses` within WITHIN_S, over when half of them or fewer were left for `attack_calm_s`:
    two limits, so that it does not flutter. Never switches."""

    def __init__(self, whole: Security) -> None:
        self._whole = whole
        self._seen: OrderedDict[str, float] = OrderedDict()  # prefix -> when last, the oldest first
        self._calm_since: float | None = None
        self.since: float | None = None  # wall clock; None: there is none
        self.times = 0

    @property
    def addresses(self) -> int:
        """How many misbehave now; it is not counted on above twice the limit."""
        return len(self._seen)

    def count(self, evidence: Evidence) -> None:
        """Something counted against an address."""
        limit = self._whole.config.attack_addresses
        if evidence.prefix is None or evidence.signal in MISTAKES or not limit:
            return
        self._seen[evidence.prefix] = self._whole.server.clock.now()
        self._seen.move_to_end(evidence.prefix)
        if len(self._seen) > 2 * limit:
            self._seen.popitem(last=False)
        if self.since is None and len(self._seen) >= limit:
            self._fade()
            if len(self._seen) >= limit:
                self._begin()

    def _fade(self) -> None:
        """Forget who has been quiet for WITHIN_S."""
        now = self._whole.server.clock.now()
        while self._seen and now - next(iter(self._seen.values())) >= WITHIN_S:
            self._seen.popitem(last=False)

    def sweep(self) -> None:
        """Look whether it is over. Called once a second."""
        self._fade()
        if self.since is None:
            return
        config, now = self._whole.config, self._whole.server.clock.now()
        if len(self._seen) > config.attack_addresses * CALM:
            self._calm_since = None
        elif self._calm_since is None:
            self._calm_since = now
        if self._calm_since is not None and now - self._calm_since >= config.attack_calm_s:
            self.end()

    def _begin(self) -> None:
        whole = self._whole
        self.since, self._calm_since = whole.server.clock.wall(), None
        self.times += 1
        self.apply()
        self._tell(True)

    def apply(self) -> None:
        """Make connections as patient as they are to be now."""
        whole = self._whole
        whole.server.patience = PATIENCE if self.since is not None and whole.mode == "enforce" else 1.0

    def end(self) -> None:
        """It is over, or the server ends."""
        if self.since is None:
            return
        self._tell(False)
        self.since = self._calm_since = None
        self.apply()

    def _tell(self, on: bool) -> None:
        whole = self._whole
        seconds = 0.0 if on or self.since is None else round(whole.server.clock.wall() - self.since, 1)
        addresses = self.addresses
        whole.server.publish("attack.changed", on=on, addresses=addresses, seconds=seconds, mode=whole.mode)
        if on:
            whole.log.warning("under attack: %d addresses misbehave at once", addresses)
        else:
            whole.log.warning("the attack is over after %.0f s", seconds)
