"""`tidegate call`: one call of a running server's command."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem

from tidegate.cli.arguments import Method, Misused, kinds, missing_secrets, parameters
from tidegate.cli.display import dumped, emit, note, show_json, table
from tidegate.cli.options import as_json
from tidegate.cli.remote import Remote, described, remote

if TYPE_CHECKING:
    from tidegate.client import Client, Reply

COMPLETION_S = 1.0  # a shell waits for it


def complete_method(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The names of the commands that the server, if it answers, offers."""
    return [
        CompletionItem(name, help=method.get("summary"))
        for name, method in _methods(ctx).items()
        if name.startswith(incomplete)
    ]


def complete_argument(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    method = _methods(ctx).get(ctx.params.get("method", ""))
    given = {word.partition("=")[0].removesuffix(":") for word in ctx.params.get("arguments") or ()}
    return [CompletionItem(text, help=help) for text, help in candidates(method, given, incomplete)]


def candidates(method: Method | None, given: set[str], incomplete: str) -> list[tuple[str, str]]:
    """(text, help) of what may come next: `room=`, or `on=true` where the values are known."""
    name, equals, start = incomplete.partition("=")
    found = []
    for param in method["params"] if method is not None else ():
        help = param.get("description") or " or ".join(kinds(param["schema"]))
        if equals and param["name"] == name:
            found += [(f"{name}={each}", help) for each in values_of(param["schema"]) if each.startswith(start)]
        elif not equals and param["name"].startswith(name) and param["name"] not in given:
            found.append((f"{param['name']}=", help))
    return found


def values_of(schema: dict[str, Any]) -> list[str]:
    """The values that a schema lists."""
    if "enum" in schema:
        return [each if isinstance(each, str) else dumped(each) for each in schema["enum"]]
    return ["true", "false"] if "boolean" in kinds(schema) else []


def _methods(ctx: click.Context) -> dict[str, dict[str, Any]]:
    try:
        given = {name: ctx.params.get(name) for name in Remote.__dataclass_fields__}
        with Remote(**{**given, "timeout": COMPLETION_S}).client() as client:  # type: ignore[arg-type]
            return described(client)
    except Exception:  # no server, no suggestions
        return {}


@click.command()
@click.argument("method", shell_complete=complete_method)
@click.argument("arguments", nargs=-1, metavar="[NAME=VALUE]…", shell_complete=complete_argument)
@click.option(
    "--params", "whole", metavar="JSON", help="All parameters as one JSON value; - reads it from standard input."
)
@click.option("--key", metavar="TEXT", help="Idempotency key: a repeat of a call that was committed runs nothing.")
@click.option("--trace", is_flag=True, help="Show the time that each decorator took (administrators).")
@as_json
@remote
def call(
    remote: Remote,
    method: str,
    arguments: tuple[str, ...],
    whole: str | None,
    key: str | None,
    trace: bool,
    as_json: bool,
) -> None:
    """Call METHOD of a running server and print its result, which is JSON.

    A VALUE gets its type from the command's own schema: n=3 is a number where the command takes one,
    and text where it takes text. NAME:=JSON says it exactly, a NAME given again adds to a list, and
    values without a NAME go by order. Required passwords are asked for when they are not given.

    \b
    Examples:
      tidegate call system.ping
      tidegate call message.send room=lobby text='hi there'
      tidegate call room.create name=news private=true members:='["ann", "bob"]'
      tidegate call security.blocks --data ./data --json

    With --json it is {"result": …} on one line, or {"error": …}.

    The exit code is 1 when the server answers with a fault, 3 when it does not answer.
    """
    with remote.connected(as_json) as client:
        reply = ask(
            client,
            lambda: described(client).get(method),
            method=method,
            arguments=arguments,
            whole=whole,
            key=key,
            trace=trace,
            timeout=remote.timeout,
        )
    tell(reply, as_json)


def ask(
    client: Client,
    known: Callable[[], Method | None],
    *,
    method: str,
    arguments: Sequence[str],
    whole: str | None,
    key: str | None,
    trace: bool,
    timeout: float,
) -> Reply:
    """Call, with parameters typed by what is `known` of the method. Raises UsageError, the Fault, or OSError."""
    try:
        params = given(known, arguments, whole)
    except Misused as error:
        raise click.UsageError(str(error)) from None
    return client.request(method, params, timeout=timeout, idempotency_key=key, trace=trace)


def given(known: Callable[[], Method | None], words: Sequence[str], whole: str | None) -> Any:
    """The parameters of a call, typed; secrets that it needs are asked for. Raises Misused."""
    if whole is not None:
        if words:
            raise Misused("give either NAME=VALUE or --params, not both")
        return from_json(sys.stdin.read() if whole == "-" else whole)
    people = sys.stdin.isatty()
    method = known() if words or people else None
    params = parameters(words, method)
    if people and isinstance(params, dict):
        for name in missing_secrets(method, params):
            params[name] = click.prompt(name, hide_input=True, err=True)
    return params


def from_json(text: str) -> Any:
    import json

    try:
        params = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Misused(f"--params: expected JSON, got something else ({error})") from None
    if not isinstance(params, dict | list):
        raise Misused("--params: expected a JSON object or array")
    return params


def tell(reply: Reply, as_json: bool) -> None:
    """The result on standard output; for people, what is to be said about it beside it."""
    if as_json:
        extra: dict[str, Any] = {"stale": True} if reply.stale else {}
        return emit({"result": reply.result, **extra, **({"trace": reply.trace} if reply.trace else {})})
    show_json(reply.result)
    if reply.stale:
        note("stale: the server answered with an older value")
    if reply.trace:
        table(("layer", "time"), [(name, microseconds(took)) for name, took in reply.trace.items()])


def microseconds(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds * 1e6:.1f} µs"
