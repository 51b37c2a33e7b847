"""
The writer of a partition, and the commit of several, in steps. A kill leaves what the steps before it made durable:

================================  =========================================  ================
Step                              Durable then                               Fault points
================================  =========================================  ================
:func:`stage_all`                 the new files, where readers do not look   ``files.staged``
:meth:`FileCommitter.record`      the intent in the ledger, with the files   ``files.intended``
``SourceFiles.put``, ``sync``     the new files in their places              ``files.in_place``
:meth:`FileCommitter.record`      the delivery in the ledger                 ``files.delivered``
================================  =========================================  ================

A day of changes is only staged and recorded (``day.written``, ``day.staged``); the end of the run merges it. The next
opening of the target completes an intent, or takes it back (:meth:`FileCommitter.recover`).
"""

from collections.abc import Sequence
from typing import NamedTuple

from attrs import define
from penstock import (
    Batch,
    Layout,
    LedgerEntry,
    LedgerFile,
    Partition,
    PenstockError,
    fault_point,
)
from penstock.ledger import LedgerWrite

from penstock_plugins.files.disk import file_errors, sync_directory
from penstock_plugins.files.ledger import FileLedger
from penstock_plugins.files.source_files import SourceFiles
from penstock_plugins.sink_support.unfit import Omissions, entry_without


class FileWriter:
    """Writes one partition to staged files, which readers do not see."""

    def __init__(self, files: SourceFiles, layouts: Sequence[Layout], partition: Partition) -> None:
        self._files = files
        self.to_merge = layouts[0].kind == "changes"
        compress = files.compress and not self.to_merge
        self._layouts = layouts
        self.drafts = {layout.stream: files.draft(layout, compress=compress) for layout in layouts}

    def write(self, batch: Batch) -> None:
        if batch.rows:
            self.drafts[batch.layout.stream].rows(batch.rows)

    def without_unfit(self, entry: LedgerEntry) -> LedgerEntry:
        """The entry without the records that the format cannot hold."""
        omissions = [
            Omissions(layout, unfit) for layout in self._layouts if (unfit := self.drafts[layout.stream].unfit)
        ]
        return entry_without(entry, omissions, self._files.shown) if omissions else entry

    def abort(self) -> None:
        for draft in self.drafts.values():
            draft.discard()


class Staged(NamedTuple):
    """
    A partition whose files are durable at their temporary places. ``to_merge``: it is a day of changes. ``rejected``:
    the place of a file with the entry's rejected records, where they are not in the entry.
    """

    entry: LedgerEntry
    files: tuple[LedgerFile, ...]
    to_merge: bool
    rejected: str = ""


def stage_all(files: SourceFiles, commits: Sequence[tuple[FileWriter, LedgerEntry]]) -> list[Staged | Exception]:
    """Make the files of writers durable. An error is of its partition only, whose files are discarded."""
    drafts = [draft for writer, _ in commits for draft in writer.drafts.values()]
    finished = dict(zip(drafts, files.finish_all(drafts), strict=True))
    staged: list[Staged | Exception] = []
    for writer, entry in commits:
        try:
            entry = writer.without_unfit(entry)
            of = entry.partition.without_day if writer.to_merge else entry.partition
            placed = tuple(
                [
                    files.staged_file(files.place(stream, of), draft, finished[draft])
                    for stream, draft in writer.drafts.items()
                ]
            )
            staged.append(Staged(entry=entry, files=placed, to_merge=writer.to_merge))
        except Exception as error:
            writer.abort()
            staged.append(error)
    return staged


@define(eq=False, repr=False)
class PendingCommit:
    """A commit of a group: the write to record next, or the one that was recorded last."""

    write: LedgerWrite
    error: Exception | None = None


def _without_error(group: Sequence[PendingCommit]) -> list[PendingCommit]:
    return [commit for commit in group if commit.error is None]


