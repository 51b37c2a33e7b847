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


class Scope(NamedTuple):
    """The rows of a table, under the alias ``o``, that a delivery replaces: a condition and its parameters."""

    where: str
    values: Sequence[Any] = ()


class Difference(NamedTuple):
    """
    Rows before and after, how many were deleted, updated and inserted, and the sums of the measures before and after.

    ``restated``: rows that differ in a column that is compared with the former reading.
    """

    before: int
    after: int
    went: int
    changed: int
    came: int
    restated: int
    sums_before: Sequence[Decimal] = ()
    sums_after: Sequence[Decimal] = ()


class NotStoredError(Exception):
    """The table has other rows than were sent: a key occurred twice, or a trigger or rule left some out."""


def bring_up_to_date(
    database: Database,
    table: Table,
    stage: str,
    scope: Scope,
    *,
    compared: Sequence[str],
    measures: Sequence[str],
    in_order: bool = False,
) -> Difference:
    """
    The rows of ``scope`` become those of ``stage``, inside the transaction that is open.

    ``compared``: the columns that count for ``restated``. ``in_order``: delete, update and insert one after the other,
    for a table with another unique index, in which a new row may have the value of a deleted one.

    Raises NotStoredError.
    """
    how = _one_by_one if in_order else _at_once
    return (how if table.comparable else _replaced)(database, table, stage, scope, compared, measures)


def _equal(table: Table) -> str:
    return " and ".join(f"o.{quoted(name)} = n.{quoted(name)}" for name in table.key)


def differ(columns: Sequence[str], left: str, right: str) -> str:
    """Whether any of these columns differs between two aliases; never null."""
    return f"({columns_sql(columns, left)}) is distinct from ({columns_sql(columns, right)})" if columns else "false"


def _others(table: Table, columns: Sequence[str]) -> list[str]:
    return [name for name in columns if name not in table.key]


def _sums(measures: Sequence[str]) -> str:
    return "".join(f", coalesce(sum({quoted(name)}), 0) as s{number}" for number, name in enumerate(measures))


def _steps(table: Table, stage: str, scope: Scope) -> tuple[str, str, str]:
    """The statements that delete, update and insert."""
    equal, columns = _equal(table), columns_sql(table.columns)
    others = _others(table, table.columns)
    updates = [f"{quoted(name)} = n.{quoted(name)}" for name in others]
    updates += [f"{quoted(name)} = default" for name in STAMPS]
    here, there = f"from {table.sql} o where {scope.where}", f"from {stage} n where"
    return (
        f"delete {here} and not exists (select {there} {equal})",
        f"update {table.sql} o set {', '.join(updates)} from {stage} n where {scope.where} and {equal} "
        f"and {differ(others, 'o.', 'n.')}",
        f"insert into {table.sql} ({columns}) select {columns} {there} not exists (select {here} and {equal})",
    )


def _figures(table: Table, stage: str, scope: Scope, compared: Sequence[str], measures: Sequence[str]) -> str:
    """The common table expressions ``before``, ``after``, ``differing`` and ``restated``; the scope occurs thrice."""
    joined = f"from {table.sql} o join {stage} n on {_equal(table)} where {scope.where}"
    return (
        f"before as (select count(*) as rows{_sums(measures)} from {table.sql} o where {scope.where}), "
        f"after as (select count(*) as rows{_sums(measures)} from {stage}), "
        f"differing as (select count(*) as rows {joined} and {differ(_others(table, table.columns), 'o.', 'n.')}), "
        f"restated as (select count(*) as rows {joined} and {differ(_others(table, compared), 'o.', 'n.')})"
    )


def _shown(measures: Sequence[str]) -> str:
    sums = "".join(f", {side}.s{number}" for side in ("before", "after") for number in range(len(measures)))
    return f"before.rows, after.rows, differing.rows, restated.rows{sums}"


def _at_once(
    database: Database, table: Table, stage: str, scope: Scope, compared: Sequence[str], measures: Sequence[str]
) -> Difference:
    gone, changed, came = _steps(table, stage, scope)
    row = database.run(
        f"with {_figures(table, stage, scope, compared, measures)}, gone as ({gone} returning 1), "
        f"changed as ({changed} returning 1), came as ({came} returning 1) "
        f"select (select count(*) from gone), (select count(*) from changed), (select count(*) from came), "
        f"{_shown(measures)} from before, after, differing, restated",
        list(scope.values) * 6,
    ).fetchone()
    assert row is not None
    return _checked(row[:3], row[3:], measures)


def _one_by_one(
    database: Database, table: Table, stage: str, scope: Scope, compared: Sequence[str], measures: Sequence[str]
) -> Difference:
    figures = database.run(
        f"with {_figures(table, stage, scope, compared, measures)} "
        f"select {_shown(measures)} from before, after, differing, restated",
        list(scope.values) * 3,
    ).fetchone()
    assert figures is not None
    done = [database.run(one, scope.values).rowcount for one in _steps(table, stage, scope)]
    return _checked(done, figures, measures)


def _checked(done: Sequence[int], figures: Sequence[Any], measures: Sequence[str]) -> Difference:
    (went, changed, came), (before, after, differing, restated, *sums) = done, figures
    if before - went + came != after or changed != differing:
        raise NotStoredError
    return Difference(
        before=before,
        after=after,
        went=went,
        changed=changed,
        came=came,
        restated=restated,
        sums_before=sums[: len(measures)],
        sums_after=sums[len(measures) :],
    )


# --- rows without a key ---------------------------------------------------------------------------------------------


def _replaced(
    database: Database, table: Table, stage: str, scope: Scope, compared: Sequence[str], measures: Sequence[str]
) -> Difference:
    """Compare rows without a key as multisets; if they differ, replace all of them."""
    found = _compared(database, table, stage, scope, table.columns, measures)
    counted = found if len(compared) == len(table.columns) else _compared(database, table, stage, scope, compared, ())
    if found.came or found.went:
        columns = columns_sql(table.columns)
        gone = database.run(f"delete from {table.sql} o where {scope.where}", scope.values).rowcount
        came = database.run(f"insert into {table.sql} ({columns}) select {columns} from {stage}").rowcount
        if (gone, came) != (found.before, found.after):
            raise NotStoredError
    return Difference(
        before=found.before,
        after=found.after,
        went=counted.went,
        changed=0,
        came=counted.came,
        restated=0,
        sums_before=found.sums_before,
        sums_after=found.sums_after,
    )


def _compared(
    database: Database, table: Table, stage: str, scope: Scope, columns: Sequence[str], measures: Sequence[str]
) -> Difference:
    names = columns_sql(columns)
    sums = "".join(
        f", (select coalesce(sum({quoted(name)}), 0) from {side})" for side in ("b", "n") for name in measures
    )
    row = database.run(
        f"with b as (select * from {table.sql} o where {scope.where}), n as (select * from {stage}), "
        f"o as (select {names} from b), m as (select {names} from n) "
        "select (select count(*) from b), (select count(*) from n), "
        "(select count(*) from (select * from m except all select * from o) came), "
        f"(select count(*) from (select * from o except all select * from m) went){sums}",
        scope.values,
    ).fetchone()
    assert row is not None
    before, after, came, went, *totals = row
    return Difference(
        before=before,
        after=after,
        went=went,
        changed=0,
        came=came,
        restated=0,
        sums_before=totals[: len(measures)],
        sums_after=totals[len(measures) :],
    )
