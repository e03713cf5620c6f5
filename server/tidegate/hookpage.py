"""The page docs/hooks.md, made from the hookspecs."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator
from typing import Any

from tidegate import hookspecs

_TOP = f"""\
# Hooks

Every hook that a plugin may implement, in the order in which a server meets it. This page is made from
`tidegate/hookspecs.py`; change that. [plugins.md](plugins.md) shows how a plugin is written.

The hook API is {".".join(map(str, hookspecs.API))}: a plugin states `api = {hookspecs.API}` and is loaded when
the major number is the server's and the minor not above it. A plugin implements a hook by defining a
method of its name, marked with `@hookimpl`; `self` comes first, and arguments that are not needed may be left out.
"""
_SECTION = re.compile(r"^# --- (.+?) -+$|^def (tidegate_\w+)\(", re.M)
# The words that open a part of a docstring.
_PART = re.compile(r"(?<!\S)(When|Cost):")


def hooks() -> dict[str, Callable[..., Any]]:
    """Each hook's specification by name, in the order of the source."""
    return {name: fn for name, fn in vars(hookspecs).items() if name.startswith("tidegate_")}


def reference() -> str:
    """The page docs/hooks.md, in Markdown."""
    lines = [_TOP, "| hook | for |", "|---|---|"]
    for name, hook in hooks().items():
        summary = (inspect.getdoc(hook) or "").partition("\n\n")[0].replace("\n", " ").replace("|", "\\|")
        lines.append(f"| [`{name}`](#{name}) | {summary} |")
    for section, name in _sections():
        lines += ["", f"## {section[:1].upper()}{section[1:]}"] if section else ["", *_hook(name)]
    return "\n".join(lines) + "\n"


def _sections() -> Iterator[tuple[str, str]]:
    """The headings of the source and the hooks below them: (heading, "") or ("", hook)."""
    for match in _SECTION.finditer(inspect.getsource(hookspecs)):
        yield match[1] or "", match[2] or ""


def _hook(name: str) -> Iterator[str]:
    hook = hooks()[name]
    signature = inspect.signature(hook)
    yield from (f"### {name}", "", "```python", f"def {name}{signature}".replace("'", ""), "```", "")
    if getattr(hook, "tidegate_spec", {}).get("firstresult"):
        yield from ("The first result that is not None is taken; who comes later is not asked.", "")
    yield _PART.sub(r"**\1:**", inspect.getdoc(hook) or "")
