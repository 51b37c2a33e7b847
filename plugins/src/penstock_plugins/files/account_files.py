"""
The files of ``changes`` streams: one per account, into which its staged days are merged by key.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from attrs import evolve
from penstock import Layout, LedgerEntry, LedgerFile, Partition, SinkError, fault_point

from penstock_plugins.files.codec import RecordDraft
from penstock_plugins.files.commit import kept_files
from penstock_plugins.files.disk import file_errors, is_dangling
from penstock_plugins.files.ledger import FileLedger, MergedFiles
from penstock_plugins.files.merge import Latest, merge, merge_derived, widened, with_rejected
from penstock_plugins.files.source_files import SourceFiles
from penstock_plugins.sink_support.table_verification import lost_notice


class AccountFiles:
    """
    ``layouts``: those of the streams that this run writes, by name, each with the streams derived from it. ``notices``:
    the target's.
    """

    def __init__(
        self, files: SourceFiles, ledger: FileLedger, layouts: Mapping[str, Sequence[Layout]], notices: list[str]
    ) -> None:
        self._files = files
        self._ledger = ledger
        self._layouts = layouts
        self._notices = notices

    def merge_days(self, stream: str, only: Collection[Partition] | None = None) -> None:
        """Merge the staged days of a stream. ``only``: of these accounts."""
        staged = [entry for entry in self._ledger.unsettled(self._files.source, stream) if entry.state == "staged"]
        accounts: dict[Partition, list[LedgerEntry]] = {}
        for entry in sorted(staged, key=lambda entry: entry.partition):
            if only is None or entry.partition.without_day in only:
                accounts.setdefault(entry.partition.without_day, []).append(entry)
        for account, entries in accounts.items():
            self._merge(account, entries)

    def _merge(self, account: Partition, entries: Sequence[LedgerEntry]) -> None:
        merged = self._ledger.merged_files(self._files.source, account) or MergedFiles(
            source=self._files.source, stream=account.stream, account=account.text
        )
        layouts = self._layouts.get(account.stream) or self._ledger.layouts(self._files.source, account.stream)
        partitions = tuple(entry.partition for entry in entries)
        drafts: dict[str, RecordDraft] = {}
        try:
            if any(entry.files for entry in entries):
                self._check_base(merged)
                self._merge_into(drafts, account, layouts, entries)
            files = [
                self._files.staged_file(self._files.place(stream, account), draft) for stream, draft in drafts.items()
            ]
            if not files:  # days without a record: the account's files stay as they are
                self._ledger.deliver_merged(merged, partitions)
                return
            files = self._files.prepare_places(files)
        except BaseException:
            for draft in drafts.values():
                draft.discard()
            raise
        self.replace(merged, [*files, *kept_files(self._files, merged.files, files)], partitions)
        for entry in entries:
            self._files.discard(entry.files)

    def _check_base(self, merged: MergedFiles) -> None:
        """
        Raises SinkError if an account's file is not the one that was left there, since its rows are about to be copied:
        the partitions merged into it are missing then.
        """
        changed = _changed_file(merged, lambda file: self._files.is_at(file.path, file))
        if changed is None or is_dangling(self._files.directory_of(merged.stream)):
            return
        if lost := self._ledger.forget_merged(merged):
            what = f"the file {self._files.path(changed.path)} was removed or changed during the run, or edited before"
            notice = lost_notice(what, f"{merged.source}.{merged.stream}", lost)
            raise SinkError(f"{notice}. New records wait for the next run, which merges them. Run again.")

    def _merge_into(
        self,
        drafts: dict[str, RecordDraft],
        account: Partition,
        layouts: Sequence[Layout],
        entries: Sequence[LedgerEntry],
    ) -> None:
        parents: Latest = {}
        some_rejected = any(entry.rejected for entry in entries)
        for layout in layouts:
            place = self._files.place(layout.stream, account)
            places = (place, self._files.other_place(place))
            days = {
                day: self._files.directory / file.staged
                for day, entry in enumerate(entries)
                for file in entry.files
                if file.staged is not None and file.path in places
            }
            with file_errors(self._files.path(place)):
                base = next(filter(Path.is_file, map(self._files.directory.joinpath, places)), None)
            written = layout
            for path in (*days.values(), *filter(None, [base])):
                written = widened(self._files.codec, written, path)
            draft = drafts[layout.stream] = self._files.draft(written, compress=self._files.compress)
            if layout is layouts[0]:
                parents = merge(self._files.codec, written, base, days, draft.block)
            else:
                both = (layouts[0], written)
                read = with_rejected(self._files.codec, both, days, parents) if some_rejected else parents
                merge_derived(self._files.codec, both, base, days, read, draft.block)

    def replace(self, merged: MergedFiles, files: Sequence[LedgerFile], partitions: Sequence[Partition] = ()) -> None:
        """Replace an account's files by staged ones, into which these partitions were merged."""
        merged = evolve(merged, intended=tuple(files))
        fault_point("merge.written")
        try:
            self._ledger.intend(merged)
        except BaseException:
            self._files.discard(files)
            raise
        fault_point("merge.intended")
        self._complete(merged, partitions)

    def _complete(self, merged: MergedFiles, partitions: Sequence[Partition]) -> None:
        """Put the files of an intent into place, and record that they hold these staged days."""
        assert merged.intended is not None
        self._files.put(merged.intended)
        for error in self._files.sync().values():
            raise error
        fault_point("files.in_place")
        self._ledger.deliver_merged(merged, partitions)
        fault_point("merge.delivered")

    def recover(self, concerning: Callable[[str], AbstractContextManager[None]]) -> None:
        """
        Complete or take back the interrupted merges of earlier runs. ``concerning`` handles the errors of a stream.
        """
        source = self._files.source
        for merged in self._ledger.all_merged_files(source):
            with concerning(merged.stream):
                self._check(merged)
        waiting: dict[str, None] = {}
        for entry in self._ledger.unsettled(source):
            if entry.state != "staged":
                continue
            if all(self._files.is_at(file.staged, file) for file in entry.files):
                waiting[entry.partition.stream] = None
            else:
                self._ledger.forget(source, [entry.partition])
        for stream in waiting:
            with concerning(stream):
                self.merge_days(stream)
        for merged in self._ledger.all_merged_files(source):
            with concerning(merged.stream):
                self._recover_erasure(merged)

    def _check(self, merged: MergedFiles) -> None:
        """
        If an account's file was removed or changed, all partitions merged into it are missing, and a notice names them.
        """
        if is_dangling(self._files.directory_of(merged.stream)):
            return  # another volume that is not there now
        changed = _changed_file(merged, self._files.is_in_place)
        if changed is not None and (lost := self._ledger.forget_merged(merged)):
            what = f"the file {self._files.path(changed.path)} was removed or changed"
            self._notices.append(lost_notice(what, f"{merged.source}.{merged.stream}", lost))

    def _recover_erasure(self, merged: MergedFiles) -> None:
        """Complete or take back the intent to replace an account's files, where no staged day is merged into them."""
        if merged.intended is None:
            return
        if self._files.can_be_put(merged.intended):
            self._complete(merged, ())
        else:
            self._ledger.deliver_merged(evolve(merged, intended=merged.files), ())


def _changed_file(merged: MergedFiles, is_there: Callable[[LedgerFile], bool]) -> LedgerFile | None:
    """
    The first of an account's files that is not as the ledger has it, as ``is_there`` judges.

    During an interrupted merge it may be the former or the new file: the days are still staged, and merging them again
    into either gives the same result.
    """
    former = {file.path: file for file in merged.files}
    for file in merged.files if merged.intended is None else merged.intended:
        before = former.get(file.path, LedgerFile(path=file.path))
        if not (is_there(file) or (merged.intended is not None and is_there(before))):
            return file
    return None
