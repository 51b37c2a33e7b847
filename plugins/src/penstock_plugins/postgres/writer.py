"""
The writer of one partition: see :mod:`.sink` for the commit.
"""

# Names in statements come from quoted(), and those of temporary tables from a counter; values are parameters.
# ruff: noqa: S608

from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import psycopg
from attrs import define, evolve, field
from penstock import MOST_REJECTED, Batch, Layout, LedgerEntry, Partition, SinkError, fault_point
from psycopg import errors

from penstock_plugins.postgres.candidate import AWARE, STAMPS
from penstock_plugins.postgres.database import (
    HeldTableError,
    LostSessionError,
    columns_sql,
    is_without_partition,
    quoted,
    where_sql,
)
from penstock_plugins.postgres.places import SOURCE_COLUMN
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
from penstock_plugins.postgres.rows import Chunk, CopyFormatter, SmallRows
from penstock_plugins.postgres.tables import Table
from penstock_plugins.unfit import LeftOut, Unfit, without

if TYPE_CHECKING:
    from penstock_plugins.postgres.sink import PostgresTarget

# Errors about a value, not about the server: it cannot be stored (class 22), or is too long for an index.
_OF_A_ROW = (
    psycopg.DataError,
    errors.ProgramLimitExceeded,
    errors.StatementTooComplex,
    errors.NotNullViolation,
    errors.CheckViolation,
)
# Another session and this one waited for each other, and the server ended this transaction: it can be repeated.
_CONFLICTS = (errors.DeadlockDetected, errors.SerializationFailure)
CONFLICT_TRIES = 3
_TWICE = (errors.UniqueViolation, errors.CardinalityViolation)


def _readable(name: str, type_: str) -> str:
    """A column in a form that psycopg can always read: Python has no time before year 1 or after year 9999."""
    return {"jsonb": f"{name}::text", AWARE: f"to_json({name}) #>> '{{}}'"}.get(type_, name)


@define(eq=False, repr=False)
class _Buffer:
    """
    One stream's rows of a partition: those of a small one, or the bytes for COPY, and the temporary table that these
    were moved to.
    """

    table: Table
    formatter: CopyFormatter
    small: SmallRows | None
    chunks: list[Chunk] = field(factory=list)
    stage: str | None = None
    held: int = 0
    staged: int = 0  # rows in ``stage``
    unfit: list[Unfit] = field(factory=list)
    repeated: int = 0  # rows whose key an earlier row has
    replaces_rows: bool = False  # the partition may have rows in the table

    @property
    def layout(self) -> Layout:
        return self.table.layout

    @property
    def rows(self) -> int:
        kept = len(self.small.rows) if self.small is not None else 0
        return kept + self.staged + sum(chunk.rows for chunk in self.chunks)

    def keep(self, rows: Sequence[Any]) -> bool:
        """Hold further rows of a small partition. False if it is not small, or not any more."""
        if self.small is None or not self.small.add(rows):
            return False
        self.held = self.small.size
        return True

    def add(self, chunk: Chunk) -> None:
        if not chunk.rows:
            return
        if self.chunks and self.chunks[-1].columns == chunk.columns:
            last = self.chunks[-1]
            last.blocks += chunk.blocks
            last.rows += chunk.rows
            last.size += chunk.size
        else:
            self.chunks.append(chunk)
        self.held += chunk.size


class _RefusedError(Exception):
    """The server refuses a row of a chunk."""

    def __init__(self, buffer: _Buffer, number: int, error: psycopg.Error) -> None:
        super().__init__(str(error))
        self.buffer, self.number, self.error = buffer, number, error


