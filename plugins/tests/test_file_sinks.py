"""
The promises of the sinks that write directories of files, for each format.
"""

import gzip
import json
import re
from collections.abc import Callable, Sequence
from datetime import date, datetime
from decimal import Decimal, localcontext
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from penstock import (
    BaseSink,
    BaseTarget,
    Batch,
    Column,
    FinalDay,
    Layout,
    Ledger,
    LedgerEntry,
    Partition,
    PenstockError,
    Sink,
    Target,
    Writer,
)
from penstock.testing.sinks import CLICKS, HOSTILE, SOURCE, SinkSuite, a_day, an_entry, commit, plain, rows_of
from penstock_plugins import sink_kinds
from penstock_plugins.files.coordination import StagingTarget, WorkerLedger
from penstock_plugins.files.csv import Csv
from penstock_plugins.files.jsonl import JsonLines
from penstock_plugins.files.sink import FileSink
from penstock_plugins.files.target import FileTarget

pytestmark = pytest.mark.slow

COMMIT_POINTS = (
    "files.staged",
    "files.intended",
    "file.renamed",
    "file.renamed:2",
    "files.in_place",
    "files.delivered",
)
MERGE_POINTS = (
    "day.written",
    "day.staged",
    "day.written:2",
    "day.staged:2",
    "merge.written",
    "merge.intended",
    "file.renamed",
    "file.renamed:2",
    "files.in_place",
    "merge.delivered",
)


class FileSuite(SinkSuite):
    commit_points = COMMIT_POINTS
    merge_points = MERGE_POINTS
    erase_points = COMMIT_POINTS
    erase_merged_points = tuple(point for point in MERGE_POINTS if not point.startswith("day"))
    suffix = ""

    def rows(self, place: Path, layout: Layout) -> list[dict[str, Any]]:
        found = []
        for path in (place / SOURCE / layout.stream).rglob("*"):
            if path.is_file() and path.name != ".penstock":
                assert path.name == f"data.{self.suffix}"
                found += self.read(path, layout)
        return found

    def read(self, path: Path, layout: Layout) -> list[dict[str, Any]]:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        return self.parse(content.decode(), layout)

    def parse(self, text: str, layout: Layout) -> list[dict[str, Any]]:
        raise NotImplementedError


class TestJsonLines(FileSuite):
    suffix = "jsonl"

    def sink(self, place: Path) -> Sink:
        return FileSink(directory=place, codec=JsonLines())

    def parse(self, text: str, layout: Layout) -> list[dict[str, Any]]:
        columns = {column.name: column for column in layout.columns}
        lines = [json.loads(line, parse_float=Decimal) for line in text.split("\n") if line]
        return [{name: typed(columns[name], value) for name, value in line.items()} for line in lines]


@pytest.mark.large
class TestJsonLinesGzip(TestJsonLines):
    suffix = "jsonl.gz"

    def sink(self, place: Path) -> Sink:
        return FileSink(directory=place, codec=JsonLines(), compress=True)


class BothLedgers(Ledger):
    """A worker's ledger, and of the coordinator's what no worker needs."""

    def __init__(self, worker: WorkerLedger, coordinator: Any) -> None:
        self.entries, self.fail_all = worker.entries, worker.fail_all
        self.rejected, self.sources, self.restated = coordinator.rejected, coordinator.sources, coordinator.restated
        self.counts, self.runs, self.record_run = coordinator.counts, coordinator.runs, coordinator.record_run


class Both(BaseTarget):
    """One target of a worker and its coordinator, as a run uses the two."""

    def __init__(self, worker: StagingTarget, coordinator: FileTarget) -> None:
        self.worker, self.coordinator = worker, coordinator
        self.ledger = BothLedgers(worker.ledger, coordinator.ledger)

    def prepare(self, layouts: Sequence[Layout]) -> None:
        self.worker.prepare(layouts)

    def begin(self, layouts: Sequence[Layout], partition: Partition) -> Writer:
        return self.worker.begin(layouts, partition)

    def commit_group(self, commits: Sequence[tuple[Any, LedgerEntry]]) -> Sequence[LedgerEntry | Exception]:
        return self.worker.commit_group(commits)

    def is_intact(self, entry: LedgerEntry) -> bool:
        return self.worker.is_intact(entry)

    def final_days(self, stream: str, **window: Any) -> Sequence[FinalDay]:
        return list(self.worker.final_days(stream, **window))

    def finish(self, stream: str) -> None:
        self.worker.finish(stream)
        self.coordinator.finish(stream)

    def erase(self, *erased: Any) -> Any:
        return self.coordinator.erase(*erased)

    def verify(self, *of: Any, **window: Any) -> Any:
        return self.coordinator.verify(*of, **window)

    def close(self) -> None:
        self.worker.close()
        self.coordinator.close()


