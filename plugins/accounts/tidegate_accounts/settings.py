"""The settings of [plugins.accounts]."""

from __future__ import annotations

from typing import Any


def _meta(help: str, unit: str = "") -> dict[str, Any]:
    return {"help": help, **({"unit": unit} if unit else {})}


def _whole(default: int, low: int, high: int, help: str, unit: str = "") -> dict[str, Any]:
    return {"type": "integer", "default": default, "min": low, "max": high, "meta": _meta(help, unit)}


SETTINGS: dict[str, Any] = {
    "registration": {
        "type": "boolean",
        "default": True,
        "meta": _meta("Whether anybody may register; else only administrators make accounts."),
    },
    "reserved_names": {
        "type": "list",
        "maxlength": 1000,
        "schema": {"type": "string", "minlength": 1, "maxlength": 128},
        "default": ["admin", "administrator", "root", "operator", "system", "moderator", "support", "security"],
        "meta": _meta("Names that nobody can register, in whatever case; administrators can make them accounts."),
    },
    "session_ttl_s": _whole(2_592_000, 60, 315_360_000, "How long a session lives after its last use.", "s"),
    "token_ttl_s": _whole(
        31_536_000, 60, 315_360_000, "How long a token that an administrator makes may live at most.", "s"
    ),
    "max_sessions": _whole(20, 1, 10_000, "Sessions of one account; one more ends the one used longest ago."),
    "max_tokens": _whole(50, 1, 10_000, "Tokens of one account; one more is refused."),
    "guesses": {
        "type": "string",
        "default": "20/hour",
        "meta": _meta("Wrong passwords for one name from places where it has no session; then those places wait."),
    },
    "hashing_threads": _whole(2, 1, 64, "Passwords that are hashed at once."),
    "hashing_queue": _whole(64, 0, 10_000, "Passwords that may wait to be hashed; one more is refused with 1308."),
    # OWASP's Password Storage Cheat Sheet: 19 MiB, 2 passes, 1 lane.
    "argon2_memory_kib": _whole(19_456, 8, 4_194_304, "Memory of one argon2id hash.", "KiB"),
    "argon2_passes": _whole(2, 1, 1000, "Passes of one argon2id hash over its memory."),
    "argon2_lanes": _whole(1, 1, 64, "Lanes of one argon2id hash."),
}
