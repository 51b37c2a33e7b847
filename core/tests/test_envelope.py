"""
What an envelope finds in a body, and what it refuses.
"""

import gzip
import json
import sys
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from attrs import evolve
from penstock.envelope import Envelope, mended_surrogates
from penstock.errors import BoundExceededError, BrokenBodyError
from penstock.model import Answer, Items, Response
from penstock.report_files import BLOCK_BYTES, ReportFile


def an_answer(body: bytes | str, content_type: str = "application/json", status: int = 200) -> Response:
    raw = body.encode() if isinstance(body, str) else body
    headers = (("content-type", content_type),)
    return Response(status=status, headers=headers, body=raw, received_at=datetime(2026, 3, 1, tzinfo=UTC))


def found(answer: Answer) -> list[Any]:
    """Every run of items as (form, content, columns)."""
    return [(run.format, json.loads(bytes(run.raw)), dict(run.columns)) for run in answer.items]


def lines_of(items: Items) -> list[Any]:
    return [json.loads(line) for line in bytes(items.raw).splitlines()]


@pytest.mark.parametrize(
    ("envelope", "body", "items"),
    [
        pytest.param(Envelope(), "[1, 2]", [("array", [1, 2], {})], id="the body is the array"),
        pytest.param(Envelope(), ' {"a": 1}', [("object", {"a": 1}, {})], id="the body is the one item"),
        pytest.param(Envelope(items="data"), '{"data": [1]}', [("array", [1], {})], id="a member"),
        pytest.param(Envelope(items='"d"\n'), r'{"\"d\"\n": [1]}', [("array", [1], {})], id="a name that JSON escapes"),
        pytest.param(Envelope(items="data"), '{"data": {"a": 1}}', [("object", {"a": 1}, {})], id="a single object"),
        pytest.param(Envelope(items="d.rows"), '{"d": {"rows": [1]}}', [("array", [1], {})], id="nested"),
        pytest.param(Envelope(items=("a:b", "b")), '{"b": [1]}', [("array", [1], {})], id="the second alternative"),
        pytest.param(Envelope(items=("a", "b")), '{"a": null, "b": [1]}', [("array", [1], {})], id="null is not there"),
        pytest.param(Envelope(items=("data", "")), "[1]", [("array", [1], {})], id="a bare array in its place"),
        pytest.param(Envelope(items="data"), b'\xef\xbb\xbf{"data": []}', [("array", [], {})], id="a byte order mark"),
        pytest.param(
            Envelope(items="days", keyed_by="day"),
            '{"days": {"2026-03-01": [1], "2026-03-02": {"a": 1}, "2026-03-03": null}}',
            [("array", [1], {"day": "2026-03-01"}), ("object", {"a": 1}, {"day": "2026-03-02"})],
            id="a map of arrays",
        ),
        pytest.param(
            Envelope(items="data", within="offers", stamps={"ad_id": "id", "owner": "by.name"}),
            '{"data": [{"id": 7, "by": {"name": "x"}, "offers": [1]}, {"id": 8, "offers": []}, {"id": 9}]}',
            [("array", [1], {"ad_id": 7, "owner": "x"})],
            id="arrays within the elements of an array",
        ),
    ],
)
def test_items_are_found(envelope: Envelope, body: bytes | str, items: list[Any]) -> None:
    """
    Items are found at the envelope's path, in the form in which they are, with their stamps.
    """
    answer = envelope(an_answer(body))

    assert (found(answer), answer.problem) == (items, None)


def test_inner_arrays_may_be_absent_everywhere_where_the_envelope_allows_it() -> None:
    """
    Google Ads sends a batch without ``results`` for a day without rows.
    """
    answer = Envelope(within="results", optional=True)(an_answer('[{"requestId": "r"}]'))

    assert (answer.items, answer.problem) == ((), None)


@pytest.mark.parametrize("body", ['{"n": 0}', '{"n": 0, "days": null}', '{"days": {}}', '{"days": [ ]}', "[]", "null"])
def test_optional_items_may_be_empty_in_every_spelling(body: str) -> None:
    """
    Absence, null, and an empty map printed as a list mean no items, where the envelope allows it.
    """
    answer = Envelope(items="days", keyed_by="day", optional=True)(an_answer(body))

    assert (answer.items, answer.problem) == ((), None)


