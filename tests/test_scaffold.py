"""`tidegate plugin new`: what it writes works as it is, installed and tested as its README says."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import sysconfig
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

PATHS = {
    "CHANGELOG.md",
    "README.md",
    "setup.py",
    "tests/test_tide_table.py",
    "tidegate_tide_table/__init__.py",
}
HEADINGS = ["What it does", "Install", "Settings", "Commands", "Events", "Faults", "Example"]


def run(*words: Any, cwd: Path, python: Path | str = sys.executable) -> subprocess.CompletedProcess[str]:
    env = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    return subprocess.run(
        [python, "-m", *map(str, words)], cwd=cwd, env=env, capture_output=True, text=True, timeout=110
    )


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new distribution, in the folder that it gets by itself."""
    folder = tmp_path_factory.mktemp("new")
    ran = run("tidegate", "plugin", "new", "tide-table", "--description", "When to sail.", cwd=folder)
    assert ran.returncode == 0, ran.stderr
    return folder / "tidegate-tide-table"


@pytest.fixture(scope="module")
def installed(written: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of a new environment which has the plugin, and all that this one has."""
    folder = tmp_path_factory.mktemp("env")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    python = folder / "bin/python"
    asked = [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
    site = subprocess.run(asked, check=True, capture_output=True, text=True).stdout.strip()
    ours = sysconfig.get_path("purelib")
    (Path(site) / "ours.pth").write_text(f"import site; site.addsitedir({ours!r})\n")
    pip = ("pip", "--python", python, "install", "--quiet", "--disable-pip-version-check", "--no-deps")
    ran = run(*pip, "--no-build-isolation", "--editable", written, cwd=folder)
    assert ran.returncode == 0, ran.stderr
    return python


def test_it_writes_a_whole_distribution_and_nothing_else(written: Path) -> None:
    files = {str(path.relative_to(written)) for path in written.rglob("*") if path.is_file()}
    assert {name for name in files if "egg-info" not in name and "__pycache__" not in name} == PATHS


def test_nothing_is_left_to_fill_in(written: Path) -> None:
    for path in PATHS:
        text = (written / path).read_text()
        assert re.findall(r"\$\w+|\$\{|NAME|TODO", text) == [], path
    assert "When to sail" in (written / "README.md").read_text()
    assert len((written / "setup.py").read_text().splitlines()) < 25
    found = re.findall(r"^## (.+)$", (written / "README.md").read_text(), re.M)
    assert [heading for heading in found if heading in HEADINGS] == HEADINGS


def test_its_own_test_passes_as_it_is(written: Path, installed: Path) -> None:
    ran = run("pytest", "-q", "-p", "no:cacheprovider", cwd=written, python=installed)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "1 passed" in ran.stdout


def test_it_is_listed_and_its_command_and_decorator_are_there(installed: Path, tmp_path: Path) -> None:
    only = ("--only", "tide_table")
    listed = run("tidegate", "plugins", *only, cwd=tmp_path, python=installed).stdout
    assert re.search(r"^tide_table +0\.1\.0 +tidegate-tide-table +check +decorate +ok$", listed, re.M), listed
    shut = ("--set", 'plugins.tide_table.shut_out=["Mallory"]')
    explained = run("tidegate", "explain", "tide_table.hello", *only, *shut, cwd=tmp_path, python=installed).stdout
    assert re.search(r"^check +tide_table ", explained, re.M), explained


def test_it_is_clean_by_the_rules_of_this_repository(written: Path) -> None:
    config = Path(__file__).resolve().parents[1] / "etc/ruff.toml"
    for check in (["check"], ["format", "--check"]):
        ran = run("ruff", *check, "--config", config, "--no-cache", written, cwd=written)
        assert ran.returncode == 0, ran.stdout


def test_the_package_is_typed(written: Path) -> None:
    ran = run("mypy", "--strict", "--cache-dir", os.devnull, written / "tidegate_tide_table", cwd=written)
    assert ran.returncode == 0, ran.stdout


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (["Tide"], 2, "expected small letters"),
        (["tide table"], 2, "expected small letters"),
        (["../tide"], 2, "expected small letters"),
        (["core"], 1, "belongs to tidegate"),
        (["none"], 1, "belongs to tidegate"),
        (["weather", "--into", "."], 1, "expected an empty or a new folder"),
    ],
)
def test_what_would_not_work_is_refused_before_anything_is_written(
    tmp_path: Path, words: list[str], code: int, told: str
) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    ran = run("tidegate", "plugin", "new", *words, cwd=tmp_path)
    assert ran.returncode == code
    assert told in ran.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_the_version_that_it_asks_for_is_the_one_that_wrote_it(written: Path) -> None:
    assert f'install_requires=["tidegate>={version("tidegate")}"]' in (written / "setup.py").read_text()
