"""
The measures of a stream: rows of totals in a report, compared with the sums of its rows, and measures that no element
of a page has.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from decimal import Decimal, localcontext
from typing import Any, NamedTuple

from attrs import define, field

from penstock._decode.batch import sums_of
from penstock._decode.coerce import MisfitError, coerce
from penstock._decode.page import RawPage, values_of
from penstock.errors import CountMismatchError
from penstock.records import Column


class Measures(NamedTuple):
    """
    ``name``: the stream, for messages. ``summed``: the measures that the provider sends. ``priced``: amounts with the
    column of their currency. ``nullable``: the measures that may be null in every record, each with the column that
    reads the provider's member. ``dimensions``: the columns by which records differ, where a row of totals may be among
    them unmarked.
    """

    name: str
    summed: tuple[Column, ...]
    priced: tuple[tuple[Column, Column], ...]
    nullable: tuple[tuple[str, Column], ...]
    dimensions: tuple[Column, ...]

    @classmethod
    def of(
        cls, name: str, columns: Mapping[str, Column], hidden: Collection[str], dimensions: Iterable[Column]
    ) -> "Measures":
        """``hidden``: the columns that are not delivered."""
        every = columns.values()
        return cls(
            name,
            summed=tuple(column for column in every if column.additive and not column.added and not column.unit_of),
            priced=tuple(
                (column, columns[column.unit_of]) for column in every if column.additive and column.unit_of in columns
            ),
            nullable=tuple(_nullable(columns, hidden)),
            dimensions=tuple(dimensions),
        )

    def absent(self, page: RawPage) -> frozenset[str]:
        """
        The measures that no element has. A page of which all members are known has none: what was renamed is unknown.
        """
        return frozenset(
            name
            for name, read in self.nullable
            if read.top_member not in page.members
            or (read.path and not any(value is not None for value in values_of(page.rows, read.name)))
        )


def _nullable(columns: Mapping[str, Column], hidden: Collection[str]) -> Iterator[tuple[str, Column]]:
    for column in columns.values():
        read = columns[column.derived_of] if column.derived_of is not None else column
        if column.additive and read.nullable and read.member is not None and column.name not in hidden:
            yield column.name, read


@define(eq=False, repr=False)
class Totals:
    """
    The sums of one file so far. ``unsure``: a record was rejected or a value not read, so that totals may differ.

    Amounts with a currency have a sum for each currency. They are compared with a row of totals that states its
    currency, and with any where all rows have one currency.
    """

    measures: Measures
    sums: dict[tuple[str, str | None], Decimal] = field(factory=dict)  # by column and currency
    unsure: bool = False

    def compare(self, page: RawPage) -> None:
        """
        Add the rows of a page, before repeated ones are dropped. Raises CountMismatchError if a row of totals in the
        page differs from the sums of the rows so far.
        """
        self._add(page)
        for row in page.elements.totals if not self.unsure else ():
            for column in self.measures.summed:
                self._compare(row, column, None)
            for amount, unit in self.measures.priced:
                stated = _value(unit, row)
                units = {of for name, of in self.sums if name == amount.name and self.sums[name, of]}
                if stated is not None or len(units) == 1:
                    self._compare(row, amount, next(iter(units)) if stated is None else str(stated))

    def _add(self, page: RawPage) -> None:
        self.unsure |= bool(page.rejected or page.unread or page.repeated)
        priced = [(amount.name, unit.name) for amount, unit in self.measures.priced]
        with localcontext(prec=1000):
            names = [measure.name for measure in self.measures.summed]
            for key, total in sums_of(page.rows, names, priced).items():
                self.sums[key] = self.sums.get(key, Decimal(0)) + total

    def _compare(self, row: Mapping[str, str], column: Column, unit: str | None) -> None:
        stated, total = _value(column, row), self.sums.get((column.name, unit), Decimal(0))
        if stated is not None and stated != total:
            raise CountMismatchError(
                f"{self.measures.name}: the row of totals in the report states {column.member} "
                f"{row[column.member or '']}{f' {unit}' if unit else ''}, and its rows have {total} together. The "
                "report is not whole, or its totals are of something else: then name them as footer."
            )


def _value(column: Column, row: Mapping[str, str]) -> Any:
    """The value of a cell of a row of totals; None for an empty one, and the text for one that does not fit."""
    text = row.get(column.member or "", "")
    try:
        value = coerce(column, text)
    except MisfitError:
        value = text
    return None if value == "" else value
