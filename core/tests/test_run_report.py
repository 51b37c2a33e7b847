"""The exit code of a run, the line about what was rejected, and the sum of the reports of workers."""

import json
from decimal import Decimal

import pytest
from attrs import asdict, evolve, fields
from penstock import RunResult
from penstock._config.pipeline import Allowance
from penstock._run_report.report import RunReport, StreamCounts
from penstock.errors import SinkError, UsageError


def a_report(allowed: Allowance | None = None, *, strict: bool = False, **counts: object) -> RunReport:
    report = RunReport(run_id="r", allowed=evolve(allowed or Allowance(), strict=strict))
    report.streams["shop", "orders"] = StreamCounts(**counts)  # type: ignore[arg-type]
    return report


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (True, Allowance(share=Decimal(1))),
        ("true", Allowance(share=Decimal(1))),
        (False, Allowance()),
        (7, Allowance(maximum=7)),
        ("7", Allowance(maximum=7)),
        ("1%", Allowance(share=Decimal("0.01"))),
        ("0.5 %", Allowance(share=Decimal("0.005"))),
    ],
)
def test_allowance_is_true_a_number_or_a_share(value: bool | int | str, expected: Allowance) -> None:
    """
    A pipeline accepts any number of rejected records, a number, or a share.
    """
    assert Allowance.parse(value) == expected


@pytest.mark.parametrize("value", ["", "some", "-1", "1.5", "101%", "%", "1 %%", "nan%"])
def test_anything_else_is_no_allowance(value: str) -> None:
    """
    Any other value is refused, with the values that are expected.
    """
    with pytest.raises(ValueError, match="expected true, a number of records, or a share"):
        Allowance.parse(value)


@pytest.mark.parametrize(
    ("counts", "allowed", "strict", "code"),
    [
        ({"records": 100}, False, True, 0),
        ({"records": 99, "rejected": 1}, False, False, 5),
        ({"records": 99, "unread_values": 1}, False, False, 5),
        ({"records": 99, "rejected": 1}, True, False, 0),
        ({"records": 99, "rejected": 1}, 1, False, 0),
        ({"records": 98, "rejected": 2}, 1, False, 5),
        ({"records": 99, "rejected": 1}, "1%", False, 0),
        ({"records": 98, "rejected": 2}, "1%", False, 5),
        ({"records": 98, "rejected": 1, "unread_values": 1}, "1%", False, 5),
        ({"records": 100, "unread_values": 500}, True, False, 0),
        ({"records": 100, "unknown_members": {"new"}}, False, False, 0),
        ({"records": 100, "unknown_members": {"new"}}, True, True, 5),
        ({"records": 99, "rejected": 1, "failed": 1}, True, False, 1),
        ({"records": 99, "rejected": 1, "truncated": 1}, False, False, 1),
    ],
)
def test_rejected_records_decide_the_exit_code(
    counts: dict[str, object], allowed: bool | int | str, strict: bool, code: int
) -> None:
    """
    Rejected records and values not read give 5 unless they are allowed; unknown members only with ``strict``. A
    partition that failed gives 1, whatever is allowed.
    """
    assert a_report(Allowance.parse(allowed), strict=strict, **counts).exit_code == code


@pytest.mark.parametrize(
    ("interrupted", "refused", "errors", "deadline", "code"),
    [
        (True, True, True, True, 130),
        (False, True, True, True, 3),
        (False, False, True, True, 1),
        (False, False, False, True, 4),
        (False, False, False, False, 5),
    ],
)
def test_the_first_exit_code_that_applies_is_returned(
    interrupted: bool, refused: bool, errors: bool, deadline: bool, code: int
) -> None:
    """
    The first exit code that applies is returned, in the order 130, 3, 1, 4, 5.
    """
    report = a_report(rejected=1)
    report.stopped, report.deadline = interrupted, deadline
    if refused:
        report.refused.add(("shop", None))
    if errors:
        report.record_error("shop", "orders", None, SinkError("broken"))

    assert report.exit_code == code


