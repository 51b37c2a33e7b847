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

from penstock_plugins.postgres.database import Database, columns_sql, quoted
from penstock_plugins.postgres.tables import STAMPS, Table


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


class RowChanges(NamedTuple):
    """
    What a delivery changed: rows before and after, rows deleted, updated and inserted, and the sums of the measures
    before and after. ``restated``: rows of both readings that differ in a column that is compared.
    """

    before: int
    after: int
    deleted: int
    updated: int
    inserted: int
    restated: int
    sums_before: Sequence[Decimal] = ()
    sums_after: Sequence[Decimal] = ()


class NotStoredError(Exception):
    """The table has other rows than were sent: a key occurred twice, or a trigger or rule left some out."""


def bring_up_to_date(
    database: Database,
    table: Table,
    stage: Stage,
    scope: Scope,
    *,
    compared: Sequence[str],
    measures: Sequence[str],
    in_order: bool = False,
) -> RowChanges:
    """
    The rows of ``scope`` become those of ``stage``, inside the transaction that is open.

    ``compared``: the columns that count for ``restated``. ``in_order``: delete, update and insert one after the other,
    for a table with another unique index, in which a new row may have the value of a deleted one.

    Raises NotStoredError.
    """
    how = _one_by_one if in_order else _at_once
    return (how if table.comparable else _replaced)(database, table, stage, scope, compared, measures)


def insert(database: Database, table: Table, stage: Stage) -> int:
    """Insert the rows of a stage; the number of rows that were stored."""
    expressions, rows = with_stages(stage)
    columns = columns_sql(table.columns)
    first = f"with {expressions.removesuffix(', ')} " if expressions else ""
    return database.run(f"{first}insert into {table.sql} ({columns}) select {columns} from {stage.name}", rows).rowcount


def holds(database: Database, table: Table, stage: Stage, scope: Scope) -> bool:
    """Whether the rows of ``scope`` are those of the stage, each as often."""
    found = _compared(database, table, stage, scope, table.columns, ())
    return not found.inserted and not found.deleted


def stored_by_key(database: Database, table: Table, stage: Stage, scope: Scope) -> bool:
    """Whether each row of the stage is in the table, under its key."""
    expressions, rows = with_stages(stage)
    first = f"with {expressions.removesuffix(', ')} " if expressions else ""
    others = _others(table, table.columns)
    missing: int = database.one(
        f"{first}select count(*) from {stage.name} n "
        f"left join {table.sql} o on {scope.where} and {_equal(table)} "
        f"where o.{quoted(table.key[0])} is null or {differ(others, 'o.', 'n.')}",
        [*rows, *scope.values],
    )
    return not missing


_OLD_KEY = "penstock_key_{}"


def _equal(table: Table) -> str:
    return " and ".join(f"o.{quoted(name)} = n.{quoted(name)}" for name in table.key)


def differ(columns: Sequence[str], left: str, right: str) -> str:
    """Whether any of these columns differs between two aliases; never null."""
    return f"({columns_sql(columns, left)}) is distinct from ({columns_sql(columns, right)})" if columns else "false"


def _others(table: Table, columns: Sequence[str]) -> list[str]:
    return [name for name in columns if name not in table.key]


def _sums(measures: Sequence[str]) -> str:
    return "".join(f", coalesce(sum({quoted(name)}), 0) as s{number}" for number, name in enumerate(measures))


def _changes(table: Table, stage: Stage, scope: Scope, compared: Sequence[str] = ()) -> str:
    """
    The common table expression ``changes``: the rows that differ, each with what it is, and a deleted one's key.

    A full join is hashed or merged, never a loop in a loop, whatever the statistics say of a new day. The scope occurs
    once.
    """
    key = quoted(table.key[0])
    old = "".join(f", o.{quoted(name)} as {_OLD_KEY.format(number)}" for number, name in enumerate(table.key))
    return (
        f"changes as materialized (select {columns_sql(table.columns, 'n.')}{old}, "
        f"case when n.{key} is null then 'deleted' when o.{key} is null then 'inserted' else 'updated' end "
        f"as penstock_is, "
        f"{differ(_others(table, compared), 'o.', 'n.')} as penstock_restated "
        f"from (select * from {table.sql} o where {scope.where}) o full join {stage.name} n on {_equal(table)} "
        f"where n.{key} is null or o.{key} is null or {differ(_others(table, table.columns), 'o.', 'n.')})"
    )


def _steps(table: Table, scope: Scope) -> tuple[str, str, str]:
    """The statements that delete, update and insert what ``changes`` has; the scope occurs in the first two."""
    columns = columns_sql(table.columns)
    deleted = " and ".join(f"o.{quoted(name)} = n.{_OLD_KEY.format(number)}" for number, name in enumerate(table.key))
    updates = [f"{quoted(name)} = n.{quoted(name)}" for name in _others(table, table.columns)]
    updates += [f"{quoted(name)} = default" for name in STAMPS]
    return (
        f"delete from {table.sql} o using changes n where n.penstock_is = 'deleted' and {scope.where} and {deleted}",
        f"update {table.sql} o set {', '.join(updates)} from changes n "
        f"where n.penstock_is = 'updated' and {scope.where} and {_equal(table)}",
        f"insert into {table.sql} ({columns}) select {columns} from changes where penstock_is = 'inserted'",
    )


