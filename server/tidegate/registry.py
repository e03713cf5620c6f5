"""Finds the installed plugins, checks them, and puts them in order."""

from __future__ import annotations

import importlib
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from graphlib import CycleError, TopologicalSorter
from importlib.metadata import EntryPoint, PackageNotFoundError, entry_points, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pluggy

from tidegate import commands, hookspecs
from tidegate.model import Command
from tidegate.nearest import hint
from tidegate.onion import Decorating
from tidegate.plugin import RINGS, Plugin

if TYPE_CHECKING:
    from tidegate.config import Raw
    from tidegate.server import Server

GROUP = "tidegate"
_HOOKS = sorted(name for name in vars(hookspecs) if name.startswith("tidegate_"))


class StartRefused(Exception):
    """The server can't start as it is; `problems` has a paragraph each."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = list(problems)


class Found(NamedTuple):
    """A plugin class, and where it comes from."""

    name: str
    version: str
    distribution: str
    type: type[Plugin]

    def __str__(self) -> str:
        return f"plugin {self.name!r} ({self.distribution} {self.version})"


class Broken(NamedTuple):
    """A plugin that is installed and can't be used, and why."""

    name: str
    version: str
    distribution: str
    reason: str

    def __str__(self) -> str:
        return f"plugin {self.name!r} ({self.distribution} {self.version}) {self.reason}"


class Commands(Plugin):
    """The commands of one's own module, served with no packaging."""


def installed() -> list[EntryPoint]:
    """The entry points of all installed plugins, by name, so that every run has the same order."""
    return sorted(entry_points(group=GROUP), key=lambda point: (point.name, point.value))


def find(wanted: Callable[[str], bool]) -> tuple[list[Found], list[Broken]]:
    """Import the plugins that are wanted, each on its own, and look at what came.

    What is not wanted is not imported.
    """
    found: list[Found] = []
    broken: list[Broken] = []
    owners: dict[str, str] = {}
    for point in installed():
        if not wanted(point.name):
            continue
        dist = point.dist
        origin = (dist.name, dist.version) if dist is not None else ("?", "?")
        if (owner := owners.get(point.name)) is not None:
            if owner != origin[0]:
                broken.append(
                    Broken(point.name, *origin[::-1], f"has the same name as one of {owner}; uninstall one of them")
                )
            continue
        owners[point.name] = origin[0]
        try:
            loaded = point.load()
        except BaseException as error:  # an import may raise anything, SystemExit too
            if isinstance(error, KeyboardInterrupt):
                raise
            reason = f"failed to import: {type(error).__name__}: {error}; repair it, update it, or disable it"
            broken.append(Broken(point.name, origin[1], origin[0], reason))
            continue
        if unfit := _unfit(loaded):
            broken.append(Broken(point.name, origin[1], origin[0], unfit))
        else:
            found.append(Found(point.name, origin[1], origin[0], loaded))
    return found, broken


def _unfit(loaded: Any) -> str | None:
    """Why a class can't be a plugin of this server."""
    if not (isinstance(loaded, type) and issubclass(loaded, Plugin)):
        return f"is {loaded!r}, expected a subclass of tidegate.Plugin"
    major, minor = loaded.api
    if major != hookspecs.API[0] or minor > hookspecs.API[1]:
        mine = "{}.{}".format(*hookspecs.API)
        advice = "update it" if major < hookspecs.API[0] else "update tidegate, or install an older version of it"
        return f"speaks hook API {major}.{minor}, this server {mine}; {advice}"
    for kind in (loaded, *loaded.parts):
        if kind.ring is not None and kind.ring not in RINGS:
            return f"stands in ring {kind.ring!r}{hint(kind.ring, RINGS)} expected one of {', '.join(RINGS)}"
        if reason := _bad_hooks(kind):
            return reason
    return None


def _bad_hooks(kind: type[Plugin]) -> str | None:
    for name in dir(kind):
        options = getattr(getattr(kind, name, None), "tidegate_impl", None)
        if options is None:
            if name.startswith("tidegate_"):
                return f"defines {name} without @hookimpl"
            continue
        if name not in _HOOKS:
            return f"asks for a hook {name!r}, which does not exist{hint(name, _HOOKS)}"
        for flag in ("tryfirst", "trylast", "hookwrapper", "wrapper"):
            if options.get(flag) and (flag, name) != ("trylast", "tidegate_fault"):
                return f"marks {name} with {flag}; order is declared with `ring`"
    return None


