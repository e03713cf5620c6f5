"""`tidegate faults`: the catalogue, and what one fault means."""

from __future__ import annotations

import inspect
import re
from typing import TYPE_CHECKING, Any

import click

from tidegate.cli.display import RECOVERIES, echo, emit, heading, note, pairs, table
from tidegate.cli.options import as_json, refuse

if TYPE_CHECKING:
    from tidegate.faults import Catalogue, Fault


@click.command()
@click.argument("which", metavar="[CODE|NAME]", required=False)
@as_json
def faults(which: str | None, as_json: bool) -> None:
    """Every fault that a client may get, or one explained.

    The faults of installed plugins are listed too, with their owner.

    \b
    Examples:
      tidegate faults
      tidegate faults 1107
      tidegate faults RequiredFieldMissing
      tidegate faults 14xx
    """
    known = whole_catalogue()
    if which is None or re.fullmatch(r"\d\dxx", which):
        rows = [row(kind, known) for code, kind in known.items() if which is None or str(code)[:2] == which[:2]]
        if not rows:
            refuse(f"no fault has a code {which}")
        if as_json:
            return emit(rows)
        return listed(rows)
    kind = find(which, known)
    if as_json:
        return emit(row(kind, known))
    explain(row(kind, known))


def whole_catalogue() -> Catalogue:
    """The core's faults and those that installed plugins offer; what can't be offered is told."""
    from tidegate.faults import catalogue, merge
    from tidegate.registry import find

    known = catalogue()
    found, broken = find(lambda name: True)
    for each in broken:
        note(f"warning: without the faults of {each}")
    for one in found:
        try:
            _, classes = one.type.offers.get("faults", ("", ()))
            known = merge(known, one.name, classes)
        except Exception as error:
            note(f"warning: without the faults of {one}: {error}")
    return known


def find(which: str, known: Catalogue) -> type[Fault]:
    """The fault of a code or a name, in whatever case."""
    from tidegate.nearest import hint

    names = {kind.__name__.lower(): kind for kind in known.values()}
    kind = known.get(int(which)) if which.isdecimal() else names.get(which.lower())
    if kind is None:
        near = "" if which.isdecimal() else hint(which, [one.__name__ for one in known.values()])
        refuse(f"no fault is called {which!r}{near}; `tidegate faults` lists them")
    return kind


def row(kind: type[Fault], known: Catalogue) -> dict[str, Any]:
    outer = kind().outer_code
    return {
        "code": kind.code,
        "name": kind.__name__,
        "family": kind.__mro__[1].__name__,
        "outer_code": outer,
        "severity": kind.severity,
        "log_level": kind.level,
        "recovery": kind.recovery,
        "closes": kind.closes,
        "message": kind.message,
        "when": inspect.getdoc(kind) or "",
        "plugin": known.owners[kind.code],
    }


def listed(rows: list[dict[str, Any]]) -> None:
    """The owners are told where there are several."""
    names = ["code", "name", "recovery", "message"]
    if any(each["plugin"] != "tidegate" for each in rows):
        names.insert(3, "plugin")
    table(names, [[each[name] for name in names] for each in rows])


def explain(row: dict[str, Any]) -> None:
    title = heading(f"{row['code']} {row['name']}")
    echo(f"{title}  ({row['family']}, from {row['plugin']})")
    echo(f"\n  {row['when']}\n")
    outer = row["outer_code"]
    pairs(
        {
            "message": row["message"],
            "recovery": f"{row['recovery']}: {RECOVERIES[row['recovery']]}",
            "severity": f"{row['severity']}, logged as {row['log_level']}",
            "connection": "closes after this reply" if row["closes"] else "stays open",
            "on the wire": f"error.code {outer}, error.data.code {row['code']}"
            if outer != row["code"]
            else f"error.code {outer}",
        },
        indent="  ",
    )
