"""The last week, finer the younger: packed windows in bounded memory, kept across restarts."""

from __future__ import annotations

import os
import zlib
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import msgspec

from tidegate_monitoring.window import CHUNK, Window, decode, encode

#: Seconds of a window, and how many of them are kept: a minute, a quarter, six hours, a week.
TIERS = ((1, 60), (10, 90), (60, 360), (900, 672))
#: How the bytes are shared among them.
_SHARES = (0.2, 0.25, 0.25, 0.3)
VERSION = 1


class Packed(NamedTuple):
    """A window that is over. `data` is msgpack, deflated save for single seconds."""

    start: float
    end: float
    data: bytes

    @property
    def window(self) -> Window:
        return decode(zlib.decompress(self.data) if self.data[:1] == b"x" else self.data)


class Kept(msgspec.Struct, array_like=True):
    """The file: all tiers but that of single seconds."""

    version: int
    tiers: list[list[Packed]]


class History:
    """Windows of falling resolution. `max_bytes` bounds what is packed; the oldest of a tier go first."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.tiers: list[deque[Packed]] = [deque(maxlen=count) for _, count in TIERS]
        self.open: list[Window | None] = [None] * len(TIERS)  # what the coarser ones gather

    @property
    def size(self) -> int:
        return sum(len(packed.data) for tier in self.tiers for packed in tier)

    def put(self, second: Window, rest: Callable[[], object] = lambda: None) -> None:
        """Take in what happened in about a second. `rest` is called now and then, and may switch."""
        closed: Window | None = second
        self._keep(0, second)
        for place, (length, _) in enumerate(TIERS[1:], 1):
            if closed is None:
                return
            if len(closed.calls) > CHUNK:
                rest()
            gathering = self.open[place]
            if gathering is None:
                gathering = self.open[place] = Window(closed.start)
            gathering.merge(closed, rest)
            closed = None
            # Half of a finer window: clocks that drift must not make every window one longer.
            if gathering.seconds >= length - TIERS[place - 1][0] / 2:
                closed, self.open[place] = gathering, None
                if len(closed.calls) > CHUNK:
                    rest()
                self._keep(place, closed)

    def _keep(self, place: int, window: Window) -> None:
        tier = self.tiers[place]
        packed = pack(window) if place else Packed(window.start, window.start + window.seconds, encode(window))
        tier.append(packed)
        room = self.max_bytes * _SHARES[place] - sum(len(each.data) for each in tier)
        while room < 0 and len(tier) > 1:
            room += len(tier.popleft().data)

    def between(self, since: float, until: float) -> list[Packed]:
        """The windows that cover this time (wall), oldest first, no coarser than they must be."""
        starts = {n: tier[0].start for n, tier in enumerate(self.tiers) if tier}
        if not starts:
            return []
        # The finest of those that reach back as far as is asked, or as any does.
        place = next(n for n, start in starts.items() if start <= max(since, min(starts.values())) + TIERS[n][0])
        chosen: list[Packed] = []
        reached = since - TIERS[place][0] / 2
        for tier in reversed(self.tiers[: place + 1]):
            for packed in tier:
                if packed.start >= reached - 0.5 and packed.end <= until + 0.5:
                    chosen.append(packed)
            if chosen:
                reached = chosen[-1].end
        return chosen

    def recent(self, seconds: int) -> list[Packed]:
        """The last whole seconds, at most 60."""
        return list(self.tiers[0])[-seconds:]

    # --- the file ---------------------------------------------------------------------------------

    def kept(self, rest: Callable[[], object] = lambda: None) -> tuple[Kept, list[bytes]]:
        """What outlives this process, for `save`: what is packed, and the windows that are open, encoded."""
        tiers = [list(tier) for tier in self.tiers[1:]]
        still_open = []
        for window in self.open[1:]:
            still_open.append(encode(window) if window is not None else b"")
            rest()
        return Kept(VERSION, tiers), still_open

    def restore(self, kept: Kept) -> None:
        """Go on where another process ended."""
        for tier, packed in zip(self.tiers[1:], kept.tiers, strict=True):
            tier.extend(packed)


def pack(window: Window) -> Packed:
    return Packed(window.start, window.start + window.seconds, zlib.compress(encode(window), 1))


def save(path: Path, kept: Kept, still_open: list[bytes]) -> None:
    """Write the file whole or not at all; windows that are open end with it. Blocks: for a thread."""
    finer: Window | None = None
    for tier, encoded in zip(kept.tiers, still_open, strict=True):
        window = decode(encoded) if encoded else None
        if window is not None and finer is not None:
            window.merge(finer)
        finer = window or finer
        if finer is not None:
            tier.append(pack(finer))
    replace(path, msgspec.msgpack.encode(kept))


def load(path: Path) -> Kept | None:
    """What `save` wrote; None where there is nothing. Blocks. Raises ValueError for what can't be read."""
    if not path.exists():
        return None
    try:
        kept = msgspec.msgpack.decode(path.read_bytes(), type=Kept)
    except msgspec.MsgspecError as error:
        raise ValueError(f"{path.name} can't be read: {error}") from None
    if kept.version != VERSION or len(kept.tiers) != len(TIERS) - 1:
        raise ValueError(f"{path.name} was written by another version")
    return kept


def replace(path: Path, data: bytes) -> None:
    """Write a file so that a crash leaves the old one or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o750)
    fresh = path.with_suffix(".new")
    with fresh.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)
