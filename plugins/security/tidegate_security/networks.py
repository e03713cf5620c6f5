"""Addresses as the plugin counts them: an IPv4 address, or an IPv6 /64; and networks of any size."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterable, Iterator
from typing import Generic, NamedTuple, TypeVar

T = TypeVar("T")
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


class Network(NamedTuple):
    """A network as numbers: what is compared is the leading `length` bits."""

    version: int
    length: int
    number: int

    def __str__(self) -> str:
        bits = 32 if self.version == 4 else 128
        kind = ipaddress.IPv4Network if self.version == 4 else ipaddress.IPv6Network
        return str(kind((self.number << (bits - self.length), self.length)))

    @property
    def addresses(self) -> int:
        return int(2 ** ((32 if self.version == 4 else 128) - self.length))

    def wider(self, length: int) -> Network:
        """The network of `length` bits around it."""
        return Network(self.version, length, self.number >> (self.length - length))

    def covers(self, other: Network) -> bool:
        return (
            self.version == other.version
            and self.length <= other.length
            and other.number >> (other.length - self.length) == self.number
        )


def network(text: str) -> Network:
    """`192.0.2.7`, `192.0.2.0/24`, `2001:db8::1` (counts as its /64), `2001:db8::/48`. Raises ValueError."""
    text = text.strip()
    found = ipaddress.ip_network(text.partition("%")[0], strict=False)
    if isinstance(found, ipaddress.IPv6Network):
        if (inner := found.network_address.ipv4_mapped) is not None and found.prefixlen >= 96:
            return Network(4, found.prefixlen - 96, int(inner) >> (128 - found.prefixlen))
        if found.subnet_of(_NAT64):
            return Network(
                4,
                found.prefixlen - 96,
                (int(found.network_address) & 0xFFFFFFFF) >> (128 - found.prefixlen),
            )
        length = 64 if "/" not in text else found.prefixlen
        return Network(6, length, int(found.network_address) >> (128 - length))
    return Network(4, found.prefixlen, int(found.network_address) >> (32 - found.prefixlen))


def network_of(prefix: bytes) -> Network:
    """A connection's prefix: 4 bytes, or the 8 of an IPv6 /64."""
    if len(prefix) == 4:
        return Network(4, 32, int.from_bytes(prefix, "big"))
    return Network(6, 64, int.from_bytes(prefix, "big"))


def full(address: str) -> Network:
    """One address in full. Raises OSError."""
    if ":" not in address:
        return Network(4, 32, int.from_bytes(socket.inet_pton(socket.AF_INET, address), "big"))
    packed = socket.inet_pton(socket.AF_INET6, address.partition("%")[0])
    return Network(6, 128, int.from_bytes(packed, "big"))


class NetworkTable(Generic[T]):
    """Values by network, asked for by address: one look-up for each size of network that is in it."""

    def __init__(self) -> None:
        self._values: dict[Network, T] = {}
        self._sizes: dict[tuple[int, int], int] = {}

    def set(self, key: Network, value: T) -> None:
        if key not in self._values:
            size = (key.version, key.length)
            self._sizes[size] = self._sizes.get(size, 0) + 1
        self._values[key] = value

    def pop(self, key: Network) -> T | None:
        value = self._values.pop(key, None)
        if value is not None:
            size = (key.version, key.length)
            self._sizes[size] -= 1
            if not self._sizes[size]:
                del self._sizes[size]
        return value

    def get(self, key: Network) -> T | None:
        return self._values.get(key)

    def covering(self, place: Network) -> Iterator[tuple[Network, T]]:
        """The entries that a network lies in, the widest first."""
        for version, length in sorted(self._sizes):
            if version == place.version and length <= place.length:
                key = place.wider(length)
                if (value := self._values.get(key)) is not None:
                    yield key, value

    def covers(self, place: Network) -> bool:
        return next(self.covering(place), None) is not None

    def items(self) -> list[tuple[Network, T]]:
        return list(self._values.items())

    def clear(self) -> None:
        self._values.clear()
        self._sizes.clear()

    def __len__(self) -> int:
        return len(self._values)

    def __contains__(self, key: Network) -> bool:
        return key in self._values


def table(texts: Iterable[str]) -> NetworkTable[str]:
    """A table of networks with their texts. Raises ValueError, which names the wrong one."""
    found: NetworkTable[str] = NetworkTable()
    for text in texts:
        try:
            found.set(network(text), text)
        except ValueError as error:
            raise ValueError(f"{text!r} is no address and no network: {error}") from None
    return found
