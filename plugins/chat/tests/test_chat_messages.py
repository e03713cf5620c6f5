"""Messages, on both databases: said, changed, taken back, read and found."""

from __future__ import annotations

import sys

import pytest
from tidegate.faults import (
    InvalidCharacters,
    InvalidLength,
    InvalidValue,
    PermissionDenied,
    ResourceGone,
    ResourceNotFound,
    ValueOutOfRange,
)
from tidegate_chat.words import snippet, terms_of


def texts(client, room, **options):
    return [one["text"] for one in client.call("message.history", room=room, **options)["messages"]]


def test_what_is_said_is_read_by_all_in_order(talk):
    ada, bob, room = talk
    for number in range(5):
        (ada, bob)[number % 2].call("message.send", room=room, text=f"number {number}")
    assert texts(bob, room) == [f"number {number}" for number in range(5)]
    assert [one["author_name"] for one in ada.call("message.history", room=room)["messages"]] == [
        *(ada.nick, bob.nick, ada.nick, bob.nick, ada.nick)
    ]


@pytest.mark.parametrize(
    ("text", "fault"),
    [("", InvalidLength), (" \n ", InvalidLength), ("x" * 4001, InvalidLength), ("bell\x07", InvalidCharacters)],
)
def test_a_text_that_is_none_is_refused_without_the_validation_plugin(talk, text, fault):
    ada, _, room = talk
    with pytest.raises(fault):
        ada.call("message.send", room=room, text=text)
    assert texts(ada, room) == []


def test_history_is_read_a_page_at_a_time_in_both_directions(talk):
    ada, bob, room = talk
    for number in range(7):
        ada.call("message.send", room=room, text=str(number))
    pages, before = [], None
    while True:
        page = bob.call("message.history", {"room": room, "limit": 3} | ({"before": before} if before else {}))
        pages.insert(0, [one["text"] for one in page["messages"]])
        before = page["next"]
        if before is None:
            break
    assert pages == [["0"], ["1", "2", "3"], ["4", "5", "6"]]
    first = bob.call("message.history", room=room, after=0, limit=3)
    assert [one["text"] for one in first["messages"]] == ["0", "1", "2"]
    assert texts(bob, room, after=first["next"], limit=3) == ["3", "4", "5"]
    with pytest.raises(InvalidValue):
        bob.call("message.history", room=room, after=1, before=5)
    with pytest.raises((ValueOutOfRange, InvalidValue)):
        bob.call("message.history", room=room, limit=201)


def test_an_edited_message_keeps_what_it_said_before(talk):
    ada, bob, room = talk
    id = ada.call("message.send", room=room, text="first")["id"]
    ada.call("message.edit", message=id, text="second")
    ada.call("message.edit", message=id, text="third")
    assert texts(bob, room) == ["third"]
    assert [one["text"] for one in bob.call("message.edits", message=id)] == ["first", "second", "third"]
    with pytest.raises(PermissionDenied):
        bob.call("message.edit", message=id, text="mine")


def test_a_deleted_message_leaves_a_tombstone_and_no_text(talk):
    ada, bob, room = talk
    id = bob.call("message.send", room=room, text="secret words")["id"]
    bob.call("message.edit", message=id, text="other secret words")
    bob.call("message.delete", message=id)
    (tombstone,) = ada.call("message.history", room=room)["messages"]
    assert (tombstone["id"], tombstone["deleted"], tombstone["text"]) == (id, True, "")
    events = ada.call("room.since", room=room, seq=0)["events"]
    assert "secret" not in str(events)
    assert ada.call("message.search", text="secret")["messages"] == []
    for method, params in (("message.edits", {}), ("message.edit", {"text": "x"}), ("message.delete", {})):
        with pytest.raises(ResourceGone):
            bob.call(method, {"message": id, **params})


def test_admins_delete_what_others_said_and_members_do_not(talk):
    ada, bob, room = talk
    mine, theirs = (client.call("message.send", room=room, text="x")["id"] for client in (ada, bob))
    with pytest.raises(PermissionDenied):
        bob.call("message.delete", message=mine)
    ada.call("message.delete", message=theirs)


def test_an_answer_names_a_message_of_its_room(talk, person):
    ada, bob, room = talk
    question = ada.call("message.send", room=room, text="why?")["id"]
    bob.call("message.send", room=room, text="because", reply_to=question)
    assert bob.call("message.history", room=room)["messages"][-1]["reply_to"] == question
    elsewhere = bob.call("direct.send", user=ada.nick, text="psst")["id"]
    with pytest.raises(ResourceNotFound):
        bob.call("message.send", room=room, text="?", reply_to=elsewhere)


