"""
The interface of sinks: the values that a sink receives (:class:`Layout`, :class:`LedgerEntry`) and its methods.

A sink writes. It does not fetch, retry, or decide what is read. The order of calls, for each source of a run::

    target = sink.open(source, run_id, streams)   takes the lock, completes or undoes commits that a crash interrupted
    target.prepare(layouts)                       if it has this method: refuses streams that it cannot hold
    writer = target.begin(layouts, partition)     one per partition; several may be open at once
    writer.write(batch)                           any number, in the provider's order
    writer.commit(entry)  or  writer.abort()      the partition appears whole, with its ledger row, or not at all;
                                                  target.commit_group in place of commit, if it has this method
    target.finish(stream)                         once per stream and run, after its last partition
    target.close()                                releases the lock

These protocols gain optional methods, and their methods gain optional parameters: a sink without them works as before.
"""

from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import Any, ClassVar, Literal, NamedTuple, Protocol, runtime_checkable

from attrs import field, frozen

from penstock.errors import PenstockError
from penstock.model import Batch, Kind, Partition, Rejected
from penstock.records import Column

MOST_REJECTED = 10_000
"""The most records of one partition that are set aside. More of them fail it: the format is another one."""

EXTRA = "_extra"
"""The last column of every stream: members that the record class does not know, as an object; UNSET or null if none."""


@frozen(kw_only=True)
class Layout:
    """
    A stream as a sink sees it: delivered columns in order (partition columns and ``_extra`` included), key, kind.

    ``derived_by``: the own columns that hold the parent's key, for a stream that travels with its parent's batches;
    such a stream's rows are replaced parent by parent where its parent is merged, else with the partition.
    """

    source: str
    stream: str
    kind: Kind
    columns: tuple[Column, ...]
    key: tuple[str, ...] = ()
    partition_columns: tuple[str, ...] = ()
    summary: str = ""
    derived_by: tuple[str, ...] = ()
    connector: str = ""

    @property
    def unique_columns(self) -> tuple[str, ...]:
        """
        The columns that identify a row over all partitions: partition and key. For ``changes``, whose rows change days:
        the key. Empty for a stream without a key.
        """
        if not self.key or self.kind == "changes":
            return self.key
        return tuple(dict.fromkeys((*self.partition_columns, *self.key)))

    @property
    def day_column(self) -> str | None:
        """The column with the day of the partition; None for a snapshot."""
        return self.partition_columns[-1] if self.kind != "snapshot" and self.partition_columns else None

    @property
    def measures(self) -> tuple[str, ...]:
        """The columns that may be summed over all rows. An amount with a currency of its own in each row is none."""
        return tuple(column.name for column in self.columns if column.additive and not column.unit_of)


State = Literal["intended", "staged", "delivered", "failed"]


@frozen(kw_only=True)
class LedgerFile:
    """
    One file of a partition, as a target of files keeps it.

    ``path``: its place, relative to the target; ``size`` in bytes, None: there must be no file at that place;
    ``staged``: its temporary place, relative to the target, until it is renamed or merged into its final place.
    """

    path: str
    size: int | None = None
    checksum: str | None = None  # "crc32:...", of the bytes on disk
    staged: str | None = None


