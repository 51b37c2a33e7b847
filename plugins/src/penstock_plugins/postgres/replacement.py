"""
Bring the rows of a table to their new state by their differences: missing rows are deleted, changed rows are updated,
new rows are inserted, and all others are not touched.

It is one statement, so that a small partition costs few round trips. All of its clauses see the table as it was before.
"""

# Names in statements come from quoted(), and those of temporary tables from a counter; values are parameters.
# ruff: noqa: S608

from collections.abc import Sequence
from decimal import Decimal
from typing import Any, NamedTuple

from attrs import frozen

from penstock_plugins.postgres.candidate import STAMPS
from penstock_plugins.postgres.database import Database, columns_sql, quoted
from penstock_plugins.postgres.tables import Table


class Stage(NamedTuple):
    """
    The new rows of a partition: a temporary table, or ``rows``, a JSON array that is a parameter of each statement.

    A JSON array needs no table and no statement of its own. ``definition``: its columns with their types.
    """

    name: str
    definition: str = ""
    rows: str | None = None


class Scope(NamedTuple):
    """
    The rows of a table, under the alias ``o``, that a delivery replaces: a condition and its parameters. ``stages``:
    those that occur in the condition.
    """

    where: str
    values: Sequence[Any] = ()
    stages: Sequence[Stage] = ()


def with_stages(*stages: Stage) -> tuple[str, list[Any]]:
    """The common table expressions that make JSON arrays readable by the names of their stages, and the parameters."""
    inline = {stage.name: stage for stage in stages if stage.rows is not None}.values()
    expressions = [
        f"{stage.name} as materialized (select * from json_to_recordset(%s::json) as json_rows({stage.definition})), "
        for stage in inline
    ]
    return "".join(expressions), [stage.rows for stage in inline]


def _reading(*stages: Stage) -> tuple[str, list[Any]]:
    """The same, as the beginning of a statement without other such expressions."""
    expressions, rows = with_stages(*stages)
    return f"with {expressions.removesuffix(', ')} " if expressions else "", rows


class RowChanges(NamedTuple):
    """
    What a delivery changed: rows before and after, rows deleted, inserted and updated, and the sums of the measures
    before and after. ``restated``: rows of both readings that differ in a column that is compared.
    """

    before: int
    after: int
    deleted: int
    inserted: int
    updated: int = 0
    restated: int = 0
    sums_before: Sequence[Decimal] = ()
    sums_after: Sequence[Decimal] = ()


class NotStoredError(Exception):
    """The table has other rows than were sent: a key occurred twice, or a trigger or rule left some out."""


def insert(database: Database, table: Table, stage: Stage, number: int) -> None:
    """Insert the rows of a stage, which has this number of them. Raises NotStoredError if others are stored."""
    first, rows = _reading(stage)
    columns = columns_sql(table.columns)
    statement = f"{first}insert into {table.sql} ({columns}) select {columns} from {stage.name}"
    if database.run(statement, rows).rowcount != number:
        raise NotStoredError


def differ(columns: Sequence[str], left: str, right: str) -> str:
    """Whether any of these columns differs between two aliases; never null."""
    return f"({columns_sql(columns, left)}) is distinct from ({columns_sql(columns, right)})" if columns else "false"


_OLD_KEY = "penstock_key_{}"


