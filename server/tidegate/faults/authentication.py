"""10xx: who somebody is, and what they may do."""

from tidegate.faults.fault import Fault


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
