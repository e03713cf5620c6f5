"""`tidegate security audit`: the audit trail, read where it lies."""

from __future__ import annotations

import json
import re
import sys
from collections import deque
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click
from tidegate.cli.options import REFUSED, as_json, refuse

from tidegate_security.cli import FILE, FOLDER, cell, security
from tidegate_security.search import Wanted, forwards


@security.group()
def audit() -> None:
    """The audit trail. It is read from the server's data folder; the server need not run."""


_data = click.option(
    "--data",
    type=FOLDER,
    required=True,
    metavar="DIR",
    help="The server's data folder.",
)


def _trail(data: Path) -> Path:
    """The folder of the trail: DATA/security, or DATA itself where that holds one."""
    for folder in (data / "security", data):
        if (folder / "audit.jsonl").exists() or (folder / "audit.key").exists():
            return folder
    refuse(f"there is no audit trail in {data}")


@audit.command()
@_data
@click.option("--key", type=FILE, metavar="FILE", help="The key, if it was moved away.")
@click.option(
    "--checkpoints",
    type=FILE,
    metavar="FILE",
    help="The checkpoints, if they are elsewhere.",
)
@as_json
def verify(data: Path, key: Path | None, checkpoints: Path | None, as_json: bool) -> None:
    """Say whether the trail is as it was written. If not, what was changed, left out, moved or cut off.

    What was written after the last checkpoint (at most 256 entries and 60 s of a running server) can be cut off unseen.
    The exit code is 1 when something is wrong.
    """
    from tidegate_security.audit import Key
    from tidegate_security.verify import verify as check

    folder = _trail(data)
    try:
        found = check(folder, Key.read(key or folder / "audit.key"), checkpoints)
    except (OSError, ValueError) as error:
        refuse(str(error))
    if as_json:
        from tidegate.cli.display import emit

        emit(
            {
                "entries": found.entries,
                "checkpoints": found.checkpoints,
                "problems": [p._asdict() for p in found.problems],
            }
        )
    else:
        click.echo(f"{found.entries} entries, {found.checkpoints} checkpoints, {len(found.problems)} problems")
        for problem in found.problems:
            click.echo(f"{problem.where}: {problem.kind}: {problem.what}")
    sys.exit(REFUSED if found.problems else 0)


def _print(entries: Iterable[dict[str, Any]], as_json: bool) -> None:
    from tidegate.cli.display import emit, printable

    for entry in entries:
        if as_json:
            emit(entry)
            continue
        rest = {
            k: v
            for k, v in entry.items()
            if k not in ("ts", "event", "severity", "seq", "prev", "mac", "key") and v not in (None, "", [])
        }
        said = " ".join(
            f"{name}={json.dumps(value) if isinstance(value, dict) else cell(value)}" for name, value in rest.items()
        )
        head = f"{entry.get('seq', '-'):>6} {entry.get('ts', '-')} {entry.get('severity', '-'):8} {entry.get('event')}"
        click.echo(printable(f"{head} {said}", keep=""))


@audit.command()
@_data
@click.option("-n", "--lines", default=20, show_default=True, help="How many.")
@as_json
def tail(data: Path, lines: int, as_json: bool) -> None:
    """Show the last entries."""
    _print(list(deque(forwards(_trail(data)), maxlen=lines)), as_json)


@audit.command()
@_data
@click.option("--event", default="", metavar="TEXT", help="Events whose name contains this.")
@click.option("--address", default="", metavar="ADDRESS", help="Of this address or network.")
@click.option("--user", default="", metavar="ID", help="Of this account, or by this actor.")
@click.option(
    "--severity",
    type=click.Choice(["low", "medium", "high", "critical"]),
    help="Of this severity.",
)
@click.option(
    "--since",
    default="",
    metavar="TIME",
    help="UTC, as 2026-01-31 or 2026-01-31T12:00.",
)
@click.argument("text", required=False, default="")
@as_json
def search(
    data: Path,
    event: str,
    address: str,
    user: str,
    severity: str | None,
    since: str,
    text: str,
    as_json: bool,
) -> None:
    """Show the entries that match all that is given. TEXT is looked for in the whole entry."""
    if since and not re.fullmatch(r"\d{4}-\d\d-\d\d(T[\d:.]*Z?)?", since):
        raise click.BadParameter("expected 2026-01-31 or 2026-01-31T12:00", param_hint="--since")

    wanted = Wanted(event, address, user, severity or "", since, "", text)
    _print(filter(wanted.fits, forwards(_trail(data))), as_json)
