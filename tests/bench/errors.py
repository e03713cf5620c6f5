"""What the errors plugin adds to a call that succeeds, in µs; and what a failure costs.

    python tests/bench/errors.py                 # aims: 0.1 with retry and mapping, 0.5 with everything
    python tests/bench/errors.py --rounds 9000 --json out.json

The command's own function and the function with its decorators take turns in windows of about 0.1 ms, mostly too
short to be interrupted; of each the tenth percentile counts, and the difference is told. What is measured is what
`Server.dispatch` calls.
"""

from __future__ import annotations

import argparse
import gc
import logging
import statistics
import tempfile
from typing import Any

from tidegate import Call, Connection, Plugin, command
from tidegate.config import read
from tidegate.server import Server
from tidegate_errors import Errors
from windows import keep, low, seconds

AIMS_US = {"retry": 0.1, "everything": 0.5}


class Shop(Plugin):
    """A command for each combination of notes; all do the same."""

    @command("bench.plain")
    def plain(self) -> int:
        return 1

    @command("bench.retry", idempotent=True, retry={"attempts": 3})
    def retry(self) -> int:
        return 1

    @command("bench.breaker", breaker=True)
    def breaker(self) -> int:
        return 1

    @command("bench.timed", breaker="timed")
    def timed(self) -> int:
        return 1

    @command("bench.bulkhead", concurrency=100)
    def bulkhead(self) -> int:
        return 1

    @command("bench.everything", idempotent=True, retry={"attempts": 3}, breaker=True, concurrency=100)
    def everything(self) -> int:
        return 1

    @command("bench.everything_timed", idempotent=True, retry={"attempts": 3}, breaker="timed", concurrency=100)
    def everything_timed(self) -> int:
        return 1

    @command("bench.failing")
    def failing(self) -> int:
        raise KeyError("made to fail")


def server(adaptive: bool) -> Server:
    sets = [
        f"plugins.errors.adaptive_limit={str(adaptive).lower()}",
        "plugins.errors.breakers.timed.window_s=10",
        "plugins.errors.breakers.timed.slow_s=1",
        f"server.data={tempfile.gettempdir()}/tidegate-bench",
    ]
    return Server(read(None, sets=sets), plugins={"errors": Errors, "shop": Shop}, only=["none"])


def added(of: Server, name: str, rounds: int, times: int) -> dict[str, Any]:
    """What the decorators of a command add, µs: `{"us": 0.05, "bare_us": 0.06}`."""
    route = of.routes[name]
    call = Call(of, Connection(of, "internal"), route.command, None, of.clock.now(), float("inf"), {})
    # Innermost is the core's own, which every command has; ours is what stands in the ring `answer`.
    inner = [layer.function for layer in route.layers if layer.plugin == "errors"]
    function = inner[0] if inner else route.heart
    for warm in (route.heart, function):
        seconds(warm, call, times)
    gc.disable()
    pairs = [(seconds(route.heart, call, times), seconds(function, call, times)) for _ in range(rounds)]
    gc.enable()
    bare, decorated = (low([pair[place] for pair in pairs]) for place in (0, 1))
    return {"us": (decorated - bare) * 1e6, "bare_us": bare * 1e6}


def failure(of: Server, times: int) -> dict[str, Any]:
    """A call that fails with an unplanned exception, through dispatch: mapped, counted, grouped, logged or left out."""
    route = of.routes["bench.failing"]
    connection = Connection(of, "internal")

    def fail(_: Any) -> None:
        of.dispatch(Call(of, connection, route.command, None, of.clock.now(), float("inf"), {}), route.proceed)

    plugin: Any = of.registry.plugins["errors"]
    own, of.report = of.report, plugin.reporter.failed
    with_plugin = statistics.median(seconds(fail, None, times) * 1e6 for _ in range(5))
    of.report = own
    return {"us": with_plugin, "core_us": statistics.median(seconds(fail, None, times) * 1e6 for _ in range(5))}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3000, help="pairs of windows (default 3000)")
    parser.add_argument("--times", type=int, default=500, help="calls in a window (default 500)")
    parser.add_argument("--json", metavar="FILE", help="write the figures there too")
    args = parser.parse_args()
    logging.getLogger("tidegate").addHandler(logging.NullHandler())
    logging.getLogger("tidegate").propagate = False
    plain, adaptive = server(False), server(True)
    rows = {
        "nothing noted": (plain, "bench.plain"),
        "retry": (plain, "bench.retry"),
        "breaker, last 100 calls": (plain, "bench.breaker"),
        "breaker, last 10 s and slow calls": (plain, "bench.timed"),
        "bulkhead": (plain, "bench.bulkhead"),
        "adaptive limit": (adaptive, "bench.plain"),
        "everything": (adaptive, "bench.everything"),
        "everything, timed breaker": (adaptive, "bench.everything_timed"),
    }
    print(f"{'a call that succeeds':36s}{'µs added':>10s}{'bare':>8s}{'aim':>8s}")
    out: dict[str, Any] = {}
    for title, (of, name) in rows.items():
        row = out[title] = added(of, name, args.rounds, args.times)
        aim = AIMS_US.get(title, "")
        print(f"{title:36s}{row['us']:10.3f}{row['bare_us']:8.3f}{aim!s:>8s}", flush=True)
    row = out["failure"] = failure(plain, 2_000)
    print(f"{'a call that fails, all of it':36s}{row['us']:10.1f}   (the core alone {row['core_us']:.1f})")
    keep(out, args.json)


if __name__ == "__main__":
    main()
