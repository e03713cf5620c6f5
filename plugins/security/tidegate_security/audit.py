"""The audit trail: JSON lines in a keyed chain, with signed checkpoints in a second place.

A bare chain of hashes can be computed anew by whoever can write the file, and does not show that
its tail is gone. So each line carries an HMAC-SHA256 over itself, the line's predecessor's included
(RFC 2104), and every CHECKPOINT_ENTRIES lines and every minute the number and the HMAC of the last
line go, signed, to another file and to the server's log.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import secrets
from collections import deque
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

START = "0" * 64  # what the first line follows
CHECKPOINT_ENTRIES = 256
CHECKPOINT_S = 60.0
_MAC = b',"mac":"'
SEVERE = frozenset({"high", "critical"})


class Key:
    """The key of a trail: a file of its own that only the server's user reads."""

    def __init__(self, secret: bytes) -> None:
        self.secret = secret
        self.id = hashlib.sha256(b"tidegate audit key" + secret).hexdigest()[:8]

    def sign(self, data: bytes) -> str:
        return hmac.new(self.secret, data, hashlib.sha256).hexdigest()

    @classmethod
    def read(cls, path: Path) -> Key:
        """Raises OSError, ValueError."""
        secret = bytes.fromhex(path.read_text("ascii").strip())
        if len(secret) < 32:
            raise ValueError(f"{path}: a key has at least 32 bytes")
        return cls(secret)

    @classmethod
    def make(cls, path: Path) -> Key:
        """Read the key, or make one. Raises OSError, ValueError."""
        if path.exists():
            return cls.read(path)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_hex(32) + "\n")
            file.flush()
            os.fsync(file.fileno())
        return cls.read(path)


def line_of(entry: Mapping[str, Any], key: Key) -> tuple[bytes, str]:
    """An entry as a line without its end, and its HMAC."""
    body = json.dumps(entry, separators=(",", ":"), ensure_ascii=True, default=str).encode()[:-1]
    mac = key.sign(body)
    return body + _MAC + mac.encode() + b'"}', mac


def split(line: bytes) -> tuple[bytes, str] | None:
    """What is signed of a line, and the HMAC that it carries; None if it is no line of a trail."""
    body, found, rest = line.rpartition(_MAC)
    if not found or len(rest) != 66 or not rest.endswith(b'"}'):
        return None
    return body, rest[:64].decode("latin-1")


class Trail:
    """The writer's half. All methods but `__init__` and `put` are for a thread: they write and wait for the disk."""

    def __init__(self, folder: Path, *, checkpoints: Path | None, max_bytes: int, queue: int) -> None:
        self.folder = folder
        self.path = folder / "audit.jsonl"
        self.checkpoints = checkpoints or folder / "checkpoints.jsonl"
        self.max_bytes = max_bytes
        self.cap = queue
        self.queue: deque[dict[str, Any]] = deque()
        self.lost = 0  # since the last line that says so
        self.lost_in_all = 0
        self.broken = ""  # why it can't be written; empty: it can
        self.seq = 0
        self.head = START
        self.signed_seq = 0
        self._file: Any = None
        self._signs: Any = None
        self.key: Key

    # --- from the loop -----------------------------------------------------------------------------

    def put(self, entry: dict[str, Any]) -> bool:
        """Queue an entry; False when there is no room and it is counted as lost. What is severe has three times
        the room of its own beside the rest. Never switches."""
        room = self.cap * 4 if entry.get("severity") in SEVERE else self.cap
        if len(self.queue) >= room:
            self._lose()
            return False
        self.queue.append(entry)
        return True

    def _lose(self) -> None:
        self.lost += 1
        self.lost_in_all += 1

    # --- in a thread -------------------------------------------------------------------------------

    def open(self) -> dict[str, Any] | None:
        """Take up the trail where it ends; a torn last line is set aside, and what it was is returned for the trail.

        Raises OSError, ValueError.
        """
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.key = Key.make(self.folder / "audit.key")
        torn = self._resume()
        self._file = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self.checkpoints.parent.mkdir(parents=True, exist_ok=True)
        self._signs = os.open(
            self.checkpoints,
            os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC,
            0o600,
        )
        return torn

    def _resume(self) -> dict[str, Any] | None:
        torn = None
        for path in reversed(files_of(self.folder)):
            data = path.read_bytes()
            if path == self.path and data and not data.endswith(b"\n"):
                cut = data.rfind(b"\n") + 1
                rest, data = data[cut:], data[:cut]
                (self.folder / f"torn-{datetime.now(UTC):%Y%m%dT%H%M%S%f}").write_bytes(rest)
                torn = {"bytes": len(rest), "sha256": hashlib.sha256(rest).hexdigest()}
                with path.open("r+b") as file:
                    file.truncate(cut)
            if last := data.rstrip(b"\n").rpartition(b"\n")[2]:
                parts = split(last)
                if parts is None:
                    raise ValueError(f"{path}: its last line is no entry; `tidegate security audit verify` says more")
                self.seq, self.head = json.loads(parts[0] + b"}")["seq"], parts[1]
                break
        return torn

    def write(self, entries: Iterable[dict[str, Any]], sync: bool) -> None:
        """Write entries in their order. Raises OSError; then nothing of them counts as written."""
        seq, head, lines = self.seq, self.head, []
        for entry in entries:
            seq += 1
            line, head = line_of({"seq": seq, **entry, "key": self.key.id, "prev": head}, self.key)
            lines.append(line + b"\n")
        data = b"".join(lines)
        if not data:
            return os.fsync(self._file)
        size = os.fstat(self._file).st_size
        if size and size + len(data) > self.max_bytes:
            self._rotate()
            return self.write(entries, sync)
        try:
            _write_all(self._file, data)
            if sync:
                os.fsync(self._file)
        except OSError:
            os.ftruncate(self._file, size)
            raise
        self.seq, self.head = seq, head

    def _rotate(self) -> None:
        """The chain goes on in a new file; the old one is named by its last number."""
        self.sign()
        os.fsync(self._file)
        os.close(self._file)
        os.rename(self.path, self.folder / f"audit-{self.seq:012d}.jsonl")
        self._file = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)

    def sign(self) -> dict[str, Any] | None:
        """Write a checkpoint, if there is anything new; what it says. Raises OSError."""
        if self.seq == self.signed_seq:
            return None
        point = {
            "at": stamp(datetime.now(UTC).timestamp()),
            "count": self.seq,
            "head": self.head,
            "key": self.key.id,
        }
        line, _ = line_of(point, self.key)
        _write_all(self._signs, line + b"\n")
        os.fsync(self._signs)
        self.signed_seq = self.seq
        return point

    def close(self) -> None:
        for descriptor in (self._file, self._signs):
            if descriptor is not None:
                os.close(descriptor)
        self._file = self._signs = None


def _write_all(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]


def files_of(folder: Path) -> list[Path]:
    """The files of a trail, the oldest first."""
    current = folder / "audit.jsonl"
    return [
        *sorted(folder.glob("audit-*.jsonl")),
        *([current] if current.exists() else []),
    ]


def stamp(wall: float) -> str:
    """UTC, to the microsecond."""
    return datetime.fromtimestamp(wall, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
