"""What `tidegate report` prints."""

from __future__ import annotations

import time
from typing import Any

from tidegate.cli.display import echo, heading, pairs, table

from tidegate_monitoring.cli_top import age, mib, ms


def show(report: dict[str, Any]) -> None:
    total, before = report["total"], report["before"]
    seen = f"{age(report['seconds'])} seen of {report['span']}"
    until = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(report["until"]))
    echo(heading(f"Until {until} ({seen})"))
    pairs({"calls": _calls(total), "before": _calls(before) if before else "", **_loop(report)}, "  ")
    _rows("Busiest", report["busiest"])
    _rows("Slowest", report["slowest"])
    _rows("Failing", report["failing"])
    _changes(report["changes"])
    _decorators(report["decorators"])
    _rest(report)
    _recommendations(report["recommendations"])


def _calls(row: dict[str, Any]) -> str:
    failed = f"{row['failed_percent']:.2f} % failed"
    return f"{row['count']:,} ({row['per_s']:,.2f}/s), {failed}, p50 {ms(row['p50_ms'])}, p99 {ms(row['p99_ms'])}"


def _loop(report: dict[str, Any]) -> dict[str, str]:
    loop, gc, blocked = report["loop"], report["gc"], sum(report["loop"]["blocked"].values())
    return {
        "loop lag": f"p99 {ms(loop['p99_ms'])}, at most {ms(loop['max_ms'])}, blocked {blocked} times",
        "gc": f"{gc['pauses']:,} pauses, p99 {ms(gc['p99_ms'])}, at most {ms(gc['max_ms'])}",
    }


def _rows(title: str, rows: list[dict[str, Any]]) -> None:
    if not rows:
        return
    echo("\n" + heading(title))
    columns = ("command", "calls", "calls/s", "failed", "p50", "p99", "max", "errors")
    table(
        columns,
        [
            (
                each["command"],
                f"{each['count']:,}",
                f"{each['per_s']:,.2f}",
                f"{each['failed_percent']:.2f} %",
                *(ms(each[key]) for key in ("p50_ms", "p99_ms", "max_ms")),
                " ".join(f"{code}×{count}" for code, count in each["errors"].items()),
            )
            for each in rows
        ],
    )


def _changes(rows: list[dict[str, Any]]) -> None:
    if not rows:
        return
    echo("\n" + heading("Changed since the time before"))
    cells = [(r["command"], r["what"], f"{r['before']:g}", f"{r['now']:g}", f"× {r['factor']:g}") for r in rows]
    table(("command", "what", "before", "now", "factor"), cells)


def _decorators(rows: list[dict[str, Any]]) -> None:
    if not rows:
        return
    echo("\n" + heading("Decorators, of the calls that were traced"))
    cells = [
        (r["decorator"], r["traced"], *(f"{r[key]:g} µs" for key in ("mean_us", "p50_us", "p99_us"))) for r in rows
    ]
    table(("decorator", "traced", "mean", "p50", "p99"), cells)


def _rest(report: dict[str, Any]) -> None:
    resources, connections = report["resources"], report["connections"]
    echo("\n" + heading("Resources and connections"))
    shown: dict[str, str] = {}
    for name, each in resources.items():
        if name.startswith("monitoring.") and not name.endswith(("alerts_raised", "statsd_lost", "history_bytes")):
            text = mib if name.endswith("_bytes") else lambda value: f"{value:g}"
            shown[name.removeprefix("monitoring.")] = (
                f"{text(each['last'])} (from {text(each['low'])} to {text(each['high'])})"
            )
    closed = ", ".join(f"{reason} {count:,}" for reason, count in connections["closed"].items())
    shown["connections"] = f"{connections['opened']:,} opened; closed: {closed or 'none'}"
    shown["bytes"] = f"{connections['bytes_in']:,} in, {connections['bytes_out']:,} out"
    shown["security"] = ", ".join(f"{topic} {count:,}" for topic, count in report["security"].items())
    shown["alerts"] = ", ".join(f"{each['name']} ({each['severity']})" for each in report["alerts"])
    pairs(shown, "  ")


def _recommendations(rows: list[dict[str, Any]]) -> None:
    echo("\n" + heading("Recommendations"))
    if not rows:
        echo("  none")
    for each in rows:
        evidence = ", ".join(f"{name} {value:g}" for name, value in each["evidence"].items())
        echo(f"  {each['subject']}: {each['text']}")
        echo(f"    because of {evidence}")
