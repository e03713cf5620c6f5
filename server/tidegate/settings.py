"""The server's own settings, as Cerberus schemas: each key, its default, limits and help."""

from __future__ import annotations

import ipaddress
import json
import os
import re
import textwrap
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

from tidegate.plugin import RINGS

Rules = dict[str, Any]


class Namespace(SimpleNamespace):
    """Settings as attributes. Its repr names the keys and shows no value: one may be a secret."""

    def __repr__(self) -> str:
        return f"Namespace({', '.join(vars(self))})"


class Address(NamedTuple):
    """Where a listener listens. `kind`: tcp, unix, fd; `path`: the socket's, or the fd's name."""

    kind: str
    host: str | None = None
    port: int | None = None
    path: str | None = None


_FORMS = "expected HOST:PORT, [IPV6]:PORT, unix:/PATH or fd:NAME"
_HOST = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.-]{0,252}[A-Za-z0-9_.])?")


def parse_address(text: str) -> Address:
    """What `127.0.0.1:7420`, `[::1]:7420`, `:7420`, `unix:/run/x.sock` or `fd:NAME` stands for.

    An empty host means every IPv4 address of the machine, port 0 any free one. Looks up no name.
    Raises ValueError, whose text says what was expected.
    """
    for kind in ("unix", "fd"):
        if text.startswith(f"{kind}:"):
            path = text[len(kind) + 1 :]
            if not path or "\0" in path:
                raise ValueError(f"{_FORMS}, got {text[:80]!r}")
            return Address(kind, path=path)
    host, colon, port = text.rpartition(":")
    if not colon or not re.fullmatch(r"[0-9]{1,5}", port) or int(port) > 65535:
        raise ValueError(f"{_FORMS} with a port from 0 to 65535, got {text[:80]!r}")
    try:
        if host.startswith("[") and host.endswith("]"):
            return Address("tcp", str(ipaddress.IPv6Address(host[1:-1])), int(port))
        if re.fullmatch(r"[0-9.]+", host):
            return Address("tcp", str(ipaddress.IPv4Address(host)), int(port))
    except ValueError as error:
        raise ValueError(f"{_FORMS}, got {text[:80]!r}: {error}") from None
    if ":" in host:
        raise ValueError(f"expected an IPv6 address in brackets, [::1]:7420, got {text[:80]!r}")
    if host and not _HOST.fullmatch(host):
        raise ValueError(f"{_FORMS}, got {text[:80]!r}")
    return Address("tcp", host, int(port))


def _is_address(field: str, value: str, error: Callable[[str, str], None]) -> None:
    try:
        parse_address(value)
    except ValueError as wrong:
        error(field, str(wrong))


def _is_network(field: str, value: str, error: Callable[[str, str], None]) -> None:
    try:
        network = ipaddress.ip_network(value, strict=False)
    except ValueError:
        error(field, f"expected a network such as 10.0.0.0/8 or ::1, got {value[:80]!r}")
        return
    if "/" in value and ipaddress.ip_address(value.partition("/")[0]) != network.network_address:
        error(
            field,
            f"expected a network, got the host {value[:80]!r}; did you mean {str(network)!r}?",
        )


def _whole(default: int, low: int, high: int, help: str, unit: str | None = None) -> Rules:
    meta = {"help": help, "unit": unit} if unit else {"help": help}
    return {"type": "integer", "default": default, "min": low, "max": high, "meta": meta}


def _seconds(default: float, low: float, high: float, help: str) -> Rules:
    meta = {"help": help, "unit": "s"}
    return {"type": "number", "default": default, "min": low, "max": high, "meta": meta}


def _switch(default: bool, help: str) -> Rules:
    return {"type": "boolean", "default": default, "meta": {"help": help}}


def _networks(default: list[str], help: str) -> Rules:
    item = {"type": "string", "check_with": _is_network}
    meta = {"help": help, "example": ["10.0.0.0/8", "2001:db8::/32"]}
    return {"type": "list", "maxlength": 1000, "schema": item, "default": default, "meta": meta}


def _file(example: str, help: str) -> Rules:
    meta = {"help": help, "example": example}
    return {"type": "string", "minlength": 1, "nullable": True, "default": None, "meta": meta}


_MODULE = r"[^\W\d]\w*(\.[^\W\d]\w*)*"

