"""
The ledger in portable SQL, for a database with ``on conflict ... do update`` and generated columns.
"""

# The only names put into statements are the prefix, table and column names of this module; values are parameters.
# ruff: noqa: S608

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import date, datetime, timedelta
from decimal import Decimal
from functools import cache
from operator import attrgetter
from typing import Any, ClassVar, Protocol

from attrs import evolve, frozen

from penstock.errors import SinkError, TargetError
from penstock.ledger.texts import (
    column_values,
    dated,
    encoded,
    entry_of,
    json_text,
    known_moment,
    moment_of,
    partition_of,
    rejected_texts,
    sums_from,
    time_text,
)
from penstock.ledger_interface import AccountCounts, FinalDay, LedgerEntry, PendingReport, Restatement, RunRecord
from penstock.model import Partition, Rejected
from penstock.redact import mask, mask_json

SCHEMA_VERSION = 2
STANDING = (
    "case when error is not null then 'failed' "
    "when intent is null and state = 'delivered' and coalesce(read_at >= open_until, false) then 'final' "
    "else 'open' end"
)
FORGET_PREFIX = "forget-"  # the id of what `penstock forget` did begins with it
ROWS_AT_ONCE = 10_000  # of final days
FORGOTTEN_AT_ONCE = 1000  # partitions in a statement
RUNS_KEPT = 1000  # of each source
RUN_DAYS_KEPT = 400
REPORT_BYTES = 2**16  # of a run's report; a longer one loses texts, never counts
TEXT_LENGTH, MEMBERS_SHOWN = 500, 20  # of an error, and of the unknown members of a stream, in such a one

# Portable SQL: text, bigint, "on conflict ... do update", "?" for a parameter. In braces: {t} is the prefix of table
# names, {time} the type of a moment, {now} the moment of the statement, {json} the type of JSON that is only read by
# people, {account} and {day} the expressions for both in a partition's text, {standing} the expression above, {stored}
# the word for a generated column: "stored", unless ``words`` has another.
TABLES = {
    "meta": "name text primary key, value text not null",
    "partitions": """
        source text not null, stream text not null, partition text not null,
        account text generated always as ({account}) {stored}, day text generated always as ({day}) {stored},
        state text not null, run_id text not null, read_at {time}, open_until {time}, fingerprint text not null,
        rows bigint not null, promised bigint, rejected bigint not null, unread_values bigint not null default 0,
        repeated bigint not null, truncated bigint not null, attempts bigint not null, version bigint not null,
        read_by text not null default '', error text,
        standing text generated always as ({standing}) {stored},
        sums text not null, derived_rows text not null, files text not null, intent text,
        primary key (source, stream, partition)""",
    "rejected": """
        source text not null, stream text not null, partition text not null, number bigint not null,
        of_stream text not null, path text not null, reason text not null, raw text not null,
        primary key (source, stream, partition, number)""",
    "reports": """
        source text not null, stream text not null, handle text not null, request text not null,
        partitions text not null, submitted_at {time} not null, fingerprint text not null""",
    "accounts": """
        source text not null, stream text not null, position bigint not null, account text not null,
        primary key (source, stream, position)""",
    "runs": """
        run_id text not null, source text not null, started_at {time} not null, finished_at {time}, exit_code bigint,
        report text not null, primary key (run_id, source)""",
    "restatements": """
        source text not null, stream text not null, partition {json} not null, run_id text not null,
        restated_at {time} not null default ({now}), rows_before bigint not null, rows_after bigint not null,
        came bigint, went bigint, changed bigint, sums {json} not null""",
}
# As in the indexes. The texts are part of the statements: a database compares them with those of the indexes.
FORGOTTEN = f"substr(run_id, 1, {len(FORGET_PREFIX)}) = '{FORGET_PREFIX}'"
FLAWED = "(error is not null or rejected > 0 or unread_values > 0 or truncated > 0 or read_by <> '')"
INDEXES = (
    "create index if not exists partitions_day on {t}partitions (source, stream, day, account)",
    "drop index if exists {t}partitions_counts",  # of earlier versions
    "drop index if exists {t}partitions_failed",  # of earlier versions
    "create index if not exists partitions_unsettled on {t}partitions (source) "
    "where intent is not null or state in ('intended', 'staged')",
    "create index if not exists runs_started on {t}runs (source, started_at)",
    "create index if not exists restatements_at on {t}restatements (source, restated_at)",
    "drop index if exists {t}restatements_stream",  # of earlier versions
    f"create index if not exists restatements_forgotten on {{t}}restatements (source, restated_at) where {FORGOTTEN}",
)
# For `status`: rows come grouped, without a sort.
BY_ACCOUNT = "create index if not exists partitions_accounts on {t}partitions (source, stream, account, day)"
# Made last: of several indexes that serve a query as well, SQLite uses the newest, and this one has the fewest rows.
BY_FLAW = f"create index if not exists partitions_flawed on {{t}}partitions (source, stream, account) where {FLAWED}"
UNSETTLED = "(intent is not null or state in ('intended', 'staged'))"  # as in the index
VIEW = """{t}days as select source, stream, partition, account, nullif(day, '') as day,
    case when intent is not null then 'intended' else state end as state,
    case when state <> 'delivered' or open_until is null then null
         when read_at >= open_until then 'closed' else 'open' end as day_was,
    rows, promised, rejected, unread_values, repeated, read_at, open_until, sums, files, error, attempts, run_id,
    read_by from {t}partitions"""

