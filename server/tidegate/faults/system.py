"""13xx: the server, and what it stands on."""

from tidegate.faults.fault import Fault


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
