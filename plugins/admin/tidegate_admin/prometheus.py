"""The server's numbers as Prometheus reads them (text format 0.0.4)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from math import isinf, isnan
from typing import Any

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_NOT_NAME = re.compile(r"[^a-zA-Z0-9_]")
Labels = Mapping[str, str]
Sample = tuple[Labels, float]


def page(gauges: Mapping[str, float], metrics: Mapping[str, Any] | None, errors: Mapping[str, Any] | None) -> str:
    """The page. `gauges`: the server's; `metrics`, `errors`: what `monitoring.metrics` and `errors.stats` answer,
    where they are installed."""
    families: list[str] = []
    for name, value in gauges.items():
        families.append(family(f"tidegate_{name}", "gauge", f"The level {name}.", [({}, value)]))
    if metrics is not None:
        families += _calls(metrics)
    if errors is not None:
        rows = [({"code": str(row["code"]), "type": row["type"]}, row["count"]) for row in errors.get("by_code", [])]
        families.append(family("tidegate_faults_total", "counter", "Faults by code, since the last reset.", rows))
    return "".join(families)


def _calls(metrics: Mapping[str, Any]) -> Iterable[str]:
    since, rows = metrics.get("since_start", {}), metrics.get("calls", [])
    window = metrics.get("seconds", 0)
    yield family("tidegate_calls_total", "counter", "Calls since the start.", [({}, since.get("calls", 0))])
    yield family("tidegate_failed_calls_total", "counter", "Of those, failed.", [({}, since.get("failed", 0))])
    rates = [({"command": row["command"]}, row["per_s"]) for row in rows]
    yield family("tidegate_calls_per_second", "gauge", f"Calls a second in the last {window} s.", rates)
    failed = [({"command": row["command"]}, row["failed_percent"] / 100) for row in rows]
    yield family("tidegate_failed_ratio", "gauge", f"Of those, the part that failed, in the last {window} s.", failed)
    quantiles = [
        ({"command": row["command"], "quantile": quantile}, row[key] / 1000)
        for row in rows
        for quantile, key in (("0.5", "p50_ms"), ("0.9", "p90_ms"), ("0.99", "p99_ms"), ("0.999", "p999_ms"))
    ]
    yield family("tidegate_call_seconds", "gauge", f"How long calls took in the last {window} s.", quantiles)
    alerts = [({"name": row["name"], "severity": row["severity"]}, 1) for row in metrics.get("alerts", [])]
    yield family("tidegate_alert", "gauge", "Alerts that are raised.", alerts)


def family(name: str, kind: str, help: str, samples: Iterable[Sample]) -> str:
    """One metric with its samples; nothing where there is none."""
    name = _NOT_NAME.sub("_", name)
    lines = [f"{name}{_labels(labels)} {number(value)}\n" for labels, value in samples]
    if not lines:
        return ""
    help = help.replace("\\", r"\\").replace("\n", r"\n")
    return f"# HELP {name} {help}\n# TYPE {name} {kind}\n{''.join(lines)}"


def _labels(labels: Labels) -> str:
    if not labels:
        return ""
    return "{" + ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items()) + "}"


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def number(value: float) -> str:
    if isnan(value):
        return "NaN"
    if isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    return repr(float(value))
