"""
How a listing is paged: what identifies a request, when a page is the last one, and how a cut answer is divided.
"""

import json
import tracemalloc
from collections.abc import Iterable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from attrs import evolve, frozen
from penstock import (
    Answer,
    Derived,
    Envelope,
    OpenFor,
    Page,
    PluginError,
    Refuse,
    RefusedError,
    Request,
    Response,
    SandboxRequest,
    SinglePage,
    Slice,
    Stream,
    Verdict,
    added,
    column,
    named,
    record,
)
from penstock_plugins.paging import Offset, PageNumber
from scripted_provider import ScriptedProvider

pytestmark = pytest.mark.slow


@record()
class Order:
    """An order."""

    id: int = column(default=...)
    at: datetime | None = column(zone="naive")


@record()
class Timed:
    """An order whose time has a zone."""

    id: int
    at: datetime


ITEMS = Envelope(items="data", total="total")


def orders(**changes: Any) -> Stream:
    """A snapshot of each of some accounts."""
    stream = Stream(
        name="orders",
        summary="orders",
        record=Order,
        kind="snapshot",
        key="id",
        account="shop",
        accounts=lambda settings: ("a",),
        requests=lambda settings, slice_: [Request(url=f"{settings.base_url}/{slice_.account}")],
        envelope=ITEMS,
    )
    return evolve(stream, **changes)


def page_of(rows: list[Any], request: SandboxRequest, cap: int) -> dict[str, Any]:
    number = int(request.params["page"])
    return {"data": rows[cap * (number - 1) : cap * number]}


def ids(first: int, count: int) -> list[dict[str, int]]:
    return [{"id": first + number} for number in range(count)]


# --- the last page --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cap", [1, 2, 3, 100])
def test_a_provider_that_caps_its_pages_loses_no_row(cap: int, tmp_path: Path) -> None:
    """
    A page shorter than the declared size is no last page: the provider may give fewer than were requested.
    """
    shop = ScriptedProvider(
        folder=tmp_path,
        streams=[orders(paginator=named("page_number", size_param="size", size=2))],
        answer=lambda request: page_of(ids(1, 7), request, cap),
    )

    assert shop.run().exit_code == 0
    assert [row["id"] for row in shop.rows("orders")] == [1, 2, 3, 4, 5, 6, 7]


def test_a_short_page_in_the_middle_of_a_listing_loses_no_row(tmp_path: Path) -> None:
    """
    A provider that removes records after it cut the page: only an empty page is the last.
    """
    pages = {"1": ids(1, 3), "2": ids(4, 1), "3": ids(7, 3)}
    shop = ScriptedProvider(
        folder=tmp_path,
        streams=[orders(paginator=named("page_number", size_param="size", size=3))],
        answer=lambda request: {"data": pages.get(request.params["page"], [])},
    )

    assert shop.run().exit_code == 0
    assert [row["id"] for row in shop.rows("orders")] == [1, 2, 3, 4, 7, 8, 9]


def test_looking_behind_the_longest_page_costs_one_request_a_run(tmp_path: Path) -> None:
    """
    With ``short_page_ends`` a page is the last one where another of the stream was longer; only behind the longest
    another page is requested.
    """
    counts = {"a": 9, "b": 8, "c": 0, "d": 3, "e": 8}
    paginator = named("page_number", size=100, short_page_ends=True)
    stream = orders(accounts=lambda settings: tuple(counts), paginator=paginator)
    shop = ScriptedProvider(
        folder=tmp_path,
        streams=[stream],
        answer=lambda request: page_of(ids(1, counts[request.path[1:]]), request, 100),
    )

    assert shop.run(concurrency=1).exit_code == 0
    assert len(shop.rows("orders")) == sum(counts.values())
    assert len(shop.requests) == len(counts) + 1


@frozen
class Endless(SinglePage):
    """Names a further page, whatever comes."""

    def next(self, page: Page) -> Request | None:
        return page.request.with_param("page", str(int(page.request.param("page") or 1) + 1))


