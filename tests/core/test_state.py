"""What `server.state` promises: exact rates, bounded tables that keep what means most, locks."""

from __future__ import annotations

from fractions import Fraction

import gevent
import pytest
from gevent.event import Event
from hypothesis import given, settings
from hypothesis import strategies as st
from tidegate.state import MemoryState, rates
from tidegate.testing.clock import VirtualClock


class Hand(VirtualClock):
    """A virtual clock with nobody waiting on it: moved at once."""

    def advance(self, seconds: float) -> None:
        self._time += seconds


@pytest.fixture
def clock():
    return Hand()


@pytest.fixture
def state(clock):
    return MemoryState(clock)


# --- rates ------------------------------------------------------------------------------------------


def test_sixty_a_minute_are_sixty_at_once_then_one_a_second(state, clock):
    hit = state.limit("calls", "60/minute").hit
    assert [hit("jo") for _ in range(60)] == [0.0] * 60
    assert hit("jo") == pytest.approx(1.0)
    clock.advance(1.0)
    assert hit("jo") == 0.0
    assert hit("jo") == pytest.approx(1.0)


def test_at_most_119_pass_in_any_minute(state, clock):
    hit = state.limit("calls", "60/minute").hit
    passed = []
    for _ in range(30_000):
        if hit("jo") == 0.0:
            passed.append(clock.now())
        clock.advance(0.01)
    most = max(sum(start <= at < start + 60 for at in passed) for start in passed)
    assert most <= 119 + 1  # the window is half open, the 120th comes with its end
    assert len(passed) == 60 + 299


def test_a_burst_of_its_own_goes_to_the_shortest_rate(state):
    hit = state.limit("calls", "10/second, 600/hour", burst=3).hit
    assert [hit("jo") for _ in range(3)] == [0.0] * 3
    assert hit("jo") > 0


def test_all_rates_are_taken_or_none(state, clock):
    limit = state.limit("calls", "2/second, 3/hour")
    assert [limit.hit("jo") for _ in range(2)] == [0.0, 0.0]
    assert limit.hit("jo") == pytest.approx(0.5)
    clock.advance(0.5)
    assert limit.hit("jo") == 0.0
    clock.advance(0.5)
    assert limit.hit("jo") == pytest.approx(1199.0, abs=1.0)  # the hour's; the second's was not taken
    for _ in range(5):
        limit.hit("jo")
    clock.advance(1200.0)
    assert limit.hit("jo") == 0.0


def test_a_cost_of_nothing_asks_without_taking(state):
    hit = state.limit("calls", "1/minute").hit
    assert [hit("jo", 0) for _ in range(5)] == [0.0] * 5
    assert hit("jo") == 0.0
    assert hit("jo", 0) == pytest.approx(60.0)


def test_a_cost_above_the_burst_is_never_taken(state):
    limit = state.limit("calls", "5/minute")
    assert limit.hit("jo", 6) == float("inf")
    assert limit.most == pytest.approx(5)
    assert limit.hit("jo", 5) == 0.0


@pytest.mark.parametrize("rate", ["7/minute", "7/minute, 100/hour", "7/minute, 100/hour, 1000/day"])
def test_what_is_given_back_can_be_taken_again(state, rate):
    hit = state.limit("calls", rate).hit
    assert [hit("jo") for _ in range(7)] == [0.0] * 7
    hit("jo", -2)
    assert [hit("jo") == 0.0 for _ in range(3)] == [True, True, False]


@pytest.mark.parametrize(
    "text", ["", "60", "60/fortnight", "0/minute", "1/0 minutes", "a/second", "5/second,", "-1/hour", "٣/hour"]
)
def test_a_rate_that_is_none_says_what_is_expected(text):
    with pytest.raises(ValueError, match="60/minute"):
        rates(text)


def test_rates_are_written_as_people_write_them():
    assert rates("10/second, 600/hour") == [(10, 1), (600, 3600)]
    assert rates(" 5 / 10 minutes ") == [(5, 600)]
    assert rates("0.5/second") == [(0.5, 1)]


