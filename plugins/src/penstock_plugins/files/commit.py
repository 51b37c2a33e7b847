"""
The writer of a partition, and the commit of several: their steps are described in :mod:`.sink`.
"""

from collections.abc import Mapping, Sequence

from attrs import define, evolve
from penstock import (
    Batch,
    Layout,
    LedgerEntry,
    LedgerFile,
    Partition,
    PenstockError,
    fault_point,
)

from penstock_plugins.files.codec import RecordDraft
from penstock_plugins.files.disk import file_errors, sync_directory
from penstock_plugins.files.ledger import FileLedger
from penstock_plugins.files.places import SourceFiles
from penstock_plugins.unfit import Omissions, entry_without_unfit

Finished = Mapping[RecordDraft, bool | Exception]
"""Drafts that are durable (false: without a row, so that there is no file), or could not be written."""


class FileWriter:
    """Writes one partition to staged files, which readers do not see."""

    def __init__(self, files: SourceFiles, layouts: Sequence[Layout], partition: Partition) -> None:
        self._files = files
        self.merged = layouts[0].kind == "changes"
        compress = files.compress and not self.merged
        self._layouts = layouts
        self.drafts = {layout.stream: files.draft(layout, compress=compress) for layout in layouts}

    def write(self, batch: Batch) -> None:
        if batch.rows:
            self.drafts[batch.layout.stream].rows(batch.rows)

    def fitting(self, entry: LedgerEntry) -> LedgerEntry:
        """The entry without the records that the format cannot hold."""
        omissions = [Omissions(layout, self.drafts[layout.stream].unfit) for layout in self._layouts]
        return entry_without_unfit(entry, omissions, self._files.shown)

    def abort(self) -> None:
        for draft in self.drafts.values():
            draft.discard()


@define(eq=False, repr=False)
class Commit:
    """A commit of a group: the ledger row to write next, and the intent, except for a day of changes."""

    recorded: LedgerEntry
    entry: LedgerEntry  # as committed
    intended: LedgerEntry | None = None
    version: int = 0  # of the ledger row with the intent
    error: Exception | None = None


def _good(group: Sequence[Commit]) -> list[Commit]:
    return [commit for commit in group if commit.error is None]


class Commits:
    """Commits partitions of one source."""

    def __init__(self, files: SourceFiles, ledger: FileLedger) -> None:
        self._files = files
        self._ledger = ledger

    def commit_group(self, commits: Sequence[tuple[FileWriter, LedgerEntry]]) -> list[LedgerEntry | Exception]:
        """See :class:`penstock.sinks.Grouping`."""
        drafts = [draft for writer, _ in commits for draft in writer.drafts.values()]
        finished = dict(zip(drafts, self._files.finish_all(drafts), strict=True))
        group = [self._intended(writer, entry, finished) for writer, entry in commits]
        staged_days = any(commit.intended is None for commit in _good(group))
        if staged_days:
            with file_errors(self._files.staging):
                sync_directory(self._files.staging)
            fault_point("day.written")
        self.record(group)
        if staged_days:
            fault_point("day.staged")
        for (writer, _), commit in zip(commits, group, strict=True):
            if commit.error is not None:
                writer.abort()
        self.deliver(group)
        return [commit.error or commit.entry for commit in group]

    def _intended(self, writer: FileWriter, entry: LedgerEntry, finished: Finished) -> Commit:
        """A commit whose files are durable, at their temporary places."""
        try:
            entry = writer.fitting(entry)
            if writer.merged:
                return Commit(recorded=self._staged_day(entry, writer.drafts, finished), entry=entry)
            former = entry.replaces  # as planned; if it is another one by now, the intent is refused
            if former is None and entry.version:
                former = self._ledger.entry(entry.source, entry.partition)
            files = [
                self._files.staged_file(self._files.place(stream, entry.partition), draft, finished[draft])
                for stream, draft in writer.drafts.items()
            ]
            files = self._files.make_way(files)
            files += kept_files(self._files, former.files if former is not None else (), files)
        except Exception as error:
            return Commit(recorded=entry, entry=entry, error=error)
        fault_point("files.staged")
        intended = evolve(entry, state="intended", files=tuple(files))
        return Commit(recorded=intended, entry=entry, intended=intended, version=entry.version + 1)

    def record(self, group: Sequence[Commit]) -> None:
        """Write the ledger rows of commits in one transaction. If it fails, write each by itself, and keep errors."""
        good = _good(group)
        if not good:
            return
        try:
            self._ledger.deliver_all([commit.recorded for commit in good])
        except PenstockError:
            for commit in good:
                try:
                    self._ledger.deliver(commit.recorded)
                except PenstockError as error:
                    commit.error = error

    def deliver(self, commits: Sequence[Commit]) -> None:
        """
        Put the files of recorded intents into place, and record the deliveries. An intent that fails here stays, and is
        settled when the target is opened next.
        """
        group = [commit for commit in _good(commits) if commit.intended is not None]
        for commit in group:
            assert commit.intended is not None
            fault_point("files.intended")
            files = commit.intended.files
            try:
                self._files.put(files)
            except Exception as error:
                commit.error = error
            settled = tuple(LedgerFile(path=file.path, size=file.size, checksum=file.checksum) for file in files)
            commit.recorded = evolve(commit.intended, state="delivered", files=settled, version=commit.version)
        for directory, failure in self._files.sync().items():
            for commit in _good(group):
                if any(self._files.path(file.path).startswith(f"{directory}/") for file in commit.recorded.files):
                    commit.error = failure
        for _ in _good(group):
            fault_point("files.in_place")
        self.record(group)
        for _ in _good(group):
            fault_point("files.delivered")

    def _staged_day(self, entry: LedgerEntry, drafts: Mapping[str, RecordDraft], finished: Finished) -> LedgerEntry:
        """The ledger row of a day of changes that is kept until it is merged."""
        account = entry.partition.without_day
        files = [
            self._files.staged_file(self._files.place(stream, account), draft, finished[draft])
            for stream, draft in drafts.items()
        ]
        return evolve(entry, state="staged", files=tuple(file for file in files if file.size is not None))

    def settle(self, entry: LedgerEntry) -> None:
        """
        Complete an intent of an earlier run, or take it back. Raises the error of one that cannot be completed now: it
        stays, for the next opening, and its partition counts as missing.
        """
        if self._files.can_be_put(entry.files):
            commit = Commit(recorded=entry, entry=entry, intended=entry, version=entry.version)
            self.deliver([commit])
            if commit.error is not None:
                raise commit.error
            return
        former = self._ledger.take_back(entry.source, entry.partition)
        if former is not None and not all(self._files.is_at(file.path, file) for file in former.files):
            self._ledger.forget(entry.source, [entry.partition])


def kept_files(places: SourceFiles, former: Sequence[LedgerFile], files: Sequence[LedgerFile]) -> list[LedgerFile]:
    """The former files of derived streams that this run does not read: they stay."""
    if not former:
        return []
    named = {file.path for file in files} | {places.other_place(file.path) for file in files}
    return [file for file in former if file.path not in named and file.size is not None]
