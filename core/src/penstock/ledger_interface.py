"""
The interface of the ledger of a target: the values that it keeps, and its methods.

:mod:`penstock.ledger` implements it in SQL. A target with a ledger commits a partition and its row together.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import Any, Literal, NamedTuple, Protocol

from attrs import field, frozen

from penstock.model import Kind, Pairs, Partition, Rejected

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

    Not stored: ``kind`` is the kind of the stream (only days of a ``report`` are restated, see
    :func:`restated_sums`); ``replaces`` is the partition's row when it was planned, None where it had none or where it
    is not known.
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
    rejected: int = 0  # rejected records, those of derived streams included
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
        """Whether no record was rejected, and every value was read."""
        return not (self.rejected or self.unread_values)

    @property
    def closed(self) -> bool:
        """Whether the partition had closed when it was read, by the rule of that time."""
        return self.read_at is not None and self.open_until is not None and self.read_at >= self.open_until

    @property
    def is_final(self) -> bool:
        """
        Whether it was delivered, and had closed when it was read. A plan reads it again all the same if the settings
        that affect the response (``fingerprint``) are others now.
        """
        return self.delivered and self.closed


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


@frozen(kw_only=True, eq=False, repr=False)
class AccountCounts:
    """
    The ledger's rows of one account of one stream, counted.

    ``account`` maps the account's column to its text; empty for a stream without accounts. ``partitions`` is the number
    of rows: ``failed`` have an error since their last delivery, ``final`` were read after they closed (with whatever
    settings), ``open`` are all others. ``missing``: days between the first and the last that have no row.
    ``truncated``: delivered partitions that a ceiling of the provider cut. ``first_day`` and ``last_day`` are
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
    the day's text. ``complete``: no record was rejected, and every value read.
    """

    account: str
    day: str
    fingerprint: str
    run_id: str
    read_at: datetime
    reader_version: str
    complete: bool


class DeliveredSums(NamedTuple):
    """
    Rows and sums of one delivered partition. ``account``: its columns but the day, as in a partition; ``day``: the
    day's text, empty where it has none. ``final``: whether it was read after it closed, and no try failed since.
    """

    account: Pairs
    day: str
    rows: int
    sums: Mapping[str, Decimal]
    final: bool = False

    @classmethod
    def of(cls, entry: LedgerEntry) -> "DeliveredSums":
        """Those of a delivered partition, by its whole row."""
        day = entry.partition.day.isoformat() if entry.partition.day is not None else ""
        final = entry.is_final and entry.error is None
        return cls(entry.partition.without_day.values, day, entry.rows, entry.sums, final)


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


def restated_sums(former: LedgerEntry | None, entry: LedgerEntry) -> dict[str, tuple[Decimal, Decimal]] | None:
    """
    The sums that a new reading changed, before and after, by measure; None if it restates nothing.

    ``former``: the partition's row before. Only a day of a ``report`` is restated: a later day of ``changes``, or the
    next snapshot, holds other rows as a matter of course. Where the target counts the rows that differ
    (``entry.changes``), they decide; else the number of rows and the sums do.

    A measure that only one of the readings has is 0 in the other where that has no rows, or has amounts in other
    currencies; else the other did not read it, and it is left out.
    """
    if entry.kind != "report" or entry.partition.day is None or former is None or not former.delivered:
        return None
    sums = {
        name: (before, after)
        for name in dict.fromkeys((*former.sums, *entry.sums))
        if (before := _sum_of(former, name)) != (after := _sum_of(entry, name))
        and before is not None
        and after is not None
    }
    if entry.changes is not None:
        return sums if any(entry.changes.values()) else None
    return sums if sums or former.rows != entry.rows else None


def _sum_of(entry: LedgerEntry, name: str) -> Decimal | None:
    """The sum of a measure, such as ``clicks`` or ``spend[EUR]``; None where the reading has no such measure."""
    column, sign, _ = name.partition("[")
    has_others = bool(sign) and any(other.startswith(f"{column}[") for other in entry.sums)
    return entry.sums.get(name, None if entry.rows and not has_others else Decimal(0))


class Ledger(Protocol):
    """
    The state of a target: a row per partition, the pending reports, the listed accounts, the rejected records.

    Every method is durable when it returns. Methods may be called from the run's main thread only. A class that derives
    from it has the defaults of a ledger that keeps nothing, where there are such.

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
        flawed: bool = False,
    ) -> dict[Partition, LedgerEntry]:
        """
        The rows of a stream. ``flawed``: only those with an error, with rejected records or values not read, and those
        that are truncated.
        """

    def counts(self, source: str, stream: str | None = None) -> tuple[AccountCounts, ...]:
        """The rows of a stream (None: of every stream of the source), counted by stream and account, in their order."""
        return ()

    def delivered_sums(
        self, source: str, stream: str, *, since: date | None = None, until: date | None = None
    ) -> Iterable[DeliveredSums]:
        """The sums of each delivered partition of a stream, in any order. The default loads the whole rows."""
        for entry in self.entries(source, stream, since=since, until=until).values():
            if entry.delivered:
                yield DeliveredSums.of(entry)

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

    def fail_all(self, source: str, failures: Sequence[tuple[Partition, str]], run_id: str) -> None:
        """
        Record the failures, each a partition and its error: all of them, or none. A former delivery is kept; the error
        is added to it.
        """

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

    def rejected(
        self,
        source: str | None = None,
        stream: str | None = None,
        *,
        since: date | None = None,
        until: date | None = None,
    ) -> Iterable[tuple[LedgerEntry, Rejected]]:
        """
        The rejected records, each with the row of its partition; None: of all sources, of all streams. A ledger may
        hold millions: they are read as they are iterated over.
        """
        return ()

    def sources(self, source: str | None = None) -> tuple[tuple[str, str], ...]:
        """Every (source, stream) that has a row; ``source``: of this one only."""
        return ()

    def record_run(self, run: RunRecord) -> None:
        """Store the result of a run. Runs beyond the age or the number that the ledger keeps are deleted."""

    def runs(
        self, source: str, limit: int = 10, *, offset: int = 0, run_id: str | None = None
    ) -> tuple[RunRecord, ...]:
        """The last runs, newest first, without the first ``offset`` of them; ``run_id``: only the run of this id."""
        return ()

    def close(self) -> None: ...
