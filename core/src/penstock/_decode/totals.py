"""
Rows of totals in a report, compared with the sums of its rows.
"""

from decimal import Decimal, localcontext

from attrs import define, field

from penstock._decode.coerce import MisfitError, coerce
from penstock._decode.page import RawPage, values_of
from penstock.errors import CountMismatchError
from penstock.records import Column


@define(eq=False, repr=False)
class Totals:
    """
    The sums of one file so far. ``unsure``: a record was set aside or a value not read, so that totals may differ.
    """

    measures: tuple[Column, ...]
    sums: dict[str, Decimal] = field(factory=dict)
    unsure: bool = False

    def add(self, page: RawPage) -> None:
        """Add the rows of a page, before repeated ones are dropped."""
        self.unsure |= bool(page.rejected or page.unread or page.beyond)
        with localcontext(prec=1000):
            for column in self.measures:
                total = sum(filter(None, values_of(page.rows, column.name)), Decimal(0))
                self.sums[column.name] = self.sums.get(column.name, Decimal(0)) + total

    def check(self, name: str, page: RawPage) -> None:
        """Raises CountMismatchError if a row of totals in the page differs from the sums of the rows so far."""
        for row in page.totals if not self.unsure else ():
            for column in self.measures:
                text = row.get(column.member or "", "")
                try:
                    stated = coerce(column, text)
                except MisfitError:
                    stated = text
                if stated not in (None, "") and stated != self.sums.get(column.name, 0):
                    raise CountMismatchError(
                        f"{name}: the row of totals in the report states {column.member} {text}, and its rows have "
                        f"{self.sums.get(column.name, 0)} together. The report is not whole, or its totals are of "
                        "something else: then name them as footer."
                    )
