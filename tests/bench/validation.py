"""What the validation plugin adds to a call, in µs: schema, text and limits, apart and together.

    python tests/bench/validation.py
    python tests/bench/validation.py --rounds 9000 --json out.json

The rest of a call and the same behind the plugin's decorators take turns in windows of about 0.1 ms, mostly too short
to be interrupted; of each the tenth percentile counts, and the difference is told. Cerberus gets the same document: as
it is installed, with a validator that is kept; and as the plugin uses it for what the compiled check does not accept.
The aim for four fields is 300 times the former.
"""

from __future__ import annotations

import argparse
import gc
import tempfile
from collections.abc import Callable
from typing import Any

from cerberus import Validator
from tidegate import Call, Connection, Plugin, User, command
from tidegate.config import read
from tidegate.server import Server
from tidegate_validation import Validation
from windows import keep, low, seconds

TEXT = {"type": "string", "required": True, "maxlength": 2000}
FOUR = {
    "room": {"type": "string", "required": True, "minlength": 1, "maxlength": 64, "regex": "[a-z0-9-]+"},
    "text": TEXT,
    "private": {"type": "boolean"},
    "members": {"type": "list", "maxlength": 50, "schema": {"type": "string", "maxlength": 32}},
}
MESSAGE = {"room": "lobby", "text": "hello there, how are you?", "private": True, "members": ["jane", "joe"]}
NEVER = "1_000_000_000/second".replace("_", "")
JO = User("jo", "Jo", frozenset({"user"}))


class Shop(Plugin):
    """Commands that do nothing."""

    @command("bench.nothing")
    def nothing(self) -> int:
        return 1

    @command("bench.echo", params={"text": TEXT})
    def echo(self, text: str) -> str:
        return text

    @command("bench.limited", params={"text": TEXT}, rate=NEVER)
    def limited(self, text: str) -> str:
        return text

    @command("bench.four", params=FOUR)
    def four(self, room: str, text: str, private: bool = False, members: Any = ()) -> int:
        return 1

    @command("bench.four_limited", params=FOUR, rate=NEVER)
    def four_limited(self, room: str, text: str, private: bool = False, members: Any = ()) -> int:
        return 1

    @command("bench.name", params={"name": {"meta": {"is": "username"}, "required": True}})
    def name_(self, name: str) -> str:
        return name


def server(*settings: str) -> Server:
    sets = [f"plugins.validation.{one}" for one in settings] + [f"server.data={tempfile.gettempdir()}/tidegate-bench"]
    return Server(read(None, sets=sets), plugins={"validation": Validation, "shop": Shop}, only=["none"])


def added(of: Server, name: str, params: dict[str, Any], user: User | None, rounds: int, times: int) -> float:
    """What the plugin's decorators of a command add, µs."""
    command_ = of.commands[name]
    connection = Connection(of, "tcp", address="192.0.2.7")
    connection.become(user)
    call = Call(of, connection, command_, user, of.clock.now(), float("inf"), params)

    def bare(call: Call) -> None:
        """The rest of a call."""

    function: Callable[[Call], Any] = bare
    for decorating in reversed(of.registry.decorating):
        if decorating.plugin.whole.name == "validation":
            function = decorating.decorate(command_, function) or function
    function(call)
    gc.disable()
    pairs = [(seconds(bare, call, times), seconds(function, call, times)) for _ in range(rounds)]
    gc.enable()
    return (low([after for _, after in pairs]) - low([before for before, _ in pairs])) * 1e6


def cerberus(of: Server, name: str, params: dict[str, Any]) -> tuple[float, float]:
    """What Cerberus takes for the same document, µs: by itself, and in the plugin."""
    plugin: Any = of.registry.plugins["validation"]
    schema = plugin._schema_of(of.commands[name])
    alone = Validator(schema.fields)
    return (
        min(seconds(alone.validate, params, 20) for _ in range(20)) * 1e6,
        min(seconds(schema.validate, params, 50) for _ in range(20)) * 1e6,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=2000, help="pairs of windows (default 2000)")
    parser.add_argument("--times", type=int, default=200, help="calls in a window (default 200)")
    parser.add_argument("--json", metavar="FILE", help="write the figures there too")
    args = parser.parse_args()
    off = server("user_rate=off", "address_rate=off")
    one = server(f"user_rate={NEVER}", f"address_rate={NEVER}")
    two = server(f"user_rate={NEVER}, {NEVER[:-6]}minute", "address_rate=off")
    chinese = {"text": "你好，世界！今天怎么样？"}
    long = {"text": "hello there, how are you? " * 40}
    rows: list[tuple[str, Server, str, dict[str, Any], User | None, str]] = [
        ("schema: one field", off, "bench.echo", {"text": "hello"}, None, ""),
        ("schema: one field, 1,000 characters", off, "bench.echo", long, None, ""),
        ("schema: one field, Chinese", off, "bench.echo", chinese, None, ""),
        ("schema: four fields", off, "bench.four", MESSAGE, None, "0.5"),
        ("schema: a user name", off, "bench.name", {"name": "jane"}, None, ""),
        ("schema: a user name, José", off, "bench.name", {"name": "José"}, None, ""),
        ("limit: an address's rate", one, "bench.nothing", {}, None, "0.2"),
        ("limit: a user's rate", one, "bench.nothing", {}, JO, "0.2"),
        ("limit: a user's two rates", two, "bench.nothing", {}, JO, "0.4"),
        ("echo with two limits", one, "bench.limited", {"text": "hello"}, JO, "0.45"),
        ("four fields with two limits", one, "bench.four_limited", MESSAGE, JO, "1.5"),
    ]
    print(f"{'a call that is accepted':40s}{'µs added':>10s}{'aim':>7s}{'Cerberus':>10s}{'times':>7s}{'in here':>9s}")
    out: dict[str, Any] = {}
    for title, of, name, params, user, aim in rows:
        us = added(of, name, params, user, args.rounds, args.times)
        out[title] = {"us": us}
        line = f"{title:40s}{us:10.3f}{aim:>7s}"
        if title.startswith("schema"):
            alone, here = cerberus(of, name, params)
            out[title] |= {"cerberus_us": alone, "cerberus_here_us": here}
            line += f"{alone:10.0f}{alone / us:7.0f}{here:9.0f}"
        print(line, flush=True)
    keep(out, args.json)


if __name__ == "__main__":
    main()
