"""`tidegate commands`: what may be called, and how."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from tidegate.cli.arguments import Method, is_secret, kinds
from tidegate.cli.display import dumped, echo, emit, heading, pairs, printable, table
from tidegate.cli.options import Configuration, as_json, configured, refuse
from tidegate.cli.remote import Remote, described, remote, running

if TYPE_CHECKING:
    from tidegate.cli.look import Looked


@click.command()
@click.argument("method", required=False)
@configured
@remote
@as_json
@click.pass_context
def commands(
    ctx: click.Context, method: str | None, configuration: Configuration, remote: Remote, as_json: bool
) -> None:
    """List the commands, or explain METHOD: its parameters and faults.

    Without --data or --connect it looks at what would be served and starts nothing; with one of them
    it asks the running server for the commands that you may use.

    \b
    Examples:
      tidegate commands
      tidegate commands --commands shop.commands
      tidegate commands message.send --connect 127.0.0.1:7420
    """
    from tidegate.nearest import hint

    if asks := running(ctx, configuration, remote):
        with remote.connected(as_json) as client:
            known = described(client)
    else:
        from tidegate.cli.look import listing

        known = described_by(listing(configuration))
    if method is None:
        if as_json:
            return emit(list(known.values()))
        return listed(known)
    if method not in known:
        which = "that you may use " if asks else ""
        refuse(f"no command {which}is called {method!r}{hint(method, known)}; `tidegate commands` lists them all")
    if as_json:
        return emit(known[method])
    explain(known[method])


def described_by(server: Looked) -> dict[str, dict[str, Any]]:
    """Every command of a server, by name: OpenRPC method objects."""
    from tidegate import discover

    return {name: discover.method(route.command) for name, route in server.routes.items()}


def listed(methods: Mapping[str, Method]) -> None:
    table(
        ("command", "requires", "plugin", "summary"),
        [(name, m.get("x-requires", "-"), m.get("x-plugin", "?"), m.get("summary", "")) for name, m in methods.items()],
    )


def explain(method: Method, before: str = "tidegate call ") -> None:
    """One command for people: how to call it, what it takes, what it may answer."""
    told = [usage(param) for param in method["params"]]
    echo(heading(before + printable(" ".join([method["name"], *told]))))
    if text := method.get("description") or method.get("summary"):
        echo("\n" + "\n".join(f"  {line}".rstrip() for line in printable(text).splitlines()))
    echo()
    pairs({param["name"]: about(param) for param in method["params"]}, indent="  ")
    faults = [f"{fault['code']} {fault['data']['type']}" for fault in method.get("errors", ())]
    rows = {
        "result": about({"schema": method["result"]["schema"], "required": True}),
        "requires": method.get("x-requires", ""),
        "plugin": method.get("x-plugin", ""),
        "faults": ", ".join(faults),
        "deprecated": "yes" if method.get("deprecated") else "",
    }
    if method["params"]:
        echo()
    pairs(rows, indent="  ")


def usage(param: Mapping[str, Any]) -> str:
    name = param["name"]
    return f"{name}=…" if param.get("required") else f"[{name}=…]"


def about(param: Mapping[str, Any]) -> str:
    """`string, 1 to 64 characters, default "en": what it is`."""
    schema = param["schema"]
    told = [" or ".join(kinds(schema)) or "any JSON value"]
    if "enum" in schema:
        told.append("one of " + ", ".join(map(dumped, schema["enum"])))
    for keywords, unit in (
        (("minimum", "maximum"), ""),
        (("minLength", "maxLength"), " characters"),
        (("minItems", "maxItems"), " items"),
    ):
        low, high = (schema.get(keyword) for keyword in keywords)
        if low is not None and high is not None:
            told.append(f"{low} to {high}{unit}")
        elif low is not None:
            told.append(f"at least {low}{unit}")
        elif high is not None:
            told.append(f"at most {high}{unit}")
    if "pattern" in schema:
        told.append(f"matching {schema['pattern']}")
    if "default" in schema:
        told.append(f"default {dumped(schema['default'])}")
    if is_secret(param):
        told.append("secret: asked for when left out" if param.get("required") else "secret")
    help = f": {param['description']}" if param.get("description") else ""
    return ", ".join(told) + help