@frozen(kw_only=True)
class LedgerEntry:
    """
    The ledger's row for one partition.

    ``state`` is one of

    ``intended``
        files were staged and are being renamed into place (``files`` describes them);
    ``staged``
        a day of a ``changes`` stream in files: written, and not merged into its account's file yet;
    ``delivered``
        also if a later reading failed: that adds ``error`` and keeps the rest;
    ``failed``
        tried, and never delivered.

    ``version`` is the row's version when the partition was planned. A commit is refused where the ledger holds another
    one by then.

    Not stored: ``kind`` is the kind of the stream (a ledger that compares readings records a restatement for a dated
    partition of a ``report`` only); ``replaces`` is the partition's row when it was planned, None where it had none or
    where it is not known.
    """

    source: str
    partition: Partition
    state: State
    run_id: str
    read_at: datetime | None = None  # aware; of a report, when it was submitted
    open_until: datetime | None = None  # aware; None: never final
    fingerprint: str = ""  # of the settings that affect the response
    rows: int = 0
    promised: int | None = None
    rejected: int = 0  # records set aside, those of derived streams included
    unread_values: int = 0  # values that did not fit a nullable column: null there, kept in ``_extra``
    repeated: int = 0
    truncated: bool = False
    # Set only if a record of the request was rejected or a value unread: the fingerprint of the record class and the
    # connector's version. A plan reads such a day again with another record class or version.
    reader_version: str = ""
    sums: Mapping[str, Decimal] = field(factory=dict)  # column -> sum over the rows, of every measure
    derived_rows: Mapping[str, int] = field(factory=dict)  # stream -> rows
    files: tuple[LedgerFile, ...] = ()  # set by a target of files: the stream's, then those of streams derived from it
    error: str | None = None
    attempts: int = 0  # failures since the last delivery
    version: int = 0
    # Rows that "came", "went" and "changed" against the former reading; not kept; None: the target does not count them.
    changes: Mapping[str, int] | None = None
    rejected_records: tuple[Rejected, ...] = field(default=(), repr=False)  # written with a delivery, not read back
    kind: Kind = field(default="report", eq=False)
    replaces: "LedgerEntry | None" = field(default=None, eq=False, repr=False)

    @property
    def delivered(self) -> bool:
        """Whether it was ever delivered, even if without rows, or if a later reading failed."""
        return self.state == "delivered"

    @property
    def complete(self) -> bool:
        """Whether no record was set aside, and every value was read."""
        return not (self.rejected or self.unread_values)

    @property
    def closed(self) -> bool:
        """Whether the partition had closed when it was read, by the rule of that time."""
        return self.read_at is not None and self.open_until is not None and self.read_at >= self.open_until

    def final(self, fingerprint: str) -> bool:
        """Whether the last reading was made after the partition closed, with the settings of today."""
        return self.delivered and self.fingerprint == fingerprint and self.closed


@frozen(kw_only=True)
class PendingReport:
    """
    A report that was submitted and not yet delivered, with all that another process needs to continue.

    ``request`` is the submission as JSON without credentials, ``partitions`` are those that the report will hold.
    """

    source: str
    stream: str
    handle: str
    request: str
    partitions: tuple[Partition, ...]
    submitted_at: datetime
    fingerprint: str


@frozen(kw_only=True)
class RunRecord:
    """One run of one source, as ``penstock status`` shows it. ``report`` is the run report's part for the source."""

    run_id: str
    source: str
    started_at: datetime
    finished_at: datetime | None = None
    exit_code: int | None = None
    report: Mapping[str, Any] = field(factory=dict)

    @property
    def requests(self) -> int:
        """The requests of all streams."""
        return sum(counts.get("requests", 0) for counts in self.report.get("streams", {}).values())


@frozen(kw_only=True)
class AccountCounts:
    """
    The ledger's rows of one account of one stream, counted.

    ``account`` maps the account's column to its text; empty for a stream without accounts. ``partitions`` is the number
    of rows: ``failed`` have an error since their last delivery, ``final`` were read after they closed (with whatever
    settings), ``open`` are all others. ``missing``: days between the first and the last that have no row.
    ``truncated``: of those delivered, the ones that a ceiling of the provider cut. ``first_day`` and ``last_day`` are
    None for a stream that is not divided by days. ``error`` is the error of the latest day that has one.
    """

    source: str
    stream: str
    account: Mapping[str, str]
    first_day: date | None = None
    last_day: date | None = None
    partitions: int = 0
    final: int = 0
    open: int = 0
    missing: int = 0
    failed: int = 0
    rows: int = 0
    rejected: int = 0
    unread_values: int = 0
    truncated: int = 0
    last_read: datetime | None = None  # aware
    error: str | None = None


class FinalDay(NamedTuple):
    """
    What a plan needs of the ledger's row of a final day. ``account`` is empty for a stream without accounts, ``day`` is
    the day's text. ``complete``: no record was set aside, and every value read.
    """

    account: str
    day: str
    fingerprint: str
    run_id: str
    read_at: datetime
    reader_version: str
    complete: bool


