"""Finds entries in an audit trail, the newest first."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from tidegate_security.audit import files_of

SEARCHED = 16 << 20  # bytes that one search reads; the next one goes on from there
_BLOCK = 16384  # reading lets other threads run: between two blocks the loop gets its turn
_SEQ = b'{"seq":'


class Wanted(NamedTuple):
    """What an entry must have; empty: anything. `event` and `text` are parts, the rest is whole; times are UTC."""

    event: str = ""
    address: str = ""
    user: str = ""
    severity: str = ""
    since: str = ""
    until: str = ""
    text: str = ""

    def fits(self, entry: Mapping[str, Any]) -> bool:
        prefix = str(entry.get("prefix"))
        places = (entry.get("address"), prefix, prefix.partition("/")[0])
        return (
            self.event in str(entry.get("event", ""))
            and (not self.address or self.address in places)
            and (not self.user or self.user in (entry.get("user"), entry.get("user_id"), entry.get("actor")))
            and (not self.severity or self.severity == entry.get("severity"))
            and (not self.since or str(entry.get("ts", "")) >= self.since)
            and (not self.until or str(entry.get("ts", "")) < self.until)
            and (not self.text or self.text in json.dumps(entry, ensure_ascii=False))
        )


class Page(NamedTuple):
    """`next`: the number to go on before; None when the trail's beginning was reached."""

    entries: list[dict[str, Any]]
    next: int | None


def search(folder: Path, wanted: Wanted, before: int | None = None, limit: int = 100, most: int = SEARCHED) -> Page:
    """The last entries with a number below `before` that fit, at most `limit`, after at most `most` bytes.

    For a thread: reads files. Raises OSError.
    """
    found: list[dict[str, Any]] = []
    read, last = 0, None
    for path in reversed(files_of(folder)):
        if before is not None and path.stem != "audit" and _begins(path) >= before:
            continue
        for line in _backwards(path):
            seq = _number(line)
            if before is not None and seq is not None and seq >= before:
                continue
            read += len(line)
            entry = _entry(line)
            if wanted.fits(entry):
                found.append(entry)
            last = seq if seq is not None else last
            if last is not None and last > 1 and (len(found) >= limit or read >= most):
                return Page(found, last)
    return Page(found, None)


def forwards(folder: Path) -> Iterator[dict[str, Any]]:
    """Every entry, the oldest first. Raises OSError."""
    for path in files_of(folder):
        with path.open("rb") as file:
            for line in file:
                yield _entry(line)


def _entry(line: bytes) -> dict[str, Any]:
    try:
        entry = json.loads(line)
    except ValueError:
        entry = None
    return entry if isinstance(entry, dict) else {"event": "unreadable", "line": line[:200].decode("latin-1")}


def _number(line: bytes) -> int | None:
    """An entry's number, without reading all of it."""
    text = line[len(_SEQ) : line.find(b",")] if line.startswith(_SEQ) else b""
    return int(text) if text.isdigit() else None


def _begins(path: Path) -> int:
    """The number of a file's first entry; 0 where it can't be told."""
    with path.open("rb") as file:
        return _number(file.readline(64)) or 0


def _backwards(path: Path) -> Iterator[bytes]:
    """A file's lines, the last first; one that has no end yet is left out."""
    with path.open("rb", buffering=0) as file:
        at, rest, ended = file.seek(0, 2), b"", False
        while at:
            size = min(_BLOCK, at)
            at = file.seek(at - size)
            rest, *lines = (file.read(size) + rest).split(b"\n")
            if lines and not ended:
                lines.pop()
                ended = True
            yield from reversed(lines)
        if ended:
            yield rest
