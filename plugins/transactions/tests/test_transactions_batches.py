"""Group commit: many transactions, one fsync, and no harm done by one to another."""

from __future__ import annotations

import sqlite3
import threading
import time
import uuid
from collections import Counter

import gevent
import pytest
from sqlalchemy import Column, ForeignKey, Integer, MetaData, String, Table, insert, select, text
from tidegate import Fault, Plugin, command
from tidegate.faults import SerializationConflict, TransactionFailed
from tidegate_transactions import Transactions

metadata = MetaData()
note = Table("note", metadata, Column("id", Integer, primary_key=True), Column("text", String(20), unique=True))
child = Table(
    "child",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("note", ForeignKey("note.id", deferrable=True, initially="DEFERRED"), nullable=False),
)


class Notes(Plugin):
    """Tables and commands for these tests."""

    offers = {"tables": (metadata, None)}

    @command("note.add", transaction={"core": True})
    def add(self, call, db, text: str, pause: float = 0.0, fail: bool = False):
        db.execute(insert(note), {"text": text})
        if pause:
            gevent.sleep(pause)
        call.on_commit(lambda: self.told.append(text))
        if fail:
            raise LookupError
        return text

    @command("note.orphan", transaction={"core": True})
    def orphan(self, db):
        db.execute(insert(child), {"note": 12345})

    @command("note.texts", transaction="read")
    def texts(self, db):
        return list(db.scalars(select(note.c.text).order_by(note.c.id)))

    @command("note.outer", transaction={"core": True})
    def outer(self, call, db, fail: bool):
        """Makes a call of its own, inside its transaction."""
        self.server.call("note.add", {"text": "inner"})
        db.execute(insert(note), {"text": "outer"})
        if fail:
            raise LookupError
        return self.told.count("inner")

    @command("note.big", transaction={"read": True, "core": True})
    def big(self, db, n: int):
        """Counts for as long as it takes."""
        sql = (
            "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c WHERE x < :n) "
            "SELECT count(*), sum(x) FROM c"
        )
        return list(db.execute(text(sql), {"n": n}).one())

    @command("note.many", transaction={"read": True, "core": True})
    def many(self, db, n: int):
        sql = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c WHERE x < :n) SELECT x FROM c"
        rows = db.execute(text(sql), {"n": n})
        first = [row[0] for row in rows.fetchmany(10)]
        rest = [row[0] for row in rows]
        return first + rest[:5] + rest[-1:] + [len(rest)]

    @command("note.long_write", transaction={"core": True, "long": True})
    def long_write(self, db, n: int):
        sql = (
            "INSERT INTO note (text) SELECT 'n' || :n || '-' || x FROM (WITH RECURSIVE c(x) AS "
            "(SELECT 1 UNION ALL SELECT x + 1 FROM c WHERE x < :n) SELECT x FROM c WHERE x % 100000 = 0)"
        )
        return db.execute(text(sql), {"n": n}).rowcount

    def __init__(self):
        self.told = []


@pytest.fixture
def notes(inside):
    def start(settings="", **options):
        return inside(
            config=f"[plugins.transactions]\n{settings}\n",
            plugins={"transactions": Transactions, "notes": Notes},
            **{"virtual": False, **options},
        )

    return start


def together(server, calls):
    """Make these calls at once, each in a greenlet; [result or fault]."""

    def one(method, params):
        try:
            return server.server.call(method, params)
        except Fault as fault:
            return fault

    def all_of_them():
        greenlets = [gevent.spawn(one, *call) for call in calls]
        return [greenlet.get() for greenlet in greenlets]

    return server.run(all_of_them)


def plugin(server):
    return server.server.registry.plugins["transactions"]


def told(server):
    return server.server.registry.plugins["notes"].told


def texts(server):
    return server.run(lambda: server.server.call("note.texts"))


def test_calls_that_come_together_share_commits(notes):
    server = notes()
    together(server, [("note.add", {"text": f"t{i}"}) for i in range(100)])
    assert len(texts(server)) == 100
    totals = plugin(server).totals()
    assert totals["batched"] >= 100
    assert totals["batches"] <= 20


