"""Who asks, behind proxies: `X-Forwarded-For` and `X-Forwarded-Proto`, believed only from those that are trusted."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Sequence

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
_WITH_PORT = re.compile(r"\[(?P<six>[^\]]+)\](:\d+)?|(?P<four>[\d.]+):\d+")


def networks_of(texts: Iterable[str]) -> tuple[Network, ...]:
    """Raises ValueError, saying what was expected."""
    found = []
    for text in texts:
        try:
            found.append(ipaddress.ip_network(text))
        except ValueError:
            raise ValueError(f"expected an address or a network such as 10.0.0.0/8, got {text[:80]!r}") from None
    return tuple(found)


def is_trusted(address: str | None, networks: Sequence[Network]) -> bool:
    """Whether it is a proxy's."""
    if not networks or (plain := _plain(address or "")) is None:
        return False
    ip = ipaddress.ip_address(plain)
    return any(ip in network for network in networks if network.version == ip.version)


def client_of(peer: str | None, forwarded: str, networks: Sequence[Network]) -> str | None:
    """The address of the client: the last in `X-Forwarded-For` that no trusted proxy has.

    Each proxy writes behind what it was sent, so what stands further left anybody may have made up. Where one wrote
    something that is no address, it is the proxy itself that asks.
    """
    found = peer
    for text in reversed(forwarded.split(",")):
        if not is_trusted(found, networks) or (said := _plain(text.strip())) is None:
            break
        found = said
    return found


def _plain(text: str) -> str | None:
    """An address without its port, in its shortest writing; an IPv4 address also where it was sent as an IPv6 one."""
    if (found := _WITH_PORT.fullmatch(text)) is not None:
        text = found["six"] or found["four"]
    try:
        ip = ipaddress.ip_address(text)
    except ValueError:
        return None
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.scope_id is not None:
            return None
        ip = ip.ipv4_mapped or ip
    return str(ip)
