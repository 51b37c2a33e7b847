"""
The records of one stream as Python values, read and checked like a run, without a target.
"""

import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from datetime import date
from functools import partial
from typing import Any, NoReturn

import msgspec
from attrs import define, evolve, field

from penstock._config.source import ConfiguredSource
from penstock._plan.read_job import ReadJob
from penstock._plan.selection import chosen_streams
from penstock._project.selected_jobs import PlanOnlySink, check_missed_columns
from penstock._project.setup import Notices, Setup, window_of
from penstock._read.components import components_of
from penstock._run.context import new_run
from penstock._run.runner import run_jobs
from penstock._run_report.report import RunReport
from penstock._util.clock import Clock
from penstock.errors import ProviderError, RejectedRecordsError
from penstock.events import Event, OnEvent
from penstock.handover import HandoverSink
from penstock.ledger_interface import LedgerEntry
from penstock.model import PLAIN_JSON, Batch, Rejected
from penstock.protocols import Named
from penstock.sinks import Layout

Encoder = Callable[[Layout, Generator[Batch, None, None]], Any]
"""
The batches of one stream in a form that another library takes, such as an Arrow stream. They are read as the result is
consumed; nested values in them may be ``msgspec.Raw``. An encoder that cannot convert a batch throws its error into the
generator (``batches.throw``): that ends the read, and keeps the error for ``Records.error``.
"""


@define(eq=False, kw_only=True)
class Records:
    """
    The records of one stream. Each iteration reads them from the provider, and yields a :class:`penstock.Batch` for
    each page, one partition after another as they are completed.

    A partition's batches are yielded after its counts were verified, so none is of a partition that does not add up.
    Days of a ``changes`` stream come in order, and are not merged: a record that two of them have (in the ``lookback``
    of the later one, or changed in between) comes with both, the last time with its newest values.

    The first partition that fails ends the iteration with its error. Records that cannot be decoded are in
    ``rejected``; after the last batch they raise RejectedRecordsError, unless ``allow_rejected``.

    Closing the iterator early ends the read.

    Arrow libraries take the object itself (``polars.DataFrame(records)``, ``duckdb.sql("from records")``): each time
    they ask for its stream, the records are read anew, as they are consumed. Needs the extra ``arrow``.
    """

    job: ReadJob = field(repr=False)
    stream: str
    allow_rejected: bool = False
    on_event: OnEvent = field(repr=False)
    clock: Callable[[threading.Event], Clock] = field(repr=False)
    rejected: list[Rejected] = field(factory=list, init=False, repr=False)
    """The rejected records of the iteration that began last."""
    report: RunReport | None = field(default=None, init=False, repr=False)
    """The run report of the iteration that ended last; None before."""
    error: BaseException | None = field(default=None, init=False, repr=False)
    """The error that ended the iteration that began last. A library that consumes a stream reports its text only."""

    @property
    def layout(self) -> Layout:
        """The stream's columns in order, with partition columns and ``_extra``."""
        return next(layout for layout in layouts_of(self.job.source, self.job.streams) if layout.stream == self.stream)

    def __iter__(self) -> Iterator[Batch]:
        return self._batches(plain=True)

    def _batches(self, *, plain: bool) -> Generator[Batch, None, None]:
        """``plain``: with nested parts as Python values, not as raw JSON."""
        rejected: list[Rejected] = []
        self.rejected, self.error = rejected, None

        def committed(entry: LedgerEntry, batches: Sequence[Batch]) -> Sequence[Batch]:
            rejected.extend(record for record in entry.rejected_records if record.stream == self.stream)
            stream_batches = [batch for batch in batches if batch.layout.stream == self.stream]
            if plain:
                for batch in stream_batches:
                    _make_plain(batch)
            return stream_batches

        def stop_on_failure(event: Event) -> None:
            if event["event"] == "partition_failed":
                sink.stop.set()  # one error is enough
            self.on_event(event)

        sink = HandoverSink(items=committed)
        job = evolve(self.job, sink=sink)
        context = new_run([job], clock=self.clock(sink.stop), on_event=stop_on_failure)
        report = None
        try:
            report = self.report = yield from sink.taken(partial(run_jobs, context), f"read {self.stream}")
            Notices(self.on_event).add(*report.notices)
            self._raise(report, rejected)
        except GeneratorExit:
            raise
        except BaseException as error:
            self.report, self.error = report, error
            raise

    def rows(self) -> Iterator[Any]:
        """Every record as an object with one attribute per column; decimals are exact, nested parts plain values."""
        for batch in self:
            yield from batch.rows

    def dicts(self) -> Iterator[dict[str, Any]]:
        """Every record as a mapping of column to value, in the columns' order."""
        for batch in self:
            yield from batch.dicts()

    def encode(self, encoder: str, **options: Any) -> Any:
        """
        The records in the form of an encoder that a plugin offers, read as it is consumed.

        ``encode("arrow", decimal_scale=18)`` is a ``pyarrow.RecordBatchReader``; ``decimal_scale``: the digits after
        the point of decimal columns that declare none. Raises UsageError if the library that it needs is not installed.
        """
        encode: Encoder = self.job.source.registry.component("encoder", Named(encoder, options))
        return encode(self.layout, self._batches(plain=False))

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        """An ``ArrowArrayStream`` for the Arrow PyCapsule interface. Each call reads the records anew."""
        return self.encode("arrow").__arrow_c_stream__(requested_schema)

    def __array__(self, dtype: object = None, copy: object = None) -> NoReturn:
        """
        Raises TypeError: NumPy, and pandas in its name, would take batches for rows, and make a table of other data.
        """
        raise TypeError(
            "a reading is no array. For pandas write pyarrow.table(reading).to_pandas(types_mapper=pandas.ArrowDtype), "
            "or pandas.DataFrame(reading.dicts()); a numpy array is made of its columns"
        )

    def _raise(self, report: RunReport, rejected: Sequence[Rejected]) -> None:
        if report.first_error is not None:
            raise report.first_error
        name = f"{self.job.source.name}.{self.stream}"
        if report.total("truncated"):
            raise ProviderError(
                f"{name}: the provider lists no more than this; there may be more records. Choose a shorter "
                "window, or fewer accounts"
            )
        if rejected and not self.allow_rejected:
            first = rejected[0]
            raise RejectedRecordsError(
                f"{name}: {len(rejected)} records could not be decoded and are missing from the rows, the "
                f"first because {first.path}: {first.reason}. `rejected` holds them; allow_rejected=True accepts that"
            )


