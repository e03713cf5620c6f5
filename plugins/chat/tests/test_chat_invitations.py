"""Invitations, on both databases: pending, and then exactly one of four ends."""

from __future__ import annotations

import pytest
from tidegate.faults import (
    PermissionDenied,
    ResourceConflict,
    ResourceGone,
    ResourceNotFound,
    UnsupportedOperation,
    ValueOutOfRange,
)


@pytest.fixture
def invited(person, room_name):
    """(ada, who owns a private room, bob, whom she has invited, the room, the invitation)."""
    ada, bob = person("ada"), person("bob")
    made = ada.call("room.create", name=room_name, private=True, invite=[bob.nick])
    return ada, bob, made["id"], made["invitations"][0]["id"]


def test_who_accepts_is_a_member(invited):
    ada, bob, room, invitation = invited
    with pytest.raises(PermissionDenied):
        bob.call("message.send", room=room, text="too early")
    (waiting,) = bob.call("invitation.list")["invitations"]
    assert (waiting["inviter_name"], waiting["state"]) == (ada.nick, "pending")
    bob.call("invitation.accept", invitation=invitation)
    bob.call("message.send", room=room, text="thanks")
    assert bob.call("invitation.list")["invitations"] == []
    for verb in ("accept", "decline", "revoke"):
        with pytest.raises(ResourceConflict):
            (ada if verb == "revoke" else bob).call(f"invitation.{verb}", invitation=invitation)


def test_who_declines_is_none_and_may_be_invited_again(invited):
    ada, bob, room, invitation = invited
    bob.call("invitation.decline", invitation=invitation)
    with pytest.raises(ResourceGone):
        bob.call("invitation.accept", invitation=invitation)
    with pytest.raises(ResourceNotFound):
        bob.call("room.join", room=room)
    ada.call("invitation.create", room=room, user=bob.id)
    bob.call("room.join", room=room)
    assert bob.call("invitation.list")["invitations"] == []


def test_what_was_revoked_can_not_be_accepted(invited):
    ada, bob, room, invitation = invited
    ada.call("invitation.revoke", invitation=invitation)
    with pytest.raises(ResourceGone):
        bob.call("invitation.accept", invitation=invitation)
    with pytest.raises(ResourceGone):
        ada.call("invitation.revoke", invitation=invitation)
    with pytest.raises(ResourceNotFound):
        bob.call("message.history", room=room)


def test_nobody_is_invited_twice_nor_when_inside(invited):
    ada, bob, room, invitation = invited
    with pytest.raises(ResourceConflict):
        ada.call("invitation.create", room=room, user=bob.nick)
    bob.call("invitation.accept", invitation=invitation)
    with pytest.raises(ResourceConflict):
        ada.call("invitation.create", room=room, user=bob.nick)


def test_only_who_is_invited_answers_and_others_see_nothing(invited, person):
    ada, bob, room, invitation = invited
    eve = person("eve")
    for verb in ("accept", "decline", "revoke"):
        with pytest.raises(ResourceNotFound):
            eve.call(f"invitation.{verb}", invitation=invitation)
    with pytest.raises(PermissionDenied):
        ada.call("invitation.accept", invitation=invitation)
    with pytest.raises(PermissionDenied):
        bob.call("invitation.revoke", invitation=invitation)
    with pytest.raises(ResourceNotFound):
        eve.call("invitation.list", room=room)


def test_members_invite_into_public_rooms_and_admins_into_private_ones(invited, person, room_name):
    ada, bob, room, invitation = invited
    cyn = person("cyn")
    bob.call("invitation.accept", invitation=invitation)
    with pytest.raises(PermissionDenied):
        bob.call("invitation.create", room=room, user=cyn.nick)
    ada.call("room.set_role", room=room, user=bob.nick, role="admin")
    bob.call("invitation.create", room=room, user=cyn.nick)
    assert [one["user_name"] for one in ada.call("invitation.list", room=room)["invitations"]] == [cyn.nick]
    assert [one["user_name"] for one in bob.call("invitation.list", scope="sent")["invitations"]] == [cyn.nick]
    public = ada.call("room.create", name=f"{room_name} public")["id"]
    bob.call("room.join", room=public)
    bob.call("invitation.create", room=public, user=cyn.nick)


def test_an_invitation_and_its_answer_are_pushed_to_both(invited):
    ada, bob, _, invitation = invited
    assert bob.told("event.invitation")["id"] == invitation
    bob.call("invitation.decline", invitation=invitation)
    told = ada.told("event.invitation")
    assert (told["id"], told["state"]) == (invitation, "declined")


def test_a_room_and_its_invitations_are_made_together_or_not_at_all(person, room_name):
    ada, bob = person(), person()
    with pytest.raises(ResourceNotFound):
        ada.call("room.create", name=room_name, invite=[bob.nick, "nobody.at.all"])
    with pytest.raises(ResourceNotFound):
        bob.call("room.join", room=room_name)
    assert bob.call("invitation.list")["invitations"] == []


def test_a_conversation_of_two_stays_one_of_two(person):
    ada, bob, cyn = person(), person(), person()
    room = ada.call("direct.send", user=bob.nick, text="hi")["room"]
    with pytest.raises(UnsupportedOperation):
        ada.call("invitation.create", room=room, user=cyn.nick)
    with pytest.raises(UnsupportedOperation):
        ada.call("room.leave", room=room)
    with pytest.raises(ValueOutOfRange):
        ada.call(
            "invitation.create", room=ada.call("room.create", name=f"x {ada.nick}")["id"], user=cyn.nick, expires_s=5
        )


def test_an_invitation_that_nobody_answers_expires(chat_inside, newcomer, eventually):
    server = chat_inside()
    changed = server.events("invitation.changed")
    ada, bob = newcomer(server, "ada"), newcomer(server, "bob")
    room = ada.call("room.create", name="Lobby")["id"]
    invitation = ada.call("invitation.create", room=room, user=bob.nick, expires_s=60)["id"]
    server.advance(59)
    assert bob.call("invitation.list")["invitations"]
    server.advance(2)
    with pytest.raises(ResourceGone):
        bob.call("invitation.accept", invitation=invitation)
    server.advance(60)
    eventually(lambda: [event.state for event in changed] == ["pending", "expired"])
    ada.call("invitation.create", room=room, user=bob.nick)
