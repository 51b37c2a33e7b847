"""
The commit of several partitions that are ready at the same time: small ones that are neighbours share a transaction.
"""

from collections.abc import Sequence
from itertools import groupby
from typing import TYPE_CHECKING

from penstock import LedgerEntry, PenstockError, fault_point

from penstock_plugins.postgres.server_errors import HeldTableError, LostSessionError, NotStoredError
from penstock_plugins.postgres.writer import PostgresWriter

if TYPE_CHECKING:
    from penstock_plugins.postgres.target import PostgresTarget

WriterAndEntry = tuple[PostgresWriter, LedgerEntry]


def commit_group(target: "PostgresTarget", commits: Sequence[WriterAndEntry]) -> list[LedgerEntry | Exception]:
    """The outcome of each commit, in order: the entry as it was recorded, or why the partition was not committed."""
    outcomes: list[LedgerEntry | Exception] = []
    for is_small, neighbours in groupby(commits, key=lambda commit: commit[0].is_small):
        group = list(neighbours)
        outcomes += _commit_together(target, group) if is_small and len(group) > 1 else map(_commit_alone, group)
    return outcomes


def _commit_together(target: "PostgresTarget", commits: Sequence[WriterAndEntry]) -> Sequence[LedgerEntry | Exception]:
    """Commit in one transaction; if it fails, commit each partition alone, unless the run is to end."""
    outcome = _try_together(target, commits)
    if not isinstance(outcome, Exception):
        _abort(commits)
        target.ledger.remember(outcome[-1])
        fault_point("postgres.committed")
        return outcome
    if outcome is target.database.reason:
        _abort(commits)
        return [outcome] * len(commits)
    if isinstance(outcome, HeldTableError):
        target.tables.hold_back([table for writer, _ in commits for table in writer.tables])
    lost = isinstance(outcome, LostSessionError)
    return [_commit_alone(commit, lost=lost) for commit in commits]


def _try_together(target: "PostgresTarget", commits: Sequence[WriterAndEntry]) -> list[LedgerEntry] | Exception:
    """One transaction. Returns the entries as they were recorded, or the failure for which it was rolled back."""
    try:
        with target.database.explained(), target.database.transaction():
            written = [writer.write_in_group(entry) for writer, entry in commits]
            target.tables.check_unchanged([table for writer, _ in commits for table in writer.tables])
    except (PenstockError, NotStoredError) as failure:
        return failure
    return written


def _commit_alone(commit: WriterAndEntry, *, lost: bool = False) -> LedgerEntry | Exception:
    """``lost``: the session was lost while a group committed it."""
    writer, entry = commit
    try:
        return writer.commit(entry, lost=lost)
    except Exception as error:
        return error


def _abort(commits: Sequence[WriterAndEntry]) -> None:
    """Discard what the writers hold."""
    for writer, _ in commits:
        writer.abort()
