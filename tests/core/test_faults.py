"""What clients and plugin authors see of faults; run as a program, it writes the page anew."""

from __future__ import annotations

import copy
import json
import pickle
import re
from math import inf
from pathlib import Path

import pytest
from tidegate import faults
from tidegate.faults import (
    Fault,
    FieldError,
    InternalError,
    InvalidInput,
    RateLimitExceeded,
    RequiredFieldMissing,
    ResourceFamily,
    ValidationFamily,
    catalogue,
    merge,
    reference,
)

DOCS = Path(__file__).resolve().parents[2] / "server/docs"
PAGE = DOCS / "faults.md"


def agreed() -> list[tuple[str, ...]]:
    """The rows of errors.md: code, class, severity, recovery, closes; with the family in front."""
    rows, family = [], ""
    for line in (DOCS / "errors.md").read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if re.match(r"\*\*\d\dxx\*\*", cells[0]):
            family = cells[1].strip("*")
        elif cells[0].isdigit():
            rows.append((family, *cells[:5]))
    return rows


class PhoneBusy(ResourceFamily):
    """Somebody else is on the phone."""

    code, severity, recovery = 2000, "medium", "retry_later"
    message = "The phone is busy"

    def __init__(self, number: str) -> None:
        super().__init__(f"{number} is busy", number=number)


def test_the_classes_are_the_catalogue_that_was_agreed():
    made = [
        (
            *(kind.__mro__[1].__name__, str(code), kind.__name__),
            *(kind.severity, kind.recovery, "yes" if kind.closes else ""),
        )
        for code, kind in catalogue().items()
    ]
    assert made == agreed()
    assert len(made) == 80


@pytest.mark.parametrize("kind", catalogue().values(), ids=lambda kind: kind.__name__)
def test_every_class_explains_itself_in_one_line_and_has_its_own_sentence(kind):
    assert re.fullmatch(r"[A-Z][^\n|]+\.", kind.__doc__)
    assert re.fullmatch(r"[A-Z][^\n|]+[^\s.]", vars(kind)["message"])
    assert kind.level in {"info", "warning", "error", "critical"}


def test_the_page_of_faults_is_made_from_the_classes():
    assert PAGE.read_text() == reference(), f"stale: run python tests/core/{Path(__file__).name}"


def test_a_missing_field_looks_on_the_wire_as_the_protocol_says():
    fault = RequiredFieldMissing("Field is required: room", field="params.room")
    assert fault.error_object("01J") == {
        "code": -32602,
        "message": "Field is required: room",
        "data": {
            "code": 1107,
            "type": "RequiredFieldMissing",
            "request_id": "01J",
            "recovery": "fix_request",
            "errors": [
                {
                    "field": "params.room",
                    "type": "RequiredFieldMissing",
                    "message": "Field is required: room",
                }
            ],
        },
    }


def test_only_the_conditions_that_json_rpc_defines_have_its_codes():
    outer = {code: kind().outer_code for code, kind in catalogue().items()}
    special = {code: number for code, number in outer.items() if code != number}
    invalid_params = {1101, 1102, 1103, 1106, 1107, 1108, 1109, 1111, 1112, 1113, 1114, 1115}
    expected = {1602: -32700, 1601: -32600, 1605: -32601, 1304: -32603}
    assert special == expected | dict.fromkeys(invalid_params, -32602)
    assert PhoneBusy("12").outer_code == 2000


def test_the_text_for_the_log_never_reaches_the_client():
    fault = InternalError(log="password is hunter2", errors=[FieldError("a", "b", "c")], hint=1)
    assert "hunter2" not in json.dumps(fault.error_object("r"))
    assert "hunter2" not in str(fault)


def test_free_data_goes_to_the_client_but_can_not_overwrite_what_every_fault_has():
    data = {"code": 1, "type": "x", "request_id": "forged", "recovery": "none", "room": "lobby"}
    shown = RateLimitExceeded(retry_after=0.25, **data).error_object("true")["data"]
    assert shown == {
        "code": 1110,
        "type": "RateLimitExceeded",
        "request_id": "true",
        "recovery": "retry_later",
        "retry_after": 0.25,
        "room": "lobby",
    }


@pytest.mark.parametrize(("given", "shown"), [(1.23456, 1.235), (0, 0), (-3.0, 0.0), (None, None), (inf, None)])
def test_retry_after_is_a_number_that_a_client_can_wait_for(given, shown):
    data = RateLimitExceeded(retry_after=given).error_object("r")["data"]
    assert data.get("retry_after") == shown
    assert ("retry_after" in data) == (shown is not None)