@pytest.mark.parametrize(
    ("envelope", "body", "problem"),
    [
        pytest.param(Envelope(items="data"), '{"status": 0, "message": "no"}', "status, message", id="absent"),
        pytest.param(Envelope(items="data"), '{"data": null}', "an array in 'data'", id="null"),
        pytest.param(Envelope(items="data"), '{"data": "none"}', '"none"', id="a text"),
        pytest.param(Envelope(items="data"), "[1]", "the body is an array", id="an array without the envelope"),
        pytest.param(Envelope(items="data"), "12", "a single value", id="a number"),
        pytest.param(Envelope(items=("data", "")), '{"error": 1}', "error", id="an object is no bare array"),
        pytest.param(Envelope(items="a.b", optional=True), '{"a": "down"}', '$.a is "down"', id="a text above a path"),
        pytest.param(Envelope(items="a.b", optional=True), '{"a": [1]}', "$.a is [1]", id="an array above a path"),
        pytest.param(Envelope(single=True), "[ ]", "not one object", id="nothing in place of one object"),
        pytest.param(
            Envelope(items="d", single=True), '{"d": []}', "one object in 'd'", id="nothing for one at a path"
        ),
        pytest.param(Envelope(items="d", keyed_by="day"), '{"d": [1]}', "a map of arrays", id="an array for a map"),
        pytest.param(Envelope(items="d", within="o"), '{"d": [1]}', "not an array in 'd'", id="outer is no object"),
        pytest.param(Envelope(within="o"), '[{"rows": [1]}, {"x": 1}]', "have rows, but not 'o'", id="a wrong within"),
        pytest.param(
            Envelope(within="o", optional=True),
            '[{"o": [1]}, {"error": {"code": 500, "message": "broken"}}]',
            "$[1] has no elements in 'o', and states a failure: error {\"code\": 500",
            id="an error in place of an inner array",
        ),
        pytest.param(Envelope(items="d", total="n"), '{"d": [], "n": -1}', "should be a count", id="a negative count"),
        pytest.param(
            Envelope(items="d", pages="n"), '{"d": [], "n": [1]}', "should be a count", id="a count in a list"
        ),
        pytest.param(Envelope(items="d", total="n"), '{"d": [], "n": "many"}', '"many"', id="a count in words"),
        pytest.param(Envelope(items="d", total="n"), '{"d": [], "n": 1.5}', "1.5", id="half a record"),
    ],
)
def test_another_shape_is_a_problem_that_names_the_members_found(envelope: Envelope, body: str, problem: str) -> None:
    """
    JSON of another shape leaves the decision to the judge, with no items and a problem that states what was seen.
    """
    answer = envelope(an_answer(body))

    assert answer.items == ()
    assert problem in (answer.problem or "")


@pytest.mark.parametrize("body", ['{"id": 1}', '[{"id": 1}]'])
def test_one_record_may_be_in_an_array(body: str) -> None:
    """
    Where a single one is expected, only an empty array is another shape.
    """
    assert Envelope(single=True)(an_answer(body)).problem is None


@pytest.mark.parametrize(
    ("body", "provisional"),
    [
        ('{"data": [], "meta": {"golden": false}}', "meta.golden is False"),
        ('{"data": [], "meta": {"golden": true}, "percent": "100"}', ""),
        ('{"data": [], "meta": {"golden": "true"}, "percent": 40}', "percent is 40"),
        ('{"data": [], "percent": 100.0}', ""),
        ('{"data": [], "meta": null, "percent": null}', ""),
    ],
)
def test_an_answer_may_be_provisional(body: str, provisional: str) -> None:
    """
    A member that has another value than the final one makes the answer provisional; one that is not there does not.
    """
    envelope = Envelope(items="data", provisional_unless={"meta.golden": True, "percent": 100})

    assert envelope(an_answer(body)).provisional == provisional


