"""
Columns with the values of the request (account, day), and pages that are decoded in parts.
"""

import json
from datetime import UTC, date, datetime
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import pytest
from decoding import (
    DecodedChunk,
    Lead,
    Row,
    SliceKeys,
    a_stream,
    an_array,
    compiled,
    compiled_stream,
    decode_one,
    reasons,
    split_by_day,
    written,
)
from penstock.connector import Stream
from penstock.errors import BrokenBodyError, PluginError
from penstock.model import Items
from penstock.records import added, record


def test_runs_of_one_answer_are_joined_and_keep_their_stamps() -> None:
    """
    Small runs make one batch; each record has its run's stamps, and a rejected one its path in the body.
    """
    runs = [
        an_array({"clickId": "a"}, columns={"report_date": "2026-03-01"}, path="$.r.2026-03-01"),
        Items(raw=b'{"clickId": "b"}', format="object", columns={"report_date": "2026-03-02"}, path="$.r.2026-03-02"),
        an_array({"clickId": "c"}, {}, columns={"report_date": "2026-03-03"}, path="$.r.2026-03-03"),
    ]

    (decoded,) = compiled(day="report_date").build(runs)

    assert [(row.click_id, row.report_date.day) for row in decoded.batch.rows] == [("a", 1), ("b", 2), ("c", 3)]
    assert [path for path, _ in reasons(decoded)] == ["$.r.2026-03-03[1].clickId"]


def test_money_may_come_as_text_on_one_page_and_as_a_number_on_the_next() -> None:
    """
    The form of a column on one page changes nothing on the next, whatever comes there.
    """
    shape = compiled()
    pages: list[list[Any]] = [["0.10", "1.5", None], [2, 0.25, None], ["3.00", 4, "1_000"], [True, "7"], ["1e2"]]

    read = [
        decode_one(shape, an_array(*({"clickId": str(n), "spend": one} for n, one in enumerate(page))))
        for page in pages
    ]

    assert [[str(row.spend) for row in one.batch.rows] for one in read] == [
        ["0.10", "1.5", "None"],
        ["2", "0.25", "None"],
        ["3.00", "4", "None"],
        ["None", "7"],
        ["1E+2"],
    ]
    assert [one.unread_example[0] for one in read if one.unread_example] == ["$[2].spend", "$[0].spend"]


def test_a_large_array_comes_in_parts() -> None:
    """
    A large body is decoded in parts, in order, with its stamps and with paths into the whole.
    """
    elements: list[Any] = [{"clickId": str(n), "offer": "x" * 1000} for n in range(4000)]
    elements[3000] = {"clickId": None}
    shape = compiled(account="advertiser_id")

    parts = list(shape.build([an_array(*elements, columns={"advertiser_id": "7"})]))

    rows = [row for part in parts for row in part.batch.rows]
    assert [row.click_id for row in rows] == [str(n) for n in range(4000) if n != 3000]
    assert {row.advertiser_id for row in rows} == {"7"}
    assert len(parts) == 8  # of half a mebibyte
    assert sum(part.count for part in parts) == 4000
    assert [path for part in parts for path, _ in reasons(part)] == ["$[3000].clickId"]


def test_the_parts_of_an_array_are_one_page() -> None:
    """
    A row that an earlier part had is repeated on its page; with other values it is rejected. What the page before had
    is repeated, too, and not fresh.
    """
    keys = SliceKeys()
    shape = compiled()
    decode_one(shape, an_array({"clickId": "before"}), slice_keys=keys)
    elements: list[Any] = [{"clickId": str(n), "offer": "x" * 1000, "jobId": n} for n in range(4000)]
    elements += [elements[1], {**elements[2], "jobId": 3}, {"clickId": "before"}]

    parts = list(shape.build([an_array(*elements)], slice_keys=keys))

    assert sum(len(part.batch) for part in parts) == 4000
    assert [sum(one) for one in zip(*[(p.repeated, p.fresh) for p in parts], strict=True)] == [2, 4002]
    assert [output for part in parts for output in reasons(part)] == [
        ("$[4001].clickId", "the key click_id 2 came before on this page, with other values")
    ]


