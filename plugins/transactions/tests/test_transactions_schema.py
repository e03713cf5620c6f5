"""Tables and migrations: `tidegate db`, and what `serve` does with a database that is behind."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

MODELS = """
from sqlalchemy import Column, ForeignKey, Integer, MetaData, String, Table
from tidegate import command

metadata = MetaData()
pot = Table("pot", metadata, Column("id", Integer, primary_key=True), Column("name", String(20)){more})
tables = (metadata, "migrations in use")

@command("pot.count", transaction="read")
def count(db):
    return db.query(pot).count()
"""
FIRST = """
import sqlalchemy as sa
from alembic import op
revision, down_revision = "a1", None

def upgrade():
    op.create_table("pot", sa.Column("id", sa.Integer, primary_key=True), sa.Column("name", sa.String(20)))

def downgrade():
    op.drop_table("pot")
"""
SECOND = """
import sqlalchemy as sa
from alembic import op
revision, down_revision = "a2", "a1"

def upgrade():
    op.add_column("pot", sa.Column("size", sa.Integer))
    {broken}

def downgrade():
    op.drop_column("pot", "size")
"""


class Project:
    """A folder with a module, its migrations and a configuration."""

    def __init__(self, folder: Path, url: str = "") -> None:
        self.folder = folder
        (folder / "migrations in use").mkdir()
        self.at_first()
        self.config = folder / "tidegate.toml"
        self.config.write_text(
            f'[server]\ndata = "{folder}/data"\ncommands = ["pots"]\n[[listen]]\naddress = "127.0.0.1:0"\n'
            f'[plugins.transactions]\ntables = ["pots:tables"]\nconnect_timeout_s = 60\nurl = "{url}"\n'
        )

    def at_first(self) -> None:
        (self.folder / "pots.py").write_text(MODELS.replace("{more}", ""))
        (self.folder / "migrations in use" / "one.py").write_text(FIRST)

    def later(self, broken: str = "pass") -> None:
        (self.folder / "pots.py").write_text(MODELS.replace("{more}", ', Column("size", Integer)'))
        (self.folder / "migrations in use" / "two.py").write_text(SECOND.replace("{broken}", broken))

    def run(self, *args: str) -> tuple[int, str]:
        done = subprocess.run(
            [sys.executable, "-m", "tidegate", *args, "--config", str(self.config), "--only", "transactions"],
            cwd=self.folder,
            env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
            capture_output=True,
            text=True,
            timeout=60,
        )
        return done.returncode, done.stdout + done.stderr

    def serve(self) -> subprocess.Popen[str]:
        """A server that is up."""
        process = subprocess.Popen(
            [sys.executable, "-m", "tidegate", "serve", "--config", str(self.config), "--only", "transactions"],
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert "serves on" in process.stdout.readline()
        return process


def end(process: subprocess.Popen[str]) -> None:
    process.terminate()
    assert process.wait(20) == 0
    process.stdout.close()


@pytest.fixture(params=["sqlite", "postgresql"])
def project(request, tmp_path):
    return Project(tmp_path, "" if request.param == "sqlite" else request.getfixturevalue("database"))


def test_upgrade_current_and_check_on_the_way_from_one_version_to_the_next(project):
    code, out = project.run("db", "current")
    assert code == 1
    assert "behind" in out
    assert project.run("db", "upgrade")[0] == 0
    assert project.run("db", "current")[0] == 0
    assert project.run("db", "check") == (0, "the database is as it should be\n")
    project.later()
    code, out = project.run("db", "current", "--json")
    rows = {row["owner"]: row for row in json.loads(out)}
    assert code == 1
    assert rows["pots"]["behind"]
    assert rows["pots"]["wanted"] == ["a2"]
    assert not rows["transactions"]["behind"]
    code, out = project.run("db", "upgrade")
    assert code == 0
    assert "pots: upgraded" in out
    assert "transactions: nothing to do" in out
    assert project.run("db", "check")[0] == 0


def test_an_upgrade_that_fails_changes_nothing(project):
    project.run("db", "upgrade")
    project.later(broken="op.execute('NO SUCH STATEMENT')")
    code, out = project.run("db", "upgrade")
    assert code == 1
    assert "Traceback" not in out
    project.later()
    assert project.run("db", "upgrade")[0] == 0, "the column was there already"


def test_check_tells_a_difference_between_code_and_database(project):
    project.run("db", "upgrade")
    (project.folder / "pots.py").write_text(MODELS.replace("{more}", ', Column("colour", Integer)'))
    code, out = project.run("db", "check")
    assert code == 1
    assert "pots: add column pot colour" in out


def test_serve_upgrades_an_sqlite_database_and_refuses_one_when_told_so(tmp_path):
    project = Project(tmp_path)
    end(project.serve())
    assert project.run("db", "current")[0] == 0
    project.later()
    project.config.write_text(project.config.read_text() + 'upgrade = "never"\n')
    code, out = project.run("serve")
    assert code == 1
    assert "tidegate db upgrade" in out
    project.config.write_text(project.config.read_text().replace("never", "auto"))
    end(project.serve())


def test_serve_refuses_a_postgresql_database_that_is_behind(tmp_path, database):
    project = Project(tmp_path, database)
    code, out = project.run("serve")
    assert code == 1
    assert "tidegate db upgrade" in out
    project.run("db", "upgrade")
    end(project.serve())


def test_serve_refuses_a_database_of_a_newer_version(tmp_path):
    project = Project(tmp_path)
    project.later()
    project.run("db", "upgrade")
    (tmp_path / "migrations in use" / "two.py").unlink()
    project.at_first()
    code, out = project.run("serve")
    assert code == 1
    assert "a2" in out


def test_a_constraint_that_fails_only_at_commit_is_refused_by_check(tmp_path):
    project = Project(tmp_path)
    models = MODELS.replace("{more}", ', Column("up", ForeignKey("pot.id", deferrable=True, initially="DEFERRED"))')
    (tmp_path / "pots.py").write_text(models.replace('(metadata, "migrations in use")', "metadata"))
    project.run("db", "upgrade")
    code, out = project.run("db", "check")
    assert code == 1
    assert "'pot'" in out
    assert "deferred" in out


def test_a_backup_made_while_the_server_writes_is_whole(tmp_path, shop):
    import threading

    server = shop()
    with server.client() as client:
        client.call("bank.open", count=2, balance=1000)
    stop = threading.Event()

    def write():
        with server.client() as client:
            number = 0
            while not stop.is_set():
                client.call("bank.move", source=0, target=1, amount=1, token=f"t{(number := number + 1)}")
                if number > 900:
                    break

    writer = threading.Thread(target=write)
    writer.start()
    copy = tmp_path / "copy.sqlite"
    done = subprocess.run(
        [sys.executable, "-m", "tidegate", "db", "backup", "--config", str(server.config), "--data", str(server.data),
         "--only", "transactions", str(copy)],
        capture_output=True, text=True, timeout=60, env={**os.environ, "PYTHONPATH": str(Path(__file__).parent)},
    )  # fmt: skip
    stop.set()
    writer.join()
    assert done.returncode == 0, done.stderr
    with sqlite3.connect(copy) as db:
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        (moved,) = db.execute("SELECT count(*) FROM transfer").fetchone()
        assert db.execute("SELECT balance FROM account ORDER BY id").fetchall() == [(1000 - moved,), (1000 + moved,)]
    again = subprocess.run(
        [sys.executable, "-m", "tidegate", "db", "backup", "--config", str(server.config), "--data", str(server.data),
         "--only", "transactions", str(copy)],
        capture_output=True, text=True, timeout=60, env={**os.environ, "PYTHONPATH": str(Path(__file__).parent)},
    )  # fmt: skip
    assert again.returncode == 1
    assert "--force" in again.stderr


def test_a_backup_of_postgresql_is_an_archive(tmp_path, database, need):
    need("pg_dump")
    project = Project(tmp_path, database)
    project.run("db", "upgrade")
    code, out = project.run("db", "backup", str(tmp_path / "copy.dump"))
    assert code == 0, out
    assert (tmp_path / "copy.dump").read_bytes().startswith(b"PGDMP")


def test_an_offer_that_is_no_metadata_refuses_the_start(inside):
    from tidegate import Plugin
    from tidegate_transactions import Transactions

    class Wrong(Plugin):
        offers = {"tables": "tables.sql"}

    with pytest.raises(Exception, match="expected a MetaData"):
        inside(plugins={"transactions": Transactions, "wrong": Wrong})
