"""
Exact amounts: numbers that are computed from another column, and shifted by its scale.
"""

from collections.abc import Mapping
from decimal import MAX_EMAX, MIN_EMIN, Context, Decimal, Inexact, InvalidOperation, localcontext
from itertools import repeat
from operator import mul
from typing import Any

from attrs import define, field

from penstock._decode.chunk import DecodingChunk, get_column, set_column_each
from penstock._decode.conversion import (
    MisfitError,
    Misfits,
    check_bounds,
    exact,
    exact_all,
    whole_number,
    whole_numbers,
)
from penstock._decode.rejects import Rejects
from penstock.records import Column
from penstock.redact import clip

# Wide enough for every accepted number. It raises for any other one.
_EXACT = Context(prec=2000, Emax=MAX_EMAX, Emin=MIN_EMIN, traps=[InvalidOperation, Inexact])


@define(eq=False, repr=False)
class Amounts:
    """The columns of a stream that hold amounts (:func:`penstock.derived`), apart from the hidden ones."""

    columns: Mapping[str, Column]
    rejects: Rejects
    _amounts: tuple[Column, ...] = field(init=False)

    def __attrs_post_init__(self) -> None:
        columns = self.columns.values()
        self._amounts = tuple(
            column for column in columns if column.derived_of is not None and column.name not in self.rejects.hidden
        )

    def compute(self, chunk: DecodingChunk) -> None:
        """Fill the columns of amounts: all rows at once, or each by itself where one of them is not a plain number."""
        for column in self._amounts:
            assert column.derived_of is not None
            values = get_column(chunk.rows, column.derived_of)
            try:
                numbers = self._exact(column, values)
                if column.scale:
                    with localcontext(_EXACT):
                        numbers = list(map(mul, numbers, repeat(Decimal(1).scaleb(column.scale))))
                check_bounds(numbers)
            except (TypeError, ValueError, InvalidOperation, Inexact):
                self._compute_each(chunk, column, column.derived_of, values)
            else:
                set_column_each(chunk.rows, column.name, numbers)

    def _exact(self, column: Column, values: list[Any]) -> list[Decimal]:
        """All numbers at once; raises if one of them must be handled by itself."""
        assert column.derived_of is not None
        of_type = self.columns[column.derived_of].type
        if column.whole and of_type != "integer":
            return whole_numbers(values if of_type == "text" else list(map(str, values)))
        return exact_all(values) if of_type == "text" else list(map(Decimal, values))

    def _compute_each(self, chunk: DecodingChunk, column: Column, of_name: str, values: list[Any]) -> None:
        """
        Compute each number by itself, since some values are null, blank or no numbers. A null or blank gives null if
        both columns may be null and the amount is not ``expected``; otherwise it does not fit.
        """
        source = self.columns[of_name]
        misfits: Misfits = {}
        numbers: list[Decimal | None] = []
        for index, value in enumerate(values):
            try:
                numbers.append(
                    _shifted(value, column, nullable=column.nullable and source.nullable and not column.expected)
                )
            except MisfitError as misfit:
                numbers.append(None)
                misfits[index] = str(misfit)
        set_column_each(chunk.rows, column.name, numbers)
        self.rejects.handle_misfits(chunk, column, misfits, values)


def _shifted(value: Any, column: Column, *, nullable: bool) -> Decimal | None:
    """The number in ``value``, shifted by the column's ``scale``; None for null and blank; raises MisfitError."""
    if value is None or (isinstance(value, str) and not value.strip()):
        if not nullable:
            raise MisfitError("it is null" if value is None else "it is blank")
        return None
    number = whole_number(value, column.whole) if column.whole else exact(value)
    try:
        return exact(_EXACT.scaleb(number, column.scale)) if column.scale else number
    except (InvalidOperation, Inexact):
        raise MisfitError(f"expected fewer digits, got {clip(str(value), 60)!r}") from None
