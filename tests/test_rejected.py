"""
Rejected records: what becomes of their partition, of the rows before them, and of the exit code.
"""

from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve
from penstock import (
    Answer,
    Derived,
    Envelope,
    OpenFor,
    Parent,
    Request,
    Response,
    RunResult,
    SandboxRequest,
    Slice,
    Stream,
    added,
    column,
    money,
    named,
    record,
)
from scripted_provider import ScriptedProvider

pytestmark = pytest.mark.slow

DAYS = ("2026-06-14", "2026-06-15", "2026-06-16")


@record()
class Spend:
    """The spend of a campaign on a day."""

    spent_on: date = column(member="Date", default=...)
    campaign: str = column(member="Campaign", default=...)
    spend: Decimal = column(member="Spend", default=...)


def a_row(day: str, campaign: str = "a", **changes: Any) -> dict[str, Any]:
    return {"Date": day, "Campaign": campaign, "Spend": "1.50", **changes}


def spend_of(settings: Any, slice_: Slice) -> list[Request]:
    params = (("from", slice_.since.isoformat()), ("to", slice_.until.isoformat()))
    return [Request(url=f"{settings.base_url}/spend", params=params)]


def a_shop(
    folder: Path,
    days: dict[str, list[dict[str, Any]]],
    *,
    per_request: int = 1,
    open_days: int = 0,
    record_class: type = Spend,
) -> ScriptedProvider:
    """A shop whose ``days`` hold the records that it sends for each day."""

    def answer(request: SandboxRequest) -> Any:
        first, last = request.params["from"], request.params["to"]
        return {"data": [row for day in sorted(days) if first <= day <= last for row in days[day]]}

    stream = Stream(
        name="spend",
        summary="spend",
        record=record_class,
        kind="report",
        key="campaign",
        day="report_date",
        day_of="spent_on",
        days_per_request=per_request,
        requests=spend_of,
        envelope=Envelope(items="data"),
        open_for=OpenFor(open_days),
    )
    return ScriptedProvider(folder=folder, streams=[stream], answer=answer)


def good() -> dict[str, list[dict[str, Any]]]:
    return {day: [a_row(day), a_row(day, "b")] for day in DAYS}


# What a provider changes so that not one record of a day can be read.
BROKEN = {
    "another member": lambda row: {("Cost" if name == "Spend" else name): value for name, value in row.items()},
    "another format of the day": lambda row: {**row, "Date": f"{row['Date'][5:7]}/{row['Date'][8:]}/{row['Date'][:4]}"},
    "no key": lambda row: {name: value for name, value in row.items() if name != "Campaign"},
    "a day that was not requested": lambda row: {**row, "Date": "2020-01-01"},
}


@record(key="id")
class Sale:
    """A sale with its amount."""

    id: str
    amount: Decimal | None = money("amount", currency="unit")


def test_an_amount_without_a_currency_is_a_value_not_read(tmp_path: Path) -> None:
    """
    An amount without a currency is delivered as a value not read, and the exit code is 5. An amount of 0 needs no
    currency.
    """
    rows = [{"id": "1", "amount": "2.50", "unit": "EUR"}, {"id": "2", "amount": "1"}, {"id": "3", "amount": 0}]
    stream = Stream(name="sales", record=Sale, kind="snapshot", path="/sales", envelope=Envelope(items="data"))
    shop = ScriptedProvider(folder=tmp_path, streams=[stream], answer=lambda request: {"data": rows})

    report = shop.run()

    assert (report.exit_code, report.total("unread_values"), len(shop.rows("sales"))) == (5, 1, 3)
    assert any("unit: it is missing or null, and amount has an amount" in note for note in shop.notes)


@record(key="id")
class BillLine:
    """A line of a bill."""

    id: str
    pieces: int
    amount: Decimal | None = None