@pytest.mark.parametrize("kind", ["report", "changes"])
@pytest.mark.parametrize("size", [10, 4000], ids=["small", "in chunks"])
@pytest.mark.parametrize("bound", [100_000, 100], ids=["in memory", "in a file"])
@pytest.mark.parametrize("space", ["", "\n"], ids=["compact", "with line ends"])
def test_repeats_on_the_only_page_are_those_of_any_page(kind: Any, size: int, bound: int, space: str) -> None:
    """
    On the only page of a listing values are compared where a key repeats, by reading both elements again: with the same
    results as by digests of all rows. Members in another order, and numbers spelled as text, are no other values.
    """
    elements: list[Any] = [
        {"clickId": str(n), "price": "1", "offer": {"of": "x" * 1000, "n": [1, 2]}, "jobId": n} for n in range(size)
    ]
    elements[5] = {"clickId": None}
    elements += [
        elements[1],
        {**elements[2], "jobId": 3},
        dict(reversed(elements[3].items())),
        {**elements[4], "price": "1", "jobId": 4},
        {**elements[2], "jobId": 3},
        elements[2],
        {**elements[0], "new": "member"},
        {"clickId": "last", "price": "1"},
        elements[1],
    ]
    raw = json.dumps(elements, indent=None).replace('"n": ', f'"n":{space} ').encode()
    shape = compiled_stream(a_stream(kind=kind))

    both: list[list[DecodedChunk]] = []
    for only_page in (True, False):
        keys = SliceKeys(bound=bound)
        keys.next_listing(only_page=only_page)
        both.append(list(shape.build((Items(raw=raw),), slice_keys=keys)))

    found = [
        (
            [(one.count, one.fresh, one.repeated, one.superseded) for one in parts],
            [msgspec.json.encode(row) for one in parts for row in one.batch.rows],
            [output for one in parts for output in reasons(one)],
        )
        for parts in both
    ]
    assert found[0] == found[1]
    assert sum(one.repeated for one in both[0]) >= 3
    assert any(one.superseded for one in both[0]) if kind == "changes" and size > 10 else bool(found[0][2])


def test_rows_without_a_key_that_come_again_in_another_part_are_fresh() -> None:
    """
    Equal rows without a key of their own are two records, wherever in their page they are.
    """
    elements = [{"title": f"{n} {'x' * 1000}"} for n in range(4000)]

    parts = list(compiled(Row).build([an_array(*elements, elements[0])]))

    assert sum(part.fresh for part in parts) == 4001
    assert len({row.key for part in parts for row in part.batch.rows}) == 4001


@pytest.mark.parametrize(
    "inside",
    [
        [{"a": 1}, {"b": [{}, {}]}] * 50,
        "},{" * 300,
        '"},{"' * 200,
        {"a": [[{}, {}], [{}, {}]] * 50},
        "\\" * 300 + '"},{',
    ],
    ids=["nested objects", "a text", "a text with quotes", "arrays in arrays", "escapes"],
)
@pytest.mark.large
def test_a_large_array_is_never_cut_inside_an_element(inside: Any) -> None:
    """
    A sign that only looks like the end of an element does not change the rows, nor is anything read twice.
    """
    elements: list[Any] = [{"clickId": str(n), "offer": inside} for n in range(3600)]
    elements[2500] = {"clickId": None}
    shape = compiled()

    parts = list(shape.build([an_array(*elements)]))

    assert len(parts) > 1
    alone = [decode_one(shape, an_array(*elements[start : start + 100])) for start in range(0, len(elements), 100)]
    assert [line for part in parts for line in written(part)] == [line for part in alone for line in written(part)]
    assert [path for part in parts for path, _ in reasons(part)] == ["$[2500].clickId"]
    assert {part.repeated for part in parts} == {0}


def test_a_large_array_that_is_cut_is_no_json() -> None:
    """
    A large body that ends too soon is an error, not fewer records.
    """
    raw = an_array(*({"clickId": str(n), "offer": "x" * 1000} for n in range(4000))).raw

    with pytest.raises(BrokenBodyError):
        list(compiled().build([Items(raw=raw[:-1])]))


def test_a_stamp_that_the_provider_sends_too_must_agree() -> None:
    """
    A row of another account than the one requested belongs elsewhere; a null one is filled.
    """
    decoded = decode_one(
        compiled(account="job_id"),
        an_array({"clickId": "a", "jobId": 7}, {"clickId": "b"}, {"clickId": "c", "jobId": 8}),
        {"job_id": "7"},
    )

    assert [(row.click_id, row.job_id) for row in decoded.batch.rows] == [("a", 7), ("b", 7)]
    assert reasons(decoded) == [("$[2].jobId", "job_id is 8, and 7 was requested")]