def test_a_hundred_empty_pages_in_a_row_end_a_listing(tmp_path: Path) -> None:
    """
    After a hundred empty pages in a row a listing is an error that names the paginator; nothing is replaced.
    """
    shop = ScriptedProvider(
        folder=tmp_path,
        streams=[orders(paginator=Endless())],
        answer=lambda request: {"data": ids(1, 2) if "page" not in request.params else []},
    )

    report = shop.run()

    assert (report.exit_code, len(shop.requests)) == (1, 101)
    assert (
        "100 pages in a row are empty, up to page 101, and the paginator Endless names another"
        in report.errors[0]["message"]
    )
    assert shop.rows("orders") == []


def test_an_empty_object_on_every_page_ends_a_listing(tmp_path: Path) -> None:
    """
    ``{"data": {}}``, as PHP prints an empty map, is a record that cannot be read. Its page comes again like any other.
    """
    shop = ScriptedProvider(
        folder=tmp_path,
        streams=[orders(paginator=named("page_number", size=100, short_page_ends=True))],
        answer=lambda request: {"data": {}},
    )

    report = shop.run(max_pages=100)

    assert report.exit_code == 1
    assert "page 2 came again" in report.errors[0]["message"]
    assert len(shop.requests) <= 2 * 6


def test_more_records_than_the_stated_total_end_a_listing(tmp_path: Path) -> None:
    """
    The error names the paginator and both numbers.
    """

    def answer(request: SandboxRequest) -> Any:
        number = int(request.params.get("page", 1))
        return {"data": ids(2 * number, 2), "total": 3}

    shop = ScriptedProvider(folder=tmp_path, streams=[orders(paginator=Endless())], answer=answer)

    report = shop.run()

    assert report.exit_code == 1
    assert "states 3 records, and the paginator Endless found more, 4 up to page 2" in report.errors[0]["message"]
    assert len(shop.requests) <= 2 * 6


@pytest.mark.parametrize(
    ("paginator", "total", "listed"),
    [
        (PageNumber(size_param="limit", size=2, more="more"), 2, 3),
        (PageNumber(size_param="limit", size=2, more="more"), 4, 5),
        (Offset(size=2, more="more"), 2, 3),
        (Offset(size=2, more="more"), 4, 5),
    ],
    ids=["on the first page", "on the last page", "by offset, on the first page", "by offset, on the last page"],
)
def test_a_total_that_is_too_low_ends_no_listing_that_goes_on(
    paginator: SinglePage, total: int, listed: int, tmp_path: Path
) -> None:
    """
    Where the last page that the total allows states another one, that is requested, and the total is contradicted.
    """

    def answer(request: SandboxRequest) -> Any:
        at = int(request.params.get("offset", 2 * (int(request.params.get("page", 1)) - 1)))
        return {"data": ids(1, listed)[at : at + 2], "total": total, "more": at + 2 < listed}

    envelope = Envelope(items="data", total="total", head=("more",))
    shop = ScriptedProvider(folder=tmp_path, streams=[orders(paginator=paginator, envelope=envelope)], answer=answer)

    report = shop.run()

    assert report.exit_code == 1
    assert f"states {total} records, and the paginator" in report.errors[0]["message"]
    assert shop.rows("orders") == []


# --- what identifies a request --------------------------------------------------------------------------------------


@frozen
class InBody(SinglePage):
    """The page is a cursor in the JSON body of a POST."""

    def next(self, page: Page) -> Request | None:
        cursor = page.answer.head.get("next")
        return None if cursor is None else Request.json("POST", page.request.url, {"query": "orders", "after": cursor})


@frozen
class InHeader(SinglePage):
    """The page is a number in a header."""

    def next(self, page: Page) -> Request | None:
        cursor = page.answer.head.get("next")
        return None if cursor is None else page.request.with_headers(("X-After", cursor))


def cursor_of(request: SandboxRequest) -> str:
    if request.body:
        return str(json.loads(request.body)["after"])
    return request.headers.get("x-after", "")


