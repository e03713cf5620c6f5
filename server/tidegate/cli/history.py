"""What was typed into the shell, kept without secrets in a file that nobody else may read."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from prompt_toolkit.history import FileHistory

from tidegate.cli.arguments import KEY, Method, is_secret, sounds_secret

KEPT = 1000  # lines
MAX_BYTES = 262_144


def history_file(environ: Mapping[str, str] = os.environ) -> Path:
    """Where it is kept (XDG base directories)."""
    state = environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")
    return Path(state) / "tidegate" / "history"


class History(FileHistory):
    """Lines without their secrets; a line that may hold one in a way we can't tell is not kept at all.

    Raises OSError when the file can't be made.
    """

    def __init__(self, path: Path, methods: Callable[[], Mapping[str, Method]]) -> None:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.fchmod(fd, 0o600)
        finally:
            os.close(fd)
        super().__init__(str(path))
        self._methods = methods
        if path.stat().st_size > MAX_BYTES:
            self._trim(path)

    def _trim(self, path: Path) -> None:
        lines = list(self.load_history_strings())[:KEPT]  # the newest first
        os.truncate(path, 0)
        for line in reversed(lines):
            self.store_string(line)

    def append_string(self, string: str) -> None:
        if kept := without_secrets(string, self._methods()):
            super().append_string(kept)


def without_secrets(line: str, methods: Mapping[str, Method]) -> str | None:
    """The line without its secret arguments, which are then asked for; None where nothing may be kept."""
    try:
        words = shlex.split(line)
    except ValueError:  # an open quote
        return None
    if not words or words[0] == "help":
        return line if words else None
    if words[0] == "call" and len(words) > 1:
        rest = without_secrets(shlex.join(words[1:]), methods)
        return rest and f"call {rest}"
    method = methods.get(words[0])
    secrets = {param["name"] for param in method["params"] if is_secret(param)} if method is not None else set()
    kept = [words[0]]
    for word in words[1:]:
        if (match := KEY.fullmatch(word)) is None:
            if not word.startswith("--") and (method is None or secrets):
                return None  # a value without a name may be any parameter's
        elif match[1] in secrets or sounds_secret(match[1]):
            continue
        elif holds_secret(match[3]):
            return None
        if sounds_secret(word.partition("=")[0]) or holds_secret(word):
            return None
        kept.append(word)
    return shlex.join(kept) if len(kept) < len(words) else line


def holds_secret(text: str) -> bool:
    """Whether JSON has a member that sounds secret; what looks like JSON and is none counts as such."""
    if not text.lstrip().startswith(("{", "[")):
        return False
    try:
        return _any_secret(json.loads(text))
    except (ValueError, RecursionError):
        return True


def _any_secret(value: Any) -> bool:
    if isinstance(value, dict):
        return any(sounds_secret(name) or _any_secret(one) for name, one in value.items())
    return isinstance(value, list) and any(map(_any_secret, value))
