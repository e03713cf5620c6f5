"""What a client gets for an exception that is no fault."""

from __future__ import annotations

import email.message
import errno
import json
import socket
import ssl
import urllib.error

import gevent
import pytest
from tidegate import Call, Fault, Plugin, command, hookimpl
from tidegate.faults import ResourceUnavailable, catalogue
from tidegate_errors import Errors


def headers(**values: str) -> email.message.Message:
    message = email.message.Message()
    for name, value in values.items():
        message[name.replace("_", "-")] = value
    return message


def wrapped(error: OSError) -> OSError:
    """As requests does it: an OSError without a number, raised while the real one was handled."""
    try:
        try:
            raise error
        except OSError as inner:
            raise OSError("HTTPConnectionPool: Max retries exceeded") from inner
    except OSError as outer:
        return outer


RAISED: dict[str, tuple[object, int]] = {
    "timeout": (TimeoutError("timed out"), 1302),
    "reset": (ConnectionResetError(errno.ECONNRESET, "x"), 1302),
    "broken": (BrokenPipeError(errno.EPIPE, "x"), 1302),
    "aborted": (ConnectionAbortedError(), 1302),
    "refused": (ConnectionRefusedError(errno.ECONNREFUSED, "x"), 1306),
    "no_name": (socket.gaierror(-2, "Name or service not known"), 1306),
    "tls": (ssl.SSLError(1, "bad record"), 1302),
    "unreachable": (OSError(errno.EHOSTUNREACH, "x"), 1302),
    "descriptors": (OSError(errno.EMFILE, "x"), 1301),
    "memory": (OSError(errno.ENOMEM, "x"), 1301),
    "memory_error": (MemoryError(), 1301),
    "disk": (OSError(errno.ENOSPC, "x", "/secret/path"), 1213),
    "read_only": (OSError(errno.EROFS, "x"), 1213),
    "gevent": (gevent.Timeout(3), 1303),
    "url": (urllib.error.URLError(ConnectionRefusedError(errno.ECONNREFUSED, "x")), 1306),
    "busy": (urllib.error.HTTPError("http://x", 503, "busy", headers(Retry_After="7"), None), 1306),
    "wrapped": (wrapped(ConnectionResetError(errno.ECONNRESET, "x")), 1302),
    "key": (KeyError("room"), 1304),
    "value": (ValueError("x"), 1304),
    "json": (json.JSONDecodeError("x", "doc", 0), 1304),
    "unicode": (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "x"), 1304),
    "missing": (FileNotFoundError(errno.ENOENT, "x", "/etc/secret"), 1304),
    "http_404": (urllib.error.HTTPError("http://x", 404, "none", headers(), None), 1304),
}


@command("fail.foreign")
def foreign(kind: str) -> None:
    error = RAISED[kind][0]
    assert isinstance(error, BaseException)
    raise error


@command("fail.coded")
def coded(code: int) -> None:
    raise catalogue()[code]


def test_foreign_exceptions_become_the_fault_that_says_what_to_do(inside):
    server = inside(plugins=["errors"], commands=[foreign])
    with server.raw() as client:
        codes = {kind: client.ask("fail.foreign", {"kind": kind})["error"]["data"]["code"] for kind in RAISED}
    assert codes == {kind: code for kind, (_, code) in RAISED.items()}


class OddlyAdvised(ConnectionResetError):
    @property
    def retry_after(self) -> float:
        raise RuntimeError("not known yet")


class AdvisedForEver(ConnectionResetError):
    retry_after = 10**400


@pytest.mark.parametrize("error", [OddlyAdvised, AdvisedForEver])
def test_odd_advice_of_an_exception_is_passed_over(inside, error):
    @command("fail.oddly", idempotent=True, retry={"backoff": "none"})
    def oddly() -> None:
        raise error

    server = inside(plugins=["errors"], commands=[oddly])
    with server.raw() as client:
        assert client.ask("fail.oddly")["error"]["data"]["code"] == 1302


class CardTerminalBusy(TimeoutError):
    """Known to the plugin that brings it, and a mere time-out to all others."""


@pytest.mark.parametrize("ring", [None, "guard", "check", "scope"])
def test_whatever_its_ring_a_plugin_explains_its_own_exceptions_first(inside, ring):
    class Payments(Plugin):
        @command("pay")
        def pay(self) -> None:
            raise CardTerminalBusy

        @hookimpl
        def tidegate_fault(self, call: Call) -> Fault | None:
            return ResourceUnavailable("The terminal is busy") if isinstance(call.error, CardTerminalBusy) else None

    Payments.ring = ring
    server = inside(plugins={"errors": Errors, "payments": Payments})
    with server.raw() as client:
        assert client.ask("pay")["error"]["message"] == "The terminal is busy"


def test_a_mapped_error_tells_the_client_nothing_of_its_text(inside):
    server = inside(plugins=["errors"], commands=[foreign])
    with server.raw() as client:
        for kind in RAISED:
            told = json.dumps(client.ask("fail.foreign", {"kind": kind}))
            assert "secret" not in told
            assert "room" not in told


def test_the_retry_after_of_a_dependency_reaches_the_client(inside):
    server = inside(plugins=["errors"], commands=[foreign])
    with server.raw() as client:
        assert client.ask("fail.foreign", {"kind": "busy"})["error"]["data"]["retry_after"] == 7.0


def test_every_code_of_the_catalogue_can_be_raised_and_is_served_as_the_protocol_says(inside):
    server = inside(plugins=["errors"], commands=[coded])
    known = catalogue()
    assert len(known) == 80
    for code, kind in known.items():
        with server.raw() as client:
            error = client.ask("fail.coded", {"code": code})["error"]
            assert error["data"]["code"] == code
            assert error["data"]["type"] == kind.__name__
            assert error["data"]["recovery"] == kind.recovery
            assert error["code"] == kind().outer_code
            assert error["message"] == kind.message
            assert error["data"]["request_id"]
            if kind.closes:
                assert client.closed()


def test_a_mapped_errors_cause_is_in_the_log_with_the_request_id(served):
    server = served(
        "[server]\nlog_format = 'json'\n",
        plugins=["errors"],
        source="from tidegate import command\n"
        "@command('fail')\n"
        "def fail():\n"
        "    raise ConnectionResetError(104, 'the peer 10.9.8.7 hung up')\n",
    )
    with server.raw() as client:
        error = client.ask("fail")["error"]
    (line,) = [json.loads(line) for line in server.wait_log("hung up").splitlines() if "hung up" in line]
    assert error["data"]["code"] == 1302
    assert line["request_id"] == error["data"]["request_id"]
    assert line["method"] == "fail"
    assert line["code"] == 1302
    assert line["address"] == "127.0.0.1"
    assert line["attempt"] == 1
    assert len(line["fingerprint"]) == 8
    assert "ConnectionResetError" in line["exception"]