def test_a_record_that_was_not_requested_is_rejected() -> None:
    """
    A record that a request for several objects did not name is rejected by the values of a column: it belongs to no row
    of the parent.
    """
    decoded = decode_one(
        compiled(),
        an_array({"clickId": "a", "jobId": 7}, {"clickId": "b"}, {"clickId": "c", "jobId": 9}),
        {"job_id": frozenset(["7", "8"])},
    )

    assert [(row.click_id, row.job_id) for row in decoded.batch.rows] == [("a", 7), ("b", None)]
    assert reasons(decoded) == [("$[2].jobId", "job_id is 9, which was not requested")]


def test_stamps_that_do_not_fit() -> None:
    """
    A request's stamp that is no column, or no value of it, is the connector's fault; the answer's own, the record's.
    """
    shape = compiled(day="report_date")

    with pytest.raises(PluginError, match="nowhere"):
        decode_one(shape, an_array({"clickId": "a"}), {"nowhere": 1})
    with pytest.raises(PluginError, match="report_date"):
        decode_one(shape, an_array({"clickId": "a"}), {"report_date": "soon"})
    decoded = decode_one(shape, an_array({"clickId": "a"}, columns={"report_date": "total"}))
    assert reasons(decoded) == [("$[0]", "expected a date and time, got 'total'")]


def test_an_added_column_that_must_have_a_value() -> None:
    """
    A record whose required stamp is null is rejected; that nothing stamps any is the connector's fault.
    """

    @record()
    class Stamped:
        id: str
        parent: str = added()

    shape = compiled_stream(Stream(name="x", summary="", record=Stamped, kind="snapshot", key="id"))

    assert reasons(decode_one(shape, an_array({"id": "a"}), {"parent": None})) == [("$[0]", "parent has no value")]
    with pytest.raises(PluginError, match="the column parent is declared as added, and nothing fills it"):
        decode_one(shape, an_array({"id": "a"}))
    assert len(decode_one(shape, an_array({"id": "a"}), {"parent": "p"}).batch) == 1


def test_days_are_cut_in_the_sources_zone() -> None:
    """
    The day of a record is that of its time in the zone; rows of days that were not requested are rejected.
    """
    shape = compiled(Lead, day="report_date", day_of="saved", days_per_request=3, zone=ZoneInfo("America/New_York"))
    page = an_array(
        {"id": "a", "saved": "2026-03-02T04:59:00Z"},
        {"id": "b", "saved": "2026-03-02T05:00:00Z"},
        {"id": "c", "saved": "2026-03-05T00:00:00Z"},
        {"id": "d"},
    )

    decoded = decode_one(shape, page, days={date(2026, 3, 1), date(2026, 3, 2)})

    for column, zone in (("report_date", UTC), ("saved", ZoneInfo("America/New_York"))):
        parts = split_by_day(decoded.batch, column, zone)
        assert {day.day: [row.id for row in part.rows] for day, part in parts.items()} == {1: ["a"], 2: ["b"]}
    assert [path for path, _ in reasons(decoded)] == ["$[2].saved", "$[3].saved"]


def test_rows_of_another_request_are_dropped() -> None:
    """
    Where the provider may include the end of a period, rows of that moment are dropped and counted as repeated, and so
    is what is earlier or later but still of the days requested; a row of any other day is rejected.
    """
    shape = compiled(Lead, day="report_date", day_of="saved")
    page = an_array(
        {"id": "a", "saved": "2026-03-02T11:59:59Z"},
        {"id": "b", "saved": "2026-03-02T12:00:00Z"},
        {"id": "c", "saved": "2026-03-02T23:00:00Z"},
        {"id": "d", "saved": "2026-03-05T00:00:00Z"},
    )
    first, noon = datetime(2026, 3, 2, tzinfo=UTC), datetime(2026, 3, 2, 12, tzinfo=UTC)
    last = datetime(2026, 3, 5, tzinfo=UTC)

    half = decode_one(shape, page, span=(first, noon), days={date(2026, 3, 2)})
    rest = decode_one(shape, page, span=(noon, last), days={date(2026, 3, 2)})
    whole = decode_one(shape, page, span=(first, last), days={date(2026, 3, 2)})

    assert [row.id for row in half.batch.rows] == ["a"]
    assert [path for path, _ in reasons(half)] == ["$[3].saved"]
    assert (half.count, half.repeated) == (4, 2)
    assert [row.id for row in rest.batch.rows] == ["b", "c"]
    assert (rest.count, rest.repeated, rest.batch.rejected) == (4, 2, ())
    assert [row.id for row in whole.batch.rows] == ["a", "b", "c"]
    assert (whole.count, whole.repeated, whole.batch.rejected) == (4, 1, ())
