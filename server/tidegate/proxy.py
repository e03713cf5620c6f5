"""The PROXY protocol, versions 1 and 2: who the client behind a proxy is.

Bytes in, a `Header` out: no sockets. Written after HAProxy's doc/proxy-protocol.txt.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address

MAX_V1_BYTES = 107  # the specification's bound, CRLF included
# Ours: the specification allows 65,551. HAProxy with TLS details and a unique id sends about 150
# bytes, a load balancer's client certificate fields some hundreds.
MAX_V2_BYTES = 4096

CRC32C = 0x03  # the type of the TLV that is checked here

_V1 = b"PROXY "
_V2 = b"\r\n\r\n\x00\r\nQUIT\n"
_V1_FAMILIES = {b"TCP4": IPv4Address, b"TCP6": IPv6Address}
_V1_KINDS = (*_V1_FAMILIES, b"UNKNOWN")
# Family and transport in one byte; a stream or a datagram, the addresses look the same.
_INET, _INET6, _UNIX = (0x11, 0x12), (0x21, 0x22), (0x31, 0x32)
_ADDRESS_BYTES = {
    0x00: 0,
    **dict.fromkeys(_INET, 12),
    **dict.fromkeys(_INET6, 36),
    **dict.fromkeys(_UNIX, 216),
}


class ProxyError(ValueError):
    """What came is no PROXY header, or a wrong one; the text is for the log."""


@dataclass(frozen=True, slots=True)
class Header:
    """A whole header, and how many bytes of the buffer it was.

    `source` and `destination` are IP addresses, or None where the proxy told none: `local` (the
    proxy speaks for itself, as its health checks do), version 1's UNKNOWN, a client of a unix
    socket (its two paths are in `paths`). `tlvs` are version 2's further fields by type.
    """

    consumed: int
    source: str | None = None
    source_port: int | None = None
    destination: str | None = None
    destination_port: int | None = None
    local: bool = False
    paths: tuple[str, str] | None = None
    tlvs: dict[int, bytes] = field(default_factory=dict)


def parse(buffer: bytes) -> Header | None:
    """The header that `buffer` begins with, or None when more bytes are needed.

    Raises ProxyError for anything else: for version 1 at the first wrong word, for version 2 at
    the first wrong byte before the addresses, and at the header's end for what comes after. What
    follows the header in the buffer does not matter.
    """
    if buffer.startswith(_V2[: len(buffer)]):
        return _parse_v2(buffer)
    if buffer.startswith(_V1[: len(buffer)]):
        return _parse_v1(buffer)
    raise ProxyError(f"expected a PROXY header, found {buffer[:16]!r}")


def _parse_v1(buffer: bytes) -> Header | None:
    line, ended, _ = buffer[:MAX_V1_BYTES].partition(b"\r\n")
    if not ended:
        if len(buffer) >= MAX_V1_BYTES:
            raise ProxyError(f"no line end within {MAX_V1_BYTES} bytes")
        line = line.removesuffix(b"\r")
    if b"\n" in line or b"\r" in line:
        raise ProxyError("expected CR LF at the line's end and nowhere else")
    words = line.split(b" ")
    # Without the line's end the last word may be half of one.
    complete = words if ended else words[:-1]
    if len(complete) < 2:
        if not any(kind.startswith(b"".join(words[1:2])) for kind in _V1_KINDS):
            raise ProxyError(f"expected TCP4, TCP6 or UNKNOWN, found {words[1][:16]!r}")
        return None
    kind = complete[1]
    if kind not in _V1_KINDS:
        raise ProxyError(f"expected TCP4, TCP6 or UNKNOWN, found {kind[:16]!r}")
    if kind == b"UNKNOWN":  # what else the line has is to be ignored
        return Header(len(line) + 2) if ended else None
    addresses = [_address(kind, word) for word in complete[2:4]]
    ports = [_port(word) for word in complete[4:6]]
    if len(words) > 6 or (ended and len(words) < 6):
        raise ProxyError(f"expected two addresses and two ports, found {line!r}")
    if not ended:
        return None
    return Header(len(line) + 2, addresses[0], ports[0], addresses[1], ports[1])


def _address(kind: bytes, text: bytes) -> str:
    try:
        address = _V1_FAMILIES[kind](text.decode("ascii"))
    except ValueError:
        raise ProxyError(f"expected a {kind.decode()} address, found {text!r}") from None
    if isinstance(address, IPv6Address) and address.scope_id is not None:
        raise ProxyError(f"expected an address without a zone, found {text!r}")
    return str(address)


def _port(text: bytes) -> int:
    if not (text.isdigit() and len(text) <= 5 and int(text) < 65536 and text == b"%d" % int(text)):
        raise ProxyError(f"expected a port, found {text!r}")
    return int(text)


def _parse_v2(buffer: bytes) -> Header | None:
    if len(buffer) > 12 and buffer[12] not in (0x20, 0x21):
        raise ProxyError(f"expected version 2 and LOCAL or PROXY, found {buffer[12]:#04x}")
    if len(buffer) < 16:
        return None
    local, family = buffer[12] == 0x20, buffer[13]
    end = 16 + int.from_bytes(buffer[14:16])
    if end > MAX_V2_BYTES:
        raise ProxyError(f"a header of {end} bytes, at most {MAX_V2_BYTES} are taken")
    if not local and family not in _ADDRESS_BYTES:
        raise ProxyError(f"unknown address family {family:#04x}")
    at = 16 + (0 if local else _ADDRESS_BYTES[family])
    if at > end:
        raise ProxyError(f"{end - 16} bytes are too few for the addresses of family {family:#04x}")
    if len(buffer) < end:
        return None
    if local:  # the specification: the rest of the block is to be discarded, whatever it is
        return Header(end, local=True)
    tlvs = _tlvs(buffer[:end], at)
    if family in _INET:
        source, target, *ports = struct.unpack_from("!4s4sHH", buffer, 16)
        addresses = str(IPv4Address(source)), str(IPv4Address(target))
        return Header(end, addresses[0], ports[0], addresses[1], ports[1], tlvs=tlvs)
    if family in _INET6:
        source, target, *ports = struct.unpack_from("!16s16sHH", buffer, 16)
        addresses = str(IPv6Address(source)), str(IPv6Address(target))
        return Header(end, addresses[0], ports[0], addresses[1], ports[1], tlvs=tlvs)
    if family in _UNIX:
        return Header(end, paths=(_path(buffer[16:124]), _path(buffer[124:232])), tlvs=tlvs)
    return Header(end, tlvs=tlvs)


def _path(name: bytes) -> str:
    """A path ends at its first NUL; an abstract name begins with one, shown as @."""
    shown = b"@" + name[1:].rstrip(b"\0") if name[:1] == b"\0" else name.partition(b"\0")[0]
    return shown.decode(errors="backslashreplace")


def _tlvs(header: bytes, at: int) -> dict[int, bytes]:
    """The fields from `at` on; of a type that comes twice, the last. Checks the CRC32C if any."""
    found: dict[int, bytes] = {}
    while at < len(header):
        start = at + 3
        if start > len(header):
            raise ProxyError("a TLV is cut off")
        kind, at = header[at], start + int.from_bytes(header[at + 1 : start])
        if at > len(header):
            raise ProxyError(f"the TLV {kind:#04x} is longer than its header")
        if kind == CRC32C:
            if CRC32C in found or at - start != 4:
                raise ProxyError("expected one CRC32C of 4 bytes")
            if crc32c(header[:start] + bytes(4) + header[at:]) != int.from_bytes(header[start:at]):
                raise ProxyError("the CRC32C does not match")
        found[kind] = header[start:at]
    return found


def _table() -> tuple[int, ...]:
    """Castagnoli's polynomial, reflected (RFC 3720, appendix B.4), for one byte at a time."""
    table = []
    for value in range(256):
        for _ in range(8):
            value = (value >> 1) ^ (0x82F63B78 if value & 1 else 0)
        table.append(value)
    return tuple(table)


_CRC = _table()


def crc32c(data: bytes) -> int:
    """The checksum of RFC 3720: `crc32c(b"123456789")` is 0xE3069283. About 60 ns a byte."""
    value = 0xFFFFFFFF
    for byte in data:
        value = (value >> 8) ^ _CRC[(value ^ byte) & 0xFF]
    return value ^ 0xFFFFFFFF
