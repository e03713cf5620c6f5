"""What a client of a command with a transaction can rely on, on SQLite."""

from __future__ import annotations

import json
import socket
import struct

import pytest
from tidegate import Fault

ANON = "an-anonymous-key-of-22-characters"


def names(server):
    with server.client() as client:
        return client.call("item.names")


def code_of(server, method, params=None, **members):
    reply = server.raw().ask(method, params, **members)
    return reply["error"]["data"]["code"] if "error" in reply else None


@pytest.fixture(params=["sqlite", "postgresql"])
def any_shop(request, shop):
    """The same on both databases."""
    if request.param == "sqlite":
        return shop("")
    url = request.getfixturevalue("database")
    return shop(f'url = "{url}"\nupgrade = "always"\n')


def test_what_a_command_wrote_is_there_when_its_reply_comes(any_shop):
    with any_shop.client() as client:
        client.call("item.add", name="pen")
    assert names(any_shop) == ["pen"]


def test_an_exception_undoes_everything(any_shop):
    assert code_of(any_shop, "item.fail", {"name": "pen"}) == 1304
    assert names(any_shop) == []


def test_the_deadline_undoes_everything_and_the_next_call_works(any_shop):
    assert code_of(any_shop, "item.slow", {"name": "pen", "seconds": 15}, timeout=0.2) == 1303
    assert code_of(any_shop, "item.add", {"name": "ink"}) is None
    assert names(any_shop) == ["ink"]


def test_a_command_that_swallows_its_deadline_is_rolled_back_all_the_same(any_shop):
    assert code_of(any_shop, "item.stubborn", {"name": "pen", "seconds": 15}, timeout=0.2) == 1303
    assert names(any_shop) == []


def test_a_transaction_over_its_own_limit_is_1210(shop):
    server = shop("limit_s = 0.2\n")
    assert code_of(server, "item.slow", {"name": "pen", "seconds": 15}) == 1210
    with server.client() as client:
        client.call("item.add", name="ink")
    assert names(server) == ["ink"]


def test_a_result_that_cannot_be_sent_is_rolled_back(any_shop):
    assert code_of(any_shop, "item.unsendable", {"name": "pen"}) == 1304
    assert code_of(any_shop, "item.long_reply", {"name": "pen", "size": 2 << 20}) == 1503
    assert names(any_shop) == []


def test_a_client_that_reset_its_connection_has_changed_nothing(any_shop, eventually):
    raw = any_shop.raw()
    raw.send(
        json.dumps(
            {"jsonrpc": "2.0", "id": 1, "method": "item.slow", "params": {"name": "pen", "seconds": 0.5}}
        ).encode()
        + b"\n"
    )
    with any_shop.admin() as admin:
        eventually(lambda: admin.call("transactions.active"))
        raw.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        raw.sock.close()
        eventually(lambda: not admin.call("transactions.active"))
        assert admin.call("transactions.totals")["by_method"]["item.slow"]["rolled_back"] == 1
    assert names(any_shop) == []


def test_a_client_that_half_closed_is_committed_and_answered(any_shop):
    raw = any_shop.raw()
    raw.send(
        json.dumps(
            {"jsonrpc": "2.0", "id": 1, "method": "item.slow", "params": {"name": "pen", "seconds": 0.3}}
        ).encode()
        + b"\n"
    )
    raw.shut()
    assert raw.json()["result"] == "pen"
    assert names(any_shop) == ["pen"]


def test_a_part_that_fails_is_undone_alone(any_shop):
    with any_shop.client() as client:
        client.call("item.some", good="pen", bad="ink")
    assert names(any_shop) == ["pen"]


def test_parts_of_a_command_without_a_transaction_commit_by_themselves(any_shop):
    with any_shop.client() as client:
        assert client.call("item.parts", first="a", second="b") == 2
        with pytest.raises(Fault):
            client.call("item.parts", first="c", second="d", fail=True)
    assert names(any_shop) == ["a", "b", "c", "d"]


def test_commit_is_refused_and_rollback_takes_back_what_was_done(any_shop):
    assert code_of(any_shop, "item.commit", {"name": "pen"}) == 1304
    assert code_of(any_shop, "item.take_back", {"name": "ink"}) is None
    assert names(any_shop) == ["ink again"]


def test_a_reading_transaction_cannot_write(any_shop):
    assert code_of(any_shop, "item.read_raw", {"sql": "INSERT INTO item (name) VALUES ('x')"}) == 1304
    assert names(any_shop) == []


def test_a_db_kept_for_longer_than_its_transaction_is_refused(any_shop):
    assert code_of(any_shop, "item.keep_db") is None
    assert code_of(any_shop, "item.use_kept_db") == 1304
    assert names(any_shop) == []


@pytest.mark.parametrize("sql", ["COMMIT", "PRAGMA query_only=OFF", "PRAGMA busy_timeout=60000"])
def test_a_reading_command_cannot_change_its_connection_for_the_next(shop, sql):
    server = shop()
    raw = server.raw()
    assert raw.ask("item.read_raw", {"sql": sql})["error"]["data"]["code"] == 1304
    assert raw.ask("item.read_raw", {"sql": "INSERT INTO item (name) VALUES ('x')"})["error"]["data"]["code"] == 1304
    assert names(server) == []