def test_new_rates_forget_what_the_old_ones_counted(state):
    assert state.limit("calls", "1/day").hit("jo") == 0.0
    assert state.limit("calls", "1/day").hit("jo") > 0  # the same rates: the same table
    hit = state.limit("calls", "60/minute").hit
    assert hit("jo") == 0.0


class Exact:
    """GCRA in fractions, as ITU-T I.371 has it: the virtual scheduling algorithm."""

    def __init__(self, given):
        self.steps = [(Fraction(seconds) / Fraction(number), Fraction(seconds)) for number, seconds in given]
        self.dues = {}

    def hit(self, key, cost, now):
        dues = self.dues.get(key, [now] * len(self.steps))
        laters = [max(due, now) + step * cost for due, (step, _) in zip(dues, self.steps, strict=True)]
        waits = [later - now - owed for later, (_, owed) in zip(laters, self.steps, strict=True)]
        if max(waits) > 0:
            return max(waits)
        self.dues[key] = laters
        return 0


RATES = ["1/second", "10/second", "60/minute", "7/10 minutes", "10/second, 60/minute", "3/second, 20/minute, 100/hour"]


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from(RATES),
    st.lists(st.tuples(st.sampled_from("ab"), st.integers(1, 3), st.integers(0, 200_000)), min_size=1, max_size=120),
)
def test_every_hit_is_what_the_algorithm_says_to_the_microsecond(rate, hits):
    clock = Hand()
    limit = MemoryState(clock).limit("calls", rate)
    exact = Exact([(one.number, one.seconds) for one in limit.rates])
    elapsed = Fraction(0)
    for key, cost, milliseconds in hits:
        elapsed += Fraction(milliseconds, 1000)
        now = 1000.0 + float(elapsed)
        cost = min(cost, int(limit.most))
        expected = exact.hit(key, cost, 1000 + elapsed)
        got = limit.hit(key, cost, now)
        assert got == pytest.approx(float(expected), abs=1e-5)
        if got:  # waiting that long does succeed
            assert limit.hit(key, cost, now + got) == 0.0
            exact.hit(key, cost, 1000 + elapsed + expected)
            elapsed += expected


# --- bounded tables -----------------------------------------------------------------------------------


def test_a_flood_of_keys_stays_within_the_bound_and_is_not_refused(state):
    limit = state.limit("calls", "60/minute", cap=1000)
    assert all(limit.hit(f"address {n}") == 0.0 for n in range(20_000))
    assert len(limit) <= 1000


@pytest.mark.parametrize("rate", ["60/minute", "60/minute, 1000/hour"])
def test_those_who_called_most_are_remembered_through_a_flood(state, rate):
    hit = state.limit("calls", rate, cap=1000).hit
    for user in range(20):
        for _ in range(60):
            hit(f"user {user}")
    for n in range(20_000):
        hit(f"address {n}")
    assert all(hit(f"user {user}") > 0 for user in range(20))


def test_what_means_nothing_any_more_goes_first(state, clock):
    values = state.values("sessions", cap=100)
    for n in range(50):
        values.set(f"short {n}", n, ttl_s=10)
    for n in range(50):
        values.set(f"long {n}", n, ttl_s=1000)
    clock.advance(11)
    for n in range(40):
        values.set(f"new {n}", n, ttl_s=1000)
    assert sum(values.get(f"long {n}") is not None for n in range(50)) == 50


def test_what_would_expire_first_goes_before_what_stays(state):
    values = state.values("sessions", cap=100)
    values.set("oldest", "kept", ttl_s=10_000)
    for n in range(5000):
        values.set(f"n {n}", n, ttl_s=10)
    assert values.get("oldest") == "kept"
    assert len(values) <= 100


def test_the_memory_of_a_flood_comes_back_with_the_calls_after_it(state, clock):
    limit = state.limit("calls", "60/minute", cap=10_000)
    for n in range(5000):
        limit.hit(f"address {n}")
    clock.advance(60)
    for n in range(5000):
        limit.hit(f"later {n}")
    assert len(limit) <= 5001


def test_a_key_that_comes_and_goes_leaves_nothing_behind(state):
    values = state.values("sessions")
    for n in range(5000):
        values.set("jo", n, ttl_s=60)
        assert values.pop("jo") == n
    assert len(values._table._hand) < 200


