"""Full-text search in what the caller may see: FTS5 on SQLite, tsvector on PostgreSQL."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Select, column, func, literal, literal_column, select, table
from tidegate import Call, command
from tidegate.faults import InvalidValue

from tidegate_chat.base import READ, ROOM, USER, me
from tidegate_chat.history import message
from tidegate_chat.messages import Messages
from tidegate_chat.tables import members, messages, rooms
from tidegate_chat.texts import limit_of
from tidegate_chat.words import Term, snippet, terms_of

MOST = 1000  # results that are ranked
ON_THE_LOOP = 4000  # characters that are looked through without a thread: some 0.5 ms
SIMPLE: Any = literal_column("'simple'::regconfig")
fts = table("chat_text", column("rowid"), column("words"))


def for_fts5(terms: list[Term]) -> str:
    """Words have letters and digits only and are quoted, so that nothing a user types is an operator."""
    parts: dict[bool, list[str]] = {True: [], False: []}
    for term in terms:
        parts[term.exclude].append('"' + " ".join(term.words) + '"' + ("*" if term.prefix else ""))
    wanted = " AND ".join(parts[False])
    return f"({wanted}) NOT ({' OR '.join(parts[True])})" if parts[True] else wanted


def for_postgres(terms: list[Term]) -> Any:
    """The same as one tsquery."""
    whole: Any = None
    for term in terms:
        phrase = " <-> ".join(f"'{word}'" for word in term.words) + (":*" if term.prefix else "")
        one = func.to_tsquery(SIMPLE, phrase)
        if term.exclude:
            one = func.tsquery_not(one)
        whole = one if whole is None else whole.op("&&")(one)
    return whole


class Search(Messages):
    """The command `message.search`."""

    @command(
        "message.search",
        params={
            "text": {
                "type": "string",
                "required": True,
                "minlength": 1,
                "maxlength": 200,
                "meta": {"is": "text", "help": 'Words; "several together", -without, begin*.'},
            },
            "room": {**ROOM, "required": False},
            "author": {**USER, "required": False},
            "since": {"type": "number", "meta": {"help": "Not before this time, seconds since 1970."}},
            "until": {"type": "number", "meta": {"help": "Before this time."}},
            "order": {
                "type": "string",
                "allowed": ["rank", "time"],
                "meta": {"profile": "identifier", "help": "The best first, or the newest."},
            },
            "after": {"type": "integer", "min": 1, "max": 2**63 - 1, "meta": {"help": "`next` of the last page."}},
            "limit": {"type": "integer", "min": 1, "max": 100, "meta": {"help": "How many on a page."}},
        },
        requires="user",
        transaction={**READ, "long": True},  # SQLite's full text search is one step that may take a second
        rate="60/minute",
    )
    def search(
        self,
        call: Call,
        db: Any,
        text: str,
        room: str = "",
        author: str = "",
        since: float | None = None,
        until: float | None = None,
        order: str = "rank",
        after: int | None = None,
        limit: int = 20,
    ) -> dict[str, Any]:
        """Find messages in the rooms that you are in: all words, `"several together"`, `-without`, `begin*`.

        Each result has a `snippet`, and in `marks` the places of what was found in it: `[[6, 10]]`.
        """
        terms = terms_of(text)
        if len(text) > 200 or not any(not term.exclude for term in terms):
            raise InvalidValue("At least one word, in at most 200 characters", field="params.text")
        if order not in ("rank", "time"):
            raise InvalidValue("Expected rank or time", field="params.order")
        limit_of(limit, 100)
        query, rank = self._found(db, terms)
        query = query.where(
            messages.c.deleted.is_(None), members.c.user == me(call).id, members.c.state == "active"
        ).join(members, members.c.room == messages.c.room)
        if room:
            query = query.where(messages.c.room == self.inside(call, db, room)[0].id)
        if author:
            query = query.where(messages.c.author == self.person(author, "params.author").id)
        if since is not None:
            query = query.where(messages.c.created >= since)
        if until is not None:
            query = query.where(messages.c.created < until)
        skipped = 0
        if order == "time":
            query = query.order_by(messages.c.n.desc())
            if after is not None:
                query = query.where(messages.c.n < after)
        else:
            skipped = min(after or 0, MOST)
            query = query.order_by(rank, messages.c.n.desc()).offset(skipped)
        rows = db.execute(query.limit(limit + 1)).all()
        more = len(rows) > limit and skipped + limit < MOST
        next = (rows[limit - 1].n if order == "time" else skipped + limit) if more else None
        return {"messages": self._shown(rows[:limit], terms), "next": next}

    @staticmethod
    def _found(db: Any, terms: list[Term]) -> tuple[Select[Any], Any]:
        """Messages that match, and what puts the best first."""
        query = select(messages, rooms.c.name.label("room_name"))
        if db.dialect.name == "postgresql":
            wanted, vector = for_postgres(terms), func.to_tsvector(SIMPLE, messages.c.words)
            query = query.join_from(messages, rooms, rooms.c.id == messages.c.room)
            return query.where(vector.op("@@")(wanted)), func.ts_rank_cd(vector, wanted).desc()
        query = query.select_from(fts).join(messages, messages.c.n == fts.c.rowid)
        query = query.join(rooms, rooms.c.id == messages.c.room)
        matches = literal_column("chat_text").op("MATCH")(literal(for_fts5(terms)))
        return query.where(matches), literal_column("bm25(chat_text)")

    def _shown(self, rows: list[Any], terms: list[Term]) -> list[dict[str, Any]]:
        if sum(len(row.text) for row in rows) > ON_THE_LOOP:
            parts = self.server.pool("chat.snippets", 1, 32).run(_snippets, [row.text for row in rows], terms)
        else:
            parts = _snippets([row.text for row in rows], terms)
        return [
            {
                **message(row),
                "author_name": self.called(row.author),
                "room_name": row.room_name,
                "snippet": part,
                "marks": marks,
            }
            for row, (part, marks) in zip(rows, parts, strict=True)
        ]


def _snippets(texts: list[str], terms: list[Term]) -> list[tuple[str, list[list[int]]]]:
    return [snippet(text, terms) for text in texts]
