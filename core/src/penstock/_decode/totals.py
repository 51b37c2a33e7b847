"""
Rows of totals in a report, compared with the sums of its rows.
"""

from collections.abc import Mapping
from decimal import Decimal, localcontext
from typing import Any

from attrs import define, field

from penstock._decode.batch import sums_of
from penstock._decode.coerce import MisfitError, coerce
from penstock._decode.page import RawPage
from penstock.errors import CountMismatchError
from penstock.records import Column


@define(eq=False, repr=False)
class Totals:
    """
    The sums of one file so far. ``unsure``: a record was rejected or a value not read, so that totals may differ.

    ``priced``: amounts with the column of their currency. Their sums are kept for each currency. They are compared with
    a row of totals that states its currency, and with any where all rows have one currency.
    """

    measures: tuple[Column, ...]
    priced: tuple[tuple[Column, Column], ...] = ()
    sums: dict[tuple[str, str | None], Decimal] = field(factory=dict)  # by column and currency
    unsure: bool = False

    def add(self, page: RawPage) -> None:
        """Add the rows of a page, before repeated ones are dropped."""
        self.unsure |= bool(page.rejected or page.unread or page.repeated)
        priced = [(amount.name, unit.name) for amount, unit in self.priced]
        with localcontext(prec=1000):
            for key, total in sums_of(page.rows, [measure.name for measure in self.measures], priced).items():
                self.sums[key] = self.sums.get(key, Decimal(0)) + total

    def check(self, name: str, page: RawPage) -> None:
        """Raises CountMismatchError if a row of totals in the page differs from the sums of the rows so far."""
        for row in page.totals if not self.unsure else ():
            for column in self.measures:
                self._compare(name, row, column, None)
            for amount, unit in self.priced:
                stated = _value(unit, row)
                known = {of for of_name, of in self.sums if of_name == amount.name and self.sums[of_name, of]}
                if stated is not None or len(known) == 1:
                    self._compare(name, row, amount, next(iter(known)) if stated is None else str(stated))

    def _compare(self, name: str, row: Mapping[str, str], column: Column, unit: str | None) -> None:
        stated, total = _value(column, row), self.sums.get((column.name, unit), Decimal(0))
        if stated is not None and stated != total:
            raise CountMismatchError(
                f"{name}: the row of totals in the report states {column.member} {row[column.member or '']}"
                f"{f' {unit}' if unit else ''}, and its rows have {total} together. The report is not whole, or its "
                "totals are of something else: then name them as footer."
            )


def _value(column: Column, row: Mapping[str, str]) -> Any:
    """The value of a cell of a row of totals; None for an empty one, and the text for one that does not fit."""
    text = row.get(column.member or "", "")
    try:
        found = coerce(column, text)
    except MisfitError:
        found = text
    return None if found == "" else found
