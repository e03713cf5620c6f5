"""Checks an audit trail: what was changed, left out, moved, cut off or written anew, and where."""

from __future__ import annotations

import json
import os
from bisect import bisect_right
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from tidegate_security.audit import START, Key, files_of, split

_BLOCK = 16384  # reading lets other threads run: between two blocks the loop gets its turn


class Problem(NamedTuple):
    """`kind`: changed, missing, order, torn, cut, rewritten, checkpoint, key."""

    kind: str
    where: str
    what: str


class Result(NamedTuple):
    entries: int
    checkpoints: int
    problems: list[Problem]


class _Line(NamedTuple):
    where: str
    seq: int
    prev: str
    mac: str


class Part(NamedTuple):
    """A file of a trail, open for reading, and how much of it counts."""

    name: str
    file: BinaryIO
    size: int


class Files(NamedTuple):
    """A trail as it was at one moment: what is written or renamed later changes nothing."""

    parts: list[Part]
    points: Part | None


def opened(folder: Path, checkpoints: Path | None = None) -> Files:
    """Open a trail's files; of a running server's, in the thread that writes them. Raises OSError."""
    points = checkpoints or folder / "checkpoints.jsonl"
    return Files([_open(path) for path in files_of(folder)], _open(points) if points.exists() else None)


def _open(path: Path) -> Part:
    file = path.open("rb", buffering=_BLOCK)
    return Part(path.name, file, os.fstat(file.fileno()).st_size)


def verify(folder: Path, key: Key, checkpoints: Path | None = None) -> Result:
    """Look at every byte of a trail. Raises OSError when it can't be read."""
    return check(opened(folder, checkpoints), key)


def check(files: Files, key: Key) -> Result:
    """Look at every byte of a trail and close its files. What it needs of memory is bounded by what is wrong."""
    problems: list[Problem] = []
    try:
        points = _checkpoints(files.points, key, problems)
        signed = {point["count"]: "" for _, point in points}
        chain = _Chain(problems, signed)
        for part in files.parts:
            for line in _lines(part, key, problems):
                chain.follow(line)
        chain.end()
        _against(points, chain, problems)
        return Result(chain.count, len(points), problems)
    finally:
        for part in [*files.parts, *([files.points] if files.points else [])]:
            part.file.close()


def _whole(part: Part, problems: list[Problem], kind: str) -> Iterator[tuple[str, bytes]]:
    """The lines of a file without their ends, and where each stands."""
    at = 0
    for number, line in enumerate(part.file, 1):
        at += len(line)
        if at > part.size:
            return
        if not line.endswith(b"\n"):
            problems.append(Problem(kind, f"{part.name}, at its end", "the last line has no end"))
            return
        yield f"{part.name}:{number}", line[:-1]


def _lines(part: Part, key: Key, problems: list[Problem]) -> Iterator[_Line]:
    """The lines whose own HMAC is right."""
    for where, line in _whole(part, problems, "torn"):
        parts = split(line)
        if parts is None:
            problems.append(Problem("changed", where, "is no entry of a trail"))
            continue
        body, mac = parts
        try:
            entry = json.loads(body + b"}")
            seq, prev, key_id = entry["seq"], entry["prev"], entry["key"]
        except (ValueError, KeyError, TypeError):
            problems.append(Problem("changed", where, "can't be read"))
            continue
        if key.sign(body) == mac:
            yield _Line(where, seq, prev, mac)
        elif key_id != key.id:
            problems.append(Problem("key", where, f"entry {seq} names another key, {str(key_id)[:16]!r}"))
        else:
            problems.append(Problem("changed", where, f"entry {seq} is not what was written"))


class _Chain:
    """Numbers that go on by one, each line naming the one before. `signed`: the numbers whose HMAC is wanted."""

    def __init__(self, problems: list[Problem], signed: dict[int, str]) -> None:
        self._problems = problems
        self.signed = signed
        self.count = 0
        self.last = 0
        self._head = START
        self._expected = 1
        self._runs: list[list[int]] = []  # the first and last number of each stretch without a gap
        self._gaps: list[tuple[str, int, int]] = []

    def follow(self, line: _Line) -> None:
        seq, expected = line.seq, self._expected
        if seq == expected and self._runs:
            self._runs[-1][1] = seq
        else:
            self._runs.append([seq, seq])
        if seq > expected:
            self._gaps.append((line.where, expected, seq))
        elif seq < expected:
            self._tell("order", line.where, f"entry {seq} stands behind {expected - 1}")
        elif line.prev != self._head:
            self._tell("rewritten", line.where, f"entry {seq} follows another entry than the one before it")
        if seq in self.signed:
            self.signed[seq] = line.mac
        self.count += 1
        self.last = max(self.last, seq)
        self._expected, self._head = seq + 1, line.mac

    def end(self) -> None:
        """What is not where it belongs may be elsewhere, or nowhere."""
        runs = sorted(self._runs)
        for where, expected, seq in self._gaps:
            at = bisect_right(runs, [seq - 1, seq])
            if any(last >= expected for _, last in runs[max(0, at - 1) : at]):
                self._tell("order", where, f"entry {seq} stands where {expected} belongs")
            else:
                self._tell("missing", where, f"entries {expected} to {seq - 1} are missing")

    def _tell(self, kind: str, where: str, what: str) -> None:
        self._problems.append(Problem(kind, where, what))


def _checkpoints(part: Part | None, key: Key, problems: list[Problem]) -> list[tuple[str, dict[str, Any]]]:
    if part is None:
        problems.append(Problem("checkpoint", "checkpoints", "there are no checkpoints"))
        return []
    points = []
    for where, line in _whole(part, problems, "checkpoint"):
        parts = split(line)
        if parts is None or key.sign(parts[0]) != parts[1]:
            problems.append(Problem("checkpoint", where, "is not what was written"))
            continue
        points.append((where, json.loads(parts[0] + b"}")))
    return points


def _against(points: list[tuple[str, dict[str, Any]]], chain: _Chain, problems: list[Problem]) -> None:
    for where, point in points:
        count, at = point["count"], point["at"]
        if count > chain.last:
            what = f"there were {count} entries at {at}, and the last one now is {chain.last}"
            problems.append(Problem("cut", where, what))
        elif chain.signed[count] not in ("", point["head"]):
            problems.append(Problem("rewritten", where, f"entry {count} was another one when it was signed at {at}"))