@pytest.mark.parametrize("pages", [1, 2], ids=["two requests", "two pages"])
def test_what_cannot_be_read_counts_once_though_it_comes_twice(pages: int, tmp_path: Path) -> None:
    """
    A rejected record and a value not read that come again, unchanged, count as repeated, as any other record does: the
    tolerance of ``allow_rejected`` is for what the provider has. Equal records without their key may be several, and
    count each time.
    """
    rows = [
        {"id": "1", "pieces": 1, "amount": "2.50"},
        {"id": "2", "pieces": "some", "amount": "1"},
        {"pieces": 1, "amount": "1"},
        {"id": "3", "pieces": 1, "amount": "much"},
    ]
    again = [*reversed(rows), {"id": "4", "pieces": 1, "amount": "4"}]
    numbers = ["1"] if pages == 2 else ["1", "2"]
    stream = Stream(
        name="lines",
        record=BillLine,
        kind="snapshot",
        requests=lambda settings, slice_: [
            Request(url=f"{settings.base_url}/lines", params=(("page", number),)) for number in numbers
        ],
        envelope=Envelope(items="data"),
        paginator=named("page_number", size=4) if pages == 2 else None,
    )
    shop = ScriptedProvider(
        folder=tmp_path,
        streams=[stream],
        answer=lambda request: {"data": {"1": rows, "2": again}.get(request.params["page"], [])},
    )

    report = shop.run()

    totals = [report.total(name) for name in ("records", "rejected", "unread_values", "repeated")]
    assert (report.exit_code, totals) == (5, [3, 3, 1, 3])
    assert sorted(row["id"] for row in shop.rows("lines")) == ["1", "3", "4"]


@record(key="id")
class NestedLine:
    """A line of a bill, its key inside of another member."""

    id: str = column(path="line.id")
    pieces: int


def test_a_rejected_record_that_moved_to_the_next_page_agrees_with_the_total(tmp_path: Path) -> None:
    """
    The provider's number of records is compared with those that are different: a rejected one counts once, also where
    its key is inside of another member. A row of another length has no key, and counts each time.
    """
    lines = [{"line": {"id": str(number)}, "pieces": "some" if number == 2 else 1} for number in range(1, 6)]
    pages = {"1": [lines[0], lines[1]], "2": [lines[1], lines[2]], "3": [lines[3], [7]], "4": [[7], lines[4]]}
    stream = Stream(
        name="lines",
        record=NestedLine,
        kind="snapshot",
        requests=lambda settings, slice_: [Request(url=f"{settings.base_url}/lines")],
        envelope=Envelope(items="data", total="total"),
        paginator=named("page_number", size=2),
    )
    shop = ScriptedProvider(
        folder=tmp_path,
        streams=[stream],
        answer=lambda request: {"data": pages.get(request.params["page"], []), "total": 7},
    )

    report = shop.run()

    totals = [report.total(name) for name in ("records", "rejected", "repeated", "promised")]
    assert (report.exit_code, totals) == (5, [4, 3, 1, 7]), report.errors


@pytest.mark.parametrize("per_request", [1, 2, 31])
@pytest.mark.parametrize("how", BROKEN)
def test_partitions_of_which_nothing_can_be_read_fail(how: str, per_request: int, tmp_path: Path) -> None:
    """
    Every day fails, on a first read too; the rows delivered before stay, and the next run reads the days again.
    """
    days = good()
    bad = {day: [BROKEN[how](row) for row in rows] for day, rows in days.items()}
    shop = a_shop(tmp_path, bad, per_request=per_request, open_days=30)
    first = shop.run(allow_rejected=True)

    assert (first.exit_code, first.total("failed"), shop.rows("spend")) == (1, 3, [])
    assert {planned.reason for planned in shop.plan().partitions} == {"failed"}

    broken, shop.answer = shop.answer, a_shop(tmp_path, days).answer
    assert shop.run().exit_code == 0
    shop.answer = broken

    again = shop.run(allow_rejected=True)

    assert (again.exit_code, again.total("failed")) == (1, 3)
    assert len(shop.rows("spend")) == 6
    assert {planned.reason for planned in shop.plan().partitions} == {"failed"}


