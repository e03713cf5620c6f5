"""14xx: attacks and abuse."""

from tidegate.faults.fault import Fault


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