@frozen(kw_only=True)
class Difference:
    """
    A partition whose content differs from its ledger row; ``what``: the difference, in a phrase. ``uncounted``: it is
    about rows or files that are of no delivery in the ledger.
    """

    partition: Partition
    what: str
    uncounted: bool = False


@frozen(kw_only=True)
class Restatement:
    """
    What a new reading of a delivered day of a ``report`` changed.

    ``sums`` has the measures whose sum changed, before and after. ``changes`` counts the rows that "came", "went" and
    "changed"; None if the target does not count them.
    """

    source: str
    partition: Partition
    run_id: str
    restated_at: datetime  # aware; when it was committed, by the target's clock
    rows: tuple[int, int]  # before and after
    sums: Mapping[str, tuple[Decimal, Decimal]] = field(factory=dict)
    changes: Mapping[str, int] | None = None


class Ledger(Protocol):
    """
    The state of a target: a row per partition, the pending reports, the listed accounts, the rejected records.

    Every method is durable when it returns. Methods may be called from the run's main thread only. Optional besides:
    :class:`GroupingLedger`. A class that derives from it has the defaults of a ledger that keeps nothing, where there
    are such.

    Where a method takes ``since`` and ``until`` (days, both included) and ``accounts``, only the rows within are read.
    Rows of a stream that is not divided by days are within any window; None stands for no bound.
    """

    def entries(
        self,
        source: str,
        stream: str,
        *,
        since: date | None = None,
        until: date | None = None,
        accounts: Sequence[str] | None = None,
    ) -> dict[Partition, LedgerEntry]:
        """The rows of a stream."""

    def counts(self, source: str, stream: str | None = None) -> tuple[AccountCounts, ...]:
        """The rows of a stream (None: of every stream of the source), counted by stream and account, in their order."""
        return ()

    def unread_by_other_versions(self, source: str, stream: str, reader_version: str) -> int:
        """
        The number of delivered partitions with records or values that another version of the reader (record class and
        connector) could not read. The next run reads them again.
        """
        return 0

    def restated(
        self, source: str | None = None, *, since: datetime | None = None, runs: str = ""
    ) -> Iterable[Restatement]:
        """
        The restatements that were committed from ``since`` (aware, included) on, oldest first; None: of all sources,
        without a bound. ``runs``: only of runs whose id begins with this.
        """
        return ()

    def deliver(self, entry: LedgerEntry) -> None:
        """
        Record a delivery (state ``intended``, ``staged`` or ``delivered``) and its rejected records, in place of the
        former ones; raises SinkError when the row's version is not ``entry.version`` any more. Stores version + 1.
        """

    def fail(self, source: str, partition: Partition, error: str, run_id: str) -> None:
        """Record a failure. A former delivery is kept; the error is added to it."""

    def submit(self, report: PendingReport) -> None:
        """Record a submitted report."""

    def pending(self, source: str, stream: str) -> tuple[PendingReport, ...]:
        """The pending reports, oldest first."""

    def drop(self, report: PendingReport) -> None:
        """Delete a pending report that was delivered, failed, or no longer exists."""

    def remember_accounts(self, source: str, stream: str, accounts: Sequence[str]) -> None:
        """Store the accounts that ``stream`` listed, in place of those it listed before."""

    def accounts(self, source: str, stream: str) -> tuple[str, ...]:
        """The accounts that ``stream`` listed last, in its order; empty when it was never read."""

    def forget(self, source: str, partitions: Iterable[Partition]) -> int:
        """Delete the rows, so that their partitions are missing again; delivered data stays. Returns their number."""
        return 0

    def rejected(self, source: str | None = None, stream: str | None = None) -> Iterable[tuple[LedgerEntry, Rejected]]:
        """The records set aside, each with the row of its partition; None: of all sources, of all streams."""
        return ()

    def sources(self) -> tuple[tuple[str, str], ...]:
        """Every (source, stream) that has a row."""
        return ()

    def record_run(self, run: RunRecord) -> None:
        """Store the result of a run. Runs beyond the age or the number that the ledger keeps are deleted."""

    def runs(self, source: str, limit: int = 10) -> tuple[RunRecord, ...]:
        """The last runs, newest first."""
        return ()

    def close(self) -> None: ...