def test_the_head_reaches_the_judge_although_the_items_are_missing() -> None:
    """
    The members for the judge are read, as exact plain values, also from an answer without items.
    """
    answer = Envelope(items="data", head=("status", "error.code", "gone"))(
        an_answer('{"status": 0.10, "error": {"code": "E1"}}')
    )

    assert answer.head == {"status": Decimal("0.10"), "error.code": "E1"}
    assert answer.problem is not None


@pytest.mark.parametrize(
    ("stated", "read"), [("3", 3), ('"12"', 12), ("null", None), ('" 4 "', 4), ("5.0", 5), ("0", 0)]
)
def test_counts_are_whole_numbers_however_written(stated: str, read: int | None) -> None:
    """
    A count may be a number or digits in text; null states nothing.
    """
    answer = Envelope(items="d", total=("x", "n"), pages="n")(an_answer(f'{{"d": [], "n": {stated}}}'))

    assert (answer.total, answer.pages, answer.problem) == (read, read, None)


MALFORMED = {
    "cut in the array": '{"data": [1, 2',
    "cut in a text": '{"data": ["a',
    "cut after the items": '{"data": []',
    "trailing garbage": '{"data": []} x',
    "two documents": '{"data": []}{}',
    "not a number": '{"data": [NaN]}',
    "infinity": '{"data": [-Infinity]}',
    "a leading zero": '{"data": [01]}',
    "no digits after the point": '{"data": [1.]}',
    "a plus sign": '{"data": [+1]}',
    "a bad escape": '{"data": ["\\q"]}',
    "a short unicode escape": '{"data": ["\\u12"]}',
    "a bare control character": '{"data": ["a\x01b"]}',
    "a line end in a text": '{"data": ["a\nb"]}',
    "a trailing comma": '{"data": [1,]}',
    "a name without quotes": '{"data": [{a: 1}]}',
    "a word": '{"data": [tru]}',
    "garbage beside the items": '{"z": 01, "data": []}',
    "a bad escape beside the items": '{"z": "\\q", "data": []}',
    "plain text": "Service unavailable",
}


@pytest.mark.parametrize("body", MALFORMED.values(), ids=MALFORMED)
def test_malformed_json_is_broken_wherever_it_is(body: str) -> None:
    """
    A body that is no JSON is refused as a whole, inside the elements too, although they are not decoded yet.
    """
    with pytest.raises(BrokenBodyError, match="no JSON"):
        Envelope(items="data")(an_answer(body))


LONG = json.dumps([{"id": number, "data": 1, "total": 2} for number in range(50)])


@pytest.mark.parametrize(
    ("envelope", "body"),
    [
        (Envelope(items="data"), '{"data": [{"id": 1}], "data": []}'),
        (Envelope(items="data"), f'{{"data": {LONG}, "data": []}}'),
        (Envelope(items="data"), f'{{"data": [], "data": {LONG}}}'),
        (Envelope(items="data"), f'{{"data": {LONG}, "data": {LONG}}}'),
        (Envelope(items="data", total="total"), f'{{"total": 50, "data": {LONG}, "total": 0}}'),
        (Envelope(items="data", head=("status",)), f'{{"status": "READY", "data": {LONG}, "status": "FAILED"}}'),
        (Envelope(items="data", keyed_by="day", optional=True), f'{{"data": {{"2026-03-01": {LONG}}}, "data": []}}'),
        (Envelope(items="data", keyed_by="day"), f'{{"data": {{}}, "data": {{"2026-03-01": {LONG}}}}}'),
    ],
    ids=["short", "empty last", "empty first", "the same", "total", "status", "map, list last", "map, empty first"],
)
def test_a_member_that_is_there_twice_makes_a_body_broken(envelope: Envelope, body: str) -> None:
    """
    The decoder takes the last one, so that an empty array behind the records would be no records.
    """
    with pytest.raises(BrokenBodyError, match="twice"):
        envelope(an_answer(body))


