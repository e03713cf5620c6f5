"""Numbers as the real StatsD and the real Carbon have them."""

from __future__ import annotations

import random
import socket
import time

import pytest
from tidegate import Call, command
from tidegate_monitoring.daemon import node

HOST = f"tidegate.{node(socket.gethostname())}"


@command("shop.takes")
def takes(call: Call, seconds: float) -> float:
    """A call that takes exactly so long, in virtual time."""
    call.server.clock.advance(seconds)
    return seconds


def config(port: int, more: str = "") -> str:
    return f'[plugins.monitoring]\nstatsd = "127.0.0.1:{port}"\n{more}\n'


def test_a_thousand_calls_are_a_thousand_in_whisper(graphite, served, eventually):
    server = served(config(graphite.statsd.port), plugins=["monitoring"])
    with server.client() as client:
        for _ in range(20):
            with client.batch() as batch:
                for _ in range(50):
                    batch.call("system.echo", text="x")
        with server.raw() as raw:
            for _ in range(7):
                raw.ask("system.echo", {"text": 5})
    start = f"counters.{HOST}.calls.system_echo"
    eventually(lambda: sum(graphite.values(f"{start}.ok.count")) >= 1000, timeout=30)
    eventually(lambda: sum(graphite.values(f"{start}.failed.count")) >= 7, timeout=30)
    server.stop()  # the last second is sent, too
    time.sleep(2.5)  # two flushes of the daemon: nothing more may come
    assert sum(graphite.values(f"{start}.ok.count")) == 1000
    assert sum(graphite.values(f"{start}.failed.count")) == 7
    assert sum(graphite.values(f"{start}.errors.1113.count")) == 7
    assert sum(graphite.values(f"timers.{HOST}.calls.system_echo.latency.count")) == pytest.approx(1007)
    assert sum(graphite.values(f"counters.{HOST}.events.connection.opened.count")) == 2
    # What carbon made of the samples in etc/: storage-schemas.conf, storage-aggregation.conf.
    counts = graphite.info(f"{start}.ok.count")
    assert "aggregationMethod: sum" in counts
    assert counts.count("Archive ") == 3
    assert "aggregationMethod: max" in graphite.info(f"gauges.{HOST}.calls.system_echo.p99")
    assert "aggregationMethod: average" in graphite.info(f"gauges.{HOST}.gauges.core.connections_open")


def test_percentiles_and_gauges_are_right_in_whisper(graphite, inside, eventually):
    server = inside(config(graphite.statsd.port), plugins=["monitoring"], commands=[takes])
    times = [n * 0.05e-3 for n in range(1, 101)]  # 0.25 s in all: one flush
    random.Random(7).shuffle(times)
    with server.client() as client:
        client.call("system.ping")
        for seconds in times:
            client.call("shop.takes", seconds=seconds)
        server.advance(1)
        start = f"gauges.{HOST}.calls.shop_takes"
        eventually(lambda: graphite.values(f"{start}.max"), timeout=30)
        for name, wanted in {"p50": 2.5, "p90": 4.5, "p99": 4.95, "p999": 5.0, "max": 5.0}.items():
            assert graphite.values(f"{start}.{name}")[-1] == pytest.approx(wanted, rel=0.01)
        server.advance(6)  # gauges are asked for every 5 s
        eventually(lambda: graphite.values(f"gauges.{HOST}.gauges.core.connections_open")[-1:] == [1.0], timeout=30)


def test_timings_come_with_the_rate_that_makes_their_number_right(statsd, inside, eventually):
    daemon = statsd()
    server = inside(config(daemon.port, "samples = 4"), plugins=["monitoring"])
    with server.client() as client, client.batch() as batch:
        for _ in range(50):
            batch.call("system.ping")
    server.advance(1)
    name = f"{HOST}.calls.system_ping.latency"
    eventually(lambda: any(name in flush["timers"] for flush in daemon.flushes()), timeout=20)
    assert sum(flush["timers"].get(name, {}).get("count", 0) for flush in daemon.flushes()) == pytest.approx(50)