@pytest.mark.parametrize("paginator", [InBody(), InHeader()], ids=["body", "header"])
@pytest.mark.parametrize("circle", [False, True], ids=["ends", "in a circle"])
def test_pages_by_body_and_by_header(paginator: SinglePage, circle: bool, tmp_path: Path) -> None:
    """
    One URL for all pages: each page is read once, and a page that names an earlier one is an error.
    """
    following = {"": "one", "one": "two", "two": "one" if circle else None}
    first = {"": 1, "one": 3, "two": 5}

    def answer(request: SandboxRequest) -> Any:
        return {"data": ids(first[cursor_of(request)], 2), "next": following[cursor_of(request)]}

    def requests(settings: Any, slice_: Slice) -> Iterable[Request]:
        url = f"{settings.base_url}/graphql"
        first = Request.json("POST", url, {"query": "orders", "after": ""})
        yield first if isinstance(paginator, InBody) else Request(url=url)

    shop = ScriptedProvider(
        folder=tmp_path,
        streams=[orders(requests=requests, paginator=paginator, envelope=Envelope(items="data", head=("next",)))],
        answer=answer,
    )

    report = shop.run()

    if circle:
        assert report.exit_code == 1
        assert "its pages go in a circle" in report.errors[0]["message"]
    else:
        assert report.exit_code == 0
        assert [row["id"] for row in shop.rows("orders")] == [1, 2, 3, 4, 5, 6]


# --- smaller pages --------------------------------------------------------------------------------------------------


@frozen
class Shrinking(SinglePage):
    """Offset paging that halves its limit where the provider refuses it."""

    def first(self, request: Request) -> Request:
        return request.with_param("offset", "0").with_param("limit", "8")

    def next(self, page: Page) -> Request | None:
        offset = int(page.request.param("offset") or 0) + page.count
        return page.request.with_param("offset", str(offset)) if page.count else None

    def smaller(self, request: Request, response: Response) -> Request | None:
        limit = int(request.param("limit") or 1) // 2
        return request.with_param("limit", str(limit)) if limit and response.status == 500 else None


def too_much(response: Response, answer: Answer | None) -> Verdict | None:
    refused = response.status == 500 and b"reduce the amount" in response.body
    return Refuse(RefusedError("the provider refuses so many records at once")) if refused else None


def reduced(folder: Path, most: dict[int, int]) -> ScriptedProvider:
    """A shop of 12 orders that answers at most ``most`` of them from an offset on, by the first that applies."""

    def answer(request: SandboxRequest) -> Any:
        offset, limit = int(request.params["offset"]), int(request.params["limit"])
        if limit > next(size for start, size in sorted(most.items(), reverse=True) if offset >= start):
            return b"500 reduce the amount of data"
        return {"data": ids(1, 12)[offset : offset + limit]}

    return ScriptedProvider(folder=folder, streams=[orders(paginator=Shrinking(), judge=too_much)], answer=answer)


@pytest.mark.parametrize("most", [{0: 2}, {0: 8, 4: 2, 8: 1}], ids=["from the start", "in the middle"])
def test_smaller_pages_are_requested_again_and_again(most: dict[int, int], tmp_path: Path) -> None:
    """
    Smaller pages are requested as long as the provider refuses a page as too large and the paginator names a smaller
    one; also in the middle.
    """
    shop = reduced(tmp_path, most)
    shop.statuses = {b"500 reduce the amount of data": 500}

    assert shop.run().exit_code == 0
    assert [row["id"] for row in shop.rows("orders")] == list(range(1, 13))


def test_a_page_that_cannot_be_smaller_stays_refused(tmp_path: Path) -> None:
    """
    Where the paginator names no smaller page, the provider's refusal is the error.
    """
    shop = reduced(tmp_path, {0: 0})
    shop.statuses = {b"500 reduce the amount of data": 500}

    report = shop.run()

    assert report.exit_code == 1
    assert "refuses so many records at once" in report.errors[0]["message"]
    assert len(shop.requests) == 4


