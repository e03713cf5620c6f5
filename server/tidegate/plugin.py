"""The base class that a plugin author subclasses, and the marker for hooks."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import pluggy

if TYPE_CHECKING:
    from tidegate.server import Server

hookimpl = pluggy.HookimplMarker("tidegate")

#: Outermost first (design.md, section 3).
RINGS = ("observe", "guard", "identify", "admit", "check", "answer", "scope")


class Plugin:
    """One plugin. Class attributes are data; the registry makes one instance for each server."""

    api: ClassVar[tuple[int, int]] = (1, 0)
    #: Where its decorators stand, one of RINGS; None decorates nothing.
    ring: str | None = None
    #: Work in more rings: each its own `ring`; `self.whole` is the plugin.
    parts: ClassVar[tuple[type[Plugin], ...]] = ()
    #: Plugins without which it refuses to start.
    needs: ClassVar[tuple[str, ...]] = ()
    #: Notes it carries out, envelope members it claims, arguments it injects, topics it hears ("*": all).
    reads: ClassVar[frozenset[str] | set[str]] = frozenset()
    claims: ClassVar[frozenset[str] | set[str]] = frozenset()
    provides: ClassVar[frozenset[str] | set[str]] = frozenset()
    listens: ClassVar[frozenset[str] | set[str]] = frozenset()
    #: Its own topics and their fields.
    topics: ClassVar[dict[str, tuple[str, ...]]] = {}
    #: Cerberus schema of [plugins.NAME].
    settings: ClassVar[dict[str, Any]] = {}
    offers: ClassVar[dict[str, Any]] = {}
    commands: ClassVar[tuple[Any, ...]] = ()

    # Set by the registry before configure().
    name: str
    version: str
    distribution: str
    server: Server
    config: Any
    log: logging.Logger
    data: Path
    whole: Plugin

    def configure(self, config: Any) -> None:
        """Take the settings, as attributes of `config`. At load and at each reload; no I/O.

        The decorators are composed anew afterwards. Raise ValueError to refuse
        a configuration; nothing may have been changed by then.
        """

    def provided(self, name: str) -> Any:
        """The factory behind `server.provided(name)`, for each name in `provides`."""
        raise NotImplementedError(f"plugin {self.name!r} has no factory for {name!r}")