@pytest.mark.parametrize("per_request", [1, 31])
def test_only_the_unreadable_day_fails(per_request: int, tmp_path: Path) -> None:
    """
    A day of which every record was rejected, and whose records still show their day, fails alone.
    """
    days = good()
    days[DAYS[1]] = [BROKEN["another member"](row) for row in days[DAYS[1]]]
    shop = a_shop(tmp_path, days, per_request=per_request)

    report = shop.run()

    assert report.exit_code == 1
    assert [error["partition"] for error in report.errors] == [{"report_date": DAYS[1]}]
    assert "all 2 records were rejected, the first because $.data" in report.errors[0]["message"]
    assert {row["report_date"] for row in shop.rows("spend")} == {DAYS[0], DAYS[2]}


def test_a_day_without_records_is_empty_beside_a_day_with_bad_ones(tmp_path: Path) -> None:
    """
    A record that shows its day affects no other day of the same request: one without records is delivered empty.
    """
    days = good()
    days[DAYS[0]] = [a_row(DAYS[0]), a_row(DAYS[0], "b", Spend="free")]
    days[DAYS[2]] = []
    shop = a_shop(tmp_path, days, per_request=31)

    report = shop.run()

    assert (report.exit_code, report.total("rejected"), report.total("delivered")) == (5, 1, 3)
    assert {day: entry.rejected for day, entry in shop.entries("spend").items()} == {DAYS[0]: 1, DAYS[1]: 0, DAYS[2]: 0}
    assert shop.plan().partitions == ()


@record()
class NestedSpend(Spend):
    """The spend of a campaign on a day, which an inner object has."""

    spent_on: date = column(path="Of.Date", default=...)


def test_a_rejected_record_shows_its_day_in_an_inner_object(tmp_path: Path) -> None:
    """
    As one that has it in a member of its own: no other day of the request stays open.
    """
    days = {day: [{**row, "Of": {"Date": day}} for row in rows] for day, rows in good().items()}
    days[DAYS[0]][0]["Spend"] = "free"
    shop = a_shop(tmp_path, days, per_request=31, record_class=NestedSpend)

    report = shop.run()

    assert (report.exit_code, report.total("rejected"), report.total("delivered")) == (5, 1, 3)
    assert {day: entry.rejected for day, entry in shop.entries("spend").items()} == {DAYS[0]: 1, DAYS[1]: 0, DAYS[2]: 0}
    assert shop.plan().partitions == ()


def test_days_stay_open_where_the_day_of_some_records_cannot_be_read(tmp_path: Path) -> None:
    """
    Records whose day cannot be read may belong to any day of their request: they are rejected, and every day of it is
    read again.
    """
    days = good()
    days[DAYS[0]].append(a_row("14 June", "c"))
    shop = a_shop(tmp_path, days, per_request=2)

    report = shop.run()

    assert (report.exit_code, report.total("rejected"), report.total("delivered")) == (5, 1, 3)
    assert len(shop.rows("spend")) == 6
    planned = {partition.partition.as_dict()["report_date"]: partition.reason for partition in shop.plan().partitions}
    assert planned == {DAYS[0]: "open", DAYS[1]: "open"}


def test_a_day_keeps_its_rows_where_they_may_be_among_those_without_a_day(tmp_path: Path) -> None:
    """
    A day that had rows, and has none while records without a readable day came, fails and keeps them.
    """
    days = good()
    shop = a_shop(tmp_path, days, per_request=31, open_days=30)
    assert shop.run().exit_code == 0
    days[DAYS[1]] = [a_row("15 June")]

    report = shop.run()

    assert [error["partition"] for error in report.errors] == [{"report_date": DAYS[1]}]
    assert "no record was found, and 1 without a day were rejected" in report.errors[0]["message"]
    assert "The 2 rows delivered before stay" in report.errors[0]["message"]
    assert len(shop.rows("spend")) == 6