@pytest.mark.parametrize(("empty", "rows"), [(1, 6), (9, 4)], ids=["once", "always"])
def test_an_empty_last_page_is_read_again(empty: int, rows: int, tmp_path: Path) -> None:
    """
    Where the provider states three pages, and the third is empty, the listing is read once more: a report may have
    expired. If that page is empty again, the number was one too many.
    """
    left = [empty]

    def answer(request: SandboxRequest) -> Any:
        page = page_of(ids(1, 6), request, 2)
        if request.params["page"] == "3" and left[0]:
            left[0] -= 1
            page["data"] = []
        return {**page, "pages": 3}

    stated = Envelope(items="data", pages="pages")
    shop = ScriptedProvider(
        folder=tmp_path, streams=[orders(paginator=named("page_number", size=2), envelope=stated)], answer=answer
    )

    assert shop.run().exit_code == 0
    assert [row["id"] for row in shop.rows("orders")] == list(range(1, rows + 1))
    assert any("the last one that the provider states, is empty; reading it again" in note for note in shop.notes)


@pytest.mark.parametrize("empty", [1, 9], ids=["once", "always"])
def test_an_empty_page_that_should_be_the_only_one_is_read_again(empty: int, tmp_path: Path) -> None:
    """
    One page is stated, and it has nothing: a report may be ready before its rows are. Twice empty, it is empty.
    """
    left = [empty]

    def answer(request: SandboxRequest) -> Any:
        left[0] -= 1
        return {"data": ids(1, 2) if left[0] < 0 else [], "pages": 1}

    stated = Envelope(items="data", pages="pages")
    shop = ScriptedProvider(
        folder=tmp_path, streams=[orders(paginator=named("page_number", size=2), envelope=stated)], answer=answer
    )

    assert shop.run().exit_code == 0
    assert len(shop.rows("orders")) == (2 if empty == 1 else 0)
    assert len(shop.requests) == 2


@pytest.mark.parametrize("empty", [1, 9], ids=["once", "always"])
def test_an_empty_array_in_place_of_an_object_is_read_again(empty: int, tmp_path: Path) -> None:
    """
    A provider may send its records in an object or as a bare array. An empty array may be a failure of what stands
    before it, and states nothing. Twice empty, it is empty.
    """
    left = [empty]

    def answer(request: SandboxRequest) -> Any:
        left[0] -= 1
        return {"data": ids(1, 2), "total": 2} if left[0] < 0 else []

    either = Envelope(items=("data", ""), total="total")
    shop = ScriptedProvider(
        folder=tmp_path, streams=[orders(paginator=named("page_number", size=2), envelope=either)], answer=answer
    )

    assert shop.run().exit_code == 0
    assert len(shop.rows("orders")) == (2 if empty == 1 else 0)
    assert len(shop.requests) == 2


@pytest.mark.parametrize("short", [1, 9], ids=["once", "always"])
def test_a_first_page_that_is_shorter_than_the_others_is_read_again(short: int, tmp_path: Path) -> None:
    """
    Where the number of pages is stated, all but the last are full: the rows that the first one lacks are not lost.
    """
    left = [short]

    def answer(request: SandboxRequest) -> Any:
        page = page_of(ids(1, 6), request, 2)
        if request.params["page"] == "1":
            left[0] -= 1
            page["data"] = page["data"][:1] if left[0] >= 0 else page["data"]
        return {**page, "pages": 3}

    stated = Envelope(items="data", pages="pages")
    shop = ScriptedProvider(
        folder=tmp_path, streams=[orders(paginator=named("page_number", size=2), envelope=stated)], answer=answer
    )

    report = shop.run()

    assert report.exit_code == (0 if short == 1 else 1)
    assert [row["id"] for row in shop.rows("orders")] == (list(range(1, 7)) if short == 1 else [])


# --- answers that are cut at a ceiling ------------------------------------------------------------------------------

CEILING = 4


@frozen
class Cut(SinglePage):
    """The provider never lists more than four records."""

    def reached_ceiling(self, page: Page) -> bool:
        return page.count >= CEILING


@frozen
class FormerCut(SinglePage):
    """The same by the name that development versions had."""

    def capped(self, page: Page) -> bool:
        return page.count >= CEILING


