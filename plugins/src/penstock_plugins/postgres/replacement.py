"""
Bring the rows of a table to their new state by their differences: missing rows are deleted, changed rows are updated,
new rows are inserted, and all others are not touched.

It is one statement, so that a small partition costs few round trips. All of its clauses see the table as it was before.
In the statements, ``old`` is a row of the table and ``new`` one of the new rows.
"""

from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any, NamedTuple

from attrs import frozen

from penstock_plugins.postgres.column_types import STAMPS
from penstock_plugins.postgres.database import Database
from penstock_plugins.postgres.server_errors import NotStoredError
from penstock_plugins.postgres.sql_text import columns_sql, differ, equal, quoted
from penstock_plugins.postgres.tables import Table


class NewRowsRelation(NamedTuple):
    """
    What statements read the new rows from: a temporary table, or ``rows``, a JSON array that is their parameter.

    A JSON array needs no table and no statement of its own. ``definition``: its columns with their types.
    """

    name: str
    definition: str = ""
    rows: str | None = None

    @property
    def expression(self) -> str | None:
        """The common table expression by which statements read a JSON array under the name; None for a table."""
        if self.rows is None:
            return None
        recordset = f"json_to_recordset(%({self.name})s::json) as json_rows({self.definition})"
        return f"{self.name} as materialized (select * from {recordset})"


class Scope(NamedTuple):
    """
    The rows of a table, under the alias ``old``, that a delivery replaces: a condition and the values of its
    parameters. ``relations``: those that occur in the condition.
    """

    where: str
    values: Mapping[str, Any]
    relations: Sequence[NewRowsRelation] = ()


class RowDifferences(NamedTuple):
    """
    How the new rows differ from the former ones: the numbers of rows before and after, of rows deleted, inserted and
    updated, and the sums of the measures before and after. ``restated``: rows of both readings that differ in a column
    that is compared.
    """

    before: int
    after: int
    deleted: int
    inserted: int
    updated: int
    restated: int
    sums_before: Sequence[Decimal]
    sums_after: Sequence[Decimal]


# --- parts of statements ----------------------------------------------------------------------------------------------


def with_sql(relations: Iterable[NewRowsRelation], *expressions: str) -> str:
    """The clause of these common table expressions, after those that make JSON arrays readable; empty for none."""
    inline = dict.fromkeys(relation.expression for relation in relations if relation.expression is not None)
    every = [*inline, *expressions]
    return f"with {', '.join(every)}" if every else ""


def parameters_of(relations: Iterable[NewRowsRelation]) -> dict[str, str]:
    """The parameters of the relations that are JSON arrays."""
    return {relation.name: relation.rows for relation in relations if relation.rows is not None}


def without_key(table: Table, names: Sequence[str]) -> list[str]:
    return [name for name in names if name not in table.key]


def insert(database: Database, table: Table, relation: NewRowsRelation, number: int) -> None:
    """Insert the rows of a relation, which has this number of them. Raises NotStoredError if others are stored."""
    columns = columns_sql(table.columns)
    statement = f"{with_sql([relation])} insert into {table.sql} ({columns}) select {columns} from {relation.name}"
    if database.run(statement, parameters_of([relation])).rowcount != number:
        raise NotStoredError


