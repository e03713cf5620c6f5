"""PROXY headers as real proxies send them, cut anywhere, and what is no such header."""

from __future__ import annotations

import struct
from ipaddress import ip_address
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tidegate.proxy import Header, ProxyError, crc32c, parse

SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"


def v2(body: bytes, family: int = 0x11, command: int = 0x21) -> bytes:
    return SIGNATURE + struct.pack("!BBH", command, family, len(body)) + body


def tlv(kind: int, value: bytes) -> bytes:
    return struct.pack("!BH", kind, len(value)) + value


def checked(body: bytes, family: int = 0x11) -> bytes:
    """A header with a CRC32C at its end."""
    header = v2(body + tlv(3, bytes(4)), family)
    return header[:-4] + struct.pack("!I", crc32c(header))


INET = bytes([192, 0, 2, 7, 203, 0, 113, 1]) + struct.pack("!HH", 51234, 7420)
INET6 = ip_address("2001:db8::7").packed + ip_address("::1").packed + struct.pack("!HH", 51234, 7420)
UNIX = b"/run/client".ljust(108, b"\0") + b"\0abstract".ljust(108, b"\0")
UNIQUE_ID = tlv(5, b"6cb0f2a1-3a6e-4d35-9d0e-3c6ed4f8e2b1")
# What HAProxy 2.6 adds with `proxy-v2-options ssl,unique-id`, for a plain client and for TLS 1.3.
SSL_PLAIN = tlv(0x20, bytes(5))
SSL = tlv(0x20, b"\x01\x00\x00\x00\x00" + tlv(0x21, b"TLSv1.3"))

WELL_FORMED = {
    "v1 TCP4": b"PROXY TCP4 192.0.2.7 203.0.113.1 51234 7420\r\n",
    "v1 TCP6": b"PROXY TCP6 2001:db8::7 ::1 51234 7420\r\n",
    "v1 UNKNOWN": b"PROXY UNKNOWN\r\n",
    "v1 the longest": b"PROXY UNKNOWN " + b" ".join([b"f" * 39, b"f" * 39, b"65535 65535\r\n"])[:93],
    "v2 IPv4": v2(INET),
    "v2 IPv4 datagram": v2(INET, 0x12),
    "v2 IPv6": v2(INET6, 0x21),
    "v2 unix": v2(UNIX, 0x31),
    "v2 unspecified": v2(UNIQUE_ID, 0x00),
    "v2 a health check": v2(tlv(5, b"") + SSL_PLAIN[:5], 0x00, 0x20),
    "v2 LOCAL with anything": v2(b"\xff" * 40, 0x77, 0x20),
    "v2 a plain client": v2(INET + UNIQUE_ID + SSL_PLAIN),
    "v2 a TLS client": v2(INET6 + SSL, 0x21),
    "v2 checksum": checked(INET + SSL),
    "v2 nothing at all": v2(b"", 0x00),
}
MALFORMED = {
    "another protocol": b"GET / HTTP/1.1\r\n",
    "JSON-RPC with no header": b'{"jsonrpc":"2.0","id":0,"method":"system.ping"}\n',
    "v1 in small letters": b"proxy TCP4 192.0.2.7 203.0.113.1 1 2\r\n",
    "v1 no family": b"PROXY \r\n",
    "v1 another family": b"PROXY UDP4 192.0.2.7 203.0.113.1 1 2\r\n",
    "v1 half a family": b"PROXY TCP 192.0.2.7 203.0.113.1 1 2\r\n",
    "v1 too few words": b"PROXY TCP4 192.0.2.7 203.0.113.1 1\r\n",
    "v1 too many words": b"PROXY TCP4 192.0.2.7 203.0.113.1 1 2 3\r\n",
    "v1 two spaces": b"PROXY TCP4  192.0.2.7 203.0.113.1 1 2\r\n",
    "v1 IPv6 as IPv4": b"PROXY TCP4 ::1 ::1 1 2\r\n",
    "v1 octal address": b"PROXY TCP4 192.0.02.7 203.0.113.1 1 2\r\n",
    "v1 short address": b"PROXY TCP4 127.1 203.0.113.1 1 2\r\n",
    "v1 zone": b"PROXY TCP6 fe80::1%eth0 ::1 1 2\r\n",
    "v1 port too high": b"PROXY TCP4 192.0.2.7 203.0.113.1 65536 2\r\n",
    "v1 port with a zero": b"PROXY TCP4 192.0.2.7 203.0.113.1 080 2\r\n",
    "v1 port with a sign": b"PROXY TCP4 192.0.2.7 203.0.113.1 +80 2\r\n",
    "v1 other digits": "PROXY TCP4 192.0.2.7 203.0.113.1 ٣ 2\r\n".encode(),
    "v1 LF alone": b"PROXY TCP4 192.0.2.7 203.0.113.1 1 2\n",
    "v1 too long": b"PROXY UNKNOWN " + b"f" * 92 + b"\r\n",
    "v1 endless": b"PROXY UNKNOWN " + b"f" * 500,
    "v2 version 3": v2(INET, 0x11, 0x31),
    "v2 another command": v2(INET, 0x11, 0x22),
    "v2 another family": v2(INET, 0x41),
    "v2 another transport": v2(INET, 0x13),
    "v2 too short for IPv4": v2(INET[:-1]),
    "v2 too short for IPv6": v2(INET, 0x21),
    "v2 too short for unix": v2(UNIX[:-1], 0x31),
    "v2 too long": v2(INET + bytes(5000)),
    "v2 a TLV cut off": v2(INET + b"\x05\x00"),
    "v2 a TLV too long": v2(INET + b"\x05\x00\x02x"),
    "v2 wrong checksum": checked(INET)[:-1] + bytes([checked(INET)[-1] ^ 1]),
    "v2 short checksum": v2(INET + tlv(3, b"abc")),
    "v2 two checksums": checked(INET + tlv(3, bytes(4))),
}


