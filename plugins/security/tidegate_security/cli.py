"""`tidegate security`: rules tried on texts, blocks and their like on a running server, the audit trail on its disk."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
from tidegate.cli.options import REFUSED, as_json, refuse
from tidegate.cli.remote import Remote, remote

PROFILES = ("free_text", "structured", "identifier")
FILE = click.Path(dir_okay=False, exists=True, path_type=Path)
FOLDER = click.Path(file_okay=False, path_type=Path)


@click.group()
def security() -> None:
    """Blocks, rules and the audit trail.

    \b
    Examples:
      tidegate security scan < texts.jsonl
      tidegate security block 192.0.2.7 --for 3600 --reason "tries passwords" --data ./data
      tidegate security audit verify --data ./data
    """


# --- rules ----------------------------------------------------------------------------------------


@security.command()
@click.option(
    "--profile",
    type=click.Choice(PROFILES),
    default="free_text",
    show_default=True,
    help="What the texts are.",
)
@click.option(
    "--rules",
    "files",
    multiple=True,
    type=FILE,
    metavar="FILE",
    help="More rules, TOML.",
)
@click.option("--off", multiple=True, metavar="ID", help="Without this rule.")
@click.option("--flagged", is_flag=True, help="Print only what is flagged.")
def scan(profile: str, files: tuple[Path, ...], off: tuple[str, ...], flagged: bool) -> None:
    """Try the rules on texts. JSON lines {"id": …, "text": …} from standard input, one verdict a line.

    No server is needed.

    \b
    Example:
      echo '{"id": 1, "text": "1 OR 1=1"}' | tidegate security scan
    """
    from tidegate_security.engine import cache_folders
    from tidegate_security.rules import built_in, chosen, read_file
    from tidegate_security.scanner import Scanner

    try:
        found = built_in()
        for path in files:
            found += read_file(path)
    except (ValueError, OSError) as error:
        refuse(str(error))
    look, wrong = Scanner(chosen(found), off=off, caches=cache_folders()).scan, 0
    out = sys.stdout.buffer
    number = 0
    for lines in _arriving():
        answers = []
        for line in lines:
            number += 1
            if not line.strip():
                continue
            try:
                row = _row(line)
            except (ValueError, KeyError, TypeError, RecursionError) as error:
                wrong += 1
                click.echo(f'line {number}: expected {{"id": …, "text": "…"}}: {error}', err=True)
                continue
            verdict = look(row["text"], profile)
            if verdict.flagged or not flagged:
                answers.append(json.dumps({"id": row["id"], **verdict._asdict()}, separators=(",", ":")).encode())
        if answers:
            out.write(b"\n".join(answers) + b"\n")
            out.flush()
    if wrong:
        sys.exit(REFUSED)


def _arriving() -> Iterator[list[bytes]]:
    """The lines of standard input as they come, so that who writes one gets its answer."""
    stream: Any = sys.stdin.buffer
    rest = b""
    while data := stream.read1(1 << 16):
        *lines, rest = (rest + data).split(b"\n")
        if lines:
            yield lines
    if rest:
        yield [rest]


def _row(line: bytes) -> dict[str, Any]:
    """Raises ValueError, KeyError, TypeError, RecursionError."""
    row: dict[str, Any] = json.loads(line)  # not a faster decoder: they refuse lone surrogates, which captures hold
    if not isinstance(row["text"], str) or "id" not in row:
        raise TypeError("text is a string, and there is an id")
    return row


# --- a running server -----------------------------------------------------------------------------


def _ask(remote: Remote, as_json: bool, method: str, **params: Any) -> Any:
    with remote.connected(as_json) as client:
        return client.call(method, **params)


def _show(value: Any, as_json: bool) -> None:
    from tidegate.cli.display import emit, pairs, table

    if as_json:
        emit(value)
    elif isinstance(value, list) and value and isinstance(value[0], dict):
        table(
            tuple(value[0]),
            [tuple(cell(row.get(key)) for key in value[0]) for row in value],
        )
    elif isinstance(value, dict):
        pairs({key: cell(inner) for key, inner in value.items()})
    elif value == []:
        click.echo("none")
    else:
        click.echo("done" if value is True else str(value))


def cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:g}" if abs(value) < 1e9 else datetime.fromtimestamp(value, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    if isinstance(value, list):
        return " ".join(map(cell, value)) or "-"
    if isinstance(value, dict):
        return ", ".join(f"{key} {cell(inner)}" for key, inner in value.items()) or "-"
    return ("no", "yes")[value] if isinstance(value, bool) else str(value)


_network = click.argument("network")
_reason = click.option("--reason", default="", metavar="TEXT", help="Why, for the audit trail.")


@security.command()
@remote
@as_json
def status(remote: Remote, as_json: bool) -> None:
    """Show what security does now, with warnings."""
    _show(_ask(remote, as_json, "security.status"), as_json)


@security.command()
@click.option("--limit", default=100, show_default=True, help="How many at most.")
@remote
@as_json
def blocks(limit: int, remote: Remote, as_json: bool) -> None:
    """List who is blocked, until when and why."""
    _show(_ask(remote, as_json, "security.blocks", limit=limit), as_json)


@security.command()
@_network
@click.option(
    "--for",
    "for_s",
    type=float,
    metavar="SECONDS",
    help="How long; without it until it is taken back.",
)
@click.option("--reason", required=True, metavar="TEXT", help="Why, for the audit trail.")
@click.option("--force", is_flag=True, help="Although many clients or you yourself are in it.")
@remote
@as_json
def block(
    network: str,
    for_s: float | None,
    reason: str,
    force: bool,
    remote: Remote,
    as_json: bool,
) -> None:
    """Block an address or a network."""
    params = {"network": network, "for_s": for_s, "reason": reason, "force": force}
    _show(_ask(remote, as_json, "security.block", **params), as_json)


@security.command()
@_network
@_reason
@remote
@as_json
def unblock(network: str, reason: str, remote: Remote, as_json: bool) -> None:
    """Take a block back."""
    _show(
        _ask(remote, as_json, "security.unblock", network=network, reason=reason),
        as_json,
    )


@security.command()
@_network
@_reason
@remote
@as_json
def allow(network: str, reason: str, remote: Remote, as_json: bool) -> None:
    """Never block an address or a network."""
    _show(_ask(remote, as_json, "security.allow", network=network, reason=reason), as_json)


@security.command()
@_network
@_reason
@remote
@as_json
def disallow(network: str, reason: str, remote: Remote, as_json: bool) -> None:
    """Take a network off the allowlist."""
    _show(
        _ask(remote, as_json, "security.disallow", network=network, reason=reason),
        as_json,
    )


@security.command()
@remote
@as_json
def allowlist(remote: Remote, as_json: bool) -> None:
    """List the networks that are never blocked."""
    _show(_ask(remote, as_json, "security.allowlist"), as_json)


@security.command()
@click.argument("address")
@remote
@as_json
def reputation(address: str, remote: Remote, as_json: bool) -> None:
    """Show what an address has gathered, and for what."""
    found = _ask(remote, as_json, "security.reputation", address=address)
    if as_json:
        return _show(found, True)
    evidence = found.pop("evidence")
    _show(found, False)
    _show(evidence, False)


@security.command()
@_network
@remote
@as_json
def test(network: str, remote: Remote, as_json: bool) -> None:
    """Say whom a block would shut out; changes nothing."""
    _show(_ask(remote, as_json, "security.test", network=network), as_json)


@security.command()
@click.option("--address", metavar="ADDRESS", help="Who does it.")
@click.option("--text", metavar="TEXT", help="A parameter's text.")
@click.option(
    "--profile", type=click.Choice(PROFILES), default="free_text", show_default=True, help="What the text is."
)
@click.option("--signal", metavar="NAME", help="What else it does, as `events` names it: 'wrong password'.")
@click.option("--times", default=1, show_default=True, help="How often.")
@remote
@as_json
def simulate(
    address: str | None,
    text: str | None,
    profile: str,
    signal: str | None,
    times: int,
    remote: Remote,
    as_json: bool,
) -> None:
    """Say what security would do. About a text, an address, a signal; changes nothing.

    \b
    Example:
      tidegate security simulate --address 192.0.2.7 --signal "wrong password" --times 12 --data ./data
    """
    params = {"text": text, "profile": profile, "address": address, "signal": signal, "times": times}
    found = _ask(remote, as_json, "security.simulate", **params)
    if as_json:
        return _show(found, True)
    for part in found.values():
        _show(part, False)


@security.command()
@click.option("--limit", default=50, show_default=True, help="How many at most.")
@click.option("--address", default="", metavar="ADDRESS", help="Of this address only.")
@remote
@as_json
def events(limit: int, address: str, remote: Remote, as_json: bool) -> None:
    """List the last signals, the newest first."""
    _show(_ask(remote, as_json, "security.events", limit=limit, prefix=address), as_json)


_RULE = ("id", "category", "score", "on", "refs", "description")  # what fits a terminal


@security.command()
@click.option("--category", default="", metavar="NAME", help="Of this category only.")
@remote
@as_json
def rules(category: str, remote: Remote, as_json: bool) -> None:
    """List the rules of a running server. With --json each with the texts that it finds and leaves alone."""
    found = _ask(remote, as_json, "security.rules", category=category)
    _show(found if as_json else [{key: row[key] for key in _RULE} for row in found], as_json)


@security.command()
@click.argument("id")
@click.argument("state", type=click.Choice(["on", "off"]))
@_reason
@remote
@as_json
def rule(id: str, state: str, reason: str, remote: Remote, as_json: bool) -> None:
    """Switch a rule on or off."""
    _show(
        _ask(remote, as_json, "security.rule", id=id, on=state == "on", reason=reason),
        as_json,
    )


@security.command()
@click.argument("mode", type=click.Choice(["enforce", "observe"]))
@_reason
@remote
@as_json
def mode(mode: str, reason: str, remote: Remote, as_json: bool) -> None:
    """Enforce, or only observe."""
    _show(_ask(remote, as_json, "security.mode", mode=mode, reason=reason), as_json)


@security.command()
@click.argument("user")
@click.option(
    "--for",
    "for_s",
    type=float,
    metavar="SECONDS",
    help="How long; without it until it is taken back.",
)
@_reason
@remote
@as_json
def suspend(user: str, for_s: float | None, reason: str, remote: Remote, as_json: bool) -> None:
    """Suspend an account."""
    _show(
        _ask(remote, as_json, "security.suspend", user=user, for_s=for_s, reason=reason),
        as_json,
    )


@security.command()
@click.argument("user")
@_reason
@remote
@as_json
def reinstate(user: str, reason: str, remote: Remote, as_json: bool) -> None:
    """Take a suspension back."""
    _show(_ask(remote, as_json, "security.reinstate", user=user, reason=reason), as_json)


@security.command()
@click.option("--hours", default=24.0, show_default=True, help="The period that ends now.")
@remote
@as_json
def report(hours: float, remote: Remote, as_json: bool) -> None:
    """Report on a period. What happened, what changed, what to do about it."""
    from tidegate_security.report import as_text

    found = _ask(remote, as_json, "security.report", period_s=hours * 3600)
    if as_json:
        return _show(found, True)
    click.echo(as_text(found), nl=False)


import tidegate_security.cli_audit  # noqa: E402, F401  (adds `audit` to the group above)