_COUNTS = """select stream, account, count(*), min(day), max(day),
    sum(case when standing = 'final' then 1 else 0 end), sum(case when standing = 'failed' then 1 else 0 end),
    sum(rows), sum(rejected), sum(unread_values), sum(truncated), max(read_at)
    from {t}partitions where {where} group by stream, account"""
_ERRORS = """select stream, account, max(day || '|' || error)
    from {t}partitions where {where} and error is not null group by stream, account"""

_HERE = "source = ? and stream = ? and partition = ?"
# Of an intent's row, where nothing was delivered before.
_NOTHING = column_values(LedgerEntry(source="", partition=Partition(""), state="intended", run_id=""))
_COLUMNS = tuple(_NOTHING)


@frozen(kw_only=True, eq=False, repr=False)
class Retention:
    """
    The history that a ledger keeps of each source: records of runs by age and number, restatements by age (None: all).
    """

    run_days: int = RUN_DAYS_KEPT
    runs: int = RUNS_KEPT
    restatement_days: int | None = None


class Cursor(Protocol):
    """What :class:`SqlLedger` needs of a database cursor."""

    @property
    def rowcount(self) -> int: ...

    def fetchall(self) -> list[Any]: ...

    def __iter__(self) -> Iterator[Any]: ...


class SqlLedger:
    """
    :class:`penstock.ledger_interface.Ledger` over :meth:`_execute` and :meth:`_transaction`, which a database supplies.
    """

    prefix = ""  # before every table's name: "penstock." in a database with schemas
    create_view = "create view if not exists"
    words: ClassVar[Mapping[str, str]]  # for the names in braces in TABLES
    in_texts: str  # a condition: the value is one of the texts of a JSON array, a parameter
    indexes: tuple[str, ...] = (*INDEXES, BY_ACCOUNT, BY_FLAW)
    more_tables: tuple[str, ...] = ()
    compares = True  # a delivery is compared with the former one; False: the target does that, row by row
    retention = Retention()  # a ledger takes its own when it is made

    def _execute(self, statement: str, values: Sequence[Any] = ()) -> Cursor:
        """Run one statement whose parameters are written ``?``; errors as SinkError or TargetError."""
        raise NotImplementedError

    def _transaction(self) -> AbstractContextManager[Any]:
        """All statements within take effect durably when it ends, or none does."""
        raise NotImplementedError

    def _migrate(self, version: int) -> None:
        """Bring the tables of an older version up to date, within :meth:`_prepare`'s transaction."""
        raise NotImplementedError

    def close(self) -> None:
        raise NotImplementedError

    def _sql(self, statement: str, *values: Any) -> Cursor:
        return self._execute(statement.replace("{t}", self.prefix), values)

    def _make_table(self, name: str, columns: str) -> None:
        for word, meaning in {"stored": "stored", **self.words, "standing": STANDING}.items():
            columns = columns.replace(f"{{{word}}}", meaning)
        self._sql(f"create table if not exists {{t}}{name} ({columns})")

    def _prepare(self) -> None:
        """Make the tables, or bring those found up to date; a ledger of a newer version is refused."""
        with self._transaction():
            self._make_table("meta", TABLES["meta"])
            self._check_version()
            stored_version = int(self.fact("schema") or SCHEMA_VERSION)
            if stored_version < SCHEMA_VERSION:
                self._sql("drop view if exists {t}days")
                self._migrate(stored_version)
            for name, columns in TABLES.items():
                self._make_table(name, columns)
            for statement in (*self.indexes, *self.more_tables):
                self._sql(statement)
            self._sql(f"{self.create_view} {VIEW}")
            if self.fact("schema") != str(SCHEMA_VERSION):
                self.set_fact("schema", str(SCHEMA_VERSION))

    @property
    def outdated(self) -> bool:
        """Whether an older penstock wrote it, and it was not brought up to date yet."""
        return int(self.fact("schema") or SCHEMA_VERSION) < SCHEMA_VERSION

    def _check_version(self) -> None:
        stored_version = self.fact("schema")
        if stored_version is not None and int(stored_version) > SCHEMA_VERSION:
            raise TargetError(
                f"the ledger of this target was written by a newer penstock (its version {stored_version}, known here: "
                f"{SCHEMA_VERSION}). Upgrade penstock on this machine; nothing was changed."
            )

    def fact(self, name: str) -> str | None:
        """A fact about the target as a whole, as :meth:`set_fact` left it."""
        rows = self._sql("select value from {t}meta where name = ?", name).fetchall()
        return rows[0][0] if rows else None

    def set_fact(self, name: str, value: str) -> None:
        self._sql(
            "insert into {t}meta (name, value) values (?, ?) on conflict (name) do update set value = excluded.value",
            *(name, value),
        )

    # --- partitions -------------------------------------------------------------------------------------------------

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
            of = {columns[name]: account} if account else {}
            of_accounts.append(_counts_of(source, name, of, row, last.get((name, account))))
        return tuple(sorted(of_accounts, key=lambda counts: (counts.stream, *counts.account.values())))

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
        for first, last in _parts(since, until, days_at_once):
            _, (where, values) = _windows(source, stream, first or date.min, last)
            where, values = self._of_accounts(where, values, accounts)
            for account, day, fingerprint, run_id, read_at, read_by, unread, files, rows in self._sql(
                "select account, day, fingerprint, run_id, read_at, read_by, rejected + unread_values, files, rows "
                f"from {{t}}partitions where {where} and standing = 'final'",
                *values,
            ):
                moment = known_moment(read_at)
                yield FinalDay(account, day, fingerprint, run_id, moment, read_by, complete=not unread), files, rows

    def unread_by_other_versions(self, source: str, stream: str, reader_version: str) -> int:
        ((count,),) = self._sql(
            f"select count(*) from {{t}}partitions where source = ? and stream = ? and {FLAWED} and "
            "state = 'delivered' and case when read_by = '' then rejected + unread_values > 0 else read_by <> ? end",
            *(source, stream, reader_version),
        ).fetchall()
        return int(count)

    def _of_accounts(self, where: str, values: list[Any], accounts: Sequence[str] | None) -> tuple[str, list[Any]]:
        """The condition for these accounts only; None: for all."""
        if accounts is None:
            return where, values
        return f"{where} and account {self.in_texts}", [*values, json_text(list(accounts))]

    def _account_column(self, source: str, stream: str, account: str) -> str:
        """The column of a stream's accounts; one partition stands for all."""
        ((text,),) = self._sql(
            "select partition from {t}partitions where source = ? and stream = ? and account = ? limit 1",
            *(source, stream, account),
        ).fetchall()
        return partition_of(stream, text).values[0][0]

    def entry(self, source: str, partition: Partition) -> LedgerEntry | None:
        """The row of one partition, None when it has none."""
        return next(self._entries(_HERE, source, partition.stream, partition.text), None)

    def _entries(self, where: str, *values: Any) -> Iterator[LedgerEntry]:
        """Entries; of one with an intent, the intent."""
        names = ", ".join(_COLUMNS)
        rows = self._sql(
            f"select source, stream, partition, version, intent, {names} from {{t}}partitions where {where}",
            *values,
        ).fetchall()
        for source, stream, text, version, intent, *stored in rows:
            partition = partition_of(stream, text)
            if intent is None:
                yield entry_of(source, partition, version, dict(zip(_COLUMNS, stored, strict=True)))
            else:
                meant = json.loads(intent)
                entry = entry_of(source, partition, version, meant["entry"])
                rejected = tuple(Rejected(**record) for record in meant["rejected"])
                yield evolve(entry, rejected_records=rejected)

    def deliver(self, entry: LedgerEntry) -> None:
        """
        See :meth:`penstock.ledger_interface.Ledger.deliver`. An intent is kept beside the former delivery, so that
        :meth:`take_back` can return to it.
        """
        self.deliver_all([entry])

    def deliver_all(self, entries: Sequence[LedgerEntry]) -> None:
        """Deliver all entries in one transaction, or none of them. Raises SinkError as :meth:`deliver` does."""
        with self._transaction():
            for entry in entries:
                self._deliver(entry)
            self._store_rejected([entry for entry in entries if entry.state != "intended"])

    def _deliver(self, entry: LedgerEntry) -> None:
        values = column_values(entry)
        if entry.state == "intended":
            rejected = [rejected_texts(record) for record in entry.rejected_records]
            changes: dict[str, Any] = {"intent": encoded({"entry": values, "rejected": rejected})}
            first = {**_NOTHING, **changes}  # of a partition without a row
        else:
            first = changes = {**values, "intent": None}
        if self.compares and entry.kind == "report" and entry.state == "delivered" and entry.version:
            self._compare(entry)
        if not self._put(entry, changes, first):
            raise SinkError(
                f"{entry.source} {entry.partition} changed in the ledger since this run planned it, by another "
                "run or `penstock forget`. What is there stays; run again."
            )

    def _compare(self, entry: LedgerEntry) -> None:
        """Record what the entry changes against the delivery it is to replace."""
        stored = self._sql(
            f"select rows, sums from {{t}}partitions where {_HERE} and day <> '' and state = 'delivered'",
            *(entry.source, entry.partition.stream, entry.partition.text),
        ).fetchall()
        for rows, text in stored:
            before = sums_from(text)
            sums = {
                column: (before[column], total)
                for column, total in entry.sums.items()
                if column in before and before[column] != total
            }
            if rows != entry.rows or sums or any((entry.changes or {}).values()):
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
        rows = self._sql(
            "select source, stream, cast(partition as text), run_id, restated_at, rows_before, rows_after, came, went, "
            f"changed, cast(sums as text) from {{t}}restatements where {' and '.join(terms) or 'true'} "
            "order by restated_at, source, stream",
            *(value for values in terms.values() for value in values),
        ).fetchall()
        for of, name, text, run_id, at, before, after, came, went, changed, sums in rows:
            yield Restatement(
                source=of,
                partition=dated(partition_of(name, text)),
                run_id=run_id,
                restated_at=known_moment(at),
                rows=(before, after),
                sums={column: (Decimal(old), Decimal(new)) for column, (old, new) in json.loads(sums).items()},
                changes=None if came is None else {"came": came, "went": went, "changed": changed},
            )

    def _put(self, entry: LedgerEntry, changes: Mapping[str, Any], first: Mapping[str, Any]) -> bool:
        """
        Make ``changes`` to the entry's row, or insert ``first``; False where the row's version is not the entry's.
        """
        statement, values = self._put_sql(entry, changes, first)
        return self._sql(statement, *values).rowcount == 1

    def _put_sql(
        self, entry: LedgerEntry, changes: Mapping[str, Any], first: Mapping[str, Any]
    ) -> tuple[str, list[Any]]:
        key = (entry.source, entry.partition.stream, entry.partition.text)
        if entry.version:
            return _update_sql(tuple(changes)), [*changes.values(), entry.version + 1, *key, entry.version]
        return _insert_sql(tuple(first), tuple(changes)), [*key, 1, *first.values(), 0]

    def _store_rejected(self, entries: Sequence[LedgerEntry]) -> None:
        self._drop_rejected(entries)
        for entry in entries:
            key = (entry.source, entry.partition.stream, entry.partition.text)
            for number, record in enumerate(entry.rejected_records):
                texts = rejected_texts(record)
                self._sql(
                    "insert into {t}rejected (source, stream, partition, number, of_stream, path, reason, raw) "
                    "values (?, ?, ?, ?, ?, ?, ?, ?)",
                    *(*key, number, texts["stream"], texts["path"], texts["reason"], texts["raw"]),
                )

    def _drop_rejected(self, entries: Sequence[LedgerEntry]) -> None:
        """The records that the former readings rejected, by one statement for each stream."""
        by_stream: dict[tuple[str, str], list[str]] = {}
        for entry in entries:
            by_stream.setdefault((entry.source, entry.partition.stream), []).append(entry.partition.text)
        for of, texts in by_stream.items():
            where = f"source = ? and stream = ? and partition {self.in_texts}"
            self._sql(f"delete from {{t}}rejected where {where}", *of, json_text(texts))

    def take_back(self, source: str, partition: Partition) -> LedgerEntry | None:
        """Drop an intent whose files are lost; the former delivery (None: there was none) counts again."""
        key = (source, partition.stream, partition.text)
        with self._transaction():
            self._sql(f"delete from {{t}}partitions where {_HERE} and state = 'intended'", *key)
            self._sql(f"update {{t}}partitions set intent = null, version = version + 1 where {_HERE}", *key)
        return self.entry(source, partition)

    def fail_all(self, source: str, failures: Sequence[tuple[Partition, str]], run_id: str) -> None:
        """See :meth:`penstock.ledger_interface.GroupingLedger.fail_all`."""
        with self._transaction():
            for partition, error in failures:
                self.fail(source, partition, error, run_id)

    def fail(self, source: str, partition: Partition, error: str, run_id: str) -> None:
        failed = column_values(LedgerEntry(source=source, partition=partition, state="failed", run_id=run_id))
        first = {**failed, "error": mask(error), "attempts": 1}
        self._sql(
            f"insert into {{t}}partitions (source, stream, partition, version, {', '.join(first)}) "
            f"values ({', '.join('?' * (4 + len(first)))}) on conflict (source, stream, partition) do update set "
            "error = excluded.error, attempts = {t}partitions.attempts + 1, "
            "run_id = case when {t}partitions.state = 'failed' then excluded.run_id else {t}partitions.run_id end",
            *(source, partition.stream, partition.text, 0, *first.values()),
        )

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

    def rejected(self, source: str | None = None, stream: str | None = None) -> Iterator[tuple[LedgerEntry, Rejected]]:
        """By partition, in the provider's order; ``stream`` names the partition's or the record's own."""
        terms: dict[str, tuple[str, ...]] = {}
        if source is not None:
            terms["source = ?"] = (source,)
        if stream is not None:
            terms["(stream = ? or of_stream = ?)"] = (stream, stream)
        where, values = " and ".join(terms) or "true", [value for values in terms.values() for value in values]
        # The entry of a partition is read once, not with each of its records.
        entries = {
            (entry.source, entry.partition.stream, entry.partition.text): entry
            for entry in self._entries(
                "(source, stream, partition) in "
                f"(select distinct source, stream, partition from {{t}}rejected where {where})",
                *values,
            )
        }
        for at, of, text, of_stream, path, reason, raw in self._sql(
            f"select source, stream, partition, of_stream, path, reason, raw from {{t}}rejected where {where} "
            "order by source, stream, partition, number",
            *values,
        ):
            entry = entries.get((at, of, text))
            if entry is not None:
                yield entry, Rejected(stream=of_stream, path=path, reason=reason, raw=raw)

    def sources(self, source: str | None = None) -> tuple[tuple[str, str], ...]:
        pairs: list[tuple[str, str]] = []
        where = "(source, stream) > (?, ?)" if source is None else "source = ? and stream > ?"
        while True:  # from one to the next by the index: `distinct` would read every row
            rows = self._sql(
                f"select source, stream from {{t}}partitions where {where} order by source, stream limit 1",
                *(pairs[-1] if pairs else (source or "", "")),
            ).fetchall()
            if not rows:
                return tuple(pairs)
            pairs.append(tuple(rows[0]))

    # --- reports, accounts, runs ------------------------------------------------------------------------------------

    def submit(self, report: PendingReport) -> None:
        with self._transaction():
            self._drop(report)
            self._sql(
                "insert into {t}reports (source, stream, handle, request, partitions, submitted_at, fingerprint) "
                "values (?, ?, ?, ?, ?, ?, ?)",
                *(report.source, report.stream, mask(report.handle), mask(report.request)),
                json_text([partition.as_dict() for partition in report.partitions]),
                *(time_text(report.submitted_at), report.fingerprint),
            )

    def pending(self, source: str, stream: str) -> tuple[PendingReport, ...]:
        rows = self._sql(
            "select handle, request, partitions, submitted_at, fingerprint from {t}reports "
            "where source = ? and stream = ? order by submitted_at, handle",
            *(source, stream),
        ).fetchall()
        return tuple(
            PendingReport(
                source=source,
                stream=stream,
                handle=handle,
                request=request,
                partitions=tuple(Partition(stream, tuple(values.items())) for values in json.loads(partitions)),
                submitted_at=known_moment(submitted_at),
                fingerprint=fingerprint,
            )
            for handle, request, partitions, submitted_at, fingerprint in rows
        )

    def drop(self, report: PendingReport) -> None:
        with self._transaction():
            self._drop(report)

    def _drop(self, report: PendingReport) -> None:
        self._sql(
            "delete from {t}reports where source = ? and stream = ? and handle = ?",
            *(report.source, report.stream, mask(report.handle)),
        )

    def remember_accounts(self, source: str, stream: str, accounts: Sequence[str]) -> None:
        """In place of those remembered before: an account the provider no longer lists is not planned any more."""
        with self._transaction():
            self._sql("delete from {t}accounts where source = ? and stream = ?", source, stream)
            for position, account in enumerate(accounts):
                self._sql(
                    "insert into {t}accounts (source, stream, position, account) values (?, ?, ?, ?)",
                    *(source, stream, position, account),
                )

    def accounts(self, source: str, stream: str) -> tuple[str, ...]:
        rows = self._sql(
            "select account from {t}accounts where source = ? and stream = ? order by position", source, stream
        ).fetchall()
        return tuple(account for (account,) in rows)

    def record_run(self, run: RunRecord) -> None:
        with self._transaction():
            self._sql(
                "insert into {t}runs (run_id, source, started_at, finished_at, exit_code, report) "
                "values (?, ?, ?, ?, ?, ?) on conflict (run_id, source) do update set "
                "finished_at = excluded.finished_at, exit_code = excluded.exit_code, report = excluded.report",
                *(run.run_id, run.source, time_text(run.started_at), time_text(run.finished_at), run.exit_code),
                _report_text(run.report),
            )
            self._prune(run)

    def _prune(self, run: RunRecord) -> None:
        """Delete the records of the run's source that are older, or more, than is kept."""
        oldest = run.started_at - timedelta(days=self.retention.run_days)
        self._sql("delete from {t}runs where source = ? and started_at < ?", run.source, time_text(oldest))
        self._sql(
            "delete from {t}runs where source = ? and started_at < (select started_at from {t}runs where source = ? "
            "order by started_at desc limit 1 offset ?)",
            *(run.source, run.source, self.retention.runs - 1),
        )
        if self.retention.restatement_days is not None:
            self._sql(
                "delete from {t}restatements where source = ? and restated_at < ?",
                *(run.source, time_text(run.started_at - timedelta(days=self.retention.restatement_days))),
            )

    def runs(
        self, source: str, limit: int = 10, *, offset: int = 0, run_id: str | None = None
    ) -> tuple[RunRecord, ...]:
        where, values = ("source = ?", [source]) if run_id is None else ("source = ? and run_id = ?", [source, run_id])
        rows = self._sql(
            f"select run_id, started_at, finished_at, exit_code, report from {{t}}runs where {where} "
            "order by started_at desc, run_id desc limit ? offset ?",
            *(*values, limit, offset),
        ).fetchall()
        return tuple(
            RunRecord(
                run_id=run_id,
                source=source,
                started_at=known_moment(started_at),
                finished_at=moment_of(finished_at),
                exit_code=exit_code,
                report=json.loads(report),
            )
            for run_id, started_at, finished_at, exit_code, report in rows
        )


