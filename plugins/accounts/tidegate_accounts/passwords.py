"""Passwords: hashed with argon2id in threads of their own, and refused when many people have them."""

from __future__ import annotations

import base64
import os
import re
import secrets
import unicodedata
from functools import cache
from importlib.resources import files
from typing import Any

from argon2 import PasswordHasher
from argon2.exceptions import Argon2Error, InvalidHashError
from tidegate import Server
from tidegate.faults import PasswordRejected

SHORTEST, LONGEST = 8, 128  # characters
_TAIL = re.compile(r"[0-9!?.,*#@$_-]{1,6}\Z")  # what people add to a common password
_ALPHABET = "abcdefghijkmnpqrstuvwxyz23456789"  # nothing that looks like something else: 5 bits each


@cache
def _common() -> frozenset[str]:
    text = (files("tidegate_accounts") / "common.txt").read_text("utf-8")
    return frozenset(line for line in text.splitlines() if not line.startswith("# "))


def normal(password: str) -> str:
    """The same password, however the keyboard composed its letters."""
    return unicodedata.normalize("NFC", password)


def check_new(password: str, *names: str) -> None:
    """Whether somebody may have this password. Raises PasswordRejected, which says what is wrong."""
    password = normal(password)
    if len(password) < SHORTEST:
        raise PasswordRejected(f"A password has at least {SHORTEST} characters", field="params.password")
    if len(password) > LONGEST:
        raise PasswordRejected(f"A password has at most {LONGEST} characters", field="params.password")
    low = password.casefold()
    if low in _common() or _TAIL.sub("", low) in _common() or len(set(low)) < 3:
        raise PasswordRejected("Many people have this password; choose another", field="params.password")
    if any(low == name.casefold() or _TAIL.sub("", low) == name.casefold() for name in names):
        raise PasswordRejected("A password is not a name", field="params.password")


def generated() -> str:
    """A password of 100 random bits: `7hq2-mzkd-…`, five groups of four."""
    return "-".join("".join(secrets.choice(_ALPHABET) for _ in range(4)) for _ in range(5))


class Passwords:
    """Hashes and compares; at most `threads` at once, and a place is free when its thread has ended."""

    def __init__(self, server: Server, config: Any) -> None:
        self._pool = server.pool("accounts.hashing", config.hashing_threads, config.hashing_queue)
        self.configure(config)

    def configure(self, config: Any) -> None:
        self._hasher = PasswordHasher(
            time_cost=config.argon2_passes, memory_cost=config.argon2_memory_kib, parallelism=config.argon2_lanes
        )
        # Nobody's hash: to compare with it takes as long as with somebody's.
        self._nobody = (
            f"$argon2id$v=19$m={config.argon2_memory_kib},t={config.argon2_passes},p={config.argon2_lanes}"
            f"${_b64(16)}${_b64(32)}"
        )

    def load(self) -> None:
        """Read the list of common passwords, in a thread. Switches."""
        self._pool.run(_common)

    def hash(self, password: str) -> str:
        """Encoded, with its parameters. Raises ServerOverloaded when too many wait. Switches."""
        return self._pool.run(self._hasher.hash, normal(password))

    def matches(self, stored: str | None, password: str) -> bool:
        """Whether it is the password; without a stored one it takes as long to say no. Raises as `hash`. Switches."""
        found = self._pool.run(self._compare, stored or self._nobody, normal(password)[: 4 * LONGEST])
        return found and stored is not None

    def _compare(self, stored: str, password: str) -> bool:
        try:
            return self._hasher.verify(stored, password)
        except (Argon2Error, InvalidHashError):
            return False

    def is_dated(self, stored: str) -> bool:
        """Whether it was hashed with other parameters than today's."""
        return self._hasher.check_needs_rehash(stored)


def _b64(size: int) -> str:
    return base64.b64encode(os.urandom(size)).decode().rstrip("=")
