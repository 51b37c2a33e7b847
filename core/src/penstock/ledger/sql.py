"""
The whole ledger in portable SQL. Here is what it keeps besides partitions: reports that are under way, accounts that a
provider lists, runs.
"""

import json
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from attrs import frozen

from penstock.ledger.deliveries import Deliveries
from penstock.ledger.stored_values import json_text, known_moment, moment_of, time_text
from penstock.ledger_interface import PendingReport, RunRecord
from penstock.model import Partition
from penstock.redact import mask, mask_json

REPORT_BYTES = 2**16  # of a run's report; a longer one loses texts, never counts
TEXT_LENGTH, MEMBERS_SHOWN = 500, 20  # of an error, and of the unknown members of a stream, in such a one


@frozen(kw_only=True, eq=False, repr=False)
class Retention:
    """
    The history that a ledger keeps of each source: records of runs by age and number, restatements by age (None: all).
    """

    run_days: int = 400
    runs: int = 1000
    restatement_days: int | None = None


class SqlLedger(Deliveries):
    """
    :class:`penstock.ledger_interface.Ledger` over ``_execute`` and ``_transaction``, which a database supplies, see
    :class:`penstock.ledger.schema.SqlTables`.
    """

    retention = Retention()  # a ledger takes its own when it is made

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
    errors = [
        error | {name: str(error[name])[:TEXT_LENGTH] for name in ("reason", "message") if name in error}
        for error in masked.get("errors", ())
    ]
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
