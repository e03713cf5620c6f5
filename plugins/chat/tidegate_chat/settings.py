"""The settings of [plugins.chat]."""

from __future__ import annotations

from typing import Any


def _whole(default: int, low: int, high: int, help: str, unit: str = "") -> dict[str, Any]:
    meta = {"help": help, **({"unit": unit} if unit else {})}
    return {"type": "integer", "default": default, "min": low, "max": high, "meta": meta}


SETTINGS: dict[str, Any] = {
    "max_text": _whole(4000, 1, 16000, "The longest message.", "characters"),
    "max_rooms": _whole(500, 1, 100_000, "Rooms that somebody is in at once; one more is refused."),
    "max_members": _whole(10_000, 2, 1_000_000, "Members of a room; one more is refused."),
    "max_invitations": _whole(1000, 1, 1_000_000, "Invitations of a room that wait for an answer."),
    "invitation_ttl_s": _whole(604_800, 60, 31_536_000, "How long an invitation waits for its answer.", "s"),
    "feeds": _whole(
        10_000, 100, 1_000_000, "Rooms whose members are remembered; others are read when something happens."
    ),
    "presence_members": _whole(500, 0, 100_000, "In larger rooms nobody is told who comes and goes."),
}
