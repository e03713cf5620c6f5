"""Events told after their commit, in order, and not lost by a crash."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import text
from tidegate import Plugin, command, hookimpl
from tidegate_transactions import Transactions

#: A server whose listener writes what it hears to a file, and which may be told to die before it hears anything.
PROGRAM = """
from gevent import monkey; monkey.patch_all()
import json, os, sys
from tidegate import Plugin, Server, command, hookimpl
from tidegate.config import read
from tidegate_transactions import Transactions

class Ear(Plugin):
    listens = {"room.changed"}

    @hookimpl
    def tidegate_event(self, event):
        if os.environ.get("DEAF"):
            os.kill(os.getpid(), 9)
        with open(os.environ["HEARD"], "a") as file:
            file.write(json.dumps([event.room, event.seq, event.data]) + "\\n")

    @command("room.say", transaction={"core": True})
    def say(self, call, db, seq: int):
        call.publish("room.changed", room="r", seq=seq, kind="said", actor=None, data={"n": seq})
        return seq

raw = read(None, environ={}, flags={"server.data": sys.argv[1], "listen.0.address": "127.0.0.1:0"})
server = Server(raw, plugins={"transactions": Transactions, "ear": Ear}, only=["none"])
server.life.on_start.append(lambda: print("port", server.addresses[0], flush=True))
server.run()
"""


class Ear(Plugin):
    """Hears what is told, and publishes."""

    listens = frozenset({"room.changed", "transaction.finished"})

    def __init__(self):
        self.heard = []

    @hookimpl
    def tidegate_event(self, event):
        self.heard.append((event.topic, getattr(event, "seq", None) or getattr(event, "state", None)))

    @command("room.say", transaction=True)
    def say(self, call, db, transaction, seq: int, fail: bool = False, part_fails: bool = False):
        if part_fails:
            with pytest.raises(LookupError), transaction():
                call.publish("room.changed", room="r", seq=seq + 100, kind="said", actor=None, data=1)
                raise LookupError
        call.publish("room.changed", room="r", seq=seq, kind="said", actor=None, data=object if fail == "json" else 1)
        if fail is True:
            raise LookupError

    @command("room.say_in_parts")
    def in_parts(self, call, transaction):
        call.publish("room.changed", room="r", seq=1, kind="said", actor=None, data=1)
        with transaction():
            call.publish("room.changed", room="r", seq=2, kind="said", actor=None, data=1)
        assert [seq for _, seq in self.heard if isinstance(seq, int)] == [2], "a part tells when it is committed"
        with pytest.raises(LookupError), transaction():
            call.publish("room.changed", room="r", seq=3, kind="said", actor=None, data=1)
            raise LookupError


@pytest.fixture
def ear(inside):
    server = inside(plugins={"transactions": Transactions, "ear": Ear}, virtual=False)
    server.ear = server.server.registry.plugins["ear"]
    return server


def heard(server):
    return [what for topic, what in server.ear.heard if topic == "room.changed"]


def test_an_event_is_told_once_after_the_commit_and_its_row_goes(ear, eventually):
    ear.client().call("room.say", seq=7)
    assert heard(ear) == [7]
    outbox = ear.server.registry.plugins["transactions"].outbox
    eventually(lambda: ear.run(outbox.waiting) == 0)
    assert heard(ear) == [7]


def test_an_event_of_a_call_or_a_part_that_failed_is_never_told(ear):
    with pytest.raises(Exception, match="1304"):
        ear.client().call("room.say", seq=7, fail=True)
    ear.client().call("room.say", seq=8, part_fails=True)
    assert heard(ear) == [8]


def test_parts_tell_their_own_when_they_are_committed(ear):
    ear.client().call("room.say_in_parts")
    assert heard(ear) == [2, 1]


def test_what_becomes_of_a_transaction_is_a_fact(ear):
    ear.client().call("room.say", seq=1)
    with pytest.raises(Exception, match="1304"):
        ear.client().call("room.say", seq=2, fail=True)
    states = [what for topic, what in ear.ear.heard if topic == "transaction.finished"]
    assert "committed" in states
    assert "rolled back" in states


def start(tmp_path: Path, **env: str) -> tuple[subprocess.Popen, int]:
    heard = tmp_path / "heard"
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(tmp_path / "data")],
        env={**os.environ, "HEARD": str(heard), **env},
        stdout=subprocess.PIPE,
        text=True,
    )
    return process, int(process.stdout.readline().rpartition(":")[2])


def test_an_event_that_was_committed_is_told_after_a_crash(tmp_path, eventually):
    import socket

    process, port = start(tmp_path, DEAF="1")
    with socket.create_connection(("127.0.0.1", port)) as sock:
        sock.sendall(b'{"jsonrpc":"2.0","id":1,"method":"room.say","params":{"seq":5}}\n')
        assert sock.recv(100) == b""  # it died between the commit and the telling
    assert process.wait(10) == -signal.SIGKILL
    process, port = start(tmp_path)
    try:
        eventually(lambda: (tmp_path / "heard").exists())
        assert [json.loads(line) for line in (tmp_path / "heard").read_text().splitlines()] == [["r", 5, {"n": 5}]]

        def empty():
            with sqlite3.connect(tmp_path / "data/transactions/tidegate.sqlite") as db:
                return db.execute("SELECT count(*) FROM tidegate_outbox").fetchone()[0] == 0

        eventually(empty)
    finally:
        process.terminate()
        process.wait(10)
        process.stdout.close()


def test_a_lost_outbox_row_of_a_topic_that_is_no_more_holds_nothing_up(inside, tmp_path, eventually):
    server = inside(plugins={"transactions": Transactions, "ear": Ear}, virtual=False)
    plugin = server.server.registry.plugins["transactions"]
    insert = "INSERT INTO tidegate_outbox (topic, fields, at, owner) VALUES (:topic, :fields, 0, 'gone')"
    good = json.dumps({"room": "r", "seq": 3, "kind": "said", "actor": None, "data": 1})

    def recover():
        with plugin.handle(core=True) as db:
            db.execute(text(insert), [{"topic": "no.such", "fields": "{}"}, {"topic": "room.changed", "fields": good}])
        plugin.outbox.recover()  # the start's own look may have come before it: then that one told them

    server.run(recover)
    eventually(lambda: plugin.outbox.recovered == 2)
    assert server.run(plugin.outbox.waiting) == 0
    assert [what for topic, what in server.server.registry.plugins["ear"].heard if topic == "room.changed"] == [3]
