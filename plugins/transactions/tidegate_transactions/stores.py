"""What a database does for transactions; one of these for SQLite, one for PostgreSQL."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sqlalchemy import MetaData
    from sqlalchemy.engine import Engine

    from tidegate_transactions.transaction import Transaction


class Store(Protocol):
    """One database. All of it may switch but `undo` on SQLite, `give_up` and `gauges`."""

    engine: Engine
    isolation: str  # of a transaction that asks for none
    capacity: int  # transactions at once

    def start(self) -> None:
        """Get ready to begin transactions. Raises what the driver raises."""

    def stop(self) -> None:
        """Finish what is being committed and give everything back."""

    def begin(self, transaction: Transaction) -> None:
        """Give it a connection."""

    def commit(self, transaction: Transaction) -> BaseException | None:
        """Make it durable, carry out `told()` in the order of the commits, then return what was thrown meanwhile.

        Whatever it raises, nothing was committed.
        """

    def rollback(self, transaction: Transaction) -> None:
        """Undo it and take its connection back; never raises what the driver raises."""

    def undo(self, transaction: Transaction) -> None:
        """Undo what it did so far; it goes on."""

    def give_up(self, transaction: Transaction, error: BaseException | None) -> None:
        """Its connection can't be used any more."""

    def doubt(self) -> None:
        """What is remembered of the database may be wrong."""

    def gauges(self) -> dict[str, float]: ...

    def totals(self) -> dict[str, int]: ...

    def backup(self, file: Path) -> None:
        """A consistent copy while others write."""

    def doubts(self, metadata: Iterable[MetaData]) -> list[str]:
        """What of these tables this database can't do well, a sentence each."""
