"""
Compare the files of a stream with the ledger.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from datetime import date
from functools import cache
from pathlib import Path

from penstock import Difference, LedgerEntry, Partition

from penstock_plugins.files.disk import ignores_case, pair_from
from penstock_plugins.files.ledger import FileLedger
from penstock_plugins.files.source_files import OWNER_FILE, SourceFiles


def differences(
    files: SourceFiles,
    ledger: FileLedger,
    stream: str,
    entries: Sequence[LedgerEntry],
    since: date | None,
    until: date | None,
) -> Iterator[Difference]:
    """
    See :class:`penstock.sinks.Verifiable`. Size and checksum of every file; a file of a ``changes`` stream stands for
    all days of its account. Each file is read once. A record file that the ledger does not count is named, since
    readers of the directory read it, too. The directories of other days are not looked into.
    """
    of_accounts: dict[Partition, str | None] = {}  # of a changes stream, what differs
    streams: dict[str, None] = {}
    day_column = ""
    for entry in entries:
        day_column = entry.partition.values[-1][0] if entry.partition.day is not None else day_column
        streams |= dict.fromkeys((stream, *entry.derived_rows))
        if entry.files or not entry.partition.values:
            difference = files.difference(entry.files)
        else:
            account = entry.partition.without_day
            if account not in of_accounts:
                merged = ledger.merged_files(files.source, account)
                of_accounts[account] = None if merged is None else files.difference(merged.files)
            difference = of_accounts[account]
        if difference is not None:
            yield Difference(partition=entry.partition, what=difference)
    for name in streams:
        yield from _uncounted(files, ledger, stream, name, _holding(day_column, since, until), since, until)


def _uncounted(
    files: SourceFiles,
    ledger: FileLedger,
    stream: str,
    name: str,
    may_hold: Callable[[str], bool],
    since: date | None,
    until: date | None,
) -> Iterator[Difference]:
    """
    The record files of these days in the directory of a stream, ``name``, that are of no partition in the ledger.
    ``stream``: the stream whose partitions have its files.
    """
    directory = files.directory_of(name)
    if not (directory / OWNER_FILE).is_file():
        return  # not penstock's
    prefix = f"{directory.relative_to(files.directory).as_posix()}/"
    folded = str.lower if ignores_case(directory / OWNER_FILE) else str
    # The hash of each text, which is a third of its size.
    counted = {hash(folded(path)) for path in ledger.places(files.source, stream, prefix, since, until)}
    suffixes = (f".{files.codec.name}", f".{files.codec.name}.gz")
    for folder, folders, file_names in os.walk(directory, followlinks=True):
        folders[:] = filter(may_hold, folders)
        place = Path(folder).relative_to(files.directory).as_posix()
        record_files = (file for file in file_names if file.endswith(suffixes) and not file.startswith("."))
        for path in (f"{place}/{file}" for file in record_files):
            if hash(folded(path)) not in counted:
                pairs = [pair_from(part) for part in Path(path).relative_to(prefix).parts[:-1]]
                partition = Partition(stream=stream, values=tuple(pair for pair in pairs if pair is not None))
                yield Difference(partition=partition, what=f"{name}: the file {path}", uncounted=True)


def _holding(day_column: str, since: date | None, until: date | None) -> Callable[[str], bool]:
    """Whether a directory may hold files of these days, by its name; one that is of no day may."""

    @cache  # each account has directories of the same names
    def may_hold(folder: str) -> bool:
        pair = pair_from(folder)
        day = Partition("", (pair,)).day if pair is not None and pair[0] == day_column else None
        return day is None or (since or day) <= day <= (until or day)

    return may_hold
