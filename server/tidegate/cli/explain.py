"""`tidegate explain`: what a call passes on its way to the command."""

from __future__ import annotations

from typing import Any

import click

from tidegate.cli.call import complete_method, microseconds
from tidegate.cli.display import dumped, echo, emit, heading, note, pairs, table
from tidegate.cli.options import Configuration, as_json, configured, refuse
from tidegate.cli.remote import Remote, remote, running


@click.command()
@click.argument("method", shell_complete=complete_method)
@click.option(
    "--cost", is_flag=True, help="What each layer takes, on average: needs --data, or --connect as an administrator."
)
@configured
@remote
@as_json
@click.pass_context
def explain(
    ctx: click.Context,
    method: str,
    cost: bool,
    configuration: Configuration,
    remote: Remote,
    as_json: bool,
) -> None:
    """Show the decorators that a call to METHOD passes, outermost first.

    Each with its plugin, ring and source line. --cost measures the next 20 calls of a running server,
    or those of the next 2 seconds.

    \b
    Examples:
      tidegate explain message.send
      tidegate explain message.send --config etc/tidegate.toml
      tidegate explain message.send --data ./data --cost
    """
    if running(ctx, configuration, remote):
        with remote.connected(as_json) as client:
            found = client.call("system.explain", method=method, cost=cost)
    elif cost:
        raise click.UsageError("--cost needs a running server: name it with --data or --connect")
    else:
        found = explained_by(configuration, method)
    if as_json:
        return emit(found)
    show(found)


def explained_by(configuration: Configuration, method: str) -> dict[str, Any]:
    from tidegate.cli.look import listing
    from tidegate.core import explained
    from tidegate.nearest import hint

    routes = listing(configuration).routes
    if method not in routes:
        refuse(f"no command is called {method!r}{hint(method, routes)}; `tidegate commands` lists them")
    return explained(routes[method], None)


def show(found: dict[str, Any]) -> None:
    measured = "calls" in found
    echo(heading(found["method"]))
    table(
        ("ring", "plugin", *(("time",) if measured else ()), "where"),
        [
            (each["ring"], each["plugin"], *((microseconds(each["seconds"]),) if measured else ()), each["where"])
            for each in found["layers"]
        ],
    )
    echo()
    said = {each["plugin"]: each["explain"] for each in found["layers"] if "explain" in each}
    # `tidegate commands METHOD` tells of the parameters and the result.
    notes = {name: one for name, one in found["notes"].items() if name not in ("params", "result", "timeout")}
    told = {name: one if isinstance(one, str) else dumped(one) for name, one in notes.items()}
    pairs({**said, "timeout": f"{found['timeout_s']:g} s", **told})
    if measured:
        note(f"measured over {found['calls']} calls" if found["calls"] else "nobody called it in these 2 seconds")
