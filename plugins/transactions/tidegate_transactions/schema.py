"""The tables of all plugins, each with its own migrations: upgrade, current, check.

A plugin offers `tables`: a MetaData and the folder of its Alembic revisions, or None for tables that
are only ever created. Every plugin has its own version table, so they are independent of each other.
"""

from __future__ import annotations

import importlib
import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from sqlalchemy import URL, Connection, MetaData, create_engine, event, inspect, text

# Alembic tells each of its plugins and steps; what was upgraded is said by us.
logging.getLogger("alembic").setLevel(logging.WARNING)

HERE = Path(__file__).parent / "migrations"
_LOCK = 0x7469_6465_6761_7465  # "tidegate": one process upgrades at a time


class Tables(NamedTuple):
    """What one plugin keeps in the database."""

    owner: str
    metadata: MetaData
    folder: Path | None  # of its revisions

    @property
    def version_table(self) -> str:
        return f"tidegate_version_{self.owner.replace('.', '_')}"


class State(NamedTuple):
    """Where the tables of one plugin are, and where they should be."""

    owner: str
    current: tuple[str, ...]
    wanted: tuple[str, ...]
    missing: tuple[str, ...]  # tables that are not there

    @property
    def behind(self) -> bool:
        return set(self.current) != set(self.wanted) or bool(self.missing)


def tables_of(owner: str, offer: Any, base: Path | None = None) -> Tables:
    """An offer, checked. Raises ValueError."""
    metadata, folder = offer if isinstance(offer, tuple | list) and len(offer) == 2 else (offer, None)
    if not isinstance(metadata, MetaData):
        raise ValueError(f"{owner}: tables: expected a MetaData, or (MetaData, folder), got {offer!r}")
    if folder is not None:
        folder = Path(folder)
        if not folder.is_absolute() and base is not None:
            folder = base / folder
        if (folder / "versions").is_dir():
            folder /= "versions"
        if not folder.is_dir():
            raise ValueError(f"{owner}: tables: there is no folder {str(folder)!r} with migrations")
    return Tables(owner, metadata, folder)


def named(entry: str) -> Tables:
    """`shop.models:metadata`, a MetaData or a pair (MetaData, folder) in a module. Raises ValueError."""
    module_name, _, attribute = entry.partition(":")
    try:
        module = importlib.import_module(module_name)
        offer = getattr(module, attribute or "metadata")
    except (ImportError, AttributeError) as error:
        raise ValueError(f"tables: {entry!r}: {error}; expected MODULE:NAME of a MetaData") from error
    base = Path(module.__file__).parent if module.__file__ else None
    return tables_of(module_name, offer, base)


@contextmanager
def changing(url: URL) -> Iterator[Connection]:
    """A connection in one transaction for all that a migration does, also on SQLite."""
    engine = create_engine(url, hide_parameters=True)
    try:
        if engine.dialect.name == "sqlite":
            event.listen(engine, "connect", _autocommit)
            event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN IMMEDIATE"))
        with engine.begin() as connection:
            if engine.dialect.name == "postgresql":
                connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
            yield connection
    finally:
        engine.dispose()


def _autocommit(raw: Any, record: Any) -> None:
    # Else the driver begins by itself, and not before DDL.
    raw.isolation_level = None
    raw.execute("PRAGMA journal_mode=WAL")
    raw.execute("PRAGMA busy_timeout=10000")
    raw.execute("PRAGMA foreign_keys=OFF")  # a table that is copied must not take its children with it


def states(connection: Connection, all_tables: Sequence[Tables]) -> list[State]:
    """Where each plugin's tables are."""
    from alembic.migration import MigrationContext
    from alembic.script import ScriptDirectory

    there = set(inspect(connection).get_table_names())
    found = []
    for tables in all_tables:
        missing = tuple(name for name in tables.metadata.tables if name not in there)
        if tables.folder is None:
            found.append(State(tables.owner, (), (), missing))
            continue
        context = MigrationContext.configure(connection, opts={"version_table": tables.version_table})
        current = tuple(sorted(context.get_current_heads()))
        wanted = tuple(sorted(ScriptDirectory.from_config(_config(tables, connection)).get_heads()))
        found.append(State(tables.owner, current, wanted, missing if current == wanted else ()))
    return found


def upgrade(connection: Connection, all_tables: Sequence[Tables]) -> None:
    """Bring all tables to where they should be. Raises what Alembic and the database raise."""
    from alembic import command

    for tables in all_tables:
        if tables.folder is None:
            tables.metadata.create_all(connection)
        else:
            command.upgrade(_config(tables, connection), "heads")


def differences(connection: Connection, all_tables: Sequence[Tables]) -> list[str]:
    """Where the database differs from what the code says, a sentence each."""
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    found = []
    for tables in all_tables:
        names = set(tables.metadata.tables)

        def ours(name: str | None, kind: str, parents: Any, names: set[str] = names) -> bool:
            return kind != "table" or name in names

        context = MigrationContext.configure(connection, opts={"include_name": ours, "compare_type": True})
        with warnings.catch_warnings():  # an index on an expression that only PostgreSQL is to have
            warnings.filterwarnings("ignore", "autogenerate skipping metadata-specified expression-based index")
            changes = compare_metadata(context, tables.metadata)
        found += [f"{tables.owner}: {_worded(change)}" for change in changes]
    return found


def _worded(change: Any) -> str:
    if isinstance(change, list):
        return "; ".join(_worded(one) for one in change)
    what, *rest = change
    words = [getattr(one, "name", None) or (one if isinstance(one, str) else None) for one in rest]
    return f"{what.replace('_', ' ')} {' '.join(str(word) for word in words if word)}".strip()


def _config(tables: Tables, connection: Connection) -> Any:
    from alembic.config import Config

    config = Config()
    for name, value in (
        ("script_location", str(HERE)),
        ("version_locations", str(tables.folder)),
        ("path_separator", "newline"),  # a folder may have any name
        ("version_path_separator", "newline"),
    ):
        config.set_main_option(name, value.replace("%", "%%"))
    config.attributes.update(connection=connection, metadata=tables.metadata, version_table=tables.version_table)
    return config