def divided(folder: Path, times: list[datetime], *, of: str = "time", **changes: Any) -> ScriptedProvider:
    """A shop whose orders were made at these times, read by time, by day, or by nothing that can be divided."""

    def requests(settings: Any, slice_: Slice) -> Iterable[Request]:
        first, last = slice_.start, slice_.end
        if of == "day":
            first, last = slice_.since, slice_.until  # type: ignore[assignment]
        params = () if of == "nothing" else (("from", str(first)), ("to", str(last)))
        yield Request(url=f"{settings.base_url}/orders", params=params)

    def answer(request: SandboxRequest) -> Any:
        def within(time: datetime) -> bool:
            first, last = request.params["from"], request.params["to"]
            if of == "day":
                return first <= str(time.date()) <= last
            return first <= f"{time}+00:00" < last

        found = [(number, time) for number, time in enumerate(times) if of == "nothing" or within(time)]
        return {"data": [{"id": number, "at": f"{time:%Y-%m-%dT%H:%M:%S}"} for number, time in found[:CEILING]]}

    stream = Stream(
        name="orders",
        summary="orders",
        record=Order,
        kind="report",
        key="id",
        day="report_date",
        day_of="at",
        days_per_request=31,
        requests=requests,
        envelope=ITEMS,
        paginator=Cut(),
        open_for=OpenFor(0),
    )
    return ScriptedProvider(folder=folder, streams=[evolve(stream, **changes)], answer=answer)


def at(*hours: float) -> list[datetime]:
    return [datetime.fromisoformat("2026-06-14") + timedelta(hours=hour) for hour in hours]


def targets(shop: ScriptedProvider) -> list[str]:
    return [request.target for request in shop.requests]


@pytest.mark.parametrize("paginator", [FormerCut(), lambda settings: FormerCut()], ids=["value", "of the settings"])
def test_a_paginator_with_a_method_of_a_former_name_is_refused(paginator: Any, tmp_path: Path) -> None:
    """
    Nothing calls ``capped`` any more: truncated days would count as whole. One that is a value is refused at load.
    """
    shop = divided(tmp_path, at(1, 2, 3, 4, 5), paginator=paginator)

    with pytest.raises(PluginError, match=r"FormerCut \(test_paging\.py, line \d+\) has capped, which is reached_"):
        shop.run()


@pytest.mark.parametrize("of", ["time", "day"])
def test_an_answer_cut_at_a_ceiling_is_read_in_halves(of: str, tmp_path: Path) -> None:
    """
    Down to what fits; no request is sent twice, and every row comes once.
    """
    times = at(*range(0, 72, 24), *range(1, 72, 24), *range(2, 72, 24))
    shop = divided(tmp_path, times, of=of, smallest="day" if of == "day" else "second")

    assert shop.run().exit_code == 0
    assert sorted(row["id"] for row in shop.rows("orders")) == list(range(len(times)))
    assert len(set(targets(shop))) == len(targets(shop))


@pytest.mark.parametrize("paging", ["cursor", "link"])
def test_a_ceiling_of_any_paging_divides_the_slice(paging: str, tmp_path: Path) -> None:
    """
    A listing by cursor or link ends at the declared ceiling, behind which the provider refuses each page, and is read
    in halves.
    """
    shop = divided(
        tmp_path,
        at(*range(9)),
        paginator=named(paging, member="next", ceiling=CEILING),
        envelope=Envelope(items="data"),
    )

    def answer(request: SandboxRequest) -> Any:
        start = int(request.params.get("cursor", "0"))
        if start >= CEILING:
            return 400
        first, last = request.params["from"], request.params["to"]
        found = [
            {"id": number, "at": f"{time:%Y-%m-%dT%H:%M:%S}"}
            for number, time in enumerate(at(*range(9)))
            if first <= f"{time}+00:00" < last
        ]
        cursor = str(start + 2) if start + 2 < len(found) else ""
        link = f"?{urlencode({**request.params, 'cursor': cursor})}" if cursor else ""
        return {"data": found[start : start + 2], "next": link if paging == "link" else cursor}

    shop.answer = answer

    assert shop.run().exit_code == 0
    assert sorted(row["id"] for row in shop.rows("orders")) == list(range(9))


