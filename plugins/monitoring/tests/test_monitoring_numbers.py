"""The structures behind the numbers: histograms, history, rules; values in, values out."""

from __future__ import annotations

import math
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tidegate_monitoring.histogram import ERROR, add, histogram_of, mean, merge, quantiles, ranked, sample_ranks
from tidegate_monitoring.history import TIERS, History, load, save
from tidegate_monitoring.rules import Rule, measure, parse, shown
from tidegate_monitoring.series import series
from tidegate_monitoring.tracks import Beat, Track
from tidegate_monitoring.window import Calls, Window, merged

values = st.floats(min_value=1e-9, max_value=1e6, allow_nan=False)
SHARES = (0.0, 0.5, 0.9, 0.99, 0.999, 1.0)


def exact(numbers: list[float], share: float) -> float:
    return sorted(numbers)[max(math.ceil(share * len(numbers)), 1) - 1]


@given(st.lists(values, min_size=1, max_size=300))
def test_a_quantile_is_within_the_stated_error(numbers):
    found = quantiles(histogram_of(numbers), *SHARES)
    for share, value in zip(SHARES, found, strict=True):
        assert value == pytest.approx(exact(numbers, share), rel=ERROR * 1.0001)
    assert mean(histogram_of(numbers)) == pytest.approx(sum(numbers) / len(numbers), rel=ERROR * 1.0001)


@given(st.lists(st.lists(values, max_size=50), min_size=1, max_size=6))
def test_merged_histograms_are_one_of_all_values(parts):
    whole: dict[int, int] = {}
    for part in parts:
        merge(whole, histogram_of(part))
    assert whole == histogram_of([value for part in parts for value in part])
    for part in parts:
        merge(whole, histogram_of(part), -1)
    assert whole == {}


@given(st.lists(values, min_size=1, max_size=200), st.integers(1, 50))
def test_samples_stand_for_equal_parts(numbers, limit):
    ranks = sample_ranks(len(numbers), limit)
    buckets = ranked(histogram_of(numbers), ranks)
    assert len(buckets) == min(len(numbers), limit)
    if len(numbers) <= limit:
        assert sum(histogram_of(numbers).values()) == len(buckets)
        assert sorted(buckets) == sorted(b for b, count in histogram_of(numbers).items() for _ in range(count))


def test_nothing_has_a_quantile_of_nothing():
    assert quantiles({}, 0.5, 0.99) == [0.0, 0.0]


# --- history --------------------------------------------------------------------------------------


def second(start: float, calls: int = 10, commands: int = 1, latency: float = 0.01, **counts: int) -> Window:
    window = Window(start, 1.0, counts=dict(counts))
    for n in range(commands):
        window.calls[f"area.command_{n}"] = Calls(histogram_of([latency * (1 + k / 7) for k in range(calls)]))
    return window


def filled(seconds: int, start: float = 1_000_000.0, **options) -> tuple[History, float]:
    history = History(options.pop("max_bytes", 4 << 20))
    for n in range(seconds):
        history.put(second(start + n, **options))
    return history, start + seconds


@pytest.mark.parametrize("span", [10, 60, 300, 900, 3600, 7200])
def test_no_call_is_counted_twice_or_lost_between_resolutions(span):
    history, now = filled(8000)
    window = merged(packed.window for packed in history.between(now - span, now))
    coarsest = next(length for length, count in TIERS if length * count >= span)
    # Windows are taken whole: at the far end up to one of the coarsest may be more or less.
    assert window.all_calls().count == pytest.approx(10 * span, abs=10 * coarsest)
    assert window.seconds == pytest.approx(span, abs=coarsest)


def test_the_time_before_is_the_time_before():
    history = History(4 << 20)
    for n in range(3600):
        history.put(second(1_000_000.0 + n, calls=30 if n >= 2700 else 10))
    now = 1_000_000.0 + 3600
    recent = merged(p.window for p in history.between(now - 900, now))
    earlier = merged(p.window for p in history.between(now - 1800, now - 900))
    assert recent.all_calls().count / recent.seconds == pytest.approx(30, rel=0.1)
    assert earlier.all_calls().count / earlier.seconds == pytest.approx(10, rel=0.1)


