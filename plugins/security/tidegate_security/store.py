"""What outlives the process, and the lists for firewalls: written whole, under another name, then renamed."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tidegate import Server

SETTLE_S = 0.2  # changes that come together are written once


def write_whole(path: Path, text: str) -> None:
    """A reader sees the old file or the new one. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f".{path.name}.new")
    with new.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(new, path)


class Store:
    """Writes files when something changed. `texts()` gives path -> text; it is asked off the loop, in a thread."""

    def __init__(self, server: Server, path: Path, texts: Callable[[], dict[Path, str]], log: Any) -> None:
        self._server = server
        self.path = path
        self._texts = texts
        self._log = log
        self._timer = server.clock.timer(lambda: server.spawn(self._write))
        self._armed = False
        self._pool = server.pool("security.files", 1, 16)

    def read(self) -> dict[str, Any]:
        """What was kept, empty if nothing. Raises OSError, ValueError."""
        if not self.path.exists():
            return {}
        data = json.loads(self.path.read_text("utf-8"))
        if not isinstance(data, dict):
            raise ValueError(f"{self.path}: expected an object")
        return data

    def changed(self) -> None:
        """Write soon. Never switches."""
        if not self._armed:
            self._armed = True
            self._timer.start(SETTLE_S)

    def _write(self) -> None:
        self._armed = False
        self._pool.run(lambda: self._write_all(self._texts()))  # 50,000 blocks as JSON take half a second

    def _write_all(self, texts: dict[Path, str]) -> None:
        for path, text in texts.items():
            try:
                write_whole(path, text)
            except OSError as error:
                self._log.error("%s can't be written: %s", path, error.strerror or error)

    def stop(self) -> None:
        """Write what is not written yet. Blocks; for the end of the server."""
        self._timer.stop()
        self._write_all(self._texts())
