"""
A row of totals in a report that nothing marks as one.
"""

import re
from collections.abc import Collection, Iterable, Iterator
from decimal import Decimal, localcontext
from typing import Any

from attrs import define, field
from msgspec import UNSET

from penstock._decode.batch import sums_of
from penstock._decode.measures import Measures
from penstock._decode.page import RawPage, nulls, values_of
from penstock.errors import BrokenBodyError
from penstock.model import EXACT_JSON
from penstock.records import Column
from penstock.sinks import EXTRA


def dimensions_of(columns: Iterable[Column], partition_columns: Collection[str]) -> Iterator[Column]:
    """What the provider sends and is neither a measure, a ratio nor a time."""
    for column in columns:
        sent = not (column.added or column.hash_of or column.additive or column.name in partition_columns)
        if sent and column.type in ("text", "integer", "boolean", "json"):
            yield column


_TOTAL_WORDS = frozenset(
    form
    for word in ("total", "totals", "grand total", "grand totals", "sum", "overall", "all")
    for form in (word, word.capitalize(), word.title(), word.upper())
)


@define(eq=False, repr=False)
class UnmarkedTotal:
    """
    Detects a row of totals that nothing marks, among the records of one answer: the only one without a dimension (or
    with a word for a total as its only one), whose measures are the sums of all others, at least two.

    It would count every record twice. A row of what belongs to no campaign, say, has other numbers; but beside a single
    other row it may well have the same.
    """

    measures: Measures
    sums: dict[str, Decimal] = field(factory=dict)  # of all rows but ``row``
    rows: int = 0  # all but ``row``
    row: dict[str, Decimal] | None = None  # the measures of the one without a dimension; {}: there are several

    def find(self, page: RawPage) -> int | None:
        """Add the rows of a page. The index of the row of totals in it; None without one."""
        without = self._without_dimension(page)
        index = without.pop() if len(without) == 1 and self.row is None else None
        names = [measure.name for measure in self.measures.summed]
        with localcontext(prec=1000):
            for (name, _), total in sums_of(page.rows, names, ()).items():
                self.sums[name] = self.sums.get(name, Decimal(0)) + total
            self.rows += len(page.rows)
            if index is None:
                self.row = {} if without else self.row
                return None
            values = {name: getattr(page.rows[index], name) for name in names}
            self.row = {name: Decimal(value) for name, value in values.items() if value is not None}
            self.sums = {name: total - self.row.get(name, 0) for name, total in self.sums.items()}
            self.rows -= 1
        if not self.is_total:
            return None
        self.row = {}
        return index

    @property
    def is_total(self) -> bool:
        """Whether the row without a dimension has the sums of all other rows so far."""
        row = self.row or {}
        return self.rows > 1 and any(row.values()) and all(self.sums[name] == value for name, value in row.items())

    def check(self) -> None:
        """Raises BrokenBodyError at the end of an answer whose row of totals was delivered before the other records."""
        if self.is_total:
            raise BrokenBodyError(
                f"{self.measures.name}: the report has a row of totals before its records: it has no dimension, and "
                "its measures are the sums of all others. Ask the provider to leave it out."
            )

    def _without_dimension(self, page: RawPage) -> set[int]:
        """The indices of the rows without a dimension, where others have one."""
        without: set[int] | None = None
        for column in self.measures.dimensions:
            values = values_of(page.rows, column.name)
            if values.count(None) == len(values):
                continue
            empty = set(nulls(values))
            if column.type == "text" and not _TOTAL_WORDS.isdisjoint(values):
                empty |= {index for index, value in enumerate(values) if value in _TOTAL_WORDS}
            without = empty if without is None else without & empty
            if not without:
                break
        return {index for index in without or () if not _has_text(getattr(page.rows[index], EXTRA))}


def _has_text(extra: Any) -> bool:
    """Whether there is a member that no column reads and that may be a dimension: all but null and numbers."""
    values = () if extra is UNSET else extra.values()
    return any(not re.match(rb"null$|[-0-9]", EXACT_JSON.encode(value)) for value in values)
