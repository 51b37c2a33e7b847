"""
The interface of sinks: the values that a sink receives (:class:`Layout`) and its methods. That of a ledger is in
:mod:`penstock.ledger_interface`.

A sink writes. It does not fetch, retry, or decide what is read. The order of calls, for each source of a run::

    target = sink.open(source, run_id, streams)   takes the lock, completes or undoes commits that a crash interrupted
    target.prepare(layouts)                       refuses streams that it cannot hold
    writer = target.begin(layouts, partition)     one per partition; several may be open at once
    writer.write(batch)                           any number, in the provider's order
    target.commit_group(commits)                  of some writers, each with the ledger row of its partition, which
      or  writer.abort()                          appears whole with its row, or not at all
    target.finish(stream)                         once per stream and run, after its last partition
    target.close()                                releases the lock

An author writes three classes. A sink extends :class:`BaseSink`, its target :class:`BaseTarget`: they have the defaults
of all else. A class that extends neither has every attribute of :class:`Sink` or :class:`Target` itself; one that lacks
any is refused when it is opened. The default of ``commit_group`` calls ``commit`` of each writer.

==================================  ==================================================================================
a sink                              ``open``, ``open_readonly``
its target                          ``begin``; ``ledger``, ``is_intact`` and ``close``, if it has a ledger and a lock
the target's writer                 ``write``, ``abort``, and ``commit``, which is not called where the target has a
                                    ``commit_group`` of its own; see :class:`CommittingWriter`
==================================  ==================================================================================

Each further ability is a protocol. A class has it by having its methods:

==================================  ==================================================================================
of a target                         for
==================================  ==================================================================================
:class:`Verifiable`                 ``penstock verify``, ``penstock forget --rows``
:class:`Erasing`                    ``penstock forget --personal``
==================================  ==================================================================================

==================================  ==================================================================================
of a sink                           for
==================================  ==================================================================================
:class:`Divisible`                  ``--workers``, ``--shard``
:class:`Staging`                    workers on several machines; its targets are :class:`Coordinating`
:class:`Adopting`                   ``penstock check --adopt``
==================================  ==================================================================================

What the base classes and :class:`Ledger` gain has a default: a class that extends them works as before.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date
from typing import Any, ClassVar, Literal, Protocol, runtime_checkable

from attrs import Factory, field, frozen

from penstock.errors import PenstockError, check_returned
from penstock.ledger_interface import FinalDay, Ledger, LedgerEntry
from penstock.model import Batch, Kind, Partition
from penstock.records import Column

MOST_REJECTED = 10_000
"""Maximum of rejected records of a partition. With more, it fails: the format of the records has probably changed."""

EXTRA = "_extra"
"""The last column of every stream: members that the record class does not know, as an object; UNSET or null if none."""


@frozen(kw_only=True, repr=False, cache_hash=True)
class Layout:
    """
    A stream as a sink sees it: delivered columns in order (partition columns and ``_extra`` included), key, kind.

    ``derived_by``: the own columns that hold the parent's key, for a derived stream;
    such a stream's rows are replaced parent by parent where its parent is merged, else with the partition.

    ``measures``: the columns that may be summed over all rows. ``priced``: the amounts with a currency of its own in
    each row, which may not.
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
    measures: tuple[str, ...] = field(init=False, eq=False)
    priced: tuple[Column, ...] = field(init=False, eq=False)

    def __repr__(self) -> str:
        columns = ", ".join(f"{column.name} {column.type}" for column in self.columns)
        return f"Layout({self.source}.{self.stream}: {columns})"

    @measures.default
    def _default_measures(self) -> tuple[str, ...]:
        return tuple(column.name for column in self.columns if column.additive and not column.unit_of)

    @priced.default
    def _default_priced(self) -> tuple[Column, ...]:
        return tuple(column for column in self.columns if column.additive and column.unit_of)

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
    def replaced_by(self) -> tuple[str, ...]:
        """
        The columns by which a delivery finds the former rows that it replaces: those of the partition; of ``changes``
        the key, and of a stream derived from them the parent's key. Stored rows that lack one are never replaced.
        """
        return (self.derived_by or self.key) if self.kind == "changes" else self.partition_columns

    @property
    def day_column(self) -> str | None:
        """The column with the day of the partition; None for a snapshot."""
        return self.partition_columns[-1] if self.kind != "snapshot" and self.partition_columns else None


