"""The state machines by themselves, against models that are written another way."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from tidegate.faults import CircuitOpen, DependencyUnavailable, InvalidInput, NetworkError
from tidegate_errors.breaker import Breaker, Rules
from tidegate_errors.budget import Budget
from tidegate_errors.rates import Rates
from tidegate_errors.window import CountWindow, TimeWindow


class Time:
    def __init__(self) -> None:
        self.at = 100.0

    def now(self) -> float:
        return self.at


class BreakerMachine(RuleBasedStateMachine):
    """Any order of calls that begin, end well, badly or slowly, time that passes, and operators.

    The model keeps all outcomes since the last change of state and says what the state must be.
    """

    @initialize(
        window=st.integers(1, 12),
        minimum=st.integers(1, 12),
        probes=st.integers(1, 4),
        rate=st.sampled_from([0.1, 0.5, 1.0]),
        slow_s=st.sampled_from([None, 2.0]),
    )
    def begin(self, window, minimum, probes, rate, slow_s):
        self.time = Time()
        self.rules = Rules(
            window=window,
            failure_rate=rate,
            slow_s=slow_s,
            slow_rate=0.6,
            minimum_calls=min(minimum, window),
            open_s=10.0,
            open_cap_s=100.0,
            probes=probes,
            ignores=frozenset({1306}),
        )
        self.breaker = Breaker("x", self.rules, self.time, self.changed)
        self.told: list[str] = []
        self.inside: list[tuple[object, int]] = []  # what enter gave, and the model's time then
        self.openings = 0
        self.now("closed")

    def changed(self, breaker, old):
        self.told.append(breaker.state)

    def now(self, state):
        """The model's state; what was before is over."""
        self.state = state
        self.era = getattr(self, "era", 0) + 1
        self.outcomes: list[tuple[bool, bool]] = []
        self.since = self.time.at
        self.out = 0  # probes under way
        if state == "closed":
            self.openings = 0
        if state == "open":
            self.openings += 1

    @rule()
    def call_begins(self):
        if self.state == "open" and self.time.at >= self.breaker.until:
            self.now("half_open")
        elif self.state == "half_open" and self.time.at - self.since >= self.rules.open_cap_s:
            self.now("half_open")  # probes that take so long are given up
        room = self.out + len(self.outcomes) < self.rules.probes
        passes = self.state in ("closed", "forced_closed") or (self.state == "half_open" and room)
        if passes:
            self.inside.append((self.breaker.enter(), self.era))
            self.out += 1
        else:
            with pytest.raises(CircuitOpen) as raised:
                self.breaker.enter()
            assert raised.value.retry_after >= 0

    @precondition(lambda self: self.inside)
    @rule(data=st.data(), outcome=st.sampled_from(["good", "bad", "slow", "ignored", "theirs", "killed"]))
    def call_ends(self, data, outcome):
        entered, era = self.inside.pop(data.draw(st.integers(0, len(self.inside) - 1)))
        fault = {"bad": NetworkError(), "ignored": DependencyUnavailable(), "theirs": InvalidInput()}.get(outcome)
        self.breaker.leave(entered, fault, 3.0 if outcome == "slow" else 0.0, judged=outcome != "killed")
        if era != self.era:
            return
        self.out -= 1
        if outcome not in ("good", "bad", "slow"):
            return
        self.outcomes.append((outcome == "bad", outcome == "slow" and self.rules.slow_s is not None))
        if self.state == "closed":
            self.judge_closed()
        elif self.state == "half_open":
            self.judge_probes()

    def judge_closed(self):
        last = self.outcomes[-self.rules.window :]
        if len(last) >= self.rules.minimum_calls and any(self.outcomes[-1]) and self.too_many(last, len(last)):
            self.now("open")

    def judge_probes(self):
        if self.too_many(self.outcomes, self.rules.probes):
            self.now("open")
        elif len(self.outcomes) == self.rules.probes:
            self.now("closed")

    def too_many(self, outcomes, of):
        failed, slow = (sum(column) for column in zip(*outcomes, strict=True))
        return failed >= self.rules.failure_rate * of or (slow > 0 and slow >= self.rules.slow_rate * of)

    @rule(seconds=st.sampled_from([0.5, 3.0, 11.0, 60.0, 500.0]))
    def time_passes(self, seconds):
        self.time.at += seconds

    @rule(state=st.sampled_from(["open", "closed", None]))
    def operator_forces(self, state):
        self.breaker.force(state)
        self.now({"open": "forced_open", "closed": "forced_closed", None: "closed"}[state])

    @invariant()
    def the_breaker_is_what_the_model_says(self):
        breaker = self.breaker
        assert breaker.state == self.state
        assert (breaker.until is not None) == (breaker.state == "open")
        assert self.told[-1:] in ([], [self.state])
        if self.state == "closed":
            last = self.outcomes[-self.rules.window :]
            assert breaker.window.seen(self.time.at) == (len(last), sum(f for f, _ in last), sum(s for _, s in last))
        if self.state == "open":
            longest = min(10.0 * 2 ** (self.openings - 1), 100.0)
            assert longest * 0.8 - 1e-6 <= breaker.until - self.since <= min(longest * 1.2, 100.0) + 1e-6


