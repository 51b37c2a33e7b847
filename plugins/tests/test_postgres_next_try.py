"""
The decision about the next try of a commit: a table of failures and remedies, without a database.
"""

import pytest
from penstock_plugins.postgres.next_try import (
    CONFLICT_TRIES,
    NotStoredError,
    Remedy,
    RowRefusedError,
    Tries,
    plan_next_try as plan,
)
from psycopg import errors

BY_COPY = Remedy.FORMAT_FOR_COPY


def a_refused_row() -> RowRefusedError:
    return RowRefusedError(None, 0, errors.CharacterNotInRepertoire())  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("failure", "remedies"),
    [
        pytest.param(errors.DeadlockDetected(), (Remedy.REPEAT,), id="deadlock"),
        pytest.param(errors.SerializationFailure(), (Remedy.REPEAT,), id="serialization"),
        pytest.param(a_refused_row(), (Remedy.REJECT_COPIED_ROW,), id="row of a COPY"),
        pytest.param(errors.NumericValueOutOfRange(), (BY_COPY, Remedy.REJECT_BY_HALVING), id="value"),
        pytest.param(errors.NotNullViolation(), (BY_COPY, Remedy.REJECT_BY_HALVING), id="not null"),
        pytest.param(errors.ProgramLimitExceeded(), (BY_COPY, Remedy.REJECT_BY_HALVING), id="too long for an index"),
        pytest.param(errors.CheckViolation(), (BY_COPY,), id="no partition of the table"),
        pytest.param(errors.UniqueViolation(), (BY_COPY, Remedy.DROP_REPEATS, Remedy.DELETE_FIRST), id="unique"),
        pytest.param(errors.CardinalityViolation(), (BY_COPY, Remedy.DROP_REPEATS, Remedy.DELETE_FIRST), id="twice"),
        pytest.param(NotStoredError(), (BY_COPY, Remedy.DROP_REPEATS), id="not stored"),
        pytest.param(errors.InsufficientPrivilege(), (), id="right"),
        pytest.param(errors.ForeignKeyViolation(), (), id="foreign key"),
        pytest.param(errors.AdminShutdown(), (), id="lost session"),
        pytest.param(errors.DiskFull(), (), id="full disk"),
    ],
)
def test_a_failure_has_its_remedies(failure: Exception, remedies: tuple[Remedy, ...]):
    """
    Each kind of failure has the remedies of the table in ``commit_loop``, in order; any other one ends the commit.
    """
    assert plan(failure, Tries()) == remedies


def test_a_conflict_is_repeated_a_few_times():
    """
    A transaction is tried CONFLICT_TRIES times in all, however many other remedies were applied in between.
    """
    tries, planned = Tries(), 0
    while plan(errors.DeadlockDetected(), tries):
        planned += 1
        tries = tries.after(Remedy.REPEAT).after(Remedy.FORMAT_FOR_COPY)

    assert planned == CONFLICT_TRIES - 1


def test_rows_are_deleted_first_once():
    """
    A unique index that refuses rows also after others were deleted fails the commit; the order is kept until then.
    """
    tries = Tries().after(Remedy.DELETE_FIRST).after(Remedy.REPEAT)

    assert tries.delete_first
    assert Remedy.DELETE_FIRST not in plan(errors.UniqueViolation(), tries)
