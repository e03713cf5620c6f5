"""What a transaction costs, and how many durable ones a second go through SQLite.

    python tests/bench/transactions.py                    # a normal disk, then one whose fsync takes 2 ms
    python tests/bench/transactions.py --rounds 9 --json out.json
    python tests/bench/transactions.py --nice -15         # as root: keeps other programs off the core

Everything runs in one process, without sockets: 100 callers insert a row each by the same SQLAlchemy Core
statement, once with the plugin's transactions and once in the customary way, on the loop and under one lock. The two
take turns in windows, and the ratio is that of neighbouring windows. A ticker greenlet that wants to run each
millisecond tells how long the loop was held up meanwhile. The slow disk is a preloaded shim around fdatasync, compiled
when first needed (it takes a C compiler).
"""

from gevent import monkey

monkey.patch_all()

import argparse  # noqa: E402
import json  # noqa: E402
import logging  # noqa: E402
import os  # noqa: E402
import shutil  # noqa: E402
import statistics  # noqa: E402
import subprocess  # noqa: E402
import sys  # noqa: E402
import tempfile  # noqa: E402
import time  # noqa: E402
from collections.abc import Callable  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402

import gevent  # noqa: E402
import sqlalchemy as sa  # noqa: E402
from gevent.lock import BoundedSemaphore  # noqa: E402
from process import raise_priority  # noqa: E402
from tidegate import Plugin  # noqa: E402
from tidegate.config import read  # noqa: E402
from tidegate.server import Server  # noqa: E402
from tidegate_transactions import Transactions  # noqa: E402

