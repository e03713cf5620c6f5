"""15xx: the things that commands work on."""

from tidegate.faults.fault import Fault


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
