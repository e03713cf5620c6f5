"""The fault catalogue: every fault that a client may get, with its code and what to do about it.

An *error* is ours, a *fault* is what a client gets. Any plugin may raise any of these classes.
A code, once released, is never reused or renumbered (docs/errors.md); docs/faults.md is made
from this module.
"""

from __future__ import annotations

import copyreg
from collections.abc import Iterable, Mapping, Sequence
from math import ceil, isfinite
from typing import Any, ClassVar, NamedTuple, Self

FIRST_FREE_CODE = 2000  # a third party's faults have codes from here up

# The five conditions that JSON-RPC itself defines keep the code that every JSON-RPC client knows.
_OUTER = {
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
        return _OUTER.get(self.code, self.code)

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


class AuthenticationFamily(Fault):
    """10xx: who somebody is, and what they may do."""


class AuthenticationFailed(AuthenticationFamily):
    """The proof offered (certificate, signature, second factor) was not accepted."""

    code, severity, recovery = 1001, "medium", "authenticate"
    message = "The proof of identity was not accepted"


class AuthorizationDenied(AuthenticationFamily):
    """The caller is known, but neither role nor scope allows this command."""

    code, severity, recovery = 1002, "medium", "none"
    message = "You are not allowed to use this command"


class SessionExpired(AuthenticationFamily):
    """The session or token was valid once and is too old now."""

    code, severity, recovery = 1003, "low", "authenticate"
    message = "Your session has expired; log in again"


class InvalidCredentials(AuthenticationFamily):
    """Unknown user and wrong password alike: same text, same time."""

    code, severity, recovery = 1004, "medium", "authenticate"
    message = "The name or the password is wrong"


class AccountLocked(AuthenticationFamily):
    """Too many failed logins to this account; has `retry_after`."""

    code, severity, recovery = 1005, "high", "retry_later"
    level = "warning"
    message = "Too many failed attempts; try again later"


class AccountSuspended(AuthenticationFamily):
    """The security plugin or an administrator suspended the account."""

    code, severity, recovery = 1006, "high", "contact_support"
    level = "warning"
    closes = True
    message = "This account is suspended"


class AuthenticationRequired(AuthenticationFamily):
    """The command needs a user and the connection has none."""

    code, severity, recovery = 1007, "low", "authenticate"
    message = "Log in first"


class TokenInvalid(AuthenticationFamily):
    """The token is malformed, has a wrong signature, or was revoked."""

    code, severity, recovery = 1008, "medium", "authenticate"
    message = "The token is not valid"


class PasswordRejected(AuthenticationFamily):
    """A new password is too short, too long, too common, or the same as the old one."""

    code, severity, recovery = 1009, "low", "fix_request"
    message = "This password can't be used; choose another one"


class AuthenticationUnavailable(AuthenticationFamily):
    """There is no accounts plugin, or its store is down: it fails closed."""

    code, severity, recovery = 1010, "high", "retry_later"
    message = "Nobody can log in at the moment; try again later"


class ValidationFamily(Fault):
    """11xx: what the client sent, and how often."""


class InvalidFormat(ValidationFamily):
    """A value does not have the form its field wants: a date, an address, a name."""

    code, severity, recovery = 1101, "low", "fix_request"
    message = "The value does not have the expected form"


class InvalidLength(ValidationFamily):
    """A text is shorter or longer than its field allows."""

    code, severity, recovery = 1102, "low", "fix_request"
    message = "The value is too short or too long"


class InvalidCharacters(ValidationFamily):
    """A text has control characters, bidi overrides, lone surrogates or NUL."""

    code, severity, recovery = 1103, "low", "fix_request"
    message = "The text contains characters that are not allowed"


class UserRateLimitExceeded(ValidationFamily):
    """The user calls too often, from whatever address; has `retry_after`."""

    code, severity, recovery = 1104, "low", "retry_later"
    message = "Too many calls by this user; slow down"


class AddressRateLimitExceeded(ValidationFamily):
    """The address calls too often, for whatever user; has `retry_after`."""

    code, severity, recovery = 1105, "low", "retry_later"
    message = "Too many calls from this address; slow down"


class UnsafeInput(ValidationFamily):
    """A parameter matches a threat, and the policy is to refuse only the call."""

    code, severity, recovery = 1106, "high", "fix_request"
    level = "warning"
    message = "The input looks unsafe and was refused"


class RequiredFieldMissing(ValidationFamily):
    """A field that the command needs was not sent."""

    code, severity, recovery = 1107, "low", "fix_request"
    message = "A required field is missing"


class InvalidValue(ValidationFamily):
    """A value is not among those allowed."""

    code, severity, recovery = 1108, "low", "fix_request"
    message = "The value is not one of those allowed"


class ConflictingValues(ValidationFamily):
    """Each value is right by itself, but they exclude each other."""

    code, severity, recovery = 1109, "low", "fix_request"
    message = "Some of the values contradict each other"


class RateLimitExceeded(ValidationFamily):
    """A command's or the server's own limit; has `retry_after`."""

    code, severity, recovery = 1110, "low", "retry_later"
    message = "Too many calls; slow down"


class InvalidInput(ValidationFamily):
    """Several fields are wrong: the list is in `errors`."""

    code, severity, recovery = 1111, "low", "fix_request"
    message = "Several fields are wrong"


class UnknownField(ValidationFamily):
    """A field that the command does not have; names the nearest one, if one is near."""

    code, severity, recovery = 1112, "low", "fix_request"
    message = "There is no such field"


class InvalidType(ValidationFamily):
    """A value is of another JSON type than its field: a text for a number."""

    code, severity, recovery = 1113, "low", "fix_request"
    message = "The value is of the wrong type"


class ValueOutOfRange(ValidationFamily):
    """A number or a time is below the least or above the greatest allowed."""

    code, severity, recovery = 1114, "low", "fix_request"
    message = "The value is too small or too large"


class TooManyItems(ValidationFamily):
    """A list or an object has more items than allowed."""

    code, severity, recovery = 1115, "low", "fix_request"
    message = "There are too many items"


class DatabaseFamily(Fault):
    """12xx: what is stored, and transactions."""


class DatabaseConnectionFailed(DatabaseFamily):
    """The database could not be reached, or the connection to it broke."""

    code, severity, recovery = 1201, "high", "retry"
    message = "The database can't be reached"


class QueryFailed(DatabaseFamily):
    """The database refused a statement: a bug or a missing migration, not the client's doing."""

    code, severity, recovery = 1202, "high", "contact_support"
    message = "A query failed; quote the request id when you report it"


class TransactionFailed(DatabaseFamily):
    """The transaction could not be committed; it was rolled back, nothing was changed."""

    code, severity, recovery = 1203, "high", "retry"
    message = "The transaction failed and was rolled back; nothing was changed"


class DataIntegrityError(DatabaseFamily):
    """Stored data contradicts itself: a checksum, a link, a corrupt file."""

    code, severity, recovery = 1204, "critical", "contact_support"
    message = "Stored data is damaged; quote the request id when you report it"


class UniqueConstraintViolation(DatabaseFamily):
    """A value that must be unique is taken."""

    code, severity, recovery = 1205, "low", "fix_request"
    message = "This is already taken"


class ForeignKeyViolation(DatabaseFamily):
    """It refers to something that is not there, or something still refers to it."""

    code, severity, recovery = 1206, "low", "fix_request"
    message = "It refers to something that does not exist, or is still in use"


class SerializationConflict(DatabaseFamily):
    """Another transaction changed the same data first; nothing was changed."""

    code, severity, recovery = 1207, "medium", "retry"
    message = "Somebody else changed the same data at the same time; try again"


class DeserializationError(DatabaseFamily):
    """A stored value can't be read: written by another version, or damaged."""

    code, severity, recovery = 1208, "high", "contact_support"
    message = "A stored value can't be read"


class DeadlockDetected(DatabaseFamily):
    """Two transactions waited for each other and the database ended this one."""

    code, severity, recovery = 1209, "medium", "retry"
    message = "Two transactions stood in each other's way; try again"


class TransactionTimeout(DatabaseFamily):
    """The transaction was rolled back at its deadline."""

    code, severity, recovery = 1210, "medium", "retry"
    message = "The transaction took too long and was rolled back"


class TransactionLimitReached(DatabaseFamily):
    """Too many transactions at once, and the queue is full or too slow."""

    code, severity, recovery = 1211, "medium", "retry_later"
    message = "Too many transactions at once; try again later"


class CheckViolation(DatabaseFamily):
    """A value breaks a CHECK or NOT NULL rule of the database."""

    code, severity, recovery = 1212, "low", "fix_request"
    message = "A value breaks a rule of the stored data"


class StorageFull(DatabaseFamily):
    """The disk or a quota is full, or the database is read-only."""

    code, severity, recovery = 1213, "critical", "retry_later"
    message = "Nothing can be stored at the moment; try again later"


class IdempotencyConflict(DatabaseFamily):
    """The idempotency key was used before, for another request."""

    code, severity, recovery = 1214, "low", "fix_request"
    message = "This idempotency key was used for another request"


class SystemFamily(Fault):
    """13xx: the server, and what it stands on."""


class SystemError(SystemFamily):
    """The operating system refused: EMFILE, ENOMEM and the like."""

    code, severity, recovery = 1301, "high", "retry_later"
    message = "The server is out of resources; try again later"


class NetworkError(SystemFamily):
    """Talking to something behind the server failed."""

    code, severity, recovery = 1302, "medium", "retry"
    message = "A service behind this server can't be reached"


class CallTimeout(SystemFamily):
    """The command's or the client's time limit passed."""

    code, severity, recovery = 1303, "medium", "retry"
    message = "The call took too long and was ended"


class InternalError(SystemFamily):
    """An exception that nobody explained."""

    code, severity, recovery = 1304, "high", "contact_support"
    message = "Something failed here; quote the request id when you report it"


class ConfigurationError(SystemFamily):
    """The configuration is wrong, or a new one was refused."""

    code, severity, recovery = 1305, "critical", "contact_support"
    message = "The server is not configured for this"


class DependencyUnavailable(SystemFamily):
    """Something that the command needs is away: a service, a program, a plugin's back end."""

    code, severity, recovery = 1306, "high", "retry_later"
    message = "Something that this needs is not available; try again later"


class CircuitOpen(SystemFamily):
    """A circuit breaker is open: it failed too often lately and is not tried; has `retry_after`."""

    code, severity, recovery = 1307, "medium", "retry_later"
    message = "This keeps failing and is not tried for a while; try again later"


class ServerOverloaded(SystemFamily):
    """The call or connection was shed because there are too many; has `retry_after`."""

    code, severity, recovery = 1308, "high", "retry_later"
    level = "warning"
    message = "The server is overloaded; try again later"


class ServerShuttingDown(SystemFamily):
    """The server drains before it stops, or is in maintenance."""

    code, severity, recovery = 1309, "low", "retry_later"
    message = "The server is shutting down; try again later"


class PluginFailure(SystemFamily):
    """A plugin's own code failed; the log names it, the client is not told."""

    code, severity, recovery = 1310, "high", "contact_support"
    message = "A part of the server failed; quote the request id when you report it"


class CallCancelled(SystemFamily):
    """The client is gone, or an administrator ended the call."""

    code, severity, recovery = 1311, "low", "none"
    message = "The call was cancelled"


class SecurityFamily(Fault):
    """14xx: attacks and abuse."""


class SecurityViolation(SecurityFamily):
    """A rule of the security policy was broken that has no fault of its own."""

    code, severity, recovery = 1401, "high", "disconnect"
    closes = True
    message = "This is against the rules of this server"


class IntrusionDetected(SecurityFamily):
    """Something only an intruder does: a trap command, a planted credential."""

    code, severity, recovery = 1402, "critical", "disconnect"
    closes = True
    message = "The connection was closed for security reasons"


class SuspiciousActivity(SecurityFamily):
    """Many small signs together: the score of an address or account is too high."""

    code, severity, recovery = 1403, "high", "disconnect"
    closes = True
    message = "Suspicious activity; the connection was closed"


class AccessDenied(SecurityFamily):
    """A network or policy rule forbids this, whoever asks."""

    code, severity, recovery = 1404, "medium", "none"
    message = "Access is denied"


class SecurityBreach(SecurityFamily):
    """A protection was overcome: a forged audit trail, a stolen session in use."""

    code, severity, recovery = 1405, "critical", "disconnect"
    closes = True
    message = "The connection was closed for security reasons"


class AddressBlocked(SecurityFamily):
    """The address is blocked; has `retry_after` unless for good."""

    code, severity, recovery = 1406, "high", "disconnect"
    level = "warning"
    closes = True
    message = "This address is blocked"


class InjectionDetected(SecurityFamily):
    """A parameter holds an injection, and the policy is to end the connection."""

    code, severity, recovery = 1407, "high", "disconnect"
    closes = True
    message = "The input was refused for security reasons"


class BruteForceDetected(SecurityFamily):
    """Too many guesses at passwords, tokens or names from one source."""

    code, severity, recovery = 1408, "high", "disconnect"
    closes = True
    message = "Too many failed attempts; the connection was closed"


class TooManyConnections(SecurityFamily):
    """One address has too many connections open."""

    code, severity, recovery = 1409, "medium", "disconnect"
    closes = True
    message = "Too many connections from this address"


class ProtocolAbuse(SecurityFamily):
    """Another protocol's bytes came to this port: HTTP, TLS, SSH and the like."""

    code, severity, recovery = 1410, "high", "disconnect"
    level = "warning"
    closes = True
    message = "This port speaks JSON-RPC 2.0, one JSON object a line"


class ResourceFamily(Fault):
    """15xx: the things that commands work on."""


class ResourceNotFound(ResourceFamily):
    """What was named does not exist, or the caller may not know that it does."""

    code, severity, recovery = 1501, "low", "fix_request"
    message = "There is no such thing"


class ResourceUnavailable(ResourceFamily):
    """It exists but can't be used now: locked, offline, being made."""

    code, severity, recovery = 1502, "medium", "retry_later"
    message = "It can't be used at the moment; try again later"


class ResourceExhausted(ResourceFamily):
    """A place, a pool or the room for a reply is used up."""

    code, severity, recovery = 1503, "medium", "retry_later"
    message = "There is no room left for this"


class PermissionDenied(ResourceFamily):
    """Not on this object, as opposed to this command (1002)."""

    code, severity, recovery = 1504, "low", "none"
    message = "You are not allowed to do this here"


class ResourceConflict(ResourceFamily):
    """It exists already, or was changed meanwhile."""

    code, severity, recovery = 1505, "low", "fix_request"
    message = "It exists already, or was changed meanwhile"


class QuotaExceeded(ResourceFamily):
    """The user has as much of this as the rules allow."""

    code, severity, recovery = 1506, "low", "none"
    message = "You have used up your quota"


class PreconditionFailed(ResourceFamily):
    """The state that the request builds on is not the present one."""

    code, severity, recovery = 1507, "low", "fix_request"
    message = "A condition for this is not met"


class ResourceGone(ResourceFamily):
    """It existed, was removed, and does not come back."""

    code, severity, recovery = 1508, "low", "none"
    message = "It is gone and does not come back"


class ProtocolFamily(Fault):
    """16xx: what travels on the wire, and when."""


class ProtocolError(ProtocolFamily):
    """It is JSON, but no JSON-RPC request."""

    code, severity, recovery = 1601, "low", "fix_request"
    message = "Not a JSON-RPC 2.0 request"


class MalformedRequest(ProtocolFamily):
    """The line is not JSON."""

    code, severity, recovery = 1602, "low", "fix_request"
    message = "Not JSON"


class UnsupportedOperation(ProtocolFamily):
    """The server or this command does not offer what was asked for."""

    code, severity, recovery = 1603, "low", "none"
    message = "This is not supported"


class VersionMismatch(ProtocolFamily):
    """The client speaks a version of the protocol that the server does not."""

    code, severity, recovery = 1604, "low", "none"
    message = "This version of the protocol is not supported"


class MethodNotFound(ProtocolFamily):
    """No command has this name; names the nearest one, if one is near and the caller may use it."""

    code, severity, recovery = 1605, "low", "fix_request"
    message = "There is no such method"


class RequestTooLarge(ProtocolFamily):
    """A line is longer than the listener takes; the rest of it is never read."""

    code, severity, recovery = 1606, "medium", "fix_request"
    closes = True
    message = "The request is too large"


class BatchTooLarge(ProtocolFamily):
    """A batch has more requests than the listener takes."""

    code, severity, recovery = 1607, "low", "fix_request"
    message = "The batch has too many requests"


class InvalidEncoding(ProtocolFamily):
    """The line is not UTF-8."""

    code, severity, recovery = 1608, "low", "fix_request"
    message = "Not UTF-8"


class NestingTooDeep(ProtocolFamily):
    """The JSON value is nested deeper than the listener takes."""

    code, severity, recovery = 1609, "medium", "fix_request"
    message = "The request is nested too deeply"


class DuplicateMember(ProtocolFamily):
    """Reserved: today the last of two equal members wins."""

    code, severity, recovery = 1610, "low", "fix_request"
    message = "A member is there twice"


class IdleTimeout(ProtocolFamily):
    """The connection said nothing for too long."""

    code, severity, recovery = 1611, "low", "none"
    closes = True
    message = "The connection was idle for too long"


class RequestTimeout(ProtocolFamily):
    """A line was begun and did not end in time, or none came at all."""

    code, severity, recovery = 1612, "medium", "none"
    closes = True
    message = "The line did not end in time"


class Catalogue(dict[int, type[Fault]]):
    """Fault classes by code, in the order of their codes; `owners` says whose each code is."""

    def __init__(self, faults: dict[int, type[Fault]], owners: dict[int, str]) -> None:
        super().__init__(sorted(faults.items()))
        self.owners = owners


def catalogue() -> Catalogue:
    """The 80 classes of this module, owned by `tidegate`."""
    faults = {
        kind.code: kind
        for kind in globals().values()
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
            *(code, _OUTER.get(code, ""), f"`{kind.__name__}`", kind.severity, kind.level),
            *(kind.recovery, "yes" if kind.closes else "", kind.__doc__, kind.message),
        )
        lines.append("| " + " | ".join(map(str, cells)).replace("|  |", "| |") + " |")
    return "\n".join(lines) + "\n"