@pytest.mark.parametrize(
    ("items", "body", "problem"),
    [
        (("data", "rows"), '{"data": [], "rows": [{}]}', "arrays in 'data' and in 'rows'"),
        (("data", "rows"), '{"rows": [{}], "data": [{}]}', "arrays in 'data' and in 'rows'"),
        (("data", "rows"), '{"rows": [{}], "data": null}', None),
        (("data", "rows"), '{"rows": [ ], "data": [{}]}', None),
        (("data.rows", "data"), '{"data": {"rows": [{}]}}', None),
        (("data", ""), '{"data": [{}]}', None),
    ],
)
def test_records_in_two_places_are_a_problem(items: tuple[str, ...], body: str, problem: str | None) -> None:
    """
    An empty array before the one with the records would be no records.
    """
    answer = Envelope(items=items)(an_answer(body))

    assert answer.problem is None if problem is None else problem in str(answer.problem)


@pytest.mark.parametrize(
    ("members", "failure"),
    [
        ('"error": "timeout"', 'error "timeout"'),
        ('"errorMessage": "timeout"', 'errorMessage "timeout"'),
        ('"errors": [{"code": 17}]', 'errors [{"code": 17}]'),
        ('"success": false', "success false"),
        ('"Status": "failed"', 'Status "failed"'),
        ('"status": 500', "status 500"),
        ('"statusCode": "500"', 'statusCode "500"'),
        ('"success": " False "', 'success " False "'),
        ('"result": false', "result false"),
        ('"failure": true', "failure true"),
        ('"result": null, "ok": null, "failure": false, "statusCode": 1, "status": 302', ""),
        ('"error": null, "errors": [], "success": true, "status": "ok", "statusCode": 200', ""),
        ('"result": "failed"', 'result "failed"'),
        ('"failure": "timeout"', 'failure "timeout"'),
        ('"result": 0, "failure": 2, "errorMessage": "Success", "error": {"code": 0, "text": "No error"}', ""),
        ('"head": {"error": "timeout"}', ""),
    ],
)
def test_a_failure_is_found_beside_records_of_any_size(members: str, failure: str) -> None:
    """
    The members that mean a failure anywhere show it. One that the envelope reads is left to the judge of the connector.
    """
    body = f'{{"data": {LONG}, {members}}}'

    assert Envelope(items="data")(an_answer(body)).failure == failure
    names = ("error", "errors", "errorMessage", "success", "result", "failure", "Status", "status", "statusCode")
    read = Envelope(items="data", head=names)
    assert read(an_answer(body)).failure == ""
    assert Envelope()(an_answer(body)).failure == ""


@pytest.mark.parametrize("rows", ['[{"data": 1, "total": 1}, {"data": 2, "total": 2}]', LONG], ids=["short", "long"])
def test_members_of_records_may_have_the_names_of_the_envelope(rows: str) -> None:
    """
    Only the body's own members are looked at: a text that has a name in quotes is none either.
    """
    body = f'{{"note": "\\"data\\": \\"total\\"", "z": {{"data": 1, "total": 2}}, "data": {rows}, "total": 2}}'

    (items,) = Envelope(items="data", total="total")(an_answer(body)).items

    assert bytes(items.raw).decode() == rows


@pytest.mark.parametrize(
    ("body", "output"),
    [
        pytest.param(b"", "empty", id="nothing"),
        pytest.param(b" \n", "empty", id="blanks"),
        pytest.param(b"<!doctype html><title>Log in</title>", "HTML", id="a login page"),
        pytest.param(b'{"data": ["\xff"]}', "UTF-8", id="invalid UTF-8 in the items"),
        pytest.param(b'{"z": "\xff", "data": []}', "UTF-8", id="invalid UTF-8 beside them"),
    ],
)
def test_a_body_that_is_no_data_is_named(body: bytes, output: str) -> None:
    """
    An empty body, a web page and bytes that are no text are refused under their names.
    """
    with pytest.raises(BrokenBodyError, match=output):
        Envelope(items="data")(an_answer(body))


