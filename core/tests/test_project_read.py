"""
The Python API as an iterator: typed records of a source, read into the program.
"""

import threading
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve
from penstock import (
    AuthenticationError,
    Connector,
    CountMismatchError,
    OpenFor,
    Project,
    RejectedRecordsError,
    Request,
    SandboxResponse,
    Slice,
    UsageError,
    added,
    record,
)
from penstock.connector import ConnectorPlugin
from penstock.sandbox.server import Server
from project_shop import DAYS, LAST, SALES, Settings, Shop, Stopped, config

pytestmark = pytest.mark.slow


@record()
class Update:
    day: date = added()
    id: str
    price: str


def updates(settings: Settings, slice_: Slice) -> list[Request]:
    return [Request(url=f"{settings.base_url}/sales", params=(("shop", "7"), ("day", str(slice_.since))))]


def test_read_yields_typed_records(project: Project, tmp_path: Path) -> None:
    """
    Objects and mappings with exact decimals, days and plain nested parts; no target, nothing remembered.
    """
    records = project.read("shop", "sales", since=LAST, until=LAST)

    rows = sorted(records.rows(), key=lambda row: row.id)
    assert len(rows) == 4
    assert (rows[0].shop_id, rows[0].day, rows[0].price_amount) == ("7", LAST, Decimal("1.50"))
    assert rows[0].lines == [{"sku": "a", "tax": Decimal("0.1")}]
    mapping = min(records.dicts(), key=lambda row: row["id"])
    assert mapping == {
        "shop_id": "7",
        "day": LAST,
        "id": "7-2026-03-09-1",
        "price": "150",
        "price_amount": Decimal("1.50"),
        "lines": [{"sku": "a", "tax": Decimal("0.1")}],
        "_extra": None,
    }
    assert [column.name for column in records.layout.columns] == list(mapping)
    assert records.report is not None
    assert records.report.exit_code == 0
    assert list(tmp_path.iterdir()) == []


def test_read_takes_accounts_and_reads_anew(project: Project, shop: Shop) -> None:
    """
    Each iteration requests them again, for the accounts that match.
    """
    records = project.read("shop", "sales", since=LAST, until=LAST, accounts=["8"])

    assert [len(batch) for batch in records] == [2]
    assert [len(batch) for batch in records] == [2]
    assert shop.requested == ["8 2026-03-09"] * 2


def test_read_raises_where_the_counts_disagree(project: Project, shop: Shop) -> None:
    """
    A partition that does not add up yields no row, and ends the iteration with the error of the run.
    """
    shop.change = lambda shop, day, answer: {**answer, "total": 3} if (shop, day) == ("8", "2026-03-08") else answer
    seen: list[str] = []

    with pytest.raises(CountMismatchError, match=r"states 3 records and 2 arrived\. It was read 6 times\."):
        seen.extend(row.id for row in project.read("shop", "sales", **DAYS).rows())

    assert not [one for one in seen if one.startswith("8-2026-03-08")]
    assert len(seen) == len(set(seen))


def test_a_page_that_is_read_again_is_yielded_once(project: Project, shop: Shop) -> None:
    """
    The first answer does not add up, the second does: its rows only.
    """
    answers = iter([3])
    shop.change = lambda shop, day, answer: {**answer, "total": next(answers, 2)}

    rows = list(project.read("shop", "sales", since=LAST, until=LAST, accounts=["7"]).rows())

    assert [row.id for row in rows] == ["7-2026-03-09-1", "7-2026-03-09-2"]
    assert len(shop.requested) == 2


def test_changes_are_read_day_by_day(server: Server, shop: Shop, working_directory: Path) -> None:
    """
    A record that changed between the requests of two days comes with both, the last time with its newest values.
    """
    updated = evolve(
        SALES, kind="changes", account=None, accounts=None, open_for=OpenFor(0), record=Update, requests=updates
    )
    plugin = ConnectorPlugin(Connector(name="shop", summary="Sales", settings=Settings, streams=[updated]))
    shop.change = lambda shop, day, answer: {"sales": [{"id": "1", "price": day[-2:]}], "total": 1}
    project = Project(config(server, working_directory), plugins=(plugin,), environ={}, clock=Stopped)

    rows = project.read("shop", "sales", **DAYS).rows()

    assert [(row.id, row.price) for row in rows] == [("1", "07"), ("1", "08"), ("1", "09")]


def test_read_refuses_to_lose_a_record(project: Project, shop: Shop) -> None:
    """
    A record that cannot be decoded raises after the last batch, unless that is allowed; it is listed either way.
    """
    shop.change = lambda shop, day, answer: {
        "sales": [{**answer["sales"][0], "id": None}, answer["sales"][1]],
        "total": 2,
    }
    options: dict[str, Any] = {"since": LAST, "until": LAST, "accounts": ["7"]}
    records = project.read("shop", "sales", **options)
    seen = []

    with pytest.raises(RejectedRecordsError, match=r"shop\.sales: 1 records? could not be decoded"):
        seen.extend(records.rows())

    assert (len(seen), [one.path for one in records.rejected]) == (1, ["$.sales[0].id"])
    assert len(list(project.read("shop", "sales", **options, allow_rejected=True).rows())) == 1


def test_read_raises_the_providers_error(project: Project, shop: Shop) -> None:
    """
    Refused credentials are the error of the provider, before any row.
    """
    shop.change = lambda shop, day, answer: SandboxResponse(status=401)

    with pytest.raises(AuthenticationError):
        next(iter(project.read("shop", "sales", **DAYS)))


def test_a_read_that_is_left_early_ends(project: Project, shop: Shop) -> None:
    """
    After a read that is left early its thread is gone, and the provider gets no further request.
    """
    batches = iter(project.read("shop", "sales", since=date(2026, 1, 1), until=LAST))
    next(batches)
    batches.close()  # type: ignore[attr-defined]

    assert [one.name for one in threading.enumerate() if one.name.startswith("read ")] == []
    assert len(shop.requested) < 68 * 2


def test_a_pipeline_is_no_source_to_read(project: Project) -> None:
    """
    The message names the source to read in its place.
    """
    with pytest.raises(UsageError, match="daily is a pipeline; name a source of it: shop"):
        project.read("daily", "sales")


def test_a_text_that_is_no_day_is_named_with_its_argument(project: Project) -> None:
    """
    A call has two days.
    """
    with pytest.raises(UsageError, match="until: found 'tomorrow', expected a day: 2026-01-31"):
        project.run("daily", since="yesterday", until="tomorrow")


def test_a_reading_is_no_array(project: Project) -> None:
    """
    NumPy and pandas would take the batches for rows; the error states what to write.
    """
    with pytest.raises(TypeError, match=r"write pyarrow\.table\(reading\)"):
        project.read("shop", "sales").__array__()


def test_a_layout_prints_its_columns(project: Project) -> None:
    """
    A layout prints its columns: in a notebook, that is the answer to what a stream has.
    """
    assert repr(project.read("shop", "sales").layout).startswith("Layout(shop.sales: shop_id text, day date, ")


@pytest.mark.parametrize("since", [20260309, datetime(2026, 3, 9, tzinfo=UTC)], ids=["a number", "a time"])
def test_a_value_that_is_no_day_is_refused(project: Project, since: Any) -> None:
    """
    A time is not cut to a day: its zone need not be that of the source.
    """
    expected = "since: found .*, expected a date, or a day as text: 2026-01-31, yesterday"
    with pytest.raises(UsageError, match=expected):
        project.read("shop", "sales", since=since)
    with pytest.raises(UsageError, match=expected):
        project.plan("daily", since=since)