class PostgresWriter:
    """Writes one partition to its tables."""

    def __init__(self, target: "PostgresTarget", tables: Sequence[Table], partition: Partition) -> None:
        self._target = target
        self._database = target.database
        self._partition = partition
        self._merged = tables[0].layout.kind == "changes"
        self._buffers = {
            table.layout.stream: _Buffer(table, CopyFormatter(target.database, table, target.nul), SmallRows.of(table))
            for table in tables
        }
        self._main = self._buffers[tables[0].layout.stream]
        self._session = target.database.opened
        self._in_order = False
        self._former: LedgerEntry | None = None

    @property
    def tables(self) -> list[Table]:
        return [buffer.table for buffer in self._buffers.values()]

    @property
    def held(self) -> int:
        """Bytes held in memory."""
        return sum(buffer.held for buffer in self._buffers.values())

    def write(self, batch: Batch) -> None:
        if not batch.rows:
            return
        buffer = self._buffers[batch.layout.stream]
        if not buffer.keep(batch.rows):
            self._format(buffer)
            self._add(buffer, batch.rows)
        self._target.make_room()

    def _add(self, buffer: _Buffer, rows: list[Any]) -> None:
        chunk, unfit = buffer.formatter.chunk(rows)
        buffer.add(chunk)
        self._set_aside(buffer, unfit)

    def _format(self, buffer: _Buffer) -> bool:
        """Format the rows of a buffer for COPY; it is small no more. Returns whether it was."""
        small, buffer.small = buffer.small, None
        if small is not None:
            buffer.held = 0
            if small.rows:
                self._add(buffer, small.rows)
        return small is not None

    def spill(self) -> None:
        """Move the held bytes to temporary tables of this partition."""
        self._database.check()
        with self._database.explained():
            for buffer in self._buffers.values():
                self._format(buffer)
                if buffer.chunks:
                    self._stage(buffer)

    def commit(self, entry: LedgerEntry, *, lost: bool = False) -> LedgerEntry:
        """See :class:`penstock.sinks.Writer`. ``lost``: the session was lost while a group committed it."""
        try:
            self._target.tables.check_free(self.tables)
            try:
                committed = self._committed_again(entry) if lost else self._committed(entry)
            except LostSessionError:
                committed = self._committed_again(entry)
        except HeldTableError as error:
            raise self._target.tables.waited_in_vain(self.tables) from error
        finally:
            self.abort()
        fault_point("postgres.committed")
        return committed

    def abort(self) -> None:
        for buffer in self._buffers.values():
            buffer.chunks.clear()
            buffer.small = None
            buffer.held = buffer.staged = 0
            if buffer.stage is not None:
                # A session that is lost has dropped it already.
                if self._session == self._database.opened:
                    with suppress(psycopg.Error):
                        self._database.run(f"drop table if exists {buffer.stage}")
                buffer.stage = None
        self._target.ended(self)

    # --- a session that was lost ------------------------------------------------------------------------------------

    def _committed_again(self, entry: LedgerEntry) -> LedgerEntry:
        """
        Commit again, in a new session. If the former one was lost during its COMMIT, the ledger shows whether it was
        carried out.
        """
        if self._session == self._database.opened:
            self._database.reopen()
        found = self._target.ledger.entry(entry.source, self._partition)
        if found is not None and (found.version, found.run_id) == (entry.version + 1, entry.run_id) and found.delivered:
            return evolve(self._fitting(entry), rows=found.rows, sums=found.sums)
        return self._committed(entry)

    def _check_session(self) -> None:
        """Raises SinkError if rows were in temporary tables of a lost session."""
        if self._session == self._database.opened:
            return
        if any(buffer.stage is not None for buffer in self._buffers.values()):
            raise SinkError(
                f"the rows of {self._partition} waited in temporary tables of {self._database.place}, and were lost "
                "with the connection. What was there before stays; run again."
            )
        self._session = self._database.opened

    # --- temporary tables -------------------------------------------------------------------------------------------

    def _stage(self, buffer: _Buffer) -> None:
        """Move the held bytes into a temporary table; outside of a transaction."""
        self._check_session()
        if buffer.stage is None:
            buffer.stage = self._target.new_stage(buffer.table)
        while buffer.chunks:
            try:
                buffer.staged += self._send(buffer, 0, buffer.stage)
                buffer.chunks.pop(0)
            except _RefusedError as refused:
                self._sift(refused)
        buffer.held = 0
        fault_point("postgres.staged")

    def _send(self, buffer: _Buffer, number: int, into: str) -> int:
        chunk = buffer.chunks[number]
        statement = f"copy {into} ({columns_sql(chunk.columns)}) from stdin (format binary)"
        try:
            stored = self._database.copy(statement, iter(chunk.stream()))
        except _OF_A_ROW as error:
            if into == buffer.table.sql:  # perhaps a constraint, and many such rows: they are looked for by halving
                raise
            raise _RefusedError(buffer, number, error) from error
        if stored != chunk.rows:
            raise NotStoredError
        return stored

    def _sift(self, refused: _RefusedError) -> None:
        """Reject the rows of a chunk that the server refuses. Raises its error if it is not about a row."""
        buffer = refused.buffer
        chunk, unfit = buffer.formatter.sifted(buffer.chunks[refused.number], refused.error)
        buffer.held += chunk.size - buffer.chunks[refused.number].size
        if chunk.rows:
            buffer.chunks[refused.number] = chunk
        else:
            del buffer.chunks[refused.number]
        self._set_aside(buffer, unfit)

    def _set_aside(self, buffer: _Buffer, unfit: Sequence[Unfit]) -> None:
        buffer.unfit += unfit
        if len(buffer.unfit) > MOST_REJECTED:
            first = buffer.unfit[0].rejected
            raise SinkError(
                f"{buffer.table.sql} cannot hold more than {MOST_REJECTED} records of {self._partition}, the first "
                f"because {first.path}: {first.reason}. Nothing was replaced."
            )

    # --- the transaction --------------------------------------------------------------------------------------------

    @property
    def is_small(self) -> bool:
        """Whether its rows are parameters of its statements, so that it can share a transaction with others."""
        return all(buffer.small is not None and not buffer.unfit for buffer in self._buffers.values())

    def write_in_group(self, entry: LedgerEntry) -> LedgerEntry:
        """Write a small partition and its ledger row inside the transaction of a group."""
        self._check_session()
        self._find_former(entry)
        return self._written(entry, self._stages())

    def _find_former(self, entry: LedgerEntry) -> None:
        """Find out what the commit replaces: the former reading, and the tables that may have rows of it."""
        self._former = entry.replaces
        if self._former is None and entry.version:
            self._former = self._target.ledger.entry(entry.source, self._partition)
        for buffer in self._buffers.values():
            buffer.replaces_rows = self._has_rows(buffer)

    def _stages(self) -> dict[str, Stage]:
        """Where the new rows of each stream are; nowhere if they are copied directly into a table without any."""
        stages = {}
        for number, (stream, buffer) in enumerate(self._buffers.items()):
            if buffer.stage is not None:
                stages[stream] = Stage(name=buffer.stage)
            elif buffer.small is not None:
                stages[stream] = buffer.small.stage(f"penstock_new_{number}")
            elif self._merged or buffer.replaces_rows or buffer.table.altering:
                stages[stream] = Stage(name=self._target.shared_stage(buffer.table))
        return stages

    def _written(self, entry: LedgerEntry, stages: Mapping[str, Stage]) -> LedgerEntry:
        fault_point("postgres.begun")
        entry = self._replace(entry, stages)
        self._check_stored(stages)
        fault_point("postgres.written")
        self._target.ledger.deliver(entry)
        fault_point("postgres.recorded")
        return entry

    def _committed(self, entry: LedgerEntry) -> LedgerEntry:
        with self._database.explained():
            self._check_session()
            self._find_former(entry)
            for buffer in self._buffers.values():
                if buffer.stage is not None and buffer.chunks:
                    self._stage(buffer)
            tries = 0
            while True:
                fitting = self._fitting(entry)
                self._check_any_fits(fitting)
                stages = self._stages()
                try:
                    with self._database.transaction():
                        written = self._written(fitting, stages)
                        self._target.tables.check_unchanged(self.tables)
                        return written
                except _CONFLICTS:
                    tries += 1
                    if tries == CONFLICT_TRIES:
                        raise
                except _RefusedError as refused:
                    self._sift(refused)
                except (NotStoredError, *_TWICE, *_OF_A_ROW) as error:
                    if any(self._format(buffer) for buffer in self._buffers.values()):
                        continue  # COPY names the row that is refused
                    self._correct(error)

    def _correct(self, error: Exception) -> None:
        """Take out the rows that the table refuses. Raises ``error`` if another try would be in vain."""
        if isinstance(error, _OF_A_ROW):
            if is_without_partition(error) or not self._without_unfit():
                raise error
        elif not self._without_repeats():
            if isinstance(error, NotStoredError):
                raise self._not_stored() from None
            if self._in_order:
                raise error
            self._in_order = True

    def _not_stored(self) -> SinkError:
        names = ", ".join(buffer.table.sql for buffer in self._buffers.values())
        return SinkError(
            f"{names}: the database stored other rows of {self._partition} than were sent, without an error: a trigger "
            "or a rule on the table leaves rows out, or row-level security hides some. Nothing was replaced. Drop it, "
            "or let it pass all rows of penstock, and run again."
        )

    def _check_any_fits(self, fitting: LedgerEntry) -> None:
        """
        Raises SinkError if the table refuses every record: the fault is the table's, and the partition is not empty.
        """
        buffer = self._main
        if fitting.rows or not buffer.unfit:
            return
        first = buffer.unfit[0].rejected
        raise SinkError(
            f"{buffer.table.sql} refuses all {len(buffer.unfit)} records of {self._partition}, the first because "
            f"{first.path}: {first.reason}. The rows delivered before stay. If the table has a constraint or a trigger "
            "of yours, correct it, and run again."
        )

    def _has_rows(self, buffer: _Buffer) -> bool:
        """
        Whether the partition may have rows in the table. Only this run writes them, so that the result stays valid.
        """
        if self._merged:
            return False
        if self._former is not None and self._former.delivered:
            return True
        scope = self._scope(buffer)
        return bool(
            self._database.one(f"select exists (select from {buffer.table.sql} o where {scope.where})", scope.values)
        )

    def _scope(self, buffer: _Buffer) -> Scope:
        """The rows that the partition replaces; for a merged stream those of the source."""
        own = {name: value for name, value in self._partition.values if name in buffer.table.types and not self._merged}
        types = buffer.table.types
        if buffer.table.shared:
            own, types = {SOURCE_COLUMN: self._target.source, **own}, {SOURCE_COLUMN: "text", **types}
        where, values = where_sql(own, types, "o.")
        return Scope(where=where, values=values)

    def _replace(self, entry: LedgerEntry, stages: Mapping[str, Stage]) -> LedgerEntry:
        for stream, buffer in self._buffers.items():
            for number in range(len(buffer.chunks)):
                self._send(buffer, number, stages[stream].name if stream in stages else buffer.table.sql)
        if stages and any(buffer.chunks for buffer in self._buffers.values()):
            fault_point("postgres.staged")
        if self._merged:
            self._merge(stages)
            return entry
        changes = None
        for stream, buffer in self._buffers.items():
            if buffer.replaces_rows:
                found = self._differences(buffer, stages[stream], entry)
                changes = found if buffer is self._main else changes
            elif stream in stages and buffer.rows:
                insert(self._database, buffer.table, stages[stream], buffer.rows)
        return entry if changes is None else evolve(entry, changes=changes)

    def _check_stored(self, stages: Mapping[str, Stage]) -> None:
        """
        Of tables with triggers or rules: raises SinkError if they hold other rows or values than were sent. What these
        do at the end of the transaction is done before.
        """
        altering = [buffer for buffer in self._buffers.values() if buffer.table.altering]
        if not altering:
            return
        self._database.run("set constraints all immediate")
        for buffer in altering:
            is_derived = self._merged and buffer is not self._main
            scope = self._children(buffer, stages[self._partition.stream]) if is_derived else self._scope(buffer)
            sent = Replacement(self._database, buffer.table, stages[buffer.layout.stream], scope)
            by_key = self._merged and not is_derived
            if not (sent.is_stored_by_key() if by_key else sent.is_stored()):
                raise SinkError(
                    f"{buffer.table.sql}: a trigger or a rule on the table alters what is sent: it holds other rows or "
                    f"values of {self._partition}. Nothing was replaced. Drop it, or let it leave penstock's columns "
                    "as they are (a column of your own may hold what it computes), and run again."
                )

    # --- changes ----------------------------------------------------------------------------------------------------

    def _merge(self, stages: Mapping[str, Stage]) -> None:
        """Merge the rows of a ``changes`` stream by key, and derived rows by parent."""
        main = stages[self._partition.stream]
        if len(self._buffers) > 1:  # derived rows are looked up by their parents
            self._database.run("select set_config('enable_nestloop', 'on', true)")
        for stream, buffer in self._buffers.items():
            if buffer is not self._main:
                found = self._bring_up_to_date(buffer, stages[stream], self._children(buffer, main))
                if more := found.after - found.before:
                    statement = self._target.ledger.merged_sql("%s::bigint")
                    self._database.run(statement, (more, self._target.source, stream))
        self._upsert(self._main, main)

    def _upsert(self, buffer: _Buffer, stage: Stage) -> None:
        table, scope = buffer.table, self._scope(buffer)
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
            [*rows, *scope.values, self._target.source, buffer.layout.stream],
        )
        if (staged, same + done) != (buffer.rows, buffer.rows):
            raise NotStoredError

    def _children(self, child: _Buffer, parents: Stage) -> Scope:
        """The derived rows of the parents in this partition: all of them are replaced."""
        pairs = zip(child.layout.derived_by, self._main.layout.key, strict=True)
        equal = " and ".join(f"o.{quoted(own)} = p.{quoted(theirs)}" for own, theirs in pairs)
        scope = self._scope(child)
        where = f"{scope.where} and exists (select from {parents.name} p where {equal})"
        return Scope(where=where, values=scope.values, stages=[parents])

    # --- what changed -----------------------------------------------------------------------------------------------

    def _bring_up_to_date(
        self, buffer: _Buffer, stage: Stage, scope: Scope, compared: Sequence[str] = (), measures: Sequence[str] = ()
    ) -> RowChanges:
        replacement = Replacement(self._database, buffer.table, stage, scope, measures)
        found = replacement.carry_out(compared or buffer.table.columns, in_order=self._in_order)
        if found.after != buffer.rows:
            raise NotStoredError
        return found

    def _differences(self, buffer: _Buffer, stage: Stage, entry: LedgerEntry) -> dict[str, int] | None:
        """
        Bring the rows of the partition up to date. For a report: the numbers of added, removed and changed rows, which
        are also written to the ledger's restatements.
        """
        scope = self._scope(buffer)
        if buffer is not self._main or buffer.layout.kind != "report":
            self._bring_up_to_date(buffer, stage, scope)
            return None
        reshaped = self._former is not None and self._former.fingerprint != entry.fingerprint
        compared = self._compared_before(buffer, buffer.table.columns if reshaped else buffer.table.added)
        measures = tuple(name for name in buffer.layout.measures if name in compared)
        found = self._bring_up_to_date(buffer, stage, scope, compared, measures)
        # A report states the rows of its restatement: an updated one counts if a compared column differs.
        changes = {"came": found.inserted, "went": found.deleted, "changed": found.restated}
        if any(changes.values()):
            before = dict(zip(measures, found.sums_before, strict=True))
            after = {**entry.sums, **dict(zip(measures, found.sums_after, strict=True))}
            sums = {name: (old, after[name]) for name, old in before.items() if old != after[name]}
            self._target.ledger.restate(entry, (found.before, found.after), sums, changes)
        return changes

    def _compared_before(self, buffer: _Buffer, doubtful: Collection[str]) -> Sequence[str]:
        """
        The columns without those of ``doubtful`` that are null in every former row: that they have values now is a
        change of the settings or of the record class, not of the provider.
        """
        queried = [name for name in buffer.table.columns if name in doubtful]
        if not queried:
            return buffer.table.columns
        scope = self._scope(buffer)
        filled = ", ".join(f"count({quoted(name)}) > 0" for name in queried)
        found = self._database.row(f"select {filled} from {buffer.table.sql} o where {scope.where}", scope.values)
        empty = {name for name, any_value in zip(queried, found, strict=True) if not any_value}
        return [name for name in buffer.table.columns if name not in empty] or buffer.table.columns

    # --- rows that do not fit ---------------------------------------------------------------------------------------

    def _fitting(self, entry: LedgerEntry) -> LedgerEntry:
        """The entry without the rows that were rejected or dropped here."""
        left_out = [LeftOut(one.layout, one.unfit, one.repeated, self._sums(one)) for one in self._buffers.values()]
        return without(entry, left_out)

    def _sums(self, buffer: _Buffer) -> dict[str, Decimal] | None:
        """The sums of the rows that are left, where some were dropped; else None."""
        if not buffer.repeated or buffer.stage is None or not buffer.layout.measures:
            return None
        total = ", ".join(f"coalesce(sum({quoted(name)}), 0)" for name in buffer.layout.measures)
        found = self._database.row(f"select {total} from {buffer.stage}")
        return {name: Decimal(value) for name, value in zip(buffer.layout.measures, found, strict=True)}

    def _without_repeats(self) -> bool:
        """
        Drop all but one row of each key: the last for ``changes``, else the first, as on a page. Returns whether any
        were dropped.
        """
        found = 0
        for buffer in self._buffers.values():
            if not buffer.table.key:
                continue
            self._stage(buffer)
            same = " and ".join(f"a.{quoted(name)} = b.{quoted(name)}" for name in buffer.table.key)
            # In a temporary table without deletes, rows are in the order of their insertion.
            repeated = self._database.run(
                f"delete from {buffer.stage} a using (select {columns_sql(buffer.table.key)}, "
                f"{'max' if self._merged else 'min'}(ctid) as kept from {buffer.stage} "
                f"group by {columns_sql(buffer.table.key)} having count(*) > 1) b where {same} and a.ctid <> b.kept"
            ).rowcount
            found += repeated
            buffer.staged -= repeated
            if not self._merged:
                buffer.repeated += repeated
        return found > 0

    def _without_unfit(self) -> bool:
        """
        Reject the rows that the table refuses, found by halving. Returns whether another try may succeed.
        """
        found = False
        for buffer in self._buffers.values():
            known = len(buffer.unfit)
            found = found or bool(buffer.chunks)  # on its way into the temporary table each is looked at
            self._stage(buffer)
            places = [row[0] for row in self._database.run(f"select ctid::text from {buffer.stage}").fetchall()]
            with self._database.connection.transaction(force_rollback=True):
                if not self._merged and not buffer.table.comparable:
                    scope = self._scope(buffer)
                    self._database.run(f"delete from {buffer.table.sql} o where {scope.where}", scope.values)
                bad = self._refused(buffer, places)
            for place, reason in bad:
                listed = ", ".join(_readable(quoted(name), type_) for name, type_ in buffer.table.types.items())
                row = self._database.row(
                    f"delete from {buffer.stage} where ctid = %s::tid returning {listed}", (place,)
                )
                buffer.staged -= 1
                self._set_aside(buffer, [buffer.formatter.refused(row, reason)])
            found = found or len(buffer.unfit) > known
        return found

    def _refused(self, buffer: _Buffer, places: Sequence[str]) -> list[tuple[str, str]]:
        """The rows of the temporary table that cannot be stored, each with the reason."""
        if not places:
            return []
        table, columns = buffer.table, columns_sql(buffer.table.columns)
        statement = f"insert into {table.sql} ({columns}) select {columns} from {buffer.stage} where ctid in (%s)"
        if table.comparable:
            updates = ", ".join(f"{quoted(name)} = excluded.{quoted(name)}" for name in table.columns)
            statement += f" on conflict ({columns_sql(table.unique)}) do update set {updates}"
        try:
            with self._database.connection.transaction(force_rollback=True):
                self._database.run(statement.replace("%s", ", ".join(f"'{place}'" for place in places)))
        except (*_TWICE, *_OF_A_ROW) as error:
            if len(places) == 1:
                return [(places[0], error.diag.message_primary or str(error))]
            middle = len(places) // 2
            return [*self._refused(buffer, places[:middle]), *self._refused(buffer, places[middle:])]
        return []
