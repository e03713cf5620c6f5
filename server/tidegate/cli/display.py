"""What the command line prints: columns, JSON and faults; colours on a terminal only."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, TextIO

import click

if TYPE_CHECKING:
    from rich.console import Console

    from tidegate.faults import Fault

#: What a client can do about a fault (docs/protocol.md, Errors).
RECOVERIES = {
    "retry": "the same call may succeed at once",
    "retry_later": "the same call may succeed later",
    "authenticate": "log in, or send a token",
    "fix_request": "correct the request; the same one fails again",
    "disconnect": "the connection is of no more use",
    "contact_support": "tell the operator the request id",
    "none": "nothing; this is the answer",
}
PIPE_WIDTH = 100_000  # no line is wrapped where a program reads it
_STYLES = {"ok": "green", "broken": "bold red"}


def printable(text: object, keep: str = "\n") -> str:
    """`text` with everything escaped that could steer a terminal: it may come from anybody."""
    text = str(text)
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in keep else c.encode("unicode_escape").decode() for c in text)


@cache
def console(err: bool = False) -> Console:
    """Standard output, or standard error, of this process."""
    from rich.console import Console

    stream: TextIO = sys.stderr if err else sys.stdout
    return Console(stderr=err, highlight=False, markup=False, width=None if stream.isatty() else PIPE_WIDTH)


def note(text: str) -> None:
    """Something beside the answer, for people: on standard error."""
    click.secho(printable(text), fg="yellow", err=True, color=coloured(err=True))


def coloured(err: bool = False) -> bool | None:
    """For click: False where the user wants no colours, else None, which looks for a terminal."""
    return False if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb" else None


def echo(text: str = "") -> None:
    click.echo(text, color=coloured())


# --- JSON -----------------------------------------------------------------------------------------


def dumped(value: object, indent: int | None = None) -> str:
    """JSON with readable letters of every language, and nothing that steers a terminal."""
    text = json.dumps(value, ensure_ascii=False, indent=indent, default=str)
    # Outside strings JSON is ASCII, so what is left to escape stands in strings.
    return "".join(c if c.isprintable() or c == "\n" else json.dumps(c)[1:-1] for c in text)


def emit(value: object) -> None:
    """For programs: one line of JSON."""
    click.echo(dumped(value))


def show_json(value: object) -> None:
    """For people: indented, in colours on a terminal."""
    text = dumped(value, indent=2)
    if not sys.stdout.isatty():
        return click.echo(text)
    from rich.highlighter import JSONHighlighter

    console().print(JSONHighlighter()(text), soft_wrap=True)


# --- columns --------------------------------------------------------------------------------------


def table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Aligned columns, folded where a terminal is too narrow for them. No line has blanks at its end."""
    from rich.table import Table
    from rich.text import Text

    cells = [[printable(cell, keep="") for cell in row] for row in rows]
    grid = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for index, name in enumerate(columns):
        # Names stay whole; sentences, lists and whatever stands last are folded.
        folds = index == len(columns) - 1 or any(" " in row[index] for row in cells)
        grid.add_column(name, no_wrap=not folds, overflow="fold" if folds else "ellipsis")
    for row in cells:
        grid.add_row(*(Text(cell, style=_STYLES.get(cell.partition(":")[0], "")) for cell in row))
    target = console()
    with target.capture() as captured:
        target.print(grid)
    for line in captured.get().splitlines():
        click.echo(line.rstrip(), color=True if target.color_system else None)


def pairs(rows: Mapping[str, object], indent: str = "") -> None:
    """`name  value` lines, aligned; empty values are left out."""
    told = {name: value for name, value in rows.items() if value not in (None, "", [], ())}
    width = max(map(len, told), default=0)
    for name, value in told.items():
        echo(f"{indent}{click.style(name.ljust(width), fg='cyan')}  {printable(value)}")


def heading(text: str) -> str:
    return click.style(text, bold=True)


# --- faults ---------------------------------------------------------------------------------------


def fault_object(fault: Fault) -> dict[str, Any]:
    """The fault as on the wire."""
    return fault.error_object(request_of(fault))


def request_of(fault: Fault) -> str:
    return str(getattr(fault, "request_id", None) or fault.data.get("request_id") or "")


def show_fault(fault: Fault) -> None:
    """Code, name, message, fields, recovery and request id, on standard error."""
    colour = coloured(err=True)

    def tell(text: str) -> None:
        click.echo(text, err=True, color=colour)

    title = click.style(f"{fault.code} {fault.type}", fg="red", bold=True)
    tell(f"{title}: {printable(fault.message)}")
    if len(fault.errors) > 1 or any(error.message != fault.message for error in fault.errors):
        for error in fault.errors:
            tell(f"  {printable(error.field)}: {printable(error.message)} ({printable(error.type)})")
    rows = {
        "recovery": f"{fault.recovery}: {RECOVERIES.get(fault.recovery, '')}".rstrip(": "),
        "retry after": f"{fault.retry_after:g} s" if fault.retry_after is not None else "",
        **{name: dumped(value) for name, value in fault.data.items() if name != "request_id"},
        "request id": request_of(fault),
    }
    width = max(map(len, rows))
    for name, value in rows.items():
        if value:
            tell(f"  {click.style(name.ljust(width), fg='cyan')}  {printable(value)}")
