"""Who is told of alerts: webhooks, commands to run, and channels that other plugins offer.

Each has a queue and a greenlet of its own, so that a slow one delays neither the others nor an alert.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import signal
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urlsplit

import gevent
import msgspec
from gevent import Greenlet, subprocess
from gevent.queue import Full, Queue

from tidegate_monitoring.alerts import Told

if TYPE_CHECKING:
    from tidegate import Server

MAX_WAITING = 100
ATTEMPTS = 3
BACKOFF_S = 2.0


class Sending(Protocol):
    """Tells one alert to one place; may switch. Raises what went wrong."""

    name: str

    def __call__(self, alert: dict[str, Any]) -> object: ...


class Webhook:
    """A POST of the alert as JSON. Only the host is ever logged: the rest of an address may be a secret."""

    def __init__(self, url: str, timeout_s: float, server_name: str) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("webhooks: expected http:// or https:// addresses")
        self.name = f"webhook {parts.hostname}"
        self._url = url
        self._timeout_s = timeout_s
        self._server = server_name

    def __call__(self, alert: dict[str, Any]) -> None:
        body = json.dumps({"server": self._server, **alert}).encode()
        headers = {"Content-Type": "application/json", "User-Agent": "tidegate-monitoring"}
        request = urllib.request.Request(self._url, body, headers)  # noqa: S310  (the scheme was looked at)
        # A redirect would turn the POST into a GET, or lead elsewhere: it is an error.
        with _OPENER.open(request, timeout=self._timeout_s) as reply:
            reply.read(1024)


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        return None


_OPENER = urllib.request.build_opener(_NoRedirect)


class Program:
    """Runs a program with the alert as JSON on its standard input and in TIDEGATE_ALERT_… variables."""

    def __init__(self, argv: Sequence[str], timeout_s: float, server_name: str) -> None:
        self.name = f"command {argv[0]}"
        self._argv = list(argv)
        self._timeout_s = timeout_s
        self._server = server_name

    def __call__(self, alert: dict[str, Any]) -> None:
        names = ("name", "severity", "state", "shown", "rule", "subject")
        env = {**os.environ, **{f"TIDEGATE_ALERT_{name.upper()}": str(alert[name]) for name in names}}
        env["TIDEGATE_ALERT_SERVER"] = self._server
        # Its own process group, so that what it has started ends with it. In a greenlet, so that one whose start takes
        # longer than there is time is not forgotten.
        starting = gevent.spawn(
            subprocess.Popen,
            self._argv,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            env=env,
            start_new_session=True,
        )
        try:
            program = starting.get()
            program.communicate(json.dumps({"server": self._server, **alert}).encode(), timeout=self._timeout_s)
        except BaseException:
            starting.link_value(_end)
            raise
        if program.returncode:
            raise OSError(f"it ended with {program.returncode}")


def _end(started: Greenlet[..., Any]) -> None:
    """Kill a program and all that it has started; gevent reaps it."""
    program: Any = started.value
    with suppress(ProcessLookupError):
        os.killpg(program.pid, signal.SIGKILL)


class Offered:
    """A channel of another plugin: `offers = {"channels": {"mail": function}}`, called with the alert as a dict."""

    def __init__(self, name: str, function: Callable[[dict[str, Any]], object]) -> None:
        self.name = name
        self._function = function

    def __call__(self, alert: dict[str, Any]) -> None:
        self._function(alert)


class Channel:
    """One place to tell, with its queue. What finds no room in it is counted and logged, never waited for."""

    def __init__(self, server: Server, log: logging.Logger, sending: Sending, limit_s: float) -> None:
        self.sending = sending
        self.sent = self.lost = 0
        self._clock = server.clock
        self._log = log
        self._limit_s = limit_s
        self._queue: Queue[Told] = Queue(MAX_WAITING)
        self._greenlet: Greenlet[..., Any] = gevent.spawn(self._run)

    def put(self, told: Told) -> None:
        """Never switches."""
        try:
            self._queue.put_nowait(told)
        except Full:
            self._lose(told, "too many alerts wait for it")

    def close(self) -> None:
        self._greenlet.kill(block=False)

    def _run(self) -> None:
        while True:
            told = self._queue.get()
            for attempt in range(1, ATTEMPTS + 1):
                error = self._try(told)
                if error is None:
                    self.sent += 1
                    break
                if attempt == ATTEMPTS or (isinstance(error, urllib.error.HTTPError) and 400 <= error.code < 500):
                    self._lose(told, f"{type(error).__name__}: {reason_of(error)}")
                    break
                self._clock.sleep(BACKOFF_S * 2 ** (attempt - 1))

    def _try(self, told: Told) -> BaseException | None:
        try:
            with gevent.Timeout(self._limit_s):
                self.sending(msgspec.structs.asdict(told))
        except (Exception, gevent.Timeout) as error:
            return error
        return None

    def _lose(self, told: Told, why: str) -> None:
        self.lost += 1
        self._log.error("alert %s could not be told by %s: %s", told.name, self.sending.name, why)


def reason_of(error: BaseException) -> str:
    """What went wrong, with nothing in it of an address that may be secret."""
    if isinstance(error, urllib.error.HTTPError):
        return f"status {error.code}"
    if isinstance(error, urllib.error.URLError):
        return str(error.reason)
    return str(error)


class Channels:
    """All of them. The log, the topics and StatsD are told by the plugin itself, at once."""

    def __init__(self, server: Server, log: logging.Logger) -> None:
        self._server = server
        self._log = log
        self._own: list[Channel] = []
        self._adopted: object = None

    @staticmethod
    def check(webhooks: Sequence[str]) -> None:
        """Raises ValueError for an address that is none."""
        for url in webhooks:
            Webhook(url, 1.0, "")

    def adopt(self, webhooks: Sequence[str], program: Sequence[str], timeout_s: float) -> None:
        """Tell these, and what plugins offer, from now on; what waits for them goes on. Raises ValueError."""
        if self._adopted == (wanted := (tuple(webhooks), tuple(program), timeout_s)):
            return
        self._adopted = wanted
        name = self._server.settings.server.name
        sendings: list[Sending] = [Webhook(url, timeout_s, name) for url in webhooks]
        if program:
            if shutil.which(program[0]) is None:  # better told now than when an alert comes
                self._log.warning("run: there is no program %r here that may be run", program[0])
            sendings.append(Program(program, timeout_s, name))
        for owner, functions in self._server.offered("channels"):
            sendings += [Offered(f"{owner}.{channel}", function) for channel, function in functions.items()]
        self.close()
        # A second more than the channel's own limit: that one says better what was wrong.
        self._own = [Channel(self._server, self._log, sending, timeout_s + 1) for sending in sendings]

    def put(self, told: Told) -> None:
        for channel in self._own:
            channel.put(told)

    def report(self) -> list[dict[str, Any]]:
        return [{"channel": one.sending.name, "sent": one.sent, "lost": one.lost} for one in self._own]

    def close(self) -> None:
        for channel in self._own:
            channel.close()
        self._own = []
