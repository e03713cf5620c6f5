"""What administrators see of errors and do about them: the plugin's commands and gauges."""

from __future__ import annotations

from typing import Any

from tidegate import Plugin, command, hookimpl
from tidegate.faults import InvalidValue, ResourceNotFound

from tidegate_errors.accounts import Accounts
from tidegate_errors.breaker import CLOSED
from tidegate_errors.breakers import CHANNEL, Breakers
from tidegate_errors.budget import Budget
from tidegate_errors.fallback import Stale
from tidegate_errors.limit import AdaptiveLimit
from tidegate_errors.rates import SPANS, Rates
from tidegate_errors.retry import Executor
from tidegate_errors.shedding import Shed

REASON = {"type": "string", "maxlength": 500, "meta": {"help": "Why, for the audit trail."}}
NAME = {
    "type": "string",
    "required": True,
    "minlength": 1,
    "maxlength": 128,
    "meta": {"help": "The breaker's name.", "example": "smtp", "profile": "identifier"},
}


class Administration(Plugin):
    """The half of `Errors` that is asked."""

    accounts: Accounts
    breakers: Breakers
    budget: Budget
    executor: Executor
    limit: AdaptiveLimit | None
    rates: Rates
    shed: Shed
    stale: Stale
    fell_back: int
    had_nothing: int

    @property
    def calls(self) -> int:
        """All calls so far."""
        raise NotImplementedError

    def earn(self) -> None:
        """Let the budget know of the calls since it was last asked."""
        raise NotImplementedError

    @hookimpl
    def tidegate_gauges(self) -> dict[str, float]:
        calls, failed = self.calls, self.accounts.failed
        levels = {
            f"failures_percent_{span}": self._window(seconds, calls, failed)["percent"]
            for span, seconds in SPANS.items()
        }
        levels |= {
            "breakers_open": sum(breaker.state != CLOSED for breaker in self.breakers),
            "groups_kept": len(self.accounts),
            "retry_tokens": self.budget.tokens,
            "stale_bytes": self.stale.bytes,
        }
        if self.limit is not None:
            levels |= {"limit_calls": self.limit.limit, "calls_limited": self.limit.running}
        return levels

    def _window(self, seconds: int, calls: int, failed: int) -> dict[str, float]:
        calls, failed = self.rates.over(seconds, calls, failed)
        return {"calls": calls, "failed": failed, "percent": round(100 * failed / calls, 3) if calls else 0.0}

    @command("errors.stats", requires="admin", scope="read", http="GET /errors")
    def stats(self) -> dict[str, Any]:
        """Count what failed, by code, family, severity and command; the last 1, 5 and 15 minutes; recoveries."""
        accounts, executor, calls = self.accounts, self.executor, self.calls
        self.earn()
        return {
            "since": round(accounts.since, 3),
            "failed": accounts.failed - accounts.before,
            "windows": {span: self._window(seconds, calls, accounts.failed) for span, seconds in SPANS.items()},
            **accounts.report(),
            "recoveries": {
                "retry": {"attempted": executor.attempted, "succeeded": executor.succeeded, "failed": executor.failed},
                "fallback": {
                    "attempted": self.fell_back + self.had_nothing,
                    "succeeded": self.fell_back,
                    "failed": self.had_nothing,
                },
                "breaker": {"closed_again": self.breakers.recovered},
            },
            "retry_budget": {"tokens": round(self.budget.tokens, 1), "refused": self.budget.refused},
            "shed": self.shed.count,
            "limit": None if self.limit is None else {"calls": round(self.limit.limit), "running": self.limit.running},
        }

    @command(
        "errors.groups",
        requires="admin",
        scope="read",
        http="GET /errors/groups",
        params={"limit": {"type": "integer", "min": 1, "max": 1000, "meta": {"help": "How many groups, at most."}}},
    )
    def groups(self, limit: int = 50) -> list[dict[str, Any]]:
        """List different failures, the one seen last first, with a sample trace each."""
        if not 1 <= limit <= 1000:
            raise InvalidValue("A limit is between 1 and 1000", field="params.limit")
        return self.accounts.grouped(limit)

    @command("errors.reset", requires="admin", http="POST /errors/reset", params={"reason": REASON})
    def reset(self, reason: str = "") -> bool:
        """Forget all counts and groups; breakers and the retry budget stay as they are."""
        self.accounts.clear(self.server.clock.wall())
        executor = self.executor
        executor.attempted = executor.succeeded = executor.failed = 0
        self.fell_back = self.had_nothing = self.breakers.recovered = self.budget.refused = self.shed.count = 0
        return True

    @command("breakers.list", requires="admin", scope="read", http="GET /breakers")
    def list_breakers(self) -> list[dict[str, Any]]:
        """List the circuit breakers, with what their windows hold."""
        now = self.server.clock.now()
        return sorted((breaker.report(now) for breaker in self.breakers), key=lambda row: str(row["name"]))

    @command(
        "breakers.force",
        requires="admin",
        http="PUT /breakers/{name}/state",
        params={
            "name": NAME,
            "state": {
                "type": "string",
                "required": True,
                "allowed": ["open", "closed", "auto"],
                "meta": {"help": "Refuse all, let all through, or decide by itself again."},
            },
            "reason": REASON,
        },
    )
    def force(self, name: str, state: str, reason: str = "") -> dict[str, Any]:
        """Keep a breaker open or closed until `auto`; in all processes."""
        if state not in ("open", "closed", "auto"):
            raise InvalidValue("Expected open, closed or auto", field="params.state")
        return self._act(name, state)

    @command(
        "breakers.reset",
        requires="admin",
        http="POST /breakers/{name}/reset",
        params={"name": NAME, "reason": REASON},
    )
    def reset_breaker(self, name: str, reason: str = "") -> dict[str, Any]:
        """Close a breaker and forget what it has counted; in all processes."""
        return self._act(name, "auto")

    def _act(self, name: str, state: str) -> dict[str, Any]:
        breaker = self.breakers.get(name)
        if breaker is None:
            raise ResourceNotFound(f"There is no breaker {name[:64]!r}", field="params.name")
        message = {"name": name, "state": state}
        self.server.bus.publish(CHANNEL, message)
        return breaker.report(self.server.clock.now())
