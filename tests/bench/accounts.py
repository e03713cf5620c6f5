"""What the accounts plugin adds to a call, in µs, and whether a login tells by its time that a name does not exist.

    python tests/bench/accounts.py
    python tests/bench/accounts.py --rounds 9000 --logins 200 --json out.json

The call: the rest of it and the same behind the plugin's decorator take turns in windows of about 0.1 ms; of each the
tenth percentile counts, and the difference is told (budget: 0.05 µs). The login: over a socket, a name that does not
exist and a wrong password take turns, each name once, so that no delay after failures comes in.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import socket
import statistics
import tempfile
import time

from process import LOAD_CORE, Process, tidegate
from tidegate import Call, Connection, Plugin, User, command
from tidegate.config import read
from tidegate.server import Server
from tidegate_accounts import Accounts
from tidegate_transactions import Transactions
from windows import keep, low, seconds

PASSWORD = "correct horse battery"
JO = User("jo", "Jo", frozenset({"user"}))


class Shop(Plugin):
    """A command that does nothing."""

    @command("bench.nothing")
    def nothing(self) -> int:
        return 1


def added(user: User | None, rounds: int) -> float:
    """What the decorator of a command adds, µs."""
    plugins = {"accounts": Accounts, "transactions": Transactions, "shop": Shop}
    of = Server(
        read(None, sets=[f"server.data={tempfile.gettempdir()}/tidegate-bench"]), plugins=plugins, only=["none"]
    )
    connection = Connection(of, "tcp", address="192.0.2.7")
    connection.become(user)
    call = Call(of, connection, of.commands["bench.nothing"], user, of.clock.now(), float("inf"), {})

    def bare(call: Call) -> None:
        """The rest of a call."""

    (accounts,) = (one for one in of.registry.decorating if one.plugin.whole.name == "accounts")
    function = accounts.decorate(call.command, bare)
    gc.disable()
    pairs = [(seconds(bare, call, 1000), seconds(function, call, 1000)) for _ in range(rounds)]
    gc.enable()
    return (low([after for _, after in pairs]) - low([before for before, _ in pairs])) * 1e6


class Line:
    """A connection that asks one thing after the other."""

    def __init__(self, port: int) -> None:
        self.sock = socket.create_connection(("127.0.0.1", port))
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.file = self.sock.makefile("rb")

    def ask(self, method: str, **params: str) -> tuple[int, float]:
        """The code, 0 when there is none, and the seconds that it took."""
        line = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).encode() + b"\n"
        start = time.perf_counter()
        self.sock.sendall(line)
        reply = self.file.readline()
        took = time.perf_counter() - start
        return json.loads(reply).get("error", {}).get("code", 0), took


def logins(count: int) -> dict[str, list[float]]:
    """Milliseconds of refused logins, `unknown` and `wrong`, as they were asked in turn."""
    took: dict[str, list[float]] = {"unknown": [], "wrong": []}
    config = f'[plugins.accounts]\nguesses = "{count * 10}/hour"\n'
    with Process(tidegate("accounts", "transactions", config=config)) as server:
        line = Line(server.port)
        for number in range(count):
            assert line.ask("account.register", name=f"there{number}", password=PASSWORD)[0] == 0
        line = Line(server.port)
        for number in range(count):
            for kind, name in (("unknown", f"never{number}"), ("wrong", f"there{number}")):
                code, seconds_ = line.ask("account.login", name=name, password="some other words")
                assert code == 1004, code
                took[kind].append(seconds_ * 1e3)
    return took


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3000)
    parser.add_argument("--logins", type=int, default=100)
    parser.add_argument("--json", metavar="FILE")
    args = parser.parse_args()
    figures: dict[str, object] = {}
    for name, user in (("nobody", None), ("a user", JO)):
        figures[name] = added(user, args.rounds)
        print(f"added to a call by {name:8} {figures[name]:6.3f} µs")
    os.sched_setaffinity(0, {LOAD_CORE})
    took = logins(args.logins)
    unknown, wrong = (statistics.median(took[kind]) for kind in ("unknown", "wrong"))
    later = sum(a < b for a, b in zip(took["unknown"], took["wrong"], strict=True)) / args.logins
    print(f"a login refused, median of {args.logins}: unknown name {unknown:.2f} ms, wrong password {wrong:.2f} ms,")
    print(f"ratio {wrong / unknown:.3f}; of two in turn the wrong password took longer in {later:.0%}")
    keep(figures | {"unknown_ms": unknown, "wrong_ms": wrong, "longer": later}, args.json)


if __name__ == "__main__":
    main()
