"""A login that survives a reconnect and a restart: the token lies in a file that only its owner may read."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

from tidegate import Client, Fault
from tidegate.faults import AuthenticationFamily


def file_of(address: str, name: str | None) -> Path:
    """Where the token for a server is kept, for each name that was given: under $XDG_STATE_HOME."""
    state = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local/state")
    words = [address, name.casefold()] if name else [address]
    kept = "--".join(quote(word, safe="") for word in words)
    return state / "tidegate" / f"chat-{kept}.json"


class Session:
    """A client that logs in on each connection.

    `ask(problem)` gives (name, password, whether to register), or raises to give up; `name`: whose kept token to
    take, None: that of who gave no name; `token`: one from elsewhere in its place; `fresh`: none at all.
    """

    def __init__(
        self,
        address: str,
        ask: Callable[[str | None], tuple[str, str, bool]],
        tls: Any = None,
        token: str | None = None,
        name: str | None = None,
        fresh: bool = False,
    ) -> None:
        self.file = file_of(address, name)
        self._ask = ask
        self.user: dict[str, Any] = {}
        self._token: str | None = token
        if token is None and not fresh:
            with suppress(OSError, ValueError, KeyError):
                self._token = json.loads(self.file.read_text())["token"]
        self.client = Client(address, tls=tls, on_connect=self._enter, timeout=15.0)

    def open(self) -> None:
        """Connect and log in, asking until it works. Raises OSError, and what `ask` raises."""
        problem: str | None = None
        while True:
            try:
                if self._token is None:
                    self._log_in(problem)
                else:
                    self.client.call("system.ping")
                return
            except AuthenticationFamily as fault:
                self._token = None
                problem = fault.message
            except Fault as fault:
                problem = fault.message

    def _log_in(self, problem: str | None) -> None:
        name, password, register = self._ask(problem)
        method = "account.register" if register else "account.login"
        made = self.client.call(method, name=name, password=password, label="tidegate chat")
        self.user, self._token = made["user"], made["token"]
        self.file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle = os.open(self.file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(handle, "w") as out:
            json.dump({"token": self._token}, out)

    def _enter(self, client: Client) -> None:
        if self._token is not None:
            self.user = client.call("account.resume", token=self._token)["user"]

    def log_out(self) -> None:
        """End the session and forget its token."""
        self.file.unlink(missing_ok=True)
        self.client.call("account.logout")
