"""What becomes of rooms and messages when an account is deleted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import and_, delete, or_, select, update
from tidegate import Leaving

from tidegate_chat.tables import edits, invitations, members, messages, rooms

if TYPE_CHECKING:
    from tidegate_chat import Chat


def forget(chat: Chat, leaving: Leaving) -> dict[str, int]:
    """Remove somebody's memberships, invitations and messages, and say how many; tombstones stay.

    Rooms that they alone own go to whoever has been in them longest, administrators first; those in which
    nobody else is are deleted. Each room is told once: `forgotten`.
    """
    db, call, user = leaving.db.connection(), leaving.call, leaving.user.id
    where = select(members.c.room, members.c.state).where(members.c.user == user).order_by(members.c.room)
    mine = {row.room: row.state for row in db.execute(where)}
    said = select(messages.c.room).where(messages.c.author == user, messages.c.deleted.is_(None)).distinct()
    spoken = set(db.execute(said).scalars())
    removed = {"rooms": 0, "memberships": len(mine), "invitations": 0, "messages": 0}
    touched = sorted({*mine, *spoken})
    for room in touched:  # one order for all, so that rows are locked without deadlocks
        row = db.execute(select(rooms).where(rooms.c.id == room).with_for_update()).one()
        chat.feeds.expect(row.id, row.seq + 1)
    both = and_(invitations.c.state == "pending", or_(invitations.c.user == user, invitations.c.inviter == user))
    for invitation in db.execute(select(invitations).where(both)).all():
        chat.settle(call, db, invitation, "revoked")
        if invitation.user != user:
            chat.dismiss(db, invitation.room, invitation.user)
    gone = delete(invitations).where(or_(invitations.c.user == user, invitations.c.inviter == user))
    removed["invitations"] = db.execute(gone).rowcount
    own = select(messages.c.id).where(messages.c.author == user)
    db.execute(delete(edits).where(edits.c.message.in_(own)))
    erased = update(messages).where(messages.c.author == user, messages.c.deleted.is_(None))
    removed["messages"] = db.execute(erased.values(text="", words="", deleted=chat.server.clock.wall())).rowcount
    db.execute(delete(members).where(members.c.user == user))
    for room in touched:
        removed["rooms"] += _without(chat, leaving, db, room)
    return removed


def _without(chat: Chat, leaving: Leaving, db: Any, room: str) -> int:
    """Tell a room that somebody is gone, and give it an owner; 1 when nobody is left and it was deleted."""
    active = and_(members.c.room == room, members.c.state == "active")
    left = db.execute(
        select(members.c.user, members.c.role).where(active).order_by(members.c.since, members.c.user)
    ).all()
    user = leaving.user.id
    if not left:
        chat.append(leaving.call, db, room, "forgotten", user=user, owner=None)
        chat.remove(leaving.call, db, room)
        return 1
    owner = None
    pair = db.execute(select(rooms.c.pair).where(rooms.c.id == room)).scalar_one()
    if pair is None and not any(one.role == "owner" for one in left):
        owner = next((one.user for one in left if one.role == "admin"), left[0].user)
        db.execute(update(members).where(members.c.room == room, members.c.user == owner).values(role="owner"))
    chat.append(leaving.call, db, room, "forgotten", user=user, owner=owner)
    return 0
