"""Networks and the table of blocks."""

from __future__ import annotations

import ipaddress
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tidegate.testing.clock import VirtualClock
from tidegate_security.blocks import Block, Blocks
from tidegate_security.networks import NetworkTable, full, network
from tidegate_security.reputation import MOST_CREDIT, Evidence, Reputation


def blocks(cap: int = 100) -> tuple[Blocks, VirtualClock, list[tuple[str, bool]]]:
    clock, told = VirtualClock(), []
    return Blocks(clock, cap, lambda block, on, why: told.append((block.network, on))), clock, told


def block(text: str, clock: VirtualClock, seconds: float | None = 60.0) -> Block:
    wall = clock.wall()
    return Block(str(network(text)), wall, None if seconds is None else wall + seconds, "medium", "x")


@pytest.mark.parametrize(
    ("given", "means"),
    [
        ("192.0.2.7", "192.0.2.7/32"),
        ("192.0.2.7/24", "192.0.2.0/24"),
        ("::ffff:192.0.2.7", "192.0.2.7/32"),
        ("64:ff9b::c000:207", "192.0.2.7/32"),
        ("2001:db8::1", "2001:db8::/64"),
        ("2001:db8:1::/48", "2001:db8:1::/48"),
        ("fe80::1%eth0", "fe80::/64"),
    ],
)
def test_addresses_are_counted_by_their_network(given: str, means: str) -> None:
    assert str(network(given)) == means


@given(st.integers(0, 2**61 - 1), st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1))
def test_all_addresses_of_a_64_are_one(place: int, one: int, other: int) -> None:
    base = (1 << 61 | place) << 64  # 2000::/3, what is routed
    assert network(str(ipaddress.IPv6Address(base | one))) == network(str(ipaddress.IPv6Address(base | other)))


@given(st.lists(st.tuples(st.integers(0, 2**32 - 1), st.integers(0, 32)), max_size=20), st.integers(0, 2**32 - 1))
def test_a_table_covers_what_its_networks_hold(rows: list[tuple[int, int]], number: int) -> None:
    table: NetworkTable[bool] = NetworkTable()
    networks = [ipaddress.ip_network((n >> (32 - s) << (32 - s), s)) for n, s in rows]
    for one in networks:
        table.set(network(str(one)), True)
    address = ipaddress.ip_address(number)
    assert table.covers(full(str(address))) == any(address in one for one in networks)


def test_a_block_ends_when_its_time_is_over() -> None:
    table, clock, told = blocks()
    table.add(network("192.0.2.7"), block("192.0.2.7", clock))
    clock.advance(59)
    assert table.covering(network("192.0.2.7"))
    clock.advance(2)
    assert table.covering(network("192.0.2.7")) is None
    assert told == [("192.0.2.7/32", True), ("192.0.2.7/32", False)]


def test_repeats_grow_and_are_forgotten_after_good_time() -> None:
    table, clock, _ = blocks()
    place = network("192.0.2.7")
    lengths = []
    for _ in range(4):
        seconds = table.duration(place, "medium")
        lengths.append(seconds)
        table.add(place, block("192.0.2.7", clock, seconds))
        clock.advance(seconds + 1)
    assert all(3 < b / a < 5.1 for a, b in pairwise(lengths))
    clock.advance(4 * 7 * 86400)
    assert table.duration(place, "medium") < 700


def test_a_block_that_was_wrong_does_not_count() -> None:
    table, clock, _ = blocks()
    place = network("192.0.2.7")
    table.add(place, block("192.0.2.7", clock))
    table.remove(place, "wrong", forgive=True)
    assert table.earlier(place) == 0


def test_many_64s_of_one_56_widen_and_never_beyond_48() -> None:
    table, clock, _ = blocks(1000)
    wider = []
    for n in range(4):
        place = network(f"2001:db8:0:{n:x}::/64")
        table.add(place, block(str(place), clock))
        wider.append(table.widened(place))
    assert [str(w) for w in wider if w] == ["2001:db8::/56"]
    for n in range(4):
        place = network(f"2001:db8:0:{n << 8:x}::/56")
        table.add(place, block(str(place), clock))
    assert str(table.widened(network("2001:db8:0:300::/56"))) == "2001:db8::/48"
    assert table.widened(network("2001:db8::/48")) is None


def test_a_full_table_drops_no_active_block_but_merges_neighbours() -> None:
    table, clock, _ = blocks(10)
    for n in range(8):
        assert table.add(network(f"192.0.2.{n}"), block(f"192.0.2.{n}", clock, 600))
    for n in range(2):
        table.add(network(f"198.51.{n}.1"), block(f"198.51.{n}.1", clock, 600))
    assert table.add(network("203.0.113.1"), block("203.0.113.1", clock))
    for text in (*(f"192.0.2.{n}" for n in range(8)), "198.51.0.1", "198.51.1.1", "203.0.113.1"):
        assert table.covering(network(text)), text
    scattered, clock, _ = blocks(3)
    for n in range(3):
        scattered.add(network(f"198.51.{n}.1"), block(f"198.51.{n}.1", clock))
    assert not scattered.add(network("203.0.113.1"), block("203.0.113.1", clock))
    assert len(scattered) == 3


def test_blocks_are_kept_as_they_were() -> None:
    table, clock, _ = blocks()
    table.add(network("192.0.2.7"), block("192.0.2.7", clock, 600))
    table.add(network("192.0.2.8"), block("192.0.2.8", clock, None))
    again, later, _ = blocks()
    later.advance(clock.now() - later.now() + 300)
    again.load(table.dump())
    assert [b.network for b in again.all()] == ["192.0.2.7/32", "192.0.2.8/32"]


def reputation(cap: int = 100) -> tuple[Reputation, VirtualClock, list[Evidence]]:
    from tidegate.state import MemoryState

    clock, crossed = VirtualClock(), []
    state = MemoryState(clock)
    return Reputation(state, clock.wall, cap, lambda prefix: False, crossed.append), clock, crossed


def test_points_fade_and_credit_has_an_end() -> None:
    held, clock, _ = reputation()
    held.add("192.0.2.7/32", None, "x", 40, "")
    clock.advance(600)
    assert 19 < held.addresses.get("192.0.2.7/32") < 21
    for _ in range(100):
        held.credit("192.0.2.8/32", 5)
    held.add("192.0.2.8/32", None, "x", 30, "")
    assert held.addresses.get("192.0.2.8/32") == 30 - MOST_CREDIT


def test_newcomers_do_not_push_out_who_has_gathered_points() -> None:
    held, _, _ = reputation(cap=200)
    held.add("192.0.2.7/32", None, "x", 40, "")
    for n in range(5000):
        held.add(f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}/32", None, "x", 1, "")
    assert held.addresses.get("192.0.2.7/32") == 40
    assert len(held.addresses) <= 200
