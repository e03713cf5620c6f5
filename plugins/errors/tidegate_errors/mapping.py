"""Foreign exceptions as faults. None where nothing is known: the core then says 1304 or 1310.

Never the client's fault by guess: a KeyError or ValueError, also of JSON or Unicode, that a command lets
out is a mistake in the command, whatever the client sent.
"""

from __future__ import annotations

import errno
import socket
import ssl

import gevent
from tidegate import Fault
from tidegate.faults import CallTimeout, DependencyUnavailable, NetworkError, StorageFull, SystemError

from tidegate_errors.advice import retry_after_of

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG)
_EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS, errno.EAGAIN, errno.ENOLCK, errno.EIO)
_AWAY = (errno.ECONNREFUSED, errno.EHOSTDOWN, errno.EADDRNOTAVAIL)
_NETWORK = (
    *(errno.ECONNRESET, errno.ECONNABORTED, errno.EPIPE, errno.ETIMEDOUT, errno.ENOTCONN, errno.ESHUTDOWN),
    *(errno.EHOSTUNREACH, errno.ENETUNREACH, errno.ENETDOWN, errno.ENETRESET),
)
_BY_ERRNO: dict[int, type[Fault]] = {
    **dict.fromkeys(_FULL, StorageFull),
    **dict.fromkeys(_EXHAUSTED, SystemError),
    **dict.fromkeys(_AWAY, DependencyUnavailable),
    **dict.fromkeys(_NETWORK, NetworkError),
}
_BUSY = (429, 502, 503, 504)  # HTTP
_DEPTH = 6


def fault_for(error: BaseException, wall: float) -> Fault | None:
    """The fault that a client gets for an exception of Python, the operating system or gevent.

    `wall`: seconds since 1970, for dates in `Retry-After`. The text is the catalogue's: an exception's own may
    hold paths, addresses and secrets; the cause stays chained and goes to the log.
    """
    kind = _kind_for(error)
    return kind(retry_after=retry_after_of(error, wall)) if kind is not None else None


def _kind_for(error: BaseException) -> type[Fault] | None:
    if (kind := _known(error)) is not None or not isinstance(error, OSError) or error.errno is not None:
        return kind
    # urllib, requests and others wrap what happened in an OSError that has no number.
    inner: BaseException = error
    for _ in range(_DEPTH):
        reason = getattr(inner, "reason", None)
        cause = reason if isinstance(reason, BaseException) else inner.__cause__ or inner.__context__
        if cause is None:
            return None
        if (kind := _known(cause)) is not None:
            return kind
        inner = cause
    return None


def _known(error: BaseException) -> type[Fault] | None:
    if isinstance(error, gevent.Timeout):
        return CallTimeout
    if isinstance(error, MemoryError):
        return SystemError
    if isinstance(error, (socket.gaierror, socket.herror, ConnectionRefusedError)):
        return DependencyUnavailable  # the first two have a resolver's code for an errno
    if isinstance(error, (TimeoutError, ConnectionError, ssl.SSLError)):
        return NetworkError
    status = getattr(error, "code", None) or getattr(getattr(error, "response", None), "status_code", None)
    if status in _BUSY:
        return DependencyUnavailable
    if isinstance(error, OSError):
        return _BY_ERRNO.get(error.errno or 0)  # None for a missing file, a permission: a mistake here, 1304
    return None