CALLERS = 100
AIMS = {"overhead_us": 30.0, "normal": 8.0, "slow": 40.0, "pause_p99_ms": 1.0, "pause_max_ms": 10.0}
SHIM = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <unistd.h>
static void wait_(void) { usleep(2000); }
int fdatasync(int fd) { static int (*f)(int); if (!f) f = dlsym(RTLD_NEXT, "fdatasync"); wait_(); return f(fd); }
int fsync(int fd) { static int (*f)(int); if (!f) f = dlsym(RTLD_NEXT, "fsync"); wait_(); return f(fd); }
"""
metadata = sa.MetaData()
row = sa.Table("row", metadata, sa.Column("id", sa.Integer, primary_key=True), sa.Column("a", sa.Integer))
INSERT = sa.insert(row)
SELECT = sa.select(row.c.a).where(row.c.id == 1)


class Tables(Plugin):
    offers = {"tables": (metadata, None)}


def raw_engine(path: Path) -> sa.Engine:
    """SQLAlchemy as its documentation has it for SQLite, with the same durability."""
    engine = sa.create_engine(
        f"sqlite:///{path}", connect_args={"check_same_thread": False, "isolation_level": None, "timeout": 0}
    )

    @sa.event.listens_for(engine, "connect")
    def pragmas(connection: Any, _: Any) -> None:
        for pragma in ("journal_mode=wal", "synchronous=full", "foreign_keys=on"):
            connection.execute(f"PRAGMA {pragma}")

    @sa.event.listens_for(engine, "begin")
    def begin(connection: Any) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    metadata.create_all(engine)
    return engine


def load(callers: int, seconds: float, one: Callable[[], object]) -> dict[str, float]:
    """`callers` greenlets call `one` again and again; rates, latencies in ms, and the pauses of a ticker."""
    end = time.perf_counter() + seconds
    took: list[float] = []
    pauses: list[float] = []

    def caller() -> None:
        while (start := time.perf_counter()) < end:
            one()
            took.append(time.perf_counter() - start)

    def ticker() -> None:
        while (start := time.perf_counter()) < end:
            gevent.sleep(0.001)
            pauses.append(time.perf_counter() - start - 0.001)

    cpu = time.thread_time()
    gevent.joinall([gevent.spawn(ticker), *(gevent.spawn(caller) for _ in range(callers))], raise_error=True)
    cpu = time.thread_time() - cpu
    took.sort()
    pauses.sort()
    return {
        "per_s": len(took) / seconds,
        "p50_ms": took[len(took) // 2] * 1e3,
        "p99_ms": took[int(len(took) * 0.99)] * 1e3,
        "loop_us": cpu / len(took) * 1e6,
        "pause_p99_ms": pauses[int(len(pauses) * 0.99)] * 1e3 if pauses else seconds * 1e3,
        "pause_max_ms": pauses[-1] * 1e3 if pauses else seconds * 1e3,
    }


def best_us(one: Callable[[], object], calls: int = 300, rounds: int = 15) -> float:
    """µs of one call of a single caller: the tenth percentile of windows, which other programs disturb least."""
    windows = []
    for _ in range(rounds):
        start = time.perf_counter()
        for _ in range(calls):
            one()
        windows.append((time.perf_counter() - start) / calls * 1e6)
    return sorted(windows)[rounds // 10]


def overhead(transaction: Any, engine: sa.Engine) -> dict[str, float]:
    """µs of one caller, by the plugin and by SQLAlchemy alone."""
    connection = engine.connect()

    def raw_read() -> None:
        with engine.connect() as db:
            db.execute(SELECT).scalar()

    def read() -> None:
        with transaction(read=True, core=True) as db:
            db.execute(SELECT).scalar()

    def raw_write() -> None:
        with connection.begin():
            connection.execute(INSERT, {"a": 1})

    def write() -> None:
        with transaction(core=True) as db:
            db.execute(INSERT, {"a": 1})

    return {
        "raw_read_us": best_us(raw_read),
        "read_us": best_us(read),
        "raw_write_us": best_us(raw_write),
        "write_us": best_us(write),
    }


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """All of it on the disk as it is."""
    logging.disable(logging.CRITICAL)  # the lock's way holds the loop up, which the server would tell
    with tempfile.TemporaryDirectory(prefix="tidegate-bench-", dir=args.dir) as folder:
        flags = {"server.data": f"{folder}/data", "listen.0.address": "127.0.0.1:0"}
        server = Server(
            read(None, environ={}, flags=flags), plugins={"transactions": Transactions, "tables": Tables}, only=["none"]
        )
        server.start()
        transaction = server.provided("transaction")
        engine = raw_engine(Path(folder) / "raw.sqlite")
        connection, lock = engine.connect(), BoundedSemaphore(1)

        def locked() -> None:
            with lock, connection.begin():
                connection.execute(INSERT, {"a": 1})
            gevent.sleep(0)

        def grouped() -> None:
            with transaction(core=True) as db:
                db.execute(INSERT, {"a": 1})

        rounds: list[tuple[dict[str, float], dict[str, float]]] = []
        for _ in range(args.rounds + 1):
            rounds.append((load(CALLERS, args.seconds, locked), load(CALLERS, args.seconds, grouped)))
        rounds = rounds[1:]  # the first warms up
        found = {
            "ratio": statistics.median(ours["per_s"] / base["per_s"] for base, ours in rounds),
            "ratio_cpu": statistics.median(base["loop_us"] / ours["loop_us"] for base, ours in rounds),
            "lock": {name: statistics.median(base[name] for base, _ in rounds) for name in rounds[0][0]},
            "group": {name: statistics.median(ours[name] for _, ours in rounds) for name in rounds[0][0]},
            "best": {"lock": max(b["per_s"] for b, _ in rounds), "group": max(o["per_s"] for _, o in rounds)},
        }
        connection.close()
        if not args.slowed:
            found["overhead"] = overhead(transaction, engine)
        server.life.finish()
        return found


def slowed(args: argparse.Namespace) -> dict[str, Any] | None:
    """The same in a process whose fsync takes 2 ms longer; None without a compiler."""
    if (compiler := shutil.which("cc")) is None:
        return None
    with tempfile.TemporaryDirectory(prefix="tidegate-bench-") as folder:
        source, shim = Path(folder, "slow.c"), Path(folder, "slow.so")
        source.write_text(SHIM)
        subprocess.run([compiler, "-shared", "-fPIC", "-o", shim, source, "-ldl"], check=True)
        done = subprocess.run(
            [sys.executable, __file__, *sys.argv[1:], "--slowed"],
            env={**os.environ, "LD_PRELOAD": str(shim)},
            check=True,
            stdout=subprocess.PIPE,
        )
    return dict(json.loads(done.stdout))


def show(name: str, found: dict[str, Any]) -> None:
    print(f"\n{name}: durable single inserts of {CALLERS} callers (medians of the rounds)")
    print(
        f"{'':14}{'per s':>9}{'best':>9}{'p50 ms':>9}{'p99 ms':>9}{'loop µs':>9}{'pause p99 ms':>14}{'longest ms':>12}"
    )
    for key, label in (("lock", "one lock"), ("group", "transactions")):
        one = found[key]
        print(
            f"{label:14}{one['per_s']:9,.0f}{found['best'][key]:9,.0f}{one['p50_ms']:9.2f}{one['p99_ms']:9.2f}"
            f"{one['loop_us']:9.1f}{one['pause_p99_ms']:14.2f}{one['pause_max_ms']:12.2f}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.8)
    parser.add_argument("--dir", help="where the databases are written; the default is the temporary folder")
    parser.add_argument("--json", metavar="FILE")
    parser.add_argument("--nice", type=int, default=0)
    parser.add_argument("--slowed", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.nice:
        raise_priority(args.nice)
    found = measure(args)
    if args.slowed:
        print(json.dumps(found))
        return
    show("This disk", found)
    per_cpu = f"{found['ratio_cpu']:.1f} times per second of the loop's CPU"
    print(f"  {found['ratio']:.1f} times the lock (aim {AIMS['normal']:.0f}); {per_cpu}")
    cost = found["overhead"]
    print("\nOne caller, µs a transaction (SQLAlchemy alone -> with the plugin)")
    for what, label in (("read", "reading"), ("write", "writing")):
        alone, ours = cost[f"raw_{what}_us"], cost[f"{what}_us"]
        print(f"  {label}  {alone:6.1f} -> {ours:6.1f}   {ours - alone:+.1f}")
    busy = found["group"]["loop_us"] - found["lock"]["loop_us"]
    print(f"  writing, of the loop's time, with {CALLERS} callers {busy:+.1f} (aim under {AIMS['overhead_us']:.0f})")
    result = {"normal": found, "slow": slowed(args)}
    if result["slow"] is None:
        print("\nno C compiler: the slow disk is left out")
    else:
        show("fsync takes 2 ms more", result["slow"])
        print(f"  {result['slow']['ratio']:.1f} times the lock (aim {AIMS['slow']:.0f})")
    print(f"\naims for the loop: pauses p99 under {AIMS['pause_p99_ms']} ms, longest under {AIMS['pause_max_ms']} ms")
    if args.json:
        Path(args.json).write_text(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
