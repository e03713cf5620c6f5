"""The ways to talk to a server under test, wherever it runs."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tidegate.testing.raw import Raw

if TYPE_CHECKING:
    from tidegate.client import Client


def unsaid(config: str) -> dict[str, object]:
    """What a server under test is told where its configuration, TOML, leaves it open: a free port, a short drain."""
    try:
        said = tomllib.loads(config)
    except tomllib.TOMLDecodeError:
        said = {}  # the server says what is wrong with it
    flags: dict[str, object] = {}
    if "listen" not in said:
        flags["listen.0.address"] = "127.0.0.1:0"
    if "drain_timeout_s" not in said.get("server", ()):
        flags["server.drain_timeout_s"] = 2
    return flags


class Reachable:
    """What `Served` and `Inside` have in common; both say where they listen and where their data lies."""

    addresses: list[str]
    data: Path

    @property
    def host(self) -> str:
        """Of the first listener."""
        return self.addresses[0].rpartition(":")[0].strip("[]")

    @property
    def port(self) -> int:
        return int(self.addresses[0].rpartition(":")[2])

    def client(self, **options: Any) -> Client:
        """A blocking client of the first listener; `options` as `tidegate.Client` takes them."""
        from tidegate.client import Client

        return Client(self.addresses[0], **options)

    def admin(self, **options: Any) -> Client:
        """A client of the operator's socket."""
        from tidegate.client import Client

        return Client.operator(self.data, **options)

    def raw(self, source: str | None = None, listener: int = 0) -> Raw:
        """A plain socket to a listener, from the address `source`."""
        address = self.addresses[listener]
        if address.startswith("unix:"):
            return Raw.unix(Path(address.removeprefix("unix:")))
        host, _, port = address.rpartition(":")
        return Raw.tcp(host.strip("[]"), int(port), source)

    def raw_admin(self) -> Raw:
        """A plain socket to the operator's door."""
        return Raw.unix(self.data / "admin.sock")