def test_who_is_not_in_the_room_reads_and_says_nothing(talk, person):
    ada, _, room = talk
    eve = person("eve")
    id = ada.call("message.send", room=room, text="among us")["id"]
    for method, params in (
        ("message.send", {"room": room, "text": "hi"}),
        ("message.history", {"room": room}),
        ("room.since", {"room": room, "seq": 0}),
        ("message.edits", {"message": id}),
        ("message.delete", {"message": id}),
        ("typing", {"room": room}),
    ):
        with pytest.raises(PermissionDenied):
            eve.call(method, params)
    with pytest.raises(ResourceNotFound):
        eve.call("message.edit", message="0190163d-8694-739b-aea5-966c26f8ad91", text="x")


def test_unread_messages_are_counted_until_they_are_read(talk):
    ada, bob, room = talk
    for number in range(3):
        last = ada.call("message.send", room=room, text=str(number))["seq"]
    bob.call("message.send", room=room, text="mine does not count")

    def unread(client):
        return {one["id"]: one["unread"] for one in client.call("room.list")["rooms"]}[room]

    assert (unread(ada), unread(bob)) == (1, 3)
    assert bob.call("room.read", room=room, seq=last - 1)["seq"] == last - 1
    assert unread(bob) == 1
    assert bob.call("room.read", room=room, seq=1)["seq"] == last - 1
    bob.call("room.read", room=room, seq=10**6)
    assert unread(bob) == 0


def test_a_conversation_of_two_is_one_room_whoever_begins(person):
    ada, bob, eve = person("ada"), person("bob"), person("eve")
    assert bob.call("direct.history", user=ada.nick) == {"room": None, "seq": 0, "messages": [], "next": None}
    room = ada.call("direct.send", user=bob.nick, text="hi bob")["room"]
    assert bob.call("direct.send", user=ada.id, text="hi ada")["room"] == room
    assert [one["text"] for one in ada.call("direct.history", user=bob.nick)["messages"]] == ["hi bob", "hi ada"]
    (listed,) = bob.call("room.list")["rooms"]
    assert listed["direct"] is True
    assert listed["with"] == {"id": ada.id, "name": ada.nick}
    with pytest.raises(ResourceNotFound):
        eve.call("message.history", room=room)
    with pytest.raises(InvalidValue):
        ada.call("direct.send", user=ada.nick, text="me")
    with pytest.raises(ResourceNotFound):
        ada.call("direct.send", user="nobody.at.all", text="?")


# --- searching ------------------------------------------------------------------------------------


def found(client, text, **options):
    return [one["text"] for one in client.call("message.search", text=text, **options)["messages"]]


def test_words_are_found_in_any_case_and_with_other_accents(talk):
    ada, bob, room = talk
    for text in ("Un café, s'il vous plaît", "Straße und Größe", "tea", "東京タワー", "Ωmega"):
        ada.call("message.send", room=room, text=text)
    assert found(bob, "CAFE plait") == ["Un café, s'il vous plaît"]
    assert found(bob, "strasse") == ["Straße und Größe"]
    assert found(bob, "東京") == ["東京タワー"]
    assert found(bob, "ωMEGA") == ["Ωmega"]
    assert found(bob, "coffee") == []


def test_phrases_exclusions_and_beginnings(talk):
    ada, _, room = talk
    for text in ("the quick brown fox", "the brown quick fox", "a quickstep"):
        ada.call("message.send", room=room, text=text)
    assert found(ada, '"quick brown"') == ["the quick brown fox"]
    assert sorted(found(ada, "quick")) == ["the brown quick fox", "the quick brown fox"]
    assert len(found(ada, "quick*")) == 3
    assert found(ada, 'quick -"brown quick"') == ["the quick brown fox"]


@pytest.mark.parametrize(
    "text", ['"', "a AND", "NEAR(", "* -", "'; DROP TABLE", "(((", "a:b", "col:x", "\\", "a & | !b"]
)
def test_nothing_that_is_typed_is_an_operator(talk, text):
    ada, _, _ = talk
    try:
        assert isinstance(found(ada, text), list)
    except InvalidValue:
        pass


def test_the_best_comes_first_or_the_newest(talk):
    ada, _, room = talk
    ada.call("message.send", room=room, text="apple " + "and many other words that are of no interest here " * 5)
    ada.call("message.send", room=room, text="apple apple apple")
    ada.call("message.send", room=room, text="apple of an eye, which is a thing that people say")
    assert found(ada, "apple")[0] == "apple apple apple"
    assert found(ada, "apple", order="time")[0].startswith("apple of an eye")
    pages, after = [], None
    for _ in range(3):
        page = ada.call("message.search", {"text": "apple", "limit": 1} | ({"after": after} if after else {}))
        pages += [one["seq"] for one in page["messages"]]
        after = page["next"]
    assert len(set(pages)) == 3
    assert after is None


