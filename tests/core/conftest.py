"""The command line as a user runs it: a process of its own, its output in a pipe."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from tidegate.testing import wait_until


class Ran(NamedTuple):
    """What a run of `tidegate` came to."""

    code: int
    out: str
    err: str


@pytest.fixture
def cli(tmp_path: Path) -> Callable[..., Ran]:
    """`cli("call", "system.ping")` runs it in an empty folder; `path`: folders with modules and plugins."""

    def run(*words: str, path: str | Path = "", env: Mapping[str, str] = {}, stdin: str = "") -> Ran:
        ran = subprocess.run(
            [sys.executable, "-m", "tidegate", *words],
            cwd=tmp_path,
            env={**environment(), "PYTHONPATH": str(path), **env},
            input=stdin,
            capture_output=True,
            text=True,
            timeout=60,
        )
        return Ran(ran.returncode, ran.stdout, ran.stderr)

    return run


def environment() -> dict[str, str]:
    """Ours, without what would steer the command line."""
    return {name: value for name, value in os.environ.items() if not name.startswith("TIDEGATE")}


@pytest.fixture
def install(tmp_path: Path) -> Callable[..., Path]:
    """`install("broken", "import nothing_of_this_name")` makes an installed plugin; gives what goes on the path.

    `cli` names functions of the text that are subcommands.
    """

    def make(name: str, text: str, cli: Sequence[str] = ()) -> Path:
        folder = tmp_path / "site"
        info = folder / f"tidegate_{name}-1.5.dist-info"
        info.mkdir(parents=True)
        (folder / f"tidegate_{name}.py").write_text(text)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: tidegate-{name}\nVersion: 1.5\n")
        points = [f"{one} = tidegate_{name}:{one}" for one in cli]
        (info / "entry_points.txt").write_text(
            "\n".join(["[tidegate]", f"{name} = tidegate_{name}:{name.capitalize()}", "[tidegate.cli]", *points, ""])
        )
        return folder

    return make


class Terminal:
    """A program on a terminal that people would see (tmux)."""

    def __init__(self, tmux: str, socket: Path, command: list[str], env: Mapping[str, str], folder: Path) -> None:
        self._tmux = [tmux, "-S", str(socket), "-f", "/dev/null"]
        self._env = {**environment(), "TERM": "xterm-256color", **env}
        self._do("new-session", "-d", "-x", "150", "-y", "50", "-c", str(folder), shlex.join(command))

    def _do(self, *words: str) -> str:
        return subprocess.run([*self._tmux, *words], env=self._env, check=True, capture_output=True, text=True).stdout

    def type(self, text: str) -> None:
        self._do("send-keys", "-l", text)

    def press(self, *keys: str) -> None:
        """`Enter`, `Tab`, `C-c`, `Up`."""
        self._do("send-keys", *keys)

    def screen(self) -> str:
        return "\n".join(line.rstrip() for line in self._do("capture-pane", "-p", "-J").splitlines())

    def sees(self, text: str, times: int = 1) -> str:
        """The screen, once `text` stands on it so many times."""
        try:
            return wait_until(lambda: (screen := self.screen()).count(text) >= times and screen, 40)
        except AssertionError:
            raise AssertionError(f"{text!r} does not come; the screen is\n{self.screen()}") from None

    def close(self) -> None:
        subprocess.run([*self._tmux, "kill-server"], check=False, capture_output=True)


@pytest.fixture
def terminal(need: Any, tmp_path: Path) -> Iterator[Callable[..., Terminal]]:
    """`terminal("bash", "--norc")` starts a program on a terminal of its own."""
    tmux, opened = need("tmux"), []

    def start(*command: str, env: Mapping[str, str] = {}) -> Terminal:
        # A socket's path has room for 107 bytes only.
        socket = Path(tempfile.mkdtemp(prefix="tg-")) / "tmux"
        opened.append((socket, Terminal(tmux, socket, list(command), env, tmp_path)))
        return opened[-1][1]

    yield start
    for socket, one in opened:
        one.close()
        shutil.rmtree(socket.parent, ignore_errors=True)
