"""When an error itself says how long to wait: a `retry_after` attribute, or HTTP's `Retry-After` header."""

from __future__ import annotations

from email.utils import parsedate_to_datetime
from math import isfinite
from typing import Any

LONGEST_S = 86_400.0


def retry_after_of(error: BaseException, wall: float) -> float | None:
    """Seconds to wait before trying again, as `error` or what caused it says; None: it doesn't.

    Understands faults, errors with a number in `retry_after`, and those of urllib, requests and the like, which
    have `headers`, or a `response` with them (RFC 9110, section 10.2.3: seconds or a date). `wall` is the time
    since 1970, for dates. Never raises.
    """
    seen: BaseException | None = error
    try:
        for _ in range(4):
            if seen is None:
                return None
            for text in (getattr(seen, "retry_after", None), _header(seen), _header(getattr(seen, "response", None))):
                if (seconds := _seconds(text, wall)) is not None:
                    return seconds
            seen = seen.__cause__
    except Exception:
        return None  # somebody's own idea of attributes and headers
    return None


def _header(holder: Any) -> Any:
    get: Any = getattr(getattr(holder, "headers", None), "get", None)
    return None if get is None else get("Retry-After") or get("retry-after")


def _seconds(value: Any, wall: float) -> float | None:
    if value is None or isinstance(value, bool):
        return None
    try:
        seconds = float(value)
    except (TypeError, ValueError):
        try:
            seconds = parsedate_to_datetime(str(value)).timestamp() - wall
        except (TypeError, ValueError, OverflowError):
            return None
    return min(max(seconds, 0.0), LONGEST_S) if isfinite(seconds) else None
