"""Who is shut out, until when and why: a table that is asked at once, tells its changes and outlives the process."""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Any

from tidegate_security.networks import Network, NetworkTable, network

#: First block, s, and what repeats grow to (security.md 4.4: fail2ban's doubling, steeper, and capped).
BASE_S = {"medium": 600.0, "high": 3600.0, "critical": 86400.0}
CAP_S = {"medium": 7 * 86400.0, "high": 14 * 86400.0, "critical": 14 * 86400.0}
GROWTH = 4
_random = random.SystemRandom()
FORGET_S = 7 * 86400.0  # so long without a block takes one earlier block back
WIDEN_WITHIN_S = 3600.0
WIDEN_V6 = (
    (64, 56),
    (56, 48),
)  # so many bits of blocked networks widen to so many; never wider
WIDEN_V6_AT = 4
WIDEN_V4_AT = 8


@dataclass(slots=True)
class Block:
    """One block. `until` and `since` are wall-clock seconds; None: until it is taken back."""

    network: str
    since: float
    until: float | None
    severity: str
    reason: str
    actor: str | None = None  # an administrator's user id; None: by itself
    soft: bool = False  # who logs in may stay

    def left_s(self, wall: float) -> float | None:
        return None if self.until is None else max(0.0, self.until - wall)