def _figures(table: Table, stage: Stage, scope: Scope, measures: Sequence[str]) -> str:
    """The common table expressions ``before``, ``after`` and ``counted``; the scope occurs once."""
    return (
        f"before as (select count(*) as rows{_sums(measures)} from {table.sql} o where {scope.where}), "
        f"after as (select count(*) as rows{_sums(measures)} from {stage.name}), "
        "counted as (select count(*) filter (where penstock_is = 'updated') as updated, "
        "count(*) filter (where penstock_is = 'updated' and penstock_restated) as restated from changes)"
    )


def _shown(measures: Sequence[str]) -> str:
    shown = ["before.rows", "after.rows", "counted.updated", "counted.restated"]
    shown += [f"{side}.s{number}" for side in ("before", "after") for number in range(len(measures))]
    return ", ".join(f"(select {name} from {name.partition('.')[0]})" for name in shown)


def _at_once(
    database: Database, table: Table, stage: Stage, scope: Scope, compared: Sequence[str], measures: Sequence[str]
) -> RowChanges:
    delete, update, insert_new = _steps(table, scope)
    expressions, rows = with_stages(stage, *scope.stages)
    row = database.run(
        f"with {expressions}{_changes(table, stage, scope, compared)}, {_figures(table, stage, scope, measures)}, "
        f"deleted as ({delete} returning 1), updated as ({update} returning 1), "
        f"inserted as ({insert_new} returning 1) "
        f"select (select count(*) from deleted), (select count(*) from updated), (select count(*) from inserted), "
        f"{_shown(measures)}",
        [*rows, *list(scope.values) * 4],
    ).fetchone()
    assert row is not None
    return _checked(row[:3], row[3:], measures)


def _one_by_one(
    database: Database, table: Table, stage: Stage, scope: Scope, compared: Sequence[str], measures: Sequence[str]
) -> RowChanges:
    expressions, rows = with_stages(stage, *scope.stages)
    first = f"with {expressions}{_changes(table, stage, scope, compared)}"
    figures = database.run(
        f"{first}, {_figures(table, stage, scope, measures)} select {_shown(measures)}",
        [*rows, *list(scope.values) * 2],
    ).fetchone()
    assert figures is not None
    done = [
        database.run(f"{first} {step}", [*rows, *list(scope.values) * times]).rowcount
        for step, times in zip(_steps(table, scope), (2, 2, 1), strict=True)
    ]
    return _checked(done, figures, measures)


def _checked(done: Sequence[int], figures: Sequence[Any], measures: Sequence[str]) -> RowChanges:
    (deleted, updated, inserted), (before, after, differing, restated, *sums) = done, figures
    if before - deleted + inserted != after or updated != differing:
        raise NotStoredError
    return RowChanges(
        before=before,
        after=after,
        deleted=deleted,
        updated=updated,
        inserted=inserted,
        restated=restated,
        sums_before=sums[: len(measures)],
        sums_after=sums[len(measures) :],
    )


# --- rows without a key ---------------------------------------------------------------------------------------------


def _replaced(
    database: Database, table: Table, stage: Stage, scope: Scope, compared: Sequence[str], measures: Sequence[str]
) -> RowChanges:
    """Compare rows without a key as multisets; if they differ, replace all of them."""
    found = _compared(database, table, stage, scope, table.columns, measures)
    counted = found if len(compared) == len(table.columns) else _compared(database, table, stage, scope, compared, ())
    if found.inserted or found.deleted:
        expressions, rows = with_stages(*scope.stages)
        first = f"with {expressions.removesuffix(', ')} " if expressions else ""
        deleted = database.run(f"{first}delete from {table.sql} o where {scope.where}", [*rows, *scope.values]).rowcount
        inserted = insert(database, table, stage)
        if (deleted, inserted) != (found.before, found.after):
            raise NotStoredError
    return RowChanges(
        before=found.before,
        after=found.after,
        deleted=counted.deleted,
        updated=0,
        inserted=counted.inserted,
        restated=0,
        sums_before=found.sums_before,
        sums_after=found.sums_after,
    )


def _compared(
    database: Database, table: Table, stage: Stage, scope: Scope, columns: Sequence[str], measures: Sequence[str]
) -> RowChanges:
    names = columns_sql(columns)
    sums = "".join(
        f", (select coalesce(sum({quoted(name)}), 0) from {side})" for side in ("b", "n") for name in measures
    )
    expressions, rows = with_stages(stage, *scope.stages)
    row = database.run(
        f"with {expressions}b as (select * from {table.sql} o where {scope.where}), n as (select * from {stage.name}), "
        f"o as (select {names} from b), m as (select {names} from n) "
        "select (select count(*) from b), (select count(*) from n), "
        "(select count(*) from (select * from m except all select * from o) inserted), "
        f"(select count(*) from (select * from o except all select * from m) deleted){sums}",
        [*rows, *scope.values],
    ).fetchone()
    assert row is not None
    before, after, inserted, deleted, *totals = row
    return RowChanges(
        before=before,
        after=after,
        deleted=deleted,
        updated=0,
        inserted=inserted,
        restated=0,
        sums_before=totals[: len(measures)],
        sums_after=totals[len(measures) :],
    )