class Writer(Protocol):
    """Writes one partition to a target, which is a :class:`Grouping` one, or whose writers are :class:`Committing`."""

    def write(self, batch: Batch) -> None:
        """Write one batch of the stream, or of a stream derived from it; see ``batch.layout``."""

    def abort(self) -> None:
        """Discard everything written. The partition's former data stays."""


class Committing(Writer, Protocol):
    """A writer that commits its partition."""

    def commit(self, entry: LedgerEntry) -> LedgerEntry:
        """
        Replace the partition's former data, together with its ledger row, in one step. Returns the entry as committed:
        records that the target cannot hold are added to the rejected ones and change its counts.
        """


class Target(Protocol):
    """
    A sink opened for one source, by one run at a time. :class:`BaseTarget` has the usual defaults. Optional besides:
    :class:`Grouping`, :class:`Preparing`, :class:`Interruptible`, :class:`Verifiable`, :class:`Erasing`,
    :class:`ListsFinal`, :class:`Advising`; and the attributes of :class:`BaseTarget`.
    """

    @property
    def ledger(self) -> Ledger | None:
        """None: the target has no ledger (stdout, a single file)."""

    def begin(self, layouts: Sequence[Layout], partition: Partition) -> Writer:
        """Begin a partition. ``layouts``: that of the stream, then those of the streams derived from it."""

    def is_intact(self, entry: LedgerEntry) -> bool:
        """Whether the data of a delivered entry still exists (the partition of a deleted file is missing)."""

    def finish(self, stream: str) -> None:
        """The stream has no further partition in this run: complete what is made of all of them."""

    def close(self) -> None:
        """Release the lock. Called once, also after errors."""


class BaseTarget:
    """
    The usual defaults of a target, for a class that derives from it: no ledger, nothing to complete, nothing to close.

    ``whole_stream``: it delivers a stream as a whole, such as a single file: ``finish`` is called only when all
    partitions of the stream were read. ``deletes_rows``: false for one in which the rows that a new reading lacks stay,
    so that none can be deleted on request. ``notices``: sentences about what was found when it was opened, for the
    report of the run.
    """

    ledger: Ledger | None = None
    whole_stream: ClassVar[bool] = False
    deletes_rows: ClassVar[bool] = True
    notices: Sequence[str] = ()

    def is_intact(self, entry: LedgerEntry) -> bool:
        """Cannot be checked; always True."""
        return True

    def finish(self, stream: str) -> None:
        """No effect: every commit is complete."""

    def close(self) -> None:
        """No effect."""


@runtime_checkable
class Grouping(Protocol):
    """A target that can commit several partitions at once at a lower cost than one by one."""

    def commit_group(self, commits: Sequence[tuple[Any, LedgerEntry]]) -> Sequence[LedgerEntry | Exception]:
        """
        Commit the partitions of these writers, each with its ledger row, in their order.

        Each appears whole or not at all, as by :meth:`Committing.commit`, and the failure of one does not affect the
        others. Returns, in the same order, each entry as committed, or the error of its partition. A process that is
        killed meanwhile leaves each partition in its former or its new state.
        """


@runtime_checkable
class GroupingLedger(Protocol):
    """A ledger that can record several failures at once at a lower cost than one by one."""

    def fail_all(self, source: str, failures: Sequence[tuple[Partition, str]], run_id: str) -> None:
        """Record the failure of each partition as :meth:`Ledger.fail` does: all of them, or none."""


def commit_all(target: Target, commits: Sequence[tuple[Any, LedgerEntry]]) -> Sequence[LedgerEntry | Exception]:
    """Commit the partitions of these writers, as :meth:`Grouping.commit_group` states it, to any target."""
    if not commits:
        return ()
    if isinstance(target, Grouping):
        try:
            return target.commit_group(commits)
        except Exception as error:
            return [error] * len(commits)
    done: list[LedgerEntry | Exception] = []
    for writer, entry in commits:
        try:
            done.append(writer.commit(entry))
        except Exception as error:
            done.append(error)
    return done


