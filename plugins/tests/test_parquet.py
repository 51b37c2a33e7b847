"""
What the sink of Parquet files does beyond the suite of every sink: types, row groups, records that do not fit.
"""

import json
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve
from penstock import Batch, Column, LedgerEntry, SinkError, TargetError, UsageError
from penstock.testing.sinks import (
    ANSWERS,
    CLICKS,
    LEADS,
    SOURCE,
    TAGS,
    a_day,
    a_lead_day,
    an_entry,
    answer,
    click,
    commit as commit_one,
    deliver,
    killed_at,
    lead,
    plain,
    rows_of,
    tag,
)
from penstock_plugins.sink_kinds import KINDS

pa = pytest.importorskip("pyarrow", reason="needs the extra arrow")
pq = pytest.importorskip("pyarrow.parquet", reason="needs the extra arrow")
(KIND,) = (kind for kind in KINDS if kind.name == "parquet")

FILE = "acme/clicks/by_advertiser_id=2112/by_report_date=2026-03-01/data.parquet"


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "target"


def open_(place: Path, run_id: str = "r1") -> Any:
    return KIND.open(KIND.parse(f"parquet:{place}")).open(SOURCE, run_id)


def commit(target: Any, streams: Any, **facts: Any) -> LedgerEntry:
    """Deliver a day of clicks; the entry as committed."""
    writer = target.begin([layout for layout, _ in streams], a_day())
    for layout, values in streams:
        writer.write(Batch(layout=layout, rows=rows_of(layout, values)))
    return commit_one(target, writer, an_entry(target.ledger, a_day(), rows=len(streams[0][1]), **facts))


def test_a_file_describes_itself(place: Path) -> None:
    """
    Compressed with zstd; types as declared; description, unit and key in the metadata, for Arrow and for others.
    """
    target = open_(place)
    deliver(target, a_day(), [(CLICKS, [click(1), click(2)])])
    target.close()

    file = pq.ParquetFile(place / FILE)
    columns = json.loads(file.metadata.metadata[b"penstock.columns"])
    assert {file.metadata.row_group(0).column(n).compression for n in range(len(columns))} == {"ZSTD"}
    assert str(file.schema_arrow.field("price").type) == "decimal128(38, 9)"
    assert file.schema_arrow.field("price").metadata[b"unit"] == b"USD"
    assert file.metadata.metadata[b"penstock.key"] == b"click_id"
    assert {"name": "price", "type": "decimal", "unit": "USD", "additive": "true"} in columns
    package = json.loads((place / "acme" / "datapackage.json").read_text())
    assert package["resources"][0]["format"] == "parquet"
    assert package["resources"][0]["path"] == FILE.removeprefix("acme/")