# --- what every sink has ----------------------------------------------------------------------------------------------


class Writer(Protocol):
    """
    Writes one partition, until its target commits it. That of a target without a ``commit_group`` of its own is a
    :class:`CommittingWriter`.
    """

    def write(self, batch: Batch) -> None:
        """Write one batch of the stream, or of a stream derived from it; see ``batch.layout``."""

    def abort(self) -> None:
        """Discard everything written. The partition's former data stays."""


class CommittingWriter(Writer, Protocol):
    """A writer that commits its partition itself; see :meth:`BaseTarget.commit_group`."""

    def commit(self, entry: LedgerEntry) -> LedgerEntry:
        """
        Replace the partition's former data, together with its ledger row, in one step. Returns the entry as committed:
        records that the target cannot hold are added to the rejected ones and change its counts.
        """


class Target(Protocol):
    """
    A sink opened for one source, by one run at a time. :class:`BaseTarget` has the defaults of its attributes and of
    all methods but ``begin``.
    """

    @property
    def ledger(self) -> Ledger | None:
        """None: the target has no ledger (stdout, a single file)."""

    @property
    def whole_stream(self) -> bool:
        """
        Whether it delivers a stream as a whole, such as a single file: ``finish`` is called only when all partitions of
        the stream were read.
        """

    @property
    def deletes_rows(self) -> bool:
        """False: the rows that a new reading lacks stay in the target, so that none can be deleted on request."""

    @property
    def notices(self) -> Sequence[str]:
        """Sentences about what the target found when it was opened, for the report of the run."""

    def prepare(self, layouts: Sequence[Layout]) -> None:
        """
        Raises TargetError if one of these streams cannot be written as it is declared. Called once per run, before the
        first request, with all streams that the run may write. It may migrate the target: add a column to a table.
        """

    def begin(self, layouts: Sequence[Layout], partition: Partition) -> Writer:
        """Begin a partition. ``layouts``: that of the stream, then those of the streams derived from it."""

    def commit_group(self, commits: Sequence[tuple[Any, LedgerEntry]]) -> Sequence[LedgerEntry | Exception]:
        """
        Commit the partitions of these writers, each with its ledger row, in their order.

        Each appears whole or not at all, as by ``commit`` of a :class:`CommittingWriter`, and the failure of one does
        not affect the others. Returns, in the same order, each entry as committed, or the error of its partition. A
        process that is killed meanwhile leaves each partition in its former or its new state. A run lets small
        partitions wait for others only where the target has a ``commit_group`` of its own.
        """

    def is_intact(self, entry: LedgerEntry) -> bool:
        """Whether the data of a delivered entry still exists (the partition of a deleted file is missing)."""

    def final_days(
        self, stream: str, *, since: date, until: date, accounts: Sequence[str] | None
    ) -> Iterable[FinalDay] | None:
        """
        Days of a stream within the window whose ledger row is final and whose rows are intact, in any order; see
        ``is_intact``. A day that is left out is judged by its row. ``accounts``: None for a stream without any. None:
        the target cannot list them. A plan loads only the rows of days that are not listed here, so that its cost does
        not grow with the days that were delivered long ago.
        """

    def interrupt(self, reason: PenstockError) -> None:
        """
        End the run: a call that waits for another process, such as for a lock, raises ``reason``. Called from another
        thread, every second until the run has ended. A call that takes a few seconds at most may be completed.
        """

    def advice(self) -> Sequence[str]:
        """What its owner could improve, each in a sentence with the statement to run; ``penstock check`` shows it."""

    def finish(self, stream: str) -> None:
        """The stream has no further partition in this run: complete what is made of all of them."""

    def close(self) -> None:
        """Release the lock. Called once, also after errors."""


