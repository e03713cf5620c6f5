"""Money is neither lost nor made: under load, faults, dropped connections, crashes and restarts.

The long versions: `pytest plugins/transactions/tests/test_transactions_bank.py --slow -s`.
"""

from __future__ import annotations

import json
import random
import socket
import sqlite3
import struct
import threading
import time
from collections import Counter
from dataclasses import dataclass, field

import pytest

ACCOUNTS, BALANCE = 50, 1000
#: What a client may try again with the same key.
AGAIN = frozenset({1201, 1202, 1203, 1207, 1209, 1210, 1211, 1213, 1303, 1308, 1309, 1311})


@dataclass
class Ledger:
    """What the clients know."""

    acknowledged: set[str] = field(default_factory=set)
    refused: set[str] = field(default_factory=set)
    replies: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)


class Customer(threading.Thread):
    """Moves money until told to stop; what is not known it asks again, with the same key."""

    def __init__(self, number: int, server: object, ledger: Ledger, stop: threading.Event, mischief: float) -> None:
        super().__init__(daemon=True)
        self.number, self.server, self.ledger, self.halt = number, server, ledger, stop
        self.mischief = mischief  # how often it drops its connection, hurries or asks for an error
        self.random = random.Random(number)
        self.sock: socket.socket | None = None
        self.rest = b""

    def run(self) -> None:
        count = 0
        while not self.halt.is_set():
            count += 1
            self.transfer(f"{self.number}-{count}-{self.random.getrandbits(64):x}")
        self.drop()

    def transfer(self, token: str) -> None:
        source, target = self.random.sample(range(ACCOUNTS), 2)
        naughty = self.random.random() < self.mischief
        params = {"source": source, "target": target, "amount": self.random.randint(1, 5), "token": token}
        if naughty and self.random.random() < 0.4:
            params["fault"] = self.random.choice(["middle", "late"])
        if self.random.random() < 0.1:
            params["pause"] = 0.001
        request = {
            "jsonrpc": "2.0",
            "id": token,
            "method": "bank.move",
            "params": params,
            "idempotency_key": f"{token:0>24}",
        }
        if naughty and self.random.random() < 0.3:
            request["timeout"] = self.random.choice([0.001, 0.01, 0.05, 0.5])
        drops = naughty and self.random.random() < 0.3
        while True:
            code = self.ask(request, drops)
            drops = False
            if code == 0:
                self.ledger.acknowledged.add(token)
                return
            if code is not None and code not in AGAIN:
                self.ledger.refused.add(token)
                return
            if self.halt.is_set():
                return
            request.pop("timeout", None)
            time.sleep(0.01 * self.random.random())

    def ask(self, request: dict, drops: bool) -> int | None:
        """0, the code of its fault, or None: not known."""
        try:
            if self.sock is None:
                self.sock = socket.create_connection(("127.0.0.1", self.server.port), 20)
                self.rest = b""
            self.sock.sendall(json.dumps(request).encode() + b"\n")
            if drops:
                time.sleep(0.002 * self.random.random())
                if self.random.random() < 0.5:  # a reset
                    self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self.drop()
                return None
            while b"\n" not in self.rest:
                more = self.sock.recv(65536)
                if not more:
                    raise ConnectionError
                self.rest += more
            line, _, self.rest = self.rest.partition(b"\n")
        except OSError:
            self.drop()
            return None
        reply = json.loads(line)
        if "method" in reply:  # a push, before the end
            return None
        if reply["id"] != request["id"]:
            self.ledger.wrong.append(f"{reply} answers {request}")
        code = reply["error"]["data"]["code"] if "error" in reply else 0
        self.ledger.replies[str(code)] += 1
        return code

    def drop(self) -> None:
        if self.sock is not None:
            self.sock.close()
            self.sock = None


def open_bank(server) -> None:
    with server.client() as client:
        client.call("bank.open", count=ACCOUNTS, balance=BALANCE)


