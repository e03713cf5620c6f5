"""An evening of a whole chat: afterwards every client knows exactly what the database knows."""

from __future__ import annotations

import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from tidegate import Client, Fault

PASSWORD = "correct horse battery"


def expect(fault: Fault, *codes: int) -> None:
    """Whatever else is refused is a mistake."""
    if fault.code not in codes:
        raise fault


class Guest:
    """A client that talks, disconnects, comes back, and keeps its view of its rooms from events alone."""

    def __init__(self, server, number: int) -> None:
        from tidegate_chat.terminal.model import View

        self.server, self.dice, self.said = server, random.Random(number), []
        self.client = Client(server.addresses[0], timeout=60)
        made = self.client.call("account.register", name=f"guest{number}", password=PASSWORD)
        self.id, self.token = made["user"]["id"], made["token"]
        self.view = View(lambda method, params: self.client.call(method, params))
        self.pushed: dict[str, list[int]] = {}

    def act(self, rooms: list[str], guests: list[Guest]) -> None:
        """Something at random; what the moment does not allow is refused, and that is fine."""
        room, other = self.dice.choice(rooms), self.dice.choice(guests)
        mine = sorted(self.view.rooms)
        here = self.dice.choice(mine) if mine else room
        act = self.dice.choice(
            [self._say] * 8 + [self._edit] * 2 + [self._erase, self._join, self._join, self._leave, self._search]
            + [self._away, self._direct] + [self._invite] * 2 + [self._answer] * 2
        )  # fmt: skip
        try:
            act(room if act == self._join else here, other)
        except Fault as fault:
            expect(fault, 1501, 1504, 1505, 1507, 1508, 1603)
        self.listen(0.0)

    def _say(self, room, other):
        self.said.append(
            self.client.call("message.send", room=room, text=f"word{self.dice.randrange(50)} of {self.id}")["id"]
        )

    def _edit(self, room, other):
        if self.said:
            self.client.call("message.edit", message=self.dice.choice(self.said), text="said otherwise")

    def _erase(self, room, other):
        if self.said:
            self.client.call("message.delete", message=self.dice.choice(self.said))

    def _join(self, room, other):
        self.client.call("room.join", room=room)

    def _leave(self, room, other):
        self.client.call("room.leave", room=room)

    def _search(self, room, other):
        for one in self.client.call("message.search", text="word7")["messages"]:
            assert one["marks"]

    def _direct(self, room, other):
        if other is not self:
            self.client.call("direct.send", user=other.id, text="psst")

    def _invite(self, room, other):
        self.client.call("invitation.create", room=room, user=other.id)

    def _answer(self, room, other):
        for one in self.client.call("invitation.list")["invitations"][:2]:
            self.client.call(f"invitation.{self.dice.choice(('accept', 'decline'))}", invitation=one["id"])

    def _away(self, room, other):
        """Vanish, and come back with the token; what was missed is fetched."""
        self.client.close()
        self.client = Client(self.server.addresses[0], timeout=60)
        self.client.call("account.resume", token=self.token)
        self.pushed.clear()
        self.view.refresh()

    def listen(self, seconds: float) -> None:
        for push in self.client.pushes(seconds):
            if push.method == "event.room":
                self.pushed.setdefault(push.params["room"], []).append(push.params["seq"])
                try:
                    self.view.take(push.params, self.id)
                except Fault as fault:  # put out, or gone, before the room could be looked at
                    expect(fault, 1501, 1504)
                    self.view.rooms.pop(push.params["room"], None)


def evening(server, guests: int, rooms: int, acts: int, threads: int) -> int:
    names = [f"room {number}" for number in range(rooms)]
    with ThreadPoolExecutor(threads) as pool:
        there = list(pool.map(lambda number: Guest(server, number), range(guests)))
        for number, name in enumerate(names):
            there[number % guests].client.call("room.create", name=name, private=number % 4 == 3)
        for _ in range(acts):
            list(pool.map(lambda guest: guest.act(names, there), there))
        last = list(pool.map(lambda guest: settle(guest), there))
    for guest in there:
        guest.client.close()
    return sum(last)


