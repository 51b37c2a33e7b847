"""
Children of streams that have days: the lines of the orders of a day belong to that day and no other.
"""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve
from penstock import Envelope, OpenFor, Parent, SandboxRequest, Stream, added, column, record
from scripted_provider import ScriptedProvider

pytestmark = pytest.mark.slow

ORDERS = {"2026-06-14": ("a", "b"), "2026-06-15": (), "2026-06-16": ("c",)}


@record(kind="report", key="id", day="day")
class Order:
    """An order of a day."""

    id: str


@record(kind="report", key=("id", "number"), day="day")
class Line:
    """A line of an order."""

    id: str = added()
    number: int = column(default=...)


def orders(**more: Any) -> Stream:
    own = {"record": Order, "params": {"day": "{since}"}}
    return Stream(name="orders", path="/orders", **{**LISTED, **own, **more})


def lines(**more: Any) -> Stream:
    parent = Parent(stream="orders", columns=("id",))
    return Stream(name="lines", record=Line, parent=parent, path="/orders/{id}", **{**LISTED, **more})


LISTED: dict[str, Any] = {"envelope": Envelope(items="data"), "open_for": OpenFor(1)}


def answer(request: SandboxRequest) -> Any:
    if request.path == "/orders":
        return {"data": [{"id": order} for order in ORDERS[request.params["day"]]]}
    return {"data": [{"number": 1}, {"number": 2}]}


def by_day(shop: ScriptedProvider) -> set[tuple[str, str, int]]:
    return {(str(row["day"]), row["id"], row["number"]) for row in shop.rows("lines")}


EXPECTED = {(day, order, number) for day, ids in ORDERS.items() for order in ids for number in (1, 2)}


@pytest.mark.parametrize("days", [1, 31], ids=["a day", "several days"])
def test_the_rows_of_a_day_are_requested_by_the_parents_rows_of_that_day(days: int, tmp_path: Path) -> None:
    """
    Each line is delivered once, on the day of its order, also where the parent's days come in one request.
    """
    listing = orders()
    if days > 1:
        listing = evolve(listing, record=DatedOrder, params={}, days_per_request=days, day_of="ordered_on", key=("id",))
    shop = ScriptedProvider(folder=tmp_path, streams=[listing, lines()], answer=answer if days == 1 else all_days)

    report = shop.run()

    assert report.exit_code == 0, report.errors
    assert len(shop.rows("lines")) == len(EXPECTED)
    assert by_day(shop) == EXPECTED


@record(kind="report", key="id", day="day")
class DatedOrder:
    """An order that has its day."""

    id: str
    ordered_on: datetime = column(default=...)


def all_days(request: SandboxRequest) -> Any:
    if request.path != "/orders":
        return answer(request)
    return {"data": [{"id": one, "ordered_on": f"{day}T08:00:00Z"} for day, ids in ORDERS.items() for one in ids]}


def test_a_day_of_the_parent_is_read_again_only_where_its_children_are(tmp_path: Path) -> None:
    """
    Days that are final for both are not requested again; a child's open day requests its parent's same day.
    """
    shop = ScriptedProvider(folder=tmp_path, streams=[orders(open_for=OpenFor(0)), lines()], answer=answer)
    assert shop.run().exit_code == 0

    assert shop.run().exit_code == 0
    assert [(one.path, one.params) for one in shop.requests] == [
        ("/orders", {"day": "2026-06-16"}),
        ("/orders/c", {}),
    ]
    assert by_day(shop) == EXPECTED

    shop.now = datetime(2026, 7, 1, tzinfo=UTC)
    assert shop.run().exit_code == 0
    assert shop.run().exit_code == 0
    assert shop.requests == []


def test_a_failed_day_of_the_parent_fails_its_children_of_that_day_only(tmp_path: Path) -> None:
    """
    The other days are delivered; the failed one is read by the next run.
    """
    failing = {"2026-06-14"}
    shop = ScriptedProvider(
        folder=tmp_path,
        streams=[orders(), lines()],
        answer=lambda request: 404 if request.params.get("day") in failing else answer(request),
    )

    report = shop.run()

    assert (report.exit_code, report.total("failed")) == (1, 2)
    assert by_day(shop) == {row for row in EXPECTED if row[0] != "2026-06-14"}

    failing.clear()
    assert shop.run().exit_code == 0
    assert by_day(shop) == EXPECTED


