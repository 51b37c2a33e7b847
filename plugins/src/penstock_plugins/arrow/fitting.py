"""
Rows as record batches for a sink: those with a value that their column cannot hold are rejected.
"""

from collections.abc import Sequence
from typing import Any

from attrs import define, field
from penstock import MOST_REJECTED, SinkError

from penstock_plugins.arrow.columns import ColumnMisfitError, Columns
from penstock_plugins.sink_support.unfit import Unfit


@define(eq=False, repr=False)
class Fitting:
    """The rows of one partition, converted; ``unfit``: those that were rejected. ``target`` is named in errors."""

    columns: Columns
    target: str
    unfit: list[Unfit] = field(factory=list, init=False)

    def batch(self, rows: Sequence[Any]) -> Any:
        """
        The rows that fit as a ``pyarrow.RecordBatch``. Raises SinkError when too many of the partition do not.
        """
        try:
            return self.columns.batch(rows)
        except ColumnMisfitError as error:
            self._reject(rows, error)
            fitting = [row for number, row in enumerate(rows) if number not in error.misfits]
        return self.columns.batch(fitting)

    def _reject(self, rows: Sequence[Any], error: ColumnMisfitError) -> None:
        layout = self.columns.layout
        for number, misfit in error.misfits.items():
            values = {column.name: getattr(rows[number], column.name) for column in layout.columns}
            self.unfit.append(Unfit.of(layout, values, misfit.column, misfit.reason))
        if len(self.unfit) > MOST_REJECTED:
            first = self.unfit[0].rejected
            raise SinkError(
                f"{self.target} cannot hold more than {MOST_REJECTED} records of {layout.stream} in one partition, the "
                f"first because {first.path}: {first.reason}. Nothing was replaced."
            )