def test_a_day_is_divided_by_time(tmp_path: Path) -> None:
    """
    Where a stream allows it, also a single day is divided, each part once.
    """
    times = at(*(number / 2 for number in range(40)))
    shop = divided(tmp_path, times)

    assert shop.run().exit_code == 0
    assert sorted(row["id"] for row in shop.rows("orders")) == list(range(40))
    assert len(set(targets(shop))) == len(targets(shop))


@pytest.mark.parametrize(
    ("of", "smallest", "requests"),
    [("day", "day", 1), ("day", "second", 1), ("nothing", "second", 1), ("time", "hour", 31)],
    ids=["smallest is a day", "the request does not change", "nothing in the request", "an hour"],
)
def test_a_truncated_slice_that_cannot_be_divided_is_delivered_and_marked(
    of: str, smallest: str, requests: int, tmp_path: Path
) -> None:
    """
    The run ends with 1. The request is sent once, not again and again in the hope of another answer.
    """
    times = at(*(1 + number / 100 for number in range(9)))
    shop = divided(tmp_path, times, of=of, smallest=smallest)

    report = shop.run(until="2026-06-14")

    assert (report.exit_code, report.total("truncated"), len(shop.rows("orders"))) == (1, 1, CEILING)
    assert len(set(targets(shop))) == len(targets(shop)) <= requests


