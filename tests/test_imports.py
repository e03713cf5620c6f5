"""Who may import whom, read from the source."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import tidegate

ROOT = Path(__file__).resolve().parents[1]
CORE = ROOT / "server/tidegate"
PLUGINS = sorted(path for kind in ("plugins", "plugin_contrib") for path in ROOT.glob(f"{kind}/*/tidegate_*"))

#: What a plugin may import of the core, beside the names of `tidegate` itself.
PUBLIC = {"tidegate", "tidegate.faults"}
#: What a plugin's command-line part may import besides: it talks to a server, or builds one and enters no life.
PUBLIC_TO_PROGRAMS = {"tidegate.config", "tidegate.cli.display", "tidegate.cli.options", "tidegate.cli.remote"}

#: Where the distribution is called otherwise than what it gives to import; gevent comes with the core.
DISTRIBUTIONS = {"gevent": "tidegate", "greenlet": "gevent", "argon2": "argon2-cffi"}

#: Module of the core -> what it may import beside the standard library, itself or through what it imports.
REACH = {
    "faults": set(),
    "hookspecs": {"pluggy"},
    "plugin": {"pluggy"},
    "model": {"pluggy", "msgspec"},
    "topics": set(),
    "config": {"pluggy", "msgspec", "cerberus"},
    "codecs": {"pluggy", "msgspec"},
    "__init__": {"pluggy", "msgspec"},
}
#: Of each other these import nothing else of the core.
NOUNS = {"faults", "hookspecs", "model", "plugin"}


def imports(path: Path, *, late: bool = True) -> Iterator[str]:
    """The full names of the modules that a file imports, save for type checkers; `late`: in functions too."""
    package = path.parent.name if path.is_relative_to(CORE) else ""
    todo: list[ast.AST] = [ast.parse(path.read_text())]
    while todo:
        node = todo.pop()
        if isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
            todo += node.orelse
            continue
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) and not late:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: imports are absolute"
            yield node.module or package
            yield from (f"{node.module}.{alias.name}" for alias in node.names if is_core(f"{node.module}.{alias.name}"))
        else:
            todo += ast.iter_child_nodes(node)


def is_core(name: str) -> bool:
    """Whether it is a module of the core, as opposed to a name in one."""
    path = ROOT / "server" / Path(*name.split("."))
    return name.startswith("tidegate.") and (path.is_dir() or path.with_suffix(".py").is_file())


def core_file(name: str) -> Path:
    path = ROOT / "server" / Path(*name.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def reached(name: str, *, late: bool) -> tuple[set[str], set[str]]:
    """What importing a module of the core brings: (modules of the core, top-level packages of others)."""
    core, others, todo = set(), set(), [f"tidegate.{name}" if name != "__init__" else "tidegate"]
    while todo:
        module = todo.pop()
        if module in core:
            continue
        core.add(module)
        for found in imports(core_file(module), late=late):
            if found == "tidegate" or is_core(found):
                todo.append(found)
            elif (top := found.partition(".")[0]) != "tidegate" and top not in sys.stdlib_module_names:
                others.add(top)
    return core, others


@pytest.mark.parametrize("name", REACH)
def test_a_module_of_the_vocabulary_reaches_no_library_but_its_own(name):
    _, others = reached(name, late=False)
    assert others <= REACH[name]


@pytest.mark.parametrize("name", sorted(NOUNS))
def test_the_nouns_import_only_each_other(name):
    path = core_file(f"tidegate.{name}")
    files = path.parent.glob("*.py") if path.name == "__init__.py" else [path]
    found = {module for file in files for module in imports(file, late=False) if module.startswith("tidegate")}
    assert {".".join(module.split(".")[:2]) for module in found} <= {f"tidegate.{noun}" for noun in NOUNS}


def test_codecs_know_no_event_loop_and_no_socket():
    core, others = reached("codecs", late=True)
    assert "gevent" not in others
    assert "socket" not in set(imports(CORE / "codecs.py"))
    assert "tidegate.server" not in core


def test_the_core_imports_no_plugin():
    for path in CORE.rglob("*.py"):
        if "scaffold" not in path.parts:
            assert not [name for name in imports(path) if name.startswith("tidegate_")], path


def test_importing_the_package_brings_no_socket_no_tls_and_no_event_loop():
    program = "import sys, tidegate; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    heavy = {"socket", "ssl", "gevent", "cerberus", "sqlalchemy", "tidegate.server"} & set(done.stdout.split())
    assert heavy == set()


def test_the_program_patches_before_it_loads_anything():
    body = [ast.unparse(node) for node in ast.parse((CORE / "__main__.py").read_text()).body[1:]]
    patched = next(place for place, text in enumerate(body) if "monkey.patch_all()" in text)
    assert body[:patched] == ["import sys"]


@pytest.mark.parametrize("package", PLUGINS, ids=lambda path: path.name)
def test_a_plugin_imports_the_public_names_and_no_other_plugin(package):
    for path in package.rglob("*.py"):
        tree = ast.parse(path.read_text())
        allowed = PUBLIC | (PUBLIC_TO_PROGRAMS if "cli" in path.stem else set())
        for name in imports(path):
            top = name.partition(".")[0]
            assert not (top.startswith("tidegate_") and top != package.name), f"{path} imports {name}"
            assert top != "tidegate" or name in allowed, f"{path} imports {name}, which is not public"
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module == "tidegate":
                private = {alias.name for alias in node.names} - {*tidegate.__all__, "faults"}
                assert not private, f"{path} takes {private} of tidegate"


@pytest.mark.parametrize("package", PLUGINS, ids=lambda path: path.name)
def test_a_plugin_asks_for_all_that_it_imports(package):
    asked = (package.parent / "setup.py").read_text().lower().replace("-", "_")
    for path in package.rglob("*.py"):
        for name in imports(path):
            top = name.partition(".")[0]
            if top in sys.stdlib_module_names or top == package.name:
                continue
            wanted = DISTRIBUTIONS.get(top, top).lower().replace("-", "_")
            assert wanted in asked, f"{path} imports {top}; its setup.py does not ask for {wanted}"
