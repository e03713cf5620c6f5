"""Who exists: filled by accounts, empty without it."""

from __future__ import annotations

from typing import Any

from tidegate.model import User


class Directory:
    """Looks users up. A plugin that keeps accounts puts its own in `server.directory`. May switch."""

    def get(self, id: str) -> User | None:
        return None

    def named(self, name: str) -> User | None:
        return None

    def search(self, text: str, after: str | None = None, limit: int = 50) -> list[User]:
        return []

    def profile(self, id: str) -> dict[str, Any] | None:
        return None
