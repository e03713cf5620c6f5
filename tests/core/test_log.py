"""What operators find in the log, and what a log that can't be written costs: nothing but lines."""

from __future__ import annotations

import json
import logging
import os
import re
import socket
import subprocess
import sys
import threading
import warnings
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from tidegate.log import Log

logger = logging.getLogger("tidegate.test")
LOST = re.compile(r"(\d+) log lines were lost")

SERVING = """
from gevent import monkey; monkey.patch_all()
import logging, socket, sys, gevent
from tidegate.log import Log
log = Log(format=sys.argv[1]); log.install()
listener = socket.create_server(("127.0.0.1", 0))
print(listener.getsockname()[1], flush=True)
client, _ = listener.accept()
pool = gevent.get_hub().threadpool
while line := client.recv(100):
    for _ in range(200):
        logging.getLogger("noisy").error("x" * 2000)
    pool.spawn(logging.error, "from a thread").get()
    gevent.sleep(0)
    client.sendall(line)
print(log.take_lost(), log.close(0.1), flush=True)
"""


class Written:
    """A log in a file; `lines()` ends it and gives what was written."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.log: Log | None = None

    def start(self, **options: Any) -> Log:
        self.log = Log(path=self.path, **options)
        self.log.install()
        return self.log

    def text(self) -> str:
        assert self.log is not None
        assert self.log.close(10)
        return self.path.read_text()

    def lines(self) -> list[str]:
        return self.text().removesuffix("\n").split("\n")

    def objects(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.lines()]


@pytest.fixture
def written(tmp_path: Path) -> Iterator[Written]:
    written = Written(tmp_path / "tidegate.log")
    yield written
    if written.log is not None:
        written.log.close(0)


@pytest.fixture
def pipe() -> Iterator[tuple[int, Any]]:
    """A pipe that nobody reads yet: its reading end, and its writing end as a stream."""
    read, write = os.pipe()
    with os.fdopen(read, "rb", buffering=0) as reader, os.fdopen(write, "w") as writer:
        yield reader, writer


# --- what a line says ----------------------------------------------------------------------------


def test_a_json_line_has_the_time_in_utc_and_every_field(written):
    written.start(format="json")
    before = datetime.now(UTC)
    logger.warning("user %s joined", "anna", extra={"request_id": "01J", "seats": 3, "none": None})
    (line,) = written.objects()
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line["time"])
    assert abs((datetime.fromisoformat(line.pop("time")) - before).total_seconds()) < 60
    assert line == {
        "level": "warning",
        "logger": "tidegate.test",
        "message": "user anna joined",
        "request_id": "01J",
        "seats": 3,
    }


def test_a_text_line_has_columns_and_then_the_fields(written):
    written.start()
    logger.info("joined", extra={"request_id": "01J", "room": "the lobby", "list": [1, {"a": 2}]})
    (line,) = written.lines()
    assert line.split(" ", 1)[1] == (
        'INFO     tidegate.test    joined  request_id=01J  room="the lobby"  list=[1,{"a":2}]'
    )


@pytest.mark.parametrize("form", ["text", "json"])
def test_a_client_can_not_forge_lines(written, form):
    written.start(format=form)
    evil = "bob\r\n2026-01-01T00:00:00.000Z INFO root all is well\x1b[2J\x85\u2028\u202e\x00\ud800"
    logger.info("hello %s", evil, extra={"name_": evil, evil: "x", "deep": {evil: [evil]}})
    (line,) = written.lines()
    if form == "text":
        assert line.isprintable()
    else:
        assert json.loads(line)["message"].startswith("hello bob\r\n2026")


@pytest.mark.parametrize("form", ["text", "json"])
def test_an_exception_is_there_once_with_its_traceback(written, form):
    written.start(format=form)
    try:
        raise LookupError("gone\n2026-01-01T00:00:00.000Z INFO forged")
    except LookupError:
        logger.exception("failed")
    logger.info("after")
    text = written.text()
    assert text.count("raise LookupError") == 1
    assert text.count("Traceback") == 1
    if form == "json":
        first, second = written.objects()
        assert first["exception"].splitlines()[-2] == "LookupError: gone"
        assert "exception" not in second
    else:
        assert all(line.startswith("  | ") for line in text.splitlines()[1:-1])


@pytest.mark.parametrize("form", ["text", "json"])
def test_secrets_are_masked_wherever_they_stand(written, form):
    written.start(format=form)
    logger.info(
        "login",
        extra={
            **{"password": "S3CRET", "access_token": "S3CRET", "Authorization": "S3CRET"},
            **{"clientSecret": "S3CRET", "auth": "S3CRET", "set-cookie": "S3CRET"},
            "params": {"user": "anna", "new_password": "S3CRET", "list": [{"token": "S3CRET"}]},
            **{"author": "shown1", "tokens_left": "shown2"},
        },
    )
    text = written.text()
    assert "S3CRET" not in text
    assert text.count("***") == 8
    assert all(shown in text for shown in ("anna", "shown1", "shown2"))


@pytest.mark.parametrize("form", ["text", "json"])
def test_a_wrong_call_of_the_logger_is_logged_and_not_raised(written, capfd, form):
    class Odd:
        def __str__(self) -> str:
            raise KeyError("no")

    ring: list[Any] = []
    ring.append(ring)
    written.start(format=form)
    logger.info("one %d", "text")
    logger.info("two %s", Odd())
    logger.info("three", extra={"odd": Odd(), "ring": ring, "many": 10**999, "nan": float("nan")})
    logger.info("four", extra={"path": Path("/tmp/x"), "level": 3, "bytes": b"\xff", "lone": "\ud800"})
    text = written.text()
    assert [word for word in ("one", "two", "three", "four") if word not in text] == []
    assert len(written.lines()) == 4
    assert "/tmp/x" in text
    assert capfd.readouterr() == ("", "")


def test_a_field_that_is_changed_later_is_logged_as_it_was(written):
    written.start(format="json")
    seats = {"anna": [1]}
    for number in range(500):
        logger.info("seats", extra={"seats": seats})
        seats["anna"][0] = number + 2
    assert [line["seats"]["anna"] for line in written.objects()] == [[n + 1] for n in range(500)]


@pytest.mark.parametrize("form", ["text", "json"])
def test_a_line_has_a_limit_and_keeps_both_ends_of_a_long_text(written, form):
    written.start(format=form)
    logger.info("begin %s end", "x" * 1_000_000, extra={"fields": ["y" * 90_000] * 90})
    (line,) = written.lines()
    assert len(line) < 132_000
    assert "begin x" in line
    assert "x end" in line


def test_a_terminal_gets_colours_unless_no_color_is_set(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    for no_color, coloured in (("", True), ("1", False)):
        monkeypatch.setenv("NO_COLOR", no_color)
        leader, follower = os.openpty()
        with os.fdopen(follower, "w") as terminal:
            log = Log(stream=terminal)
            log.write(logging.makeLogRecord({"levelno": logging.ERROR, "msg": "m", "name": "n"}))
            assert log.close(10)
            assert (b"\x1b[" in os.read(leader, 1000)) == coloured
        os.close(leader)


# --- levels, installing, files -------------------------------------------------------------------


def test_the_level_holds_for_everybody_and_can_be_changed(written):
    log = written.start(level="warning", format="json")
    other = logging.getLogger("third.party")
    other.info("1")
    other.warning("2")
    log.set_level("debug")
    other.debug("3")
    assert [line["message"] for line in written.objects()] == ["2", "3"]


@pytest.mark.parametrize("level", ["verbose", "INFO", ""])
def test_an_unknown_level_is_refused(tmp_path, written, level):
    with pytest.raises(ValueError, match="expected one of debug, info"):
        Log(level=level, path=tmp_path / "x")
    with pytest.raises(ValueError, match="expected one of debug, info"):
        written.start().set_level(level)


def test_pythons_warnings_are_logged_too(written):
    written.start(format="json")
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(False)
        logging.captureWarnings(True)
        warnings.warn("old thing", stacklevel=1)
    (line,) = written.objects()
    assert line["logger"] == "py.warnings"
    assert "old thing" in line["message"]


def test_closing_gives_the_root_logger_its_handlers_back(tmp_path):
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    log = Log(path=tmp_path / "x", level="error")
    log.install()
    assert root.handlers != before
    assert log.close(10)
    assert (root.handlers, root.level) == (before, level)
    assert log.close(10)


def test_the_file_is_not_readable_for_everybody(written):
    before = os.umask(0)
    try:
        written.start()
    finally:
        os.umask(before)
    assert written.path.stat().st_mode & 0o777 == 0o640


def test_a_file_is_continued_and_not_emptied(written):
    written.path.write_text("before\n")
    written.start()
    logger.info("after")
    assert written.lines()[0] == "before"


def test_a_path_that_can_not_be_opened_is_told_at_once(tmp_path):
    with pytest.raises(FileNotFoundError):
        Log(path=tmp_path / "no" / "log")


def test_after_logrotate_the_lines_go_to_the_new_file(written, tmp_path):
    log = written.start(format="json")
    logger.info("1")
    written.path.rename(tmp_path / "old")
    log.reopen()
    logger.info("2")
    new = written.objects()
    old = [json.loads(line) for line in (tmp_path / "old").read_text().splitlines()]
    assert [line["message"] for line in old + new] == ["1", "2"]
    assert new[-1]["message"] == "2"


def test_a_file_that_can_not_be_reopened_is_told_in_the_old_one(written, tmp_path):
    (tmp_path / "folder").mkdir()
    written.path = tmp_path / "folder" / "log"
    log = written.start()
    (tmp_path / "folder").rename(tmp_path / "moved")
    log.reopen()
    logger.info("after")
    assert log.close(10)
    text = (tmp_path / "moved" / "log").read_text()
    assert "can't reopen the log" in text
    assert "after" in text


def test_many_threads_lose_and_tear_no_line(written):
    log = written.start(format="json", max_records=100_000)
    threads = [
        threading.Thread(target=lambda who=who: [logger.info("%d %d", who, n) for n in range(500)]) for who in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seen = [tuple(map(int, line["message"].split())) for line in written.objects()]
    assert log.take_lost() == 0
    for who in range(4):
        assert [n for each, n in seen if each == who] == list(range(500))


# --- when it can't be written --------------------------------------------------------------------


def test_behind_a_blocked_pipe_every_line_is_written_or_counted(pipe):
    reader, writer = pipe
    log = Log(stream=writer, max_records=10)
    log.install()
    for number in range(3000):
        logger.info("number %d %s", number, "x" * 200)
    lost = log.take_lost()
    assert lost > 0
    assert log.take_lost() == 0
    writer.close()  # the log has a descriptor of its own
    pieces: list[bytes] = []
    thread = threading.Thread(target=lambda: pieces.extend(iter(lambda: reader.read(65536), b"")))
    thread.start()
    assert log.close(10)
    thread.join(10)
    text = b"".join(pieces).decode()
    assert text.count("number ") + lost == 3000
    assert sum(map(int, LOST.findall(text))) == lost


def test_lines_wait_in_bounded_memory(pipe):
    _, writer = pipe
    log = Log(stream=writer, max_records=1_000_000)
    record = logging.makeLogRecord({"msg": "x" * 16_000, "name": "n", "levelno": 20})
    for _ in range(2000):
        log.write(record)
    assert log.take_lost() > 900
    assert not log.close(0)


def test_a_full_disk_costs_lines_and_nothing_else(tmp_path):
    path = tmp_path / "log"
    path.symlink_to("/dev/full")
    log = Log(path=path, max_records=20)
    log.install()
    for number in range(1000):
        logger.info("number %d", number)
    lost = log.take_lost()
    assert lost >= 960
    path.unlink()  # somebody made room
    log.reopen()
    assert log.close(10)
    text = path.read_text()
    assert text.count("number ") == 1000 - lost
    assert LOST.findall(text) == [str(lost)]


def test_a_disk_that_stays_full_does_not_keep_the_server_from_ending():
    log = Log(path=Path("/dev/full"))
    log.write(logging.makeLogRecord({"msg": "x", "name": "n", "levelno": 20}))
    assert log.close(10)


def test_a_closed_pipe_is_no_error(pipe):
    reader, writer = pipe
    reader.close()
    log = Log(stream=writer)
    log.install()
    for number in range(100):
        logger.info("number %d", number)
    assert log.close(10)


def test_a_descriptor_that_somebody_made_non_blocking_loses_nothing(pipe):
    reader, writer = pipe
    os.set_blocking(writer.fileno(), False)
    log = Log(stream=writer)
    log.install()
    for number in range(3000):
        logger.info("number %d %s", number, "x" * 200)
    writer.close()
    pieces: list[bytes] = []
    thread = threading.Thread(target=lambda: pieces.extend(iter(lambda: reader.read(65536), b"")))
    thread.start()
    assert log.close(10)
    thread.join(10)
    assert log.take_lost() == 0
    assert b"".join(pieces).count(b"number ") == 3000


@pytest.mark.parametrize("form", ["text", "json"])
def test_a_server_under_gevent_goes_on_serving_while_its_log_is_blocked(form):
    process = subprocess.Popen(
        [sys.executable, "-c", SERVING, form],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,  # and nobody reads it
        text=True,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        port = int(process.stdout.readline())
        with socket.create_connection(("127.0.0.1", port), timeout=20) as client:
            for _ in range(60):  # 24 MB of lines
                client.sendall(b"ping\n")
                assert client.recv(100) == b"ping\n"
        lost, flushed = process.stdout.readline().split()
        assert int(lost) > 0
        assert flushed == "False"
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
        process.stderr.close()
