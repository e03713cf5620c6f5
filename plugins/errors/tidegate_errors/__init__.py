"""What is done about an error: retry, circuit breakers, load shedding, fallbacks, and an account of it all."""

from __future__ import annotations

from collections.abc import Generator
from functools import partial
from math import inf
from typing import TYPE_CHECKING, Any, ClassVar

from tidegate import Call, Command, Event, Fault, hookimpl

from tidegate_errors.accounts import Accounts
from tidegate_errors.administration import Administration
from tidegate_errors.blocks import Retrying
from tidegate_errors.breaker import OPEN, Breaker
from tidegate_errors.breakers import CHANNEL, Breakers, Guard, breaking
from tidegate_errors.budget import Budget
from tidegate_errors.fallback import Stale, falling_back
from tidegate_errors.fingerprint import Fingerprints
from tidegate_errors.limit import DEFAULT_PRIORITY, PRIORITIES, AdaptiveLimit
from tidegate_errors.mapping import fault_for
from tidegate_errors.rates import Rates
from tidegate_errors.report import Reporter, Sampler
from tidegate_errors.retry import Executor, changeable, policy_for, policy_of
from tidegate_errors.settings import SETTINGS, bounds_of, rules_of
from tidegate_errors.shedding import Bulkhead, Shed, compartment, limited
from tidegate_errors.tally import Proceed, Tally, counted, retried

if TYPE_CHECKING:
    from tidegate import Server

__all__ = ["Errors"]

TICK_S = 1.0


