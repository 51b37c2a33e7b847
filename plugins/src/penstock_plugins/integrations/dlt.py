"""
A source of penstock as a dlt source (extra ``dlt``): one resource per stream, with keys, types and partitions.

What a partition held before is deleted, then its rows are inserted, also where it has none any more: rows that vanish
at the provider vanish at the destination.
"""

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from datetime import date
from decimal import Context
from itertools import count
from typing import Any

from attrs import frozen
from penstock import (
    Batch,
    Column,
    ColumnType,
    HandoverSink,
    Layout,
    LedgerEntry,
    Project,
    ProviderError,
    RejectedRecordsError,
    mask,
)

from penstock_plugins.extras import installed
from penstock_plugins.integrations.state_ledger import StateLedger
from penstock_plugins.sink_support.sink_settings import PRECISION, SCALE, scale_of
from penstock_plugins.sink_support.text_columns import json_texts

GONE = "penstock_gone"
"""The column that marks a row which only stands for a partition without rows. It is never true at the destination."""

ORDER = "penstock_order"
"""
The column by which dlt keeps, of the rows of one key in one load, the one that was read last. Without it, dlt keeps any
of them. It is written for streams of changes only.
"""

_STATE = "penstock"
_logger = logging.getLogger("penstock")
_WIDE = Context(prec=2000)
DLT_TYPES: dict[ColumnType, str] = {
    "text": "text",
    "integer": "bigint",
    "decimal": "decimal",
    "boolean": "bool",
    "date": "date",
    "datetime": "timestamp",
    "json": "json",
}
_ANY: dict[ColumnType, Any] = {
    "text": "",
    "integer": 0,
    "decimal": 0,
    "boolean": False,
    "date": date(1970, 1, 1),
}


def dlt_source(
    project: Project,
    source: str,
    streams: Sequence[str] | None = None,
    *,
    since: date | str | None = None,
    until: date | str | None = None,
    accounts: Sequence[str] | None = None,
    allow_rejected: bool | int | str | None = None,
    decimal_scale: int = SCALE,
) -> Any:
    """
    A ``dlt`` source with a resource for each stream, named after it.

    ``streams``: names or patterns; None: those that are on by default. The other options are those of
    :meth:`penstock.Project.run`. The state of a resource is the final days of its stream: the next run of the pipeline
    reads what is open or missing. A partition that fails, or rejected records beyond ``allow_rejected``, end
    the extraction with their error, and dlt loads nothing of this run. ``decimal_scale``: the digits after the point of
    decimal columns; a number with more of them raises ProviderError, since the destination would round it.

    A stream that is derived from another is a resource of its own, whose requests are made again.
    """
    with installed("dlt"):
        import dlt
    layouts = project.layouts(source, streams)
    options = {"since": since, "until": until, "accounts": accounts, "allow_rejected": allow_rejected}

    def resource(layout: Layout) -> Any:
        def read() -> Iterator[list[dict[str, Any]]]:
            for rows in resource_rows(dlt.current.resource_state(), project, source, layouts, layout, options):
                check_rounding(rows, layout, decimal_scale)
                yield rows

        return dlt.resource(
            read, name=layout.stream, columns=columns_of(layout, decimal_scale), **disposition_of(layout)
        )

    return dlt.source(lambda: [resource(layout) for layout in layouts], name=source, section=source)()


def resource_rows(
    state: dict[str, Any],
    project: Project,
    source: str,
    layouts: Sequence[Layout],
    layout: Layout,
    options: Mapping[str, Any],
) -> Iterator[list[dict[str, Any]]]:
    """The rows of a stream, from its state on, which follows the rows that it covers."""
    ledger = StateLedger(layouts, [layout.stream])
    ledger.load({layout.stream: state.get(_STATE)})
    numbers = count(1)
    for delivery in deliveries(project, source, ledger, **options):
        rows = list(rows_of(delivery, layout, numbers))
        yield from rows
        if not rows and replaces_partitions(layout):
            yield [gone(delivery, layout)]
        state[_STATE] = ledger.state(layout.stream)
    state[_STATE] = ledger.state(layout.stream)  # also where only the list of accounts changed


@frozen
class CommittedPartition:
    """One partition whose counts were verified: its row of a ledger, and its batches, those of derived streams too."""

    entry: LedgerEntry
    batches: Sequence[Batch]