def test_over_tcp_nothing_is_lost(statsd, served, eventually):
    daemon = statsd(tcp=True)
    server = served(config(daemon.port, "statsd_tcp = true"), plugins=["monitoring"])
    with server.client() as client:
        for _ in range(100):
            client.call("system.ping")
    eventually(lambda: daemon.total(f"{HOST}.calls.system_ping.ok") == 100, timeout=20)


def test_two_hundred_commands_arrive_whole_over_udp(statsd, served, eventually):
    daemon = statsd()
    lines = "".join(f"@command('many.c{n}')\ndef c{n}(): return 1\n" for n in range(200))
    server = served(config(daemon.port), plugins=["monitoring"], source=f"from tidegate import command\n{lines}")
    with server.client() as client:
        for _ in range(5):
            with client.batch() as batch:
                for n in range(50):
                    for part in range(4):
                        batch.call(f"many.c{n + part * 50}")
    names = [f"{HOST}.calls.many_c{n}.ok" for n in range(200)]
    eventually(lambda: sum(map(daemon.total, names)) >= 1000, timeout=20)
    assert {daemon.total(name) for name in names} == {5.0}


def test_a_daemon_that_is_gone_costs_a_flush_and_no_call(statsd, served, eventually):
    server = served(config(1, "statsd_tcp = true"), plugins=["monitoring"])
    with server.client() as client, server.admin() as admin:
        for _ in range(50):
            assert client.call("system.ping") == "pong"
        eventually(lambda: admin.call("monitoring.metrics")["statsd"]["lost"] > 0, timeout=20)
        server.wait_log("StatsD can't be reached")
        # It is back: what comes from now on arrives.
        daemon = statsd(tcp=True)
        server.config.write_text(config(daemon.port, "statsd_tcp = true"))
        admin.call("system.reload")
        client.call("system.ping")
        eventually(lambda: daemon.total(f"{HOST}.calls.system_ping.ok") >= 1, timeout=20)


def test_a_host_that_does_not_resolve_stops_nothing(served, eventually):
    server = served('[plugins.monitoring]\nstatsd = "no-such-host.invalid:8125"\n', plugins=["monitoring"])
    with server.client() as client:
        assert client.call("system.ping") == "pong"
    server.wait_log("StatsD can't be reached", timeout=30)


def test_names_that_a_client_makes_up_become_no_metric(statsd, inside, eventually):
    daemon = statsd()
    server = inside(config(daemon.port), plugins=["monitoring"])
    with server.raw() as raw:
        for n in range(20):
            raw.ask(f"evil.name_{n}:1|c")
        raw.ask("system.ping")
    server.advance(1)
    eventually(lambda: daemon.total(f"{HOST}.events.method.unknown") == 20, timeout=20)
    seen = {name for flush in daemon.flushes() for kind in ("counters", "gauges", "timers") for name in flush[kind]}
    assert [name for name in seen if "evil" in name] == []
    assert daemon.total(f"{HOST}.calls.unknown.failed") == 20


class Sink:
    """A UDP socket: what a DogStatsD agent would get."""

    def __init__(self) -> None:
        self.sock = socket.socket(type=socket.SOCK_DGRAM)
        self.sock.bind(("127.0.0.1", 0))
        self.sock.settimeout(10)

    def lines(self, until: str) -> list[str]:
        found: list[str] = []
        while not any(until in line for line in found):
            packet = self.sock.recv(65536)
            assert len(packet) <= 1400
            found += packet.decode().split("\n")
        return found


def test_dogstatsd_gets_commands_and_codes_as_tags_and_alerts_as_events(inside):
    sink = Sink()
    more = 'statsd_tags = true\nprefix = "tg"\nrules.many.warning = "count(calls.system.ping) > 2"\n'
    server = inside(config(sink.sock.getsockname()[1], more), plugins=["monitoring"])
    with server.raw() as raw:
        for _ in range(3):
            raw.ask("system.ping")
        raw.ask("system.echo", {"text": 5})
    server.advance(2)
    lines = sink.lines("_e{")
    assert "tg.calls.ok:3|c|#command:system.ping" in lines
    assert "tg.calls.errors:1|c|#command:system.echo,code:1113" in lines
    assert "_e{11,37}:many raised|3, rule: count(calls.system.ping) > 2" in "\n".join(lines)