def test_a_snippet_marks_what_was_found(talk):
    ada, _, room = talk
    ada.call("message.send", room=room, text="lorem " * 40 + "here is the Café that you meant " + "ipsum " * 40)
    (one,) = ada.call("message.search", text="cafe")["messages"]
    ((start, end),) = one["marks"]
    assert one["snippet"][start:end] == "Café"
    assert len(one["snippet"]) < 200


def test_a_word_that_is_asked_for_again_is_looked_for_once():
    assert terms_of('a* b "c d" -e ' * 5) == terms_of('a* b "c d" -e')


def test_a_search_for_many_words_looks_at_each_word_of_a_text_about_once():
    text, query = "a " * 2000, " ".join("abcdefghijklmnopqrstuvwxyz" * 3)
    steps, before = [0], sys.gettrace()

    def step(frame, event, arg):
        steps[0] += event == "line"
        return step

    sys.settrace(step)
    try:
        found = snippet(text, terms_of(query))
    finally:
        sys.settrace(before)
    assert found == ("a " * 12 + "a …", [[0, 25]])
    assert steps[0] < 2000 * 30


def test_only_what_the_caller_may_see_is_found(talk, person):
    ada, bob, room = talk
    eve = person("eve")
    ada.call("message.send", room=room, text="xylophone in public")
    ada.call("direct.send", user=bob.nick, text="xylophone between us")
    assert found(eve, "xylophone") == []
    assert len(found(bob, "xylophone")) == 2
    ada.call("room.kick", room=room, user=bob.nick)
    assert found(bob, "xylophone") == ["xylophone between us"]


def test_rooms_authors_and_times_narrow_a_search(talk, room_name):
    ada, bob, room = talk
    other = ada.call("room.create", name=f"{room_name} other")["id"]
    bob.call("room.join", room=other)
    ada.call("message.send", room=room, text="zebra one")
    middle = bob.call("message.send", room=room, text="zebra two")["at"]
    ada.call("message.send", room=other, text="zebra three")
    assert found(ada, "zebra", room=other) == ["zebra three"]
    assert found(ada, "zebra", author=bob.nick) == ["zebra two"]
    assert sorted(found(ada, "zebra", since=middle)) == ["zebra three", "zebra two"]
    assert found(ada, "zebra", until=middle) == ["zebra one"]


def test_what_was_edited_is_found_as_it_is_now(talk):
    ada, _, room = talk
    id = ada.call("message.send", room=room, text="aardvark")["id"]
    ada.call("message.edit", message=id, text="buffalo")
    assert found(ada, "aardvark") == []
    assert found(ada, "buffalo") == ["buffalo"]


# --- people ---------------------------------------------------------------------------------------


def test_people_are_found_by_how_their_names_begin(person):
    made = sorted(person("quentin").nick for _ in range(3))
    ada = person()
    first = ada.call("user.list", text="QUENTIN", limit=2)
    second = ada.call("user.list", text="quentin", limit=2, after=first["next"])
    assert sorted(one["name"] for one in first["users"] + second["users"]) == made
    profile = ada.call("user.profile", user=made[0])
    assert profile["name"] == made[0]
    assert profile["presence"]["state"] == "online"


def test_deleting_an_account_leaves_tombstones_and_hands_rooms_on(talk, person, room_name):
    ada, bob, room = talk
    eve = person("eve")
    bob.call("message.send", room=room, text="bob was here")
    ada.call("message.send", room=room, text="ada was here")
    ada.call("room.create", name=f"{room_name} alone")
    ada.call("invitation.create", room=room, user=eve.nick)
    ada.call("direct.send", user=bob.nick, text="only for you")
    removed = ada.call("account.delete", password="correct horse battery")["removed"]["chat"]
    assert removed == {"rooms": 1, "memberships": 3, "invitations": 1, "messages": 2}
    assert eve.call("invitation.list")["invitations"] == []
    assert texts(bob, room) == ["bob was here", ""]
    assert bob.call("message.search", text="ada")["messages"] == []
    (member,) = bob.call("room.members", room=room)["members"]
    assert (member["name"], member["role"]) == (bob.nick, "owner")
    eve.call("room.create", name=f"{room_name} alone")
    assert bob.call("message.history", room=room)["messages"][1]["author_name"] is None