def test_the_line_has_the_number_the_place_and_the_command() -> None:
    """
    Rejected records are named by stream, with the command that shows them; without any there is no line.
    """
    report = a_report(rejected=1, unread_values=2, unread_example="$.data[0].paid: 'N/A' is no decimal")
    report.streams["shop", "items"] = StreamCounts(records=7)

    assert RunResult.of(report).rejected_line == (
        "shop.orders: 1 record rejected and 2 values not read. `penstock rejected list` shows why; a value that is "
        "not read is null, and kept in _extra ($.data[0].paid: 'N/A' is no decimal)"
    )
    assert RunResult.of(a_report(records=7)).rejected_line is None


def test_truncated_partitions_are_named() -> None:
    """
    A run that exits 1 since the provider's ceiling was reached has a line with the number and the place.
    """
    report = a_report(truncated=2)
    report.streams["shop", "items"] = StreamCounts(records=7)

    assert report.exit_code == 1
    assert RunResult.of(report).truncated_line == (
        "shop.orders: 2 partitions truncated. The provider lists no more than was delivered; there may be more records"
    )
    assert RunResult.of(a_report(records=7)).truncated_line is None


def test_refused_credentials_are_of_their_source_only() -> None:
    """
    Refused credentials give 3 to the part of their source and to the whole report; the part of another source is not
    blamed.
    """
    report = RunReport(run_id="r", refused={("acme", None)})

    assert [one.exit_code for one in (report, report.of_source("acme"), report.of_source("other"))] == [3, 3, 0]


def test_a_parked_source_has_its_own_exit_code_and_status() -> None:
    """
    The source that was parked ends with 4 and is named; another source of the run is not blamed for it.
    """
    report = RunReport(run_id="r", parked={"acme": "come back at ten"})
    report.stream("acme", "clicks").planned = 1
    report.stream("other", "clicks").planned = 1

    assert (report.status, report.exit_code) == ("parked", 4)
    assert (report.of_source("acme").exit_code, report.of_source("other").exit_code) == (4, 0)
    assert report.of_source("acme").parked == {"acme": "come back at ten"}


def test_reports_of_workers_make_the_whole() -> None:
    """
    The reports of shards, sent as JSON, add up: counts, members, errors and flags.
    """
    whole = RunReport(run_id="r")
    for number in (1, 2):
        part = RunReport(run_id="r", refused={(f"source{number}", None)}, parked={f"source{number}": "for an hour"})
        one = part.stream("market", "sales")
        one.planned, one.delivered, one.records, one.promised, one.seconds = 3, 2, 10 * number, None, float(number)
        one.unknown_members.add(f"member{number}")
        part.count("market", "items", failed=1)
        part.stream("market", "items").promised = number
        part.record_error("market", "items", {"shop": str(number)}, UsageError("no"))
        part.add_target_notices("the same")
        whole.merge(json.loads(json.dumps(part.as_data())))

    full = RunReport(run_id="r")
    for one in fields(StreamCounts):  # also those that are added later
        values = {
            "unknown_members": {"m"},
            "missing_measures": {"price": ("cost",)},
            "restated": [{"rows": [1, 2]}],
        }
        setattr(full.stream("market", "all"), one.name, values.get(one.name, "e" if one.type is str else 3))
    copy = RunReport(run_id="r")
    copy.merge(json.loads(json.dumps(full.as_data())))
    assert asdict(copy.stream("market", "all")) == asdict(full.stream("market", "all"))
    sales, items = whole.stream("market", "sales"), whole.stream("market", "items")
    assert (sales.planned, sales.delivered, sales.records, sales.promised, sales.seconds) == (6, 4, 30, None, 2.0)
    assert (items.failed, items.promised, sales.unknown_members) == (2, 3, {"member1", "member2"})
    assert (whole.exit_code, len(whole.errors), whole.notices, len(whole.parked)) == (3, 2, ["the same"], 2)
    assert whole.target_notices == ["the same"]
    assert whole.refused == {("source1", None), ("source2", None)}
