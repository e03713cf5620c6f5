"""The settings of [plugins.admin]."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from typing import Any, NamedTuple

from tidegate_admin.proxies import networks_of


class Place(NamedTuple):
    """Where the site listens."""

    host: str
    port: int

    @property
    def loopback(self) -> bool:
        return self.host == "localhost" or (is_address(self.host) and ipaddress.ip_address(self.host).is_loopback)

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


_PLACE = re.compile(r"(?:\[(?P<six>[0-9a-fA-F:.]+)\]|(?P<host>[A-Za-z0-9_.-]*)):(?P<port>[0-9]{1,5})")


def is_address(text: str) -> bool:
    """Whether it is an IP address, and no name."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def place_of(text: str) -> Place:
    """`127.0.0.1:7421`, `[::1]:7421`, `:7421` for all IPv4 addresses. Raises ValueError, saying what was expected."""
    found = _PLACE.fullmatch(text)
    if found is None or int(found["port"]) > 65535 or (found["six"] and not is_address(found["six"])):
        raise ValueError(f"expected HOST:PORT or [IPV6]:PORT, got {text[:80]!r}")
    return Place(found["six"] or found["host"] or "0.0.0.0", int(found["port"]))  # noqa: S104  (asked for by `:PORT`)


def _is_place(field: str, value: str, error: Callable[[str, str], None]) -> None:
    try:
        place_of(value)
    except ValueError as wrong:
        error(field, str(wrong))


def _is_network(field: str, value: str, error: Callable[[str, str], None]) -> None:
    try:
        networks_of([value])
    except ValueError as wrong:
        error(field, str(wrong))


def _whole(default: int, low: int, high: int, help: str, unit: str) -> dict[str, Any]:
    return {"type": "integer", "default": default, "min": low, "max": high, "meta": {"help": help, "unit": unit}}


def _seconds(default: float, low: float, high: float, help: str) -> dict[str, Any]:
    return {"type": "number", "default": default, "min": low, "max": high, "meta": {"help": help, "unit": "s"}}


def _file(example: str, help: str) -> dict[str, Any]:
    meta = {"help": help, "example": example}
    return {"type": "string", "minlength": 1, "nullable": True, "default": None, "meta": meta}


SETTINGS: dict[str, dict[str, Any]] = {
    "listen": {
        "type": "string",
        "default": "127.0.0.1:7421",
        "check_with": _is_place,
        "meta": {"help": "Where the site listens, HOST:PORT; port 0 takes any free one and logs it."},
    },
    "tls_cert": _file("/etc/tidegate/admin.crt", "The certificate chain, PEM; with tls_key the site speaks TLS only."),
    "tls_key": _file("/etc/tidegate/admin.key", "The certificate's private key, PEM."),
    "clear": {
        "type": "boolean",
        "default": False,
        "meta": {"help": "Listen beyond loopback without TLS; tokens cross the network in clear text then."},
    },
    "hosts": {
        "type": "list",
        "maxlength": 100,
        "schema": {"type": "string", "regex": r"[A-Za-z0-9]([A-Za-z0-9.-]{0,252})"},
        "default": [],
        "meta": {
            "help": "Names by which browsers reach the site, beside localhost and addresses; any other is refused.",
            "example": ["admin.example.org"],
        },
    },
    "proxy_from": {
        "type": "list",
        "maxlength": 1000,
        "schema": {"type": "string", "check_with": _is_network},
        "default": [],
        "meta": {
            "help": "Proxies whose X-Forwarded-For and X-Forwarded-Proto are believed; nobody else's are.",
            "example": ["10.0.0.0/8", "2001:db8::/32"],
        },
    },
    "session_s": _seconds(43_200, 60, 2_592_000, "How long a browser stays logged in."),
    "rate": {
        "type": "string",
        "default": "50/second, 600/minute",
        "meta": {"help": "Requests to the API by one session, token, or address that has neither."},
    },
    "failures": {
        "type": "string",
        "default": "10/minute",
        "meta": {"help": "Wrong tokens and passwords from one address; then 429."},
    },
    "max_connections": _whole(200, 10, 100_000, "At once; one more takes the place of one that waits.", "connections"),
    "max_streams": _whole(50, 1, 10_000, "Live pages at once.", "pages"),
    "max_body_bytes": _whole(65_536, 1_024, 1_048_576, "The longest request body; then 413.", "bytes"),
    "head_s": _seconds(10, 0.1, 300, "How long a request's head may take, and then its body; then 408."),
    "idle_s": _seconds(60, 0.1, 3_600, "How long a connection may wait between two requests."),
    "events": _whole(500, 10, 10_000, "Events that the time line remembers.", "events"),
}
