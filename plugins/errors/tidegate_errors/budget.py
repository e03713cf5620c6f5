"""A retry budget: of all calls at most a share may be retries, so that retries can't become the load.

A token bucket that calls fill and retries empty, as Finagle's RetryBudget (twitter.github.io/finagle,
com.twitter.finagle.service.RetryBudget) and gRPC's retry throttling (gRFC A6). Theirs add a reserve by time;
this one lends a new server its first tokens instead and takes them back from what calls bring, so that the
promise is exact: retries <= max(burst, share x calls), always.
"""

from __future__ import annotations


class Budget:
    """Tokens for retries.

    Args:
        percent: retries for each hundred calls.
        burst: how many tokens the bucket holds, and how many are lent at the start.
    """

    __slots__ = ("_debt", "burst", "percent", "refused", "tokens")

    def __init__(self, percent: float, burst: float) -> None:
        self.percent = percent
        self.burst = burst
        self.tokens = burst
        self.refused = 0
        self._debt = burst

    def deposit(self, calls: int) -> None:
        """`calls` were made, retries not among them."""
        earned = calls * self.percent / 100
        repaid = min(self._debt, earned)
        self._debt -= repaid
        self.tokens = min(self.tokens + earned - repaid, self.burst)

    def withdraw(self) -> bool:
        """Take a token for one retry; False: there is none."""
        if self.tokens < 1 - 1e-9:  # ten times a tenth is a little less than one
            self.refused += 1
            return False
        self.tokens = max(self.tokens - 1, 0.0)
        return True

    def adopt(self, percent: float, burst: float) -> None:
        """New settings; tokens above the new size are lost, and no new ones are lent."""
        self.percent = percent
        self.burst = burst
        self.tokens = min(self.tokens, burst)