def test_history_stays_within_its_bytes():
    history, now = filled(2000, commands=100, max_bytes=200_000)
    assert history.size <= 200_000
    assert history.between(now - 10, now), "what is left is the newest"


def test_history_outlives_the_process(tmp_path):
    history, now = filled(4000)
    save(tmp_path / "history.msgpack", *history.kept())
    kept = load(tmp_path / "history.msgpack")
    assert kept is not None
    again = History(4 << 20)
    again.restore(kept)
    # Single seconds are not kept; all else is, the windows that were still open too.
    for span, coarsest in ((600, 10), (3600, 60), (4000, 900)):
        window = merged(p.window for p in again.between(now - span, now))
        assert window.all_calls().count == pytest.approx(10 * span, abs=10 * coarsest)
    # Another process goes on after a pause.
    for n in range(120):
        again.put(second(now + 60 + n))
    window = merged(p.window for p in again.between(now - 420, now + 180))
    assert window.all_calls().count == pytest.approx(10 * 540, abs=100)


def drawn(history: History, since: float, until: float, step: float, *texts: str) -> dict:
    return series(history.between(since, until), [measure(text) for text in texts], since, until, step)


@pytest.mark.parametrize(("span", "step"), [(600, 10), (3600, 60), (21_600, 900)])
def test_a_chart_has_a_point_a_step_from_merged_windows(span, step):
    history, now = History(4 << 20), 1_000_800.0 + 21_600
    for n in range(21_600):
        # Each tenth second is slow: the mean of percentiles would be far from the percentile.
        history.put(second(1_000_800.0 + n, latency=1.0 if n % 10 == 0 else 0.01, **{"threat.detected": 2}))
    found = drawn(history, now - span, now, step, "rate(calls)", "p50(calls)", "p99(calls.*)", "count(threat.detected)")
    assert found["times"] == [now - span + n * step for n in range(span // step)]
    rows = found["values"]
    assert rows["rate(calls)"] == [10.0] * len(found["times"])
    assert rows["count(threat.detected)"] == [2.0 * step] * len(found["times"])
    assert all(value == pytest.approx(16, rel=0.3) for value in rows["p50(calls)"])
    assert all(value == pytest.approx(2143, rel=0.2) for value in rows["p99(calls.*)"])


def test_a_chart_goes_over_all_resolutions_and_shows_where_nothing_was_measured():
    history, now = filled(1800)
    for n in range(60):
        history.put(second(now + 600 + n))
    found = drawn(history, now - 1800, now + 660, 10, "rate(calls)", "monitoring.rss_bytes", "percent(errors)")
    assert found["times"] == sorted(set(found["times"]))
    (gap,) = [at for at, value in zip(found["times"], found["values"]["rate(calls)"], strict=True) if value is None]
    assert gap == pytest.approx(now, abs=60)
    assert {value for value in found["values"]["rate(calls)"] if value is not None} == {10.0}
    assert set(found["values"]["monitoring.rss_bytes"]) == {None}, "what was not measured is null, and no zero"
    assert set(found["values"]["percent(errors)"]) == {0.0, None}


@pytest.mark.parametrize("text", ["", "calls", "p99", "p0(calls)", "p99(errors)", "percent(calls)", "mean(x)", "p99("])
def test_a_measure_that_is_none_is_refused(text):
    with pytest.raises(ValueError, match=r"expected|only errors|is of"):
        measure(text)


def test_a_file_that_is_none_says_so(tmp_path):
    (tmp_path / "history.msgpack").write_bytes(b"\xc1 not msgpack")
    with pytest.raises(ValueError, match=r"history.msgpack can't be read"):
        load(tmp_path / "history.msgpack")
    assert load(tmp_path / "nothing") is None


# --- rules ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("p99(calls.message.send) > 250ms for 30s", ("p99", "calls.message.send", 0.25, 30.0, 60.0, "seconds")),
        ("rate(errors) > 5%", ("rate", "errors", 0.05, 0.0, 60.0, "share")),
        ("loop_lag > 100ms", ("", "monitoring.loop_lag_ms", 100.0, 0.0, 60.0, "ms")),
        ("disk_free < 5%", ("", "monitoring.disk_free_percent", 5.0, 0.0, 60.0, "percent")),
        ("rate(threat.detected) > 100/m over 5m", ("rate", "threat.detected", 100 / 60, 0.0, 300.0, "rate")),
        ("p99.9(calls.*)>=2s min 5", ("p99.9", "calls.*", 2.0, 0.0, 60.0, "seconds")),
        ("monitoring.rss_bytes > 2GiB for 1m", ("", "monitoring.rss_bytes", 2.0**31, 60.0, 60.0, "bytes")),
        ("errors.breakers_open > 0", ("", "errors.breakers_open", 0.0, 0.0, 60.0, "number")),
        ("count(errors.1304) >= 3 over 10m", ("count", "errors.1304", 3.0, 0.0, 600.0, "number")),
    ],
)
def test_a_rule_is_understood(text, found):
    rule = parse(text)
    assert (rule.function, rule.series, rule.limit, rule.for_s, rule.over_s, rule.unit) == found


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "expected a rule such as"),
        ("p99(calls) > fast", "expected a number with a unit"),
        ("p99(calls) > 5%", "expected a limit in seconds"),
        ("p200(calls) > 1s", "no percentile"),
        ("p.(calls) > 1s", "no percentile"),
        ("p99(login.failed) > 1s", "is of calls"),
        ("rate(login.failed) > 5%", "only errors and failures are a share"),
        ("count(calls.*) > 5", "count calls"),
        ("loop_leg > 1s", "is no level; expected one of"),
        ("disk_free < 3s", "compared with share"),
        ("cpu > 90% until 95%", "'until' lies beyond the limit"),
        ("cpu > 90% for 5%", "expected a time"),
        ("cpu > 90% for 2d", "at most a day"),
        ("cpu > 90% for 2s for 3s", "given twice"),
        ("rate(errors) > 5% min many", "expected a number of calls"),
        ("cpu = 90%", "expected a rule such as"),
    ],
)
def test_a_rule_that_is_none_says_what_was_expected(text, said):
    with pytest.raises(ValueError, match=said):
        parse(text)


