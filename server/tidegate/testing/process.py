"""A server in a subprocess, as in production."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from tidegate.testing import WAIT_S, wait_until
from tidegate.testing.reach import Reachable, unsaid

START_S = 60.0


class Served(Reachable):
    """One subprocess; its data and configuration lie in `folder`.

    Args:
        config: TOML text. Without `[[listen]]` it listens on a free port of 127.0.0.1.
        plugins: names of installed plugins to load; none by default.
        commands: names of modules whose commands are served; those beside the test file are found.
        source: the text of a module whose commands are served.
        virtual: with a virtual clock, moved by `advance`.
        env, args: more environment, more arguments of `tidegate serve`.
    """

    def __init__(
        self,
        folder: Path,
        config: str = "",
        *,
        search: Sequence[Path] = (),
        plugins: Sequence[str] = (),
        commands: Sequence[str] = (),
        source: str = "",
        virtual: bool = False,
        env: Mapping[str, str] | None = None,
        args: Sequence[str] = (),
    ) -> None:
        self.folder = folder
        self.data = folder / "data"
        self.config = folder / "tidegate.toml"
        self.config.write_text(config)
        commands = list(commands)
        if source:
            (folder / "served_commands.py").write_text(source)
            commands.append("served_commands")
        self._args = [
            *(sys.executable, "-m", "tidegate.testing" if virtual else "tidegate", "serve"),
            *("--config", str(self.config), "--data", str(self.data), "--only", ",".join(plugins) or "none"),
            *(f"--set={key}={value}" for key, value in unsaid(config).items()),
            *(part for name in commands for part in ("--commands", name)),
            *args,
        ]
        path = os.pathsep.join([*map(str, search), *filter(None, [os.environ.get("PYTHONPATH")])])
        self._env = {**os.environ, "PYTHONPATH": path, **(env or {})}
        self.addresses: list[str] = []
        self.process: subprocess.Popen[bytes] | None = None
        self._expected = True  # whether it must end with 0

    # --- its life ---------------------------------------------------------------------------------

    def start(self) -> None:
        """Start it, again after a `kill`; returns when it accepts connections. Raises AssertionError with its log."""
        with (self.folder / "stdout").open("wb") as out, (self.folder / "stderr").open("ab") as err:
            self.process = subprocess.Popen(self._args, cwd=self.folder, env=self._env, stdout=out, stderr=err)
        self._expected = True

        def told() -> str:
            if self.process is None or self.process.poll() is not None:
                raise AssertionError(f"the server did not start:\n{self.log()}")
            line, end, _ = (self.folder / "stdout").read_text().partition("\n")
            return line if end else ""

        try:
            line = wait_until(told, START_S)
        except AssertionError as error:
            self._expected = False
            raise AssertionError(f"{error}\n{self.log()}") from None
        self.addresses = line.partition(" serves on ")[2].rpartition(" (pid ")[0].split(", ")

    def stop(self) -> int:
        """SIGTERM; its exit code."""
        self.signal(signal.SIGTERM)
        return self.wait()

    def kill(self) -> None:
        """SIGKILL, as when the machine fails."""
        self.signal(signal.SIGKILL)
        self.wait()

    def wait(self, timeout: float = WAIT_S) -> int:
        """Its exit code, once it has ended by itself."""
        assert self.process is not None
        self._expected = False
        return self.process.wait(timeout)

    def signal(self, number: int) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def finish(self) -> None:
        """Called by the fixture: it must end with 0 when asked, unless the test has ended it."""
        if self.process is None or not self._expected:
            if self.process is not None and self.process.poll() is None:
                self.process.kill()
                self.process.wait()
            return
        try:
            code = self.stop()
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise AssertionError(f"the server did not stop:\n{self.log()}") from None
        assert code == 0, f"the server ended with {code}:\n{self.log()}"

    # --- what is seen of it -----------------------------------------------------------------------

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def log(self) -> str:
        """What it has logged so far."""
        return (self.folder / "stderr").read_text(errors="replace")

    def wait_log(self, text: str, timeout: float = WAIT_S) -> str:
        """The log, once `text` stands in it."""
        return wait_until(lambda: text in (log := self.log()) and log, timeout) or ""

    def advance(self, seconds: float) -> None:
        """Move the virtual clock; what falls due on the way has run then."""
        with self.raw_admin() as door:
            reply = door.ask("clock.advance", {"seconds": seconds})
            assert "result" in reply, reply