@pytest.mark.parametrize("held", [0, 20_000], ids=["too many to hold", "held"])
def test_rows_of_a_cut_answer_are_not_delivered_twice(
    held: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Rows are not delivered twice where an answer turns out to be cut after some of its rows were written: the slice is
    read from its start then.
    """
    monkeypatch.setattr("penstock._read.chunk_writer.MAX_HELD_RECORDS", held)  # a bound, which no setting changes
    times = at(*range(0, 72, 3))
    shop = divided(tmp_path, times)

    assert shop.run().exit_code == 0
    assert (len(set(targets(shop))) < len(targets(shop))) == (held == 0)
    assert sorted(row["id"] for row in shop.rows("orders")) == list(range(len(times)))


@pytest.mark.parametrize("held", [0, 20_000], ids=["too many to hold", "held"])
def test_the_total_of_a_listing_below_its_ceiling_is_promised(
    held: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Rows that wait until their slice is known to be whole have the provider's number of records all the same.
    """
    monkeypatch.setattr("penstock._read.chunk_writer.MAX_HELD_RECORDS", held)
    shop = divided(tmp_path, [])
    shop.answer = lambda request: {"data": [{"id": 1, "at": "2026-06-14T01:00:00"}], "total": 1}

    report = shop.run(until="2026-06-14")

    assert (report.exit_code, report.total("records"), report.total("promised")) == (0, 1, 1)


@pytest.mark.parametrize("included", [True, False], ids=["the end is included", "the end is excluded"])
def test_the_end_of_a_period_arrives_once(included: bool, tmp_path: Path) -> None:
    """
    A provider may include the end of a requested period, also where its answers are cut: a row of that moment is no
    sign that parts of a day cannot be requested.
    """
    times = at(*(number / 2 for number in range(97)))
    shop = divided(tmp_path, times, record=Timed, inexact_bounds=True)

    def answer(request: SandboxRequest) -> Any:
        first, last = request.params["from"], request.params["to"]
        found = [
            (number, text)
            for number, time in enumerate(times)
            if first <= (text := f"{time}+00:00") < last or (included and text == last)
        ]
        return {"data": [{"id": number, "at": text} for number, text in found[:CEILING]]}

    shop.answer = answer

    assert shop.run(until="2026-06-15").exit_code == 0
    assert sorted(row["id"] for row in shop.rows("orders")) == list(range(96))


def test_an_answer_of_the_next_day_is_no_empty_day(tmp_path: Path) -> None:
    """
    A provider that returns whole days may add the day after the last one, whose rows are dropped. An answer that has
    only these is of another day.
    """
    shop = divided(tmp_path, [], record=Timed, inexact_bounds=True)
    shop.answer = lambda request: {
        "data": [{"id": 1, "at": "2026-06-14T01:00:00Z"}, {"id": 2, "at": "2026-06-15T02:00:00Z"}]
    }
    whole = shop.run(until="2026-06-14")
    rows = shop.rows("orders")
    shop.answer = lambda request: {"data": [{"id": 2, "at": "2026-06-15T02:00:00Z"}]}
    other = shop.run(until="2026-06-14", timezone="Etc/GMT")

    assert (whole.exit_code, [row["id"] for row in rows]) == (0, [1])
    assert (other.exit_code, shop.rows("orders")) == (1, rows)
    assert "none of them is of the requested days" in str(other.errors)


@record()
class Lead:
    """A lead, with its answers to a form."""

    id: str
    at: datetime
    answers: Any = None


@record()
class FormAnswer:
    """An answer of a lead."""

    lead_id: str = added()
    name: str = column(default=...)
    value: str | None = None


@pytest.mark.parametrize("always", [False, True], ids=["changed between two pages", "twice in each reading"])
def test_a_record_that_changes_between_pages_is_read_again(always: bool, tmp_path: Path) -> None:
    """
    A changes stream is read again where a record came again with other values, since rows derived from the former
    values are written. If the next reading has it twice again, that is noted.
    """
    former = [{"name": name, "value": "former"} for name in "ab"]
    newest = [{"name": name, "value": "newest"} for name in "bc"]
    later = {"id": "7", "at": "2026-06-14T11:00:00Z", "answers": newest}
    readings = {"number": 0}

    def answer(request: SandboxRequest) -> Any:
        page = request.params["page"]
        readings["number"] += page == "1"
        changed = readings["number"] > 1 and not always
        first = later if changed else {"id": "7", "at": "2026-06-14T10:00:00Z", "answers": former}
        pages = {"1": [first, {"id": "8", "at": "2026-06-14T10:00:00Z"}], "2": [] if changed else [later]}
        return {"rows": pages.get(page, [])}

    leads = Stream(
        name="leads",
        summary="leads",
        record=Lead,
        kind="changes",
        key="id",
        day="lead_day",
        day_of="at",
        requests=lambda settings, slice_: Request(url=f"{settings.base_url}/leads"),
        envelope=Envelope(items="rows"),
        paginator=PageNumber(size=2, size_param="size"),
    )
    answers = Stream(
        name="answers",
        summary="answers of leads",
        record=FormAnswer,
        kind="changes",
        key=("lead_id", "name"),
        derived=Derived(stream="leads", column="answers", stamps={"lead_id": "id"}),
    )
    shop = ScriptedProvider(folder=tmp_path, streams=[leads, answers], answer=answer)

    assert shop.run(since="2026-06-14", until="2026-06-14").exit_code == 0

    assert readings["number"] == 2
    noted = [note for note in shop.notes if "rows derived from its former values stay" in note]
    assert len(noted) == always
    if not always:
        assert sorted((row["name"], row["value"]) for row in shop.sink.all("answers")) == [
            ("b", "newest"),
            ("c", "newest"),
        ]


def test_the_bodies_of_a_listing_that_is_read_are_released(tmp_path: Path) -> None:
    """
    A slice of many requests needs no more memory than the bodies that are read ahead.
    """
    many, padding = 60, b" " * 500_000

    def requests(settings: Any, slice_: Slice) -> list[Request]:
        return [Request(url=f"{settings.base_url}/orders", params=[("id", str(number))]) for number in range(many)]

    def answer(request: SandboxRequest) -> bytes:
        return b'{"data": [{"id": %b}]%b}' % (request.params["id"].encode(), padding)

    stream = orders(requests=requests, envelope=Envelope(items="data"))
    shop = ScriptedProvider(folder=tmp_path, streams=[stream], answer=answer)

    tracemalloc.start()
    try:
        shop.run()
        _, most_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert len(shop.rows("orders")) == many
    assert most_bytes < many * len(padding) / 2