def load(server, ledger: Ledger, clients: int, seconds: float, mischief: float = 0.3, between=None) -> None:
    """`clients` at once for so long; `between` runs meanwhile, and the sum is right at every look."""
    stop = threading.Event()
    customers = [Customer(number, server, ledger, stop, mischief) for number in range(clients)]
    for customer in customers:
        customer.start()
    end = time.monotonic() + seconds
    try:
        if between is not None:
            between(end)
        while time.monotonic() < end:
            with server.client() as client:
                total = client.call("bank.sum")
            if total != ACCOUNTS * BALANCE:
                ledger.wrong.append(f"the sum was {total}")
            time.sleep(0.02)
    finally:
        stop.set()
        for customer in customers:
            customer.join(30)
    assert not any(customer.is_alive() for customer in customers), "a client hangs"


def missing(client, tokens: set[str]) -> set[str]:
    """Those of the transfers that were not made."""
    all_tokens = sorted(tokens)
    found: set[str] = set()
    for start in range(0, len(all_tokens), 500):  # a line has its limit
        found.update(client.call("bank.has", tokens=all_tokens[start : start + 500]))
    return found


def settle(server, ledger: Ledger) -> dict:
    """What must be true once it is quiet."""
    assert ledger.wrong == []
    with server.client(timeout=60) as client:
        books = client.call("bank.books")
        expected = [BALANCE] * ACCOUNTS
        for source, target, amount, times in books["moves"]:
            expected[source] -= amount * times
            expected[target] += amount * times
        assert books["balances"] == expected, "an effect without its transfer, or twice"
        assert sum(books["balances"]) == ACCOUNTS * BALANCE
        assert missing(client, ledger.acknowledged) == set(), "an acknowledged transfer is missing"
        assert missing(client, ledger.refused) == ledger.refused, "a refused transfer was made"
    with server.admin() as admin:
        return admin.call("transactions.totals")


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_the_bank_under_load_and_mischief(request, shop, kind, slow):
    settings = ""
    if kind == "postgresql":
        settings = f'url = "{request.getfixturevalue("database")}"\nupgrade = "always"\n'
    server = shop(settings)
    open_bank(server)
    ledger = Ledger()
    seconds = 30 if slow else 4
    load(server, ledger, 100, seconds)
    totals = settle(server, ledger)
    assert len(ledger.acknowledged) > 100
    assert ledger.refused
    assert totals["replayed"] > 0
    print(
        f"\n{kind}: {len(ledger.acknowledged)} transfers acknowledged in {seconds} s, {len(ledger.refused)} refused, "
        f"replies {dict(ledger.replies)}, replayed {totals['replayed']}, retried {totals['retried']}"
    )


def test_kill_9_loses_nothing_that_was_acknowledged(shop, slow, eventually):
    server = shop()
    open_bank(server)
    ledger = Ledger()
    rounds = 50 if slow else 3
    file = server.data / "transactions" / "tidegate.sqlite"
    chance = random.Random(1)
    for number in range(rounds):

        def crash(end: float) -> None:
            time.sleep(0.1 + 0.5 * chance.random())
            server.kill()

        try:
            load(server, ledger, 20, 0.0, mischief=0.1, between=crash)
        finally:
            with sqlite3.connect(file) as db:
                assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",), number
                assert db.execute("SELECT sum(balance) FROM account").fetchone() == (ACCOUNTS * BALANCE,)
            db.close()
            server.start()
        settle(server, ledger)

    def untold() -> int:
        with sqlite3.connect(file) as db:
            return db.execute("SELECT count(*) FROM tidegate_outbox").fetchone()[0]

    eventually(lambda: untold() == 0)
    with server.admin() as admin:
        recovered = admin.call("transactions.totals")["recovered_events"]
    print(
        f"\n{rounds} kills: {len(ledger.acknowledged)} transfers acknowledged, {recovered} events told after the last"
    )


def test_restarts_of_postgresql_under_load_lose_nothing(shop, postgres, database, slow):
    server = shop(f'url = "{database}"\nupgrade = "always"\npool_size = 10\n')
    open_bank(server)
    ledger = Ledger()
    rounds = 20 if slow else 2
    for number in range(rounds):

        def restart(end: float, mode: str = "immediate" if number % 2 else "fast") -> None:
            time.sleep(0.5)
            postgres.stop(mode)
            postgres.start()
            time.sleep(0.5)

        load(server, ledger, 20, 0.0, mischief=0.1, between=restart)
        settle(server, ledger)
    assert server.process.poll() is None
    assert len(ledger.acknowledged) > 50
    print(f"\n{rounds} restarts: {len(ledger.acknowledged)} transfers acknowledged, replies {dict(ledger.replies)}")
