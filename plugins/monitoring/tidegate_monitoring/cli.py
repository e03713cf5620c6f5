"""`tidegate top`, `tidegate report`: a running server's figures, over the wire."""

from __future__ import annotations

import sys

import click
from tidegate.cli.display import emit
from tidegate.cli.options import as_json
from tidegate.cli.remote import Remote, remote

SORTS = ("calls", "failed", "p99", "name")


@click.command()
@remote
@click.option(
    "--every", type=click.FloatRange(0.2, 3600), default=2.0, show_default=True, help="Seconds between looks."
)
@click.option(
    "--over", type=click.IntRange(1, 60), default=10, show_default=True, help="Seconds that rates are taken over."
)
@click.option("--sort", type=click.Choice(SORTS), default="calls", show_default=True, help="Which commands come first.")
@click.option("--once", is_flag=True, help="Print one look and end; so it does where the output is no terminal.")
@as_json
def top(remote: Remote, every: float, over: int, sort: str, once: bool, as_json: bool) -> None:
    """Watch a server live: rates, latencies, errors, alerts.

    Connections, machine and how late the event loop is, too. Only administrators may: use --data DIR on the server's
    own machine, or --token.

    \b
    Keys: q quit, s sort by the next column, p pause, + and - look more or less often.
    \b
    Examples:
      tidegate top --data ./data
      tidegate top --connect chat.example:7420 --tls --every 5
    """
    from tidegate_monitoring import cli_top

    with remote.connected(as_json) as client:
        look = cli_top.Look(client, over)
        if as_json:
            return emit(look.take())
        if once or not (sys.stdout.isatty() and sys.stdin.isatty()):
            return cli_top.once(look, remote.name, sort)
        cli_top.watch(look, remote.name, sort, every)


@click.command()
@remote
@click.option(
    "--span", type=click.Choice(("15m", "1h", "1d")), default="15m", show_default=True, help="How far to look back."
)
@as_json
def report(remote: Remote, span: str, as_json: bool) -> None:
    """Report on the last minutes, hour or day, with recommendations.

    The busiest, slowest and most failing commands, what has changed, resources, and what to do about it.

    \b
    Examples:
      tidegate report --data ./data
      tidegate report --span 1d --json | jq .recommendations
    """
    from tidegate_monitoring import cli_report

    with remote.connected(as_json) as client:
        found = client.call("monitoring.report", span=span)
    if as_json:
        emit(found)
    else:
        cli_report.show(found)