def deliveries(project: Project, source: str, ledger: StateLedger, **options: Any) -> Iterator[CommittedPartition]:
    """
    Read the chosen streams of the ledger as a run does, in a thread of its own, and yield each partition after its
    commit. The ledger has a partition once it was yielded. ``options`` are those of :meth:`penstock.Project.run`. The
    notices of the run are warnings of the logger ``penstock``.

    Raises the error of the run after the last partition: ProviderError, RejectedRecordsError, or what prevented it
    from starting. Closing the iterator early ends the run.
    """
    sink = HandoverSink(items=lambda entry, batches: [CommittedPartition(entry, batches)], ledger=ledger)

    def run() -> None:
        result = project.run(source, to=sink, streams=ledger.chosen, stop=sink.stop, **options)
        for text in result.notices:
            _logger.warning("%s: %s", source, mask(text))
        if result.error is not None:
            raise result.error
        if result.exit_code == 5:
            reasons = filter(None, (result.rejected_line, result.missing_measures_line))
            raise RejectedRecordsError("; ".join(reasons) or result.summary)
        if result.exit_code:
            raise ProviderError("; ".join([error["message"] for error in result.errors[:3]] or [result.summary]))

    with closing(sink.taken(run, f"read {source}")) as taken:
        for delivery in taken:
            ledger.deliver(delivery.entry)
            yield delivery


def disposition_of(layout: Layout) -> dict[str, Any]:
    """How rows are written: a partition in place of itself, changes by key, a snapshot without accounts as a whole."""
    if layout.kind == "snapshot" and not layout.partition_columns:
        return {"write_disposition": "replace"}
    replaced = layout.derived_by if layout.kind == "changes" else layout.partition_columns
    return {
        "write_disposition": {"disposition": "merge", "strategy": "delete-insert"},
        **({"primary_key": list(layout.unique_columns)} if layout.key else {}),
        **({"merge_key": list(replaced)} if replaced else {}),
    }


def replaces_partitions(layout: Layout) -> bool:
    """Whether the rows of a partition take the place of its former ones."""
    return layout.kind != "changes" and bool(layout.partition_columns)


def columns_of(layout: Layout, decimal_scale: int) -> dict[str, Any]:
    """The hints of all columns, and of the mark of a partition without rows or of the order of changes."""
    columns = {column.name: _hint(column, decimal_scale) for column in layout.columns}
    if replaces_partitions(layout):
        columns[GONE] = {"data_type": "bool", "nullable": True, "hard_delete": True}
    if layout.kind == "changes":
        columns[ORDER] = {"data_type": "bigint", "nullable": True, "dedup_sort": "desc"}
    return columns


def _hint(column: Column, decimal_scale: int) -> dict[str, Any]:
    scale = {"precision": PRECISION, "scale": scale_of(column, decimal_scale)} if column.type == "decimal" else {}
    naive = {"timezone": False} if column.type == "datetime" and column.zone == "naive" else {}
    about = {"description": column.description} if column.description else {}
    return {"data_type": DLT_TYPES[column.type], **scale, **naive, **about, "nullable": column.nullable}


def rows_of(delivery: CommittedPartition, layout: Layout, numbers: Iterator[int]) -> Iterator[list[dict[str, Any]]]:
    """
    The rows of a stream in a partition, batch by batch. A nested value is JSON in a text in JSON: dlt decodes it once,
    and with floats, so that what is inside stays as the provider sent it. ``numbers``: ascending, for the batches of
    changes, in the order in which they were read.
    """
    nested = [column.name for column in layout.columns if column.type == "json"]
    for batch in delivery.batches:
        if batch.layout.stream != layout.stream or not batch.rows:
            continue
        rows = batch.dicts()
        for name in nested:
            for row, text in zip(rows, json_texts([row[name] for row in rows]), strict=True):
                row[name] = text if text is None else json.dumps(text)
        if layout.kind == "changes":
            number = next(numbers)
            for row in rows:
                row[ORDER] = number
        yield rows


def _decimal_places(value: Any) -> int:
    """The digits after the point, zeros at the end included."""
    exponent: int = value.as_tuple().exponent
    return -exponent


def check_rounding(rows: Sequence[Mapping[str, Any]], layout: Layout, scale: int) -> None:
    """Raises ProviderError for a decimal with more digits after the point than its column has."""
    for column in layout.columns:
        if column.type != "decimal":
            continue
        most = scale_of(column, scale)
        for row in rows:
            value = row[column.name]
            if value and _decimal_places(value) > most and _decimal_places(_WIDE.normalize(value)) > most:
                raise ProviderError(
                    f"{layout.stream}.{column.name}: {value} has more than {most} digits after the point, which the "
                    "destination would round. Write dlt_source(..., decimal_scale=18)"
                )


def gone(delivery: CommittedPartition, layout: Layout) -> dict[str, Any]:
    """A row that makes dlt delete what the partition held before, and that is not inserted."""
    values: dict[str, Any] = delivery.entry.partition.as_dict()
    columns = {column.name: column for column in layout.columns}
    needed = {name for name, column in columns.items() if not column.nullable or name in layout.key}
    row = {name: _ANY.get(column.type) if name in needed else None for name, column in columns.items()}
    for name, text in values.items():
        row[name] = date.fromisoformat(text) if columns[name].type == "date" else text
    return {**row, GONE: True}