def settle(guest: Guest) -> int:
    """Hear what is still on its way, then compare: rooms, members and messages, and the numbers of what was pushed."""
    call, seen = guest.client.call, 0
    mine = {room["id"]: room for room in call("room.list", limit=200)["rooms"]}
    last, end = {id: room["seq"] for id, room in mine.items()}, time.monotonic() + 60
    while {id: room.seq for id, room in guest.view.rooms.items()} != last and time.monotonic() < end:
        guest.listen(0.1)
    assert set(guest.view.rooms) == set(mine)
    for id, listed in mine.items():
        room = guest.view.rooms[id]
        assert room.seq == listed["seq"]
        assert room.members == {one["user"]: one["role"] for one in call("room.members", room=id, limit=200)["members"]}
        stored, after = [], 0
        while after is not None:
            page = call("message.history", room=id, after=after, limit=200)
            stored += page["messages"]
            after = page["next"]
        while room.older is not None:
            room.prepend(guest.view.page(room))
        kept = list(room.messages.values())
        assert [(m["id"], m["seq"], m["author"], m["text"], m["deleted"]) for m in kept] == [
            (m["id"], m["seq"], m["author"], m["text"], m["deleted"]) for m in stored
        ]
        log = call("room.since", room=id, seq=max(0, listed["seq"] - 400), limit=500)["events"]
        assert [one["seq"] for one in log] == list(range(max(0, listed["seq"] - 400) + 1, listed["seq"] + 1))
        seen += len(stored)
    for seqs in guest.pushed.values():  # never twice, never out of order
        assert seqs == sorted(set(seqs))
    return seen


@pytest.mark.timeout(300)
@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_after_a_short_evening_all_views_are_the_databases(chat, kind):
    rest = "[server]\nexempt = ['127.0.0.0/8']\n"
    assert evening(chat(kind, rest=rest), guests=40, rooms=5, acts=10, threads=10) > 80


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_after_a_whole_evening_all_views_are_the_databases(chat, kind):
    rest = "[server]\nexempt = ['127.0.0.0/8']\n"
    assert evening(chat(kind, rest=rest), guests=200, rooms=20, acts=30, threads=32) > 5000


# --- races ----------------------------------------------------------------------------------------


class Rivals:
    """Two clients that do something at the same moment."""

    def __init__(self, *clients) -> None:
        self.clients = clients
        self.codes: list[tuple[int, ...]] = []

    def race(self, *calls) -> tuple[int, ...]:
        """The codes of both, 0 for who won."""
        gate, codes = threading.Barrier(len(calls)), [0] * len(calls)

        def run(place, client, method, params):
            gate.wait()
            try:
                client.call(method, params)
            except Fault as fault:
                codes[place] = fault.code

        threads = [
            threading.Thread(target=run, args=(place, client, *call))
            for place, (client, call) in enumerate(zip(self.clients, calls, strict=True))
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return tuple(codes)


def races(newcomer, server, rounds: int) -> None:
    ada, bob, cyn = (newcomer(server, nick) for nick in ("ada", "bob", "cyn"))
    for number in range(rounds):
        name = f"race {number}"
        # the same name
        codes = Rivals(ada, bob).race(("room.create", {"name": name}), ("room.create", {"name": name}))
        assert sorted(codes) == [0, 1505]
        owner, other = (ada, bob) if codes[0] == 0 else (bob, ada)
        # the last two owners go, while a third is in the room
        for client in (other, cyn):
            client.call("room.join", room=name)
        owner.call("room.set_role", room=name, user=other.id, role="owner")
        leaving = ("room.leave", {"room": name})
        codes = Rivals(owner, other).race(leaving, leaving)
        assert sorted(codes) == [0, 1507]
        stayed = owner if codes[0] else other
        gone = other if stayed is owner else owner
        # the same person is invited by two
        stayed.call("room.set_role", room=name, user=cyn.id, role="admin")
        inviting = ("invitation.create", {"room": name, "user": gone.id})
        assert sorted(Rivals(stayed, cyn).race(inviting, inviting)) == [0, 1505]
        # accepted and revoked
        (waiting,) = gone.call("invitation.list")["invitations"]
        id = {"invitation": waiting["id"]}
        codes = Rivals(gone, stayed).race(("invitation.accept", id), ("invitation.revoke", id))
        assert codes in ((0, 1505), (1508, 0))
        inside = {one["user"] for one in stayed.call("room.members", room=name)["members"]}
        assert (gone.id in inside) is (codes[0] == 0)
        stayed.call("room.delete", room=name)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_of_two_who_race_one_wins_and_the_other_is_told_why(chat, newcomer, kind):
    races(newcomer, chat(kind), 15)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_and_so_a_thousand_times(chat, newcomer, kind):
    races(newcomer, chat(kind), 1000)
