"""
A directory opened for one source: its partitions are written, committed, merged, erased and compared.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from datetime import date
from functools import cached_property, partial
from typing import TYPE_CHECKING

from penstock import (
    BaseTarget,
    Difference,
    Erased,
    Erasure,
    FinalDay,
    Layout,
    LedgerEntry,
    LedgerFile,
    Partition,
    PenstockError,
    TargetError,
)
from penstock.ledger import files_from

from penstock_plugins.files.account_files import AccountFiles
from penstock_plugins.files.commit import FileCommitter, FileWriter, stage_all
from penstock_plugins.files.datapackage import describe
from penstock_plugins.files.disk import file_name, ignores_case
from penstock_plugins.files.ledger import FileLedger
from penstock_plugins.files.locks import SourceLock, lock_file
from penstock_plugins.files.migration import move_to_this_layout
from penstock_plugins.files.source_files import STATE, SourceFiles

if TYPE_CHECKING:
    from penstock_plugins.files.coordination import Coordination

_DOUBLED = "new rows would stand beside those that they replace"
_UNREADABLE = "readers would round or shift its values, or could not read the files together"


class FileTarget(BaseTarget):
    """A directory opened for one source. Without a lock it is read-only."""

    ledger: FileLedger

    def __init__(self, files: SourceFiles, ledger: FileLedger, lock: SourceLock | None) -> None:
        self.ledger = ledger
        self.source = files.source
        self.files = files
        self._lock = lock
        self._layouts: dict[str, Sequence[Layout]] = {}  # by the stream's name, its derived ones after it
        self._claimed: set[str] = set()  # names of streams
        self._begun: set[Partition] = set()  # accounts of changes streams that this run writes
        self.notices: list[str] = []
        self.committer = FileCommitter(self.files, ledger)
        self._accounts = AccountFiles(self.files, ledger, self._layouts, self.notices)

    def check_source(self) -> None:
        """Raises TargetError where the file system takes the source's directory for that of another source."""
        if ignores_case(self.files.directory / STATE):
            for other in {source for source, _ in self.ledger.sources()}:
                if other != self.source and other.lower() == self.source.lower():
                    raise TargetError(
                        f"{self.files.directory} has the rows of the source {other}, and the file system takes "
                        f"{self.source} and {other} for one name. Name another target for {self.source}."
                    )

    def prepare(self, layouts: Sequence[Layout]) -> None:
        """
        See :meth:`penstock.sinks.Target.prepare`. Refuses a stream whose files were written by another declaration, so
        that new rows would stand beside those that they replace, or their columns have types that contradict.
        """
        former = {
            stream: {column.name: column for column in columns}
            for layout in layouts
            if layout.kind == "changes" or self.files.codec.typed
            for stream, columns in self.ledger.written_columns(self.source, layout.stream).items()
        }
        for layout in layouts:
            declared = layout.partition_columns[:-1] if layout.kind == "changes" else layout.partition_columns
            written = self.files.columns_of_places(layout.stream)
            if written is None:
                continue
            if written != declared:
                raise self._declared_otherwise(layout, f"are divided by {_named(written)}, not by {_named(declared)}")
            for column in layout.columns if layout.stream in former else ():
                before = former[layout.stream].get(column.name)
                is_other = before is None or before.type != column.type
                if layout.kind == "changes" and column.name in layout.replaced_by and is_other:
                    raise self._declared_otherwise(layout, f"have no column {column.name} of the type {column.type}")
                if before is not None and (conflict := self.files.codec.conflict(before, column)):
                    raise self._declared_otherwise(layout, f"have {column.name} as {conflict}", _UNREADABLE)

    def _declared_otherwise(self, layout: Layout, fact: str, effect: str = _DOUBLED) -> TargetError:
        return TargetError(
            f"{self.source}.{layout.stream} was declared otherwise when its files were written: they {fact}, so that "
            f"{effect}. Move {self.files.directory_of(layout.stream)} away "
            "and run again: then its days are read anew. Nothing was changed."
        )

    def begin(self, layouts: Sequence[Layout], partition: Partition) -> FileWriter:
        self.claim(layouts)
        if layouts[0].kind == "changes":
            self._begun.add(partition.without_day)
        if self.files.folding:
            self.distinguish(partition)
        return FileWriter(self.files, layouts, partition)

    def claim(self, layouts: Sequence[Layout]) -> None:
        """Claim the directories of a stream, and of those derived from it, before the first partition is written."""
        first = layouts[0]
        if self._layouts.get(first.stream) == layouts:
            return
        if first.kind == "changes" or self.files.codec.typed:
            former = {
                stream: columns
                for stream, columns in self.ledger.written_columns(self.source, first.stream).items()
                if self.files.columns_of_places(stream) is not None
            }
            self.ledger.keep_layouts(self.source, first.stream, layouts, former)
        self._claim(layouts)

    def _claim(self, layouts: Sequence[Layout]) -> None:
        for layout in layouts:
            if layout.stream not in self._claimed:
                self.files.claim(layout.stream)
                self._claimed.add(layout.stream)
        self._layouts[layouts[0].stream] = layouts

    def distinguish(self, partition: Partition) -> None:
        """Raises TargetError where the file system takes its account's directory for that of another account."""
        for layout in self._layouts[partition.stream]:
            directory = f"{file_name(self.source)}/{file_name(layout.stream)}/"
            recorded = partial(self.ledger.places, self.source, partition.stream, directory)
            self.files.distinguish(layout.stream, partition, recorded)

    def commit_group(self, commits: Sequence[tuple[FileWriter, LedgerEntry]]) -> list[LedgerEntry | Exception]:
        """See :meth:`penstock.sinks.Target.commit_group`."""
        return self.committer.commit_group(stage_all(self.files, commits))

    def mark(self) -> str:
        """See :class:`penstock.sinks.Coordinating`."""
        return self._coordination.leave_mark()

    def reply(self, request: str) -> str:
        """See :class:`penstock.sinks.Coordinating`."""
        return self._coordination.reply(request)

    @cached_property
    def _coordination(self) -> "Coordination":
        from penstock_plugins.files.coordination import Coordination  # only runs over several machines need it

        return Coordination(self)

    def is_intact(self, entry: LedgerEntry) -> bool:
        """
        Whether every file has its recorded size. For a day of changes: the account's file. Contents are not read.
        """
        return self.files.is_intact(entry, self._merged_files)

    def _merged_files(self, account: Partition) -> Sequence[LedgerFile] | None:
        merged = self.ledger.merged_files(self.source, account)
        return None if merged is None else merged.files

    def final_days(
        self, stream: str, *, since: date, until: date, accounts: Sequence[str] | None
    ) -> Iterator[FinalDay]:
        """See :meth:`penstock.sinks.Target.final_days`."""
        intact: dict[str, bool] = {}  # by account, of a stream of changes
        for merged in self.ledger.all_merged_files(self.source, stream):
            _, account = next(iter(merged.partition.values), ("", ""))
            intact[account] = self.files.are_in_place(merged.files)
        for day, files, rows in self.ledger.final_days(
            self.source, stream, since=since, until=until, accounts=accounts
        ):
            if intact.get(day.account, not rows) if files == "[]" else self.files.are_in_place(files_from(files)):
                yield day

    def verify(
        self, stream: str, entries: Sequence[LedgerEntry], *, since: date | None = None, until: date | None = None
    ) -> Iterator[Difference]:
        """See :class:`penstock.sinks.Verifiable`."""
        from penstock_plugins.files.verify import differences

        return differences(self.files, self.ledger, stream, entries, since, until)

    def finish(self, stream: str) -> None:
        """Merge the staged days of a changes stream (of a lock share: those of its accounts); no effect for others."""
        self._accounts.merge_days(stream, only=self._begun if self._is_shared else None)

    def erase(self, erasures: Sequence[Erasure], entries: Sequence[LedgerEntry]) -> Erased:
        """See :class:`penstock.sinks.Erasing`."""
        from penstock_plugins.files.erase import Eraser

        layouts = [erasure.layout for erasure in erasures]
        self._claim(layouts)
        for layout in layouts:
            self.files.changed.add(file_name(layout.stream))  # its description has these columns
        eraser = Eraser(
            files=self.files,
            ledger=self.ledger,
            committer=self.committer,
            accounts=self._accounts,
            erasures={file_name(erasure.layout.stream): erasure for erasure in erasures},
        )
        return (eraser.erase_accounts if layouts[0].kind == "changes" else eraser.erase_days)(entries)

    def recover(self) -> None:
        """Complete or take back interrupted commits of earlier runs, and remove orphaned files."""
        for entry in self.ledger.unsettled(self.source):
            if entry.state == "intended":
                with self._concerning(entry.partition.stream):
                    self.committer.recover(entry)
        move_to_this_layout(self.files, self.ledger)
        self._accounts.recover(self._concerning)
        waiting = [file for entry in self.ledger.unsettled(self.source) for file in entry.files]
        waiting += [file for merged in self.ledger.all_merged_files(self.source) for file in merged.intended or ()]
        self.files.remove_drafts(waiting)

    @contextmanager
    def _concerning(self, stream: str) -> Iterator[None]:
        """What cannot be recovered concerns its stream only, with a notice. The next opening tries again."""
        try:
            yield
        except PenstockError as error:
            of = f"{self.source}.{stream}"
            if not any(text.startswith(f"{of} ") for text in self.notices):
                self.notices.append(f"{of} cannot be looked at, or completed after a run that was ended: {error}")

    @property
    def _is_shared(self) -> bool:
        return self._lock is not None and self._lock.lock_share is not None

    def close(self) -> None:
        try:
            # The processes with the other lock shares describe the same files.
            path = self.files.directory / STATE / f"{file_name(self.source)}.description.lock"
            with lock_file(path) if self._is_shared else nullcontext():
                describe(self.files, self.ledger, self._layouts)
        finally:
            self.files.close()
            self.ledger.close()
            if self._lock is not None:
                self._lock.close()


def _named(columns: Sequence[str]) -> str:
    return " and ".join(columns) or "nothing"
