"""
The rows of one stream of a partition, on their way to its table.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from decimal import Decimal
from typing import Any, TypeVar

import psycopg
from penstock import Layout, Partition, fault_point

from penstock_plugins.postgres.column_types import AWARE
from penstock_plugins.postgres.database import Database
from penstock_plugins.postgres.replacement import NewRowsRelation, Scope
from penstock_plugins.postgres.rows import Chunk, CopyFormatter, Nul, SmallRows
from penstock_plugins.postgres.server_errors import KEY_ERRORS, VALUE_ERRORS, NotStoredError
from penstock_plugins.postgres.sql_text import columns_sql, equal, quoted
from penstock_plugins.postgres.tables import Table
from penstock_plugins.sink_support.unfit import Omissions, Unfit, check_number

Row = TypeVar("Row")


class TemporaryTables:
    """Makes temporary tables with the columns of a table, under names that are used once."""

    def __init__(self, database: Database) -> None:
        self.made = 0  # their number
        self._database = database
        self._shared: dict[tuple[int, str, tuple[str, ...]], str] = {}

    def make(self, table: Table, *, per_commit: bool = False) -> str:
        """The name of a new one. ``per_commit``: each commit empties it."""
        self.made += 1
        name = f"pg_temp.penstock_rows_{self.made}"
        rows = f"select {columns_sql(table.columns)} from {table.sql} with no data"
        on_commit = " on commit delete rows" if per_commit else ""
        self._database.run(f"create temporary table {name}{on_commit} as {rows}")
        return name

    def shared(self, table: Table) -> str:
        """
        The name of one for one partition after the other, made once per session and table. Each commit empties it. A
        temporary table per partition would bloat the catalog, and cost more than a small partition.
        """
        key = (self._database.opened, table.sql, table.columns)
        if key not in self._shared:
            self._shared[key] = self.make(table, per_commit=True)
        return self._shared[key]


class NewRows:
    """
    The rows of one stream of a partition, until its commit, in one of three forms:

    1. a parameter of the statements (``small``);
    2. if they are too many for that, bytes for COPY (``chunks``);
    3. if they are too many for the memory, or the server refuses one of them, a temporary table of their own
       (``spilled_to``). Only then are rows rejected that the server refuses (``unfit``), and repeats of a key dropped.
    """

    def __init__(
        self,
        database: Database,
        temporary_tables: TemporaryTables,
        table: Table,
        partition: Partition,
        *,
        nul: Nul,
        last_of_key: bool,
    ) -> None:
        """``last_of_key``: of rows that repeat a key, the last one is kept, and the first one otherwise."""
        self.table = table
        self.small: SmallRows | None = SmallRows.of(table)
        self.chunks: list[Chunk] = []
        self.spilled_to: str | None = None
        self.held_bytes = 0  # in memory
        self.unfit: list[Unfit] = []
        self._spilled = 0  # rows in ``spilled_to``
        self._repeated = 0  # rows that were dropped
        self._database = database
        self._temporary_tables = temporary_tables
        self._session = 0  # the one in which ``spilled_to`` was made
        self._partition = partition
        self._last_of_key = last_of_key
        self._formatter = CopyFormatter(table, nul)

    @property
    def layout(self) -> Layout:
        return self.table.layout

    @property
    def count(self) -> int:
        """The number of rows."""
        small = len(self.small.rows) if self.small is not None else 0
        return small + self._spilled + sum(chunk.rows for chunk in self.chunks)

    def add(self, rows: list[Any]) -> None:
        if self.small is not None and self.small.add(rows):
            self.held_bytes = self.small.size
        else:
            self._format_for_copy()
            self._add_chunk(rows)

    def _add_chunk(self, rows: list[Any]) -> None:
        chunk, unfit = self._formatter.chunk(rows)
        if chunk.rows:
            if self.chunks and self.chunks[-1].columns == chunk.columns:
                self.chunks[-1].extend(chunk)
            else:
                self.chunks.append(chunk)
            self.held_bytes += chunk.size
        self._reject(unfit)

    def _format_for_copy(self) -> None:
        """Encode small rows for COPY; they are small no more."""
        small, self.small = self.small, None
        if small is not None:
            self.held_bytes = 0
            if small.rows:
                self._add_chunk(small.rows)

    def discard(self) -> None:
        self.chunks.clear()
        self.small = None
        self.held_bytes = self._spilled = 0
        if self.spilled_to is not None and not self.session_is_lost:
            with suppress(psycopg.Error):
                self._database.run(f"drop table if exists {self.spilled_to}")
        self.spilled_to = None

    # --- into a table -----------------------------------------------------------------------------------------------

    @property
    def session_is_lost(self) -> bool:
        """Whether rows were in a temporary table of a session that is lost."""
        return self.spilled_to is not None and self._session != self._database.opened

    def relation(self, name: str, *, copied_directly: bool) -> NewRowsRelation | None:
        """
        What statements read the rows from: their parameter under ``name``, or a temporary table. None, if chunks are
        to be copied directly into the table.
        """
        if self.spilled_to is not None:
            return NewRowsRelation(name=self.spilled_to)
        if self.small is not None:
            return self.small.relation(name)
        return None if copied_directly else NewRowsRelation(name=self._temporary_tables.shared(self.table))

    def copy_into(self, relation: NewRowsRelation | None) -> None:
        """
        Copy the chunks into the temporary table that statements read them from; None: directly into the table. Inside
        a transaction. Raises NotStoredError, and the errors of psycopg.
        """
        for chunk in self.chunks:
            self._copy(chunk, self.table.sql if relation is None else relation.name)

    def spill(self) -> bool:
        """
        Move the rows into a temporary table of their own, outside of a transaction, and reject those that COPY refuses.
        Returns whether there were any to move.
        """
        if not self.chunks and (self.small is None or not self.small.rows):
            return False
        self._format_for_copy()
        if self.spilled_to is None:
            self.spilled_to, self._session = self._temporary_tables.make(self.table), self._database.opened
        while self.chunks:
            self._copy_or_reject(self.chunks[0], self.spilled_to)
            self.chunks.pop(0)  # not before: where another partition needs the memory, these rows outlive an error
        self.held_bytes = 0
        fault_point("postgres.staged")
        return True

    def _copy_or_reject(self, chunk: Chunk, into: str) -> None:
        """
        Copy a chunk into a temporary table, but for the rows that the server refuses, which are rejected. No row is
        copied where another error is raised.
        """
        try:
            self._spilled += self._copy(chunk, into)
        except VALUE_ERRORS:
            lines, unfit = self._formatter.without_nul(chunk)
            copied = 0

            def copy(blocks: Sequence[bytes]) -> None:
                nonlocal copied
                with self._database.connection.transaction():
                    copied += self._copy(Chunk.of(chunk.columns, blocks), into)

            with self._database.transaction():
                for line, error in _refused_by_halving(lines, copy, VALUE_ERRORS):
                    unfit.append(self._formatter.refused_by_copy(chunk.columns, line, error))
            self._spilled += copied
            self._reject(unfit)

    def _copy(self, chunk: Chunk, into: str) -> int:
        statement = f"copy {into} ({columns_sql(chunk.columns)}) from stdin (format csv, null 'null')"
        stored = self._database.copy(statement, chunk.stream())
        if stored != chunk.rows:
            raise NotStoredError
        return stored

    # --- rows that are rejected or dropped --------------------------------------------------------------------------

    def omissions(self) -> Omissions:
        """What was rejected or dropped."""
        return Omissions(self.layout, self.unfit, self._repeated, self._sums())

    def _sums(self) -> dict[str, Decimal] | None:
        """The sums of the rows that are left, where some were dropped; else None."""
        if not self._repeated or self.spilled_to is None:
            return None
        total = ", ".join(["count(*)", *(f"coalesce(sum({quoted(name)}), 0)" for name in self.layout.measures)])
        _, *totals = self._database.row(f"select {total} from {self.spilled_to}")
        sums = {name: Decimal(value) for name, value in zip(self.layout.measures, totals, strict=True)}
        for column in self.layout.priced:
            unit = f"coalesce({quoted(column.unit_of)}, '')"
            total = f"select {unit}, coalesce(sum({quoted(column.name)}), 0) from {self.spilled_to} group by 1"
            sums |= {f"{column.name}[{code}]": Decimal(value) for code, value in self._database.run(total)}
        return sums

    def _reject(self, unfit: Sequence[Unfit]) -> None:
        self.unfit += unfit
        check_number(self.unfit, self.table.sql, f"{self._partition}")

    def drop_repeats(self) -> bool:
        """
        Drop all spilled rows but one of each key: the last for ``changes``, else the first, as on a page. Returns
        whether any were dropped.
        """
        if not self.table.key or self.spilled_to is None:
            return False
        key = columns_sql(self.table.key)
        # In a temporary table without deletes, rows are in the order of their insertion.
        repeated = self._database.run(
            f"""
            delete from {self.spilled_to} as one using (
                select {key}, {"max" if self._last_of_key else "min"}(ctid) as row_id from {self.spilled_to}
                group by {key} having count(*) > 1
            ) as kept
            where {equal(self.table.key, "one", "kept")} and one.ctid <> kept.row_id
            """
        ).rowcount
        self._spilled -= repeated
        if not self._last_of_key:
            self._repeated += repeated
        return repeated > 0

    def reject_by_halving(self, first_deleted: Scope | None) -> bool:
        """
        Reject the spilled rows that the table refuses; they are found by halving. ``first_deleted``: the rows of the
        table that are deleted for these tries, since they have no key. Returns whether any were rejected.
        """
        if self.spilled_to is None:
            return False
        row_ids = [row_id for (row_id,) in self._database.run(f"select ctid::text from {self.spilled_to}")]
        with self._database.connection.transaction(force_rollback=True):
            if first_deleted is not None:
                delete = f"delete from {self.table.sql} as old where {first_deleted.where}"
                self._database.run(delete, first_deleted.values)
            refused = list(_refused_by_halving(row_ids, self._try_to_insert, (*KEY_ERRORS, *VALUE_ERRORS)))
        listed = ", ".join(_readable(quoted(name), type_) for name, type_ in self.table.types.items())
        for row_id, error in refused:
            delete = f"delete from {self.spilled_to} where ctid = %s::tid returning {listed}"
            row = self._database.row(delete, (row_id,))
            self._spilled -= 1
            self._reject([self._formatter.refused(row, error.diag.message_primary or str(error))])
        return bool(refused)

    def _try_to_insert(self, row_ids: Sequence[str]) -> None:
        """Store these rows of the temporary table, in place of those with the same key, and take it back."""
        table, columns = self.table, columns_sql(self.table.columns)
        listed = ", ".join(f"'{row_id}'" for row_id in row_ids)
        updates = ", ".join(f"{quoted(name)} = excluded.{quoted(name)}" for name in table.columns)
        conflict = f"on conflict ({columns_sql(table.unique)}) do update set {updates}" if table.comparable else ""
        with self._database.connection.transaction(force_rollback=True):
            self._database.run(
                f"""
                insert into {table.sql} ({columns}) select {columns} from {self.spilled_to} where ctid in ({listed})
                {conflict}"""
            )


def _refused_by_halving(
    rows: Sequence[Row], store: Callable[[Sequence[Row]], None], refusals: tuple[type[psycopg.Error], ...]
) -> Iterator[tuple[Row, psycopg.Error]]:
    """The rows for which ``store`` raises one of these errors, each with its error; all others are stored, once."""
    if not rows:
        return
    try:
        store(rows)
    except refusals as error:
        middle = len(rows) // 2
        if middle:
            yield from _refused_by_halving(rows[:middle], store, refusals)
            yield from _refused_by_halving(rows[middle:], store, refusals)
        else:
            yield rows[0], error


def _readable(name: str, type_: str) -> str:
    """A column in a form that psycopg can always read: Python has no time before year 1 or after year 9999."""
    return {"jsonb": f"{name}::text", AWARE: f"to_json({name}) #>> '{{}}'"}.get(type_, name)