class BaseTarget:
    """The base of a target, with the defaults of :class:`Target`: no ledger, nothing to complete, nothing to close."""

    ledger: Ledger | None = None
    whole_stream: ClassVar[bool] = False
    deletes_rows: ClassVar[bool] = True
    notices: Sequence[str] = ()

    def prepare(self, layouts: Sequence[Layout]) -> None:
        """No effect: every stream can be written."""

    def commit_group(self, commits: Sequence[tuple[Any, LedgerEntry]]) -> Sequence[LedgerEntry | Exception]:
        """Commit one by one, each by its writer, which is a :class:`CommittingWriter`."""
        results: list[LedgerEntry | Exception] = []
        for writer, entry in commits:
            try:
                committed = writer.commit(entry)
                results.append(check_returned(writer.commit, committed, LedgerEntry, "the entry as committed"))
            except Exception as error:
                results.append(error)
        return results

    def is_intact(self, entry: LedgerEntry) -> bool:
        """Cannot be checked; always True."""
        return True

    def final_days(
        self, stream: str, *, since: date, until: date, accounts: Sequence[str] | None
    ) -> Iterable[FinalDay] | None:
        """None: every day is judged by its ledger row."""
        return None

    def interrupt(self, reason: PenstockError) -> None:
        """No effect: it waits for nothing."""

    def advice(self) -> Sequence[str]:
        """None."""
        return ()

    def finish(self, stream: str) -> None:
        """No effect: every commit is complete."""

    def close(self) -> None:
        """No effect."""


class Sink(Protocol):
    """
    An output as configured. It holds no resources; a run opens a target for each source. :class:`BaseSink` has the
    defaults of its attributes.
    """

    @property
    def keeps_ledger(self) -> bool:
        """False: its targets have no ledger, so that they may take the rows of a masked recording."""

    @property
    def address(self) -> str | None:
        """
        A text that all sinks of one target share: ``status`` and the like show such a target once. None: unknown.
        """

    def open(self, source: str, run_id: str, streams: Sequence[str] = ()) -> Target:
        """
        Raises LockHeldError when another run writes this source to this target, TargetError if it is unusable.

        ``streams``: all that this run may write to this sink, of every source, derived ones included; empty: not
        known. A sink that holds one stream refuses several here, before anything is fetched. stdout names the stream
        in each line if there are several.
        """

    def open_readonly(self, source: str) -> Target | None:
        """
        The target for reading only (plan, status, rejected), without lock; None if it was never written. Its ledger has
        the rows of all sources; with an empty ``source``, only the ledger is read.
        """


class BaseSink:
    """
    The base of a sink, with the defaults of :class:`Sink`: its targets keep a ledger, its address is unknown, and there
    is nothing to read.
    """

    __slots__ = ()

    @property
    def keeps_ledger(self) -> bool:
        return True

    @property
    def address(self) -> str | None:
        return None

    def open_readonly(self, source: str) -> Target | None:
        return None


