"""SQLite's write-ahead log does not grow without end, whoever reads."""

from __future__ import annotations

import sqlite3
import time

import gevent
import pytest
from gevent.event import Event
from sqlalchemy import Column, Integer, MetaData, Table, Text, func, insert, select
from tidegate import Plugin
from tidegate_transactions import Transactions, journal

LIMIT = 1 << 19
metadata = MetaData()
page = Table("page", metadata, Column("id", Integer, primary_key=True), Column("text", Text))


class Pages(Plugin):
    offers = {"tables": (metadata, None)}


@pytest.fixture
def pages(inside, monkeypatch):
    monkeypatch.setattr(journal, "MAX_BYTES", LIMIT)
    return inside(plugins={"transactions": Transactions, "pages": Pages}, virtual=False)


def wait(true):
    end = time.monotonic() + 60
    while not true():
        assert time.monotonic() < end
        gevent.sleep(0.001)


def test_reads_that_always_overlap_do_not_let_the_log_grow_without_end(pages):
    server = pages.server
    log = server.data / "transactions" / "tidegate.sqlite-wal"

    def scene():
        handle, over, counts = server.provided("transaction"), Event(), []

        def read():
            """Where it may, the next one begins before this one ends."""
            with handle(read=True, core=True) as db:
                before = db.execute(select(func.count()).select_from(page)).scalar()
                if not over.is_set():
                    gevent.spawn(read)
                gevent.sleep(0.05)
                assert db.execute(select(func.count()).select_from(page)).scalar() == before
                counts.append(before)

        def write():
            with handle(core=True) as db:
                db.execute(insert(page), {"text": "x" * 50_000})
            return log.stat().st_size

        gevent.spawn(read)
        wait(lambda: write() > LIMIT)
        wait(lambda: write() <= LIMIT)
        over.set()
        wait(lambda: not server.gauges()["transactions.reads_active"])
        with handle(read=True, core=True) as db:
            return counts, db.execute(select(func.count()).select_from(page)).scalar()

    counts, rows = pages.run(scene)
    assert counts == sorted(counts)
    assert rows > LIMIT / 50_000


def test_a_read_that_outlasts_the_wait_is_left_alone_and_so_are_the_reads_behind_it(pages, monkeypatch):
    monkeypatch.setattr(journal, "FIRST_HOLD_S", 0.05)
    server = pages.server

    def scene():
        handle, over = server.provided("transaction"), Event()

        def long_read():
            with handle(read=True, core=True) as db:
                before = db.execute(select(func.count()).select_from(page)).scalar()
                over.wait()
                return before, db.execute(select(func.count()).select_from(page)).scalar()

        reader = gevent.spawn(long_read)
        for _ in range(2 * LIMIT // 50_000):
            with handle(core=True) as db:
                db.execute(insert(page), {"text": "x" * 50_000})
        with handle(read=True, core=True) as db:
            rows = db.execute(select(func.count()).select_from(page)).scalar()
        over.set()
        return reader.get(), rows

    snapshot, rows = pages.run(scene)
    assert snapshot == (0, 0)
    assert rows == 2 * LIMIT // 50_000


def test_a_reader_in_another_process_makes_the_log_long_and_holds_nobody_up(pages):
    server = pages.server
    file = server.data / "transactions" / "tidegate.sqlite"
    log = file.with_name(f"{file.name}-wal")
    other = sqlite3.connect(file)
    other.execute("BEGIN")
    other.execute("SELECT count(*) FROM page").fetchone()

    def write():
        with server.provided("transaction")(core=True) as db:
            db.execute(insert(page), {"text": "x" * 50_000})
        with server.provided("transaction")(read=True, core=True) as db:
            assert db.execute(select(func.count()).select_from(page)).scalar()
        return log.stat().st_size

    pages.run(wait, lambda: write() > 2 * LIMIT)
    other.close()
    pages.run(wait, lambda: write() <= LIMIT)


def test_after_reads_were_let_go_at_the_wrong_moment_they_are_held_back_again(pages):
    def scene():
        own = journal.Journal(pages.server.data / "own")
        own.look(LIMIT + 1)
        looked = own.quiet
        own.release()  # the wait is over while the thread is between its look and its try
        own._tried = looked
        own.look(LIMIT + 1)
        own._not_before = 0.0  # some time later
        own.look(LIMIT + 1)
        held = own.quiet
        own.release()
        return looked, held

    assert pages.run(scene) == (True, True)
