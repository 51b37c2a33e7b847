"""
The ledger in portable SQL, for any database that can say ``on conflict ... do update``.
"""

# The only names put into statements are the prefix, table and column names of this module; values are parameters.
# ruff: noqa: S608

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from typing import Any, Protocol

from attrs import evolve

from penstock.errors import SinkError, TargetError
from penstock.ledger.texts import entry_of, facts_of, json_text, moment_of, partition_of, rejected_texts, time_text
from penstock.model import Partition, Rejected
from penstock.redact import mask, mask_json
from penstock.sinks import LedgerEntry, PendingReport, RunRecord

SCHEMA_VERSION = 1

# Portable SQL: text, bigint, "on conflict ... do update", "?" for a parameter. {t} is the prefix of table names.
_TABLES = (
    "create table if not exists {t}meta (name text primary key, value text not null)",
    """create table if not exists {t}partitions (
        source text not null, stream text not null, partition text not null,
        state text not null, run_id text not null, read_at text, open_until text, fingerprint text not null,
        rows bigint not null, promised bigint, rejected bigint not null, repeated bigint not null,
        truncated bigint not null, sums text not null, derived_rows text not null, files text not null,
        error text, attempts bigint not null, version bigint not null, intent text,
        primary key (source, stream, partition))""",
    """create table if not exists {t}rejected (
        source text not null, stream text not null, partition text not null, number bigint not null,
        of_stream text not null, path text not null, reason text not null, raw text not null,
        primary key (source, stream, partition, number))""",
    """create table if not exists {t}reports (
        source text not null, stream text not null, handle text not null, request text not null,
        partitions text not null, submitted_at text not null, fingerprint text not null)""",
    """create table if not exists {t}accounts (
        source text not null, stream text not null, position bigint not null, account text not null,
        primary key (source, stream, position))""",
    """create table if not exists {t}runs (
        run_id text not null, source text not null, started_at text not null, finished_at text, exit_code bigint,
        report text not null, primary key (run_id, source))""",
)
_VIEW = """{t}days as select source, stream, partition,
    case when intent is not null then 'intended' else state end as state,
    case when state <> 'delivered' or open_until is null then null
         when read_at >= open_until then 'closed' else 'open' end as day_was,
    rows, promised, rejected, repeated, read_at, open_until, sums, files, error, attempts, run_id
    from {t}partitions"""

_FACTS = (
    *("state", "run_id", "read_at", "open_until", "fingerprint", "rows", "promised", "rejected", "repeated"),
    *("truncated", "sums", "derived_rows", "files", "error", "attempts"),
)
_HERE = "source = ? and stream = ? and partition = ?"


class Cursor(Protocol):
    """What :class:`SqlLedger` needs of a database cursor."""

    @property
    def rowcount(self) -> int: ...

    def fetchall(self) -> list[Any]: ...


