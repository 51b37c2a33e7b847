"""
The commit of one partition: a transaction that is tried until the server takes its rows.

A try that fails is rolled back. By its failure, :func:`.next_try.plan_next_try` lists remedies for the new rows or for
the statements. The first one that has an effect is followed by another try; if none has, the commit fails.

======================================================  ==============================================================
Failure                                                 Remedies, in order
======================================================  ==============================================================
a conflict with another session                         repeat, a few times
a temporary table refuses a row of a COPY               reject the row
a column or a constraint of the table refuses a value   send small rows by COPY; reject the refused rows, by halving
a key is there twice                                    send small rows by COPY; drop repeated rows; delete first
other rows are stored than were sent                    send small rows by COPY; drop repeated rows
======================================================  ==============================================================
"""

import psycopg
from attrs import frozen
from penstock import LedgerEntry, SinkError

from penstock_plugins.postgres.database import Database
from penstock_plugins.postgres.delivery import Delivery, Former
from penstock_plugins.postgres.next_try import NotStoredError, Remedy, RowRefusedError, Tries, plan_next_try
from penstock_plugins.postgres.tables import Tables
from penstock_plugins.sink_support.unfit import entry_without


@frozen(eq=False)
class CommitLoop:
    """Commits one partition in a session."""

    database: Database
    tables: Tables
    delivery: Delivery

    def run(self, entry: LedgerEntry) -> LedgerEntry:
        """Returns the entry as it was recorded. Raises SinkError and the errors of psycopg."""
        former = self.delivery.find_former(entry)
        for rows in self.delivery.rows.values():
            if rows.spilled_to is not None and rows.chunks:
                rows.spill()
        tries = Tries()
        while True:
            outcome = self._try(entry, former, tries)
            if isinstance(outcome, LedgerEntry):
                return outcome
            tries = self._prepare_next_try(outcome, tries)

    def _try(self, entry: LedgerEntry, former: Former, tries: Tries) -> LedgerEntry | Exception:
        """One transaction. Returns the entry as it was recorded, or the failure for which it was rolled back."""
        fitting = entry_without(entry, [rows.omissions() for rows in self.delivery.rows.values()])
        self._check_any_fits(fitting)
        relations = self.delivery.relations(former)
        try:
            with self.database.transaction():
                written = self.delivery.write(fitting, former, relations, delete_first=tries.delete_first)
                self.tables.check_unchanged([rows.table for rows in self.delivery.rows.values()])
        except (psycopg.Error, NotStoredError, RowRefusedError) as failure:
            return failure
        return written

    def _prepare_next_try(self, failure: Exception, tries: Tries) -> Tries:
        """Apply remedies until one has an effect. Raises the failure if none has."""
        for remedy in plan_next_try(failure, tries):
            if self._apply(remedy, failure):
                return tries.after(remedy)
        raise self._not_stored() if isinstance(failure, NotStoredError) else failure

    def _apply(self, remedy: Remedy, failure: Exception) -> bool:
        """Apply a remedy. Returns whether it had an effect."""
        streams = self.delivery.rows.values()
        match remedy:
            case Remedy.REJECT_COPIED_ROW:
                assert isinstance(failure, RowRefusedError)
                failure.rows.reject_refused(failure.number, failure.error)
                return True
            case Remedy.FORMAT_FOR_COPY:
                return any(rows.format_for_copy() for rows in streams)
            case Remedy.REJECT_BY_HALVING:
                return any(rows.reject_by_halving(self.delivery.rows_in_the_way(rows)) for rows in streams)
            case Remedy.DROP_REPEATS:
                return any(rows.drop_repeats() for rows in streams)
            case Remedy.REPEAT | Remedy.DELETE_FIRST:  # the next try has it from its state
                return True

    def _check_any_fits(self, fitting: LedgerEntry) -> None:
        """
        Raises SinkError if the table refuses every record: the fault is the table's, and the partition is not empty.
        """
        rows = self.delivery.main
        if fitting.rows or not rows.unfit:
            return
        first = rows.unfit[0].rejected
        raise SinkError(
            f"{rows.table.sql} refuses all {len(rows.unfit)} records of {self.delivery.partition}, the first because "
            f"{first.path}: {first.reason}. Nothing was replaced. If the table has a constraint or a trigger "
            "of yours, correct it, and run again."
        )

    def _not_stored(self) -> SinkError:
        names = ", ".join(rows.table.sql for rows in self.delivery.rows.values())
        return SinkError(
            f"{names}: the database stored other rows of {self.delivery.partition} than were sent, without an error: a "
            "trigger or a rule on the table leaves rows out, or row-level security hides some. Nothing was replaced. "
            "Drop it, or let it pass all rows of penstock, and run again."
        )
