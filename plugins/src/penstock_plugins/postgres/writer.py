"""
The writer of one partition: it holds the rows until their commit, and commits them.

A commit is a transaction that is tried until the server takes the rows. A try that fails is rolled back. By its
failure, the rows or the order of the statements are changed before the next try; where nothing can be changed, the
commit fails.

===========================================  =====================================================================
Failure                                      Before the next try
===========================================  =====================================================================
a conflict with another session              nothing, a few times
a value or a constraint refuses a row        spill the rows, which rejects those that COPY refuses; if they were
                                             spilled already, reject those that the table refuses
a key occurs twice                           spill the rows, drop repeats; if there are none, delete rows first
other rows are stored than were sent         spill the rows, drop repeats
the session is lost                          open another one, once, and look whether the commit was carried out
===========================================  =====================================================================
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from attrs import evolve
from penstock import Batch, LedgerEntry, Partition, SinkError, fault_point

from penstock_plugins.postgres.delivery import MergingDelivery, ReplacingDelivery
from penstock_plugins.postgres.new_rows import NewRows
from penstock_plugins.postgres.server_errors import (
    CONFLICTS,
    KEY_ERRORS,
    VALUE_ERRORS,
    LockedTableError,
    LostSessionError,
    NotStoredError,
    is_without_partition,
)
from penstock_plugins.postgres.tables import Table
from penstock_plugins.sink_support.unfit import entry_without

if TYPE_CHECKING:
    from penstock_plugins.postgres.target import PostgresTarget

CONFLICT_TRIES = 3


class PostgresWriter:
    """Writes one partition to its tables."""

    def __init__(self, target: "PostgresTarget", tables: Sequence[Table], partition: Partition) -> None:
        self._target = target
        self._database = target.database
        self._partition = partition
        self._session = target.database.opened
        is_merged = tables[0].layout.kind == "changes"
        self._rows = {
            table.layout.stream: NewRows(
                target.database, target.temporary_tables, table, partition, nul=target.nul, last_of_key=is_merged
            )
            for table in tables
        }
        delivery = MergingDelivery if is_merged else ReplacingDelivery
        self._delivery = delivery(target.database, target.ledger, target.source, partition, self._rows)

    @property
    def tables(self) -> list[Table]:
        return [rows.table for rows in self._rows.values()]

    @property
    def _table_names(self) -> list[str]:
        return [table.sql for table in self.tables]

    @property
    def held_bytes(self) -> int:
        """Bytes held in memory."""
        return sum(rows.held_bytes for rows in self._rows.values())

    @property
    def is_small(self) -> bool:
        """Whether its rows are parameters of its statements, so that it can share a transaction with others."""
        return all(rows.small is not None and not rows.unfit for rows in self._rows.values())

    def write(self, batch: Batch) -> None:
        if batch.rows:
            self._rows[batch.layout.stream].add(batch.rows)
            self._target.make_room()

    def spill(self) -> None:
        """Move the held bytes to temporary tables of this partition."""
        self._database.check()
        with self._database.explained():
            self._check_session()
            self._spill()

    def write_in_group(self, entry: LedgerEntry) -> LedgerEntry:
        """Write a small partition and its ledger row inside the transaction of a group."""
        self._check_session()
        self._delivery.prepare(entry)
        return self._delivery.write(entry)

    def commit(self, entry: LedgerEntry, *, session_lost: bool = False) -> LedgerEntry:
        """See :class:`penstock.sinks.CommittingWriter`. ``session_lost``: a group lost it while it committed."""
        try:
            self._target.locked_tables.check(self._table_names)
            try:
                committed = self._commit_in_new_session(entry) if session_lost else self._commit(entry)
            except LostSessionError:
                committed = self._commit_in_new_session(entry)
        except LockedTableError as error:
            raise self._target.locked_tables.add(self._table_names) from error
        finally:
            self.abort()
        self._target.ledger.remember(committed)
        fault_point("postgres.committed")
        return committed

    def abort(self) -> None:
        for rows in self._rows.values():
            rows.discard()
        self._target.drop_writer(self)

    def _commit_in_new_session(self, entry: LedgerEntry) -> LedgerEntry:
        """
        Commit again, in a new session. If the former one was lost during its COMMIT, the ledger shows whether it was
        carried out.
        """
        if self._session == self._database.opened:
            self._database.reopen()
        recorded = self._target.ledger.entry(entry.source, self._partition)
        if (
            recorded is not None
            and (recorded.version, recorded.run_id) == (entry.version + 1, entry.run_id)
            and recorded.delivered
        ):
            return evolve(self._without_omissions(entry), rows=recorded.rows, sums=recorded.sums)
        return self._commit(entry)

    def _check_session(self) -> None:
        """Raises SinkError if rows were in temporary tables of a lost session."""
        if any(rows.session_is_lost for rows in self._rows.values()):
            raise SinkError(
                f"the rows of {self._partition} waited in temporary tables of {self._database.label}, and were lost "
                "with the connection. Nothing was replaced; run again."
            )
        self._session = self._database.opened

    # --- tries ------------------------------------------------------------------------------------------------------

    def _commit(self, entry: LedgerEntry) -> LedgerEntry:
        """Try until the rows are stored. Returns the entry as it was recorded."""
        with self._database.explained():
            self._check_session()
            for rows in self._rows.values():
                if rows.spilled_to is not None:
                    rows.spill()  # those that came since
            conflicts, delete_first = 0, False
            while True:
                try:
                    return self._try(entry, delete_first=delete_first)
                except CONFLICTS:
                    conflicts += 1
                    if conflicts == CONFLICT_TRIES:
                        raise
                except VALUE_ERRORS as error:
                    if is_without_partition(error) or not (self._spill() or self._reject_refused()):
                        raise
                except KEY_ERRORS:
                    if not self._drop_repeats():  # of another unique index of the table
                        if delete_first:
                            raise
                        delete_first = True
                except NotStoredError:
                    if not self._drop_repeats():
                        raise self._not_stored() from None

    def _try(self, entry: LedgerEntry, *, delete_first: bool) -> LedgerEntry:
        """One transaction. Returns the entry as it was recorded."""
        entry = self._without_omissions(entry)
        self._delivery.prepare(entry)
        with self._database.transaction():
            written = self._delivery.write(entry, delete_first=delete_first)
            self._target.tables.check_unchanged(self.tables)
        return written

    def _without_omissions(self, entry: LedgerEntry) -> LedgerEntry:
        """The entry without the rows that were rejected or dropped. Raises SinkError if none is left."""
        omissions = [rows.omissions() for rows in self._rows.values()]
        advice = " If the table has a constraint or a trigger of yours, correct it, and run again."
        return entry_without(entry, omissions, self._delivery.main.table.sql, advice=advice)

    def _spill(self) -> bool:
        """Whether there were rows to spill: the next try may succeed without those that COPY refuses."""
        return sum(rows.spill() for rows in self._rows.values()) > 0

    def _drop_repeats(self) -> bool:
        self._spill()
        return any(rows.drop_repeats() for rows in self._rows.values())

    def _reject_refused(self) -> bool:
        return any(rows.reject_by_halving(self._delivery.rows_to_delete_first(rows)) for rows in self._rows.values())

    def _not_stored(self) -> SinkError:
        names = ", ".join(self._table_names)
        return SinkError(
            f"{names}: the database stored other rows of {self._partition} than were sent, without an error: a "
            "trigger or a rule on the table leaves rows out, or row-level security hides some. Nothing was replaced. "
            "Drop it, or let it pass all rows of penstock, and run again."
        )