class SqlLedger:
    """
    :class:`penstock.sinks.Ledger` over :meth:`_execute` and :meth:`_transaction`, which a database supplies.
    """

    prefix = ""  # before every table's name: "penstock." in a database with schemas
    create_view = "create view if not exists"
    more_tables: tuple[str, ...] = ()

    def _execute(self, statement: str, values: Sequence[Any] = ()) -> Cursor:
        """Run one statement whose parameters are written ``?``; errors as SinkError or TargetError."""
        raise NotImplementedError

    def _transaction(self) -> AbstractContextManager[Any]:
        """All statements within take effect durably when it ends, or none does."""
        raise NotImplementedError

    def close(self) -> None:
        raise NotImplementedError

    def _sql(self, statement: str, *values: Any) -> Cursor:
        return self._execute(statement.replace("{t}", self.prefix), values)

    def _prepare(self) -> None:
        """Make the tables, or check that those found are of a version that is known."""
        with self._transaction():
            for table in (*_TABLES, *self.more_tables):
                self._sql(table)
            self._sql(f"{self.create_view} {_VIEW}")
            self._check_version()
            self.set_fact("schema", str(SCHEMA_VERSION))

    def _check_version(self) -> None:
        found = self.fact("schema")
        if found is not None and int(found) > SCHEMA_VERSION:
            raise TargetError(
                f"the ledger of this target was written by a newer penstock (its version {found}, known here: "
                f"{SCHEMA_VERSION}). Upgrade penstock on this machine; nothing was changed."
            )

    def fact(self, name: str) -> str | None:
        """A fact about the target as a whole, as :meth:`set_fact` left it."""
        found = self._sql("select value from {t}meta where name = ?", name).fetchall()
        return found[0][0] if found else None

    def set_fact(self, name: str, value: str) -> None:
        self._sql(
            "insert into {t}meta (name, value) values (?, ?) on conflict (name) do update set value = excluded.value",
            *(name, value),
        )

    # --- partitions -------------------------------------------------------------------------------------------------

    def entries(self, source: str, stream: str) -> dict[Partition, LedgerEntry]:
        return {entry.partition: entry for entry, _ in self._entries("source = ? and stream = ?", source, stream)}

    def entry(self, source: str, partition: Partition) -> LedgerEntry | None:
        """The row of one partition, None when it has none."""
        return next((entry for entry, _ in self._entries(_HERE, source, partition.stream, partition.text)), None)

    def _entries(self, where: str, *values: Any) -> Iterator[tuple[LedgerEntry, bool]]:
        """Entries, and of each whether there is a former reading beside an intent."""
        facts = ", ".join(_FACTS)
        rows = self._sql(
            f"select source, stream, partition, version, intent, {facts} from {{t}}partitions where {where} "
            "order by source, stream, partition",
            *values,
        ).fetchall()
        for source, stream, text, version, intent, *found in rows:
            partition = partition_of(stream, text)
            if intent is None:
                yield entry_of(source, partition, version, dict(zip(_FACTS, found, strict=True))), False
            else:
                meant = json.loads(intent)
                entry = entry_of(source, partition, version, meant["entry"])
                rejected = tuple(Rejected(**one) for one in meant["rejected"])
                yield evolve(entry, rejected_records=rejected), found[0] != "intended"

    def deliver(self, entry: LedgerEntry) -> None:
        """
        See :meth:`penstock.sinks.Ledger.deliver`. An intent is kept beside the former delivery, so that
        :meth:`take_back` can return to it.
        """
        facts = facts_of(entry)
        if entry.state == "intended":
            rejected = [rejected_texts(one) for one in entry.rejected_records]
            changes: dict[str, Any] = {"intent": json_text({"entry": facts, "rejected": rejected})}
            nothing = LedgerEntry(source=entry.source, partition=entry.partition, state="intended", run_id="")
            first = {**facts_of(nothing), **changes}  # of a partition without a row
        else:
            first = changes = {**facts, "intent": None}
        with self._transaction():
            if not self._put(entry, changes, first):
                raise SinkError(
                    f"{entry.source} {entry.partition} changed in the ledger since this run planned it, by another "
                    "run or `penstock forget`. What is there stays; run again."
                )
            if entry.state != "intended":
                self._store_rejected(entry)

    def _put(self, entry: LedgerEntry, changes: Mapping[str, Any], first: Mapping[str, Any]) -> bool:
        """
        Make ``changes`` to the entry's row, or insert ``first``; False where the row's version is not the entry's.
        """
        key = (entry.source, entry.partition.stream, entry.partition.text)
        if entry.version:
            done = self._sql(
                f"update {{t}}partitions set {', '.join(f'{name} = ?' for name in changes)}, version = ? "
                f"where {_HERE} and version = ?",
                *(*changes.values(), entry.version + 1, *key, entry.version),
            )
        else:  # a row of version 0 holds failures only
            done = self._sql(
                f"insert into {{t}}partitions (source, stream, partition, version, {', '.join(first)}) "
                f"values ({', '.join('?' * (4 + len(first)))}) on conflict (source, stream, partition) do update "
                f"set {', '.join(f'{name} = excluded.{name}' for name in changes)}, version = excluded.version "
                "where {t}partitions.version = ?",
                *(*key, 1, *first.values(), 0),
            )
        return done.rowcount == 1

    def _store_rejected(self, entry: LedgerEntry) -> None:
        key = (entry.source, entry.partition.stream, entry.partition.text)
        self._sql(f"delete from {{t}}rejected where {_HERE}", *key)
        for number, one in enumerate(entry.rejected_records):
            said = rejected_texts(one)
            self._sql(
                "insert into {t}rejected (source, stream, partition, number, of_stream, path, reason, raw) "
                "values (?, ?, ?, ?, ?, ?, ?, ?)",
                *(*key, number, said["stream"], said["path"], said["reason"], said["raw"]),
            )

    def take_back(self, source: str, partition: Partition) -> LedgerEntry | None:
        """Drop an intent whose files are lost; the former delivery (None: there was none) counts again."""
        key = (source, partition.stream, partition.text)
        with self._transaction():
            self._sql(f"delete from {{t}}partitions where {_HERE} and state = 'intended'", *key)
            self._sql(f"update {{t}}partitions set intent = null, version = version + 1 where {_HERE}", *key)
        return self.entry(source, partition)

    def fail(self, source: str, partition: Partition, error: str, run_id: str) -> None:
        failed = facts_of(LedgerEntry(source=source, partition=partition, state="failed", run_id=run_id))
        first = {**failed, "error": mask(error), "attempts": 1}
        self._sql(
            f"insert into {{t}}partitions (source, stream, partition, version, {', '.join(first)}) "
            f"values ({', '.join('?' * (4 + len(first)))}) on conflict (source, stream, partition) do update set "
            "error = excluded.error, attempts = {t}partitions.attempts + 1, "
            "run_id = case when {t}partitions.state = 'failed' then excluded.run_id else {t}partitions.run_id end",
            *(source, partition.stream, partition.text, 0, *first.values()),
        )

    def forget(self, source: str, partitions: Iterable[Partition]) -> int:
        forgotten = 0
        with self._transaction():
            for partition in partitions:
                key = (source, partition.stream, partition.text)
                self._sql(f"delete from {{t}}rejected where {_HERE}", *key)
                forgotten += self._sql(f"delete from {{t}}partitions where {_HERE}", *key).rowcount
        return forgotten

    def rejected(self, source: str | None = None, stream: str | None = None) -> Iterator[tuple[LedgerEntry, Rejected]]:
        """By partition, in the provider's order; ``stream`` names the partition's or the record's own."""
        rows = self._sql(
            "select source, stream, partition, of_stream, path, reason, raw from {t}rejected "
            "where (? is null or source = ?) and (? is null or stream = ? or of_stream = ?) "
            "order by source, stream, partition, number".replace("? is null", "cast(? as text) is null"),
            *(source, source, stream, stream, stream),
        ).fetchall()
        entry: LedgerEntry | None = None
        for at, of, text, of_stream, path, reason, raw in rows:
            partition = partition_of(of, text)
            if entry is None or (entry.source, entry.partition) != (at, partition):
                entry = self.entry(at, partition)
            if entry is not None:
                yield entry, Rejected(stream=of_stream, path=path, reason=reason, raw=raw)

    def sources(self) -> tuple[tuple[str, str], ...]:
        rows = self._sql("select distinct source, stream from {t}partitions order by source, stream").fetchall()
        return tuple((source, stream) for source, stream in rows)

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
                submitted_at=datetime.fromisoformat(submitted_at),
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
        self._sql(
            "insert into {t}runs (run_id, source, started_at, finished_at, exit_code, report) "
            "values (?, ?, ?, ?, ?, ?) on conflict (run_id, source) do update set "
            "finished_at = excluded.finished_at, exit_code = excluded.exit_code, report = excluded.report",
            *(run.run_id, run.source, time_text(run.started_at), time_text(run.finished_at), run.exit_code),
            json_text(mask_json(dict(run.report))),
        )

    def runs(self, source: str, limit: int = 10) -> tuple[RunRecord, ...]:
        rows = self._sql(
            "select run_id, started_at, finished_at, exit_code, report from {t}runs where source = ? "
            "order by started_at desc, run_id desc limit ?",
            *(source, limit),
        ).fetchall()
        return tuple(
            RunRecord(
                run_id=run_id,
                source=source,
                started_at=datetime.fromisoformat(started_at),
                finished_at=moment_of(finished_at),
                exit_code=exit_code,
                report=json.loads(report),
            )
            for run_id, started_at, finished_at, exit_code, report in rows
        )
