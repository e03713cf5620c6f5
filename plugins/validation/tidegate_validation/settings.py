"""The settings of [plugins.validation]."""

from __future__ import annotations

from typing import Any

_RATE = r"off|[0-9][0-9./, a-z]*"


def _rate(default: str, help: str) -> dict[str, Any]:
    return {
        "type": "string",
        "default": default,
        "regex": _RATE,
        "meta": {"help": help, "example": "10/second, 600/hour"},
    }


def _burst(whose: str) -> dict[str, Any]:
    return {
        "type": "number",
        "nullable": True,
        "min": 1,
        "default": None,
        "meta": {"help": f"Calls {whose} may make at once by the shortest of its rates; unset: the rate's own number."},
    }


def _names(default: list[str], help: str) -> dict[str, Any]:
    return {"type": "list", "schema": {"type": "string"}, "default": default, "meta": {"help": help}}


SETTINGS: dict[str, Any] = {
    "user_rate": _rate(
        "60/minute",
        "Calls of one user on all connections; several rates at once are separated by commas; `off`: no limit.",
    ),
    "user_burst": _burst("a user"),
    "address_rate": _rate("100/minute", "Calls without a user from one address (IPv6: one /64)."),
    "address_burst": _burst("an address"),
    "server_rate": _rate("off", "Calls of all clients together, administrators aside."),
    "exempt_roles": _names(["admin"], "Users with one of these roles are not limited."),
    "exempt_networks": _names([], "Networks whose addresses are not limited, beside [server] exempt."),
    "exempt_commands": _names([], "Commands that are not limited and do not count."),
    "commands": {
        "type": "dict",
        "default": {},
        "keysrules": {"type": "string"},
        "valuesrules": {
            "type": "dict",
            "schema": {
                "rate": {
                    "type": "string",
                    "regex": _RATE,
                    "meta": {"help": "Calls of the command by one user, or by one address without a user."},
                },
                "total": {
                    "type": "string",
                    "regex": _RATE,
                    "meta": {"help": "Calls of the command by all clients together."},
                },
                "cost": {"type": "number", "min": 0, "meta": {"help": "As how many calls one counts; 0: it does not."}},
            },
        },
        "meta": {"help": "Limits of single commands; they win over the command's own notes `rate` and `cost`."},
    },
    "protected_names": _names(
        ["admin", "administrator", "root", "operator", "system", "moderator", "support", "security"],
        "Names that no other user name may look like.",
    ),
    "max_keys": {
        "type": "integer",
        "min": 1000,
        "default": 500_000,
        "meta": {"help": "Users and addresses that are counted at most; past it who called least is forgotten."},
    },
}
