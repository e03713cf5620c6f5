"""Rooms, on both databases: who gets in, who rules, and what is seen from outside."""

from __future__ import annotations

import pytest
from tidegate.faults import (
    AuthenticationRequired,
    InvalidCharacters,
    InvalidFormat,
    InvalidLength,
    InvalidValue,
    PermissionDenied,
    PreconditionFailed,
    QuotaExceeded,
    ResourceConflict,
    ResourceNotFound,
    TooManyItems,
    ValueOutOfRange,
)


def members(client, room):
    return {one["name"]: one["role"] for one in client.call("room.members", room=room)["members"]}


def test_who_opens_a_room_owns_it_and_others_join_it_by_its_name(person, room_name):
    ada, bob = person("ada"), person("bob")
    made = ada.call("room.create", name=room_name, topic="Everything")
    bob.call("room.join", room=room_name.upper())
    assert members(bob, made["id"]) == {ada.nick: "owner", bob.nick: "member"}
    (room,) = bob.call("room.list")["rooms"]
    assert (room["name"], room["topic"], room["role"]) == (room_name, "Everything", "member")


def test_without_a_login_there_is_no_chat(server):
    with server.client() as client:
        for method in ("room.list", "message.search", "user.list", "invitation.list"):
            with pytest.raises(AuthenticationRequired):
                client.call(method, {"text": "x"} if method == "message.search" else None)


def test_a_name_is_one_rooms_only(person, room_name):
    ada, bob = person(), person()
    ada.call("room.create", name=room_name)
    with pytest.raises(ResourceConflict):
        bob.call("room.create", name=room_name.lower())
    other = bob.call("room.create", name=f"{room_name} b")["id"]
    with pytest.raises(ResourceConflict):
        bob.call("room.update", room=other, name=room_name)
    assert len(bob.call("room.list")["rooms"]) == 1


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("", InvalidLength),
        ("x" * 65, InvalidLength),
        (" blank", InvalidFormat),
        ("two  blanks", InvalidFormat),
        ("line\nfeed", InvalidCharacters),
        ("\u202egnihtyna", InvalidCharacters),
        ("0190163d-8694-739b-aea5-966c26f8ad91", InvalidFormat),
    ],
)
def test_a_name_that_is_none_is_refused_without_the_validation_plugin(person, name, fault):
    with pytest.raises(fault):
        person().call("room.create", name=name)


def test_joining_and_leaving_twice_is_told_as_what_it_is(person, room_name):
    ada, bob = person(), person()
    ada.call("room.create", name=room_name)
    bob.call("room.join", room=room_name)
    with pytest.raises(ResourceConflict):
        bob.call("room.join", room=room_name)
    bob.call("room.leave", room=room_name)
    with pytest.raises(PermissionDenied):
        bob.call("room.leave", room=room_name)


def test_a_private_room_does_not_exist_for_others(person, room_name):
    ada, eve = person(), person()
    room = ada.call("room.create", name=room_name, private=True)["id"]
    for name in (room, room_name):
        for method in ("room.join", "room.members", "room.leave", "room.update", "message.history"):
            with pytest.raises(ResourceNotFound):
                eve.call(method, room=name)
    assert room_name not in [one["name"] for one in eve.call("room.list", scope="public", text=room_name)["rooms"]]


def test_public_rooms_are_listed_a_page_at_a_time(person, room_name):
    ada, bob = person(), person()
    names = [f"{room_name} {letter}" for letter in "abcde"]
    ada.call("room.batch", operations=[{"method": "room.create", "params": {"name": name}} for name in names])
    bob.call("room.join", room=names[2])
    found, after = [], None
    while True:
        page = bob.call(
            "room.list", {"scope": "public", "text": f"{room_name} ", "limit": 2} | ({"after": after} if after else {})
        )
        found += page["rooms"]
        after = page["next"]
        if after is None:
            break
    assert [room["name"] for room in found] == names
    assert [room["inside"] for room in found] == [False, False, True, False, False]
    assert [room["members"] for room in found] == [1, 1, 2, 1, 1]
    with pytest.raises((ValueOutOfRange, InvalidValue)):
        bob.call("room.list", limit=0)


def test_the_last_owner_stays_until_somebody_else_owns_the_room(person, room_name):
    ada, bob = person("ada"), person("bob")
    ada.call("room.create", name=room_name)
    bob.call("room.join", room=room_name)
    with pytest.raises(PreconditionFailed):
        ada.call("room.leave", room=room_name)
    with pytest.raises(PreconditionFailed):
        ada.call("room.set_role", room=room_name, user=ada.nick, role="member")
    ada.call("room.set_role", room=room_name, user=bob.nick, role="owner")
    ada.call("room.leave", room=room_name)
    assert members(bob, room_name) == {bob.nick: "owner"}


def test_a_room_that_everybody_left_is_gone(person, room_name):
    ada, bob = person(), person()
    ada.call("room.create", name=room_name)
    ada.call("message.send", room=room_name, text="Anybody here?")
    ada.call("room.leave", room=room_name)
    with pytest.raises(ResourceNotFound):
        bob.call("room.join", room=room_name)
    ada.call("room.create", name=room_name)


