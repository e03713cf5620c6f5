"""Greets in many languages, and tells of calls that were slow."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from tidegate import Call, Command, Fault, Plugin, command, hookimpl

GREETINGS = {"de": "Hallo, {}!", "en": "Hello, {}!", "es": "¡Hola, {}!", "fr": "Bonjour, {} !"}


class HelloFamily(Fault):
    """20xx: what this plugin refuses."""


class LanguageUnknown(HelloFamily):
    """Nobody has taught the server a greeting in this language."""

    code, severity, recovery = 2001, "low", "fix_request"
    message = "There is no greeting in this language"


class Hello(Plugin):
    """Greets in many languages, and tells of calls that were slow."""

    # Sees everything, changes nothing: outermost, so that it times the whole call.
    ring = "observe"
    # Notes of commands, anybody's, that this plugin carries out: @command("report.make", slow_s=0.5).
    reads = frozenset({"slow_s"})
    topics: ClassVar = {"hello.slow": ("method", "seconds", "limit_s", "request_id")}
    offers: ClassVar = {"faults": (HelloFamily, (LanguageUnknown,))}
    settings: ClassVar = {
        "slow_s": {
            "type": "float",
            "default": 0.0,
            "min": 0,
            "meta": {
                "help": "A call that takes longer is told, unless its command says otherwise; 0: none.",
                "unit": "s",
            },
        },
        "greetings": {
            "type": "dict",
            "keysrules": {"type": "string", "regex": "[a-z]{2}"},
            "valuesrules": {"type": "string", "regex": r".*\{\}.*"},
            "default": {},
            "meta": {"help": "More languages; {} is the name.", "example": {"it": "Ciao, {}!"}},
        },
    }

    def configure(self, config: Any) -> None:
        """At the start and at each reload; the decorators are then composed anew."""
        self.slow_s: float = config.slow_s
        self.greetings: dict[str, str] = {**GREETINGS, **config.greetings}

    @command(
        "hello.greet",
        params={
            "name": {
                "type": "string",
                "required": True,
                "minlength": 1,
                "maxlength": 100,
                "meta": {"help": "Who is greeted."},
            },
            "language": {"type": "string", "maxlength": 10, "meta": {"help": "Two letters, such as de."}},
        },
        faults=(LanguageUnknown,),
        slow_s=0.1,
    )
    def greet(self, name: str, language: str = "en") -> str:
        """Greet somebody in their language."""
        if (greeting := self.greetings.get(language)) is None:
            raise LanguageUnknown(known=sorted(self.greetings))
        return greeting.replace("{}", name)

    @hookimpl
    def tidegate_decorate(self, command: Command, proceed: Callable[[Call], Any]) -> Callable[[Call], Any] | None:
        """Time the calls of the commands that have a limit; the others pay nothing."""
        limit = command.notes.get("slow_s", self.slow_s)
        if isinstance(limit, bool) or not isinstance(limit, (int, float)) or limit < 0:
            raise ValueError(f"slow_s: expected seconds, got {limit!r}")  # at the start, not at a call
        if not limit:
            return None
        now = self.server.clock.now

        def watch(call: Call) -> Any:
            try:
                return proceed(call)
            finally:
                if (seconds := now() - call.now) > limit:
                    self._tell(call, seconds, limit)

        return watch

    def _tell(self, call: Call, seconds: float, limit: float) -> None:
        method = call.command.name
        self.log.warning("%s took %.3f s", method, seconds, extra={"request_id": call.request_id})
        self.server.publish("hello.slow", method=method, seconds=seconds, limit_s=limit, request_id=call.request_id)