@pytest.mark.parametrize("body", ['{"data": %s}', '{"z": %s, "data": []}', "%s"], ids=["items", "beside", "body"])
def test_deep_nesting_is_bounded(body: str) -> None:
    """
    A body that is nested to exhaust the stack ends in an error of its own.
    """
    with pytest.raises(BoundExceededError, match="nested"):
        Envelope(items=("data", ""))(an_answer(body % ("[" * 1_000_000 + "]" * 1_000_000)))


@pytest.mark.parametrize(
    ("raw", "content_type"),
    [
        pytest.param('["Köln"]'.encode("latin-1"), "application/json; charset=ISO-8859-1", id="as the header states"),
        pytest.param('["Köln"]'.encode(), "application/json; charset=ISO-8859-1", id="UTF-8 against the header"),
        pytest.param('["Köln"]'.encode("utf-16"), "application/json", id="UTF-16 with a mark"),
        pytest.param('["Köln"]'.encode("utf-16-le"), "application/json; charset=utf-16", id="UTF-16 without"),
    ],
)
def test_other_charsets_become_utf8(raw: bytes, content_type: str) -> None:
    """
    Valid UTF-8 is taken as that; other bytes by the charset of the header, or what their beginning shows.
    """
    answer = Envelope()(an_answer(raw, content_type))

    assert found(answer) == [("array", ["Köln"], {})]


def test_half_a_character_does_not_break_the_answer() -> None:
    """
    A text that was cut inside a surrogate pair ends in U+FFFD; whole pairs and escaped backslashes are left alone.
    """
    body = r'["cut \ud83d", "\ud83d\ude00", "\\ud83d", "\ude00"]'

    assert found(Envelope()(an_answer(body))) == [("array", ["cut \ufffd", "\U0001f600", "\\ud83d", "\ufffd"], {})]
    assert mended_surrogates(b'["plain"]') == b'["plain"]'


def test_members_whose_names_end_in_halves_stay_apart() -> None:
    """
    Names of members that were cut inside different characters do not become one: the half is kept as its escape.
    """
    body = r'[{"a\ud83d": 1, "a\ud83e" : "\ud83d", "\ud83d\ude00": "\"\ud83d: "}]'

    members = {"a\\ud83d": 1, "a\\ud83e": "\ufffd", "\U0001f600": '"\ufffd: '}
    assert found(Envelope()(an_answer(body))) == [("array", [members], {})]


def test_the_search_for_halves_does_not_take_a_call_per_text() -> None:
    """
    Each body that cannot be decoded is searched for them, and may have a million texts.
    """
    body = b'[%s "\\ud83d, \\ud83e"' % (b'{"name": "a text"}, ' * 1000)
    calls = []
    sys.setprofile(lambda frame, event, argument: calls.append(event) if event == "call" else None)
    try:
        mended = mended_surrogates(body)
    finally:
        sys.setprofile(None)

    assert mended.endswith(rb'"\ufffd, \ufffd"')
    assert len(calls) < 100


# --- report files ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzip"])
@pytest.mark.parametrize(
    ("body", "form", "records"),
    [
        pytest.param('[{"a": 1}]', "array", [{"a": 1}], id="array"),
        pytest.param('{"data": [{"a": 1}], "n": 1}', "array", [{"a": 1}], id="object with the array"),
        pytest.param('{\n "rows": [{"a": 1}]\n}\n', "array", [{"a": 1}], id="the same over many lines"),
        pytest.param('{"a": 1}\n{"a": 2}\n', "lines", [{"a": 1}, {"a": 2}], id="JSON lines"),
        pytest.param('{"a": 1}', "lines", [{"a": 1}], id="one JSON line"),
        pytest.param('{"data": 1}\r\n{"data": 2}', "lines", [{"data": 1}, {"data": 2}], id="lines with such a member"),
    ],
)
def test_a_report_file_shows_its_format(pack: Any, body: str, form: str, records: list[Any]) -> None:
    """
    The format is taken from the content, packed or not.
    """
    (items,) = ReportFile()(an_answer(pack(body.encode()))).items

    assert items.format == form
    assert (json.loads(bytes(items.raw)) if form == "array" else lines_of(items)) == records


