"""
The writer of one partition: see :mod:`.sink` for the commit.
"""

# Names in statements come from quoted(), and those of temporary tables from a counter; values are parameters.
# ruff: noqa: S608

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING

from attrs import evolve
from penstock import Batch, LedgerEntry, Partition, SinkError, fault_point
from psycopg import errors

from penstock_plugins.postgres.candidate import STAMPS
from penstock_plugins.postgres.database import (
    HeldTableError,
    LostSessionError,
    columns_sql,
    is_without_partition,
    quoted,
    where_sql,
)
from penstock_plugins.postgres.new_rows import OF_A_ROW, TWICE, NewRows, RefusedError
from penstock_plugins.postgres.replacement import (
    NotStoredError,
    Replacement,
    RowChanges,
    Scope,
    Stage,
    differ,
    insert,
    with_stages,
)
from penstock_plugins.postgres.table_locations import SOURCE_COLUMN
from penstock_plugins.postgres.tables import Table
from penstock_plugins.unfit import Omissions, entry_without

if TYPE_CHECKING:
    from penstock_plugins.postgres.sink import PostgresTarget

# Another session and this one waited for each other, and the server ended this transaction: it can be repeated.
_CONFLICTS = (errors.DeadlockDetected, errors.SerializationFailure)
CONFLICT_TRIES = 3