def read(
    setup: Setup,
    source: str,
    stream: str,
    accounts: tuple[str, ...],
    since: date | str | None,
    until: date | str | None,
    *,
    clock: Callable[[threading.Event | None], Clock],
    allow_rejected: bool,
    on_event: OnEvent,
) -> Records:
    """See :meth:`penstock.Project.read`."""
    configured = setup.source(source, Notices(on_event).add)
    streams = chosen_streams(configured, [stream])
    check_missed_columns(setup.config, [configured], {source: streams})
    first, last = window_of(since, until, clock(None).now().astimezone(configured.zone).date())
    job = ReadJob(
        source=configured,
        streams=streams,
        accounts=accounts,
        sink=PlanOnlySink(),
        since=first,
        until=last,
        words=(since, until),
        full=True,
    )
    return Records(job=job, stream=stream, allow_rejected=allow_rejected, on_event=on_event, clock=clock)


def layouts_of(source: ConfiguredSource, streams: Sequence[str]) -> tuple[Layout, ...]:
    """The layouts of these streams, each followed by those that are derived from it."""
    read = [stream for stream in source.streams if stream.name in streams and stream.derived is None]
    return tuple(layout for stream in read for layout in components_of(source, stream, ()).row_builder.layouts)


def _make_plain(batch: Batch) -> None:
    """Nested parts, which files copy as raw JSON, as Python values with exact decimals; no extra members as None."""
    for column in batch.layout.columns:
        if column.type == "json":
            for row in batch.rows:
                value = getattr(row, column.name)
                if isinstance(value, msgspec.Raw):
                    setattr(row, column.name, PLAIN_JSON.decode(value))
                elif value is msgspec.UNSET:
                    setattr(row, column.name, None)