def test_a_list_of_errors_is_not_replaced_by_the_field():
    errors = [FieldError("a", "InvalidType", "No"), FieldError("b", "InvalidType", "No")]
    shown = InvalidInput(field="a", errors=errors).error_object("r")["data"]["errors"]
    assert [error["field"] for error in shown] == ["a", "b"]


def test_a_message_of_one_fault_does_not_stick_to_the_next():
    assert InternalError("other").message == "other"
    assert InternalError().message == InternalError.message != "other"


@pytest.mark.parametrize(
    "fault",
    [
        RequiredFieldMissing("No room", field="room", log="why", extra=[1]),
        RateLimitExceeded(retry_after=2.0),
        PhoneBusy("12"),
    ],
    ids=lambda fault: fault.type,
)
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_fault_survives_pickling_and_copying(fault, protocol):
    for again in (pickle.loads(pickle.dumps(fault, protocol)), copy.copy(fault)):
        assert type(again) is type(fault)
        assert again.error_object("r") == fault.error_object("r")
        assert repr(again) == repr(fault)


def test_a_fault_shows_in_a_debugger_what_it_was_raised_with():
    shown = repr(RateLimitExceeded("Slow down", retry_after=2.0, log="bucket 7", room="lobby"))
    assert shown == ("RateLimitExceeded('Slow down', retry_after=2.0, log='bucket 7', room='lobby')")
    assert str(RateLimitExceeded("Slow down")) == "1110 RateLimitExceeded: Slow down"


def test_the_log_level_follows_the_severity_unless_the_class_says_otherwise():
    class Loud(ValidationFamily):
        code, severity = 2001, "critical"

    class Quiet(Loud):
        code, level = 2002, "debug"

    class QuietToo(Quiet):
        code = 2003

    assert (Loud.level, Quiet.level, QuietToo.level) == ("critical", "debug", "debug")


@pytest.mark.parametrize("wrong", [{"severity": "huge"}, {"recovery": "pray"}])
def test_a_class_that_clients_would_not_understand_is_refused_where_it_is_written(wrong):
    with pytest.raises(TypeError, match=f"Odd.{next(iter(wrong))}: expected one of"):
        type("Odd", (ValidationFamily,), wrong)


def kind_of(code: object, name: str = "Mine") -> type[Fault]:
    return type(name, (ResourceFamily,), {"code": code})


def test_a_third_partys_faults_join_the_catalogue_in_the_order_of_their_codes():
    before = catalogue()
    after = merge(merge(before, "shop", [kind_of(2500, "B")]), "phone", [PhoneBusy])
    assert list(after)[-3:] == [1612, 2000, 2500]
    assert (after.owners[1612], after.owners[2000]) == ("tidegate", "phone")
    assert before == catalogue()


def test_a_code_wanted_twice_is_refused_with_both_owners_named():
    known = merge(catalogue(), "phone", [PhoneBusy])
    with pytest.raises(ValueError, match=r"'shop'.*2000 is already PhoneBusy of plugin 'phone'"):
        merge(known, "shop", [kind_of(2000)])


def test_everything_wrong_with_a_plugins_faults_is_told_at_once():
    offered = [
        *(kind_of(1999, "Low"), kind_of("2000", "Text"), kind_of(2001, "RateLimitExceeded")),
        *(ValueError, kind_of(2002, "Fine"), kind_of(2002, "Twice")),
    ]
    with pytest.raises(ValueError, match="faults of plugin 'shop'") as refused:
        merge(catalogue(), "shop", offered)  # type: ignore[list-item]
    text = str(refused.value)
    for part in ("Low.code", "Text.code", "a fault of that name", "ValueError", "Twice.code"):
        assert part in text
    assert "Fine.code" not in text


def test_every_fault_belongs_to_a_family_and_both_can_be_taken_from_the_catalogue():
    families = {kind.__mro__[1].__name__ for kind in catalogue().values()}
    assert families == {
        *("AuthenticationFamily", "ValidationFamily", "DatabaseFamily", "SystemFamily"),
        *("SecurityFamily", "ResourceFamily", "ProtocolFamily"),
    }
    names = families | {kind.__name__ for kind in catalogue().values()}
    assert {name for name in names if not issubclass(getattr(faults, name), Fault)} == set()


if __name__ == "__main__":
    PAGE.write_text(reference())