class PostgresWriter:
    """Writes one partition to its tables."""

    def __init__(self, target: "PostgresTarget", tables: Sequence[Table], partition: Partition) -> None:
        self._target = target
        self._database = target.database
        self._partition = partition
        self._merged = tables[0].layout.kind == "changes"
        self._rows = {table.layout.stream: NewRows(target, table, partition, merged=self._merged) for table in tables}
        self._main = self._rows[partition.stream]
        self._replacing: set[str] = set()  # streams whose table may have rows of the partition
        self._session = target.database.opened
        self._conflicts = 0
        self._in_order = False
        self._former: LedgerEntry | None = None

    @property
    def tables(self) -> list[Table]:
        return [rows.table for rows in self._rows.values()]

    @property
    def held(self) -> int:
        """Bytes held in memory."""
        return sum(rows.held for rows in self._rows.values())

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
                rows.format()
                if rows.chunks:
                    rows.move_to_stage()

    def commit(self, entry: LedgerEntry, *, lost: bool = False) -> LedgerEntry:
        """See :class:`penstock.sinks.Writer`. ``lost``: the session was lost while a group committed it."""
        try:
            self._target.tables.check_free(self.tables)
            try:
                committed = self._commit_in_new_session(entry) if lost else self._commit_with_retries(entry)
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

    # --- a session that was lost ------------------------------------------------------------------------------------

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
            return evolve(entry_without(entry, self._omissions()), rows=recorded.rows, sums=recorded.sums)
        return self._commit_with_retries(entry)

    def _check_session(self) -> None:
        """Raises SinkError if rows were in temporary tables of a lost session."""
        if any(rows.is_lost for rows in self._rows.values()):
            raise SinkError(
                f"the rows of {self._partition} waited in temporary tables of {self._database.label}, and were lost "
                "with the connection. What was there before stays; run again."
            )
        self._session = self._database.opened

    # --- the transaction --------------------------------------------------------------------------------------------

    @property
    def is_small(self) -> bool:
        """Whether its rows are parameters of its statements, so that it can share a transaction with others."""
        return all(rows.small is not None and not rows.unfit for rows in self._rows.values())

    def write_in_group(self, entry: LedgerEntry) -> LedgerEntry:
        """Write a small partition and its ledger row inside the transaction of a group."""
        self._check_session()
        self._find_former(entry)
        return self._write_in_transaction(entry, self._stages())

    def _find_former(self, entry: LedgerEntry) -> None:
        """Find out what the commit replaces: the former reading, and the tables that may have rows of it."""
        self._former = entry.replaces
        if self._former is None and entry.version:
            self._former = self._target.ledger.entry(entry.source, self._partition)
        self._replacing = {stream for stream, rows in self._rows.items() if self._has_rows(rows.table)}

    def _stages(self) -> dict[str, Stage]:
        """Where the new rows of each stream are; nowhere if they are copied directly into a table without any."""
        stages = {
            stream: rows.place(
                f"penstock_new_{number}",
                staged=self._merged or stream in self._replacing or rows.table.altering,
            )
            for number, (stream, rows) in enumerate(self._rows.items())
        }
        return {stream: stage for stream, stage in stages.items() if stage is not None}

    def _write_in_transaction(self, entry: LedgerEntry, stages: Mapping[str, Stage]) -> LedgerEntry:
        fault_point("postgres.begun")
        entry = self._replace(entry, stages)
        self._check_stored(stages)
        fault_point("postgres.written")
        self._target.ledger.deliver(entry)
        fault_point("postgres.recorded")
        return entry

    def _commit_with_retries(self, entry: LedgerEntry) -> LedgerEntry:
        with self._database.explained():
            self._check_session()
            self._find_former(entry)
            self._conflicts = 0
            for rows in self._rows.values():
                if rows.stage is not None and rows.chunks:
                    rows.move_to_stage()
            while True:
                fitting = entry_without(entry, self._omissions())
                self._check_any_fits(fitting)
                stages = self._stages()
                try:
                    with self._database.transaction():
                        written = self._write_in_transaction(fitting, stages)
                        self._target.tables.check_unchanged(self.tables)
                        return written
                except (*_CONFLICTS, RefusedError, NotStoredError, *TWICE, *OF_A_ROW) as error:
                    self._adapt_to(error)

    def _adapt_to(self, error: Exception) -> None:
        """Change what the next try sends, by the first of these means that applies. Raises if none is left."""
        several = self._rows.values()
        if isinstance(error, _CONFLICTS):
            self._conflicts += 1
            if self._conflicts == CONFLICT_TRIES:
                raise error
        elif isinstance(error, RefusedError):
            error.rows.sift(error)
        elif any(rows.format() for rows in several):
            pass  # COPY names the row that is refused
        elif isinstance(error, OF_A_ROW):
            if is_without_partition(error) or not any(
                rows.reject_unfit(self._scope_of_former_rows(rows)) for rows in several
            ):
                raise error
        elif any(rows.drop_repeats() for rows in several):
            pass
        elif isinstance(error, NotStoredError):
            raise self._not_stored() from None
        elif self._in_order:
            raise error
        else:
            self._in_order = True  # another unique index of the table: delete before others are inserted

    def _scope_of_former_rows(self, rows: NewRows) -> Scope | None:
        """The former rows of a table without a key: no statement replaces one by one."""
        return None if self._merged or rows.table.comparable else self._scope(rows.table)

    def _omissions(self) -> list[Omissions]:
        return [rows.omissions() for rows in self._rows.values()]

    def _not_stored(self) -> SinkError:
        names = ", ".join(new.table.sql for new in self._rows.values())
        return SinkError(
            f"{names}: the database stored other rows of {self._partition} than were sent, without an error: a trigger "
            "or a rule on the table leaves rows out, or row-level security hides some. Nothing was replaced. Drop it, "
            "or let it pass all rows of penstock, and run again."
        )

    def _check_any_fits(self, fitting: LedgerEntry) -> None:
        """
        Raises SinkError if the table refuses every record: the fault is the table's, and the partition is not empty.
        """
        new = self._main
        if fitting.rows or not new.unfit:
            return
        first = new.unfit[0].rejected
        raise SinkError(
            f"{new.table.sql} refuses all {len(new.unfit)} records of {self._partition}, the first because "
            f"{first.path}: {first.reason}. The rows delivered before stay. If the table has a constraint or a trigger "
            "of yours, correct it, and run again."
        )

    def _has_rows(self, table: Table) -> bool:
        """
        Whether the partition may have rows in the table. Only this run writes them, so that the result stays valid.
        """
        if self._merged:
            return False
        if self._former is not None and self._former.delivered:
            return True
        scope = self._scope(table)
        return bool(self._database.one(f"select exists (select from {table.sql} o where {scope.where})", scope.values))

    def _scope(self, table: Table) -> Scope:
        """The rows that the partition replaces; for a merged stream those of the source."""
        own = {name: value for name, value in self._partition.values if name in table.types and not self._merged}
        types = table.types
        if table.shared:
            own, types = {SOURCE_COLUMN: self._target.source, **own}, {SOURCE_COLUMN: "text", **types}
        where, values = where_sql(own, types, "o.")
        return Scope(where=where, values=values)

    def _replace(self, entry: LedgerEntry, stages: Mapping[str, Stage]) -> LedgerEntry:
        for stream, new in self._rows.items():
            new.copy(stages[stream].name if stream in stages else new.table.sql)
        if stages and any(new.chunks for new in self._rows.values()):
            fault_point("postgres.staged")
        if self._merged:
            self._merge(stages)
            return entry
        changes = None
        for stream, new in self._rows.items():
            if stream in self._replacing:
                differences = self._differences(new, stages[stream], entry)
                changes = differences if new is self._main else changes
            elif stream in stages and new.count:
                insert(self._database, new.table, stages[stream], new.count)
        return entry if changes is None else evolve(entry, changes=changes)

    def _check_stored(self, stages: Mapping[str, Stage]) -> None:
        """
        Of tables with triggers or rules: raises SinkError if they hold other rows or values than were sent. What these
        do at the end of the transaction is done before.
        """
        altering = [new for new in self._rows.values() if new.table.altering]
        if not altering:
            return
        self._database.run("set constraints all immediate")
        for new in altering:
            is_derived = self._merged and new is not self._main
            scope = self._merge_children(new, stages[self._partition.stream]) if is_derived else self._scope(new.table)
            sent = Replacement(self._database, new.table, stages[new.layout.stream], scope)
            by_key = self._merged and not is_derived
            if not (sent.is_stored_by_key() if by_key else sent.is_stored()):
                raise SinkError(
                    f"{new.table.sql}: a trigger or a rule on the table alters what is sent: it holds other rows or "
                    f"values of {self._partition}. Nothing was replaced. Drop it, or let it leave penstock's columns "
                    "as they are (a column of your own may hold what it computes), and run again."
                )

    # --- changes ----------------------------------------------------------------------------------------------------

    def _merge(self, stages: Mapping[str, Stage]) -> None:
        """Merge the rows of a ``changes`` stream by key, and derived rows by parent."""
        main = stages[self._partition.stream]
        if len(self._rows) > 1:  # derived rows are looked up by their parents
            self._database.run("select set_config('enable_nestloop', 'on', true)")
        for stream, new in self._rows.items():
            if new is not self._main:
                outcome = self._bring_up_to_date(new, stages[stream], self._merge_children(new, main))
                if more := outcome.after - outcome.before:
                    statement = self._target.ledger.merged_sql("%s::bigint")
                    self._database.run(statement, (more, self._target.source, stream))
        self._upsert(self._main, main)

    def _upsert(self, new: NewRows, stage: Stage) -> None:
        table, scope = new.table, self._scope(new.table)
        key, columns = columns_sql(table.unique), columns_sql(table.columns)
        others = [name for name in table.columns if name not in table.key]
        updates = [f"{quoted(name)} = excluded.{quoted(name)}" for name in others]
        updates += [f"{quoted(name)} = excluded.{quoted(name)}" for name in STAMPS]
        equal = " and ".join(f"o.{quoted(name)} = n.{quoted(name)}" for name in table.key)
        expressions, rows = with_stages(stage)
        staged, same, done = self._database.row(
            # Looked up row by row in the index of the key, whatever the statistics say. Null: the key is new.
            f"with {expressions}seen as materialized (select (select not {differ(others, 'o.', 'n.')} "
            f"from {table.sql} o where {scope.where} and {equal} limit 1) as same from {stage.name} n), "
            f"total as ({self._target.ledger.merged_sql('select count(*) from seen where same is null')}), "
            f"done as (insert into {table.sql} as o ({columns}) select {columns} from {stage.name} "
            f"on conflict ({key}) do update set {', '.join(updates)} where {differ(others, 'o.', 'excluded.')} "
            f"returning 1) select (select count(*) from {stage.name}), (select count(*) from seen where same), "
            "(select count(*) from done)",
            [*rows, *scope.values, self._target.source, new.layout.stream],
        )
        if (staged, same + done) != (new.count, new.count):
            raise NotStoredError

    def _merge_children(self, child: NewRows, parents: Stage) -> Scope:
        """The derived rows of the parents in this partition: all of them are replaced."""
        pairs = zip(child.layout.derived_by, self._main.layout.key, strict=True)
        equal = " and ".join(f"o.{quoted(own)} = p.{quoted(theirs)}" for own, theirs in pairs)
        scope = self._scope(child.table)
        where = f"{scope.where} and exists (select from {parents.name} p where {equal})"
        return Scope(where=where, values=scope.values, stages=[parents])

    # --- what changed -----------------------------------------------------------------------------------------------

    def _bring_up_to_date(
        self, new: NewRows, stage: Stage, scope: Scope, compared: Sequence[str] = (), measures: Sequence[str] = ()
    ) -> RowChanges:
        replacement = Replacement(self._database, new.table, stage, scope, measures)
        outcome = replacement.carry_out(compared or new.table.columns, in_order=self._in_order)
        if outcome.after != new.count:
            raise NotStoredError
        return outcome

    def _differences(self, new: NewRows, stage: Stage, entry: LedgerEntry) -> dict[str, int] | None:
        """
        Bring the rows of the partition up to date. For a report: the numbers of added, removed and changed rows, which
        are also written to the ledger's restatements.
        """
        scope = self._scope(new.table)
        if new is not self._main or new.layout.kind != "report":
            self._bring_up_to_date(new, stage, scope)
            return None
        reshaped = self._former is not None and self._former.fingerprint != entry.fingerprint
        compared = self._compared_before(new, new.table.columns if reshaped else new.table.added)
        measures = tuple(name for name in new.layout.measures if name in compared)
        outcome = self._bring_up_to_date(new, stage, scope, compared, measures)
        # A report states the rows of its restatement: an updated one counts if a compared column differs.
        changes = {"came": outcome.inserted, "went": outcome.deleted, "changed": outcome.restated}
        if any(changes.values()):
            before = dict(zip(measures, outcome.sums_before, strict=True))
            after = {**entry.sums, **dict(zip(measures, outcome.sums_after, strict=True))}
            sums = {name: (old, after[name]) for name, old in before.items() if old != after[name]}
            self._target.ledger.restate(entry, (outcome.before, outcome.after), sums, changes)
        return changes

    def _compared_before(self, new: NewRows, doubtful: Collection[str]) -> Sequence[str]:
        """
        The columns without those of ``doubtful`` that are null in every former row: that they have values now is a
        change of the settings or of the record class, not of the provider.
        """
        queried = [name for name in new.table.columns if name in doubtful]
        if not queried:
            return new.table.columns
        scope = self._scope(new.table)
        filled = ", ".join(f"count({quoted(name)}) > 0" for name in queried)
        filled_columns = self._database.row(f"select {filled} from {new.table.sql} o where {scope.where}", scope.values)
        empty = {name for name, any_value in zip(queried, filled_columns, strict=True) if not any_value}
        return [name for name in new.table.columns if name not in empty] or new.table.columns
