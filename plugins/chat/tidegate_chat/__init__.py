"""A chat: rooms, invitations, messages, search; everybody in a room sees the same, in the same order."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from tidegate import Event, Leaving, Server, hookimpl

from tidegate_chat.feed import CHANNEL, Feeds
from tidegate_chat.leaving import forget
from tidegate_chat.search import Search
from tidegate_chat.settings import SETTINGS
from tidegate_chat.tables import MIGRATIONS, metadata


class Chat(Search):
    """The chat's commands; what happened is pushed to the connections of a room's members after the commit."""

    needs = ("transactions", "accounts")
    listens = frozenset({"room.changed", "database.lost"})
    settings = SETTINGS
    offers = {"tables": (metadata, MIGRATIONS)}

    def configure(self, config: Any) -> None:
        if not hasattr(self, "feeds"):
            self.feeds = Feeds(self)
            self.presences = self.server.state.values("chat.presence", cap=100_000)
            self.typists = self.server.state.limit("chat.typing", "1/3 seconds", cap=50_000)
            self.changed: set[str] = set()

    @hookimpl
    def tidegate_serve(self, server: Server) -> Generator[None, None, None]:
        heard = server.bus.subscribe(CHANNEL, self.feeds.heard)
        houses = [server.spawn(self.watch), server.spawn(self.expire)]
        yield
        for house in houses:
            house.kill()
        heard.close()

    @hookimpl
    def tidegate_event(self, event: Event) -> None:
        if event.topic == "database.lost":
            self.feeds.forget()
            return
        data = dict(event.data)
        self.feeds.tell(
            {
                "room": event.room,
                "seq": event.seq,
                "kind": event.kind,
                "actor": event.actor,
                "by": data.pop("by"),
                "at": data.pop("at"),
                "data": data,
            }
        )

    @hookimpl
    def tidegate_forget(self, leaving: Leaving) -> dict[str, int]:
        return forget(self, leaving)

    @hookimpl
    def tidegate_gauges(self) -> dict[str, float]:
        return {"rooms_remembered": float(len(self.feeds)), "users_online": float(len(self.server.sessions))}