class FileCommitter:
    """Commits partitions of one source."""

    def __init__(self, files: SourceFiles, ledger: FileLedger) -> None:
        self._files = files
        self._ledger = ledger

    def commit_group(self, staged: Sequence[Staged | Exception]) -> list[LedgerEntry | Exception]:
        """Commit what was staged, as :meth:`penstock.sinks.Target.commit_group` states it."""
        durable = [partition for partition in staged if isinstance(partition, Staged)]
        group = [self._make_intent(partition) for partition in durable]
        staged_days = "staged" in [commit.write.state for commit in _without_error(group)]
        if staged_days:
            with file_errors(self._files.staging):
                sync_directory(self._files.staging)
            fault_point("day.written")
        self.record(group)
        if staged_days:
            fault_point("day.staged")
        for partition, commit in zip(durable, group, strict=True):
            if commit.error is not None:
                self._files.discard(partition.files)
        self.deliver(group)
        results = iter([commit.error or commit.write.entry for commit in group])
        return [next(results) if isinstance(result, Staged) else result for result in staged]

    def _make_intent(self, staged: Staged) -> PendingCommit:
        entry = staged.entry
        if staged.to_merge:  # kept until it is merged
            files = tuple(file for file in staged.files if file.size is not None)
            return PendingCommit(LedgerWrite.of(entry, "staged", files))
        try:
            former = entry.replaces  # as planned; if it is another one by now, the intent is refused
            if former is None and entry.version:
                former = self._ledger.entry(entry.source, entry.partition)
            placed = self._files.prepare_places(staged.files)
            if former is not None:
                placed += kept_files(self._files, former.files, placed)
        except Exception as error:
            return PendingCommit(LedgerWrite.of(entry), error)
        fault_point("files.staged")
        return PendingCommit(LedgerWrite.of(entry, "intended", tuple(placed)))

    def record(self, group: Sequence[PendingCommit]) -> None:
        """Record the writes of commits in one transaction. If it fails, record each by itself, and keep errors."""
        good = _without_error(group)
        if not good:
            return
        try:
            self._ledger.record([commit.write for commit in good])
        except PenstockError:
            for commit in good:
                try:
                    self._ledger.record([commit.write])
                except PenstockError as error:
                    commit.error = error

    def deliver(self, commits: Sequence[PendingCommit]) -> None:
        """
        Put the files of recorded intents into place, and record the deliveries. An intent that fails here stays, and is
        recovered when the target is opened next.
        """
        group = [commit for commit in _without_error(commits) if commit.write.state == "intended"]
        for commit in group:
            fault_point("files.intended")
            try:
                self._files.put(commit.write.files)
            except Exception as error:
                commit.error = error
            commit.write = commit.write.delivered()
        for directory, failure in self._files.sync().items():
            for commit in _without_error(group):
                if any(self._files.path(file.path).startswith(f"{directory}/") for file in commit.write.files):
                    commit.error = failure
        for _ in _without_error(group):
            fault_point("files.in_place")
        self.record(group)
        for _ in _without_error(group):
            fault_point("files.delivered")

    def recover(self, entry: LedgerEntry) -> None:
        """
        Complete an intent of an earlier run, or take it back. Raises the error of one that cannot be completed now: it
        stays, for the next opening, and its partition counts as missing.
        """
        if self._files.can_be_put(entry.files):
            before = entry.version - 1  # the version of the row before its intent
            commit = PendingCommit(LedgerWrite.of(entry)._replace(version=before))
            self.deliver([commit])
            if commit.error is not None:
                raise commit.error
            return
        former = self._ledger.take_back(entry.source, entry.partition)
        if former is not None and not all(self._files.is_at(file.path, file) for file in former.files):
            self._ledger.forget(entry.source, [entry.partition])


def kept_files(files: SourceFiles, former: Sequence[LedgerFile], placed: Sequence[LedgerFile]) -> list[LedgerFile]:
    """The former files of derived streams that this run does not read: they stay."""
    new_paths = {file.path for file in placed} | {files.other_place(file.path) for file in placed}
    return [file for file in former if file.path not in new_paths and file.size is not None]
