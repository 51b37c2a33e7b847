"""
The queries of the ledger about partitions: their rows, their numbers, and the records of them that were rejected.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date, timedelta
from itertools import chain, islice
from operator import attrgetter
from typing import Any

from attrs import evolve

from penstock.ledger.schema import FLAWED, SqlTables
from penstock.ledger.stored_values import (
    column_values,
    entry_of,
    json_text,
    known_moment,
    moment_of,
    partition_of,
    sums_from,
)
from penstock.ledger_interface import AccountCounts, DeliveredSums, FinalDay, LedgerEntry
from penstock.model import Partition, Rejected

ROWS_AT_ONCE = 10_000  # of partitions, or of rejected records: as many as one partition may have

_COUNTS = """select stream, account, count(*), min(day), max(day),
    sum(case when standing = 'final' then 1 else 0 end), sum(case when standing = 'failed' then 1 else 0 end),
    sum(rows), sum(rejected), sum(unread_values), sum(truncated), max(read_at)
    from {t}partitions where {where} group by stream, account"""
_ERRORS = """select stream, account, max(day || '|' || error)
    from {t}partitions where {where} and error is not null group by stream, account"""

OF_PARTITION = "source = ? and stream = ? and partition = ?"
# The values of an intent's row where nothing was delivered before.
NOT_DELIVERED = column_values(LedgerEntry(source="", partition=Partition(""), state="intended", run_id=""))
COLUMNS = tuple(NOT_DELIVERED)
_ENTRIES = f"select source, stream, partition, version, intent, {', '.join(COLUMNS)} from {{t}}partitions where "
_FINAL_DAYS = (
    "select account, day, fingerprint, run_id, read_at, read_by, rejected + unread_values = 0, files, rows "
    "from {t}partitions where standing = 'final' and "
)
_SUMS = "select account, day, rows, sums, standing from {t}partitions where state = 'delivered' and intent is null and "
_REJECTED = "select source, stream, partition, of_stream, path, reason, raw from {t}rejected where "
_UNREAD = (
    f"select count(*) from {{t}}partitions where source = ? and stream = ? and {FLAWED} and "
    "state = 'delivered' and case when read_by = '' then rejected + unread_values > 0 else read_by <> ? end"
)


class PartitionQueries(SqlTables):
    """See :class:`penstock.ledger_interface.Ledger`."""

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
        by_partition: dict[Partition, LedgerEntry] = {}
        for where, values in _windows(source, stream, since, until):
            where, values = self._of_accounts(where, values, accounts)
            where = f"{where} and {FLAWED}" if flawed else where
            for entry in self._entries(where, *values):
                by_partition[entry.partition] = entry
        return {partition: by_partition[partition] for partition in sorted(by_partition, key=attrgetter("text"))}

    def entry(self, source: str, partition: Partition) -> LedgerEntry | None:
        """The row of one partition, None when it has none."""
        return next(self._entries(OF_PARTITION, source, partition.stream, partition.text), None)

    def _entries(self, where: str, *values: Any) -> Iterator[LedgerEntry]:
        """The entries; where one has an intent, the intent."""
        for source, stream, text, version, intent, *stored in self._sql(f"{_ENTRIES}{where}", *values).fetchall():
            partition = partition_of(stream, text)
            if intent is None:
                yield entry_of(source, partition, version, dict(zip(COLUMNS, stored, strict=True)))
            else:
                meant = json.loads(intent)
                entry = entry_of(source, partition, version, meant["entry"])
                rejected = tuple(Rejected(**record) for record in meant["rejected"])
                yield evolve(entry, rejected_records=rejected)

    def counts(self, source: str, stream: str | None = None) -> tuple[AccountCounts, ...]:
        where, values = "source = ?", [source]
        if stream is not None:
            where, values = f"{where} and stream = ?", [source, stream]
        errors = self._sql(_ERRORS.replace("{where}", where), *values).fetchall()
        last = {(name, account): text.partition("|")[2] for name, account, text in errors}
        columns: dict[str, str] = {}
        of_accounts: list[AccountCounts] = []
        for name, account, *row in self._sql(_COUNTS.replace("{where}", where), *values).fetchall():
            if account and name not in columns:
                columns[name] = self._account_column(source, name, account)
            values_of_account = {columns[name]: account} if account else {}
            of_accounts.append(_counts_of(source, name, values_of_account, row, last.get((name, account))))
        return tuple(sorted(of_accounts, key=lambda counts: (counts.stream, *counts.account.values())))

    def _account_column(self, source: str, stream: str, account: str) -> str:
        """The column of a stream's accounts; one partition stands for all."""
        ((text,),) = self._sql(
            "select partition from {t}partitions where source = ? and stream = ? and account = ? limit 1",
            *(source, stream, account),
        ).fetchall()
        return partition_of(stream, text).values[0][0]

    def delivered_sums(
        self, source: str, stream: str, *, since: date | None = None, until: date | None = None
    ) -> Iterator[DeliveredSums]:
        """See :meth:`penstock.ledger_interface.Ledger.delivered_sums`."""
        column = ""
        for where, values in _windows(source, stream, since, until):
            for account, day, rows, sums, standing in self._sql(f"{_SUMS}{where}", *values).fetchall():
                if account and not column:
                    column = self._account_column(source, stream, account)
                of_account = ((column, account),) if account else ()
                yield DeliveredSums(of_account, day, int(rows), sums_from(sums), standing == "final")

    def final_days(
        self,
        source: str,
        stream: str,
        *,
        since: date | None = None,
        until: date | None = None,
        accounts: Sequence[str] | None = None,
    ) -> Iterator[tuple[FinalDay, str, int]]:
        """
        The rows whose state is final and that have a day, as a plan needs them; with each the text of its files and the
        number of its rows, by which a target decides whether it is intact. They are read some days at a time: the
        client of a database holds all rows of a query.
        """
        days_at_once = max(1, ROWS_AT_ONCE // max(1, len(accounts or ())))
        for first, last in _day_ranges(since, until, days_at_once):
            _, (where, values) = _windows(source, stream, first or date.min, last)
            where, values = self._of_accounts(where, values, accounts)
            for account, day, fingerprint, run_id, read_at, read_by, complete, files, rows in self._sql(
                f"{_FINAL_DAYS}{where}", *values
            ):
                final_day = FinalDay(account, day, fingerprint, run_id, known_moment(read_at), read_by, complete)
                yield final_day, files, rows

    def unread_by_other_versions(self, source: str, stream: str, reader_version: str) -> int:
        ((count,),) = self._sql(_UNREAD, source, stream, reader_version).fetchall()
        return int(count)

    def _of_accounts(self, where: str, values: list[Any], accounts: Sequence[str] | None) -> tuple[str, list[Any]]:
        """The condition for these accounts only; None: for all."""
        if accounts is None:
            return where, values
        return f"{where} and account {self.in_texts}", [*values, json_text(list(accounts))]

    def sources(self, source: str | None = None) -> tuple[tuple[str, str], ...]:
        pairs: list[tuple[str, str]] = []
        last = (source or "", "")
        # From one to the next by the index: `distinct` would read every row, and SQLite reads those that are equal to
        # the row of a comparison of rows.
        one_source = "select source, stream from {t}partitions where source = ? and stream > ?"
        other_sources = " union all select source, stream from {t}partitions where source > ?" if source is None else ""
        while rows := self._sql(
            f"{one_source}{other_sources} order by source, stream limit 1", *last, *(last[:1] if source is None else ())
        ).fetchall():
            last = tuple(rows[0])
            pairs.append(last)
        return tuple(pairs)

    def rejected(
        self,
        source: str | None = None,
        stream: str | None = None,
        *,
        since: date | None = None,
        until: date | None = None,
    ) -> Iterator[tuple[LedgerEntry, Rejected]]:
        """By partition, in the provider's order; ``stream`` names the partition's or the record's own."""
        rows = chain.from_iterable(self._rejected_rows(source, stream, since, until))
        while chunk := list(islice(rows, ROWS_AT_ONCE)):
            entries = self._entries_of({row[:3] for row in chunk})
            for *key, of_stream, path, reason, raw in chunk:
                if (entry := entries.get(tuple(key))) is not None:
                    yield entry, Rejected(stream=of_stream, path=path, reason=reason, raw=raw)

    def _rejected_rows(
        self, source: str | None, stream: str | None, since: date | None, until: date | None
    ) -> Iterator[Iterator[Any]]:
        """The rows of rejected records; those of a window in a query for each stream, by the index of its days."""
        of_record, names = ("", ()) if stream is None else (" and (stream = ? or of_stream = ?)", (stream, stream))
        if since is None and until is None:
            where, values = ("true", ()) if source is None else ("source = ?", (source,))
            order = "order by source, stream, partition, number"
            yield self._rows(f"{_REJECTED}{where}{of_record} {order}", *values, *names)
            return
        for pair in self.sources(source):
            windows = list(_windows(*pair, since, until))
            partitions = " union all ".join(
                f"select partition from {{t}}partitions where {where}" for where, _ in windows
            )
            where = f"source = ? and stream = ? and partition in ({partitions})"
            values = (*pair, *(value for _, values in windows for value in values))
            yield self._rows(f"{_REJECTED}{where}{of_record} order by partition, number", *values, *names)

    def columns_of_rows(self, source: str, stream: str) -> tuple[str, ...] | None:
        """The columns of a partition of the stream that was delivered with rows, of any such; None: there is none."""
        found = self._sql(
            "select partition from {t}partitions where source = ? and stream = ? and rows > 0 "
            "order by partition limit 1",
            *(source, stream),
        ).fetchall()
        return None if not found else tuple(name for name, _ in partition_of(stream, found[0][0]).values)

    def _entries_of(self, keys: Iterable[tuple[str, str, str]]) -> dict[tuple[str, str, str], LedgerEntry]:
        """The entries of these partitions, by source, stream and text. A partition without a row is left out."""
        by_stream: dict[tuple[str, str], list[str]] = {}
        for source, stream, text in keys:
            by_stream.setdefault((source, stream), []).append(text)
        where = f"source = ? and stream = ? and partition {self.in_texts}"
        return {
            (entry.source, entry.partition.stream, entry.partition.text): entry
            for (source, stream), texts in by_stream.items()
            for entry in self._entries(where, source, stream, json_text(texts))
        }


def _windows(source: str, stream: str, since: date | None, until: date | None) -> Iterator[tuple[str, list[Any]]]:
    """
    Conditions and their parameters for the rows of a window of days. Rows without a day, which are in any window, have
    a condition of their own: an index serves two ranges in two queries only.
    """
    where, values = "source = ? and stream = ?", [source, stream]
    if since is None and until is None:
        yield where, values
        return
    yield f"{where} and day = ''", values
    yield (
        f"{where} and day >= ? and day <= ?",
        [*values, (since or date.min).isoformat(), (until or date.max).isoformat()],
    )


def _day_ranges(since: date | None, until: date | None, days: int) -> Iterator[tuple[date | None, date | None]]:
    """A window in ranges of so many days; one without bounds as a whole."""
    if since is None or until is None:
        yield since, until
        return
    while (until - since).days >= days:
        yield since, since + timedelta(days=days - 1)
        since += timedelta(days=days)
    yield since, until


def _counts_of(
    source: str, stream: str, account: Mapping[str, str], row: Sequence[Any], error: str | None
) -> AccountCounts:
    partitions, first, last, final, failed, rows, rejected, unread, truncated, read_at = row
    first_day, last_day = (date.fromisoformat(day) if day else None for day in (first, last))
    days = (last_day - first_day).days + 1 if first_day and last_day else 0
    return AccountCounts(
        source=source,
        stream=stream,
        account=account,
        first_day=first_day,
        last_day=last_day,
        partitions=partitions,
        final=int(final),
        open=partitions - int(final) - int(failed),
        missing=max(days - partitions, 0),
        failed=int(failed),
        rows=int(rows),
        rejected=int(rejected),
        unread_values=int(unread),
        truncated=int(truncated),
        last_read=moment_of(read_at),
        error=error,
    )