@runtime_checkable
class Preparing(Protocol):
    """
    A target that prepares for the streams of a run: it adds columns to its tables, and refuses what it cannot hold.
    """

    def prepare(self, layouts: Sequence[Layout]) -> None:
        """
        Raises TargetError if one of these streams cannot be written as it is declared. Called once per run, before the
        first request, with all streams that the run may write. It may migrate the target: add a column to a table.
        """


@runtime_checkable
class Interruptible(Protocol):
    """A target that may wait for another process, such as for a lock of a database."""

    def interrupt(self, reason: PenstockError) -> None:
        """
        End the run: a waiting call raises ``reason``. Called from another thread, every second until the run has
        ended. A call that takes a few seconds at most may be completed.
        """


@runtime_checkable
class Advising(Protocol):
    """A target that knows what its owner could improve."""

    def advice(self) -> Sequence[str]:
        """The improvements, each in a sentence with the statement to run; shown by ``penstock check``."""


@runtime_checkable
class Verifiable(Protocol):
    """Of a target that can compare what it holds with its ledger."""

    def verify(
        self, stream: str, entries: Sequence[LedgerEntry], *, since: date | None = None, until: date | None = None
    ) -> Iterable[Difference]:
        """
        Yield a Difference for each entry whose stored rows differ from it, and for stored data without an entry
        (``uncounted``); of a stream, and of those derived from it. Reads all of it (rows and sums, or bytes), and
        changes nothing. Where the ledger has no delivery, ``entries`` is one without rows, whose
        partition has the names of the columns.

        ``since``, ``until``: the entries are those of these days, both included (None: from the first, to the last).
        What it names of other days is passed over, so that it need not look at them.
        """


@frozen(kw_only=True)
class Erasure:
    """
    What is erased from the rows of one stream. ``layout``: the stream as it is delivered today, without ``columns``.

    ``columns``: their values go; in files the columns, too. ``nested``: json column -> a function that returns the
    value's JSON text without what must go (the same text: nothing must), and None where nothing is left.
    """

    layout: Layout
    columns: tuple[str, ...]
    nested: Mapping[str, Callable[[str], str | None]] = field(factory=dict)


@frozen(kw_only=True)
class Erased:
    """``rows``: how many lost a value. ``left``: the partitions that could not be erased, each with the reason."""

    rows: int
    left: tuple[Difference, ...] = ()


@runtime_checkable
class ListsFinal(Protocol):
    """
    Of a target that lists its final days without their whole ledger rows. A plan then loads the rows of the days that
    it may have to read only, so that its cost does not grow with the days that were delivered long ago.
    """

    def final_days(
        self, stream: str, *, since: date, until: date, accounts: Sequence[str] | None
    ) -> Iterable[FinalDay]:
        """
        Days of a stream within the window whose ledger row is final and whose rows are intact, in any order; see
        ``Target.is_intact``. A day that is left out is judged by its row. ``accounts``: None for a stream without any.
        """


@runtime_checkable
class Erasing(Protocol):
    """Of a target that can erase values in rows that it holds."""

    def erase(self, erasures: Sequence[Erasure], entries: Sequence[LedgerEntry]) -> Erased:
        """
        Erase values in all rows of a stream and of the streams derived from it; ``erasures``: one for each of these.

        ``entries``: every delivered partition of the stream, each as its ledger row is to be from now on, with its
        rejected records; a target of files sets the files. Number, order and sums of the rows stay. A process that is
        killed leaves each partition's rows as they were or erased, never in part; another call completes it. Returns
        when all is durable. Raises SinkError or TargetError.
        """