#: The keys of [server].
SERVER: dict[str, Rules] = {
    "name": {
        "type": "string",
        "minlength": 1,
        "maxlength": 64,
        "regex": r"[^\x00-\x1f\x7f]+",
        "default": "tidegate",
        "meta": {"help": "What system.info calls this server; also in logs and metrics."},
    },
    "data": {
        "type": "string",
        "minlength": 1,
        "default": "./data",
        "meta": {
            "help": "The folder for all that the server and its plugins write, made when missing; "
            "one server at a time. Under systemd it is $STATE_DIRECTORY unless it is set here."
        },
    },
    "exempt": _networks(
        ["127.0.0.0/8", "::1"],
        "Networks whose addresses are never blocked and to which limits per address do not apply.",
    ),
    "max_connections": _whole(10_000, 1, 1_000_000, "Connections in all; one more is refused with 1308 and closed."),
    "call_timeout_s": _seconds(
        30,
        0.01,
        86_400,
        "How long a call may take, unless its command or its client says less; then 1303.",
    ),
    "drain_timeout_s": _seconds(10, 0, 3_600, "How long calls under way may go on when the server stops."),
    "max_blocking_s": _seconds(
        0.1,
        0.01,
        60,
        "Code that holds up all other clients for longer is named in the log, with its stack.",
    ),
    "threads": _whole(4, 1, 256, "Threads for the commands that are marked thread=True."),
    "commands": {
        "type": "list",
        "maxlength": 1000,
        "schema": {"type": "string", "regex": _MODULE, "meta": {"example": "shop.commands"}},
        "default": [],
        "meta": {
            "help": "Modules of your own whose commands are served, with no packaging.",
            "example": ["shop.commands"],
        },
    },
    "open": _switch(
        False,
        "Listen beyond loopback although no plugin guards the server or identifies its clients.",
    ),
    "log_level": {
        "type": "string",
        "allowed": ["debug", "info", "warning", "error", "critical"],
        "default": "info",
        "meta": {"help": "The least severe lines that are logged."},
    },
    "log_format": {
        "type": "string",
        "allowed": ["text", "json"],
        "default": "text",
        "meta": {"help": "Log lines for people, or one JSON object a line for programs."},
    },
}

#: The keys of each [[listen]]. The defaults are those of protocol.md, section Limits.
LISTEN: dict[str, Rules] = {
    "address": {
        "type": "string",
        "check_with": _is_address,
        "default": "127.0.0.1:7420",
        "meta": {
            "help": "host:port, [ipv6]:port, unix:/path, or fd:NAME for a socket that systemd "
            "hands over; port 0 takes any free one."
        },
    },
    "admin": _switch(True, "Whether administrators' commands may be called on this listener."),
    "tls_cert": _file(
        "/etc/tidegate/tls.crt",
        "The certificate chain, PEM; with tls_key the listener speaks TLS only.",
    ),
    "tls_key": _file("/etc/tidegate/tls.key", "The certificate's private key, PEM."),
    "client_ca": _file("/etc/tidegate/clients.crt", "Authorities, PEM, whose client certificates are accepted."),
    "proxy_from": _networks(
        [],
        "Proxies that are trusted to send a PROXY header, v1 or v2; from them it is then required.",
    ),
    "max_in_flight": _whole(
        1,
        1,
        1_000,
        "Calls of one connection that run at once; above 1 replies come when they are done.",
    ),
    "max_line_bytes": _whole(
        65_536,
        64,
        67_108_864,
        "The longest line that a client may send; then 1606, and it closes.",
        "bytes",
    ),
    "max_reply_bytes": _whole(
        1_048_576,
        256,
        268_435_456,
        "The longest reply; a longer result is rolled back with 1503.",
        "bytes",
    ),
    "max_depth": _whole(32, 1, 500, "How deep the JSON of a line may be nested; then 1609."),
    "max_batch": _whole(50, 1, 10_000, "Requests in one batch; then 1607."),
    "line_timeout_s": _seconds(10, 0.01, 3_600, "From the first byte of a line to its end; then 1612, and it closes."),
    "first_line_timeout_s": _seconds(
        10, 0.01, 3_600, "Until a new connection's first complete line; then 1612, and it closes."
    ),
    "idle_timeout_s": _seconds(300, 0.01, 604_800, "Between lines; then 1611, and it closes."),
    "send_timeout_s": _seconds(
        30,
        0.01,
        3_600,
        "How long a reply may wait for a client that reads nothing; then it closes.",
    ),
    "outbox_bytes": _whole(
        1_048_576,
        1_024,
        1_073_741_824,
        "Pushes that may wait for a slow client; then it closes.",
        "bytes",
    ),
    "max_per_address": _whole(
        64,
        1,
        1_000_000,
        "Connections from one address (IPv6: one /64); one more is refused with 1409.",
    ),
}

