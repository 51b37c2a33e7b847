"""
The sink of Parquet files against pyarrow alone: CPU of the same columns, and memory.

    python benchmarks/parquet.py [ROWS]

pyarrow alone gets each column as a list of values, makes arrays of them and writes them with the same types, row groups
and compression. The sink gets rows, page by page, as a run hands them to it; it also keeps its ledger and checksums.
"""

import resource
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
from penstock import Batch, Column, Layout, LedgerEntry, Partition
from penstock.testing.sinks import commit
from penstock_plugins.arrow.columns import Columns
from penstock_plugins.files.parquet import Parquet
from penstock_plugins.files.sink import FileSink

PAGE = 5000
DAY = date(2026, 3, 1)
START = datetime(2026, 3, 1, tzinfo=UTC)
LAYOUT = Layout(
    source="acme",
    stream="clicks",
    kind="report",
    key=("click_id",),
    partition_columns=("advertiser_id", "report_date"),
    columns=(
        Column(name="advertiser_id", type="text", nullable=False),
        Column(name="report_date", type="date", nullable=False),
        Column(name="click_id", type="text", nullable=False),
        Column(name="job_id", type="integer"),
        Column(name="title", type="text"),
        Column(name="campaign", type="text"),
        Column(name="price", type="text"),
        Column(name="price_amount", type="decimal", unit="USD", additive=True),
        Column(name="valid", type="boolean"),
        Column(name="clicked_at", type="datetime"),
        Column(name="_extra", type="json"),
    ),
)
Row = msgspec.defstruct("Row", [(column.name, Any, msgspec.UNSET) for column in LAYOUT.columns], gc=False)
COLUMNS = Columns.of(LAYOUT)


def pages(rows: int) -> Iterator[list[Any]]:
    for first in range(0, rows, PAGE):
        yield [
            Row(
                "2112",
                DAY,
                f"c-{number * 7919 % 10**9:09d}",
                number % 5000,
                f"Driver in city {number % 700}",
                f"campaign {number % 12}",
                str(25 + number % 90),
                Decimal(25 + number % 90) / 100,
                number % 50 != 0,
                START + timedelta(milliseconds=37 * number),
            )
            for number in range(first, min(first + PAGE, rows))
        ]


def by_the_sink(place: Path, rows: int) -> tuple[float, int]:
    """CPU seconds of the target's work, and the size of the file."""
    target = FileSink(directory=place, codec=Parquet()).open("acme", "r1")
    partition = Partition("clicks", (("advertiser_id", "2112"), ("report_date", str(DAY))))
    writer = target.begin([LAYOUT], partition)
    spent = 0.0
    for page in pages(rows):
        start = time.process_time()
        writer.write(Batch(layout=LAYOUT, rows=page))
        spent += time.process_time() - start
    start = time.process_time()
    entry = LedgerEntry(source="acme", partition=partition, state="delivered", run_id="r1", rows=rows)
    commit(target, writer, entry)
    spent += time.process_time() - start
    target.close()
    return spent, next(place.rglob("data.parquet")).stat().st_size


def by_pyarrow(place: Path, rows: int, group: int, **options: Any) -> tuple[float, int]:
    """The same of pyarrow alone, ``group`` rows in each row group."""
    spent = 0.0
    held: list[Any] = []
    place.mkdir()
    writer = pq.ParquetWriter(place / "data.parquet", COLUMNS.schema, compression="zstd", **options)
    for page in pages(rows):
        values = [[getattr(row, column.name) for row in page] for column in LAYOUT.columns[:-1]]
        values.append([None] * len(page))
        start = time.process_time()
        held.append(
            pa.RecordBatch.from_arrays(list(map(pa.array, values, COLUMNS.schema.types)), schema=COLUMNS.schema)
        )
        if sum(map(len, held)) >= group:
            writer.write_table(pa.Table.from_batches(held))
            held = []
        spent += time.process_time() - start
    start = time.process_time()
    if held:
        writer.write_table(pa.Table.from_batches(held))
    writer.close()
    spent += time.process_time() - start
    return spent, (place / "data.parquet").stat().st_size


def main() -> None:
    rows = int(sys.argv[1]) if len(sys.argv) > 1 else 300_000
    found: dict[str, list[tuple[float, int]]] = {"sink": [], "pyarrow": []}
    for number in range(3):
        with tempfile.TemporaryDirectory() as folder:
            found["sink"].append(by_the_sink(Path(folder) / "sink", rows))
            groups = pq.ParquetFile(next((Path(folder) / "sink").rglob("data.parquet"))).num_row_groups
            found["pyarrow"].append(by_pyarrow(Path(folder) / f"bare-{number}", rows, -(-rows // groups)))
    for name, runs in found.items():
        seconds, size = min(runs)
        print(f"{name:8} {1e6 * seconds / rows:6.2f} us of CPU a row, {size / rows:5.1f} bytes a row")
    print(f"ratio    {min(found['sink'])[0] / min(found['pyarrow'])[0]:6.2f}, in {groups} row groups")
    print(f"peak     {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB")


if __name__ == "__main__":
    main()