class Sink(Protocol):
    """
    An output as configured. It holds no resources; a run opens a target for each source. Optional besides:
    :class:`Divisible`, :class:`Adopting`.

    A sink whose targets have no ledger has an attribute ``keeps_ledger`` that is false: such a one may take the rows of
    a masked recording.
    """

    def open(self, source: str, run_id: str, streams: Sequence[str] = ()) -> Target:
        """
        Raises LockHeldError when another run writes this source to this target, TargetError if it is unusable.

        ``streams``: all that this run may write to this sink, of every source, derived ones included; empty: not
        known. A sink that holds one stream refuses several here, before anything is fetched. stdout names the stream
        in each line if there are several.
        """

    def open_readonly(self, source: str) -> Target | None:
        """The target for reading only (plan, status, rejected), without lock; None if it was never written."""


Encoder = Callable[[Layout, Generator[Batch, None, None]], Any]
"""
The batches of one stream in a form that another library takes, such as an Arrow stream. They are read as the result is
consumed; nested values in them may be ``msgspec.Raw``. An encoder that cannot convert a batch throws its error into the
generator (``batches.throw``): that ends the read, and keeps the error for ``Records.error``.
"""


@frozen(kw_only=True)
class Part:
    """
    One of several processes that write one source to one target at once, each other accounts.

    ``division``: the same text in all of them. They share the lock of the source, which excludes every run without
    this text. ``name``: of this part; one process at a time has it.
    """

    division: str
    name: str


@runtime_checkable
class Divisible(Protocol):
    """A sink whose targets several processes can write at once."""

    @property
    def one_machine(self) -> bool:
        """Whether all these processes must run on one machine."""

    def open(self, source: str, run_id: str, streams: Sequence[str] = (), *, part: Part | None = None) -> Target:
        """
        As :meth:`Sink.open`, alone or as one part. The part that opens the target first settles what a crash
        interrupted; a part that comes later leaves the commits of the others alone. A commit is refused once the lock
        of its part is lost.
        """


@frozen(kw_only=True)
class Adoption:
    """
    A table that a sink can take over, or has taken over, as the place of a stream's rows.

    ``rows``: those of the source in the table; ``delivered``: those that the ledger counts in it, of ``partitions``.
    ``differences``: the partitions whose rows in the table differ from the ledger. With any, nothing was changed.
    """

    place: str
    stream: str
    rows: int
    partitions: int
    delivered: int
    differences: tuple[Difference, ...] = ()


@runtime_checkable
class Adopting(Protocol):
    """A sink that recognises its tables by a mark, and can take over one that has none."""

    def adopt(
        self, source: str, run_id: str, streams: Sequence[Sequence[Layout]], place: str, *, confirmed: bool
    ) -> Adoption:
        """
        Mark an existing table (``SCHEMA.TABLE``) as the place of the stream that is written there by these settings.

        ``streams``: the layouts of each stream, then those of the streams derived from it. Without ``confirmed``
        nothing is changed. Raises TargetError if the table is none, belongs to another stream, or cannot hold this
        one; LockHeldError.
        """

    def unrecognised(self, source: str, streams: Sequence[Sequence[Layout]]) -> Sequence[str]:
        """
        The tables (``SCHEMA.TABLE``) where these settings write streams that the ledger knows, and that have no mark.
        """


@frozen(kw_only=True, eq=False, repr=False)
class SinkKind:
    """
    An output as a plugin offers it.

    ``scheme``: what ``--to`` begins with (``jsonl`` for ``jsonl:DIR``, ``postgresql``; ``-`` for stdout). ``settings``
    is an attrs class of :func:`setting` keys, ``parse`` makes it from the text after ``--to`` (the whole text, scheme
    included), ``open`` makes the sink. ``query`` gives the rows of a query in the sink's own language, each a mapping
    of column to value, for ``penstock act --from SINK --query``. ``named_streams`` gives, by key of the settings, the
    streams that they name: one that no source has is refused. ``example``: what ``--to`` takes, for lists of sinks.
    """

    name: str
    summary: str
    promise: str
    scheme: str
    settings: type
    parse: Callable[[str], Any]
    open: Callable[[Any], Sink]
    query: Callable[[Any, str], Iterable[Mapping[str, Any]]] | None = None
    named_streams: Callable[[Any], Mapping[str, Iterable[str]]] | None = None
    example: str = field()

    @example.default
    def _example(self) -> str:
        return f"{self.scheme}:DIR"
