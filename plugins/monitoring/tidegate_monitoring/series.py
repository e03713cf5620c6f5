"""Measures over a stretch of time, a point a step: what charts are drawn from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tidegate_monitoring.histogram import Histogram, mean, quantiles
from tidegate_monitoring.history import Packed
from tidegate_monitoring.rules import WORST, Measure, share_of
from tidegate_monitoring.tracks import Beat
from tidegate_monitoring.window import Window

MAX_MEASURES = 150
MAX_POINTS = 1000


def series(windows: Sequence[Packed], measures: Sequence[Measure], since: float, until: float, step: float) -> Any:
    """`{"since", "until", "step_s", "times": […], "values": {measure: [number or null, …]}}`, the oldest first.

    A point is at the start of its step and stands for all that happened in it: windows are merged, percentiles are
    never averaged. Where windows are coarser than a step there are fewer points; where nothing was measured, as while
    the server was down, there is one that is null. Pure, for a thread.
    """
    times: list[float] = []
    rows: list[list[float | None]] = []
    whole: Window | None = None
    ended = since

    def close() -> None:
        if whole is not None:
            beat = Beat(whole, {})
            rows.append([value_of(measure, beat) for measure in measures])

    for packed in windows:
        at = packed.start // step * step
        if whole is None or at > times[-1]:
            close()
            if whole is not None and packed.start - ended > max(step, packed.end - packed.start):
                times.append(ended)
                rows.append([None] * len(measures))
            times.append(at)
            whole = packed.window
        else:
            whole.merge(packed.window)
        ended = packed.end
    close()
    values = {measure.text: [row[place] for row in rows] for place, measure in enumerate(measures)}
    times = [round(at, 3) for at in times]
    return {"since": round(since, 3), "until": round(until, 3), "step_s": step, "times": times, "values": values}


def value_of(measure: Measure, beat: Beat) -> float | None:
    """What it was in a window: times in ms, rates a second, gauges in their own unit; None without evidence."""
    function, name, window = measure.function, measure.series, beat.window
    if not function:
        level = window.levels.get(name)
        return round(level.mean, 4) if level is not None else None
    if function in ("rate", "count", "percent"):
        number, calls = beat.number(name)
        if function == "count":
            return float(number)
        whole = window.seconds if function == "rate" else calls / 100
        return round(number / whole, 4) if whole else None
    if name != WORST:
        return _time(function, beat.histogram(name))
    found = [_time(function, calls.seconds()) for calls in window.calls.values()]
    return max((value for value in found if value is not None), default=None)


def _time(function: str, seconds: Histogram) -> float | None:
    if not seconds:
        return None
    share = share_of(function)
    return round(1000 * (mean(seconds) if share is None else quantiles(seconds, share)[0]), 4)
