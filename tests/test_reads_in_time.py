"""
A day is final when it is over at the provider, too.
"""

import json
from datetime import UTC, date, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any, Literal

import pytest
from penstock import Envelope, OpenFor, Request, SandboxRequest, SandboxResponse, Stream, record
from scripted_provider import ScriptedProvider

pytestmark = pytest.mark.slow

MIDNIGHT = datetime(2026, 6, 17, tzinfo=UTC)


@record(key="id")
class Sale:
    """A sale."""

    id: str


def daily(**more: Any) -> Stream:
    own = {"summary": "sales", "record": Sale, "kind": "report", "day": "day", "open_for": OpenFor(0)}
    return Stream(name="sales", path="/sales", params={"day": "{since}"}, envelope=Envelope(), **{**own, **more})


@pytest.mark.parametrize(
    ("theirs", "age", "final"),
    [
        (timedelta(minutes=-15), "", False),
        (timedelta(minutes=-15), "2400", False),
        (timedelta(minutes=25), "2400", False),
        (timedelta(minutes=25), "60", True),
        (timedelta(minutes=25), "", True),
        (timedelta(minutes=40), "", True),
        (timedelta(days=-3), "", False),
        (timedelta(days=-30), "", False),
        (timedelta(days=-32), "", True),
        (timedelta(days=-32), "259200", False),
    ],
    ids=[
        "behind",
        "of a cache",
        "of a cache that sends its own date",
        "of a cache, and of today",
        "the same",
        "ahead",
        "days behind",
        "weeks behind",
        "no clock",
        "no clock, and of a cache that is days old",
    ],
)
def test_a_day_that_is_not_over_by_the_providers_clock_stays_open(
    theirs: timedelta, age: str, final: bool, tmp_path: Path
) -> None:
    """
    Our clock is 25 minutes past midnight; what the provider gets until its own midnight is read by the next run. What
    a cache sends is as old as it is there. A difference of days is noted: our clock may be ahead for weeks.
    """
    sales = ["1"]
    headers = {"Date": format_datetime(MIDNIGHT + theirs, usegmt=True), **({"Age": age} if age else {})}

    def answer(request: SandboxRequest) -> SandboxResponse:
        return SandboxResponse(status=200, headers=headers, body=json.dumps([{"id": one} for one in sales]).encode())

    stream = Stream(
        name="sales",
        summary="sales",
        record=Sale,
        kind="report",
        day="report_date",
        open_for=OpenFor(0),
        requests=lambda settings, slice_: [Request(url=f"{settings.base_url}/{slice_.since}")],
        envelope=Envelope(),
    )
    shop = ScriptedProvider(folder=tmp_path, streams=[stream], answer=answer, now=MIDNIGHT + timedelta(minutes=25))

    shop.run(since="2026-06-16")
    days_behind = timedelta(days=-31) < theirs < timedelta(days=-2)
    noted = [note for note in shop.notes if "days old, and its days are open or final as of then" in note]
    assert len(noted) == int(days_behind)
    sales.append("2")
    shop.now += timedelta(hours=12)
    headers["Date"] = format_datetime(shop.now, usegmt=True)
    second = shop.run(since="2026-06-16")

    assert (second.exit_code, len(shop.requests)) == (0, 0 if final else 1)
    assert len(shop.rows("sales")) == (1 if final else 2)


@pytest.mark.parametrize(("ours", "final"), [(10, False), (50, True)], ids=["before midnight", "after midnight"])
def test_a_clock_that_is_some_seconds_ahead_makes_no_day_final(ours: int, final: bool, tmp_path: Path) -> None:
    """
    Our clock is 45 s ahead: a day that is read some seconds after our midnight is not over at the provider.
    """
    sales, ahead = ["1"], timedelta(seconds=45)

    def answer(request: SandboxRequest) -> SandboxResponse:
        headers = {"Date": format_datetime(shop.clock.now() - ahead, usegmt=True)}
        return SandboxResponse(status=200, headers=headers, body=json.dumps([{"id": one} for one in sales]).encode())

    now = MIDNIGHT + timedelta(seconds=ours)
    shop = ScriptedProvider(folder=tmp_path, streams=[daily()], answer=answer, now=now)
    for number, shop.now in enumerate((now, now + timedelta(hours=12)), start=1):
        assert shop.run(since="2026-06-16").exit_code == 0
        assert len(shop.requests) == (0 if final and number > 1 else 1)
        sales.append("2")

    assert len(shop.rows("sales")) == (1 if final else 2)


