"""Checks an audit trail: what was changed, left out, moved, cut off or written anew, and where."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from tidegate_security.audit import START, Key, files_of, split


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


def verify(folder: Path, key: Key, checkpoints: Path | None = None) -> Result:
    """Look at every byte of a trail. Raises OSError when it can't be read."""
    problems: list[Problem] = []
    lines = list(_lines(folder, key, problems))
    _chain(lines, problems)
    points = _checkpoints(checkpoints or folder / "checkpoints.jsonl", key, problems)
    _against(points, {line.seq: line for line in lines}, problems)
    return Result(len(lines), len(points), problems)


def _lines(folder: Path, key: Key, problems: list[Problem]) -> Iterator[_Line]:
    """The lines whose own HMAC is right."""
    for path in files_of(folder):
        data = path.read_bytes()
        if data and not data.endswith(b"\n"):
            problems.append(Problem("torn", f"{path.name}, at its end", "the last line has no end"))
        for number, line in enumerate(data.split(b"\n")[:-1], 1):
            where = f"{path.name}:{number}"
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
            if key.sign(body) != mac:
                if key_id != key.id:
                    problems.append(
                        Problem(
                            "key",
                            where,
                            f"entry {seq} names another key, {str(key_id)[:16]!r}",
                        )
                    )
                else:
                    problems.append(Problem("changed", where, f"entry {seq} is not what was written"))
                continue
            yield _Line(where, seq, prev, mac)


def _chain(lines: list[_Line], problems: list[Problem]) -> None:
    """Numbers that go on by one, each line naming the one before."""
    expected, head = 1, START
    known = {line.seq for line in lines}
    for line in lines:
        if line.seq == expected and line.prev != head and head:
            problems.append(
                Problem(
                    "rewritten",
                    line.where,
                    f"entry {line.seq} follows another entry than the one before it",
                )
            )
        elif line.seq > expected:
            if any(number in known for number in range(expected, min(line.seq, expected + 10_000))):
                problems.append(
                    Problem(
                        "order",
                        line.where,
                        f"entry {line.seq} stands where {expected} belongs",
                    )
                )
            else:
                problems.append(
                    Problem(
                        "missing",
                        line.where,
                        f"entries {expected} to {line.seq - 1} are missing",
                    )
                )
        elif line.seq < expected:
            problems.append(
                Problem(
                    "order",
                    line.where,
                    f"entry {line.seq} stands behind {expected - 1}",
                )
            )
        expected, head = line.seq + 1, line.mac


def _checkpoints(path: Path, key: Key, problems: list[Problem]) -> list[tuple[str, dict[str, Any]]]:
    if not path.exists():
        problems.append(Problem("checkpoint", path.name, "there are no checkpoints"))
        return []
    points = []
    data = path.read_bytes()
    if data and not data.endswith(b"\n"):
        problems.append(Problem("checkpoint", f"{path.name}, at its end", "the last line has no end"))
    for number, line in enumerate(data.split(b"\n")[:-1], 1):
        parts = split(line)
        if parts is None or key.sign(parts[0]) != parts[1]:
            problems.append(Problem("checkpoint", f"{path.name}:{number}", "is not what was written"))
            continue
        points.append((f"{path.name}:{number}", json.loads(parts[0] + b"}")))
    return points


def _against(
    points: list[tuple[str, dict[str, Any]]],
    lines: dict[int, _Line],
    problems: list[Problem],
) -> None:
    last = max(lines, default=0)
    for where, point in points:
        count = point["count"]
        if count > last:
            problems.append(
                Problem(
                    "cut",
                    where,
                    f"there were {count} entries at {point['at']}, and the last one now is {last}",
                )
            )
        elif count in lines and lines[count].mac != point["head"]:
            problems.append(
                Problem(
                    "rewritten",
                    where,
                    f"entry {count} was another one when it was signed at {point['at']}",
                )
            )
