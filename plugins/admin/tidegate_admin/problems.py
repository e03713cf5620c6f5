"""Faults as RFC 9457 problem documents, with the HTTP status that fits each code."""

from __future__ import annotations

from typing import Any

from tidegate import Fault

CONTENT_TYPE = "application/problem+json"

#: By what the client is told to do; the exceptions are below.
_BY_RECOVERY = {
    "fix_request": 422,
    "authenticate": 401,
    "retry": 503,
    "retry_later": 503,
    "contact_support": 500,
    "disconnect": 403,
    "none": 403,
}
_BY_CODE = {
    **dict.fromkeys((1005, 1104, 1105, 1110, 1506), 429),
    **dict.fromkeys((1203, 1205, 1206, 1207, 1209, 1212, 1214, 1305, 1505), 409),
    **dict.fromkeys((1601, 1602, 1607, 1608, 1609), 400),
    **dict.fromkeys((1501, 1605), 404),
    1006: 403,
    1009: 422,
    1213: 507,
    1303: 504,
    1311: 499,  # nginx's "client closed request": nobody is there to read it
    1503: 413,
    1507: 412,
    1508: 410,
    1603: 405,
    1604: 400,
    1606: 413,
}


def status_of(fault: Fault) -> int:
    """The HTTP status of a fault: `404` for 1501."""
    return _BY_CODE.get(fault.code) or _BY_RECOVERY.get(fault.recovery, 500)


def problem(fault: Fault, request_id: str) -> dict[str, Any]:
    """The document: RFC 9457's members, and those of Tidegate's error object (docs/protocol.md, Errors)."""
    said = fault.error_object(request_id)
    data = said["data"]
    return {
        **data,
        "type": f"urn:tidegate:fault:{fault.code}",
        "title": fault.type,
        "status": status_of(fault),
        "detail": said["message"],
        "instance": f"urn:uuid:{request_id}",
    }


SCHEMA: dict[str, Any] = {
    "type": "object",
    "description": "A fault of Tidegate's catalogue as an RFC 9457 problem document.",
    "properties": {
        "type": {"type": "string", "examples": ["urn:tidegate:fault:1501"]},
        "title": {"type": "string", "examples": ["ResourceNotFound"]},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "instance": {"type": "string", "description": "The request id: the same one is in the log."},
        "code": {"type": "integer", "minimum": 1000},
        "recovery": {"enum": sorted(_BY_RECOVERY)},
        "retry_after": {"type": "number", "description": "Seconds."},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "field": {"type": "string"},
                    "type": {"type": "string"},
                    "message": {"type": "string"},
                },
            },
        },
    },
    "required": ["type", "title", "status", "detail", "code", "recovery"],
}
