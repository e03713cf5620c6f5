"""What is pushed: after the commit, in one order for all, once, with numbers that show that nothing is missing."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest
from gevent.hub import get_hub
from tidegate_chat import feed


def numbers(client, room, last, timeout=5.0):
    """The numbers of a room's events that are pushed, up to `last`."""
    found = []
    for push in client.pushes(timeout):
        if push.method == "event.room" and push.params["room"] == room:
            found.append(push.params["seq"])
            if found[-1] == last:
                break
    return found


def test_every_member_gets_every_event_once_and_in_order(talk, person):
    ada, bob, room = talk
    cyn = person("cyn")
    start = cyn.call("room.join", room=room)["seq"]
    threads = [
        threading.Thread(target=lambda c=client: [c.call("message.send", room=room, text=str(n)) for n in range(20)])
        for client in (ada, bob)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for client in (ada, bob, cyn):
        found = [n for n in numbers(client, room, start + 40) if n > start]
        assert found == list(range(start + 1, start + 41))


def test_what_is_pushed_is_what_the_log_says(talk):
    ada, bob, room = talk
    id = ada.call("message.send", room=room, text="hello")["id"]
    ada.call("message.edit", message=id, text="hello there")
    ada.call("room.update", room=room, topic="greetings")
    ada.call("room.set_role", room=room, user=bob.nick, role="admin")
    ada.call("message.delete", message=id)
    pushed = bob.heard("joined", "message", "edited", "updated", "role", "erased", room=room)
    log = bob.call("room.since", room=room, seq=1)
    assert log["events"][-1]["seq"] == log["seq"] == pushed[-1]["seq"]
    assert [(one["seq"], one["kind"], one["actor"], one["at"], one["by"]) for one in pushed] == [
        (one["seq"], one["kind"], one["actor"], one["at"], one["by"]) for one in log["events"]
    ]
    assert pushed[1]["data"]["text"] == "hello"
    assert log["events"][1]["data"] == {"id": id, "text": "", "reply_to": None, "deleted": True}


def test_who_was_away_fetches_what_was_missed_and_can_prove_it(talk, server):
    ada, bob, room = talk
    have = bob.call("room.since", room=room, seq=0)["seq"]
    bob.close()
    for number in range(25):
        ada.call("message.send", room=room, text=str(number))
    with server.client() as again:
        again.call("account.resume", token=bob.token)
        found = []
        while True:
            page = again.call("room.since", room=room, seq=found[-1]["seq"] if found else have, limit=10)
            found += page["events"]
            if not page["more"]:
                break
        assert [one["seq"] for one in found] == list(range(have + 1, page["seq"] + 1))
        assert [one["data"]["text"] for one in found] == [str(number) for number in range(25)]


def test_nothing_is_told_of_what_was_rolled_back(talk, room_name):
    ada, bob, room = talk
    before = bob.call("room.since", room=room, seq=0)["seq"]
    with pytest.raises(Exception, match="name"):
        ada.call(
            "room.batch",
            operations=[
                {"method": "room.update", "params": {"room": room, "topic": "never"}},
                {"method": "room.create", "params": {"name": ""}},
            ],
        )
    ada.call("message.send", room=room, text="after")
    assert bob.heard("joined", "message", room=room)[1]["seq"] == before + 1


def test_all_connections_of_a_member_are_told(talk, server):
    ada, bob, room = talk
    with server.client() as second:
        second.call("account.resume", token=bob.token)
        seq = ada.call("message.send", room=room, text="to both")["seq"]
        for client in (bob, second):
            assert numbers(client, room, seq)[-1] == seq
        bob.call("room.read", room=room, seq=seq)
        for push in second.pushes(5.0):
            if push.method == "event.read":
                break
        assert push.params == {"room": room, "seq": seq}


@pytest.mark.parametrize(("scopes", "hears"), [(["read"], False), (["read", "operate"], True)])
def test_a_token_hears_only_what_its_scopes_let_it_read(talk, server, scopes, hears):
    ada, bob, room = talk
    with server.admin() as operator, server.client() as limited:
        token = operator.call("account.create_token", user=bob.nick, label="limited", scopes=scopes)["token"]
        limited.call("account.resume", token=token)
        ada.call("message.send", room=room, text="in the room")
        ada.call("direct.send", user=bob.nick, text="between us")
        bob.heard("message", "created")  # bob's own connection has it all
        ada.call("room.kick", room=room, user=bob.nick)
        bob.heard("kicked")
        limited.call("system.ping")
        told = [push.method for push in limited.pushes(0.0)]
    assert ("event.room" in told) is hears


def test_who_left_or_was_put_out_hears_that_and_nothing_more(talk, person):
    ada, bob, room = talk
    cyn = person("cyn")
    cyn.call("room.join", room=room)
    ada.call("room.kick", room=room, user=bob.nick, reason="noise")
    cyn.call("room.leave", room=room)
    last = ada.call("message.send", room=room, text="alone at last")["seq"]
    assert bob.heard("kicked", room=room)[0]["data"] == {"user": bob.id, "reason": "noise"}
    assert cyn.heard("left", room=room)[0]["actor"] == cyn.id
    assert numbers(ada, room, last)[-1] == last
    for client in (bob, cyn):
        assert not [p for p in client.pushes(0.2) if p.method == "event.room" and p.params["kind"] == "message"]


def test_a_deleted_room_is_told_to_all_in_it(talk):
    ada, bob, room = talk
    ada.call("room.delete", room=room)
    assert bob.heard("deleted", room=room)[0]["actor"] == ada.id


def test_who_came_and_went_is_told_to_those_who_share_a_room(talk, person, server):
    ada, bob, _ = talk
    eve = person("eve")
    bob.call("presence.set", state="away", text="lunch")
    while (said := ada.told("event.presence"))["state"] != "away":
        pass
    assert (said["user"], said["text"]) == (bob.id, "lunch")
    bob.close()
    while (said := ada.told("event.presence"))["state"] != "offline":
        pass
    assert said["user"] == bob.id
    assert not [push for push in eve.pushes(0.2) if push.method == "event.presence"]


def test_who_types_is_told_to_the_others_now_and_then(talk):
    ada, bob, room = talk
    assert ada.call("typing", room=room) is True
    assert ada.call("typing", room=room) is False
    assert bob.told("event.typing") == {"room": room, "user": ada.id, "name": ada.nick}


def test_a_client_that_never_reads_slows_nobody_and_is_let_go(chat, newcomer, eventually):
    server = chat(rest="[[listen]]\naddress = '127.0.0.1:0'\noutbox_bytes = 262144\n")
    ada, bob = newcomer(server, "ada"), newcomer(server, "bob")
    room = ada.call("room.create", name="Lobby")["id"]
    bob.call("room.join", room=room)
    slow = server.raw()
    slow.sock.setsockopt(1, 8, 4096)  # SO_RCVBUF
    slow.ask("account.register", {"name": "slow", "password": "correct horse battery"})
    slow.ask("room.join", {"room": room})
    for _ in range(100):
        for _ in range(20):
            last = ada.call("message.send", room=room, text="x" * 3500)["seq"]
        assert numbers(bob, room, last)[-3:] == [last - 2, last - 1, last]
    with server.admin() as admin:
        eventually(lambda: admin.call("system.gauges")["core.connections_open"] == 3)


def test_what_is_told_in_another_order_is_pushed_in_the_rooms_order(chat_inside, newcomer):
    """As transactions of PostgreSQL, or of several processes, may be told."""
    server = chat_inside()
    ada, bob = newcomer(server, "ada"), newcomer(server, "bob")
    room = ada.call("room.create", name="Lobby")["id"]
    bob.call("room.join", room=room)
    ada.call("message.send", room=room, text="first")
    bob.heard("joined", "message")
    feeds = server.server.registry.plugins["chat"].feeds

    def told(seq):
        return {"room": room, "seq": seq, "kind": "updated", "actor": ada.id, "by": "ada", "at": 0.0, "data": {}}

    for seq in (6, 5, 4, 5, 4, 7):
        server.run(feeds.heard, told(seq))
    assert numbers(bob, room, 7) == [4, 5, 6, 7]


def test_what_nobody_tells_is_read_from_the_database(chat_inside, newcomer, eventually):
    server = chat_inside()
    ada, bob = newcomer(server, "ada"), newcomer(server, "bob")
    room = ada.call("room.create", name="Lobby")["id"]
    bob.call("room.join", room=room)
    ada.call("message.send", room=room, text="first")
    bob.heard("joined", "message")
    feeds = server.server.registry.plugins["chat"].feeds
    plain, lost = feeds.heard, []
    server.server.bus._channels["chat.room"][0].fn = lambda told: lost.append(told) if len(lost) < 2 else plain(told)
    for text in ("lost", "lost too", "told"):
        ada.call("message.send", room=room, text=text)
    eventually(lambda: feeds._feeds[room].timer is not None)
    server.advance(2)
    assert numbers(bob, room, 6) == [4, 5, 6]


def test_in_a_full_room_everybody_gets_everything_in_order(chat_inside, newcomer, monkeypatch):
    monkeypatch.setattr(feed, "INLINE", 0)  # all rooms are full
    monkeypatch.setattr(feed, "SLICE_S", 0.0)  # and others get their turn
    monkeypatch.setattr(feed, "STEP", 1)  # after each connection
    server = chat_inside()
    people = [newcomer(server, nick) for nick in ("ada", "bob", "cyn")]
    room = people[0].call("room.create", name="Hall")["id"]
    for one in people[1:]:
        one.call("room.join", room=room)

    def talk(one) -> int:
        return [one.call("message.send", room=room, text=str(number))["seq"] for number in range(15)][-1]

    with ThreadPoolExecutor(3) as pool:
        last = max(pool.map(talk, people))
    for one in people:
        seqs = numbers(one, room, last, timeout=30.0)
        assert seqs == list(range(seqs[0], last + 1))


def test_who_has_logged_out_hears_no_more_of_a_room_and_who_comes_back_does(talk):
    ada, bob, room = talk
    ada.call("message.send", room=room, text="before")
    bob.heard("message", room=room)
    bob.call("account.logout")
    ada.call("message.send", room=room, text="between")
    ada.heard("message", "message", room=room)
    bob.call("system.ping")
    assert [push for push in bob.pushes(0.0) if push.method == "event.room"] == []
    bob.call("account.login", name=bob.nick, password="correct horse battery")
    ada.call("message.send", room=room, text="after")
    assert bob.heard("message", room=room)[0]["data"]["text"] == "after"


def test_in_a_large_room_nobody_hears_who_types_after_a_restart_either(chat, newcomer):
    server = chat("sqlite", own="presence_members = 2")
    ada, *others = people = [newcomer(server, nick) for nick in ("ada", "bob", "cyn")]
    room = ada.call("room.create", name="Hall")["id"]
    for one in others:
        one.call("room.join", room=room)
    server.stop()
    server.start()
    with ExitStack() as stack:
        ada, *others = [stack.enter_context(server.client()) for _ in people]
        for client, person in zip((ada, *others), people, strict=True):
            client.call("account.resume", token=person.token)
        assert ada.call("typing", room=room) is True
        ada.call("message.send", room=room, text="typed")
        for one in others:
            heard = []
            for push in one.pushes(10.0):
                heard.append(push.method)
                if push.method == "event.room":
                    break
            assert "event.typing" not in heard
            assert heard[-1] == "event.room"


@pytest.mark.parametrize(
    ("method", "params"),
    [
        ("message.search", {"text": "a* b*"}),
        ("room.leave", {"room": "full"}),
        ("room.delete", {"room": "full"}),
        ("room.batch", {"operations": [{"method": "room.delete", "params": {"room": "full"}}]}),
        ("account.delete", {"password": "correct horse battery"}),
    ],
)
def test_what_may_take_long_leaves_the_event_loop_to_others(chat_inside, newcomer, method, params):
    server = chat_inside(virtual=False)
    ada = newcomer(server, "ada")
    ada.call("room.create", name="full")
    for number in range(3):
        ada.call("message.send", room="full", text=f"a b {number}")
    ada.call("message.search", text="a b")  # who said it is known from here on

    def statements():
        with server.admin() as operator:
            return operator.call("transactions.totals")["by_method"].get(method, {}).get("statements", 0)

    def count():
        watcher = get_hub().loop.prepare(ref=False)
        watcher.start(lambda: turns.append(watcher))

    turns, before = [], statements()
    server.run(count)
    ada.call(method, params)
    seen = len(turns)
    assert seen >= statements() - before  # each ran elsewhere, while the loop went round
