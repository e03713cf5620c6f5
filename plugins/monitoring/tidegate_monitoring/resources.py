"""What the process uses of the machine, and what that has left."""

from __future__ import annotations

import gc
import os
import resource
import shutil
import stat
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from types import CodeType
from typing import Any

import psutil

MAX_DATABASES = 20
#: Descriptors that are looked at: a database is opened early, and all those of 10,000 connections take too long.
DESCRIPTORS = 256
_DATABASE_ENDS = (".db", ".sqlite", ".sqlite3")
#: A pause that is worth asking who caused it.
GC_NAMED_S = 0.001
MAX_PAUSES = 10_000


class Resources:
    """Reads levels, 1 ms and more with many descriptors or a slow disk: for a thread, never two at once."""

    def __init__(self, data: Path, folders: list[str]) -> None:
        self.data = data
        self.folders = folders
        self.process = psutil.Process()
        self.total = psutil.virtual_memory().total
        self.process.cpu_percent(None)  # the first reading is always 0

    def read(self) -> dict[str, float]:
        """By name and unit: `{"rss_bytes": 41e6, "cpu_percent": 3.1, …}`; what can't be read is left out."""
        process = self.process
        rss = process.memory_info().rss
        levels = {
            "cpu_percent": process.cpu_percent(None),
            "rss_bytes": float(rss),
            "memory_percent": 100 * rss / self.total,
            "threads_running": float(process.num_threads()),
        }
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        try:
            levels["descriptors_open"] = float(process.num_fds())
            if limit > 0:
                levels["descriptors_percent"] = 100 * levels["descriptors_open"] / limit
        except (psutil.Error, OSError):  # none left to look with
            levels["descriptors_percent"] = 100.0
        databases = self._databases()
        levels |= self._disks(next((os.path.dirname(file) for file in databases if not self._holds(file)), None))
        if databases:
            levels["database_bytes"] = float(sum(map(_size, databases)))
            levels["wal_bytes"] = float(sum(_size(f"{file}-wal") for file in databases))
        return levels

    def _disks(self, database: str | None) -> dict[str, float]:
        """Of the data folder, of a database elsewhere, of the log if it is a file, of what the configuration names; the
        emptiest counts."""
        levels: dict[str, float] = {}
        shares = []
        places = {"data": str(self.data), "database": database, "log": log_folder(), **_named(self.folders)}
        for name, place in places.items():
            if place is None:
                continue
            try:
                usage = shutil.disk_usage(place)
            except OSError:
                continue
            levels[f"disk_{name}_free_bytes"] = float(usage.free)
            shares.append(100 * usage.free / usage.total if usage.total else 0.0)
        if shares:
            levels["disk_free_percent"] = min(shares)
        return levels

    def _holds(self, file: str) -> bool:
        return Path(file).is_relative_to(self.data.absolute())

    def _databases(self) -> list[str]:
        """SQLite files in the plugins' folders, and those elsewhere that this process has open."""
        found = {
            os.path.abspath(entry.path)
            for folder in _folders(self.data)
            for entry in os.scandir(folder)
            if entry.name.endswith(_DATABASE_ENDS)
        }
        for descriptor in range(3, DESCRIPTORS):
            try:
                file = os.readlink(f"/proc/self/fd/{descriptor}")
            except OSError:
                continue
            if file.endswith(_DATABASE_ENDS):
                found.add(file)
        return sorted(found)[:MAX_DATABASES]


def log_folder() -> str | None:
    """Where the log lies when standard error is a file."""
    try:
        if not stat.S_ISREG(os.fstat(2).st_mode):
            return None
        return str(Path(f"/proc/self/fd/{2}").resolve().parent)
    except OSError:
        return None


def _named(folders: list[str]) -> dict[str, str]:
    return {"".join(c if c.isalnum() else "_" for c in folder).strip("_") or "root": folder for folder in folders}


def _folders(data: Path) -> list[str]:
    try:
        return [str(data), *(entry.path for entry in os.scandir(data) if entry.is_dir(follow_symlinks=False))]
    except OSError:
        return []


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except OSError:
        return 0


class Collections:
    """Times the garbage collector's pauses, and finds the command in which a long one fell."""

    def __init__(self, codes: Callable[[], dict[CodeType, str]]) -> None:
        self._codes = codes
        self._start = 0.0
        # The collector runs in whichever thread makes an object too many: nothing else may be touched there.
        self._pauses: deque[tuple[float, str]] = deque(maxlen=MAX_PAUSES)

    def start(self) -> None:
        gc.callbacks.append(self._phase)

    def stop(self) -> None:
        gc.callbacks.remove(self._phase)

    def _phase(self, phase: str, info: dict[str, Any]) -> None:
        if phase == "start":
            self._start = time.perf_counter()
            return
        took = time.perf_counter() - self._start
        self._pauses.append((took, self._command() if took >= GC_NAMED_S else ""))

    def take(self) -> Iterator[tuple[float, str]]:
        """The pauses since the last time: seconds, and the command, "" for none or for a short one."""
        while self._pauses:
            yield self._pauses.popleft()

    def _command(self) -> str:
        """The command on whose stack the collection ran, "" for none."""
        codes = self._codes()
        frame = sys._getframe(1)
        name = ""
        while frame is not None:
            name = codes.get(frame.f_code, name)
            frame = frame.f_back  # type: ignore[assignment]
        return name
