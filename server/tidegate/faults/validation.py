"""11xx: what the client sent, and how often."""

from tidegate.faults.fault import Fault


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
