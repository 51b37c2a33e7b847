"""
Whether a stream is divided today as it was when its rows were delivered.
"""

from collections.abc import Sequence

from penstock import Layout, TargetError
from penstock.ledger import SqlLedger


def check_divided(ledger: SqlLedger, source: str, layouts: Sequence[Layout]) -> None:
    """
    Raises TargetError for a stream whose partitions have other columns than those in the ledger: these would count its
    rows, too, and new rows would not replace all former ones. Rows of ``changes`` are replaced by their key.
    """
    for layout in layouts:
        if layout.kind == "changes":
            continue
        former, columns = ledger.columns_of_rows(source, layout.stream), layout.partition_columns
        if former is not None and set(former) != set(columns):
            raise TargetError(
                f"{source}.{layout.stream} was declared otherwise when its table was made: its rows were divided by "
                f"{' and '.join(former) or 'nothing'}, and are divided by {' and '.join(columns) or 'nothing'} now, so "
                "that new rows would stand beside those that they replace. Rename the table, remove its comment, and "
                "run again: then it is made and filled anew. Nothing was changed."
            )