@pytest.mark.parametrize(
    ("former", "rows", "rejected", "undated", "refused"),
    [
        (7, 0, 3, 0, "all 3 records were rejected"),
        (None, 0, 3, 0, "all 3 records were rejected"),
        (0, 0, 3, 0, "all 3 records were rejected"),
        (7, 0, 0, 0, None),
        (7, 1, 3, 0, None),
        (7, 0, 0, 2, "no record was found, and 2 without a day were rejected"),
        (None, 0, 0, 2, None),
        (7, 1, 0, 2, None),
    ],
    ids=[
        "all rejected",
        "first read",
        "nothing was there",
        "the provider states none",
        "some are good",
        "its records may be those without a day",
        "nothing to lose",
        "a day was read",
    ],
)
def test_rejected_records_do_not_empty_a_partition(
    former: int | None, rows: int, rejected: int, undated: int, refused: str | None, tmp_path: Path
) -> None:
    """
    A partition of which every record was rejected fails, also on its first read; rows that were there stay.
    """
    day, other = DAYS[:2]
    days = {day: [a_row(day, f"former {number}") for number in range(former or 0)], other: [a_row(other)]}
    shop = a_shop(tmp_path, days, per_request=2, open_days=30)
    if former is not None:
        assert shop.run(since=day, until=other).exit_code == 0
    days[day] = [
        *[a_row(day, f"good {number}") for number in range(rows)],
        *[a_row(day, f"bad {number}", Spend="no number") for number in range(rejected)],
        *[a_row("14 June", f"undated {number}") for number in range(undated)],
    ]

    report = shop.run(since=day, until=other)

    assert len(shop.rows("spend")) == 1 + (rows if refused is None else former or 0)
    messages = [error["message"] for error in report.errors]
    assert len(messages) == (refused is not None)
    if refused is not None:
        assert refused in messages[0]


@pytest.mark.parametrize("kind", ["snapshot", "changes"])
def test_every_kind_of_stream_fails_when_nothing_can_be_read(kind: str, tmp_path: Path) -> None:
    """
    A snapshot and changes of which every record was rejected fail on their first read, too.
    """
    stream = Stream(
        name="spend",
        summary="spend",
        record=Spend,
        kind=kind,  # type: ignore[arg-type]
        key="campaign",
        requests=lambda settings, slice_: [Request(url=f"{settings.base_url}/spend")],
        envelope=Envelope(items="data"),
        **({} if kind == "snapshot" else {"day": "changed_on"}),
    )
    shop = ScriptedProvider(folder=tmp_path, streams=[stream], answer=lambda request: {"data": [a_row("never")]})

    report = shop.run(since=DAYS[2], allow_rejected=True)

    assert (report.exit_code, report.total("failed"), report.total("delivered")) == (1, 1, 0)


@record()
class Order:
    """An order with its lines."""

    id: int = column(default=...)
    lines: Any = None


@record()
class Line:
    """A line of an order."""

    order_id: int = added()
    number: int = column(default=...)


def test_a_derived_record_that_is_rejected_counts(tmp_path: Path) -> None:
    """
    The record of a derived stream is counted with that stream, and gives exit code 5.
    """
    orders = Stream(
        name="orders",
        summary="orders",
        record=Order,
        kind="snapshot",
        key="id",
        requests=lambda settings, slice_: [Request(url=f"{settings.base_url}/orders")],
        envelope=Envelope(items="data"),
    )
    lines = Stream(
        name="lines",
        summary="lines",
        record=Line,
        kind="snapshot",
        key=("order_id", "number"),
        derived=Derived(stream="orders", column="lines", stamps={"order_id": "id"}),
    )
    answer = {"data": [{"id": 1, "lines": [{"number": 1}, {"number": "one"}]}]}
    shop = ScriptedProvider(folder=tmp_path, streams=[orders, lines], answer=lambda request: answer)

    report = shop.run()

    assert report.exit_code == 5
    assert report.stream("shop", "lines").rejected == 1
    assert RunResult.of(report).rejected_line is not None
    assert "shop.lines: 1 record rejected" in RunResult.of(report).rejected_line


@record()
class Paid:
    """A spend whose amount may be unknown."""

    spent_on: date = column(member="Date", default=...)
    campaign: str = column(member="Campaign", default=...)
    spend: Decimal | None = column(member="Spend")


