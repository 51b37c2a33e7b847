"""
The writer of one partition: it holds the rows until their commit, also where a session is lost meanwhile.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from attrs import evolve
from penstock import Batch, LedgerEntry, Partition, SinkError, fault_point

from penstock_plugins.postgres.commit_loop import CommitLoop
from penstock_plugins.postgres.delivery import MergingDelivery, ReplacingDelivery
from penstock_plugins.postgres.new_rows import NewRows
from penstock_plugins.postgres.server_errors import HeldTableError, LostSessionError
from penstock_plugins.postgres.tables import Table
from penstock_plugins.sink_support.unfit import entry_without

if TYPE_CHECKING:
    from penstock_plugins.postgres.target import PostgresTarget


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
    def held(self) -> int:
        """Bytes held in memory."""
        return sum(rows.held for rows in self._rows.values())

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
            for rows in self._rows.values():
                rows.format_for_copy()
                if rows.chunks:
                    rows.spill()

    def write_in_group(self, entry: LedgerEntry) -> LedgerEntry:
        """Write a small partition and its ledger row inside the transaction of a group."""
        self._check_session()
        former = self._delivery.find_former(entry)
        return self._delivery.write(entry, former, self._delivery.relations(former))

    def commit(self, entry: LedgerEntry, *, lost: bool = False) -> LedgerEntry:
        """See :class:`penstock.sinks.Writer`. ``lost``: the session was lost while a group committed it."""
        try:
            self._target.tables.check_free(self.tables)
            try:
                committed = self._commit_in_new_session(entry) if lost else self._commit(entry)
            except LostSessionError:
                committed = self._commit_in_new_session(entry)
        except HeldTableError as error:
            raise self._target.tables.hold_back(self.tables) from error
        finally:
            self.abort()
        self._target.ledger.remember(committed)
        fault_point("postgres.committed")
        return committed

    def abort(self) -> None:
        for rows in self._rows.values():
            rows.discard()
        self._target.drop_writer(self)

    def _commit(self, entry: LedgerEntry) -> LedgerEntry:
        with self._database.explained():
            self._check_session()
            return CommitLoop(self._database, self._target.tables, self._delivery).run(entry)

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
            omissions = [rows.omissions() for rows in self._rows.values()]
            return evolve(entry_without(entry, omissions), rows=recorded.rows, sums=recorded.sums)
        return self._commit(entry)

    def _check_session(self) -> None:
        """Raises SinkError if rows were in temporary tables of a lost session."""
        if any(rows.is_lost for rows in self._rows.values()):
            raise SinkError(
                f"the rows of {self._partition} waited in temporary tables of {self._database.label}, and were lost "
                "with the connection. Nothing was replaced; run again."
            )
        self._session = self._database.opened
