"""
Why a try of a commit fails, and what another try needs. Everything in here is values; :mod:`.commit_loop` acts on them.
"""

from enum import Enum, auto
from typing import TYPE_CHECKING

import psycopg
from attrs import evolve, frozen
from psycopg import errors

from penstock_plugins.postgres.server_errors import is_without_partition

if TYPE_CHECKING:
    from penstock_plugins.postgres.new_rows import NewRows

CONFLICT_TRIES = 3

# Another session and this one waited for each other, and the server ended this transaction: it can be repeated.
CONFLICTS = (errors.DeadlockDetected, errors.SerializationFailure)

# A value cannot be stored (SQLSTATE class 22), is too long for an index, or violates a constraint on its row.
VALUE_ERRORS = (
    psycopg.DataError,
    errors.ProgramLimitExceeded,
    errors.StatementTooComplex,
    errors.NotNullViolation,
    errors.CheckViolation,
)

# Two rows have the same key.
KEY_ERRORS = (errors.UniqueViolation, errors.CardinalityViolation)


class NotStoredError(Exception):
    """The table has other rows than were sent: a key occurred twice, or a trigger or rule left some out."""


class RowRefusedError(Exception):
    """The server refuses a row of the chunk ``number`` of ``rows`` while it is copied into a temporary table."""

    def __init__(self, rows: "NewRows", number: int, error: psycopg.Error) -> None:
        super().__init__(str(error))
        self.rows, self.number, self.error = rows, number, error


class Remedy(Enum):
    """What is changed before another try, of the new rows or of the statements."""

    REPEAT = auto()
    """Nothing: the same transaction again."""
    REJECT_COPIED_ROW = auto()
    """Reject the row at which a COPY stopped."""
    FORMAT_FOR_COPY = auto()
    """Send small rows by COPY, in place of a parameter: its errors name the row."""
    REJECT_BY_HALVING = auto()
    """Reject the rows that the table refuses: halves of all rows are tried, down to single rows."""
    DROP_REPEATS = auto()
    """Drop rows that repeat a key."""
    DELETE_FIRST = auto()
    """Delete, update and insert by one statement after the other: a new row may need the value of a deleted one."""


@frozen
class Tries:
    """The state of a commit between two tries. ``conflicts``: tries that ended in a conflict with another session."""

    conflicts: int = 0
    delete_first: bool = False

    def after(self, remedy: Remedy) -> "Tries":
        """The state for the try that follows a remedy."""
        if remedy is Remedy.REPEAT:
            return evolve(self, conflicts=self.conflicts + 1)
        return evolve(self, delete_first=self.delete_first or remedy is Remedy.DELETE_FIRST)


def plan_next_try(failure: Exception, tries: Tries) -> tuple[Remedy, ...]:
    """
    The remedies for the failure of a try, in order: the first that has an effect is followed by another try. If none
    has, the commit fails.
    """
    if isinstance(failure, CONFLICTS):
        return (Remedy.REPEAT,) if tries.conflicts + 1 < CONFLICT_TRIES else ()
    if isinstance(failure, RowRefusedError):
        return (Remedy.REJECT_COPIED_ROW,)
    if is_without_partition(failure):  # the table is at fault, not the row
        return (Remedy.FORMAT_FOR_COPY,)
    if isinstance(failure, VALUE_ERRORS):
        return (Remedy.FORMAT_FOR_COPY, Remedy.REJECT_BY_HALVING)
    if isinstance(failure, NotStoredError):
        return (Remedy.FORMAT_FOR_COPY, Remedy.DROP_REPEATS)
    if isinstance(failure, KEY_ERRORS):  # without repeats in the rows, of another unique index of the table
        delete_first = () if tries.delete_first else (Remedy.DELETE_FIRST,)
        return (Remedy.FORMAT_FOR_COPY, Remedy.DROP_REPEATS, *delete_first)
    return ()