def test_a_value_not_read_counts_until_another_reader_reads_it(tmp_path: Path) -> None:
    """
    The row is delivered and the exit code is 5. When the record class changes, all days of the request are read again.
    """
    days = good()
    days[DAYS[1]][0]["Spend"] = "N/A"
    shop = a_shop(tmp_path, days, per_request=2)
    shop.streams = [evolve(shop.streams[0], record=Paid)]

    report = shop.run()

    assert (report.exit_code, report.total("rejected"), report.total("unread_values")) == (5, 0, 1)
    assert RunResult.of(report).rejected_line is not None
    assert "shop.spend: 1 value not read. a value that is not read is null" in RunResult.of(report).rejected_line
    assert len(shop.rows("spend")) == 6
    assert shop.plan().partitions == ()

    shop.streams = [evolve(shop.streams[0], record=Spend)]
    planned = {one.partition.as_dict()["report_date"]: one.reason for one in shop.plan().partitions}
    assert planned == {DAYS[0]: "changed", DAYS[1]: "changed"}


def test_a_provisional_answer_keeps_its_day_open(tmp_path: Path) -> None:
    """
    Rows that the provider calls provisional are delivered, noted, and read again by the next run.
    """
    shop = a_shop(tmp_path, good())
    complete = shop.answer
    shop.streams = [evolve(shop.streams[0], envelope=Golden())]
    shop.answer = lambda request: {**complete(request), "golden": request.params["from"] != DAYS[1]}

    report = shop.run()

    assert (report.exit_code, len(shop.rows("spend"))) == (0, 6)
    planned = [(one.partition.as_dict()["report_date"], one.reason) for one in shop.plan().partitions]
    assert planned == [(DAYS[1], "open")]
    assert any("provisional by the provider's own words (golden is false)" in note for note in shop.notes)


class Golden:
    """An envelope whose answer states whether it is provisional."""

    def __call__(self, response: Response) -> Answer:
        answer = Envelope(items="data", head=("golden",))(response)
        return evolve(answer, provisional="" if answer.head.get("golden") else "golden is false")


@record(kind="snapshot", key="id")
class Item:
    """An item, by which its parts are requested."""

    id: int


@record(kind="snapshot", key=("id", "number"))
class PartOfItem:
    """A part of an item."""

    id: int = added()
    number: int = column(default=...)


def items_and_parts(folder: Path, ids: list[Any], chosen: tuple[str, ...]) -> ScriptedProvider:
    listed: dict[str, Any] = {"envelope": Envelope(items="data")}
    items = Stream(name="items", record=Item, path="/items", **listed)
    parent = Parent(stream="items", columns=("id",))
    parts = Stream(name="parts", record=PartOfItem, path="/items/{id}", parent=parent, **listed)

    def answer(request: SandboxRequest) -> Any:
        return {"data": [{"id": one} for one in ids] if request.path == "/items" else [{"number": 1}]}

    return ScriptedProvider(folder=folder, streams=[items, parts], answer=answer, chosen=chosen)


@pytest.mark.parametrize("chosen", [(), ("parts",)], ids=["with the parent", "alone"])
def test_children_keep_their_rows_with_an_unreadable_parent(chosen: tuple[str, ...], tmp_path: Path) -> None:
    """
    A parent that keeps its former rows, since every record was rejected, keeps those of its children, too.
    """
    ids: list[Any] = [1, 2]
    shop = items_and_parts(tmp_path, ids, chosen)
    assert shop.run().exit_code == 0

    ids[:] = ["x", "y"]
    report = shop.run()

    assert report.exit_code == 1
    assert [row["id"] for row in shop.rows("parts")] == [1, 2]
    assert "its parent items failed" in report.errors[-1]["message"]


def test_rejected_records_of_an_undelivered_parent_count(tmp_path: Path) -> None:
    """
    ``--streams parts`` ends with 5 and a note where items, by which parts are requested, cannot be read.
    """
    shop = items_and_parts(tmp_path, [1, "x"], ("parts",))

    report = shop.run()

    assert (report.exit_code, report.total("rejected")) == (5, 1)
    assert [row["id"] for row in shop.rows("parts")] == [1]
    assert "items, read for other streams: 1 rejected" in shop.notes[0]