@frozen(kw_only=True, eq=False, repr=False)
class SinkKind:
    """
    An output as a plugin offers it.

    ``scheme``: what ``--to`` begins with (``jsonl`` for ``jsonl:DIR``, ``postgresql``; ``-`` for stdout). ``settings``
    is an attrs class of :func:`setting` keys, ``parse`` makes it from the text after ``--to`` (the whole text, scheme
    included), ``open`` makes the sink. ``query`` gives the rows of a query in the sink's own language, each a mapping
    of column to value, for ``penstock act --from SINK --query``. ``named_streams`` gives, by key of the settings, the
    streams that they name: one that no source has is refused. ``example``: what ``--to`` takes, for lists of sinks;
    ``workers``: those that can write its sink, see :class:`Divisible` and :class:`Staging`; None: one process at a
    time. A message about another sink that they cannot write names it.
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
    workers: Literal["processes", "machines"] | None = None
    example: str = field(default=Factory(lambda kind: f"{kind.scheme}:DIR", takes_self=True))


# --- what a target may have besides -----------------------------------------------------------------------------------


@frozen(kw_only=True)
class Difference:
    """
    A partition whose content differs from its ledger row; ``what``: the difference, in a phrase. ``uncounted``: it is
    about rows or files that are of no delivery in the ledger.
    """

    partition: Partition
    what: str
    uncounted: bool = False


@runtime_checkable
class Verifiable(Protocol):
    """A target that can compare what it holds with its ledger."""

    def verify(
        self, stream: str, entries: Sequence[LedgerEntry], *, since: date | None = None, until: date | None = None
    ) -> Iterable[Difference]:
        """
        Yield a Difference for each entry of a stream, and of those derived from it, whose stored rows differ from it,
        and for stored data without an entry (``uncounted``). Reads all of it (rows and sums, or bytes), and
        changes nothing. ``entries``: in the order of their days; each iteration reads them from the ledger, some days
        at a time. Where nothing was delivered, it is one entry without rows, whose partition has the
        names of the columns only.

        ``since``, ``until``: the entries are those of these days, both included (None: from the first, to the last).
        What it names of other days is passed over, so that it need not look at them.
        """


@frozen(kw_only=True, eq=False, repr=False)
class Erasure:
    """
    What is erased from the rows of one stream. ``layout``: the stream as it is delivered today, without ``columns``.

    ``columns``: their values go; in files the columns, too. ``nested``: json column -> a function that returns the
    value's JSON text without what must go (the same text: nothing must), and None where nothing is left.
    """

    layout: Layout
    columns: tuple[str, ...]
    nested: Mapping[str, Callable[[str], str | None]] = field(factory=dict)


@frozen(kw_only=True, eq=False, repr=False)
class Erased:
    """``rows``: how many lost a value. ``left``: the partitions that could not be erased, each with the reason."""

    rows: int
    left: tuple[Difference, ...] = ()


@runtime_checkable
class Erasing(Protocol):
    """A target that can erase values in rows that it holds."""

    def erase(self, erasures: Sequence[Erasure], entries: Sequence[LedgerEntry]) -> Erased:
        """
        Erase values in all rows of a stream and of the streams derived from it; ``erasures``: one for each of these.

        ``entries``: every delivered partition of the stream, each as its ledger row is to be from now on, with its
        rejected records; a target of files sets the files. Number, order and sums of the rows stay. A process that is
        killed leaves each partition's rows as they were or erased, never in part; another call completes it. Returns
        when all is durable. Raises SinkError or TargetError.
        """


# --- what a sink may have besides -------------------------------------------------------------------------------------


@frozen(kw_only=True)
class LockShare:
    """
    The share that one process has in the lock of a source, where several write it to one target at once. No two of them
    write the same partition.

    ``division``: the same text in all of them. Their lock excludes every run without this text. ``name``: of this
    share; one process at a time has it.
    """

    division: str
    name: str


@runtime_checkable
class Divisible(Protocol):
    """A sink whose targets several processes can write at once."""

    @property
    def one_machine(self) -> bool:
        """Whether all these processes must run on one machine."""

    def open(
        self, source: str, run_id: str, streams: Sequence[str] = (), *, lock_share: LockShare | None = None
    ) -> Target:
        """
        Open the target alone, or with others by a share of its lock; see :meth:`Sink.open`. The process that opens it
        first settles what a crash interrupted; one that comes later leaves the commits of the others alone. A commit is
        refused once its share of the lock is lost.
        """


@runtime_checkable
class Coordinating(Protocol):
    """
    A target of a :class:`Staging` sink, as :meth:`Sink.open` gives it to the coordinator of a divided run: it commits
    what workers have staged, and it alone uses lock and ledger. Methods are called by one thread at a time.
    """

    def mark(self) -> str:
        """Leave a mark in the target, for :meth:`Staging.find_mark`. Returns it."""

    def reply(self, request: str) -> str:
        """
        Carry out a request of a worker, and return the reply; both are texts of the sink's own. What it raises is
        raised in the worker. It is not called for a worker any more whose shard another one has taken over.
        """


@runtime_checkable
class Staging(Protocol):
    """
    A sink whose targets processes on several machines can write at once. Workers stage rows where the coordinator finds
    them; the coordinator, whose target is :class:`Coordinating`, commits them.
    """

    def find_mark(self, source: str, mark: str) -> None:
        """
        Called in each worker before anything is requested. Raises TargetError if the target that it has is not the
        one with this mark, or cannot be written.
        """

    def open_staging(self, source: str, run_id: str, request: Callable[[str], str]) -> Target:
        """
        The target in a worker. ``request`` passes a request to the coordinator's target and returns its reply; it may
        take long. It raises what was raised there, and StoppedError where the coordinator is gone or another worker has
        the shard: nothing is committed any more.
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
