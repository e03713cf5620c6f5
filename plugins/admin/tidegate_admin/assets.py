"""The page's files, read once and kept in memory."""

from __future__ import annotations

import gzip
import hashlib
from importlib.resources import files
from typing import NamedTuple

_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
#: What a browser gets before it is logged in.
PUBLIC = frozenset({"login.html", "style.css", "icon.svg"})


class Asset(NamedTuple):
    """A file; `packed` is the same in gzip, where that is shorter."""

    type: str
    data: bytes
    packed: bytes | None
    etag: str


def load() -> dict[str, Asset]:
    """All of them by name. Reads files."""
    found = {}
    for entry in files("tidegate_admin").joinpath("static").iterdir():
        suffix = "." + entry.name.rpartition(".")[2]
        if suffix in _TYPES:
            found[entry.name] = made(_TYPES[suffix], entry.read_bytes())
    return found


def made(type: str, data: bytes) -> Asset:
    """An asset of these bytes."""
    packed = gzip.compress(data, mtime=0)
    etag = f'"{hashlib.blake2b(data, digest_size=12).hexdigest()}"'
    return Asset(type, data, packed if len(packed) < len(data) else None, etag)