@cache
def _update_sql(changes: tuple[str, ...]) -> str:
    return (
        f"update {{t}}partitions set {', '.join(f'{name} = ?' for name in changes)}, version = ? "
        f"where {_HERE} and version = ?"
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


def _report_text(report: Mapping[str, Any]) -> str:
    """A run report as the ledger keeps it: masked, in ``REPORT_BYTES`` at most, unless its counts alone are longer."""
    masked = mask_json(_without_restatements(report))
    text = json_text(masked)
    if len(text.encode()) <= REPORT_BYTES:
        return text
    streams = {
        name: {**counts, "unknown_members": counts["unknown_members"][:MEMBERS_SHOWN]}
        if isinstance(counts, Mapping) and "unknown_members" in counts
        else counts
        for name, counts in (masked.get("streams") or {}).items()
    }
    errors = [{**error, "message": str(error.get("message", ""))[:TEXT_LENGTH]} for error in masked.get("errors", ())]
    while True:
        text = json_text({**masked, "streams": streams, "errors": errors, "shortened": True})
        if len(text.encode()) <= REPORT_BYTES or not errors:
            return text
        errors = errors[: len(errors) // 2]


def _without_restatements(report: Mapping[str, Any]) -> dict[str, Any]:
    """A run report without the lists of restatements, which are in a table of their own."""
    streams = report.get("streams")
    if not isinstance(streams, Mapping):
        return dict(report)
    trimmed = {
        name: {key: value for key, value in counts.items() if key != "restated"}
        if isinstance(counts, Mapping)
        else counts
        for name, counts in streams.items()
    }
    return {**report, "streams": trimmed}


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


def _parts(since: date | None, until: date | None, days: int) -> Iterator[tuple[date | None, date | None]]:
    """A window in parts of so many days; one without bounds as a whole."""
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
