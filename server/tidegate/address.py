"""Where a listener listens, as one writes it: `127.0.0.1:7420`, `[::1]:7420`, `unix:/run/x.sock`, `fd:NAME`."""

from __future__ import annotations

import ipaddress
import re
from typing import NamedTuple


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