def test_rank_decides_who_puts_out_whom(person, room_name):
    owner, admin, member = person("owner"), person("admin"), person("member")
    owner.call("room.create", name=room_name)
    for one in (admin, member):
        one.call("room.join", room=room_name)
    with pytest.raises(PermissionDenied):
        member.call("room.set_role", room=room_name, user=member.nick, role="admin")
    owner.call("room.set_role", room=room_name, user=admin.nick, role="admin")
    for client, other in ((member, admin), (admin, owner), (member, owner)):
        with pytest.raises(PermissionDenied):
            client.call("room.kick", room=room_name, user=other.nick)
    with pytest.raises(PermissionDenied):
        admin.call("room.delete", room=room_name)
    admin.call("room.kick", room=room_name, user=member.nick, reason="noise")
    assert member.nick not in members(owner, room_name)
    member.call("room.join", room=room_name)


def test_who_is_banned_stays_out_until_it_is_lifted(person, room_name):
    owner, eve = person(), person("eve")
    owner.call("room.create", name=room_name)
    owner.call("room.ban", room=room_name, user=eve.nick)
    with pytest.raises(ResourceConflict):
        owner.call("room.ban", room=room_name, user=eve.nick)
    with pytest.raises(PermissionDenied):
        eve.call("room.join", room=room_name)
    with pytest.raises(PermissionDenied):
        owner.call("invitation.create", room=room_name, user=eve.nick)
    owner.call("room.unban", room=room_name, user=eve.nick)
    eve.call("room.join", room=room_name)
    owner.call("room.ban", room=room_name, user=eve.nick)
    with pytest.raises(PermissionDenied):
        eve.call("message.send", room=room_name, text="still here?")


def test_the_servers_moderators_rule_in_public_rooms_and_see_no_private_one(server, person, room_name):
    ada, eve, mod = person(), person("eve"), person("mod")
    with server.admin() as admin:
        admin.call("account.set_role", user=mod.nick, role="moderator")
    ada.call("room.create", name=room_name)
    eve.call("room.join", room=room_name)
    spam = eve.call("message.send", room=room_name, text="spam")["id"]
    ada.call("room.create", name=f"{room_name} p", private=True)
    mod.call("room.kick", room=room_name, user=eve.nick)
    mod.call("room.join", room=room_name)
    mod.call("message.delete", message=spam)
    with pytest.raises(PermissionDenied):
        mod.call("room.delete", room=room_name)
    with pytest.raises(ResourceNotFound):
        mod.call("room.kick", room=f"{room_name} p", user=ada.nick)


def test_a_batch_is_all_or_nothing(person, room_name):
    ada, bob = person(), person("bob")
    ada.call("room.create", name=room_name)
    operations = [
        {"method": "room.create", "params": {"name": f"{room_name} new"}},
        {"method": "invitation.create", "params": {"room": f"{room_name} new", "user": bob.nick}},
        {"method": "room.update", "params": {"room": room_name, "topic": "changed"}},
    ]
    with pytest.raises(ResourceConflict) as caught:
        ada.call("room.batch", operations=[*operations, {"method": "room.create", "params": {"name": room_name}}])
    assert caught.value.data["operation"] == 3
    (room,) = ada.call("room.list")["rooms"]
    assert room["topic"] == ""
    assert bob.call("invitation.list")["invitations"] == []
    results = ada.call("room.batch", operations=operations)
    assert [sorted(result)[:1] for result in results] == [["at"], ["created"], ["at"]]
    assert len(ada.call("room.list")["rooms"]) == 2
    assert len(bob.call("invitation.list")["invitations"]) == 1


def test_a_batch_holds_what_it_may_and_not_too_much(person):
    ada = person()
    for operations, fault in (
        ([{"method": "account.delete", "params": {}}], InvalidValue),
        ([{"method": "room.batch", "params": {}}], InvalidValue),
        (["room.create"], InvalidValue),
        ([], TooManyItems),
        ([{"method": "room.list"}] * 51, TooManyItems),
    ):
        with pytest.raises(fault):
            ada.call("room.batch", operations=operations)


def test_a_repeat_with_the_same_key_makes_one_room(person, room_name):
    ada = person()
    replies = [
        ada.request("room.create", {"name": room_name}, idempotency_key="open-the-room").result for _ in range(3)
    ]
    assert replies[0] == replies[1] == replies[2]
    assert len(ada.call("room.list")["rooms"]) == 1


def test_rooms_and_members_are_bounded(chat, newcomer):
    server = chat(own="max_rooms = 2\nmax_members = 2\n")
    ada, bob, cyn = (newcomer(server) for _ in range(3))
    for name in "ab":
        ada.call("room.create", name=name)
    with pytest.raises(QuotaExceeded):
        ada.call("room.create", name="c")
    bob.call("room.join", room="a")
    with pytest.raises(QuotaExceeded):
        cyn.call("room.join", room="a")