def fed(chunks: list[bytes]) -> Header | str | None:
    """What a connection sees that reads in these pieces; stops as it does."""
    data = b""
    for chunk in chunks:
        data += chunk
        try:
            if (header := parse(data)) is not None:
                return header
        except ProxyError:
            return "refused"
    return None


@pytest.mark.parametrize(
    ("name", "source", "destination"),
    [
        ("v1 TCP4", ("192.0.2.7", 51234), ("203.0.113.1", 7420)),
        ("v1 TCP6", ("2001:db8::7", 51234), ("::1", 7420)),
        ("v1 UNKNOWN", (None, None), (None, None)),
        ("v1 the longest", (None, None), (None, None)),
        ("v2 IPv4", ("192.0.2.7", 51234), ("203.0.113.1", 7420)),
        ("v2 IPv6", ("2001:db8::7", 51234), ("::1", 7420)),
        ("v2 unix", (None, None), (None, None)),
        ("v2 unspecified", (None, None), (None, None)),
        ("v2 a health check", (None, None), (None, None)),
        ("v2 LOCAL with anything", (None, None), (None, None)),
    ],
)
def test_a_header_tells_who_the_client_is_and_where_its_own_bytes_begin(name, source, destination):
    header = parse(WELL_FORMED[name] + b'{"jsonrpc"')
    assert header is not None
    assert (header.source, header.source_port) == source
    assert (header.destination, header.destination_port) == destination
    assert header.consumed == len(WELL_FORMED[name])
    assert header.local == (name in {"v2 a health check", "v2 LOCAL with anything"})


def test_the_further_fields_are_there_by_type():
    header = parse(WELL_FORMED["v2 a TLS client"])
    assert header is not None
    assert header.tlvs == {0x20: SSL[3:]}
    header = parse(WELL_FORMED["v2 a plain client"])
    assert header is not None
    assert header.tlvs == {5: UNIQUE_ID[3:], 0x20: bytes(5)}


def test_a_client_of_a_unix_socket_has_two_paths_and_no_address():
    header = parse(WELL_FORMED["v2 unix"])
    assert header is not None
    assert header.paths == ("/run/client", "@abstract")


@pytest.mark.parametrize("name", MALFORMED)
def test_what_is_malformed_is_refused(name):
    with pytest.raises(ProxyError):
        parse(MALFORMED[name])


@pytest.mark.parametrize(
    "begin",
    [
        *(b"G", b"\x16\x03", b"{", b"PROXY T ", b"PROXY X", b"PROXY TCP4 1.2.3 "),
        *(b"PROXY TCP4 1.2.3.4 5.6.7.8 x ", SIGNATURE + b"\x11", SIGNATURE + b"\x21\x11\xff\xff"),
        *(SIGNATURE + b"\x21\x41\x00\x0c", SIGNATURE + b"\x21\x21\x00\x0c"),
    ],
)
def test_a_wrong_beginning_is_refused_before_the_rest_has_come(begin):
    with pytest.raises(ProxyError):
        parse(begin)


@pytest.mark.parametrize("name", [*WELL_FORMED, *MALFORMED])
def test_it_makes_no_difference_in_which_pieces_a_header_comes(name):
    data = {**WELL_FORMED, **MALFORMED}[name]
    whole = fed([data])
    assert whole is not None
    assert fed([bytes([byte]) for byte in data]) == whole
    for at in range(len(data)):
        assert fed([data[:at], data[at:]]) == whole
    if name in WELL_FORMED:
        assert all(parse(data[:at]) is None for at in range(len(data)))


mutated = st.sampled_from([*WELL_FORMED.values(), *MALFORMED.values()]).flatmap(
    lambda data: st.tuples(st.just(data), st.integers(0, len(data) - 1), st.binary(max_size=4))
)


@given(mutated, st.lists(st.integers(0, 300), max_size=5), st.integers(0, 3))
def test_damaged_headers_are_refused_or_read_the_same_however_they_are_cut(change, cuts, gone):
    data, at, inserted = change
    data = data[:at] + inserted + data[at + gone :]
    edges = [0, *sorted(cut for cut in cuts if cut < len(data)), len(data)]
    assert fed([data[a:b] for a, b in pairwise(edges)]) == fed([data])


@given(st.sampled_from([b"", b"PROXY ", b"PROXY TCP6 ", SIGNATURE, SIGNATURE + b"\x21"]), st.binary())
@example(SIGNATURE, b"\x21\x11\x00\x00")
def test_no_bytes_whatever_raise_anything_but_a_proxy_error(begin, rest):
    fed([begin + rest])


@given(st.ip_addresses(), st.integers(0, 65535))
def test_every_address_and_port_comes_through_both_versions(address, port):
    family = "TCP4" if address.version == 4 else "TCP6"
    line = f"PROXY {family} {address} {address} {port} {port}\r\n".encode()
    packed = address.packed * 2 + struct.pack("!HH", port, port)
    for data in (line, checked(packed, 0x11 if address.version == 4 else 0x21)):
        header = parse(data)
        assert header is not None
        assert header.source is not None
        assert (ip_address(header.source), header.source_port) == (address, port)


def test_the_checksum_is_castagnolis():
    # RFC 3720, appendix B.4.
    assert crc32c(bytes(32)) == 0x8A9136AA
    assert crc32c(b"\xff" * 32) == 0x62A8AB43
    assert crc32c(bytes(range(32))) == 0x46DD794E