def test_a_smaller_bound_holds_at_once(state):
    values = state.values("sessions", cap=100)
    for n in range(100):
        values.set(n, n, ttl_s=60 + n)
    assert len(state.values("sessions", cap=10)) == 10


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 30), st.sampled_from(["set", "pop", "hit", "add", "wait"])), max_size=300))
def test_no_order_of_events_breaks_the_bound(events):
    clock = Hand()
    state = MemoryState(clock)
    values, limit, members = (
        state.values("v", cap=8),
        state.limit("l", "2/second", cap=8),
        state.members("m", cap=8, each=3),
    )
    score = state.score("s", 10, cap=8)
    for key, what in events:
        if what == "set":
            values.set(key, key, ttl_s=1 + key)
            assert values.get(key) == key or len(values) == 8
        elif what == "pop":
            values.pop(key)
            score.scale(key, 0)
        elif what == "hit":
            limit.hit(key)
            score.add(key, 1.0)
        elif what == "add":
            assert 1 <= members.add(key % 5, key, ttl_s=5) <= 3
        else:
            clock.advance(0.5 + key / 10)
        assert max(len(values), len(limit), len(members), len(score)) <= 8


# --- scores, values, members --------------------------------------------------------------------------


def test_a_score_halves_and_is_forgotten(state, clock):
    score = state.score("reputation", half_life_s=60)
    assert score.add("jo", 8) == 8
    clock.advance(60)
    assert score.get("jo") == pytest.approx(4)
    assert score.add("jo", 1) == pytest.approx(5)
    score.scale("jo", 0.5)
    assert score.get("jo") == pytest.approx(2.5)
    clock.advance(600)
    assert score.get("jo") == 0.0
    assert list(score.items()) == []


def test_a_value_is_there_until_its_time_is_over(state, clock):
    values = state.values("tokens")
    assert values.add("jo", "first", ttl_s=10)
    assert not values.add("jo", "second", ttl_s=10)
    assert list(values.items()) == [("jo", "first")]
    clock.advance(10)
    assert values.get("jo") is None
    assert values.add("jo", "second", ttl_s=10)


def test_members_are_counted_distinct_and_while_they_live(state, clock):
    members = state.members("names tried", each=4)
    assert [members.add("address", name, 60) for name in ("a", "b", "a", "c")] == [1, 2, 2, 3]
    clock.advance(61)
    assert members.add("address", "d", 60) == 1
    assert members.of("address") == ["d"]
    members.discard("address", "d")
    assert members.of("address") == []


# --- locks ------------------------------------------------------------------------------------------


def test_a_lock_is_held_by_one_at_a_time(state):
    order = []

    def work(name):
        with state.lock("migration", ttl_s=60):
            order.append(f"{name} in")
            gevent.sleep(0)
            order.append(f"{name} out")

    gevent.joinall([gevent.spawn(work, name) for name in "abc"], timeout=5, raise_error=True)
    assert [one.split()[1] for one in order] == ["in", "out"] * 3


def test_a_holder_that_is_killed_lets_the_next_in(state):
    entered = Event()

    def hold():
        with state.lock("migration", ttl_s=60):
            entered.set()
            gevent.sleep(3600)

    holder = gevent.spawn(hold)
    entered.wait(5)
    holder.kill()
    with gevent.Timeout(5), state.lock("migration", ttl_s=60):
        pass


def test_a_holder_that_hangs_loses_the_lock_when_its_time_is_over():
    clock = VirtualClock()
    state = MemoryState(clock)
    entered, got = Event(), Event()

    def hold():
        with state.lock("migration", ttl_s=30):
            entered.set()
            gevent.sleep(3600)

    def want():
        with state.lock("migration", ttl_s=30):
            got.set()

    holder = gevent.spawn(hold)
    entered.wait(5)
    waiter = gevent.spawn(want)
    clock.advance(29)
    assert not got.is_set()
    clock.advance(2)
    assert got.wait(5)
    holder.kill()  # late: it must not release what is another's by now
    waiter.join(5)
