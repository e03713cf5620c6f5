"""What is installed, what a checkout has at its top, and that a plugin's folder is like all others."""

from __future__ import annotations

import configparser
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from contextlib import chdir
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest
import tidegate
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = sorted(path.parent for kind in ("plugins", "plugin_contrib") for path in ROOT.glob(f"{kind}/*/setup.py"))
NAMES = [folder.name for folder in FOLDERS]
TOP = (
    {"setup.py", "server", "plugins", "plugin_contrib", "tests", "etc", "tox.ini"}  # the user's card
    | {"README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "LICENSE", "Makefile", ".ci", ".gitignore"}
)
HEADINGS = ["What it does", "Install", "Settings", "Commands", "Events", "Faults", "Example"]
each_plugin = pytest.mark.parametrize("folder", FOLDERS, ids=NAMES)


def tracked() -> list[str]:
    git = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True
    )
    if git.returncode:
        pytest.skip("not a git checkout")
    return [name for name in git.stdout.splitlines() if (ROOT / name).exists()]


@cache
def setup_of(folder: Path) -> Any:
    """What a setup.py says, as setuptools understands it."""
    from distutils.core import run_setup

    import setuptools  # noqa: F401  (brings distutils, which is not in the standard library any more)

    with chdir(folder):
        return run_setup("setup.py", stop_after="init")


def asked_by(folder: Path) -> dict[str, Requirement]:
    """The requirements of a distribution by name."""
    found = map(Requirement, setup_of(folder).install_requires)
    return {requirement.name.lower(): requirement for requirement in found}


# --- the repository -------------------------------------------------------------------------------


def test_the_top_level_is_the_card_and_its_company():
    assert {name.partition("/")[0] for name in tracked()} <= TOP


def test_names_of_test_files_are_unique():
    names = [Path(name).name for name in tracked() if Path(name).name.startswith("test_") and name.endswith(".py")]
    assert sorted({name for name in names if names.count(name) > 1}) == []


@pytest.mark.parametrize("folder", [ROOT, *FOLDERS], ids=["tidegate", *NAMES])
def test_a_setup_file_is_short(folder):
    assert len((folder / "setup.py").read_text().splitlines()) < 25


def test_every_plugin_has_its_line_where_a_list_is_unavoidable():
    tox = configparser.ConfigParser()
    tox.read(ROOT / "tox.ini")
    listed = {line.strip() for line in tox["tox"]["env_list"].splitlines()}
    readme = (ROOT / "README.md").read_text()
    missing = [f"tox.ini: env_list: {name}" for name in NAMES if name not in listed]
    missing += [
        f"README.md: {folder.relative_to(ROOT)}" for folder in FOLDERS if f"({folder.relative_to(ROOT)}" not in readme
    ]
    first = {folder.name for folder in FOLDERS if folder.parent.name == "plugins"}
    extras = {name: list(wanted) for name, wanted in setup_of(ROOT).extras_require.items()}
    missing += [f"setup.py: FIRST_PARTY: {name}" for name in sorted(first - set(extras))]
    assert missing == []
    assert extras == {name: [f"tidegate-{name}"] for name in first} | {
        "all": [f"tidegate-{name}" for name in sorted(first)]
    }


def test_tox_has_an_environment_for_every_python_that_the_package_says():
    listed = subprocess.run(
        [sys.executable, "-m", "tox", "list", "--no-desc"], cwd=ROOT, capture_output=True, text=True
    )
    environments = listed.stdout.split()
    assert {"py311", "py312", "py313", "lint", "types", "core", *NAMES} <= set(environments), listed.stderr
    assert str(setup_of(ROOT).python_requires) == ">=3.11"


def test_tools_have_a_lower_bound():
    lines = [line.partition("#")[0].strip() for line in (ROOT / "etc/requirements-dev.txt").read_text().splitlines()]
    loose = [line for line in lines if line and not any(spec.operator == ">=" for spec in Requirement(line).specifier)]
    assert loose == []


def test_a_news_fragment_is_named_so_that_it_is_found():
    kinds = {
        one["directory"]
        for one in tomllib.loads((ROOT / "etc/towncrier.toml").read_text())["tool"]["towncrier"]["type"]
    }
    fragments = [Path(name) for name in tracked() if "/news/" in name and Path(name).name != "README.md"]
    assert [str(path) for path in fragments if not re.fullmatch(rf"[\w+-]+\.({'|'.join(kinds)})\.md", path.name)] == []


