"""
Computations over a decoded batch: its sums, and its rows by day.
"""

from collections.abc import Iterable
from datetime import UTC, date, tzinfo
from decimal import Decimal, localcontext
from itertools import compress, repeat
from operator import eq
from typing import Any

from attrs import evolve

from penstock._decode.coerce import days_of
from penstock._decode.page import values_of
from penstock.model import Batch


def sums(batch: Batch) -> dict[str, Decimal]:
    """
    The sum over the rows of every measure, nulls skipped, exact to 1000 digits.

    An amount with a currency in each row has a sum for each currency, as ``amount[EUR]``, ``amount[]`` without one.
    """
    priced = [(column.name, column.unit_of) for column in batch.layout.priced]
    totals = sums_of(batch.rows, batch.layout.measures, priced)
    return {name if unit is None else f"{name}[{unit}]": total for (name, unit), total in totals.items()}


def sums_of(
    rows: list[Any], measures: Iterable[str], priced: Iterable[tuple[str, str]]
) -> dict[tuple[str, str | None], Decimal]:
    """
    The sums of columns: of ``measures`` as (name, None); of ``priced`` ones, each with the column of its currency, by
    name and currency ("" where there is none).
    """
    with localcontext(prec=1000):
        totals: dict[tuple[str, str | None], Decimal] = {
            (name, None): sum(filter(None, values_of(rows, name)), Decimal(0)) for name in measures
        }
        for name, unit_of in priced:
            values, units = values_of(rows, name), values_of(rows, unit_of)
            for unit in set(units):
                amount = sum(filter(None, compress(values, map(eq, repeat(unit), units))), Decimal(0))
                totals[name, unit or ""] = totals.get((name, unit or ""), Decimal(0)) + amount
        return totals


def split_by_day(batch: Batch, column: str, zone: tzinfo = UTC) -> dict[date, Batch]:
    """
    The batch by the day of ``column`` (a date or a time; an aware time is converted to ``zone``), days ascending.

    Rows without a day, ``rejected`` and ``unknown`` are in none of the results: read the latter two from ``batch``.
    """
    days = days_of(values_of(batch.rows, column), zone)
    distinct = sorted(set(days) - {None})  # type: ignore[type-var]
    if len(distinct) == 1 and None not in days:
        return {distinct[0]: evolve(batch, rejected=(), unknown=())}  # type: ignore[dict-item]
    return {
        day: evolve(batch, rows=list(compress(batch.rows, map(day.__eq__, days))), rejected=(), unknown=())
        for day in distinct
        if day is not None
    }
