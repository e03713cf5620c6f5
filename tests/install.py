"""Install the core, with what is asked for beside it, into the environment that runs this: for tox.

    python tests/install.py             the core and no plugin
    python tests/install.py --all       the core and every plugin of the repository
    python tests/install.py errors      the core, one plugin and the plugins that it needs

Plugins are not asked for by name from a package index: the folders beside this one are what is tested.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def folders() -> dict[str, Path]:
    """Each plugin's folder by its name."""
    found = (path.parent for kind in ("plugins", "plugin_contrib") for path in ROOT.glob(f"{kind}/*/setup.py"))
    return {folder.name: folder for folder in sorted(found)}


def needed(names: Iterable[str], known: dict[str, Path]) -> Iterator[Path]:
    """The folders of these plugins, and of those that their setup.py asks for."""
    todo, seen = list(names), set()
    while todo:
        if (name := todo.pop()) in seen:
            continue
        seen.add(name)
        yield known[name]
        asked = re.findall(r"""["']tidegate-([a-z0-9_-]+)""", (known[name] / "setup.py").read_text())
        todo += [other for other in asked if other in known]


def main(arguments: list[str]) -> int:
    known = folders()
    names = known if arguments == ["--all"] else arguments
    if unknown := [name for name in names if name not in known]:
        print(f"no plugin {unknown[0]!r}; there are: {', '.join(known) or 'none'}", file=sys.stderr)
        return 2
    editable = [f"--editable={folder}" for folder in (ROOT, *sorted(needed(names, known)))]
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    return subprocess.call([*pip, *editable])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