#: The core's own keys in each [plugins.NAME].
PLUGIN: dict[str, Rules] = {
    "enabled": _switch(True, "Whether the plugin is loaded at all."),
    "required": _switch(True, "Refuse to start when it fails; if false, serve without it."),
    "ring": {
        "type": "string",
        "allowed": list(RINGS),
        "nullable": True,
        "default": None,
        "meta": {"help": "Moves its decorators to another ring.", "example": "guard"},
    },
}

_DOCUMENT: dict[str, Rules] = {
    "server": {"type": "dict", "default": {}, "schema": SERVER},
    "listen": {
        "type": "list",
        "minlength": 1,
        "maxlength": 100,
        "default": [{}],
        "schema": {"type": "dict", "schema": LISTEN},
    },
}


def document(plugins: dict[str, dict[str, Rules]]) -> Rules:
    """The rules of the whole file, given each plugin's own schema."""
    tables = {name: {"type": "dict", "default": {}, "schema": {**PLUGIN, **schema}} for name, schema in plugins.items()}
    return {"type": "dict", "schema": {**_DOCUMENT, "plugins": {"type": "dict", "schema": tables}}}


def default_listener() -> Namespace:
    """A listener with every key at its default."""
    return Namespace(
        **{
            key: list(rules["default"]) if isinstance(rules["default"], list) else rules["default"]
            for key, rules in LISTEN.items()
        }
    )


def listener_mistakes(listener: Namespace) -> Iterator[tuple[str, str]]:
    """What no key shows alone: (key, what is wrong). Looks at the files, so it blocks."""
    if listener.tls_cert and not listener.tls_key:
        yield "tls_cert", "needs tls_key too"
    if listener.tls_key and not listener.tls_cert:
        yield "tls_key", "needs tls_cert too"
    if listener.client_ca and not (listener.tls_cert and listener.tls_key):
        yield "client_ca", "needs tls_cert and tls_key"
    for key in ("tls_cert", "tls_key", "client_ca"):
        if (name := getattr(listener, key)) is None:
            continue
        if "\0" in name or not Path(name).is_file():
            yield key, f"expected a file, found none at {name!r}"
        elif not os.access(name, os.R_OK):
            yield key, f"the server's user may not read {name!r}"


# --- the pages made from the schemas --------------------------------------------------------------

_TOP = """\
Every setting of Tidegate, at its default. This page is made from the schemas; {edit}.

A flag or --set KEY=VALUE (--set listen.0.max_line_bytes=1024) goes before an environment variable
(TIDEGATE__SERVER__DRAIN_TIMEOUT_S=20, TIDEGATE__LISTEN__0__ADDRESS=127.0.0.1:7421), that before the
file, and the file before the default; there, lists may be written with commas. A key that ends in
_s is in seconds, one in _bytes in bytes. `tidegate check-config` tells every mistake with its line.
A secret may be written as {{file = "/run/secrets/x"}} or {{env = "NAME"}}; it is never shown.
Relative paths start at the folder in which the server was started."""

_SECTIONS = (
    ("server", SERVER, "The server as a whole."),
    (
        "listen",
        LISTEN,
        "A listener; repeat the table for more. With none there is one, at these defaults.",
    ),
)
_PLUGIN_HELP = "What every plugin's table may have."
_UNITS = {"s": "seconds"}


def _toml(value: object) -> str:
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: '""'}[value]
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, Mapping):
        inside = ", ".join(f"{_key(str(key))} = {_toml(one)}" for key, one in value.items())
        return f"{{{inside}}}"
    if isinstance(value, list | tuple | set | frozenset):
        return f"[{', '.join(map(_toml, value))}]"
    return str(value)


def _key(key: str) -> str:
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else json.dumps(key)


def _sample(rules: Mapping[str, Any]) -> str:
    """The default, or what a value could look like where there is none."""
    meta = rules.get("meta", {})
    if rules.get("default") is not None and not meta.get("secret"):
        return _toml(rules["default"])
    if meta.get("secret"):
        return '{file = "/run/secrets/x"}'
    if "example" in meta:
        return _toml(meta["example"])
    if "allowed" in rules:
        return _toml(next(iter(rules["allowed"])))
    kind = rules.get("type", "string")
    first = kind if isinstance(kind, str) else kind[0]
    empty = {"boolean": False, "list": [], "dict": {}}
    return _toml(rules.get("min", 0) if first in ("integer", "float", "number") else empty.get(first, ""))


