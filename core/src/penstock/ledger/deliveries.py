"""
What changes a partition in the ledger: deliveries, failures, restatements; and forgetting it.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from datetime import datetime
from decimal import Decimal
from functools import cache
from typing import Any, NamedTuple

from attrs import evolve

from penstock.errors import SinkError
from penstock.ledger.partition_queries import COLUMNS, NOT_DELIVERED, OF_PARTITION, PartitionQueries
from penstock.ledger.schema import FORGET_PREFIX, FORGOTTEN
from penstock.ledger.stored_values import (
    column_values,
    dated,
    encoded,
    files_text,
    json_text,
    known_moment,
    partition_of,
    rejected_texts,
    sums_from,
    time_text,
)
from penstock.ledger_interface import LedgerEntry, LedgerFile, Restatement, State, restated_sums
from penstock.model import Partition
from penstock.redact import mask

FORGOTTEN_AT_ONCE = 1000  # partitions in a statement

_DELIVERED = f"select rows, sums from {{t}}partitions where {OF_PARTITION} and state = 'delivered'"
_FAIL = (
    f"insert into {{t}}partitions (source, stream, partition, version, {', '.join(COLUMNS)}) "
    f"values ({', '.join('?' * (4 + len(COLUMNS)))}) on conflict (source, stream, partition) do update set "
    "error = excluded.error, attempts = {t}partitions.attempts + 1, "
    "run_id = case when {t}partitions.state = 'failed' then excluded.run_id else {t}partitions.run_id end"
)


class LedgerWrite(NamedTuple):
    """
    A write to the row of ``entry``: the state and the files that the row gets. A commit makes one write, or two.
    ``version``: of the row before the write, which adds one. ``values``: those of the entry's columns. ``key``: source,
    stream and partition of the row.
    """

    entry: LedgerEntry
    state: State
    files: tuple[LedgerFile, ...]
    version: int
    values: Mapping[str, Any]
    key: tuple[str, str, str]

    @classmethod
    def of(
        cls, entry: LedgerEntry, state: State | None = None, files: tuple[LedgerFile, ...] | None = None
    ) -> "LedgerWrite":
        """The first write of a commit. Default: the only one."""
        files = entry.files if files is None else files
        key = (entry.source, entry.partition.stream, entry.partition.text)
        return cls(entry, state or entry.state, files, entry.version, column_values(entry), key)

    def delivered(self) -> "LedgerWrite":
        """The next write of the same commit, after its files were put into their places."""
        return LedgerWrite(self.entry, "delivered", self.files, self.version + 1, self.values, self.key)


class Deliveries(PartitionQueries):
    """See :class:`penstock.ledger_interface.Ledger`."""

    compares = True  # a delivery is compared with the former one; False: the target does that, row by row

    def deliver(self, entry: LedgerEntry) -> None:
        """
        See :meth:`penstock.ledger_interface.Ledger.deliver`. An intent is kept beside the former delivery, so that
        :meth:`take_back` can return to it.
        """
        self.record([LedgerWrite.of(entry)])

    def record(self, writes: Sequence[LedgerWrite]) -> None:
        """Make all writes in one transaction, or none of them. Raises SinkError as :meth:`deliver` does."""
        with self._transaction():
            for write in writes:
                self._record(write)
            self._store_rejected([write for write in writes if write.state != "intended"])

    def _record(self, write: LedgerWrite) -> None:
        entry = write.entry
        files = files_text(write.files, in_place=write.state == "delivered")
        columns = {**write.values, "state": write.state, "files": files}
        if write.state == "intended":
            rejected = list(map(rejected_texts, entry.rejected_records))
            changes: dict[str, Any] = {"intent": encoded({"entry": columns, "rejected": rejected})}
            first = {**NOT_DELIVERED, **changes}  # of a partition without a row
        else:
            first = changes = {**columns, "intent": None}
        if self.compares and write.state == "delivered" and write.version:
            self._compare(write)
        if write.version:
            statement = _update_sql(tuple(changes))
            values = [*changes.values(), write.version + 1, *write.key, write.version]
        else:
            statement = _insert_sql(tuple(first), tuple(changes))
            values = [*write.key, 1, *first.values(), 0]
        if not self._put(write, statement, values):
            raise SinkError(
                f"{entry.source} {entry.partition} changed in the ledger since this run planned it, by another "
                "run or `penstock forget`. Nothing was replaced; run again."
            )

    def _put(self, write: LedgerWrite, statement: str, values: Sequence[Any]) -> bool:
        """Make a write by this statement. Returns False where the row's version is not the write's."""
        return self._sql(statement, *values).rowcount == 1

    def take_back(self, source: str, partition: Partition) -> LedgerEntry | None:
        """Drop an intent whose files are lost; the former delivery (None: there was none) counts again."""
        key = (source, partition.stream, partition.text)
        with self._transaction():
            self._sql(f"delete from {{t}}partitions where {OF_PARTITION} and state = 'intended'", *key)
            self._sql(f"update {{t}}partitions set intent = null, version = version + 1 where {OF_PARTITION}", *key)
        return self.entry(source, partition)

    def _store_rejected(self, writes: Sequence[LedgerWrite]) -> None:
        self._drop_rejected(writes)
        for write in writes:
            for number, record in enumerate(write.entry.rejected_records):
                texts = rejected_texts(record)
                self._sql(
                    "insert into {t}rejected (source, stream, partition, number, of_stream, path, reason, raw) "
                    "values (?, ?, ?, ?, ?, ?, ?, ?)",
                    *(*write.key, number, texts["stream"], texts["path"], texts["reason"], texts["raw"]),
                )

    def _drop_rejected(self, writes: Sequence[LedgerWrite]) -> None:
        """The records that the former readings rejected, by one statement for each stream."""
        by_stream: dict[tuple[str, str], list[str]] = {}
        for write in writes:
            source, stream, partition = write.key
            by_stream.setdefault((source, stream), []).append(partition)
        for key, texts in by_stream.items():
            where = f"source = ? and stream = ? and partition {self.in_texts}"
            self._sql(f"delete from {{t}}rejected where {where}", *key, json_text(texts))

    def fail_all(self, source: str, failures: Sequence[tuple[Partition, str]], run_id: str) -> None:
        # A statement alone needs no transaction, and is sent again where its session was lost.
        with self._transaction() if len(failures) > 1 else nullcontext():
            for partition, error in failures:
                failed = column_values(LedgerEntry(source=source, partition=partition, state="failed", run_id=run_id))
                values = {**failed, "error": mask(error), "attempts": 1}.values()
                self._sql(_FAIL, source, partition.stream, partition.text, 0, *values)

    def forget(self, source: str, partitions: Iterable[Partition]) -> int:
        by_stream: dict[str, list[str]] = {}
        for partition in partitions:
            by_stream.setdefault(partition.stream, []).append(partition.text)
        forgotten = 0
        with self._transaction():
            for stream, texts in by_stream.items():
                for start in range(0, len(texts), FORGOTTEN_AT_ONCE):
                    values = (source, stream, json_text(texts[start : start + FORGOTTEN_AT_ONCE]))
                    where = f"source = ? and stream = ? and partition {self.in_texts}"
                    self._sql(f"delete from {{t}}rejected where {where}", *values)
                    forgotten += self._sql(f"delete from {{t}}partitions where {where}", *values).rowcount
        return forgotten

    # --- restatements -----------------------------------------------------------------------------------------------

    def _compare(self, write: LedgerWrite) -> None:
        """Record what the entry changes against the delivery it is to replace."""
        entry = write.entry
        stored = self._sql(_DELIVERED, *write.key).fetchall()
        for rows, text in stored:
            former = evolve(entry, state="delivered", rows=rows, sums=sums_from(text))
            sums = restated_sums(former, entry)
            if sums is not None:
                self.restate(entry, (rows, entry.rows), sums, entry.changes)

    def restate(
        self,
        entry: LedgerEntry,
        rows: tuple[int, int],
        sums: Mapping[str, tuple[Decimal, Decimal]],
        changes: Mapping[str, int] | None,
    ) -> None:
        """Record a restatement; see :class:`penstock.ledger_interface.Restatement`."""
        counted = changes or {}
        self._sql(
            "insert into {t}restatements (source, stream, partition, run_id, rows_before, rows_after, came, went, "
            "changed, sums) values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            *(entry.source, entry.partition.stream, entry.partition.text, entry.run_id, *rows),
            *(counted.get("came"), counted.get("went"), counted.get("changed")),
            json_text({column: [str(before), str(after)] for column, (before, after) in sums.items()}),
        )

    def restated(
        self, source: str | None = None, *, since: datetime | None = None, runs: str = ""
    ) -> Iterator[Restatement]:
        terms: dict[str, tuple[Any, ...]] = {}
        if source is not None:
            terms["source = ?"] = (source,)
        if since is not None:
            terms["restated_at >= ?"] = (time_text(since),)
        if runs == FORGET_PREFIX:
            terms[FORGOTTEN] = ()
        elif runs:
            terms[f"substr(run_id, 1, {len(runs)}) = ?"] = (runs,)
        rows = self._rows(
            "select source, stream, cast(partition as text), run_id, restated_at, rows_before, rows_after, came, went, "
            f"changed, cast(sums as text) from {{t}}restatements where {' and '.join(terms) or 'true'} "
            "order by restated_at, source, stream",
            *(value for values in terms.values() for value in values),
        )
        for from_source, stream, text, run_id, restated_at, before, after, came, went, changed, sums in rows:
            yield Restatement(
                source=from_source,
                partition=dated(partition_of(stream, text)),
                run_id=run_id,
                restated_at=known_moment(restated_at),
                rows=(before, after),
                sums={column: (Decimal(old), Decimal(new)) for column, (old, new) in json.loads(sums).items()},
                changes=None if came is None else {"came": came, "went": went, "changed": changed},
            )


@cache
def _update_sql(changes: tuple[str, ...]) -> str:
    return (
        f"update {{t}}partitions set {', '.join(f'{name} = ?' for name in changes)}, version = ? "
        f"where {OF_PARTITION} and version = ?"
    )


@cache
def _insert_sql(first: tuple[str, ...], changes: tuple[str, ...]) -> str:
    """A row of version 0 holds failures only: it is changed; any other row is left."""
    return (
        f"insert into {{t}}partitions (source, stream, partition, version, {', '.join(first)}) "
        f"values ({', '.join('?' * (4 + len(first)))}) on conflict (source, stream, partition) do update "
        f"set {', '.join(f'{name} = excluded.{name}' for name in changes)}, version = excluded.version "
        "where {t}partitions.version = ?"
    )