@frozen
class Replacement:
    """
    The rows of ``scope`` in a table, and those of ``stage`` that they are to become, inside the transaction that is
    open. ``measures``: the columns to add up, before and after.
    """

    database: Database
    table: Table
    stage: Stage
    scope: Scope
    measures: Sequence[str] = ()

    def carry_out(self, compared: Sequence[str], *, in_order: bool) -> RowChanges:
        """
        Bring the table up to date. ``compared``: the columns that count for ``restated``. ``in_order``: delete, update
        and insert one after the other, for a table with another unique index, in which a new row may have the value of
        a deleted one. Raises NotStoredError.
        """
        if not self.table.comparable:
            return self._replace_all(compared)
        return self._apply_in_order(compared) if in_order else self._apply_in_one_statement(compared)

    def is_stored(self) -> bool:
        """Whether the rows of ``scope`` are those of the stage, each as often."""
        compared = self._compared(self.table.columns)
        return not compared.inserted and not compared.deleted

    def is_stored_by_key(self) -> bool:
        """Whether each row of the stage is in the table, under its key."""
        first, rows = _reading(self.stage)
        missing: int = self.database.one(
            f"{first}select count(*) from {self.stage.name} n "
            f"left join {self.table.sql} o on {self.scope.where} and {self._equal} "
            f"where o.{self._any_key_column} is null or {differ(self._other_columns(self.table.columns), 'o.', 'n.')}",
            [*rows, *self.scope.values],
        )
        return not missing

    # --- rows with a key --------------------------------------------------------------------------------------------

    @property
    def _any_key_column(self) -> str:
        """A column of the key, which is null in no row."""
        return quoted(self.table.key[0])

    @property
    def _equal(self) -> str:
        return " and ".join(f"o.{quoted(name)} = n.{quoted(name)}" for name in self.table.key)

    def _other_columns(self, columns: Sequence[str]) -> list[str]:
        return [name for name in columns if name not in self.table.key]

    def _changes(self, compared: Sequence[str]) -> str:
        """
        The common table expression ``changes``: the rows that differ, each with what it is, and a deleted one's key.

        A full join is hashed or merged, never a loop in a loop, whatever the statistics say of a new day. The scope
        occurs once.
        """
        table, key = self.table, self._any_key_column
        old = "".join(f", o.{quoted(name)} as {_OLD_KEY.format(number)}" for number, name in enumerate(table.key))
        return (
            f"changes as materialized (select {columns_sql(table.columns, 'n.')}{old}, "
            f"case when n.{key} is null then 'deleted' when o.{key} is null then 'inserted' else 'updated' end "
            f"as penstock_is, "
            f"{differ(self._other_columns(compared), 'o.', 'n.')} as penstock_restated "
            f"from (select * from {table.sql} o where {self.scope.where}) o "
            f"full join {self.stage.name} n on {self._equal} "
            f"where n.{key} is null or o.{key} is null or {differ(self._other_columns(table.columns), 'o.', 'n.')})"
        )

    def _steps(self) -> tuple[str, str, str]:
        """The statements that delete, update and insert what ``changes`` has; the scope occurs in the first two."""
        table, where = self.table, self.scope.where
        columns = columns_sql(table.columns)
        deleted = " and ".join(
            f"o.{quoted(name)} = n.{_OLD_KEY.format(number)}" for number, name in enumerate(table.key)
        )
        updates = [f"{quoted(name)} = n.{quoted(name)}" for name in self._other_columns(table.columns)]
        updates += [f"{quoted(name)} = default" for name in STAMPS]
        return (
            f"delete from {table.sql} o using changes n where n.penstock_is = 'deleted' and {where} and {deleted}",
            f"update {table.sql} o set {', '.join(updates)} from changes n "
            f"where n.penstock_is = 'updated' and {where} and {self._equal}",
            f"insert into {table.sql} ({columns}) select {columns} from changes where penstock_is = 'inserted'",
        )

    def _figures(self) -> str:
        """The common table expressions ``before``, ``after`` and ``counted``; the scope occurs once."""
        sums = "".join(f", coalesce(sum({quoted(name)}), 0) as s{number}" for number, name in enumerate(self.measures))
        return (
            f"before as (select count(*) as rows{sums} from {self.table.sql} o where {self.scope.where}), "
            f"after as (select count(*) as rows{sums} from {self.stage.name}), "
            "counted as (select count(*) filter (where penstock_is = 'updated') as updated, "
            "count(*) filter (where penstock_is = 'updated' and penstock_restated) as restated from changes)"
        )

    def _shown(self) -> str:
        shown = ["before.rows", "after.rows", "counted.updated", "counted.restated"]
        shown += [f"{side}.s{number}" for side in ("before", "after") for number in range(len(self.measures))]
        return ", ".join(f"(select {name} from {name.partition('.')[0]})" for name in shown)

    def _apply_in_one_statement(self, compared: Sequence[str]) -> RowChanges:
        delete, update, insert_new = self._steps()
        expressions, rows = with_stages(self.stage, *self.scope.stages)
        row = self.database.row(
            f"with {expressions}{self._changes(compared)}, {self._figures()}, deleted as ({delete} returning 1), "
            f"updated as ({update} returning 1), inserted as ({insert_new} returning 1) select (select count(*) from "
            f"deleted), (select count(*) from updated), (select count(*) from inserted), {self._shown()}",
            [*rows, *list(self.scope.values) * 4],
        )
        return self._checked(row[:3], row[3:])

    def _apply_in_order(self, compared: Sequence[str]) -> RowChanges:
        expressions, rows = with_stages(self.stage, *self.scope.stages)
        values = list(self.scope.values)
        first = f"with {expressions}{self._changes(compared)}"
        figures = self.database.row(f"{first}, {self._figures()} select {self._shown()}", [*rows, *values * 2])
        done = [
            self.database.run(f"{first} {step}", [*rows, *values * times]).rowcount
            for step, times in zip(self._steps(), (2, 2, 1), strict=True)
        ]
        return self._checked(done, figures)

    def _checked(self, done: Sequence[int], figures: Sequence[Any]) -> RowChanges:
        (deleted, updated, inserted), (before, after, differing, restated, *sums) = done, figures
        if before - deleted + inserted != after or updated != differing:
            raise NotStoredError
        middle = len(self.measures)
        return RowChanges(before, after, deleted, inserted, updated, restated, sums[:middle], sums[middle:])

    # --- rows without a key -----------------------------------------------------------------------------------------

    def _replace_all(self, compared: Sequence[str]) -> RowChanges:
        """Compare rows without a key as multisets; if they differ, replace all of them."""
        table = self.table
        outcome = self._compared(table.columns)
        counted = outcome if len(compared) == len(table.columns) else self._compared(compared)
        if outcome.inserted or outcome.deleted:
            first, rows = _reading(*self.scope.stages)
            statement = f"{first}delete from {table.sql} o where {self.scope.where}"
            if self.database.run(statement, [*rows, *self.scope.values]).rowcount != outcome.before:
                raise NotStoredError
            insert(self.database, table, self.stage, outcome.after)
        return outcome._replace(deleted=counted.deleted, inserted=counted.inserted)

    def _compared(self, columns: Sequence[str]) -> RowChanges:
        names = columns_sql(columns)
        sums = "".join(
            f", (select coalesce(sum({quoted(name)}), 0) from {side})" for side in ("b", "n") for name in self.measures
        )
        expressions, rows = with_stages(self.stage, *self.scope.stages)
        before, after, inserted, deleted, *totals = self.database.row(
            f"with {expressions}b as (select * from {self.table.sql} o where {self.scope.where}), "
            f"n as (select * from {self.stage.name}), o as (select {names} from b), m as (select {names} from n) "
            "select (select count(*) from b), (select count(*) from n), "
            "(select count(*) from (select * from m except all select * from o) inserted), "
            f"(select count(*) from (select * from o except all select * from m) deleted){sums}",
            [*rows, *self.scope.values],
        )
        middle = len(self.measures)
        return RowChanges(before, after, deleted, inserted, sums_before=totals[:middle], sums_after=totals[middle:])