def test_a_child_alone_reads_the_parents_days_that_it_needs(tmp_path: Path) -> None:
    """
    ``--streams lines`` requests the orders of the days that are read, and delivers lines only.
    """
    shop = ScriptedProvider(folder=tmp_path, streams=[orders(), lines()], answer=answer, chosen=["lines"])

    assert shop.run().exit_code == 0
    assert by_day(shop) == EXPECTED
    assert shop.rows("orders") == []

    shop.now = datetime(2026, 7, 1, tzinfo=UTC)
    assert shop.run().exit_code == 0
    assert shop.run().exit_code == 0
    assert shop.requests == []


@pytest.mark.parametrize("kind", ["report", "snapshot"])
def test_a_day_of_children_is_as_old_as_the_rows_by_which_it_is_requested(kind: str, tmp_path: Path) -> None:
    """
    The orders are read before midnight, and their lines after it: the lines of an order that came in between are read
    by the next run, also where the orders are not delivered, so that no ledger shows when they were read.
    """
    ids, midnight = ["a"], datetime(2026, 6, 17, tzinfo=UTC)

    def late(request: SandboxRequest) -> Any:
        if request.path == "/orders":
            response = {"data": [{"id": one} for one in ids]}
            shop.clock.advance(7200 * (len(ids) == 1))
            ids[:] = ["a", "late"]
            return response
        return answer(request)

    closed, whole = OpenFor(0), {"kind": "snapshot", "day": None, "params": {}} if kind == "snapshot" else {}
    streams = [orders(**{"open_for": closed, **whole}), lines(open_for=closed)]
    shop = ScriptedProvider(folder=tmp_path, streams=streams, answer=late, chosen=["lines"])
    for shop.now in (midnight - timedelta(hours=1), midnight + timedelta(hours=12), midnight + timedelta(days=1)):
        assert shop.run(since="2026-06-16").exit_code == 0

    assert {row["id"] for row in shop.rows("lines")} == {"a", "late"}
    assert {request.path for request in shop.requests} <= {"/orders"}


def test_a_day_of_children_stays_open_with_rows_that_are_provisional(tmp_path: Path) -> None:
    """
    The provider calls the orders of a closed day provisional: their lines are read again, although orders are not
    delivered.
    """
    ids, state = ["a"], {"done": False}

    def provisional(request: SandboxRequest) -> Any:
        if request.path == "/orders":
            return {"data": [{"id": one} for one in ids], **state}
        return answer(request)

    envelope = Envelope(items="data", head=("done",), provisional_unless={"done": True})
    streams = [orders(envelope=envelope), lines()]
    closed = datetime(2026, 7, 1, tzinfo=UTC)
    shop = ScriptedProvider(folder=tmp_path, streams=streams, answer=provisional, chosen=["lines"], now=closed)
    assert shop.run(since="2026-06-16").exit_code == 0

    ids.append("late")
    state["done"] = True
    assert shop.run(since="2026-06-16").exit_code == 0
    assert {row["id"] for row in shop.rows("lines")} == {"a", "late"}
    assert shop.run(since="2026-06-16").exit_code == 0
    assert shop.requests == []


def test_a_notice_names_a_snapshot_of_children_of_a_window(tmp_path: Path) -> None:
    """
    A snapshot is replaced whole, so rows of days outside of a narrower window go; a notice names it.
    """
    shop = ScriptedProvider(folder=tmp_path, streams=[orders(), lines(kind="snapshot", day=None)], answer=answer)

    report = shop.run(since="2026-06-16")

    assert [row["id"] for row in shop.rows("lines")] == ["c", "c"]
    assert any("shop.lines is a snapshot, requested by the rows of orders" in note for note in report.notices)


