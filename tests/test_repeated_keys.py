"""
The same key on two pages, with the same values and with others, from the provider into every sink.
"""

import csv
import json
from collections.abc import Iterator
from datetime import date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import psycopg
import pytest
from attrs import evolve
from connector_run import sink_at
from penstock import (
    Envelope,
    Partition,
    Request,
    SandboxRequest,
    SandboxResponse,
    Stream,
    column,
    named,
    personal,
    record,
)
from postgres_server import server as postgres
from scripted_provider import ScriptedProvider

pytestmark = pytest.mark.slow


@record()
class Entry:
    """An entry of an account, or its correction."""

    id: str
    amount: Decimal
    at: datetime


@record()
class DatedEntry:
    """An entry whose day the provider sends."""

    id: str
    at: date = column(format="%Y-%m-%dT%H:%M:%SZ")


@record()
class Person:
    """A record by its address."""

    email: str = personal()
    amount: Decimal


PAGES = {
    "1": [("7", "20.00"), ("8", "5.00"), ("6", "1.00")],
    "2": [("7", "-20.00"), ("8", "5.00"), ("9", "2.00")],
    "3": [("7", "-20.00")],
}


def answer(request: SandboxRequest) -> Any:
    rows = PAGES.get(request.params.get("page", "1"), [])
    return {"rows": [{"id": id_, "amount": amount, "at": "2026-06-14T10:00:00Z"} for id_, amount in rows]}


def a_stream(kind: Any) -> Stream:
    return Stream(
        name="entries",
        summary="",
        record=Entry,
        kind=kind,
        key="id",
        day="entry_day",
        day_of="at",
        requests=lambda settings, slice_: [Request(url=f"{settings.base_url}/entries")],
        envelope=Envelope(items="rows"),
        paginator=named("page_number", size=3, size_param="size"),
    )