@pytest.mark.parametrize("had_rows", [True, False], ids=["delivered before", "never delivered"])
def test_a_day_that_leaves_retention_while_a_run_reads_keeps_its_rows(had_rows: bool, tmp_path: Path) -> None:
    """
    The provider serves three days. A run reads the first of them after midnight, when the provider has deleted it: its
    rows stay. A day that was never read fails, since nobody knows its rows.
    """

    def answer(request: SandboxRequest) -> object:
        if shop.now != begin:
            shop.clock.advance(3600 * (len(shop.requests) == 1))
        day = request.params["day"]
        return [{"id": day}] if day >= str(earliest(shop.clock.now().date())) else []

    def earliest(today: date) -> date:
        return today - timedelta(days=2)

    begin = datetime(2026, 6, 16, 22, tzinfo=UTC)
    stream = daily(open_for=OpenFor(9), earliest=earliest)
    shop = ScriptedProvider(folder=tmp_path, streams=[stream], answer=answer, now=begin)
    if had_rows:
        assert shop.run(until="2026-06-15").exit_code == 0

    shop.now += timedelta(minutes=90)
    report = shop.run(until="2026-06-15")

    assert report.exit_code == (0 if had_rows else 1)
    text = "the provider serves sales from 2026-06-15 on since midnight"
    told = report.notices if had_rows else [error["message"] for error in report.errors]
    assert [text in one for one in told] == [True]
    assert [row["id"] for row in shop.rows("sales")] == ["2026-06-14", "2026-06-15"][not had_rows :]


@pytest.mark.parametrize(
    ("begin", "timezone"),
    [
        (datetime(2026, 6, 16, 23, tzinfo=UTC), "UTC"),
        (datetime(2026, 10, 29, 21, 30, tzinfo=UTC), "Africa/Cairo"),
    ],
    ids=["an hour before midnight", "in an hour that the clock repeats"],
)
def test_a_day_of_changes_that_a_run_reads_after_midnight_stays_open(
    begin: datetime, timezone: str, tmp_path: Path
) -> None:
    """
    A run begins before midnight, so that its last window ends there, and reads it, or reads it again, after midnight.
    The next run has the rows that came in between.
    """
    day = str(begin.date())
    changed = {"before": begin - timedelta(hours=1), "after": begin + timedelta(minutes=20)}

    def answer(request: SandboxRequest) -> object:
        since, until = (datetime.fromisoformat(request.params[name]) for name in ("since", "until"))
        rows = [{"id": id_} for id_, at in changed.items() if since <= at < until]
        is_first = len(shop.requests) == 1
        shop.clock.advance(7200 * is_first)
        return {"rows": rows, "total": len(rows) + is_first}

    stream = Stream(
        name="sales",
        summary="sales",
        record=Sale,
        kind="changes",
        day="day",
        envelope=Envelope(items="rows", total="total"),
        lag=timedelta(minutes=5),
        lookback=timedelta(minutes=10),
        requests=lambda settings, slice_: Request(
            url=f"{settings.base_url}/e", params=[("since", str(slice_.start)), ("until", str(slice_.end))]
        ),
    )
    shop = ScriptedProvider(folder=tmp_path, streams=[stream], answer=answer, now=begin)
    assert shop.run(since=day, until=day, timezone=timezone).exit_code == 0
    assert {row["id"] for row in shop.rows("sales")} == {"before"}

    shop.now += timedelta(days=1)
    assert shop.run(since=day, until=day, timezone=timezone).exit_code == 0
    assert {row["id"] for row in shop.rows("sales")} == {"before", "after"}
    shop.now += timedelta(days=1)
    assert shop.run(since=day, until=day, timezone=timezone).exit_code == 0
    assert shop.requests == []


@pytest.mark.parametrize("kind", ["report", "changes"])
@pytest.mark.parametrize(
    ("first", "second", "noted"),
    [
        (("2026-06-13", "2026-06-16"), ("2026-06-15", "2026-06-16"), 1),
        (("2026-06-13", "2026-06-14"), ("2026-06-15", "2026-06-16"), 1),
        (("2026-06-13", "2026-06-14"), ("2026-06-16", "2026-06-16"), 0),
        (("2026-06-13", "2026-06-16"), ("2026-06-13", "2026-06-16"), 0),
    ],
    ids=["some of the days", "the days after them", "days apart from them", "all of them"],
)
def test_days_that_a_window_leaves_in_their_former_zone_are_noted(
    kind: Literal["report", "changes"], first: tuple[str, str], second: tuple[str, str], noted: int, tmp_path: Path
) -> None:
    """
    Days are cut in another zone than before, and a run reads some of them again, or the days next to them: the hours
    between these and the others are of no day, or of both. A notice says so; a run of all days leaves none.
    """
    stream = Stream(
        name="sales",
        summary="sales",
        record=Sale,
        kind=kind,
        day="day",
        open_for=OpenFor(0),
        requests=lambda settings, slice_: [Request(url=f"{settings.base_url}/{slice_.start}")],
        envelope=Envelope(),
    )
    shop = ScriptedProvider(folder=tmp_path, streams=[stream], answer=lambda request: [{"id": request.path}])
    assert shop.run(since=first[0], until=first[1]).exit_code == 0

    report = shop.run(since=second[0], until=second[1], timezone="America/New_York")
    assert report.exit_code == 0
    assert sum("outside of this window stay as they were read before" in notice for notice in report.notices) == noted
    assert not shop.run(since=second[0], until=second[1], timezone="America/New_York").notices