def test_rows_of_many_pages_share_row_groups(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    A row group is written when its columns take the stated memory: neither one per page nor all at the end.
    """
    from penstock_plugins.files import parquet

    monkeypatch.setattr(parquet, "ROW_GROUP_BYTES", 20_000)
    target = open_(place)
    writer = target.begin([CLICKS], a_day())
    clicks = [click(number) for number in range(1000)]
    for start in range(0, 1000, 10):
        writer.write(Batch(layout=CLICKS, rows=rows_of(CLICKS, clicks[start : start + 10])))
    commit_one(target, writer, an_entry(target.ledger, a_day(), rows=1000))
    target.close()

    file = pq.ParquetFile(place / FILE)
    assert 3 < file.num_row_groups < 50
    assert file.metadata.num_rows == 1000
    assert file.read().column("click_id").to_pylist() == [row["click_id"] for row in clicks]


def test_a_record_that_does_not_fit_is_rejected(place: Path) -> None:
    """
    Nothing is rounded: too many digits after the point, in the stream or a derived one, are in the rejected records.
    """
    fine = evolve(TAGS, columns=(*TAGS.columns[:-1], Column(name="weight", type="decimal"), TAGS.columns[-1]))
    clicks = [
        click(number, price=Decimal("0.1234567891") if number % 3 == 0 else Decimal("1.5")) for number in range(9)
    ]
    tags = [{**tag("c1", "a"), "weight": Decimal("1E-10")}, {**tag("c1", "b"), "weight": Decimal(1)}]
    target = open_(place)

    committed = commit(
        target,
        [(CLICKS, clicks), (fine, tags)],
        sums={"price": sum((row["price"] for row in clicks), Decimal(0))},
        derived_rows={"click_tags": 2},
    )
    target.close()

    assert (committed.rows, committed.rejected) == (6, 3)
    assert committed.sums == {"price": Decimal(9)}
    assert committed.derived_rows == {"click_tags": 1}
    assert committed.rejected_records[1].path == '$[?(@.click_id=="c3")].price'
    assert "does not fit decimal128(38, 9)" in committed.rejected_records[0].reason
    assert json.loads(committed.rejected_records[0].raw, parse_float=Decimal)["price"] == Decimal("0.1234567891")
    assert pq.read_table(place / FILE, partitioning=None).num_rows == 6


def test_with_more_digits_it_fits(place: Path) -> None:
    """
    The setting ``decimal_scale`` is that of columns which declare none.
    """
    sink = KIND.open(KIND.settings(path=place, decimal_scale=18))
    target = sink.open(SOURCE, "r1")
    committed = commit(target, [(CLICKS, [click(1, price=Decimal("0.123456789012345678"))])])
    target.close()

    assert committed.rejected == 0
    assert pq.read_table(place / FILE).column("price").to_pylist() == [Decimal("0.123456789012345678")]


def test_a_directory_has_files_of_one_scale(place: Path) -> None:
    """
    DuckDB would round all decimals to the scale of the first file that it reads. A directory of an earlier version,
    whose ledger does not state the scale, takes the present one.
    """
    target = open_(place)
    commit(target, [(CLICKS, [click(1)])])
    target.ledger.set_fact("dialect", "")
    target.close()
    open_(place, "r2").close()

    with pytest.raises(TargetError, match="holds parquet files with decimal_scale = 9, and the sink has now decimal_"):
        KIND.open(KIND.settings(path=place, decimal_scale=18)).open(SOURCE, "r3")


def test_a_day_of_which_nothing_fits_is_not_replaced(place: Path) -> None:
    """
    A day of which no record fits is not replaced: its former rows stay, and the error names the first reason.
    """
    target = open_(place)
    commit(target, [(CLICKS, [click(1)])])

    with pytest.raises(SinkError, match=r"refuses all 1 records .* is beyond 64 bits"):
        commit(target, [(CLICKS, [click(1, job_id=2**64)])])
    target.close()

    assert pq.read_table(place / FILE).num_rows == 1
    assert not list((place / ".penstock" / "staged").rglob("*.parquet"))


def test_verify_finds_a_changed_file(place: Path) -> None:
    """
    A byte that differs, with the same size, is found.
    """
    target = open_(place)
    commit(target, [(CLICKS, [click(1)])])
    content = bytearray((place / FILE).read_bytes())
    content[10] ^= 1
    (place / FILE).write_bytes(content)

    (found,) = target.verify("clicks", list(target.ledger.entries(SOURCE, "clicks").values()))
    target.close()

    assert found.what.endswith("has another content (same size, another checksum)")


TIMED = evolve(
    LEADS,
    columns=(
        *LEADS.columns[:-1],
        Column(name="at", type="datetime", zone="naive"),
        Column(name="fee", type="decimal", decimal_scale=12, unit="EUR"),
        LEADS.columns[-1],
    ),
)


def test_a_merge_after_a_crash_has_the_declared_types(place: Path) -> None:
    """
    The next opening merges without the connector: times without a zone, scales and units are those of the declaration.
    """
    rows = [{**lead(1), "at": datetime(2026, 3, 1, 5), "fee": Decimal("0.123456789012")}]  # noqa: DTZ001 (no zone is named)

    def work() -> None:
        target = open_(place)
        deliver(target, a_lead_day(1), [(TIMED, rows)])
        target.finish("leads")

    assert killed_at("merge.written", work)
    open_(place, "r2").close()

    found = pq.read_table(place / "acme/leads/by_campaign=7/data.parquet", partitioning=None)
    assert plain(TIMED, found.to_pylist()) == plain(TIMED, rows)
    assert [str(found.schema.field(name).type) for name in ("at", "fee")] == ["timestamp[us]", "decimal128(38, 12)"]
    assert found.schema.field("fee").metadata[b"unit"] == b"EUR"


def test_a_merged_file_gains_new_columns(place: Path) -> None:
    """
    Records of earlier runs have null in a column that was declared since, and keep their values, with what is stated
    about these, of one that is declared no more.
    """
    target = open_(place)
    deliver(target, a_lead_day(1), [(LEADS, [lead(1), lead(2)])])
    target.finish("leads")
    target.close()
    newer = evolve(LEADS, columns=(LEADS.columns[0], Column(name="day", type="date"), LEADS.columns[-1]))
    target = open_(place, "r2")
    deliver(target, a_lead_day(2), [(newer, [{"lead_id": 2, "day": date(2026, 3, 2)}])])
    target.finish("leads")
    target.close()

    found = pq.read_table(place / "acme/leads/by_campaign=7/data.parquet", partitioning=None)
    status = lead(1)["status"]
    assert found.column_names == ["lead_id", "day", "_extra", "status"]
    assert found.to_pydict() == {
        "lead_id": [1, 2],
        "day": [None, date(2026, 3, 2)],
        "_extra": [None, None],
        "status": [status, None],
    }
    described = json.loads(
        pq.read_metadata(place / "acme/leads/by_campaign=7/data.parquet").metadata[b"penstock.columns"]
    )
    assert [column["name"] for column in described] == found.column_names


@pytest.mark.parametrize("unfit_days", [(1, 2), (2,), (1,)], ids=["both days", "the last day", "the first day"])
@pytest.mark.parametrize("runs", [1, 2], ids=["one run", "two runs"])
@pytest.mark.parametrize("key", [ANSWERS.key, ()], ids=["key", "no key"])
def test_derived_rows_of_a_rejected_parent_are_replaced(
    place: Path, key: tuple[str, ...], runs: int, unfit_days: tuple[int, ...]
) -> None:
    """
    A parent that Parquet cannot hold is rejected on a day. Its derived rows are those of its last reading, each once.
    """
    answers_of = evolve(ANSWERS, key=key)
    target = open_(place)
    for day, names in ((1, ["a", "b"]), (2, ["b", "c"])):
        leads = [{"lead_id": 1, "status": 5 if day in unfit_days else f"day {day}"}, lead(2)]
        answers = [answer(number, name, f"day {day}") for number in (1, 2) for name in names]
        deliver(target, a_lead_day(day), [(LEADS, leads), (answers_of, answers)], derived_rows={"lead_data": 4})
        if runs == 2:
            target.finish("leads")
            target.close()
            target = open_(place, f"r{day + 1}")
    target.finish("leads")
    target.close()

    found = [
        pq.read_table(place / f"acme/{stream}/by_campaign=7/data.parquet", partitioning=None).to_pylist()
        for stream in ("leads", "lead_data")
    ]
    fitting = [lead(1, f"day {day}") for day in (1, 2) if day not in unfit_days]
    assert plain(LEADS, found[0]) == plain(LEADS, [*fitting, lead(2)])
    assert plain(ANSWERS, found[1]) == plain(ANSWERS, answers)


def test_a_damaged_file_is_not_merged(place: Path) -> None:
    """
    A damaged file is named and not merged, and what was staged stays.
    """
    target = open_(place)
    deliver(target, a_lead_day(1), [(LEADS, [lead(1)])])
    target.finish("leads")
    file = place / "acme/leads/by_campaign=7/data.parquet"
    file.write_bytes(bytes(file.stat().st_size))
    deliver(target, a_lead_day(2), [(LEADS, [lead(2)])])

    with pytest.raises(SinkError, match=r"data\.parquet was removed or changed during the run"):
        target.finish("leads")
    target.close()


@pytest.mark.parametrize("clicks", [[], [click(1), click(2)]], ids=["empty", "two"])
def test_one_file_of_one_stream(tmp_path: Path, clicks: list[dict[str, Any]]) -> None:
    """
    A path that ends in .parquet is one file, made of all partitions; without rows it has its columns.
    """
    path = tmp_path / "clicks.parquet"
    for _ in range(2):  # the second run replaces a file of this stream
        target = KIND.open(KIND.parse(f"parquet:{path}")).open(SOURCE, "r1", ["clicks"])
        for day in (1, 2):
            deliver(target, a_day(day), [(CLICKS, [{**one, "click_id": f"{one['click_id']}-{day}"} for one in clicks])])
        target.finish("clicks")
        target.close()

    found = pq.read_table(path)
    assert found.column_names == [column.name for column in CLICKS.columns]
    assert found.num_rows == 2 * len(clicks)
    assert [one.name for one in tmp_path.iterdir()] == ["clicks.parquet"]


def test_someone_elses_file_is_not_replaced(tmp_path: Path) -> None:
    """
    A Parquet file of other columns, and a file that is none.
    """
    path = tmp_path / "clicks.parquet"
    for write in (lambda: pq.write_table(pa.table({"a": [1]}), path), lambda: path.write_text("PAR1")):
        write()
        before = path.read_bytes()
        target = KIND.open(KIND.parse(f"parquet:{path}")).open(SOURCE, "r1", ["clicks"])
        with pytest.raises(TargetError, match="holds something else than clicks"):
            target.begin([CLICKS], a_day())
        target.close()
        assert path.read_bytes() == before


def test_a_scale_that_no_decimal_has_is_refused() -> None:
    """
    The scale of a decimal is from 0 to 38 digits.
    """
    with pytest.raises(ValueError, match="decimal_scale"):
        KIND.settings(path=Path("x"), decimal_scale=39)
    with pytest.raises(UsageError, match="parquet:DIR"):
        KIND.parse("parquet:")
