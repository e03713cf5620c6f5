"""The settings of [plugins.security]."""

from __future__ import annotations

from typing import Any

Schema = dict[str, Any]


def _number(low: float, high: float, default: float, help: str, unit: str | None = None) -> Schema:
    meta = {"help": help} | ({"unit": unit} if unit else {})
    return {"type": "number", "min": low, "max": high, "default": default, "meta": meta}


def _whole(low: int, high: int, default: int, help: str, unit: str | None = None) -> Schema:
    return {**_number(low, high, default, help, unit), "type": "integer"}


def _choice(allowed: list[str], help: str) -> Schema:
    return {
        "type": "string",
        "allowed": allowed,
        "default": allowed[0],
        "meta": {"help": help},
    }


def _texts(help: str, example: list[str]) -> Schema:
    return {
        "type": "list",
        "schema": {"type": "string"},
        "maxlength": 10_000,
        "default": [],
        "meta": {"help": help, "example": example},
    }


def _path(help: str) -> Schema:
    return {"type": "string", "nullable": True, "default": None, "meta": {"help": help}}


SETTINGS: Schema = {
    "mode": _choice(
        ["enforce", "observe"],
        "observe: do everything but answer, and say what would have been done.",
    ),
    "content": _choice(
        ["refuse", "note"],
        "What is done about a threat in an identifier or a structure: refuse the call, or note it.",
    ),
    "free_text_refuse": _whole(
        10,
        1000,
        100,
        "A free text is delivered and noted; at so many points its call is refused, too.",
        "points",
    ),
    "allow": _texts("Addresses and networks that are never counted nor blocked.", ["192.0.2.0/24"]),
    "rules_off": _texts("Rules that are switched off, by id.", ["sqli-drop"]),
    "rule_files": _texts(
        "More rules: TOML files, as the plugin's README shows.",
        ["/etc/tidegate/rules.toml"],
    ),
    "delay_score": _number(
        1,
        1000,
        15,
        "From so many points on answers to an address are delayed.",
        "points",
    ),
    "refuse_score": _number(1, 1000, 30, "From so many points on an address may only log in.", "points"),
    "block_score": _number(1, 1000, 45, "From so many points on an address is blocked.", "points"),
    "block_high_score": _number(
        1,
        10_000,
        80,
        "From so many points on the block is one of severity high.",
        "points",
    ),
    "suspend_score": _number(
        1,
        10_000,
        80,
        "From so many points of its own on an account is suspended.",
        "points",
    ),
    "suspend_s": _number(1, 31_536_000, 3600, "How long an account is suspended.", "s"),
    "max_delay_s": _number(0, 30, 2, "The longest delay of an answer.", "s"),
    "max_delayed": _whole(
        0,
        100_000,
        200,
        "So many calls wait at once; others are refused instead.",
        "calls",
    ),
    "good_accounts": _whole(
        1,
        1000,
        1,
        "So many other accounts in good standing on an address turn its block into a soft one.",
    ),
    "attack_addresses": _whole(
        0,
        100_000,
        50,
        "So many addresses that misbehave within a minute are an attack: time limits are halved. 0: never.",
        "addresses",
    ),
    "attack_calm_s": _number(
        1, 86_400, 300, "The attack is over when half as many or fewer were left for so long.", "s"
    ),
    "max_addresses": _whole(100, 1_000_000, 40_000, "Addresses whose points are kept.", "addresses"),
    "max_blocks": _whole(10, 1_000_000, 50_000, "Blocks at once.", "blocks"),
    "blocklist": _path("A file with the blocked networks, one a line; rewritten at each change."),
    "ipset": _path("The same for `ipset restore`."),
    "nftables": _path("The same for `nft -f`."),
    "log_lines": {
        "type": "boolean",
        "default": False,
        "meta": {"help": "Log a line for each signal that fail2ban and CrowdSec can read."},
    },
    "audit_durable": _choice(
        ["second", "always", "never"],
        "When the trail waits for the disk: once a second, at each entry, never.",
    ),
    "audit_max_bytes": _whole(4096, 1 << 34, 64 << 20, "A file of the trail is at most so long.", "bytes"),
    "audit_queue": _whole(16, 1_000_000, 10_000, "Entries that wait to be written.", "entries"),
    "checkpoints": _path("The file of the trail's checkpoints: on another disk, if there is one."),
}