def _facts(rules: Mapping[str, Any]) -> str:
    """`seconds, 0 to 3600`."""
    meta = rules.get("meta", {})
    facts = [_UNITS.get(meta["unit"], meta["unit"])] if "unit" in meta else []
    if "min" in rules and "max" in rules:
        facts.append(f"{rules['min']} to {rules['max']}")
    elif "min" in rules or "max" in rules:
        facts.append(f"at least {rules['min']}" if "min" in rules else f"at most {rules['max']}")
    if "allowed" in rules:
        facts.append(f"one of {', '.join(map(str, rules['allowed']))}")
    if meta.get("secret"):
        facts.append("secret")
    if rules.get("required"):
        facts.append("required")
    elif rules.get("default") is None:
        facts.append("not set by default")
    return ", ".join(facts)


def _tables(
    header: str, schema: Mapping[str, Any], help: str, many: bool = False
) -> Iterator[tuple[str, bool, str, list[tuple[str, Mapping[str, Any]]]]]:
    """Header, whether it is a list of tables, help, keys; nested tables after their table."""
    nested, keys = [], []
    for key, rules in schema.items():
        inner = rules.get("schema")
        item = inner.get("schema") if isinstance(inner, Mapping) and rules.get("type") == "list" else None
        below = item if isinstance(item, Mapping) else inner if rules.get("type") == "dict" else None
        if isinstance(below, Mapping):
            nested.append(
                (
                    f"{header}.{_key(key)}",
                    below,
                    rules.get("meta", {}).get("help", ""),
                    below is item,
                )
            )
        else:
            keys.append((key, rules))
    yield header, many, help, keys
    for one in nested:
        yield from _tables(*one)


def _all_tables(
    schemas: Mapping[str, Mapping[str, Any]],
) -> Iterator[tuple[str, bool, str, list[tuple[str, Mapping[str, Any]]]]]:
    for name, schema, help in _SECTIONS:
        yield from _tables(name, schema, help, name == "listen")
    yield from _tables("plugins.NAME", PLUGIN, _PLUGIN_HELP)
    for name in sorted(schemas):
        yield from _tables(f"plugins.{_key(name)}", schemas[name], f"The {name} plugin.")


def _comment(text: str) -> list[str]:
    paragraphs = "\n\n".join(textwrap.fill(part, 98) for part in text.split("\n\n"))
    return [f"# {line}".rstrip() for line in paragraphs.splitlines()]


def annotated(schemas: Mapping[str, Mapping[str, Any]]) -> str:
    """etc/tidegate.toml, given each plugin's schema: every key with help, commented out.

    Loads as it is with no plugin installed, so the plugins' tables are commented out as a whole.
    """
    lines = _comment(_TOP.format(edit="change a copy: take the # from a key, and from the [table] above it"))
    for header, many, help, keys in _all_tables(schemas):
        mark = "# " if header.startswith("plugins.") else ""
        lines += ["", "", *_comment(help), f"{mark}[[{header}]]" if many else f"{mark}[{header}]"]
        for key, rules in keys:
            help, facts = rules.get("meta", {}).get("help", ""), _facts(rules)
            lines += ["", *_comment(f"{help} ({facts})".strip() if facts else help)]
            lines.append(f"# {_key(key)} = {_sample(rules)}")
    return "\n".join(lines) + "\n"


def reference(schemas: Mapping[str, Mapping[str, Any]]) -> str:
    """server/docs/settings.md, given each plugin's schema: the keys of each table of the file."""
    lines = ["# Settings", "", *_TOP.format(edit="a test fails when it is stale").splitlines()]
    for header, many, help, keys in _all_tables(schemas):
        lines += ["", f"## `[[{header}]]`" if many else f"## `[{header}]`", "", help]
        if keys:
            lines += ["", "| key | type | default | what |", "|---|---|---|---|"]
        for key, rules in keys:
            kind = rules.get("type", "any")
            kind = kind if isinstance(kind, str) else " or ".join(kind)
            default = rules.get("default")
            shown = "" if default is None or rules.get("meta", {}).get("secret") else f"`{_toml(default)}`"
            help, facts = rules.get("meta", {}).get("help", ""), _facts(rules)
            what = (f"{help} ({facts})" if facts else help).replace("|", "\\|").replace("\n", " ")
            lines.append(f"| `{key}` | {kind} | {shown} | {what} |")
    return "\n".join(lines) + "\n"
