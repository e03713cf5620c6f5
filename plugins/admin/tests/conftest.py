"""A server with the site, and an HTTP client that does nothing by itself."""

from __future__ import annotations

import http.client
import json
import re
import socket
import ssl
import time
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any, NamedTuple

import pytest


class Reply(NamedTuple):
    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def text(self) -> str:
        return self.body.decode()


class Site:
    """Where a server's site is; `token` is the operator's, "" with accounts."""

    def __init__(self, server: Any, context: ssl.SSLContext | None = None) -> None:
        found = re.search(r"admin site on (https?)://(\S+?);", server.wait_log("admin site on", timeout=20))
        assert found is not None
        self.server = server
        self.scheme, self.address = found.groups()
        self.host, _, port = self.address.rpartition(":")
        self.port = int(port)
        self.context = context
        token = server.data / "admin" / "token"
        self.token = token.read_text().strip() if token.exists() else ""

    @property
    def base(self) -> str:
        return f"{self.scheme}://{self.address}"

    def ask(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        token: str | None = None,
        headers: dict[str, str] | None = None,
        source: str | None = None,
    ) -> Reply:
        """One request with the operator's token, or another; "" sends none."""
        sent = dict(headers or {})
        if token := self.token if token is None else token:
            sent["Authorization"] = f"Bearer {token}"
        if body is not None and not isinstance(body, (bytes, str)):
            body = json.dumps(body)
            sent.setdefault("Content-Type", "application/json")
        options: dict[str, Any] = {"timeout": 20, "source_address": (source, 0) if source else None}
        if self.scheme == "https":
            connection: http.client.HTTPConnection = http.client.HTTPSConnection(
                self.host, self.port, context=self.context, **options
            )
        else:
            connection = http.client.HTTPConnection(self.host, self.port, **options)
        try:
            connection.request(method, path, body, sent)
            reply = connection.getresponse()
            return Reply(reply.status, reply.headers, reply.read())
        finally:
            connection.close()

    def get(self, path: str, **options: Any) -> Reply:
        return self.ask("GET", path, **options)

    def run(self, name: str, /, **params: Any) -> Any:
        """Run a command as the operator."""
        reply = self.ask("POST", f"/api/v1/commands/{name}", params)
        assert reply.status == 200, reply.text
        return reply.json

    def log_in(self, fields: dict[str, str] | None = None) -> tuple[str, str]:
        """A browser's session: its Cookie header, and what it sends against forged requests."""
        from urllib.parse import urlencode

        form = urlencode(fields or {"token": self.token})
        reply = self.ask(
            "POST", "/login", form, token="", headers={"Content-Type": "application/x-www-form-urlencoded"}
        )
        assert reply.status == 303, reply.text
        pairs = [cookie.partition(";")[0] for cookie in reply.headers.get_all("Set-Cookie")]
        return "; ".join(pairs), pairs[1].partition("=")[2]

    def restart(self) -> None:
        """Stop the server, and start it again with the site on the same port."""
        config = self.server.config
        config.write_text(config.read_text().replace('listen = "127.0.0.1:0"', f'listen = "{self.address}"'))
        self.server.stop()
        self.server.start()
        end = time.monotonic() + 30
        while True:
            try:
                if self.get("/health/live", token="").status == 200:
                    return
            except OSError:
                assert time.monotonic() < end, self.server.log()
                time.sleep(0.05)

    def raw(self, data: bytes, *, read: bool = True) -> bytes:
        """Bytes as they are; all that comes back until the site closes, or nothing more comes for 5 s."""
        with socket.create_connection((self.host, self.port), timeout=5) as sock:
            sock.sendall(data)
            return everything(sock) if read else b""


def everything(sock: socket.socket) -> bytes:
    got = b""
    try:
        while data := sock.recv(65536):
            got += data
    except (TimeoutError, ConnectionResetError):
        pass
    return got


@pytest.fixture
def site(served: Callable[..., Any]) -> Callable[..., Site]:
    """Starts a server with the site on a free port: `site(plugins=["errors"], config="…")`."""

    def start(config: str = "", *, plugins: tuple[str, ...] | list[str] = (), admin: str = "", **options: Any) -> Site:
        context = options.pop("context", None)
        if "rate =" not in admin:
            admin += 'rate = "10000/second"\n'  # tests ask again and again
        text = config if "[plugins.admin]" in config else f'{config}\n[plugins.admin]\nlisten = "127.0.0.1:0"\n{admin}'
        return Site(served(text, plugins=["admin", *plugins], **options), context)

    return start


@pytest.fixture
def installed(need: Callable[..., str]) -> Callable[..., list[str]]:
    """Names of plugins that this test wants; without one of them it is skipped."""

    def all_of(*names: str) -> list[str]:
        for name in names:
            need(f"tidegate-{name}", ok=find_spec(f"tidegate_{name}") is not None, why=f"tidegate-{name} is missing")
        return list(names)

    return all_of