@pytest.mark.parametrize(
    ("body", "header", "delimiter"),
    [
        pytest.param("a,b\n1,2\n", ("a", "b"), ",", id="comma"),
        pytest.param('\ufeff"a ";b\r\n1;2\r\n', ("a", "b"), ";", id="semicolon, mark, quotes"),
        pytest.param("a\tb", ("a", "b"), "\t", id="tabs, no rows"),
    ],
)
def test_csv_is_detected_by_its_header(body: str, header: tuple[str, ...], delimiter: str) -> None:
    """
    A body that is not JSON and begins with a row of distinct names is CSV: its header comes first, then its rows.
    """
    head, *blocks = ReportFile()(an_answer(body + "\n1")).items

    assert (head.header, bytes(head.raw)) == (header, b"")
    assert [(run.format, run.texts, run.header, run.delimiter) for run in blocks] == [("csv", True, header, delimiter)]


@pytest.mark.parametrize(
    ("body", "output"),
    [
        pytest.param(b"", "empty", id="zero bytes"),
        pytest.param(b"Report not found", "header row", id="a message in plain text"),
        pytest.param(b"a,a\n1,2\n", "header row", id="two columns of one name"),
        pytest.param(b'"a\nx",b\n1,2\n', "header row", id="a line end in a name"),
        pytest.param(b"a,\n1,2\n", "header row", id="a column without a name"),
        pytest.param(b'{"a": 1}\n{"a": ', "JSON lines", id="cut JSON lines"),
        pytest.param(gzip.compress(b"[1]")[:-6], "cut", id="cut gzip"),
        pytest.param(gzip.compress(b"[1]" * 99)[:12] + b"x" * 30, "not whole", id="broken gzip"),
        pytest.param(b"<html>", "HTML", id="a page"),
    ],
)
def test_a_report_that_is_none_is_broken(body: bytes, output: str) -> None:
    """
    A file that is empty, cut, or a message instead of a report is an error, never a report without records.
    """
    with pytest.raises(BrokenBodyError, match=output):
        ReportFile()(an_answer(body))


def test_a_packed_bomb_is_bounded() -> None:
    """
    A file that grows beyond the bound when unpacked is not unpacked.
    """
    with pytest.raises(BoundExceededError, match="1 MiB"):
        ReportFile()(evolve(an_answer(gzip.compress(b" " * 3_000_000 + b"[]")), max_unpacked_bytes=2**20))


@pytest.mark.parametrize(
    ("body", "taken"),
    [
        (b'[{"a": 1}]', True),
        (b'{"data": [{"a": 1}]}', True),
        (gzip.compress(b"a,b\n1,2\n"), True),
        (b"a,b\n1,2\n", False),
        (b'{"a": 1}\n{"a": 2}\n', False),
    ],
    ids=["array", "object", "packed", "CSV", "JSON lines"],
)
def test_a_file_that_just_ended_must_have_an_end_of_its_own(body: bytes, taken: bool) -> None:
    """
    Where nothing but the end of the connection shows that a file is whole, lines of it could be missing.
    """
    answer = evolve(an_answer(body), measured=False)

    if taken:
        assert ReportFile()(answer).items
    else:
        with pytest.raises(BrokenBodyError, match="nothing shows that it is whole"):
            ReportFile()(answer)


@pytest.mark.parametrize("form", ["lines", "csv"])
def test_a_large_file_comes_in_blocks_that_end_with_records(form: str) -> None:
    """
    Blocks are cut at the ends of records, never inside a quoted field, and together are the file.
    """
    record = b'{"a": "%s"}\n' % (b"x" * 1000) if form == "lines" else b'1,"%s\n""\n"\n' % (b"x" * 1000)
    head = b"" if form == "lines" else b"a,b\n"
    body = head + record * (2 * BLOCK_BYTES // len(record) + 10)

    answer = ReportFile()(an_answer(body))
    items = [run for run in answer.items if run.raw]

    assert len(items) == 3
    assert head + b"".join(bytes(run.raw) for run in items) == body
    assert all(len(run.raw) % len(record) == 0 for run in items)
    assert [bytes(run.raw) for run in answer.items if run.raw] == [bytes(run.raw) for run in items]
