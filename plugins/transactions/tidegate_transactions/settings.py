"""The settings of [plugins.transactions]."""

from __future__ import annotations

from typing import Any


def _meta(help: str, unit: str = "") -> dict[str, Any]:
    return {"help": help, **({"unit": unit} if unit else {})}


SETTINGS: dict[str, Any] = {
    "url": {
        "type": "string",
        "default": "",
        "meta": {
            "help": "sqlite:///FILE or postgresql://USER:PASSWORD@HOST/NAME; empty is a file in the data folder.",
            "secret": True,
        },
    },
    "max_active": {
        "type": "integer",
        "min": 1,
        "max": 10000,
        "default": 100,
        "meta": _meta("Transactions at once; on PostgreSQL no more than pool_size."),
    },
    "max_waiting": {
        "type": "integer",
        "min": 0,
        "max": 100000,
        "default": 1000,
        "meta": _meta("Calls that may wait for their turn; one more is refused with 1211."),
    },
    "wait_s": {
        "type": "number",
        "min": 0.01,
        "max": 3600,
        "default": 5,
        "meta": _meta("How long a call waits for its turn; then 1211.", "s"),
    },
    "limit_s": {
        "type": "number",
        "min": 0.01,
        "max": 86400,
        "default": 30,
        "meta": _meta("How long a transaction may take; then it is rolled back with 1210.", "s"),
    },
    "key_ttl_s": {
        "type": "number",
        "min": 1,
        "max": 31536000,
        "default": 86400,
        "meta": _meta("How long the reply of a call with an idempotency_key is kept.", "s"),
    },
    "outbox_topics": {
        "type": "list",
        "schema": {"type": "string"},
        "default": ["room.changed", "invitation.changed"],
        "meta": _meta(
            "Topics whose events are written with their transaction, so that a crash loses none; '*' for all."
        ),
    },
    "tables": {
        "type": "list",
        "schema": {"type": "string"},
        "default": [],
        "meta": _meta("Tables of your own modules, 'shop.models:metadata'; a pair (MetaData, folder) has migrations."),
    },
    "upgrade": {
        "type": "string",
        "allowed": ["auto", "always", "never"],
        "default": "auto",
        "meta": _meta(
            "Whether tables that are behind are upgraded at start; auto: those of SQLite. Else the start is refused."
        ),
    },
    "isolation": {
        "type": "string",
        "allowed": ["", "read committed", "repeatable read", "serializable"],
        "default": "",
        "meta": _meta(
            "Isolation of transactions that ask for none; empty: PostgreSQL's own. SQLite is always serializable."
        ),
    },
    "synchronous": {
        "type": "string",
        "allowed": ["full", "normal", "extra"],
        "default": "full",
        "meta": _meta(
            "SQLite: full makes each commit durable before its reply; normal may lose the last ones to a power cut."
        ),
    },
    "batch": {
        "type": "integer",
        "min": 1,
        "max": 10000,
        "default": 128,
        "meta": _meta("SQLite: transactions that share one commit, at most."),
    },
    "lock_wait_s": {
        "type": "number",
        "min": 0,
        "max": 3600,
        "default": 5,
        "meta": _meta("SQLite: how long a file that another process has locked is waited for; then 1207.", "s"),
    },
    "pool_size": {
        "type": "integer",
        "min": 1,
        "max": 10000,
        "default": 20,
        "meta": _meta("PostgreSQL: connections that are kept open."),
    },
    "connect_timeout_s": {
        "type": "number",
        "min": 2,
        "max": 300,
        "default": 5,
        "meta": _meta("PostgreSQL: how long a new connection may take.", "s"),
    },
}