def test_one_that_fails_takes_no_other_with_it(notes):
    server = notes()
    calls = [("note.add", {"text": f"t{i}", "fail": i % 3 == 0, "pause": 0.001 * (i % 4)}) for i in range(60)]
    calls += [("note.add", {"text": "t1"})]
    results = together(server, calls)
    good = [f"t{i}" for i in range(60) if i % 3]
    assert sorted(texts(server)) == sorted(good)
    assert [r for r in results if isinstance(r, str)] == good
    assert results[-1].code == 1205


def test_what_was_gathered_is_told_in_the_order_of_the_commits_and_never_after_a_rollback(notes):
    server = notes("batch = 7")
    together(server, [("note.add", {"text": f"t{i}", "fail": i % 5 == 0, "pause": 0.001 * (i % 3)}) for i in range(50)])
    assert told(server) == texts(server)


def test_a_lost_batch_is_1203_for_all_and_nothing_of_it_is_there(notes):
    server = notes()
    store = plugin(server).store
    handle = plugin(server).handle
    seen = Counter()

    def doomed(i):
        try:
            with handle(core=True) as db:
                db.execute(insert(note), {"text": f"t{i}"})
                if i == 5:
                    db.execute(insert(child), {"note": 12345})  # fails at COMMIT only, with everybody else
        except Fault as fault:
            seen[type(fault)] += 1

    server.run(lambda: gevent.joinall([gevent.spawn(doomed, i) for i in range(10)]))
    assert seen == {TransactionFailed: 10}
    assert texts(server) == []
    assert store.totals()["batches_lost"] == 1


def test_after_a_lost_batch_the_innocent_succeed_and_the_guilty_one_is_named(notes):
    server = notes()
    results = together(server, [("note.add", {"text": f"t{i}"}) for i in range(5)] + [("note.orphan", {})])
    assert results[:5] == [f"t{i}" for i in range(5)]
    assert results[5].code == 1206
    assert sorted(texts(server)) == [f"t{i}" for i in range(5)]
    assert sorted(told(server)) == sorted(texts(server))


def test_a_call_inside_a_call_is_one_transaction_with_it(notes):
    server = notes()
    (result,) = together(server, [("note.outer", {"fail": True})])
    assert result.code == 1304
    assert texts(server) == []
    assert told(server) == []
    (count_when_it_ran,) = together(server, [("note.outer", {"fail": False})])
    assert count_when_it_ran == 0, "told before the commit"
    assert texts(server) == ["inner", "outer"]
    assert told(server) == ["inner"]


def test_who_is_killed_while_it_waits_or_writes_holds_nobody_up(notes):
    server = notes()

    def scene():
        calls = [gevent.spawn(server.server.call, "note.add", {"text": f"t{i}", "pause": 0.05}) for i in range(6)]
        gevent.sleep(0.02)
        calls[0].kill()  # inside its transaction
        calls[3].kill()  # in the line
        calls[4].kill(block=False)
        for call in calls:
            call.join(5)
        return [call.ready() for call in calls]

    assert all(server.run(scene))
    assert texts(server) == ["t1", "t2", "t5"]
    assert plugin(server).gate.inside == 0


def test_a_kill_during_the_commit_does_not_part_what_is_told_from_what_is_there(notes):
    server = notes()

    def scene():
        for i in range(40):
            call = gevent.spawn(server.server.call, "note.add", {"text": f"t{i}"})
            for _ in range(i % 5):
                gevent.sleep(0)
            call.kill()
            gevent.sleep(0.001 * (i % 3))
        server.server.call("note.add", {"text": "last"})

    server.run(scene)
    assert told(server) == texts(server)