class Staged(BaseSink):
    def __init__(self, place: Path) -> None:
        self.of_files = FileSink(directory=place, codec=JsonLines())

    def open(self, source: str, run_id: str, streams: Sequence[str] = ()) -> Any:
        coordinator = self.of_files.open(source, run_id, streams)
        return Both(self.of_files.open_staging(source, run_id, coordinator.reply), coordinator)

    def open_readonly(self, source: str) -> Target | None:
        return self.of_files.open_readonly(source)


class TestStaged(TestJsonLines):
    def sink(self, place: Path) -> Sink:
        return Staged(place)


class TestCsv(FileSuite):
    suffix = "csv"

    def sink(self, place: Path) -> Sink:
        return FileSink(directory=place, codec=Csv())

    def parse(self, text: str, layout: Layout) -> list[dict[str, Any]]:
        header, *records = csv_records(text)
        columns = {column.name: column for column in layout.columns}
        assert header == list(columns)
        return [
            {name: from_text(column, cell) for (name, column), cell in zip(columns.items(), record, strict=True)}
            for record in records
        ]


@pytest.mark.skipif(find_spec("pyarrow") is None, reason="needs the extra arrow")
class TestParquet(FileSuite):
    suffix = "parquet"

    def sink(self, place: Path) -> Sink:
        from penstock_plugins.files.parquet import Parquet

        return FileSink(directory=place, codec=Parquet())

    def read(self, path: Path, layout: Layout) -> list[dict[str, Any]]:
        from pyarrow import parquet

        rows: list[dict[str, Any]] = parquet.read_table(path, partitioning=None).to_pylist()
        for row in rows:
            for column in layout.columns:
                if column.type == "json" and row[column.name] is not None:
                    row[column.name] = json.loads(row[column.name], parse_float=Decimal)
        return rows

    def test_rows_come_back_as_they_were(self, place: Path) -> None:
        """
        All but the record with a number that no column of integers holds: it is rejected, and no sum counts it.
        """
        fitting = [row for row in HOSTILE if row["job_id"] != 2**70]
        with localcontext(prec=50):
            sums = {"price": sum((row["price"] or Decimal(0) for row in HOSTILE), Decimal(0))}
        target = self.sink(place).open(SOURCE, "r1")
        writer = target.begin([CLICKS], a_day())
        writer.write(Batch(layout=CLICKS, rows=rows_of(CLICKS, HOSTILE)))
        committed = commit(target, writer, an_entry(target.ledger, a_day(), rows=len(HOSTILE), sums=sums))
        ledger = target.ledger
        assert ledger is not None
        stored = ledger.entries(SOURCE, "clicks")[a_day()]
        ((_, rejected),) = ledger.rejected(SOURCE)
        target.close()

        assert self.found(place, CLICKS) == plain(CLICKS, fitting)
        assert (committed.rows, committed.rejected) == (stored.rows, stored.rejected) == (len(fitting), 1)
        assert stored.sums == {"price": sum(row["price"] or Decimal(0) for row in fitting)}
        assert rejected.reason == f"{2**70} is beyond 64 bits"
        assert json.loads(rejected.raw, parse_float=Decimal)["price"] == Decimal("-12345678901234567890.12345678901")


def csv_records(text: str) -> list[list[str | None]]:
    """Records of cells, read as RFC 4180 states; None for nothing, which csv.reader takes for an empty text."""
    records: list[list[str | None]] = [[]]
    place = 0
    while place < len(text):
        found = re.compile(r'(?:"((?:[^"]|"")*)"|([^",\r\n]+)|)(,|\r\n)').match(text, place)
        assert found is not None, text[place : place + 80]
        quoted, bare, end = found.groups()
        records[-1].append(quoted.replace('""', '"') if quoted is not None else bare)
        if end != ",":
            records.append([])
        place = found.end()
    return records[:-1]


def typed(column: Column, value: Any) -> Any:
    if value is None:
        return None
    if column.type == "decimal":
        return Decimal(value)
    if column.type in ("date", "datetime"):
        return from_text(column, value)
    return value


def from_text(column: Column, text: str | None) -> Any:
    if text is None:
        return None
    readers: dict[str, Callable[[str], Any]] = {
        "text": str,
        "integer": int,
        "decimal": Decimal,
        "boolean": {"true": True, "false": False}.__getitem__,
        "date": date.fromisoformat,
        "datetime": datetime.fromisoformat,
        "json": lambda value: json.loads(value, parse_float=Decimal),
    }
    return readers[column.type](text)


@pytest.mark.parametrize("kind", ["JSONL", "CSV", "DUCKDB"])
def test_a_place_that_cannot_be_read_is_an_error_of_the_target(kind: str, tmp_path: Path) -> None:
    """
    A name that the system refuses, as it does a directory of another user, is an error of the target, and no defect of
    penstock.
    """
    if kind == "DUCKDB":
        pytest.importorskip("duckdb")
    sink = getattr(sink_kinds, kind)

    for name in ("x" * 300, f"{'x' * 300}.{kind.lower()}"):
        with pytest.raises(PenstockError, match="File name too long"):
            sink.open(sink.parse(f"{kind.lower()}:{tmp_path / name}")).open("shop", "a-run")