def test_a_childs_day_is_open_as_long_as_its_parents(tmp_path: Path) -> None:
    """
    An order that the provider adds to a day while orders may change has its lines, also where no other day of the lines
    is open.
    """
    added_later: dict[str, tuple[str, ...]] = {}

    def with_added(request: SandboxRequest) -> Any:
        if request.path == "/orders":
            day = request.params["day"]
            return {"data": [{"id": order} for order in (*ORDERS[day], *added_later.get(day, ()))]}
        return answer(request)

    shop = ScriptedProvider(
        folder=tmp_path, streams=[orders(open_for=OpenFor(5)), lines(open_for=OpenFor(0))], answer=with_added
    )
    assert shop.run().exit_code == 0

    added_later["2026-06-15"] = ("late",)
    assert shop.run().exit_code == 0

    assert by_day(shop) == EXPECTED | {("2026-06-15", "late", 1), ("2026-06-15", "late", 2)}


@record(kind="report", key="id", day="day")
class NumberedOrder:
    """An order whose id must be a number."""

    id: int


def test_children_of_rejected_rows_are_read_when_these_can_be(tmp_path: Path) -> None:
    """
    An order that cannot be read has no lines, also where orders are not delivered: after a change of the record class
    of the orders, a final day of the lines is read again.
    """

    def numbered(request: SandboxRequest) -> Any:
        return {"data": [{"id": 1}, {"id": "b"}]} if request.path == "/orders" else answer(request)

    shop = ScriptedProvider(
        folder=tmp_path,
        streams=[orders(record=NumberedOrder), lines()],
        answer=numbered,
        chosen=["lines"],
        now=datetime(2026, 7, 1, tzinfo=UTC),
    )
    assert shop.run(since="2026-06-16").exit_code == 5
    assert shop.run(since="2026-06-16").exit_code == 0
    assert shop.requests == []

    shop.streams = [orders(), lines()]
    assert shop.run(since="2026-06-16").exit_code == 0
    assert {row["id"] for row in shop.rows("lines")} == {"1", "b"}
    assert shop.run(since="2026-06-16").exit_code == 0
    assert shop.requests == []


@pytest.mark.parametrize("before", [False, True], ids=["in the same run", "by a run before"])
def test_a_final_day_of_children_is_read_again_with_its_parents_day(before: bool, tmp_path: Path) -> None:
    """
    Where a final day of the parent is read again, since its rejected records may be readable now, its children are
    requested by all its rows; also where a run before has read the parent only, as a run does that is killed then.
    """
    ids = {"2026-06-14": (1, "b"), "2026-06-15": (2,), "2026-06-16": (3,)}

    def numbered(request: SandboxRequest) -> Any:
        if request.path == "/orders":
            return {"data": [{"id": order} for order in ids[request.params["day"]]]}
        return answer(request)

    shop = ScriptedProvider(
        folder=tmp_path,
        streams=[orders(record=NumberedOrder), lines()],
        answer=numbered,
        now=datetime(2026, 7, 1, tzinfo=UTC),
    )
    assert shop.run().exit_code == 5

    shop.streams = [orders(), lines()]
    if before:
        shop.now, shop.chosen = shop.now + timedelta(minutes=1), ["orders"]
        assert shop.run().exit_code == 0
        shop.now, shop.chosen = shop.now + timedelta(minutes=1), ()
    planned = {(one.partition.stream, str(one.partition.day)) for one in shop.plan().partitions}
    assert planned == {("orders", "2026-06-14"), ("lines", "2026-06-14")}
    assert shop.run().exit_code == 0

    assert by_day(shop) == {(day, str(order), number) for day, own in ids.items() for order in own for number in (1, 2)}
    assert shop.run().exit_code == 0
    assert shop.requests == []


def test_a_day_that_is_final_is_not_read_for_children_that_left_retention(tmp_path: Path) -> None:
    """
    Where the provider serves children for fewer days than their parents, the days before are read of neither.
    """
    closed = OpenFor(0)
    shop = ScriptedProvider(
        folder=tmp_path,
        streams=[orders(open_for=closed), lines(open_for=closed, earliest=lambda today: today - timedelta(days=1))],
        answer=answer,
    )
    assert shop.run().exit_code == 0
    assert {row[0] for row in by_day(shop)} == {"2026-06-16"}

    assert shop.plan().partitions == ()
    assert shop.run().exit_code == 0
    assert shop.requests == []
