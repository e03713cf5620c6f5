"""Points that add up and fade, for addresses and accounts, and what they were for."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple

ADDRESS_HALF_LIFE_S = 600.0
ACCOUNT_HALF_LIFE_S = 3600.0
MOST_CREDIT = 20.0
EVIDENCE = 4096  # of all addresses together
FORGIVEN = 0.5  # what a login leaves of an address's points


class Evidence(NamedTuple):
    """One thing that counted."""

    at: float  # wall clock
    prefix: str | None
    user: str | None
    signal: str
    points: float
    score: float
    detail: str


class Reputation:
    """The scores. `crossed(evidence)` is called after each that counted. Never switches.

    Addresses that are never blocked are not counted: `spared(prefix)` says which.
    """

    def __init__(
        self,
        state: Any,
        wall: Callable[[], float],
        cap: int,
        spared: Callable[[str], bool],
        crossed: Callable[[Evidence], None],
        name: str = "security",
    ) -> None:
        self._wall = wall
        self._spared = spared
        self._crossed = crossed
        self.addresses = state.score(f"{name}.addresses", ADDRESS_HALF_LIFE_S, cap=cap)
        self.accounts = state.score(f"{name}.accounts", ACCOUNT_HALF_LIFE_S, cap=max(16, cap // 4))
        self.credits = state.score(f"{name}.credits", ACCOUNT_HALF_LIFE_S, cap=max(16, cap // 4))
        self.evidence: deque[Evidence] = deque(maxlen=EVIDENCE)
        self.signals: dict[str, int] = {}

    def add(
        self,
        prefix: str | None,
        user: str | None,
        signal: str,
        points: float,
        detail: str,
    ) -> None:
        """Points for an address, and for the account where one is logged in."""
        if prefix is not None and self._spared(prefix):
            return
        score = 0.0
        if user is not None:
            score = self.accounts.add(user, points)
            if prefix is not None:
                self.addresses.add(prefix, points / 4)  # who shares the address is not to blame for it
        elif prefix is not None:
            score = self.addresses.add(prefix, self._after_credit(prefix, points))
        else:
            return
        self.signals[signal] = self.signals.get(signal, 0) + 1
        evidence = Evidence(self._wall(), prefix, user, signal, points, round(score, 1), detail)
        self.evidence.append(evidence)
        self._crossed(evidence)

    def credit(self, prefix: str, points: float) -> None:
        """Good behaviour takes points away; what is left of it is spent first the next time."""
        have = self.addresses.get(prefix)
        if have > 0:
            self.addresses.add(prefix, -min(have, points))
        if points > have:
            room = MOST_CREDIT - self.credits.get(prefix)
            self.credits.add(prefix, min(points - have, room))

    def _after_credit(self, prefix: str, points: float) -> float:
        credit: float = self.credits.get(prefix)
        if not credit:
            return points
        spent = min(credit, points)
        self.credits.add(prefix, -spent)
        return points - spent

    def forgive(self, prefix: str) -> None:
        self.addresses.scale(prefix, FORGIVEN)

    def forget(self, prefix: str) -> None:
        self.addresses.scale(prefix, 0.0)

    def of(self, prefix: str, user: str | None = None) -> list[Evidence]:
        """The evidence that is still kept, the newest first."""
        return [e for e in reversed(self.evidence) if e.prefix == prefix or (user is not None and e.user == user)]

    def top(self, count: int) -> list[tuple[str, float]]:
        """The addresses with the most points."""
        return sorted(self.addresses.items(), key=lambda row: -row[1])[:count]