class BudgetMachine(RuleBasedStateMachine):
    """Any order of calls and wishes to retry."""

    @initialize(percent=st.sampled_from([0.5, 10, 33, 100]), burst=st.integers(1, 50))
    def begin(self, percent, burst):
        self.budget = Budget(percent, burst)
        self.calls = self.retries = 0

    @rule(calls=st.integers(1, 200))
    def calls_are_made(self, calls):
        self.calls += calls
        self.budget.deposit(calls)

    @rule(times=st.integers(1, 60))
    def retries_are_wanted(self, times):
        for _ in range(times):
            self.retries += self.budget.withdraw()

    @invariant()
    def retries_stay_within_their_share(self):
        share = self.calls * self.budget.percent / 100
        assert self.retries <= max(self.budget.burst, share) + 1e-6

    @invariant()
    def the_bucket_holds_no_more_than_it_can(self):
        assert -1e-6 <= self.budget.tokens <= self.budget.burst

    @invariant()
    def nothing_earned_is_lost_while_the_bucket_has_room(self):
        if self.calls == 0:
            assert self.budget.tokens == self.budget.burst - self.retries


TestBreakerMachine = BreakerMachine.TestCase
TestBreakerMachine.settings = settings(max_examples=200, stateful_step_count=50, deadline=None)
TestBudgetMachine = BudgetMachine.TestCase
TestBudgetMachine.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)


def test_a_budget_that_was_used_up_comes_back_by_calls():
    budget = Budget(10, 5)
    assert [budget.withdraw() for _ in range(6)] == [True] * 5 + [False]
    budget.deposit(50)  # pays back what was lent
    assert not budget.withdraw()
    budget.deposit(10)
    assert budget.withdraw()
    assert not budget.withdraw()


@given(st.integers(1, 30), st.lists(st.tuples(st.booleans(), st.booleans()), max_size=100))
def test_a_count_window_knows_exactly_the_last_calls(size, outcomes):
    window = CountWindow(size)
    for failed, slow in outcomes:
        if failed or slow:
            window.add(0.0, failed=failed, slow=slow)
        else:
            window.calls += 1
    last = outcomes[-size:]
    assert window.seen(0.0) == (len(last), sum(f for f, _ in last), sum(s for _, s in last))


@given(st.lists(st.tuples(st.floats(0.0, 30.0), st.booleans()), max_size=60), st.floats(0.0, 30.0))
def test_a_time_window_knows_the_last_seconds_to_a_tenth(calls, idle):
    now, window, times = 50.0, TimeWindow(10.0, 50.0), []
    for wait, failed in calls:
        now += wait
        if now >= window.until:
            window.roll(now)
        if failed:
            window.add(now, failed=True, slow=False)
        else:
            window.calls += 1
        times.append((now, failed))
    now += idle
    seen = window.seen(now)
    at_least = [failed for at, failed in times if at > now - 10.0 + 1e-6]
    at_most = [failed for at, failed in times if at > now - 11.0 - 1e-6]
    assert len(at_least) <= seen.calls <= len(at_most)
    assert sum(at_least) <= seen.failed <= sum(at_most)
    assert len(window._marks) <= 12


@given(st.lists(st.tuples(st.floats(0.0, 400.0), st.integers(0, 5)), max_size=40))
def test_the_minutes_windows_forget_what_is_older(bursts):
    now, rates, calls, times = 7.0, Rates(7.0), 0, []
    for wait, count in bursts:
        end = now + wait
        while now + 1.0 <= end:
            now += 1.0
            rates.roll(now, calls, calls)
        now = end
        rates.roll(now, calls, calls)
        calls += count
        times += [now] * count
    for seconds in (60, 300, 900):
        seen, _ = rates.over(seconds, calls, calls)
        assert sum(at > now - seconds + 1.0 + 1e-6 for at in times) <= seen
        assert seen <= sum(at > now - seconds - 1.0 - 1e-6 for at in times)


def test_a_breaker_is_open_longer_each_time_its_probes_fail():
    time = Time()
    breaker = Breaker("x", Rules(minimum_calls=1, window=1, probes=1, open_cap_s=60), time, rand=lambda: 0.5)
    breaker.leave(breaker.enter(), NetworkError())
    lengths = []
    for _ in range(6):
        lengths.append(breaker.until - time.at)
        time.at = breaker.until
        breaker.leave(breaker.enter(), NetworkError())
    assert lengths == pytest.approx([5, 10, 20, 40, 54, 54])


def test_a_slow_probe_opens_it_again_and_a_quick_one_closes_it():
    for seconds, state in ((3.0, "open"), (0.1, "closed")):
        time = Time()
        breaker = Breaker("x", Rules(minimum_calls=1, window=1, probes=1, slow_s=2.0), time)
        breaker.leave(breaker.enter(), None, 3.0)
        assert breaker.state == "open"
        time.at = breaker.until
        breaker.leave(breaker.enter(), None, seconds)
        assert breaker.state == state


def test_breakers_that_opened_together_probe_at_different_times():
    for openings in (1, 9):
        lengths = set()
        for _ in range(20):
            time = Time()
            breaker = Breaker("x", Rules(minimum_calls=1, window=1, probes=1, open_cap_s=60), time)
            for _ in range(openings):
                time.at = breaker.until or time.at
                breaker.leave(breaker.enter(), NetworkError())
            lengths.add(breaker.until - time.at)
        assert len(lengths) == 20
        assert all(4 <= length <= 6 if openings == 1 else 48 <= length <= 60 for length in lengths)


def test_probes_that_never_come_back_do_not_keep_a_breaker_half_open_for_ever():
    time = Time()
    breaker = Breaker("x", Rules(minimum_calls=1, window=1, probes=2, open_cap_s=60), time, rand=lambda: 0.5)
    breaker.leave(breaker.enter(), NetworkError())
    time.at = breaker.until
    lost = [breaker.enter(), breaker.enter()]
    with pytest.raises(CircuitOpen):
        breaker.enter()
    time.at += 60
    for entered in (breaker.enter(), breaker.enter()):
        breaker.leave(entered, None)
    assert breaker.state == "closed"
    breaker.leave(lost[0], NetworkError())
    assert breaker.state == "closed"
    assert breaker.window.seen(time.at).calls == 0
