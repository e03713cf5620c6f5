"""What administrators see and do, and how many transactions there may be."""

from __future__ import annotations

import json
import threading

import gevent
import pytest
from tidegate import Fault, Plugin, command
from tidegate.faults import TransactionLimitReached
from tidegate_transactions import Transactions


class Work(Plugin):
    """Transactions that take as long as a test wants."""

    def __init__(self):
        self.go = gevent.event.Event()
        self.order = []

    @command("work.wait", transaction="read", timeout=60)
    def wait(self, transaction, number: int):
        self.order.append(number)
        transaction.record(f"waits as number {number}")
        with transaction(read=True):
            self.go.wait()
        return number


@pytest.fixture
def work(inside):
    def start(settings="", **options):
        server = inside(
            config=f"[plugins.transactions]\n{settings}\n",
            plugins={"transactions": Transactions, "work": Work},
            **options,
        )
        server.work = server.server.registry.plugins["work"]
        return server

    return start


def calls(server, count):
    """`count` calls at once in the server; their greenlets."""

    def one(number):
        try:
            return server.server.call("work.wait", {"number": number})
        except Fault as fault:
            return fault

    def spawn():
        made = [gevent.spawn(one, number) for number in range(count)]
        gevent.sleep(0.05)
        return made

    return server.run(spawn)


def results(server, greenlets):
    return server.run(lambda: [greenlet.get(timeout=20) for greenlet in greenlets])


def test_open_transactions_are_listed_with_what_they_do(work):
    server = work()
    greenlets = calls(server, 2)
    with server.admin() as admin:
        server.advance(3)
        rows = admin.call("transactions.active")
        assert [row["method"] for row in rows] == ["work.wait"] * 2
        row = rows[1]
        assert row["operations"] == ["waits as number 1"]
        assert row["savepoints"] == 1
        assert row["state"] == "active"
        assert row["read"]
        assert row["isolation"] == "serializable"
        assert row["seconds"] == 3
        server.run(server.work.go.set)
        assert results(server, greenlets) == [0, 1]
        assert admin.call("transactions.active") == []
        slowest = admin.call("transactions.slow", limit=1)
        assert slowest[0]["seconds"] == 3
        assert slowest[0]["state"] == "committed"
        assert admin.call("transactions.totals")["by_method"]["work.wait"]["committed"] == 2


def test_the_id_is_the_request_id(work):
    server = work("limit_s = 5")
    (greenlet,) = calls(server, 1)
    with server.admin() as admin:
        (row,) = admin.call("transactions.active")
    events = server.events("call.finished")
    server.advance(6)
    (fault,) = results(server, [greenlet])
    assert fault.code == 1210
    assert row["id"] in {event.request_id for event in events}


def test_an_administrator_cancels_a_transaction(work):
    server = work()
    greenlets = calls(server, 2)
    with server.admin() as admin:
        id = admin.call("transactions.active")[0]["id"]
        assert admin.call("transactions.cancel", id=id, reason="test") is True
        assert results(server, greenlets[:1])[0].code == 1311
        with pytest.raises(Fault) as caught:
            admin.call("transactions.cancel", id=id)
        assert caught.value.code == 1501
        server.run(server.work.go.set)
        assert results(server, greenlets[1:]) == [1]


def test_the_rest_wait_in_a_fair_line_and_are_refused_in_time(work):
    server = work("max_active = 3\nmax_waiting = 4\nwait_s = 5\n")
    greenlets = calls(server, 10)
    gauges = server.server.gauges()
    assert gauges["transactions.transactions_active"] == 3
    assert gauges["transactions.transactions_waiting"] == 4
    refused = results(server, greenlets[7:])
    assert [type(fault) for fault in refused] == [TransactionLimitReached] * 3
    server.advance(5.5)
    late = results(server, greenlets[3:7])
    assert [fault.code for fault in late] == [1211] * 4
    server.run(server.work.go.set)
    assert results(server, greenlets[:3]) == [0, 1, 2]
    assert server.server.gauges()["transactions.transactions_active"] == 0


def test_who_waited_longest_is_next(work):
    server = work("max_active = 1\n")
    greenlets = calls(server, 6)
    server.run(greenlets[2].kill)
    server.run(server.work.go.set)
    done = results(server, [*greenlets[:2], *greenlets[3:]])
    assert done == server.work.order == [0, 1, 3, 4, 5]


def test_more_clients_than_places_are_all_served(shop):
    server = shop("max_active = 2\nwait_s = 30\n")
    with server.client() as client:
        client.call("bank.open", count=2, balance=1000)
    done = []

    def run(number):
        with server.client() as client:
            for i in range(5):
                done.append(client.call("bank.move", source=0, target=1, amount=1, token=f"{number}-{i}", pause=0.001))

    threads = [threading.Thread(target=run, args=(number,)) for number in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(done) == 50


def test_only_administrators_see_transactions(shop):
    server = shop()
    for method in ("transactions.active", "transactions.slow", "transactions.totals"):
        assert "error" in server.raw().ask(method)


def test_settings_change_without_a_restart(work):
    server = work("max_active = 1\n")
    greenlets = calls(server, 3)
    assert server.server.gauges()["transactions.transactions_active"] == 1
    config = server._config
    config.write_text("[plugins.transactions]\nmax_active = 3\n")
    server.run(server.server.reload, "test")
    server.run(gevent.sleep, 0.05)
    assert server.server.gauges()["transactions.transactions_active"] == 3
    server.run(server.work.go.set)
    assert sorted(results(server, greenlets)) == [0, 1, 2]


def test_nothing_of_a_call_is_in_the_metrics_names(work):
    names = json.dumps(list(work().server.gauges()))
    assert "work.wait" not in names