@dataclass(slots=True)
class Offences:
    """How often a network was blocked before, and when the last block ended."""

    times: int
    ended: float

    def counted(self, wall: float) -> int:
        return max(0, self.times - int(max(0.0, wall - self.ended) // FORGET_S))


class Blocks:
    """The table. `changed(block, on, why)` is called for each change; nothing here switches."""

    def __init__(self, clock: Any, cap: int, changed: Callable[[Block, bool, str], None]) -> None:
        self._clock = clock
        self.cap = cap
        self._changed = changed
        self._table: NetworkTable[Block] = NetworkTable()
        #: By a connection's prefix, for the look at each call.
        self.exact: dict[bytes, Block] = {}
        self._offences: dict[str, Offences] = {}
        self._due: list[tuple[float, str, float]] = []  # monotonic time, network, wall time of its end
        self._timer = clock.timer(self._expire)
        self.added = self.expired = self.full = 0

    # --- asking ----------------------------------------------------------------------------------

    def covering(self, place: Network) -> Block | None:
        """The block that a network is in; a hard one before a soft one."""
        soft = None
        for _, block in self._table.covering(place):
            if not block.soft:
                return block
            soft = block
        return soft

    def get(self, place: Network) -> Block | None:
        return self._table.get(place)

    def all(self) -> list[Block]:
        """In the order of their beginning."""
        return sorted((block for _, block in self._table.items()), key=lambda block: block.since)

    def earlier(self, place: Network) -> int:
        """How many blocks of a network still count."""
        offences = self._offences.get(str(place))
        return offences.counted(self._clock.wall()) if offences else 0

    def duration(self, place: Network, severity: str) -> float:
        """How long the next block of a network is, s. A random tenth keeps machines from learning the second."""
        grown = BASE_S[severity] * GROWTH ** min(self.earlier(place), 16)
        return float(min(grown, CAP_S[severity]) * _random.uniform(0.9, 1.1))

    def __len__(self) -> int:
        return len(self._table)

    # --- changing --------------------------------------------------------------------------------

    def add(self, place: Network, block: Block, why: str = "") -> bool:
        """Block a network; False when there is no room, which never costs another its place."""
        known = self._table.get(place)
        if known is None and len(self._table) >= self.cap and not self._merge(place):
            self.full += 1
            return False
        self._put(place, block)
        self.added += 1
        self._changed(block, True, why)
        return True

    def _put(self, place: Network, block: Block) -> None:
        self._table.set(place, block)
        if (key := _prefix(place)) is not None:
            self.exact[key] = block
        if block.until is not None:
            left = block.until - self._clock.wall()
            heapq.heappush(self._due, (self._clock.now() + left, str(place), block.until))
            self._arm()

    def remove(self, place: Network, why: str, *, forgive: bool = False) -> Block | None:
        """Take a block back; `forgive`: it was wrong, and does not count when the next one is measured."""
        block = self._table.pop(place)
        if block is None:
            return None
        if (key := _prefix(place)) is not None:
            self.exact.pop(key, None)
        if block.actor is None and not forgive:
            self._remember(place)
        self._changed(block, False, why)
        return block

    def _remember(self, place: Network) -> None:
        wall = self._clock.wall()
        if len(self._offences) >= self.cap:
            self._offences = {key: held for key, held in self._offences.items() if held.counted(wall)}
            while len(self._offences) >= self.cap:
                del self._offences[min(self._offences, key=lambda key: self._offences[key].ended)]
        self._offences[str(place)] = Offences(self.earlier(place) + 1, wall)

    def _merge(self, place: Network) -> bool:
        """Make room in a full table: the fullest neighbourhood becomes one block, if a newcomer or two lie in it."""
        crowds: dict[Network, int] = {}
        for key, block in self._table.items():
            wide = key.wider(24 if key.version == 4 else 48) if key.length > (24 if key.version == 4 else 48) else None
            if wide is not None and not block.soft and block.until is not None:
                crowds[wide] = crowds.get(wide, 0) + 1
        if not crowds:
            return False
        wide = max(crowds, key=crowds.__getitem__)
        if crowds[wide] < 8:
            return False
        inside = [(key, block) for key, block in self._table.items() if wide.covers(key) and block.until is not None]
        until = max(block.until or 0.0 for _, block in inside)
        for key, _ in inside:
            self.remove(key, "merged")
        merged = Block(
            str(wide),
            self._clock.wall(),
            until,
            "high",
            f"{len(inside)} blocks in one network",
        )
        self._put(wide, merged)
        self._changed(merged, True, "merged")
        return True

    def widened(self, place: Network) -> Network | None:
        """The wider network to block, when many of it were blocked within the hour."""
        since = self._clock.wall() - WIDEN_WITHIN_S
        steps = WIDEN_V6 if place.version == 6 else ((32, 24),)
        needed = WIDEN_V6_AT if place.version == 6 else WIDEN_V4_AT
        for have, wide in steps:
            if place.length != have:
                continue
            around = place.wider(wide)
            if around in self._table:
                return None
            near = sum(
                1
                for key, block in self._table.items()
                if key.length == have and block.since >= since and block.actor is None and around.covers(key)
            )
            return around if near >= needed else None
        return None

    # --- time ------------------------------------------------------------------------------------

    def _arm(self) -> None:
        if self._due:
            self._timer.start(max(0.0, self._due[0][0] - self._clock.now()))

    def _expire(self) -> None:
        now = self._clock.now()
        while self._due and self._due[0][0] <= now + 0.001:
            _, text, until = heapq.heappop(self._due)
            place = network(text)
            block = self._table.get(place)
            if block is not None and block.until == until:  # not one that took its place
                self.expired += 1
                self.remove(place, "expired")
        self._arm()

    def stop(self) -> None:
        self._timer.stop()

    # --- what is kept ----------------------------------------------------------------------------

    def dump(self) -> dict[str, Any]:
        return {
            "blocks": [asdict(block) for block in self.all()],
            "offences": [[text, held.times, held.ended] for text, held in list(self._offences.items())],
        }

    def load(self, data: dict[str, Any]) -> None:
        """Take up what `dump` gave, without what is over by now. Raises ValueError, KeyError or TypeError."""
        wall = self._clock.wall()
        for text, times, ended in data.get("offences", ()):
            self._offences[str(text)] = Offences(int(times), float(ended))
        for row in data.get("blocks", ()):
            block = Block(**row)
            place = network(block.network)
            if block.until is None or block.until > wall:
                self._put(place, block)
            else:
                self._offences[str(place)] = Offences(self.earlier(place) + 1, block.until)

    def follow(self, row: dict[str, Any], on: bool) -> None:
        """Another process changed a block: keep equal, without telling it again."""
        place = network(row["network"])
        if on:
            self._put(place, Block(**row))
        elif self._table.pop(place) is not None and (key := _prefix(place)) is not None:
            self.exact.pop(key, None)


def _prefix(place: Network) -> bytes | None:
    """A network as a connection's prefix, if it is one."""
    if place.version == 4 and place.length == 32:
        return place.number.to_bytes(4, "big")
    if place.version == 6 and place.length == 64:
        return place.number.to_bytes(8, "big")
    return None


def plain_list(blocks: Iterable[Block]) -> str:
    """The hard blocks, one network a line."""
    return "".join(f"{block.network}\n" for block in blocks if not block.soft)


def ipset_list(blocks: Iterable[Block], wall: float, name: str) -> str:
    """For `ipset restore`: sets NAME4 and NAME6 with what is left of each block."""
    lines = [
        f"create {name}4 hash:net family inet timeout 0 maxelem 1000000 -exist",
        f"create {name}6 hash:net family inet6 timeout 0 maxelem 1000000 -exist",
        f"flush {name}4",
        f"flush {name}6",
    ]
    for block in blocks:
        if not block.soft:
            left = block.left_s(wall)
            seconds = 0 if left is None else min(2_147_483, max(1, int(left)))  # ipset's longest timeout
            lines.append(f"add {name}{6 if ':' in block.network else 4} {block.network} timeout {seconds} -exist")
    return "\n".join(lines) + "\n"


def nft_list(blocks: Iterable[Block], wall: float, name: str) -> str:
    """For `nft -f`: fills the sets blocked4 and blocked6 of the table inet NAME, and leaves all else in it alone.

    nft refuses a set whose networks overlap, so one that lies in another is left out.
    """
    rows: dict[int, list[str]] = {4: [], 6: []}
    placed: NetworkTable[Block] = NetworkTable()
    hard = [(network(block.network), block) for block in blocks if not block.soft]
    for place, block in sorted(hard, key=lambda one: one[0].length):
        if not placed.covers(place):
            placed.set(place, block)
            left = block.left_s(wall)
            seconds = 0 if left is None else min(99_999_999, max(1, int(left)))  # nft reads no ninth digit
            rows[place.version].append(block.network + (f" timeout {seconds}s" if seconds else ""))
    out = [f"add table inet {name}"]
    for version, kind in ((4, "ipv4_addr"), (6, "ipv6_addr")):
        out += [
            f"add set inet {name} blocked{version} {{ type {kind}; flags interval, timeout; }}",
            f"flush set inet {name} blocked{version}",
        ]
        if rows[version]:
            out.append(f"add element inet {name} blocked{version} {{ {', '.join(rows[version])} }}")
    return "\n".join(out) + "\n"
