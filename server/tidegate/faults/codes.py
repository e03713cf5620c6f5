"""All faults by code: the core's and those that plugins offer, and the page made from the classes."""

from __future__ import annotations

from collections.abc import Iterable

from tidegate.faults import authentication, database, protocol, resource, security, system, validation
from tidegate.faults.fault import OUTER, Fault

FIRST_FREE_CODE = 2000  # a third party's faults have codes from here up

_FAMILIES = (authentication, validation, database, system, security, resource, protocol)


class Catalogue(dict[int, type[Fault]]):
    """Fault classes by code, in the order of their codes; `owners` says whose each code is."""

    def __init__(self, faults: dict[int, type[Fault]], owners: dict[int, str]) -> None:
        super().__init__(sorted(faults.items()))
        self.owners = owners


def catalogue() -> Catalogue:
    """The core's 80 classes, owned by `tidegate`."""
    faults = {
        kind.code: kind
        for family in _FAMILIES
        for kind in vars(family).values()
        if isinstance(kind, type) and issubclass(kind, Fault) and "code" in vars(kind) and kind is not Fault
    }
    return Catalogue(faults, dict.fromkeys(faults, "tidegate"))


def merge(known: Catalogue, owner: str, classes: Iterable[type[Fault]]) -> Catalogue:
    """A new catalogue: `known` and what the plugin `owner` offers; `known` stays as it is.

    Raises ValueError, naming all that is wrong and both owners of a code or name wanted twice.
    """
    faults, owners = dict(known), dict(known.owners)
    names = {kind.__name__: code for code, kind in faults.items()}
    problems = []
    for kind in classes:
        if not (isinstance(kind, type) and issubclass(kind, Fault)):
            problems.append(f"expected a subclass of Fault, found {kind!r}")
            continue
        code, name = kind.code, kind.__name__
        if faults.get(code) is kind and owners[code] == owner:
            continue
        if not isinstance(code, int) or code < FIRST_FREE_CODE:
            problems.append(f"{name}.code: expected {FIRST_FREE_CODE} or above, found {code!r}")
        elif code in faults:
            problems.append(f"{name}.code: {code} is already {faults[code].__name__} of plugin {owners[code]!r}")
        elif name in names:
            problems.append(f"{name}: plugin {owners[names[name]]!r} has a fault of that name, {names[name]}")
        else:
            faults[code], owners[code], names[name] = kind, owner, code
    if problems:
        raise ValueError(f"faults of plugin {owner!r}: " + "; ".join(problems))
    return Catalogue(faults, owners)


def reference() -> str:
    """The page docs/faults.md, in Markdown."""
    lines = [
        "# Faults",
        "",
        "Every fault that a client may get. This page is made from the classes in",
        "`tidegate.faults`; change those. The outer `code` of a reply is JSON-RPC's own where that",
        "has one, else the same code; [protocol.md](protocol.md#errors) says how a fault looks on",
        f"the wire. A third party's faults have codes from {FIRST_FREE_CODE} up.",
    ]
    family: type[Fault] | None = None
    for code, kind in catalogue().items():
        if (base := kind.__mro__[1]) is not family:
            family = base
            lines += ["", f"## {base.__name__}", "", base.__doc__ or "", ""]
            lines += ["| code | JSON-RPC | class | severity | log | recovery | closes | when | message |"]
            lines += ["|---|---|---|---|---|---|---|---|---|"]
        cells = (
            *(code, OUTER.get(code, ""), f"`{kind.__name__}`", kind.severity, kind.level),
            *(kind.recovery, "yes" if kind.closes else "", kind.__doc__, kind.message),
        )
        lines.append("| " + " | ".join(map(str, cells)).replace("|  |", "| |") + " |")
    return "\n".join(lines) + "\n"
