"""How fast a message gets to everybody in a room, against a bare gevent broadcast of the same bytes.

python tests/bench/chat.py --members 1000 --rounds 7

One room with all members connected; one of them speaks. `alone`: the next message is sent when the last one has
reached everybody, which gives the latency from sending to the last delivery. `eight`: eight messages are under way.
The two servers take turns on one core, the clients have another; ratios are of neighbouring windows.
"""

from __future__ import annotations

import argparse
import json
import os
import selectors
import socket
import statistics
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor

from pairs import spread
from process import LOAD_CORE, Contender, Process, script, tidegate

PASSWORD = "correct horse battery"
CONFIG = "[plugins.accounts]\nargon2_memory_kib = 8\nargon2_passes = 1\n"
CHAT = tidegate("accounts", "chat", "transactions", config=CONFIG)
MARK = b'"kind":"message"'


class Crowd:
    """Connections that count what they get; the first of them speaks."""

    def __init__(self, port: int, members: int, socks: list[socket.socket] | None = None) -> None:
        self.socks = socks or [socket.create_connection(("127.0.0.1", port)) for _ in range(members)]
        self.got = [0] * members
        self.tails = [b""] * members  # the mark may come in two pieces
        self.reached: dict[int, int] = {}  # message -> how many have it
        self.bytes = 0
        for sock in self.socks:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def begin(self) -> None:
        self.poll = selectors.EpollSelector()
        for place, sock in enumerate(self.socks):
            sock.setblocking(False)
            self.poll.register(sock, selectors.EVENT_READ, place)

    def ask(self, place: int, method: str, **params: object) -> dict:
        sock = self.socks[place]
        sock.sendall(json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).encode() + b"\n")
        data = b""
        while b'"id":1' not in data or not data.endswith(b"\n"):
            more = sock.recv(65536)
            if not more:
                raise RuntimeError(f"the server closed the connection after {data[-300:]!r}")
            data += more
        return json.loads(next(line for line in data.splitlines() if b'"id":1' in line))["result"]

    def hear(self, mark: bytes) -> None:
        """Read what there is."""
        events = self.poll.select(20.0)
        if not events:
            raise RuntimeError(f"nothing came for 20 s; {min(self.got)} to {max(self.got)} messages arrived")
        for key, _ in events:
            data = key.fileobj.recv(65536)
            if not data:
                raise RuntimeError("the server closed a connection")
            self.bytes += len(data)
            data = self.tails[key.data] + data
            self.tails[key.data] = data[-len(mark) + 1 :]
            for _ in range(data.count(mark)):
                self.got[key.data] += 1
                self.reached[self.got[key.data]] = self.reached.get(self.got[key.data], 0) + 1

    def window(self, line: bytes, mark: bytes, seconds: float, depth: int) -> tuple[float, list[float]]:
        """Messages a second that reached everybody, and the seconds that each took."""
        all, sent, first = len(self.socks), max(self.got), max(self.got) + 1
        due: deque[float] = deque()
        took: list[float] = []
        start = time.perf_counter()
        while True:
            now = time.perf_counter()
            while len(due) < depth and now - start < seconds:
                self.socks[0].sendall(line)
                due.append(time.perf_counter())
                sent += 1
            if not due:
                return len(took) / (time.perf_counter() - start), took
            self.hear(mark)
            while due and self.reached.get(first, 0) == all:
                took.append(time.perf_counter() - due.popleft())
                del self.reached[first]
                first += 1


def enter(port: int, members: int) -> tuple[str, Crowd]:
    """Everybody registers and joins one room while the others are away; then all come in by their tokens."""

    def account(place: int) -> tuple[Crowd, str]:
        alone = Crowd(port, 1)
        return alone, alone.ask(0, "account.register", name=f"member{place}", password=PASSWORD)["token"]

    def member(place: int) -> str:
        alone, token = account(place)
        alone.ask(0, "room.join", room=room)
        alone.socks[0].close()
        return token

    def back(token: str) -> socket.socket:
        alone = Crowd(port, 1)
        alone.ask(0, "account.resume", token=token)
        return alone.socks[0]

    owner, first = account(0)
    room = owner.ask(0, "room.create", name="Hall")["id"]
    owner.socks[0].close()
    with ThreadPoolExecutor(16) as pool:
        tokens = [first, *pool.map(member, range(1, members))]
        return room, Crowd(port, members, list(pool.map(back, tokens)))


def settle(crowd: Crowd, seconds: float = 1.0) -> None:
    """Let what is on its way arrive."""
    end = time.monotonic() + seconds
    while time.monotonic() < end and (events := crowd.poll.select(0.2)):
        for key, _ in events:
            key.fileobj.recv(1 << 20)
    crowd.got = [0] * len(crowd.socks)
    crowd.tails = [b""] * len(crowd.socks)
    crowd.reached.clear()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--members", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=1.0)
    args = parser.parse_args()
    os.sched_setaffinity(0, {LOAD_CORE})
    floor: Contender = script("broadcast.py")
    with Process(floor) as base, Process(CHAT) as chat:
        room, crowd = enter(chat.port, args.members)
        plain = Crowd(base.port, args.members)
        crowd.begin()
        plain.begin()
        settle(crowd, 20.0)
        said = {"jsonrpc": "2.0", "method": "message.send", "params": {"room": room, "text": "x" * 80}}
        line = json.dumps(said).encode() + b"\n"
        crowd.window(line, MARK, 0.2, 1)
        settle(crowd, 2.0)
        crowd.bytes = 0
        _, took = crowd.window(line, MARK, 0.3, 1)
        size = crowd.bytes // (len(took) * args.members)  # of a push
        settle(crowd, 1.0)
        frame = MARK.ljust(size - 1, b".") + b"\n"
        print(f"{args.members} members, {size} bytes a push, {args.rounds} rounds of {args.seconds} s")
        print("load    floor msg/s  chat msg/s  ratio              ratio per CPU-s    p50 ms (floor)   p99 ms (floor)")
        for name, depth in (("alone", 1), ("eight", 8)):
            rows = []
            for _ in range(args.rounds):
                row = []
                for process, one, text in ((base, plain, frame), (chat, crowd, line)):
                    before = process.cpu_s()
                    rate, took = one.window(text, MARK, args.seconds, depth)
                    row.append((rate, len(took) / (process.cpu_s() - before), took))
                rows.append(row)
            rates = [statistics.median(row[which][0] for row in rows) for which in (0, 1)]
            ratio = spread(ours[0] / floors[0] for floors, ours in rows)
            per_cpu = spread(ours[1] / floors[1] for floors, ours in rows)
            times = [sorted(t for row in rows for t in row[which][2]) for which in (0, 1)]
            p50 = [one[len(one) // 2] * 1e3 for one in times]
            p99 = [one[int(len(one) * 0.99)] * 1e3 for one in times]
            print(
                f"{name:6}  {rates[0]:11.1f}  {rates[1]:10.1f}  {ratio!s:17}  {per_cpu!s:17}"
                f"  {p50[1]:6.1f} ({p50[0]:.1f})  {p99[1]:8.1f} ({p99[0]:.1f})"
            )


if __name__ == "__main__":
    main()