@frozen
class Replacement:
    """
    The rows of ``scope`` in a table, and the new rows that they are to become, inside the transaction that is open.
    ``compared``: the columns that count for ``restated``. ``measures``: the columns to add up, before and after.
    """

    database: Database
    table: Table
    relation: NewRowsRelation
    scope: Scope
    compared: Sequence[str]
    measures: Sequence[str] = ()

    def replace_rows(self, count: int, *, delete_first: bool) -> RowDifferences:
        """
        Replace the rows of ``scope`` by ``count`` new ones. ``delete_first``: delete, update and insert one after the
        other, for a table with another unique index, in which a new row may have the value of a deleted one.

        Raises NotStoredError if the table does not have ``count`` rows of the scope then.
        """
        if not self.table.comparable:
            differences = self._replace_all()
        elif delete_first:
            differences = self._apply_in_order()
        else:
            differences = self._apply_in_one_statement()
        if differences.after != count:
            raise NotStoredError
        return differences

    def is_stored(self) -> bool:
        """Whether the rows of ``scope`` are the new rows, each as often."""
        found = self._multiset_differences(self.table.columns)
        return not found.inserted and not found.deleted

    # --- rows with a key: the statements ----------------------------------------------------------------------------

    def _apply_in_one_statement(self) -> RowDifferences:
        deleted, updated, inserted, *figures = self._row(
            f"""
            {self._with(self._differences(), *self._figures())},
            deleted as ({self._delete()} returning 1),
            updated as ({self._update()} returning 1),
            inserted as ({self._insert()} returning 1)
            select
                (select count(*) from deleted),
                (select count(*) from updated),
                (select count(*) from inserted),
                {self._list_of_figures()}
            """
        )
        return self._checked(deleted, updated, inserted, figures)

    def _apply_in_order(self) -> RowDifferences:
        differences = self._differences()
        figures = self._row(f"{self._with(differences, *self._figures())} select {self._list_of_figures()}")
        deleted, updated, inserted = (
            self.database.run(f"{self._with(differences)} {step}", self._values).rowcount
            for step in (self._delete(), self._update(), self._insert())
        )
        return self._checked(deleted, updated, inserted, figures)

    def _checked(self, deleted: int, updated: int, inserted: int, figures: Sequence[Any]) -> RowDifferences:
        """What was changed. Raises NotStoredError if it is not what ``differences`` has."""
        before, after, differing, restated, *sums = figures
        if before - deleted + inserted != after or updated != differing:
            raise NotStoredError
        middle = len(self.measures)
        return RowDifferences(before, after, deleted, inserted, updated, restated, sums[:middle], sums[middle:])

    def _row(self, statement: str) -> Sequence[Any]:
        return self.database.row(statement, self._values)

    def _with(self, *expressions: str) -> str:
        return with_sql([self.relation, *self.scope.relations], *expressions)

    @property
    def _values(self) -> dict[str, Any]:
        return {**parameters_of([self.relation, *self.scope.relations]), **self.scope.values}

    # --- rows with a key: the parts of the statements ---------------------------------------------------------------

    def _differences(self) -> str:
        """
        The common table expression ``differences``: the new rows that differ from the table, each with ``penstock_is``
        and the key of the row that it replaces. All but that key is null for a deleted row.

        A full join is hashed or merged, never a loop in a loop, whatever the statistics contain about a new day.
        """
        table, key = self.table, quoted(self.table.key[0])  # any column of the key: it is null in no row
        others = without_key(table, table.columns)
        old_key = ", ".join(f"old.{quoted(name)} as {_old_key(number)}" for number, name in enumerate(table.key))
        return f"""
            differences as materialized (
                select
                    {columns_sql(table.columns, "new.")},
                    {old_key},
                    case when new.{key} is null then 'deleted' when old.{key} is null then 'inserted' else 'updated' end
                        as penstock_is,
                    {differ(without_key(table, self.compared), "old", "new")} as penstock_restated
                from (select * from {table.sql} as old where {self.scope.where}) as old
                full join {self.relation.name} as new on {equal(table.key, "old", "new")}
                where new.{key} is null or old.{key} is null or {differ(others, "old", "new")}
            )"""

    def _figures(self) -> tuple[str, str, str]:
        """The common table expressions ``before``, ``after`` and ``counted``, of one row each."""
        sums = "".join(f", coalesce(sum({quoted(name)}), 0) as sum_{at}" for at, name in enumerate(self.measures))
        return (
            f"before as (select count(*) as rows{sums} from {self.table.sql} as old where {self.scope.where})",
            f"after as (select count(*) as rows{sums} from {self.relation.name})",
            """
            counted as (
                select
                    count(*) filter (where penstock_is = 'updated') as updated,
                    count(*) filter (where penstock_is = 'updated' and penstock_restated) as restated
                from differences
            )""",
        )

    def _list_of_figures(self) -> str:
        """The figures to select: rows before and after, rows updated and restated, sums before and after."""
        sums = [f"(select sum_{at} from {side})" for side in ("before", "after") for at in range(len(self.measures))]
        rows = ["(select rows from before)", "(select rows from after)"]
        counts = ["(select updated from counted)", "(select restated from counted)"]
        return ", ".join([*rows, *counts, *sums])

    def _delete(self) -> str:
        key = " and ".join(f"old.{quoted(name)} = d.{_old_key(number)}" for number, name in enumerate(self.table.key))
        return f"""
            delete from {self.table.sql} as old using differences as d
            where d.penstock_is = 'deleted' and {self.scope.where} and {key}"""

    def _update(self) -> str:
        others = without_key(self.table, self.table.columns)
        assignments = [f"{quoted(name)} = new.{quoted(name)}" for name in others]
        assignments += [f"{quoted(name)} = default" for name in STAMPS]
        return f"""
            update {self.table.sql} as old set {", ".join(assignments)} from differences as new
            where new.penstock_is = 'updated' and {self.scope.where} and {equal(self.table.key, "old", "new")}"""

    def _insert(self) -> str:
        columns = columns_sql(self.table.columns)
        return f"""
            insert into {self.table.sql} ({columns})
            select {columns} from differences where penstock_is = 'inserted'"""

    # --- rows without a key -----------------------------------------------------------------------------------------

    def _replace_all(self) -> RowDifferences:
        """Compare rows without a key as multisets; if they differ, replace all of them."""
        differences = self._multiset_differences(self.table.columns)
        is_narrower = len(self.compared) < len(self.table.columns)
        restated = self._multiset_differences(self.compared) if is_narrower else differences
        if differences.inserted or differences.deleted:
            delete = f"{with_sql(self.scope.relations)} delete from {self.table.sql} as old where {self.scope.where}"
            values = {**parameters_of(self.scope.relations), **self.scope.values}
            if self.database.run(delete, values).rowcount != differences.before:
                raise NotStoredError
            insert(self.database, self.table, self.relation, differences.after)
        return differences._replace(deleted=restated.deleted, inserted=restated.inserted)

    def _multiset_differences(self, columns: Sequence[str]) -> RowDifferences:
        """The rows that only one side has, by these columns; both sides are counted and added up."""
        names = columns_sql(columns)
        sums = "".join(
            f", (select coalesce(sum({quoted(name)}), 0) from {side})"
            for side in ("old_rows", "new_rows")
            for name in self.measures
        )
        before, after, inserted, deleted, *totals = self._row(
            f"""
            {self._with(f"old_rows as (select * from {self.table.sql} as old where {self.scope.where})")},
            new_rows as (select * from {self.relation.name}),
            old_values as (select {names} from old_rows),
            new_values as (select {names} from new_rows)
            select
                (select count(*) from old_rows),
                (select count(*) from new_rows),
                (select count(*) from (select * from new_values except all select * from old_values) as inserted),
                (select count(*) from (select * from old_values except all select * from new_values) as deleted)
                {sums}
            """
        )
        middle = len(self.measures)
        return RowDifferences(before, after, deleted, inserted, 0, 0, totals[:middle], totals[middle:])


def _old_key(number: int) -> str:
    """The name of a former row's column of the key among the differences."""
    return f"penstock_key_{number}"