@given(st.text(max_size=80))
def test_any_text_is_a_rule_or_refused_at_once(text):
    start = time.thread_time()
    try:
        assert isinstance(parse(text), Rule)
    except ValueError:
        pass
    assert time.thread_time() - start < 1


def tracked(text: str, windows: list[Window]) -> float | None:
    track = Track(parse(text))
    value = None
    for window in windows:
        value = track.value(Beat(window, {}))
    return value


def test_a_rule_looks_back_over_its_window_and_no_farther():
    quick, slow = second(0, latency=0.01), second(0, latency=1.0)
    assert tracked("p50(calls) > 1s", [slow] * 100 + [quick] * 60) == pytest.approx(0.0157, rel=0.01)
    assert tracked("p99(calls) > 1s", [slow] * 100 + [quick] * 58) == pytest.approx(1.857, rel=0.01)
    assert tracked("count(x.happened) > 1 over 10m", [second(0, **{"x.happened": 2})] * 5 + [quick] * 500) == 10
    assert tracked("count(x.happened) > 1 over 10m", [second(0, **{"x.happened": 2})] * 5 + [quick] * 620) == 0


def test_a_few_calls_are_no_evidence():
    one = second(0, calls=1)
    one.calls["area.command_0"].failed = {0: 1}
    assert tracked("rate(errors) > 5%", [one] * 9) is None
    assert tracked("rate(errors) > 5%", [one] * 10) == 0.5
    assert tracked("rate(errors) > 5% min 2", [one]) == 0.5


def test_numbers_are_shown_with_their_unit():
    assert [shown(0.25, "seconds"), shown(250, "ms"), shown(0.062, "share"), shown(4.5, "percent")] == [
        *("250 ms", "250 ms", "6.2 %", "4.5 %")
    ]
    assert [shown(2.0**31, "bytes"), shown(0.5, "rate"), shown(3, "number")] == ["2 GiB", "30/m", "3"]


def test_a_bucket_of_nothing_at_all_exists():
    zero: dict[int, int] = {}
    add(zero, 0.0)
    assert quantiles(zero, 0.5)[0] == pytest.approx(1e-9, rel=0.02)
