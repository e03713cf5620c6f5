"""16xx: what travels on the wire, and when."""

from tidegate.faults.fault import Fault


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