def test_make_says_what_it_can_do():
    said = subprocess.run(["make", "-s"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert {"make serve", "make test", "make lint", "make types"} <= {
        " ".join(line.split()[:2]) for line in said.splitlines()
    }


def test_make_without_a_fitting_python_says_what_it_needs(tmp_path):
    """A machine whose only Pythons are too old, or are shims that don't run."""
    for name, body in {"python3": "exit 1", "python3.13": "exit 127"}.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{body}\n")
        (tmp_path / name).chmod(0o755)
    for tool in ("sh", "make", "echo"):
        (tmp_path / tool).symlink_to(shutil.which(tool))
    done = subprocess.run(
        ["make", "setup", f"VENV={tmp_path / 'venv'}"],
        cwd=ROOT,
        env={"PATH": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode != 0
    assert "Tidegate needs Python 3.11 or newer" in done.stderr


# --- the distributions ----------------------------------------------------------------------------


@pytest.fixture(scope="session")
def wheel(tmp_path_factory) -> zipfile.ZipFile:
    """The core as it would be released: built from its own source distribution, in a copy."""
    copy = tmp_path_factory.mktemp("source")
    shutil.copytree(ROOT / "server", copy / "server", ignore=shutil.ignore_patterns("*.egg-info", "__pycache__"))
    for name in ("setup.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    out = copy / "out"
    build = "import setuptools.build_meta as b, sys; print(b.build_sdist(sys.argv[1]))"
    subprocess.run([sys.executable, "-c", build, out], cwd=copy, check=True, capture_output=True)
    (archive,) = out.glob("*.tar.gz")
    with tarfile.open(archive) as tar:
        tar.extractall(out, filter="data")
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--disable-pip-version-check", "--no-deps"]
    subprocess.run([*pip, "--no-build-isolation", "-w", out, archive], check=True, capture_output=True)
    (built,) = out.glob("*.whl")
    return zipfile.ZipFile(built)


def test_the_wheel_has_every_module_and_what_is_not_code(wheel):
    package = ROOT / "server/tidegate"
    wanted = {
        str(path.relative_to(package.parent))
        for path in package.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert wanted - set(wheel.namelist()) == set()


def test_the_wheel_says_its_licence_and_nothing_of_a_test_or_a_plugin(wheel):
    names = wheel.namelist()
    (metadata,) = (wheel.read(name).decode() for name in names if name.endswith("METADATA"))
    assert re.search(r"^License(-Expression)?: Apache-2.0$", metadata, re.M)
    assert any(name.endswith("LICENSE") for name in names)
    assert not [name for name in names if name.startswith(("tests", "tidegate_", "plugins"))]


def test_an_installed_wheel_builds_a_server(wheel, tmp_path):
    """The wheel before the checkout, and beside it only what it asks for."""
    wheel.extractall(tmp_path / "site")
    program = "import tidegate; print(tidegate.__file__, len(tidegate.Server(only=['none']).commands))"
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={"PYTHONPATH": str(tmp_path / "site")},
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.stdout.startswith(str(tmp_path)), done.stderr


def test_every_public_name_is_there():
    assert [name for name in tidegate.__all__ if not hasattr(tidegate, name)] == []


# --- plugins --------------------------------------------------------------------------------------


@each_plugin
def test_a_plugins_folder_is_like_all_others(folder):
    for part in ("README.md", "CHANGELOG.md", f"tidegate_{folder.name}/__init__.py"):
        assert (folder / part).is_file(), part
    assert list((folder / "tests").glob("test_*.py"))


@each_plugin
def test_a_plugins_readme_has_the_same_headings(folder):
    found = re.findall(r"^## (.+)$", (folder / "README.md").read_text(), re.M)
    assert [name for name in found if name in HEADINGS] == HEADINGS


@each_plugin
def test_a_plugin_is_found_by_its_folders_name(folder):
    (point,) = (one for one in entry_points(group="tidegate") if one.name == folder.name)
    assert point.dist.name == f"tidegate-{folder.name}"
    plugin = point.load()
    assert issubclass(plugin, tidegate.Plugin)
    assert (plugin.__doc__ or "").strip(), "its first line is for the operator"


@each_plugin
def test_a_plugin_asks_for_the_core_and_for_what_it_needs(folder):
    (point,) = (one for one in entry_points(group="tidegate") if one.name == folder.name)
    asked = asked_by(folder)
    assert all(requirement.specifier for requirement in asked.values()), "each has a lower bound"
    assert {"tidegate", *(f"tidegate-{need}" for need in point.load().needs)} <= set(asked)


@each_plugin
def test_a_plugins_licence_and_python_are_those_of_the_core(folder):
    mine, core = setup_of(folder), setup_of(ROOT)
    assert mine.get_license() == core.get_license()
    assert mine.python_requires == core.python_requires
