"""One place where every command's input is checked, and how often it may be called."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any

import cerberus
import msgspec
from tidegate import Call, Command, FieldError, Plugin, hookimpl

from tidegate_validation import wording
from tidegate_validation.compiler import NotCompiled, compiled_check
from tidegate_validation.limits import Addresses, Limits, Refusals, Users
from tidegate_validation.names import named_types
from tidegate_validation.patterns import TakesTooLong
from tidegate_validation.schema import MOST, Schema, annotated, strict_with
from tidegate_validation.settings import SETTINGS
from tidegate_validation.skeletons import key_of
from tidegate_validation.text import Problem

if TYPE_CHECKING:
    from tidegate import Server

_MANY = 30  # values; Cerberus takes 10 to 40 µs for each, and the loop has a millisecond
_VALUE = 200  # characters that take as long as a value
_FINGERPRINTED = 1024  # characters


class Validation(Plugin):
    """Schemas, text and rate limits for every command."""

    ring = "check"
    parts = (Addresses, Users)
    reads = frozenset({"params", "rate", "cost"})
    settings = SETTINGS
    offers = {"skeletons": key_of}

    limits: Limits
    refusals: Refusals

    def configure(self, config: Any) -> None:
        limits = Limits(self, config)
        names = tuple(config.protected_names)
        if not hasattr(self, "refusals"):
            self.refusals = Refusals(self)
        if names != getattr(self, "_names", None):
            self._names = names
            self._schemas: dict[Command, Schema] = {}
            self._kinds: tuple[Any, Any] | None = None
        self.limits = limits

    @hookimpl
    def tidegate_serve(self, server: Server) -> Generator[None, None, None]:
        yield
        self.refusals.close()

    @hookimpl
    def tidegate_gauges(self) -> dict[str, float]:
        limits = (self.limits.by_address, self.limits.by_user)
        return {"limited_keys": sum(len(limit) for limit in limits if limit is not None)}

    # --- schemas ------------------------------------------------------------------------------------

    @hookimpl
    def tidegate_decorate(self, command: Command, proceed: Callable[[Call], Any]) -> Callable[[Call], Any] | None:
        if command.name == "unknown":
            return None
        schema = self._schema_of(command)
        slow = self._slow(schema, proceed)
        try:
            check = compiled_check(schema, proceed, slow)
            watched = "" if schema.bounded else "; it has a regex that may take long, which is watched"
            check.explain = f"schema compiled{watched}"  # type: ignore[attr-defined]
        except NotCompiled as reason:
            check = slow
            check.explain = f"schema not compiled, Cerberus looks at every call: {reason}"  # type: ignore[attr-defined]
        return check

    def _schema_of(self, command: Command) -> Schema:
        """Raises SchemaMistake, which names the parameter; the core names the command."""
        if command not in self._schemas:
            if self._kinds is None:
                self._kinds = self._offered()
            validator, named = self._kinds
            rules = command.notes.get("params")
            if rules is None:
                rules = annotated(command.function, command.arguments)
            self._schemas[command] = Schema(
                rules, command.required, validator=validator, named=named, name=command.name
            )
        return self._schemas[command]

    def _offered(self) -> tuple[Any, dict[str, Any]]:
        """What plugins offer: types are rule sets for `meta.is`, or Cerberus' TypeDefinitions for `type`."""
        named: dict[str, Any] = {name: one.rules for name, one in named_types(self._names).items()}
        definitions: dict[str, Any] = {}
        rules: dict[str, Callable[..., Any]] = {}
        for plugin, types in self.server.offered("types"):
            for name, one in types.items():
                if name in named or name in definitions or name in cerberus.Validator.types_mapping:
                    raise ValueError(f"plugin {plugin!r} offers a type {name!r}, which is there already")
                (definitions if isinstance(one, cerberus.TypeDefinition) else named)[name] = one
        for plugin, own in self.server.offered("rules"):
            for name, rule in own.items():
                if name in rules or name in cerberus.Validator.rules or not name.isidentifier():
                    raise ValueError(f"plugin {plugin!r} offers a rule {name!r}, which is there already or is no name")
                rules[name] = rule
        return strict_with(definitions, rules), named

    def _slow(self, schema: Schema, proceed: Callable[[Call], Any]) -> Callable[[Call], Any]:
        """What the compiled check does not accept: the text is cleaned, then Cerberus has the word."""

        def slow(call: Call) -> Any:
            if not schema.bounded or _takes_long(call.params):
                # May switch: the pool's thread has a validator of its own.
                document, found = self.server.pool("validation", 2, 64).run(self._looked_at, schema, call.params)
            else:
                document, found = self._looked_at(schema, call.params)
            if found:
                self._refuse(call, found)
            call.params = document
            return proceed(call)

        return slow

    def _looked_at(self, schema: Schema, params: dict[str, Any]) -> tuple[dict[str, Any], list[FieldError]]:
        """The document as it became, and what is wrong with it."""
        problems: list[Problem] = []
        params = schema.tree.clean(params, problems)
        if problems:
            return params, wording.of_problems(problems)
        try:
            document, found = schema.validate(params)
        except TakesTooLong as late:
            return params, [
                FieldError(wording.field_of(late.path), "InvalidFormat", "It takes too long to read this text")
            ]
        except Exception as error:
            if not _of_cerberus(error):
                raise
            # Such as a list in a list whose members `forbidden` wants to hash.
            self.log.info("Cerberus can't look at a document: %s", error)
            return params, [FieldError("params", "InvalidValue", "The parameters have a form that can't be looked at")]
        return document, wording.of_cerberus(found, schema.fields)

    def _refuse(self, call: Call, errors: list[FieldError]) -> None:
        self.server.publish(
            "validation.failed",
            **call.connection.peer,
            method=call.command.name,
            errors=[{"field": error.field, "type": error.type} for error in errors[:MOST]],
            fingerprint=self.server.fingerprint(_fingerprinted(call)),
        )
        raise wording.fault_of(errors)


def _fingerprinted(call: Call) -> str:
    """The same for the same input, so that a client that repeats itself is known; never told as it is."""
    try:
        text = msgspec.json.encode(call.params).decode()
    except (TypeError, ValueError):  # a call from inside may bring anything
        text = ascii(call.params)
    return f"{call.command.name} {text[:_FINGERPRINTED]}"


def _takes_long(value: Any) -> bool:
    """Whether looking at a JSON value is a thread's work."""
    left, rest = _MANY, [value]
    while rest and left >= 0:
        value = rest.pop()
        kind = type(value)
        if kind is str:
            left -= len(value) // _VALUE
        elif kind is list or kind is dict:
            left -= len(value)
            if left >= 0:
                rest += value if kind is list else (*value, *value.values())
    return left < 0


def _of_cerberus(error: BaseException) -> bool:
    """Whether it was Cerberus that stumbled, and not a rule of somebody's."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return trace is not None and trace.tb_frame.f_globals.get("__name__", "").startswith("cerberus.")