def test_a_stored_value_that_cannot_be_read_is_1208_and_is_not_told(any_shop):
    raw = any_shop.raw()
    assert raw.ask("item.raw", {"sql": "INSERT INTO paper (kind, content) VALUES ('scroll', '{}')"})["result"] == 1
    reply = raw.ask("paper.kinds")
    assert reply["error"]["data"]["code"] == 1208
    assert "scroll" not in json.dumps(reply)


@pytest.mark.parametrize("shelf", [2**63, 2**70])
def test_a_number_that_the_database_cannot_hold_is_1212(any_shop, shelf):
    assert code_of(any_shop, "label.put", {"shelf": shelf, "text": "a"}) == 1212


def test_a_text_that_postgresql_cannot_hold_is_1212(shop, database):
    server = shop(f'url = "{database}"\nupgrade = "always"\n')
    assert code_of(server, "label.put", {"shelf": 1, "text": "a" * 41}) == 1212
    assert code_of(server, "label.put", {"shelf": 1, "text": "nul\0"}) == 1212
    assert code_of(server, "label.put", {"shelf": 1, "text": "a"}) is None


@pytest.mark.parametrize("stored", ["'{'", "CAST(x'ff' AS TEXT)"])
def test_json_and_text_that_are_none_are_1208(shop, stored):
    raw = shop().raw()
    assert raw.ask("item.raw", {"sql": f"INSERT INTO paper (content) VALUES ({stored})"})["result"] == 1
    assert raw.ask("paper.contents")["error"]["data"]["code"] == 1208


def test_who_listens_to_sqlalchemy_hears_the_statements_of_transactions(any_shop):
    raw = any_shop.raw()
    raw.ask("item.heard")
    assert raw.ask("item.add", {"name": "pen"})["result"]
    assert any("INSERT INTO item" in statement for statement in raw.ask("item.heard")["result"])


@pytest.mark.parametrize(
    "sql",
    [
        "COMMIT",
        "ROLLBACK",
        "BEGIN",
        "PRAGMA foreign_keys=OFF",
        "PRAGMA defer_foreign_keys=ON",
        "PRAGMA busy_timeout=60000",
        "ATTACH ':memory:' AS other",
    ],
)
def test_a_command_cannot_end_the_batch_that_it_shares(shop, sql):
    server = shop()
    assert code_of(server, "item.raw", {"sql": sql}) == 1304
    with server.client() as client:
        client.call("item.add", name="pen")
    assert names(server) == ["pen"]


def test_nothing_is_written_after_an_error_that_ended_the_transaction(shop):
    server = shop()
    twice = {"sql": "INSERT OR ROLLBACK INTO item VALUES (1, 'pen')", "name": "ink"}
    assert code_of(server, "item.go_on", twice) is None
    assert code_of(server, "item.go_on", {**twice, "name": "nib"}) == 1203
    assert names(server) == ["pen", "ink"]


def test_nothing_is_written_after_a_commit_by_hand_on_postgresql(shop, database):
    server = shop(f'url = "{database}"\nupgrade = "always"\n')
    assert code_of(server, "item.go_on", {"sql": "COMMIT", "name": "pen"}) == 1203
    assert code_of(server, "item.go_on", {"sql": "SELECT 1", "name": "ink"}) is None
    assert names(server) == ["ink"]


def test_a_violated_constraint_is_told_by_its_name_and_never_by_values(any_shop):
    with any_shop.client() as client:
        client.call("label.put", shelf=1, text="my secret label")
        client.call("bank.open", count=2, balance=5)
    raw = any_shop.raw()
    unique = raw.ask("label.put", {"shelf": 1, "text": "my secret label"})["error"]
    assert (unique["code"], unique["data"]["constraint"]) == (1205, "one_label_a_shelf")
    check = raw.ask("bank.move", {"source": 0, "target": 1, "amount": 99, "token": "t"})["error"]
    assert (check["code"], check["data"]["constraint"]) == (1212, "never_in_debt")
    foreign = raw.ask("item.raw", {"sql": "INSERT INTO transfer VALUES ('u', 77, 78, 1)"})["error"]
    assert foreign["code"] == 1206
    null = raw.ask("item.raw", {"sql": "INSERT INTO item (name) VALUES (NULL)"})["error"]
    assert null["code"] == 1212
    syntax = raw.ask("item.raw", {"sql": "SELEKT 1"})["error"]
    assert syntax["code"] == 1202
    told = json.dumps([unique, check, foreign, null, syntax])
    assert "my secret label" not in told
    assert "INSERT" not in told
    assert "SELEKT" not in told
    assert "my secret label" not in any_shop.log()


def test_a_command_may_catch_a_violation_in_a_part_and_say_it_in_its_own_words(any_shop):
    with any_shop.client() as client:
        client.call("label.put_kindly", shelf=1, text="a")
    assert code_of(any_shop, "label.put_kindly", {"shelf": 1, "text": "a"}) == 1505


def test_db_without_the_note_refuses_the_start(served):
    source = "from tidegate import command\n\n@command('a.b')\ndef f(db):\n    pass\n"
    with pytest.raises(AssertionError, match="transaction=True"):
        served(plugins=["transactions"], source=source)


def test_a_wrong_note_refuses_the_start(served):
    source = "from tidegate import command\n\n@command('a.b', transaction={'raed': True})\ndef f(db):\n    pass\n"
    with pytest.raises(AssertionError, match="unknown key 'raed'"):
        served(plugins=["transactions"], source=source)
