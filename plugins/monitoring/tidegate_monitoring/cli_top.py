"""What `tidegate top` draws, and the keys it takes."""

from __future__ import annotations

import os
import re
import select
import sys
import termios
import time
import tty
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich.console import Console, ConsoleDimensions, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text
from tidegate.cli.display import console, printable
from tidegate.cli.remote import reason_of
from tidegate.faults import Fault

from tidegate_monitoring.cli import SORTS

if TYPE_CHECKING:
    from rich.console import RenderableType
    from tidegate import Client

#: How long a look may take, with all that the client tries; keys wait meanwhile.
PATIENCE_S = 3.0
BARS = "▁▂▃▄▅▆▇█"
_SEQUENCES = re.compile(r"\x1b(\[[0-9;?]*.|O.)?")
#: Figures from which a value is shown yellow, and red.
LIMITS = {"failed_percent": (1, 10), "p99_ms": (250, 1000), "lag_ms": (20, 100), "cpu": (70, 90), "disk": (10, 5)}
Found = dict[str, Any]


class Look:
    """Asks a server for its figures, and remembers what a line of bars is drawn from."""

    def __init__(self, client: Client, over: int) -> None:
        self.client = client
        self.over = over
        self.last: Found | None = None
        self.rates: deque[float] = deque(maxlen=60)
        self.lags: deque[float] = deque(maxlen=60)
        self.info: Found | None = None

    def take(self) -> Found:
        """Raises the Fault, or OSError."""
        self.info = self._ask("system.info")
        found = self._ask("monitoring.metrics", {"seconds": self.over})
        self.last = found
        self.rates.append(found["total"]["per_s"])
        self.lags.append(found["loop_lag"]["max_ms"])
        return found

    def _ask(self, method: str, params: Found | None = None) -> Found:
        result: Found = self.client.request(method, params, timeout=PATIENCE_S).result
        return result


def once(look: Look, name: str, sort: str) -> None:
    """One look, as plain lines."""
    look.take()
    console().print(drawn(look, name, sort, rows=10_000, keys=""))


def watch(look: Look, name: str, sort: str, every: float) -> None:
    """Until `q` or Ctrl-C. A server that goes away is waited for."""
    screen, keys, paused, trouble = Console(highlight=False, markup=False), Keys(), False, ""
    with keys.taken(), Live(console=screen, screen=True, auto_refresh=False) as live:
        due = 0.0
        while True:
            if not paused and time.monotonic() >= due:
                trouble, due = _tried(look), time.monotonic() + every
            status = trouble or ("paused" if paused else f"every {every:g} s")
            help = f"q quit  s sort: {sort}  p pause  + - {status}"
            width, height = os.get_terminal_size(sys.stdout.fileno())
            screen.size = ConsoleDimensions(width, height)  # not what LINES and COLUMNS once were
            live.update(drawn(look, name, sort, rows=height, keys=help, trouble=trouble), refresh=True)
            key = keys.wait(max(due - time.monotonic(), 0.05) if not paused else 1.0)
            if key in ("q", "\x1b", "\x03", "\x04"):
                return
            if key == "s":
                sort = SORTS[(SORTS.index(sort) + 1) % len(SORTS)]
            elif key == "p":
                paused, due = not paused, 0.0
            elif key in ("+", "-"):
                every, due = min(max(every / 2 if key == "+" else every * 2, 0.25), 3600.0), 0.0


def _tried(look: Look) -> str:
    try:
        look.take()
    except OSError as error:
        return f"no answer: {reason_of(error)}"
    except Fault as fault:
        if fault.recovery in ("authenticate", "fix_request", "none"):
            raise
        return f"no answer: {fault.message}"  # it shuts down, or is overloaded
    return ""


class Keys:
    """Single keys from the terminal, without Enter; it is put back as it was."""

    def __init__(self) -> None:
        self._fd = sys.stdin.fileno()
        self._typed: deque[str] = deque()

    @contextmanager
    def taken(self) -> Iterator[None]:
        before = termios.tcgetattr(self._fd)
        tty.setcbreak(self._fd)
        try:
            yield
        except KeyboardInterrupt:
            pass
        finally:
            termios.tcsetattr(self._fd, termios.TCSADRAIN, before)

    def wait(self, seconds: float) -> str:
        """The next key, or "" after so many seconds. Arrows and the like are none."""
        if not self._typed and select.select([self._fd], [], [], seconds)[0]:
            typed = os.read(self._fd, 64).decode("ascii", "replace")
            if not typed:
                return "q"  # the terminal is gone
            self._typed.extend(typed if typed == "\x1b" else _SEQUENCES.sub("", typed))
        return self._typed.popleft() if self._typed else ""


# --- the picture ----------------------------------------------------------------------------------


def drawn(look: Look, name: str, sort: str, *, rows: int, keys: str, trouble: str = "") -> RenderableType:
    """At most `rows` lines."""
    found = look.last
    foot = Text(printable(keys), "red" if trouble else "dim")
    if found is None:
        return Group(Text(f"{name}: {trouble or 'no figures yet'}", "red"), foot)
    head = [_title(look, name, found), _totals(look, found), _machine(look, found), *_alerts(found), Text("")]
    for line in (*head, foot):
        line.no_wrap, line.overflow = True, "ellipsis"
    left = max(rows - len(head) - (2 if keys else 1), 1)
    return Group(*head, _commands(found, sort, left), *([foot] if keys else []))