@pytest.fixture(params=["jsonl", "csv", "postgresql"])
def target(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "postgresql":
        with postgres().database() as dsn:
            yield dsn
    else:
        yield f"{request.param}:{tmp_path / 'out'}"


def stored(target: str) -> dict[str, Decimal]:
    """The amounts by key, as the target holds them; a key that is there twice is an error."""
    kind, _, place = target.partition(":")
    if kind == "postgresql":
        with psycopg.connect(target) as connection:
            found = connection.execute("select id, amount from shop.entries").fetchall()
    elif kind == "jsonl":
        lines = [line for path in Path(place).rglob("data*.jsonl") for line in path.read_text().splitlines()]
        found = [(row["id"], Decimal(str(row["amount"]))) for row in map(json.loads, lines)]
    else:
        rows = [row for path in Path(place).rglob("data*.csv") for row in csv.DictReader(path.read_text().splitlines())]
        found = [(row["id"], Decimal(row["amount"])) for row in rows]
    assert len(dict(found)) == len(found)
    return dict(found)


@pytest.mark.parametrize("kind", ["report", "changes"])
def test_a_correction_on_a_later_page_is_not_lost(kind: str, target: str, tmp_path: Path) -> None:
    """
    A correction on a later page is rejected in a report, and the run ends with 5; in changes it takes the place of what
    came before. An identical repeat, also of the correction, counts as repeated.
    """
    shop = ScriptedProvider(folder=tmp_path / "shop", streams=[a_stream(kind)], answer=answer)
    shop.sink = sink_at(target)

    report = shop.run(since="2026-06-14", until="2026-06-14")

    counts = report.stream("shop", "entries")
    if kind == "report":
        assert report.exit_code == 5
        assert (counts.records, counts.rejected, counts.repeated) == (4, 1, 2)
        assert stored(target) == {"6": 1, "7": 20, "8": 5, "9": 2}
    else:
        assert report.exit_code == 0, report.errors
        assert (counts.records, counts.rejected, counts.repeated) == (4, 0, 3)
        assert stored(target) == {"6": 1, "7": -20, "8": 5, "9": 2}


def answers_by_state(request: SandboxRequest) -> Any:
    """Open entries, and closed ones with a correction of the first and a repeat of the second; each states a total."""
    found = PAGES["1" if request.path == "/open" else "2"]
    rows = [{"id": id_, "amount": amount, "at": "2026-06-14T10:00:00Z"} for id_, amount in found]
    return {"rows": rows, "total": len(rows)}


@pytest.mark.parametrize("kind", ["report", "changes", "snapshot"])
def test_a_key_in_the_answers_to_two_requests_is_there_once(kind: str, target: str, tmp_path: Path) -> None:
    """
    A key in the answers to two requests is there once, as on two pages of one listing: each listing has the total that
    it states, and no target decides which row stays.
    """
    stream = evolve(
        a_stream(kind),
        requests=lambda settings, slice_: [Request(url=f"{settings.base_url}/{one}") for one in ("open", "closed")],
        envelope=Envelope(items="rows", total="total"),
        paginator=None,
        **({"day": None, "day_of": None} if kind == "snapshot" else {}),
    )
    shop = ScriptedProvider(folder=tmp_path / "shop", streams=[stream], answer=answers_by_state)
    shop.sink = sink_at(target)

    report = shop.run(since="2026-06-14", until="2026-06-14")

    counts = report.stream("shop", "entries")
    last_wins = kind == "changes"
    assert report.exit_code == (0 if last_wins else 5), report.errors
    assert (counts.records, counts.rejected, counts.repeated) == ((4, 0, 2) if last_wins else (4, 1, 1))
    assert stored(target) == {"6": 1, "7": -20 if last_wins else 20, "8": 5, "9": 2}


@pytest.mark.parametrize("on_pages", [1, 2])
@pytest.mark.parametrize("same", [10, 11])
def test_a_key_that_does_not_identify_a_record_of_changes_is_noticed(same: int, on_pages: int, tmp_path: Path) -> None:
    """
    Where more than a few records of changes replace one of the same reading with the same key, on one page or on a
    later one, a notice states their number and an example; a few may have changed meanwhile.
    """

    def answer(request: SandboxRequest) -> Any:
        page = int(request.params["page"])
        rows = [
            {"id": str(number % (30 - same)), "amount": number, "at": "2026-06-14T10:00:00Z"} for number in range(30)
        ]
        return {"rows": rows[page - 1 :: on_pages] if page <= on_pages else []}

    shop = ScriptedProvider(folder=tmp_path, streams=[a_stream("changes")], answer=answer)

    report = shop.run(since="2026-06-14", until="2026-06-14")

    assert (report.exit_code, report.stream("shop", "entries").records) == (0, 30 - same)
    expected = "shop.entries: 11 of 30 records replaced an earlier one of the same reading that had the same key"
    assert [notice.startswith(expected) for notice in report.notices] == ([True] if same == 11 else [])
    assert all(", such as id " in notice for notice in report.notices)


def test_a_personal_key_is_not_in_a_notice(tmp_path: Path) -> None:
    """
    Keys that are personal data are in no notice.
    """
    rows = [{"email": "a@b.example", "amount": number} for number in range(30)]
    stream = evolve(a_stream("changes"), record=Person, key="email", day_of=None, paginator=None)
    shop = ScriptedProvider(folder=tmp_path, streams=[stream], answer=lambda request: {"rows": rows})

    (notice,) = shop.run(since="2026-06-14", until="2026-06-14").notices

    assert notice.startswith("shop.entries: 29 of 30 records replaced an earlier one")
    assert "a@b" not in notice


def a_history(request: SandboxRequest) -> Any:
    """A provider of each day's changes, as they were: the key 7 was 10 on the 10th and 11 on the 11th."""
    day = request.params["day"]
    return {"rows": [{"id": "7", "amount": day[-2:], "at": f"{day}T10:00:00Z"}]}


def test_an_older_day_of_changes_does_not_overwrite_a_newer_one(target: str, tmp_path: Path) -> None:
    """
    The days after one that failed, or that is read later, are read again with it: also those after the window.
    """
    failing = {"2026-06-10"}
    stream = evolve(
        a_stream("changes"),
        day_of=None,
        paginator=None,
        requests=lambda settings, slice_: Request(url=f"{settings.base_url}/e", params=[("day", str(slice_.since))]),
    )
    shop = ScriptedProvider(
        folder=tmp_path / "shop",
        streams=[stream],
        answer=lambda request: SandboxResponse(status=404) if request.params["day"] in failing else a_history(request),
    )
    shop.sink = sink_at(target)

    assert shop.run(since="2026-06-10", until="2026-06-11").exit_code == 1
    assert stored(target) == {"7": 11}
    failing.clear()
    assert shop.run(since="2026-06-10", until="2026-06-11").exit_code == 0
    assert stored(target) == {"7": 11}
    assert shop.run(since="2026-06-09", until="2026-06-09").exit_code == 0
    assert stored(target) == {"7": 11}
    assert shop.run(since="2026-06-09", until="2026-06-11").total("requests") == 0


def test_changes_after_the_requested_days_are_delivered_with_the_last_one(target: str, tmp_path: Path) -> None:
    """
    A provider that takes a first time only returns all later changes, also those after the window.
    """
    stream = evolve(a_stream("changes"), day_of="at", days_per_request=7, paginator=None)
    rows = [{"id": str(day), "amount": day, "at": f"2026-06-{day}T10:00:00Z"} for day in (10, 11, 12, 13)]
    shop = ScriptedProvider(folder=tmp_path / "shop", streams=[stream], answer=lambda request: {"rows": rows})
    shop.sink = sink_at(target)

    assert shop.run(since="2026-06-10", until="2026-06-12").exit_code == 0
    assert stored(target) == {"10": 10, "11": 11, "12": 12, "13": 13}


def test_a_row_of_changes_has_the_day_of_its_last_reading(tmp_path: Path) -> None:
    """
    A row of changes has the day of its last reading in the column that its stream adds for the day; a column of that
    name that the provider sends is not overwritten.
    """
    added = Stream(
        name="added",
        record=Entry,
        kind="changes",
        key="id",
        day="entry_day",
        path="/e",
        params={"day": "{since}"},
        envelope=Envelope(items="rows"),
    )
    sent = evolve(added, name="sent", record=DatedEntry, day="at")
    shop = ScriptedProvider(folder=tmp_path, streams=[added, sent], answer=a_history)

    assert shop.run(since="2026-06-10", until="2026-06-11").exit_code == 0
    assert {str(row["entry_day"]) for row in shop.rows("added") if row["amount"] == 11} == {"2026-06-11"}
    assert {str(row["at"]) for row in shop.rows("sent")} == {"2026-06-10", "2026-06-11"}


def test_a_recording_of_changes_overwrites_no_later_day(tmp_path: Path) -> None:
    """
    A day that was forgotten is read from the recording only where the target has no later reading of a day after it.
    """
    target = f"jsonl:{tmp_path / 'out'}"
    stream = evolve(
        a_stream("changes"),
        day_of=None,
        paginator=None,
        requests=lambda settings, slice_: Request(url=f"{settings.base_url}/e", params=[("day", str(slice_.since))]),
    )
    shop = ScriptedProvider(folder=tmp_path / "shop", streams=[stream], answer=a_history)
    shop.sink = sink_at(target)
    shop.run(since="2026-06-10", until="2026-06-11", record_full=tmp_path / "recording")
    shop.now += timedelta(days=1)
    shop.run(since="2026-06-12", until="2026-06-12")
    opened = shop.sink.open("shop", "forgetting")
    assert opened.ledger is not None
    opened.ledger.forget("shop", [Partition("entries", (("entry_day", "2026-06-10"),))])
    opened.close()

    report = shop.run(since="2026-06-10", until="2026-06-11", replay=tmp_path / "recording")

    assert "shop: what was read after the recording stays as it is" in report.notices
    assert stored(target) == {"7": 12}
