"""The tables as the migrations make them are those that the code wants."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_db_check_finds_the_migrated_tables_as_the_code_wants_them(kind, request, tmp_path):
    url = f'url = "{request.getfixturevalue("postgres").database()}"\n' if kind == "postgresql" else ""
    config = tmp_path / "chat.toml"
    config.write_text(f'[server]\ndata = "{tmp_path}/data"\n[plugins.transactions]\nconnect_timeout_s = 60\n{url}')

    def db(verb: str) -> tuple[int, str]:
        command = [sys.executable, "-m", "tidegate", "db", verb, "--config", str(config)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=100)
        return done.returncode, done.stdout + done.stderr

    code, said = db("upgrade")
    assert (code, "chat" in said) == (0, True), said
    assert db("check") == (0, "the database is as it should be\n")
