"""
Computations over a decoded batch: its sums, and its rows by day.
"""

from collections.abc import Iterator
from datetime import UTC, date, tzinfo
from decimal import Decimal, localcontext
from itertools import compress, repeat
from operator import attrgetter, eq
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
    with localcontext(prec=1000):
        totals = {
            name: sum(filter(None, map(attrgetter(name), batch.rows)), Decimal(0)) for name in batch.layout.measures
        }
        for column in batch.layout.columns:
            if column.additive and column.unit_of:
                totals.update(
                    _by_unit(column.name, *(values_of(batch.rows, one) for one in (column.name, column.unit_of)))
                )
        return totals


def _by_unit(name: str, values: list[Any], units: list[Any]) -> Iterator[tuple[str, Decimal]]:
    for unit in set(units):
        yield f"{name}[{unit or ''}]", sum(filter(None, compress(values, map(eq, repeat(unit), units))), Decimal(0))


def split_by_day(batch: Batch, column: str, zone: tzinfo = UTC) -> dict[date, Batch]:
    """
    The batch by the day of ``column`` (a date or a time; an aware time is converted to ``zone``), days ascending.

    Rows without a day, ``rejected`` and ``unknown`` are in none of the results: read the latter two from ``batch``.
    """
    days = days_of(values_of(batch.rows, column), zone)
    found = sorted(set(days) - {None})  # type: ignore[type-var]
    if len(found) == 1 and None not in days:
        return {found[0]: evolve(batch, rejected=(), unknown=())}  # type: ignore[dict-item]
    return {
        day: evolve(batch, rows=list(compress(batch.rows, map(day.__eq__, days))), rejected=(), unknown=())
        for day in found
        if day is not None
    }
