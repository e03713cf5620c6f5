"""What a fault is: an exception with a code, which a client gets instead of a result."""

from __future__ import annotations

import copyreg
from collections.abc import Mapping, Sequence
from math import ceil, isfinite
from typing import Any, ClassVar, NamedTuple, Self

# The five conditions that JSON-RPC itself defines keep the code that every JSON-RPC client knows.
OUTER = {
    1602: -32700,
    1601: -32600,
    1605: -32601,
    1304: -32603,
    **dict.fromkeys((*range(1101, 1104), *range(1106, 1110), *range(1111, 1116)), -32602),
}
_LEVELS = {"low": "info", "medium": "warning", "high": "error", "critical": "critical"}
_RECOVERIES = (
    *("retry", "retry_later", "authenticate", "fix_request"),
    *("disconnect", "contact_support", "none"),
)
_RESERVED = frozenset({"code", "type", "request_id", "recovery", "retry_after", "errors"})


class FieldError(NamedTuple):
    """One wrong field: `FieldError("params.members.3.name", "InvalidType", "Expected a text")`."""

    field: str
    type: str
    message: str


class Fault(Exception):
    """What a client gets instead of a result; raise one of its subclasses.

    A class of your own is a subclass of a family that sets `code` (2000 or above), `message` and
    what else differs; `level` follows `severity` unless it is set too.

    Args:
        message: one plain sentence that is safe to show; None takes the class's.
        retry_after: seconds after which the same call may succeed.
        field: the one field that is wrong, `params.room`; makes `errors` where none are given.
        errors: every field that is wrong.
        log: for the log only, never for the client.
        data: further members of the reply's `error.data`, JSON values; `code`, `type`,
            `request_id` and `recovery` can't be overwritten by it.
    """

    code: ClassVar[int] = 1304
    severity: ClassVar[str] = "high"  # low, medium, high, critical
    level: ClassVar[str] = "error"  # of the log line: debug, info, warning, error, critical
    recovery: ClassVar[str] = "contact_support"  # what the client can do, see docs/protocol.md
    closes: ClassVar[bool] = False  # the core closes the connection after this reply
    message: str = "Something failed here; quote the request id when you report it"
    request_id: str | None = None  # of the call, on a fault that a client got

    def __init_subclass__(cls) -> None:
        """Raises TypeError for a severity or recovery that clients don't know."""
        if cls.severity not in _LEVELS:
            known = ", ".join(_LEVELS)
            raise TypeError(f"{cls.__name__}.severity: expected one of {known}, not {cls.severity!r}")
        if cls.recovery not in _RECOVERIES:
            known = ", ".join(_RECOVERIES)
            raise TypeError(f"{cls.__name__}.recovery: expected one of {known}, not {cls.recovery!r}")
        if "severity" in vars(cls) and "level" not in vars(cls):
            cls.level = _LEVELS[cls.severity]

    # No super().__init__: BaseException.__new__ has set `args`, and this is on the way of every
    # refused call.
    def __init__(
        self,
        message: str | None = None,
        *,
        retry_after: float | None = None,
        field: str | None = None,
        errors: Sequence[FieldError] = (),
        log: str | None = None,
        **data: Any,
    ) -> None:
        if message is not None:
            self.message = message
        if field is not None and not errors:
            errors = (FieldError(field, type(self).__name__, self.message),)
        self.retry_after = retry_after
        self.errors = errors
        self.log = log
        self.data = data

    @property
    def type(self) -> str:
        """The class's name, as clients see it: `RequiredFieldMissing`."""
        return type(self).__name__

    @property
    def outer_code(self) -> int:
        """The JSON-RPC error code: JSON-RPC's own for its five conditions, else `code`."""
        return OUTER.get(self.code, self.code)

    def error_object(self, request_id: str) -> dict[str, Any]:
        """The JSON-RPC error object (docs/protocol.md, Errors), of JSON values; never `log`."""
        data: dict[str, Any] = {
            "code": self.code,
            "type": self.type,
            "request_id": request_id,
            "recovery": self.recovery,
        }
        # "Never" (infinity) is no JSON, and no advice either.
        if self.retry_after is not None and isfinite(self.retry_after):
            # Up to the next millisecond: who waits that long must not come too early.
            data["retry_after"] = max(0.0, ceil(self.retry_after * 1000 - 1e-6) / 1000)
        if self.errors:
            data["errors"] = [error._asdict() for error in self.errors]
        for name, value in self.data.items():
            if name not in _RESERVED:
                data[name] = value
        return {"code": self.outer_code, "message": self.message, "data": data}

    @classmethod
    def from_error_object(cls, error: Mapping[str, Any]) -> Self:
        """What a client raises for an error object that has this class's code; sets `request_id`.

        Raises AttributeError, TypeError or ValueError for what no server of ours sends.
        """
        said = dict(error.get("data") or {})
        fault = cls.__new__(cls)  # not by the constructor: a subclass's may want other arguments
        fault.message = str(error.get("message"))
        fault.request_id = said.get("request_id")
        fault.retry_after = said.get("retry_after")
        fields = FieldError._fields
        fault.errors = [FieldError(*(one.get(part, "") for part in fields)) for one in said.get("errors", ())]
        fault.log = None
        fault.data = {name: value for name, value in said.items() if name not in _RESERVED}
        return fault

    def __str__(self) -> str:
        return f"{self.code} {self.type}: {self.message}"

    def __repr__(self) -> str:
        more = {"retry_after": self.retry_after, "errors": self.errors or None, "log": self.log}
        shown = {name: value for name, value in more.items() if value is not None} | self.data
        given = [repr(self.message), *(f"{name}={value!r}" for name, value in shown.items())]
        return f"{self.type}({', '.join(given)})"

    def __reduce__(self) -> tuple[Any, ...]:
        # Not by the constructor: a subclass's may want other arguments.
        return copyreg.__newobj__, (type(self), *self.args), dict(vars(self))  # type: ignore[attr-defined]
