"""
The rows of one stream of a partition, on their way to its table.
"""

# Names in statements come from quoted(), and those of temporary tables from a counter; values are parameters.
# ruff: noqa: S608

from collections.abc import Sequence
from contextlib import suppress
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import psycopg
from penstock import MOST_REJECTED, Layout, Partition, SinkError, fault_point
from psycopg import errors

from penstock_plugins.postgres.candidate import AWARE
from penstock_plugins.postgres.database import columns_sql, quoted
from penstock_plugins.postgres.replacement import NotStoredError, Scope, Stage
from penstock_plugins.postgres.rows import Chunk, CopyFormatter, SmallRows
from penstock_plugins.postgres.tables import Table
from penstock_plugins.unfit import Omissions, Unfit

if TYPE_CHECKING:
    from penstock_plugins.postgres.sink import PostgresTarget

# Errors about a value, not about the server: it cannot be stored (class 22), or is too long for an index.
OF_A_ROW = (
    psycopg.DataError,
    errors.ProgramLimitExceeded,
    errors.StatementTooComplex,
    errors.NotNullViolation,
    errors.CheckViolation,
)
# A key is there twice.
TWICE = (errors.UniqueViolation, errors.CardinalityViolation)


class RefusedError(Exception):
    """The server refuses a row of a chunk on its way into a temporary table."""

    def __init__(self, rows: "NewRows", number: int, error: psycopg.Error) -> None:
        super().__init__(str(error))
        self.rows, self.number, self.error = rows, number, error


