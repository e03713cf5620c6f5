"""The server's own settings, as Cerberus schemas: each key, its default, limits and help."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from tidegate.address import parse_address
from tidegate.plugin import RINGS

Rules = dict[str, Any]


class Namespace(SimpleNamespace):
    """Settings as attributes. Its repr names the keys and shows no value: one may be a secret."""

    def __repr__(self) -> str:
        return f"Namespace({', '.join(vars(self))})"


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
