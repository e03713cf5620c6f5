"""Looks at the parameters of calls."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from tidegate import Call, Command, Plugin, hookimpl
from tidegate.faults import UnsafeInput

from tidegate_security.scanner import Verdict, has_words

if TYPE_CHECKING:
    from tidegate_security import Security

Proceed = Callable[[Call], Any]
Plan = dict[str, str]
_IDENTIFIERS = frozenset({"username", "room_name", "uuid", "email", "timestamp", "ip"})
_SECRETS = ("password", "secret", "token")
MAX_DEPTH = 32  # of values inside values; the protocol's own limit is below it


def profile_of(name: str, rules: Mapping[str, Any]) -> str:
    """How a parameter's value is looked at: free_text, structured, identifier or secret."""
    meta = rules.get("meta") or {}
    kind = meta.get("is")
    if meta.get("profile"):
        return str(meta["profile"])
    if kind == "password" or any(word in name for word in _SECRETS):
        return "secret"
    if kind in _IDENTIFIERS:
        return "identifier"
    if kind == "json" or rules.get("type") in ("dict", "list"):
        return "structured"
    return "free_text"


def strings(value: Any, path: str, depth: int = 0) -> Iterator[tuple[str, str]]:
    """The texts in a value, keys included, with where they stand: `params.filter.name`."""
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, dict) and depth < MAX_DEPTH:
        for key, inner in value.items():
            if isinstance(key, str) and key[:1] in "$_" and key[:2] != "_i":
                yield (
                    path,
                    f'{{"{key[:128]}":',
                )  # a key is an operator where it is one: scanned as what it opens
            elif isinstance(key, str) and not key.isidentifier():
                yield path, key
            yield from strings(inner, f"{path}.{str(key)[:32]}", depth + 1)
    elif isinstance(value, (list, tuple)) and depth < MAX_DEPTH:
        for number, inner in enumerate(value):
            yield from strings(inner, f"{path}.{number}", depth + 1)


def changes(command: Command) -> bool:
    """Whether a command is an administrator's that changes something."""
    return command.notes.get("requires") == "admin" and command.notes.get("scope") != "read"


class Threats(Plugin):
    """The part of security in the ring check: the parameters as they were sent, before they are validated."""

    ring = "check"
    whole: Security

    @hookimpl
    def tidegate_decorate(self, command: Command, proceed: Proceed) -> Proceed | None:
        schema = command.notes.get("params") or {}
        plan = {name: profile_of(name, schema.get(name) or {}) for name in {*command.arguments, *schema}}
        if command.name != "unknown" and all(profile == "secret" for profile in plan.values()):
            return self._recorded(command, proceed) if changes(command) else None
        found_in = self._found
        secret = frozenset(name for name, profile in plan.items() if profile == "secret")
        plain = self.whole.scanner.plain

        def check(call: Call) -> Any:
            for name, value in call.params.items():
                kind = type(value)
                if kind is str:
                    # The fast way out, in full: most texts end here.
                    if value.encode().translate(plain).isalpha() and (
                        (len(value) < 16 and value.isascii()) or not has_words(value)
                    ):
                        continue
                elif kind is int or kind is float or kind is bool or value is None:
                    continue
                if name not in secret:
                    found_in(call, name, value, plan.get(name, "free_text"))
            return proceed(call)

        return self._recorded(command, check) if changes(command) else check

    def _recorded(self, command: Command, proceed: Proceed) -> Proceed:
        """An administrator's change is in the trail before it is made, or it is not made."""
        whole = self.whole

        def recorded(call: Call) -> Any:
            whole.before_change(call)
            return proceed(call)

        return recorded

    def _found(self, call: Call, name: str, value: Any, profile: str) -> None:
        """Scan one parameter; tell what was found. Raises UnsafeInput where that is the answer."""
        whole = self.whole
        user = call.user
        if call.connection.kind == "admin" or (user is not None and "admin" in user.roles):
            return
        worst: Verdict | None = None
        field = where = f"params.{name}"
        for place, text in strings(value, field):
            verdict = whole.scan(text, profile)
            if verdict.flagged and (worst is None or verdict.score > worst.score):
                worst, where = verdict, place
        if worst is not None and whole.threat(call, where, worst, profile):
            raise UnsafeInput("This value looks like an attack and was not taken", field=field)
