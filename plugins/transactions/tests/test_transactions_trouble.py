"""A disk that is full, a file that is locked, read-only or damaged, a PostgreSQL that goes away."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import threading
import time
from pathlib import Path

import pytest


def code_of(server, method, params=None, **members):
    reply = server.raw().ask(method, params, **members)
    return reply["error"]["data"]["code"] if "error" in reply else None


def names(server):
    with server.client() as client:
        return client.call("item.names")


def file_of(server) -> Path:
    return server.data / "transactions" / "tidegate.sqlite"


@pytest.fixture
def small_disk(tmp_path, need):
    """A disk of 3 MiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", folder], capture_output=True)
    need("mount", done.returncode == 0, "a tmpfs can't be mounted here (it takes root)")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def test_a_full_disk_is_1213_and_the_server_recovers(shop, small_disk):
    server = shop(f'url = "sqlite:///{small_disk}/x.sqlite"\n')
    assert code_of(server, "item.add", {"name": "before"}) is None
    ballast = small_disk / "ballast"
    with ballast.open("wb") as file, pytest.raises(OSError, match="space"):
        while True:
            file.write(bytes(65536))
            file.flush()
    codes = {code_of(server, "item.add", {"name": f"{'x' * 20000}{i}"}) for i in range(60)}
    assert 1213 in codes
    assert codes <= {None, 1213}
    kept = names(server)
    assert "before" in kept
    with server.admin() as admin:
        assert admin.call("system.gauges")["transactions.database_lost"] == 1
        ballast.unlink()
        assert code_of(server, "item.add", {"name": "after"}) is None
        assert admin.call("system.gauges")["transactions.database_lost"] == 0
    assert names(server) == [*kept, "after"]