def _title(look: Look, name: str, found: Found) -> Text:
    info = look.info or {}
    text = Text.assemble((printable(info.get("name", "tidegate")), "bold"), f" {printable(info.get('version', ''))}")
    text.append(f" on {printable(name)}, up {age(info.get('uptime_s', 0))}", "dim")
    text.append(f", {time.strftime('%H:%M:%S', time.localtime(found['at']))}", "dim")
    if info.get("maintenance"):
        text.append("  maintenance", "yellow")
    return text


def _totals(look: Look, found: Found) -> Text:
    total, levels = found["total"], found["levels"]
    text = Text.assemble(("calls ", "cyan"), (f"{total['per_s']:,.1f}/s ", "bold"), _bars(look.rates), "  ")
    text.append("failed ", "cyan").append(
        f"{total['failed_percent']:.2f} %", _style("failed_percent", total["failed_percent"])
    )
    text.append("  p50 ", "cyan").append(ms(total["p50_ms"]))
    text.append("  p99 ", "cyan").append(ms(total["p99_ms"]), _style("p99_ms", total["p99_ms"]))
    text.append("  connections ", "cyan").append(f"{levels.get('core.connections_open', 0):,.0f}")
    text.append("  running ", "cyan").append(f"{levels.get('core.calls_running', 0):,.0f}")
    return text


def _machine(look: Look, found: Found) -> Text:
    levels = found["levels"]
    lag, cpu = found["loop_lag"]["max_ms"], levels.get("monitoring.cpu_percent", 0)
    text = Text.assemble(("loop lag ", "cyan"), (ms(lag), _style("lag_ms", lag)), " ", _bars(look.lags))
    text.append("  cpu ", "cyan").append(f"{cpu:.0f} %", _style("cpu", cpu))
    text.append("  memory ", "cyan").append(mib(levels.get("monitoring.rss_bytes", 0)))
    text.append("  descriptors ", "cyan").append(f"{levels.get('monitoring.descriptors_open', 0):,.0f}")
    if (disk := levels.get("monitoring.disk_free_percent")) is not None:
        text.append("  disk free ", "cyan").append(f"{disk:.0f} %", _style("disk", -disk, falling=True))
    return text


def _alerts(found: Found) -> list[Text]:
    lines = []
    for alert in found["alerts"][:6]:
        style = "bold red" if alert["severity"] == "critical" else "yellow"
        text = Text(f"{alert['severity']:8s} ", style).append(printable(alert["name"]), "bold")
        subject = f" ({printable(alert['subject'])})" if alert["subject"] else ""
        text.append(
            f" {printable(alert['shown'])}{subject}, rule: {printable(alert['rule'])}, for {age(alert['seconds'])}"
        )
        if alert["acknowledged"]:
            text.append("  acknowledged", "dim")
        if alert["silenced"]:
            text.append("  silenced", "dim")
        lines.append(text)
    if len(found["alerts"]) > 6:
        lines.append(Text(f"and {len(found['alerts']) - 6} more alerts", "yellow"))
    return lines


def _commands(found: Found, sort: str, rows: int) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    columns = (
        ("command", "name"),
        ("calls/s", "calls"),
        ("failed", "failed"),
        ("p50", ""),
        ("p90", ""),
        ("p99", "p99"),
        ("max", ""),
    )
    for title, key in columns:
        chosen = "bold reverse" if key == sort else "bold"
        table.add_column(title, justify="left" if title == "command" else "right", header_style=chosen, no_wrap=True)
    table.add_column("errors", overflow="ellipsis", no_wrap=True)
    for each in ordered(found["calls"], sort)[:rows]:
        errors = " ".join(f"{code}×{count}" for code, count in each["errors"].items())
        table.add_row(
            printable(each["command"]),
            f"{each['per_s']:,.1f}",
            Text(f"{each['failed_percent']:.1f} %", _style("failed_percent", each["failed_percent"])),
            *(ms(each[key]) for key in ("p50_ms", "p90_ms")),
            Text(ms(each["p99_ms"]), _style("p99_ms", each["p99_ms"])),
            ms(each["max_ms"]),
            Text(errors, "red"),
        )
    return table


def ordered(calls: list[Found], sort: str) -> list[Found]:
    keys = {
        "calls": lambda each: -each["count"],
        "failed": lambda each: (-each["failed_percent"], -each["failed"]),
        "p99": lambda each: -each["p99_ms"],
        "name": lambda each: each["command"],
    }
    return sorted(calls, key=keys[sort])


def _style(what: str, value: float, falling: bool = False) -> str:
    warn, bad = (-limit for limit in LIMITS[what]) if falling else LIMITS[what]
    return "bold red" if value >= bad else "yellow" if value >= warn else ""


def _bars(values: deque[float], width: int = 20) -> str:
    """The last values as a line of bars, from nothing to the highest."""
    shown = list(values)[-width:]
    high = max(shown, default=0.0)
    return "".join(BARS[min(int(value / high * len(BARS)), len(BARS) - 1)] if high else BARS[0] for value in shown)


def ms(value: float) -> str:
    if value >= 1000:
        return f"{value / 1000:.2f} s"
    return f"{value:.0f} ms" if value >= 10 else f"{value:.2f} ms" if value >= 0.1 else f"{value * 1000:.0f} µs"


def mib(value: float) -> str:
    return f"{value / 2**30:.1f} GiB" if value >= 2**30 else f"{value / 2**20:.0f} MiB"


def age(seconds: float) -> str:
    days, rest = divmod(int(seconds), 86400)
    hours, minutes = divmod(rest // 60, 60)
    if days:
        return f"{days}d {hours}h"
    return f"{hours}h {minutes}m" if hours else f"{minutes}m {rest % 60}s" if minutes else f"{rest}s"