def test_another_process_that_writes_is_waited_for_without_holding_the_loop_up(notes):
    server = notes()
    other = sqlite3.connect(plugin(server).store.path, isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    release = threading.Timer(0.4, lambda: other.execute("COMMIT"))

    def scene():
        ticks = 0
        writer = gevent.spawn(server.server.call, "note.add", {"text": "waited"})
        release.start()
        while not writer.ready():
            gevent.sleep(0.001)
            ticks += 1
        return ticks, writer.get()

    ticks, result = server.run(scene)
    assert result == "waited"
    assert ticks > 50
    other.close()


def test_a_lock_that_is_never_given_back_is_1207_for_all_within_the_time(notes):
    server = notes("lock_wait_s = 0.2")
    other = sqlite3.connect(plugin(server).store.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    start = time.monotonic()
    results = together(server, [("note.add", {"text": f"t{i}"}) for i in range(20)])
    assert [type(r) for r in results] == [SerializationConflict] * 20
    assert time.monotonic() - start < 10
    other.execute("COMMIT")
    other.close()
    assert together(server, [("note.add", {"text": "after"})]) == ["after"]


def test_a_long_read_leaves_the_loop_to_the_others(notes):
    server = notes()

    def scene():
        reader = gevent.spawn(server.server.call, "note.big", {"n": 3_000_000})
        ticks = 0
        while not reader.ready():
            gevent.sleep(0.001)
            ticks += 1
        return reader.get(), ticks

    result, ticks = server.run(scene)
    assert result == [3_000_000, 3_000_000 * 3_000_001 // 2]
    assert ticks > 20, "the loop stood still"


def test_rows_read_on_the_loop_and_in_the_thread_are_those_of_one_reading(notes):
    server = notes()
    n = 400_000
    (result,) = together(server, [("note.many", {"n": n})])
    assert result == [*range(1, 16), n, n - 10]


def test_a_long_read_ends_at_its_deadline_and_its_connection_is_used_again(notes):
    server = notes()

    def scene():
        with pytest.raises(Fault) as caught:
            server.server.call("note.big", {"n": 10**12}, timeout=0.2)
        return caught.value.code, server.server.call("note.big", {"n": 10})

    code, again = server.run(scene)
    assert code == 1303
    assert again == [10, 55]


def test_a_long_write_leaves_the_loop_to_the_others_and_is_undone_at_its_deadline(notes):
    server = notes()

    def scene():
        writer = gevent.spawn(server.server.call, "note.long_write", {"n": 3_000_000})
        ticks = 0
        while not writer.ready():
            gevent.sleep(0.001)
            ticks += 1
        with pytest.raises(Fault) as caught:
            server.server.call("note.long_write", {"n": 10**11}, timeout=0.2)
        server.server.call("note.add", {"text": "after"})
        return writer.get(), ticks, caught.value.code

    rows, ticks, code = server.run(scene)
    assert (rows, code) == (30, 1303)
    assert ticks > 20
    assert len(texts(server)) == 31


def test_a_job_outside_any_call_has_transactions_too(notes):
    server = notes()

    def job():
        handle = server.server.provided("transaction")
        with handle() as db:
            db.execute(insert(note), {"text": "kept"})
            with pytest.raises(LookupError), handle():
                db.execute(insert(note), {"text": "undone"})
                raise LookupError
        with pytest.raises(LookupError), handle(core=True) as db:
            db.execute(insert(note), {"text": "undone too"})
            raise LookupError
        with handle(read=True) as db:
            return list(db.scalars(select(note.c.text)))

    assert server.run(job) == ["kept"]


def test_an_administrator_sees_and_cancels_a_transaction_outside_any_call_by_its_id(notes):
    server = notes()
    finished = server.events("transaction.finished")

    def job():
        handle = server.server.provided("transaction")
        with handle(read=True):
            handle.record("counting")
            gevent.sleep(60)

    def cancelled():
        jobs, ids = [gevent.spawn(job) for _ in range(2)], []
        while len(ids) < 2:
            gevent.sleep(0.001)
            ids = [row["id"] for row in server.server.call("transactions.active") if "counting" in row["operations"]]
        assert all(server.server.call("transactions.cancel", {"id": id}) for id in ids)
        gevent.joinall(jobs, timeout=30)
        return ids, [type(one.exception).__name__ for one in jobs]

    ids, raised = server.run(cancelled)
    assert raised == ["CallCancelled"] * 2
    assert len(set(ids)) == 2
    assert all(uuid.UUID(id).version == 7 for id in ids)
    assert set(ids) <= {event.transaction for event in finished if event.state == "rolled back"}


def test_foreign_keys_are_enforced_and_the_log_is_write_ahead(notes):
    server = notes()

    def pragmas():
        with plugin(server).handle(core=True) as db:
            return [
                db.execute(text(f"PRAGMA {name}")).scalar() for name in ("foreign_keys", "journal_mode", "synchronous")
            ]

    assert server.run(pragmas) == [1, "wal", 2]
