"""The charts' numbers: every gauge, and what monitoring measures where it is installed."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from tidegate import Fault

from tidegate_admin.series import MAX_NAMES, SPANS, Series

if TYPE_CHECKING:
    import logging

    from tidegate import Server

#: Of `monitoring.metrics`, beside all gauges -> the same as a measure of `monitoring.series`.
_FIGURES = {
    "per_s": "rate(calls)",
    "p50_ms": "p50(calls)",
    "p90_ms": "p90(calls)",
    "p99_ms": "p99(calls)",
    "failed_percent": "percent(errors)",
}
_LAG = "p99(loop.lag)"
_GAUGE = re.compile(r"[A-Za-z_]\w*\.[\w.]+", re.ASCII)


def read(server: Server, log: logging.Logger, seconds: int) -> dict[str, float]:
    """Those of now by name, calls over the last `seconds`. Switches."""
    values: dict[str, float] = {}
    if "monitoring.metrics" in server.commands:
        try:
            found = server.call("monitoring.metrics", {"seconds": seconds})
        except Fault as fault:
            log.debug("monitoring said nothing: %s", fault)
        else:
            values = {f"calls.{name}": float(found["total"][name]) for name in _FIGURES}
            values["loop.lag_ms"] = float(found["loop_lag"]["p99_ms"])
    return values | server.gauges()


def recall(server: Server, log: logging.Logger, series: Series) -> None:
    """Fill in what monitoring kept over the restart. Switches."""
    if "monitoring.series" not in server.commands:
        return
    measures = {f"calls.{name}": measure for name, measure in _FIGURES.items()} | {"loop.lag_ms": _LAG}
    measures |= {name: name for name in server.gauges() if _GAUGE.fullmatch(name)}
    measures = dict(list(measures.items())[:MAX_NAMES])
    for span, (step, points) in SPANS.items():
        now = server.clock.wall()
        asked = {"names": list(measures.values()), "since": now - step * points, "until": now, "step_s": step}
        try:
            found = server.call("monitoring.series", asked)
        except Fault as fault:
            log.warning("the charts begin empty, monitoring can't tell the past: %s", fault)
            return
        values = {name: found["values"][measure] for name, measure in measures.items()}
        series.fill(span, found["times"], values, server.clock.wall())
