"""
A report that is too large for memory, from the provider to the target.
"""

import gzip
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from penstock import Answer, BodyDecoder, ReportFile, Request, Response, Stream, column, record
from scripted_provider import ScriptedProvider

pytestmark = pytest.mark.slow


@record()
class Spend:
    """The spend of a campaign on a day."""

    spent_on: date = column(member="Date", default=...)
    campaign: str = column(member="Campaign", default=...)
    spend: Decimal = column(member="Spend", default=..., additive=True)


class Unwrapped:
    """An author's own decoder, which reads the report by a ReportFile."""

    reads_files = True

    def __call__(self, response: Response) -> Answer:
        return ReportFile()(response)


def a_shop(folder: Path, body: bytes, envelope: BodyDecoder | None = None) -> ScriptedProvider:
    stream = Stream(
        name="spend",
        summary="",
        record=Spend,
        kind="report",
        key="campaign",
        day="spent_on",
        day_of="spent_on",
        days_per_request=3,
        requests=lambda settings, slice_: [Request(url=f"{settings.base_url}/spend")],
        envelope=envelope or ReportFile(totals="Total"),
    )
    return ScriptedProvider(folder=folder, streams=[stream], answer=lambda request: body)


def a_report(rows: int, total: str) -> bytes:
    lines = [f"2026-06-{14 + number % 3},C{number},0.50\n" for number in range(rows)]
    return gzip.compress("".join(["Date,Campaign,Spend\n", *lines, f"Total,,{total}\n"]).encode())


@pytest.mark.parametrize("spooled", [True, False], ids=["in a file", "in memory"])
@pytest.mark.large
def test_a_report_is_delivered_whole_or_not_at_all(
    spooled: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    A large body goes through a temporary file; its rows reach their days, and totals that disagree fail all of them.
    """
    monkeypatch.setattr("penstock._fetch.body.SPOOL_BYTES", 1000 if spooled else 1 << 23)
    good, bad = a_report(60_000, "30000.00"), a_report(60_000, "30000.50")

    shop = a_shop(tmp_path / "good", good)
    report: Any = shop.run()
    broken: Any = a_shop(tmp_path / "bad", bad).run()

    assert report.exit_code == 0, report.errors
    counts = report.stream("shop", "spend")
    assert (counts.records, counts.requests, counts.bytes) == (60_000, 1, len(good))
    assert len({row["campaign"] for row in shop.rows("spend")}) == 60_000
    assert broken.exit_code == 1
    assert "the row of totals in the report states Spend 30000.50" in broken.errors[0]["message"]


@pytest.mark.parametrize("envelope", [ReportFile(), Unwrapped()], ids=["declared", "in a decoder of the author"])
def test_the_bound_of_a_report_is_a_setting(envelope: BodyDecoder, tmp_path: Path) -> None:
    """
    ``max_report_mib`` bounds the report unpacked; the message names it.
    """
    report: Any = a_shop(tmp_path, a_report(100_000, "50000"), envelope).run(max_report_mib=1)

    assert report.exit_code == 1
    assert "raise max_report_mib" in report.errors[0]["message"]


def test_a_report_that_was_accepted_and_cannot_be_decoded_is_read_again(tmp_path: Path) -> None:
    """
    A body without a declared column is found when it is decoded; nothing of it is delivered.
    """
    shop, bodies = a_shop(tmp_path, b""), [b"Message,Code,Text\nbusy,7,later\n", a_report(3, "1.50")]
    shop.answer = lambda request: bodies.pop(0)

    report = shop.run()

    assert (report.exit_code, report.total("records")) == (0, 3), report.errors
    assert any("none of the columns of the report is declared" in note for note in shop.notes)
