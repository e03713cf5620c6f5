"""`tidegate plugins`: what is installed, and whether it works."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import click

from tidegate.cli.display import emit, table
from tidegate.cli.options import Configuration, as_json, configured
from tidegate.cli.remote import Remote, remote, running

if TYPE_CHECKING:
    from tidegate.cli.look import Looked
    from tidegate.core import Core


@click.command()
@configured
@remote
@as_json
@click.pass_context
def plugins(ctx: click.Context, configuration: Configuration, remote: Remote, as_json: bool) -> None:
    """List the plugins: version, distribution, hooks, ring and state.

    Without --data or --connect it looks at what is installed and starts nothing; with one of them it
    asks the running server. In the order of their rings, outermost first. A broken plugin is listed
    with its reason.

    \b
    Examples:
      tidegate plugins
      tidegate plugins --config etc/tidegate.toml --json
      tidegate plugins --data ./data
    """
    if running(ctx, configuration, remote):
        with remote.connected(as_json) as client:
            rows = client.call("system.plugins")
    else:
        from tidegate.cli.look import listing

        rows = rows_of(listing(configuration))
    rows.sort(key=place)
    if as_json:
        return emit(rows)
    table(
        ("plugin", "version", "distribution", "ring", "hooks", "state"),
        [
            (
                r["name"],
                r["version"],
                r["distribution"],
                " ".join(r["rings"]) or "-",
                " ".join(r["hooks"]) or "-",
                state(r),
            )
            for r in rows
        ],
    )


def rows_of(server: Looked) -> list[dict[str, Any]]:
    """As `system.plugins` answers, and those that are installed and not enabled."""
    from tidegate.registry import installed

    rows = cast("Core", server.registry.plugins["core"]).plugins()
    told = {row["name"] for row in rows}
    for point in installed():
        if point.name not in told:
            dist = point.dist
            rows.append(
                {
                    "name": point.name,
                    "version": dist.version if dist else "?",
                    "distribution": dist.name if dist else "?",
                    "rings": [],
                    "hooks": [],
                    "commands": 0,
                    "state": "off",
                    "reason": "",
                }
            )
    return rows


def place(row: dict[str, Any]) -> tuple[int, bool, str]:
    """Its outermost ring, the core first in it, those without a ring last."""
    from tidegate.plugin import RINGS

    first = min((RINGS.index(ring) for ring in row["rings"] if ring in RINGS), default=len(RINGS))
    return (first, row["name"] != "core", row["name"])


def state(row: dict[str, Any]) -> str:
    return f"{row['state']}: {row['reason']}" if row["reason"] else str(row["state"])
