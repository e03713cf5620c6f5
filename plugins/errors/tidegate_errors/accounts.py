"""What failed, how often, where: counts by code, command, family and severity; groups of the same failure."""

from __future__ import annotations

from collections import Counter, OrderedDict
from typing import Any

from tidegate import Fault

from tidegate_errors.fingerprint import Print

_MAX_COUNTED = 10_000  # pairs of command and code
_MAX_SHOWN = 100  # commands in a report
#: Faults from here up are failures that somebody should look at, and are grouped.
GROUPED = frozenset({"medium", "high", "critical"})


class Group:
    """Failures with one fingerprint, and a sample of them."""

    __slots__ = ("code", "commands", "count", "first", "last", "print", "request_id", "trace", "type")

    def __init__(self, print: Print, fault: Fault, at: float, request_id: str, trace: str) -> None:
        self.print = print
        self.code = fault.code
        self.type = fault.type
        self.count = 0
        self.first = self.last = at
        self.commands: set[str] = set()
        self.request_id = request_id
        self.trace = trace

    def report(self) -> dict[str, Any]:
        return {
            "fingerprint": self.print.id,
            "error": self.print.type,
            "where": self.print.where,
            "code": self.code,
            "type": self.type,
            "count": self.count,
            "first": round(self.first, 3),
            "last": round(self.last, 3),
            "commands": sorted(self.commands),
            "request_id": self.request_id,
            "trace": self.trace,
        }


class Accounts:
    """Counts since `since` (wall clock), in bounded memory. The groups seen last are kept, at most `groups`."""

    def __init__(self, since: float, groups: int) -> None:
        self.groups = groups
        self.failed = 0
        self.clear(since)

    def clear(self, since: float) -> None:
        """Forget all but the total, which only grows."""
        self.since = since
        self.before = self.failed
        self._pairs: dict[tuple[str, int], int] = {}
        self._codes: dict[int, list[Any]] = {}  # class, count, first, last
        self._groups: OrderedDict[str, Group] = OrderedDict()

    def count(self, command: str | None, kind: type[Fault], at: float) -> None:
        """One more. `command` None: it failed before there was a call."""
        self.failed += 1
        pair = (command or "", kind.code)
        if pair in self._pairs or len(self._pairs) < _MAX_COUNTED:
            self._pairs[pair] = self._pairs.get(pair, 0) + 1
        row = self._codes.setdefault(kind.code, [kind, 0, at, at])
        row[1] += 1
        row[3] = at

    def group(self, print: Print) -> Group | None:
        """The group that is there already; it is then the one seen last."""
        if (group := self._groups.get(print.id)) is not None:
            self._groups.move_to_end(print.id)
        return group

    def add(self, group: Group) -> None:
        """A new group. The one not seen for the longest goes when there are too many."""
        self._groups[group.print.id] = group
        while len(self._groups) > self.groups:
            self._groups.popitem(last=False)

    def __len__(self) -> int:
        return len(self._groups)

    def grouped(self, limit: int) -> list[dict[str, Any]]:
        """The groups, the one seen last first."""
        return [group.report() for _, group in zip(range(limit), reversed(self._groups.values()), strict=False)]

    def report(self) -> dict[str, Any]:
        """Counts by code, family, severity and command, the most frequent first."""
        families: Counter[str] = Counter()
        severities: Counter[str] = Counter()
        commands: dict[str, Counter[str]] = {}
        codes = []
        for code, (kind, count, first, last) in self._codes.items():
            families[family_of(kind)] += count
            severities[kind.severity] += count
            row = {
                "code": code,
                "type": kind.__name__,
                "count": count,
                "first": round(first, 3),
                "last": round(last, 3),
            }
            codes.append(row)
        for (command, code), count in self._pairs.items():
            commands.setdefault(command, Counter())[str(code)] += count
        rows: list[dict[str, Any]] = [
            {"method": name or None, "count": seen.total(), "codes": seen} for name, seen in commands.items()
        ]
        return {
            "by_code": sorted(codes, key=lambda row: (-row["count"], row["code"])),
            "by_family": families,
            "by_severity": severities,
            "by_command": sorted(rows, key=lambda row: (-row["count"], row["method"] or ""))[:_MAX_SHOWN],
        }


def family_of(kind: type[Fault]) -> str:
    """The name of the class right below Fault: `DatabaseFamily`."""
    return next(base.__name__ for base in reversed(kind.__mro__) if issubclass(base, Fault) and base is not Fault)
