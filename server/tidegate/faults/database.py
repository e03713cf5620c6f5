"""12xx: what is stored, and transactions."""

from tidegate.faults.fault import Fault


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