class Errors(Administration):
    """The plugin. Outermost first, a command has what its notes ask for: fallback, retry, adaptive limit, bulkhead,
    breaker; what a repeated call passes again is what stands further in."""

    ring = "answer"
    reads = frozenset({"retry", "idempotent", "breaker", "concurrency", "priority", "fallback"})
    provides = frozenset({"breaker", "retrying"})
    listens = frozenset({"protocol.violated", "connection.refused"})
    settings = SETTINGS
    offers: ClassVar[dict[str, Any]] = {
        "panels": [
            {"title": "Errors by code", "command": "errors.stats", "draw": "table", "every_s": 5},
            {"title": "Error groups", "command": "errors.groups", "draw": "table", "every_s": 10},
            {"title": "Circuit breakers", "command": "breakers.list", "draw": "table", "every_s": 5},
        ]
    }

    def configure(self, config: Any) -> None:
        percent, burst = config.retry_percent, config.retry_burst if config.retry_percent else 0
        default = rules_of(config.breaker)
        own = {}
        for name, table in config.breakers.items():
            try:
                own[name] = rules_of(table, default)
            except ValueError as error:
                raise ValueError(f"breakers.{name}.{error}") from None
        bounds = bounds_of(config)
        if not hasattr(self, "accounts"):
            self._make(percent, burst)
        self.budget.adopt(percent, burst)
        self.breakers.adopt(default, own, config.max_breakers)
        self.shed.retry_after_s = config.shed_retry_after_s
        self.stale.max_bytes = config.stale_bytes
        self.accounts.groups = config.groups
        self.sampler.per_minute = config.log_per_minute
        if not config.adaptive_limit:
            self.limit = None
        elif self.limit is None:
            self.limit = AdaptiveLimit(bounds, self.server.clock.now)
        else:
            self.limit.adopt(bounds)

    def _make(self, percent: float, burst: float) -> None:
        server = self.server
        self.limit = None
        self.tallies: dict[str, Tally] = {}
        self.repeated: dict[str, Tally] = {}  # of those, the commands that are retried
        self.bulkheads: dict[str, Bulkhead] = {}
        self.guarding: dict[str, Breaker] = {}  # by the command's name
        self.budget = Budget(percent, burst)
        self.earned = 0
        self.executor = Executor(server, self.budget, self.earn)
        self.breakers = Breakers(server)
        self.shed = Shed(server)
        self.stale = Stale(server)
        self.fell_back = self.had_nothing = 0  # since the last reset
        self.answered = 0  # by fallbacks, since the start
        self.accounts = Accounts(server.clock.wall(), 200)
        self.sampler = Sampler(10)
        self.rates = Rates(server.clock.now())
        self.reporter = Reporter(server, self.accounts, self.sampler)

    # --- the server's life -----------------------------------------------------------------------

    @hookimpl
    def tidegate_serve(self, server: Server) -> Generator[None, None, None]:
        self.reporter.prints = Fingerprints(server.commands.values())
        before, server.report = server.report, self._failed
        subscription = server.bus.subscribe(CHANNEL, self.breakers.act)

        def tick() -> None:
            timer.start(TICK_S)
            self.rates.roll(server.clock.now(), self.calls, self.accounts.failed)
            self.shed.tell()
            self.reporter.tell_left_out()

        timer = server.clock.timer(tick)
        timer.start(TICK_S)
        try:
            yield
        finally:
            timer.stop()
            subscription.close()
            server.report = before

    @hookimpl(trylast=True)
    def tidegate_fault(self, call: Call) -> Fault | None:
        error = call.error
        return fault_for(error, self.server.clock.wall()) if error is not None else None

    @hookimpl
    def tidegate_event(self, event: Event) -> None:
        """What failed before there was a call."""
        kind = self.server.faults.get(event.code)
        if kind is not None:
            self.accounts.count(None, kind, event.at)

    def _failed(self, call: Call) -> None:
        """A call's end in a fault, before the client is told: say when to come again where that is known."""
        fault = call.fault
        if fault is not None and fault.retry_after is None and fault.recovery == "retry_later":
            breaker = self.guarding.get(call.command.name)
            if breaker is not None and breaker.state == OPEN:
                fault.retry_after = breaker.retry_after(self.server.clock.now())
        self.reporter.failed(call)

    @property
    def calls(self) -> int:
        """All calls so far: those that succeeded here, and all that failed anywhere."""
        return sum(tally.succeeded for tally in self.tallies.values()) + self.answered + self.accounts.failed

    # --- the call --------------------------------------------------------------------------------

    @hookimpl
    def tidegate_decorate(self, command: Command, proceed: Proceed) -> Proceed | None:
        name, notes = command.name, command.notes
        if name == "unknown":
            return None
        if wanted := self.provides & set(command.injected):
            proceed = self._giving(wanted, proceed)
        if note := notes.get("breaker"):
            if note is not True and not isinstance(note, str):
                raise ValueError(f"breaker: expected a name, got {note!r}")
            breaker = self.guarding[name] = self.breakers.named(name if note is True else note, held=True)
            proceed = breaking(breaker, proceed, self.server, self._limit_of(command))
        if "concurrency" in notes:
            proceed = compartment(self._bulkhead(name, notes["concurrency"]), proceed, self.shed)
        priority = notes.get("priority", DEFAULT_PRIORITY)
        if priority not in PRIORITIES or isinstance(priority, bool):
            raise ValueError(f"priority: expected 0 to 9, got {priority!r}")
        # Administrators must get in, above all when there is too much of everything else.
        if self.limit is not None and notes.get("requires") != "admin":
            proceed = limited(self.limit, priority, name, proceed, self.shed)
        tally = self.tallies.setdefault(name, Tally())
        policy = policy_for(command)
        if policy is None:
            proceed = counted(tally, proceed)
        else:
            self.repeated[name] = tally
            proceed = retried(tally, proceed, partial(self.executor.again, policy, proceed), changeable(command))
        if notes.get("fallback") is not None:
            proceed = falling_back(command, proceed, self.stale, self._fallen_back)
        return proceed

    def _limit_of(self, command: Command) -> float:
        """Its own time limit in seconds, whatever a client says."""
        return float(command.notes.get("timeout", self.server.settings.server.call_timeout_s))

    def _bulkhead(self, name: str, limit: Any) -> Bulkhead:
        if isinstance(limit, bool) or not isinstance(limit, int) or limit < 1:
            raise ValueError(f"concurrency: expected a number of calls, 1 or more, got {limit!r}")
        bulkhead = self.bulkheads.setdefault(name, Bulkhead(name, limit))
        bulkhead.limit = limit
        return bulkhead

    def _giving(self, wanted: frozenset[str], proceed: Proceed) -> Proceed:
        """`proceed`, with the factories that the command's function takes."""
        factories = [(name, self.provided(name)) for name in sorted(wanted)]

        def giving(call: Call) -> Any:
            call.resources = {**(call.resources or {}), **{name: partial(make, call=call) for name, make in factories}}
            return proceed(call)

        return giving

    def earn(self) -> None:
        """Let the budget know of the calls since it was last asked."""
        calls = sum(tally.succeeded + tally.failed for tally in self.repeated.values())
        self.budget.deposit(calls - self.earned)
        self.earned = calls

    def _fallen_back(self, call: Call, error: BaseException, fault: Fault, answered: bool) -> None:
        if answered:
            self.fell_back += 1
            self.answered += 1
            self.reporter.recovered(call, error, fault)
        else:
            self.had_nothing += 1

    # --- for code of one's own -------------------------------------------------------------------

    def provided(self, name: str) -> Any:
        """`server.provided("breaker")("smtp")`, `server.provided("retrying")(attempts=3)`."""
        return self._guard if name == "breaker" else self._retrying

    def _guard(self, name: str, *, call: Call | None = None) -> Guard:
        """The breaker of that name around a block (`with`) or a function (`@`)."""
        return Guard(
            self.server, self.breakers.named(name), call, inf if call is None else self._limit_of(call.command)
        )

    def _retrying(self, *, call: Call | None = None, **note: Any) -> Retrying:
        """A block or function that is repeated; keys as in the note `retry`."""
        return Retrying(self.executor, policy_of(note), "" if call is None else call.command.name, call)