class Registry:
    """The plugins of one server, in the order of the rings."""

    def __init__(self, server: Server, core: type[Plugin]) -> None:
        self.server = server
        self.core = core
        self.plugins: dict[str, Plugin] = {}
        self.found: dict[str, Found] = {}
        self.broken: list[Broken] = []
        self.decorating: list[Decorating] = []
        self.notices: list[str] = []
        self.manager = pluggy.PluginManager("tidegate")
        self.manager.add_hookspecs(hookspecs)

    def find(
        self,
        raw: Raw,
        *,
        extra: Mapping[str, type[Plugin]],
        only: Iterable[str] | None,
        without: Iterable[str],
    ) -> None:
        """Choose and import; raises StartRefused with everything that is wrong."""
        names = {point.name for point in installed()} | set(extra)
        only = None if only is None else {name for name in only if name != "none"}
        without = set(without)
        problems = [
            f"no plugin named {name!r} is installed{hint(name, names)}"
            for name in sorted((only or set()) | without)
            if name not in names
        ]

        def wanted(name: str) -> bool:
            if name in without or name in extra:
                return False
            return raw.core(name).enabled if only is None else name in only

        found, broken = find(wanted)
        found += [Found(name, _version_of(kind), kind.__module__, kind) for name, kind in sorted(extra.items())]
        for one in list(found):
            if reason := _unfit(one.type):
                found.remove(one)
                broken.append(Broken(one.name, one.version, one.distribution, reason))
        self.broken = broken
        self.found = {one.name: one for one in found}
        self._drop_needy()
        problems += [str(one) for one in self.broken if raw.core(one.name).required]
        self.server.refuse(problems)

    def _drop_needy(self) -> None:
        """Drop what needs a plugin that is not there, and then what needs that one."""
        while needy := [one for one in self.found.values() if not self.found.keys() >= set(one.type.needs)]:
            for one in needy:
                missing = next(need for need in one.type.needs if need not in self.found)
                self._drop(one, f"needs plugin {missing!r}, which is not there; install and enable it")

    def _drop(self, one: Found, reason: str) -> None:
        self.found.pop(one.name, None)
        self.broken.append(Broken(one.name, one.version, one.distribution, reason))

    def not_loaded(self) -> set[str]:
        """The plugins that are installed, or were given, and are not loaded: broken, or left out."""
        names = {point.name for point in installed()} | {one.name for one in self.broken}
        return names - self.found.keys()

    def schemas(self) -> dict[str, Mapping[str, Any]]:
        return {name: one.type.settings for name, one in self.found.items()}

    def make(self, configs: Mapping[str, Any], data: Path) -> None:
        """One instance each, configured and known to pluggy. Raises StartRefused."""
        problems = []
        core = Found("core", _core_version(), "tidegate", self.core)
        for one in (core, *self.found.values()):
            reason = "can't be made"
            try:
                plugin = one.type()
                plugin.name, plugin.version, plugin.distribution = one.name, one.version, one.distribution
                plugin.server = self.server
                plugin.config = configs.get(one.name)
                plugin.log = logging.getLogger(f"tidegate.{one.name}")
                plugin.data = data / one.name
                plugin.whole = plugin
                reason = "refuses its configuration"
                plugin.configure(plugin.config)
                self.manager.register(plugin, one.name)
            except Exception as error:
                reason = f"{reason}: {type(error).__name__}: {error}"
                if isinstance(error, pluggy.PluginValidationError):
                    reason = f"has a bad hook: {' '.join(str(error).split())}"
                    self.manager.unregister(name=one.name)
                if self._required(one.name):
                    problems.append(f"{one} {reason}")
                self._drop(one, reason)
                continue
            self.plugins[one.name] = plugin
        self.server.refuse(problems)
        self._order()

    def _required(self, name: str) -> bool:
        return name == "core" or self.server.raw.core(name).required

    def remove(self, name: str, reason: str) -> None:
        """Go on without a plugin that failed and is not required."""
        plugin = self.plugins.pop(name)
        self.manager.unregister(plugin)
        if (one := self.found.get(name)) is not None:
            self._drop(one, reason)
        self._order()

    def _order(self) -> None:
        decorating = []
        for name, plugin in self.plugins.items():
            for part in (plugin, *(self._part(plugin, kind) for kind in plugin.parts)):
                ring = self._ring(part.name, part)
                if ring is None:
                    continue
                if (hook := getattr(part, "tidegate_decorate", None)) is not None:
                    decorating.append(Decorating(part.name, ring, part, _taking(hook, ("command", "proceed"))))
            del name
        # Within a ring the core first, then by name.
        decorating.sort(key=lambda d: (RINGS.index(d.ring), d.plugin.whole.name != "core", d.name))
        self.decorating = decorating

    def _part(self, plugin: Plugin, kind: type[Plugin]) -> Plugin:
        part = kind()
        part.name = f"{plugin.name}.{kind.__name__.lower()}"
        part.version, part.distribution = plugin.version, plugin.distribution
        part.server, part.config, part.log, part.data = plugin.server, plugin.config, plugin.log, plugin.data
        part.whole = plugin
        return part

    def _ring(self, name: str, plugin: Plugin) -> str | None:
        moved = self.server.raw.core(name).ring
        return moved if moved is not None else plugin.ring

    # --- who does what ---------------------------------------------------------------------------

    def impls(self, hook: str) -> list[tuple[Plugin, Callable[..., Any]]]:
        """(plugin, function) for each implementation of a hook, by the plugin's place from the outside in; what is
        marked with `trylast` stands outermost."""
        places = self._places()
        caller = getattr(self.manager.hook, hook)
        names = tuple(caller.spec.argnames)
        impls = sorted(caller.get_hookimpls(), key=lambda impl: (not impl.trylast, places[impl.plugin.name]))
        return [(impl.plugin, _taking(impl.function, names, impl.argnames)) for impl in impls]

    def _places(self) -> dict[str, tuple[Any, ...]]:
        """Where a plugin stands: its innermost ring, the core before the others, then by name."""
        places = {}
        for name, plugin in self.plugins.items():
            rings = [d.ring for d in self.decorating if d.plugin.whole is plugin]
            ring = self._ring(name, plugin)
            innermost = max((RINGS.index(r) for r in (*rings, *([ring] if ring else []))), default=-1)
            places[name] = (innermost, name != "core", name)
        return places

    def serving_order(self) -> list[Plugin]:
        """The order in which `tidegate_serve` is entered: innermost ring first, then those without one,
        each after what it needs."""
        places = self._places()
        key = {n: (-p[0] if p[0] >= 0 else len(RINGS), n != "core", n) for n, p in places.items()}
        sorter = TopologicalSorter({name: set(p.needs) & set(self.plugins) for name, p in self.plugins.items()})
        try:
            sorter.prepare()
        except CycleError as error:
            raise StartRefused([f"plugins need each other in a circle: {' -> '.join(error.args[1])}"]) from None
        order = []
        ready: list[str] = []
        while sorter.is_active():
            ready = sorted([*ready, *sorter.get_ready()], key=key.__getitem__)
            name = ready.pop(0)
            order.append(self.plugins[name])
            sorter.done(name)
        return order

    def readers(self, note: str) -> tuple[str, ...]:
        return tuple(sorted(name for name, plugin in self.plugins.items() if note in self._all(plugin, "reads")))

    def provider(self, name: str) -> Plugin | None:
        return next((p for p in self.plugins.values() if name in self._all(p, "provides")), None)

    @staticmethod
    def _all(plugin: Plugin, attribute: str) -> set[str]:
        """What a plugin and its parts declare."""
        return set(getattr(plugin, attribute)).union(*(getattr(kind, attribute) for kind in plugin.parts))

    def offered(self, kind: str) -> list[tuple[str, Any]]:
        return sorted(
            ((name, p.offers[kind]) for name, p in self.plugins.items() if kind in p.offers),
            key=lambda row: row[0],
        )

    # --- commands --------------------------------------------------------------------------------

    def commands(self, modules: Sequence[str]) -> dict[str, Command]:
        """All commands by name. Raises StartRefused with everything that is wrong."""
        provided = {name for p in self.plugins.values() for name in self._all(p, "provides")}
        notes = {name for p in self.plugins.values() for name in self._all(p, "reads")}
        made: dict[str, Command] = {}
        problems: list[str] = []

        def add(plugin: Plugin, name: str, function: Callable[..., Any], given: Mapping[str, Any]) -> None:
            try:
                command = commands.build(name, function, given, plugin, provided, notes)
            except commands.Mistake as mistake:
                problems.append(f"plugin {plugin.name!r}: {mistake}")
                return
            if (other := made.get(name)) is not None:
                problems.append(
                    f"command {name!r} is brought by plugin {other.plugin.name!r} and by {plugin.name!r}; disable one"
                )
                return
            made[name] = command

        for plugin in list(self.plugins.values()):
            try:
                for row in commands.commands_of(plugin):
                    add(plugin, *row)
            except commands.Mistake as mistake:
                problems.append(f"plugin {plugin.name!r}: {mistake}")
        for plugin, give in self.impls("tidegate_commands"):
            try:
                for command in give():
                    add(plugin, command.name, command.function, command.notes)
            except Exception as error:
                problems.append(f"plugin {plugin.name!r}: tidegate_commands raised {type(error).__name__}: {error}")
        for name in modules:
            self._module(name, add, problems)
        self._check_notes(made, problems)
        self.server.refuse(problems)
        return dict(sorted(made.items()))

    def _module(self, name: str, add: Callable[..., None], problems: list[str]) -> None:
        try:
            module = importlib.import_module(name)
        except Exception as error:
            absent = isinstance(error, ModuleNotFoundError) and error.name == name.partition(".")[0]
            advice = "; start in the folder that it lies in" if absent else ""
            problems.append(f"commands: can't import {name!r}: {type(error).__name__}: {error}{advice}")
            return
        plugin = Commands()
        plugin.name, plugin.version, plugin.distribution = name, "", ""
        plugin.server, plugin.config = self.server, None
        plugin.log = logging.getLogger(name)
        plugin.whole = plugin
        plugin.data = self.server.data / name
        rows = commands.commands_in(module)
        if not rows:
            problems.append(f"commands: module {name!r} has no function marked with @command")
        for row in rows:
            add(plugin, *row)

    def _check_notes(self, made: Mapping[str, Command], problems: list[str]) -> None:
        """A note that nobody reads is reported; one that a command can't go without refuses the start."""
        idle: dict[str, list[str]] = {}
        for command in made.values():
            for note in command.notes:
                if self.readers(note):
                    continue
                known = commands.KNOWN_NOTES.get(note)
                if known is not None and known.needed:
                    problems.append(
                        f"command {command.name!r} has the note {note!r}, which plugin {known.reader!r} carries out; "
                        f"install tidegate-{known.reader} and enable it"
                    )
                elif known is None or (known.told and known.reader != "core"):
                    idle.setdefault(note, []).append(command.name)
        self.notices = [_idle_note(note, names) for note, names in sorted(idle.items())]


def _idle_note(note: str, names: list[str]) -> str:
    known = commands.KNOWN_NOTES.get(note)
    why = "is read by nobody" if known is None else f"has no effect without tidegate-{known.reader}"
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f"the note {note!r} {why}; it is on {', '.join(names[:3])}{more}"


def _taking(
    function: Callable[..., Any], names: tuple[str, ...], taken: Sequence[str] | None = None
) -> Callable[..., Any]:
    """A hook implementation may take fewer arguments than the hook has."""
    if taken is None:
        code = function.__code__
        first = 1 if hasattr(function, "__self__") else 0
        taken = code.co_varnames[first : code.co_argcount]
    if tuple(taken) == names:
        return function
    places = [names.index(name) for name in taken]
    return lambda *given: function(*(given[place] for place in places))


def _version_of(kind: type[Plugin]) -> str:
    return str(getattr(kind, "version", "0"))


def _core_version() -> str:
    try:
        return version("tidegate")
    except PackageNotFoundError:
        return "0"
