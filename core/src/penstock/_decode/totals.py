"""
The measures of a stream: their sums, rows of totals in a report, and measures that no element of a chunk has.
"""

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from decimal import Decimal, localcontext
from itertools import compress, repeat
from operator import eq
from typing import Any, NamedTuple

from attrs import define, field
from msgspec import UNSET

from penstock._decode.chunk import DecodingChunk, get_column, nulls
from penstock._decode.conversion import MisfitError, coerce
from penstock._decode.rejects import Rejects
from penstock.errors import BrokenBodyError, CountMismatchError
from penstock.model import EXACT_JSON, Batch
from penstock.records import Column
from penstock.sinks import EXTRA


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
            (name, None): sum(filter(None, get_column(rows, name)), Decimal(0)) for name in measures
        }
        for name, unit_of in priced:
            values, units = get_column(rows, name), get_column(rows, unit_of)
            for unit in set(units):
                amount = sum(filter(None, compress(values, map(eq, repeat(unit), units))), Decimal(0))
                totals[name, unit or ""] = totals.get((name, unit or ""), Decimal(0)) + amount
        return totals


class Measures(NamedTuple):
    """
    ``summed``: the measures that the provider sends. ``priced``: amounts with the column of their currency.
    ``nullable``: the measures that may be null in every record, each with the column that reads the provider's member.
    ``dimensions``: the columns by which records differ, where a row of totals may be among them unmarked.
    """

    summed: tuple[Column, ...]
    priced: tuple[tuple[Column, Column], ...]
    nullable: tuple[tuple[str, Column], ...]
    dimensions: tuple[Column, ...]

    @classmethod
    def of(cls, columns: Mapping[str, Column], hidden: Collection[str], dimensions: Iterable[Column]) -> "Measures":
        """``hidden``: the columns that are not delivered."""
        all_columns = columns.values()
        return cls(
            summed=tuple(
                column for column in all_columns if column.additive and not column.added and not column.unit_of
            ),
            priced=tuple(
                (column, columns[column.unit_of])
                for column in all_columns
                if column.additive and column.unit_of in columns
            ),
            nullable=tuple(_nullable(columns, hidden)),
            dimensions=tuple(dimensions),
        )

    def absent(self, chunk: DecodingChunk) -> frozenset[str]:
        """
        The measures that no element has. A chunk of which all members are known has none: what was renamed is unknown.
        """
        return frozenset(
            name
            for name, read in self.nullable
            if read.top_member not in chunk.members
            or (read.path and not any(value is not None for value in get_column(chunk.rows, read.name)))
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

    def compare(self, chunk: DecodingChunk) -> None:
        """
        Add the rows of a chunk, before repeated ones are dropped. Raises CountMismatchError if a row of totals in the
        chunk differs from the sums of the rows so far.
        """
        self._add(chunk)
        for row in chunk.elements.totals if not self.unsure else ():
            for column in self.measures.summed:
                self._compare(row, column, None)
            for amount, unit in self.measures.priced:
                stated = _value(unit, row)
                units = {currency for name, currency in self.sums if name == amount.name and self.sums[name, currency]}
                if stated is not None or len(units) == 1:
                    self._compare(row, amount, next(iter(units)) if stated is None else str(stated))

    def _add(self, chunk: DecodingChunk) -> None:
        self.unsure |= bool(chunk.rejected or chunk.unread or chunk.repeated)
        priced = [(amount.name, unit.name) for amount, unit in self.measures.priced]
        with localcontext(prec=1000):
            names = [measure.name for measure in self.measures.summed]
            for key, total in sums_of(chunk.rows, names, priced).items():
                self.sums[key] = self.sums.get(key, Decimal(0)) + total

    def _compare(self, row: Mapping[str, str], column: Column, unit: str | None) -> None:
        amount, total = _value(column, row), self.sums.get((column.name, unit), Decimal(0))
        if amount is not None and amount != total:
            raise CountMismatchError(
                f"the row of totals in the report states {column.member} "
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
    Finds a row of totals that nothing marks, among the records of one answer: the only row without a dimension, whose
    measures are the sums of all other rows, at least two. It would count every record twice.

    Beside a single other row, a row of what belongs to no campaign, say, may well have the same numbers.
    """

    measures: Measures
    rows: int = 0
    sums: dict[str, Decimal] = field(factory=dict)
    # Measures of the rows without a dimension, of a chunk at most two: one of them alone may be the total.
    candidates: list[dict[str, Any]] = field(factory=list)

    def reject(self, chunk: DecodingChunk, rejects: Rejects) -> None:
        """Add the rows of a chunk, and reject the row of totals if it is among them."""
        without = self._without_dimension(chunk)
        self._add(chunk, without)
        if without and self.has_total:
            self.candidates.append({})  # the one before is rejected, and no further row can be one
            reason = "it is a row of totals: it has no dimension, and its measures are the sums of all others"
            rejects.reject_element(chunk, chunk.positions[without[0]], None, reason)
            chunk.drop({without[0]})

    def _add(self, chunk: DecodingChunk, without: Sequence[int]) -> None:
        """Add the rows of a chunk; ``without``: the indices of those without a dimension."""
        names = [measure.name for measure in self.measures.summed]
        for row in [chunk.rows[index] for index in without[:2]]:
            self.candidates.append({name: value for name in names if (value := getattr(row, name)) is not None})
        self.rows += len(chunk.rows)
        with localcontext(prec=1000):
            for (name, _), total in sums_of(chunk.rows, names, ()).items():
                self.sums[name] = self.sums.get(name, Decimal(0)) + total

    @property
    def has_total(self) -> bool:
        """Whether the only row without a dimension has the sums of all other rows so far."""
        if len(self.candidates) != 1 or self.rows <= 2:
            return False
        (row,) = self.candidates
        with localcontext(prec=1000):
            return any(row.values()) and all(self.sums[name] - value == value for name, value in row.items())

    def check(self) -> None:
        """Raises BrokenBodyError at the end of an answer whose row of totals was delivered before the other records."""
        if self.has_total:
            raise BrokenBodyError(
                "the report has a row of totals before its records: it has no dimension, and "
                "its measures are the sums of all others. Ask the provider to leave it out."
            )

    def _without_dimension(self, chunk: DecodingChunk) -> list[int]:
        """The indices of the rows without a dimension, or with a word for a total as their only one."""
        without: set[int] | None = None
        for column in self.measures.dimensions:
            values = get_column(chunk.rows, column.name)
            if values.count(None) == len(values):
                continue
            empty = set(nulls(values))
            if column.type == "text" and not _TOTAL_WORDS.isdisjoint(values):
                empty |= {index for index, value in enumerate(values) if value in _TOTAL_WORDS}
            without = empty if without is None else without & empty
            if not without:
                break
        return [index for index in sorted(without or ()) if not _has_text(getattr(chunk.rows[index], EXTRA))]


def _has_text(extra: Any) -> bool:
    """Whether there is a member that no column reads and that may be a dimension: all but null and numbers."""
    values = () if extra is UNSET else extra.values()
    return any(not re.match(rb"null$|[-0-9]", EXACT_JSON.encode(value)) for value in values)