class NewRows:
    """
    The rows are at first a parameter of the statements (``small``). Too many for that, they are encoded for COPY, in
    ``chunks`` of bytes; too many for the memory, moved into a temporary table of their own (``stage``). All three have
    the same rows in the end: what the table cannot hold is rejected (``unfit``), a key that comes again is dropped.
    """

    def __init__(self, target: "PostgresTarget", table: Table, partition: Partition, *, merged: bool) -> None:
        self.table = table
        self.small: SmallRows | None = SmallRows.of(table)
        self.chunks: list[Chunk] = []
        self.stage: str | None = None
        self.held = 0  # bytes in memory
        self.unfit: list[Unfit] = []
        self._staged = 0  # rows in ``stage``
        self._repeated = 0  # rows that were dropped
        self._target = target
        self._database = target.database
        self._session = 0  # the one in which ``stage`` was made
        self._partition = partition
        self._merged = merged  # with rows of a ``changes`` stream
        self._formatter = CopyFormatter(table, target.nul)

    @property
    def layout(self) -> Layout:
        return self.table.layout

    @property
    def count(self) -> int:
        """The number of rows."""
        small = len(self.small.rows) if self.small is not None else 0
        return small + self._staged + sum(chunk.rows for chunk in self.chunks)

    def add(self, rows: list[Any]) -> None:
        if self.small is not None and self.small.add(rows):
            self.held = self.small.size
        else:
            self.format()
            self._add(rows)

    def _add(self, rows: list[Any]) -> None:
        chunk, unfit = self._formatter.chunk(rows)
        if chunk.rows:
            if self.chunks and self.chunks[-1].columns == chunk.columns:
                last = self.chunks[-1]
                last.blocks += chunk.blocks
                last.rows += chunk.rows
                last.size += chunk.size
            else:
                self.chunks.append(chunk)
            self.held += chunk.size
        self._reject(unfit)

    def format(self) -> bool:
        """Format small rows for COPY; they are small no more. Returns whether they were."""
        small, self.small = self.small, None
        if small is not None:
            self.held = 0
            if small.rows:
                self._add(small.rows)
        return small is not None

    def discard(self) -> None:
        self.chunks.clear()
        self.small = None
        self.held = self._staged = 0
        if self.stage is not None and not self.is_lost:
            with suppress(psycopg.Error):
                self._database.run(f"drop table if exists {self.stage}")
        self.stage = None

    # --- temporary tables -------------------------------------------------------------------------------------------

    @property
    def is_lost(self) -> bool:
        """Whether rows were in a temporary table of a session that is lost."""
        return self.stage is not None and self._session != self._database.opened

    def place(self, name: str, *, staged: bool) -> Stage | None:
        """
        Where statements read the rows: as their parameter under ``name``, or in a temporary table. None, if ``staged``
        is false: nowhere, since they are copied directly into a table.
        """
        if self.stage is not None:
            return Stage(name=self.stage)
        if self.small is not None:
            return self.small.stage(name)
        return Stage(name=self._target.shared_stage(self.table)) if staged else None

    def copy(self, into: str) -> None:
        """Copy what is held, inside a transaction."""
        for number in range(len(self.chunks)):
            self._copy(number, into)

    def move_to_stage(self) -> None:
        """Move what is held into a temporary table, outside of a transaction."""
        if self.stage is None:
            self.stage, self._session = self._target.new_stage(self.table), self._database.opened
        while self.chunks:
            try:
                self._staged += self._copy(0, self.stage)
                self.chunks.pop(0)
            except RefusedError as refused:
                self.sift(refused)
        self.held = 0
        fault_point("postgres.staged")

    def _copy(self, number: int, into: str) -> int:
        chunk = self.chunks[number]
        statement = f"copy {into} ({columns_sql(chunk.columns)}) from stdin (format csv, header, null 'null')"
        try:
            stored = self._database.copy(statement, chunk.stream())
        except OF_A_ROW as error:
            if into == self.table.sql:  # perhaps a constraint, and many such rows: they are looked for by halving
                raise
            raise RefusedError(self, number, error) from error
        if stored != chunk.rows:
            raise NotStoredError
        return stored

    # --- rows that do not fit ---------------------------------------------------------------------------------------

    def omissions(self) -> Omissions:
        """What was rejected or dropped."""
        return Omissions(self.layout, self.unfit, self._repeated, self._sums())

    def _sums(self) -> dict[str, Decimal] | None:
        """The sums of the rows that are left, where some were dropped; else None."""
        if not self._repeated or self.stage is None or not self.layout.measures:
            return None
        total = ", ".join(f"coalesce(sum({quoted(name)}), 0)" for name in self.layout.measures)
        totals = self._database.row(f"select {total} from {self.stage}")
        return {name: Decimal(value) for name, value in zip(self.layout.measures, totals, strict=True)}

    def _reject(self, unfit: Sequence[Unfit]) -> None:
        self.unfit += unfit
        if len(self.unfit) > MOST_REJECTED:
            first = self.unfit[0].rejected
            raise SinkError(
                f"{self.table.sql} cannot hold more than {MOST_REJECTED} records of {self._partition}, the first "
                f"because {first.path}: {first.reason}. Nothing was replaced."
            )

    def sift(self, refused: RefusedError) -> None:
        """Reject the rows of a chunk that the server refuses. Raises its error if it is not about a row."""
        chunk, unfit = self._formatter.sifted(self.chunks[refused.number], refused.error)
        self.held += chunk.size - self.chunks[refused.number].size
        if chunk.rows:
            self.chunks[refused.number] = chunk
        else:
            del self.chunks[refused.number]
        self._reject(unfit)

    def drop_repeats(self) -> bool:
        """
        Drop all but one row of each key: the last for ``changes``, else the first, as on a page. Returns whether any
        were dropped.
        """
        if not self.table.key:
            return False
        self.move_to_stage()
        same = " and ".join(f"a.{quoted(name)} = b.{quoted(name)}" for name in self.table.key)
        # In a temporary table without deletes, rows are in the order of their insertion.
        repeated = self._database.run(
            f"delete from {self.stage} a using (select {columns_sql(self.table.key)}, "
            f"{'max' if self._merged else 'min'}(ctid) as kept from {self.stage} "
            f"group by {columns_sql(self.table.key)} having count(*) > 1) b where {same} and a.ctid <> b.kept"
        ).rowcount
        self._staged -= repeated
        if not self._merged:
            self._repeated += repeated
        return repeated > 0

    def reject_unfit(self, replaced: Scope | None) -> bool:
        """
        Reject the rows that the table refuses, found by halving. ``replaced``: the rows of the table that must be out
        of the way, since they have no key. Returns whether another try may succeed.
        """
        known, formatted = len(self.unfit), bool(self.chunks)
        self.move_to_stage()  # which rejects rows of the formatted ones
        places = [row[0] for row in self._database.run(f"select ctid::text from {self.stage}").fetchall()]
        with self._database.connection.transaction(force_rollback=True):
            if replaced is not None:
                self._database.run(f"delete from {self.table.sql} o where {replaced.where}", replaced.values)
            bad = self._refused_rows(places)
        for place, reason in bad:
            listed = ", ".join(_readable(quoted(name), type_) for name, type_ in self.table.types.items())
            row = self._database.row(f"delete from {self.stage} where ctid = %s::tid returning {listed}", (place,))
            self._staged -= 1
            self._reject([self._formatter.refused(row, reason)])
        return formatted or len(self.unfit) > known

    def _refused_rows(self, places: Sequence[str]) -> list[tuple[str, str]]:
        """The rows of the temporary table that cannot be stored, each with the reason."""
        if not places:
            return []
        table, columns = self.table, columns_sql(self.table.columns)
        statement = f"insert into {table.sql} ({columns}) select {columns} from {self.stage} where ctid in (%s)"
        if table.comparable:
            updates = ", ".join(f"{quoted(name)} = excluded.{quoted(name)}" for name in table.columns)
            statement += f" on conflict ({columns_sql(table.unique)}) do update set {updates}"
        try:
            with self._database.connection.transaction(force_rollback=True):
                self._database.run(statement.replace("%s", ", ".join(f"'{place}'" for place in places)))
        except (*TWICE, *OF_A_ROW) as error:
            if len(places) == 1:
                return [(places[0], error.diag.message_primary or str(error))]
            middle = len(places) // 2
            return [*self._refused_rows(places[:middle]), *self._refused_rows(places[middle:])]
        return []


def _readable(name: str, type_: str) -> str:
    """A column in a form that psycopg can always read: Python has no time before year 1 or after year 9999."""
    return {"jsonb": f"{name}::text", AWARE: f"to_json({name}) #>> '{{}}'"}.get(type_, name)