def test_one_who_fills_the_disk_takes_no_reply_of_another_back(shop, small_disk):
    """Everything that was answered is there, nothing else is."""
    server = shop(f'url = "sqlite:///{small_disk}/x.sqlite"\n')
    kept, lock = [], threading.Lock()

    def add(number):
        raw = server.raw()
        for i in range(40):
            name = f"{number}-{i}-" + "x" * 9000
            if "result" in raw.ask("item.add", {"name": name}):
                with lock:
                    kept.append(name)

    threads = [threading.Thread(target=add, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    server.stop()
    with sqlite3.connect(small_disk / "x.sqlite") as db:
        there = [name for (name,) in db.execute("SELECT name FROM item")]
    db.close()
    assert sorted(there) == sorted(kept)
    assert 0 < len(kept) < 320


def test_a_file_that_another_process_holds_locked_is_1207_and_then_works_again(shop):
    server = shop("lock_wait_s = 0.3\n")
    other = sqlite3.connect(file_of(server), isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    assert code_of(server, "item.add", {"name": "locked out"}) == 1207
    assert names(server) == [], "readers need no lock"
    other.execute("COMMIT")
    other.close()
    assert code_of(server, "item.add", {"name": "pen"}) is None


def test_a_file_that_became_read_only_is_1213_and_then_works_again(shop, need):
    server = shop()
    assert code_of(server, "item.add", {"name": "pen"}) is None
    files = [str(path) for path in file_of(server).parent.iterdir() if not path.name.endswith("-shm")]  # it is mapped
    done = subprocess.run(["chattr", "+i", *files], capture_output=True)  # root may write whatever the mode says
    try:
        need("chattr", done.returncode == 0, "files can't be made immutable here")
        codes = [code_of(server, "item.add", {"name": "no"}) for _ in range(4)]
        assert codes[-1] == 1213
        assert set(codes) <= {1201, 1213}, "the first may find out while it writes"
        assert names(server) == ["pen"]
    finally:
        subprocess.run(["chattr", "-i", *files], capture_output=True)
    assert code_of(server, "item.add", {"name": "ink"}) is None
    assert names(server) == ["pen", "ink"]


def test_a_start_with_a_file_that_can_not_be_written_is_refused(shop, tmp_path, need):
    file = tmp_path / "x.sqlite"
    with sqlite3.connect(file) as db:
        db.execute("CREATE TABLE a (b)")
    db.close()
    done = subprocess.run(["chattr", "+i", file], capture_output=True)
    try:
        need("chattr", done.returncode == 0, "files can't be made immutable here")
        with pytest.raises(AssertionError, match=r"readonly|read-only|1213"):
            shop(f'url = "sqlite:///{file}"\n')
    finally:
        subprocess.run(["chattr", "-i", file], capture_output=True)


def test_a_damaged_file_is_1204_and_a_restored_one_works_without_a_restart(shop):
    server = shop()
    for i in range(50):
        assert code_of(server, "item.add", {"name": f"{i}-" + "x" * 2000}) is None
    file = file_of(server)
    with sqlite3.connect(file) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    db.close()
    good = file.read_bytes()
    with file.open("r+b") as damaged:
        damaged.seek(4096)
        damaged.write(os.urandom(len(good) - 4096))
        damaged.flush()
        # A cache that knows nothing of it would still answer: a writer tells SQLite that the file changed.
        damaged.seek(24)
        damaged.write(os.urandom(4))
    codes = [code_of(server, "item.names"), code_of(server, "item.add", {"name": "y" * 50})]
    assert 1204 in codes
    assert code_of(server, "system.ping") is None
    file.write_bytes(good)
    end = time.monotonic() + 60
    while code_of(server, "item.names") is not None or code_of(server, "item.add", {"name": "after"}) is not None:
        assert time.monotonic() < end, "it does not recover"
    assert names(server)[-1] == "after"
    assert len(names(server)) == 51


def test_a_start_with_a_file_that_is_no_database_is_refused_with_its_reason(shop, served, tmp_path):
    file = tmp_path / "x.sqlite"
    file.write_bytes(b"this is a text file, and a long one; " * 200)
    with pytest.raises(AssertionError, match="not a database"):
        shop(f'url = "sqlite:///{file}"\n')


# --- PostgreSQL ----------------------------------------------------------------------------------


@pytest.fixture
def postgres_shop(shop, database):
    def start(settings=""):
        return shop(f'url = "{database}"\nupgrade = "always"\n{settings}')

    return start


def test_a_restarted_postgresql_costs_no_call_of_an_idle_pool(postgres_shop, postgres):
    server = postgres_shop("pool_size = 4\n")

    def touch():
        with server.client() as client:
            client.call("item.slow", name="pen", seconds=0.3)

    threads = [threading.Thread(target=touch) for _ in range(4)]  # four connections in the pool
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    postgres.stop()
    assert code_of(server, "item.add", {"name": "away"}) == 1201
    with server.admin() as admin:
        assert admin.call("system.gauges")["transactions.database_lost"] == 1
    postgres.start()
    assert [code_of(server, "item.add", {"name": f"{i}"}) for i in range(6)] == [None] * 6
    with server.admin() as admin:
        assert admin.call("system.gauges")["transactions.database_lost"] == 0


def test_a_restart_under_the_pool_is_not_seen_by_clients(postgres_shop, postgres):
    server = postgres_shop("pool_size = 4\n")
    with server.client() as client:
        for i in range(3):
            client.call("item.add", name=str(i))
        postgres.stop("immediate")
        postgres.start()
        client.call("item.add", name="after")
    assert names(server) == ["0", "1", "2", "after"]


def test_a_query_past_its_deadline_is_ended_in_postgresql_too(postgres_shop, database, eventually):
    import psycopg

    server = postgres_shop()
    assert code_of(server, "item.raw", {"sql": "SELECT pg_sleep(60)"}, timeout=0.3) in (1210, 1303)

    def running():
        with psycopg.connect(database) as db:
            return db.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(60)%' "
                "AND state = 'active' AND pid <> pg_backend_pid()"
            ).fetchone()[0]

    eventually(lambda: running() == 0)
    assert code_of(server, "item.add", {"name": "pen"}) is None


def test_a_connection_to_a_server_that_takes_no_writes_any_more_is_replaced(postgres_shop, database):
    """As after a failover: sessions that are open stay on a server that is read-only now, new ones reach another."""
    import psycopg

    server = postgres_shop("pool_size = 2\n")

    def alter(setting):
        with psycopg.connect(database, autocommit=True) as db:
            db.execute("SET default_transaction_read_only = off")
            db.execute(f"ALTER DATABASE {db.info.dbname} {setting}")
            db.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'tidegate%%' "
                "AND datname = current_database() AND %s",
                [setting.startswith("SET")],
            )

    assert code_of(server, "item.add", {"name": "before"}) is None
    alter("SET default_transaction_read_only = on")
    assert code_of(server, "item.add", {"name": "lost"}) == 1213
    assert names(server) == ["before"]
    alter("RESET default_transaction_read_only")
    codes = [code_of(server, "item.add", {"name": "after"}) for _ in range(4)]
    assert codes[2:] == [None, None]
    assert set(codes[:2]) <= {None, 1213}


def test_other_clients_are_served_while_a_query_waits(postgres_shop, eventually):
    server = postgres_shop()
    waiting = threading.Thread(target=code_of, args=(server, "item.raw", {"sql": "SELECT pg_sleep(60)"}))
    waiting.start()
    with server.client() as client, server.admin() as admin:
        (row,) = eventually(lambda: [r for r in admin.call("transactions.active") if r["method"] == "item.raw"])
        for _ in range(20):
            client.call("system.ping")
        assert waiting.is_alive()
        admin.call("transactions.cancel", id=row["id"])
    waiting.join(30)
    assert not waiting.is_alive()


def test_serialization_failures_and_deadlocks_are_tried_again(postgres_shop):
    server = postgres_shop('isolation = "serializable"\n')
    with server.client() as client:
        client.call("bank.open", count=4, balance=1000)
    failed = []

    def run(number):
        with server.client() as client:
            for i in range(10):
                try:
                    client.call(
                        "bank.move", source=number % 4, target=(number + 1) % 4, amount=1, token=f"{number}-{i}"
                    )
                except Exception as error:
                    failed.append(error)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    with server.client() as client:
        assert client.call("bank.sum") == 4000
        assert client.call("bank.count") == 40 - len(failed)
    with server.admin() as admin:
        assert admin.call("transactions.totals")["retried"] > 0
    assert {getattr(error, "code", None) for error in failed} <= {1207}


def test_a_hung_postgresql_ends_calls_at_their_deadline_and_no_other(postgres_shop, postgres):
    server = postgres_shop()
    assert code_of(server, "item.add", {"name": "pen"}) is None
    children = subprocess.run(["pgrep", "-P", str(postgres.pid)], capture_output=True, text=True).stdout.split()
    for pid in (postgres.pid, *map(int, children)):
        os.kill(pid, signal.SIGSTOP)
    try:
        assert code_of(server, "item.add", {"name": "hung"}, timeout=1) in (1303, 1201)
        assert code_of(server, "system.ping") is None
    finally:
        for pid in (postgres.pid, *map(int, children)):
            os.kill(pid, signal.SIGCONT)
    assert code_of(server, "item.add", {"name": "ink"}, timeout=15) is None
    assert "hung" not in names(server)


SLOW_COMMIT = """
CREATE FUNCTION dawdle() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(2); RETURN NULL; END';
CREATE CONSTRAINT TRIGGER dawdle AFTER INSERT ON item DEFERRABLE INITIALLY DEFERRED
FOR EACH ROW EXECUTE FUNCTION dawdle()
"""


@pytest.mark.parametrize("key", [None, "an-anonymous-key-of-22-characters"])
def test_a_postgresql_lost_during_the_commit_is_said_to_be_unknown_or_safe_to_repeat(
    postgres_shop, postgres, database, eventually, key
):
    import psycopg

    server = postgres_shop()
    with psycopg.connect(database, autocommit=True) as db:
        db.execute(SLOW_COMMIT)
    replies = []
    members = {"idempotency_key": key} if key else {}

    def ask():
        replies.append(server.raw().ask("item.add", {"name": "pen"}, **members))

    def committing():
        with psycopg.connect(database) as db:
            return db.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE query = 'COMMIT' AND state = 'active'"
            ).fetchone()[0]

    asker = threading.Thread(target=ask)
    asker.start()
    eventually(committing)
    postgres.stop("immediate")
    asker.join(20)
    postgres.start()
    data = replies[0]["error"]["data"]
    if key is None:
        assert (data["code"], data["outcome"]) == (1202, "unknown")
    else:
        assert (data["code"], data["recovery"]) == (1201, "retry")
        ask()
        assert "result" in replies[1]
        assert names(server) == ["pen"]


def test_a_deadline_during_the_commit_does_not_hide_that_it_was_committed(postgres_shop, database):
    import psycopg

    server = postgres_shop()
    with psycopg.connect(database, autocommit=True) as db:
        db.execute(SLOW_COMMIT)
    assert code_of(server, "item.add", {"name": "pen"}, timeout=1.8) is None
    assert names(server) == ["pen"]
