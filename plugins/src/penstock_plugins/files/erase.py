"""
Erase values in the files of a source: files are rewritten, and replaced as a commit replaces them.
"""

import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path

from attrs import frozen
from penstock import Difference, Erased, Erasure, LedgerEntry, LedgerFile, Partition, SinkError, fault_point
from penstock.ledger import LedgerWrite

from penstock_plugins.files.account_files import AccountFiles
from penstock_plugins.files.commit import FileCommitter, PendingCommit
from penstock_plugins.files.disk import Draft, opened
from penstock_plugins.files.ledger import FileLedger, MergedFiles
from penstock_plugins.files.source_files import SourceFiles

ERASED_AT_ONCE = 100  # partitions; their files are rewritten before they are put into place together


def _chunks(entries: Iterable[LedgerEntry]) -> Iterator[list[LedgerEntry]]:
    following = iter(entries)
    while chunk := list(islice(following, ERASED_AT_ONCE)):
        yield chunk


@frozen(kw_only=True, eq=False, repr=False)
class Eraser:
    """A file without a value to erase stays as it is; one that differs from its ledger row is left."""

    files: SourceFiles
    ledger: FileLedger
    committer: FileCommitter
    accounts: AccountFiles
    erasures: Mapping[str, Erasure]  # by the directory of the stream

    def erase_days(self, entries: Sequence[LedgerEntry]) -> Erased:
        """Erase values in the files of partitions; ``entries``: see :class:`penstock.sinks.Erasing`."""
        rows = 0
        left: list[Difference] = []
        for chunk in _chunks(entries):
            group: list[PendingCommit] = []
            for entry in chunk:
                if what := self._altered(entry.files):
                    left.append(Difference(partition=entry.partition, what=what))
                    continue
                count, files = self._erased(entry.files)
                rows += count
                if files == entry.files:
                    group.append(PendingCommit(LedgerWrite.of(entry)))
                    continue
                fault_point("files.staged")
                group.append(PendingCommit(LedgerWrite.of(entry, "intended", files)))
            self.committer.record(group)
            self.committer.deliver(group)
            for commit in group:
                if commit.error is not None:
                    raise commit.error
        return Erased(rows=rows, left=tuple(left))

    def erase_accounts(self, entries: Sequence[LedgerEntry]) -> Erased:
        """The same, of a stream of changes."""
        rows = 0
        left: dict[Partition, Difference] = {}
        for account in dict.fromkeys(entry.partition.without_day for entry in entries):
            merged = self.ledger.merged_files(self.files.source, account)
            if merged is not None and (what := self._altered(merged.files)):
                left[account] = Difference(partition=account, what=what)
            elif merged is not None:
                rows += self._erase_merged(merged)
        for chunk in _chunks(entries):
            self.ledger.record([LedgerWrite.of(entry) for entry in chunk if entry.partition.without_day not in left])
        return Erased(rows=rows, left=tuple(left.values()))

    def _altered(self, files: Sequence[LedgerFile]) -> str | None:
        """In which way a file that is there differs from its ledger row, and what to do then."""
        present = [file for file in files if file.size is not None and (self.files.directory / file.path).exists()]
        difference = self.files.difference(present)
        if difference is None:
            return None
        return f"{difference}. Move the file away, so that the day is read again; or run penstock verify --repair first"

    def _erase_merged(self, merged: MergedFiles) -> int:
        """Erase values in an account's files; the number of records that lost one."""
        rows, files = self._erased(merged.files)
        if files == merged.files:
            return 0
        self.accounts.replace(merged, files)
        return rows

    def _erased(self, files: Sequence[LedgerFile]) -> tuple[int, tuple[LedgerFile, ...]]:
        """The number of records that lost a value, and the files, the rewritten ones at their temporary places."""
        rows = 0
        erased: list[LedgerFile] = []
        for file in files:
            erasure = self.erasures.get(file.path.split("/")[1])
            path = self.files.directory / file.path
            lost, draft = 0, None
            if erasure is not None and file.size is not None and path.exists():
                lost, draft = self._rewritten(path, erasure)
            erased.append(file if draft is None else self.files.staged_file(file.path, draft))
            rows += lost
        return rows, tuple(erased)

    def _rewritten(self, path: Path, erasure: Erasure) -> tuple[int, Draft | None]:
        """The number of records of a file that lose a value, and a draft of it without these; None where none does."""
        draft = Draft(self.files.draft_path(), compress=path.suffix == ".gz")
        lost = 0
        try:
            with opened(path, compressed=path.suffix == ".gz") as file:
                for content, count in self.files.codec.erased(file, erasure):
                    draft.write(content)
                    lost += count
        except (EOFError, ValueError, OSError, zlib.error) as error:
            draft.discard()
            raise SinkError(f"{path} cannot be rewritten: {error}. It was not touched.") from error
        if not lost:
            draft.discard()
            return 0, None
        return lost, draft
